"""tg.compile on convolutions and max-pools: one kernel where it fits, and eager's numbers always."""

import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite import functional as F
from tinygrad_lite import nn, optim
from tinygrad_lite.compiler import convolution_kernels, passes
from tinygrad_lite.compiler.pooled_convolution import pooled_convolution
from tinygrad_lite.compiler.program import Value
from tinygrad_lite.windows import Window


def near(a, b):
    """Relative to the largest entry."""
    a, b = np.asarray(a), np.asarray(b)
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    tolerance = (1e-12 if b.dtype == float else 1e-5) * np.max(np.abs(b), initial=1e-300)
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def network(x, w, b, conv=None, pool=2, relu="", name="max_pool2d", between=None, **options):
    y = getattr(F, f"conv{name[-2:]}")(x, w, b, **(conv or {}))
    y = F.relu(y) if relu == "before" else y
    extra = between(y) if between else 0
    y = np.maximum(y, 0.5) if relu == "half" else y
    y = getattr(F, name)(y, pool, **options)
    y = F.relu(y) if relu == "after" else y
    return np.sum(np.sin(y) * (y + 2)) + extra


SMALL, KERNEL = (32, 2, 8, 8), (3, 2, 3, 3)
FUSED = {  # shapes of input and kernel, bias or not, options
    "plain": (SMALL, KERNEL, True, {}),
    "no bias": (SMALL, KERNEL, False, {}),
    "relu before": (SMALL, KERNEL, True, {"relu": "before"}),
    "relu before, no bias": (SMALL, KERNEL, False, {"relu": "before"}),
    "relu after": (SMALL, KERNEL, True, {"relu": "after"}),
    "padding": (SMALL, KERNEL, True, {"conv": {"padding": 1}, "relu": "before"}),
    "most padding": (SMALL, KERNEL, True, {"conv": {"padding": 2}}),
    "padding per axis": (SMALL, KERNEL, True, {"conv": {"padding": (2, 0)}}),
    "same, uneven": (SMALL, (3, 2, 4, 2), True, {"conv": {"padding": "same"}}),
    "uneven sizes": ((40, 2, 11, 9), KERNEL, True, {"conv": {"padding": 1}, "relu": "before"}),
    "pool of its own": ((40, 2, 11, 9), KERNEL, True, {"pool": (3, 2)}),
    "pool over rows": (SMALL, KERNEL, True, {"pool": (4, 1)}),
    "pool over all": (SMALL, KERNEL, True, {"pool": 6}),
    "pool over nothing": (SMALL, KERNEL, True, {"pool": 1, "relu": "before"}),
    "ceil_mode, even": (SMALL, KERNEL, True, {"ceil_mode": True}),
    "kernel 1": (SMALL, (3, 2, 1, 1), True, {}),
    "kernel of a row": (SMALL, (3, 2, 1, 4), True, {}),
    "kernel as large as the images": (SMALL, (3, 2, 8, 8), True, {"pool": 1}),
    "many channels": ((33, 80, 8, 8), (5, 80, 3, 3), True, {"conv": {"padding": 1}}),
    "many images": ((70, 80, 6, 6), (5, 80, 3, 3), True, {"conv": {"padding": 1}}),
    "line": ((32, 2, 12), (3, 2, 3), True, {"name": "max_pool1d", "relu": "after"}),
}
LEFT = {
    "few images": ((8, 2, 8, 8), KERNEL, True, {}),
    "stride": (SMALL, KERNEL, True, {"conv": {"stride": 2}}),
    "dilation": (SMALL, KERNEL, True, {"conv": {"dilation": 2}}),
    "groups": (SMALL, (4, 1, 3, 3), True, {"conv": {"groups": 2}}),
    "too much padding": (SMALL, KERNEL, True, {"conv": {"padding": 3}}),
    "pools that overlap": (SMALL, KERNEL, True, {"pool": 3, "stride": 1}),
    "pools apart": (SMALL, KERNEL, True, {"stride": 3}),
    "pool with padding": (SMALL, KERNEL, True, {"padding": 1}),
    "pool with dilation": (SMALL, KERNEL, True, {"dilation": 2, "stride": 2}),
    "pool of very many": ((32, 2, 18, 18), KERNEL, True, {"pool": 16}),
    "ceil_mode, uneven": ((32, 2, 9, 9), KERNEL, True, {"ceil_mode": True}),
    "tanh between": (SMALL, KERNEL, True, {"between": lambda y: np.sum(np.tanh(y))}),
    "relu read twice": (SMALL, KERNEL, True, {"relu": "before", "between": np.mean}),
    "line, relu before": ((32, 2, 12), (3, 2, 3), True, {"name": "max_pool1d", "relu": "before"}),
    "average": (SMALL, KERNEL, True, {"name": "avg_pool2d"}),
    "cut at 0.5": (SMALL, KERNEL, True, {"relu": "half"}),
    "two pools": (SMALL, KERNEL, True, {"between": lambda y: np.sum(F.max_pool2d(y, 3))}),
}


