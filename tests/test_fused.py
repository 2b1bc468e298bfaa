"""Every fast path against the composition that it equals; extremes, where only it is right."""

import math
import sys

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite import functional as F
from tinygrad_lite import fused as fast_paths
from tinygrad_lite import loss_table as table
from tinygrad_lite.fused import COMPOSED
from tinygrad_lite.primitives import BY_NAME
from tinygrad_lite.tensor import Node

tensor_module = sys.modules["tinygrad_lite.tensor"]  # tg.tensor is the function
rng = np.random.default_rng(11)


def normal(*shape):
    return rng.standard_normal(shape)


def positive(*shape):
    return rng.uniform(0.1, 0.9, shape)


def below(n, *shape):
    return rng.integers(0, n, shape)


# Fused names that tests/test_convolution.py samples
SAMPLED_IN_CONVOLUTION = {"conv", "conv_bias", "max_pool"}
X, CUBE = normal(9, 8), normal(3, 4, 6)
MASK = positive(2, 1, 5, 6) > 0.4
MASK[..., 0] = True
IMAGE, WEIGHTS, SIGNS = normal(5, 6, 2, 3), positive(9, 8), np.sign(normal(9, 8))

# name: [(arguments, params), ...]; gradients by every floating argument that has a rule
SAMPLES = {
    **{
        name: [((3 * X,), {}), ((CUBE,), {})]
        for name in ("sigmoid", "gelu", "gelu_tanh", "silu", "softplus")
    },
    **{
        name: [((3 * X,), {}), ((CUBE,), {"axis": 0}), ((CUBE,), {"axis": -2})]
        for name in ("softmax", "log_softmax", "logsumexp")
    },
    "linear": [
        ((X, normal(5, 8), normal(5)), {}),
        ((X, normal(5, 8), None), {}),
        ((CUBE, normal(7, 6), normal(7)), {}),
        ((normal(6), normal(5, 6), normal(5)), {}),
        ((normal(2, 3, 2, 6), normal(1, 6), None), {}),
    ],
    "dropout": [((X, WEIGHTS > 0.3), {}), ((CUBE, positive(3, 4, 6) > 0.3), {"scale": 2.5})],
    "embedding": [
        ((below(7, 5, 4), normal(7, 3)), {}),
        ((below(7, 40), normal(7, 3)), {"padding_idx": 2}),
        ((np.array([6, 6]), normal(7, 70)), {"padding_idx": 6}),
        ((np.int64(3), normal(7, 3)), {}),
    ],
    "layer_norm": [
        ((X, normal(8), normal(8)), {"ndim": 1}),
        ((CUBE, normal(4, 6), normal(4, 6)), {"ndim": 2, "eps": 0.1}),
        ((CUBE, normal(3, 4, 6), None), {"ndim": 3}),
        ((CUBE, None, normal(6)), {}),
        ((IMAGE, None, None), {"ndim": 2}),
    ],
    "rms_norm": [
        ((X, normal(8)), {"ndim": 1}),
        ((CUBE, normal(4, 6)), {"ndim": 2, "eps": 0.1}),
        ((CUBE, None), {}),
    ],
    "batch_norm": [
        ((X, normal(8), normal(8)), {}),
        ((CUBE, normal(4), None), {"eps": 0.1}),
        ((IMAGE, None, normal(6)), {}),
        ((IMAGE, None, None), {}),
    ],
    "group_norm": [
        ((IMAGE, normal(6), normal(6)), {"num_groups": 3}),
        ((IMAGE, normal(6), None), {"num_groups": 1, "eps": 0.1}),
        ((CUBE, None, normal(4)), {"num_groups": 4}),
        ((X, None, None), {"num_groups": 2}),
    ],
    "attention": [
        ((normal(2, 3, 5, 4), normal(2, 3, 6, 4), normal(2, 3, 6, 7), m, d), params)
        for m, d, params in [
            (None, None, {"scale": 0.5}),
            (MASK, None, {}),
            (normal(5, 6), None, {"scale": 0.3}),
            (np.tri(5, 6, dtype=bool), positive(2, 3, 5, 6) > 0.3, {"kept": 2.0}),
            (normal(2, 3, 5, 6), positive(2, 3, 5, 6) > 0.3, {"kept": 2.0}),
            (np.arange(5)[:, None] > np.arange(6), None, {}),  # the first query sees nothing
        ]
    ]
    + [
        ((normal(5, 4), normal(6, 4), normal(6, 3), None, None), {}),
        ((normal(5, 4), normal(2, 6, 4), normal(3, 1, 6, 2), MASK[0], None), {}),
    ],
    "squared_difference": [
        ((X, normal(9, 8), WEIGHTS), {"total": total}) for total in (True, False)
    ],
    "cross_entropy": [
        args
        for total in (True, False)
        for args in [
            ((X, below(8, 9), positive(9)), {"total": total}),
            ((CUBE, below(4, 3, 6), positive(3, 6)), {"total": total}),
        ]
    ],
    "soft_cross_entropy": [
        args
        for total in (True, False)
        for args in [((X, WEIGHTS), {"total": total}), ((CUBE, normal(3, 4, 6)), {"total": total})]
    ],
    "sigmoid_cross_entropy": [
        ((X, WEIGHTS, positive(9, 8), positive(8)), {"total": total}) for total in (True, False)
    ],
    # losses.py's others: (arguments), scale; tests/test_losses.py has more
    "l1_loss": [((X, normal(9, 8), WEIGHTS), {})],
    "smooth_l1_loss": [((X, normal(9, 8), WEIGHTS), {"beta": 0.7})],
    "huber_loss": [((X, normal(9, 8), WEIGHTS), {"delta": 0.7})],
    "binary_cross_entropy": [((positive(9, 8), WEIGHTS, positive(9, 8)), {})],
    "kl_div": [((X, WEIGHTS, positive(9, 8)), {"log_target": log}) for log in (True, False)],
    "poisson_nll_loss": [
        ((abs(X), 3 * WEIGHTS, positive(9, 8)), {"log_input": log, "full": True, "eps": 0.1})
        for log in (True, False)
    ],
    "gaussian_nll_loss": [((X, normal(9, 8), positive(9, 8), WEIGHTS), {"full": True})],
    "hinge_embedding_loss": [((X, SIGNS, WEIGHTS), {"margin": 1.0})],
    "soft_margin_loss": [((X, SIGNS, WEIGHTS), {})],
    "margin_ranking_loss": [((X, normal(9, 8), SIGNS, WEIGHTS), {"margin": 0.3})],
    "focal_loss": [((X, WEIGHTS, positive(9, 8)), {"alpha": 0.25, "gamma": 2.0})],
    "nll_loss": [((X, below(8, 9), positive(9)), {})],
    "multi_margin_loss": [((X, below(8, 9), positive(9)), {"p": p, "margin": 1.0}) for p in (1, 2)],
    "cosine_embedding_loss": [
        ((X, normal(9, 8), SIGNS[:, 0], positive(9)), {"margin": 0.1, "total": False})
    ],
    "triplet_margin_loss": [
        (
            (X, normal(9, 8), normal(9, 8), positive(9)),
            {"margin": 1.0, "norm": 2.0, "eps": 1e-6, "swap": True},
        )
    ],
}
SAMPLES["softplus"].append(((30 * X,), {"beta": 0.5, "threshold": 3.0}))
SAMPLES["linear_relu"] = SAMPLES["linear"]
SAMPLES["logsumexp"] += [((CUBE,), {"axis": (0, 2), "keepdims": True}), ((CUBE,), {})]
ROWS = [
    pytest.param(name, *sample, id=f"{name}-{i}")
    for name in sorted(COMPOSED)
    for i, sample in enumerate(SAMPLES.get(name, ()))
]


