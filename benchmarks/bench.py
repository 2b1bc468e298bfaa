"""Our time beside other engines' and beside NumPy by hand, row by row; writes RESULTS.md.

    python benchmarks/bench.py [--rows name,name] [--seconds 20] [--quick]

The one trick: every engine lives in a process of its own, with one thread, and they take turns,
round by round (A B A B ...), so that whatever slows the machine down for a while slows all of them.
A ratio is the median over rounds of our time / their time within the round. Before a row is timed,
the losses and gradients of its engines must be equal, twice in a row; fast programs repeat until a
timing lasts 10 ms. Python's garbage collector is on, as people run it.

Only a run without options writes RESULTS.md. Needs the `peers` extra: `make bench` installs it.
"""

import argparse
import contextlib
import datetime
import math
import os
import platform
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import memory
import programs as p
from programs import OURS, np  # NumPy after the environment that keeps it to one thread

SHORT, LONG, LONGEST = "10,000 nodes", "100,000 nodes", "1,000,000 nodes"


class Row(NamedTuple):
    title: str
    program: Callable[..., p.Program] | None  # of an engine's name
    aims: dict[str, tuple[float, ...]]  # per engine: our time / theirs, at most; then the next aim
    first: str = OURS  # the engine that is compared with the others
    tolerance: float = 1e-4  # of float32 results: a near tie of a pool may fall either way


