"""Pass: leave out steps that change nothing: x * 1, x + 0, --x, moves that the next one undoes."""
# mypy: no-warn-return-any

from __future__ import annotations

import math
import operator
from dataclasses import replace
from typing import Any

import numpy as np

from .program import ELEMENTWISE, Instruction, Program, Value, with_values


def algebra(program: Program) -> Program:
    replaced: dict[Value, Any] = {}
    makers: dict[Value, Instruction] = {}
    cut: dict[Value, Value] = {}  # x: max(x, 0), which is above 0 where x is
    body = []
    for step in program.body:
        step = with_values(step, replaced)
        if not step.several:
            found = simpler(step, makers, program.constants)
            if isinstance(found, Value):
                replaced[step.outs[0]] = found
                continue
            step = found
        if step.op in ("maximum", "greater") and isinstance(step.args[0], Value):
            x, bound = step.args
            if (
                is_number(bound, 0, program.constants) or is_number(bound, 0.0, program.constants)
            ) and x.shape == step.outs[0].shape:
                if step.op == "maximum":
                    cut[x] = step.outs[0]
                elif x in cut:  # so that nothing needs x after max(x, 0)
                    step = replace(step, args=(cut[x], bound))
        makers |= dict.fromkeys(step.outs, step)
        body.append(step)
    return program.rewritten(body, replaced)


def simpler(step: Instruction, makers: Any, constants: Any) -> Instruction | Value:
    """A value that the step's result equals, or a simpler step, or the step itself."""
    (out,), op, args = step.outs, step.op, step.args
    if op in ELEMENTWISE and not step.kwargs:
        for k, item in enumerate(args):
            others = [a.shape for j, a in enumerate(args) if j != k and isinstance(a, Value)]
            small = unstretched(item, out, others, makers, constants)
            if small is not item:
                return replace(step, args=(*args[:k], small, *args[k + 1 :]))
    x, y = (*args, None, None)[:2]
    before: Any = makers.get(x) if isinstance(x, Value) else None
    same = before is not None and before.op == op
    for k, neutral in NEUTRAL.get(op, ()):
        if is_number(args[k], neutral, constants) and alike(args[1 - k], out):
            return args[1 - k]
    plain = op != "reshape" or (len(args) == 2 and not step.kwargs)
    if op in ("astype", "reshape", "broadcast_to", "copy", "positive") and alike(x, out) and plain:
        return x
    if op == "getitem" and args[1] == () and alike(x, out) and out.shape:
        return x
    if op == "swapaxes" and len(out.shape) == 2:  # an ordinary transpose, or nothing
        a, b = args[1:] or (step.kwargs["axis1"], step.kwargs["axis2"])
        turned = replace(step, op="transpose", call=np.transpose, args=(x,), kwargs={})
        return x if a % 2 == b % 2 else turned
    if op == "multiply" and step.kwargs == {}:
        for k in (0, 1):  # exactly the same, and a shorter text
            if is_number(args[k], -1, constants) and alike(args[1 - k], out):
                return replace(step, op="negative", call=np.negative, args=(args[1 - k],))
    if op == "negative" and same:
        return before.args[0]
    if op == "negative" and before is not None and before.op in ("sum", "mean"):
        inner = makers.get(before.args[0])
        if inner is not None and inner.op == "negative":  # -sum(-x)
            return replace(before, args=(inner.args[0], *before.args[1:]), outs=step.outs)
    if op == "absolute" and before is not None and before.op == "negative":
        return replace(step, args=before.args)
    if op == "reshape" and same and len(args) == len(before.args) == 2 and not before.kwargs:
        return replace(step, args=(before.args[0], *args[1:]))
    if op == "transpose" and same:
        first, second = axes_of(before), axes_of(step)
        if [first[a] for a in second] == list(range(len(first))):
            return before.args[0]
    known = step.kwargs.keys() <= {"axis", "keepdims"}
    array = isinstance(x, Value) and not x.weak
    if op == "sum" and array and y is None and x.dtype == out.dtype and known:
        axis = step.kwargs.get("axis")
        axes = range(len(x.shape)) if axis is None or not x.shape else np.atleast_1d(axis)
        if all(x.shape[a] == 1 for a in axes):
            return replace(step, op="reshape", call=np.reshape, args=(x, out.shape), kwargs={})
        small = before.args[0] if before is not None and before.op == "broadcast_to" else None
        wide = isinstance(small, Value) and (1,) * (len(x.shape) - len(small.shape)) + small.shape
        if wide and alike(small, out) and out.dtype.kind == "f" and all(wide[a] == 1 for a in axes):
            n = float(math.prod(x.shape[a] for a in axes))
            return replace(step, op="multiply", call=operator.mul, args=(small, n), kwargs={})
    return step


NEUTRAL = {  # which argument changes nothing if it is this number
    "multiply": ((0, 1), (1, 1)), "add": ((0, -0.0), (1, -0.0)),
    "subtract": ((1, 0.0),), "divide": ((1, 1),), "power": ((1, 1),),
}  # fmt: skip


def is_number(item: Any, number: float, constants: Any) -> bool:
    """Whether an argument is this number at every entry."""
    item = constants.get(item) if isinstance(item, Value) else item
    if isinstance(item, (bool, np.bool_)) or not isinstance(
        item, (int, float, np.generic, np.ndarray)
    ):
        return False
    zero = number == 0 and np.asarray(item).dtype.kind == "f"  # x + 0.0 turns -0.0 into 0.0
    same = not zero or np.all(np.signbit(item) == np.signbit(number))
    return bool(np.size(item) and np.all(item == number) and same)


def alike(x: Any, out: Value) -> bool:
    return isinstance(x, Value) and (x.shape, x.dtype) == (out.shape, out.dtype) and not x.weak


def unstretched(item: Any, out: Value, others: Any, makers: Any, constants: Any) -> Any:
    """An argument of an elementwise step before it was stretched, if others stretch it anyway."""
    if not isinstance(item, Value) or not others:
        return item
    maker, data = makers.get(item), constants.get(item)
    if maker is not None and maker.op == "broadcast_to":
        small = maker.args[0]
        if np.broadcast_shapes(np.shape(small), *others) == out.shape:
            return small
    if data is not None and data.size and np.broadcast_shapes(*others) == out.shape:
        first = data.flat[0]
        if (data == first).all() and not (first == 0 and np.signbit(data).any()):
            return first
    return item


def axes_of(step: Instruction) -> tuple[int, ...]:
    """The axes of a transpose, written out."""
    n = len(step.outs[0].shape)
    given = step.args[1] if len(step.args) > 1 else step.kwargs.get("axes")
    return tuple(range(n))[::-1] if given is None else tuple(a % n for a in given)
