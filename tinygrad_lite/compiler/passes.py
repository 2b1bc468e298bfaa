"""The passes in their order; those that make it shorter, until two rounds remove nothing."""

from __future__ import annotations

from .algebra import algebra
from .common import common_subexpressions
from .dead_code import dead_code
from .floats import floats
from .folding import constant_folding
from .guards import guarded
from .lanes import lanes
from .pooled_convolution import pooled_convolution
from .program import Instruction, Program


def optimised(program: Program) -> Program:
    program = pooled_convolution(simplified(lanes(dead_code(program))))
    return floats(dead_code(program))


def simplified(program: Program) -> Program:
    before: list[Instruction] = []
    still = 0
    while still < 2 and program.body != before:
        before = program.body
        for step in (guarded, common_subexpressions, constant_folding, algebra, dead_code):
            program = step(program)
        still = still + 1 if len(program.body) == len(before) else 0
    return program
