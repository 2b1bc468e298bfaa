"""Every function against PyTorch in float64: values, gradients, second-order products; errors."""

import itertools

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite import functional as F
from tinygrad_lite.tensor import Node

torch = pytest.importorskip("torch")
TF = torch.nn.functional
rng = np.random.default_rng(23)


def normal(*shape):
    return rng.standard_normal(shape)


def grid(**options):
    """Every combination of the options' values."""
    return [dict(zip(options, v, strict=True)) for v in itertools.product(*options.values())]


def arrays_in(values):
    return [v for v in values if getattr(v, "dtype", None) == np.float64]


def both(ours, theirs, *args):
    """Value, gradients and second-order products of both sides, floating arrays tracked."""
    weights = np.random.default_rng(1)
    t = [tg.tensor(a, requires_grad=True) if arrays_in([a]) else a for a in args]
    out = ours(*t)
    u = [torch.tensor(a) if isinstance(a, (np.ndarray, np.generic)) else a for a in args]
    u = [x.requires_grad_() if torch.is_tensor(x) and x.is_floating_point() else x for x in u]
    expected = theirs(*u)
    assert out.shape == tuple(expected.shape)
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-9, atol=1e-11)
    leaves = [a for a in t if isinstance(a, tg.Tensor)]
    peers = [x for x in u if torch.is_tensor(x) and x.requires_grad]
    seed = weights.standard_normal(out.shape)
    out.backward(seed, create_graph=True)
    grads = torch.autograd.grad(expected, peers, torch.tensor(seed), create_graph=True)
    for a, g in zip(leaves, grads, strict=True):
        np.testing.assert_allclose(a.grad.data, g.detach().numpy(), rtol=1e-8, atol=1e-10)
    vs = [weights.standard_normal(a.shape) for a in leaves]
    ours_sum = sum(np.sum(a.grad * v) for a, v in zip(leaves, vs, strict=True))
    their_sum = sum((g * torch.tensor(v)).sum() for g, v in zip(grads, vs, strict=True))
    for a in leaves:
        a.grad = None
    if ours_sum.requires_grad:
        ours_sum.backward()
    second = [None] * len(peers)
    if their_sum.requires_grad:
        second = torch.autograd.grad(their_sum, peers, allow_unused=True)
    for a, h in zip(leaves, second, strict=True):
        mine = np.zeros(a.shape) if a.grad is None else a.grad.data
        h = torch.zeros(a.shape) if h is None else h
        assert np.isfinite(mine).all()
        if not h.isnan().any():  # PyTorch has NaN at a norm of 0
            np.testing.assert_allclose(mine, h.numpy(force=True), rtol=1e-8, atol=1e-9)


INPUTS = [
    *(normal(*shape) for shape in [(), (1,), (7,), (2, 3), (2, 3, 4), (0, 3), (2, 1, 3, 2)]),
    10 * normal(5, 3),
    0.01 * normal(8),
    normal(4, 5).T,
    np.linspace(-8, 8, 33) + 0.01,
]
SLOPES = [{"negative_slope": s} for s in (0.2, -0.5, 0.0)]
ALPHAS = [{"alpha": a} for a in (0.3, 2.0)]
ELEMENTWISE = {  # name: options; each with every input above
    **{
        name: [{}]
        for name in [
            "relu",
            "relu6",
            "selu",
            "silu",
            "mish",
            "softsign",
            "sigmoid",
            "hardsigmoid",
            "hardswish",
            "logsigmoid",
            "tanhshrink",
            "tanh",
            "erf",
        ]
    },
    "leaky_relu": [{}, *SLOPES],
    "elu": [{}, *ALPHAS],
    "celu": [{}, *ALPHAS],
    "gelu": [{}, {"approximate": "tanh"}],
    "softplus": [{}, *grid(beta=[0.5, 3.0], threshold=[1.0, 20.0])],
    "hardtanh": [{}, {"min_val": -0.3, "max_val": 2.0}],
    "threshold": grid(threshold=[-0.5, 0.1], value=[0.0, 7.0]),
}
THEIRS = {
    **{name: getattr(torch, name) for name in ("sigmoid", "tanh", "erf", "logsumexp")},
    # its own keep 1/6 and 1/alpha in single precision
    "hardsigmoid": lambda x: TF.relu6(x + 3) / 6,
    "celu": lambda x, alpha=1.0: torch.where(x > 0, x, alpha * torch.expm1(x.clamp_max(0) / alpha)),
}
CALLS = [(name, options) for name, rows in ELEMENTWISE.items() for options in rows]


