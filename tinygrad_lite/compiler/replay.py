"""The call that replays a recording, written out as a function of one line per thing handed over.

Where arrays are small, loops over what a call reads, writes and returns take as long as NumPy. The
one trick is the compiler's own: the loops run once, here, and what they would do is the text.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..tensor import Node, Tensor, changed, constant
from ..transforms import rebuild
from .program import Program, Value


class Changed(Exception):
    """A question that the engine asks of numbers has another answer than in the recording."""


class Gradient(NamedTuple):
    """A Tensor whose .grad a call sets, to which output (None: to None), or adds that to."""

    tensor: Tensor
    place: int | None
    adds: bool


class Interface(NamedTuple):
    """What goes into a replay and what comes out of it."""

    arguments: list[tuple[int, bool]]  # which leaves the source takes; whether they are Tensors
    extra: list[Callable[[], Any]]  # reads of the world, and long constants
    renewed: list[Value]  # outputs for which there may be an array to write into
    storage: list[Value]  # arrays to compute in
    outputs: list[Any]  # of the source (Values), or known now
    results: list[tuple[str, Node | None]]  # of f: what makes them, and Tensors' Nodes
    tree: Any  # ... and how they are nested
    gradients: list[Gradient]


def replay(step: Callable[..., Any], face: Interface, program: Program, tracer: Any) -> Any:
    """The function of the list of the arguments' leaves that returns what f would."""
    space: dict[str, Any] = {
        "constant": constant, "changed": changed, "ndarray": np.ndarray, "copy": np.copy,
        "asarray": np.asarray, "rebuild": rebuild, "world": tracer.world, "Changed": Changed,
        "spare": spare_gradient,
    }  # fmt: skip

    def bound(item: Any) -> str:
        """A name for an object in the function."""
        space[name := f"b{len(space)}"] = item
        return name

    lines, names = [], [f"o{k}" for k in range(len(face.outputs))]
    given = [f"given[{k}]" + "._data" * tensor for k, tensor in face.arguments]
    arrays = [a for a, v in zip(given, program.inputs, strict=True) if not v.weak]
    if program.effects and arrays:  # an argument that shares memory with what is written into?
        views = " or ".join(f"{a}.base is not None" for a in arrays)
        ids = ", ".join(f"id({a})" for a in arrays)
        near = f"world.owners is None or not world.owners.isdisjoint(({ids},))"
        lines += [f"if ({views} or {near}) and world.clash([{', '.join(arrays)}]):"]
        lines += ["    raise Changed"]
    for read in face.extra:
        if isinstance(read, partial) and read.func is getattr:
            given.append(f"{bound(read.args[0])}.{read.args[1]}")
        else:
            given.append(f"{bound(read)}()")
    for value in face.renewed:
        t = next(t for t, k, _ in face.gradients if k is not None and face.outputs[k] is value)
        given.append(f"spare({bound(t)}, {value.shape}, {bound(value.dtype)})")
    if face.storage:
        kinds = [(v.shape, v.dtype) for v in face.storage]
        spare, new = bound([]), bound(lambda: [np.empty(*kind) for kind in kinds])
        lines.append(f"room = {spare}.pop() if {spare} else {new}()  # two threads have one each")
        given.append("*room")
    draws = any(v.dtype == object for v in program.captured)
    computed = [n for n, v in zip(names, face.outputs, strict=True) if isinstance(v, Value)]
    call = f"{bound(partial(drawing, step) if draws else step)}({', '.join(given)})"
    lines.append(f"{', '.join(computed)}, = {call}" if computed else call)
    if face.storage:
        lines.append(f"{spare}.append(room)")
    for name, value in zip(names, face.outputs, strict=True):
        if not isinstance(value, Value):
            text = bound(value)
            lines.append(f"{name} = {f'copy({text})' if isinstance(value, np.ndarray) else text}")
        elif not value.shape:
            lines.append(f"{name} = {name}[()] if {name}.__class__ is ndarray else {name}")
    for do in tracer.after:
        only = do.func is changed
        lines.append(f"changed({bound(do.args[0])})" if only else f"{bound(do)}()")
    for t, at in tracer.numbers:
        lines.append(f"{(n := bound(t))}.data = {n}.dtype.type({names[at]})")
    for t, place, adds in face.gradients:
        text = "None" if place is None else f"constant({names[place]})"
        if adds:
            text += f" if {bound(t)}._grad is None else {bound(t)}._grad + {text}"
        lines.append(f"{bound(t)}._grad = {text}")
    texts = [
        f"{made}({n}{f', {bound(node)}' if node else ''})" if made else n
        for n, (made, node) in zip(names, face.results, strict=False)
    ]
    tree = face.tree
    if tree is None:
        lines.append(f"return {texts[0]}")
    elif type(tree) is tuple and all(branch is None for branch in tree):
        lines.append(f"return ({''.join(f'{text}, ' for text in texts)})")
    else:
        lines.append(f"return rebuild({bound(tree)}, iter([{', '.join(texts)}]))")
    source = "\n    ".join(["def replay(given):", *lines])
    exec(compile(source, "<tg.compile: a call>", "exec"), space)
    return space["replay"]


def _alone() -> int:
    item = object()
    return sys.getrefcount(item)


ALONE = _alone()  # the references to what only a local variable holds


def spare_gradient(t: Tensor, shape: Any, dtype: Any) -> Any:
    """The array of the .grad that will be replaced, to write the new one into; None: a new array.

    Only if nobody else holds it. From then on .grad is None, as after zero_grad.
    """
    g = t._grad
    if g is None or sys.getrefcount(g) > ALONE + 1:  # and the Tensor
        return None
    a = g._data
    if type(a) is not np.ndarray or sys.getrefcount(a) > ALONE + 1:
        return None
    fits = a.shape == shape and a.dtype == dtype and a.flags.carray and a.base is None
    if fits:
        t._grad = None
    return a if fits else None


def drawing(step: Callable[..., Any], *arguments: Any) -> Any:
    """Call what draws random numbers: if it fails, f itself will draw the same."""
    bits = [g.bit_generator for g in arguments if isinstance(g, np.random.Generator)]
    states = [b.state for b in bits]
    try:
        return step(*arguments)
    except Exception:
        for b, state in zip(bits, states, strict=True):
            b.state = state
        raise
