"""What a recording takes for granted of the world outside, and what it reads anew at each call.

Before f runs, `reach.py` walks what its code can name. Each place where something was found is a
Slot: a closure's cell, a key, an index, an attribute. The one trick: during the run a slot holds a
stand-in for its array or generator, so that no arithmetic on it goes unrecorded; afterwards one
function is written that compares what all slots hold, by `is`, with what they held.
"""

from __future__ import annotations

import pickle
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import is_not
from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tensor import Node
from .creation import STAND_INS
from .errors import TraceError
from .program import Program
from .reach import Walk
from .symbol import Type

if TYPE_CHECKING:
    from .trace import Tracer

LIMIT = 10_000  # slots: each call looks at all of them
LOCK = threading.RLock()  # stand-ins are in their places for one recording at a time
MISSING = object()
ABSENT = (KeyError, IndexError, AttributeError, ValueError)  # ValueError: a cell without contents
PLAIN = (bool, int, float, complex, str, bytes, type(None), slice, range, np.generic, np.dtype)


@dataclass(eq=False)
class Slot:
    """A place that holds something: `box[key]`, or the attribute `key` of `box`."""

    box: Any
    key: Any
    name: str  # as a person writes it
    text: str  # as the comparing function does
    item: bool = True
    owner: Any = None  # the class, if box is its `vars`, into which one cannot write
    live: bool = False  # a number that is read anew
    value: Any = None
    stand_in: Any = None

    def __post_init__(self) -> None:
        self.value = self.stand_in = self.read()

    def read(self) -> Any:
        try:
            return self.box[self.key] if self.item else getattr(self.box, self.key)
        except ABSENT:
            return MISSING

    def write(self, value: Any) -> None:
        if self.owner is not None:
            type.__setattr__(self.owner, self.key, value)
        elif isinstance(self.box, partial):
            state = self.box.func, value, self.box.keywords, vars(self.box)
            self.box.__setstate__(state)  # type: ignore[attr-defined]
        elif self.item and value is MISSING:
            del self.box[self.key]
        elif self.item:
            self.box[self.key] = value
        elif value is MISSING:
            object.__delattr__(self.box, self.key)
        else:
            object.__setattr__(self.box, self.key, value)  # of a frozen dataclass too