def pytorch(name):
    return THEIRS.get(name) or getattr(TF, name)


@pytest.mark.parametrize(("name", "options"), CALLS)
def test_elementwise(name, options):
    ours, theirs = getattr(F, name), pytorch(name)
    for x in INPUTS:
        both(lambda x: ours(x, **options), lambda x: theirs(x, **options), x)


@pytest.mark.parametrize(("name", "options"), CALLS)
def test_elementwise_at_kinks_and_extremes(name, options):
    """PyTorch's slopes at corners; nothing overflows, warns or leaks NaN from a branch."""
    x = np.array([-1e4, -1e3, -100, -6, -3, -1, -0.5, -0.3, 0, 0.1, 0.5, 1, 2, 3, 6, 100, 1e3, 1e4])
    t, u = tg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    out, expected = getattr(F, name)(t, **options), pytorch(name)(u, **options)
    out.sum().backward(create_graph=True)
    expected.sum().backward()
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(t.grad.data, u.grad.numpy(), rtol=1e-9, atol=1e-12)
    g, t.grad = t.grad, None
    if g.requires_grad:
        g.sum().backward()
        assert np.isfinite(t.grad.data).all()
    assert np.isnan(getattr(F, name)(np.array([np.nan]), **options)).all()
    for dtype in (np.float16, np.float32):  # also where squares and cubes overflow
        t = tg.tensor(x, requires_grad=True, dtype=dtype)
        out = getattr(F, name)(t, **options)
        out.sum().backward()
        assert out.dtype == t.grad.dtype == dtype
        assert np.isfinite(t.grad.data).all()


@pytest.mark.parametrize(("name", "options"), CALLS)
def test_elementwise_takes_lists_and_numbers(name, options):
    f = getattr(F, name)
    plain = f(np.array([-2.0, 0.5]), **options)
    assert isinstance(plain, np.ndarray)
    np.testing.assert_array_equal(
        plain, f(tg.tensor([-2.0, 0.5], requires_grad=True), **options).data
    )
    np.testing.assert_array_equal(plain, f([-2.0, 0.5], **options))
    np.testing.assert_array_equal(plain[1], f(0.5, **options))
    np.testing.assert_allclose(f([-2, 3], **options), f([-2.0, 3.0], **options))
    assert f.__name__ == name
    assert f.__doc__


CUBE, ROWS, ZEROS = normal(3, 4, 6), normal(5, 7), np.array([[0.0, 0, 0], [1, 2, 2]])
AXES = (
    [(CUBE, a) for a in (0, 1, 2, -1, -3)]
    + [(4 * ROWS, a) for a in (0, 1, -1, -2)]
    + [(ROWS[0], 0)]
)


def cases():
    for x, axis in AXES:
        yield "softmax", (x,), {"axis": axis}
        yield "log_softmax", (x,), {"axis": axis}
        yield "softmin", (x,), {"axis": axis}
        yield "logsumexp", (x,), {"axis": axis, "keepdims": axis < 0}
        yield "normalize", (x,), {"axis": axis, "p": [1, 2, 3.0][axis % 3], "eps": 0.3}
        other = normal(*x.shape)
        yield "cosine_similarity", (x, other), {"axis": axis}
        yield "glu", (np.concatenate([x, other], axis),), {"axis": axis}
    yield "softmax", (100 * ROWS,), {}
    yield "log_softmax", (100 * ROWS,), {}
    yield "logsumexp", (CUBE,), {"axis": (0, 2)}
    yield "normalize", (ZEROS,), {}
    yield "normalize", (CUBE,), {"axis": (1, 2)}
    yield "normalize", (CUBE,), {"p": np.inf}
    yield "cosine_similarity", (ROWS, normal(1, 7)), {}
    yield "cosine_similarity", (ROWS, normal(7)), {"axis": -1, "eps": 0.01}
    for p, eps, keepdims in itertools.product([1.0, 2.0, 3.0], [1e-6, 0.1], [False, True]):
        yield "pairwise_distance", (ROWS, normal(5, 7)), {"p": p, "eps": eps, "keepdims": keepdims}
    yield "pairwise_distance", (CUBE, normal(6)), {}
    yield "pairwise_distance", (ZEROS, ZEROS), {"eps": 0.0}
    channels = [
        ((5, 4), 1),
        ((5, 4), 4),
        ((2, 3, 4), 3),
        ((2, 3, 4), 1),
        ((2, 3, 2, 2), 3),
        ((4,), 1),
    ]
    for shape, n in [*channels, ((1, 2), 2), ((3, 1), 1), ((2, 6, 1), 6), ((0, 3), 3)]:
        yield "prelu", (normal(*shape), normal(n)), {}


