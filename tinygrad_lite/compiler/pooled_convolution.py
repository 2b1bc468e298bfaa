"""Pass: a convolution and the max-pool after it become one step, forward and backward.

What lies between them, the convolution's output and its gradient, are the largest arrays of such a
network: convolution_kernels.py does without. The pass goes by who reads what. It leaves alone what
anybody else reads, and windows and batches that those kernels are not made for.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np

from ..windows import Window
from .algebra import is_number
from .convolution_kernels import conv_pool, conv_pool_back
from .program import Instruction, Program, Value, values_in

BATCH = 32  # images, at least: with fewer, products of one column per image are too small
Readers = defaultdict[Value, list[Any]]
Steps = dict[Instruction, list[Instruction]]


def pooled_convolution(program: Program) -> Program:
    readers: Readers = defaultdict(list)
    for step in program.body:
        for value in step.inputs():
            readers[value].append(step)
    for value in values_in([program.outputs, program.effects, [v for v, _ in program.guards]]):
        readers[value].append(None)
    new: Steps = {}
    for step in program.body:
        if step.op == "whole._conv":
            new |= _fused(step, readers, program.constants)
    return replace(program, body=[s for step in program.body for s in new.get(step, [step])])


def _fused(conv: Instruction, readers: Readers, constants: Any) -> Steps:
    """Which steps to replace by what; the convolution itself is then dead code."""
    x, w, window, b = _given(conv).values()
    (out,), mask, relu = conv.outs, None, False
    after = _by_op(readers[out])
    if after.keys() == {"maximum"} and is_number(after["maximum"].args[1], 0, constants):
        (out,), relu = after["maximum"].outs, True
        after = _by_op(readers[out])
        mask = after.pop("greater", None)  # out > 0, for relu's gradient
    pool, back = after.pop("whole.along", None), after.pop("whole._max_pool_input", None)
    sizes = _pool_sizes(pool) if pool is not None and not after else None
    if sizes is None or not _fits(x, w, window, b, out):
        return {}
    (largest,), options = pool.outs, (window.padding, sizes)
    largest.name = largest.name or "pooled"
    places = Value((*largest.shape[2:], *largest.shape[1::-1]), np.dtype(np.uint8), "places")
    new = {pool: _whole(pool, conv_pool, (x, w, b, *options, relu), [largest, places])}
    if back is None and mask is None:
        return new
    if back is None or relu != (mask is not None):
        return {}
    g, (d,) = back.args[0], back.outs
    square = Window(sizes, sizes, ((0, 0), (0, 0)), (1, 1))
    if _given(back) != {"y": g, "x": out, "largest": largest, "window": square}:
        return {}
    if mask is not None:  # d * mask, which nobody else reads
        product = _by_op(readers[d]).get("multiply")
        alone = readers[d] == readers[mask.outs[0]] == [product]
        if product is None or not alone or not is_number(mask.args[1], 0, constants):
            return {}
        (d,) = product.outs
    ends = _by_op(readers[d])
    dx, dw, db = (ends.pop(op, None) for op in ("whole._conv_input", "whole._conv_weight", "sum"))
    if (
        ends
        or dw is None
        or _given(dw) != {"x": x, "y": d, "window": window}
        or (dx and _given(dx) != {"y": d, "w": w, "size": x.shape[2:], "window": window})
        or (db and (db.args, db.kwargs) != ((d,), {"axis": (0, 2, 3)}))
    ):
        return {}
    given = g, places, x, w, *options, dx is not None
    outs = [step.outs[0] for step in (dx, dw, db) if step]
    outs += [] if db else [Value(w.shape[:1], w.dtype)]
    gone: Steps = {step: [] for step in (dx, dw, db) if step}
    return new | gone | {back: _whole(back, conv_pool_back, given, outs)}


def _whole(step: Instruction, kernel: Any, args: Any, outs: list[Value]) -> list[Instruction]:
    op = f"whole.{kernel.__name__}"
    return [replace(step, op=op, call=kernel, args=args, kwargs={}, outs=outs, several=True)]


def _given(step: Instruction) -> dict[str, Any]:
    """The arguments of a kernel by name."""
    bound = inspect.signature(step.call).bind(*step.args, **step.kwargs)
    bound.apply_defaults()
    return bound.arguments


def _by_op(steps: list[Any]) -> dict[str, Any]:
    """Steps by what they do; nothing to go by if two are alike, or one hands out results."""
    found = {step.op if step is not None else "": step for step in steps}
    return found if len(found) == len(steps) else {"": None}


def _pool_sizes(pool: Instruction) -> tuple[int, ...] | None:
    """The windows of a max-pool without overlap or padding."""
    f, _, _, taps, size = pool.args
    sizes = tuple([len(each) for each in taps])
    whole = [
        [(range(n), range(k, k + n * s, s)) for k in range(s)]
        for n, s in zip(size, sizes, strict=True)
    ]
    fits = f is np.maximum and taps == whole and np.prod(sizes) < 256  # places are bytes
    return sizes if fits else None


def _fits(x: Value, w: Value, window: Window, b: Any, out: Value) -> bool:
    """Whether this is a convolution that the kernels are made for."""
    plain = window.stride == window.dilation == (1, 1) and window.groups == 1
    inside = all(max(p) < k for k, _, p, _ in window.axes())
    bias = is_number(b, 0, {}) or (b.shape, b.dtype) == ((w.shape[0], 1, 1), x.dtype)
    return plain and inside and bias and x.shape[0] >= BATCH and x.dtype == w.dtype == out.dtype
