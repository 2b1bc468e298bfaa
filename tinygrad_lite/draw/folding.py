"""Large graphs made small enough to look at: which boxes there are, and which of them are open.

Boxes are the scopes of the program and, in a graph over the budget, stacks of look-alike neighbours
and tens of a crowded level. The one trick: opening is greedy. From the outside in, a box is opened
while what is then to be seen fits the budget; every other box is one card.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from ..mode import Scope
from .description import Card

CROWD = 20  # a level of more items than that is divided into tens


@dataclass(eq=False)
class Box:
    """A part of the graph: its cards (by number) and boxes, in order of computation."""

    name: str
    kind: str  # scope; stack (the look-alikes of the box before it); interval
    items: list[Any]
    parent: Box | None = None
    open: bool = False
    count: int = 0  # operations in it, at any depth
    parameters: int = 0
    norm: float | None = None  # ‖gradient‖ of what leaves it


@dataclass
class View:
    """What is to be seen: `top` with its open boxes, the arrows, and copies of shared leaves."""

    top: Box
    own: list[Box]  # the box that each card stands in
    seen: list[Any]  # for each card, the closed box that hides it, or its own number
    arrows: dict[tuple[Any, Any], float | None] = field(default_factory=dict)
    copies: dict[Box, list[tuple[int, Box]]] = field(default_factory=dict)  # leaves, by box


def side_by_side(graphs: list[list[Card]], names: list[str]) -> list[Card]:
    """The cards of all graphs as those of one, each graph in a scope of its own."""
    cards: list[Card] = []
    for graph, name in zip(graphs, names, strict=True):
        within: dict[Scope | None, Scope] = {None: Scope(name)}
        for card in graph:
            for scope in card.scope.path() if card.scope else []:
                within.setdefault(scope, Scope(scope.name, within[scope.parent]))
            card.scope = within[card.scope]
            card.parents = [i if i < 0 else i + len(cards) for i in card.parents]
        cards += graph
    return cards


def fold(
    cards: list[Card], budget: int = 36, depth: int | None = None, compare: bool = False
) -> View:
    """`compare`: the outermost boxes hold graphs to compare, and are open whatever they cost."""
    top = _scopes(cards)
    order = _inside(top)
    for box in top.items if compare else []:
        box.open = True
    if len(cards) > budget:
        for box in reversed(order[compare:]):  # inner boxes first: look-alikes are alike inside
            ends = [i for i in box.items if not isinstance(i, Box) and cards[i].kind == "loss"]
            rest = [item for item in box.items if item not in ends]
            box.items = [*_tens(_stacks(rest, cards)), *ends]
        order = _inside(top)
    own = [top] * len(cards)
    for box in order:
        for item in box.items:
            if isinstance(item, Box):
                item.parent = box
            else:
                own[item] = box
    for box in reversed(order):
        box.count += sum(not isinstance(i, Box) and bool(cards[i].parents) for i in box.items)
        box.parameters += sum(
            not isinstance(i, Box) and cards[i].kind == "parameter" for i in box.items
        )
        if box.parent is not None:
            box.parent.count += box.count
            box.parent.parameters += box.parameters
    _open(order, budget, depth)
    closed: dict[Box, Box | None] = {}
    for box in order:
        outer = None if box.parent is None else closed[box.parent]
        closed[box] = outer or (None if box.open else box)
    view = View(top, own, [closed[own[i]] or i for i in range(len(cards))])
    _arrows(view, cards)
    return view


def _scopes(cards: list[Card]) -> Box:
    top = Box("", "scope", [], open=True)
    boxes: dict[Scope | None, Box] = {None: top}
    steps = ((i, card.parents) for i, card in enumerate(cards) if card.parents)
    taken = (j for i, parents in steps for j in (*parents, i) if j >= 0)
    for i in dict.fromkeys([*taken, *range(len(cards))]):  # a leaf comes where it is first taken
        card = cards[i]
        if card.scope not in boxes:
            for scope in card.scope.path() if card.scope is not None else []:
                if scope not in boxes:
                    boxes[scope] = Box(scope.name, "scope", [])
                    boxes[scope.parent].items.append(boxes[scope])
        boxes[card.scope].items.append(i)
    return top


def _inside(top: Box) -> list[Box]:
    """A box and all boxes in it, outer ones first, level by level."""
    order = [top]
    for box in order:  # the list grows while it is walked
        order += [item for item in box.items if isinstance(item, Box)]
    return order


def _likeness(box: Box, cards: list[Card]) -> Any:
    """What look-alikes share: a name but for its numbers, the operations and shapes inside."""
    return re.sub(r"\d+", "", box.name), [
        (len(item.items), item.kind)
        if isinstance(item, Box)
        else (cards[item].op, cards[item].shape)
        for inner in _inside(box)
        for item in inner.items
    ]


def _stacks(items: list[Any], cards: list[Card]) -> list[Any]:
    """Of three look-alike neighbours or more the first stays, and the others become a stack."""
    out: list[Any] = []
    run: list[Box] = []
    like: Any = None

    def close() -> None:
        names = [run[1].name, run[-1].name] if len(run) > 2 else []
        if names:
            name = " … ".join(dict.fromkeys(names))
            stack = Box(f"{name}, {len(run) - 1} times", "stack", _tens(run[1:]))
            out.extend([run[0], stack])
        else:
            out.extend(run)
        run.clear()

    for item in items:
        if not isinstance(item, Box):
            if cards[item].parents:  # a leaf or constant between look-alikes does not part them
                close()
            out.append(item)
            continue
        new = _likeness(item, cards)
        if run and new != like:
            close()
        like = new
        run.append(item)
    close()
    return out


def _tens(items: list[Any]) -> list[Any]:
    """A crowded level in intervals of ten, and these again, until few are left."""
    size = 1
    while len(items) > CROWD:
        parts = [items[i : i + 10] for i in range(0, len(items), 10)]
        size *= 10
        items = [
            Box(_range(part, i * size, size), "interval", part) if len(part) > 1 else part[0]
            for i, part in enumerate(parts)
        ]
    return items


def _range(part: list[Any], start: int, size: int) -> str:
    ends = [item for item in (part[0], part[-1]) if isinstance(item, Box)]
    if len(ends) == 2 and all(box.kind == "scope" for box in ends):
        return " … ".join(dict.fromkeys(box.name for box in ends))
    if len(ends) == 2 and " … " in ends[0].name:
        return f"{ends[0].name.split(' … ')[0]} … {ends[1].name.split(' … ')[-1]}"
    return f"{start} – {start + size - 1}"


def _open(order: list[Box], budget: int, depth: int | None) -> None:
    """The first of a level's intervals before the others; stacks only if `depth` asks for it."""
    level = {box: 0 for box in order if box.open}
    shown = 1 + sum(len(box.items) - 1 for box in level)
    for late in (False, True):
        for box in order[1:]:
            parent = box.parent
            if parent is None or box.open or not parent.open:
                continue
            level[box] = level[parent] + 1
            if depth is not None:
                box.open = level[box] <= depth
            elif box.kind == "scope" or (
                box.kind == "interval" and late | (box is parent.items[0])
            ):
                box.open = shown - 1 + len(box.items) <= budget
            shown += (len(box.items) - 1) * box.open


