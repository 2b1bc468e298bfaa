"""The programs that bench.py times, each for every engine that runs it.

Each function takes the name of an engine and returns a `Program`. All of its engines start from the
same seeded numbers and are written as their users write: ours and PyTorch's, which share their
spelling, from one source; JAX jitted; NumPy by hand in hand_numpy.py.
"""

import itertools
import math
import os
import random
import sys
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ |= {"NUMBA_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout, installed or not

import hand_numpy
import numpy as np

OURS = "tinygrad_lite"
LR = 1e-3  # of all training steps: small, so that none goes far however often it is repeated


class Program(NamedTuple):
    run: Callable[..., Any]  # what is timed
    results: Callable[[], list[Any]]  # one run more: the loss and the gradients, to be compared
    prepare: Callable[[], tuple[Any, ...]] | None = None  # makes run's arguments, off the clock
    units: int = 1  # a time is divided by this


def kit(engine):
    """What ours and PyTorch have under one name: the package, its functions, its losses, data."""
    if engine == "torch":
        import torch

        torch.set_num_threads(1)
        return torch, torch.nn.functional, torch.nn.functional, torch.from_numpy
    import tinygrad_lite as tg

    return tg, tg.functional, tg.losses, np.asarray


def array(x):
    """A result of any engine as an array of its own."""
    x = x.data if type(x).__module__.startswith("micrograd") else x
    return np.array(x.detach() if hasattr(x, "detach") else x)


def difference(p, q):
    """The largest difference of two arrays, relative to the largest entry."""
    if (p.shape, p.dtype) != (q.shape, q.dtype):
        return math.inf
    return np.max(abs(p - q), initial=0) / np.max(abs(p), initial=1e-30)


def rates():
    """What this machine can do: sgemm in GFLOP/s, and a copy in GB/s, read and write counted."""
    a, b, c = np.ones((3, 1024, 1024), np.float32)
    source, target = np.ones((2, 64 * 2**20), np.uint8)
    sgemm = min(timeit.repeat(lambda: np.matmul(a, b, out=c), number=1, repeat=20))
    copy = min(timeit.repeat(lambda: np.copyto(target, source), number=1, repeat=20))
    return 2 * 1024**3 / sgemm / 1e9, 2 * source.size / copy / 1e9


# Scalars and small arrays: what one operation costs
def scalar(engine):
    """micrograd's own demo: MLP(2, [16, 16, 1]), max-margin loss, L2 penalty, 100 points."""
    from micrograd import nn

    if engine != "micrograd":  # micrograd's classes, on our scalars
        import tinygrad_lite as tg

        nn.Value = lambda x: tg.tensor(float(x), requires_grad=True)
        tg.Tensor.relu = tg.functional.relu
    sys.setrecursionlimit(100_000)  # micrograd walks its graph recursively
    random.seed(1337)
    model = nn.MLP(2, [16, 16, 1])
    angle, rng = np.linspace(0, np.pi, 50), np.random.default_rng(0)
    moons = [[np.cos(angle), np.sin(angle)], [1 - np.cos(angle), 0.5 - np.sin(angle)]]
    points = np.concatenate(np.swapaxes(moons, 1, 2)) + rng.normal(0, 0.1, (100, 2))
    points, signs = points.tolist(), [-1] * 50 + [1] * 50

    def run():
        inputs = [list(map(nn.Value, row)) for row in points]  # as in its demo
        scores = list(map(model, inputs))
        losses = [(1 + -sign * score).relu() for sign, score in zip(signs, scores, strict=True)]
        data_loss = sum(losses) * (1.0 / len(losses))
        loss = data_loss + 1e-4 * sum(p * p for p in model.parameters())
        model.zero_grad()
        loss.backward()
        return loss

    run = tg.compile(run) if engine == "compiled" else run
    return Program(run, lambda: [run(), *(p.grad for p in model.parameters())])


def chain(engine, steps=2000):
    """v ← v * a + x, on 8 numbers in float64, summed."""
    rng = np.random.default_rng(0)
    start = 0.9 + 0.1 * rng.random(8), 0.1 * rng.random(8)

    def total(a, x):
        v = x
        for _ in range(steps):
            v = v * a + x
        return v.sum()

    if engine == "autograd":
        from autograd import value_and_grad

        run = partial(value_and_grad(lambda leaves: total(*leaves)), start)
    else:
        if engine == "mygrad":
            from mygrad import tensor
        else:
            tensor = partial(kit(engine)[0].tensor, requires_grad=True)

        def run():
            a, x = map(tensor, start)
            loss = total(a, x)
            loss.backward()
            return loss, (a.grad, x.grad)

    def results():
        loss, gradients = run()
        return [loss, *gradients]

    return Program(run, results)


def nodes(engine):
    """backward() through a recorded chain of as many scalar operations as the engine's name says.

    v = v * a + x tends to x / (1 - a), so that all lengths have the same results.
    """
    import tinygrad_lite as tg

    n = int(engine.split()[0].replace(",", ""))
    a, x = tg.tensor(0.99, requires_grad=True), tg.tensor(0.01, requires_grad=True)

    def prepare():
        a.grad = x.grad = None
        v = x
        for _ in range(n // 2):
            v = v * a + x
        return (v,)

    def run(v):
        v.backward()
        return [v, a.grad, x.grad]

    return Program(run, lambda: run(*prepare()), prepare, n)


# Training steps: forget the gradients, forward, cross-entropy, backward, update
def batch(shape, classes=10):
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, np.float32), rng.integers(0, classes, shape[0])


def weights(shapes):
    """Of about the size that PyTorch gives them."""
    rng = np.random.default_rng(1)
    scales = [1 / math.sqrt(math.prod(shape[1:] or shape)) for shape in shapes]
    pairs = zip(shapes, scales, strict=True)
    return [rng.uniform(-scale, scale, shape).astype(np.float32) for shape, scale in pairs]


def training(engine, build, shape, classes=10):
    """With SGD, in the spelling that ours and PyTorch share."""
    tg, _, losses, constant = kit(engine)
    net, (x, t) = build(tg.nn), map(constant, batch(shape, classes))
    start = map(constant, weights([tuple(p.shape) for p in net.parameters()]))
    net.load_state_dict(dict(zip(net.state_dict(), start, strict=True)))
    optimizer = tg.optim.SGD(net.parameters(), lr=LR)

    def run():
        optimizer.zero_grad()
        loss = losses.cross_entropy(net(x), t)
        loss.backward()
        optimizer.step()
        return loss

    run = tg.compile(run) if engine == "compiled" else run
    return Program(run, lambda: [run(), *(p.grad for p in net.parameters())])


def compiling(make, engine):
    """Of the compiled program the first call, which records, optimises and compiles."""
    program = make(engine)
    if engine != "compiled":
        return program
    step = getattr(program.run, "func", program.run)
    return program._replace(prepare=lambda: step.forget() or ())


def lenet(nn):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def cifar_net(nn):
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 5, padding=2), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1024, 64), nn.Linear(64, 10),
    )  # fmt: skip


