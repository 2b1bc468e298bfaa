"""Every loss three ways, and against PyTorch; closed forms; extremes; bad targets."""

import functools
import inspect
import itertools

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite import losses
from tinygrad_lite.fused import COMPOSED
from tinygrad_lite.tensor import Node

rng = np.random.default_rng(3)
N, C = 9, 8  # 72 entries: more than an engine keeps for pictures, so `saves` is tested too
X, Y, Z = (rng.standard_normal((N, C)) * 2 for _ in range(3))
P, Q = (rng.uniform(0.02, 0.98, (N, C)) for _ in range(2))
SIGNS, SIGN = np.sign(Y), np.sign(Y[:, 0])
LABELS = rng.integers(0, C, N)
SOFT = np.exp(Y) / np.exp(Y).sum(1, keepdims=True)
W = rng.uniform(0.2, 2, C)
IMAGE, IMAGE_LABELS = rng.standard_normal((3, 4, 5, 2)), rng.integers(0, 4, (3, 5, 2))
IGNORED = np.where(np.arange(N) % 4 == 1, -100, LABELS)
REDUCTIONS = ("mean", "sum", "none")


def grid(**options):
    """Every combination of the options' values."""
    return [dict(zip(options, v, strict=True)) for v in itertools.product(*options.values())]


# name: [(differentiable arguments, constant ones)], options. PyTorch's function of the same name
# is the oracle.
CASES = {
    "mse_loss": ([((X, Y), ())], grid(reduction=REDUCTIONS, weight=[None, P, Q, P * Q])),
    "l1_loss": ([((X, Y), ())], grid(reduction=REDUCTIONS, weight=[None, P, Q, P * Q])),
    "smooth_l1_loss": ([((X, Y), ())], grid(reduction=REDUCTIONS, beta=[0.0, 0.3, 1.0, 2.5])),
    "huber_loss": ([((X, Y), ())], grid(reduction=REDUCTIONS, delta=[0.4, 1.0], weight=[None, P])),
    "poisson_nll_loss": (
        [((np.maximum(X, -2), 3 * P), ()), ((P, 4 * Q), ())],
        [
            o | {"log_input": log, "eps": eps}
            for log, eps in [(True, 1e-8), (False, 2.5), (False, 5.0)]
            for o in grid(reduction=REDUCTIONS, full=[False, True])
        ],
    ),
    "gaussian_nll_loss": (
        [((X, Y, P), ()), ((X, Y, P[:, 0]), ()), ((X, Y, P[:, :1]), ()), ((X, Y, 1e-9 * P), ())],
        grid(reduction=REDUCTIONS, full=[False, True]),
    ),
    "binary_cross_entropy": ([((P, Q), ())], grid(reduction=REDUCTIONS, weight=[None, W, Q, P[:, :1]])),
    "binary_cross_entropy_with_logits": (
        [((X, Q), ())],
        grid(reduction=REDUCTIONS, weight=[None, W], pos_weight=[None, W + 0.5]),
    ),
    "kl_div": (
        [((X, Q), ()), ((X, np.where(Q > 0.5, Q, 0.1)), ())],
        grid(reduction=(*REDUCTIONS, "batchmean"), log_target=[False, True]),
    ),
    "hinge_embedding_loss": ([((X,), (SIGNS,))], grid(reduction=REDUCTIONS, margin=[0.2, 1, 1.5, 3])),
    "soft_margin_loss": (
        [((X * k,), (SIGNS,)) for k in (0.1, 1, 3, 10)], grid(reduction=REDUCTIONS)
    ),
    "multi_margin_loss": (
        [((X,), (LABELS,)), ((X[0],), (LABELS[0],))],
        grid(reduction=REDUCTIONS, p=[1, 2], margin=[0.5, 1.0], weight=[None, W]),
    ),
    "multilabel_soft_margin_loss": (
        [((X,), ((SIGNS + 1) / 2,)), ((X[0],), ((SIGNS[0] + 1) / 2,))],
        grid(reduction=REDUCTIONS, weight=[None, W]),
    ),
    "margin_ranking_loss": (
        [((X, Y), (np.sign(Z),))], grid(reduction=REDUCTIONS, margin=[0.0, 0.3, 1.0, -0.5])
    ),
    "cosine_embedding_loss": (
        [((X, Y), (SIGN,)), ((X[0], Y[0]), (SIGN[0],))],
        grid(reduction=REDUCTIONS, margin=[0.0, 0.2, -0.3]),
    ),
    "triplet_margin_loss": (
        [((X, Y, Z), ())],
        grid(reduction=REDUCTIONS, margin=[0.5, 2.0], p=[1.5, 2, 3], swap=[False, True]),
    ),
    "nll_loss": (
        [((X,), (LABELS,)), ((X,), (IGNORED,)), ((IMAGE,), (IMAGE_LABELS,)), ((X[0],), (LABELS[0],))],
        [
            *grid(reduction=REDUCTIONS),
            *grid(reduction=REDUCTIONS, weight=[W], ignore_index=[-100, 2]),
        ],
    ),
    "cross_entropy": (
        [
            ((X,), (LABELS,)),
            ((X,), (IGNORED,)),
            ((X, SOFT), ()),
            ((IMAGE,), (IMAGE_LABELS,)),
            ((IMAGE, np.abs(IMAGE[::-1])), ()),
            ((X[0],), (LABELS[0],)),
        ],
        [
            *grid(reduction=REDUCTIONS, label_smoothing=[0.0, 0.1]),
            *grid(reduction=REDUCTIONS, label_smoothing=[0.0, 0.2], weight=[W]),
            *grid(reduction=REDUCTIONS, label_smoothing=[0.0, 0.2], ignore_index=[2]),
        ],
    ),
}  # fmt: skip


