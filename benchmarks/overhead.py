"""What one operation costs here and in other engines: medians, spreads and ratios from one run.

    python benchmarks/overhead.py [--quick] [--rounds 15]

The one trick: every engine lives in a process of its own, with one thread, and they take turns,
round by round (A B A B ...), so that whatever slows the machine down for a while slows all of them.
A ratio is the median over rounds of (our time / their time) within the round. Before anything is
timed, the engines' losses and gradients must be equal.

Python's cyclic garbage collector is part of the price: it walks the objects of a growing graph
again and again, and an engine whose graphs contain cycles (micrograd's do) needs it to free them.
So every program is timed with the collector on, as people run it, and once more with it off but for
a single collection at the end, which leaves the engine's own work and the freeing of the graph.

Needs the `peers` extra: `make bench` installs it.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

THREADS = {f"{lib}_NUM_THREADS": "1" for lib in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA")}
OURS = "tinygrad_lite"
CHAIN = 2000  # steps of v * a + x, two operations each


# The programs. Each `setup` returns a function that runs forward and backward once and returns the
# loss with its gradients, as numbers.
def setup_mlp(engine: str, wrap_inputs: bool):
    """micrograd's own demo: MLP(2, [16, 16, 1]), max-margin loss, L2 penalty, 100 points."""
    import numpy as np
    from micrograd import engine as micrograd_engine
    from micrograd import nn

    value = micrograd_engine.Value
    if engine == OURS:
        import tinygrad_lite as tg

        try:
            from tinygrad_lite.functional import relu
        except ImportError:

            def relu(x):
                return np.maximum(x, 0)

        def value(x):
            return tg.tensor(float(x), requires_grad=True)

        tg.Tensor.relu = lambda self: relu(self)
    nn.Value = value  # micrograd's classes, on either engine's scalars
    random.seed(1337)
    model = nn.MLP(2, [16, 16, 1])

    angle, rng = np.linspace(0, np.pi, 50), np.random.default_rng(0)
    moons = np.concatenate(
        [
            np.stack([np.cos(angle), np.sin(angle)], axis=1),
            np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1),
        ]
    )
    points = (moons + rng.normal(0, 0.1, moons.shape)).tolist()
    signs = [-1] * 50 + [1] * 50

    def run():
        inputs = [list(map(value, row)) for row in points] if wrap_inputs else points
        scores = list(map(model, inputs))
        losses = [(1 + -sign * score).relu() for sign, score in zip(signs, scores, strict=True)]
        data_loss = sum(losses) * (1.0 / len(losses))
        loss = data_loss + 1e-4 * sum(p * p for p in model.parameters())
        model.zero_grad()
        loss.backward()
        return loss

    def numbers():
        loss = run()
        return [number(loss), *(number(p.grad) for p in model.parameters())]

    def number(x):
        return float(x.data) if hasattr(x, "data") and not isinstance(x, np.generic) else float(x)

    def operations():
        """What micrograd records: every Value that is computed."""
        seen, stack = set(), [run()]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack.extend(node._prev)
        return sum(1 for node in seen if node._prev)

    return run, numbers, operations if engine == "micrograd" else None


def setup_arrays(engine: str, n: int):
    """A chain of v * a + x on arrays of 8 numbers, float64."""
    import numpy as np

    rng = np.random.default_rng(0)
    a0, x0 = 0.9 + 0.1 * rng.random(8), 0.1 * rng.random(8)

    def chain(a, x):
        v = x
        for _ in range(n):
            v = v * a + x
        return v

    if engine == "autograd":
        import autograd.numpy as anp
        from autograd import value_and_grad

        both = value_and_grad(lambda ax: anp.sum(chain(*ax)))

        def run():
            value, (da, dx) = both((a0, x0))
            return value, da, dx
    else:
        if engine == OURS:
            from tinygrad_lite import tensor
        elif engine == "mygrad":
            from mygrad import tensor as mygrad_tensor

            def tensor(x, requires_grad):
                return mygrad_tensor(x)
        else:
            import torch
            from torch import tensor

            torch.set_num_threads(1)

        def run():
            a, x = tensor(a0, requires_grad=True), tensor(x0, requires_grad=True)
            loss = chain(a, x).sum()
            loss.backward()
            return loss, a.grad, x.grad

    def numbers():
        loss, da, dx = run()
        plain = [v.detach().numpy() if engine in (OURS, "torch") else v for v in (loss, da, dx)]
        return np.concatenate([np.ravel(getattr(v, "data", v)) for v in plain]).tolist()

    return run, numbers, lambda: 2 * n + 1


