"""tg.compile: textbook formulas become fused operations, and what only looks like one does not.

The oracle is the engine without compiling, which differentiates each formula as it is written.
"""

from functools import partial

import numpy as np
import pytest

import tinygrad_lite as tg
from tests.test_compile import same
from tinygrad_lite import functional as F
from tinygrad_lite.backward import ancestors
from tinygrad_lite.compiler.spellings import SPELLINGS, names
from tinygrad_lite.compiler.trace import Tracer
from tinygrad_lite.mode import mode
from tinygrad_lite.primitives import BY_NAME, PRIMITIVES
from tinygrad_lite.tensor import constant, leaf_node
from tinygrad_lite.transforms import leaves

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 4, 3))  # logits of 4 samples, 3 classes
T, Q = np.array([0, 2, -1, 1]), RNG.uniform(size=(4, 3))


def found(f, *args):
    """The operations in the graph of a function of arrays, once a recording has looked at it."""
    tracer = Tracer()
    with mode(tracer=tracer):
        symbols = [tracer.input(a, "x") for a in args]
        given = [constant(s, leaf_node(s)) if s.dtype.kind == "f" else s for s in symbols]
        graph = ancestors([f(*given)._node])
        tracer.recognise(graph, ())
        return [node.name for node in ancestors(graph[-1:])]


def check(f, *args):
    """Values and gradients, compiled and not, of numbers other than recorded; in float32 too."""
    for dtype in (np.float64, np.float32):
        given = [a.astype(dtype) if a.dtype.kind == "f" else a for a in args]
        numbers = tuple(k for k, a in enumerate(given) if a.dtype.kind == "f")
        both = tg.value_and_grad(f, argnums=numbers)
        compiled = tg.compile(both)
        compiled(*given)
        others = [0.7 * a[::-1] + 0.1 if a.dtype.kind == "f" else a[::-1] for a in given]
        others = [np.ascontiguousarray(a, g.dtype) for a, g in zip(others, given, strict=True)]
        same(compiled(*others), both(*others), exact=False)
        assert compiled.missed == 0


def weighed(x):
    """A number with another slope by each entry."""
    return np.sum(np.tanh(x) * np.sin(1 + np.arange(x.size)).reshape(x.shape).astype(x.dtype))


def softmax(x, axis=1):
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def log_sum(x, axis=1, keepdims=False):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def log_softmax(x):
    return x - log_sum(x, 1, True)


def picked(x, t):
    return x[np.arange(len(t)), t]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer_norm(x, axis=-1, eps=1e-5, ddof=0):
    d = x - np.mean(x, axis=axis, keepdims=True)
    return d / np.sqrt(np.var(x, axis=axis, keepdims=True, ddof=ddof) + eps)


def centred(x, axis=-1):
    return x - np.mean(x, axis=axis, keepdims=True)


def mean_square(d, square=lambda d: d * d):
    return np.mean(square(d), axis=-1, keepdims=True)


