"""Fast paths: one primitive that equals a composition, with its gradient in closed form.

A fused operation records one node, passes over memory less often, and stays finite where the
textbook formula overflows. `@equals(primitive)` ties it to the composition of the same signature,
in functional.py, losses.py or convolution.py; a test walks all such pairs. The one trick: rules
are, as everywhere, NumPy functions that also work on Tensors, so a fused operation can be
differentiated twice; where arrays allow writing in place, the same formula is written so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .array_methods import ArrayMethods, raw
from .mode import whole
from .primitives import Array, Primitive, embed, primitive

COMPOSED: dict[str, Callable[..., Any]] = {}  # a fused primitive's name: the composition it equals


def equals(fast: Primitive) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a composition its fast path: `f(...)` runs it, `f(..., fused=False)` the composition."""

    def pair(composition: Callable[..., Any]) -> Callable[..., Any]:
        COMPOSED[fast.name] = composition

        @functools.wraps(composition)
        def either(*args: Any, fused: bool = True, **params: Any) -> Any:
            if fused and "saved" in fast.params:
                params["saved"] = []  # a place for what the forward pass leaves to the rule
            return (fast if fused else composition)(*args, **params)

        return either

    return pair


CACHE = 1 << 18  # bytes of a block: with two or three temporaries it stays in the L2 cache


