"""`tg.compile`: run a function once, write down what NumPy computed, and from then on replay that.

The recording holds the forward pass, the backward pass (gradient rules are NumPy too) and updates
of parameters. The one trick is `trace.Symbol`: an array-like that the engine computes with as with
any array, while every step is written down. The passes make the recording shorter, `emit` writes
it out as NumPy source, and that source is what runs.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ..array_methods import raw
from ..mode import MODE, RECORDING, mode
from ..primitives import primitive
from ..tensor import Node, Spec, Tensor, constant, leaf_node
from ..transforms import leaves, rebuild
from .emit import Changed, source
from .passes import optimised
from .plan import Plan
from .program import Value
from .symbol import Symbol, TraceError
from .trace import Tracer, itself, refuse_unknown_shapes

KEPT = 16  # recordings of one function, one per signature


def compile(f: Callable[..., Any] | None = None, *, check: bool = False) -> Any:
    """A function that does what `f` does, from a recording of one run of it: no graph, only NumPy.

    The first call with new shapes, dtypes or static arguments (whatever is neither an array, a
    Tensor nor a float) records; later ones replay. Leaf Tensors and arrays that f reads from
    outside are read anew at each call, and written into where f updates them; `.grad`, optimisers
    and random numbers work as without. Results are those of f, mostly to the last bit; where a
    fused operation goes another way on arrays, to 1e-12 in float64.

    Parameters
    ----------
    f : takes and returns arrays, Tensors and numbers, or nested tuples, lists and dicts of them.
        Results carry no graph. Given a Tensor that requires a gradient, or inside `tg.grad` and its
        kin, f itself runs: compile the whole step, `tg.compile(tg.grad(f))`, instead.
    check : compare every call with f itself, which costs a call of f; a DifferenceError (a
        ValueError) if they differ.

    Returns
    -------
    A `Compiled`. Its `.source` is the latest recording as NumPy code that needs nothing else; its
    `.plan` says, for each line, the shape and size of what it computes.

    Raises
    ------
    TraceError : f does something that depends on numbers (`if t > 0`, `float(t)`), so that one
        recording cannot stand for all calls; it names your line and the way out.

    >>> import numpy as np, tinygrad_lite as tg
    >>> step = tg.compile(tg.grad(lambda w, x: np.sum(np.tanh(w * x))))
    >>> step(np.array([0.5, 1.0]), np.array([1.0, 0.0]))
    array([0.78644773, 0.        ])
    >>> print(step.source)
    import numpy as np
    <BLANKLINE>
    <BLANKLINE>
    def step(w, x):
        \"\"\"Takes
        w: float64 (2,)
        x: float64 (2,)
        \"\"\"
        v0 = np.tanh(w * x)
        v1 = (1 - v0 * v0) * x
        return v1,
    <BLANKLINE>
    """
    return functools.partial(compile, check=check) if f is None else Compiled(f, check)


class DifferenceError(ValueError):
    """With `check=True`: the recording computed something else than the function."""


class Compiled:
    """What `tg.compile(f)` returns. Call it as f."""

    def __init__(self, f: Callable[..., Any], check: bool) -> None:
        functools.update_wrapper(self, f, updated=())
        self.f, self.check = f, check
        self.recordings: OrderedDict[Any, Recording] = OrderedDict()
        self.latest: Recording | None = None
        self.missed = 0  # calls that the recording did not cover: f itself ran

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        now = MODE.get()
        if now is not RECORDING and (now.tracer is not None or now.transform or now.observers):
            return self.f(*args, **kwargs)  # part of a graph, or of a recording
        given: Any = args
        key = (*map(_signature, args),)
        if kwargs or None in key:  # nested containers, or names
            given = leaves((args, kwargs))
            nested = repr(rebuild((args, kwargs), iter([None] * len(given))))
            key = nested, *map(_signature, given)
        recording = self.latest
        if recording is None or key != recording.key or not recording.holds():
            recording = self.recordings.get(key)
            if recording is None or not recording.holds():
                if any(isinstance(x, Tensor) and x._node is not None for x in given):
                    return self.f(*args, **kwargs)
                recording = self.recordings[key] = Recording(self.f, args, kwargs, key)
                if len(self.recordings) > KEPT:
                    self.recordings.popitem(last=False)
            self.recordings.move_to_end(key)
            self.latest = recording
        try:
            return recording.checked(self.f, args, kwargs) if self.check else recording(given)
        except DifferenceError:
            raise
        except Exception as error:  # nothing was written yet
            self.missed += 1
            result = self.f(*args, **kwargs)  # it may say the same, more clearly
            if not isinstance(error, (Changed, ArithmeticError, ValueError)):  # of floats
                what = f"tg.compile: the recording failed, so the function itself ran: {error!r}"
                warnings.warn(what, RuntimeWarning, stacklevel=2)
            return result

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: one recording per instance."""
        return self if instance is None else partial(self, instance)

    @property
    def source(self) -> str:
        """The latest recording as a module: `import numpy as np`, and one function."""
        return self._recorded().source

    @property
    def plan(self) -> Plan:
        """The latest recording, line by line: it prints as a table; `.draw()` is a picture."""
        return self._recorded().plan

    def _recorded(self) -> Recording:
        if self.latest is None:
            raise RuntimeError("tg.compile: nothing was recorded yet: call the function once")
        return self.latest


def _signature(x: Any) -> Any:
    """What a recording depends on: of arrays only shape and dtype. None: look inside."""
    if x.__class__ is np.ndarray or isinstance(x, (np.ndarray, np.generic)):
        return x.shape, x.dtype
    if isinstance(x, Tensor):
        return Tensor, x.shape, x.dtype, x.requires_grad
    if type(x) is float:
        return (float,)
    if type(x) in PLAIN:
        return type(x), repr(x)
    if isinstance(x, (tuple, list, dict)):
        return None
    return type(x), id(x)  # the recording keeps x alive


