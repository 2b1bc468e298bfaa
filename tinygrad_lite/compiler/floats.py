"""Pass: what is left on single float64 numbers runs on Python's floats, at twice the speed.

Where NumPy's numbers overflow or divide by zero, Python's raise an error, and the function itself
runs. The one trick: a number that leaves the floats gets its old value, so that no other
instruction changes.
"""

from __future__ import annotations

import math
import operator
from dataclasses import replace
from typing import Any

import numpy as np

from .program import Instruction, Program, Value, values_in

WORTH = 3  # operations for each number that comes or goes: below that, converting costs more
NAMES = ("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh", "sinh", "cosh", "arctan")
PYTHON: dict[str, Any] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul,
    "divide": operator.truediv, "power": operator.pow, "negative": operator.neg,
    "greater": operator.gt, "greater_equal": operator.ge, "less": operator.lt,
    "less_equal": operator.le, "equal": operator.eq, "not_equal": operator.ne,
    "maximum": max, "minimum": min, "absolute": abs,
} | {name: getattr(math, name.replace("arc", "a")) for name in NAMES}  # fmt: skip
CALLED = {f: f.__name__ for f in (max, min, abs, float)}  # how emit writes what is no operator
CALLED |= {PYTHON[name]: f"math.{PYTHON[name].__name__}" for name in NAMES}


def floats(program: Program) -> Program:
    inside: set[Value] = set()  # the numbers that will be floats
    for step in program.body:
        if on_floats(step, inside):
            inside.add(step.outs[0])
    mine = [step for step in program.body if step.outs[0] in inside]
    come = {v for step in mine for v in step.inputs() if not v.weak} - inside
    leave = set(values_in([program.outputs, program.effects]))
    leave = inside & leave.union(*(s.inputs() for s in program.body if s.outs[0] not in inside))
    if len(mine) < WORTH * (len(come) + len(leave)):
        return program
    python: dict[Value, Value] = {}  # the float of a number
    body: list[Instruction] = []

    def as_float(item: Any) -> Any:
        if not isinstance(item, Value):
            return float(item) if isinstance(item, np.floating) else item
        if item not in python and not item.weak:
            python[item] = replace(item, weak=True)
            body.append(Instruction("float", float, (item,), {}, [python[item]]))
        return python.get(item, item)

    for step in program.body:
        out = step.outs[0]
        if out not in inside:
            body.append(step)
            continue
        args = tuple(map(as_float, step.args))
        if step.op in ("maximum", "minimum"):  # max(nan, 0.0) is nan, and max(0.0, nan) is not
            args = tuple(sorted(args, key=lambda a: not isinstance(a, Value)))
        python[out] = replace(out, weak=True)
        body.append(replace(step, call=PYTHON[step.op], args=args, outs=[python[out]]))
        if out in leave:
            kind = np.float64 if out.dtype == float else np.bool_
            body.append(replace(step, op=kind.__name__, call=kind, args=(python[out],)))
    guards = [(python.get(value, value), held) for value, held in program.guards]
    return replace(program, body=body, guards=guards)


def on_floats(step: Instruction, inside: set[Value]) -> bool:
    """Whether Python computes the same number, or raises an error."""
    (out, *more), op, args = step.outs, step.op, step.args
    if out.shape or out.weak or more or op not in PYTHON or step.kwargs:
        return False
    values = [a for a in args if isinstance(a, Value)]
    if any(v.shape or (v.dtype != float and v not in inside) for v in values):
        return False
    numbers = [a for a in args if not isinstance(a, Value)]
    if not all(type(a) in (int, float, np.float64) and math.isfinite(a) for a in numbers):
        return False
    if op == "power":  # of a negative number, Python's may be complex
        return args[1] in numbers and float(args[1]).is_integer()
    return bool(values) and (len(numbers) == 1 or op not in ("maximum", "minimum"))
