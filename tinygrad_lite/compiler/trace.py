"""Recording a run: every NumPy call of a function, written down as it computes.

The trick is in symbol.py: a Symbol stands for an array wherever the engine expects one, in the
user's function, in primitives and in gradient rules, which are all plain NumPy.
"""
# mypy: no-warn-return-any

from __future__ import annotations

import functools
import gc
import sys
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np

from ..array_methods import raw
from ..mode import MODE, SCOPE
from ..tensor import changed
from .errors import TraceError, user_line
from .outside import World
from .program import VIEWS, Instruction, Program, Value, mapped, values_in, with_values
from .recognition import recognise
from .replay import ALONE
from .symbol import Random, Symbol, concrete, weak

UNKNOWN_SHAPE = frozenset({  # how large the result is depends on the numbers
    "argwhere", "nonzero", "flatnonzero", "unique", "extract", "compress", "trim_zeros",
    "unique_values", "unique_counts", "unique_inverse", "unique_all", "union1d", "intersect1d",
    "setdiff1d", "setxor1d", "roots", "poly1d",
})  # fmt: skip
MASKED = {"argwhere", "nonzero", "flatnonzero", "extract", "compress"}
COUNTED = frozenset({  # ... of the arguments after the first
    "tile", "repeat", "delete", "insert", "split", "array_split", "pad", "resize", "reshape",
    "broadcast_to", "histogram_bin_edges",
})  # fmt: skip


PLAIN = frozenset({bool, int, float, str, type(None), np.float32, np.float64})


