"""NumPy's protocols: how `np.f(tensor)` finds what to do.

Every NumPy function is one of four things here: a primitive (recorded as one node), a composition
(written with others), a function whose result is constant by intent, or an error that says so.
There is no fifth way, so nothing detaches silently.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from . import primitives as p
from .array_methods import plain
from .primitives import PRIMITIVES, Primitive
from .tensor import Tensor, apply, constant, raw

COMPOSITIONS: dict[Any, Callable[..., Any]] = {}  # filled by numpy_functions.py and its like

# Piecewise constant or not numeric: the result is a plain array or a constant, and that is meant.
_CONSTANT = """
    floor ceil trunc rint round around fix sign heaviside floor_divide equal not_equal less
    less_equal greater greater_equal logical_and logical_or logical_not logical_xor isfinite isinf
    isnan isposinf isneginf signbit any all allclose isclose array_equal array_equiv argmax argmin
    nanargmax nanargmin argsort argpartition argwhere nonzero flatnonzero count_nonzero searchsorted
    digitize isin shape ndim size zeros_like ones_like empty_like result_type iscomplexobj isrealobj
    array_repr array_str array2string shares_memory may_share_memory
"""
CONSTANT: set[Any] = {getattr(np, name) for name in _CONSTANT.split() if hasattr(np, name)}
CONSTANT.add(np.linalg.matrix_rank)

UFUNC_METHODS: dict[Any, Callable[..., Any]] = {
    (np.add, "reduce"): np.sum,
    (np.multiply, "reduce"): np.prod,
    (np.maximum, "reduce"): np.max,
    (np.minimum, "reduce"): np.min,
    (np.logaddexp, "reduce"): p.logsumexp,
    (np.add, "accumulate"): np.cumsum,
    (np.multiply, "accumulate"): np.cumprod,
}
WAYS_OUT = (
    "use t.detach() or t.numpy() to leave the graph, the functions in docs/functions.md to stay in "
    "it, or tg.primitive to add this one with its gradient"
)
HINTS = {
    "out": "a Tensor is never written into: assign the result instead",
    "where": "select with np.where(condition, x, y)",
    "dtype": "convert with t.astype(dtype)",
}


def array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    if method == "__call__":
        primitive = PRIMITIVES.get(ufunc)
        if primitive is None:
            return _not_a_primitive(ufunc, inputs, kwargs)
        if kwargs:
            _refuse(ufunc, kwargs)
        return apply(primitive, inputs)
    same = UFUNC_METHODS.get((ufunc, method))
    if same is not None:
        return same(*inputs, **{"axis": 0, **kwargs})
    if method == "outer" and not kwargs:
        a, b = inputs
        return ufunc(np.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b)
    raise TypeError(f"numpy.{ufunc.__name__}.{method} is not differentiable here; {WAYS_OUT}")


def array_function(self: Tensor, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
    primitive = PRIMITIVES.get(function)
    if primitive is None or function in COMPOSITIONS:
        return _not_a_primitive(function, args, kwargs)
    if len(args) != len(primitive.rules) or not kwargs.keys() <= set(primitive.params):
        args, kwargs = _bind(function, primitive, args, kwargs)
    return apply(primitive, args, plain(primitive.name, kwargs))


def _not_a_primitive(function: Any, args: Any, kwargs: Any) -> Any:
    composed = COMPOSITIONS.get(function)
    if composed is not None:
        try:
            return composed(*args, **kwargs)
        except TypeError:
            try:
                inspect.signature(composed).bind(*args, **kwargs)
            except TypeError as error:
                _refuse(function, kwargs, str(error))
            raise
    if function in CONSTANT:
        if "out" in kwargs:
            _refuse(function, {"out": None})
        out = function(*raw(args), **{k: raw(v) for k, v in kwargs.items()})
        return constant(out) if getattr(getattr(out, "dtype", None), "kind", "") == "f" else out
    module = getattr(function, "__module__", None) or "numpy"
    raise TypeError(f"{module}.{function.__name__} is not differentiable here; {WAYS_OUT}")


def _bind(function: Any, primitive: Primitive, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Sort a NumPy call's arguments into arrays and params, by NumPy's own signature."""
    signature = inspect.signature(function)
    given = signature.bind(*args, **kwargs).arguments
    arrays = [given.pop(name) for name in list(signature.parameters)[: len(primitive.rules)]]
    for name in list(given):
        if name not in primitive.params and given[name] is signature.parameters[name].default:
            del given[name]
    unknown = {k: v for k, v in given.items() if k not in primitive.params}
    if unknown:
        _refuse(function, unknown)
    return arrays, given


def _refuse(function: Any, kwargs: dict[str, Any], why: str = "") -> None:
    hint = next((text for key, text in HINTS.items() if key in kwargs), "leave it out")
    names = ", ".join(f"{name}=" for name in kwargs)
    given = why or f"{names} is not supported on a Tensor"
    raise TypeError(f"numpy.{function.__name__}: {given}; {hint}")


Tensor.__array_ufunc__ = array_ufunc
Tensor.__array_function__ = array_function
