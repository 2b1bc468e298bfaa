"""One run of a function, from its recording to the call that replays it."""

from __future__ import annotations

import builtins
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ..array_methods import raw
from ..mode import mode
from ..primitives import primitive
from ..tensor import Node, Spec, Tensor, constant, leaf_node
from ..transforms import leaves, rebuild
from .emit import source
from .errors import TraceError
from .passes import optimised
from .program import Value
from .replay import Changed, Gradient, Interface, replay
from .symbol import Symbol
from .trace import Tracer, itself, refuse_unknown_shapes


class DifferenceError(ValueError):
    """With `check=True`: the recording computed something else than the function."""


def argument_names(f: Callable[..., Any], args: Any, kwargs: Any) -> Iterator[str]:
    """A name for each leaf of the arguments, from f's parameters."""
    try:
        bound = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        bound = []
    for k, tree in enumerate([*args, *kwargs.values()]):
        name = [*bound[: len(args)], *kwargs][k] if len(bound) >= len(args) else f"x{k}"
        count = len(leaves(tree))
        paths = _paths(tree) if isinstance(tree, dict) else [str(i) for i in range(count)]
        yield from [name] if count == 1 else [f"{name}_{path}" for path in paths]


def _paths(tree: dict[Any, Any]) -> list[str]:
    return [
        f"{key}" if len(leaves(branch)) == 1 else f"{key}_{i}"
        for key, branch in tree.items()
        for i in range(len(leaves(branch)))
    ]