class Tracer:
    """The recording: its instructions in order, and what was read of the world outside."""

    def __init__(self) -> None:
        self.program = Program([], {}, {})
        self.known: dict[int, tuple[Any, Any, Symbol, Value]] = {}  # (array, its Tensor, ...)
        self.gradients: dict[int, Any] = {}  # Tensors, the .grad before, and whether one was added
        self.world = World(self)  # what a replay takes for granted
        self.adding = False  # a backward pass is about to add to a .grad
        self.totals: set[int] = set()  # Tensors by whose .grad something else was done since
        self.looked: dict[int, Any] = {}  # Tensors by a .grad from before the call
        self.symbols: list[weakref.ref[Symbol]] = []
        self.counting: set[Value] = set()  # arrays that were taken to hold 0, 1, 2, ...
        self.overwritten: set[Value] = set()  # what arrays became when they were written into
        self.stepped: Counter[int] = Counter()  # steps in this call, by the state of a parameter
        self.numbers: list[tuple[Any, int]] = []  # Tensors of one number, and the place of the new
        self.after: list[Callable[[], Any]] = []  # done at the end of each replay
        self.undo: list[Callable[[], Any]] = []  # takes that back
        self.made: weakref.WeakKeyDictionary[Any, Value] = weakref.WeakKeyDictionary()
        self.pieces: weakref.WeakKeyDictionary[Any, Value] = weakref.WeakKeyDictionary()
        self.part = ""  # "backward of ...", while gradient rules run; "update"
        self.tracks = MODE.get().record

    def recognise(self, order: Any, wanted: Any) -> bool:
        """Called before a backward pass; whether that changed the graph."""
        found = recognise(self, order, wanted)
        if order and isinstance(out := order[-1].out, Symbol) and not out.shape:
            out.value.name = out.value.name or "loss"  # the pass begins here
        return found

    def input(self, data: Any, name: str) -> Symbol:
        weak = type(data) is float
        symbol = Symbol(self, data, Value(np.shape(data), np.asarray(data).dtype, name, weak))
        self.program.inputs.append(symbol.value)
        return symbol

    def live(self, read: Callable[[], Any], name: str) -> Symbol:
        """A Python number that is read anew at every call, such as a learning rate."""
        value = Value((), np.dtype(float), name, weak(data := read()))
        self.program.captured[value] = read
        return Symbol(self, data, value)

    def outside(self, data: Any, tensor: Any = None, name: str | None = None) -> Symbol:
        """The Symbol of an array, or of a Tensor's number, that the recording did not compute."""
        if isinstance(data, Symbol):
            return data
        key = id(data) if isinstance(data, np.ndarray) else id(tensor)
        if key not in self.known:
            value = Value(data.shape, data.dtype, getattr(tensor, "_name", None) or name)
            symbol = Symbol(self, data, value)
            symbol.outer = True
            self.known[key] = data, tensor, symbol, value
        data, known, symbol, value = self.known[key]
        if known is None and tensor is not None:
            self.known[key] = data, tensor, symbol, value
            value.name = tensor._name or value.name
        elif known is not tensor and tensor is not None:
            self.world.assume("{0}._data is {1}._data", known, tensor)
        return symbol

    def forward(self, primitive: Any, args: Any, params: Any, out: Any, node: Any) -> None:
        """The tracer observes the engine: it is told of every operation ..."""
        if node is not None and isinstance(out, Symbol):
            self.made[node] = out.value

    def before_rules(self, node: Any, g: Any) -> None:
        """... of the step whose rules run next: what they compute is named after it ..."""
        path = [] if node.scope is None else [s.name for s in node.scope.path()]
        self.part = f"backward of {' / '.join(path)}" if path else "backward"
        if isinstance(g := raw(g), Symbol):
            g.value.of = g.value.of or self.made.get(node)

    def contribution(self, node: Any, i: int, g: Any, piece: Any) -> None:
        """... and of every gradient on its way to an argument."""
        leaf, piece = node.parents[i], raw(piece)
        if leaf.primitive is None and isinstance(piece, Symbol):
            out = leaf.out
            known = out.value if isinstance(out, Symbol) else self.known.get(id(out), (None,))[-1]
            if (first := self.pieces.setdefault(leaf, piece.value)) is not piece.value:
                first.of, known = None, None  # neither is all of the gradient
            piece.value.of = piece.value.of or known

    def lift(self, value: Any, tensor: Any) -> Any:
        """What a Tensor gives to an operation."""
        self.part = ""
        return self.outside(value, tensor) if isinstance(value, (np.ndarray, np.generic)) else value

    def optimise(self, optimizer: Any) -> None:
        """Record `optimizer.step()`: its own code, on Symbols of what it reads and writes."""
        self.part = "update"
        self.world.reach(optimizer, "the optimiser")
        for group in optimizer.param_groups:
            options = {name: group[name] for name in optimizer.defaults}
            asked = len(self.program.guards)  # whether there is a momentum: `reach` assumes that
            names = optimizer._names(group)
            for p in group["params"]:
                if p._grad is None or p._node is None:
                    continue
                if not isinstance(p._grad._data, Symbol):
                    raise TraceError(
                        "tg.compile: an optimiser would use a gradient from before the call: call "
                        f"backward() inside the function. {user_line()}"
                    )
                self.totals.add(id(p))
                g = p._grad._data
                state = optimizer.remembered(p, group, names)
                self.stepped[id(state)] += 1
                step = functools.partial(_step, state, self.stepped[id(state)])
                symbols = {"step": self.live(step, "t")}
                symbols |= {name: self.outside(state[name], None, name) for name in names}
                self.after.append(functools.partial(_count, state, 1))
                self.undo.append(functools.partial(_count, state, -1))
                scratch = [self.outside(np.empty(p.shape, p.dtype)) for _ in range(2)]
                w = self.outside(p._data, p)
                optimizer.apply(w, g.astype(p.dtype), symbols, scratch, options)
                changed(p)
            del self.program.guards[asked:]

    def generator(self, rng: Any, read: Callable[[], Any] | None = None) -> Any:
        """A generator whose draws are written down, to be drawn anew at every call."""
        if type(rng) is Random:
            return rng
        value = Value((), np.dtype(object), "rng")
        self.program.captured[value] = read or functools.partial(itself, rng)
        return Random(self, Symbol(self, np.random.default_rng(0), value))

    def read_gradient(self, tensor: Any) -> None:
        """Called when a .grad is looked at, which may be one from before the call."""
        if id(tensor) not in self.gradients:
            self.world.assume(f"({{0}}._grad is None) is {tensor._grad is None}", tensor)
            self.looked[id(tensor._grad)] = tensor
        self.totals.add(id(tensor))

    def adds_gradient(self, tensor: Any) -> bool:
        """Called by a backward pass, whose gradient a replay adds to what there is then."""
        self.adding = True
        return id(tensor) not in self.gradients

    def replace_data(self, tensor: Any, new: Any) -> None:
        """Called for p.data = new, which p.data *= 2 ends with too."""
        if new is not self.lift(tensor._data, tensor):
            raise TraceError(
                "tg.compile: p.data would become another array, but only what is written into it "
                f"can be recorded: p.data[...] = value, p.data -= step. {user_line()}"
            )

    def once(self, what: str) -> None:
        """Called by what changes Python's state."""
        raise TraceError(
            f"tg.compile: {what} inside the function would happen once, while it is recorded: "
            f"do that after the call. {user_line()}"
        )

    def keep_gradient(self, tensor: Any, new: Any) -> None:
        """Called before a .grad changes: the recording leaves no trace, a replay sets it."""
        self.part = ""
        if isinstance(g := getattr(new, "_data", None), Symbol) and id(tensor._data) in self.known:
            g.value.of = g.value.of or self.known[id(tensor._data)][-1]
        if id(tensor) not in self.gradients:
            self.gradients[id(tensor)] = tensor, tensor._grad, self.adding
            self.totals.discard(id(tensor))
        elif not self.adding:
            self.totals.add(id(tensor))
        self.adding = False

    def restore(self) -> list[tuple[Any, Any, Any, bool]]:
        """Put back all .grad; the Tensors, theirs before and in the recording, and if it added."""
        changes = [(t, old, t._grad, added) for t, old, added in self.gradients.values()]
        self.gradients.clear()
        for t, old, _, _ in changes:
            t._grad = old
        return changes

    def renewed(self, changes: list[tuple[Any, Any, Any, bool]]) -> Iterator[tuple[Any, Any, bool]]:
        """The Tensors whose .grad replays renew, the new one, and whether to add it to another.

        Not those that nobody holds.
        """
        while changes:
            t, old, new, added = changes.pop()
            known = sum(id(x) in self.known and self.known[id(x)][1] is t for x in (t, t._data))
            if sys.getrefcount(t) <= ALONE + known:
                continue
            total = added and id(t) in self.totals
            read = old is not None and {id(old), id(old._data)} & self.known.keys()
            if read or (total and old is not None):
                raise TraceError(
                    "tg.compile: gradients would be added to a .grad from before the call: call "
                    "zero_grad() inside the function, before backward()"
                )
            if total:  # and not cleared before: right only while there is none to add to
                self.world.assume("{0}._grad is None", t)
            yield t, new, added and not total

    def finish(self, outputs: list[Any]) -> Program:
        """Tell what was there before the recording (it is read at every call) from what was made.

        Only what somebody else still holds can change between calls: the rest is constant.
        """
        program = self.program
        if any(isinstance(o, (Iterator, Awaitable)) for o in outputs):
            raise TraceError(
                "tg.compile: an iterator is returned, which runs only once: use a list"
            )
        program.outputs = [self.operand(o) if isinstance(o, Symbol) else o for o in outputs]
        replaced: dict[Value, Any] = {}
        views = Counter(id(getattr(data, "base", None)) for data, *_ in self.known.values())
        for key in list(self.known):
            data, tensor, symbol, value = self.known.pop(key)
            became = symbol.value if symbol.value is not value else None
            del symbol
            array = isinstance(data, np.ndarray)
            held = sys.getrefcount(tensor) > ALONE if tensor is not None else False
            own = ALONE + (tensor is not None and tensor._data is data)
            own += getattr(getattr(tensor, "_node", None), "out", None) is data
            held = held or sys.getrefcount(data) > own or _base_held(data, views)
            if held and tensor is not None:
                self.world.tensor(tensor)
                if id(tensor) in self.looked:
                    self.world.assume("{0}._grad is {1}", self.looked[id(tensor)], tensor)
            if held:
                read, text = self.world.reads.get(id(data), (None, ""))
                if tensor is not None and read is not None:  # a Tensor's own array, in a slot too
                    self.world.assume(f"{{0}}._data is {text}", tensor)
                if tensor is not None:
                    read = functools.partial(getattr, tensor, "_data")
                program.captured[value] = read = read or functools.partial(itself, data)
                if value in self.counting:
                    self.world.assume("{0}({1}(), {2})", np.array_equal, read, range(len(data)))
                if became is not None and not array:
                    self.numbers.append((tensor, len(program.outputs)))
                    program.outputs.append(became)
                elif became is not None:
                    program.effects.append((value, became))
                    if tensor is not None:
                        self.after.append(functools.partial(changed, tensor))
            elif array:
                program.constants[value] = data
            else:
                replaced[value] = data
        return program.rewritten([with_values(s, replaced) for s in program.body], replaced)

    def refuse_what_is_kept(self) -> None:
        """An array of the recording that the function put somewhere: calls would not renew it."""
        if any(ref() is not None for ref in self.symbols):
            gc.collect()
        kept = [symbol for ref in self.symbols if (symbol := ref()) is not None]
        if kept:
            raise TraceError(
                f"tg.compile: the function keeps {len(kept)} of the arrays that it computed "
                f"outside itself (one is {kept[0].dtype} {kept[0].shape}), where later calls would "
                "not renew them: return them, in a tuple, list or dict"
            )
        self.symbols.clear()

    def record(
        self, op: str, call: Callable[..., Any], args: Any, kwargs: Any, changes: bool = False
    ) -> Any:
        """Compute, and write the instruction down; its results as Symbols."""
        if MODE.get().tracer is not self:
            raise TraceError(
                "tg.compile: an array is used that a recording has put in its place for a moment: "
                f"record, by one call, before other threads use what it reads. {user_line()}"
            )
        numbers, operands = [], []
        for item in args:  # a graph of numbers calls this 200,000 times, and pays for each line
            number = item
            if type(item) is Symbol and type(item.data) is not np.ndarray and not item.stale:
                number, item = item.data, item.value
            elif type(item) not in PLAIN:
                number, item = concrete(item, True), mapped(item, self.operand)
            numbers.append(number)
            operands.append(item)
        if kwargs:
            result = call(*numbers, **concrete(kwargs, True))
            kwargs = mapped(kwargs, self.operand)
        else:
            result = call(*numbers)
        several = isinstance(result, (tuple, list))
        results = [self.symbol(data) for data in (result if several else [result])]
        if op in VIEWS:
            self.note_views(op, args, results)
        scope, part = SCOPE.get(), self.part
        if not part and scope is not None:
            part = " / ".join(s.name for s in scope.path())
        if not part and self.tracks and not MODE.get().record:
            part = "update"  # in a block of no_grad
        outs = [symbol.value for symbol in results]
        step = Instruction(
            op, call, tuple(operands), dict(kwargs), outs, several, part, user_line(), changes
        )
        self.program.body.append(step)
        if not several:
            return results[0]
        if hasattr(result, "_fields"):
            return type(result)(*results)
        return type(result)(results)

    def note_views(self, op: str, args: Any, results: list[Symbol]) -> None:
        """Note whose memory results show; reshape's, whatever the order of today's array is."""
        given = [x for a in args for x in (a if type(a) in (list, tuple) else [a])]
        for base in [x if x.of is None else x.of for x in given if isinstance(x, Symbol)]:
            for symbol in results:
                if op in ("reshape", "ravel") or np.may_share_memory(symbol.data, base.data):
                    symbol.of = base
                    base.views = [*base.views, weakref.ref(symbol)]

    def symbol(self, data: Any) -> Symbol:
        """What stands for a result."""
        like = data if isinstance(data, (np.ndarray, np.generic)) else np.asarray(data)
        return Symbol(self, data, Value(like.shape, like.dtype, None, weak(data)))

    def operand(self, item: Any) -> Any:
        """An argument as the instruction holds it."""
        if isinstance(item, Symbol):
            if item.stale:
                raise TraceError(
                    "tg.compile: an array is read after it was written into in place: "
                    f"assign the result instead. {user_line()}"
                )
            return item.value
        if isinstance(item, np.ndarray):
            return self.outside(item).value
        return item