def encoder(nn):
    layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(64 * 64, 10))


def mlp(engine, sizes, size):
    """Linear layers with relu between them; W is (inputs, outputs) but in ours and PyTorch's."""
    layers, shape, classes = list(itertools.pairwise(sizes)), (size, sizes[0]), sizes[-1]

    def build(nn):
        stack = [layer for a, b in layers for layer in (nn.ReLU(), nn.Linear(a, b))]
        return nn.Sequential(*stack[1:])

    if engine in (OURS, "torch"):
        return training(engine, build, shape, classes)
    x, t = batch(shape, classes)
    ws = [w.T.copy() for w in weights([shape for a, b in layers for shape in ((b, a), (b,))])]
    if engine == "compiled":
        return compiled_mlp(ws, x, t)
    if engine in ("autograd", "jax"):
        t = np.eye(classes, dtype=np.float32)[t]  # one-hot targets, as in their examples
    if engine == "jax" and hasattr(os, "sched_setaffinity"):
        # What XLA_FLAGS says leaves it some 16 threads, and two cores busy.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    gradients = mlp_gradients(engine)

    def step(ws, x, t):
        loss, gs = gradients(ws, x, t)
        if engine == "hand":
            hand_numpy.sgd(ws, gs, LR)
        else:
            for i, g in enumerate(gs):
                ws[i] -= LR * g  # in place, but that JAX makes a new array
        return ws, loss

    if engine == "jax":
        import jax

        jitted, gradients = jax.jit(step, donate_argnums=0), jax.jit(gradients)
        ws, x, t = jax.device_put((ws, x, t))

        def step(ws, x, t):
            return jax.block_until_ready(jitted(ws, x, t))

    def run():
        nonlocal ws
        ws, loss = step(ws, x, t)
        return loss

    def results():
        loss, gs = gradients(ws, x, t)
        gs = [array(g).T for g in gs]
        run()
        return [loss, *gs]

    return Program(run, results)


