"""The same recorded graph as plain data, for the explorable page's script to read.

What follows from something else in here is left out, and the script works it out again: norms, what
is sent where a value is used once, sums that are a node's gradient. The one trick: the numbers of a
large graph are float32 in one array, which takes a fifth of the time and half of the room of text.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..explain import FORMULAS, rule
from ..tensor import SMALL, Node, Spec
from .description import SYMBOLS, Card
from .folding import View, groups_of
from .nudging import central_differences

EXACT = 2000  # graphs of more cards are told in float32
ENTRIES, THUMBNAILS = 1_000_000, 100_000  # about how many numbers a page holds


@dataclass
class Numbers:
    """How arrays are told: up to `entries` in full, else as statistics and a thumbnail."""

    entries: int
    side: int  # of a thumbnail
    exact: bool  # digits in place; else `told` has the array, and its place stands for it
    told: list[Any] = field(default_factory=list)
    length: int = 0

    def __call__(self, value: Any) -> Any:
        if value is None or isinstance(value, Spec):
            return None
        array = np.asarray(value, float)
        if array.size > self.entries:
            return self._statistics(array)
        if not self.exact:
            self.told.append(array.ravel())
            self.length += array.size
            return self.length - array.size
        data = [plain(x) for x in array.ravel().tolist()]
        return {"data": data, "columns": array.shape[-1]} if array.ndim else {"data": data[0]}

    def _statistics(self, array: Any) -> dict[str, Any]:
        flat = array.ravel()
        with np.errstate(all="ignore"):
            mean, square = flat.mean(), flat.dot(flat) / flat.size
            deviation = np.sqrt(max(square - mean**2, 0.0))
            five = [mean, deviation, flat.min(), flat.max(), np.sqrt(square)]
            out: dict[str, Any] = {"stats": [plain(float(f"{x:.6g}")) for x in five]}
            if self.side > 1:
                out["thumb"] = self._thumbnail(array.reshape(-1, array.shape[-1]))
        return out

    def _thumbnail(self, rows: Any) -> Any:
        """Means over blocks."""
        for axis in (0, 1):
            n = rows.shape[axis]
            starts = np.arange(0, n, -(-n // self.side))
            counts = np.diff(starts, append=n)
            rows = np.add.reduceat(rows, starts, axis) / np.expand_dims(counts, 1 - axis)
        data = [plain(float(f"{x:.3g}")) for x in rows.ravel().tolist()]
        return {"rows": rows.shape[0], "cols": rows.shape[1], "data": data}


def plain(x: float) -> Any:
    """A number that JSON can hold: NaN and infinities as words."""
    if math.isfinite(x):
        return x
    return "NaN" if math.isnan(x) else "Infinity" if x > 0 else "-Infinity"


def numbers_for(cards: list[Card]) -> Numbers:
    sizes = Counter(
        math.prod(np.shape(v)) for c in cards for v in (c.value, c.grad) if v is not None
    )
    entries = SMALL
    while sum(n * count for n, count in sizes.items() if n <= entries) > ENTRIES:
        entries //= 4
    heavy = sum(count for n, count in sizes.items() if n > entries)
    return Numbers(entries, min(16, math.isqrt(THUMBNAILS // (heavy or 1))), len(cards) <= EXACT)


def page_data(cards: list[Card], visits: list[Any], view: View, title: str) -> dict[str, Any]:
    """Nodes, groups and steps of a graph: what `page/model.js` reads."""
    numbers = numbers_for(cards)
    groups, own, opened = groups_of(view)
    nudged = central_differences(cards)
    arity = {card.op: len(card.parents) for card in sorted(cards, key=lambda c: len(c.parents))}
    kinds = [getattr(card.value, "dtype", type(card.value)) for card in cards]
    written = {kind: getattr(kind, "name", None) or kind.__name__ for kind in set(kinds)}
    nodes = {
        "kind": [card.kind for card in cards],
        "name": [card.name for card in cards],
        "op": ["" if card.op == "leaf" else card.op for card in cards],
        "params": [card.params for card in cards],
        "shape": [card.shape for card in cards],
        "dtype": [written[kind] for kind in kinds],
        "group": own,
        "parents": [card.parents for card in cards],
        "value": [numbers(card.value) for card in cards],
        "grad": [numbers(card.grad) for card in cards],
        "saved": [int(card.saved) for card in cards],
        "fused": [int(card.fused) for card in cards],
        "nudged": [nudged.get(i) for i in range(len(cards))],
    }
    steps = _steps(cards, visits, numbers)
    floats = np.concatenate([np.zeros(0), *numbers.told]).astype("<f4")
    return {
        "title": title,
        "loss": len(cards) - 1,
        "symbols": {op: SYMBOLS[op] for op in arity if op in SYMBOLS},
        "rules": {op: [rule(op, i) for i in range(n)] for op, n in arity.items()},
        "nodes": nodes,
        "groups": groups,
        "open": opened,
        "steps": steps,
        "floats": base64.b64encode(floats.tobytes()).decode(),
    }


def _steps(cards: list[Card], visits: list[Any], numbers: Numbers) -> list[dict[str, Any]]:
    """What each step sends, in the order of the pass; sums only where no gradient shows them."""
    place = {card.node: i for i, card in enumerate(cards) if card.node is not None}
    of = Counter(node.parents[argument] for node, _, sent in visits for argument, _ in sent)
    arrived: Counter[Node] = Counter()
    totals: dict[Node, Any] = {}
    steps = []
    for node, g, sent in visits:
        parents, to = node.parents, []
        for argument, piece in sent:
            target = parents[argument]
            contribution: dict[str, Any] = {"argument": argument}
            if of[target] > 1:
                arrived[target] += 1
                totals[target] = totals[target] + piece if target in totals else piece
                contribution["value"] = numbers(piece)
                if 1 < arrived[target] < of[target]:
                    contribution["total"] = numbers(totals[target])
            if numbers.exact and (slope := _slope(node, argument, g, piece)) is not None:
                contribution["slope"] = numbers(slope)
            to.append(contribution)
        steps.append({"node": place[node], "to": to})
    return steps


def _slope(node: Node, i: int, g: Any, piece: Any) -> Any:
    """The local derivative entry by entry, where a step works so: what its rule makes of ones."""
    derivative = None if node.primitive.joint else node.primitive.rules[i]
    if derivative is None or node.name not in FORMULAS or np.shape(g) != np.shape(piece):
        return None
    with np.errstate(all="ignore"):
        one = np.ones(np.shape(g), node.dtype)[()]
        return derivative(one, node.out, *node.args, **node.params)