def in_their_words(name, options):
    words = {"axis": "dim", "keepdims": "keepdim"}
    options = {words.get(k, k): v for k, v in options.items()}
    if name in ("softmax", "log_softmax", "softmin"):
        options.setdefault("dim", -1)
    return options


@pytest.mark.parametrize(("name", "args", "options"), list(cases()))
def test_along_an_axis(name, args, options):
    theirs = in_their_words(name, options)
    both(lambda *a: getattr(F, name)(*a, **options), lambda *a: pytorch(name)(*a, **theirs), *args)
    single = getattr(F, name)(*[a.astype(np.float32) for a in args], **options)
    assert single.dtype == np.float32
    assert not isinstance(single, tg.Tensor)


def test_norms_below_eps():
    """The slope of what is computed; PyTorch's cosine_similarity forgets that a norm was replaced."""
    small = 0.1 * ROWS
    assert tg.gradcheck(lambda x, y: F.cosine_similarity(x, y, eps=5.0), small, ROWS, order=2)
    both(lambda x: F.normalize(x, eps=5.0), lambda x: TF.normalize(x, eps=5.0), small)


def test_prelu_at_zero_and_its_errors():
    x, w = (tg.tensor(a, requires_grad=True) for a in ([[0.0, -1, 2]], [0.3, 0.2, 0.1]))
    F.prelu(x, w).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [[0.3, 0.2, 1]])
    np.testing.assert_array_equal(w.grad.data, [0, -1, 0])
    with pytest.raises(ValueError, match=r"prelu: expected 1 weight or \(3,\), got \(2,\)"):
        F.prelu(np.zeros((2, 3)), np.zeros(2))


# Edges and indices

PADS = [
    *[(CUBE, pad, "constant", {}) for pad in [(1, 2), (0, 0), (1, 0, 2, 1), (-1, 2), (1, 1, -1, -1)]],
    *[(CUBE, (2, 1, 0, 1, 1, 0), "constant", {"value": v}) for v in (0.0, 3.0, -1.5, 7)],
    (ROWS, (-2, -3, 1, 1), "constant", {"value": 2.0}),
    *[(CUBE, pad, mode, {}) for mode in ("reflect", "replicate", "circular")
      for pad in [(1, 2), (0, 1), (3, 3), (2, 0)]],
    *[(CUBE[None], pad, mode, {}) for mode in ("reflect", "replicate", "circular")
      for pad in [(1, 2, 2, 1), (0, 5, 3, 3), (5, 0, 0, 0), (1, 1, 0, 2), (4, 4, 1, 1), (0, 0, 1, 2)]],
    (CUBE[None], (-1, 2, 1, -2), "circular", {}),
]  # fmt: skip


@pytest.mark.parametrize(("x", "pad", "mode", "options"), PADS)
def test_pad(x, pad, mode, options):
    both(lambda x: F.pad(x, pad, mode, **options), lambda x: TF.pad(x, pad, mode, **options), x)
    assert F.pad(x.astype(np.float32), pad, mode, **options).dtype == np.float32


@pytest.mark.parametrize("n", [-1, 5, 9])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 0, 3)])
def test_one_hot(n, shape):
    labels = rng.integers(0, 5, shape)
    if n > 0 or labels.size:
        expected = TF.one_hot(torch.tensor(labels), n).numpy()
        np.testing.assert_array_equal(F.one_hot(labels, n), expected)
        np.testing.assert_array_equal(F.one_hot(tg.tensor(labels), n), expected)
        if labels.size:
            np.testing.assert_array_equal(F.one_hot(labels.tolist(), n), expected)
        assert F.one_hot(labels, n).dtype == np.int64


