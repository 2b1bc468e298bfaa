"""The source of kernels that a recording calls whole, with all that they use of this package.

A convolution writes into arrays in loops; as single steps nobody could read it. So its function is
copied into the generated module, and what that refers to, until nothing is missing.
"""

from __future__ import annotations

import builtins
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from ..primitives import Primitive

ROOT = __name__.split(".")[0]


def helper_sources(functions: list[Any]) -> list[str]:
    """Lines of imports and definitions, callees before callers as far as there is such an order."""
    imports, constants, texts = {"import math"}, dict[str, str](), dict[str, str]()
    todo, seen = [inspect.unwrap(f) for f in functions], set[Any]()
    while todo:
        item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        texts[item.__name__] = _text(item)
        world = vars(sys.modules[item.__module__])
        for name in sorted(_names(item)):
            value = inspect.unwrap(world[name]) if callable(world.get(name)) else world.get(name)
            if name not in world or hasattr(builtins, name) or value is np:
                continue
            if isinstance(value, ModuleType):
                imports.add(f"import {value.__name__}")
            elif isinstance(value, Primitive):
                todo.append(function := inspect.unwrap(value.function))
                if function.__name__ != name:
                    call = f"{function.__name__}(*args, **params)"
                    constants[name] = f"def {name}(*args, **params):\n    return {call}\n"
            elif getattr(value, "__module__", "").split(".")[0] == ROOT:
                todo.append(value)
            elif hasattr(value, "__module__") and hasattr(value, "__qualname__"):
                imports.add(f"from {value.__module__} import {name}")
            elif isinstance(value, (int, float, str, tuple)):
                constants[name] = f"{name} = {value!r}\n"
    return [*sorted(imports), "", *constants.values(), *reversed(texts.values())]


def _text(item: Any) -> str:
    """The source of a function without its decorators, or of a class with them."""
    text = textwrap.dedent(inspect.getsource(item))
    if isinstance(item, FunctionType):
        text = text[re.search(r"^def ", text, re.M).start() :]  # type: ignore[union-attr]
    return f"\n{text}"


def _names(item: Any) -> set[str]:
    """All global names that the code of a function, or of a class's methods, can mention."""
    if isinstance(item, type):
        found = {"dataclass"} if hasattr(item, "__dataclass_fields__") else set()
        for member in vars(item).values():
            if isinstance(member, FunctionType) and member.__module__ == item.__module__:
                found |= _names(member)
        return found
    return {name for code in _codes(item.__code__) for name in code.co_names}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
