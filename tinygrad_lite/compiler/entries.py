"""Some entries of an array, and sums of them, as a person would write them: slices, repeat, tile.

The places come as an index. The one trick: a regular index is that of nested loops, each with a
length and a stride, and if the loops run through a whole array, that is a reshape of it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .program import Value

Loops = list[tuple[int, int]]  # (length, stride), the outermost first
Write = Callable[..., Value]  # of an operation: its name, its function, arguments, result's shape


def loops(index: Any) -> Loops | None:
    """The nested loops that run through these places, if they are regular."""
    found: Loops = []
    while len(index) > 1:
        stride = int(index[1] - index[0])
        ends = np.flatnonzero(np.diff(index) != stride)
        n = int(ends[0]) + 1 if len(ends) else len(index)
        if len(index) % n:
            return None
        table = index.reshape(-1, n)
        if (table != table[:, :1] + stride * np.arange(n)).any():
            return None
        found.insert(0, (n, stride))
        index = table[:, 0]
    return found


def layout(found: Loops) -> tuple[list[int], list[int]] | None:
    """The shape of the array that the loops run through, and the axis of each loop."""
    order = sorted(range(len(found)), key=lambda k: -found[k][1])
    sizes = [found[k][0] for k in order]
    if [found[k][1] for k in order] != [math.prod(sizes[k + 1 :]) for k in range(len(sizes))]:
        return None
    return sizes, [order.index(k) for k in range(len(order))]


def part(source: Value, start: int, n: int, stride: int, write: Write) -> Value:
    """A slice, or the array itself."""
    stop = start + n * stride
    if (start, stop, stride) == (0, source.shape[0], 1):
        return source
    piece = slice(start, stop if stop >= 0 else None, None if stride == 1 else stride)
    return write("getitem", operator.getitem, (source, piece), (n,))


def shaped(x: Value, shape: Any, write: Write) -> Value:
    shape = tuple(shape)
    return x if x.shape == shape else write("reshape", np.reshape, (x, shape), shape)


def entries(source: Value, index: Any, write: Write) -> Value | None:
    """source[index] of a flat array and a regular index."""
    start, found = int(index.flat[0]), loops(index.ravel())
    if found is None:
        return None
    outer = found.pop(0)[0] if found[0][1] == 0 else 1
    inner = found.pop()[0] if found and found[-1][1] == 0 else 1
    if len(found) == 1:
        x = part(source, start, *found[0], write)
    elif (whole := layout(found)) is None:
        return None
    else:
        sizes, axes = whole
        x = shaped(part(source, start, math.prod(sizes), 1, write), sizes, write)
        if axes != sorted(axes):
            x = write("transpose", np.transpose, (x, tuple(axes)), tuple(sizes[a] for a in axes))
        x = shaped(x, (math.prod(sizes),), write)
    if inner > 1:
        x = write("repeat", np.repeat, (x, inner), (x.shape[0] * inner,))
    if outer > 1:
        x = write("tile", np.tile, (x, outer), (x.shape[0] * outer,))
    return shaped(x, index.shape, write)


def row_sums(source: Value, index: Any, write: Write) -> Value | None:
    """source[index].sum(axis=1), if that is a sum along an axis of the array."""
    outer, inner = loops(index[:, 0]), loops(index[0])
    steps = index[0] - index[0, 0]
    if outer is None or inner is None or len(inner) != 1 or (index != index[:, :1] + steps).any():
        return None
    whole = layout(outer + inner)
    if whole is None or whole[1][:-1] != sorted(whole[1][:-1]):
        return None
    sizes, axes = whole
    x = shaped(part(source, int(index[0, 0]), math.prod(sizes), 1, write), sizes, write)
    left = tuple(size for axis, size in enumerate(sizes) if axis != axes[-1])
    x = write("sum", np.sum, (x,), left, axis=axes[-1])
    return shaped(x, (len(index),), write)