def arrays(case, dtype, seed=0):
    shape, kernel, bias, options = case
    rng = np.random.default_rng(seed)
    x, w, b = (rng.normal(size=s) for s in (shape, kernel, kernel[:1]))
    w /= np.sqrt(w[0].size)
    return (x.astype(dtype), w.astype(dtype), b.astype(dtype) if bias else None), options


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", FUSED | LEFT)
def test_gradients_on_other_numbers(name, dtype):
    case = (FUSED | LEFT)[name]
    (x, w, b), options = arrays(case, dtype)
    leaves = (0, 1, 2) if case[2] else (0, 1)
    f = partial(network, **options)
    eager = tg.value_and_grad(f, argnums=leaves)
    compiled = tg.compile(eager)
    compiled(x, w, b)
    others, _ = arrays(case, dtype, seed=1)
    (value, gradients), (expected, others) = compiled(*others), eager(*others)
    near(value, expected)
    for g, h in zip(gradients, others, strict=True):
        near(g, h)
    assert compiled.missed == 0
    assert ("conv_pool_back(" in compiled.source) == (name in FUSED)
    left = ["_conv(", "_conv_weight(", "_conv_input(", "_max_pool_input("]
    if name != "average":
        assert [text in compiled.source for text in left] == [name in LEFT] * 4
    forward = tg.compile(f)
    near(forward(x, w, b), f(x, w, b))
    assert ("conv_pool(" in forward.source, "_conv(" in forward.source) == (
        name in FUSED,
        name in LEFT,
    )


@pytest.mark.parametrize("options", [{}, {"relu": "before"}, {"conv": {"padding": 1}}])
@pytest.mark.parametrize("odd", [0.0, np.nan, np.inf, -np.inf])
def test_ties_and_numbers_that_are_none(odd, options):
    """Whole numbers, so that sums are exact and ties are many; the first of a window wins."""
    rng = np.random.default_rng(0)
    x, w, b, c = (rng.integers(-1, 2, s).astype(float) for s in (SMALL, KERNEL, 3, (32, 3, 1, 1)))
    x[np.arange(0, 32, 2), 1, rng.integers(8, size=16), rng.integers(8, size=16)] = odd

    def loss(x, w, b):
        y = F.conv2d(x, w, b, **options.get("conv", {}))
        y = F.relu(y) if "relu" in options else y
        return np.sum(F.max_pool2d(y, 2) * c)

    eager = tg.grad(loss, argnums=(0, 1, 2))
    compiled = tg.compile(eager)
    with np.errstate(invalid="ignore"):
        (dx, dw, db), (ex, ew, eb) = compiled(x, w, b), eager(x, w, b)
    np.testing.assert_array_equal(dx, ex)
    np.testing.assert_array_equal(db, eb)
    lost = np.isnan(dw)  # at the edge of an image, odd numbers reach more of dw than in eager code
    np.testing.assert_array_equal(dw[~lost], ew[~lost])
    assert lost[np.isnan(ew)].all()
    assert lost.any() == np.isnan(ew).any()
    assert "conv_pool_back(" in compiled.source


