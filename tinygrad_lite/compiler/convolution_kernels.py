"""A convolution and the max-pool after it as one kernel, forward and backward.

The one trick is the order in memory: rows, columns, channels, images. What a row of the kernel sees
from one place is then a matrix that is there already, (its taps and channels) by images, so that
products read views, and pooling runs along whole rows. Of the convolution's output a few rows exist
at a time; what is kept is the largest entry of each window of the pool, and which it was. Arrays
have their axes as everywhere, (n, channels, rows, columns): between kernels nothing is moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..primitives import Array
from ..windows import Sizes

BLOCK = 1 << 19  # bytes of the convolution's output at a time: they stay in the L2 cache
SEEN = 1 << 16  # bytes that a product reads at a time, if it is of all rows of the kernel
IMAGES = 64  # in a product: BLAS multiplies small matrices fastest, without packing them


def conv_pool(
    x: Array, w: Array, b: Any, padding: tuple[Sizes, ...], pool: Sizes, relu: bool
) -> tuple[Array, Array]:
    """max_pool(conv(x, w) + b), relu in between or not; and the places: which of its window."""
    x = surrounded(x.transpose(2, 3, 1, 0), padding)
    height, width = (len(x) - w.shape[2] + 1) // pool[0], (x.shape[1] - w.shape[3] + 1) // pool[1]
    out = np.empty((height, width, len(w), x.shape[3]), x.dtype)
    places, bias = np.zeros(out.shape, np.uint8), np.reshape(b, (-1, 1))
    kernel, taps = w.transpose(2, 0, 3, 1), list(np.ndindex(*pool))
    for rows, part in correlated(x, kernel, padding[0], height * pool[0], pool[0]):
        at = slice(rows.start // pool[0], rows.stop // pool[0])
        largest, place = out[at], places[at]
        for tap, (i, j) in enumerate(taps):
            entry = part[i :: pool[0], j : width * pool[1] : pool[1]]
            if tap:
                mark(place, largest < entry, tap)
                np.maximum(largest, entry, out=largest)
            else:
                largest[...] = first = entry
        place *= largest == largest  # the first of a window with a NaN
        largest += bias
        if relu:
            chosen = np.where(largest == largest, largest, first + bias)
            mark(place, ~(chosen > 0), len(taps))  # none of them
            np.maximum(largest, 0, out=largest)
    return out.transpose(3, 2, 0, 1), places


def conv_pool_back(
    g: Array, places: Array, x: Array, w: Array, padding: tuple[Sizes, ...], pool: Sizes,
    needs_x: bool,
) -> tuple[Array, ...]:  # fmt: skip
    """The gradients by w and b, and before these that by x if it is needed."""
    m, c, *sizes = w.shape
    (tall, wide), n, item = x.shape[2:], len(x), x.itemsize
    (top, bottom), (left, right) = around = [
        (k - 1 - p, k - 1 - q) for k, (p, q) in zip(sizes, padding, strict=True)
    ]
    shape = tall + sizes[0] - 1 if needs_x else pool[0], wide + sizes[1] - 1, m, n
    output, g = np.zeros(shape, g.dtype), g.transpose(2, 3, 1, 0)  # the convolution's, with margins
    columns = np.ascontiguousarray(x.transpose(3, 0, 2, 1)).reshape(wide * n, -1)
    dw, taps = np.zeros((sizes[1], m, sizes[0], c), x.dtype), list(np.ndindex(*pool))
    for r, (each, place) in enumerate(zip(g, places, strict=True)):
        rows = output[top + r * pool[0] :][: pool[0]] if needs_x else output
        for tap, (i, j) in enumerate(taps):
            inside = rows[i, left + j :: pool[1]][: len(each)]
            np.multiply(each, place == tap, out=inside)
        for row, above in zip(rows, range(r * pool[0] - padding[0][0], tall), strict=False):
            low, high = max(0, -above), min(sizes[0], tall - above)  # the rest is padding
            row = np.ascontiguousarray(row.swapaxes(0, 1))
            shifted = strided(row, (sizes[1], m, wide * n), (n * item, row.strides[0], item))
            if sizes[0] * c >= IMAGES:  # wide enough to be worth a copy
                shifted = np.ascontiguousarray(shifted).reshape(sizes[1] * m, -1)
            part = shifted @ columns[:, (above + low) * c : (above + high) * c]
            dw[:, :, low:high] += part.reshape(sizes[1], m, -1, c)
    dw = dw[::-1].transpose(1, 3, 2, 0)
    db = np.sum(g * (places < len(taps)), axis=(0, 1)).sum(axis=1)
    if not needs_x:
        return dw, db
    dx = np.empty((tall, wide, c, n), x.dtype)
    kernel = w[:, :, ::-1, ::-1].transpose(2, 1, 3, 0)
    for at, rows in correlated(output, kernel, around[0], tall, 1):
        dx[at] = rows
    return dx.transpose(3, 2, 0, 1), dw, db


def surrounded(x: Array, padding: tuple[Sizes, ...]) -> Array:
    """Zeros around rows and columns."""
    (top, bottom), (left, right), (h, w, *rest) = *padding, x.shape
    out = np.zeros((top + h + bottom, left + w + right, *rest), x.dtype)
    out[top : top + h, left : left + w] = x
    return out


def mark(place: Array, where: Array, tap: int) -> None:
    """place[where] = tap, where that is no less."""
    np.maximum(place, where.view(np.uint8) * np.uint8(tap), out=place)


def strided(x: Array, shape: Sizes, strides: Sizes) -> Array:
    """A view of contiguous memory, its rows overlapping: as_strided, in a tenth of the time."""
    return np.ndarray(shape, x.dtype, x, strides=strides)


def correlated(
    x: Array, w: Array, margin: Sizes, height: int, multiple: int
) -> Iterator[tuple[slice, Array]]:
    """The rows of conv(x, w), a multiple of so many at a time, in one buffer.

    x has zeros around, of which `margin` rows above and below; w is (rows, out, columns, in). Rows
    of a kernel that sees little are laid side by side, for one product; others are summed over.
    """
    (kernel, m, across, c), n, item = w.shape, x.shape[3], x.itemsize
    width = x.shape[1] - across + 1
    side = kernel if kernel * across * c * min(n, IMAGES) * item <= SEEN else 1
    starts = sorted(range(0, kernel, side), key=lambda k: abs(k - margin[0]))  # the fullest first
    weights = [w[k : k + side].transpose(1, 2, 0, 3).reshape(m, -1) for k in starts]
    step = max(1, BLOCK // (width * m * n * item * multiple)) * multiple
    images = -(-n // -(-n // IMAGES))
    sums, terms = np.empty((2, min(step, height), width, m, n), x.dtype)
    for start in range(0, height, step):
        total, empty = sums[: height - start], True
        for k, weight in zip(starts, weights, strict=True):
            low = max(start, margin[0] - k - side + 1)  # outside are rows of zeros only
            high = min(start + len(total), len(x) - margin[1] - k)
            if low >= high:
                continue
            seen = x[low + k : high + k, :, None]
            if side > 1:
                seen = np.stack([x[low + i : high + i] for i in range(side)], axis=2)
            rows, column, _, *steps = seen.strides
            seen = strided(seen, (high - low, width, weight.shape[1], n), (rows, column, *steps))
            whole = empty and high - low == len(total)
            if empty and not whole:
                total[...] = 0
            into = total if whole else terms[: high - low]
            for at in range(0, n, images):
                part = slice(at, at + images)
                np.matmul(weight, seen[..., part], out=into[..., part])
            if not whole:
                total[low - start : high - start] += into
            empty = False
        yield slice(start, start + len(total)), total
