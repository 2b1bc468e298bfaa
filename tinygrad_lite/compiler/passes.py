"""The passes in their order, until two rounds remove nothing."""

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
    program, still = lanes(dead_code(program)), 0
    while still < 2:
        before = len(program.body)
        for step in (guarded, common_subexpressions, constant_folding, algebra, dead_code):
            program = step(program)
        still = still + 1 if len(program.body) == before else 0
    return dead_code(common_subexpressions(one_hot_subtracted(program)))
