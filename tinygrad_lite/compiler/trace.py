"""Recording a run: an array-like that computes, and writes down what NumPy was asked to compute.

A Symbol stands for an array wherever the engine expects one: in the user's function, in primitives,
in gradient rules, which are all plain NumPy. The one trick: it is no ndarray, so that whatever
would read its numbers without NumPy's protocols (`if x > 0`, `float(x)`, assignment into an array)
ends in an error here, and nothing can be taken for a constant silently.
"""
# mypy: no-warn-return-any

from __future__ import annotations

import functools
import gc
import operator
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from ..array_methods import ArrayMethods
from ..mode import SCOPE
from ..tensor import changed
from .program import VIEWS, Instruction, Program, Value, mapped, values_in, with_values

PACKAGE, NUMPY = (str(Path(p).parent) for p in (Path(__file__).resolve().parent, np.__file__))
UNKNOWN_SHAPE = frozenset({  # how large the result is depends on the numbers
    "argwhere", "nonzero", "flatnonzero", "unique", "extract", "compress", "trim_zeros",
    "unique_values", "unique_counts", "union1d",
})  # fmt: skip
COUNTED = frozenset({"tile", "repeat", "delete"})  # ... of the arguments after the first


class TraceError(TypeError):
    """What a function does depends on numbers, so that one recording cannot stand for all calls."""


PYTHON = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul,
    "divide": operator.truediv, "power": operator.pow, "negative": operator.neg,
}  # fmt: skip


def user_line() -> str:
    """Where the user's code is at the moment: file, line and text."""
    import linecache

    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((PACKAGE, NUMPY)):
        frame = frame.f_back
    name, line = frame.f_code.co_filename, frame.f_lineno
    return f"{name}, line {line}: {linecache.getline(name, line).strip()}"


def _alone() -> int:
    item = object()
    return sys.getrefcount(item)


ALONE = _alone()  # the references to what only a local variable holds


