"""The explorable page: one HTML file that shows a recorded graph and lets a reader step through it.

The files in `page/` are joined as they are; there is no build step. The one trick against hostile
names: they are there only as JSON whose `<` is escaped, and the script turns text into text nodes,
never into markup. The policy in the page forbids every request, and all code but its own.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import html
import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

from .description import Card, cards_of
from .diagram import of_view
from .folding import View, fold
from .page_data import page_data

PAGE = Path(__file__).parent / "page"
PACKED = 400_000  # a longer text is compressed
SCRIPTS = "model ops math layout graph panel live strip transport"  # in this order


class Page:
    """An explorable page: `.html` is its text, `.save(path)` writes it, and Jupyter shows it."""

    def __init__(self, text: str, title: str) -> None:
        self.html = text
        self.title = title

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write beside its place, then move it there: no half a page is ever seen."""
        path = Path(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_text(self.html, "utf-8", newline="\n")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        return path

    def _repr_html_(self) -> str:
        """A frame that may run the page's own script and nothing else."""
        return (
            f'<iframe sandbox="allow-scripts" width="100%" height="720" style="border:0" '
            f'title="{_text(self.title)}" srcdoc="{html.escape(self.html)}"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Page({_text(self.title)!r}, {len(self.html):,} characters)"


def explore(loss: Any, path: Any = None, *, title: str | None = None) -> Page:
    """A page that steps through the forward and the backward pass of a recorded `loss`.

    One self-contained file: no network, no server. It opens with the finished picture; the arrow
    keys step, `/` finds. Graphs of numbers only recompute while a leaf is dragged.

    Parameters
    ----------
    loss : a recorded Tensor.
    path : the file to write (replaced at once or not at all), if any. title : by default the name.

    >>> import tinygrad_lite as tg
    >>> page = tg.explore(tg.tensor(3.0, requires_grad=True) ** 2)
    >>> page.html.startswith("<!doctype html>")
    True
    """
    collecting = gc.isenabled()
    gc.disable()  # all that is made here stays: walking it would take a third of the time
    try:
        cards, visits = cards_of([loss], run=True)
        view = fold(cards)
        title = title or cards[-1].name or cards[-1].op
        page = Page(render(page_data(cards, visits, view, title), _picture(cards, view)), title)
    finally:
        if collecting:
            gc.enable()
    if path is not None:
        page.save(path)
    return page


def render(data: dict[str, Any], picture: str = "") -> str:
    """The page for a description; `picture` is SVG for readers without JavaScript."""
    sources = {path.name: path.read_text("utf-8") for path in PAGE.glob("*.*")}
    library = ["/*", sources["dagre.LICENSE"], "*/", sources["dagre.min.js"]]
    own = [_dense(sources[f"{name}.js"]) for name in SCRIPTS.split()]
    script = "\n".join(["(async () => {", *library, *own, "})();"])
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    small = len(text) < PACKED
    style = re.sub(r"(?<=[{};:,]) | (?={)", "", _dense(sources["style.css"]))
    parts = {
        "title": _text(str(data["title"])),
        "style": style,
        "script": script,
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "picture": picture,
        "type": "application/json" if small else "application/zlib;base64",
        "data": text.replace("<", "\\u003c") if small else _packed(text),
    }
    pieces = sources["page.html"].replace("}", "{").split("{")  # text, placeholder, text, ...
    pieces[1::2] = [parts[name] for name in pieces[1::2]]
    return "".join(pieces)


def _picture(cards: list[Card], view: View) -> str:
    """The diagram for readers without JavaScript, where Graphviz is installed."""
    try:
        return of_view(view, cards, "TB", "").svg()
    except RuntimeError:
        return ""


def _packed(text: str) -> str:
    """A long text in a quarter of its length."""
    return base64.b64encode(zlib.compress(text.encode(), 5)).decode()


def _dense(text: str) -> str:
    """Without comments (`// ` or `/* */` to the end of a line), indentation, and empty lines.

    And without spaces around those operators that no text of ours has in it.
    """
    text = re.sub(r"(?m)(^|[ \t]+)(// .*|/\* .*\*/)$|^\s+", "", text).replace("\n\n", "\n")
    return re.sub(r" (=>|&&|\|\||[!=]==|\?\?|[<>]=) ", r"\1", text)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(name: str, longest: int = 160) -> str:
    """A name as HTML text: nothing that cannot be printed, and not too long."""
    return html.escape("".join(c if c.isprintable() else "�" for c in name[:longest]))