SPELLED = {  # the operation: spellings of it, and their arguments
    "softmax": ([
        lambda x: np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True),
        lambda x: np.exp(x) / np.sum(np.exp(x), -1)[:, None],
        lambda x: (e := np.exp(x)) / e.sum(-1)[..., np.newaxis],
        lambda x: (e := np.exp(x)) / np.expand_dims(e.sum(axis=1), 1),
        lambda x: (e := np.exp(x)) / e.sum(axis=1).reshape(-1, 1),
        lambda x: (e := np.exp(x)) / np.broadcast_to(e.sum(axis=1)[:, None], e.shape),
        lambda x: (e := np.exp(x)) / np.swapaxes(e.sum(axis=1)[None], 0, 1),
        lambda x: np.exp(x) / np.sum(np.exp(x), axis=0),
        lambda x: np.exp(x) / np.sum(np.exp(x)),
        lambda x: softmax(x, 0),
        lambda x: softmax(x, 1),
        lambda x: softmax(x - np.max(x)),
        lambda x: (e := np.exp(x - np.max(x.detach(), 1)[:, None])) / np.sum(e, 1)[:, None],
        lambda x: (e := np.exp(x - x.data.max(1, keepdims=True))) / np.sum(e, 1)[:, None],
        lambda x: (e := np.exp(x - 5.0)) / np.sum(e, axis=1, keepdims=True),
        lambda x: softmax(x - x.detach()[:1]),  # which is no shift
        lambda x: F.softmax(1.0 - x),
        lambda x: np.exp(np.sin(x)) / np.sum(np.exp(np.sin(x)), axis=1, keepdims=True),
        lambda x: softmax(x[0], 0) * x[1],
        lambda x: softmax(np.reshape(x, (2, 2, 3)), 1),
        lambda x: softmax(np.reshape(x, (2, 2, 3)), (0, 2)),
        lambda x: F.softmax(x, axis=0, fused=False),
        lambda x: (p := softmax(x)) * np.exp(x) * p,  # what lies between is used elsewhere too
    ], X),
    "log_softmax": ([
        log_softmax,
        lambda x: np.log(softmax(x)),
        lambda x: (z := x - np.max(x, 1, keepdims=True)) - log_sum(z)[:, None],
        lambda x: x - log_sum(x - (top := np.max(x, 1)[:, None]), 1, True) - top,
        lambda x: x - (log_sum(x - (top := np.max(x, 1)[:, None]), 1, True) + top),
        lambda x: x - (log_sum(x - (top := x.data.max(1)[:, None]), 1, True) + top),
        lambda x: x - tg.logsumexp(x, axis=1, keepdims=True),
        lambda x: x - tg.logsumexp(x, axis=-1)[:, None],
        lambda x: F.log_softmax(x, axis=0, fused=False),
        lambda x: np.take_along_axis(log_softmax(x), np.array([[0, 3, 2]]), 0),
    ], X),
    "cross_entropy": ([
        lambda x, t: -picked(log_softmax(x), t),
        lambda x, t: -np.log(picked(softmax(x), t)),
        lambda x, t: np.log(softmax(x))[range(4), t] / 3,
        lambda x, t: np.take_along_axis(log_softmax(x), t[:, None], axis=1),
        lambda x, t: np.take_along_axis(log_softmax(x), t[:, None], axis=-1)[:, 0],
        lambda x, t: np.log(np.take_along_axis(softmax(x), np.expand_dims(t, 1), axis=1)),
        lambda x, t: log_sum(x) - picked(x, t),
        lambda x, t: picked(x, t) - log_sum(x),
        lambda x, t: log_sum(x, 1, True) - np.take_along_axis(x, t[:, None], axis=1),
        lambda x, t: (z := x - np.max(x, 1)[:, None], log_sum(z) - picked(z, t))[1],
        lambda x, t: tg.logsumexp(x, axis=1) - picked(x, t),
        lambda x, t: log_sum(x - (top := np.max(x, 1, keepdims=True))) + top[:, 0] - picked(x, t),
        lambda x, t: -picked(p := log_softmax(x), t) * np.sum(p, axis=1),
        lambda x, t: tg.losses.cross_entropy(x, t % 3, reduction="none", fused=False),
        lambda x, t: tg.losses.nll_loss(log_softmax(x), t % 3),
        lambda x, t: tg.losses.nll_loss(log_softmax(x), t % 3, fused=False),
        lambda x, t: np.take_along_axis(
            log_softmax(np.reshape(x, (2, 3, 2))), (t.reshape(2, 1, 2)) % 3, 1),
    ], X, T),
    "soft_cross_entropy": ([
        lambda x, q: -np.sum(q * log_softmax(x), axis=1),
        lambda x, q: -np.sum(q * np.log(softmax(x)), axis=-1, keepdims=True),
        lambda x, q: np.sum(-q * log_softmax(x)) / 4,
        lambda x, q: -(log_softmax(x) * q.detach()).sum(),
        lambda x, q: tg.losses.cross_entropy(x, softmax(q), fused=False),
        lambda x, q: -np.sum(tg.tensor(np.eye(3, dtype=x.dtype))[T] * log_softmax(x * q), axis=1),
    ], X, Q),
    "sigmoid": ([
        sigmoid,
        lambda x: 1 / (np.exp(-x) + 1),
        lambda x: np.exp(x) / (1 + np.exp(x)),
        lambda x: F.sigmoid(x, fused=False),
    ], X),
    "sigmoid_cross_entropy": ([
        lambda x, t: -(t * np.log(sigmoid(x)) + (1 - t) * np.log(1 - sigmoid(x))),
        lambda x, t: -(t * np.log(s := sigmoid(x)) + (1 - t) * np.log(1 - s)),
        lambda x, t: -((1 - t) * np.log(1 - sigmoid(x)) + np.log(sigmoid(x)) * t),
        lambda x, t: -t * np.log(sigmoid(x)) - (1 - t) * np.log(1 - sigmoid(x)),
        lambda x, t: -(t * np.log(sigmoid(x))) - (1 - t) * np.log(1 - sigmoid(x)),
        lambda x, t: t.data * np.log(sigmoid(x)) + (1 - t.data) * np.log(1 - sigmoid(x)),
        lambda x, t: -t.data * np.log(sigmoid(x)) - (1 - t.data) * np.log(1 - sigmoid(x)),
        lambda x, t: np.logaddexp(0, x) - x * t,
        lambda x, t: np.log(1 + np.exp(x)) - t * x,
        lambda x, t: np.log1p(np.exp(x)) - t * x,
        lambda x, t: np.maximum(x, 0) - x * t + np.log1p(np.exp(-abs(x))),
        lambda x, t: np.log(1 + np.exp(-abs(x))) + (np.maximum(0, x) - x * t),
        lambda x, t: tg.losses.sigmoid_cross_entropy(x, t, reduction="none", fused=False),
    ], X, Q),
    "squared_difference": ([
        lambda y, t: (y - t) ** 2,
        lambda y, t: np.square(y - t),
        lambda y, t: (y - t) * (y - t),
        lambda y, t: 0.5 * ((d := y - t[0]) * d),
        lambda y, t: np.mean((y - t.detach()) ** 2),
        lambda y, t: tg.losses.mse_loss(y, t, fused=False),
        lambda y, t: np.sum((y - 2.0) ** 2) + np.sum(t),
    ], X, Q),
    "layer_norm": ([
        lambda x, w, b: layer_norm(x) * w[0] + b[0],
        lambda x, w, b: b[0] + w[0] * layer_norm(x, eps=0.1),
        lambda x, w, b: layer_norm(x) * w[0] * b,
        lambda x, w, b: centred(x) / np.sqrt(mean_square(centred(x)) + 1e-5) * w + b,
        lambda x, w, b: (d := centred(x)) * (mean_square(d, np.square) + 1e-5) ** -0.5 * w * b,
        lambda x, w, b: (d := centred(x)) / (1e-5 + mean_square(d, lambda d: d**2)) ** 0.5 * w * b,
        lambda x, w, b: (d := centred(x)) * (1 / np.sqrt(mean_square(d) + 1e-5)) * w * b,
        lambda x, w, b: (x - x.mean(1)[:, None]) / np.sqrt(x.var(1)[:, None] + 1e-5) * w * b,
        lambda x, w, b: layer_norm(np.reshape(x, (2, 2, 3)), (-2, -1)) * w[:2] + b[:2],
        lambda x, w, b: layer_norm(x, (0, 1)) * w * b,
        lambda x, w, b: F.layer_norm(x, 3, w[0], b[0], fused=False),
    ], X, Q, Y),
}  # fmt: skip