class Tracer:
    """The recording: its instructions in order, and what was read of the world outside."""

    def __init__(self) -> None:
        self.program = Program([], {}, {})
        self.known: dict[int, tuple[Any, Any, Symbol, Value]] = {}  # (array, its Tensor, ...)
        self.gradients: dict[int, tuple[Any, Any]] = {}  # Tensors, with the .grad they had before
        self.assumed: list[tuple[Callable[[], Any], Any]] = []  # a replay needs these to hold still
        self.symbols: list[weakref.ref[Symbol]] = []
        self.stepped: set[int] = set()  # parameters that an optimiser has changed
        self.numbers: list[tuple[Any, int]] = []  # Tensors of one number, and the place of the new
        self.after: list[Callable[[], Any]] = []  # done at the end of each replay
        self.undo: list[Callable[[], Any]] = []  # takes that back

    def input(self, data: Any, name: str) -> Symbol:
        weak = type(data) is float
        symbol = Symbol(self, data, Value(np.shape(data), np.asarray(data).dtype, name, weak))
        self.program.inputs.append(symbol.value)
        return symbol

    def live(self, read: Callable[[], Any], name: str) -> Symbol:
        """A Python number that is read anew at every call, such as a learning rate."""
        value = Value((), np.dtype(float), name, True)
        self.program.captured[value] = read
        return Symbol(self, read(), value)

    def outside(self, data: Any, tensor: Any = None) -> Symbol:
        """The Symbol of an array, or of a Tensor's number, that the recording did not compute."""
        key = id(data) if isinstance(data, np.ndarray) else id(tensor)
        if key not in self.known:
            value = Value(data.shape, data.dtype, getattr(tensor, "_name", None))
            symbol = Symbol(self, data, value)
            symbol.outer = True
            self.known[key] = data, tensor, symbol, value
        data, known, symbol, value = self.known[key]
        if known is None and tensor is not None:
            self.known[key] = data, tensor, symbol, value
        return symbol

    def lift(self, value: Any, tensor: Any) -> Any:
        """What a Tensor gives to an operation."""
        return self.outside(value, tensor) if isinstance(value, (np.ndarray, np.generic)) else value

    def optimise(self, optimizer: Any) -> None:
        """Record `optimizer.step()`: its own code, on Symbols of what it reads and writes."""
        self.assume(functools.partial(_trained, optimizer))
        for group in optimizer.param_groups:
            fixed = functools.partial(_options, group)
            self.assume(fixed)
            options = {name: group[name] for name in optimizer.defaults}
            options["lr"] = self.live(functools.partial(group.__getitem__, "lr"), "lr")
            for p in group["params"]:
                if p._grad is None or p._node is None:
                    continue
                if not isinstance(p._grad._data, Symbol):
                    raise TraceError(
                        "tg.compile: an optimiser would use a gradient from before the call: call "
                        f"backward() inside the function. {user_line()}"
                    )
                if id(p) in self.stepped:
                    raise TraceError(f"tg.compile: a second step in one call. {user_line()}")
                self.stepped.add(id(p))
                g = p._grad._data
                state = optimizer.state.setdefault(p, {"step": 0})
                symbols = {"step": self.live(functools.partial(_step, state, 1), "t")}
                for name in optimizer._names(group):
                    if name not in state:
                        fill = group.get("initial_accumulator_value", 0)
                        state[name] = np.full(p.shape, fill, p.dtype)
                    symbols[name] = self.outside(state[name])
                self.after.append(functools.partial(_count, state, 1))
                self.undo.append(functools.partial(_count, state, -1))
                scratch = [self.outside(np.empty(p.shape, p.dtype)) for _ in range(2)]
                w = self.outside(p._data, p)
                optimizer.apply(w, g.astype(p.dtype), symbols, scratch, options)

    def generator(self, rng: np.random.Generator) -> Any:
        """A generator whose draws are written down, to be drawn anew at every call."""
        value = Value((), np.dtype(object), "rng")
        self.program.captured[value] = functools.partial(itself, rng)
        return Random(self, Symbol(self, np.random.default_rng(0), value))

    def assume(self, read: Callable[[], Any]) -> None:
        self.assumed.append((read, read()))

    def keep_gradient(self, tensor: Any, new: Any) -> None:
        """Called before a .grad changes: the recording leaves no trace, a replay sets it."""
        if id(tensor) not in self.gradients:
            if new is not None:  # not cleared before: right only while there is none to add to
                self.assume(functools.partial(_has_gradient, tensor))
            self.gradients[id(tensor)] = tensor, tensor._grad

    def finish(self, outputs: list[Any]) -> Program:
        """Tell what was there before the recording (it is read at every call) from what was made.

        Only what somebody else still holds can change between calls: the rest is constant.
        """
        program = self.program
        program.outputs = [self.operand(o) if isinstance(o, Symbol) else o for o in outputs]
        replaced: dict[Value, Any] = {}
        for key in list(self.known):
            data, tensor, symbol, value = self.known.pop(key)
            became = symbol.value if symbol.value is not value else None
            del symbol
            held = sys.getrefcount(tensor) > ALONE if tensor is not None else False
            own = ALONE + (tensor is not None and tensor._data is data)
            held = held or sys.getrefcount(data) > own or _base_held(data)
            if held and tensor is not None:
                self.assume(functools.partial(_kind, tensor))
            if held:
                read = functools.partial(getattr, tensor, "_data") if tensor is not None else None
                program.captured[value] = read or functools.partial(itself, data)
                if became is not None and not isinstance(data, np.ndarray):
                    self.numbers.append((tensor, len(program.outputs)))
                    program.outputs.append(became)
                elif became is not None:
                    program.effects.append((value, became))
                    if tensor is not None:
                        self.after.append(functools.partial(changed, tensor))
            elif isinstance(data, np.ndarray):
                program.constants[value] = data
            else:
                replaced[value] = data
        return program.rewritten([with_values(s, replaced) for s in program.body], replaced)

    def refuse_what_is_kept(self) -> None:
        """An array of the recording that the function put somewhere: calls would not renew it."""
        if any(ref() is not None for ref in self.symbols):
            gc.collect()
        kept = [symbol for ref in self.symbols if (symbol := ref()) is not None]
        if kept:
            raise TraceError(
                f"tg.compile: the function keeps {len(kept)} of the arrays that it computed "
                f"outside itself (one is {kept[0].dtype} {kept[0].shape}), where later calls would "
                "not renew them: return them instead"
            )
        self.symbols.clear()

    def record(
        self, op: str, call: Callable[..., Any], args: Any, kwargs: Any, changes: bool = False
    ) -> Any:
        """Compute, and write the instruction down; its results as Symbols."""
        result = call(*concrete(args, True), **concrete(kwargs, True))
        several = isinstance(result, (tuple, list))
        results = [
            Symbol(self, data, Value(np.shape(data), np.asarray(data).dtype, None, weak(data)))
            for data in (result if several else [result])
        ]
        given = args
        args, kwargs = mapped((tuple(args), dict(kwargs)), self.operand)
        if op in VIEWS and isinstance(given[0], Symbol):
            base = given[0] if given[0].of is None else given[0].of
            for symbol in results:
                if np.may_share_memory(symbol.data, base.data):
                    symbol.of = base
                    base.views.append(weakref.ref(symbol))
        scope = SCOPE.get()
        path = tuple(s.name for s in scope.path()) if scope is not None else ()
        outs = [symbol.value for symbol in results]
        step = Instruction(op, call, args, kwargs, outs, several, path, user_line(), changes)
        self.program.body.append(step)
        if not several:
            return results[0]
        if hasattr(result, "_fields"):
            return type(result)(*results)
        return type(result)(results)

    def operand(self, item: Any) -> Any:
        """An argument as the instruction holds it."""
        if isinstance(item, Symbol):
            if item.stale:
                raise TraceError(
                    "tg.compile: an array is read after it was written into in place: "
                    f"assign the result instead. {user_line()}"
                )
            return item.value
        if isinstance(item, np.ndarray):
            return self.outside(item).value
        return item