@pytest.mark.parametrize("padding_idx", [None, 0, 3, -1])
@pytest.mark.parametrize("shape", [(), (6,), (2, 3), (30,), (0,)])
def test_embedding(shape, padding_idx):
    ids, weight = rng.integers(0, 5, shape), normal(5, 4)
    theirs = lambda w: TF.embedding(torch.tensor(ids), w, padding_idx)  # noqa: E731
    both(lambda w: F.embedding(ids, w, padding_idx), theirs, weight)
    both(lambda w: F.embedding(tg.tensor(ids), w, padding_idx, fused=False), theirs, weight)
    wide = normal(5, 300)  # with small integers: 4 * 300 does not fit into one
    both(
        lambda w: F.embedding(ids.astype(np.uint8), w),
        lambda w: TF.embedding(torch.tensor(ids), w),
        wide,
    )
    assert F.embedding(ids, weight.astype(np.float32)).dtype == np.float32


# Chance


@pytest.mark.parametrize("shape", [(), (5,), (300, 40)])
@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_dropout(p, shape):
    x = tg.tensor(1 + normal(*shape) ** 2, requires_grad=True)
    out = F.dropout(x, p, rng=np.random.default_rng(3))
    out.sum().backward()
    kept = out.data != 0
    scale = 1 / (1 - p) if p < 1 else 0
    np.testing.assert_allclose(out.data, x.data * kept * scale)
    np.testing.assert_allclose(x.grad.data, kept * scale)
    if x.size > 100:
        assert abs(kept.mean() - (1 - p)) < 0.02
    again = F.dropout(x.data, p, rng=np.random.default_rng(3), fused=False)
    np.testing.assert_array_equal(again, out.data)
    assert F.dropout(x, p, training=False) is x
    assert F.dropout(x.data.astype(np.float32), p).dtype == np.float32
    tg.manual_seed(4)
    first = F.dropout(x.data, p)
    tg.manual_seed(4)
    np.testing.assert_array_equal(F.dropout(x.data, p), first)


# Layers' arithmetic

LINEAR = [
    (x, n, bias)
    for x in (ROWS, CUBE, ROWS[0], normal(2, 1, 3, 4), normal(0, 3))
    for n, bias in [(1, True), (4, True), (4, False)]
]


@pytest.mark.parametrize(("x", "n", "bias"), LINEAR)
@pytest.mark.parametrize("fused", [True, False])
def test_linear(x, n, bias, fused):
    args = (x, normal(n, x.shape[-1]), normal(n) if bias else None)
    both(lambda *a: F.linear(*a, fused=fused), TF.linear, *args)
    both(lambda *a: F.linear_relu(*a, fused=fused), lambda *a: TF.linear(*a).relu(), *args)


def test_linear_relu_at_zero():
    both(F.linear_relu, lambda *a: TF.linear(*a).relu(), np.zeros((2, 3)), normal(4, 3), None)


IMAGE = normal(4, 6, 3, 2)
LAYER = [
    (x, shape, weight, bias, eps)
    for x, shape in [(ROWS, 7), (ROWS, (5, 7)), (CUBE, [6]), (CUBE, (4, 6)), (IMAGE, (6, 3, 2))]
    for weight, bias, eps in [(True, True, 1e-5), (True, False, 0.1), (False, False, 1e-5)]
]


@pytest.mark.parametrize(("x", "shape", "weight", "bias", "eps"), LAYER)
@pytest.mark.parametrize("fused", [True, False])
def test_layer_norm_and_rms_norm(x, shape, weight, bias, eps, fused):
    full = (shape,) if isinstance(shape, int) else tuple(shape)
    w, b = normal(*full) if weight else None, normal(*full) if bias else None
    both(
        lambda x, w, b: F.layer_norm(x, shape, w, b, eps, fused=fused),
        lambda x, w, b: TF.layer_norm(x, full, w, b, eps), x, w, b,
    )  # fmt: skip
    for eps_ in (None, eps):
        both(
            lambda x, w, e=eps_: F.rms_norm(x, shape, w, e, fused=fused),
            lambda x, w, e=eps_: TF.rms_norm(x, full, w, e), x, w,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("x", "groups"), [(IMAGE, 1), (IMAGE, 3), (IMAGE, 6), (CUBE, 2), (ROWS, 7)]
)
@pytest.mark.parametrize(("weight", "eps"), [(True, 1e-5), (False, 0.1), (True, 0.5)])
def test_group_norm(x, groups, weight, eps):
    w, b = (normal(x.shape[1]), normal(x.shape[1])) if weight else (None, None)
    for fused in (True, False):
        both(
            lambda x, w, b, fused=fused: F.group_norm(x, groups, w, b, eps, fused=fused),
            lambda x, w, b: TF.group_norm(x, groups, w, b, eps), x, w, b,
        )  # fmt: skip


