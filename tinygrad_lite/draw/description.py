"""A recorded graph as data: what the diagram and the explorable page are both drawn from.

A card is a tensor: a leaf, a step's result, or a constant that a step took. Gradients, and what
flows along each arrow, come from the engine's own backward pass, watched by an observer. The one
trick: small graphs keep all values, so a pass can be watched again after `backward()` freed it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backward import ancestors, gradients
from ..explain import Recorder
from ..fused import COMPOSED
from ..mode import MODE, SCOPE, Scope, mode
from ..tensor import FREED, LIGHT, Node, Spec, Tensor, constant, leaf_node

SYMBOLS = {
    "add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "matmul": "@", "power": "xʸ",
    "negative": "−x", "sum": "Σ", "absolute": "|x|", "sqrt": "√", "square": "x²",
}  # fmt: skip


@dataclass
class Card:
    """One tensor of the graph. `parents` has a card's number per argument, or -1 for no card."""

    kind: str  # parameter, input (a constant), operation, loss
    name: str | None
    op: str
    params: str
    value: Any  # an array or number; a Spec if nothing kept it
    scope: Scope | None
    parents: list[int] = field(default_factory=list)
    flow: list[float | None] = field(default_factory=list)  # ‖what goes back to each argument‖
    grad: Any = None  # an array or number; None: not computed, or not kept
    node: Node | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return getattr(self.value, "shape", ())

    @property
    def fused(self) -> bool:
        return self.op in COMPOSED

    @property
    def saved(self) -> bool:
        """Whether a rule will read values of this step: they are kept for the backward pass."""
        node = self.node
        if node is None or node.primitive is None or node.state == FREED:
            return False
        return node.primitive.saves is None or any(node.primitive.saves)

    @property
    def norm(self) -> float | None:
        return None if self.grad is None else norm(self.grad)


def norm(array: Any) -> float:
    """The Euclidean length of all entries together."""
    flat = np.asarray(array, float).ravel()
    return math.sqrt(flat.dot(flat))


def cards_of(
    losses: list[Tensor], run: bool = False, expand_fused: bool = False
) -> tuple[list[Card], list[Any]]:
    """The cards, arguments before results, and the visits of the backward pass, if one was watched.

    Gradients are those that `backward()` computed, where they are still known; `run` runs a pass.
    `expand_fused` puts the composition that it equals in the place of each fused operation.
    """
    roots = [t._node for t in losses if t._node is not None]
    if len(roots) < len(losses) or not roots:
        raise ValueError("draw: this tensor is a constant: no operation was recorded for it")
    order = ancestors(roots)
    grads, flows, visits = _gradients(roots, order, run)
    stands_for: dict[Node, Node] = {}
    if expand_fused:
        order = _expanded(order, grads, flows, stands_for)
        roots = [stands_for.get(root, root) for root in roots]
    cards: list[Card] = []
    place: dict[Any, int] = {}  # a node, or the identity of a constant: its card
    for node in order:
        kind = "parameter" if node.primitive is None else "operation"
        shown = {k: v for k, v in node.params.items() if type(v) in (int, str, tuple)}
        given = ", ".join(f"{k}={v!r}" for k, v in shown.items())
        params = given if len(given) < 40 else ""
        new = Card(
            "loss" if node in roots else kind, node.label, node.name, params, node.out, node.scope
        )
        new.node, new.grad = node, grads.get(node)
        new.flow = [flows.get((node, i)) for i in range(len(node.args))]
        for parent, value in zip(node.parents, node.args, strict=True):
            if isinstance(parent, Node):
                while parent in stands_for:
                    parent = stands_for[parent]
                new.parents.append(place[parent])
                continue
            name = None
            if isinstance(parent, Tensor):
                value, name = parent._data, parent.name
            if value is None:
                new.parents.append(-1)
                continue
            key: Any = id(value) if isinstance(value, np.ndarray) else object()
            if key not in place:
                place[key] = len(cards)
                cards.append(Card("input", name, "", "", value, node.scope))
            new.parents.append(place[key])
        place[node] = len(cards)
        cards.append(new)
    _place_leaves(cards)
    return cards, visits


