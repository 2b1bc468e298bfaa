"""A program as NumPy source that a person could have written: one statement per named value.

What is short and used once is written where it is used; a large array that nobody reads again is
written into. The one trick: every name in the source is ours or checked, and everything else goes
in as the text of a literal, so a tensor's name can never become code.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from .buffers import HUGE, LARGE, Buffers, can_write, makes_new
from .errors import TraceError
from .expressions import ATOM, IN_PLACE, Expressions
from .floats import CALLED
from .helpers import helper_sources
from .literals import constant_text, plain_numbers
from .plan import Line, Plan
from .program import VIEWS, Instruction, Program, Value, is_update

SHORT = 36  # characters: longer expressions get a name of their own
NEAR = 6  # steps: what is used later than that, too
ROLES = {"exp": "e", "sum": "s", "max": "top", "getitem": "part"}


CHANGED = '''

class Changed(Exception):
    """These arguments need another recording."""
'''


class Source(NamedTuple):
    """A program written down: its text, what the function takes after the inputs, and its plan."""

    text: str
    extra: list[Value]  # captured values and long constants
    renewed: list[Value]  # results that are written into given arrays, or new ones
    storage: list[Value]  # arrays to compute in, made by the source itself unless they are given
    plan: Plan


def source(program: Program, name: str, gradients: Collection[Any] = ()) -> Source:
    """The program as the function `name`; of these results the caller may have arrays to reuse."""
    writer = Writer(program)
    results = writer.write_all()
    last = {writer.buffers.origin.get(v, v): v for v in program.outputs}
    if writer.buffers.large:  # known now: in which steps the arrays of results begin
        writer = Writer(program, set(last), {v for v, end in last.items() if end in gradients})
        results = writer.write_all()
    renewed = [f"{n}=None" for n in writer.renewed.values()]
    given = [*program.inputs, *writer.extra]
    kept = [
        f"{n}=np.empty({v.shape}, np.{v.dtype.name})" for n, v in writer.buffers.storage.items()
    ]  # made once, when the function is
    names = ", ".join([*(writer.names[v] for v in given), *renewed, *kept])
    head = f"def {name}(", names, "):"
    takes = taken(writer.names, [v for v in given if v.dtype != object])
    body = ['"""Takes', *takes, '"""'] if takes else []
    body += [*writer.lines, *wrapped("return (", results, ")")]
    mathematics = any("math." in CALLED.get(step.call, "") for step in program.body)
    top = ["import math", ""] * mathematics + ["import numpy as np"]
    if writer.kernels:
        top = ["from __future__ import annotations", "", *top, *helper_sources(writer.kernels)]
    if program.guards:
        top += [CHANGED]
    top += ["", *writer.constants] if writer.constants else []
    text = "\n".join([*top, "", "", *wrapped(*head), *(f"    {line}" for line in body), ""])
    text = re.sub(r"\n{4,}", "\n\n\n", text)
    storage = [*writer.buffers.storage.values()]
    return Source(text, writer.extra, [last[v] for v in writer.renewed], storage, writer.rows)


def taken(names: dict[Value, str], given: list[Value]) -> Iterator[str]:
    """What the arguments are; in one line the many that differ by a number only."""
    pairs = [(names[v], f"{v.dtype} {v.shape}") for v in given]
    for (_, kind), run in groupby(pairs, lambda p: (re.sub(r"_?\d*$", "", p[0]), p[1])):
        shown = [name for name, _ in run]
        shown = [f"{shown[0]} … {shown[-1]}"] if len(shown) > 3 else shown
        yield from (f"{name}: {kind}" for name in shown)


def wrapped(start: str, items: str, end: str) -> list[str]:
    """Names in brackets, in several lines if they are many; results, if few, without brackets."""
    if len(items) < 80:
        return [f"{start}{items}{end}" if start.startswith("def") else f"{start[:-1]}{items}"]
    return [start, *textwrap.wrap(items, 90, initial_indent="    ", subsequent_indent="    "), end]


class Writer(Expressions):
    """Turns instructions into lines, one after the other."""

    def __init__(
        self, program: Program, apart: set[Any] | None = None, origins: Collection[Value] = ()
    ) -> None:
        super().__init__(program)
        self.program = program
        self.origins = origins  # of results for which the caller may have an array
        self.renewed: dict[Value, str] = {}  # ... and the names of these arrays
        for step in reversed(program.body):  # what becomes a gradient is named like one
            if is_update(step) and isinstance(step.args[0], Value):
                step.args[0].of = step.args[0].of or step.outs[0].of
        self.buffers = Buffers(program, apart)
        self.used = Counter(self.buffers.left)
        self.last = {v: k for k, step in enumerate(program.body) for v in step.inputs()}
        self.results_ = {v for v in program.outputs if isinstance(v, Value)}
        self.targets = {value for value, _ in program.effects}  # captured arrays written into
        self.final = {new for _, new in program.effects if isinstance(new, Value)}
        self.lines: list[str] = []
        self.extra: list[Value] = []  # arguments after the inputs: captured arrays, long constants
        self.rows = Plan()
        self.row: dict[Value, int] = {}  # the line of the plan that made a value
        self.returned: set[int] = set()
        self.part = ""  # of the program: where the line before came from
        self.asked: list[tuple[Value, bool]] = [
            (v, h) for v, h in program.guards if v not in self.makers
        ]  # guards that can be asked now

    def write_all(self) -> str:
        """All lines; the text of the results."""
        self.take_arguments()
        for place, step in enumerate(self.program.body):
            self.write(place, step)
        results = self.results()
        self.effects()
        return results

    def take_arguments(self) -> None:
        for value in [*self.program.inputs, *self.program.captured]:
            where = "outside" if value in self.program.captured else "argument"
            self.note([value], self.name(value, "w"), "", where, ())
        self.extra = list(self.program.captured)
        for value, data in self.program.constants.items():
            text = constant_text(data)
            if text is None:
                self.extra.append(value)
                self.note([value], self.name(value, "c"), "", "argument", ())
            elif self.used[value] == 1 and len(text) < SHORT:
                self.inline[value] = text, ATOM
            else:
                self.constants.append(f"{self.name(value, 'c')} = {text}")
                self.note([value], self.names[value], "", "constant", ())

    # Lines

    def write(self, place: int, step: Instruction) -> None:
        self.ask()
        before = len(self.lines)
        self.write_step(place, step)
        if len(self.lines) > before:
            if step.part != self.part and step.part:
                text = "".join(c if c.isprintable() else "?" for c in step.part)
                self.lines.insert(before, f"# {text[:80]}")
            self.part = step.part
        if step.outs[0] in self.names:
            buffer = self.buffer(step)
            self.note(step.outs, self.names[step.outs[0]], self.lines[-1], buffer, step.inputs())
        kept = {None, *(self.names.get(out) for out in step.outs)}
        done = [
            v for v in dict.fromkeys(self.reads((step.args, step.kwargs)))
            if self.buffers.done(v) and v in self.makers and math.prod(v.shape) >= HUGE
            and self.names.get(v) not in kept and v not in self.buffers.room
        ]  # fmt: skip
        if done and not any(out in self.inline for out in step.outs):
            self.lines.append(f"del {', '.join(dict.fromkeys(self.names[v] for v in done))}")

    def note(
        self, values: list[Value], name: str, text: str, buffer: str, read: Iterable[Value]
    ) -> None:
        """A line of the plan, which makes these values and reads those."""
        (value, *_), here = values, len(self.rows)
        reads = tuple(dict.fromkeys(self.row[v] for v in self.reads(tuple(read)) if v in self.row))
        for k in reads:
            self.rows[k].last_use = here
        kind = value.shape, str(value.dtype), sum(v.bytes for v in values)
        self.rows.append(Line(name, text, *kind, buffer, self.part, reads))
        self.row |= dict.fromkeys(values, here)

    def buffer(self, step: Instruction) -> str:
        """Where the result of a step that was just written lives."""
        (out, *_), name = step.outs, self.names[step.outs[0]]
        if name in {self.names.get(v) for v in step.inputs()}:
            return "in place"
        shown = [self.names[v] for v in self.buffers.shows.get(out, ()) if v in self.names]
        return self.buffers.room.get(out) or (f"view of {shown[0]}" if shown else "new")

    def write_step(self, place: int, step: Instruction) -> None:
        self.asked = [(v, held) for v, held in self.program.guards if v in step.outs]
        if is_update(step):
            return self.write_update(step)
        try:
            text, binds = self.expression(step)
        except NotImplementedError as error:
            raise TraceError(f"{error}. {step.line}") from None
        if step.several:
            self.read(step)
            self.buffers.made(step)
            names = [self.name(out, "part") for out in step.outs]
            self.lines.append(f"{', '.join(names)}{',' if len(names) == 1 else ''} = {text}")
            return None
        (out,) = step.outs
        if len(text) <= SHORT and self.may_inline(place, step):
            self.inline[out] = text, binds
            return None
        self.read(step)
        dead = self.buffers.dead_argument(step)
        if dead is not None:
            self.take_over(dead, out)
            if step.op in IN_PLACE and step.args[0] is dead:
                by = self.text(plain_numbers(step)[1])
                text = f"{self.names[dead]} {IN_PLACE[step.op]}= {by}"
            else:
                text = f"np.{step.op}({self.texts(plain_numbers(step))}, out={self.names[dead]})"
            self.lines.append(text)
        else:
            if self.buffers.wants_room(step):
                room = self.buffers.free_room(out, set(self.reads(step.args)))
                room = room or self.name(Value(out.shape, out.dtype), "a")
                self.buffers.keep(out, room)
                text = f"np.{step.op}({self.texts(plain_numbers(step))}, out={room})"
            elif out in self.origins and can_write(step):
                room = self.renewed[out] = self.name(Value(out.shape, out.dtype), "old")
                text = f"np.{step.op}({self.texts(plain_numbers(step))}, out={room})"
            self.lines.append(f"{self.name(out, ROLES.get(step.op, 'v'))} = {text}")
        self.buffers.made(step)
        return None

    def take_over(self, target: Value, out: Value) -> None:
        """`out` is written over `target`, and has its name from then on."""
        self.names[out] = self.names[target]
        self.buffers.origin[out] = self.buffers.origin.get(target, target)
        self.buffers.keep(out, self.buffers.room.get(target))

    def write_update(self, step: Instruction) -> None:
        """out[index] = value, in place if that array is ours and nobody reads it as it was."""
        (out,), target = step.outs, step.args[0]
        self.read(step)
        fresh = target in self.makers and makes_new(self.makers[target])
        if fresh and self.buffers.may_take(target, out):
            self.take_over(target, out)
        else:
            self.lines.append(f"{self.name(out, 'v')} = {self.text(target, ATOM)}.copy()")
        if step.op == "setitem":
            sign, by = self.augmented(target, step)
            line = f"{self.names[out]}[{self.index(step.args[1])}] {sign}= {self.text(by)}"
        else:
            line = f"np.{step.op}({self.names[out]}, {self.texts(step.args[1:], step.kwargs)})"
        self.lines.append(line)

    def augmented(self, target: Value, step: Instruction) -> tuple[str, Any]:
        """The sign and y of x[i] -= y, which was recorded as x[i] = x[i] - y; or no sign."""
        index, new = step.args[1:]
        change = self.makers.get(new) if new in self.inline else None
        if change is not None and change.op in IN_PLACE and new.dtype == target.dtype:
            part, by = plain_numbers(change)
            made = self.makers.get(part) if isinstance(part, Value) else None
            if part in self.inline and made is not None and made.op == "getitem":
                here = made.args[0] is target and same(made.args[1], index)
                return (IN_PLACE[change.op], by) if here else ("", new)
        return "", new

    def ask(self) -> None:
        """The engine's questions, as soon as they can be asked: nothing was written yet."""
        for value, held in self.asked:
            self.lines += [f"if {'not ' * held}{self.text(value)}:", "    raise Changed"]
            self.buffers.read(self.reads(value))
            for read in self.reads(value):
                if read in self.row:
                    self.rows[self.row[read]].last_use = len(self.rows)
        self.asked = []

    def may_inline(self, place: int, step: Instruction) -> bool:
        (out,) = step.outs
        if step.changes or self.used[out] != 1 or out in self.results_:
            return False
        if out in self.final:  # w -= ...
            return step.op in IN_PLACE and step.args[0] in self.targets
        if math.prod(out.shape) >= LARGE and step.op not in VIEWS and out.dtype != bool:
            return False
        if self.asked:
            return True
        user = self.program.body[self.last[out]]
        near = self.last[out] - place <= NEAR and any(a is out for a in user.args)
        return near and not (is_update(user) and user.args[0] is out)

    def results(self) -> str:
        """The text of the returned tuple; none shares memory with another or with an argument."""
        self.ask()
        seen: set[Value] = set()
        texts: list[str] = []
        for value in self.program.outputs:
            roots = self.roots(value)
            text = self.text(value)
            if value.shape and (roots & seen or not roots <= self.makers.keys()):
                text = f"{text}.copy()"
            if self.targets and text not in self.names.values():  # before these are written into
                self.lines.append(f"{(name := f'result{len(texts) + 1}')} = {text}")
                text = name
            seen |= roots
            texts.append(text)
            self.returned.add(self.row[value])
        return ", ".join(texts) + "," * (len(texts) == 1) or "()"

    def roots(self, value: Value) -> set[Value]:
        """The arrays whose memory a value may show."""
        step = self.makers.get(value)
        if step is None or step.op not in VIEWS or makes_new(step):
            return {value}
        return {root for v in step.inputs() if v.shape for root in self.roots(v)} or {value}

    def effects(self) -> None:
        """All has been computed: now write into what is outside."""
        if self.program.effects and self.part not in ("", "update"):
            self.lines.append("# update")
        short = {}
        for value, new in self.program.effects:
            maker = self.makers.get(new)
            if new in self.inline and maker is not None:
                if maker.args[0] is value and not set(self.reads(maker.args[1])) & self.targets:
                    sign = IN_PLACE[maker.op]
                    short[value] = f"{self.names[value]} {sign}= {self.text(maker.args[1])}"
                else:
                    text = self.inline.pop(new)[0]
                    self.lines.append(f"{self.name(new, 'new')} = {text}")
        own = {new for _, new in self.program.effects} & set(self.makers)
        for value, new in self.program.effects:
            if value not in short and new not in own:  # another captured array: read it before
                self.lines.append(
                    f"{self.name(Value(new.shape, new.dtype), 'old')} = {self.text(new)}.copy()"
                )
                short[value] = f"{self.names[value]}[...] = {self.lines[-1].split(' = ')[0]}"
        self.part = "update"
        for value, new in self.program.effects:
            self.lines.append(short.get(value) or f"{self.names[value]}[...] = {self.text(new)}")
            self.note([value], self.names[value], self.lines[-1], "in place", (value, new))
        for k in self.returned:
            self.rows[k].last_use = None

    def read(self, step: Instruction) -> None:
        self.buffers.read(self.reads((step.args, step.kwargs)))


def same(a: Any, b: Any) -> bool:
    """Whether two indices are made of the same values."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b if isinstance(a, Value) or isinstance(b, Value) else bool(a == b)
