"""Convolution and pooling. Public functions have PyTorch's names and arguments.

A convolution is a derivative of one trilinear form, T(x, w, y) = sum(y * conv(x, w)). Its three
derivatives are three primitives: `conv` is dT/dy, `conv_input` dT/dx, `conv_weight` dT/dw, and the
rules of each are the other two. So derivatives of every order are there, and a transposed
convolution is `conv_input`.

The one trick is the tap: along an axis, an entry of the window joins the outputs `o` to the inputs
`i`, two ranges of one length. Everything here loops over taps, and a gradient swaps o and i.
Inside, everything is a plane, (n, channels, rows, columns): a line is a plane of one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from .conversion import as_array
from .fused import equals
from .primitives import Array, Primitive, primitive
from .tensor import Tensor, raw

CACHE = 1 << 20  # bytes of a block of the batch, with its columns: they stay in the L2 cache

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


# Convolution. The last axis of the kernel is unrolled: its taps become rows of one matrix. The
# kernel's rows are summed over, in products with slices of that matrix.


def columns(x: Array, taps: Taps, width: int, outputs: int) -> Iterator[tuple[slice, Array]]:
    """By block of the batch, in one buffer: part[n, c, j, h, o] = x[n, c, h, i], (o, i) = taps[j].

    `outputs` is how many channels will be made of them: with these a block stays in the cache.
    """
    n, c, h, w = x.shape
    step = max(1, CACHE // max(1, x.itemsize * h * width * (c * len(taps) + 2 * outputs)))
    bare = taps == [(range(w), range(w))]
    buffer = np.zeros((0 if bare else min(n, step), c, len(taps), h, width), x.dtype)
    for start in range(0, n, step):
        block = x[start : start + step]
        part = block[:, :, None] if bare else buffer[: len(block)]
        for j, (o, i) in enumerate([] if bare else taps):
            part[:, :, j, :, cut(o)] = block[..., cut(i)]
        yield slice(start, start + step), part


def correlate(x: Array, w: Array, b: Any, taps: list[Taps], size: Sizes) -> Array:
    """out[o] = b + the sum over kernel rows k of w[k] @ columns[i]; w: (k, groups, out, in, j)."""
    kernel, groups, m, *_ = w.shape
    w = np.ascontiguousarray(w).reshape(kernel, groups, m, -1)
    every = w.swapaxes(0, 1).reshape(groups, kernel * m, -1)
    out = np.empty((len(x), groups * m, *size), np.result_type(x, w, b))
    rows = [(k, o, i) for k, (o, i) in enumerate(taps[0]) if o]
    rows.sort(key=lambda row: -len(row[1]))  # the fullest first: it need not add to anything
    if not rows or len(rows[0][1]) < size[0]:
        out[...] = b
    # In narrow layers one product of all rows is faster, if it leaves no row of the image unused.
    tall = m < 64 <= w.shape[3] and taps[0][0][1].step == 1
    with np.errstate():
        np.setbufsize(1024)  # copying short rows into large buffers takes longer than adding them
        for block, part in columns(x, taps[1], size[1], groups * m):
            shape = len(part), groups, w.shape[3], -1
            if tall:
                terms = every @ part.reshape(shape)
                terms = terms.reshape(len(part), groups, kernel, m, -1, size[1])
            for k, o, i in rows:
                at = out[block, :, cut(o)]
                if tall:
                    term = terms[:, :, k, :, cut(i)]
                else:
                    term = w[k] @ part[:, :, :, cut(i)].reshape(shape)
                np.add(term.reshape(at.shape), b if k == rows[0][0] else at, out=at)
    return out


def _conv(x: Array, w: Array, window: Window, b: Any = 0.0) -> Array:
    w = w.reshape(window.groups, -1, *w.shape[1:]).transpose(3, 0, 1, 2, 4)
    return correlate(x, w, b, window.taps(x.shape[2:]), window.places(x.shape[2:]))


def _conv_input(y: Array, w: Array, size: Sizes, window: Window) -> Array:
    """The same sum, with the taps and the kernel's channels the other way round."""
    w = w.reshape(window.groups, -1, *w.shape[1:]).transpose(3, 0, 2, 1, 4)
    return correlate(y, w, 0.0, swapped(window.taps(size)), size)


