"""Convolution and pooling: against PyTorch to second order, and against their compositions."""

import itertools
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite import convolution, pooling, windows
from tinygrad_lite.fused import COMPOSED
from tinygrad_lite.primitives import BY_NAME
from tinygrad_lite.tensor import Node

C = SimpleNamespace(**(vars(windows) | vars(pooling) | vars(convolution)))
rng = np.random.default_rng(3)


def normal(*shape):
    return rng.standard_normal(shape)


# function: (shapes of the arguments, options); a row is a case, and PyTorch the oracle
CASES = {
    "conv1d": [
        ([(2, 3, 9), (4, 3, 3)], {}),
        ([(2, 3, 9), (4, 3, 3), (4,)], {}),
        ([(3, 9), (4, 3, 3), (4,)], {"padding": 1}),
        ([(2, 3, 9), (4, 3, 2), (4,)], {"stride": 2, "padding": (1,)}),
        ([(2, 4, 9), (6, 2, 3), (6,)], {"groups": 2, "dilation": 2}),
        ([(2, 4, 9), (4, 1, 3)], {"groups": 4, "padding": "same"}),
        ([(2, 3, 9), (4, 3, 4)], {"padding": "same", "dilation": 3}),
        ([(2, 3, 9), (4, 3, 4)], {"padding": "valid", "stride": 3}),
        ([(2, 3, 3), (4, 3, 5)], {"padding": 4, "stride": (2,), "dilation": 2}),
        ([(1, 1, 1), (2, 1, 2)], {"padding": 3, "dilation": 5}),  # windows that see padding only
        ([(70, 2, 5), (3, 2, 1), (3,)], {}),
        ([(2, 3, 4), (4, 3, 1)], {"stride": 5}),  # one output of a wider input
        ([(0, 3, 9), (4, 3, 3), (4,)], {}),
    ],
    "conv2d": [
        ([(2, 3, 7, 8), (4, 3, 3, 3)], {}),
        ([(2, 3, 7, 8), (4, 3, 3, 3), (4,)], {"padding": 1}),
        ([(3, 7, 8), (4, 3, 3, 2), (4,)], {"padding": (0, 2), "stride": (2, 1)}),
        ([(2, 3, 7, 8), (4, 3, 5, 4), (4,)], {"padding": (2, 1), "stride": 2}),
        ([(2, 4, 7, 8), (6, 2, 3, 3), (6,)], {"groups": 2, "stride": (1, 2)}),
        ([(2, 4, 7, 8), (8, 1, 3, 3), (8,)], {"groups": 4, "dilation": (2, 1), "padding": 2}),
        ([(2, 3, 7, 8), (4, 3, 2, 4), (4,)], {"padding": "same"}),
        ([(2, 3, 7, 8), (4, 3, 3, 2)], {"padding": "same", "dilation": (2, 3)}),
        ([(2, 3, 7, 8), (4, 3, 2, 2)], {"padding": "valid", "stride": 3}),
        ([(3, 5, 6, 6), (4, 5, 1, 1), (4,)], {}),
        ([(3, 5, 6, 6), (4, 5, 1, 1)], {"stride": 2}),
        ([(3, 5, 2, 2), (4, 5, 1, 1), (4,)], {"stride": 2}),  # as a residual network shrinks
        ([(3, 5, 6, 6), (4, 5, 1, 1)], {"padding": 1}),
        ([(2, 2, 5, 6), (3, 2, 5, 6), (3,)], {}),
        ([(2, 2, 2, 3), (3, 2, 5, 5), (3,)], {"padding": 4, "stride": 3}),
        ([(1, 2, 9, 5), (2, 2, 1, 3), (2,)], {"padding": (3, 0), "dilation": (1, 2)}),
        ([(1, 2, 9, 5), (2, 2, 3, 1), (2,)], {"stride": (4, 1)}),
        ([(5, 40, 6, 6), (3, 40, 3, 3), (3,)], {"padding": 1}),
        ([(5, 80, 6, 6), (4, 40, 3, 2), (4,)], {"padding": 1, "groups": 2, "dilation": (2, 1)}),
        ([(2, 40, 6, 6), (3, 40, 3, 3)], {"padding": 1, "stride": (2, 1)}),
        ([(2, 3, 6, 6), (80, 3, 3, 2), (80,)], {"padding": 2}),
        ([(0, 3, 7, 8), (4, 3, 3, 3), (4,)], {}),
    ],
    "conv_transpose2d": [
        ([(2, 3, 4, 5), (3, 4, 3, 3)], {}),
        ([(2, 3, 4, 5), (3, 4, 3, 3), (4,)], {"stride": 2}),
        ([(3, 4, 5), (3, 4, 3, 3), (4,)], {"stride": 2, "padding": 1, "output_padding": 1}),
        ([(2, 3, 4, 5), (3, 4, 2, 3), (4,)], {"stride": (1, 3), "output_padding": (0, 2)}),
        ([(2, 4, 4, 5), (4, 3, 3, 3), (6,)], {"groups": 2, "padding": (1, 0)}),
        ([(2, 4, 4, 5), (4, 1, 3, 3)], {"groups": 4, "stride": 2, "dilation": 2}),
        ([(2, 3, 4, 5), (3, 4, 3, 3)], {"dilation": (1, 2), "output_padding": (0, 1)}),
        ([(2, 3, 4, 5), (3, 4, 1, 1), (4,)], {}),
        ([(2, 3, 4, 5), (3, 4, 1, 1), (4,)], {"stride": 2}),
        ([(2, 3, 4, 5), (3, 4, 2, 2), (4,)], {"stride": 4, "padding": 1, "output_padding": 3}),
        ([(2, 3, 2, 2), (3, 4, 4, 4)], {"padding": 2, "stride": 3, "dilation": 2}),
    ],
    "max_pool1d": [
        ([(2, 3, 9)], {"kernel_size": 2}),
        ([(3, 9)], {"kernel_size": 3}),
        ([(2, 3, 9)], {"kernel_size": (3,), "stride": 2}),
        ([(2, 3, 9)], {"kernel_size": 3, "stride": (1,), "padding": (1,)}),
        ([(2, 3, 9)], {"kernel_size": 2, "dilation": 3}),
        ([(2, 3, 9)], {"kernel_size": 4, "stride": 3, "ceil_mode": True}),
        ([(2, 3, 9)], {"kernel_size": 2, "stride": 5, "ceil_mode": True}),
        ([(2, 3, 8)], {"kernel_size": 3, "stride": 4, "padding": 1, "ceil_mode": True}),
        ([(2, 3, 9)], {"kernel_size": 3, "dilation": 2, "padding": 1, "stride": 3}),
        ([(2, 3, 9)], {"kernel_size": 9}),
        ([(2, 3, 9)], {"kernel_size": 1}),
    ],
    "max_pool2d": [
        ([(2, 3, 6, 8)], {"kernel_size": 2}),
        ([(3, 7, 9)], {"kernel_size": 2}),
        ([(2, 3, 7, 9)], {"kernel_size": (3, 2), "stride": (2, 1)}),
        ([(2, 3, 7, 9)], {"kernel_size": 3, "stride": 2, "padding": 1}),
        ([(2, 3, 7, 9)], {"kernel_size": 3, "stride": 1, "padding": (1, 0)}),
        ([(2, 3, 7, 9)], {"kernel_size": 2, "dilation": (2, 3)}),
        ([(2, 3, 7, 9)], {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
        ([(2, 3, 7, 9)], {"kernel_size": 2, "stride": 3, "ceil_mode": True, "padding": 1}),
        ([(2, 3, 7, 9)], {"kernel_size": 3, "dilation": 2, "padding": (1, 1), "ceil_mode": True}),
        ([(2, 3, 5, 6)], {"kernel_size": (5, 6)}),
        ([(2, 3, 5, 6)], {"kernel_size": 2, "stride": 3}),
    ],
    "avg_pool1d": [
        ([(2, 3, 9)], {"kernel_size": 2}),
        ([(3, 9)], {"kernel_size": 3}),
        ([(2, 3, 9)], {"kernel_size": (3,), "stride": 2}),
        ([(2, 3, 9)], {"kernel_size": 3, "stride": 1, "padding": 1}),
        ([(2, 3, 9)], {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False}),
        ([(2, 3, 9)], {"kernel_size": 4, "stride": 3, "ceil_mode": True}),
        ([(2, 3, 8)], {"kernel_size": 4, "stride": 3, "ceil_mode": True, "padding": 2}),
        ([(2, 3, 8)], {"kernel_size": 3, "stride": 4, "ceil_mode": True, "padding": 1}),
        ([(2, 3, 9)], {"kernel_size": 2, "stride": 5, "ceil_mode": True}),
        ([(2, 3, 9)], {"kernel_size": 9}),
    ],
    "avg_pool2d": [
        ([(2, 3, 6, 8)], {"kernel_size": 2}),
        ([(3, 7, 9)], {"kernel_size": 2}),
        ([(2, 3, 7, 9)], {"kernel_size": (3, 2), "stride": (2, 1)}),
        ([(2, 3, 7, 9)], {"kernel_size": 3, "stride": 2, "padding": 1}),
        ([(2, 3, 7, 9)], {"kernel_size": 3, "padding": (1, 0), "count_include_pad": False}),
        ([(2, 3, 7, 9)], {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
        ([(2, 3, 8, 9)], {"kernel_size": 3, "stride": 4, "ceil_mode": True, "padding": 1}),
        ([(2, 3, 8, 9)], {"kernel_size": 4, "stride": 3, "ceil_mode": True, "padding": 2}),
        ([(2, 3, 8, 9)], {"kernel_size": 4, "stride": 3, "ceil_mode": True, "padding": 2,
                          "count_include_pad": False}),
        ([(2, 3, 7, 9)], {"kernel_size": 3, "padding": 1, "divisor_override": 5}),
        ([(2, 3, 7, 9)], {"kernel_size": 2, "divisor_override": -2, "ceil_mode": True}),
    ],
    "adaptive_avg_pool2d": [
        ([(2, 3, 6, 8)], {"output_size": size})
        for size in [1, (1, 1), 2, (3, 4), (6, 8), (4, 5), (None, 2), (3, None), (7, 3), (12, 20)]
    ] + [([(3, 7, 9)], {"output_size": (3, 4)})],
    "unfold": [
        ([(2, 3, 5, 6)], {"kernel_size": 2}),
        ([(3, 5, 6)], {"kernel_size": (2, 3)}),
        ([(2, 3, 5, 6)], {"kernel_size": 3, "padding": 1}),
        ([(2, 3, 5, 6)], {"kernel_size": 2, "stride": 2}),
        ([(2, 3, 5, 6)], {"kernel_size": 2, "stride": (3, 1), "padding": (0, 1)}),
        ([(2, 3, 5, 6)], {"kernel_size": 2, "dilation": 2}),
        ([(2, 3, 5, 6)], {"kernel_size": (2, 1), "dilation": (4, 1)}),
        ([(2, 3, 5, 6)], {"kernel_size": (5, 6)}),
        ([(2, 3, 5, 6)], {"kernel_size": 1}),
        ([(2, 3, 2, 2)], {"kernel_size": 4, "padding": 3, "stride": 2}),
    ],
    "fold": [
        ([(2, 12, 20)], {"output_size": (5, 6), "kernel_size": 2}),
        ([(12, 20)], {"output_size": (5, 6), "kernel_size": 2}),
        ([(2, 18, 30)], {"output_size": (5, 6), "kernel_size": 3, "padding": 1}),
        ([(2, 12, 6)], {"output_size": (5, 6), "kernel_size": 2, "stride": 2}),
        ([(2, 12, 9)], {"output_size": 6, "kernel_size": 2, "stride": 2}),
        ([(2, 8, 14)], {"output_size": (5, 6), "kernel_size": 2, "stride": (3, 1),
                        "padding": (0, 1)}),
        ([(2, 8, 12)], {"output_size": (5, 6), "kernel_size": 2, "dilation": 2}),
        ([(2, 60, 1)], {"output_size": (5, 6), "kernel_size": (5, 6)}),
        ([(2, 3, 30)], {"output_size": (5, 6), "kernel_size": 1}),
        ([(2, 32, 9)], {"output_size": 2, "kernel_size": 4, "padding": 3, "stride": 2}),
    ],
    "interpolate": [
        ([(2, 3, 5)], {"size": 8}),
        ([(2, 3, 5)], {"scale_factor": 2}),
        ([(2, 3, 5)], {"size": (3,)}),
        ([(2, 3, 5, 6)], {"size": 4}),
        ([(2, 3, 5, 6)], {"size": (7, 13)}),
        ([(2, 3, 5, 6)], {"scale_factor": 2}),
        ([(2, 3, 5, 6)], {"scale_factor": (3.0, 1.5)}),
        ([(2, 3, 5, 6)], {"scale_factor": 0.5, "mode": "nearest"}),
        ([(2, 3, 5, 6)], {"scale_factor": (0.7, 2.3)}),
        ([(2, 3, 5, 6)], {"size": (5, 6)}),
        ([(2, 3, 5, 6)], {"size": (1, 60)}),
    ],
}  # fmt: skip
ALL = [(name, *case) for name, cases in CASES.items() for case in cases]
FUSED = {"conv1d", "conv2d", "max_pool1d", "max_pool2d"}


def derivatives(name, arrays, options, seeds):
    """Output, gradients, and the gradient of sum(gradients * v) by inputs and cotangent."""
    f = getattr(C, name)
    xs = [tg.tensor(a, requires_grad=True) for a in arrays]
    out = f(*xs, **options)
    g, *vs = [tg.tensor(s(shape), requires_grad=True) for s, shape in zip(
        seeds, [out.shape, *[a.shape for a in arrays]], strict=True)]  # fmt: skip
    out.backward(g, create_graph=True)
    first = [x.grad for x in xs]
    total = sum(np.sum(d * v.detach()) for d, v in zip(first, vs, strict=True))
    for x in xs:
        x.grad = None
    total.backward()
    second = [np.zeros(x.shape) if x.grad is None else x.grad.data for x in (*xs, g)]
    return [out.data, *[d.data for d in first], *second]


def torch_derivatives(name, arrays, options, seeds):
    torch = pytest.importorskip("torch")
    xs = [torch.tensor(a, requires_grad=True) for a in arrays]
    out = getattr(torch.nn.functional, name)(*xs, **options)
    g, *vs = [torch.tensor(s(tuple(shape)), requires_grad=True) for s, shape in zip(
        seeds, [out.shape, *[a.shape for a in arrays]], strict=True)]  # fmt: skip
    first = torch.autograd.grad(out, xs, g, create_graph=True)
    total = sum((d * v.detach()).sum() for d, v in zip(first, vs, strict=True))
    second = torch.autograd.grad(total, [*xs, g], allow_unused=True)
    zeros = [torch.zeros_like(x) if s is None else s for s, x in zip(second, [*xs, g], strict=True)]
    return [t.detach().numpy() for t in (out, *first, *zeros)]


def seeds_for(arrays):
    """Functions of a shape that give the same numbers whenever they are called."""
    return [lambda shape, k=k: np.random.default_rng(k).standard_normal(shape)
            for k in range(len(arrays) + 1)]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("name", "shapes", "options"), ALL)
def test_torch_agrees_to_second_order(name, shapes, options):
    arrays = [normal(*shape) for shape in shapes]
    theirs = torch_derivatives(name, arrays, options, seeds_for(arrays))
    for extra in [{}, {"fused": False}] if name in FUSED else [{}]:
        ours = derivatives(name, arrays, options | extra, seeds_for(arrays))
        for a, b in zip(ours, theirs, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cache", [1, 3000, 6000])
@pytest.mark.parametrize(("shapes", "options"), CASES["conv2d"])
def test_blocks_change_nothing(shapes, options, cache, monkeypatch):
    arrays = [normal(*shape) for shape in shapes]
    expected = derivatives("conv2d", arrays, options, seeds_for(arrays))
    monkeypatch.setattr(C, "CACHE", cache)
    again = derivatives("conv2d", arrays, options, seeds_for(arrays))
    for a, b in zip(again, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_many_windows_against_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    for n, k, s, p, d in itertools.product([1, 4, 7], [1, 2, 3], [1, 2, 3], [0, 1, 2], [1, 2]):
        x, w = normal(1, 2, n, 5), normal(2, 2, k, 2)
        if n + 2 * p >= d * (k - 1) + 1:
            options = {"stride": (s, 1), "padding": (p, 0), "dilation": (d, 1)}
            expected = functional.conv2d(torch.tensor(x), torch.tensor(w), **options).numpy()
            np.testing.assert_allclose(C.conv2d(x, w, **options), expected, atol=1e-12)
        for ceil in (False, True):
            options = {"stride": (s, 1), "padding": (p, 0), "ceil_mode": ceil}
            if 2 * p <= k and n + 2 * p >= k:
                for include in (False, True):
                    both = options | {"count_include_pad": include}
                    expected = functional.avg_pool2d(torch.tensor(x), (k, 2), **both).numpy()
                    np.testing.assert_allclose(
                        C.avg_pool2d(x, (k, 2), **both), expected, atol=1e-12
                    )
            if 2 * p <= k and n + 2 * p >= d * (k - 1) + 1:
                options["dilation"] = (d, 1)
                expected = functional.max_pool2d(torch.tensor(x), (k, 2), **options).numpy()
                np.testing.assert_array_equal(C.max_pool2d(x, (k, 2), **options), expected)


@pytest.mark.parametrize("options", [case[1] for case in CASES["max_pool2d"]])
@pytest.mark.parametrize("fused", [True, False])
def test_ties_go_to_the_first_as_in_torch(options, fused):
    torch = pytest.importorskip("torch")
    x = np.maximum(rng.integers(-4, 3, (3, 4, 7, 9)), 0).astype(np.float32)
    x[0] = -np.inf
    a, t = tg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    out, expected = C.max_pool2d(a, **options, fused=fused), torch.max_pool2d(t, **options)
    np.testing.assert_array_equal(out.data, expected.detach().numpy())
    g = rng.integers(-9, 9, out.shape).astype(np.float32)
    out.backward(g)
    expected.backward(torch.tensor(g))
    np.testing.assert_array_equal(a.grad.data, t.grad.numpy())


MATRICES = [
    ((4, 3, 3, 3), (3, 6, 7), {}),
    ((4, 3, 3, 2), (3, 6, 7), {"stride": 2, "padding": 1}),
    ((2, 3, 2, 4), (3, 6, 7), {"padding": "same", "dilation": (1, 2)}),
    ((4, 2, 2, 3), (4, 5, 6), {"groups": 2, "stride": (1, 3), "padding": (1, 0)}),
    ((4, 3, 3), (3, 8), {"padding": 2, "dilation": 2}),
]


@pytest.mark.parametrize(("w_shape", "x_shape", "options"), MATRICES)
def test_three_ways_to_convolve(w_shape, x_shape, options):
    """conv2d, the input unrolled and the kernel unrolled: equal, and so are their gradients."""
    w, x, convolve = (
        normal(*w_shape),
        normal(*x_shape),
        (C.conv2d if len(x_shape) == 3 else C.conv1d),
    )
    ways = {
        "direct": lambda x, w: convolve(x, w, **options),
        "input unrolled": lambda x, w: convolve(x, w, **options, fused=False),
        "kernel unrolled": lambda x, w: C.kernel_matrix(w, x_shape, **options) @ x.ravel(),
    }
    if "groups" not in options and "same" not in options.values() and len(x_shape) == 3:
        ways["by hand"] = lambda x, w: w.reshape(len(w), -1) @ C.unfold(x, w.shape[2:], **options)
    g = normal(*convolve(x, w, **options).shape)
    results = {}
    for name, way in ways.items():
        tx, tw = tg.tensor(x, requires_grad=True), tg.tensor(w, requires_grad=True)
        out = way(tx, tw)
        out.backward(g.reshape(out.shape))
        results[name] = out.data.ravel(), tx.grad.data, tw.grad.data
    for name in ways:
        for a, b in zip(results[name], results["direct"], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12, err_msg=name)
    matrix = C.kernel_matrix(w, x_shape, **options)
    assert type(matrix) is np.ndarray
    assert matrix.shape == (g.size, x.size)
    assert np.isin(matrix, np.append(w, 0)).all()


LINE = C.Window((1, 3), (1, 2), ((0, 0), (2, 1)), (1, 1))
PLANE = C.Window((3, 2), (2, 1), ((1, 1), (0, 1)), (1, 2), 2)
SQUARE = C.Window((2, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
SAMPLES = {  # arrays of more than 64 entries: smaller ones are kept, whatever `saves` says
    "conv": (lambda x, w: C.conv(x, w, window=PLANE), (2, 4, 5, 6), (6, 2, 3, 2)),
    "conv_bias": (lambda x, w, b: C.conv_bias(x, w, b, window=LINE), (3, 6, 1, 6), (8, 6, 1, 3), (8,)),
    "conv_input": (
        lambda y, w: C.conv_input(y, w, size=(5, 6), window=PLANE), (2, 6, 3, 5), (6, 2, 3, 2)),
    "conv_weight": (lambda x, y: C.conv_weight(x, y, window=PLANE), (2, 4, 5, 6), (2, 6, 3, 5)),
    "windows": (lambda x: C.windows(x, window=SQUARE), (2, 3, 4, 6)),
    "overlap": (lambda y: C.overlap(y, size=(4, 6), window=SQUARE), (2, 3, 6, 3, 3)),
    "tap_sum": (lambda x: C.tap_sum(x, taps=SQUARE.taps((4, 6)), size=(3, 3)), (2, 3, 4, 6)),
    "max_pool": (lambda x: C.max_pool(x, window=SQUARE), (2, 3, 4, 6)),
    "max_pool_input": (
        lambda y: C.max_pool_input(y, POOLED, C.max_pool(POOLED, window=SQUARE), window=SQUARE),
        (2, 4, 3, 3)),
}  # fmt: skip
POOLED = normal(2, 4, 5, 6)


@pytest.mark.parametrize("name", SAMPLES)
def test_gradients_of_the_primitives(name):
    f, *shapes = SAMPLES[name]
    arrays = [normal(*shape) for shape in shapes]
    assert tg.gradcheck(f, *arrays, order=2)
    recorded = f(*[tg.tensor(a, requires_grad=True) for a in arrays])
    assert recorded.grad_fn.name == name
    np.testing.assert_array_equal(recorded.data, f(*arrays))


def test_third_order():
    assert tg.gradcheck(lambda x, w: np.tanh(C.conv2d(x, w, padding=1)),
                        normal(1, 1, 3, 2), normal(2, 1, 2, 2), order=3)  # fmt: skip


def test_one_node_each_and_pickled():
    x, w, b = (
        tg.tensor(normal(*s), requires_grad=True) for s in [(2, 3, 6, 6), (4, 3, 3, 3), (4,)]
    )
    out = C.conv2d(x, w, b, padding=1)
    pooled = C.max_pool2d(out, 2)
    assert out.grad_fn.parents == (x._node, w._node, b._node)
    assert pooled.grad_fn.left is out.grad_fn
    assert [node.name for node in (pooled.grad_fn, out.grad_fn)] == ["max_pool", "conv_bias"]
    x2, loss = pickle.loads(pickle.dumps((x, pooled.sum())))
    loss.backward()
    pooled.sum().backward()
    np.testing.assert_array_equal(x2.grad.data, x.grad.data)
    names = {"conv", "conv_bias", "max_pool"}
    assert names <= set(COMPOSED)
    assert all(COMPOSED[name].__doc__ for name in {"conv"})


def test_only_what_is_needed_is_saved():
    """Weights that train save the input, an input that trains saves the weights."""
    x, w, b = normal(2, 3, 6, 6), normal(4, 3, 3, 3), normal(4)
    for tracked, kept in [((0,), [False, True]), ((1,), [True, False]), ((2,), [False, False])]:
        args = [tg.tensor(a, requires_grad=i in tracked) for i, a in enumerate((x, w, b))]
        node = C.conv2d(*args).grad_fn
        assert isinstance(node, Node)
        assert [isinstance(a, np.ndarray) for a in node.args[:2]] == kept
        assert not isinstance(node.out, np.ndarray)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("name", "shapes", "options"), [(n, *c[i]) for n, c in CASES.items() for i in (1, 3)]
)
def test_low_precision_stays(name, shapes, options, dtype):
    arrays = [normal(*shape).astype(dtype) for shape in shapes]
    for extra in [{}, {"fused": False}] if name in FUSED else [{}]:
        xs = [tg.tensor(a, requires_grad=True) for a in arrays]
        out = getattr(C, name)(*xs, **options, **extra)
        wide = getattr(C, name)(*[a.astype(float) for a in arrays], **options)
        np.testing.assert_allclose(out.data, wide, atol=60 * np.finfo(dtype).eps)
        assert out.dtype == getattr(C, name)(*arrays, **options).dtype == dtype
        g = normal(*out.shape).astype(dtype)
        piece = out.grad_fn.primitive.rules[0](
            g, out.grad_fn.out, *out.grad_fn.args, **out.grad_fn.params)  # fmt: skip
        assert piece.dtype == dtype
        out.backward(g)
        assert all(x.grad.dtype == dtype for x in xs)


def test_mixed_dtypes_integers_lists_and_strides():
    x, w = rng.integers(0, 255, (2, 3, 6, 6)).astype(np.uint8), rng.integers(-9, 9, (4, 3, 3, 3))
    exact = C.conv2d(x.astype(float), w.astype(float))
    np.testing.assert_array_equal(C.conv2d(x, w), exact)
    np.testing.assert_array_equal(C.conv2d(x.tolist(), w.tolist()), exact)
    np.testing.assert_array_equal(C.conv2d(tg.tensor(x), tg.tensor(w.astype(float))).data, exact)
    np.testing.assert_array_equal(C.max_pool2d(-x.astype(int), 2, padding=1),
                                  C.max_pool2d(-x.astype(float), 2, padding=1))  # fmt: skip
    assert C.avg_pool2d(x, 2)[0, 0, 0, 0] == x[0, 0, :2, :2].mean()
    a = tg.tensor(normal(2, 3, 6, 6), requires_grad=True, dtype=np.float32)
    b = tg.tensor(normal(4, 3, 3, 3), requires_grad=True)
    out = C.conv2d(a, b)
    assert out.dtype == np.float64
    out.sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)
    turned = normal(6, 6, 3, 2).T
    kernel = normal(3, 3, 4, 3).transpose(2, 3, 1, 0)
    for f, args in [(C.conv2d, (kernel,)), (C.max_pool2d, (2,)), (C.avg_pool2d, (2,)),
                    (C.conv2d, (kernel[..., :1, :1],)), (C.unfold, (2,))]:  # fmt: skip
        expected = f(turned.copy(), *args)
        np.testing.assert_allclose(f(turned, *args), expected, atol=1e-12)
        np.testing.assert_allclose(f(turned[::-1], *args), expected[::-1], atol=1e-12)
    assert np.getbufsize() == 8192


def test_non_finite_values_stay_where_they_are():
    x = normal(1, 1, 6, 6)
    x[0, 0, 0, 0] = np.nan
    x[0, 0, 5, 5] = np.inf
    for f in (lambda x: C.max_pool2d(x, 2), lambda x: C.avg_pool2d(x, 2),
              lambda x: C.adaptive_avg_pool2d(x, 3), lambda x: C.interpolate(x, size=4),
              lambda x: C.conv2d(x, np.ones((1, 1, 2, 2)), stride=2)):  # fmt: skip
        out = f(x)
        assert np.isnan(out[0, 0, 0, 0])
        assert np.isfinite(np.delete(out.ravel(), [0, out.size - 1])).all()
    t = tg.tensor(x, requires_grad=True)
    C.max_pool2d(t, 2).sum().backward()
    assert t.grad.data.sum() == 9


def test_nearest_is_exact_for_every_size():
    torch = pytest.importorskip("torch")
    for n, m in itertools.product([1, 2, 3, 5, 7, 8, 12, 31], [1, 2, 3, 4, 7, 9, 16, 24, 62]):
        x = np.arange(float(n))[None, None]
        expected = torch.nn.functional.interpolate(torch.tensor(x), size=m).numpy()
        np.testing.assert_array_equal(C.interpolate(x, size=m), expected)
    for n, scale in itertools.product([1, 2, 3, 5, 8, 31], [0.25, 0.5, 1.5, 2, 2.5, 3, 4]):
        if n * scale >= 1:
            x = np.arange(float(n))[None, None]
            expected = torch.nn.functional.interpolate(torch.tensor(x), scale_factor=scale).numpy()
            np.testing.assert_array_equal(C.interpolate(x, scale_factor=scale), expected)


X, W, B = normal(2, 4, 6, 6), normal(6, 4, 3, 3), normal(6)
BAD = {
    "channels": (r"the input has 4 channels, the weight is for 3: got an input \(2, 4, 6, 6\)", lambda: C.conv2d(X, W[:, :3])),
    "channels of groups": ("the input has 4 channels, the weight is for 8: .*groups=2", lambda: C.conv2d(X, W, groups=2)),
    "groups of outputs": ("4 groups do not divide 6 channels", lambda: C.conv2d(X, W[:, :1], groups=4)),
    "no groups": ("conv2d: groups must be .* got 0", lambda: C.conv2d(X, W, groups=0)),
    "half a group": ("groups must be .* got 1.0", lambda: C.conv2d(X, W, groups=1.0)),
    "bias": (r"the bias must have shape \(6,\): .* \(5,\)", lambda: C.conv2d(X, W, B[:5])),
    "bias of a transpose": (r"bias .*\(6,\)", lambda: C.conv_transpose2d(X, W[:4], B)),
    "transposed channels": ("conv_transpose2d: ", lambda: C.conv_transpose2d(X, W)),
    "weight's axes": (r"conv1d: a weight needs 3 axes.* \(6, 4, 3, 3\)", lambda: C.conv1d(X[0], W)),
    "empty weight": (r"conv2d: .* \(6, 0, 3, 3\)", lambda: C.conv2d(X, W[:, :0])),
    "input's axes": (r"conv2d: expected an input .* got \(6, 6\)", lambda: C.conv2d(X[0, 0], W)),
    "one axis": (r"max_pool1d: expected an input .*L.* got", lambda: C.max_pool1d(X, 2)),
    "stride": ("conv2d: stride must be .* got 0", lambda: C.conv2d(X, W, stride=0)),
    "strides": ("conv2d: stride must be .* got", lambda: C.conv2d(X, W, stride=(1, 2, 3))),
    "dilation": ("conv2d: dilation must be .* got", lambda: C.conv2d(X, W, dilation=(1, -1))),
    "padding": ("conv2d: padding.* must be .* got -1", lambda: C.conv2d(X, W, padding=-1)),
    "padding's name": ("'same' with stride 1.* got 'full'", lambda: C.conv2d(X, W, padding="full")),
    "same": ("'same' with stride 1.* got 'same'", lambda: C.conv2d(X, W, stride=2, padding="same")),
    "large": (r"conv2d: a window of \(7, 7\) .*\(6, 6\)", lambda: C.conv2d(X, W, dilation=3)),
    "nothing": (r"max_pool2d: expected an input .*\(2, 4, 6, 0\)", lambda: C.max_pool2d(X[..., :0], 2)),
    "means of nothing": (r"\(2, 4, 0, 6\)", lambda: C.adaptive_avg_pool2d(X[:, :, :0], 2)),
    "large pool": (r"max_pool2d: a window of \(7, 7\)", lambda: C.max_pool2d(X, 7)),
    "half": (r"max_pool2d: a window of \(3, 3\) entries .* with padding 2: .*half", lambda: C.max_pool2d(X, 3, padding=2)),
    "half, mean": ("avg_pool2d: a window .*half", lambda: C.avg_pool2d(X, 3, padding=2)),
    "kernel": ("avg_pool1d: kernel_size must be", lambda: C.avg_pool1d(X[0], 0)),
    "divisor": ("divisor_override must not be 0", lambda: C.avg_pool2d(X, 2, divisor_override=0)),
    "adaptive": ("adaptive_avg_pool2d: output_size must be", lambda: C.adaptive_avg_pool2d(X, 0)),
    "adaptive pair": ("output_size must be", lambda: C.adaptive_avg_pool2d(X, (1, 2, 3))),
    "adaptive single": ("output_size must be", lambda: C.adaptive_avg_pool2d(X, (1,))),
    "output padding": ("conv_transpose2d: expected an output_padding",
        lambda: C.conv_transpose2d(X, W[:4], output_padding=1)),
    "no output": ("conv_transpose2d: .*output", lambda: C.conv_transpose2d(X, W[:4], padding=4)),
    "columns": (r"fold: expected columns \(N, C \* 4, 25\).* got \(2, 12, 20\)",
        lambda: C.fold(normal(2, 12, 20), 6, 2)),
    "channels of columns": ("fold: expected columns", lambda: C.fold(normal(2, 10, 25), 6, 2)),
    "mode": ("mode='nearest' .* got mode='bilinear'", lambda: C.interpolate(X, 2, mode="bilinear")),
    "both": ("interpolate: .*size=2", lambda: C.interpolate(X, 2, 2.0)),
    "neither": ("interpolate: .*size=None", lambda: C.interpolate(X)),
    "interpolated axes": (r"interpolate: .*\(4, 6\)", lambda: C.interpolate(X[0, :, 0], 2)),
    "to nothing": ("interpolate: size.* must be", lambda: C.interpolate(X, scale_factor=0.1)),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments(what):
    message, call = BAD[what]
    with pytest.raises(ValueError, match=message):
        call()


def test_every_primitive_is_sampled_here():
    MODULES = [module.__name__ for module in (convolution, pooling, windows)]
    here = {name for name, p in BY_NAME.items() if getattr(p.forward, "__module__", "") in MODULES}
    assert here == set(SAMPLES)


def test_a_window_that_sees_padding_only():
    x = normal(2, 3, 1)
    for fused in (True, False):
        pooled = C.max_pool1d(x, 2, 2, 1, 2, True, fused=fused)
        np.testing.assert_array_equal(pooled, np.full((2, 3, 1), -np.inf))
        g = tg.grad(lambda x, f=fused: np.sum(C.max_pool1d(x, 2, 1, 1, 2, fused=f)))(
            normal(2, 3, 2)
        )
        np.testing.assert_array_equal(g, 1)


def test_interpolate_to_nothing():
    with pytest.raises(ValueError, match="scale_factor times the input's"):
        C.interpolate(normal(1, 1, 2, 2), scale_factor=0)
