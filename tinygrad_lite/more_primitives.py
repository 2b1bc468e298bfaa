"""The rest of the table: primitives that the core's own rules do not need.

Rarer elementwise functions, running sums and products, functions that move entries, updates at an
index. The one trick is in `mover`: send the numbers 1, 2, 3, ... through a function that only
copies entries, and they tell where each entry of its output came from. One rule serves them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from math import log as ln
from math import pi
from typing import Any

import numpy as np

from . import primitives as p
from .primitives import Array, Primitive, at_most_once, finite, primitive, restore, strong

# fmt: off
exp2  = primitive(np.exp2,  lambda g, out, x: g * out * ln(2), saves="o")
log2  = primitive(np.log2,  lambda g, out, x: g / x / ln(2), saves="x", pole=True)
log10 = primitive(np.log10, lambda g, out, x: g / x / ln(10), saves="x", pole=True)
cbrt  = primitive(np.cbrt,  lambda g, out, x: g / (3 * out * out), saves="o", pole=True)
logaddexp  = primitive(np.logaddexp,  lambda g, out, x, y: g * np.exp(x - finite(out)),
                                      lambda g, out, x, y: g * np.exp(y - finite(out)),
                                      saves="xo yo")
logaddexp2 = primitive(np.logaddexp2, lambda g, out, x, y: g * np.exp2(x - finite(out)),
                                      lambda g, out, x, y: g * np.exp2(y - finite(out)),
                                      saves="xo yo")
deg2rad = primitive(np.deg2rad, lambda g, out, x: g * (pi / 180), saves="-")
radians = primitive(np.radians, lambda g, out, x: g * (pi / 180), saves="-")
rad2deg = primitive(np.rad2deg, lambda g, out, x: g * (180 / pi), saves="-")
degrees = primitive(np.degrees, lambda g, out, x: g * (180 / pi), saves="-")
float_power = primitive(np.float_power, p.power_x, p.power_y, saves="xy ox", pole=True)
mod  = primitive(np.mod,  lambda g, out, x, y: g,
                          lambda g, out, x, y: -g * np.floor(x / y), saves="- xy", name="mod")
fmod = primitive(np.fmod, lambda g, out, x, y: g,
                          lambda g, out, x, y: -g * np.trunc(x / y), saves="- xy")
fabs = primitive(np.fabs, lambda g, out, x: g * np.sign(x), saves="x")
fmax = primitive(np.fmax, p.share_x, p.share_y, saves="oxy oxy")
fmin = primitive(np.fmin, p.share_x, p.share_y, saves="oxy oxy")
copysign   = primitive(np.copysign, lambda g, out, x, y:
                       g * np.sign(x) * np.copysign(1, strong(y, g)), None, saves="xy -")
nan_to_num = primitive(np.nan_to_num,
                       lambda g, out, x, copy=True, nan=0.0, posinf=None, neginf=None:
                       np.where(np.isfinite(x), g, 0), saves="x")
sinc       = primitive(np.sinc, lambda g, out, x: g * _sinc_slope(x), saves="x")
# fmt: on


def _sinc_slope(x: Array) -> Array:
    """(cos πx - sinc x) / x; near 0, where that cancels, its Taylor series."""
    near = abs(x) < 0.3
    z = np.where(near, x, 0)
    series, term = z * 0, z * (-pi * pi / 3)  # term k: (-1)^k 2k π^2k x^(2k-1) / (2k+1)!
    for k in range(1, 14):
        series = series + term
        term = term * (z * z) * (-pi * pi / (k * (2 * k + 3) * 2))
    far = np.where(near, 1, x)
    return np.where(near, series, (np.cos(pi * far) - np.sinc(far)) / far)


# Reductions, and running sums and products


def _var(
    g: Array, out: Array, x: Array, axis: Any = None, ddof: float = 0, keepdims: bool = False
) -> Array:
    centred = x - np.mean(x, axis=axis, keepdims=True)
    return restore(g * (2 / (p.count(x, axis) - ddof)), x, axis, keepdims) * centred


def _std(
    g: Array, out: Array, x: Array, axis: Any = None, ddof: float = 0, keepdims: bool = False
) -> Array:
    return _var(g / (2 * np.where(out == 0, np.inf, out)), out, x, axis, ddof, keepdims)


def _prod(g: Array, out: Array, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """The product of all the other entries, by running products from both ends: nothing divides."""
    axes = p.axes_of(x, axis)
    order = [a for a in range(x.ndim) if a not in axes] + list(axes)
    last = np.transpose(x, order)
    shape = last.shape
    last = last.reshape((*shape[: x.ndim - len(axes)], p.count(x, axis)))
    one = np.ones_like(last[..., :1])
    left = np.cumprod(np.concatenate([one, last[..., :-1]], axis=-1), axis=-1)
    right = np.cumprod(np.concatenate([one, np.flip(last, -1)[..., :-1]], axis=-1), axis=-1)
    others = (left * np.flip(right, -1)).reshape(shape)
    return restore(g, x, axis, keepdims) * np.transpose(others, np.argsort(order))


def _cumsum(g: Array, out: Array, x: Array, axis: int | None = None) -> Array:
    a = axis or 0
    return np.flip(np.cumsum(np.flip(g, a), axis=a), a).reshape(x.shape)


def _cumprod(g: Array, out: Array, x: Array, axis: int | None = None) -> Array:
    """(product of the earlier entries) * r, where r[i] = g[i] + x[i+1] r[i+1]: nothing divides.

    The recurrence is solved in log2(n) doublings: r over a window of 2s entries is r over the
    first s plus their product times r over the next s.
    """
    a = axis or 0
    x_, g_, out_ = (np.moveaxis(t, a, -1) for t in (x.reshape(out.shape), g, out))
    one = np.ones_like(x_[..., :1])
    r, product, s = g_, np.concatenate([x_[..., 1:], 0 * one], axis=-1), 1
    while s < x_.shape[-1]:
        nothing = np.zeros_like(x_[..., :s])
        r = r + product * np.concatenate([r[..., s:], nothing], axis=-1)
        product = product * np.concatenate([product[..., s:], nothing], axis=-1)
        s *= 2
    earlier = np.concatenate([one, out_[..., :-1]], axis=-1)
    return np.moveaxis(earlier * r, -1, a).reshape(x.shape)


var = primitive(np.var, _var, saves="x")
std = primitive(np.std, _std, saves="ox")
prod = primitive(np.prod, _prod, saves="x")
cumsum = primitive(np.cumsum, _cumsum, saves="-")
cumprod = primitive(np.cumprod, _cumprod, saves="ox")


# Functions that only move entries, or fill with zeros

flip = primitive(np.flip, lambda g, out, x, axis=None: np.flip(g, axis), saves="-")
roll = primitive(
    np.roll,
    lambda g, out, x, shift, axis=None: np.roll(g, np.negative(shift), axis),
    saves="-",
)


def mover(function: Callable[..., Any], params: str) -> Primitive:
    """Register a function of one array that repeats, drops or rearranges its entries."""

    def rule(g: Array, out: Array, x: Array, **params: Any) -> Array:
        numbers = np.arange(1, math.prod(x.shape) + 1).reshape(x.shape)
        return scatter(g, source=function(numbers, **params), shape=x.shape)

    new = primitive(function, rule, saves="-")
    new.params = tuple(params.split())
    return new


def _scatter(g: Array, source: Any, shape: tuple[int, ...]) -> Array:
    """Sum the entries of g into the places that `source` numbers from 1 (0: nowhere)."""
    total = np.bincount(np.ravel(source), np.ravel(g), minlength=math.prod(shape) + 1)
    return total[1:].reshape(shape).astype(g.dtype)


def _gather(g: Array, out: Array, x: Array, source: Any, shape: tuple[int, ...]) -> Array:
    return np.concatenate([np.zeros_like(g, shape=(1,)), g.ravel()])[source]


scatter = primitive(_scatter, _gather, saves="-", name="scatter")
mover(np.repeat, "repeats axis")
mover(np.tile, "reps")
mover(np.rot90, "k axes")
mover(np.pad, "pad_width mode")
mover(np.diag, "k")
mover(np.diagflat, "k")
mover(np.diagonal, "offset axis1 axis2")
mover(np.tril, "k")
mover(np.triu, "k")
mover(np.take, "indices axis mode")
mover(np.take_along_axis, "indices axis")
mover(np.delete, "obj axis")


# New arrays with some entries written


def _update(x: Array, value: Array, index: Any) -> Array:
    out = np.copy(x)
    out[index] = value
    return out


def _add(x: Array, value: Array, index: Any) -> Array:
    out = np.copy(x)
    np.add.at(out, index, value)
    return out


def _updated_value(g: Array, out: Array, x: Array, value: Array, index: Any) -> Array:
    """Of values written to the same place only the last one counts."""
    taken = g[index]
    if at_most_once(index):
        return taken
    order = np.arange(1, taken.size + 1).reshape(taken.shape)
    return taken * (_update(np.zeros(x.shape, int), order, index)[index] == order)


update: Primitive = primitive(
    _update,
    lambda g, out, x, value, index: update(g, np.zeros_like(g, shape=()), index=index),
    _updated_value,
    saves="- -",
    name="index_update",
)
add_at = primitive(
    _add,
    lambda g, out, x, value, index: g,
    lambda g, out, x, value, index: g[index],
    saves="- -",
    name="index_add",
)
