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

BLOCK = 1 << 19  # bytes of a convolution's output at a time: they stay in the L2 cache
SIDE = 1 << 16  # bytes that one product reads, if it is of all rows of the kernel
IMAGES = 64  # at a time: BLAS multiplies small matrices faster, without packing them


def conv_pool(
    x: Array, w: Array, b: Any, padding: tuple[Sizes, ...], pool: Sizes, relu: bool
) -> tuple[Array, Array]:
    """max_pool(conv(x, w) + b), relu in between or not; and the places: which of its window."""
    (high, wide), kernel, x = pool, w.transpose(2, 0, 3, 1), x.transpose(2, 3, 1, 0)
    height, width = (
        (size + sum(p) - k + 1) // s
        for size, p, k, s in zip(x.shape, padding, w.shape[2:], pool, strict=False)
    )
    out = np.empty((height, width, len(w), x.shape[3]), x.dtype)
    places, b = np.empty(out.shape, np.uint8), np.reshape(b, (-1, 1))
    for images in batches(x.shape[3]):
        given = np.ascontiguousarray(np.pad(x[..., images], (*padding, (0, 0), (0, 0))))
        for rows, block in correlated(given, kernel, padding[0], height * high, high):
            at = slice(rows.start // high, rows.stop // high), ..., images
            entries = [block[i::high, j : width * wide : wide] for i, j in np.ndindex(*pool)]
            largest, place = entries[0].copy(), np.zeros(entries[0].shape, np.uint8)
            for k, entry in enumerate(entries[1:], 1):
                mark(place, largest < entry, k)
                np.maximum(largest, entry, out=largest)
            place *= largest == largest  # the gradient of a NaN goes to the first of its window
            largest += b
            if relu:
                chosen = np.where(largest == largest, largest, entries[0] + b)
                mark(place, ~(chosen > 0), len(entries))  # to none
                np.maximum(largest, 0, out=largest)
            out[at], places[at] = largest, place
    return out.transpose(3, 2, 0, 1), places


def conv_pool_back(
    g: Array, places: Array, x: Array, w: Array, padding: tuple[Sizes, ...], pool: Sizes,
    needs_x: bool,
) -> tuple[Array, ...]:  # fmt: skip
    """The gradients by w and b, and before them that by x if it is needed.

    That of the convolution's output is put together row by row, with the margins around it that
    the convolution backwards sees. It is kept for that only.
    """
    (m, c, *kernel), (high, wide), taps = w.shape, pool, list(np.ndindex(*pool))
    x, g = x.transpose(2, 3, 1, 0), g.transpose(2, 3, 1, 0)
    (height, width), backwards = x.shape[:2], w[:, :, ::-1, ::-1].transpose(2, 1, 3, 0)
    above, below = (kernel[0] - 1 - p for p in padding[0])
    left = kernel[1] - 1 - padding[1][0]
    dw = np.zeros((kernel[1], m, kernel[0], c), x.dtype)
    dx = np.empty(x.shape if needs_x else 0, x.dtype)
    for images in batches(x.shape[3]):
        part = np.ascontiguousarray(x[..., images].transpose(1, 3, 0, 2))
        rows = height + kernel[0] - 1 if needs_x else high
        output = np.zeros((rows, width + kernel[1] - 1, m, part.shape[1]), g.dtype)
        for r in range(len(g)):
            block = output[above + r * high :][:high] if needs_x else output
            each, place = g[r, ..., images], places[r, ..., images]
            for k, (i, j) in enumerate(taps):
                np.multiply(each, place == k, out=block[i, left + j :: wide][: len(each)])
            for top, row in enumerate(block, r * high - padding[0][0]):
                add_products(dw, row, part, top)
        if needs_x:
            for at, block in correlated(output, backwards, (above, below), height, 1):
                dx[at, ..., images] = block
    dw = np.ascontiguousarray(dw[::-1].transpose(1, 3, 2, 0))
    db = np.sum(g * (places < len(taps)), axis=(0, 1)).sum(axis=1)
    return (dx.transpose(3, 2, 0, 1), dw, db) if needs_x else (dw, db)


def add_products(dw: Array, row: Array, x: Array, top: int) -> None:
    """To dw, (columns backwards, out, rows, in), what one row of the output's gradient adds.

    It has margins to move in; x is (columns, images, rows, in), and `top` the first row of x that
    the kernel saw, in the padding if below 0.
    """
    (across, m, kernel, c), (width, n, height, _) = dw.shape, x.shape
    low, high = max(top, 0), min(top + kernel, height)
    row = np.ascontiguousarray(row.swapaxes(0, 1))
    moved = strided(row, (across, m, width * n), (n * row.itemsize, row.strides[0], row.itemsize))
    if kernel * c >= IMAGES:  # one large product is worth a copy
        moved = np.ascontiguousarray(moved).reshape(across * m, -1)
    product = moved @ x.reshape(width * n, -1)[:, low * c : high * c]
    dw[:, :, low - top : high - top] += product.reshape(across, m, -1, c)


def batches(n: int) -> list[slice]:
    """The images in parts of about the same size, a multiple of what a vector holds."""
    size = 16 * -(-n // (16 * -(-n // IMAGES)))
    return [slice(k, k + size) for k in range(0, n, size)]


def correlated(
    x: Array, w: Array, pads: Sizes, height: int, multiple: int
) -> Iterator[tuple[slice, Array]]:
    """The first rows of conv(x, w), some at a time, a multiple of `multiple`, in one buffer.

    x has zeros around, `pads` rows of them above and below; w is (rows, out, columns, in). Rows of
    a kernel that sees little are laid side by side, for one product; else it is a sum over rows.
    """
    (kernel, m, across, c), n = w.shape, x.shape[3]
    width = x.shape[1] - across + 1
    side = kernel if kernel * across * c * n * x.itemsize <= SIDE else 1
    starts = sorted(range(0, kernel, side), key=lambda k: abs(k - pads[0]))  # the fullest first
    weights = [w[k : k + side].transpose(1, 2, 0, 3).reshape(m, -1) for k in starts]
    step = max(1, BLOCK // (width * m * n * x.itemsize * multiple)) * multiple
    sums, terms = np.empty((2, min(step, height), width, m, n), x.dtype)
    for start in range(0, height, step):
        total, empty = sums[: height - start], True
        for k, weight in zip(starts, weights, strict=True):
            low = max(start, pads[0] - k - side + 1)  # the others see zeros only
            high = min(start + len(total), len(x) - pads[1] - k)
            if low >= high:
                continue
            seen = x[low + k : high + k, :, None]
            if side > 1:
                seen = np.stack([x[low + i : high + i] for i in range(side)], axis=2)
            steps = seen.strides[0], seen.strides[1], n * x.itemsize, x.itemsize
            seen = strided(seen, (high - low, width, weight.shape[1], n), steps)
            if empty and high - low == len(total):
                np.matmul(weight, seen, out=total)
            else:
                if empty:
                    total[...] = 0
                total[low - start : high - start] += np.matmul(
                    weight, seen, out=terms[: high - low]
                )
            empty = False
        yield slice(start, start + len(total)), total


def strided(x: Array, shape: Sizes, strides: Sizes) -> Array:
    """Overlapping parts of contiguous memory: as_strided, in a tenth of its time."""
    return np.ndarray(shape, x.dtype, x, strides=strides)


def mark(place: Array, where: Array, k: int) -> None:
    """place[where] = k, where nothing is above k yet."""
    np.maximum(place, where.view(np.uint8) * np.uint8(k), out=place)
