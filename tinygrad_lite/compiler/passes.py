"""The passes in their order, until a round changes nothing, or two remove nothing."""

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
    program, still = lanes(dead_code(program)), 0
    before: list[Instruction] = []
    while still < 2 and program.body != before:
        before = program.body
        for step in (guarded, common_subexpressions, constant_folding, algebra, dead_code):
            program = step(program)
        still = still + 1 if len(program.body) == len(before) else 0
    return floats(dead_code(pooled_convolution(program)))
