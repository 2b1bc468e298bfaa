# %% How much `import tinygrad_lite` takes beyond `import numpy`: medians over fresh processes.
import statistics
import subprocess
import sys

CODE = """
import sys, time
import numpy
start, before = time.perf_counter(), set(sys.modules)
import tinygrad_lite
print(1000 * (time.perf_counter() - start), *sorted(set(sys.modules) - before))
"""


def run():
    output = subprocess.run(
        [sys.executable, "-c", CODE], check=True, capture_output=True, text=True
    ).stdout.split()
    return float(output[0]), output[1:]


run()  # the first one may compile bytecode
times, modules = zip(*(run() for _ in range(15)), strict=True)
print(
    f"import tinygrad_lite: {statistics.median(times):.1f} ms beyond numpy "
    f"({min(times):.1f} to {max(times):.1f}), {len(modules[0])} modules"
)
