"""What is known when a program is written down, as text: numbers, dtypes, short constant arrays."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from .program import ELEMENTWISE, Instruction, Value


def plain_numbers(step: Instruction) -> tuple[Any, ...]:
    """The arguments, NumPy's numbers as Python's where an array beside them has their dtype."""
    dtypes = {a.dtype for a in step.args if isinstance(a, Value) and a.shape}
    simple = step.op in ELEMENTWISE and len(dtypes) == 1
    return tuple(
        float(str(a)) if simple and isinstance(a, np.floating) and {a.dtype} == dtypes else a
        for a in step.args
    )


def is_record(item: Any) -> bool:
    return dataclasses.is_dataclass(item) and not isinstance(item, Value)


def numpy_name(step: Instruction) -> str:
    """Where NumPy keeps a function."""
    call = step.call
    if "." in step.op:  # a ufunc's method: add.reduce
        return step.op
    name = str(getattr(call, "__name__", step.op))
    for module, prefix in ((np, ""), (np.linalg, "linalg."), (np.fft, "fft.")):
        if getattr(module, name, None) is call:
            return prefix + name
    if isinstance(getattr(np, step.op, None), np.ufunc):  # Python's operator on numbers
        return step.op
    raise NotImplementedError(
        f"tg.compile: {step.op} is none of NumPy's functions, which are all that the source may "
        "call: call it outside, or one of tg.functional's inside"
    )


def literal(item: Any, tight: int = 0) -> str:
    """A number, a dtype, None, ... as source."""
    if isinstance(item, np.generic):
        return f"np.{item.dtype.name}({literal(item.item())})"
    if isinstance(item, np.dtype):
        return f"np.{item.name}"
    if item in (bool, int, float, complex):
        return str(item.__name__)
    if isinstance(item, type) and issubclass(item, np.generic):
        return f"np.{np.dtype(item).name}"
    if isinstance(item, float) and not math.isfinite(item):
        return "np.nan" if math.isnan(item) else "np.inf" if item > 0 else "(-np.inf)"
    if isinstance(item, (int, float)) and not isinstance(item, bool):
        text = repr(item)
        return f"({text})" if text.startswith("-") and tight > 6 else text
    if item is None or isinstance(item, (bool, str, complex, slice, range)):
        return repr(item)
    if isinstance(item, np.ufunc):
        return f"np.{item.__name__}"
    if item is Ellipsis:
        return "..."
    raise NotImplementedError(f"tg.compile: no source for a {type(item).__name__}: {item!r}")


def constant_text(data: Any) -> str | None:
    """A constant array as an expression, if it has a short one."""
    dtype, flat = f"np.{data.dtype.name}", data.ravel()
    if not data.size:
        return f"np.zeros({data.shape}, {dtype})"
    if (flat == flat[0]).all() and not np.signbit(flat[flat == 0]).any():
        if flat[0] in (0, 1):
            return f"np.{'ones' if flat[0] else 'zeros'}({data.shape}, {dtype})"
        return f"np.full({data.shape}, {literal(flat[0].item())}, {dtype})"
    if data.ndim == 1 and data.dtype.kind in "iu" and (np.diff(data.astype(object)) == 1).all():
        return f"np.arange({data[0]}, {int(data[-1]) + 1}, dtype={dtype})"
    if data.ndim == 2 and len(data) < 100 and np.array_equal(data, np.eye(*data.shape)):
        return f"np.eye({', '.join(map(str, dict.fromkeys(data.shape)))}, dtype={dtype})"
    if data.size <= 16 and data.dtype.kind in "biuf" and np.isfinite(data).all():
        return f"np.array({data.tolist()!r}, {dtype})"
    return None