@pytest.mark.parametrize("operation", SPELLED)
def test_a_spelling_becomes_the_operation(operation):
    spellings, *args = SPELLED[operation]
    for k, spelling in enumerate(spellings):

        def f(*args, spelling=spelling):
            return weighed(spelling(*args))

        names = found(f, *args)
        assert operation in names, (k, names)
        check(f, *args)


NOT = {  # the operation: what only looks like it, and the arguments
    "softmax": ([
        lambda x, y: np.exp(x[:3]) / np.sum(np.exp(x[:3]), axis=1),  # broadcasts over columns
        lambda x, y: np.exp(x[:3]) / np.sum(np.exp(x[:3]), axis=0)[:, None],
        lambda x, y: np.exp(x[:3]) / np.sum(np.exp(x[:3]), axis=1, keepdims=True).T,
        lambda x, y: np.exp(x) / np.sum(np.exp(y), axis=1, keepdims=True),
        lambda x, y: np.exp(x) / np.sum(np.exp(x.detach()), axis=1, keepdims=True),
        lambda x, y: np.exp(x.detach()) / np.sum(np.exp(x), axis=1, keepdims=True),
        lambda x, y: np.exp(x - x.data.max()) / np.sum(np.exp(x), axis=1, keepdims=True),
        lambda x, y: np.exp(x) / np.sum(np.exp(x)[:, 1:], axis=1, keepdims=True),
        lambda x, y: np.exp(x) / np.sum(np.exp(x)[::-1], axis=1, keepdims=True),
        lambda x, y: np.exp(x)[::-1] / np.sum(np.exp(x), axis=1, keepdims=True),
        lambda x, y: (e := np.exp(x), e.retain_grad(), e / np.sum(e, axis=1)[:, None])[2],
        lambda x, y: np.exp(x) / np.max(np.exp(x), axis=1, keepdims=True),
        lambda x, y: np.exp(x) / (np.sum(np.exp(x), axis=1, keepdims=True) + 1e-3),
        lambda x, y: np.exp(x) / np.mean(np.exp(x), axis=1, keepdims=True),
        lambda x, y: np.exp2(x) / np.sum(np.exp2(x), axis=1, keepdims=True),
        lambda x, y: np.sum(np.exp(x), axis=1, keepdims=True) / np.exp(x),
    ], X, Y),
    "log_softmax": ([
        lambda x, y: x - log_sum(y, 1, True),
        lambda x, y: x[:3] - log_sum(x[:3], 1),
        lambda x, y: (x - np.max(x, 1)[:, None]) - log_sum(x - np.max(x), 1, True),
        lambda x, y: x - (log_sum(x - np.max(x), 1, True) + np.max(x, 1, keepdims=True)),
        lambda x, y: log_sum(x, 1, True) - x,
        lambda x, y: np.log1p(softmax(x)),
        lambda x, y: np.log2(softmax(x)),
    ], X, Y),
    "cross_entropy": ([
        lambda x, t: picked(x - log_sum(x, 0), t),
        lambda x, t: (x - log_sum(x, 0))[t, np.arange(4) % 3],
        lambda x, t: log_softmax(x)[np.arange(4)[::-1], t],
        lambda x, t: log_softmax(x)[np.arange(3), t[:3]],
        lambda x, t: log_softmax(x)[:, t],
        lambda x, t: log_softmax(x)[t],
        lambda x, t: log_softmax(x)[np.arange(4)[:, None], t],
        lambda x, t: np.take_along_axis(log_softmax(x), t[None, :3], axis=0),
        lambda x, t: np.take_along_axis(log_softmax(x), np.stack([t, t], 1), axis=1),
        lambda x, t: np.log(picked(softmax(x, 0), t)),
        lambda x, t: np.log(picked(np.exp(x), t)),
        lambda x, t: log_sum(x) - picked(2 * x, t),
        lambda x, t: log_sum(x, 1, True) - picked(x, t),  # 4 x 4
        lambda x, t: log_sum(x, 1) - np.take_along_axis(x, t[:, None], axis=1),
        lambda x, t: log_sum(x) - picked(x.detach(), t),
        lambda x, t: log_sum(x)[::-1] - picked(x, t),
        lambda x, t: log_sum(x) - picked(x, t)[::-1],
        lambda x, t: np.log(picked(softmax(x), t)[::-1]),
        lambda x, t: np.log(softmax(x[0], 0)[t]),
    ], X, T),
    "soft_cross_entropy": ([
        lambda x, q: np.sum(q * log_softmax(x), axis=0),
        lambda x, q: np.sum(q[:1] * log_softmax(x), axis=1),
        lambda x, q: np.sum(q[:, :1] * log_softmax(x), axis=1),
        lambda x, q: np.sum(q * (x - log_sum(x, 0)), axis=1),
        lambda x, q: np.sum(q + log_softmax(x), axis=1),
        lambda x, q: np.sum(2.0 * log_softmax(x), axis=1) + np.sum(q),
        lambda x, q: np.mean(q * log_softmax(x), axis=1),
    ], X, Q),
    "sigmoid": ([
        lambda x: 1 / (1 + np.exp(-2 * x)),
        lambda x: 1 / (2 + np.exp(-x)),
        lambda x: 1 / (1 + np.exp(-x)[::-1]),
        lambda x: 2 / (1 + np.exp(-x)),
        lambda x: np.exp(x) / (1 + np.exp(-x)),
        lambda x: 1 / (1 - np.exp(-abs(x) - 1)),
    ], X),
    "sigmoid_cross_entropy": ([
        lambda x, t: t * np.log(sigmoid(x)) + (1 - x) * np.log(1 - sigmoid(x)),
        lambda x, t: t * np.log(sigmoid(x)) + (2 - t) * np.log(1 - sigmoid(x)),
        lambda x, t: t * np.log(sigmoid(x)) - (1 - t) * np.log(1 - sigmoid(x)),
        lambda x, t: t * np.log(sigmoid(x)) + (1 - t) * np.log(1 - sigmoid(t)),
        lambda x, t: t * np.log(sigmoid(x)) + (1 - t.detach()) * np.log(1 - sigmoid(x)),
        lambda x, t: t * np.log(sigmoid(x)) + t * np.log(1 - sigmoid(x)),
        lambda x, t: t.data * np.log(sigmoid(x)) + (1 - t.data[::-1]) * np.log(1 - sigmoid(x)),
        lambda x, t: np.logaddexp(0, x) - t * t,
        lambda x, t: np.logaddexp(0, -x) - t * x,
        lambda x, t: np.logaddexp(0, x) - t * x.detach(),
    ], X, Q),
    "squared_difference": ([
        lambda y, t: (y - t) ** 3,
        lambda y, t: (y - t) * (t - y),
        lambda y, t: (y - t) * (y - t[0]),
        lambda y, t: (y - t) * (y - t.detach()),
        lambda y, t: (y + t) ** 2,
    ], X, Q),
    "layer_norm": ([
        lambda x, w: layer_norm(x, 0) * w * 2.0,
        lambda x, w: layer_norm(np.reshape(x, (2, 2, 3)), 1),
        lambda x, w: layer_norm(x, ddof=1) * w,
        lambda x, w: centred(x) / (np.sqrt(np.var(x, axis=1, keepdims=True)) + 1e-5) * w,
        lambda x, w: centred(x) / np.std(x, axis=1, keepdims=True) * w,
        lambda x, w: centred(x) / np.sqrt(np.var(w, axis=1, keepdims=True) + 1e-5),
        lambda x, w: centred(x, 0) / np.sqrt(np.var(x, axis=1, keepdims=True) + 1e-5),
        lambda x, w: centred(x[:3]) / np.sqrt(np.var(x[:3], axis=1) + 1e-5),
        lambda x, w: x / np.sqrt(np.var(x, axis=1, keepdims=True) + 1e-5),
        lambda x, w: centred(x) / np.sqrt(np.var(x, axis=1, keepdims=True) + w),
    ], X, Q),
}  # fmt: skip


