"""What may enter a Tensor or an operation, and errors that say what was given instead."""

from __future__ import annotations

from typing import Any

import numpy as np


def operand(value: Any) -> Any:
    """Accept an array-like beside a Tensor; refuse what would compute objects or lose a mask."""
    if not hasattr(value, "__array_function__") or isinstance(value, np.ndarray):
        if type(value) is not np.ndarray:
            value = as_array(value)
        if value.dtype.kind not in "biufc":
            raise TypeError(
                f"expected numbers, got an array of dtype {value.dtype} and shape {value.shape}"
            )
    return value


def as_array(data: Any, dtype: Any = None, copy: bool | None = None) -> Any:
    """NumPy's conversion, with errors that say what to do."""
    if hasattr(data, "mask") and hasattr(data, "filled"):
        raise TypeError(
            "a masked array would lose its mask here: pass .filled(value) or .compressed()"
        )
    if hasattr(data, "traced"):
        data = data.strong()
        if copy:
            data = np.copy(data)
        return data if dtype is None or dtype == data.dtype else data.astype(dtype)
    try:
        array = np.array(data, dtype=dtype, copy=copy)
    except ValueError as error:
        raise ValueError(
            f"expected numbers in nested lists of equal lengths, got {type(data).__name__}: {error}"
        ) from error
    if array.dtype.kind not in "biufc":
        raise TypeError(f"expected numbers, got {type(data).__name__} of dtype {array.dtype}")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array


def floating(x: Any, like: Any = None) -> Any:
    """A Tensor or an array of floating point numbers; integers become float64, or as `like`.

    NumPy's exp of bytes is float16, and differences of unsigned numbers wrap.
    """
    x = operand(x)
    return x if x.dtype.kind in "fc" else x.astype(float if like is None else like.dtype)


def explained(error: Exception, name: str, values: list[Any]) -> Exception:
    """NumPy's error, with the operation and the shapes that it was given."""
    given = ", ".join(
        f"{v.dtype} {v.shape}" if hasattr(v, "dtype") else f"{type(v).__name__} {v!r}"
        for v in values
    )
    kinds = (np.linalg.LinAlgError, np.exceptions.AxisError, IndexError, ValueError, TypeError)
    kind = next(k for k in kinds if isinstance(error, k))
    return kind(f"{name}: {error}. The arguments were: {given}")