@pytest.mark.parametrize("x", [IMAGE, CUBE, ROWS, normal(2, 1, 3), normal(1, 2, 4)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("weight", "momentum", "eps"), [(True, 0.1, 1e-5), (False, 0.3, 0.1), (True, 1.0, 0.5)]
)
def test_batch_norm(x, training, weight, momentum, eps):
    c = x.shape[1]
    w, b = (normal(c), normal(c)) if weight else (None, None)
    mean, var = normal(c), rng.uniform(0.5, 2, c)
    for fused in (True, False):
        ours, theirs = (mean.copy(), var.copy()), (torch.tensor(mean), torch.tensor(var))
        both(
            lambda x, w, b, o=ours, f=fused: F.batch_norm(
                x, *o, w, b, training, momentum, eps, fused=f
            ),
            lambda x, w, b, t=theirs: TF.batch_norm(x, *t, w, b, training, momentum, eps),
            x, w, b,
        )  # fmt: skip
        for a, t in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, t.numpy(), rtol=1e-12)
    both(
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda x: TF.batch_norm(x, None, None, training=True), x,
    )  # fmt: skip


Q, K, V = normal(2, 3, 5, 4), normal(2, 3, 6, 4), normal(2, 3, 6, 7)
SEEN = rng.uniform(size=(5, 6)) > 0.4
SEEN[:, 2] = True
PARTLY = np.where(SEEN, normal(5, 6), -np.inf)
ATTENTION = [
    ((q, k, v, mask), options)
    for q, k, v in [(Q, K, V), (Q[0], K[0], V[0]), (Q[0, 0], K[0, 0], V[0, 0])]
    for mask, options in [
        (None, {}),
        (None, {"scale": 0.3}),
        (None, {"is_causal": True}),
        (SEEN, {}),
        (normal(5, 6), {"scale": 2.0}),
    ]
] + [
    ((Q, K[:, :1], V[:1], None), {}),
    ((Q, K, V, SEEN[None, None] & np.ones((2, 1, 1, 1), bool)), {}),
    ((Q, K, V, normal(2, 1, 5, 6)), {}),
    ((Q, K, V, np.arange(5)[:, None] > np.arange(6)), {}),  # the first query sees nothing
]


@pytest.mark.parametrize(("args", "options"), ATTENTION)
@pytest.mark.parametrize("fused", [True, False])
def test_attention(args, options, fused):
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        both(
            lambda *a: F.attention(*a, **options, fused=fused),
            lambda *a: TF.scaled_dot_product_attention(*a, **options),
            *args,
        )


def test_attention_with_infinite_mask_and_dropout():
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        both(
            lambda *a: F.attention(*a, tg.tensor(PARTLY)),
            lambda *a: TF.scaled_dot_product_attention(*a, torch.tensor(PARTLY)), Q, K, V,
        )  # fmt: skip
    seed = np.random.default_rng
    args = [a.astype(np.float32) for a in (Q, K, V)]
    out = F.attention(*args, dropout_p=0.4, rng=seed(2))
    assert out.dtype == np.float32
    weights = TF.softmax(torch.tensor(Q @ K.swapaxes(-1, -2) / 2), -1).numpy()
    kept = seed(2).random((2, 3, 5, 6), np.float32) >= 0.4
    np.testing.assert_allclose(out, (weights * kept / 0.6) @ V, rtol=1e-4)
    np.testing.assert_array_equal(F.attention(Q, K, V, dropout_p=1.0), np.zeros((2, 3, 5, 7)))
    assert F.scaled_dot_product_attention is F.attention


