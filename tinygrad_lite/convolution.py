"""Convolution, with PyTorch's names and arguments.

A convolution is a derivative of one trilinear form, T(x, w, y) = sum(y * conv(x, w)). Its three
derivatives are three primitives: `conv` is dT/dy, `conv_input` dT/dx, `conv_weight` dT/dw. The one
trick: the rules of each are the other two, so derivatives of every order are there, and a
transposed convolution is `conv_input`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from .conversion import floating
from .fused import equals
from .mode import whole
from .primitives import Array, Primitive, primitive
from .windows import Sizes, Taps, Window, cut, pair, plane, swapped, window_of, windows

CACHE = 3 << 19  # bytes of a block of the batch: its columns and sums stay in the L2 cache
SMALL = 10**6  # multiplications: BLAS multiplies smaller matrices faster, without packing them

# Convolution. The last axis of the kernel is unrolled: its taps become rows of a matrix, one for
# each row of the images, in which some images lie side by side. The kernel's rows are summed over,
# in products with these matrices.


def together(inputs: int, outputs: int, groups: int, height: int, width: int, bytes: int) -> int:
    """How many images form a block, a power of two: products are small and the block in the cache.

    Wide layers, where one would be too few columns for a small product, get 128 columns.
    """
    most = SMALL * groups**2 // (inputs * outputs * width)
    fit = CACHE // (bytes * height * width * (inputs + 2 * outputs))
    most = min(most, fit) if most * width >= 32 else 128 // width
    return 1 << max(1, most).bit_length() - 1


def columns(x: Array, taps: Taps, width: int, step: int) -> Iterator[tuple[slice, Array]]:
    """By `step` images, in one buffer: part[h, c, j, n, o] = x[n, c, h, i], (o, i) = taps[j]."""
    n, c, h, _ = x.shape
    buffer = np.zeros((h, c, len(taps), min(n, step), width), x.dtype)
    for start in range(0, n, step):
        block = x[start : start + step].transpose(2, 1, 0, 3)
        part = buffer[:, :, :, : block.shape[2]]
        for j, (o, i) in enumerate(taps):
            part[:, :, j, :, cut(o)] = block[..., cut(i)]
        yield slice(start, start + step), part


def correlate(x: Array, w: Array, b: Any, taps: list[Taps], size: Sizes) -> Array:
    """out[o] = b + the sum over kernel rows k of w[k] @ columns[i]; w: (k, groups, out, in, j)."""
    (kernel, groups, m, *_), n, width = w.shape, len(x), size[1]
    w = np.ascontiguousarray(w).reshape(kernel, groups, m, -1)
    out = np.empty((n, groups * m, *size), np.result_type(x, w, b))
    height = max(x.shape[2], size[0])
    step = together(groups * w.shape[3], groups * m, groups, height, width, out.itemsize)
    rows = [(k, o, i) for k, (o, i) in enumerate(taps[0]) if o]
    rows.sort(key=lambda row: -len(row[1]))  # the fullest first: it need not add to anything
    first = rows[0][0] if rows and len(rows[0][1]) == size[0] else None
    sums, terms = np.empty((2, size[0], groups, m, min(n, step) * width), out.dtype)
    for block, part in columns(x, taps[1], width, step):
        part = part.reshape(len(part), groups, w.shape[3], -1)
        total, term = sums[..., : part.shape[3]], terms[..., : part.shape[3]]
        if first is None:
            total[...] = 0
        for k, o, i in rows:
            if k == first:
                np.matmul(w[k], part[cut(i)], out=total)
            else:
                total[cut(o)] += np.matmul(w[k], part[cut(i)], out=term[: len(o)])
        images = total.reshape(size[0], groups * m, -1, width).transpose(2, 1, 0, 3)
        np.add(images, b, out=out[block])
    return out


@whole
def _conv(x: Array, w: Array, window: Window, b: Any = 0.0) -> Array:
    w = w.reshape(window.groups, -1, *w.shape[1:]).transpose(3, 0, 1, 2, 4)
    return correlate(x, w, b, window.taps(x.shape[2:]), window.places(x.shape[2:]))


@whole
def _conv_input(y: Array, w: Array, size: Sizes, window: Window) -> Array:
    """The same sum, with the taps and the kernel's channels the other way round."""
    w = w.reshape(window.groups, -1, *w.shape[1:]).transpose(3, 0, 2, 1, 4)
    return correlate(y, w, 0.0, swapped(window.taps(size)), size)


@whole
def _conv_weight(x: Array, y: Array, window: Window) -> Array:
    """out[k] = the sum over rows and blocks of columns @ y[o].T, for kernel rows k."""
    n, channels, height, width = y.shape
    (rows, cols), groups = window.taps(x.shape[2:]), window.groups
    m, inputs = channels // groups, x.shape[1] * window.kernel[1]
    out = np.zeros((window.kernel[0], groups, inputs // groups, m), np.result_type(x, y))
    step = together(inputs, channels, groups, max(height, x.shape[2]), width, out.itemsize)
    y = y.reshape(n, groups, m, height, width).transpose(3, 1, 0, 4, 2)
    for block, part in columns(x, cols, width, step):
        part = part.reshape(len(part), groups, inputs // groups, -1)
        back = np.ascontiguousarray(y[:, :, block]).reshape(height, groups, -1, m)
        for k, (o, i) in enumerate(rows):
            if o:
                out[k] += np.sum(part[cut(i)] @ back[cut(o)], axis=0)
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


# The public functions
# fmt: off


def _convolution(name: str, axes: int, input: Any, weight: Any, bias: Any, stride: Any,
                 padding: Any, dilation: Any, groups: Any, fused: bool = True,
                 extra: Any = None) -> Any:
    (x, back), w = plane(name, axes, input), floating(weight)
    b = None if bias is None else floating(bias)
    parts, forward, shape = pair(name, 1, "groups", groups)[1], extra is None, (*w.shape, 0)
    c, out = (shape[1] * parts, shape[0]) if forward else (shape[0], shape[1] * parts)
    problems = {
        f"a weight needs {axes + 2} axes, none of them empty": w.ndim != axes + 2 or 0 in w.shape,
        f"the input has {x.shape[1]} channels, the weight is for {c}": x.shape[1] != c,
        f"{parts} groups do not divide {shape[0]} channels": shape[0] % parts,
        f"the bias must have shape ({out},)": b is not None and b.shape != (out,),
    }
    for problem in (text for text, holds in problems.items() if holds):
        rows = "out, C / groups" if forward else "C, out / groups"
        raise ValueError(
            f"{name}: {problem}: got an input {np.shape(input)}, a weight {w.shape} ({rows}, ...), "
            f"a bias {None if b is None else b.shape} and groups={groups}"
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
