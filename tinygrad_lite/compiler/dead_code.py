"""Pass: leave out what no result depends on, and arrays from outside that nothing reads."""

from __future__ import annotations

from dataclasses import replace

from .program import Program, values_in


def dead_code(program: Program) -> Program:
    live = {*values_in([program.outputs, program.effects]), *(v for v, _ in program.guards)}
    body = []
    for step in reversed(program.body):
        if step.changes or any(out in live for out in step.outs):
            live.update(step.inputs())
            body.append(step)
    captured = {v: read for v, read in program.captured.items() if v in live}
    constants = {v: data for v, data in program.constants.items() if v in live}
    return replace(program, captured=captured, constants=constants, body=body[::-1])
