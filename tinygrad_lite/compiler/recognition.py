"""Before a backward pass: a formula that has a fused operation becomes that operation.

The recorded graph is rewritten in place, oldest step first, so that spellings build on each other.
Only the forward pass need be recognised: the gradient, such as (p - t) / N, is then the rule of the
fused operation. The one trick: a step is looked into only if what it read and what it computed are
still what they were, and nobody asks for its own gradient. Then the graph is algebra: equals may
take each other's place, and whoever else reads what lies between still can.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .. import fused as fast
from .. import more_primitives as more
from .. import primitives as p
from ..mode import mode
from ..tensor import Node, births, constant
from .common import content
from .errors import TraceError
from .program import ELEMENTWISE, Instruction, Value, mapped, values_in, with_values
from .spellings import SPELLINGS, Formula, names
from .symbol import Symbol

MOVES = {p.reshape, p.ravel, p.expand_dims, p.squeeze, p.transpose, p.swapaxes, p.moveaxis,
         p.broadcast_to, p.copy, p.getitem}  # fmt: skip
REDUCTIONS = {p.sum_, p.max_, p.mean, more.var, p.logsumexp}
COMMUTATIVE = {p.add, p.multiply, p.maximum, more.logaddexp}
BY_AXIS = {fast.softmax, fast.log_softmax}
take_along_axis = p.PRIMITIVES[np.take_along_axis]


class Term(NamedTuple):
    """An argument of a step: its value, its Node if it has one, and how its entries moved since."""

    value: Any
    node: Node | None = None
    moves: tuple[Node, ...] = ()  # the last one first


Found = dict[str, Any]  # what the variables of a formula stand for: Terms, and plain parameters


@functools.cache
def rows() -> dict[Any, list[tuple[Formula, Any]]]:
    """Patterns with their fused operations, by the primitive that comes last in a pattern."""
    table: dict[Any, list[tuple[Formula, Any]]] = {}
    for fused, spellings in SPELLINGS:
        for pattern in spellings(*(Formula("variable", (name,)) for name in names(spellings))):
            lasts = (p.getitem, take_along_axis) if pattern.op == "picked" else (pattern.op,)
            for last in lasts:
                table.setdefault(last, []).append((pattern, fused))
    return table


def recognise(tracer: Any, order: list[Node], wanted: Any) -> bool:
    """Rewrite a recording and its graph where a formula is known; whether there was one."""
    graph = Graph(tracer, order, wanted)
    for node in graph.steps:
        while graph.rewrite(node):  # again, for a shift that can go
            pass
    if graph.new:
        graph.write()
    return bool(graph.new)


class Graph:
    """The steps of a graph that may be looked into, and what becomes of them."""

    def __init__(self, tracer: Any, order: list[Node], wanted: Any) -> None:
        self.tracer, self.body = tracer, tracer.program.body
        self.made = {out: step for step in self.body for out in step.outs}
        self.steps: dict[Node, Value] = {}  # with what it computed
        self.inner: dict[Node, Node] = {}  # steps that only the graph knows; of equals, the first
        self.new: dict[Value, tuple[Value, list[Instruction]]] = {}  # what takes a value's place
        self.root: Node | None = None
        place = {out: k for k, step in enumerate(self.body) for out in step.outs}
        firsts: dict[Any, Node] = {}
        for node in order:
            if node.primitive is None or not isinstance(node.out, Symbol):
                continue
            if not any(getattr(value, "shape", ()) for value in node.args):
                continue  # numbers only: lanes do more for them
            try:
                args, params = mapped((node.args, node.params), tracer.operand)
            except TraceError:  # an array was written into that it shares memory with
                continue
            out = node.out.value
            read = max((place.get(v, -1) for v in values_in((args, params))), default=-1)
            if out in tracer.overwritten or read >= place.get(out, -1):
                continue
            self.steps[node] = out
            if node.holder is None and node not in wanted:
                pairs = zip(node.parents, args, strict=True)
                parents = [self.inner.get(n, n) if isinstance(n, Node) else v for n, v in pairs]
                key = node.primitive, repr(mapped((parents, params), _identity))
                alike = _deterministic(node.primitive.function)
                self.inner[node] = firsts.setdefault(key, node) if alike else node

    # Matching

    def matches(self, pattern: Any, term: Term, found: Found) -> Iterator[Found]:
        """All ways in which a term is an instance of a pattern."""
        if not isinstance(pattern, Formula):  # a number, or None
            plain = term.node is None and type(term.value) in (int, float, type(None))
            if plain and term.value == pattern:
                yield found
        elif pattern.op == "variable":
            (name,) = pattern.args
            if name in found:
                if self.same(found[name], term):
                    yield found
            elif not term.moves and (name != "shift" or self.is_shift(term, found)):
                yield from ({**found, name: known} for known in self.known(term))
        else:
            for terms, params in self.readings(pattern, term):
                bound = _bound(pattern, terms, params, found)
                if bound is not None:
                    yield from self.all_match(pattern.args, terms, bound)

    def all_match(self, patterns: Any, terms: Any, found: Found) -> Iterator[Found]:
        if not patterns:
            yield found
            return
        for some in self.matches(patterns[0], terms[0], found):
            yield from self.all_match(patterns[1:], terms[1:], some)

    def readings(self, pattern: Formula, term: Term) -> Iterator[tuple[list[Term], Any]]:
        """A term as the operation of a pattern, if it is that: arguments and parameters."""
        op = pattern.op
        if term.node is None:  # a constant, computed beside the graph
            step = self.made.get(self.tracer.operand(term.value))
            if op == "picked" or step is None or step.kwargs or op.name not in ELEMENTWISE:
                return
            if step.op == op.name:
                yield [Term(a, None, term.moves) for a in step.args], {}
            return
        node, moves = self.behind(term)
        if node not in self.inner and node is not self.root:
            return
        terms, params = _terms(node), node.params
        if op == "picked":
            labels = self.labels(node)
            if labels is not None and _in_order(node, moves):
                yield [terms[0], labels], {}
        elif node.primitive is not op:
            return
        elif op in REDUCTIONS:
            x = terms[0].value
            axis = _axes(x, params.get("axis"))
            if pattern.params.get("keepdims"):
                fits = _laid_over(node, moves, x.shape, axis)
            else:
                fits = _in_order(node, moves)
            if fits and not params.get("ddof"):
                yield terms, {"axis": axis}
        elif not moves or all(np.shape(t.value) in ((), node.shape) for t in terms):
            terms = [t._replace(moves=moves) for t in terms]  # entry by entry, it moves alike
            if op in BY_AXIS:
                params = {"axis": _axes(terms[0].value, params.get("axis", -1))}
            yield terms, params
            if op in COMMUTATIVE:
                yield terms[::-1], params

    def behind(self, term: Term) -> tuple[Any, tuple[Node, ...]]:
        """The step that computed a term's entries, and the steps that moved them since."""
        node, moves = term.node, term.moves
        while node in self.inner and node.primitive in MOVES:
            if any(values_in(mapped(node.params, self.tracer.operand))):
                break
            node, moves = node.left, (*moves, node)
        return node, moves

    def labels(self, node: Node) -> Term | None:
        """t, if this step takes from every row the entry at its label."""
        x, params = node.args[0], node.params
        if node.primitive is take_along_axis:
            t, axis = params["indices"], params.get("axis", -1)
            along = x.ndim > 1 and axis in (1, 1 - x.ndim)
            return Term(t) if along and np.shape(t) == (len(x), 1, *x.shape[2:]) else None
        index: Any = params.get("index")
        if node.primitive is not p.getitem or not isinstance(index, tuple) or len(index) != 2:
            return None
        numbers, t = index
        if x.ndim != 2 or getattr(t, "shape", None) != (len(x),) or t.dtype.kind not in "iu":
            return None
        outside = isinstance(numbers, Symbol) and numbers.outer
        known = numbers.data if outside else numbers
        if not isinstance(known, (np.ndarray, range)) or not np.array_equal(known, range(len(x))):
            return None
        if not isinstance(numbers, range):
            self.tracer.counting.add(self.tracer.operand(numbers))
        return Term(t)

    def is_shift(self, term: Term, found: Found) -> bool:
        """Whether a term is constant along the axes, and no gradient is lost without it."""
        x, shape = np.shape(found["x"].value), np.shape(term.value)
        wide = (1,) * (len(x) - len(shape)) + shape
        if np.broadcast_shapes(wide, x) != x:
            return False
        if any(wide[a] != 1 for a in found.get("axis", (1,))):
            return False
        node, _ = self.behind(term)
        top = node in self.inner and node.primitive is p.max_
        return node is None or (top and self.same(found["x"], _terms(node)[0]))

    def same(self, a: Term, b: Term) -> bool:
        if a.moves or b.moves:
            return False
        if a.node is None or b.node is None:
            x, y = (content(self.tracer.operand(t.value)) for t in (a, b))
            return a.node is b.node and bool(x == y)
        return self.inner.get(a.node, a.node) is self.inner.get(b.node, b.node)

    def known(self, term: Term) -> Iterator[Term]:
        """A term, if it can be computed with: a value from an instruction needs its Symbol."""
        if not isinstance(term.value, Value):
            yield term
            return
        symbols = (ref() for ref in self.tracer.symbols)
        yield from (Term(s) for s in symbols if s is not None and s.value is term.value)

    # Rewriting

    def rewrite(self, root: Node) -> bool:
        """Make a step the fused operation that it is spelled for, if there is one."""
        self.root = root
        for pattern, fused in rows().get(root.primitive, ()):
            for found in self.matches(pattern, Term(root.out, root), {}):
                if self.become(root, fused, found):
                    return True
        return False

    def become(self, root: Node, fused: Any, found: Found) -> bool:
        """Record a fused operation of what was found, and make `root` its node."""
        guards, end, start = self.tracer.program.guards, len(self.body), next(births)
        asked = len(guards)
        with mode(record=True):
            out = fused(*(_given(found.get(name)) for name in names(fused)))
            if out is not None and out.shape != root.shape and out.size == root.out.size:
                out = out.reshape(root.shape)  # a sample's number where the spelling keeps an axis
        steps = self.body[end:]
        del self.body[end:]
        made = None if out is None else out._node
        if made is None or (out.shape, out.dtype) != (root.shape, root.dtype):
            del guards[asked:]
            return False
        for node in (between := [made]):  # it grows; each was born before its result
            between += [n for n in node.parents if isinstance(n, Node) and n.birth > start]
        for k, node in enumerate(between):
            node.birth = root.birth - k / len(between)  # after what it reads
        for slot in ("primitive", "left", "right", "others", "args", "params", "out"):
            setattr(root, slot, getattr(made, slot))
        old = self.steps[root]
        was = self.made[old]
        steps = [replace(step, part=was.part, line=was.line) for step in steps]
        self.new[old] = out._data.value, [*self.new.get(old, (old, []))[1], *steps]
        return True

    def write(self) -> None:
        """Put the new instructions in their places, and their results in those of the old ones."""
        replaced = {old: new for old, (new, _) in self.new.items()}
        body = []
        for step in self.body:
            added = [s for out in step.outs if out in self.new for s in self.new[out][1]]
            body += [with_values(s, replaced) for s in (step, *added)]
        self.body[:] = body
        guards = self.tracer.program.guards
        guards[:] = [(replaced.get(value, value), held) for value, held in guards]
        for ref in self.tracer.symbols:
            if (symbol := ref()) is not None:
                symbol.value = replaced.get(symbol.value, symbol.value)