def test_every_fast_path_has_a_sample():
    missing = set(COMPOSED) - set(SAMPLES) - SAMPLED_IN_CONVOLUTION
    assert not missing, f"add a sample for {sorted(missing)}"
    assert set(COMPOSED) >= SAMPLED_IN_CONVOLUTION


def run(function, name, args, params, dtype=float):
    """The value, the gradients, and of their sum with random weights the gradients again."""
    rules, chance = BY_NAME[name].rules, np.random.default_rng(5)
    args = [a.astype(dtype) if getattr(a, "dtype", None) == np.float64 else a for a in args]
    where = [
        i
        for i, a in enumerate(args)
        if getattr(a, "dtype", None) == dtype and (not rules or rules[i] is not None)
    ]
    args = [tg.tensor(a, requires_grad=True) if i in where else a for i, a in enumerate(args)]
    leaves = [args[i] for i in where]
    out = function(*args, **params)
    seed = tg.tensor(chance.standard_normal(out.shape), requires_grad=True, dtype=dtype)
    out.backward(seed, create_graph=True)
    first = [t.grad for t in leaves]
    loss = sum(np.sum(g * chance.standard_normal(g.shape).astype(dtype)) for g in first)
    for t in leaves:
        t.grad = None
    if loss.requires_grad:
        loss.backward()
    zeros = [np.zeros_like(t.data) if t.grad is None else t.grad.data for t in [*leaves, seed]]
    return out, [g.data for g in first], zeros