@pytest.mark.parametrize("operation", NOT)
def test_what_only_looks_like_the_operation_is_left(operation):
    others, *args = NOT[operation]
    for k, other in enumerate(others):

        def f(*args, other=other):
            return weighed(other(*args))

        names = found(f, *args)
        assert operation not in names, (k, names)
        check(f, *args)


SAMPLES = {"x": X, "y": Y, "q": Q, "t": Q, "w": Q[0], "b": Y[0], "scale": Q[:, 0]}
SAMPLES |= {"shift": Y[:, :1], "labels": abs(T), "axis": 1, "total": False, "eps": 0.1, "ndim": 1}


@pytest.mark.parametrize("row", range(len(SPELLINGS)))
def test_a_row_is_an_equation(row):
    """Of arrays each spelling is the operation, in value and in slopes."""
    operation, spellings = SPELLINGS[row]
    varied = [n for n in names(operation) if n in "xyqtwb" and SAMPLES[n].dtype.kind == "f"]

    def number(f, which, xs):
        given = SAMPLES | dict(zip(varied, xs, strict=True))
        out = f(*(given[name] for name in names(f)))
        return weighed(out if which is None else out[which])

    def both(f, which=None):
        slopes = tg.value_and_grad(lambda *xs: number(f, which, xs), tuple(range(len(varied))))
        return slopes(*(SAMPLES[name] for name in varied))

    for k in range(len(spellings(*(SAMPLES[name] for name in names(spellings))))):
        same(both(spellings, k), both(operation), exact=False)