def _terms(node: Node) -> list[Term]:
    pairs = zip(node.args, node.parents, strict=True)
    return [Term(value, n if isinstance(n, Node) else None) for value, n in pairs]


def _axes(x: Any, axis: Any) -> tuple[int, ...]:
    return tuple(sorted(p.axes_of(x, axis))) if x.ndim else ()


def _given(item: Any) -> Any:
    """What was found, as the fused operation takes it."""
    if isinstance(item, Term):
        return item.value if item.node is None else constant(item.value, item.node)
    return item[0] if isinstance(item, tuple) and len(item) == 1 else item


def _bound(pattern: Formula, terms: list[Term], params: Any, found: Found) -> Found | None:
    """With the variables among the parameters; None if a parameter is another."""
    wanted = {"axis": None} | pattern.params if pattern.op in REDUCTIONS else pattern.params
    for name in wanted.keys() - {"keepdims"}:
        this, given = wanted[name], params.get(name)
        if isinstance(this, Formula):
            (variable,) = this.args
            found = {variable: given} | found
            this = found[variable]
        elif name == "axis":
            this = tuple(range(terms[0].value.ndim)) if this is None else (this,)
        if given is None or this != given:
            return None
    return found


def _deterministic(function: Any) -> bool:
    """Whether it is NumPy's or ours: one of a user's may draw random numbers."""
    module = getattr(function, "__module__", None) or "numpy"
    return module.split(".")[0] in ("numpy", "_operator", __name__.split(".")[0])


def _identity(item: Any) -> Any:
    return id(item) if isinstance(item, Node) else content(item)


def _moved(node: Node, moves: tuple[Node, ...]) -> Any:
    """Numbers in the place of a step's entries, moved as these are."""
    numbers = np.arange(math.prod(node.shape)).reshape(node.shape)
    for move in reversed(moves):
        numbers = move.primitive.forward(numbers, **move.params)
    return numbers


def _in_order(node: Node, moves: tuple[Node, ...]) -> bool:
    return np.array_equal(_moved(node, moves).ravel(), np.arange(math.prod(node.shape)))


def _laid_over(node: Node, moves: Any, shape: tuple[int, ...], axis: tuple[int, ...]) -> bool:
    """Whether a reduction broadcasts with its argument as one with keepdims=True does."""
    kept = [1 if a in axis else n for a, n in enumerate(shape)]
    numbers = _moved(node, moves)
    wide = (1,) * (len(shape) - numbers.ndim) + numbers.shape
    try:
        expected = np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), wide)
    except ValueError:
        return False
    return np.array_equal(numbers.reshape(wide), expected)
