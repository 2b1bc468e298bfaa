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
from typing import Any, NamedTuple

import numpy as np

from ..array_methods import raw
from ..mode import MODE, mode
from ..primitives import primitive
from ..tensor import Node, Tensor, constant, leaf_node
from ..transforms import leaves, rebuild
from .emit import Changed, source
from .outside import names_of
from .passes import optimised
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


class Line(NamedTuple):
    """One line of a plan: what is computed, and when it is read for the last time."""

    text: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    last_use: int  # the line


class Compiled:
    """What `tg.compile(f)` returns. Call it as f."""

    def __init__(self, f: Callable[..., Any], check: bool) -> None:
        functools.update_wrapper(self, f, updated=())
        self.f, self.check = f, check
        self.recordings: OrderedDict[Any, Recording] = OrderedDict()
        self.missed = 0  # calls that the recording did not cover: f itself ran

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given, now = leaves((args, kwargs)), MODE.get()
        tracked = any(isinstance(x, Tensor) and x._node is not None for x in given)
        if (
            now.tracer is not None or now.transform or now.observers or tracked
        ):  # part of a graph, or a recording
            return self.f(*args, **kwargs)
        flat = not kwargs and len(given) == len(args)
        nested = None if flat else repr(rebuild((args, kwargs), iter([None] * len(given))))
        key = nested, *map(_signature, given)
        recording = self.recordings.get(key)
        if recording is None or not recording.holds():
            recording = self.recordings[key] = Recording(self.f, args, kwargs)
            if len(self.recordings) > KEPT:
                self.recordings.popitem(last=False)
        self.recordings.move_to_end(key)
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
        return self._latest().source

    @property
    def plan(self) -> list[Line]:
        """The latest recording, line by line: what is computed, its size, its last use."""
        return self._latest().lines()

    def _latest(self) -> Recording:
        if not self.recordings:
            raise RuntimeError("tg.compile: nothing was recorded yet: call the function once")
        return next(reversed(self.recordings.values()))


def _signature(x: Any) -> Any:
    """What a recording depends on: of arrays only shape and dtype."""
    if isinstance(x, Tensor):
        return Tensor, x.shape, x.dtype, x.requires_grad
    if isinstance(x, (np.ndarray, np.generic)):
        return np.ndarray, x.shape, x.dtype
    if type(x) is float:
        return (float,)
    return (
        (type(x), repr(x)) if type(x) in PLAIN else (type(x), id(x))
    )  # the recording keeps x alive


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

    def __init__(self, f: Callable[..., Any], args: Any, kwargs: Any) -> None:
        tracer = Tracer()
        arrays = (Tensor, np.ndarray, np.generic)
        self.static = [x for x in leaves((args, kwargs)) if not isinstance(x, arrays)]  # kept alive
        given, names = leaves((args, kwargs)), list(_names(f, args, kwargs))
        stand_ins = [_stand_in(tracer, x, n) for x, n in zip(given, names, strict=True)]
        self.dynamic = [k for k, x in enumerate(stand_ins) if isinstance(raw(x), Symbol)]
        inside, keywords = rebuild((args, kwargs), iter(stand_ins))
        try:
            with mode(tracer=tracer):
                result = f(*inside, **keywords)
        except Exception as error:
            raise _cause(error) from None
        finally:  # whatever happens, no Tensor of the user's keeps a stand-in
            changes = tracer.restore()
        outs = leaves(result)
        self.tensors = [_wrapper(o) for o in outs]
        values = [raw(o) for o in outs]
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
        self.places = [isinstance(v, Value) for v in program.outputs]
        self.plain = [None if p else v for p, v in zip(self.places, program.outputs, strict=True)]
        program.outputs = [v for v in program.outputs if isinstance(v, Value)]
        for name in names_of(f):
            tracer.assume(name)
        self.program, self.tracer = program, tracer
        self.source, extra = source(program, "step")
        namespace: dict[str, Any] = {}
        exec(builtins.compile(self.source, "<tg.compile>", "exec"), namespace)
        namespace["Changed"] = Changed
        self.function = namespace["step"]
        read = program.captured | {v: partial(itself, d) for v, d in program.constants.items()}
        self.extra = [read[v] for v in extra]

    def holds(self) -> bool:
        """Whether what the recording took for granted is still so."""
        return all(read() == value for read, value in self.tracer.assumed)

    def __call__(self, given: list[Any]) -> Any:
        arrays = [raw(given[k]) for k in self.dynamic]
        extra = [read() for read in self.extra]
        random = [g.bit_generator for g in extra if isinstance(g, np.random.Generator)]
        states = [bits.state for bits in random]
        try:
            found = iter(self.function(*arrays, *extra))
        except Exception:  # f itself will draw the same numbers
            for bits, state in zip(random, states, strict=True):
                bits.state = state
            raise
        outs = [
            next(found) if p else np.copy(v) if isinstance(v, np.ndarray) else v
            for p, v in zip(self.places, self.plain, strict=True)
        ]
        outs = [o[()] if isinstance(o, np.ndarray) and not o.ndim else o for o in outs]
        for do in self.tracer.after:
            do()
        for t, at in self.tracer.numbers:
            t.data = t.dtype.type(outs[at])
        for t, place in self.gradients:
            t._grad = None if place is None else constant(outs[place])
        results = zip(outs, self.tensors, strict=False)
        return rebuild(self.tree, iter([wrap(o) if wrap else o for o, wrap in results]))

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

    def lines(self) -> list[Line]:
        """What each step computes."""
        last = {v: k for k, step in enumerate(self.program.body) for v in step.inputs()}
        end = len(self.program.body)
        return [
            Line(step.op, out.shape, str(out.dtype), out.bytes, last.get(out, end))
            for step in self.program.body
            for out in step.outs
        ]


def _no_graph(*_: Any) -> Any:
    raise RuntimeError(
        "the results of tg.compile carry no graph: call backward(), or tg.grad, inside the function"
    )


cut = primitive(lambda x: x, _no_graph, saves="-", name="compiled")


def _wrapper(out: Any) -> Callable[[Any], Tensor] | None:
    """How a result becomes a Tensor; one that had a graph refuses to be differentiated."""
    if not isinstance(out, Tensor):
        return None
    return constant if out._node is None else _ended


def _ended(value: Any) -> Tensor:
    return constant(value, Node(cut, leaf_node(value), None, (), (value,), {}, value))


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
    return x
