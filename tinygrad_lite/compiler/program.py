"""A recording as a flat list of instructions, each computing new values: static single assignment.

Every pass takes a Program and returns one that computes the same outputs. The one trick: a value is
never changed once computed, so a pass may replace one value by another wherever both are equal.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(eq=False, slots=True)
class Value:
    """An array or number that an instruction computes, or that comes from outside."""

    shape: tuple[int, ...]
    dtype: Any
    name: str | None = None  # a hint for the reader
    weak: bool = False  # a Python number: it does not widen another's dtype
    of: Value | None = None  # what it is the gradient by: another hint

    @property
    def bytes(self) -> int:
        return int(math.prod(self.shape) * np.dtype(self.dtype).itemsize)


@dataclass(eq=False, slots=True)
class Instruction:
    """outs = call(*args, **kwargs); args may nest Values in tuples, lists and slices."""

    op: str  # "multiply", "sum", "getitem", "reshape", ...: what it is called here
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outs: list[Value]
    several: bool = False  # the call returns a sequence, one entry per out
    part: str = ""  # of the program: the modules and scopes it was recorded in, or their backward
    line: Any = ""  # the user's line that caused it
    changes: bool = False  # it writes into something outside, or draws random numbers
    reads: list[Value] | None = field(default=None, init=False, repr=False)

    def inputs(self) -> list[Value]:
        if self.reads is None:
            self.reads = list(values_in((self.args, self.kwargs)))
        return self.reads


@dataclass
class Program:
    """`inputs` are given by the caller; `captured` are read anew at every call."""

    inputs: list[Value]
    captured: dict[Value, Callable[[], Any]]
    constants: dict[Value, Any]
    body: list[Instruction] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)  # Values, or plain results
    effects: list[tuple[Value, Any]] = field(default_factory=list)  # what captured arrays become
    guards: list[tuple[Any, bool]] = field(default_factory=list)  # the engine's `if`s: what held

    def uses(self) -> Counter[Value]:
        """How often each value is read, outputs included."""
        counts: Counter[Value] = Counter(v for step in self.body for v in step.inputs())
        counts.update(v for v in self.outputs if isinstance(v, Value))
        counts.update(v for _, v in self.effects if isinstance(v, Value))
        counts.update(v for v, _ in self.guards if isinstance(v, Value))
        return counts

    def makers(self) -> dict[Value, Instruction]:
        return {out: step for step in self.body for out in step.outs}

    def written(self) -> set[Value]:
        """The values whose arrays are written into: each needs an array of its own."""
        return {step.args[0] for step in self.body if is_update(step)}

    def rewritten(self, body: Iterable[Instruction], replaced: dict[Value, Any]) -> Program:
        """The same with another body, in which values were replaced."""
        outputs = [replaced.get(v, v) if isinstance(v, Value) else v for v in self.outputs]
        guards = [(replaced.get(v, v), held) for v, held in self.guards]
        guards = [(v, held) for v, held in dict.fromkeys(guards) if isinstance(v, Value)]
        effects = [(v, replaced.get(new, new)) for v, new in self.effects]
        return replace(self, body=list(body), outputs=outputs, guards=guards, effects=effects)


ELEMENTWISE = frozenset(
    name for name in dir(np) if isinstance(f := getattr(np, name), np.ufunc) and not f.signature
)
VIEWS = frozenset({  # their results may show the memory of their argument
    "reshape", "transpose", "swapaxes", "moveaxis", "expand_dims", "squeeze", "ravel", "view",
    "broadcast_to", "getitem", "split", "flip", "diagonal", "rollaxis", "diag", "rot90", "fliplr",
    "flipud", "atleast_1d", "atleast_2d", "atleast_3d", "array_split", "hsplit", "vsplit", "dsplit",
    "unstack", "matrix_transpose", "permute_dims", "broadcast_arrays", "meshgrid", "real", "imag",
    "matrix_power", "einsum", "asarray", "ascontiguousarray",
})  # fmt: skip
UPDATES = frozenset({"setitem", "put_along_axis", "fill_diagonal", "put", "putmask", "place"})


def is_update(step: Instruction) -> bool:
    """Whether it writes into its first argument, which is its result from then on."""
    return step.op in UPDATES or step.op.endswith(".at")


def values_in(tree: Any) -> Iterator[Value]:
    """The Values in nested tuples, lists, dicts and slices, with an explicit stack."""
    todo = [tree]
    while todo:
        item = todo.pop()
        if type(item) is Value:
            yield item
        elif isinstance(item, (tuple, list)):
            todo += item[::-1]
        elif isinstance(item, dict):
            todo += reversed(item.values())
        elif isinstance(item, slice):
            todo += (item.step, item.stop, item.start)


def mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The same nesting, with everything in it that is no container passed to `change`."""
    if isinstance(tree, tuple) and not hasattr(tree, "_fields"):
        return tuple([mapped(item, change) for item in tree])
    if isinstance(tree, list):
        return [mapped(item, change) for item in tree]
    if isinstance(tree, dict):
        return {key: mapped(item, change) for key, item in tree.items()}
    if isinstance(tree, slice):
        return slice(*[mapped(item, change) for item in (tree.start, tree.stop, tree.step)])
    return change(tree)


def with_values(step: Instruction, replaced: dict[Value, Any]) -> Instruction:
    """The instruction on other values; itself if none of its own was replaced."""
    if replaced.keys().isdisjoint(step.inputs()):
        return step
    args, kwargs = mapped(
        (step.args, step.kwargs), lambda v: replaced.get(v, v) if isinstance(v, Value) else v
    )
    return replace(step, args=args, kwargs=kwargs)
