"""Fast paths: one primitive that equals a composition, with its gradient in closed form.

A fused operation records one node, passes over memory less often, and stays finite where the
textbook formula overflows. `@equals(primitive)` ties it to the composition of the same signature,
in functional.py, losses.py or convolution.py; a test walks all such pairs. The one trick: rules
are, as everywhere, NumPy functions that also work on Tensors, so a fused operation can be
differentiated twice; where arrays allow writing in place, the same formula is written so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .primitives import Array, Primitive, primitive

COMPOSED: dict[str, Callable[..., Any]] = {}  # a fused primitive's name: the composition it equals


def equals(fast: Primitive) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a composition its fast path: `f(...)` runs it, `f(..., fused=False)` the composition."""

    def pair(composition: Callable[..., Any]) -> Callable[..., Any]:
        COMPOSED[fast.name] = composition

        @functools.wraps(composition)
        def either(*args: Any, fused: bool = True, **params: Any) -> Any:
            return (fast if fused else composition)(*args, **params)

        return either

    return pair


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


def _cross_entropy(x: Array, target: Array, scale: Array, total: bool = True) -> Array:
    """Per sample scale * -log softmax(x)[target], over classes on axis 1; summed if `total`."""
    z = x - np.max(x, axis=1, keepdims=True)
    picked = np.take_along_axis(z, np.expand_dims(target, 1), axis=1)[:, 0]
    out = scale * (np.log(np.sum(np.exp(z), axis=1)) - picked)
    return np.sum(out) if total else out


def _cross_entropy_x(
    g: Array, out: Array, x: Array, t: Array, s: Array, total: bool = True
) -> Array:
    """(softmax(x) - onehot) * scale: the two arrivals at the logits, already added up."""
    p, at = softmax(x, axis=1), np.expand_dims(t, 1)
    slope = np.expand_dims(np.broadcast_to(g * s, t.shape), 1)
    if isinstance(p, np.ndarray) and isinstance(slope, np.ndarray):  # no one-hot, no copy
        p *= slope
        np.put_along_axis(p, at, np.take_along_axis(p, at, axis=1) - slope, axis=1)
        return p
    one_hot = at == np.arange(x.shape[1]).reshape(-1, *[1] * (x.ndim - 2))
    return slope * (p - one_hot.astype(x.dtype))


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
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


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
    return scale * np.sum(d * d) if total else scale * (d * d)


squared_difference = primitive(
    _squared_difference,
    lambda g, out, y, t, s, total=True: g * s * 2 * (y - t),
    lambda g, out, y, t, s, total=True: g * s * -2 * (y - t),
    None,
    saves="yts yts -",
    name="squared_difference",
)