@pytest.mark.parametrize(("name", "args", "params"), ROWS)
def test_fast_path_equals_composition(name, args, params, monkeypatch):
    monkeypatch.setattr(tensor_module, "SMALL", -1)  # keep only what `saves` declares
    fast, composition = BY_NAME[name], COMPOSED[name]
    out, first, second = run(fast, name, args, params)
    expected, first_expected, second_expected = run(composition, name, args, params)
    for a, b in zip(
        [out.data, *first, *second],
        [expected.data, *first_expected, *second_expected],
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1, np.abs(b).max()))
    node = out.grad_fn
    assert node.primitive is fast
    assert all(p.primitive is None for p in node.parents if isinstance(p, Node)), "one node only"
    plain = fast(*args, **params)
    assert not isinstance(plain, tg.Tensor)
    np.testing.assert_array_equal(plain, out.data)
    single, *gradients = run(fast, name, args, params, np.float32)
    for a in [single, *gradients[0], *gradients[1]]:
        assert a.dtype == np.float32
    for a, b in zip([single.data, *gradients[0]], [out.data, *first], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * max(1, np.abs(b).max()))


def test_it_matters_which_is_chosen():
    """`fused=` chooses: one node, or the graph that a learner looks at."""
    x = tg.tensor(X, requires_grad=True)
    assert F.softmax(x).grad_fn.name == "softmax"
    assert F.softmax(x, fused=False).grad_fn.name == "divide"
    np.testing.assert_allclose(F.softmax(X), F.softmax(X, fused=False), rtol=1e-14)