def _conv_weight(x: Array, y: Array, window: Window) -> Array:
    """out[k] = the sum over the batch of columns @ y[o].T, for kernel rows k."""
    n, channels, height, width = y.shape
    (rows, cols), groups = window.taps(x.shape[2:]), window.groups
    m = channels // groups
    shape = window.kernel[0], groups, x.shape[1] // groups * window.kernel[1], m
    out = np.zeros(shape, np.result_type(x, y))
    y = y.reshape(n, groups, m, height, width).transpose(0, 1, 3, 4, 2)
    y = np.ascontiguousarray(y) if shape[2] > 32 else y  # BLAS takes longer on a transpose
    for block, part in columns(x, cols, width, channels):
        for k, (o, i) in enumerate(rows):
            if o:
                strip = part[:, :, :, cut(i)].reshape(len(part), *shape[1:3], -1)
                back = y[block, :, cut(o)].reshape(len(part), groups, -1, m)
                out[k] += np.sum(strip @ back, axis=0)
    out = out.reshape(len(out), groups, -1, window.kernel[1], m).transpose(1, 4, 2, 0, 3)
    return out.reshape(channels, -1, *window.kernel)


# fmt: off
conv_input: Primitive
conv_weight: Primitive
conv = primitive(
    _conv, lambda g, out, x, w, window: conv_input(g, w, size=x.shape[2:], window=window),
    lambda g, out, x, w, window: conv_weight(x, g, window=window), saves="w x", name="conv")
conv_input = primitive(
    _conv_input, lambda g, out, y, w, size, window: conv(g, w, window=window),
    lambda g, out, y, w, size, window: conv_weight(g, y, window=window),
    saves="w y", name="conv_input")
conv_weight = primitive(
    _conv_weight, lambda g, out, x, y, window: conv_input(y, g, size=x.shape[2:], window=window),
    lambda g, out, x, y, window: conv(x, g, window=window), saves="y x", name="conv_weight")
conv_bias = primitive(
    lambda x, w, b, window: _conv(x, w, window, b.reshape(-1, 1, 1)),
    lambda g, out, x, w, b, window: conv_input(g, w, size=x.shape[2:], window=window),
    lambda g, out, x, w, b, window: conv_weight(x, g, window=window),
    lambda g, out, x, w, b, window: np.sum(g, axis=(0, 2, 3)), saves="w x -", name="conv_bias")
# fmt: on