def test_unsigned_targets_may_wrap():
    def f(x, t):
        return weighed(-t * np.log(sigmoid(x)) - (1 - t) * np.log(1 - sigmoid(x)))

    for dtype in (np.uint8, np.int8):
        t = np.arange(12, dtype=dtype).reshape(4, 3)
        assert ("sigmoid_cross_entropy" in found(f, X, t)) == (dtype == np.int8)
        check(f, X, t)


def test_primitives_of_users_are_not_taken_for_ours():
    draws = np.random.default_rng(0)
    noisy = tg.primitive(lambda x: x * draws.uniform(), lambda g, out, x: g, name="noisy")
    doubled = tg.primitive(lambda x: x * 2, lambda g, out, x: g * 2, name="doubled")
    doubled.name = "softmax"
    try:
        once = found(lambda x: np.sum(softmax(noisy(x))), X)
        assert "softmax" in once
        two = found(lambda x: np.sum(np.exp(noisy(x)) / np.sum(np.exp(noisy(x)))), X)
        assert "softmax" not in two  # they are not the same numbers
        assert "log_softmax" not in found(lambda x: np.sum(np.log(doubled(np.exp(x)))), X)
    finally:
        for name in ("noisy", "doubled"):
            del PRIMITIVES[BY_NAME.pop(name).function]


