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
    return step.op, id(step.call), plain(step.args), plain(step.kwargs)


def plain(item: Any) -> Any:
    if type(item) is Value:
        return item
    if isinstance(item, (tuple, list)):
        return type(item), *map(plain, item)
    if isinstance(item, dict):
        return *item, *map(plain, item.values())
    if isinstance(item, slice):
        return slice, plain(item.start), plain(item.stop), plain(item.step)
    if isinstance(item, np.generic):
        return item.dtype, item.tobytes()
    if isinstance(item, float):
        return item.hex()  # 0.0 is not -0.0
    return type(item), repr(item)
