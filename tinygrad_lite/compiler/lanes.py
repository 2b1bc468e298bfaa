"""Pass: the same computation on many numbers becomes one on an array, whose entries are the lanes.

A scalar graph repeats itself: one neuron on every point, one product for every weight. Each number
gets a signature, the formula that computes it, in which all numbers from outside look alike, and
all literals. Arguments of equal formulas have equal formulas, so that one array instruction, on the
arrays of their arguments, computes all numbers of a formula. The one trick: a formula is numbered
after those inside it, so the instructions in the order of these numbers never wait for each other.
"""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .entries import Write, entries, row_sums, shaped
from .program import ELEMENTWISE, Instruction, Program, Value, mapped, values_in, with_values

FEW = 16  # numbers: below that, operations on numbers are as fast as one on an array
SUM = 4  # terms alike: from here on, additions one after the other are taken for a sum
KINDS = frozenset({np.dtype(float), np.dtype(bool)})
ON_NUMBERS = ELEMENTWISE | {"where", "astype", "getitem"}  # x[()] of a number
VARIES = frozenset({  # the operations whose literals may differ between lanes
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "equal", "not_equal", "less",
    "less_equal", "greater", "greater_equal",
})  # fmt: skip


def lanes(program: Program) -> Program:
    formulas = Formulas(program)
    for step in program.body:
        formulas.add(step)
    for value in [*formulas.sums]:
        formulas.formula(value)
    return Arrays(program, formulas).program()


NUMBERS = (int, float, np.float64)


class Formulas:
    """Every instruction on numbers, by its signature."""

    def __init__(self, program: Program) -> None:
        self.program, self.uses = program, program.uses()
        self.numbers: dict[Any, int] = {}  # of each formula, in the order of their discovery
        self.of: dict[Value, int] = {}  # the formula that computes a value
        self.steps: defaultdict[int, list[Instruction]] = defaultdict(list)
        self.sums: dict[Value, tuple[list[Any], list[Instruction]]] = {}  # with nobody asking yet
        self.terms: dict[Value, dict[int, list[Value]]] = {}  # of a sum of many terms, by formula
        self.entry: dict[Value, tuple[Value, int]] = {}  # of an array, and its place there
        self.inner: dict[Value, list[Instruction]] = {}  # the additions that make up such a sum
        self.literal = self.number("literal")
        outside = self.number("outside")
        for value in (*program.inputs, *program.captured):
            number = not value.shape and value.dtype == float
            self.of[value] = outside if number else self.number(value)
        for value in program.constants:
            self.of[value] = self.number(value)

    def number(self, formula: Any) -> int:
        return self.numbers.setdefault(formula, len(self.numbers))

    def add(self, step: Instruction) -> None:
        if self.note_entry(step):
            return
        if not on_numbers(step):
            for value in step.inputs():
                self.formula(value)
            self.put(step, self.number(step))
            return
        if step.op != "add" or step.outs[0].dtype != float:
            self.put(step, self.number((step.op, *[self.argument(step, a) for a in step.args])))
            return
        terms: list[Any] = []
        inside: list[Instruction] = []
        for item in step.args:
            if item in self.sums and self.uses[item] == 1:
                more, steps = self.sums.pop(item)
                terms, more = (more, terms) if len(more) > len(terms) else (terms, more)
                inside, steps = (steps, inside) if len(steps) > len(inside) else (inside, steps)
                terms += more
                inside += steps
            else:
                self.argument(step, item)
                terms.append(item)
        inside.append(step)
        self.sums[step.outs[0]] = terms, inside

    def put(self, step: Instruction, formula: int) -> None:
        self.steps[formula].append(step)
        self.of.update(dict.fromkeys(step.outs, formula))

    def argument(self, step: Instruction, item: Any) -> Any:
        if isinstance(item, Value):
            return self.formula(item)
        number = step.op in VARIES and type(item) in NUMBERS and abs(item) <= 2**53
        return self.literal if number else (type(item), repr(item))

    def note_entry(self, step: Instruction) -> bool:
        """Of x[i] and x[i][j], note the array x, and the place of the entry, or of its first."""
        if step.op != "getitem" or not getattr(step.args[0], "shape", ()):
            return False
        source, index = step.args
        index = index if isinstance(index, tuple) else (index,)
        if not all(type(i) is int for i in index):
            return False
        place, (out,) = 0, step.outs
        for i, n in zip(index, source.shape, strict=False):
            place = place * n + i % n
        base, start = self.entry.get(source, (source, 0))
        self.entry[out] = base, start + place * math.prod(out.shape)
        self.put(step, self.number(("entry", self.formula(source))))
        return True

    def formula(self, value: Value) -> int:
        if value in self.sums:
            self.close(value, *self.sums.pop(value))
        return self.of[value]

    def close(self, value: Value, terms: list[Any], inside: list[Instruction]) -> None:
        """Nobody adds anything more to this: is it a sum of many alike?"""
        kinds: dict[int, list[Any]] = {}
        if len(terms) >= SUM:
            for item in terms:
                literal = not isinstance(item, Value)
                kinds.setdefault(self.literal if literal else self.of[item], []).append(item)
        if any(len(found) >= SUM for found in kinds.values()):
            counts = sorted((kind, len(found)) for kind, found in kinds.items())
            self.terms[value], self.inner[value] = kinds, inside
            self.put(inside[-1], self.number(("sum", *counts)))
            return
        for step in inside:
            arguments = [self.argument(step, item) for item in step.args]
            self.put(step, self.number((step.op, *arguments)))