def _can_ignore(variables, constants, ignore_index, **_):
    """PyTorch wants class indices then; and IGNORED names -100."""
    if not constants or (constants[0] is IGNORED and ignore_index != -100):
        return False
    return np.any(constants[0] != ignore_index)


ALL = [
    (name, i, j)
    for name, (inputs, options) in CASES.items()
    for i in range(len(inputs))
    for j in range(len(options))
    if "ignore_index" not in options[j] or _can_ignore(*inputs[i], **options[j])
]


def case(name, i, j):
    inputs, options = CASES[name]
    variables, constants = inputs[i]
    options = dict(options[j])
    if name in ("nll_loss", "cross_entropy") and options.get("weight") is not None:
        options["weight"] = options["weight"][: variables[0].shape[variables[0].ndim > 1]]
    return variables, constants, options


def ours(name, variables, constants, options, cotangent, v):
    """Value, gradients, and the gradients of Σ gradient * v."""
    ts = [tg.tensor(x, requires_grad=True) for x in variables]
    out = getattr(losses, name)(*ts, *constants, **options)
    out.backward(cotangent[()], create_graph=True)
    first = [t.grad for t in ts]
    total = sum(np.sum(g * w) for g, w in zip(first, v, strict=True))
    for t in ts:
        t.grad = None
    if not total.requires_grad:  # piecewise linear
        return out.numpy(), [g.numpy() for g in first], [np.zeros(t.shape) for t in ts]
    total.backward()
    second = [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in ts]
    return out.numpy(), [g.numpy() for g in first], second


def theirs(torch, name, variables, constants, options, cotangent, v):
    def convert(x):
        return torch.tensor(x) if isinstance(x, (np.ndarray, np.generic)) else x

    ts = [torch.tensor(x, requires_grad=True) for x in variables]
    options = {k: convert(x) for k, x in options.items()}
    out = getattr(torch.nn.functional, name)(*ts, *map(convert, constants), **options)
    first = torch.autograd.grad(out, ts, torch.tensor(cotangent), create_graph=True)
    total = sum((g * torch.tensor(w)).sum() for g, w in zip(first, v, strict=True))
    second = [None] * len(ts)
    if (
        name == "multi_margin_loss"
    ):  # PyTorch has no second order here: the caller takes differences
        return out.detach().numpy(), [g.detach().numpy() for g in first], None
    if total.requires_grad:
        second = torch.autograd.grad(total, ts, allow_unused=True)
    second = [
        np.zeros(t.shape) if g is None else g.clone().detach().numpy(force=True)
        for g, t in zip(second, ts, strict=True)
    ]
    return out.detach().numpy(), [g.detach().numpy() for g in first], second


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # PyTorch about its kl_div
@pytest.mark.parametrize(("name", "i", "j"), ALL)
def test_three_answers(name, i, j):
    torch = pytest.importorskip("torch")
    variables, constants, options = case(name, i, j)
    dry = getattr(losses, name)(*variables, *constants, **options)
    local = np.random.default_rng(i)
    cotangent = local.standard_normal(np.shape(dry))
    cotangent = np.asarray(cotangent)
    v = [local.standard_normal(x.shape) for x in variables]
    composed = ours(name, variables, constants, options | {"fused": False}, cotangent, v)
    fast = ours(name, variables, constants, options, cotangent, v)
    oracle = theirs(torch, name, variables, constants, options, cotangent, v)
    if oracle[2] is None:
        assert tg.gradcheck(
            lambda *xs: getattr(losses, name)(*xs, *constants, **options), *variables
        )
        oracle = (*oracle[:2], fast[2])
    for k, what in enumerate(("value", "gradients", "second-order products")):
        for a, b, c in zip(*(np.atleast_1d(r[k]) if k == 0 else r[k] for r in (composed, fast, oracle)), strict=True):  # fmt: skip
            scale = 1 + np.abs(c).max(initial=0)
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * scale, err_msg=f"fused {what}")
            np.testing.assert_allclose(b, c, rtol=0, atol=1e-10 * scale, err_msg=f"torch {what}")


