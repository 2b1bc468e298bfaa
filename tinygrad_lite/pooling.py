"""Pooling, resizing, unfolding: windows without weights, with PyTorch's names and arguments.

The one trick: an average, a nearest neighbour and their gradients are one primitive, a sum over
taps; what they divide by is the same sum over ones.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from .array_methods import raw
from .conversion import floating
from .fused import equals
from .mode import whole
from .primitives import Array, primitive
from .windows import (
    Taps,
    Window,
    along,
    overlap,
    pair,
    plane,
    tap_sum,
    window_of,
    windows,
)

CACHE = 1 << 19  # bytes of a block of the batch

# The largest entry of each window


@whole
def _max_pool_input(y: Array, x: Array, largest: Array, window: Window) -> Array:
    """Each y goes to the first entry of its window that is no less than the largest."""
    out, moves = np.zeros(x.shape, y.dtype), window.moves(x.shape[2:])
    apart = all(s >= d * (k - 1) + 1 for k, s, _, d in window.axes())  # no entry is in two windows
    step = max(1, CACHE // max(1, x[:1].nbytes))  # by blocks of the batch that stay in the cache
    for at in [slice(n, n + step) for n in range(0, len(x), step)]:
        part, back, undecided = x[at], out[at], np.ones(y[at].shape, bool)
        for o, i in moves:
            hit = undecided[o] & ~(part[i] < largest[at][o])
            undecided[o] ^= hit
            if apart:
                np.multiply(y[at][o], hit, out=back[i])
            else:
                back[i] += y[at][o] * hit
    return out


# fmt: off
max_pool_input = primitive(
    _max_pool_input, lambda g, out, y, x, m, window: pick(g, x, window), None, None,
    saves="x - -", name="max_pool_input")
max_pool = primitive(
    lambda x, window: along(
        np.maximum, -math.inf, x, window.taps(x.shape[2:]), window.places(x.shape[2:])),
    lambda g, out, x, window: max_pool_input(g, x, out, window=window),
    saves="xo", name="max_pool")
# fmt: on


def pick(v: Any, x: Any, window: Window) -> Any:
    """Of every window of v the entry that is the largest in x: gathered, by argmax."""
    margins = ((0, 0), (0, 0), *window.padding)
    window = replace(window, padding=((0, 0), (0, 0)))
    x = np.maximum(raw(x), np.finfo(x.dtype).min)  # so that -inf is the padding's alone
    x = np.pad(x, margins, constant_values=-math.inf)
    first = np.argmax(windows(x, window=window), axis=2, keepdims=True)
    return np.take_along_axis(windows(np.pad(v, margins), window=window), first, axis=2)[:, :, 0]


@equals(max_pool)
def max_of(x: Any, window: Window) -> Any:
    size, ones = x.shape[2:], np.ones((1, 1, *x.shape[2:]))
    seen = tap_sum(ones, taps=window.taps(size), size=window.places(size))
    out = pick(x, x, window)  # a dilated window can see padding only, which is -inf
    return out if seen.all() else np.where(seen > 0, out, -math.inf)


# The public functions
# fmt: off


def _max_pool(axes: int, input: Any, options: Any, fused: bool) -> Any:
    name = f"max_pool{axes}d"
    x, back = plane(name, axes, input)
    return back(max_of(x, window=window_of(name, axes, x.shape[2:], *options), fused=fused))


def max_pool1d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, ceil_mode: bool = False, *, fused: bool = True) -> Any:
    """`max_pool2d` with one spatial axis: (N, C, L) or (C, L)."""
    return _max_pool(1, input, (kernel_size, stride, padding, dilation, ceil_mode), fused)


def max_pool2d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, ceil_mode: bool = False, *, fused: bool = True) -> Any:
    """The largest entry of each window of (N, C, H, W) or (C, H, W); the first gets the gradient.

    `stride` None is `kernel_size`; padding counts as -inf; `ceil_mode` keeps a last window that
    hangs over the edge; `fused=False` records gathered windows and what argmax takes of them.
    """
    return _max_pool(2, input, (kernel_size, stride, padding, dilation, ceil_mode), fused)


def _avg_pool(axes: int, input: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool,
              count_pad: bool, divisor: Any = None) -> Any:
    name = f"avg_pool{axes}d"
    if divisor == 0:
        raise ValueError(f"{name}: divisor_override must not be 0")
    x, back = plane(name, axes, input)
    window = window_of(name, axes, x.shape[2:], kernel, stride, padding, 1, ceil_mode)
    size, taps, places = x.shape[2:], window.taps(x.shape[2:]), window.places(x.shape[2:])
    if divisor is None:
        if count_pad:  # ones in the padding too, and then none around it
            size = tuple([n + 2 * p for (p, _), n in zip(window.padding, size, strict=True)])
            window = replace(window, padding=tuple([(0, q - p) for p, q in window.padding]))
        ones = np.ones((1, 1, *size), x.dtype)
        divisor = tap_sum(ones, taps=window.taps(size), size=places)
    return back(tap_sum(x, taps=taps, size=places) / divisor)


def avg_pool1d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Any:
    """`avg_pool2d` with one spatial axis: (N, C, L) or (C, L)."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True,
               divisor_override: Any = None) -> Any:
    """The mean of each window of (N, C, H, W) or (C, H, W).

    `count_include_pad`: the zeros of the padding count too. `divisor_override` divides instead of
    the count. `stride` None is `kernel_size`; `ceil_mode` keeps a window that hangs over the edge.
    """
    options = stride, padding, ceil_mode, count_include_pad, divisor_override
    return _avg_pool(2, input, kernel_size, *options)


