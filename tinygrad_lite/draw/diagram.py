"""The diagram: a folded graph as DOT text, and from it SVG, PNG, PDF, HTML, or Mermaid.

Names come from the user and may hold anything: ids are ours, and every label goes through `quoted`,
so that nothing in a name becomes DOT syntax. The one trick: DOT's labels know no bold and no colour
but HTML, which names could break out of; so these two are set in the finished SVG.
"""

from __future__ import annotations

import html
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

from ..tensor import Tensor
from .description import SYMBOLS, Card, cards_of, gradient_line, number, value_line
from .folding import Box, View, fold, side_by_side

KINDS = {  # shape, style, fill, outline: kinds differ in form and in colour
    "parameter": ("box", "filled,diagonals", "#dafbe1", "#1a7f37"),
    "input": ("note", "filled", "#ddf4ff", "#0969da"),
    "operation": ("box", "filled,rounded", "#ffffff", "#57606a"),
    "loss": ("box", "filled,bold", "#fff8c5", "#9a6700"),
    "folded": ("folder", "filled", "#f6f8fa", "#57606a"),
}
ORANGE = "#bc4c00"
DARK = {  # a dark picture is the light one with these colours in the place of its own
    "#dafbe1": "#0f3d22", "#1a7f37": "#3fb950", "#ddf4ff": "#0d2f57", "#0969da": "#58a6ff",
    "#fff8c5": "#4a3a08", "#9a6700": "#e3b341", "#ffffff": "#161b22", "#f6f8fa": "#262c36",
    "#57606a": "#9ea7b3", "#8c959f": "#6e7681", ORANGE: "#ff9b50",
}  # fmt: skip
HELP = (
    "a picture needs Graphviz: `apt install graphviz` or `brew install graphviz`, or "
    "`pip install pygraphviz`, which brings it along"
)
FORMATS = ("svg", "png", "pdf")


