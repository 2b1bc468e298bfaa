"""NumPy as a function sees it if its recording fails over an array that it makes itself.

`np.zeros(3)[0] = x`, `np.eye(3)[labels]` and `np.array([x, y])` ask no argument of theirs, so that
NumPy cannot tell the recording. The one trick: for a second try, what the function's own code calls
`np` is this module, whose arrays are Symbols from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ..mode import MODE
from .symbol import Symbol


class Numpy(ModuleType):
    """Names of NumPy's, except those that are set here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _creating(function: Callable[..., Any]) -> Callable[..., Any]:
    def create(*args: Any, **kwargs: Any) -> Any:
        tracer = MODE.get().tracer
        out = function(*args, **kwargs)
        if tracer is None or type(out) is not np.ndarray or out.dtype == object:
            return out
        return tracer.outside(out)

    return create


def _array(x: Any, dtype: Any = None, copy: Any = True, **options: Any) -> Any:
    """np.array, also of nested lists with Symbols in them."""
    if not _recorded(x):
        return _plain(x, dtype, copy=copy, **options)
    if type(x) is Symbol:
        out = np.copy(x) if copy else x
    else:
        out = np.stack([_array(item, copy=False) if _recorded(item) else item for item in x])
    return out if dtype is None or out.dtype == dtype else out.astype(dtype)


def _recorded(x: Any) -> bool:
    """Whether there is a Symbol in nested lists."""
    if type(x) in (list, tuple):
        return any(map(_recorded, x))
    return type(x) is Symbol


_plain = _creating(np.array)
NUMPY = Numpy("numpy")
STAND_INS: dict[int, Any] = {id(np): NUMPY}
for _name in ("zeros", "ones", "full", "eye", "identity", "arange", "linspace", "tri"):
    STAND_INS[id(getattr(np, _name))] = _creating(getattr(np, _name))
STAND_INS |= {id(np.empty): STAND_INS[id(np.zeros)], id(np.array): _array}
STAND_INS[id(np.asarray)] = lambda x, dtype=None, **options: _array(x, dtype, None, **options)
for _name in dir(np):
    if id(getattr(np, _name)) in STAND_INS:
        setattr(NUMPY, _name, STAND_INS[id(getattr(np, _name))])