def test_every_loss_is_tested():
    public = {n for n, f in vars(losses).items() if inspect.isfunction(f) and f.__module__ == losses.__name__ and n[0] != "_"}  # fmt: skip
    here = {
        "squared_error",
        "sigmoid_cross_entropy",
        "focal_loss",
        "am_softmax_loss",
        "arcface_loss",
    }
    assert public == set(CASES) | here
    assert all(len(inputs) * len(options) >= 10 for inputs, options in CASES.values())
    assert all("radient" in getattr(losses, n).__doc__ for n in public), "a closed form each"


# Closed forms, by NumPy alone


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sigma(x):
    return 1 / (1 + np.exp(-x))


def unit(v, p):
    return np.sign(v) * (np.abs(v) / np.linalg.norm(v, ord=p, axis=1, keepdims=True)) ** (p - 1)


ONE_HOT = np.eye(C)[LABELS]
NORMS = [np.linalg.norm(v, axis=1, keepdims=True) for v in (X, Y)]
COS = np.sum(X * Y, 1, keepdims=True) / (NORMS[0] * NORMS[1])
VIOLATION = np.where((ONE_HOT == 0) & (1 - X[np.arange(N), LABELS][:, None] + X > 0), 1.0, 0)
DIFF = X - Y
ANGLES = np.clip(X / 8, -0.99, 0.99)
ANGLES[:2] = np.where(ONE_HOT[:2] == 1, [[-0.95], [-0.9]], ANGLES[:2])  # past π - m
THETA = np.arccos(ANGLES)
TURNED = np.where((ONE_HOT == 1) & (THETA < np.pi - 0.5), np.cos(THETA + 0.5),
                  np.where(ONE_HOT == 1, ANGLES - 0.5 * np.sin(0.5), ANGLES))  # fmt: skip
TURN = np.where((ONE_HOT == 1) & (THETA < np.pi - 0.5), np.sin(THETA + 0.5) / np.sin(THETA), 1)
ACTIVE = (0.5 + np.linalg.norm(X - Y + 1e-6, axis=1) - np.linalg.norm(X - Z + 1e-6, axis=1) > 0)[
    :, None
]

