"""What stands for an array while a run is recorded: it computes, and has the tracer write it down.

The one trick: it is no ndarray, so that whatever would read its numbers without NumPy's protocols
(`if x > 0`, `float(x)`, assignment into an array) ends in an error here, and nothing can be taken
for a constant silently.
"""
# mypy: no-warn-return-any

from __future__ import annotations

import math
import operator
import sys
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..array_methods import ArrayMethods
from .errors import (
    NUMPY,
    PACKAGE,
    NoAttributeError,
    NumbersError,
    TraceError,
    user_frame,
    user_line,
)
from .program import UPDATES, Value, mapped

if TYPE_CHECKING:
    from .trace import Tracer


PYTHON = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul,
    "divide": operator.truediv, "power": operator.pow, "negative": operator.neg,
}  # fmt: skip


def weak(data: Any) -> bool:
    """Whether this is a Python number: it does not widen another's dtype."""
    return type(data) in (bool, int, float)


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
    why = f"{what} depends on the numbers of this call, and another call would need another"
    why += " recording"
    if user_frame()[1] & {"__repr__", "__format__", "__str__"}:
        why, way = "no text of numbers while recording", "return them, and print after the call"
    way += ", or a tuple instead of an array that never changes" * symbol.outer
    raise NumbersError(f"tg.compile: {why}: {way}. {user_line()}")