# fmt: off
ROWS = {
    "scalar": Row("scalars: micrograd's MLP(2, [16, 16, 1]), 100 points, loss and backward",
        p.scalar, {"micrograd": (0.5,)}),
    "chain": Row("chain of 2,000 `v * a + x`, 8 elements, forward and backward",
        p.chain, {"autograd": (0.15,), "mygrad": (0.15,), "torch": (0.6,)}),
    "mlp-small": Row("MLP 2-16-16-2, batch 1, step",
        lambda e: p.mlp(e, (2, 16, 16, 2), 1), {"hand": (2.5,), "torch": (0.5,)}),
    "mlp": Row("MLP 784-128-64-10, batch 32, step", lambda e: p.mlp(e, (784, 128, 64, 10), 32),
        {"hand": (1.25,), "torch": (0.5,), "autograd": (0.35,), "mygrad": (0.5,), "jax": (0.7,)}),
    "mlp-wide": Row("MLP 784-1024-1024-10, batch 256, step",
        lambda e: p.mlp(e, (784, 1024, 1024, 10), 256), {"hand": (1.05,), "torch": (1.0,)}),
    "cross-entropy": Row("cross_entropy 4096×1000, forward and backward",
        lambda e: p.cross_entropy(e, 4096, 1000),
        {"hand": (1.05,), "torch": (0.75,), "composed": (0.4,)}),
    "lenet": Row("LeNet, batch 64, step",
        lambda e: p.training(e, p.lenet, (64, 1, 28, 28)), {"torch": (1.0,)}, tolerance=1e-2),
    "cifar": Row("CIFAR-10 network (3→32→32→64, 5×5), batch 64, step",
        lambda e: p.training(e, p.cifar_net, (64, 3, 32, 32)),
        {"torch": (1.3, 1.0)}, tolerance=1e-2),
    "encoder": Row("transformer encoder layer, 64 wide, batch 32 of 64, step",
        lambda e: p.training(e, p.encoder, (32, 64, 64)), {"torch": ()}),
    "layer-norm": Row("layer_norm 32×128×512, forward and backward",
        lambda e: p.layer_norm(e, 32, 128, 512), {"torch": (1.5,)}),
    "attention": Row("attention, batch 8, 8 heads, 128 positions, 64 wide, forward and backward",
        lambda e: p.attention(e, 8, 8, 128, 64), {"torch": (1.5,)}),
    "adam": Row("Adam, 1 M parameters in 50 tensors, one step of the optimiser",
        lambda e: p.adam(e, 50, 100, 200), {"torch": (1.0,)}),
    "memory": Row("peak extra memory, CIFAR-10 network, batch 64, step", None, {"torch": (1.0,)}),
    "nodes": Row("backward through a chain of scalar operations, time per node",
        p.nodes, {LONG: (1.5,), LONGEST: (1.5,)}, SHORT),
    "compiled-scalar": Row("compiled: micrograd's MLP(2, [16, 16, 1]), 100 points",
        p.scalar, {"micrograd": (0.03,), OURS: ()}, "compiled"),
    "compiled-small": Row("compiled step, MLP 2-16-16-2, batch 1",
        lambda e: p.mlp(e, (2, 16, 16, 2), 1), {"hand": (1.1,), OURS: ()}, "compiled"),
    "compiled-mlp": Row("compiled step, MLP 784-128-64-10, batch 32",
        lambda e: p.mlp(e, (784, 128, 64, 10), 32),
        {"hand": (1.0,), "torch": (0.35,), "jax": (0.6,), OURS: ()}, "compiled"),
    "compiled-wide": Row("compiled step, MLP 784-1024-1024-10, batch 256",
        lambda e: p.mlp(e, (784, 1024, 1024, 10), 256), {"hand": (), "torch": ()}, "compiled"),
    "compiled-cross-entropy": Row(
        "composed cross_entropy, compiled, 4096×1000, forward and backward",
        lambda e: p.cross_entropy(e, 4096, 1000),
        {"fused, compiled": (1.05,), OURS: (1.05,), "hand": ()}, "composed, compiled"),
    "compiled-lenet": Row("compiled step, LeNet, batch 64",
        lambda e: p.training(e, p.lenet, (64, 1, 28, 28)), {OURS: (0.85,)}, "compiled", 1e-2),
    "compiled-cifar": Row("compiled step, CIFAR-10 network, batch 64",
        lambda e: p.training(e, p.cifar_net, (64, 3, 32, 32)),
        {OURS: (0.85,)}, "compiled", 1e-2),
    "compiled-memory": Row("peak extra memory, compiled CIFAR-10 step, batch 64", None,
        {OURS: (0.8,)}, "compiled"),
} | {
    f"compiling-{name}": Row(f"the call that compiles, {title}", partial(p.compiling, make),
        {OURS: (50,)}, "compiled", 1e-2)
    for name, title, make in [
        ("scalar", "micrograd's MLP(2, [16, 16, 1]), 100 points", p.scalar),
        ("mlp", "MLP 784-128-64-10, batch 32", lambda e: p.mlp(e, (784, 128, 64, 10), 32)),
        ("lenet", "LeNet, batch 64", lambda e: p.training(e, p.lenet, (64, 1, 28, 28))),
        ("cifar", "CIFAR-10 network, batch 64",
            lambda e: p.training(e, p.cifar_net, (64, 3, 32, 32))),
    ]
}
# fmt: on
LABELS = {"hand": "NumPy by hand", "torch": "PyTorch", "jax": "JAX (jit)", "mygrad": "MyGrad"}
LABELS |= {"composed": "ours, `fused=False`", OURS: "ours, not compiled"}
LABELS |= {"fused, compiled": "ours, fused, compiled"}
LABELS |= {n: f"{n}, by {SHORT}" for n in (LONG, LONGEST)}

