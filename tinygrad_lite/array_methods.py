"""What a Tensor can do because an array can: attributes, comparisons, and the methods of ndarray.

Comparisons return plain boolean arrays; everything else goes through the table of primitives.
"""
# mypy: no-warn-return-any
# (arrays are Any here, and so are the results of primitives: the declared types say what they are)

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import more_primitives as more
from . import primitives as p

if TYPE_CHECKING:
    from .tensor import Tensor


def raw(value: Any) -> Any:
    """The array or scalar inside a Tensor; also inside the tuples and lists of an index."""
    if isinstance(value, ArrayMethods):
        return value.data
    if isinstance(value, (tuple, list)):
        return type(value)([raw(v) for v in value])
    return value


def plain(name: str, params: dict[str, Any]) -> dict[str, Any]:
    """The params of an operation without Tensors; one that is tracked would lose its gradient."""
    for key, value in params.items():
        if isinstance(value, ArrayMethods) and value._node is not None:
            raise TypeError(
                f"{name}: there is no gradient by {key}=: pass {key}=t.item() or t.detach()"
            )
    return {key: raw(value) for key, value in params.items()}


class ArrayMethods:
    """What a Tensor can do because an array can."""

    __slots__ = ()
    _data: Any
    _node: Any
    data: Any

    __getitem__: Any
    item: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype

    @property
    def T(self) -> Tensor:
        return p.transpose(self)

    @property
    def mT(self) -> Tensor:
        """The transpose of the last two axes."""
        return p.swapaxes(self, axis1=-1, axis2=-2)

    # fmt: off
    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return p.sum_(self, axis=axis, keepdims=keepdims)
    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return p.mean(self, axis=axis, keepdims=keepdims)
    def prod(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return more.prod(self, axis=axis, keepdims=keepdims)
    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return p.max_(self, axis=axis, keepdims=keepdims)
    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return p.min_(self, axis=axis, keepdims=keepdims)
    def var(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        return more.var(self, axis=axis, ddof=ddof, keepdims=keepdims)
    def std(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        return more.std(self, axis=axis, ddof=ddof, keepdims=keepdims)
    def cumsum(self, axis: int | None = None) -> Tensor: return more.cumsum(self, axis=axis)
    def cumprod(self, axis: int | None = None) -> Tensor: return more.cumprod(self, axis=axis)
    def reshape(self, *shape: Any) -> Tensor:
        return p.reshape(self, shape=shape[0] if len(shape) == 1 else shape)
    def transpose(self, *axes: Any) -> Tensor:
        return p.transpose(self, axes=(axes[0] if len(axes) == 1 else axes) or None)
    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        return p.swapaxes(self, axis1=axis1, axis2=axis2)
    def ravel(self) -> Tensor: return p.ravel(self)
    def flatten(self) -> Tensor: return p.ravel(self)
    def squeeze(self, axis: Any = None) -> Tensor: return p.squeeze(self, axis=axis)
    def copy(self) -> Tensor: return p.copy(self)

    def clip(self: Any, min: Any = None, max: Any = None) -> Any: return np.clip(self, min, max)
    def diagonal(self: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        return np.diagonal(self, offset, axis1, axis2)
    def dot(self: Any, other: Any) -> Any: return np.dot(self, other)
    def repeat(self: Any, repeats: Any, axis: int | None = None) -> Any:
        return np.repeat(self, repeats, axis)
    def round(self: Any, decimals: int = 0) -> Any: return np.round(self, decimals)
    def take(self: Any, indices: Any, axis: int | None = None) -> Any:
        return np.take(self, indices, axis)
    def trace(self: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        return np.trace(self, offset, axis1, axis2)

    def argmax(self, axis: int | None = None) -> Any: return np.argmax(self.data, axis)
    def argmin(self, axis: int | None = None) -> Any: return np.argmin(self.data, axis)
    def argsort(self, axis: int = -1) -> Any: return np.argsort(self.data, axis)
    def any(self, axis: Any = None) -> Any: return np.any(self.data, axis)
    def all(self, axis: Any = None) -> Any: return np.all(self.data, axis)

    def __lt__(self, other: Any) -> Any: return self.data < raw(other)
    def __le__(self, other: Any) -> Any: return self.data <= raw(other)
    def __gt__(self, other: Any) -> Any: return self.data > raw(other)
    def __ge__(self, other: Any) -> Any: return self.data >= raw(other)
    def __eq__(self, other: Any) -> Any: return self.data == raw(other)
    def __ne__(self, other: Any) -> Any: return self.data != raw(other)
    __hash__ = object.__hash__
    def __bool__(self) -> bool: return bool(self.data)
    def __index__(self) -> int: return operator.index(self.data)
    def __contains__(self, value: Any) -> bool: return bool(np.any(self.data == raw(value)))
    # fmt: on

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a 0-d tensor has no len()")
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __format__(self, spec: str) -> str:
        return (
            format(self.item(), spec) if spec and self.size == 1 else format(str(self.data), spec)
        )