class Symbol(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the recorded run: `data` has its numbers, `value` its place in the recording."""

    # fmt: off
    __slots__ = ("__weakref__", "data", "dtype", "of", "outer", "shape", "size", "stale", "tracer",
                 "value", "views")
    # fmt: on
    __hash__ = object.__hash__
    traced = True

    def __init__(self, tracer: Tracer, data: Any, value: Value) -> None:
        self.tracer, self.data, self.value, self.stale = tracer, data, value, False
        self.shape, self.dtype, self.size = value.shape, value.dtype, math.prod(value.shape)
        tracer.symbols.append(weakref.ref(self))
        self.outer = False  # it stands for something outside, which is written into
        self.of: Symbol | None = None  # a view shares the memory of this array
        self.views: Any = ()  # weak references

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """To the user's `isinstance` an array, or a number; to the engine what it is."""
        inside = sys._getframe(1).f_code.co_filename.startswith((PACKAGE, NUMPY))
        return Symbol if inside else type(self.data)

    ndim = property(lambda self: len(self.shape))
    itemsize = property(lambda self: self.dtype.itemsize)
    nbytes = property(lambda self: self.size * self.dtype.itemsize)
    imag = property(lambda self: np.imag(self))
    base = None
    real = property(lambda self: self if self.dtype.kind != "c" else np.real(self))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        for item in inputs:
            if isinstance(item, ArrayMethods):
                return NotImplemented
        written = [item for item in kwargs.pop("out", ()) if item is not None] if kwargs else ()
        if not all(isinstance(w, Symbol) for w in written):
            raise TraceError(
                f"tg.compile cannot record that numpy.{ufunc.__name__} writes into a plain array: "
                f"assign the result instead. {user_line()}"
            )
        if method == "__call__" and ufunc.__name__ in PYTHON and not written and not kwargs:
            call: Any = PYTHON[ufunc.__name__]
            python = all(weak(v.data if type(v) is Symbol else v) for v in inputs)
            out = self.tracer.record(ufunc.__name__, call if python else ufunc, inputs, {})
        elif method == "__call__":
            out = self.tracer.record(ufunc.__name__, ufunc, inputs, kwargs)
        elif method == "at":
            if not isinstance(inputs[0], Symbol):
                raise TraceError(
                    f"tg.compile cannot record that numpy.{ufunc.__name__}.at writes into a plain "
                    f"array: make it of what is recorded, np.zeros_like(x). {user_line()}"
                )
            return inputs[0].update(f"{ufunc.__name__}.at", ufunc.at, *inputs[1:])
        else:
            call = getattr(ufunc, method)
            out = self.tracer.record(f"{ufunc.__name__}.{method}", call, inputs, kwargs)
        for item in written:
            item.become(out)
        return written[0] if written else out

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if any(issubclass(kind, ArrayMethods) for kind in types):
            return NotImplemented
        name = function.__name__
        if function in (np.shape, np.ndim, np.size, np.result_type, np.iscomplexobj, np.isrealobj):
            return function(*concrete(args), **concrete(kwargs))
        written = kwargs.pop("out", None)
        if name in UPDATES | {"copyto"}:
            written, args = args[0], args[1:]
        if written is not None and not isinstance(written, Symbol):
            raise TraceError(
                f"tg.compile cannot record that numpy.{name} writes into a plain array: assign the "
                f"result instead. {user_line()}"
            )
        if written is None:
            return self.tracer.record(name, function, args, kwargs)
        if name in UPDATES:
            return written.update(name, function, *args, **kwargs)
        if function is np.copyto:
            where = kwargs.pop("where", True)
            function, name = (
                (np.broadcast_to, "broadcast_to") if where is True else (np.where, "where")
            )
            args = (args[0], written.shape) if where is True else (where, args[0], written)
        written.become(self.tracer.record(name, function, args, kwargs))
        return written

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
        if new.shape != self.shape or not np.can_cast(new.dtype, self.dtype, "same_kind"):
            raise TypeError(
                f"an array of {self.dtype} {self.shape} cannot hold one of {new.dtype} {new.shape}"
            )
        new = new if new.dtype == self.dtype else new.astype(self.dtype)
        if self.value in self.tracer.program.inputs:
            raise TraceError(
                "tg.compile: an argument would be written into: write x = x + 1 for x += 1, or "
                f"begin with x = x.copy(). {user_line()}"
            )
        for view in self.views:
            if (symbol := view()) is not None:
                symbol.stale = True
        if self.of is not None:
            raise TraceError(
                f"tg.compile cannot record that a part of an array is written into: {user_line()}"
            )
        self.value, self.data = new.value, new.data
        self.tracer.overwritten.add(new.value)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a number")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        _refuse(self, "turning an array into a plain one", "use NumPy's functions on it")

    def __bool__(self) -> bool:
        if sys._getframe(1).f_code.co_filename.startswith(PACKAGE):  # the engine's own question
            self.tracer.program.guards.append((self.value, bool(self.data)))
            return bool(self.data)
        return bool(
            _refuse(self, "`if`", "use np.where, a static argument, or decide after the call")
        )

    def __float__(self) -> float:
        return float(_refuse(self, "float()", "leave it an array, or do that after the call"))

    def __int__(self) -> int:
        return int(_refuse(self, "int()", "leave it an array, or use a static argument"))

    __index__ = __int__

    def item(self, *_: Any) -> Any:
        return _refuse(self, ".item()", "leave it an array, or do that after the call")

    tolist = item

    def __repr__(self) -> str:
        return f"<array {self.dtype} {self.shape} while tg.compile records>"

    def __format__(self, spec: str = "") -> str:
        if sys._getframe(1).f_code.co_filename.startswith(PACKAGE):  # in an error's message
            return repr(self)
        return str(_refuse(self, "the text of an array", ""))

    __str__ = __format__

    def __getattr__(self, name: str) -> Any:
        if sys._getframe(1).f_code.co_filename.startswith((PACKAGE, NUMPY)) or name[:2] == "__":
            raise AttributeError(name)
        raise NoAttributeError(
            f"tg.compile cannot record .{name} of an array: use NumPy's functions. {user_line()}"
        )

    def __round__(self, digits: int | None = None) -> Any:
        return int(self) if digits is None else np.round(self, digits)

    def view(self, dtype: Any) -> Any:
        return self.tracer.record("view", _view, (self, np.dtype(dtype)), {})

    def strong(self) -> Symbol:
        """A Python number as NumPy's."""
        return self.tracer.record("float64", np.float64, (self,), {}) if self.value.weak else self

    def __deepcopy__(self, _: Any = None) -> Any:
        return np.copy(self)

    __copy__ = flatten = __deepcopy__

    def fill(self, value: Any) -> None:
        self[...] = value

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
    "conj",
    "conjugate",
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


class Kind(type):
    """Makes `type` itself, except that a Symbol is of the class of what it stands for."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        one = len(args) == 1 and not kwargs
        return type(args[0].data) if one and type(args[0]) is Symbol else type(*args, **kwargs)

    def __instancecheck__(cls, item: Any) -> bool:
        return isinstance(item, type)


class Type(type, metaclass=Kind):
    """What the user's code calls `type` while it is recorded."""


class Random:
    """A NumPy Generator while recording."""

    def __init__(self, tracer: Tracer, symbol: Symbol) -> None:
        self.tracer, self.symbol = tracer, symbol

    __class__ = property(lambda self: np.random.Generator)

    def __getattr__(self, name: str) -> Any:
        def draw(*args: Any, **kwargs: Any) -> Any:
            return self.tracer.record(
                f"rng.{name}", partial(_drawn, name), (self.symbol, *args), kwargs, True
            )

        return draw


def _drawn(name: str, rng: Any, *args: Any, **kwargs: Any) -> Any:
    return getattr(rng, name)(*args, **kwargs)