@pytest.mark.parametrize("bytes", [1, 5000, 1 << 30])
def test_blocks_of_any_size(bytes, monkeypatch):
    monkeypatch.setattr(convolution_kernels, "BLOCK", bytes)
    monkeypatch.setattr(convolution_kernels, "SIDE", bytes)
    for name in ("uneven sizes", "most padding", "many images"):
        test_gradients_on_other_numbers(name, np.float64)


def test_only_what_is_needed():
    (x, w, b), options = arrays(FUSED["relu before"], np.float64)
    for leaves in ((1, 2), (0, 1)):
        eager = tg.grad(lambda *xwb: network(*xwb, **options), argnums=leaves)
        compiled = tg.compile(eager)
        for g, h in zip(compiled(x, w, b), eager(x, w, b), strict=True):
            near(g, h)
        assert f"(2, 2), {0 in leaves})" in compiled.source
    for leaves in (0, 2):  # nobody wants dw
        eager = tg.grad(lambda *xwb: network(*xwb, **options), argnums=leaves)
        compiled = tg.compile(eager)
        near(compiled(x, w, b), eager(x, w, b))
        assert "conv_pool" not in compiled.source


@pytest.mark.parametrize("relu", ["", "before"])
def test_what_is_between_may_be_a_result(relu):
    given, _ = arrays(FUSED["plain"], np.float64)

    def outputs(x, w, b):
        y = F.conv2d(x, w, b)
        y = F.relu(y) if relu else y
        return y, F.max_pool2d(y, 2)

    for g, h in zip(tg.compile(outputs)(*given), outputs(*given), strict=True):
        near(g, h)


def test_second_order():
    (x, w, b), options = arrays(FUSED["relu before"], np.float64)
    f = tg.hvp(lambda w: network(x, w, b, **options))
    near(tg.compile(f)(w, w + 1), f(w, w + 1))


def test_whatever_differs_is_left_alone(monkeypatch):
    """The pass on recordings in which one argument of one step is another."""
    programs = []
    monkeypatch.setattr(passes, "pooled_convolution", lambda p: programs.append(p) or p)
    for name in "plain", "relu before":
        given, options = arrays(FUSED[name], np.float64)
        tg.compile(tg.grad(partial(network, **options), argnums=(0, 1, 2)))(*given)
    for program in programs:
        done = pooled_convolution(program)
        assert operations(done).count("whole.conv_pool_back") == 1
        for step in program.body:
            chain = step.op.startswith("whole") or step.outs[0].shape == (32, 3, 6, 6)
            if not chain and not (step.op == "sum" and step.kwargs):
                continue
            for k, item in enumerate(step.args):
                if k not in FREE.get(step.op, ()):
                    args = (*step.args[:k], other(item), *step.args[k + 1 :])
                    assert_left(program, step, replace(step, args=args))
            for key, item in step.kwargs.items():
                assert_left(program, step, replace(step, kwargs=step.kwargs | {key: other(item)}))
            if step.outs[0].shape == (32, 3, 6, 6):
                assert_left(replace(program, outputs=[*program.outputs, *step.outs]))


FREE = {  # arguments that may be anything
    "whole._conv": {3}, "whole.along": {1, 4}, "whole._max_pool_input": {0},
    "whole._conv_input": {0}, "sum": {0},
}  # fmt: skip


def assert_left(program, step=None, changed=None):
    body = [changed if s is step else s for s in program.body]
    found = operations(pooled_convolution(replace(program, body=body)))
    assert "whole.conv_pool_back" not in found, changed


def operations(program):
    return [step.op for step in program.body]


def other(item):
    """Something else of the same kind."""
    if isinstance(item, Value):
        return replace(item)
    if isinstance(item, Window):
        return replace(item, padding=((1, 1), (1, 1)))
    if item is np.maximum:
        return np.add
    if isinstance(item, list):  # taps
        return [axis[1:] for axis in item]
    return item + 1 if isinstance(item, (int, float)) else item[1:]