def stepped(m: int, step: Fraction, spread: bool) -> Taps:
    """Taps of m outputs: r takes input floor(r step), or, spread, all up to ceil((r + 1) step)."""
    a, b, taps = step.numerator, step.denominator, []  # b outputs on is a inputs on
    for r in range(min(b, m)):
        outputs = range(r, m, b)
        for i in range(r * a // b, -(-(r + 1) * a // b) if spread else r * a // b + 1):
            taps.append((outputs, range(i, i + a * len(outputs), a)))
    return taps


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """Means over windows that spread evenly: `output_size` of them, a number or (h, w).

    None keeps an axis. Window r of m spans floor(r n / m) to ceil((r + 1) n / m) of n entries.
    """
    x, back = plane("adaptive_avg_pool2d", 2, input)
    asked = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    kept = [x.shape[2:][a] if m is None and a < 2 else m for a, m in enumerate(asked)]
    size = pair("adaptive_avg_pool2d", 2, "output_size", kept)
    taps = [stepped(m, Fraction(n, m), True) for m, n in zip(size, x.shape[2:], strict=True)]
    counts = tap_sum(np.ones((1, 1, *x.shape[2:]), x.dtype), taps=taps, size=size)
    return back(tap_sum(x, taps=taps, size=size) / counts)


def interpolate(input: Any, size: Any = None, scale_factor: Any = None,
                mode: str = "nearest") -> Any:
    """(N, C, L) or (N, C, H, W) resized: output r takes input floor(r / scale).

    Either `size`, of the output, or `scale_factor`, a number or one per axis. The only mode is
    "nearest".
    """
    axes = np.ndim(input) - 2
    if mode != "nearest" or axes not in (1, 2) or (size is None) == (scale_factor is None):
        raise ValueError(
            "interpolate: expected mode='nearest' (others are not here), an input of 3 or 4 axes, "
            f"and either size or scale_factor; got mode={mode!r}, an input {np.shape(input)}, "
            f"size={size} and scale_factor={scale_factor}"
        )
    x, back = plane("interpolate", axes, input)
    scales = np.broadcast_to(1.0 if scale_factor is None else scale_factor, axes).tolist()
    if size is None:
        size = [math.floor(n * s) for n, s in zip(x.shape[-axes:], scales, strict=True)]
    size = pair("interpolate", axes, "size, or scale_factor times the input's,", size)
    steps = [Fraction(n, m) for n, m in zip(x.shape[2:], size, strict=True)]
    if scale_factor is not None:
        steps[-axes:] = [1 / Fraction(s).limit_denominator() for s in scales]
    taps = [stepped(m, step, False) for m, step in zip(size, steps, strict=True)]
    return back(tap_sum(x, taps=taps, size=size))


def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
           stride: Any = 1) -> Any:
    """Windows as columns: (N, C, H, W) becomes (N, C * entries of a window, number of windows)."""
    x, _ = plane("unfold", 2, input)
    window = window_of("unfold", 2, x.shape[2:], kernel_size, stride, padding, dilation)
    _, c, entries, *places = (out := windows(x, window=window)).shape
    return out.reshape(*np.shape(input)[:-3], c * entries, math.prod(places))


def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
         stride: Any = 1) -> Any:
    """Columns added back into images (N, C, *output_size): the transpose of `unfold`."""
    y, size = floating(input), pair("fold", 2, "output_size", output_size)
    window = window_of("fold", 2, size, kernel_size, stride, padding, dilation)
    places, entries = window.places(size), math.prod(window.kernel)
    if y.ndim not in (2, 3) or y.shape[-2] % entries or y.shape[-1] != math.prod(places):
        raise ValueError(
            f"fold: expected columns (N, C * {entries}, {math.prod(places)}), or without N, for "
            f"output_size {size}, got {y.shape}"
        )
    n, c = y.shape[:-2], y.shape[-2] // entries
    out = overlap(y.reshape(*(n or (1,)), c, entries, *places), size=size, window=window)
    return out.reshape(*n, c, *size)
