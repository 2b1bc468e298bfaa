"""Gradients checked from outside: nudge one entry of a leaf, and run the forward pass again.

The one trick: a recorded graph can be run again by itself, in float64 whatever it was recorded in,
from the values of its leaves and constants. Where one of them is gone, nothing is claimed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..tensor import SMALL, Node, Spec, Tensor
from .description import Card

WORK = 10_000_000  # about how many entries all runs together may compute: part of a second
FEW = 8  # of a large array only the entries with the largest gradients are nudged


def central_differences(cards: list[Card]) -> dict[int, dict[str, list[Any]]]:
    """For the leaves, by number: entries, their gradients, and (L(x + h) - L(x - h)) / 2h.

    In float64, with h = 1e-5 max(1, |x|). Empty where that would take long, and where running the
    graph again does not give the recorded loss.
    """
    nodes = [card.node for card in cards if card.node is not None]
    leaves = {i: c for i, c in enumerate(cards) if c.kind == "parameter" and c.grad is not None}
    sizes = {i: math.prod(card.shape) for i, card in leaves.items()}
    nudges = {i: n if n <= SMALL else FEW for i, n in sizes.items()}
    work = sum(100 + math.prod(node.shape) for node in nodes)
    if 2 * work * sum(nudges.values()) > WORK:
        return {}
    values = {node: _value(node) for node in nodes if node.primitive is None}
    loss = _run(nodes, values)
    if loss is None or not np.allclose(loss, np.asarray(cards[-1].value, float), rtol=1e-3):
        return {}
    found = {}
    for i, card in leaves.items():
        assert card.node is not None
        before, gradient = values[card.node], np.ravel(card.grad)
        places = np.sort(np.argsort(-np.abs(gradient), kind="stable")[: nudges[i]])
        differences = []
        for k in places:
            h = 1e-5 * max(1.0, abs(before.flat[k]))
            ends = []
            for step in (h, -h):
                values[card.node] = before.copy()
                values[card.node].flat[k] += step
                ends.append(float(np.sum(_run(nodes, values))))
            differences.append((ends[0] - ends[1]) / (2 * h))
        values[card.node] = before
        entries = (
            np.transpose(np.unravel_index(places, card.shape)).tolist() if card.shape else [[]]
        )
        found[i] = {"at": entries, "grad": gradient[places].tolist(), "difference": differences}
    return found


def _value(leaf: Node) -> Any:
    """The values of a leaf in float64; None if they are gone."""
    holder = leaf.holder() if leaf.holder is not None else None
    value = holder._data if holder is not None else leaf.out
    return None if isinstance(value, Spec) else np.array(value, float)


def _run(nodes: list[Node], leaves: dict[Node, Any]) -> Any:
    """The result of the last node; None if something it needs is gone, or is not in float64."""
    values = dict(leaves)
    if any(value is None for value in values.values()):
        return None
    for node in nodes:
        if node.primitive is None:
            continue
        args = list(node.args)
        for i, parent in enumerate(node.parents):
            if isinstance(parent, Node):
                args[i] = values[parent]
            elif isinstance(parent, Tensor):
                args[i] = parent._data
        if any(isinstance(value, Spec) for value in args):
            return None
        with np.errstate(all="ignore"):
            values[node] = node.primitive.forward(*args, **node.params)
        if values[node].dtype != float:
            return None
    return values[nodes[-1]]