def on_numbers(step: Instruction) -> bool:
    """Whether it computes one float64 number, or truth, from such, and nothing else."""
    out = step.outs[0]
    if out.shape or step.op not in ON_NUMBERS or out.dtype not in KINDS or out.weak or step.several:
        return False
    values = [a for a in step.args if isinstance(a, Value)]
    simple = all(not v.shape and v.dtype in KINDS for v in values)
    return simple and bool(values) and not step.kwargs and not step.changes


class Column(NamedTuple):
    """One argument of many instructions: the items, and which entries of an array they are."""

    items: list[Any]
    source: Value | None  # None: literals, or one item for all
    index: Any


class Arrays:
    """The program written anew, with arrays for the formulas of many numbers."""

    def __init__(self, old: Program, formulas: Formulas) -> None:
        self.old, self.formulas = old, formulas
        self.body: list[Instruction] = []
        self.constants = dict(old.constants)
        self.arrays: dict[int, Value] = {}  # of a formula
        self.lane: dict[Value, int] = {}  # a number's place in the array of its formula
        self.replaced: dict[Value, Any] = {}  # numbers that were taken out of an array
        self.gathered: dict[Any, tuple[Value, dict[Value, int]]] = {}  # arrays of single numbers
        self.picked: dict[Any, Value] = {}
        self.now: Any = None  # the instruction whose part and line to note

    def program(self) -> Program:
        steps, old = self.formulas.steps, self.old
        stay = {number: self.few(each) for number, each in steps.items()}
        asked = {*values_in([old.outputs, old.effects, old.guards])}
        asked.update(v for each in stay.values() for step in each for v in step.inputs())
        self.asked = Counter(self.formulas.of.get(v) for v in asked)
        for number in sorted(steps):
            self.now = steps[number][0]
            if stay[number]:
                self.copy(stay[number])
            elif self.now.outs[0] in self.formulas.terms:
                self.write_sums(number, [self.formulas.terms[s.outs[0]] for s in steps[number]])
            else:
                self.write(number, steps[number])
        if all(stay.values()):
            return old
        mapped([old.outputs, old.effects, old.guards], self.scalar)
        return replace(old.rewritten(self.body, self.replaced), constants=self.constants)

    def few(self, steps: list[Instruction]) -> list[Instruction]:
        """The instructions of a formula, if they stay as they are."""
        outs = [step.outs[0] for step in steps]
        terms = self.formulas.terms.get(outs[0])
        many = len(steps) * max(map(len, terms.values()) if terms else [1])
        if many >= FEW and on_numbers(steps[0]):
            return []
        return [s for out in outs for s in self.formulas.inner[out]] if terms else steps

    def copy(self, steps: list[Instruction]) -> None:
        for step in steps:
            for value in step.inputs():
                self.scalar(value)
            self.body.append(with_values(step, self.replaced))

    def scalar(self, item: Any) -> Any:
        """A number, if need be taken out of its array, with the others if most are asked for."""
        if item in self.lane and item not in self.replaced:
            number = self.formulas.of[item]
            array, values = self.arrays[number], [s.outs[0] for s in self.formulas.steps[number]]
            if 2 * self.asked[number] >= array.shape[0]:
                outs = [Value((), array.dtype) for _ in range(array.shape[0])]
                self.body.append(
                    replace(self.now, op="list", call=list, args=(array,), outs=outs, several=True)
                )
                self.replaced.update((v, outs[self.lane[v]]) for v in values)
            else:
                args = array, self.lane[item]
                self.replaced[item] = self.step("getitem", operator.getitem, args, (), item.dtype)
        return self.replaced.get(item, item) if isinstance(item, Value) else item

    def step(self, op: str, call: Any, args: Any, shape: Any, dtype: Any, **kwargs: Any) -> Value:
        """Write an instruction."""
        out, now = Value(shape, dtype), self.now
        self.body.append(Instruction(op, call, args, kwargs, [out], False, now.part, now.line))
        return out

    def write(self, number: int, steps: list[Instruction]) -> None:
        """One elementwise instruction for all."""
        first = steps[0]
        columns = [self.column([s.args[k] for s in steps]) for k in range(len(first.args))]
        kept, place = order([(c.index[:, None], c.source is not None) for c in columns])
        args = tuple([self.argument(c, kept, c.index[kept]) for c in columns])
        shape = kept.shape if len(kept) > 1 else ()
        out = self.step(first.op, first.call, args, shape, first.outs[0].dtype)
        self.finish(number, place, out)

    def write_sums(self, number: int, terms: list[Any]) -> None:
        """Of each kind of terms one sum, along an axis if there are several results."""
        columns = []
        for kind in terms[0]:
            rows = [each[kind] for each in terms]
            if kind == self.formulas.literal:
                rows = [[sum(row)] for row in rows]
            c = self.column([item for row in rows for item in row])
            columns.append(c._replace(index=np.sort(c.index.reshape(len(rows), -1), axis=1)))
        kept, place = order([(c.index, c.source is not None) for c in columns])
        parts = []
        for c in columns:
            index, many = c.index[kept], c.index.shape[1]
            if c.source is None or (index == index[:, :1]).all():  # one term, over and over
                part = self.argument(c, kept, index[:, 0])
                if many > 1:
                    part = self.step("multiply", np.multiply, (many, part), part.shape, part.dtype)
            else:
                part = self.sums(c.source, index)
            parts.append(part)
        total = parts[0]
        for part in parts[1:]:
            shape = np.broadcast_shapes(*(getattr(x, "shape", ()) for x in (total, part)))
            total = self.step("add", np.add, (total, part), shape, np.dtype(float))
        self.finish(number, place, total)

    def finish(self, number: int, place: Any, out: Value) -> None:
        """Note where the numbers are now."""
        values = [step.outs[0] for step in self.formulas.steps[number]]
        if out.shape:
            self.arrays[number] = out
            self.lane.update(zip(values, place.tolist(), strict=True))
        else:
            self.replaced.update(dict.fromkeys(values, out))

    # Arguments

    def column(self, items: list[Any]) -> Column:
        first = items[0]
        if type(first) in NUMBERS:  # told apart by their bits: 0.0 is not -0.0
            bits = np.array(items, float).view(np.int64)
            return Column(items, None, np.unique(bits, return_inverse=True)[1].ravel())
        if not isinstance(first, Value) or all(item is first for item in items):
            return Column(items, None, np.zeros(len(items), np.int64))
        source, places = self.arrays.get(self.formulas.of[first]), self.lane
        if source is None and first in self.formulas.entry:
            source = self.formulas.entry[first][0]
            places = {v: self.formulas.entry[v][1] for v in items}
        if source is None:
            source, places = self.gather(dict.fromkeys(map(self.scalar, items)))
            places = {v: places[self.scalar(v)] for v in items}
        return Column(items, source, np.array([places[item] for item in items]))

    def gather(self, values: dict[Value, None]) -> tuple[Value, dict[Value, int]]:
        """Single numbers in an array."""
        key = frozenset(values)
        if key not in self.gathered:
            args, dtype = ([*values],), next(iter(values)).dtype
            array = self.step("array", np.array, args, (len(values),), dtype)
            self.gathered[key] = array, {v: k for k, v in enumerate(values)}
        return self.gathered[key]

    def argument(self, column: Column, kept: Any, index: Any) -> Any:
        """What an elementwise instruction gets for a column."""
        if (index == index[0]).all():
            return self.scalar(column.items[kept[0]])
        if column.source is not None:
            return self.pick(column.source, index)
        return self.constant(np.array([column.items[k] for k in kept], float))

    def constant(self, data: Any) -> Value:
        value = Value(data.shape, data.dtype)
        self.constants[value] = data
        return value

    def pick(self, source: Value, index: Any) -> Value:
        """The entries of an array at some places, in an array of the index's shape."""
        key = source, index.shape, index.tobytes()
        if key not in self.picked:
            self.picked[key] = self.entries(source, index)
        return self.picked[key]

    def entries(self, source: Value, index: Any) -> Value:
        source = shaped(source, (math.prod(source.shape),), write := self.like(source))
        regular = entries(source, index, write)
        if regular is not None:
            return regular
        return write("getitem", operator.getitem, (source, self.constant(index)), index.shape)

    def sums(self, source: Value, index: Any) -> Value:
        """The sum of each row of entries."""
        write = self.like(source)
        if len(index) == 1:
            return write("sum", np.sum, (self.pick(source, index[0]),), ())
        regular = row_sums(shaped(source, (math.prod(source.shape),), write), index, write)
        if regular is not None:
            return regular
        return write("sum", np.sum, (self.pick(source, index),), index.shape[:1], axis=1)

    def like(self, source: Value) -> Write:
        return functools.partial(self.step, dtype=source.dtype)


def order(columns: list[tuple[Any, bool]]) -> tuple[Any, Any]:
    """Which lanes to keep, sorted by their arguments, and for each lane where it is then.

    Of equal ones the first is kept. In this order arguments are mostly the entries of an array one
    after the other. Literals only break ties, as the recording had them.
    """
    main = [key for index, varies in columns for key in index.T if varies]
    keys = np.array([*main, *(key for index, varies in columns for key in index.T if not varies)])
    by = np.lexsort(keys[::-1])
    new = np.r_[True, (np.diff(keys[:, by], axis=1) != 0).any(0)]
    kept, where = by[new], np.empty_like(by)
    where[by] = np.cumsum(new) - 1
    by = np.lexsort([kept, *(key[kept] for key in reversed(main))])
    return kept[by], np.argsort(by)[where]
