"""Pass: probabilities less a one-hot matrix (cross-entropy's gradient), without the matrix.

p - (t[:, None] == arange(n)) becomes p[rows, t] -= 1, if the recording asks whether all labels t
lie below n: of a table of many classes only one entry per row is touched.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

import numpy as np

from .program import Instruction, Program, Value


def one_hot_subtracted(program: Program) -> Program:
    makers, constants = program.makers(), dict(program.constants)
    body = []
    for step in program.body:
        labels = _labels(step, makers, program)
        if labels is None:
            body.append(step)
            continue
        p, (out,) = step.args[0], step.outs
        rows = Value(labels.shape, np.dtype(np.intp))
        constants[rows] = np.arange(labels.shape[0])
        part, less = (Value(labels.shape, out.dtype) for _ in range(2))
        at = (rows, labels)
        body += [
            replace(step, op="getitem", call=operator.getitem, args=(p, at), outs=[part]),
            replace(step, args=(part, 1), outs=[less]),
            replace(step, op="setitem", call=operator.setitem, args=(p, at, less)),
        ]
    return replace(program, body=body, constants=constants)


def _labels(step: Instruction, makers: Any, program: Program) -> Value | None:
    """t, if this step is p - one_hot(t)."""

    def made(value: Any, op: str) -> tuple[Any, ...]:
        maker = makers.get(value) if isinstance(value, Value) else None
        return maker.args if maker is not None and maker.op == op else ()

    if step.op != "subtract" or len(step.outs[0].shape) != 2:
        return None
    matrix = made(step.args[1], "astype")
    equal = made(matrix[0], "equal") if matrix else ()
    column = made(equal[0], "expand_dims") if equal else ()
    numbers = program.constants.get(equal[1]) if equal else None
    n = step.outs[0].shape[1]
    if not column or numbers is None or not np.array_equal(numbers, np.arange(n)):
        return None
    t = column[0]
    p = step.args[0]
    if not isinstance(p, Value) or (p.shape, p.dtype) != (step.outs[0].shape, step.outs[0].dtype):
        return None
    for guard, held in program.guards:  # np.max(t.view(unsigned)) >= n is asked, and is not so
        asked = made(guard, "greater_equal")
        largest = made(asked[0], "max") if asked and asked[1] == n and not held else ()
        if largest and t in (largest[0], *made(largest[0], "view")):
            return t  # type: ignore[no-any-return]
    return None
