"""The backward pass: reverse-mode differentiation of a recorded graph.

The one trick: an argument is born before its result, so the order of birth is a topological order.
Collect the ancestors with an explicit stack, sort them by birth, and walk from the youngest to the
oldest, keeping gradients in a local dictionary. Nothing recurses, and nothing is written into the
graph, so a pass can be repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from numpy import ndarray

from .conversion import as_array
from .mode import MODE, mode
from .tensor import FREED, HEAVY, SCALARS, SMALL, Node, Spec, Tensor, constant, raw


class GraphFreedError(RuntimeError):
    """A second backward pass through values that the first one freed."""


def ancestors(roots: Iterable[Node], stop: Collection[Node] = ()) -> list[Node]:
    """The roots and all nodes that they were computed from, oldest first; not past `stop`."""
    found = list(roots)
    seen = set(found)
    for node in found:  # the list grows while it is walked
        if node in stop:
            continue
        for parent in (node.left, node.right, *node.others):
            if parent.__class__ is Node and parent not in seen:
                seen.add(parent)
                found.append(parent)
    found.sort(key=attrgetter("birth"))
    return found


def fit(g: Any, like: Any) -> Any:
    """Give a gradient the shape and dtype of what it belongs to.

    This is where broadcasting is undone: a broadcast axis repeated its entries, so their gradients
    sum.
    """
    shape = like.shape
    if g.shape != shape and g.shape[(extra := g.ndim - len(shape)) :] == shape:
        g = g.sum(axis=tuple(range(extra)))  # leading axes only, as of a bias over its batch
    if g.shape != shape:
        ones = [i for i, n in enumerate(shape, extra) if n == 1 and g.shape[i] != 1]
        axes = (*range(extra), *ones)
        if extra < 0 or any(g.shape[i] != n for i, n in enumerate(shape, extra) if i not in axes):
            raise ValueError(
                f"a gradient rule returned shape {g.shape} for an argument of shape {shape}"
            )
        g = np.sum(g, axis=axes).reshape(shape)
    if g.dtype != like.dtype:
        g = g.astype(like.dtype)
    return g if shape or g.__class__ is not ndarray else g[()]


def gradients(
    seeds: dict[Node, Any],
    targets: Iterable[Node] | None = None,
    create_graph: bool = False,
    retain_graph: bool = True,
) -> dict[Node, Any]:
    """The one loop: the vector-Jacobian product of a recorded graph, from some nodes' cotangents.

    Returns the gradient of every target (default: every leaf and every tensor with `retain_grad`)
    that the seeded nodes depend on (a target is a boundary: its own ancestors are not walked):
    arrays that nobody else holds, or, if `create_graph`, Tensors with a graph of their own. Without
    `retain_graph`, saved values are freed on the way.
    """
    wanted = set(targets) if targets is not None else None
    order = ancestors(seeds, wanted or ())
    observers, tracer = MODE.get().observers, MODE.get().tracer
    if tracer is not None and not create_graph and tracer.recognise(order, wanted or ()):
        order = ancestors(seeds, wanted or ())  # a formula became a fused operation
    if wanted is not None:  # walk only the nodes between the targets and the seeds
        useful = set(wanted)
        for node in order:
            if not useful.isdisjoint(node.parents):
                useful.add(node)
        order = [node for node in order if node in useful]
    for node in order:
        if node.state == FREED and (wanted is None or node not in wanted):
            raise GraphFreedError(
                f"this graph's saved values were freed by an earlier backward() (first at {node!r}"
                "): pass retain_graph=True to the earlier call, or compute the loss again"
            )
    grads = dict(seeds)
    results: dict[Node, Any] = {}
    owned: set[Node] = set()  # gradients in buffers that no one else can see: added to in place
    while order:
        node = order.pop()
        g = grads.pop(node, None)
        if g is None:
            continue
        if node.holder is not None if wanted is None else node in wanted:
            if not create_graph and node not in owned:
                g = g.copy()
            results[node] = g
            if wanted is not None:
                continue
        if not create_graph and (g.__class__ in SCALARS or g.size <= SMALL) and tracer is None:
            node.cotangent = g
        primitive = node.primitive
        if primitive is None:
            continue
        args: Any = node.args
        out, params = node.out, node.params
        if create_graph:
            args = [
                constant(value, parent if parent.__class__ is Node else None)
                if _is_value(value)
                else value
                for value, parent in zip(args, node.parents, strict=True)
            ]
            out = constant(out, node) if _is_value(out) else out
        for observer in observers:
            observer.before_rules(node, g)
        if primitive.joint is not None:
            needs = tuple(parent.__class__ is Node for parent in node.parents)
            pieces = primitive.joint(needs, g, out, *args, **params)
        else:
            pieces = None
        for i, parent in enumerate((node.left, node.right, *node.others)):
            if parent.__class__ is not Node or (wanted is not None and parent not in useful):
                continue
            if parent.primitive is None and parent.changed > node.birth:
                _refuse_changed(node, parent)
            if pieces is not None:
                piece = pieces[i]
            else:
                rule = primitive.rules[i]
                if rule is None:
                    continue
                piece = rule(g, out, *args, **params) if params else rule(g, out, *args)
            if piece is None:
                continue
            like, kind = parent.out, piece.__class__
            if kind is not like.__class__ or (
                kind not in SCALARS and (piece.shape != like.shape or piece.dtype is not like.dtype)
            ):
                piece = fit(piece, like)
            for observer in observers:
                observer.contribution(node, i, g, piece)
            total = grads.get(parent)
            if total is None:
                grads[parent] = piece
                if parent.primitive is None and _is_fresh(piece, (g, out, *args), pieces):
                    owned.add(parent)
            elif total.__class__ is ndarray and piece.__class__ is ndarray and parent in owned:
                total += piece
            else:
                grads[parent] = total + piece
                owned.add(parent)
        if not retain_graph:
            if node.state == HEAVY:
                node.free()
            node.state = FREED
    return results


def _refuse_changed(node: Node, leaf: Node) -> None:
    """A rule would read the values that a leaf has now, not those that it had then."""
    saves, parents = node.primitive.saves, node.parents
    words = saves or [range(len(parents))]
    if saves and not node.primitive.joint:
        words = [word for word, p in zip(saves, parents, strict=True) if p.__class__ is Node]
    if any(k >= 0 and parents[k] is leaf for word in words for k in word):
        raise RuntimeError(
            f"{leaf.label or 'a leaf'} of shape {leaf.shape} was changed in place after "
            f"{node.name} was recorded, so the gradient would be wrong: call backward() before "
            "the parameters change, or compute the loss again"
        )


def _is_value(value: Any) -> bool:
    return value.__class__ is not Spec and getattr(value, "dtype", None) is not None


def _is_fresh(piece: Any, given: Iterable[Any], pieces: Sequence[Any] | None) -> bool:
    """Whether a rule made this array itself, for this argument only."""
    if piece.__class__ is not ndarray:
        return True
    shared = pieces is not None and sum(other is piece for other in pieces) > 1
    return piece.base is None and not shared and id(piece) not in map(id, given)


def backward(
    self: Tensor, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False
) -> None:
    """Add the gradient of this tensor to the `.grad` of every leaf that it was computed from.

    Parameters
    ----------
    gradient : the cotangent, of this tensor's shape; 1 for a tensor of one entry.
    retain_graph : keep the saved values for another pass.
    create_graph : record the pass, so that `.grad` can be differentiated again.

    Raises
    ------
    RuntimeError : this tensor is a constant.
    ValueError : no cotangent for a tensor of several entries, or one of another shape.
    GraphFreedError : an earlier pass freed the saved values.

    >>> import tinygrad_lite as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> (x * x).backward()
    >>> x.grad
    tensor(6., dtype=float64)
    """
    if self._node is None:
        raise RuntimeError(
            "backward: this tensor depends on nothing that requires a gradient "
            "(it is a constant, or came from detach(), no_grad(), or functions without a slope "
            "such as floor and argmax)"
        )
    seed, tracer = cotangent_for(self, gradient, create_graph), MODE.get().tracer
    with mode(record=create_graph):
        results = gradients({self._node: seed}, None, create_graph, retain_graph or create_graph)
        for node, g in results.items():
            holder = node.holder() if node.holder is not None else None
            if holder is not None:
                g = g if isinstance(g, Tensor) else constant(g)
                first = tracer is not None and tracer.adds_gradient(holder)
                holder.grad = g if first or holder._grad is None else holder._grad + g


def cotangent_for(t: Tensor, gradient: Any, create_graph: bool = False) -> Any:
    """The seed of a backward pass through `t`: what the caller gave, checked, or 1."""
    if gradient is None:
        if t.size != 1:
            raise ValueError(
                f"backward from a tensor of shape {t.shape} needs its cotangent: y.backward(g) "
                "with g of that shape, or reduce y to one number first, as y.sum() or y.mean()"
            )
        gradient = np.ones_like(t._data) if t.ndim else t.dtype.type(1)
    elif np.shape(raw(gradient)) != t.shape:
        raise ValueError(
            f"the cotangent of a {t.shape} tensor cannot have shape {np.shape(raw(gradient))}"
        )
    if create_graph and isinstance(gradient, Tensor):
        return gradient if gradient.dtype == t.dtype else gradient.astype(t.dtype)
    array = as_array(raw(gradient), dtype=t.dtype)
    array = array if array.ndim else array[()]
    return constant(array) if create_graph else array


Tensor.backward = backward
