"""Pass: where each result lives: in an operand that nobody reads again, in kept storage, or anew.

What is large and stays inside the function is computed into arrays that are kept between calls, so
that the system need not hand out fresh memory each time. The one trick is that liveness is counted
down: `left` says how often a value is still to be read, and a buffer whose value and whose views
have no reads left is free.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .program import ELEMENTWISE, Instruction, Program, Value, values_in

LARGE = 1024  # entries: from here on, writing into an array that is done with beats a new one
HUGE = 65536  # entries: such arrays are kept between calls, or let go of at once
NEW = ELEMENTWISE | frozenset({
    "matmul", "where", "astype", "copy", "sum", "mean", "prod", "max", "min", "amax", "amin", "var",
    "std", "any", "all", "argmax", "argmin", "argsort", "cumsum", "cumprod", "concatenate", "stack",
    "zeros_like", "ones_like", "full_like", "empty_like", "take", "take_along_axis", "tensordot",
    "dot", "sort", "repeat", "tile", "roll", "pad", "put_along_axis", "setitem",
})  # fmt: skip


def makes_new(step: Instruction) -> bool:
    """Whether the result is certain to have memory of its own."""
    gathers = step.op == "getitem" and any(v.shape for v in values_in(step.args[1:]))
    sums = step.op == "einsum" and len(step.args) > 2
    return step.op in NEW or "." in step.op or gathers or sums


def can_write(step: Instruction) -> bool:
    """Whether the result is large and can be written into a given array."""
    (out, *_), op = step.outs, step.op
    writes = (op in ELEMENTWISE and not step.kwargs) or op == "matmul"
    plain = not out.weak and isinstance(out.dtype, np.dtype)
    return writes and plain and math.prod(out.shape) >= HUGE


class Buffers:
    """The arrays of one run of a program, while its steps are written down in order."""

    def __init__(self, program: Program, apart: set[Value] | None) -> None:
        self.apart = (
            apart  # arrays that become results, not to be in kept storage; None: no storage
        )
        self.large = False  # whether there is something to write into given arrays
        self.left = program.uses()  # how often each value is still to be read
        self.shows: dict[Value, set[Value]] = {}  # a possible view: whose memory it may show
        for step in program.body:
            if not makes_new(step):
                bases = {b for v in step.inputs() for b in self.shows.get(v, {v})}
                self.shows.update(dict.fromkeys(step.outs, bases))
        results = [v for v in program.outputs if isinstance(v, Value)]
        self.handed_out = {b for v in results for b in self.shows.get(v, {v})}
        self.views: dict[Value, list[Value]] = {}  # of an array: what may show it, so far
        self.owned: set[Value] = set()  # arrays that a line of ours made, for nobody else
        self.room: dict[Value, str] = {}  # values in kept storage, and its name
        self.storage: dict[str, Value] = {}  # the last value in each array of kept storage
        self.origin: dict[Value, Value] = {}  # of what was written over another: the first of these

    def read(self, values: Iterable[Value]) -> None:
        for value in values:
            self.left[value] -= 1

    def done(self, value: Value) -> bool:
        """Whether neither the value nor what may show its memory will be read again."""
        return not self.left[value] and not any(self.left[v] for v in self.views.get(value, ()))

    def made(self, step: Instruction) -> None:
        """Note what a step, written as a line of its own, leaves behind."""
        for out in step.outs:
            if makes_new(step) and (step.op.startswith("whole.") or not step.several):
                self.owned.add(out)
            for base in self.shows.get(out, ()):
                self.views.setdefault(base, []).append(out)

    def keep(self, value: Value, room: str | None) -> None:
        if room is not None:
            self.room[value], self.storage[room] = room, value

    def may_take(self, target: Value, out: Value) -> bool:
        """Whether `out` may be written over `target`: nothing of kept storage is handed out."""
        return self.done(target) and not (target in self.room and out in self.handed_out)

    def dead_argument(self, step: Instruction) -> Value | None:
        """A large array of the result's kind that nobody will read again."""
        (out,) = step.outs
        if math.prod(out.shape) < LARGE or step.op not in ELEMENTWISE or step.kwargs:
            return None
        for a in step.args:
            mine = isinstance(a, Value) and a in self.owned and self.may_take(a, out)
            if mine and (a.shape, a.dtype) == (out.shape, out.dtype):
                return a  # type: ignore[no-any-return]
        return None

    def wants_room(self, step: Instruction) -> bool:
        """Whether the result is large, stays inside, and can be written into a given array."""
        if self.apart is None or not can_write(step):
            self.large |= can_write(step)
            return False
        return step.outs[0] not in self.handed_out | self.apart

    def free_room(self, out: Value, read: set[Value]) -> str | None:
        """The name of kept storage of the result's kind that is free, and not read in this line."""
        for name, inside in self.storage.items():
            alike = (inside.shape, inside.dtype) == (out.shape, out.dtype)
            if alike and self.done(inside) and not read & {inside, *self.views.get(inside, ())}:
                return name
        return None