def _expanded(order: list[Node], grads: Any, flows: Any, stands_for: Any) -> list[Node]:
    """The nodes with those of each fused operation's composition, run anew, in its place.

    Leaves of the new graph stand for the old arguments, and the old node for the new result.
    """
    out: list[Node] = []
    for node in order:
        arguments = [i for i, parent in enumerate(node.parents) if isinstance(parent, Node)]
        if node.name not in COMPOSED or any(isinstance(v, Spec) for v in node.args):
            out.append(node)
            continue
        values: list[Any] = list(node.args)
        for i in arguments:
            values[i] = constant(node.args[i], leaf_node(node.args[i]))
        token = SCOPE.set(Scope(node.name, node.scope))
        try:
            with mode(record=True):
                result = COMPOSED[node.name](*values, **node.params)._node
        finally:
            SCOPE.reset(token)
        for i in arguments:
            stands_for[values[i]._node] = node.parents[i]
        stands_for[node], result.label = result, node.label
        inside = [new for new in ancestors([result]) if new not in stands_for]
        out += inside
        if node in grads:
            recorder = Recorder()
            with mode(record=False, observers=(recorder,)):
                gradients({result: grads[node]})
            grads |= {new: g for new, g, _ in recorder.visits}
            flows |= {(n, i): norm(piece) for n, _, sent in recorder.visits for i, piece in sent}
        for new in inside:
            new.state = node.state
    return out


def _place_leaves(cards: list[Card]) -> None:
    """A leaf or constant stands in the innermost scope around all of its users."""
    around: dict[int, list[Scope]] = {}
    for card in cards:
        path = card.scope.path() if card.scope is not None else []
        for i in card.parents:
            if i >= 0 and not cards[i].parents:
                common = zip(around.get(i, path), path, strict=False)
                around[i] = [a for a, b in common if a is b]
    for i, path in around.items():
        cards[i].scope = path[-1] if path else None


def _gradients(roots: list[Node], order: list[Node], run: bool) -> tuple[Any, Any, list[Any]]:
    """Each node's gradient, ‖what it sends to each argument‖, and the visits of the pass."""
    seeds = {r: np.ones(r.shape, r.dtype)[()] if run else r.cotangent for r in roots}
    seeds = {r: seed for r, seed in seeds.items() if seed is not None}
    freed = [node for node in order if node.state == FREED]
    if not seeds or (not run and not all(map(_intact, freed))):
        kept = {node: node.cotangent for node in order if node.cotangent is not None}
        for node in order:
            holder = node.holder() if node.holder is not None else None
            if holder is not None and holder._grad is not None:
                kept[node] = holder._grad._data
        return kept, {}, []
    recorder = Recorder()
    replayed = [node for node in freed if _intact(node)]
    for node in replayed:
        node.state = LIGHT
    try:
        with mode(record=False, observers=(*MODE.get().observers, recorder)):
            leaves = gradients(seeds)
    finally:
        for node in replayed:
            node.state = FREED
    grads = {node: g for node, g, _ in recorder.visits} | leaves
    flows = {(n, i): norm(piece) for n, _, sent in recorder.visits for i, piece in sent}
    return grads, flows, recorder.visits


def _intact(node: Node) -> bool:
    """Whether all that the rules of a freed step read is still there, being small."""
    primitive = node.primitive
    values = {-1: node.out, **dict(enumerate(node.args))}
    saves = primitive.saves if primitive else ()
    needed = set(values) if saves is None else {i for word in saves for i in word}
    return not any(isinstance(values[i], Spec) for i in needed)


def number(x: float) -> str:
    """As a card has it: four digits."""
    return f"{x:.4g}".replace("-", "−")


def value_line(value: Any) -> str | None:
    """A number or up to three entries in full, otherwise mean and deviation."""
    if isinstance(value, Spec) or np.asarray(value).dtype.kind not in "biuf":
        return None
    array = np.asarray(value, float)
    if array.size == 0:
        return "empty"
    if array.size <= 3:
        written = {"float": number}
        text = np.array2string(array, separator=", ", formatter=written, max_line_width=1000)  # type: ignore[arg-type]
        return " ".join(text.split())
    with np.errstate(all="ignore"):
        return f"μ {number(array.mean())}  σ {number(array.std())}"


def gradient_line(card: Card) -> str | None:
    """∇ and its entries, or ‖∇‖; nothing for a constant."""
    if card.kind == "input" or card.node is None:
        return None
    if card.grad is None:
        return "no gradient yet" if card.node.state != FREED else "gradient not kept"
    size = math.prod(np.shape(card.grad))
    if size <= 3:
        return f"∇ {value_line(card.grad)}"
    return f"‖∇‖ {number(norm(card.grad))}"
