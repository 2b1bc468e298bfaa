"""Instructions as expressions: infix operators, methods, calls; names for values, and literals.

The one trick is a number: how tightly an operator binds, so that brackets are where they must be.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from .floats import CALLED
from .literals import is_record, literal, numpy_name, plain_numbers
from .program import Instruction, Program, Value, values_in

INFIX = {  # operation: sign, and how tightly it binds
    "add": ("+", 4), "subtract": ("-", 4), "multiply": ("*", 5), "divide": ("/", 5),
    "matmul": ("@", 5), "power": ("**", 7), "equal": ("==", 1), "not_equal": ("!=", 1),
    "less": ("<", 1), "less_equal": ("<=", 1), "greater": (">", 1), "greater_equal": (">=", 1),
    "bitwise_and": ("&", 3), "bitwise_or": ("|", 2),
}  # fmt: skip
PREFIX = {"negative": ("-", 6), "invert": ("~", 6)}
IN_PLACE = {op: INFIX[op][0] for op in ("add", "subtract", "multiply", "divide")}
ATOM = 9  # how tightly names, calls and what is in brackets bind
RESERVED = frozenset({*keyword.kwlist, *dir(builtins)})
METHODS = frozenset({  # half the time of np.sum(x): no wrapper in Python
    "sum", "mean", "prod", "max", "min", "any", "all", "argmax", "argmin", "std", "var",
})  # fmt: skip


class Expressions:
    """The text of each instruction, given the names of the values that it reads."""

    def __init__(self, program: Program) -> None:
        self.makers = program.makers()
        self.constants: list[str] = []  # lines before the function
        self.records: dict[Any, str] = {}  # names of what is described once, such as a Window
        self.kernels: list[Any] = []  # functions that are called whole
        self.names: dict[Value, str] = {}
        self.inline: dict[Value, tuple[str, int]] = {}  # text, and how tightly it binds
        self.taken = {"np", "math", "step", "Changed", *RESERVED}
        self.count: Counter[str] = Counter()

    def name(self, value: Value, role: str) -> str:
        """A name for a value: its own, `dx` for the gradient by x, else one for its role."""
        gradient = f"d{self.names[value.of]}" if value.of in self.names else role
        hint = re.sub(r"\W+", "_", value.name or gradient, flags=re.ASCII).strip("_")
        hint = role if role == "c" else hint  # a name of the module's: no helper's may be hidden
        if not hint.isidentifier() or len(hint) > 30:
            hint = role
        hint += "_" * (hint in RESERVED)
        name, start = hint, f"{hint}_" if hint[-1].isdigit() else hint
        while name in self.taken or name == "v":  # v0, v1, ... but w, w1, ...
            name = f"{start}{self.count[hint] + (hint != 'v')}"
            self.count[hint] += 1
        self.taken.add(name)
        self.names[value] = name
        return name

    def reads(self, item: Any) -> Iterator[Value]:
        """The named values that the text of an argument reads, and those written inside it."""
        for value in values_in(item):
            yield value
            if value in self.inline and value in self.makers:
                maker = self.makers[value]
                yield from self.reads((maker.args, maker.kwargs))

    def text(self, item: Any, tight: int = 0) -> str:
        """An argument as source; in brackets if it binds less tightly than its place needs."""
        if isinstance(item, Value):
            if item not in self.inline:
                return self.names[item]
            text, binds = self.inline[item]
            return f"({text})" if binds < tight else text
        if isinstance(item, list):
            text = f"[{self.texts(item)}]"
            if len(text) < 80 or any(values_in(item)):
                return text
            if text not in self.records:  # such as the places that a pooling looks at
                self.records[text] = self.name(Value((), np.dtype(object)), "c")
                self.constants.append(f"{self.records[text]} = {text}")
            return self.records[text]
        if isinstance(item, tuple):
            return f"({self.texts(item)}{',' if len(item) == 1 else ''})"
        if is_record(item):
            if item not in self.records:
                role = type(item).__name__.lower()
                name = self.name(Value((), np.dtype(object)), role)
                self.constants.append(f"{name} = {item!r}")
                self.records[item] = name
            return self.records[item]
        return literal(item, tight)

    def texts(self, items: Any, kwargs: dict[str, Any] | None = None) -> str:
        texts = [self.text(x) for x in items]
        for key, value in (kwargs or {}).items():
            one = isinstance(value, tuple) and len(value) == 1 and key in ("axis", "axes")
            texts.append(f"{key}={self.text(value[0] if one else value)}")
        return ", ".join(texts)

    def index(self, item: Any) -> str:
        if isinstance(item, tuple) and item:
            return ", ".join(self.index(x) for x in item) + ("," if len(item) == 1 else "")
        if isinstance(item, slice):
            parts = ["" if x is None else self.text(x) for x in (item.start, item.stop, item.step)]
            return ":".join(parts if item.step is not None else parts[:2])
        return self.text(item)

    def expression(self, step: Instruction) -> tuple[str, int]:
        """The source of a step, and how tightly it binds."""
        args, kwargs, op = plain_numbers(step), step.kwargs, step.op
        if op in INFIX and len(args) == 2 and not kwargs:
            sign, binds = INFIX[op]
            left, right = (binds + 1, binds) if op == "power" else (binds, binds + 1)
            left += binds == 1  # comparisons do not chain
            return f"{self.text(args[0], left)} {sign} {self.text(args[1], right)}", binds
        if op in PREFIX and len(args) == 1 and not kwargs:
            sign, binds = PREFIX[op]
            return f"{sign}{self.text(args[0], binds)}", binds
        first = self.text(args[0], ATOM) if args else ""
        if op == "list":
            return first, ATOM
        if op == "zeros_like" and "shape" in kwargs:
            return f"np.zeros({self.text(kwargs['shape'])}, np.{step.outs[0].dtype.name})", ATOM
        if op == "getitem":
            return f"{first}[{self.index(args[1])}]", ATOM
        if op == "transpose" and not any(a is not None for a in (*args[1:], *kwargs.values())):
            return f"{first}.T", ATOM
        if op in ("astype", "view"):
            return f"{first}.{op}(np.{args[1].name})", ATOM
        if op == "reshape" and isinstance(args[0], Value) and not kwargs and len(args) == 2:
            shape = args[1] if isinstance(args[1], tuple) else (args[1],)
            return f"{first}.reshape({', '.join(map(str, shape)) or '()'})", ATOM
        if op.startswith("rng."):
            return f"{first}.{op[4:]}({self.texts(args[1:], kwargs)})", ATOM
        if op.startswith("whole."):
            self.kernels.append(step.call)
            given = [*args, *kwargs.values()]
            self.kernels += [type(a) for a in given if is_record(a)]
            return f"{op[6:]}({self.texts(args, kwargs)})", ATOM
        if op in METHODS and isinstance(args[0], Value) and not args[0].weak:
            return f"{first}.{op}({self.texts(args[1:], kwargs)})", ATOM
        name = CALLED.get(step.call) or f"np.{numpy_name(step)}"
        return f"{name}({self.texts(args, kwargs)})", ATOM
