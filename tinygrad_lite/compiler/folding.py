"""Pass: compute now what depends on constants only, if the result is no larger than they are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from .program import Program, Value, is_update, mapped, with_values


def constant_folding(program: Program) -> Program:
    replaced: dict[Value, Any] = {}
    constants, body, written = dict(program.constants), [], program.written()

    def known(item: Any) -> Any:
        return constants[item] if isinstance(item, Value) else item

    for step in program.body:
        step = with_values(step, replaced)
        inputs, out = list(step.inputs()), step.outs[0]
        own = step.several or step.changes or is_update(step) or out in written
        largest = max([1, *(math.prod(v.shape) for v in inputs)])
        if own or not constants.keys() >= set(inputs) or math.prod(out.shape) > largest:
            body.append(step)
            continue
        args, kwargs = mapped((step.args, step.kwargs), known)
        with np.errstate(all="ignore"):
            result = step.call(*args, **kwargs)
        if isinstance(result, np.ndarray):
            constants[out] = result
        else:
            replaced[out] = result
    return replace(program.rewritten(body, replaced), constants=constants)
