"""Differences, integrals and interpolation of sampled functions, composed from other functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import primitives as p
from .numpy_functions import Array, axis_of, composition, floating, lift, lifted
from .tensor import raw


@composition(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    if n < 0:
        raise ValueError(f"diff: n must not be negative, got {n}")
    a = lift(a)
    axis = axis_of(axis, a.ndim)

    def edge(value: Any) -> Array:
        value = lift(p.strong(value, a))
        shape = tuple(1 if i == axis else m for i, m in enumerate(a.shape))
        return np.broadcast_to(value, shape) if value.ndim == 0 else value

    if n and (prepend is not None or append is not None):
        before, after = ([] if e is None else [edge(e)] for e in (prepend, append))
        a = np.concatenate([*before, a, *after], axis=axis)
    later, earlier = ((slice(None),) * axis + (s,) for s in (slice(1, None), slice(None, -1)))
    for _ in range(n):
        a = a[later] - a[earlier]
    return a


@composition(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    ary = np.ravel(lift(ary))
    before, after = (
        [] if e is None else [np.ravel(lift(p.strong(e, ary)))] for e in (to_begin, to_end)
    )
    return np.concatenate([*before, np.diff(ary), *after])


@composition(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = np.moveaxis(lift(y), axis, -1)
    if x is not None:
        x = lift(x)
        dx = np.diff(x if x.ndim == 1 else np.moveaxis(x, axis, -1))
    return np.sum(dx * (y[..., 1:] + y[..., :-1]) / 2, axis=-1)


@composition(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Slopes between neighbours, averaged inside and extrapolated at the ends."""
    f = floating(f)
    axes = [axis_of(i, f.ndim) for i in p.axes_of(f, axis)]
    if len(varargs) not in (0, 1, len(axes)) or (
        len(varargs) == 1 < len(axes) and np.ndim(varargs[0])
    ):
        raise TypeError(f"gradient: got {len(varargs)} spacings for {len(axes)} axes")
    if edge_order not in (1, 2):
        raise ValueError(f"gradient: edge_order must be 1 or 2, got {edge_order}")
    spacings = varargs if len(varargs) == len(axes) else (varargs or (1,)) * len(axes)
    out = tuple(
        np.moveaxis(_slopes(np.moveaxis(f, i, -1), h, edge_order), -1, i)
        for i, h in zip(axes, spacings, strict=True)
    )
    return out[0] if len(out) == 1 else out


def _slopes(f: Array, h: Any, edge_order: int) -> Array:
    if f.shape[-1] < edge_order + 1:
        raise ValueError(
            f"gradient: at least {edge_order + 1} entries are needed, got {f.shape[-1]}"
        )
    if np.ndim(h) > 1 or (np.ndim(h) == 1 and np.shape(h) != f.shape[-1:]):
        raise ValueError(f"gradient: coordinates of shape {np.shape(h)} for {f.shape[-1]} entries")
    h = (
        np.diff(lift(h))
        if np.ndim(h)
        else np.broadcast_to(lift(p.strong(h, f)), (f.shape[-1] - 1,))
    )
    s = np.diff(f) / h
    left, right = h[:-1], h[1:]
    inside = (right * s[..., :-1] + left * s[..., 1:]) / (left + right)
    first, last = s[..., :1], s[..., -1:]
    if edge_order == 2:  # the slope at its end of a parabola through three points
        bend = np.diff(s) / (left + right)
        first, last = first - bend[..., :1] * h[:1], last + bend[..., -1:] * h[-1:]
    return np.concatenate([first, inside, last], axis=-1)


@composition(np.interp)
def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    """At a knot, the slope to its right (at the last one, to its left); outside, 0."""
    x, xp, fp = lifted((x, floating(xp), floating(fp)))
    if xp.ndim != 1 or xp.shape != fp.shape or not xp.size:
        raise ValueError(
            f"interp: xp and fp must be equally long, not empty; got {xp.shape}, {fp.shape}"
        )
    if period is not None:
        x, xp, left, right = x % period, xp % period, None, None
        order = np.argsort(raw(xp))
        xp, fp = xp[order], fp[order]
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
    inside = np.clip(x, xp[0], xp[-1])
    i = np.clip(np.searchsorted(raw(xp), raw(inside), "right") - 1, 0, max(xp.size - 2, 0))
    j = np.minimum(i + 1, xp.size - 1)
    width = xp[j] - xp[i]
    out = fp[i] + (inside - xp[i]) * ((fp[j] - fp[i]) / np.where(width == 0, 1, width))
    out = out if left is None else np.where(x < xp[0], left, out)
    return out if right is None else np.where(x > xp[-1], right, out)
