"""A recorded graph as DOT text: one card per tensor, one arrow per use, one box per scope.

Names and values come from the user and may hold anything; node ids are ours, and every label goes
through `clean`, so that nothing in a name can become DOT syntax.
"""

from __future__ import annotations

from typing import Any

import graphviz

from ..backward import ancestors
from ..explain import rms, show
from ..mode import Scope
from ..tensor import Node, Tensor

STYLES = {  # kind: shape, style, fill, outline; kinds differ in form and in colour
    "parameter": ("box", "filled,diagonals", "#dafbe1", "#1a7f37"),
    "constant": ("note", "filled", "#ddf4ff", "#0969da"),
    "operation": ("box", "filled,rounded", "#ffffff", "#57606a"),
    "result": ("box", "filled,bold", "#fff8c5", "#9a6700"),
}


def diagram(losses: list[Tensor], limit: int) -> graphviz.Digraph:
    roots = [loss._node for loss in losses if loss._node is not None]
    if len(roots) < len(losses) or not roots:
        raise ValueError("draw: this tensor is a constant: no operation was recorded for it")
    nodes = ancestors(roots)
    if len(nodes) > limit:
        raise ValueError(
            f"draw: the graph has {len(nodes)} nodes, more than limit={limit}: draw a part of it "
            f"(a smaller batch, fewer steps), or pass a higher limit and be patient"
        )
    picture = graphviz.Digraph("backward", comment="drawn by tinygrad_lite")
    picture.attr("graph", rankdir="LR", bgcolor="white", nodesep="0.25", ranksep="0.45")
    picture.attr("node", fontname="Helvetica", fontsize="11", margin="0.14,0.07")
    picture.attr("edge", color="#57606a", arrowsize="0.7")
    ids = {node: f"n{i}" for i, node in enumerate(nodes)}
    boxes: dict[Scope | None, graphviz.Digraph] = {None: picture}
    scopes = _scopes(nodes)
    for node in nodes:
        box = _box(boxes, scopes[node])
        kind = "parameter" if node.primitive is None else "result" if node in roots else "operation"
        _card(box, ids[node], kind, _lines(node))
        for i, parent in enumerate(node.parents):
            if isinstance(parent, Node):
                picture.edge(ids[parent], ids[node])
                continue
            value, name = node.args[i], None
            if isinstance(parent, Tensor):
                value, name = parent._data, parent.name
            if value is not None:
                constant = f"{ids[node]}c{i}"
                _card(box, constant, "constant", [name, _shape(value), _value(value)])
                picture.edge(constant, ids[node], style="dotted")
    for scope in reversed(list(boxes)):  # the inner ones first: a box is copied into the outer one
        if scope is not None:
            boxes[scope.parent].subgraph(boxes[scope])
    return picture


def _scopes(nodes: list[Node]) -> dict[Node, Scope | None]:
    """Where each card stands: a leaf in the innermost scope that holds all of its users."""
    scopes = {node: node.scope for node in nodes}
    around: dict[Node, list[Scope]] = {}
    for node in nodes:
        path = node.scope.path() if node.scope is not None else []
        for parent in node.parents:
            if isinstance(parent, Node) and parent.primitive is None:
                common = around.setdefault(parent, path)
                same = [a for a, b in zip(common, path, strict=False) if a is b]
                around[parent] = same
    return scopes | {leaf: path[-1] if path else None for leaf, path in around.items()}


def _box(boxes: dict[Scope | None, graphviz.Digraph], scope: Scope | None) -> graphviz.Digraph:
    for outer in scope.path() if scope is not None else []:
        if outer not in boxes:
            boxes[outer] = box = graphviz.Digraph(f"cluster{len(boxes)}")
            label = graphviz.nohtml(clean(outer.name).replace("\\", "\\\\"))
            box.attr("graph", label=label, labeljust="l", fontname="Helvetica", fontsize="11")
            box.attr("graph", style="dashed,rounded", color="#8c959f", fontcolor="#57606a")
    return boxes[scope]


def _card(picture: graphviz.Digraph, identity: str, kind: str, lines: list[str | None]) -> None:
    shape, style, fill, outline = STYLES[kind]
    # in DOT a backslash escapes; the wrapper escapes the quotes
    label = "\\n".join(clean(line).replace("\\", "\\\\") for line in lines if line)
    picture.node(
        identity, graphviz.nohtml(label), shape=shape, style=style, fillcolor=fill, color=outline
    )


def _lines(node: Node) -> list[str | None]:
    """What a card says: name, operation with its parameters, shape, value, gradient."""
    given = [f"{k}={v!r}" for k, v in node.params.items() if v is not None and v is not False]
    params = ", ".join(given)
    op = f"{node.name}({params})" if 0 < len(params) < 40 else node.name
    g: Any = node.cotangent
    if node.primitive is None:
        holder = node.holder() if node.holder is not None else None
        if holder is not None:
            g = None if holder._grad is None else holder._grad._data
    gradient = None if g is None else f"∇ {_value(g) or f'rms {rms(g):.4g}'}"
    return [node.label, op if node.primitive else None, _shape(node), _value(node.out), gradient]


def _shape(value: Any) -> str | None:
    shape = value.shape if hasattr(value, "shape") else ()
    return str(shape) if shape else None


def _value(value: Any) -> str | None:
    return show(value) if getattr(value, "size", 1) <= 3 else None


def clean(text: str, longest: int = 60) -> str:
    """Text without control characters and lone surrogates, cut to a readable length."""
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return text if len(text) <= longest else text[: longest - 1] + "…"