class World:
    """The slots of one recording."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.slots: list[Slot] = []
        self.tensors: list[Slot] = []  # their arrays: no stand-ins, since Tensors ask the tracer
        self.conditions: dict[str, None] = {}  # what else must hold, as source
        self.space: dict[str, Any] = {"again": self.again, "ABSENT": ABSENT}  # the names in it
        self.known: dict[Any, str] = {}  # boxes, and places of slots, with their text
        self.reads: dict[int, tuple[Callable[[], Any], str]] = {}  # of arrays in slots
        self.containers: list[tuple[str, Any, Any]] = []  # with copies from before the run
        self.random: list[Any] = [random, np.random]  # from which no draw may go unseen
        self.patched: int | None = None  # during the run: so many slots have their stand-ins
        self.arrays: list[tuple[Callable[[], Any], bool]] = []  # and whether a replay writes there
        self.owners: set[int] | None = set()  # of the memory written into; None: cannot be told
        self.typed: list[dict[str, Any]] = []  # where the code asks for type(x)
        self.creates = False  # whether arrays that f makes are recorded from the start
        self.walk = Walk(self)

    # What is there

    def box(self, box: Any) -> str:
        """The name of an object in the comparing function."""
        if ("box", id(box)) not in self.known:
            self.known["box", id(box)] = text = f"o{len(self.space)}"
            self.space[text] = box
        return self.known["box", id(box)]

    def slot(self, box: Any, key: Any, name: str, **how: Any) -> None:
        """Watch a place, and look into what it holds."""
        place = id(how.get("owner", box)), how.get("item", True), key
        if place in self.known:
            return
        simple = type(key) is int or (type(key) is str and key.isidentifier())
        item = repr(key) if simple else self.box(key)
        text = f"{self.box(box)}[{item}]" if how.get("item", True) else f"{self.box(box)}.{key}"
        self.known[place] = text
        self.slots.append(slot := Slot(box, key, name, text, **how))
        if len(self.slots) > LIMIT:
            raise TraceError(
                f"tg.compile: the function can reach more than {LIMIT:,} names, attributes and "
                f"entries outside ({name} is one), and every call would look at each: pass what it "
                "needs as arguments"
            )
        self.walk.found(slot.value, name)

    def container(self, box: Any, name: str) -> None:
        """What f adds to it, or takes away, is seen; and that others did, between the calls."""
        copy = dict(box) if isinstance(box, dict) else set(box) if isinstance(box, set) else [*box]
        self.containers.append((f"what is in {name}", box, copy))
        self.assume(f"len({{0}}) == {len(box)}", box)

    def absent(self, box: Any, key: str, owner: Any = None) -> None:
        """A module, or a class whose `vars` the box is, does not have this name itself."""
        place = "absent", id(owner or box), key
        if place not in self.known:
            self.known[place] = key
            self.assume(f"{key!r} not in {{0}}", box)

    def tensor(self, t: Any) -> None:
        """What is taken for granted of a Tensor: its kind, not its numbers."""
        text = self.box(t)
        if ("tensor", text) not in self.known:
            self.known["tensor", text] = text
            self.walk.seen[id(t._node)] = t._node
            self.slot(t, "_node", f"{t._name or 'a Tensor'}.requires_grad", item=False)
            if isinstance(t._data, np.ndarray):
                self.tensors.append(Slot(t, "_data", "a Tensor", f"{text}._data", item=False))
            else:
                self.assume("{0}._data.__class__ is {1}", t, type(t._data))

    def assume(self, text: str, *boxes: Any) -> None:
        """A condition about objects, which are {0}, {1}, ... in its text."""
        self.conditions[text.format(*map(self.box, boxes))] = None

    # During the run

    @contextmanager
    def recorded(self, f: Any, static: list[Any]) -> Iterator[None]:
        """Stand-ins are in all that f and its static arguments reach.

        What f changes there is put back, and refused: a replay would not change it again.
        """
        with LOCK:
            changed: list[str] = []
            try:
                self.walk.start(f)
                for item in static:
                    self.walk.found(item, type(item).__name__)
                self.walk.finish()
                before = [state(r) for r in self.random]
                self.patched = 0
                self.patch()
                for names in self.typed:
                    names["type"] = Type
                yield
                for source, old in zip(self.random, before, strict=False):
                    if state(source) != old:
                        name = getattr(source, "__name__", source)
                        raise TraceError(
                            f"tg.compile: the function draws from {name}, which a replay would "
                            "not do: use a Generator of your own, rng = np.random.default_rng(0)"
                        )
            finally:
                for names in self.typed:
                    names.pop("type", None)
                try:
                    self.restore(changed)
                finally:  # the rest, if an interrupt came in between
                    self.restore(changed)
            if changed:
                raise TraceError(
                    f"tg.compile: the function changes {', '.join(dict.fromkeys(changed))}, which "
                    "a replay would not do again, so it was put back: return the new value, change "
                    "it after the call, fill a cache before the first one"
                )

    def reach(self, item: Any, name: str) -> None:
        """Watch what is found during the run."""
        self.walk.found(item, name)
        self.walk.finish()
        self.patch()

    def patch(self) -> None:
        """Give new slots their stand-ins."""
        while self.patched is not None and self.patched < len(self.slots):
            slot = self.slots[self.patched]
            self.patched += 1
            if slot.live:
                slot.stand_in = self.live(slot)
            else:
                slot.stand_in = self.stand_in(slot.value, slot.read, slot.text, slot.name)
            if slot.stand_in is not slot.value:
                slot.write(slot.stand_in)

    def live(self, slot: Slot) -> Any:
        """A number for the recording to read anew, or a tuple of them, such as betas."""
        if not isinstance(slot.value, tuple):
            return self.tracer.live(slot.read, str(slot.key))
        name = str(slot.key).removesuffix("s")
        reads = [partial(_entry, slot.read, k) for k in range(len(slot.value))]
        return tuple(self.tracer.live(r, f"{name}{k}") for k, r in enumerate(reads, 1))

    def stand_in(self, value: Any, read: Callable[[], Any], text: str, name: str) -> Any:
        """For an array a Symbol, for a generator a Random, also in tuples."""
        if self.creates and id(value) in STAND_INS:
            return STAND_INS[id(value)]
        if isinstance(value, np.ndarray):
            first = self.reads.setdefault(id(value), (read, text))[1]
            same = f"{text}.shape == {value.shape}"
            self.assume(same if first == text else f"{text} is {first}")
            return self.tracer.outside(value, None, name.rpartition(".")[2])
        if isinstance(value, np.random.Generator):
            return self.tracer.generator(value, read)
        if not isinstance(value, tuple):
            return value

        def part(k: int) -> Any:
            return self.stand_in(value[k], lambda: read()[k], f"{text}[{k}]", f"{name}[{k}]")

        parts = tuple.__new__(type(value), map(part, range(len(value))))
        return parts if any(map(is_not, parts, value)) else value

    def restore(self, changed: list[str]) -> None:
        """Take the stand-ins out again, and note what f changed."""
        while self.patched:
            slot = self.slots[self.patched - 1]
            now = slot.read()
            same = isinstance(now, PLAIN) and alike(now, slot.stand_in)
            if now is not slot.stand_in and not same:
                changed.append(slot.name)
            if now is not slot.value:
                slot.write(slot.value)
            self.patched -= 1
            slot.stand_in = None
        self.patched = None
        while self.containers:
            name, box, before = self.containers[-1]
            if _ids(box) != _ids(before):
                changed.append(name)
                box.clear()
                (box.extend if hasattr(box, "extend") else box.update)(before)
            self.containers.pop()

    # At every call

    def compiled(self, program: Program) -> Callable[[], bool]:
        """The function that says whether all is as it was."""
        written = {value for value, _ in program.effects}
        self.arrays = [(read, value in written) for value, read in program.captured.items()]
        if self.overlap():
            raise TraceError(
                "tg.compile: the function writes into an array that shares memory with another one "
                "that it reads or writes: the order would matter, so use one array, or copies"
            )
        self.slots += self.tensors
        self.walk = Walk(self)  # it kept alive what was found
        for k, slot in enumerate(self.slots):
            self.space[f"v{k}"] = type(slot.value) if slot.live else slot.value
        conditions = " and ".join(self.conditions) or "True"
        terms = [f"{s.text}{'.__class__' * s.live} is v{k}" for k, s in enumerate(self.slots)]
        source = f"""
