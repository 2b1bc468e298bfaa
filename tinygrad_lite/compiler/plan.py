"""The plan of a recording: a table of its lines, and the same as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..draw.diagram import Diagram


@dataclass
class Line:
    """One line of the source: what is computed, where it lives, when it is read for the last time.

    `buffer` is "argument", "outside" (read anew at each call), "constant", "new", "in place" (over
    an operand that nobody reads again), "view of x", or the name of storage that is kept between
    calls. `reads` and `last_use` are numbers of lines; `last_use` is None for what is handed out,
    and where nothing reads it.
    """

    name: str
    text: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    buffer: str
    part: str = ""  # of the program: a module, or "backward of ..."
    reads: tuple[int, ...] = ()
    last_use: int | None = None


class Plan(list[Line]):
    """The lines of a recording; the arguments come first, with no text. It prints as a table."""

    def __repr__(self) -> str:
        head = ("", "line", "shape", "dtype", "bytes", "buffer", "last use")
        rows = [
            (str(k), line.text or line.name, "×".join(map(str, line.shape)) or "number", line.dtype,
             f"{line.bytes:,}", line.buffer, "" if line.last_use is None else str(line.last_use))
            for k, line in enumerate(self)
        ]  # fmt: skip
        cut = [[c if len(c) <= 60 else f"{c[:59]}…" for c in row] for row in [head, *rows]]
        widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
        right = (0, 4, 6)  # columns of numbers
        cells = [
            [c.rjust(w) if k in right else c.ljust(w) for k, (c, w) in enumerate(pairs)]
            for pairs in (zip(row, widths, strict=True) for row in cut)
        ]
        return "\n".join("  ".join(row).rstrip() for row in cells)

    def draw(self, *, direction: str = "TB", budget: int = 60, theme: str = "light") -> Diagram:
        """The plan as a `Diagram`: a card per line, in boxes by module; options as in `tg.draw`."""
        from ..draw.description import Card
        from ..draw.diagram import of_view
        from ..draw.folding import fold
        from ..mode import Scope
        from ..tensor import Spec

        scopes: dict[str, Any] = {"": None}
        cards = []
        for line in self:
            scope, path = None, ""
            for name in line.part.split(" / ") if line.part else []:
                path = f"{path} / {name}"
                scope = scopes.setdefault(path, Scope(name, scope))
            done = line.last_use is None
            kind = "input" if not line.text else "loss" if done else "operation"
            if line.buffer == "outside" and line.shape:
                kind = "parameter"
            where = line.buffer if line.text and line.buffer != "new" else ""
            value = Spec(line.shape, line.dtype)
            card = Card(kind, line.text or line.name, where, "", value, scope)
            card.parents = list(line.reads)
            cards.append(card)
        return of_view(fold(cards, budget, None, False), cards, direction, "a plan", theme)