W, SHIFT = (tg.tensor(v, requires_grad=True) for v in (X, Y[:, :1]))


def loss(x, t):
    return -np.mean(np.log(picked(softmax(x), t)))


def left_between(x, t):
    """What lies between is a result too, and is read again."""
    W.grad = None
    p = softmax(W * x)
    out = -np.mean(np.log(picked(p, t))) + np.sum(p * p)
    out.backward()
    return out, p, W.grad


def written_into(x, t):
    """The gradient is by what is in the array now."""
    W.grad = None
    e = np.exp(W * x)
    e.data[0] = 1.0
    weighed(e / np.sum(e, axis=1, keepdims=True)).backward()
    return W.grad


def moved_between(x, t):
    """Both exponentials are of W, but not of the same numbers."""
    W.grad = None
    e = np.exp(W)
    with tg.no_grad():
        W.__isub__(0.1 * x)
    weighed(e / np.sum(np.exp(W), axis=1, keepdims=True)).backward()
    return W.grad


def twice(x, t):
    W.grad = None
    out = loss(W * x, t)
    out.backward(retain_graph=True)
    out.backward()
    return out, W.grad


def second_order_later(x, t):
    W.grad = None
    out = loss(W * x, t)
    out.backward(retain_graph=True)
    W.grad = None
    out.backward(create_graph=True)
    g, W.grad = W.grad, None
    np.sum(g * g).backward()
    return out, W.grad


def learned_shift(x, t):
    """Its gradient is zero, but not missing."""
    W.grad = SHIFT.grad = None
    weighed(softmax(W * x - SHIFT)).backward()
    return W.grad, SHIFT.grad