def compiled_mlp(ws, x, t):
    """The step as a NumPy user writes it, W being (inputs, outputs) as by hand."""
    tg, functional, losses, _ = kit(OURS)
    leaves = [tg.tensor(w, requires_grad=True) for w in ws]

    @tg.compile
    def step(x, t):
        z = x
        for k in range(0, len(leaves), 2):
            z = functional.relu(z) if k else z
            z = z @ leaves[k] + leaves[k + 1]
        for leaf in leaves:
            leaf.zero_grad()
        loss = losses.cross_entropy(z, t)
        loss.backward()
        with tg.no_grad():
            for leaf in leaves:
                leaf -= LR * leaf.grad
        return loss

    def results():
        loss = step(x, t)
        return [loss, *(array(leaf.grad).T for leaf in leaves)]

    return Program(partial(step, x, t), results)


def mlp_gradients(engine):
    """The engine's function of (weights, x, labels or one-hot targets) to (loss, gradients)."""
    if engine == "hand":
        return hand_numpy.mlp
    if engine == "mygrad":
        import mygrad
        from mygrad.nnet.activations import relu
        from mygrad.nnet.losses import softmax_crossentropy

        def gradients(ws, x, t):
            leaves = [mygrad.tensor(w, copy=False) for w in ws]
            (w, b), *rest = zip(leaves[::2], leaves[1::2], strict=True)
            z = x @ w + b
            for w, b in rest:
                z = relu(z) @ w + b
            loss = softmax_crossentropy(z, t)
            loss.backward()
            return loss, [leaf.grad for leaf in leaves]

        return gradients
    if engine == "autograd":
        import autograd.numpy as xp
        from autograd import value_and_grad
        from autograd.scipy.special import logsumexp
    else:
        import jax.numpy as xp
        from jax import value_and_grad
        from jax.scipy.special import logsumexp

    def loss(ws, x, targets):
        (w, b), *rest = zip(ws[::2], ws[1::2], strict=True)
        z = x @ w + b
        for w, b in rest:
            z = xp.maximum(z, 0) @ w + b
        z = z - logsumexp(z, axis=1, keepdims=True)
        return -xp.mean(xp.sum(z * targets, axis=1))

    return value_and_grad(loss)


# Parts of networks, forward and backward
def differentiate(leaves, function, *cotangent, compiled=lambda run: run):
    """Of a function of leaves, in the spelling that ours and PyTorch share."""

    def run():
        for leaf in leaves:
            leaf.grad = None
        out = function(*leaves)
        out.backward(*cotangent)
        return out

    run = compiled(run)
    return Program(run, lambda: [run(), *(leaf.grad for leaf in leaves)])


def cross_entropy(engine, *shape):
    x, t = batch(shape, shape[1])
    if engine == "hand":
        run = partial(hand_numpy.cross_entropy, x, t)
        return Program(run, lambda: list(run()))
    tg, _, losses, constant = kit(engine)
    t, options = constant(t), {"fused": False} if "composed" in engine else {}
    leaf = tg.tensor(x, requires_grad=True)
    compiled = {"compiled": tg.compile} if "compiled" in engine else {}
    return differentiate([leaf], lambda x: losses.cross_entropy(x, t, **options), **compiled)


def layer_norm(engine, *shape):
    (tg, F, _, constant), (x, g) = kit(engine), batch((2, *shape))[0]
    leaves = [tg.tensor(v, requires_grad=True) for v in (x, *weights([shape[-1:]] * 2))]
    return differentiate(leaves, lambda x, w, b: F.layer_norm(x, shape[-1:], w, b), constant(g))


def attention(engine, *shape):
    (tg, F, _, constant), (*qkv, g) = kit(engine), batch((4, *shape))[0]
    leaves = [tg.tensor(v, requires_grad=True) for v in qkv]
    return differentiate(leaves, F.scaled_dot_product_attention, constant(g))


def adam(engine, *shape):
    """One step of the optimiser on tensors stacked along axis 0, with gradients that stay."""
    tg, gradients = kit(engine)[0], batch(shape)[0]
    ws = [tg.tensor(0 * g, requires_grad=True) for g in gradients]
    for w, g in zip(ws, gradients, strict=True):
        w.grad = tg.tensor(g)
    optimizer = tg.optim.Adam(ws, lr=LR)
    return Program(optimizer.step, lambda: optimizer.step() or ws)