# name: (input, other arguments, options, the gradient by the input, derived on paper)
CLOSED = {
    "squared_error": (X, (Y,), {}, DIFF),
    "mse_loss": (X, (Y,), {}, 2 * DIFF / DIFF.size),
    "l1_loss": (X, (Y,), {}, np.sign(DIFF) / DIFF.size),
    "smooth_l1_loss": (X, (Y,), {"beta": 0.5}, np.clip(DIFF / 0.5, -1, 1) / DIFF.size),
    "huber_loss": (X, (Y,), {"delta": 0.5}, np.clip(DIFF, -0.5, 0.5) / DIFF.size),
    "poisson_nll_loss": (X, (P,), {"full": True}, (np.exp(X) - P) / X.size),
    "gaussian_nll_loss": (X, (Y, P), {}, DIFF / P / X.size),
    "binary_cross_entropy": (P, (Q,), {}, (P - Q) / (P * (1 - P)) / P.size),
    "binary_cross_entropy_with_logits": (X, (Q,), {}, (sigma(X) - Q) / X.size),
    "sigmoid_cross_entropy": (X, (Q,), {}, (sigma(X) - Q) / N),
    "kl_div": (X, (Q,), {"reduction": "batchmean"}, -Q / N),
    "hinge_embedding_loss": (X, (SIGNS,), {}, np.where(SIGNS > 0, 1, -1.0 * (X < 1)) / X.size),
    "soft_margin_loss": (X, (SIGNS,), {}, -SIGNS * sigma(-SIGNS * X) / X.size),
    "margin_ranking_loss": (X, (Y, SIGNS), {}, -SIGNS * (SIGNS * DIFF < 0) / X.size),
    "focal_loss": (X, (Q > 0.5,), {"gamma": 0.0, "alpha": 0.5}, 0.5 * (sigma(X) - (Q > 0.5)) / X.size),
    "cosine_embedding_loss": (
        X, (Y, np.ones(N)), {}, -(Y / (NORMS[0] * NORMS[1]) - COS * X / NORMS[0] ** 2) / N
    ),
    "triplet_margin_loss": (
        X, (Y, Z), {"margin": 0.5}, ACTIVE * (unit(X - Y + 1e-6, 2) - unit(X - Z + 1e-6, 2)) / N
    ),
    "cross_entropy": (X, (LABELS,), {}, (softmax(X) - ONE_HOT) / N),
    "nll_loss": (X, (LABELS,), {}, -ONE_HOT / N),
    "multi_margin_loss": (
        X, (LABELS,), {}, (VIOLATION - ONE_HOT * VIOLATION.sum(1, keepdims=True)) / (N * C)
    ),
    "multilabel_soft_margin_loss": (X, (Q > 0.5,), {}, (sigma(X) - (Q > 0.5)) / X.size),
    "am_softmax_loss": (ANGLES, (LABELS,), {}, 30 * (softmax(30 * (ANGLES - 0.35 * ONE_HOT)) - ONE_HOT) / N),
    "arcface_loss": (ANGLES, (LABELS,), {}, 64 * TURN * (softmax(64 * TURNED) - ONE_HOT) / N),
}  # fmt: skip


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name, fused):
    x, args, options, expected = CLOSED[name]
    t = tg.tensor(x, requires_grad=True)
    out = getattr(losses, name)(t, *args, **options, fused=fused)
    out.backward()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(t.grad.data, expected, rtol=0, atol=1e-12 * scale)
    assert out.item() == pytest.approx(
        getattr(losses, name)(x, *args, **options, fused=not fused), rel=1e-12
    )


def test_every_loss_has_a_closed_form():
    assert set(CLOSED) == set(CASES) | {"squared_error", "sigmoid_cross_entropy", "focal_loss", "am_softmax_loss", "arcface_loss"}  # fmt: skip


@pytest.mark.parametrize("i", range(12))
def test_losses_without_a_twin_in_pytorch(i):
    """Against central differences, which know nothing of the formulas, composed and fused."""
    local = np.random.default_rng(i)
    x, t = local.uniform(-0.9, 0.9, (4, 5)), local.integers(0, 5, 4)
    scale = local.uniform(1, 20)
    options = {"reduction": ["mean", "sum", "none", "batchmean"][i % 4]}
    for fused in (True, False):
        o = options | {"fused": fused}
        assert tg.gradcheck(lambda x: losses.focal_loss(x * 5, x > 0, i / 12, i / 4, **o), x)
        assert tg.gradcheck(lambda x: losses.am_softmax_loss(x, t, i / 20, scale, **o), x)
        assert tg.gradcheck(lambda x: losses.arcface_loss(x, t, i / 20, scale, **o), x)
        assert tg.gradcheck(lambda x: losses.squared_error(x, x[::-1] ** 2, **o), x)
        assert tg.gradcheck(lambda x: losses.sigmoid_cross_entropy(x, np.abs(x), **o), x)


# The numbers that must come out

MATRIX = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0]])


def test_the_known_numbers():
    for fused in (True, False):
        loss = functools.partial(losses.cross_entropy, target=[1, 2], fused=fused)
        g = tg.grad(loss)(MATRIX.astype(np.float32))
        assert str(g).split() == (
            [
                "[[",
                "0.04501529",
                "-0.37763578",
                "0.33262047]",
                "[",
                "0.00793812",
                "0.05865521",
                "-0.06659332]]",
            ]
        )
        np.testing.assert_allclose(tg.grad(loss)(MATRIX), g, atol=2e-8)
        g = tg.grad(lambda y: losses.squared_error(y, 0 * MATRIX, fused=fused))(MATRIX)
        np.testing.assert_array_equal(g, MATRIX)