class Diagram:
    """A drawn graph: `.source` is DOT text, `.svg()` a picture, `.save(path)` writes a file.

    Jupyter shows it as a picture, or as text where Graphviz is missing.
    """

    def __init__(self, source: str, mermaid: str, title: str, theme: str) -> None:
        self.source = source if theme == "light" else darkened(source)
        self.mermaid = mermaid
        self.title = title
        self.theme = theme

    def render(self, kind: str) -> bytes:
        """The picture as "svg", "png" or "pdf"; RuntimeError says what to install."""
        if shutil.which("dot"):
            import graphviz

            return bytes(graphviz.Source(self.source).pipe(format=kind))
        try:
            import pygraphviz
        except ImportError:
            raise RuntimeError(HELP) from None
        graph = pygraphviz.AGraph(string=self.source)
        graph.layout("dot")
        return bytes(graph.draw(format=kind))

    def svg(self) -> str:
        """The picture as SVG text, with bold names and orange gradients."""
        text = self.render("svg").decode()
        orange = ORANGE if self.theme == "light" else DARK[ORANGE]
        return emphasised(text[text.index("<svg") :], orange)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write .svg, .png or .pdf (which need Graphviz), .html, .dot or .mmd (Mermaid)."""
        path = Path(path)
        kind = path.suffix[1:]
        if kind not in (*FORMATS, "html", "dot", "mmd"):
            raise ValueError(f"{path}: expected the suffix .svg, .png, .pdf, .html, .dot or .mmd")
        if kind == "svg":
            content = self.svg().encode()
        elif kind in FORMATS:
            content = self.render(kind)
        elif kind == "html":
            title = html.escape(clean(self.title))
            head = f'<!doctype html><meta charset="utf-8"><title>{title}</title>'
            head += f'<meta name="color-scheme" content="{self.theme}">'
            content = f"{head}\n{self.svg()}".encode()
        else:
            content = (self.source if kind == "dot" else self.mermaid).encode()
        path.write_bytes(content)
        return path

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/plain": repr(self)}
        try:
            bundle["image/svg+xml"] = self.svg()
        except Exception as error:  # a notebook shows what there is
            bundle["text/plain"] += f"\n({error})"
        return bundle

    def __repr__(self) -> str:
        arrows = self.source.count(" -> ")
        return f"<Diagram of {self.title}: {arrows} arrows; .svg(), .save(path), .source>"


def diagram(
    losses: list[Tensor],
    compare: bool,
    direction: str,
    depth: int | None,
    budget: int,
    expand_fused: bool,
    theme: str,
) -> Diagram:
    graphs = [[loss] for loss in losses] if compare else [losses]
    parts = [cards_of(graph, expand_fused=expand_fused)[0] for graph in graphs]
    names = [loss.name or loss._node.name for loss in losses if loss._node]
    cards = side_by_side(parts, names) if compare else parts[0]
    view = fold(cards, budget, depth, compare)
    if compare and direction in ("TB", "BT"):  # there `dot` sets the last box leftmost
        view.top.items.reverse()
    return of_view(view, cards, direction, ", ".join(names), theme)


def of_view(
    view: View, cards: list[Card], direction: str, title: str, theme: str = "light"
) -> Diagram:
    ids: dict[Any, str] = {}
    source = _dot(view, cards, direction, ids)
    return Diagram(source, _mermaid(view, cards, direction, ids), title, theme)


def _dot(view: View, cards: list[Card], direction: str, ids: dict[Any, str]) -> str:
    most = max((flow for flow in view.arrows.values() if flow), default=0.0)
    lines = [
        "digraph backward {",
        f"\tgraph [rankdir={direction} bgcolor=white nodesep=0.25 ranksep=0.45]",
        '\tnode [fontname=Helvetica fontsize=11 margin="0.2,0.07"]',
        '\tedge [color="#57606a" arrowsize=0.7]',
    ]
    boxes = 0
    todo: list[Any] = [view.top]
    while todo:  # boxes to open; a text closes one
        box = todo.pop()
        if isinstance(box, str):
            lines.append(box)
            continue
        if box is not view.top:
            boxes += 1
            lines.append(f"\tsubgraph cluster{boxes} {{")
            lines.append(
                f'\tgraph [label={quoted(box.name)} labeljust=l style="dashed,rounded" '
                'color="#8c959f" fontcolor="#57606a" fontname=Helvetica fontsize=11]'
            )
            todo.append("\t}")
        seen = [*view.copies.get(box, [])]
        for item in box.items:
            if isinstance(item, Box) and item.open:
                todo.append(item)
            elif isinstance(item, Box) or cards[item].parents:  # leaves stand where they are used
                seen.append(item)
        for item in seen:
            ids[item] = f"n{len(ids)}"
            lines.append(_card(ids[item], item, cards))
    for (a, b), flow in view.arrows.items():
        style = ""
        if flow:
            width = 2.6 + 0.55 * math.log10(flow / most)
            style = f' [penwidth={max(width, 0.6):.2f} color="{ORANGE}"]'
        elif most:
            style = " [style=dotted]"
        lines.append(f"\t{ids[a]} -> {ids[b]}{style}")
    return "\n".join([*lines, "}", ""])


def _of(item: Any, cards: list[Card]) -> Card | None:
    """The card that a number, or a copy of a leaf, stands for; None for a folded box."""
    return None if isinstance(item, Box) else cards[item if isinstance(item, int) else item[0]]


def _card(identity: str, item: Any, cards: list[Card]) -> str:
    card = _of(item, cards)
    shape, style, fill, outline = KINDS[card.kind if card else "folded"]
    twice = " peripheries=2" if card and card.fused else ""
    return (
        f"\t{identity} [label={quoted(chr(10).join(_lines(item, cards)))} shape={shape} "
        f'style="{style}" fillcolor="{fill}" color="{outline}"{twice}]'
    )


def _lines(item: Any, cards: list[Card]) -> list[str]:
    """What a card says: name, operation, shape, value, gradient."""
    card = _of(item, cards)
    if card is None:
        counts = [f"{item.count} nodes" if item.count else ""]
        counts += [f"{item.parameters} params" if item.parameters else ""]
        norm = f"‖∇‖ {number(item.norm)}" if item.norm is not None else ""
        return [line for line in (item.name, ", ".join(filter(None, counts)), norm) if line]
    symbol = SYMBOLS.get(card.op, card.op)
    op = "" if card.op in ("leaf", "") else f"{symbol}({card.params})" if card.params else symbol
    kept = " ▪" if card.saved else ""
    unnamed = "constant" if card.kind == "input" and card.shape else ""
    name = unnamed if card.name is None else card.name
    lines = [name, op + kept if op else "", "×".join(map(str, card.shape))]
    lines += [value_line(card.value) or "", gradient_line(card) or ""]
    return [clean(line) for line in lines if line] or ["·"]


def clean(text: str, longest: int = 60) -> str:
    """Text without control characters and lone surrogates, cut to a readable length."""
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def quoted(text: str) -> str:
    """A DOT string that shows this text and nothing else: its lines are labels' lines."""
    lines = [clean(line) for line in text.split("\n")]
    lines = [line.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") for line in lines]
    return '"' + "\\n".join(lines) + '"'


def darkened(source: str) -> str:
    """The same for a dark page. A label cannot hold `color="`: its quotes are escaped."""
    source = re.sub(r'(?<=color=")#\w+', lambda colour: DARK[colour[0]], source)
    source = source.replace("bgcolor=white", 'bgcolor="#0d1117"', 1)
    return source.replace("\tnode [", '\tnode [fontcolor="#f0f6fc" ', 1)


def emphasised(svg: str, orange: str) -> str:
    """Names in bold (a card's first line), gradients (a line that begins with ∇) in orange."""

    def node(match: re.Match[str]) -> str:
        card = match[0].replace("<text ", '<text font-weight="bold" ', 1)
        line = r'<text ([^>]*?)(?: fill="[^"]*")?>(?=∇|‖∇‖|no gradient)'
        return re.sub(line, rf'<text fill="{orange}" \1>', card)

    return re.sub(r'<g id="node\d+" class="node">.*?</g>', node, svg, flags=re.DOTALL)


def _mermaid(view: View, cards: list[Card], direction: str, ids: dict[Any, str]) -> str:
    """The same as Mermaid text, which many sites draw from a README."""
    shapes = {"parameter": ("[[", "]]"), "input": ("[/", "/]"), "loss": ("([", "])")}
    lines = [f"flowchart {direction}"]
    for item, identity in ids.items():
        card = _of(item, cards)
        left, right = shapes.get(card.kind if card else "", ("[", "]"))
        text = "<br>".join(
            "".join(c if c.isalnum() or c in " .,×−" else f"#{ord(c)};" for c in line)
            for line in _lines(item, cards)
        )
        lines.append(f'  {identity}{left}"{text}"{right}')
    lines += [f"  {ids[a]} --> {ids[b]}" for a, b in view.arrows]
    return "\n".join([*lines, ""])