PROGRAMS = {
    "hessian": tg.hessian(loss),
    "slope of slopes": tg.grad(lambda x, t: np.sum(tg.grad(loss)(x, t) ** 2)),
    "hvp": lambda x, t: tg.hvp(lambda x: loss(x, t))(x, Y),
    "jvp": lambda x, t: tg.jvp(softmax, (x,), (Y,)),
    "jacobian": lambda x, t: tg.jacobian(lambda x: np.log(softmax(x)))(x),
    "checkpoint": lambda x, t: tg.grad(lambda x: weighed(tg.checkpoint(softmax)(x)))(x),
} | {f.__name__: f for f in (
    left_between, written_into, moved_between, twice, second_order_later, learned_shift,
)}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    f = PROGRAMS[name]
    compiled = tg.compile(f)
    compiled(X, T)
    for k in (1, 2):
        x, t, start = X + 0.1 * k, np.roll(T, k), W.data.copy()
        ours = [np.copy(getattr(v, "data", v)) for v in leaves(compiled(x, t))]
        W.data[...] = start
        theirs = [np.copy(getattr(v, "data", v)) for v in leaves(f(x, t))]
        same(ours, theirs, exact=False)
    assert (len(compiled.recordings), compiled.missed) == (1, 0)


def test_labels_are_those_of_the_call():
    numbers = np.arange(4)  # somebody may write into it

    def f(x, t):
        return np.mean(np.log(softmax(x)[numbers, t]))

    compiled = tg.compile(tg.grad(f))
    for start in (0, 1, 0):
        numbers[:] = np.roll(np.arange(4), start)
        same(compiled(X, T), tg.grad(f)(X, T), exact=False)
    for wrong in (3, -4):
        with pytest.raises(IndexError, match=f"index {wrong} is out of bounds"):
            compiled(X, np.array([0, 1, 2, wrong]))


def test_what_overflows_as_it_is_written():
    """The gradient is what it is on paper, (p - onehot) / N, where the formula gives NaN."""

    def f(x, t):
        return -np.mean(np.log(picked(np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True), t)))

    compiled = tg.compile(tg.value_and_grad(f))
    compiled(X[:2], T[:2])
    huge = np.array([[1e4, 0, -1e4], [0, 1e4, 0]])
    expected = np.float64(5e3), np.array([[0.5, -0.5, 0], [0, 0, 0]])
    same(compiled(huge, np.array([1, 1])), expected, exact=False)


def passes(f, *args):
    """How many arrays of the size of the first argument are computed."""
    compiled = tg.compile(tg.value_and_grad(f))
    compiled(*args)
    shapes = [line.shape for line in compiled.plan if line.text]
    return shapes.count(args[0].shape), compiled.source


def test_the_textbook_formula_costs_what_the_operation_does():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(64, 32)), rng.integers(0, 32, 64)
    count, source = passes(loss, x, t)
    assert count == passes(tg.losses.cross_entropy, x, t)[0] == 4
    count, asking = passes(partial(tg.losses.cross_entropy, fused=False), x, t)
    assert count == 4
    assert "if loss != loss:" in asking  # still, of what is computed now
    lines = [line.strip() for line in source.splitlines()]
    start = lines.index("v0 = x - top")
    assert lines[start + 1] == "np.exp(v0, out=v0)"  # the shifted logits become probabilities,
    assert [line[:2] for line in lines[-3:]] == ["v0", "v0", "re"]  # ... and these the gradient
    assert lines[-1].endswith("v0")


def test_linear_and_relu_are_computed_in_place():
    """The product takes the bias and relu, and its slope is read off the result."""
    x, w = np.ones((64, 32)), np.ones((32, 48))
    f = tg.compile(tg.grad(lambda w, b, x: np.sum(F.relu(x @ w + b) ** 2), argnums=(0, 1)))
    f(w, np.ones(48), x)
    text = "v0 = x @ w; v0 += b; np.maximum(v0, 0, out=v0); dv0 = 2.0 * v0; dv0 *= v0 > 0"
    lines = [line.strip() for line in f.source.splitlines() if "#" not in line]
    assert text in "; ".join(lines)
