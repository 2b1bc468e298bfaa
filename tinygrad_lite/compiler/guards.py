"""Pass: take as known what the guards ask. After `if not np.all(x): raise`, all of x is True."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .program import Program, Value, with_values


def guarded(program: Program) -> Program:
    makers, constants = program.makers(), dict(program.constants)
    guards = [(value, held) for value, held in program.guards if value not in constants]
    known: dict[Value, Any] = {}
    for value, held in guards:
        maker = makers.get(value)
        if maker is None or (maker.op, held) not in (("all", True), ("any", False)):
            continue
        x = maker.args[0]
        if isinstance(x, Value) and x.dtype == bool and len(maker.args) == 1:
            known[x] = same = Value(x.shape, x.dtype)
            constants[same] = np.full(x.shape, held)
    asking = {makers[value] for value, _ in guards if value in makers}
    body = [step if step in asking else with_values(step, known) for step in program.body]
    return replace(program, body=body, constants=constants, guards=guards)