# One node each, where a fast path is meant


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda t: F.linear(t, np.ones((2, 6))), "linear"),
        (lambda t: F.linear_relu(t, np.ones((2, 6))), "linear_relu"),
        (lambda t: F.layer_norm(t, 6, np.ones(6)), "layer_norm"),
        (lambda t: F.rms_norm(t, 6), "rms_norm"),
        (lambda t: F.batch_norm(t, None, None, training=True), "batch_norm"),
        (lambda t: F.group_norm(t, 2), "group_norm"),
        (lambda t: F.attention(t, t, t, is_causal=True), "attention"),
        (lambda t: F.embedding([1, 2], t[0]), "embedding"),
        (lambda t: F.dropout(t), "dropout"),
        (lambda t: F.gelu(t), "gelu"),
        (lambda t: F.gelu(t, "tanh"), "gelu_tanh"),
        *[
            (getattr(F, n), n)
            for n in ["sigmoid", "silu", "softplus", "erf", "logsumexp", "softmax"]
        ],
    ],
)
def test_records_one_node(call, name):
    t = tg.tensor(CUBE, requires_grad=True)
    node = call(t).grad_fn
    assert node.name == name
    assert all(p.name in ("leaf", "getitem") for p in node.parents if isinstance(p, Node))


# Errors. Nothing is changed when something is refused.


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.gelu(CUBE, "sigmoid"), ValueError, "must be 'none' or 'tanh', got 'sigmoid'"),
        (lambda: F.glu(ROWS), ValueError, r"axis -1 of shape \(5, 7\)"),
        (lambda: F.relu6("text"), TypeError, "expected numbers"),
        (lambda: F.pad(ROWS, (1, 1), "mirror"), ValueError, "constant, reflect, replicate, circ"),
        (lambda: F.pad(ROWS, (1, 1), "reflect", 3.0), ValueError, "mode='reflect' with value=3.0"),
        (lambda: F.pad(ROWS, (1, 1, 1)), ValueError, r"pairs \(before, after\), got \(1, 1, 1\)"),
        (lambda: F.pad(ROWS, (1,) * 6), ValueError, "up to 2 pairs"),
        (lambda: F.pad(ROWS, (7, 0), "reflect"), ValueError, r"reflect cannot add 7 and 0 .* \(5, 7\)"),
        (lambda: F.pad(ROWS, (0, 8), "circular"), ValueError, "circular cannot add 0 and 8"),
        (lambda: F.pad(ROWS, (-4, -4)), ValueError, "cannot add -4 and -4"),
        (lambda: F.one_hot([0.0, 1.0]), TypeError, "labels must be integers, got float64"),
        (lambda: F.one_hot([[0, 3]], 3), IndexError, r"labels\[0, 1\] = 3, .* 3 \(0 to 2\)"),
        (lambda: F.one_hot([0, -2]), IndexError, r"labels\[1\] = -2"),
        (lambda: F.one_hot(np.zeros(0, int)), ValueError, "pass num_classes="),
        (lambda: F.embedding([0.5], ROWS), TypeError, "ids must be integers, got float64"),
        (lambda: F.embedding([[0, 1], [5, 9]], ROWS), IndexError, r"ids\[1, 0\] = 5.*5 \(0 to 4\)"),
        (lambda: F.embedding([1, -1], ROWS), IndexError, r"ids\[1\] = -1"),
        (lambda: F.embedding([1], CUBE), ValueError, r"\(n, dim\), got \(3, 4, 6\)"),
        (lambda: F.embedding([1], ROWS, 5), IndexError, r"padding_idx = 5, but weight has 5 \(0"),
        (lambda: F.dropout(ROWS, 1.5), ValueError, "p must be a probability, from 0 to 1, got 1.5"),
        (lambda: F.dropout(ROWS, -0.1, training=False), ValueError, "got -0.1"),
        (lambda: F.dropout(ROWS, rng=3), TypeError, "must be a NumPy Generator, got int"),
        (lambda: F.linear(ROWS, normal(3, 6)), ValueError, r"x \(5, 7\) and weight \(3, 6\)"),
        (lambda: F.linear(ROWS, normal(7)), ValueError, r"\(outputs, features\), got"),
        (lambda: F.linear(1.5, normal(7, 1)), ValueError, r"x \(\)"),
        (lambda: F.linear_relu(ROWS, normal(3, 7), normal(7)), ValueError, r"bias of shape \(3,\)"),
        (lambda: F.layer_norm(ROWS, 5), ValueError, r"layer_norm: .* to be \(5,\), got x \(5, 7\)"),
        (lambda: F.layer_norm(ROWS, 7, normal(5)), ValueError, r"weight of shape \(7,\), got \(5,\)"),
        (lambda: F.rms_norm(ROWS, (1, 5, 7)), ValueError, r"rms_norm: .*\(1, 5, 7\)"),
        (lambda: F.layer_norm(ROWS, ()), ValueError, "layer_norm: .*"),
        (lambda: F.group_norm(IMAGE, 4), ValueError, r"axis 1 of x \(4, 6, 3, 2\) .* 4 groups"),
        (lambda: F.group_norm(IMAGE, 3, bias=normal(3)), ValueError, r"bias of shape \(6,\)"),
        (lambda: F.batch_norm(ROWS[0], None, None), ValueError, r"got \(7,\)"),
        (lambda: F.batch_norm(ROWS[:1], None, None, training=True), ValueError, r"got \(1, 7\)"),
        (lambda: F.batch_norm(ROWS, None, None), TypeError, r"be ndarrays, got \(None, None\)"),
        (lambda: F.batch_norm(ROWS, [0.0] * 7, None, training=True), TypeError, "be ndarrays"),
        (lambda: F.batch_norm(ROWS, normal(6), normal(7)), ValueError, r"mean of shape \(7,\), got \(6,\)"),
        (lambda: F.attention(Q, K[..., :3], V), ValueError, r"got \(2, 3, 5, 4\), \(2, 3, 6, 3\)"),
        (lambda: F.attention(Q, K, V[:, :, :5]), ValueError, r"and \(2, 3, 5, 7\)"),
        (lambda: F.attention(ROWS[0], ROWS, ROWS), ValueError, r"expected q"),
        (lambda: F.attention(Q, K, V, SEEN, is_causal=True), ValueError, "not both"),
        (lambda: F.attention(Q, K, V, SEEN.astype(int)), TypeError, "attn_mask must be bool"),
        (lambda: F.attention(Q, K, V, SEEN[:3]), ValueError, r"\(3, 6\)"),
        (lambda: F.attention(Q, K, V, normal(4, 2, 3, 5, 6)), ValueError, "attn_mask"),
        (lambda: F.attention(Q, K, V, dropout_p=2), ValueError, "dropout_p must be a probability"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_batch_norm_refuses_before_it_changes_anything():
    mean, var = np.zeros(7), np.ones(7)
    for args in [(mean, var[:3]), (mean, var, normal(3)), (mean, tg.tensor(var))]:
        with pytest.raises((ValueError, TypeError)):
            F.batch_norm(ROWS, *args, training=True)
    assert not mean.any()


def test_dim_is_axis_here():
    with pytest.raises(TypeError, match="softmax: write axis= for dim="):
        F.softmax(np.ones(3), dim=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64])
def test_integers_count_as_float64(dtype):
    """Differences of bytes wrap, and NumPy's exp of them is half precision."""
    x, y = np.array([[1, 100, 3]], dtype), np.array([[2, 90, 7]], dtype)
    for f in (F.sigmoid, F.softmax, F.log_softmax, F.silu, F.tanh, F.elu, F.logsumexp, F.softmin):
        np.testing.assert_array_equal(f(x), f(x.astype(float)), strict=True)
    for f in (F.pairwise_distance, F.cosine_similarity):
        np.testing.assert_array_equal(f(x, y), f(x.astype(float), y.astype(float)), strict=True)
    for f in (F.rms_norm, F.layer_norm):
        np.testing.assert_array_equal(f(x, 3), f(x.astype(float), 3), strict=True)


@pytest.mark.parametrize("fused", [True, False])
def test_group_norm_of_an_empty_batch(fused):
    x = tg.tensor(np.zeros((0, 4, 3)), requires_grad=True)
    w = tg.tensor(np.ones(4), requires_grad=True)
    F.group_norm(x, 2, w, fused=fused).sum().backward()
    assert x.grad.shape == (0, 4, 3)
    np.testing.assert_array_equal(w.grad.data, 0)
