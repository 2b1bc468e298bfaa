"""Windows that slide over planes: what convolution and pooling share.

The one trick is the tap: along an axis, an entry of the window joins the outputs `o` to the inputs
`i`, two ranges of one length. Everything loops over taps, and a gradient swaps o and i. A plane is
(n, channels, rows, columns): a line is a plane of one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .conversion import floating
from .mode import whole
from .primitives import Array, Primitive, primitive

Sizes = tuple[int, ...]
Taps = list[tuple[range, range]]  # of one axis: (outputs, inputs) for every entry of the window


@dataclass(frozen=True)
class Window:
    """What slides over a plane: an entry per axis."""

    kernel: Sizes
    stride: Sizes
    padding: tuple[Sizes, ...]  # (before, after): "same" and ceil_mode can be uneven
    dilation: Sizes
    groups: int = 1  # of channels

    def axes(self, *sizes: Sizes) -> Iterator[Any]:
        return zip(self.kernel, self.stride, self.padding, self.dilation, *sizes, strict=True)

    def places(self, size: Sizes) -> Sizes:
        """How often it fits along each axis: the shape of the output."""
        axes = self.axes(size)
        return tuple([(n + sum(p) - d * (k - 1) - 1) // s + 1 for k, s, p, d, n in axes])

    def taps(self, size: Sizes) -> list[Taps]:
        """Per axis, per entry of the window: the outputs whose input is not padding, and these."""
        found: list[Taps] = []
        for k, s, (p, _), d, n, m in self.axes(size, self.places(size)):
            found.append([])
            for at in range(-p, k * d - p, d):  # output o reads input o * s + at
                low = max(0, -(at // s))
                high = max(low, min(m, (n - 1 - at) // s + 1))
                found[-1].append((range(low, high), range(low * s + at, high * s + at, s)))
        return found

    def moves(self, size: Sizes) -> list[tuple[Any, Any]]:
        """Per entry of the window, as indices of planes: the outputs and the inputs."""
        rows, cols = self.taps(size)
        return [((..., cut(o), cut(p)), (..., cut(i), cut(j))) for o, i in rows for p, j in cols]


def cut(r: range) -> slice:
    return slice(r.start, r.stop, r.step)


def swapped(taps: list[Taps]) -> list[Taps]:
    return [[(i, o) for o, i in axis] for axis in taps]


# Windows copied out and added back, and sums over taps


@whole
def _windows(x: Array, window: Window) -> Array:
    shape = (*x.shape[:2], math.prod(window.kernel), *window.places(x.shape[2:]))
    out = np.zeros(shape, x.dtype)
    for k, (o, i) in enumerate(window.moves(x.shape[2:])):
        out[:, :, k][o] = x[i]
    return out


@whole
def _overlap(y: Array, size: Sizes, window: Window) -> Array:
    out = np.zeros((*y.shape[:2], *size), y.dtype)
    for k, (o, i) in enumerate(window.moves(size)):
        out[i] += y[:, :, k][o]
    return out


@whole
def along(f: Any, start: float, x: Array, taps: list[Taps], size: Sizes) -> Array:
    """out[o] = f(out[o], x[i]) for every tap, from `start`: rows first, then columns."""
    for axis in (2, 3):
        each, source = taps[axis - 2], np.moveaxis(x, axis, 0)
        if len(each) > 1 and len(each[0][0]) == len(each[1][0]) == size[axis - 2]:
            (_, i), (_, j), *each = each  # two taps that reach every output need no start
            target = f(source[cut(i)], source[cut(j)])
        else:
            shape = (*x.shape[:axis], size[axis - 2], *x.shape[axis + 1 :])
            target = np.moveaxis(np.full(shape, start, x.dtype), axis, 0)
        for o, i in each:
            f(target[cut(o)], source[cut(i)], out=target[cut(o)])
        x = np.moveaxis(target, 0, axis)
    return x


# fmt: off
overlap: Primitive
windows = primitive(
    _windows, lambda g, out, x, window: overlap(g, size=x.shape[2:], window=window),
    saves="-", name="windows")
overlap = primitive(
    _overlap, lambda g, out, y, size, window: windows(g, window=window), saves="-", name="overlap")
tap_sum: Primitive = primitive(
    lambda x, taps, size: along(np.add, 0, x, taps, size),
    lambda g, out, x, taps, size: tap_sum(g, taps=swapped(taps), size=x.shape[2:]),
    saves="-", name="tap_sum")
# fmt: on


# Arguments


def plane(name: str, axes: int, x: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The input as floating point (n, channels, rows, columns), and what shapes outputs like it."""
    x, shape = floating(x), "N, C, H, W" if axes == 2 else "N, C, L"
    n, c = x.shape[: -axes - 1], x.shape[-axes - 1 :]
    if x.ndim not in (axes + 1, axes + 2) or 0 in c:
        raise ValueError(
            f"{name}: expected an input ({shape}), or one without N, of one entry or more per axis "
            f"(but N), got {x.shape}"
        )
    if x.ndim == 4:
        return x, lambda out: out
    x = x.reshape(*(n or (1,)), c[0], *(1, *c[1:])[-2:])
    return x, lambda out: out.reshape(*n, out.shape[1], *out.shape[-axes:])


def pair(name: str, axes: int, what: str, value: Any, least: int = 1) -> Sizes:
    """(rows, columns), from an integer for each of the axes, or one for all."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    ok = [isinstance(v, (int, np.integer)) and v >= least for v in values]
    if len(values) != axes or not all(ok):
        raise ValueError(
            f"{name}: {what} must be an integer, {least} or more, or {axes} of them, got {value!r}"
        )
    return (least,) * (2 - axes) + tuple([int(v) for v in values])


def window_of(
    name: str, axes: int, size: Sizes, kernel: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool = False, groups: int = 1,
) -> Window:  # fmt: skip
    """The arguments, checked, as a Window over planes of shape `size`."""
    k, d = pair(name, axes, "kernel_size", kernel), pair(name, axes, "dilation", dilation)
    s = k if stride is None else pair(name, axes, "stride", stride)
    span = tuple([a * (b - 1) + 1 for a, b in zip(d, k, strict=True)])
    if padding == "same" and s == (1, 1):
        pads = [((m - 1) // 2, m // 2) for m in span]
    else:
        what = "padding, if not 'valid', nor 'same' with stride 1,"
        zeros = pair(name, axes, what, 0 if padding == "valid" else padding, 0)
        pads = [(p, p) for p in zeros]
    if ceil_mode:  # one more place, if it starts inside, with padding to reach it
        for a, (n, m, (p, _)) in enumerate(zip(size, span, pads, strict=True)):
            last = -(-(n + 2 * p - m) // s[a])
            last -= last * s[a] >= n + p
            pads[a] = (p, max(p, last * s[a] + m - n - p))
    window = Window(k, s, tuple(pads), d, groups)
    half = "pool" in name and any(2 * p > n for (p, _), n in zip(pads, k, strict=True))
    if half or min(window.places(size)) < 1:
        raise ValueError(
            f"{name}: a window of {span} entries on an input of {size} with padding {padding!r}: "
            "it must fit into the padded input, and a pool's padding be at most half of its kernel"
        )
    return window
