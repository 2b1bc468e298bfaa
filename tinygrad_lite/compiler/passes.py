"""The passes in their order, until a round changes nothing."""

from __future__ import annotations

from .algebra import algebra
from .common import common_subexpressions
from .dead_code import dead_code
from .folding import constant_folding
from .guards import guarded
from .lanes import lanes
from .program import Program
from .recognition import one_hot_subtracted


def optimised(program: Program) -> Program:
    program, before = lanes(dead_code(program)), None
    while program.body != before:  # the same instructions
        before = program.body
        for step in (guarded, common_subexpressions, constant_folding, algebra, dead_code):
            program = step(program)
    return dead_code(common_subexpressions(one_hot_subtracted(program)))
