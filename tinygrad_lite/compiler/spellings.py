"""The formulas that have a fused operation, as equations: what recognition.py looks for.

A row is a fused operation and the ways in which people spell it, functions of the same variables.
Rows build on each other: softmax is found before the logarithm of a softmax. The one trick: called
with arrays, a spelling computes, and a test compares it with the operation; called with stand-ins
for them (`Formula`), it returns the pattern to look for.

`axis` is any axis, or several; `shift` is constant along them, and itself constant or a maximum of
x. A row gives None for what its operation does not cover.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import fused as fast
from ..loss_table import nll_loss
from ..primitives import PRIMITIVES, logsumexp


class Formula(np.lib.mixins.NDArrayOperatorsMixin):
    """What a primitive, or "picked", gives of its arguments; or a variable and its name."""

    def __init__(self, op: Any, args: Any, params: Any = None) -> None:
        self.op, self.args, self.params = op, args, params or {}

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any) -> Formula:
        return Formula(PRIMITIVES[ufunc], inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, params: Any) -> Formula:
        return Formula(PRIMITIVES[function], args, params)

    @staticmethod
    def _call_primitive(primitive: Any, args: Any, params: Any) -> Formula:
        return Formula(primitive, args, params)


def names(f: Callable[..., Any]) -> tuple[str, ...]:
    return f.__code__.co_varnames[: f.__code__.co_argcount]


def picked(x: Any, labels: Any) -> Any:
    """Of every row the entry at its label, by an index or by take_along_axis."""
    made = isinstance(x, Formula)
    return Formula("picked", (x, labels)) if made else x[np.arange(len(labels)), labels]


def _log_sums(x: Any, axis: Any, keepdims: bool) -> list[Any]:
    over: Any = {"axis": axis, "keepdims": keepdims}
    top = np.max(x, axis=axis, keepdims=True)
    return [
        np.log(np.sum(np.exp(x), **over)),
        np.log(np.sum(np.exp(x - top), **over)) + np.max(x, **over),
        logsumexp(x, **over),
    ]


def _cross_entropy(x: Any, labels: Any, scale: Any, total: bool = False) -> Any:
    labels = labels.reshape(x.shape[:1] + x.shape[2:])
    return fast.cross_entropy(x, labels, scale, total=total, saved=[])


def _soft(x: Any, q: Any, total: bool = False, sign: int = 1) -> Any:
    if np.shape(q) == x.shape:
        out = fast.soft_cross_entropy(x, q, total=total)
        return out if sign == 1 else -out
    return None


def _logistic(x: Any, t: Any, weight: int) -> Any:
    exact = getattr(t, "dtype", np.dtype(float)).kind in "if"  # 1 - t of unsigned t may wrap
    return fast.sigmoid_cross_entropy(x, t, weight, 1, total=False) if exact else None


def _standardised(x: Any, axis: Any, eps: Any) -> list[Any]:
    over: Any = {"axis": axis, "keepdims": True}
    mean = np.mean(x, **over)
    d, found = x - mean, []
    for var in np.var(x, **over), np.mean(fast.squared_difference(x, mean, 1, total=False), **over):
        root = np.sqrt(var + eps)
        found += [d / root, d * (1 / root), d * (var + eps) ** -0.5, d / (var + eps) ** 0.5]
    return found


def _layer_norm(x: Any, axis: Any, eps: Any) -> Any:
    axes = [*np.atleast_1d(axis)]
    if axes == [*range(x.ndim - len(axes), x.ndim)] and isinstance(eps, float):
        return fast.layer_norm(x, None, None, eps=eps, ndim=len(axes))
    return None


def _affine(x: Any, w: Any, b: Any, eps: Any, ndim: Any) -> Any:
    if all(v is None or np.shape(v) == x.shape[-ndim:] for v in (w, b)):
        return fast.layer_norm(x, w, b, eps=eps, ndim=ndim)
    return None


# fmt: off
SPELLINGS: list[tuple[Callable[..., Any], Callable[..., list[Any]]]] = [
    (lambda x, axis: fast.softmax(x, axis=axis), lambda x, axis, shift: [
        np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True),
        fast.softmax(x - shift, axis=axis),
    ]),
    (lambda x, axis: fast.log_softmax(x, axis=axis), lambda x, axis, shift: [
        np.log(fast.softmax(x, axis=axis)),
        *(x - log_sum for log_sum in _log_sums(x, axis, True)),
        x - (np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift),
        x - np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) - shift,
        fast.log_softmax(x - shift, axis=axis),
    ]),
    (lambda x, labels: _cross_entropy(x, labels, -1), lambda x, labels: [
        picked(fast.log_softmax(x, axis=1), labels),
        np.log(picked(fast.softmax(x, axis=1), labels)),
        *(picked(x, labels) - log_sum for log_sum in _log_sums(x, 1, False)),
    ]),
    (lambda x, labels: _cross_entropy(x, labels, 1), lambda x, labels: [
        log_sum - picked(x, labels) for log_sum in _log_sums(x, 1, False)
    ]),
    (_cross_entropy, lambda x, labels, scale, total, shift: [
        nll_loss(fast.log_softmax(x, axis=1), labels, scale, total=total),
        fast.cross_entropy(x - shift, labels, scale, total=total),
    ]),
    (lambda x, q: _soft(x, q, sign=-1), lambda x, q: [
        np.sum(q * fast.log_softmax(x, axis=1), axis=1),
    ]),
    (lambda x, q: _soft(x, q, True, -1), lambda x, q: [
        np.sum(q * fast.log_softmax(x, axis=1)),
    ]),
    (lambda x, q, total: _soft(x, q, total), lambda x, q, total, shift: [
        fast.soft_cross_entropy(x - shift, q, total=total),
    ]),
    (lambda x: fast.sigmoid(x), lambda x: [
        1 / (1 + np.exp(-x)),
        np.exp(x) / (1 + np.exp(x)),
    ]),
    (lambda x, t: _logistic(x, t, -1), lambda x, t: [
        t * np.log(fast.sigmoid(x)) + (1 - t) * np.log(1 - fast.sigmoid(x)),
    ]),
    (lambda x, t: _logistic(x, t, 1), lambda x, t: [
        -t * np.log(fast.sigmoid(x)) - (1 - t) * np.log(1 - fast.sigmoid(x)),
        -(t * np.log(fast.sigmoid(x))) - (1 - t) * np.log(1 - fast.sigmoid(x)),
        np.logaddexp(0, x) - t * x,
        np.log(1 + np.exp(x)) - t * x,
        np.log1p(np.exp(x)) - t * x,
        np.maximum(x, 0) - t * x + np.log(1 + np.exp(-abs(x))),
        np.maximum(x, 0) - t * x + np.log1p(np.exp(-abs(x))),
        t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x),
        1 * t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x),
    ]),
    (lambda y, t: fast.squared_difference(y, t, 1, total=False), lambda y, t: [
        (y - t) ** 2,
        (y - t) * (y - t),
        np.square(y - t),
    ]),
    (_layer_norm, _standardised),
    (lambda x, w, eps, ndim: _affine(x, w, None, eps, ndim), lambda x, w, eps, ndim: [
        fast.layer_norm(x, None, None, eps=eps, ndim=ndim) * w,
    ]),
    (_affine, lambda x, w, b, eps, ndim: [
        fast.layer_norm(x, w, None, eps=eps, ndim=ndim) + b,
    ]),
]
# fmt: on