@equals(conv)
def convolve(x: Any, w: Any, window: Window) -> Any:
    """Input unrolled: the kernels, as rows of a matrix, times the windows, as columns."""
    n, groups, size = x.shape[0], window.groups, window.places(x.shape[2:])
    columns = windows(x, window=window).reshape(n, groups, w[0].size, math.prod(size))
    return (w.reshape(groups, len(w) // groups, -1) @ columns).reshape(n, len(w), *size)


@equals(conv_bias)
def convolve_bias(x: Any, w: Any, b: Any, window: Window) -> Any:
    return convolve(x, w, window, fused=False) + b.reshape(-1, 1, 1)


# Windows copied out and added back, sums over taps, and the largest entry of each window


def _windows(x: Array, window: Window) -> Array:
    shape = (*x.shape[:2], math.prod(window.kernel), *window.places(x.shape[2:]))
    out = np.zeros(shape, x.dtype)
    for k, (o, i) in enumerate(window.moves(x.shape[2:])):
        out[:, :, k][o] = x[i]
    return out


def _overlap(y: Array, size: Sizes, window: Window) -> Array:
    out = np.zeros((*y.shape[:2], *size), y.dtype)
    for k, (o, i) in enumerate(window.moves(size)):
        out[i] += y[:, :, k][o]
    return out


def along(f: Any, start: float, x: Array, taps: list[Taps], size: Sizes) -> Array:
    """out[o] = f(out[o], x[i]) for every tap, from `start`: rows first, then columns."""
    for axis in (2, 3):
        out = np.full((*x.shape[:axis], size[axis - 2], *x.shape[axis + 1 :]), start, x.dtype)
        source, target = np.moveaxis(x, axis, 0), np.moveaxis(out, axis, 0)
        for o, i in taps[axis - 2]:
            f(target[cut(o)], source[cut(i)], out=target[cut(o)])
        x = out
    return x


def _max_pool_input(y: Array, x: Array, largest: Array, window: Window) -> Array:
    """Each y goes to the first entry of its window that is no less than the largest."""
    out, undecided = np.zeros(x.shape, y.dtype), np.ones(y.shape, bool)
    for o, i in window.moves(x.shape[2:]):
        hit = undecided[o] & ~(x[i] < largest[o])
        undecided[o] ^= hit
        out[i] += y[o] * hit
    return out


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
    return pick(x, x, window)


# Arguments


def floating(x: Any) -> Any:
    x = x if isinstance(x, Tensor) else as_array(x)
    return x if x.dtype.kind in "fc" else x.astype(float)


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


# The public functions
# fmt: off


def _convolution(name: str, axes: int, input: Any, weight: Any, bias: Any, stride: Any,
                 padding: Any, dilation: Any, groups: Any, fused: bool = True,
                 extra: Any = None) -> Any:
    (x, back), w = plane(name, axes, input), floating(weight)
    b = None if bias is None else floating(bias)
    parts, forward, shape = pair(name, 1, "groups", groups)[1], extra is None, (*w.shape, 0)
    c, out = (shape[1] * parts, shape[0]) if forward else (shape[0], shape[1] * parts)
    fits = w.ndim == axes + 2 and 0 not in w.shape and x.shape[1] == c and not shape[0] % parts
    if not fits or (b is not None and b.shape != (out,)):
        rows = "out, C / groups" if forward else "C, out / groups"
        raise ValueError(
            f"{name}: expected an input (N, C, ...), a weight ({rows}, ...) of {axes + 2} axes, a "
            "bias (out,) or None, and groups that divide C and out; got an input "
            f"{np.shape(input)}, a weight {w.shape}, a bias {None if b is None else b.shape} and "
            f"groups={groups}"
        )
    size = x.shape[2:] if forward else (1 << 40, 1 << 40)  # that of the transpose comes below
    window = window_of(name, axes, size, w.shape[2:], stride, padding, dilation, False, parts)
    w = w if axes == 2 else w.reshape(*w.shape[:2], *window.kernel)
    if forward and b is None:
        return back(convolve(x, w, window=window, fused=fused))
    if forward:
        return back(convolve_bias(x, w, b, window=window, fused=fused))
    more = pair(name, axes, "output_padding", extra, 0)
    pads = tuple([(p, q - e) for (p, q), e in zip(window.padding, more, strict=True)])
    window = replace(window, padding=pads)
    each = window.axes(x.shape[2:])
    size = tuple([(n - 1) * s + d * (k - 1) + 1 - p - q for k, s, (p, q), d, n in each])
    if min(size) < 1 or any(e >= max(s, d) for _, s, _, d, e in window.axes(more)):
        raise ValueError(
            f"{name}: expected an output_padding below stride or dilation, and outputs of 1 entry "
            f"or more; got output_padding={extra}, stride={stride}, dilation={dilation}, and an "
            f"output of {size} entries"
        )
    y = conv_input(x, w, size=size, window=window)
    return back(y if b is None else y + b.reshape(-1, 1, 1))


def conv1d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1, *, fused: bool = True) -> Any:
    """`conv2d` with one spatial axis: input (N, C, L) or (C, L), weight (out, C / groups, k)."""
    options = stride, padding, dilation, groups, fused
    return _convolution("conv1d", 1, input, weight, bias, *options)


def conv2d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1, *, fused: bool = True) -> Any:
    """out[n, m, a, b] = bias[m] + Σ weight[m, c, i, j] * input[n, c, a * s + i * d, b * s + j * d].

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W); integers become floats. weight : (out, C / groups, h, w).
    bias : (out,) or None. stride, dilation : s and d, one number or one per axis.
    padding : zeros on both sides, one number or one per axis; "valid" is 0, and "same" keeps the
        size (stride 1; what is uneven goes to the end).
    groups : parts that channels and outputs fall into; an output sees the channels of its part.
    fused : False records the composition, windows times a matrix, instead of one node.

    >>> conv2d([[[0.0, 1, 2], [3, 4, 5], [6, 7, 8]]], [[[[1.0, 1], [1, 1]]]])
    array([[[ 8., 12.],
            [20., 24.]]])
    """
    options = stride, padding, dilation, groups, fused
    return _convolution("conv2d", 2, input, weight, bias, *options)


def conv_transpose2d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
                     output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Any:
    """The gradient of `conv2d` by its input, as a function of its own: it makes images larger.

    From (N, C, H, W) or (C, H, W) and a weight (C, out / groups, h, w) to an output
    (H - 1) * stride - 2 * padding + dilation * (h - 1) + output_padding + 1 entries high.
    """
    options = stride, padding, dilation, groups, True, output_padding
    return _convolution("conv_transpose2d", 2, input, weight, bias, *options)


def kernel_matrix(weight: Any, input_shape: Sizes, stride: Any = 1, padding: Any = 0,
                  dilation: Any = 1, groups: int = 1) -> Any:
    """Kernel unrolled: the matrix K with conv(x).ravel() = K @ x.ravel(), for x of `input_shape`.

    `input_shape` is (C, L) or (C, H, W). Column j of K is what becomes of the j-th unit image.

    >>> kernel_matrix([[[1.0, 2.0]]], (1, 4))
    array([[1., 2., 0., 0.],
           [0., 1., 2., 0.],
           [0., 0., 1., 2.]])
    """
    w, axes = floating(weight), len(input_shape) - 1
    units = np.eye(math.prod(input_shape), dtype=w.dtype).reshape(-1, *input_shape)
    out = _convolution("kernel_matrix", axes, units, w, None, stride, padding, dilation, groups)
    return out.reshape(len(units), -1).T


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
    scales = np.broadcast_to(scale_factor or 1.0, axes).tolist()
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
