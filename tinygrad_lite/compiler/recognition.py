"""Before a backward pass: a formula that has a fused operation becomes that operation.

The recorded graph is rewritten in place, oldest step first, so that spellings build on each other.
Only the forward pass need be recognised: the gradient, such as (p - t) / N, is then the rule of the
fused operation. The one trick: a step is looked into only if all that it read and computed still
is what it was, and nobody asks for its own gradient. Then the graph is algebra: what is equal may
take each other's place, whoever else reads what lies between.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..mode import mode
from ..primitives import axes_of
from ..tensor import Node, births, constant
from .common import content
from .program import ELEMENTWISE, Instruction, Value, mapped, values_in, with_values
from .spellings import SPELLINGS, Formula, formula, names
from .symbol import Symbol, TraceError

MOVES = frozenset({
    "reshape", "ravel", "expand_dims", "squeeze", "transpose", "swapaxes", "moveaxis", "getitem",
    "broadcast_to", "copy",
})  # fmt: skip
REDUCTIONS = frozenset({"sum", "max", "mean", "var", "logsumexp"})
COMMUTATIVE = frozenset({"add", "multiply", "maximum", "logaddexp"})
LAST_AXIS = {"softmax": -1, "log_softmax": -1}  # theirs, if none is given


class Term(NamedTuple):
    """An argument of a step: its value, its Node if it has one, and how its entries move since."""

    value: Any
    node: Node | None = None
    moves: tuple[Node, ...] = ()


@functools.cache
def _rows() -> dict[str, list[tuple[Any, Any]]]:
    """(pattern, fused operation), by the primitive that computes what a pattern computes."""
    rows: dict[str, list[tuple[Any, Any]]] = {}
    for fused, spellings in SPELLINGS:
        for pattern in formula(spellings):
            for name in {"picked": ("getitem", "take_along_axis")}.get(pattern.op, (pattern.op,)):
                rows.setdefault(name, []).append((pattern, fused))
    return rows


def recognised(tracer: Any, order: list[Node], wanted: Any) -> bool:
    """Rewrite the graph of a recording where a formula is known; whether there was one."""
    graph = Graph(tracer, order, wanted)
    for node in order:
        while node in graph.sound and graph.rewritten(node):
            pass
    if graph.new:
        graph.write()
    return bool(graph.new)


class Graph:
    """The steps of a graph that may be looked into, and what became of them."""

    def __init__(self, tracer: Any, order: list[Node], wanted: Any) -> None:
        self.tracer, self.root = tracer, order[-1]
        self.body: list[Instruction] = tracer.program.body
        self.made = {out: step for step in self.body for out in step.outs}
        self.sound: dict[Node, Value] = {}  # with the value that it computed
        self.inner: dict[Node, Node] = {}  # those without a gradient of their own; equals are one
        self.new: dict[Value, tuple[Value, list[Instruction]]] = {}
        place = {out: k for k, step in enumerate(self.body) for out in step.outs}
        first: dict[Any, Node] = {}
        for node in order:
            if node.primitive is None or not isinstance(node.out, Symbol):
                continue
            try:
                consts, params = mapped((node.args, node.params), tracer.operand)
            except TraceError:  # one of them was written into
                continue
            value = node.out.value
            reads = [place.get(v, -1) for v in values_in((consts, params))]
            if value in tracer.overwritten or max(reads, default=-1) >= place.get(value, -1):
                continue
            self.sound[node] = value
            if node.holder is None and node not in wanted:
                parents = [
                    self.inner.get(p, p) if isinstance(p, Node) else content(c)
                    for p, c in zip(node.parents, consts, strict=True)
                ]
                key = node.primitive, repr(mapped((parents, params), _identity))
                self.inner[node] = first.setdefault(key, node)

    # Matching

    def matches(self, pattern: Any, term: Term, found: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """All ways in which a term is an instance of a pattern, as the variables' terms."""
        if not isinstance(pattern, Formula):  # a number, or None
            if term.node is None and type(term.value) in (int, float, type(None)):
                if term.value == pattern:
                    yield found
        elif pattern.op == "variable":
            (name,) = pattern.args
            if name in found:
                if self.same(found[name], term):
                    yield found
            elif not term.moves and (name != "shift" or self.flat(term, found)):
                yield found | {name: term}
        else:
            for args, params in self.readings(pattern, term):
                bound = _bound(pattern, args, params, found)
                if bound is not None:
                    yield from self.all_match(pattern.args, args, bound)

    def all_match(self, patterns: Any, terms: Any, found: Any) -> Iterator[dict[str, Any]]:
        if not patterns:
            yield found
            return
        for some in self.matches(patterns[0], terms[0], found):
            yield from self.all_match(patterns[1:], terms[1:], some)

    def readings(self, pattern: Formula, term: Term) -> Iterator[tuple[list[Term], Any]]:
        """A term as the operation of a pattern, if it is that: arguments and parameters."""
        op = pattern.op
        if term.node is None:  # constants are computed without the graph
            step = self.made.get(self.value(term))
            if step is not None and step.op == op and op in ELEMENTWISE and not term.moves:
                yield [Term(a) for a in step.args], step.kwargs
            return
        node, moves = self.behind(term)
        if node not in self.inner and node is not self.root:
            return
        args = [
            Term(v, p if isinstance(p, Node) else None)
            for v, p in zip(node.args, node.parents, strict=True)
        ]
        if op == "picked":
            t = self.labels(node)
            if t is not None and _in_order(node, moves):
                yield [args[0], t], {}
        elif node.name != op:
            return
        elif op in REDUCTIONS:
            axis = axes_of(args[0].value, node.params.get("axis"))
            over = _laid_over(node, moves, args[0].value.shape, axis)
            fits = over if pattern.params.get("keepdims") else _in_order(node, moves)
            if fits and not node.params.get("ddof"):
                yield args, {"axis": axis}
        elif not moves or all(np.shape(a.value) in ((), node.shape) for a in args):
            args = [a._replace(moves=moves) for a in args]  # what works by entry, moves with them
            params = node.params
            if op in LAST_AXIS:
                params = {"axis": axes_of(args[0].value, params.get("axis", LAST_AXIS[op]))}
            yield args, params
            if op in COMMUTATIVE:
                yield args[::-1], params

    def behind(self, term: Term) -> tuple[Any, tuple[Node, ...]]:
        """The step that computed a term's entries, and the steps that moved them since."""
        node, moves = term.node, term.moves
        while node in self.inner and node.name in MOVES and not any(self.reads(node.params)):
            moves, node = (*moves, node), node.left
        return node, moves

    def labels(self, node: Node) -> Term | None:
        """t, if this step takes from every row the entry at its label."""
        x, params = node.args[0], node.params
        if node.name == "take_along_axis" and x.ndim > 1 and params["axis"] in (1, 1 - x.ndim):
            t = params["indices"]
            return Term(t) if t.shape == (len(x), 1, *x.shape[2:]) else None
        index = params.get("index")
        if node.name != "getitem" or not isinstance(index, tuple) or len(index) != x.ndim != 2:
            return None
        rows, t = index
        if getattr(t, "shape", ()) != (len(x),) or t.dtype.kind not in "iu":
            return None
        if isinstance(rows, Symbol) or not np.array_equal(rows, np.arange(len(x))):
            return None
        if isinstance(rows, np.ndarray):
            self.tracer.assume(functools.partial(_counts, weakref.ref(rows)))
        return Term(t)

    def flat(self, term: Term, found: dict[str, Any]) -> bool:
        """Whether a term is constant along the axes, and no gradient is lost without it."""
        x, shape = found["x"].value, np.shape(term.value)
        axes = found.get("axis", (1,))
        if len(shape) > x.ndim or np.broadcast_shapes(shape, x.shape) != x.shape:
            return False
        if any(((1,) * x.ndim + shape)[a - x.ndim] != 1 for a in axes):
            return False
        node, _ = self.behind(term)
        if node is None:
            return True
        top = node in self.inner and node.name == "max"
        return top and self.same(Term(node.args[0], node.left), found["x"])

    def same(self, a: Term, b: Term) -> bool:
        if a.moves or b.moves:
            return False
        if a.node is None or b.node is None:
            return a.node is b.node and content(self.value(a)) == content(self.value(b))
        return self.inner.get(a.node, a.node) is self.inner.get(b.node, b.node)

    def value(self, term: Term) -> Any:
        return self.tracer.operand(term.value)

    def reads(self, tree: Any) -> Iterator[Value]:
        return values_in(mapped(tree, self.tracer.operand))

    # Rewriting

    def rewritten(self, root: Node) -> bool:
        """Make a step the fused operation that it is spelled for, if there is one."""
        self.root = root
        for pattern, fused in _rows().get(root.name, ()):
            for found in self.matches(pattern, Term(root.out, root), {}):
                if self.become(root, fused, found):
                    return True
        return False

    def become(self, root: Node, fused: Any, found: dict[str, Any]) -> bool:
        """Record the operation on the terms that were found, and make `root` its node."""
        program, old = self.tracer.program, self.sound[root]
        end, asked, start = len(self.body), len(program.guards), next(births)
        with mode(record=True):
            out = fused(*(self.given(found.get(name)) for name in names(fused)))
            if out is not None and out.shape != root.shape and out.size == root.out.size:
                out = out.reshape(root.shape)
        new = self.body[end:]
        del self.body[end:]
        if out is None or (out.shape, out.dtype) != (root.shape, root.dtype):
            del program.guards[asked:]
            return False
        made = out._node
        for node in (between := [made]):  # it grows; each was born before its result
            between += [p for p in node.parents if isinstance(p, Node) and p.birth > start]
        for k, node in enumerate(between):
            node.birth = root.birth - k / len(between)
        for slot in ("primitive", "left", "right", "others", "args", "params", "out"):
            setattr(root, slot, getattr(made, slot))
        was = self.made[old]
        steps = [replace(step, scope=was.scope, line=was.line) for step in new]
        self.new[old] = out._data.value, self.new.get(old, (None, []))[1] + steps
        return True

    def given(self, item: Any) -> Any:
        """What was found for a variable, as the fused operation takes it."""
        if not isinstance(item, Term):
            return item[0] if isinstance(item, tuple) and len(item) == 1 else item
        if isinstance(item.value, Value):
            return next(s for ref in self.tracer.symbols if (s := ref()) is not None and s.value is item.value)
        return item.value if item.node is None else constant(item.value, item.node)

    def write(self) -> None:
        """Put the new instructions in their places; from there on, their results."""
        tracer, replaced = self.tracer, {old: new for old, (new, _) in self.new.items()}
        body = []
        for step in self.body:
            body.append(with_values(step, replaced))
            for out in step.outs:
                body += [with_values(s, replaced) for s in self.new.get(out, (None, ()))[1]]
        self.body[:] = body
        tracer.program.guards[:] = [(replaced.get(v, v), h) for v, h in tracer.program.guards]
        for ref in tracer.symbols:
            if (symbol := ref()) is not None:
                symbol.value = replaced.get(symbol.value, symbol.value)