def blocks(x: Array) -> list[slice]:
    """Parts of axis 0 that stay in the cache, for several passes over x at one reading of it."""
    step = max(1, CACHE * len(x) // max(1, x.nbytes))
    return [slice(i, i + step) for i in range(0, len(x), step)]


# Softmax and its losses. z = x - max(x) keeps exp from overflowing.


def _softmax(x: Array, axis: int = -1) -> Array:
    out = np.exp(x - np.max(x, axis=axis, keepdims=True))
    out /= np.sum(out, axis=axis, keepdims=True)
    return out


def _log_softmax(x: Array, axis: int = -1) -> Array:
    z = x - np.max(x, axis=axis, keepdims=True)
    return z - np.log(np.sum(np.exp(z), axis=axis, keepdims=True))


softmax = primitive(
    _softmax,
    lambda g, out, x, axis=-1: out * (g - np.sum(g * out, axis=axis, keepdims=True)),
    saves="o",
    name="softmax",
)
log_softmax = primitive(
    _log_softmax,
    lambda g, out, x, axis=-1: g - np.exp(out) * np.sum(g, axis=axis, keepdims=True),
    saves="o",
    name="log_softmax",
)


def _exp_of_classes(x: Array) -> tuple[Array, Array, Array]:
    """max x, exp(x - max x) and its sum, over classes: in blocks, so that x is read only once."""
    if not isinstance(x, np.ndarray):
        e = np.exp(x - (top := np.max(x, axis=1, keepdims=True)))
        return top, e, np.sum(e, axis=1, keepdims=True)
    p, (top, total) = np.empty_like(x), np.empty((2, len(x), 1, *x.shape[2:]), x.dtype)
    for block in blocks(x):
        np.max(x[block], axis=1, keepdims=True, out=top[block])
        e = np.subtract(x[block], top[block], out=p[block])
        np.exp(e, out=e)
        np.einsum("nc...->n...", e, out=total[block][:, 0])
    return top, p, total


def _at(t: Array) -> tuple[Array, ...]:
    """The index of every sample's label."""
    n, *places = np.indices(t.shape, sparse=True)
    return n, t, *places


def _cross_entropy(
    x: Array, target: Array, scale: Array, total: bool = True, saved: Any = None
) -> Array:
    """Per sample scale * -log softmax(x)[target], over classes on axis 1; summed if `total`."""
    top, p, s = _exp_of_classes(x)
    if saved is not None:  # for the rule: x, to know it by, and what it would compute again
        saved[:] = [(x, p, s)]
    out = scale * (np.log(s[:, 0]) - (x[_at(target)] - top[:, 0]))
    return np.sum(out) if total else out


def _cross_entropy_x(
    g: Array, out: Array, x: Array, t: Array, s: Array, total: bool = True, saved: Any = None
) -> Array:
    """(softmax(x) - onehot) * scale: the two arrivals at the logits, already added up.

    On arrays, what the forward pass saved becomes the gradient, in place: no second exp, one-hot or
    copy. It is taken out of `saved`, so that a second backward pass computes it again.
    """
    slope = np.expand_dims(np.broadcast_to(g * s, t.shape), 1)
    if isinstance(slope, ArrayMethods) or isinstance(x, ArrayMethods):  # nothing is written into
        return slope * softmax(x, axis=1) - embed(slope[:, 0], index=_at(t), shape=x.shape)
    of, p, sums = saved.pop() if saved else (None, None, None)
    if of is not x:  # nothing was saved, or for another x
        _, p, sums = _exp_of_classes(x)
    p *= slope / sums
    p[_at(t)] -= slope[:, 0]
    return p


cross_entropy = primitive(
    _cross_entropy, _cross_entropy_x, None, None, saves="xts - -", name="cross_entropy"
)


def _soft_cross_entropy(x: Array, q: Array, total: bool = True) -> Array:
    """Per sample -Σ q log softmax(x), over classes on axis 1; summed if `total`."""
    out = -np.sum(q * _log_softmax(x, axis=1), axis=1)
    return np.sum(out) if total else out


def _per_class(g: Array, total: bool) -> Array:
    return g if total else np.expand_dims(g, 1)


soft_cross_entropy = primitive(
    _soft_cross_entropy,
    lambda g, out, x, q, total=True: (
        _per_class(g, total) * (np.sum(q, axis=1, keepdims=True) * softmax(x, axis=1) - q)
    ),
    lambda g, out, x, q, total=True: -_per_class(g, total) * log_softmax(x, axis=1),
    saves="xq x",
    name="soft_cross_entropy",
)


# Sigmoid and its loss


def _sigmoid(x: Array) -> Array:
    e = np.exp(-abs(x))  # at most 1: nothing overflows, and a tiny result keeps all its digits
    return np.maximum(e, x >= 0) / (1 + e)  # 1 or e: several times faster than np.where


sigmoid = primitive(_sigmoid, lambda g, out, x: g * out * (1 - out), saves="o", name="sigmoid")


def _sigmoid_cross_entropy(
    x: Array, t: Array, weight: Array, pos_weight: Array, total: bool = True
) -> Array:
    """weight * (pos_weight * t * softplus(-x) + (1 - t) * softplus(x)); summed if `total`."""
    tail = np.log1p(np.exp(-abs(x)))  # softplus(x) = max(x, 0) + tail
    out = pos_weight * t * (np.maximum(-x, 0) + tail) + (1 - t) * (np.maximum(x, 0) + tail)
    return np.sum(weight * out) if total else weight * out


sigmoid_cross_entropy = primitive(
    _sigmoid_cross_entropy,
    lambda g, out, x, t, w, p, total=True: g * w * ((1 - t) * sigmoid(x) - p * t * sigmoid(-x)),
    lambda g, out, x, t, w, p, total=True: g * w * (p * np.logaddexp(0, -x) - np.logaddexp(0, x)),
    None,
    None,
    saves="xtwp xwp - -",
    name="sigmoid_cross_entropy",
)


# Squared differences


def _squared_difference(y: Array, t: Array, scale: Array, total: bool = True) -> Array:
    """scale * (y - t)²; summed if `total`."""
    d = y - t
    out = scale * (d * d)
    return np.sum(out) if total else out


squared_difference = primitive(
    _squared_difference,
    lambda g, out, y, t, s, total=True: g * s * 2 * (y - t),
    lambda g, out, y, t, s, total=True: g * s * -2 * (y - t),
    None,
    saves="yts yts -",
    name="squared_difference",
)


# The error function, and activations with a smooth bend


@functools.cache
def _erf_table(dtype: np.dtype[Any]) -> list[Any]:
    """Taylor coefficients of erf at 0, 1/128, 2/128, ... 6 (where it is 1), one row per order."""
    x = np.arange(6 * 128 + 1) / 128
    rows = [np.array([math.erf(v) for v in x]), 2 / math.sqrt(math.pi) * np.exp(-x * x)]
    for k in range(1, 3 if dtype.itemsize <= 4 else 6):  # from erf'' = -2x erf', differentiated
        rows.append(-2 / (k + 1) * (x * rows[k] + (k - 1) / k * rows[k - 1]))
    return [row.astype(dtype) for row in rows]


@whole
def _erf(x: Array) -> Array:
    """A few Taylor terms from the nearest point of a table: full precision without a branch."""
    x = np.asarray(x)
    x = x if x.dtype.kind == "f" else x.astype(float)
    size = np.minimum(abs(x), 6)
    near = np.rint(size * 128)
    d, at = size - near / 128, np.fmin(near, 6 * 128).astype(np.intp)  # d keeps a NaN
    *rows, out = (row[at] for row in _erf_table(x.dtype))
    for row in reversed(rows):
        out = out * d + row
    return np.copysign(out, x)


def _bell(x: Array) -> Array:
    """exp(-x²), which is 0 long before x² overflows."""
    return np.exp(-np.square(np.clip(x, -30, 30)))


def _normal(x: Array) -> Array:
    """The probability that a standard normal variable is below x."""
    return 0.5 * (1 + erf(x * math.sqrt(0.5)))


def _bend(x: Array) -> tuple[Array, Array]:
    """t = tanh u, u = √(2/π) (x + 0.044715 x³), and x times the slope of u; past ±10, t is ±1."""
    x = np.clip(x, -10, 10)
    u, cubic = math.sqrt(2 / math.pi) * x, 0.044715 * x * x
    return np.tanh(u * (1 + cubic)), u * (1 + 3 * cubic)


def _gelu_tanh_x(g: Array, out: Array, x: Array) -> Array:
    t, u = _bend(x)
    return g * 0.5 * (1 + t + (1 - t * t) * u)


def _silu_x(g: Array, out: Array, x: Array) -> Array:
    s = sigmoid(x)
    return g * s * (1 + x * (1 - s))


def _softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    z = beta * x
    return np.where(z > threshold, x, (np.maximum(z, 0) + np.log1p(np.exp(-abs(z)))) / beta)


# fmt: off
erf       = primitive(_erf, lambda g, out, x: g * (2 / math.sqrt(math.pi)) * _bell(x),
                      saves="x", name="erf")
gelu      = primitive(lambda x: x * _normal(x), lambda g, out, x:
                      g * (_normal(x) + x * _bell(x * math.sqrt(0.5)) / math.sqrt(2 * math.pi)),
                      saves="x", name="gelu")
gelu_tanh = primitive(lambda x: 0.5 * x * (1 + _bend(x)[0]), _gelu_tanh_x,
                      saves="x", name="gelu_tanh")
silu      = primitive(lambda x: x * _sigmoid(x), _silu_x, saves="x", name="silu")
softplus  = primitive(_softplus, lambda g, out, x, beta=1.0, threshold=20.0:
                      g * np.where(beta * x > threshold, 1, sigmoid(beta * x)),
                      saves="x", name="softplus")
# fmt: on


# Layers' arithmetic. All leading axes count as one: a single large matrix product.


def _rows(x: Array) -> Array:
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _linear(x: Array, w: Array, b: Array | None) -> Array:
    out = _rows(x) @ w.T
    if b is not None:
        out = np.add(out, b, out=out if b.dtype == out.dtype else None)
    return out.reshape(*x.shape[:-1], w.shape[0])


def _linear_relu(x: Array, w: Array, b: Array | None) -> Array:
    out = _linear(x, w, b)
    return np.maximum(out, 0, out=out)


def _linear_relu_back(needs: Any, g: Array, out: Array, x: Array, w: Array, b: Array) -> list[Any]:
    g, rules = g * (out > 0), linear.rules
    return [
        need and rule and rule(g, out, x, w, b) for need, rule in zip(needs, rules, strict=True)
    ]


def _sum_rows(g: Array, i: Array, shape: tuple[int, int]) -> Array:
    """A matrix in which row n is the sum of all g[k] with i[k] = n."""
    out = np.zeros_like(i, g.dtype, shape=math.prod(shape))  # recorded, if i is
    places = np.expand_dims(i, -1).astype(np.intp) * shape[1] + np.arange(shape[1])
    np.add.at(out, places.ravel(), g.ravel())  # several times faster than with rows
    return out.reshape(shape)


def _embedding_w(g: Array, out: Array, i: Array, w: Array, padding_idx: int | None = None) -> Array:
    if padding_idx is not None:
        g = g * np.expand_dims(i != padding_idx, -1)
    return sum_rows(g, i, shape=w.shape)


# fmt: off
linear      = primitive(_linear, lambda g, out, x, w, b: (_rows(g) @ w).reshape(x.shape),
                                 lambda g, out, x, w, b: _rows(g).T @ _rows(x),
                                 lambda g, out, x, w, b: _rows(g),
                        saves="w x -", name="linear")
linear_relu = primitive(_linear_relu, joint=_linear_relu_back, saves="oxw", name="linear_relu")
dropout     = primitive(lambda x, m, scale=1.0: x * m * scale,
                        lambda g, out, x, m, scale=1.0: g * m * scale, None,
                        saves="m -", name="dropout")
embedding   = primitive(lambda i, w, padding_idx=None: w[i], None, _embedding_w,
                        saves="- i", name="embedding")
sum_rows    = primitive(_sum_rows, lambda g, out, x, i, shape: g[i], None,
                        saves="i -", name="sum_rows")
# fmt: on


# Normalisation: x̂ = (x - mean) / √(var + eps), times a weight, plus a bias. One closed form.

Layout = Callable[..., tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


def _standard(x: Array, axes: tuple[int, ...], eps: float, centred: bool) -> tuple[Array, Array]:
    """x̂, and the factor 1 / √(var + eps)."""
    d = x - np.mean(x, axis=axes, keepdims=True) if centred else x
    r = 1 / np.sqrt(np.mean(d * d, axis=axes, keepdims=True) + eps)
    return d * r, r


def _alike(*values: Array) -> bool:
    """Whether all that is given are single or double precision arrays of one dtype, not empty."""
    kinds = {(type(v), v.dtype.char) for v in values if v is not None}
    return kinds in ({(np.ndarray, "f")}, {(np.ndarray, "d")}) and values[0].size > 0


def _centred(x: Array, eps: float, centred: bool, out: Array = None) -> tuple[Array, Array]:
    """x - mean, and 1 / √(var + eps), for the rows of a matrix; sums as matrix products."""
    d = np.subtract(x, x @ np.ones((x.shape[1], 1), x.dtype) / x.shape[1] if centred else 0, out)
    return d, 1 / np.sqrt(np.einsum("ij,ij->i", d, d)[:, None] / x.shape[1] + eps)


def _norm_rows(x: Array, w: Array, b: Array, eps: float, centred: bool, size: Any) -> Array:
    """The last axes normalised, in blocks and in place: memory is read once and written once."""
    out, n = np.empty_like(x, order="C"), math.prod(size)
    x, rows = x.reshape(-1, n), out.reshape(-1, n)
    for i in blocks(x):
        y, r = _centred(x[i], eps, centred, rows[i])
        y *= r
        if w is not None:
            y *= w.ravel()
        if b is not None:
            y += b.ravel()
    return out


def _norm_rows_back(
    needs: Any, g: Array, x: Array, w: Array, eps: float, centred: bool, size: Any
) -> list[Any]:
    """The closed form below, in blocks; sums over rows and columns are products with vectors."""
    w = np.ones_like(x, shape=size) if w is None else w
    dx, dw, db, n = np.empty_like(x, order="C"), np.zeros_like(w), np.zeros_like(w), w.size
    x, g, w, rows = x.reshape(-1, n), g.reshape(-1, n), w.ravel(), dx.reshape(-1, n)
    for i in blocks(x):
        (d, r), y = _centred(x[i], eps, centred), g[i]
        gd = y * d
        dw += (r[:, 0] @ gd).reshape(size)
        db += (np.ones_like(r[:, 0]) @ y).reshape(size)
        if needs[0]:  # h - x̂ mean(h x̂) - mean(h), times r
            h = np.multiply(y, w, out=rows[i])
            d *= (gd @ w)[:, None] * (r * r / n)
            h -= d
            if centred:
                h -= (y @ w)[:, None] / n
            h *= r
    return [dx, dw, db][: len(needs)]


def _norm(name: str, layout: Layout, params: str, centred: bool = True) -> Primitive:
    """`layout` gives the shape to view x in, the axes to normalise there, and the axes of x that
    share a weight."""

    def wide(w: Array, x: Array, shared: tuple[int, ...]) -> Array:
        return w.reshape([1 if i in shared else n for i, n in enumerate(x.shape)])

    def forward(x: Array, w: Array, b: Array = None, eps: float = 1e-5, **params: Any) -> Array:
        shape, axes, shared = layout(x, **params)
        if layout is _trailing and _alike(x, w, b):
            return _norm_rows(x, w, b, eps, centred, x.shape[axes[0] :])
        out = _standard(x.reshape(shape), axes, eps, centred)[0].reshape(x.shape)
        out = out if w is None else out * wide(w, x, shared)
        return out if b is None else out + wide(b, x, shared)

    def back(
        needs: Any, g: Array, out: Array, x: Array, w: Array, b: Array = None, eps: float = 1e-5,
        **params: Any,
    ) -> list[Any]:  # fmt: skip
        shape, axes, shared = layout(x, **params)
        if layout is _trailing and _alike(g, x, w):
            return _norm_rows_back(needs, g, x, w, eps, centred, x.shape[axes[0] :])
        xhat, r = _standard(x.reshape(shape), axes, eps, centred)
        dx = dw = db = None
        if needs[0]:
            h = (g if w is None else g * wide(w, x, shared)).reshape(shape)
            dx = h - xhat * np.mean(h * xhat, axis=axes, keepdims=True)
            dx = dx - np.mean(h, axis=axes, keepdims=True) if centred else dx
            dx = (dx * r).reshape(x.shape)
        if needs[1]:
            dw = np.sum(g * xhat.reshape(x.shape), axis=shared)
        if needs[2:] == (True,):  # rms_norm has no bias
            db = np.sum(g, axis=shared)
        return [dx, dw, db]

    new = primitive(forward, joint=back, saves="xw", name=name)
    new.params = ("eps", *params.split())
    return new


def _trailing(x: Array, ndim: int = 1) -> Any:
    return x.shape, tuple(range(-ndim, 0)), tuple(range(x.ndim - ndim))


def _but_channels(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


layer_norm = _norm("layer_norm", _trailing, "ndim")
rms_norm = _norm("rms_norm", _trailing, "ndim", centred=False)
batch_norm = _norm("batch_norm", lambda x: (x.shape, _but_channels(x), _but_channels(x)), "")
group_norm = _norm(
    "group_norm",
    lambda x, num_groups: (
        (x.shape[0], num_groups, math.prod(x.shape[1:]) // num_groups),
        (2,),
        _but_channels(x),
    ),
    "num_groups",
)


# Attention: softmax(scale * q @ k.T + mask) @ v, row by row of q


def _own(x: Array) -> Array | None:
    """`out=` for writing over an array just made: fresh memory costs more than a pass over it."""
    return x if isinstance(x, np.ndarray) and x.dtype.kind == "f" else None


def _attend(q: Array, k: Array, m: Array | None, scale: float) -> Array:
    """The probabilities; a row in which nothing may be attended to is 0."""
    s = q @ np.swapaxes(k, -1, -2)
    s = np.multiply(s, scale, out=_own(s))
    if m is not None:
        s = np.where(m, s, -np.inf) if m.dtype == np.bool_ else s + m
    top = np.max(raw(s), axis=-1, keepdims=True)  # a constant shift, which changes nothing
    s = np.subtract(s, np.where(top == -np.inf, 0, top), out=_own(s))
    e = np.exp(s, out=_own(s))
    total = np.sum(e, axis=-1, keepdims=True)
    return np.divide(e, np.where(total == 0, 1, total), out=_own(e))


def _attention(
    q: Array, k: Array, v: Array, m: Array, d: Array, scale: float = 1.0, kept: float = 1.0
) -> Array:
    p = _attend(q, k, m, scale)
    return (p if d is None else p * d * kept) @ v


def _attention_back(
    needs: Any, g: Array, out: Array, q: Array, k: Array, v: Array, m: Array, d: Array,
    scale: float = 1.0, kept: float = 1.0,
) -> list[Any]:  # fmt: skip
    """From p computed again, so that nothing of the size of p is kept."""
    p = _attend(q, k, m, scale)
    dv = np.swapaxes(p if d is None else p * d * kept, -1, -2) @ g
    dp = g @ np.swapaxes(v, -1, -2)
    dp = dp if d is None else dp * d * kept
    dp = np.subtract(dp, np.einsum("...i,...i->...", g, out)[..., None], out=_own(dp))
    ds = np.multiply(p, dp, out=_own(dp))
    dq, dk = ds @ k, np.swapaxes(ds, -1, -2) @ q
    dq, dk = (np.multiply(x, scale, out=_own(x)) for x in (dq, dk))
    return [dq, dk, dv, ds, None]


attention = primitive(_attention, joint=_attention_back, saves="oqkvmd", name="attention")