def setup_scalars(engine: str, n: int):
    """A chain of n multiplications and additions on scalars, ours only."""
    import tinygrad_lite as tg

    def run():
        a, x = tg.tensor(0.99, requires_grad=True), tg.tensor(0.01, requires_grad=True)
        v = x
        for _ in range(n // 2):
            v = v * a + x
        v.backward()
        return v.item(), a.grad.item(), x.grad.item()

    return run, lambda: list(run()), lambda: n


SETUPS = {"mlp": setup_mlp, "arrays": setup_arrays, "scalars": setup_scalars}


# The two ends of the pipe
def work() -> None:
    """A worker: build the program named in the arguments, then run it once per line of input."""
    engine, program, parameter = sys.argv[2:]
    sys.setrecursionlimit(100_000)  # micrograd walks its graph recursively
    run, numbers, operations = SETUPS[program](engine, json.loads(parameter))
    print(json.dumps([numbers(), operations() if operations else None]), flush=True)
    for _ in range(2):
        run()  # warm-up
    for line in sys.stdin:
        off = line == "off\n"
        if off:
            gc.collect()
            gc.freeze()  # the closing collection then looks at this run's objects only
            gc.disable()
        start = time.perf_counter()
        run()
        if off:
            gc.collect()
        print(time.perf_counter() - start, flush=True)
        if off:
            gc.enable()
            gc.unfreeze()


class Worker:
    def __init__(self, engine: str, program: str, parameter: object) -> None:
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", engine, program, json.dumps(parameter)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **THREADS, "PYTHONPATH": path},
        )
        self.numbers, self.operations = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a worker ended early: {' '.join(self.process.args[2:])}")
        return json.loads(line)

    def time(self, collector: str) -> float:
        self.process.stdin.write(collector + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(title: str, jobs: dict[str, tuple[str, str, object]], rounds: int) -> None:
    """Run the jobs (label: engine, program, parameter) in turn; print a table per collector mode.

    Jobs of different engines run one program: ours comes first and must agree with all others. Jobs
    of one engine run several sizes: times per operation are compared with the first size.
    """
    workers = {label: Worker(*job) for label, job in jobs.items()}
    first, *others = workers
    peers = len({engine for engine, _, _ in jobs.values()}) > 1
    for label in others if peers else ():
        pairs = zip(workers[first].numbers, workers[label].numbers, strict=True)
        worst = max(abs(p - q) / max(1e-9, abs(p), abs(q)) for p, q in pairs)
        if not worst < 1e-9:  # also when it is NaN
            sys.exit(f"{title}: {label} differs from {first} by {worst:.1e} (relative)")
    counted = next(w.operations for w in workers.values() if w.operations)
    print(f"\n{title}" + (": equal loss and gradients" if peers else ""))
    for collector in ("on", "off"):
        times: dict[str, list[float]] = {label: [] for label in workers}
        for _ in range(rounds):
            for label, worker in workers.items():
                times[label].append(worker.time(collector))
        print(
            f"  collector {collector:<6}{'median':>10}{'lowest':>11}{'highest':>11}   µs/op   ratio"
        )
        for label, seconds in times.items():
            operations = workers[label].operations or counted
            line = f"  {label:<16}"
            line += " ".join(f"{1e3 * f(seconds):7.1f} ms" for f in (statistics.median, min, max))
            line += f" {1e6 * statistics.median(seconds) / operations:7.2f}"
            pairs = zip(times[first], seconds, strict=True)
            if label != first and peers:
                line += f"   ours / theirs = {spread([o / t for o, t in pairs])}"
            elif label != first:
                scale = workers[first].operations / operations
                line += f"   per op, to {first}: {spread([t * scale / o for o, t in pairs])}"
            print(line, flush=True)
    for worker in workers.values():
        worker.close()


def spread(ratios: list[float]) -> str:
    if len(ratios) < 2:
        return f"{ratios[0]:.3f}"
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time this engine beside its peers.")
    parser.add_argument("--quick", action="store_true", help="3 rounds; no chain of a million")
    parser.add_argument("--rounds", type=int, help="rounds per table (15, or 3 with --quick)")
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 15)
    if rounds < 1:
        parser.error("--rounds must be at least 1")

    print(f"{datetime.date.today()}, {platform.platform()}, {processor()}, {os.cpu_count()} CPUs")
    names = ("numpy", "micrograd", "autograd", "mygrad", "torch")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"Python {platform.python_version()}, {versions}")
    print(f"one thread each; {rounds} rounds in turn; ratios: median (quartiles) over rounds")

    title = "micrograd's MLP(2, [16, 16, 1]), 100 points, loss and backward"
    for wrap, what in ((True, "inputs wrapped, as in its demo"), (False, "inputs as plain floats")):
        jobs = {engine: (engine, "mlp", wrap) for engine in (OURS, "micrograd")}
        compare(f"{title}; {what}", jobs, rounds)
    jobs = {engine: (engine, "arrays", CHAIN) for engine in (OURS, "autograd", "mygrad", "torch")}
    compare(f"{CHAIN:,} × (v * a + x) on 8 numbers, forward and backward", jobs, rounds)
    lengths = (10**4, 10**5) if options.quick else (10**4, 10**5, 10**6)
    jobs = {f"{n:,} ops": (OURS, "scalars", n) for n in lengths}
    compare("chain of scalar operations, ours", jobs, min(rounds, 7))


if __name__ == "__main__":
    work() if sys.argv[1:2] == ["--work"] else main()