PLAIN = (bool, int, complex, str, bytes, type(None), type(Ellipsis), slice)


def _names(f: Callable[..., Any], args: Any, kwargs: Any) -> Iterator[str]:
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

    def __init__(self, f: Callable[..., Any], args: Any, kwargs: Any, key: Any) -> None:
        self.key = key
        tracer = Tracer()
        arrays = (Tensor, np.ndarray, np.generic)
        self.static = [x for x in leaves((args, kwargs)) if not isinstance(x, arrays)]  # kept alive
        given, names = leaves((args, kwargs)), list(_names(f, args, kwargs))
        stand_ins = [_stand_in(tracer, x, n) for x, n in zip(given, names, strict=True)]
        dynamic = [k for k, x in enumerate(stand_ins) if isinstance(raw(x), Symbol)]
        direct = not any(isinstance(x, Tensor) for x in given) and len(dynamic) == len(given)
        self.dynamic = None if direct else dynamic  # which of the arguments the source takes
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
        self.tensors = [(k, _ended(o)) for k, o in enumerate(outs) if isinstance(o, Tensor)]
        self.tree = rebuild(result, iter([None] * len(outs)))
        del result, inside, keywords, stand_ins, outs, given, args, kwargs
        # Tensors whose .grad a call sets, and the place of its value
        self.gradients: list[tuple[Tensor, int | None]] = []
        for t, new in tracer.renewed(changes):
            self.gradients.append((t, None if new is None else len(values)))
            values += [] if new is None else [new._data]
        t = new = None
        program = optimised(tracer.finish(values))
        del values
        tracer.refuse_what_is_kept()
        refuse_unknown_shapes(program)
        outputs = program.outputs
        self.plain = [(k, v) for k, v in enumerate(outputs) if not isinstance(v, Value)]
        self.numbers = [k for k, v in enumerate(outputs) if isinstance(v, Value) and not v.shape]
        program.outputs = [v for v in program.outputs if isinstance(v, Value)]
        self.holds = tracer.world.compiled(program)
        self.program, self.tracer = program, tracer
        self.source, extra, storage, self.plan = source(program, "step")
        self.storage = [(v.shape, v.dtype) for v in storage]
        self.spare: list[Any] = []  # arrays to compute in, while no call does
        namespace: dict[str, Any] = {}
        exec(builtins.compile(self.source, "<tg.compile>", "exec"), namespace)
        namespace["Changed"] = Changed
        self.function = namespace["step"]
        read = program.captured | {v: partial(itself, d) for v, d in program.constants.items()}
        self.extra = [read[v] for v in extra]
        self.draws = any(v.dtype == object for v in extra)

    def __call__(self, given: Any) -> Any:
        arrays = given if self.dynamic is None else [raw(given[k]) for k in self.dynamic]
        if self.program.effects and self.tracer.world.clash(arrays):
            raise Changed
        extra = [read() for read in self.extra]
        if self.storage:  # two threads have one each
            room = self.spare.pop() if self.spare else [np.empty(*kind) for kind in self.storage]
            extra += room
        outs = list(self.drawing(arrays, extra) if self.draws else self.function(*arrays, *extra))
        if self.storage:
            self.spare.append(room)
        for k, constant_ in self.plain:
            outs.insert(k, np.copy(constant_) if isinstance(constant_, np.ndarray) else constant_)
        for k in self.numbers:
            if isinstance(outs[k], np.ndarray):
                outs[k] = outs[k][()]
        for do in self.tracer.after:
            do()
        for t, at in self.tracer.numbers:
            t.data = t.dtype.type(outs[at])
        for t, place in self.gradients:
            t._grad = None if place is None else constant(outs[place])
        for k, node in self.tensors:
            outs[k] = constant(outs[k], node)
        return outs[0] if self.tree is None else rebuild(self.tree, iter(outs))

    def drawing(self, arrays: Any, extra: list[Any]) -> Any:
        """Of a function that draws random numbers: if it fails, f itself will draw the same."""
        bits = [g.bit_generator for g in extra if isinstance(g, np.random.Generator)]
        states = [b.state for b in bits]
        try:
            return self.function(*arrays, *extra)
        except Exception:
            for b, state in zip(bits, states, strict=True):
                b.state = state
            raise

    def checked(self, f: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Replay, undo what that wrote, run f itself, and compare."""
        written = [self.program.captured[v]() for v, _ in self.program.effects]
        before = [np.copy(w) for w in written]
        mine = [np.copy(raw(x)) for x in leaves(self(leaves((args, kwargs))))]
        mine += [np.copy(w) for w in written]
        for w, old in zip(written, before, strict=True):
            np.copyto(w, old)
        for undo in self.tracer.undo:
            undo()
        result = f(*args, **kwargs)
        theirs = [raw(x) for x in leaves(result)] + written
        for k, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            tolerance = 1e-12 if np.asarray(b).dtype == float else 1e-4
            if not np.allclose(a, b, tolerance, tolerance * np.max(np.abs(b), initial=0), True):
                raise DifferenceError(
                    f"tg.compile: result {k} differs from the function's own by "
                    f"{np.max(np.abs(np.subtract(a, b))):.2g}: something that f reads changed "
                    "without being an argument, a Tensor or an array"
                )
        return result


def _no_graph(*_: Any) -> Any:
    raise RuntimeError(
        "the results of tg.compile carry no graph: call backward(), or tg.grad, inside the function"
    )


cut = primitive(lambda x: x, _no_graph, saves="-", name="compiled")


def _ended(out: Tensor) -> Node | None:
    """The node of a result that had a graph: it refuses to be differentiated."""
    if out._node is None:
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