class Recording:
    """One run of f, written down, made shorter and compiled; calling it replays it."""

    def __init__(
        self, f: Callable[..., Any], args: Any, kwargs: Any, key: Any, creates: bool = False
    ) -> None:
        self.key = key
        tracer = Tracer()
        tracer.world.creates = creates
        arrays = (Tensor, np.ndarray, np.generic)
        self.static = [x for x in leaves((args, kwargs)) if not isinstance(x, arrays)]  # kept alive
        given, names = leaves((args, kwargs)), list(argument_names(f, args, kwargs))
        stand_ins = [_stand_in(tracer, x, n) for x, n in zip(given, names, strict=True)]
        dynamic = [k for k, x in enumerate(stand_ins) if isinstance(raw(x), Symbol)]
        taken = [(k, isinstance(given[k], Tensor)) for k in dynamic]
        inside, keywords = rebuild((args, kwargs), iter(stand_ins))
        try:
            watched = tracer.world.recorded(f, self.static)
            with watched, mode(tracer=tracer, observers=(tracer,)):
                result = f(*inside, **keywords)
                outs = leaves(result)
                values = [raw(o) for o in outs]
            if list(map(id, leaves((inside, keywords)))) != list(map(id, stand_ins)):
                raise TraceError(
                    "tg.compile: the function changes a list or dict that is its argument, which a "
                    "replay would not do: return the new values"
                )
        except Exception as error:
            raise _cause(error) from None
        finally:  # whatever happens, no Tensor of the user's keeps a stand-in
            changes = tracer.restore()
        results = [(_kind(o), _ended(o)) for o in outs]
        tree = rebuild(result, iter([None] * len(outs)))
        del result, inside, keywords, stand_ins, outs, given, args, kwargs
        gradients: list[Gradient] = []
        for t, new, adds in tracer.renewed(changes):
            gradients.append(Gradient(t, None if new is None else len(values), adds))
            values += [] if new is None else [new._data]
        t = new = None
        program = optimised(tracer.finish(values))
        del values
        tracer.refuse_what_is_kept()
        refuse_unknown_shapes(program)
        outputs = program.outputs
        program.outputs = [v for v in outputs if isinstance(v, Value)]
        self.holds = tracer.world.compiled(program)
        self.program, self.tracer = program, tracer
        places = {k for _, k, adds in gradients if not adds}
        self.gradients = gradients
        once = {k for k, n in Counter(map(id, outputs)).items() if n == 1}
        last = [v for k, v in enumerate(outputs) if k in places and id(v) in once]
        self.source, extra, renewed, storage, self.plan = source(program, "step", last)
        namespace: dict[str, Any] = {}
        exec(builtins.compile(self.source, "<tg.compile>", "exec"), namespace)
        namespace["Changed"] = Changed
        read = program.captured | {v: partial(itself, d) for v, d in program.constants.items()}
        reads = [read[v] for v in extra]
        face = Interface(taken, reads, renewed, storage, outputs, results, tree, gradients)
        self.replay = replay(namespace["step"], face, program, tracer)
        self.generators = [read[v] for v in extra if v.dtype == object]

    def difference(self, names: list[str], key: Any) -> str:
        """What is not as it was, for a person."""
        if key == self.key:
            return self.tracer.world.difference()
        old, new = ([s for s in k if not isinstance(s, str)] for k in (self.key, key))
        for name, was, now in zip(names, old, new, strict=len(old) == len(new)):
            if was != now:
                return f"the argument {name} was {_shown(was)}, now it is {_shown(now)}"
        return "the arguments are nested, or named, in another way"

    def checked(self, f: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Replay, undo what that wrote, run f itself, and compare."""
        written = [self.program.captured[v]() for v, _ in self.program.effects]
        before, grads = [np.copy(w) for w in written], [t._grad for t, *_ in self.gradients]
        drawing = [read().bit_generator for read in self.generators]
        states = [bits.state for bits in drawing]
        mine = [np.copy(raw(x)) for x in leaves(self.replay(leaves((args, kwargs))))]
        mine += [np.copy(w) for w in written]
        for w, old in zip(written, before, strict=True):
            np.copyto(w, old)
        for (t, *_), g in zip(self.gradients, grads, strict=True):
            t._grad = g
        for undo in self.tracer.undo:
            undo()
        for bits, state in zip(drawing, states, strict=True):
            bits.state = state
        result = f(*args, **kwargs)
        theirs = [raw(x) for x in leaves(result)] + written
        for k, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            if np.asarray(b).dtype.kind not in "biufc":  # None, a text: part of the recording
                continue
            tolerance = 1e-12 if np.asarray(b).dtype == float else 1e-4
            if not np.allclose(a, b, tolerance, tolerance * np.max(np.abs(b), initial=0), True):
                raise DifferenceError(
                    f"tg.compile: result {k} differs from the function's own by "
                    f"{np.max(np.abs(np.subtract(a, b))):.2g}: something that f reads changed "
                    "without being an argument, a Tensor or an array"
                )
        return result


def _shown(signature: Any) -> str:
    """One of the `_signature`s that make a key."""
    kind, *rest = signature
    if kind is Tensor or isinstance(kind, tuple):
        shape, dtype = rest[:2] if kind is Tensor else signature
        return f"{dtype} {shape}" + ", with requires_grad" * (rest[-1] is True)
    if kind is float:
        return "a float"
    return f"{rest[0]:.40}" if isinstance(rest[0], str) else f"another {kind.__name__}"


def _kind(out: Any) -> str:
    """What makes a result of an array or a number; NumPy has numbers in arrays, too."""
    if isinstance(out, Tensor):
        return "constant"
    data = out.data if isinstance(out, Symbol) else out
    return "asarray" if isinstance(data, np.ndarray) and not data.shape else ""


def _no_graph(*_: Any) -> Any:
    raise RuntimeError(
        "the results of tg.compile carry no graph: call backward(), or tg.grad, inside the function"
    )


cut = primitive(lambda x: x, _no_graph, saves="-", name="compiled")


def _ended(out: Any) -> Node | None:
    """The node of a result that had a graph: it refuses to be differentiated."""
    if not isinstance(out, Tensor) or out._node is None:
        return None
    kind = Spec(out.shape, out.dtype)
    return Node(cut, leaf_node(kind), None, (), (kind,), {}, kind)


def _cause(error: Exception) -> Exception:
    """What the recording refused, though NumPy may have made another error of it."""
    found: Any = error
    while found is not None and not isinstance(found, TraceError):
        found = found.__cause__ or found.__context__
    return found or error


def _stand_in(tracer: Tracer, x: Any, name: str) -> Any:
    """What f gets in the place of an argument; static ones stay."""
    if isinstance(x, Tensor):
        return constant(tracer.input(x._data, x.name or name))
    if isinstance(x, (np.ndarray, np.generic)) or type(x) is float:
        return tracer.input(x, name)
    if isinstance(x, np.random.Generator):
        return tracer.generator(x)
    return x