def _parts(index: tuple[Any, ...]) -> Any:
    return index[0] if index and isinstance(index[0], tuple) else index


def refuse_unknown_shapes(program: Program) -> None:
    """What is left must give arrays of the same shapes whatever the numbers."""

    def unknown(tree: Any) -> list[Value]:
        return [v for v in values_in(tree) if v not in program.constants]

    for step in program.body:
        index = step.args[1:] if step.op in ("getitem", "setitem") else ()
        masks = any(v.dtype == bool and v.shape for v in unknown(index))
        sliced = any(isinstance(i, slice) and unknown(i) for i in _parts(index))
        counted = step.op in COUNTED and bool(unknown([step.args[1:], step.kwargs]))
        single = step.op == "where" and len(step.args) == 1
        counted = counted or (step.op == "bincount" and "minlength" not in step.kwargs)
        of_numbers = step.op in UNKNOWN_SHAPE or sliced or counted or single
        if of_numbers or (masks and step.op == "getitem"):
            way = "use np.where(mask, x, y)" if single or step.op in MASKED else "do that outside"
            way = "use np.where instead of a mask" if masks and not sliced else way
            way = "slice with Python's integers, or np.take(x, i + np.arange(n))" if sliced else way
            raise TraceError(
                f"tg.compile: how large the result of {step.op} is depends on the numbers of this "
                f"call: {way}. {step.line}"
            )


def _step(state: Any, by: int) -> Any:
    return state["step"] + by


def _count(state: Any, by: int) -> None:
    state["step"] += by


def itself(data: Any) -> Any:
    return data


def _base_held(data: Any, views: Counter[int]) -> bool:
    """Whether a view shares the memory of an array that somebody else than our views holds."""
    base = getattr(data, "base", None)
    while isinstance(base, np.ndarray):
        if sys.getrefcount(base) > ALONE + max(1, views[id(base)]):
            return True
        base = base.base
    return False
