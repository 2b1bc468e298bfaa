"""Parameter and Module: how a network finds its parameters, saves them, and describes itself.

The one trick: there is no registry. A module's parameters and submodules are its attributes, found
by walking `vars(module)`, so a subclass needs no `super().__init__()`; what such a walk would miss
(a plain list of layers, say) is refused by name instead of staying untrained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from reprlib import recursive_repr
from textwrap import indent
from typing import Any, TypeVar

import numpy as np

from ..array_methods import raw
from ..mode import MODE, SCOPE, Scope, no_grad
from ..tensor import Tensor, changed, constant

M = TypeVar("M", bound="Module")
# Functions that are told of every call: of the module and what it returned
WATCHERS: ContextVar[tuple[Callable[[Module, Any], None], ...]] = ContextVar("watchers", default=())
PLAIN = (list, tuple, dict, set, frozenset)  # containers in which no one looks for parameters


class Parameter(Tensor):
    """A Tensor that a Module trains: a copy of `data`, in its dtype, that requires a gradient."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)

    def __repr__(self) -> str:
        return "Parameter" + super().__repr__().removeprefix("tensor").replace("\n", "\n   ")


class Module:
    """A part of a network: assign Parameters and Modules to attributes, and write `forward`.

    Lists of its parts are in PyTorch's order: a module, then its children, depth first.

    >>> import numpy as np, tinygrad_lite as tg
    >>> class Scale(tg.nn.Module):
    ...     def __init__(self, n):
    ...         self.factor = tg.nn.Parameter(np.ones(n))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> tg.nn.Sequential(Scale(3), tg.nn.ReLU())
    Sequential(  # 3 parameters
      (0): Scale()  # 3 parameters
      (1): ReLU()
    )
    """

    training: bool = True
    shown: tuple[str, ...] = ()  # the attributes that repr shows
    scope_name: str = ""  # what diagrams call its calls: the first attribute that held it, class
    _buffers: tuple[str, ...] = ()  # the attributes that are buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass writes its own."""
        name = type(self).__name__
        raise NotImplementedError(f"{name} has no forward: write `def forward(self, x):` in it")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = SCOPE.set(Scope(self.scope_name or type(self).__name__, SCOPE.get()))
        if (tracer := MODE.get().tracer) is not None:
            tracer.world.reach(self, type(self).__name__)
        try:
            out = self.forward(*args, **kwargs)
        finally:
            SCOPE.reset(token)
        for watch in WATCHERS.get():
            watch(self, out)
        return out

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            value.name = value.name or name
        elif value is not None and isinstance(vars(self).get(name), Parameter):
            raise TypeError(
                f"{type(self).__name__}.{name} is a Parameter, and a {type(value).__name__} in its "
                f"place would not be trained: set values with .{name}.data[...] = value, or assign "
                "a new nn.Parameter"
            )
        elif value is not None and name in self._buffers:
            value = np.asarray(value)  # raises for a tracked Tensor: its graph would never end
        elif isinstance(value, Module) and not value.scope_name:
            vars(value)["scope_name"] = f"{name}: {type(value).__name__}"
        super().__setattr__(name, value)

    def register_buffer(self, name: str, array: Any) -> None:
        """Keep a copy of an array that belongs to the state and is not trained (or None)."""
        if "." in name or not name or hasattr(self, name):
            raise ValueError(f"register_buffer: {name!r} has a dot, is empty, or is already taken")
        self._buffers = (*self._buffers, name)
        setattr(self, name, array if array is None else np.array(array))

    # What is in it

    def _own(self, *kinds: type) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if isinstance(value, kinds)}

    def _walk(self, check: bool = True) -> list[tuple[str, Module]]:
        """(prefix, module), a shared module under each of its names; a cycle is cut."""
        found: list[tuple[str, Module]] = []
        stack: list[tuple[str, Module, frozenset[int]]] = [("", self, frozenset({id(self)}))]
        while stack:
            prefix, module, above = stack.pop()
            found.append((prefix, module))
            for name, child in reversed(module._own(Module).items()):
                if id(child) not in above:
                    stack.append((f"{prefix}{name}.", child, above | {id(child)}))
        if check:
            _refuse_hidden(found)
        return found

    def _state(self) -> list[tuple[str, Any]]:
        """(path, Parameter or buffer), under all its names."""
        return [
            (prefix + name, getattr(module, name))
            for prefix, module in self._walk()
            for name in (*module._own(Parameter), *module._buffers)
            if getattr(module, name, None) is not None  # None, or deleted: not there
        ]

    def named_modules(self) -> list[tuple[str, Module]]:
        """(path, module) pairs, each module once; this one first, with the path ""."""
        return _once((prefix[:-1], module) for prefix, module in self._walk())

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """(path, Parameter) pairs, each Parameter once.

        This and whatever else looks for parameters raises TypeError for those that it would not
        find, in a plain list, tuple or dict (use `ModuleList` or `ModuleDict`), and for a trainable
        Tensor that is no Parameter.
        """
        return _once(pair for pair in self._state() if isinstance(pair[1], Parameter))

    def named_buffers(self) -> list[tuple[str, Any]]:
        """(path, array) pairs of what belongs to the state and is not trained, each once."""
        return _once(pair for pair in self._state() if not isinstance(pair[1], Parameter))

    # fmt: off
    def modules(self) -> list[Module]: return [m for _, m in self.named_modules()]
    def children(self) -> list[Module]: return [m for _, m in _once(self._own(Module).items())]
    def parameters(self) -> list[Parameter]: return [p for _, p in self.named_parameters()]
    def buffers(self) -> list[Any]: return [array for _, array in self.named_buffers()]
    def num_parameters(self) -> int: return sum(p.size for p in self.parameters())
    # fmt: on

    # What is done to all of it

    def apply(self: M, function: Callable[[Module], Any]) -> M:
        """Call `function` on this module and all below it, to initialise weights, say."""
        for module in self.modules():
            function(module)
        return self

    def train(self: M, mode: bool = True) -> M:
        """Set `training` here and below: Dropout drops, BatchNorm uses the batch's statistics."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Set `training` to False here and below: no randomness, running statistics."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Set the `.grad` of every parameter to None."""
        for p in self.parameters():
            p.zero_grad()

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Train all parameters, or freeze them (False)."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of all parameters and buffers, under PyTorch's names and in its order."""
        return {path: np.array(raw(value)) for path, value in self._state()}

    def load_state_dict(
        self, state: Mapping[str, Any], strict: bool = True
    ) -> tuple[list[str], list[str]]:
        """Write arrays or Tensors, named as in `state_dict()`, into the parameters and buffers.

        Values are cast to the dtype of what they fill. All is checked before anything is written:
        ValueError lists every missing or unexpected name, wrong shape and dtype that does not fit.
        `strict=False` passes over missing and unexpected names; they are returned.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"expected a dict of names and arrays, got {type(state).__name__}")
        places = dict(self._state())
        missing = [name for name in places if name not in state]
        unexpected = [name for name in state if name not in places]
        problems = [f"{name} is missing" for name in missing if strict]
        problems += [f"{name} is unexpected" for name in unexpected if strict]
        arrays = {name: np.asarray(raw(state[name])) for name in places if name in state}
        for name, new in arrays.items():
            old = places[name]
            if new.shape != old.shape or not np.can_cast(new.dtype, old.dtype, "same_kind"):
                problems.append(f"{name} is {new.dtype} {new.shape}, not {old.dtype} {old.shape}")
        if problems:
            raise ValueError(f"load_state_dict: nothing was loaded: {'; '.join(problems)}")
        for name, new in arrays.items():
            if isinstance(old := raw(places[name]), np.ndarray):
                old[...] = new
                if isinstance(places[name], Tensor):
                    changed(places[name])
            else:  # a number
                places[name].data = new.astype(old.dtype)
        return missing, unexpected

    # How it describes itself

    def extra_repr(self) -> str:
        """The options that `repr` shows."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.shown)

    @recursive_repr()  # "..." where a child holds its parent
    def __repr__(self) -> str:
        every = [p for _, m in self._walk(check=False) for p in m._own(Parameter).items()]
        count = sum(p.size for _, p in _once(every))
        note = f"  # {count:,} parameters" if count else ""
        rows = [f"({name}): {module!r}" for name, module in self._own(Module).items()]
        name, options = type(self).__name__, self.extra_repr()
        if not rows:
            return f"{name}({options}){note}"
        inner = indent("\n".join([options, *rows] if options else rows), "  ")
        return f"{name}({note}\n{inner}\n)"

    def summary(self, input_shape: tuple[int, ...], dtype: Any = np.float32) -> str:
        """A table of all modules, with the shapes they return for zeros of `input_shape`.

        The shape includes the batch axis. The model runs once, in eval mode and without recording.
        """
        shapes: dict[int, str] = {}
        training = [(module, module.training) for module in self.modules()]
        watchers = (*WATCHERS.get(), lambda module, out: shapes.update({id(module): _shapes(out)}))
        token = WATCHERS.set(watchers)
        try:
            with no_grad():
                self.eval()(constant(np.zeros(input_shape, dtype)))
        finally:
            WATCHERS.reset(token)
            for module, flag in training:
                module.training = flag
        rows, seen = [("module", "class", "output shape", "parameters")], set[int]()
        for path, module in self.named_modules():
            own = {id(p): p.size for p in module._own(Parameter).values() if id(p) not in seen}
            seen.update(own)
            shape = shapes.get(id(module), "not called")
            rows.append((path or "(all)", type(module).__name__, shape, f"{sum(own.values()):,}"))
        a, b, c, d = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines = [f"{w:{a}}  {x:{b}}  {y:{c}}  {z:>{d}}" for w, x, y, z in rows]
        total, rule = self.num_parameters(), "-" * len(lines[0])
        frozen = sum(p.size for p in self.parameters() if not p.requires_grad)
        end = f"{total:,} parameters: {total - frozen:,} trained, {frozen:,} frozen"
        return "\n".join([lines[0], rule, *lines[1:], rule, end])