# Of a row that misses an aim: what the limit is, in a sentence.
LIMITS = {
    "chain": "An operation takes 3.4 µs both ways, 0.75 of them in NumPy; the rest is some "
    "50 lines of bytecode per node. The largest part that could go (11 %) is "
    "comparing each gradient's shape and dtype with its argument's, which catches "
    "wrong rules.",
    "mlp-small": "NumPy's calls alone are what the hand-written code takes. Beside them: six "
    "recorded operations (3.6 µs each), a walk over 13 nodes (17 to 20 µs), "
    "eleven calls of modules and layers, six parameters to update (3.5 µs each), "
    "and the loss's checks of labels and NaN.",
    "mlp": "The products in PyTorch's layout of weights (outputs, inputs) take 240 µs: "
    "at 32 rows, x @ w.T takes half as long again as x @ w, which the hand- "
    "written code, autograd, MyGrad and JAX have. What remains is Python: the 110 "
    "µs of the row above, with colder caches.",
    "mlp-wide": "17 ms are matrix products (3.5 GFLOP), the same as by hand. relu's results "
    "are new arrays (a picture shows both sides of it), and SGD passes over 1.9 M "
    "weights twice.",
    "cross-entropy": "Five passes over 16 MB at 0.06 to 0.4 ns an entry make 4.7 ms; the rest is "
    "memory traffic and a fresh array of 16 MB per step, whose pages the system "
    "hands out anew.",
    "lenet": "Columns are built and kernel rows summed where PyTorch's kernels need "
    "neither; products of 6 and 16 channels are too thin for the BLAS. Both "
    "engines' times wander from run to run.",
    "cifar": "The convolutions are 4.4 GFLOP: 30 ms at the rate above. Ours take 41; "
    "PyTorch's, which build no columns, 27. Pooling gives back 8 of those 14 ms.",
    "layer-norm": "About 15 passes over 2.1 M entries at 0.05 to 0.35 ns make 9.4 ms: one pass "
    "per NumPy call, where PyTorch makes two in all.",
    "compiled-mlp": "The eight products alone take two thirds of the hand-written code's time (142 "
    "of 213 µs), which is more than 0.6 of JAX's whole step, and about 0.35 of PyTorch's. Beside "
    "them: the gradients stay in .grad, so that the update cannot be written into them, as by "
    "hand, and takes one more array; labels and NaN are asked for; a call looks at 23 places that "
    "may have changed. Beside 1.5 MB of arrays a line of Python costs twice what it does in a "
    "small step.",
    "attention": "Seven batched products of 1.3 ms each are half of it; the row maximum, in "
    "rows of 128, takes 0.9 ms each time.",
}


# In a worker: its program, and how often to repeat it.
program: p.Program
repeats = 1


def load(name, engine):
    """Make the program; return the results of two runs of it, as arrays."""
    global program, repeats
    program = ROWS[name].program(engine)
    results = [p.array(v) for _ in range(2) for v in program.results()]
    if not program.prepare:
        repeats = math.ceil(0.01 / min(seconds() for _ in range(5)))
    seconds()
    return results


def seconds():
    """Of one run, after one that fills the caches again."""
    given = program.prepare() if program.prepare else ()
    if not program.prepare:
        program.run()
    busy, start = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        program.run(*given)
    wall, busy = time.perf_counter() - start, time.process_time() - busy
    if busy > 1.2 * wall:
        warnings.warn("a program ran on more than one thread: its time is not fair", stacklevel=2)
    return wall / repeats / program.units


def ask(pool):
    return pool.submit(seconds).result()


def agree(name, results):
    """Stop unless all engines have the results of the first."""
    first, *others = results
    for engine in others:
        for i, (a, b) in enumerate(zip(results[first], results[engine], strict=True)):
            allowed = 1e-9 if a.dtype == np.float64 else ROWS[name].tolerance
            if not (off := p.difference(a, b)) <= allowed:  # also when it is NaN
                sys.exit(f"{name}: result {i} of {engine} differs from {first}'s by {off:.1e}")


def measure(name, budget):
    """{engine: a time (or size) per round}: 5 rounds at least, or 1 without a budget of seconds."""
    engines = [ROWS[name].first, *ROWS[name].aims]
    values, rounds = {engine: [] for engine in engines}, 0
    with contextlib.ExitStack() as stack:
        meter = "tracemalloc" if name == "compiled-memory" else "resident set"
        meters = {engine: partial(memory.fresh, engine, meter) for engine in engines}
        if ROWS[name].program:
            pools = {engine: stack.enter_context(memory.process()) for engine in engines}
            loads = {engine: pool.submit(load, name, engine) for engine, pool in pools.items()}
            agree(name, {engine: future.result() for engine, future in loads.items()})
            meters = {engine: partial(ask, pool) for engine, pool in pools.items()}
        end = time.perf_counter() + budget
        while rounds < (5 if budget else 1) or time.perf_counter() < end:
            for engine, meter in meters.items():
                values[engine].append(meter())
            rounds += 1
    return values


