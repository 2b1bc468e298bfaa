"""Copying and pickling tensors together with their graphs.

The trick is to flatten: a graph becomes one list of rows in order of birth, each naming its
arguments by their place in the list. So nothing recurses, and a chain of a million operations is
copied like any other. Leaves stay Tensors of their own in that list, so a copy of `(w, loss)` sends
its gradients to the copied w.
"""

from __future__ import annotations

import copy
import weakref
from typing import Any

import numpy as np

from .backward import ancestors
from .tensor import Node, Tensor, leaf_node

# primitive, parents (row numbers, or a named constant), args, params, out, label, scope, state
Row = tuple[Any, ...]


def rows(node: Node) -> list[Row]:
    """The graph of `node`, oldest first; a live leaf is its Tensor, in place of a primitive."""
    order = ancestors([node])
    place = {n: i for i, n in enumerate(order)}
    out = []
    for n in order:
        holder = n.holder() if n.holder is not None and n.primitive is None else None
        parents = tuple([place.get(parent, parent) for parent in n.parents])
        out.append(
            (
                n.primitive if holder is None else holder,
                parents,
                n.args,
                n.params,
                n.out,
                n.label,
                n.scope,
                n.state,
            )
        )
    return out


def graph(table: list[Row]) -> Node:
    """The youngest node of the graph that `rows` flattened."""
    nodes: list[Node] = []
    for source, parents, args, params, out, label, scope, state in table:
        if isinstance(source, Tensor):
            nodes.append(_leaf(source, out))
            continue
        linked = tuple([nodes[i] if type(i) is int else i for i in parents])
        left, right = (*linked, None, None)[:2]
        node = Node(source, left, right, linked[2:], args, params, out)
        node.label, node.scope, node.state, node.changed = label, scope, state, 0
        nodes.append(node)
    return nodes[-1]


def _leaf(t: Tensor, data: Any) -> Node:
    if t._node is None:
        t._node = leaf_node(data)
        t._node.holder = weakref.ref(t)
    return t._node


def _blank(kind: type[Tensor]) -> Tensor:
    t = kind.__new__(kind)
    t._data = t._node = t._grad = t._name = None
    return t


def _reduce(self: Tensor) -> Any:
    table = rows(self._node) if self._node is not None and not self.is_leaf else None
    state = (
        self.data,
        self.requires_grad,
        table,
        self._name,
        self._grad,
        getattr(self, "__dict__", None),
    )
    return _blank, (type(self),), state


def _setstate(self: Tensor, state: Any) -> None:
    self._data, requires_grad, table, name, self._grad, attributes = state
    if table is not None:
        self._node = graph(table)
    elif requires_grad:
        _leaf(self, self._data).out = self._data
    self.name = name
    if attributes:
        self.__dict__.update(attributes)


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    new = _blank(type(self))
    memo[id(self)] = new
    data, requires_grad, table, name, grad, attributes = _reduce(self)[2]

    def twin(value: Any) -> Any:
        copied = isinstance(value, (np.ndarray, Tensor)) or hasattr(value, "traced")
        return copy.deepcopy(value, memo) if copied else value

    if table is not None:
        table = [
            (twin(source), tuple([twin(i) for i in parents]), tuple([twin(a) for a in args]),
             params, twin(out), label, scope, state)
            for source, parents, args, params, out, label, scope, state in table
        ]  # fmt: skip
    _setstate(
        new, (twin(data), requires_grad, table, name, twin(grad), copy.deepcopy(attributes, memo))
    )
    return new


Tensor.__reduce__ = _reduce  # type: ignore[method-assign,assignment]
Tensor.__setstate__ = _setstate  # type: ignore[attr-defined]
Tensor.__deepcopy__ = _deepcopy  # type: ignore[attr-defined]