def _once(pairs: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The pairs whose second part was not there before."""
    first: dict[int, tuple[str, Any]] = {}
    for name, value in pairs:
        first.setdefault(id(value), (name, value))
    return list(first.values())


def _shapes(out: Any) -> str:
    if isinstance(out, (tuple, list)):
        return ", ".join(_shapes(part) for part in out if part is not None)
    return str(out.shape) if hasattr(out, "shape") else type(out).__name__


def _refuse_hidden(found: list[tuple[str, Module]]) -> None:
    """Raise for what `_walk` did not find and a user thinks that it trains."""
    known = {id(x) for _, m in found for x in (m, *m._own(Parameter).values())}
    for prefix, module in found:
        shared = [pair for kind in type(module).__mro__ for pair in vars(kind).items()]
        for name, value in [*vars(module).items(), *shared]:
            items, seen = [value], set()
            for item in items:  # the list grows while it is walked
                if isinstance(item, PLAIN) and id(item) not in seen:
                    seen.add(id(item))
                    items += item.values() if isinstance(item, dict) else item
                trains = isinstance(item, Tensor) and item.requires_grad and item.is_leaf
                if id(item) in known or not (trains or isinstance(item, (Module, Parameter))):
                    continue
                advice = "this Tensor is no Parameter: wrap it in nn.Parameter"
                if item is not value:
                    advice = f"it is in a {type(value).__name__}: use nn.ModuleList / ModuleDict"
                elif isinstance(item, (Module, Parameter)):
                    advice = "it belongs to the class: assign it to self in __init__"
                where = f"{type(found[0][1]).__name__}: {prefix}{name}"
                raise TypeError(f"{where} would silently stay untrained, because {advice}")


class Container(Module):
    """What the three containers share: entries are attributes named by number or key."""

    def __init__(self, modules: Iterable[Any] | Mapping[str, Any] = ()) -> None:
        pairs = modules.items() if isinstance(modules, Mapping) else enumerate(modules)
        for name, module in pairs:
            self._put(str(name) if isinstance(name, int) else name, module)

    def _put(self, name: str, module: Any) -> None:
        kind = type(self).__name__
        if not isinstance(module, (Module, Parameter)):
            raise TypeError(
                f"{kind}: entry {name!r} must be a Module or a Parameter, got {module!r} (write "
                "nn.ReLU() instead of nn.ReLU, and Sequential(*layers) instead of a list)"
            )
        if not isinstance(name, str) or not name or "." in name or hasattr(type(self), name):
            raise ValueError(f"{kind}: {name!r} cannot be the name of an entry")
        setattr(self, name, module)

    def append(self, module: Any) -> Container:
        """Add an entry at the end; returns the container."""
        number = len(self)
        while str(number) in vars(self):  # a slice keeps its old numbers
            number += 1
        self._put(str(number), module)
        return self

    # fmt: off
    def items(self) -> list[tuple[str, Any]]: return list(self._own(Module, Parameter).items())
    def __len__(self) -> int: return len(self.items())
    def __iter__(self) -> Iterator[Any]: return iter(self._own(Module, Parameter).values())
    # fmt: on

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            part = type(self).__new__(type(self))
            vars(part).update(self.items()[index])
            return part
        return dict(self.items())[index] if isinstance(index, str) else self.items()[index][1]

    def __setitem__(self, index: Any, module: Any) -> None:
        self._put(index if isinstance(index, str) else self.items()[index][0], module)


class Sequential(Container):
    """Modules called one after the other: `Sequential(a, b)(x)` is `b(a(x))`; also from a dict."""

    def __init__(self, *modules: Any) -> None:
        one = len(modules) == 1 and isinstance(modules[0], Mapping)
        super().__init__(modules[0] if one else modules)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(Container):
    """A list whose modules (or Parameters) are found; `forward` is for you to write."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return ModuleList(part) if isinstance(index, slice) else part  # numbered anew, as PyTorch's


class ModuleDict(Container):
    """A dict whose modules (or Parameters) are found; `forward` is for you to write."""

    # fmt: off
    def keys(self) -> list[str]: return [name for name, _ in self.items()]
    def values(self) -> list[Any]: return [module for _, module in self.items()]
    def __iter__(self) -> Iterator[str]: return iter(self.keys())
    def __contains__(self, key: object) -> bool: return key in self.keys()
    # fmt: on
