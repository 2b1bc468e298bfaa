"""NumPy functions on Tensors that are made of other functions.

The one trick: a composition is ordinary NumPy code. It is written with NumPy functions that work
on Tensors already, so it records their nodes, and needs no gradient rule of its own.
`@composition(np.f)` makes `np.f(tensor)` call it. It takes NumPy's parameters, less those that
cannot be supported (such as `out=`): naming one of these is then an error, and never ignored.
One-liners are in the table at the end.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from . import more_primitives as more
from . import primitives as p
from .conversion import as_array, operand
from .dispatch import COMPOSITIONS
from .tensor import Tensor, apply, constant, raw

Array = Any
Composition = Callable[..., Any]


def composition(*functions: Any) -> Callable[[Composition], Composition]:
    """Make NumPy's `functions` call the decorated one when an argument is a Tensor."""

    def register(composed: Composition) -> Composition:
        COMPOSITIONS.update(dict.fromkeys(functions, composed))
        return composed

    return register


def lift(x: Any) -> Array:
    """A list, a scalar or an array as a constant Tensor; a Tensor as it is."""
    if isinstance(x, Tensor):
        return x
    x = operand(as_array(x) if np.isscalar(x) else x)
    return constant(x if x.ndim else x[()])


def lifted(xs: Any) -> list[Array]:
    """As `lift`, with Python scalars as the others' dtype: they never widen float32."""
    xs = [x if type(x) in (bool, int, float) else lift(x) for x in xs]
    dtype = np.result_type(*(getattr(x, "dtype", x) for x in xs))
    return [x if isinstance(x, Tensor) else constant(dtype.type(x)) for x in xs]


def floating(x: Any) -> Array:
    """As `lift`, with integers as float64: for functions that divide."""
    x = lift(x)
    return x if x.dtype.kind in "fc" else x.astype(float)


def axis_of(axis: Any, ndim: int) -> int:
    """An axis counted from 0 up, checked as NumPy does."""
    i = operator.index(axis)
    if not -ndim <= i < ndim:
        raise np.exceptions.AxisError(i, ndim)
    return i % ndim


# Choosing between values


@composition(np.clip)
def clip(
    a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None
) -> Tensor:
    if (a_min is not None and min is not None) or (a_max is not None and max is not None):
        raise ValueError("clip: give a_min or min, a_max or max, not both")
    return apply(p.clip, (a, min if a_min is None else a_min, max if a_max is None else a_max))


@composition(np.where)
def where(condition: Any, *xy: Any) -> Any:
    if not xy:
        return np.nonzero(condition)
    if len(xy) != 2:
        raise ValueError("where: give both x and y, or neither")
    x, y = xy
    return apply(p.where, (condition, x, y))


