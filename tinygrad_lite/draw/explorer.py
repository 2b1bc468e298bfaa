"""The explorable page: one HTML file that shows a recorded graph and lets a reader step through it.

The files in `page/` are joined as they are; there is no build step. The one trick against hostile
names: they are there only as JSON whose `<` is escaped, and the script turns text into text nodes,
never into markup. The policy in the page forbids every request, and all code but its own.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from pathlib import Path
from typing import Any

from . import draw
from .description import description

PAGE = Path(__file__).parent / "page"
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
    data = description(loss, title=title)
    page = Page(render(data, _picture(loss) if len(data["nodes"]) < 2000 else ""), data["title"])
    if path is not None:
        page.save(path)
    return page


def render(data: dict[str, Any], picture: str = "") -> str:
    """The page for a description; `picture` is SVG for readers without JavaScript."""
    sources = {path.name: path.read_text("utf-8") for path in PAGE.glob("*.*")}
    library = ["/*", sources["dagre.LICENSE"], "*/", sources["dagre.min.js"]]
    own = [_dense(sources[f"{name}.js"]) for name in SCRIPTS.split()]
    script = "\n".join(["(() => {", *library, *own, "})();"])
    style = re.sub(r"(?<=[{};:,]) | (?={)", "", _dense(sources["style.css"]))
    parts = {
        "title": _text(str(data["title"])),
        "style": style,
        "script": script,
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "picture": picture,
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    }
    pieces = sources["page.html"].replace("}", "{").split("{")  # text, placeholder, text, ...
    pieces[1::2] = [parts[name] for name in pieces[1::2]]
    return "".join(pieces)


def _picture(loss: Any) -> str:
    """The diagram for readers without JavaScript, where Graphviz is installed."""
    try:
        return draw(loss, direction="TB").svg()
    except RuntimeError:
        return ""


def _dense(text: str) -> str:
    """Without comments (`// ` or `/* */` to the end of a line), indentation, and empty lines."""
    return re.sub(r"(?m)(^|[ \t]+)(// .*|/\* .*\*/)$|^\s+", "", text).replace("\n\n", "\n")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(name: str, longest: int = 160) -> str:
    """A name as HTML text: nothing that cannot be printed, and not too long."""
    return html.escape("".join(c if c.isprintable() else "�" for c in name[:longest]))