def _bound(pattern: Formula, args: Any, params: Any, found: Any) -> dict[str, Any] | None:
    """The variables, with those that stand for parameters; None if one is another."""
    for name in pattern.params.keys() | ({"axis"} if pattern.op in REDUCTIONS else set()):
        wanted, given = pattern.params.get(name), params.get(name)
        if name == "keepdims":
            continue
        if isinstance(wanted, Formula):
            (variable,) = wanted.args
            found = {variable: given} | found
            wanted = found[variable]
        elif name == "axis":
            wanted = tuple(range(args[0].value.ndim)) if wanted is None else (wanted,)
        if wanted != given:
            return None
    return found


def _identity(item: Any) -> Any:
    return id(item) if isinstance(item, (Node, Value)) else content(item)


def _moved(node: Node, moves: tuple[Node, ...]) -> Any:
    """Where the entries of a step's result came to lie, by number."""
    numbers = np.arange(math.prod(node.shape)).reshape(node.shape)
    for move in reversed(moves):
        numbers = move.primitive.forward(numbers, **move.params)
    return numbers


def _in_order(node: Node, moves: tuple[Node, ...]) -> bool:
    return np.array_equal(_moved(node, moves).ravel(), np.arange(math.prod(node.shape)))


def _laid_over(node: Node, moves: Any, shape: tuple[int, ...], axis: tuple[int, ...]) -> bool:
    """Whether a reduction broadcasts with its argument as with keepdims=True."""
    numbers = _moved(node, moves)
    kept = [1 if a in axis else n for a, n in enumerate(shape)]
    wide = (1,) * (len(shape) - numbers.ndim) + numbers.shape
    try:
        expected = np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), wide)
    except ValueError:
        return False
    return np.array_equal(numbers.reshape(wide), expected)


def _counts(rows: weakref.ref[Any]) -> bool:
    """Whether row numbers still are 0, 1, 2, ..., if anybody can have changed them."""
    array = rows()
    return array is None or np.array_equal(array, np.arange(len(array)))