def _arrows(view: View, cards: list[Card]) -> None:
    """Arrows between what is seen, ‖together‖ where several are one.

    A leaf stands once in each open box that uses it; inside a closed one, if only that uses it or
    if there are too many such leaves.
    """
    users: dict[int, set[Any]] = {}
    for target, card in enumerate(cards):
        for source in card.parents:
            if source >= 0 and not cards[source].parents:
                users.setdefault(source, set()).add(view.seen[target])
    out = [i for i, seen in users.items() if len(seen) > 1 or not isinstance(view.seen[i], Box)]
    hidden = {i for i in out if isinstance(view.seen[i], Box)} if len(out) > CROWD else set()
    drawn = set(out) - hidden
    leaving: dict[Box, dict[int, float]] = {}
    for target, card in enumerate(cards):
        b = view.seen[target]
        if card.kind == "loss" and card.grad is not None and isinstance(b, Box):
            leaving.setdefault(b, {})[target] = card.norm or 0.0
        for i, source in enumerate(card.parents):
            if source < 0:
                continue
            a: Any = view.seen[source]
            if source in drawn:
                place = (b.parent or view.top) if isinstance(b, Box) else view.own[b]
                a = (source, place)
                if a not in view.copies.setdefault(place, []):
                    view.copies[place].append(a)
            elif a is b and isinstance(a, Box):
                continue
            elif isinstance(a, Box) and cards[source].grad is not None:
                leaving.setdefault(a, {})[source] = cards[source].norm or 0.0
            flow, before = card.flow[i] if card.flow else None, view.arrows.get((a, b))
            known = [x for x in (flow, before) if x is not None]
            view.arrows[a, b] = math.hypot(*known) if known else None
    for box, norms in leaving.items():
        box.norm = math.hypot(*norms.values())


def groups_of(view: View) -> tuple[list[dict[str, Any]], list[int], list[int]]:
    """The boxes as plain data, the number of each card's box (-1: none), and which are open."""
    order = _inside(view.top)[1:]
    number = {view.top: -1} | {box: i for i, box in enumerate(order)}
    groups = [
        {
            "name": box.name,
            "parent": number[box.parent or view.top],
            "kind": box.kind,
            "count": box.count,
            "params": box.parameters,
            "norm": box.norm,
        }
        for box in order
    ]
    opened = [i for i, box in enumerate(order) if box.open]
    return groups, [number[box] for box in view.own], opened