@composition(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ValueError(f"select: {len(condlist)} conditions for {len(choicelist)} choices")
    out = default
    for condition, choice in zip(reversed(list(condlist)), reversed(list(choicelist)), strict=True):
        condition = raw(condition)
        condition = condition if hasattr(condition, "dtype") else np.asarray(condition)
        if condition.dtype != np.bool_:
            raise TypeError("select: conditions must be boolean arrays")
        out = np.where(condition, choice, out)
    return out


@composition(np.choose)
def choose(a: Any, choices: Any, mode: str = "raise") -> Any:
    a, n = np.asarray(raw(a)), len(choices)
    if a.dtype.kind not in "biu":
        raise TypeError(f"choose: the index array must hold integers, got {a.dtype}")
    if mode == "raise" and not np.all((a >= 0) & (a < n)):
        raise ValueError(
            f"choose: an index is not in 0 to {n - 1}; mode='wrap' or 'clip' allows it"
        )
    a = a % n if mode == "wrap" else np.clip(a, 0, n - 1)
    return np.select([a == i for i in range(n)], lifted(choices))


@composition(np.full_like)
def full_like(a: Any, fill_value: Any, dtype: Any = None, *, shape: Any = None) -> Any:
    if not (isinstance(fill_value, Tensor) and fill_value.requires_grad):
        out = np.full_like(raw(a), raw(fill_value), dtype=dtype, shape=shape)
        return constant(out[()] if out.ndim == 0 else out) if out.dtype.kind == "f" else out
    dtype = np.dtype(a.dtype if dtype is None else dtype)
    if dtype.kind != "f":
        raise TypeError(
            f"full_like: {dtype} entries cannot carry the fill value's gradient: pass dtype=float"
        )
    return np.broadcast_to(fill_value.astype(dtype), np.shape(a) if shape is None else shape)


# Statistics


@composition(np.median)
def median(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    axes = [axis_of(i, a.ndim) for i in p.axes_of(a, axis)]
    kept = [i for i in range(a.ndim) if i not in axes]
    n = math.prod(a.shape[i] for i in axes)
    if n == 0:
        return np.mean(a, axis=axis, keepdims=keepdims)  # NumPy's warning, and NaN
    rows = np.sort(np.transpose(a, kept + axes).reshape(*(a.shape[i] for i in kept), n))
    out = np.mean(rows[..., (n - 1) // 2 : n // 2 + 1], axis=-1)
    if np.any(np.isnan(rows[..., -1])):  # sorted last
        out = np.where(np.isnan(rows[..., -1]), rows[..., -1], out)
    return np.expand_dims(out, tuple(axes)) if keepdims else out


@composition(np.average)
def average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False
) -> Any:
    a = lift(a)
    if weights is None:
        out = np.mean(a, axis=axis, keepdims=keepdims)
        total = np.full_like(out, p.count(a, axis))
    else:
        weights, axes = lift(weights), p.axes_of(a, axis)
        if weights.shape != a.shape:
            if axis is None or weights.shape != tuple(a.shape[i] for i in axes):
                raise ValueError(
                    f"average: weights {weights.shape} fit neither a {a.shape} nor its axes {axis}"
                )
            others = tuple(i for i in range(a.ndim) if i not in axes)
            weights = np.expand_dims(np.transpose(weights, np.argsort(axes)), others)
        total = np.sum(weights, axis=axis, keepdims=keepdims)
        if np.any(total == 0):
            raise ZeroDivisionError("average: the weights sum to zero")
        out = np.sum(a * weights, axis=axis, keepdims=keepdims) / total
    return (out, np.broadcast_to(total, np.shape(out))) if returned else out


@composition(np.nanmean)
def nanmean(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    a = floating(a)
    found = np.sum(~np.isnan(a), axis=axis, keepdims=keepdims)
    return np.nansum(a, axis, keepdims=keepdims) / np.where(found == 0, np.nan, found).astype(
        a.dtype
    )


def _cumulative(function: Any, start: float, x: Any, axis: Any, include_initial: bool) -> Any:
    if axis is None and x.ndim > 1:
        raise ValueError(f"{function.__name__}: axis= is needed for an array of shape {x.shape}")
    axis = 0 if axis is None else axis
    out = function(x, axis=axis)
    if include_initial:
        first = np.full_like(raw(out).take([0] if out.size else [], axis=axis), start)
        out = np.concatenate([first, out], axis=axis)
    return out


# Norms


def _power(x: Array, exponent: float) -> Array:
    """x ** exponent for x >= 0, with slope 0 at 0, also where the true slope is infinite."""
    with np.errstate(divide="ignore"):
        at_zero = np.float64(0) ** exponent
    return np.where(x == 0, float(at_zero), np.where(x == 0, 1, x) ** exponent)


def _vector_norm(x: Array, ord: Any, axis: Any, keepdims: bool) -> Array:
    options: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
    if ord is None or ord == 2:
        return np.sqrt(np.sum(x * x, **options))
    if ord == np.inf:
        return np.max(abs(x), **options)
    if ord == -np.inf:
        return np.min(abs(x), **options)
    if ord == 0:
        return constant(np.sum((x != 0).astype(x.dtype), **options))
    if ord == 1:
        return np.sum(abs(x), **options)
    if isinstance(ord, str):
        raise ValueError(f"norm: ord={ord!r} is for matrices, not for vectors")
    return _power(np.sum(_power(abs(x), ord), **options), 1 / ord)


def _matrix_norm(x: Array, ord: Any, axis: tuple[int, int], keepdims: bool) -> Array:
    row, column = (axis_of(i, x.ndim) for i in axis)
    if row == column:
        raise ValueError(f"norm: axis={axis} names one axis twice")
    if ord is None or ord in ("fro", "f"):
        return _vector_norm(x, None, (row, column), keepdims)
    if ord in ("nuc", 2, -2):  # abs, because a singular value has a kink at 0: the slope there is 0
        s = abs(np.linalg.svd(np.moveaxis(x, (row, column), (-2, -1)), compute_uv=False))
        reductions: dict[Any, Any] = {"nuc": np.sum, 2: np.max, -2: np.min}
        out = reductions[ord](s, axis=-1)
        return np.expand_dims(out, (row, column)) if keepdims else out
    if ord not in (1, -1, np.inf, -np.inf):
        raise ValueError(
            f"norm: ord={ord!r} is no matrix norm: those are ±1, ±2, ±inf, 'fro' and 'nuc'"
        )
    inner, outer = (row, column) if abs(ord) == 1 else (column, row)
    sums = np.sum(abs(x), axis=inner, keepdims=True)
    out = (np.max if ord > 0 else np.min)(sums, axis=outer, keepdims=True)
    return out if keepdims else np.squeeze(out, (row, column))


@composition(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = floating(x)
    if axis is None and (ord is None or x.ndim == 1):
        return _vector_norm(x, ord, None, keepdims)
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes[0], keepdims)
    if len(axes) == 2:
        return _matrix_norm(x, ord, axes, keepdims)
    raise ValueError(
        f"norm: expected one axis (vectors) or two (matrices), got {axes} of shape {x.shape}"
    )


# Shape


@composition(np.concatenate)
def concatenate(arrays: Any, /, axis: Any = 0) -> Tensor:
    if axis is None:
        arrays, axis = [np.ravel(x) for x in lifted(arrays)], 0
    return apply(p.concatenate, tuple(arrays), {"axis": axis})


@composition(np.stack)
def stack(arrays: Any, axis: int = 0) -> Tensor:
    return apply(p.stack, lifted(arrays), {"axis": axis})


@composition(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    axis = axis_of(axis, ary.ndim)
    n = ary.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        k = int(indices_or_sections)
        if k <= 0:
            raise ValueError(f"array_split: the number of sections must be at least 1, got {k}")
        cuts = [i * (n // k) + min(i, n % k) for i in range(k + 1)]
    else:
        cuts = [0, *(int(i) for i in indices_or_sections), n]
    return [ary[(slice(None),) * axis + (slice(i, j),)] for i, j in pairwise(cuts)]


@composition(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    if np.ndim(indices_or_sections) == 0 and ary.shape[axis] % indices_or_sections:
        raise ValueError(
            f"split: {ary.shape[axis]} entries do not make {indices_or_sections} equal sections; "
            "array_split allows unequal ones"
        )
    return array_split(ary, indices_or_sections, axis)


@composition(np.meshgrid)
def meshgrid(
    *xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> tuple[Any, ...]:
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    n = len(xi)
    axes = [1 - i if indexing == "xy" and i < 2 <= n else i for i in range(n)]
    grids = tuple(
        np.reshape(lift(x), [-1 if a == i else 1 for a in range(n)])
        for x, i in zip(xi, axes, strict=True)
    )
    return grids if sparse else np.broadcast_arrays(*grids)


@composition(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    axis, start = axis_of(axis, a.ndim), start + a.ndim if start < 0 else start
    if not 0 <= start <= a.ndim:
        raise np.exceptions.AxisError(start, a.ndim)
    return np.moveaxis(a, axis, start - (axis < start))


@composition(np.pad)
def pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Any:
    """Modes that copy entries; with tracked `constant_values`, only one number for all sides."""
    modes = ("constant", "edge", "reflect", "symmetric", "wrap")
    if mode not in modes:
        raise TypeError(
            f"pad: mode={mode!r} is not differentiable here; these are: {', '.join(modes)}"
        )
    out = apply(p.PRIMITIVES[np.pad], (array,), {"pad_width": pad_width, "mode": mode})
    if (
        np.ndim(constant_values) == 0
        and not isinstance(constant_values, Tensor)
        and constant_values == 0
    ):
        return out
    if mode != "constant":
        raise ValueError(f"pad: constant_values= goes with mode='constant', not {mode!r}")
    fill = constant_values
    if np.ndim(fill):
        if isinstance(fill, Tensor) and fill.requires_grad:
            raise TypeError(
                "pad: tracked constant_values must be one number; use concatenate for several"
            )
        fill = np.pad(np.zeros_like(raw(array)), pad_width, constant_values=raw(fill))
    inside = np.pad(np.ones(np.shape(array), bool), pad_width)
    return np.where(
        inside, out, p.strong(fill, out) if not isinstance(fill, Tensor) else fill.astype(out.dtype)
    )


# One line each. A function that this NumPy does not have yet is left out.
# fmt: off
TABLE: dict[str, Composition] = {
    # choosing and ordering
    "compress": lambda condition, a, axis=None:
                np.take(lift(a), np.flatnonzero(raw(condition)), axis=axis),
    "extract":  lambda condition, arr: np.ravel(lift(arr))[np.flatnonzero(raw(condition))],
    "sort":     lambda a, axis=-1, kind=None, *, stable=None:
                _ordered(np.argsort, a, axis, kind=kind, stable=stable),
    "partition": lambda a, kth, axis=-1, kind="introselect":
                _ordered(np.argpartition, a, axis, kth=kth, kind=kind),
    # reductions
    "amax":   lambda a, axis=None, *, keepdims=False: np.max(a, axis=axis, keepdims=keepdims),
    "amin":   lambda a, axis=None, *, keepdims=False: np.min(a, axis=axis, keepdims=keepdims),
    "ptp":    lambda a, axis=None, *, keepdims=False: np.max(a, axis=axis, keepdims=keepdims)
              - np.min(a, axis=axis, keepdims=keepdims),
    "nansum": lambda a, axis=None, *, keepdims=False:
              np.sum(np.where(np.isnan(a), 0, a), axis=axis, keepdims=keepdims),
    "trace":  lambda a, offset=0, axis1=0, axis2=1:
              np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1),
    "cumulative_sum":  lambda x, /, *, axis=None, include_initial=False:
                       _cumulative(np.cumsum, 0, x, axis, include_initial),
    "cumulative_prod": lambda x, /, *, axis=None, include_initial=False:
                       _cumulative(np.cumprod, 1, x, axis, include_initial),
    "linalg.vector_norm": lambda x, /, *, axis=None, keepdims=False, ord=2:
                          _vector_norm(floating(x), ord, axis, keepdims),
    "linalg.matrix_norm": lambda x, /, *, keepdims=False, ord="fro":
                          _matrix_norm(floating(x), ord, (-2, -1), keepdims),
    # joining and splitting
    "append":       lambda arr, values, axis=None: concatenate([arr, values], axis),
    "vstack":       lambda tup: concatenate([np.atleast_2d(x) for x in lifted(tup)]),
    "hstack":       lambda tup: concatenate(
                    [np.atleast_1d(x) for x in lifted(tup)], int(np.ndim(tup[0]) > 1)),
    "dstack":       lambda tup: concatenate([np.atleast_3d(x) for x in lifted(tup)], 2),
    "column_stack": lambda tup: concatenate(
                    [x if x.ndim > 1 else np.reshape(x, (-1, 1)) for x in lifted(tup)], 1),
    "unstack":      lambda x, /, *, axis=0: tuple(np.moveaxis(x, axis, 0)),
    "vsplit":       lambda ary, indices_or_sections: _split_along(0, 2, ary, indices_or_sections),
    "hsplit":       lambda ary, indices_or_sections: _split_along(1, 1, ary, indices_or_sections),
    "dsplit":       lambda ary, indices_or_sections: _split_along(2, 3, ary, indices_or_sections),
    # shape
    "atleast_1d": lambda *arys: _each(arys, lambda x: x if x.ndim else np.reshape(x, (1,))),
    "atleast_2d": lambda *arys: _each(arys, lambda x: x if x.ndim > 1 else np.reshape(x, (1, -1))),
    "atleast_3d": lambda *arys: _each(
                  arys, lambda x: x if x.ndim > 2 else np.atleast_2d(x)[..., None]),
    "broadcast_arrays": lambda *args: tuple(np.broadcast_to(
                  x, np.broadcast_shapes(*map(np.shape, args))) for x in lifted(args)),
    "fliplr": lambda m: np.flip(m, 1),
    "flipud": lambda m: np.flip(m, 0),
    "astype": lambda x, dtype, /, *, copy=True: x.astype(dtype),
    "reshape": lambda a, shape=None, *, newshape=None:  # NumPy 2.0 says newshape
               apply(p.reshape, (a,), {"shape": newshape if shape is None else shape}),
    "matrix_transpose":        lambda x, /: np.swapaxes(x, -1, -2),
    "linalg.matrix_transpose": lambda x, /: np.swapaxes(x, -1, -2),
    "linalg.diagonal": lambda x, /, *, offset=0: np.diagonal(x, offset, -2, -1),
    "linalg.trace":    lambda x, /, *, offset=0: np.trace(x, offset, -2, -1),
    # products
    "outer":  lambda a, b: np.multiply(*map(np.reshape, lifted((a, b)), ((-1, 1), (1, -1)))),
    "vdot":   lambda a, b: np.matmul(*map(np.ravel, lifted((a, b)))),
    "vecdot": lambda x1, x2, /: np.einsum("...i,...i->...", x1, x2),
    "matvec": lambda x1, x2, /: np.einsum("...ij,...j->...i", x1, x2),
    "vecmat": lambda x1, x2, /: np.einsum("...i,...ij->...j", x1, x2),
    "linalg.vecdot":    lambda x1, x2, /, *, axis=-1: np.sum(lift(x1) * x2, axis=axis),
    "linalg.cross":     lambda x1, x2, /, *, axis=-1: np.cross(x1, x2, axis=axis),
    "linalg.outer":     lambda x1, x2, /: np.outer(x1, x2),
    "linalg.matmul":    lambda x1, x2, /: np.matmul(x1, x2),
    "linalg.tensordot": lambda x1, x2, /, *, axes=2: np.tensordot(x1, x2, axes=axes),
}
# fmt: on
for _name, _composed in TABLE.items():
    *_modules, _name = _name.split(".")
    _module = np.linalg if _modules else np
    if hasattr(_module, _name):
        composition(getattr(_module, _name))(_composed)


def _ordered(function: Any, a: Any, axis: Any, **options: Any) -> Any:
    """Entries in the order of an argsort."""
    a, axis = (np.ravel(a), -1) if axis is None else (a, axis)
    return np.take_along_axis(a, indices=function(raw(a), axis=axis, **options), axis=axis)


def _each(arys: tuple[Any, ...], grow: Callable[[Array], Array]) -> Any:
    grown = tuple(grow(x) for x in lifted(arys))
    return grown if len(grown) != 1 else grown[0]


def _split_along(axis: int, least: int, ary: Any, indices_or_sections: Any) -> Any:
    if ary.ndim < least:
        raise ValueError(f"expected {least} dimensions or more to split, got shape {ary.shape}")
    return split(ary, indices_or_sections, min(axis, ary.ndim - 1))


# Functions that NumPy does not have


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over `axis`, without overflow; its gradient is the softmax of x.

    Parameters
    ----------
    x : a Tensor or an array of any shape.
    axis : None (all), an int or a tuple. keepdims : keep the reduced axes, with length 1.

    The largest entry m is taken out of the sum: m + log(sum(exp(x - m))). The sum of nothing is
    -inf, with gradient 0.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.grad(tg.logsumexp)(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    return p.logsumexp(x, axis=axis, keepdims=keepdims)


# Writing at an index, without changing what was there


def index_update(x: Any, index: Any, value: Any) -> Any:
    """A copy of x in which `x[index] = value`: what assignment would be, and differentiable.

    Of values written to the same place, the last one counts, and gets the gradient.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.grad(lambda x: np.sum(tg.index_update(x, 0, x[1] * 10)))(np.array([1.0, 2.0]))
    array([ 0., 11.])
    """
    return more.update(x, value, index=raw(index))


def index_add(x: Any, index: Any, value: Any) -> Any:
    """A copy of x in which `x[index] += value`, summed where indices repeat (as `np.add.at`).

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.index_add(np.zeros(3), [0, 2, 2], 1.0)
    array([1., 0., 2.])
    """
    return more.add_at(x, value, index=raw(index))
