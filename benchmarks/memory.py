"""Peak extra memory of a step of the CIFAR-10 network, batch 64: ours, PyTorch's, compiled.

    python benchmarks/memory.py

What a step needs beyond what was there before it, each in a fresh process after a first tiny step;
or, traced, what a second step needs beyond what was there before the first, which a compiled one
records: the recording, and storage that is kept, count.
Two meters: the growth of the resident set (Linux: its high-water mark, reset before the step), for
every engine; and tracemalloc, for those whose arrays NumPy allocates.
"""

import gc
import multiprocessing
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import programs


def status(name):
    """A field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def step(engine, size):
    return programs.training(engine, programs.cifar_net, (size, 3, 32, 32)).run


def measure(engine, meter):
    step(engine, 1)()  # loads, and allocates, what any step needs
    run = step(engine, 64)
    if meter == "tracemalloc":
        tracemalloc.start()
        run()
        gc.collect()
        tracemalloc.reset_peak()
        run()
        return tracemalloc.get_traced_memory()[1]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def process():
    """A pool of one new process."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def fresh(engine, meter="resident set"):
    """`measure` in a process of its own."""
    with process() as pool:
        return pool.submit(measure, engine, meter).result()


def main():
    print("peak extra memory, CIFAR-10 network, batch 64, one step (median of 3)")
    traced = [(engine, "tracemalloc") for engine in (programs.OURS, "compiled")]
    for meter in (programs.OURS,), ("torch",), *traced:
        size = sorted(fresh(*meter) for _ in range(3))[1]
        print(f"  {' '.join(meter):<26} {size / 1e6:7.1f} MB", flush=True)


if __name__ == "__main__":
    main()