def _parts(index: tuple[Any, ...]) -> Any:
    return index[0] if index and isinstance(index[0], tuple) else index


def refuse_unknown_shapes(program: Program) -> None:
    """What is left must give arrays of the same shapes whatever the numbers."""
    for step in program.body:
        index = step.args[1:] if step.op in ("getitem", "setitem") else ()
        masks = any(v.dtype == bool and v.shape for v in values_in(index))
        sliced = any(isinstance(i, slice) and any(values_in([i])) for i in _parts(index))
        counted = step.op in COUNTED and any(values_in([step.args[1:], step.kwargs]))
        single = step.op == "where" and len(step.args) == 1
        unknown = step.op in UNKNOWN_SHAPE or sliced or counted or single
        if unknown or (masks and step.op == "getitem"):
            raise TraceError(
                f"tg.compile: how large the result of {step.op} is depends on the numbers of this "
                f"call: use np.where instead of a mask. {step.line}"
            )


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


def weak(data: Any) -> bool:
    """Whether this is a Python number: it does not widen another's dtype."""
    return type(data) in (bool, int, float)


def _has_gradient(tensor: Any) -> bool:
    return tensor._grad is not None


def _kind(tensor: Any) -> Any:
    return tensor._data.shape, tensor._data.dtype, tensor._node is not None


def _trained(optimizer: Any) -> Any:
    """What a recording of its steps takes for granted."""
    groups = [[(id(p), _kind(p)) for p in g["params"]] for g in optimizer.param_groups]
    return id(optimizer.state), groups


def _options(group: Any) -> Any:
    return {name: option for name, option in group.items() if name not in ("params", "lr")}


def _step(state: Any, by: int) -> Any:
    return state["step"] + by


def _count(state: Any, by: int) -> None:
    state["step"] += by


class Random:
    """A NumPy Generator while recording."""

    def __init__(self, tracer: Tracer, symbol: Symbol) -> None:
        self.tracer, self.symbol = tracer, symbol

    def __getattr__(self, name: str) -> Any:
        def draw(*args: Any, **kwargs: Any) -> Any:
            return self.tracer.record(
                f"rng.{name}", functools.partial(_drawn, name), (self.symbol, *args), kwargs, True
            )

        return draw


def _drawn(name: str, rng: Any, *args: Any, **kwargs: Any) -> Any:
    return getattr(rng, name)(*args, **kwargs)


def itself(data: Any) -> Any:
    return data