# Tables
HEAD = ("row", "against", "aim", "ours", "theirs", "ratio (quartiles)", "aim met")


def shown(value, name):
    if name in ("memory", "compiled-memory"):
        return f"{value / 1e6:.1f} MB"
    if value >= 0.1:
        return f"{value * 1e3:.0f} ms"
    return f"{value * 1e3:.3g} ms" if value >= 1e-4 else f"{value * 1e6:.3g} µs"


def cells(name, values):
    """The cells of each comparison's line in the table."""
    first, *others = values
    for engine in others:
        pair, aims = (values[first], values[engine]), ROWS[name].aims[engine]
        ours, theirs = reversed(pair) if name == "nodes" else pair
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        low, middle, high = statistics.quantiles(ratios * 2 if len(ratios) < 2 else ratios, n=4)
        missed = [aim for aim in aims if middle > aim]
        verdict = f"met {aims[0]}, missed {aims[-1]}" if missed != [*aims] else "missed"
        yield (
            ROWS[name].title,
            LABELS.get(engine, engine),
            "≤ " + ", then ".join(map(str, aims)) if aims else "",
            shown(statistics.median(ours), name),
            shown(statistics.median(theirs), name),
            "{:{form}} ({:{form}} to {:{form}})".format(
                middle, low, high, form=".2f" if middle >= 0.1 else ".5f"
            ),
            verdict if missed else "met" if aims else "",
        )


def line(cells, widths):
    return f"| {' | '.join(cell.ljust(n) for cell, n in zip(cells, widths, strict=True))} |"


def machine():
    info = Path("/proc/cpuinfo")
    cpu = re.search("model name.*: (.*)", info.read_text() if info.exists() else "")
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    names = ("numpy", "torch", "jax", "autograd", "mygrad", "micrograd")
    sgemm, copy = p.rates()
    return [
        f"- {cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores, {platform.system()}"
        f" {platform.machine()}; one thread per engine",
        f"- Python {platform.python_version()}, {', '.join(f'{n} {version(n)}' for n in names)};"
        f" NumPy's BLAS: {blas['name']} {blas['version']}",
        f"- in this run: sgemm 1024³ {sgemm:.0f} GFLOP/s; copy of 64 MB {copy:.1f} GB/s"
        " (read and write counted)",
        f"- {datetime.date.today()}, `{' '.join(['python benchmarks/bench.py', *sys.argv[1:]])}`",
    ]


def main():
    parser = argparse.ArgumentParser(description="Time this engine beside its peers.")
    parser.add_argument("--rows", help=f"which, with commas between: {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, default=20, help="per row (and 5 rounds at least)")
    parser.add_argument("--quick", action="store_true", help="one round: that all runs and agrees")
    options = parser.parse_args()
    names = options.rows.split(",") if options.rows else list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"there is no row {', '.join(unknown)}: choose from {', '.join(ROWS)}")
    full = len(sys.argv) == 1
    if options.quick or options.seconds < 5:
        del ROWS["nodes"].aims[LONGEST]  # it takes half a minute

    about, widths, below = machine(), (76, 32, 15, 8, 8, 22, 7), []
    table = [line(HEAD, widths), line(["-" * n for n in widths], widths)]
    print(*about, "", *table, sep="\n", flush=True)
    for name in names:
        found = list(cells(name, measure(name, 0 if options.quick else options.seconds)))
        table += [line(each, widths) for each in found]
        print(*table[-len(found) :], sep="\n", flush=True)
        if any("missed" in each[-1] for each in found):
            below.append(f"- {ROWS[name].title}: {LIMITS.get(name, 'not yet explained')}")
    if full:
        below = ["", "Where an aim is missed, and what the limit is:", "", *below] if below else []
        text = "\n".join(["# Our time beside others'", "", *about, "", *table, *below, ""])
        (Path(__file__).parent / "RESULTS.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