@pytest.mark.parametrize("seed", range(20))
def test_four_gradients_of_softmax_cross_entropy(seed):
    local = np.random.default_rng(seed)
    x, t = local.standard_normal((5, 7)) * 3, local.integers(0, 7, 5)
    jacobians = tg.jacobian(tg.functional.softmax)(x)
    p = softmax(x)
    by_chain = np.zeros_like(x)
    for i in range(5):
        block = jacobians[i, :, i]
        np.testing.assert_allclose(block, np.diag(p[i]) - np.outer(p[i], p[i]), rtol=0, atol=1e-15)
        by_chain[i] = (-1 / (5 * p[i, t[i]])) * block[t[i]]
    closed = (p - np.eye(7)[t]) / 5
    composed, fast = (
        tg.grad(lambda x, fused=fused: losses.cross_entropy(x, t, fused=fused))(x)
        for fused in (False, True)
    )
    scale = np.abs(closed).max()
    for a, b in itertools.combinations((by_chain, composed, fast, closed), 2):
        assert np.abs(a - b).max() <= 1e-15 * scale


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("size", [1e3, 1e4])
def test_extreme_logits_stay_exact(size, fused):
    x = np.array([[size, -size, 0.0], [-size, size, -size]])
    value, g = tg.value_and_grad(
        lambda x: losses.cross_entropy(x, [1, 1], reduction="sum", fused=fused)
    )(x)
    assert value == 2 * size
    np.testing.assert_array_equal(g, [[1, -1, 0], [0, 0, 0]])
    t = np.array([[0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    value, g = tg.value_and_grad(
        lambda x: losses.binary_cross_entropy_with_logits(x, t, reduction="sum", fused=fused)
    )(x)
    assert value == size * 4 + np.log(2)
    np.testing.assert_array_equal(g, [[1, -1, 0], [0, 1, -1]])
    h = tg.hvp(lambda x: losses.cross_entropy(x, [1, 1], fused=fused))(x, np.ones((2, 3)))
    np.testing.assert_array_equal(h, 0)
    focal = tg.grad(lambda x: losses.focal_loss(x, t > 0, fused=fused))(x)
    assert np.isfinite(focal).all()


@pytest.mark.parametrize("fused", [True, False])
def test_probabilities_of_0_and_1(fused):
    p, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    loss = tg.value_and_grad(
        lambda p: losses.binary_cross_entropy(p, t, reduction="none", fused=fused).sum()
    )
    value, g = loss(p)
    assert value == 200  # as PyTorch: a logarithm is no less than -100
    np.testing.assert_allclose(g, [1, -1, -1e12, 1e12], rtol=1e-12)
    x = np.log(np.array([0.5, 0.5]))
    value, g = tg.value_and_grad(lambda x: losses.kl_div(x, [0.0, 1.0], "sum", fused=fused))(x)
    assert value == np.log(2)
    np.testing.assert_array_equal(g, [0, -1])


@pytest.mark.parametrize("name", CLOSED)
def test_float32_stays(name):
    x, args, options, _ = CLOSED[name]
    args = [a.astype(np.float32) if np.asarray(a).dtype == float else a for a in args]
    for fused in (True, False):
        t = tg.tensor(x, requires_grad=True, dtype=np.float32)
        out = getattr(losses, name)(t, *args, **options, fused=fused)
        out.backward()
        assert out.dtype == t.grad.dtype == np.float32
        plain = getattr(losses, name)(x.astype(np.float32), *args, **options, fused=fused)
        assert plain.dtype == np.float32
        assert plain == out.data


def test_one_node():
    for name, (x, args, options, _) in CLOSED.items():
        t = tg.tensor(x, requires_grad=True)
        node = getattr(losses, name)(t, *args, **options).grad_fn
        steps = 0
        while isinstance(node, Node) and node.primitive is not None:
            steps, node = steps + 1, node.parents[0]
        allowed = {"am_softmax_loss": 3, "arcface_loss": 9}  # they bend the logits first
        assert steps <= allowed.get(name, 1), name


def test_reductions():
    each = losses.mse_loss(X, Y, reduction="none")
    assert each.shape == X.shape
    assert losses.mse_loss(X, Y, "batchmean") == pytest.approx(each.sum() / N, rel=1e-14)
    assert losses.cross_entropy(X, LABELS, reduction="batchmean") == pytest.approx(
        losses.cross_entropy(X, LABELS), rel=1e-14
    )
    assert losses.mse_loss(2.0, 5) == 9.0
    assert losses.cross_entropy([[0, 0]], [0]) == pytest.approx(np.log(2))
    assert isinstance(losses.mse_loss(X, Y), np.float64)  # an array in, a number out
    wide = losses.mse_loss(X[:, :1], X[:, 0], broadcast=True)
    assert wide == pytest.approx(np.mean((X[:, :1] - X[:, 0]) ** 2))


def test_batch_of_nothing_sums_to_nothing():
    assert losses.mse_loss(np.zeros((0, 3)), np.zeros((0, 3)), "sum") == 0
    assert losses.cross_entropy(np.zeros((0, 3)), np.zeros(0, int), reduction="sum") == 0


NAN = np.where(np.arange(N * C).reshape(N, C) == 26, np.nan, X)
BAD = {
    "label out of range": (ValueError, r"target\[3\] = 12, but logits have 8 classes \(0 to 7\)",
        lambda: losses.cross_entropy(X, np.where(np.arange(N) == 3, 12, LABELS))),
    "negative label": (ValueError, r"target\[0\] = -1", lambda: losses.cross_entropy(X, LABELS * 0 - 1)),
    "label of nll": (ValueError, r"nll_loss: target\[0, 0, 1\] = 9",
        lambda: losses.nll_loss(IMAGE, IMAGE_LABELS * 0 + [0, 9])),
    "float labels": (TypeError, r"must be integers, got float64 of shape \(9,\): t.astype\(int\)",
        lambda: losses.cross_entropy(X, LABELS.astype(float))),
    "bool labels": (TypeError, "must be integers", lambda: losses.cross_entropy(X, LABELS > 3)),
    "tracked labels": (TypeError, "no gradient by target",
        lambda: losses.soft_margin_loss(X, tg.tensor(SIGNS, requires_grad=True))),
    "wrong shape": (ValueError, r"need targets of shape \(9,\), got \(9, 1\)",
        lambda: losses.cross_entropy(X, LABELS[:, None])),
    "empty batch": (ValueError, "mean of an empty batch is 0 / 0: skip the batch",
        lambda: losses.cross_entropy(np.zeros((0, 3)), np.zeros(0, int))),
    "all ignored": (ValueError, "every target is ignored", lambda: losses.cross_entropy(X, LABELS * 0 - 100)),
    "NaN logits": (ValueError, r"argument 0 is nan at index \[3, 2\] \(shape \(9, 8\)\)",
        lambda: losses.cross_entropy(NAN, LABELS)),
    "infinite logits": (ValueError, r"argument 0 is inf at index \[3, 2\]",
        lambda: losses.cross_entropy(np.where(np.isnan(NAN), np.inf, X), LABELS)),
    "NaN prediction": (ValueError, "mse_loss: argument 0 is nan", lambda: losses.mse_loss(NAN, Y)),
    "NaN target": (ValueError, "mse_loss: argument 1 is nan", lambda: losses.mse_loss(X, NAN)),
    "(n, 1) against (n,)": (ValueError, r"got \(9, 1\) and \(9,\): reshape one of them, or pass broadcast=True",
        lambda: losses.mse_loss(X[:, :1], X[:, 0])),
    "reduction": (ValueError, "reduction must be .* got 'avg'", lambda: losses.l1_loss(X, Y, "avg")),
    "signs": (ValueError, r"must be 1 or -1, but target\[0, 0\] = 0",
        lambda: losses.hinge_embedding_loss(X, X * 0)),
    "probabilities": (ValueError, "must lie in 0 to 1.*with_logits", lambda: losses.binary_cross_entropy(X, Q)),
    "negative target": (ValueError, "negative", lambda: losses.cross_entropy(X, X)),
    "class weights": (ValueError, r"8 classes need that many weights, got \(3,\)",
        lambda: losses.cross_entropy(X, LABELS, weight=np.ones(3))),
    "weights": (ValueError, r"weights of shape \(3,\) do not fit \(9, 8\)",
        lambda: losses.mse_loss(X, Y, weight=np.ones(3))),
    "smoothing": (ValueError, "label_smoothing must lie in 0 to 1",
        lambda: losses.cross_entropy(X, LABELS, label_smoothing=1.5)),
    "p": (ValueError, "p must be 1 or 2", lambda: losses.multi_margin_loss(X, LABELS, p=3)),
    "delta": (ValueError, "delta must be positive", lambda: losses.huber_loss(X, Y, delta=0)),
    "beta": (ValueError, "beta must not be negative", lambda: losses.smooth_l1_loss(X, Y, beta=-1)),
    "variance": (ValueError, "negative", lambda: losses.gaussian_nll_loss(X, Y, -P)),
    "variance's shape": (ValueError, r"var of shape \(2,\) does not fit",
        lambda: losses.gaussian_nll_loss(X, Y, np.ones(2))),
    "cosine targets": (ValueError, r"need targets of shape \(9,\), got \(9, 8\)",
        lambda: losses.cosine_embedding_loss(X, Y, SIGNS)),
    "a number as logits": (ValueError, "expected logits of shape", lambda: losses.cross_entropy(1.0, 0)),
    "exchanged": (ValueError, "logits come first", lambda: losses.cross_entropy(LABELS, X)),
    "words": (TypeError, "expected numbers", lambda: losses.mse_loss("one", 1.0)),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_targets(what):
    kind, message, call = BAD[what]
    with pytest.raises(kind, match=message):
        call()


def test_every_fused_loss_names_its_composition():
    assert {f for f in COMPOSED if "loss" in f} >= {"l1_loss", "nll_loss", "focal_loss"}


AT_THE_KINK = {
    "l1_loss": ([1.0, 2.0], ([1.0, 3.0],), {}),
    "smooth_l1_loss": ([1.0, 1.5, 0.5], ([1.0, 1.0, 1.0],), {"beta": 0.5}),
    "huber_loss": ([1.0, 1.5, 0.5], ([1.0, 1.0, 1.0],), {"delta": 0.5}),
    "hinge_embedding_loss": ([1.0, 1.0, 0.0], ([-1.0, 1.0, 1.0],), {}),
    "margin_ranking_loss": ([1.0, 0.0], ([1.0, 0.5], [1.0, -1.0]), {"margin": 0.5}),
    "multi_margin_loss": ([[1.0, 0.0, 2.0]], ([2],), {}),
    "poisson_nll_loss": ([1.0, 2.0], ([1.0, 0.0],), {"full": True}),
}


@pytest.mark.parametrize("name", AT_THE_KINK)
def test_slopes_at_kinks_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    x, args, options = AT_THE_KINK[name]
    t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    function = getattr(torch.nn.functional, name)
    function(t, *(torch.tensor(np.array(a)) for a in args), reduction="sum", **options).backward()
    for fused in (True, False):
        loss = functools.partial(getattr(losses, name), reduction="sum", fused=fused, **options)
        np.testing.assert_array_equal(tg.grad(loss)(np.array(x), *args), t.grad.numpy())


def test_arcface_past_the_turn():
    """Beyond θ = π - m the logit is cos θ - m sin m; scale 1 keeps the softmax from saturating."""
    x = np.array([[-0.95, 0.1]])
    z = np.array([-0.95 - 0.5 * np.sin(0.5), 0.1])
    expected = np.log(np.sum(np.exp(z))) - z[0]
    assert losses.arcface_loss(x, [0], scale=1.0) == pytest.approx(expected, rel=1e-14)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_label_smoothing_where_a_target_weighs_nothing(reduction):
    torch = pytest.importorskip("torch")
    w = np.where(np.arange(C) == LABELS[0], 0, W)
    options = {"reduction": reduction, "label_smoothing": 0.1, "ignore_index": int(LABELS[1])}
    t = torch.tensor(X, requires_grad=True)
    out = torch.nn.functional.cross_entropy(
        t, torch.tensor(LABELS), torch.tensor(w), **options
    ).sum()
    out.backward()
    for fused in (True, False):
        value, g = tg.value_and_grad(
            lambda x, f=fused: losses.cross_entropy(x, LABELS, w, **options, fused=f).sum()
        )(X)
        assert value == pytest.approx(out.item(), rel=1e-12)
        np.testing.assert_allclose(g, t.grad.numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.nll_loss])
def test_an_ignored_sample_may_have_masked_logits(loss, fused):
    """0 * inf would be NaN, wherever the mask is; labels of any width index any class."""
    x, t = np.tile(np.log(SOFT), (1, 40)), np.where(np.arange(N) % 2, -100, LABELS).astype(np.int8)
    x[1, :300], x[3, 5:] = -np.inf, -np.inf
    value, g = tg.value_and_grad(lambda x: loss(x, t, fused=fused))(x)
    some, counted = loss(x[::2], t[::2]), tg.grad(loss)(x[::2], t[::2])
    assert value == pytest.approx(some, rel=1e-14)
    np.testing.assert_allclose(g[::2], counted, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(g[1::2], 0)


def test_numbers_and_lists_are_weak():
    x = X[0].astype(np.float32)
    some = [0.25, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0]
    for out in (
        losses.mse_loss(x, some),
        losses.mse_loss(some, x),
        losses.mse_loss(x, 0.5, broadcast=True),
        losses.mse_loss(x[0], 0.5),
        losses.gaussian_nll_loss(x, some, 2.0),
        losses.focal_loss(x, [1, 0, 0, 0, 0, 0, 0, 1]),
        losses.cross_entropy(x, some),
    ):
        assert out.dtype == np.float32
    assert losses.mse_loss(x, np.array(some)).dtype == np.float64  # as NumPy promotes arrays


def test_weights_of_a_broadcast_mean():
    x, t, w = X[:, :1], Y[0], P
    expected = np.sum(w * (x - t) ** 2) / np.sum(w)
    assert losses.mse_loss(x, t, weight=w, broadcast=True) == pytest.approx(expected, rel=1e-13)


def test_half_precision_counts_past_its_range():
    """The number of samples need not fit into float16."""
    x = np.zeros((70_000, 2), np.float16)
    loss = losses.cross_entropy(x, np.zeros(len(x), int))
    assert loss.dtype == np.float16
    assert loss == pytest.approx(np.log(2), rel=0.01)
    assert losses.mse_loss(x + 1, x, weight=np.ones_like(x)) == pytest.approx(1, rel=0.01)


def test_cosines_of_long_vectors_in_half_precision():
    x = np.full((1, 2), 20, np.float16)
    assert losses.cosine_embedding_loss(x, x, [1]) == pytest.approx(0, abs=2e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fused", [True, False])
def test_focal_loss_keeps_the_digits_of_confident_predictions(fused):
    x, t = np.array([12.0, -12.0, 17.0, 60.0, -60.0]), np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    miss = np.exp(-abs(x)) / (1 + np.exp(-abs(x)))
    each = np.where(t > 0, 0.25, 0.75) * miss**2 * np.log1p(np.exp(-abs(x)))
    loss = functools.partial(losses.focal_loss, reduction="none", fused=fused)
    np.testing.assert_allclose(loss(x, t), each, rtol=1e-12)
    x32 = x.astype(np.float32)
    np.testing.assert_allclose(loss(x32, t.astype(np.float32))[:3], each[:3], rtol=1e-5)
    for gamma in (0.5, 1.0, 2.0):
        g = tg.grad(lambda x, gamma=gamma: loss(x, t, gamma=gamma).sum())(x)
        assert np.all(np.sign(g) == 1 - 2 * t), gamma
    assert np.isfinite(tg.grad(lambda x: losses.focal_loss(x, t, gamma=0.5))(20 * x)).all()


def test_divergence_from_a_masked_distribution():
    x, t = np.array([-np.inf, 0.0]), np.array([0.0, 1.0])
    for fused in (True, False):
        g = tg.grad(lambda t, f=fused: losses.kl_div(x, t, "sum", fused=f))(t)
        np.testing.assert_array_equal(g, [0, 1])


ALSO_BAD = {
    "weights of nothing": (ValueError, "the weights sum to 0",
        lambda: losses.mse_loss(X, Y, weight=0 * Y)),
    "tracked pos_weight": (TypeError, "no gradient by pos_weight",
        lambda: losses.sigmoid_cross_entropy(X, Q, pos_weight=tg.tensor(W, requires_grad=True))),
    "pos_weight's shape": (ValueError, r"pos_weights of shape \(3,\) do not fit",
        lambda: losses.sigmoid_cross_entropy(X, Q, pos_weight=np.ones(3))),
    "one sample of cosines": (ValueError, r"of shape \(N, C\).*got \(8,\)",
        lambda: losses.arcface_loss(ANGLES[0], 1)),
    "tracked smoothing": (TypeError, "no gradient by label_smoothing",
        lambda: losses.cross_entropy(X, LABELS, label_smoothing=tg.tensor(0.0, requires_grad=True))),
    "tracked norm": (TypeError, "no gradient by p", lambda: losses.triplet_margin_loss(
        X, Y, Z, p=tg.tensor(2.0, requires_grad=True), fused=False)),
}  # fmt: skip


@pytest.mark.parametrize("what", ALSO_BAD)
def test_more_bad_arguments(what):
    kind, message, call = ALSO_BAD[what]
    with pytest.raises(kind, match=message):
        call()