def _base_held(data: Any) -> bool:
    """Whether a view shares the memory of an array that somebody else holds."""
    base = getattr(data, "base", None)
    while isinstance(base, np.ndarray):
        if sys.getrefcount(base) > ALONE + 1:  # and the view
            return True
        base = base.base
    return False


def concrete(tree: Any, protect: bool = False) -> Any:
    """The numbers of this run in the place of Symbols."""

    def numbers(item: Any) -> Any:
        item = item.data if isinstance(item, Symbol) else item
        if protect and type(item) is np.ndarray:  # a NumPy function that writes in place fails
            item = item.view()
            item.flags.writeable = False
        return item

    return mapped(tree, numbers)


def _refuse(symbol: Symbol, what: str, way: str) -> Any:
    raise TraceError(
        f"tg.compile: {what} depends on the numbers of this call, and another call would need "
        f"another recording: {way}. {user_line()}"
    )


class Symbol(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the recorded run: `data` has its numbers, `value` its place in the recording."""

    __slots__ = ("__weakref__", "data", "of", "outer", "stale", "tracer", "value", "views")
    __hash__ = object.__hash__
    traced = True

    def __init__(self, tracer: Tracer, data: Any, value: Value) -> None:
        self.tracer, self.data, self.value, self.stale = tracer, data, value, False
        tracer.symbols.append(weakref.ref(self))
        self.outer = False  # it stands for something outside, which is written into
        self.of: Symbol | None = None  # a view shares the memory of this array
        self.views: list[weakref.ref[Symbol]] = []

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: len(self.value.shape))
    size = property(lambda self: int(np.prod(self.value.shape, dtype=int)))
    itemsize = property(lambda self: self.value.dtype.itemsize)
    base = None
    real = property(lambda self: self if self.dtype.kind != "c" else np.real(self))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(item, ArrayMethods) for item in inputs):
            return NotImplemented
        written = [item for item in kwargs.pop("out", ()) if item is not None]
        if not all(isinstance(w, Symbol) for w in written):
            raise TraceError(
                f"tg.compile cannot record that numpy.{ufunc.__name__} writes into a plain array: "
                f"assign the result instead. {user_line()}"
            )
        if method == "__call__" and ufunc.__name__ in PYTHON and not written and not kwargs:
            call: Any = PYTHON[ufunc.__name__]
            python = all(weak(v) for v in concrete(inputs))
            out = self.tracer.record(ufunc.__name__, call if python else ufunc, inputs, {})
        elif method == "__call__":
            out = self.tracer.record(ufunc.__name__, ufunc, inputs, kwargs)
        elif method == "at":
            self.update(f"{ufunc.__name__}.at", ufunc.at, *inputs[1:])
            return None
        else:
            call = getattr(ufunc, method)
            out = self.tracer.record(f"{ufunc.__name__}.{method}", call, inputs, kwargs)
        for item in written:
            item.become(out if item.dtype == out.dtype else out.astype(item.dtype))
        return written[0] if written else out

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if any(issubclass(kind, ArrayMethods) for kind in types):
            return NotImplemented
        name = function.__name__
        if function in (np.shape, np.ndim, np.size, np.result_type, np.iscomplexobj, np.isrealobj):
            return function(*concrete(args), **concrete(kwargs))
        if kwargs.get("out") is not None:
            raise TraceError(f"tg.compile cannot record out= of numpy.{name}. {user_line()}")
        if function is np.put_along_axis and isinstance(args[0], Symbol):
            args[0].update(name, function, *args[1:], **kwargs)
            return None
        if function is np.copyto and len(args) == 2:
            target = args[0] if isinstance(args[0], Symbol) else self.tracer.outside(args[0])
            new: Any = np.broadcast_to(args[1], target.shape)
            target.become(new.astype(target.dtype))
            return None
        if function in (np.copyto, np.put_along_axis, np.put, np.place, np.putmask):
            raise TraceError(
                f"tg.compile cannot record numpy.{name}, which writes in place. {user_line()}"
            )
        return self.tracer.record(name, function, args, kwargs)

    def record_whole(self, kernel: Callable[..., Any], args: Any, params: Any) -> Any:
        return self.tracer.record(f"whole.{kernel.__name__}", kernel, args, params)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, tuple) and not index and not isinstance(self.data, np.ndarray):
            return self
        return self.tracer.record("getitem", operator.getitem, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        self.update("setitem", operator.setitem, index, value)

    def update(self, op: str, write: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Write into an array that was computed here: from now on this is another value."""

        def written(x: Any, *args: Any, **kwargs: Any) -> Any:
            x = x.copy()
            write(x, *args, **kwargs)
            return x

        self.become(self.tracer.record(op, written, (self, *args), kwargs))

    def become(self, new: Symbol) -> None:
        """Take the place of another value: this array was written into."""
        if new.shape != self.shape:
            raise ValueError(f"an array of {self.shape} cannot hold one of {new.shape}")
        if self.value in self.tracer.program.inputs:
            raise TraceError(f"tg.compile: an argument would be written into. {user_line()}")
        for view in self.views:
            if (symbol := view()) is not None:
                symbol.stale = True
        if self.of is not None:
            raise TraceError(
                f"tg.compile cannot record that a part of an array is written into: {user_line()}"
            )
        self.value, self.data = new.value, new.data

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a number")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        _refuse(self, "turning an array into a plain one", "use NumPy functions on it")

    def __bool__(self) -> bool:
        if sys._getframe(1).f_code.co_filename.startswith(PACKAGE):  # the engine's own question
            self.tracer.program.guards.append((self.value, bool(self.data)))
            return bool(self.data)
        return bool(_refuse(self, "`if`", "use np.where, or a static argument"))

    def __float__(self) -> float:
        return float(_refuse(self, "float()", "leave it an array"))

    def __int__(self) -> int:
        return int(_refuse(self, "int()", "leave it an array, or use a static argument"))

    __index__ = __int__

    def item(self, *_: Any) -> Any:
        return _refuse(self, ".item()", "leave it an array")

    tolist = item

    def __repr__(self) -> str:
        return f"<array {self.dtype} {self.shape} while tg.compile records>"

    def view(self, dtype: Any) -> Any:
        return self.tracer.record("view", _view, (self, np.dtype(dtype)), {})

    def strong(self) -> Symbol:
        """A Python number as NumPy's."""
        return self.tracer.record("float64", np.float64, (self,), {}) if self.value.weak else self

    T = property(lambda self: np.transpose(self))

    def reshape(self, *shape: Any, **options: Any) -> Any:
        if options.get("order", "C") != "C":
            return np.reshape(self, shape[0] if len(shape) == 1 else shape, **options)
        shape = (
            tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        )
        if shape == self.shape:
            return self
        return np.reshape(self, shape)

    def transpose(self, *axes: Any) -> Any:
        given: Any = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
        return np.transpose(self, given or None)

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        return self.tracer.record("astype", _astype, (self, np.dtype(dtype)), {})


def _view(x: Any, dtype: Any) -> Any:
    return x.view(dtype)


def _astype(x: Any, dtype: Any) -> Any:
    return np.asarray(x).astype(dtype)[()]


def _method(name: str) -> Any:
    function = getattr(np, name)
    return lambda self, *args, **kwargs: function(self, *args, **kwargs)


for _name in [
    "sum",
    "mean",
    "max",
    "min",
    "prod",
    "std",
    "var",
    "any",
    "all",
    "argmax",
    "argmin",
    "argsort",
    "cumsum",
    "cumprod",
    "ravel",
    "squeeze",
    "swapaxes",
    "copy",
    "clip",
    "round",
    "take",
    "repeat",
    "diagonal",
    "trace",
    "dot",
    "nonzero",
]:
    setattr(Symbol, _name, _method(_name))


def _rebound(name: str, ufunc: Any) -> Any:
    """`s += 1` of a number makes a new one, of an array it writes."""

    def inplace(self: Any, other: Any) -> Any:
        if isinstance(self.data, np.ndarray) or self.outer:
            return ufunc(self, other, out=(self,))
        return getattr(operator, name)(self, other)

    return inplace


for _name, _ufunc in {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
}.items():
    setattr(Symbol, f"__i{_name}__", _rebound(_name, _ufunc))
