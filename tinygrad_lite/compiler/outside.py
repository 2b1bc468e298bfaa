"""What a recording takes for granted of the world outside: what names refer to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from .symbol import NUMPY, PACKAGE


class Identity:
    """Equal only to the same object; it keeps that alive, so that its place is not taken."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.item is other.item


def names_of(f: Any) -> list[Callable[[], Identity]]:
    """What the names in a function, and in functions that it calls, refer to at the moment."""
    found: list[Callable[[], Identity]] = []
    todo, seen = [f], set()
    while todo:
        g = todo.pop()
        todo += [g.func, *g.args] if isinstance(g, functools.partial) else []
        g = getattr(g, "__func__", g)
        if not isinstance(g, FunctionType) or g in seen:
            continue
        seen.add(g)
        reads = [functools.partial(getattr, c, "cell_contents", None) for c in g.__closure__ or ()]
        if not g.__code__.co_filename.startswith((PACKAGE, NUMPY)):
            codes = [g.__code__, *(c for c in g.__code__.co_consts if isinstance(c, CodeType))]
            names = {name for code in codes for name in code.co_names if name in g.__globals__}
            reads += [functools.partial(g.__globals__.get, name) for name in sorted(names)]
        todo += [read() for read in reads]
        found += [functools.partial(_identity, read) for read in reads]
    return found


def _identity(read: Callable[[], Any]) -> Identity:
    return Identity(read())
