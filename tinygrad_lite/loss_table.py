"""The table of losses: for each its formula, and its derivative on paper.

A row is a composition (what a learner looks at) and one slope per argument (the closed form). From
both `row` makes the two kernels of one signature, `kernel(*arrays, scale, total=, fused=)`: the
composition of primitives, and one fused node. The one trick: every reduction is a factor. `scale`
holds 1/n and all weights, and `total` says whether to sum, so that no kernel knows of reductions.

Formulas and slopes are plain NumPy that also runs on Tensors. Where a formula has a kink, slopes
are PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import fused as fast
from .array_methods import raw
from .conversion import as_array
from .fused import equals, sigmoid
from .primitives import Array, primitive

Formula = Callable[..., Any]


def row(name: str, value: Formula, *slopes: Formula | None, axis: int | None = None) -> Any:
    """The pair of kernels of one loss; `axis` is the one over which `value` sums, if any."""

    def total_of(*args: Any, total: bool = True, **params: Any) -> Any:
        out = args[-1] * value(*args[:-1], **params)
        return np.sum(out) if total else out

    def rule(slope: Formula) -> Formula:
        def pull(g: Any, out: Any, *args: Any, total: bool = True, **params: Any) -> Any:
            each = g * args[-1]
            if axis is not None and np.ndim(raw(each)):
                each = np.expand_dims(each, axis)
            return each * slope(*args[:-1], **params)

        return pull

    new = primitive(total_of, *(s and rule(s) for s in slopes), None, name=name)
    new.params = ("total", *value.__code__.co_varnames[len(slopes) : value.__code__.co_argcount])
    return equals(new)(total_of)


def hinge(x: Array) -> Array:
    """max(x, 0), with slope 1 at 0."""
    return np.clip(x, 0, None)


def _is(condition: Array, x: Array) -> Array:
    """1 where the condition holds, else 0, in the dtype of x."""
    return as_array(condition).astype(x.dtype)


def _clamped_log(p: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(p), -100)


# log p, no less than -100, with a slope no steeper than 1e12: for probabilities of exactly 0
clamped_log = primitive(
    _clamped_log, lambda g, out, p: g / np.maximum(p, 1e-12), saves="p", name="clamped_log"
)

# Entry by entry: a prediction y or logits x, a target t


def _smooth_l1(y: Array, t: Array, beta: float = 1.0) -> Array:
    d = abs(y - t)
    return np.where(d < beta, d * d / (2 * beta or 1), d - beta / 2)


def _smooth_l1_slope(y: Array, t: Array, beta: float = 1.0) -> Array:
    return np.clip((y - t) / beta, -1, 1) if beta else np.sign(y - t)


def _huber(y: Array, t: Array, delta: float = 1.0) -> Array:
    d = abs(y - t)
    return np.where(d <= delta, d * d / 2, delta * (d - delta / 2))


def _poisson(
    x: Array, t: Array, log_input: bool = True, full: bool = False, eps: float = 1e-8
) -> Array:
    out = np.exp(x) - t * x if log_input else x - t * np.log(x + eps)
    if full:  # Stirling's formula for log t!
        u = np.where(t > 1, t, 1)
        out = out + np.where(t > 1, u * np.log(u) - u + 0.5 * np.log(2 * math.pi * u), 0)
    return out


def _poisson_t(
    x: Array, t: Array, log_input: bool = True, full: bool = False, eps: float = 1e-8
) -> Array:
    u = np.where(t > 1, t, 1)
    stirling = np.where(t > 1, np.log(u) + 0.5 / u, 0) if full else 0
    return stirling - (x if log_input else np.log(x + eps))


def _gaussian(y: Array, t: Array, v: Array, full: bool = False) -> Array:
    return 0.5 * (np.log(v) + (y - t) * (y - t) / v + (math.log(2 * math.pi) if full else 0))


def _kl(x: Array, t: Array, log_target: bool = False) -> Array:
    if log_target:
        return np.exp(t) * (t - x)
    return np.where(t > 0, t * (np.log(np.where(t > 0, t, 1)) - np.where(t > 0, x, 0)), 0)


def _kl_t(x: Array, t: Array, log_target: bool = False) -> Array:
    if log_target:
        return np.exp(t) * (t - x + 1)
    return np.where(t > 0, np.log(np.where(t > 0, t, 1)) + 1 - x, 0)


def _focal_parts(x: Array, t: Array) -> tuple[Array, Array]:
    """1 - p' and -log p', where no two large numbers cancel."""
    miss = t * sigmoid(-x) + (1 - t) * sigmoid(x)
    return miss, t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)


def _focal(x: Array, t: Array, alpha: float, gamma: float) -> Array:
    miss, cost = _focal_parts(x, t)
    return (alpha * t + (1 - alpha) * (1 - t)) * cost * miss**gamma


def _focal_slope(x: Array, t: Array, alpha: float, gamma: float) -> Array:
    (miss, cost), p, q = _focal_parts(x, t), sigmoid(x), sigmoid(-x)
    steep = np.where(miss == 0, 1, miss) ** (gamma - 1)  # times p q, which is then 0
    fall = gamma * cost * steep * (1 - 2 * t) * p * q
    return (alpha * t + (1 - alpha) * (1 - t)) * (((1 - t) * p - t * q) * miss**gamma + fall)


# fmt: off
l1_loss        = row("l1_loss",        lambda y, t: abs(y - t),
                                       lambda y, t: np.sign(y - t), lambda y, t: np.sign(t - y))
smooth_l1_loss = row("smooth_l1_loss", _smooth_l1, _smooth_l1_slope,
                                       lambda y, t, **beta: -_smooth_l1_slope(y, t, **beta))
huber_loss     = row("huber_loss",     _huber, lambda y, t, delta: np.clip(y - t, -delta, delta),
                                       lambda y, t, delta: np.clip(t - y, -delta, delta))
binary_cross_entropy = row("binary_cross_entropy",
                           lambda p, t: -(t * clamped_log(p) + (1 - t) * clamped_log(1 - p)),
                           lambda p, t: (1 - t) / np.maximum(1 - p, 1e-12)
                                        - t / np.maximum(p, 1e-12),
                           lambda p, t: clamped_log(1 - p) - clamped_log(p))
kl_div           = row("kl_div", _kl, lambda x, t, log_target: -(np.exp(t) if log_target else t),
                                 _kl_t)
poisson_nll_loss = row("poisson_nll_loss", _poisson, lambda x, t, log_input, full, eps:
                       np.exp(x) - t if log_input else 1 - t / (x + eps), _poisson_t)
gaussian_nll_loss = row("gaussian_nll_loss", _gaussian,
                        lambda y, t, v, full: (y - t) / v, lambda y, t, v, full: (t - y) / v,
                        lambda y, t, v, full: 0.5 * (1 - (y - t) * (y - t) / v) / v)
hinge_embedding_loss = row("hinge_embedding_loss",
                           lambda x, t, margin: np.where(t > 0, x, hinge(margin - x)),
                           lambda x, t, margin: _is(t > 0, x)
                                                - _is((t < 0) & (x <= margin), x), None)
soft_margin_loss = row("soft_margin_loss", lambda x, t: np.logaddexp(0, -t * x),
                                           lambda x, t: -t * sigmoid(-t * x), None)
margin_ranking_loss = row("margin_ranking_loss",
                          lambda x, y, t, margin: hinge(margin - t * (x - y)),
                          lambda x, y, t, margin: -t * _is(t * (x - y) <= margin, x),
                          lambda x, y, t, margin: t * _is(t * (x - y) <= margin, x), None)
focal_loss       = row("focal_loss", _focal, _focal_slope, None)
# fmt: on

# Row by row: one number for each sample, from all of its entries


def _picked(x: Array, t: Array) -> Array:
    return np.take_along_axis(x, np.expand_dims(t, 1), axis=1)


def one_hot(x: Array, t: Array) -> Array:
    classes = np.arange(x.shape[1]).reshape(-1, *[1] * (x.ndim - 2))
    return _is(np.expand_dims(t, 1) == classes, x)


def _violation(x: Array, t: Array, margin: float) -> Array:
    """By how much each wrong class comes within the margin of the right one, or 0."""
    z = margin - _picked(x, t) + x
    return np.where((z > 0) & (one_hot(x, t) == 0), z, 0)


def _multi_margin_slope(x: Array, t: Array, p: int, margin: float) -> Array:
    z = _violation(x, t, margin)
    d = (p / x.shape[1]) * (z if p == 2 else _is(z > 0, x))
    return d - one_hot(x, t) * np.sum(d, axis=1, keepdims=True)


def _cosine(x: Array, y: Array) -> Array:
    """x·y / (|x| |y|) over the last axis, kept; 1e-12 in the roots as PyTorch has it."""
    xx, yy = (np.sum(v * v, axis=-1, keepdims=True) + 1e-12 for v in (x, y))
    return np.sum(x * y, axis=-1, keepdims=True) / np.sqrt(xx) / np.sqrt(yy)


def _cosine_embedding(x: Array, y: Array, t: Array, margin: float) -> Array:
    cos = _cosine(x, y)[..., 0]
    return np.where(t > 0, 1 - cos, hinge(cos - margin))


def _cosine_embedding_slope(x: Array, y: Array, t: Array, margin: float) -> Array:
    cos, t = _cosine(x, y), np.expand_dims(t, -1)
    xx, yy = (np.sum(v * v, axis=-1, keepdims=True) + 1e-12 for v in (x, y))
    sign = _is((t < 0) & (cos >= margin), x) - _is(t > 0, x)
    return sign * (y / np.sqrt(xx) / np.sqrt(yy) - cos * x / xx)


def _distance(x: Array, y: Array, p: float, eps: float) -> Array:
    return np.linalg.norm(x - y + eps, ord=p, axis=-1)


def _triplet(
    a: Array, p: Array, n: Array, margin: float, norm: float, eps: float, swap: bool
) -> Array:
    far = _distance(a, n, norm, eps)
    if swap:
        far = np.minimum(far, _distance(p, n, norm, eps))
    return hinge(margin + _distance(a, p, norm, eps) - far)


def _triplet_slope(which: str) -> Formula:
    def unit(x: Array, y: Array, norm: float, eps: float) -> Array:
        """The slope of the distance by x: 0 where the distance is 0."""
        d, v = np.expand_dims(_distance(x, y, norm, eps), -1), x - y + eps
        return np.sign(v) * (abs(v) / np.where(d == 0, np.inf, d)) ** (norm - 1)

    def slope(
        a: Array, p: Array, n: Array, margin: float, norm: float, eps: float, swap: bool
    ) -> Array:
        near, far, other = (_distance(*xy, norm, eps) for xy in ((a, p), (a, n), (p, n)))
        from_a: Any = 1  # or half of it at a tie, as np.minimum has it
        if swap:
            from_a = np.expand_dims((_is(far < other, a) + _is(far <= other, a)) / 2, -1)
            far = np.minimum(far, other)
        active = np.expand_dims(_is(margin + near - far >= 0, a), -1)
        ap, an, pn = (unit(*xy, norm, eps) for xy in ((a, p), (a, n), (p, n)))
        if which == "a":
            return active * (ap - from_a * an)
        if which == "p":
            return active * (-ap - (1 - from_a) * pn)
        return active * (from_a * an + (1 - from_a) * pn)

    return slope


# fmt: off
nll_loss = row("nll_loss", lambda x, t: -_picked(x, t)[:, 0],
                           lambda x, t: -one_hot(x, t), None, axis=1)
multi_margin_loss = row("multi_margin_loss", lambda x, t, p, margin:
                        np.sum(_violation(x, t, margin) ** p, axis=1) / x.shape[1],
                        _multi_margin_slope, None, axis=1)
cosine_embedding_loss = row("cosine_embedding_loss", _cosine_embedding, _cosine_embedding_slope,
                            lambda x, y, t, margin: _cosine_embedding_slope(y, x, t, margin),
                            None, axis=-1)
triplet_margin_loss = row("triplet_margin_loss", _triplet, *map(_triplet_slope, "apn"), axis=-1)
# fmt: on


# Those whose closed form is written for speed, in fused.py


@equals(fast.squared_difference)
def squared_difference(y: Array, t: Array, scale: Array, total: bool = True) -> Array:
    out = scale * (y - t) ** 2
    return np.sum(out) if total else out


@equals(fast.cross_entropy)
def cross_entropy(x: Array, t: Array, scale: Array, total: bool = True, saved: Any = None) -> Array:
    """scale * (log Σ exp z - z[t]), with z = x - max x: the same, and nothing overflows."""
    z = x - np.max(raw(x), axis=1, keepdims=True)
    out = scale * (np.log(np.sum(np.exp(z), axis=1)) - np.squeeze(_picked(z, t), 1))
    return np.sum(out) if total else out


@equals(fast.soft_cross_entropy)
def soft_cross_entropy(x: Array, q: Array, total: bool = True) -> Array:
    z = x - np.max(raw(x), axis=1, keepdims=True)
    log_softmax = z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    out = -np.sum(q * log_softmax, axis=1)
    return np.sum(out) if total else out


@equals(fast.sigmoid_cross_entropy)
def sigmoid_cross_entropy(
    x: Array, t: Array, weight: Array, pos_weight: Array, total: bool = True
) -> Array:
    """weight * (pos_weight * t * softplus(-x) + (1 - t) * softplus(x))."""
    out = weight * (pos_weight * t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x))
    return np.sum(out) if total else out