def test_results_that_the_kernel_makes():
    """Outputs in another order in memory, pooled images among them, are like any other."""
    (x, w, b), _ = arrays(FUSED["plain"], np.float64)
    f = tg.compile(lambda x, w, b: F.max_pool2d(F.conv2d(x, w, b), 2))
    near(f(x, w, b), F.max_pool2d(F.conv2d(x, w, b), 2))
    near(f(x[:, :, ::-1], w.T.copy().T, b), F.max_pool2d(F.conv2d(x[:, :, ::-1], w, b), 2))
    assert "conv_pool(" in f.source


def lenet():
    tg.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 10),
    )  # fmt: skip


def trained(net, optimizer):
    def step(x, t):
        optimizer.zero_grad()
        loss = tg.losses.cross_entropy(net(x), t)
        loss.backward()
        optimizer.step()
        return loss

    return step


def batches(count, n=48):
    rng = np.random.default_rng(2)
    return [
        (rng.normal(size=(n, 1, 16, 16)).astype(np.float32), rng.integers(0, 10, n))
        for _ in range(count)
    ]


def test_training():
    nets = lenet(), lenet()
    eager, recorded = (trained(net, optim.SGD(net.parameters(), lr=0.1)) for net in nets)
    compiled = tg.compile(recorded)
    for x, t in batches(4):
        near(compiled(x, t).data, eager(x, t).data)
    for p, q in zip(*(net.parameters() for net in nets), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-4, atol=1e-5)
        assert p.grad.data.flags.c_contiguous
    assert compiled.source.count("conv_pool_back(") == 3  # its definition, and two layers


def test_relu_after_a_large_pool_is_written_in_place():
    """... which keeps the order in memory, too."""
    x, w = np.ones((64, 1, 34, 34)), np.ones((4, 1, 3, 3))
    f = tg.compile(lambda x, w: np.sum(F.relu(F.max_pool2d(F.conv2d(x, w), 2))))
    near(f(x, w), np.float64(9 * 64 * 4 * 16 * 16))
    assert "np.maximum(pooled, 0, out=pooled)" in f.source


def test_the_source_needs_numpy_only(tmp_path):
    (x, w, b), options = arrays(FUSED["relu before"], np.float64)
    f = tg.compile(tg.value_and_grad(lambda *xwb: network(*xwb, **options), argnums=(0, 1, 2)))
    value, gradients = f(x, w, b)
    np.savez(tmp_path / "given.npz", x=x, w=w, b=b)
    (tmp_path / "recorded.py").write_text(f.source)
    code = "import sys; sys.modules['tinygrad_lite'] = None; import numpy as np; "
    code += "from recorded import step; given = np.load('given.npz'); "
    code += "print(*[np.asarray(a).tobytes().hex() for a in step(*(given[k] for k in 'xwb'))])"
    run = partial(subprocess.run, capture_output=True, text=True, check=True, cwd=tmp_path)
    out = run([sys.executable, "-c", code])
    assert out.stdout.split() == [np.asarray(a).tobytes().hex() for a in (value, *gradients)]


def test_two_threads():
    (x, w, b), options = arrays(FUSED["many images"], np.float64)
    f = tg.compile(tg.grad(lambda *xwb: network(*xwb, **options), argnums=(0, 1)))
    given = [(k * x, w, b) for k in (1.0, 0.5)]
    expected = [f(*each) for each in given]
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda xwb: f(*xwb), given * 8)
        for each, gradients in zip(found, expected * 8, strict=True):
            for g, h in zip(each, gradients, strict=True):
                np.testing.assert_array_equal(g, h)


def test_less_memory():
    """The output of a convolution is never there as a whole."""
    (x, t), *_ = batches(1, 256)
    peaks = []
    for change in (tg.compile, lambda step: step):
        net = lenet()
        step = change(trained(net, optim.SGD(net.parameters(), lr=0.1)))
        step(x, t)
        tracemalloc.start()
        step(x, t)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < 0.8 * peaks[1]