def fixed():
    try:
        return {conditions}
    except ABSENT:
        return False

def holds():
    try:
        if {" and ".join([conditions, *terms])}:
            return True
    except ABSENT:
        pass
    return again()
"""
        exec(compile(source, "<tg.compile: what is taken for granted>", "exec"), self.space)
        return self.space["holds"]  # type: ignore[no-any-return]

    def again(self) -> bool:
        """Look closer: an equal number will do, and another array of the same kind."""
        moved = False
        for k, slot in enumerate(self.slots):
            now = slot.read()
            if slot.live and type(now) is not self.space[f"v{k}"]:
                return False
            if now is not slot.value and not slot.live:
                if not alike(now, slot.value):
                    return False
                slot.value = self.space[f"v{k}"] = now
                moved = True
        return bool(self.space["fixed"]()) and not (moved and self.overlap())

    def difference(self) -> str:
        """A place where something else is now, for a person."""
        for slot in self.slots:
            now, was = slot.read(), slot.value
            if not (type(now) is type(was) if slot.live else alike(now, was)):
                return f"{slot.name} was {was!r:.40}, now it is {now!r:.40}"
        return "a list or dict that it reads has other entries"

    def overlap(self) -> bool:
        """Whether an array that is written into shares memory with another."""
        pairs = [(read(), written) for read, written in self.arrays]
        pairs = [(a, written) for a, written in pairs if isinstance(a, np.ndarray)]
        owners = [_owner(a) for a, _ in pairs]
        written = [o for o, (_, written) in zip(owners, pairs, strict=True) if written]
        self.owners = None if any(o is None for o in written) else {id(o) for o in written}
        if all(o is not None for o in owners) and len(set(map(id, owners))) == len(owners):
            return False
        return any(
            (one or two) and np.shares_memory(a, b)
            for k, (a, one) in enumerate(pairs)
            for b, two in pairs[k + 1 :]
        )

    def clash(self, given: list[Any]) -> bool:
        """Whether an argument shares memory with an array that a replay writes into."""
        if self.owners is not None:
            owners = [_owner(a) for a in given if type(a) is not float]
            if all(o is not None for o in owners) and self.owners.isdisjoint(map(id, owners)):
                return False
        given = [a for a in given if isinstance(a, np.ndarray)]
        targets = [read() for read, written in self.arrays if written]
        return any(np.shares_memory(a, t) for a in given for t in targets)


def _entry(read: Callable[[], Any], k: int) -> Any:
    return read()[k]


def _owner(a: Any) -> Any:
    """What has the memory of an array: itself, or another array; None if it is something else."""
    base = a.base
    if base is None:
        return a
    return base if type(base) is np.ndarray and base.base is None else None


def _ids(box: Any) -> Any:
    if isinstance(box, set):
        return set(map(id, box))
    return [(id(k), id(v)) for k, v in box.items()] if isinstance(box, dict) else [*map(id, box)]


def alike(a: Any, b: Any) -> bool:
    """Whether a recording made with b in a slot is right with a."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, PLAIN):
        return repr(a) == repr(b)
    if isinstance(a, np.ndarray):
        return bool(a.shape == b.shape and a.dtype == b.dtype)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, MethodType):
        return bool(a.__self__ is b.__self__ and a.__func__ is b.__func__)
    return isinstance(a, (np.random.Generator, Node))


def state(source: Any) -> Any:
    """Where a source of random numbers is at the moment."""
    if isinstance(source, np.random.Generator):
        return pickle.dumps(source.bit_generator.state)
    return source.getstate() if hasattr(source, "getstate") else pickle.dumps(source.get_state())