# Extremes. Warnings are errors here.
EXTREMES = {  # name: value and slope at -1e4, -1e3, 1e3, 1e4
    "sigmoid": ([0, 0, 1, 1], [0, 0, 0, 0]),
    "softplus": ([0, 0, 1e3, 1e4], [0, 0, 1, 1]),
    "gelu": ([0, 0, 1e3, 1e4], [0, 0, 1, 1]),
    "gelu_tanh": ([0, 0, 1e3, 1e4], [0, 0, 1, 1]),
    "silu": ([0, 0, 1e3, 1e4], [0, 0, 1, 1]),
    "erf": ([-1, -1, 1, 1], [0, 0, 0, 0]),
    "relu": ([0, 0, 1e3, 1e4], [0, 0, 1, 1]),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_elementwise(name, dtype):
    value, slope = EXTREMES[name]
    x = tg.tensor([-1e4, -1e3, 1e3, 1e4], requires_grad=True, dtype=dtype)
    out = BY_NAME[name](x)
    np.testing.assert_array_equal(out.data, np.array(value, dtype))
    out.backward(np.ones(4, dtype), create_graph=True)
    assert out.dtype == x.grad.dtype == dtype
    np.testing.assert_array_equal(x.grad.data, slope)
    if x.grad.requires_grad:
        g, x.grad = x.grad, None
        g.sum().backward()
        np.testing.assert_array_equal(x.grad.data, np.zeros(4))


@pytest.mark.parametrize("scale", [1e3, 1e4])
def test_extremes_along_an_axis(scale):
    logits = np.array([[1, -1, 0.0], [-1, -1, -1]]) * scale
    x = tg.tensor(logits, requires_grad=True)
    p = np.array([[1, 0, 0], [1 / 3] * 3])
    np.testing.assert_allclose(F.softmax(x).data, p, rtol=1e-15)
    shifted = logits - logits.max(1, keepdims=True) - [[0], [np.log(3)]]
    np.testing.assert_allclose(F.log_softmax(x).data, shifted, rtol=1e-12)
    np.testing.assert_allclose(F.logsumexp(x, axis=1).data, [scale, np.log(3) - scale], rtol=1e-15)
    for f, expected in [
        (lambda x: np.sum(F.softmax(x)[:, 0]), p * ([[1, 0, 0]] - p[:, :1])),
        (lambda x: np.sum(F.log_softmax(x)[:, 0]), [[1, 0, 0]] - p),
        (lambda x: np.sum(F.logsumexp(x, axis=1)), p),
    ]:
        x.grad = None
        f(x).backward()
        np.testing.assert_allclose(x.grad.data, expected, atol=1e-15)


def test_attention_extremes():
    """Huge scores; a query that sees nothing: 0, and gradient 0."""
    q, k, v = (tg.tensor(t, requires_grad=True) for t in (1e3 * X[:, :4], 1e3 * X[:, 4:], X))
    out = F.attention(q, k, v)
    best = np.argmax(q.data @ k.data.T, axis=1)
    np.testing.assert_allclose(out.data, X[best], rtol=1e-12)
    out.sum().backward()
    assert all(np.isfinite(t.grad.data).all() for t in (q, k, v))
    mask = np.ones((9, 9), bool)
    mask[4] = False
    for hidden in (mask, np.where(mask, 0.0, -np.inf)):
        for fused in (True, False):
            q.grad = None
            out = F.attention(q, k, v, hidden, fused=fused)
            out.sum().backward()
            assert not out.data[4].any()
            assert not q.grad.data[4].any()
            assert np.isfinite(q.grad.data).all()


def test_attention_keeps_nothing_quadratic():
    q = tg.tensor(normal(50, 4), requires_grad=True)
    node = F.attention(q, q, q).grad_fn
    held = [v for v in (*node.args, node.out) if isinstance(v, np.ndarray)]
    assert max(v.size for v in held) == q.size


def test_cross_entropy_saves_once():
    """Its probabilities become the gradient in place: a second pass must not read them."""
    x, t, scale = tg.tensor(normal(9, 8), requires_grad=True), below(8, 9), positive(9)
    loss = COMPOSED["cross_entropy"](x, t, scale)
    loss.backward()
    expected, x.grad = x.grad.data, None
    loss = table.cross_entropy(x, t, scale)
    node = loss.grad_fn
    assert node.params["saved"][0][0] is x.data
    loss.backward(retain_graph=True)
    first, kept = x.grad.data, x.grad.data.copy()
    assert node.params["saved"] == []
    np.testing.assert_allclose(first, expected, rtol=0, atol=1e-15)
    x.grad = None
    loss.backward(retain_graph=True)
    assert not np.shares_memory(first, x.grad.data)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(first, x.grad.data)
    x.grad = None
    node.primitive.forward(x.data + 1e3 * X, t, scale, **node.params)  # as a nudged graph runs it
    loss.backward()
    np.testing.assert_array_equal(first, x.grad.data)


@pytest.mark.parametrize("function", ["cross_entropy", "layer_norm", "rms_norm"])
def test_blocks_cover_everything(function, monkeypatch):
    """With blocks of three rows, the last of which is shorter, as without blocks."""
    args, params = SAMPLES[function][0]
    args, composed = (normal(10, 8), *args[1:]), COMPOSED[function]
    if function == "cross_entropy":
        args = args[0], below(8, 10), positive(10)
    expected, fast = run(composed, function, args, params), BY_NAME[function]
    monkeypatch.setattr(fast_paths, "CACHE", 3 * 8 * 8)
    x = tg.tensor(args[0], requires_grad=True)
    out = fast(x, *args[1:], **params)
    out.backward(np.random.default_rng(5).standard_normal(out.shape))
    np.testing.assert_allclose(out.data, expected[0].data, rtol=0, atol=1e-13)
    np.testing.assert_allclose(x.grad.data, expected[1][0], rtol=0, atol=1e-13)


def test_erf_is_precise():
    x = np.concatenate([np.linspace(-7, 7, 4001), 10.0 ** np.arange(-300, 300)])
    exact = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(F.erf(x), exact, rtol=1e-15, atol=0)
    x = x[:4001].astype(np.float32)
    exact = np.array([math.erf(v) for v in x.tolist()])
    np.testing.assert_allclose(F.erf(x), exact, rtol=3e-7, atol=0)
    np.testing.assert_array_equal(F.erf([np.nan, np.inf, -np.inf, 0.0]), [np.nan, 1, -1, 0])
    assert np.signbit(F.erf(-0.0))
    assert F.erf(1) == math.erf(1)
    assert tg.gradcheck(F.erf, X, order=2)
