"""Pass: compute once what the recording computes twice from the same values."""

from __future__ import annotations

from typing import Any

import numpy as np

from .program import Instruction, Program, Value, is_update, with_values


def common_subexpressions(program: Program) -> Program:
    replaced: dict[Value, Any] = {}
    constants: dict[Any, Value] = {}  # by content
    for value, data in program.constants.items():
        key = data.shape, data.dtype, data.tobytes()
        if (first := constants.setdefault(key, value)) is not value:
            replaced[value] = first
    seen: dict[Any, Instruction] = {}
    written = program.written()  # each of these needs an array of its own
    body = []
    for step in program.body:
        step = with_values(step, replaced)
        alone = step.changes or is_update(step) or any(out in written for out in step.outs)
        same = step if alone else seen.setdefault(_key(step), step)
        if same is step:
            body.append(step)
        else:
            replaced.update(zip(step.outs, same.outs, strict=True))
    return program.rewritten(body, replaced)


def _key(step: Instruction) -> Any:
    """Equal for steps that compute the same."""
    return step.op, id(step.call), content(step.args), content(step.kwargs)


def content(item: Any) -> Any:
    """Equal for values, numbers, ... that are the same: 1 is not 1.0, and 0.0 is not -0.0."""
    if type(item) is Value:
        return item
    if isinstance(item, (tuple, list)):
        return type(item), *map(content, item)
    if isinstance(item, dict):
        return *item, *map(content, item.values())
    if isinstance(item, slice):
        return slice, content(item.start), content(item.stop), content(item.step)
    if isinstance(item, np.generic):
        return item.dtype, item.tobytes()
    if isinstance(item, float):
        return item.hex()
    return type(item), repr(item)
