"""What a function can reach: all that its code, and the code that it calls, can name.

Of a module, a class or an object only those attributes are looked at that occur in the code that
was reached, as a name or as a text: a counter of the training loop is none of the step's business.
The one trick: more code means more names, so what has attributes is looked through again until
nothing new is found. What no code of the user's reads cannot be seen here: files, clocks, caches of
functools, what other libraries' objects, and code in C, keep to themselves. `check=True` sees that.
"""

from __future__ import annotations

import dis
import enum
import gc
import random
import sys
import sysconfig
import threading
import weakref
from array import array
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from types import CodeType, FunctionType, MappingProxyType, ModuleType
from types import MemberDescriptorType as MEMBER
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tensor import Tensor
from .errors import TraceError

if TYPE_CHECKING:
    from .outside import World

HEAP = 1 << 9  # in the flags of a class: written in Python
ARRAYS = (Tensor, np.ndarray)
ROOT = __name__.split(".")[0]
PATHS = tuple(sysconfig.get_path(p) for p in ("stdlib", "platstdlib", "purelib", "platlib"))
SIMPLE = (bool, int, float, complex, str, bytes, type(None), np.generic, np.ufunc, np.dtype)
# Code that names one of these may read any attribute
DYNAMIC = {"getattr", "setattr", "vars", "dir", "__dict__", "attrgetter", "asdict", "astuple"}
# What the objects of these modules hold is read by code of theirs, which is not looked into
HOLDERS = {"collections", "types", "argparse", "_thread", "_threading_local"}
# What a callable passes the call on to
WRAPPED = ("__func__", "__self__", "__wrapped__", "fget", "fset", "func")


class Walk:
    """Everything from some roots on, each thing once; each place becomes a slot of the world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names = {"forward", "training"}  # those that the package calls and reads
        self.called: set[str] = set()  # names of methods: a number of that name is none
        self.made: set[int] = set()  # classes that the code names, so that it may make instances
        self.seen: dict[Any, Any] = {}
        self.todo: list[tuple[Any, str]] = []
        self.open: list[tuple[Any, str]] = []  # what has attributes
        self.own = ""  # the package of the first function: not a library, wherever it lies

    def start(self, f: Any) -> None:
        """From the function itself, in whose package nothing is a library."""
        whole = f
        while isinstance(f, partial):
            f = f.func
        self.own = str(getattr(f, "__module__", "")).split(".")[0]
        self.found(whole, getattr(f, "__name__", "f"))

    def found(self, item: Any, name: str) -> None:
        if not isinstance(item, SIMPLE) and id(item) not in self.seen:
            self.seen[id(item)] = item
            self.todo.append((item, name))

    def finish(self) -> None:
        """Look into what was found, and into what that leads to."""
        size = -1
        while size != (
            size := len(self.world.slots) + len(self.seen) + len(self.names | self.called)
        ):
            while self.todo:
                self.look_into(*self.todo.pop())
            for item, name in [*self.open]:
                self.attributes(item, name)

    def look_into(self, item: Any, name: str) -> None:
        mine = not library_class(type(item), self.own)
        if isinstance(item, Tensor):
            self.world.tensor(item)
        elif isinstance(item, np.ndarray):
            if item.dtype == object:
                raise TraceError(f"tg.compile: {name} is an array of objects: use a list instead")
        elif isinstance(item, (np.random.Generator, np.random.RandomState, random.Random)):
            self.world.random.append(item)
        elif isinstance(item, FunctionType):
            self.function(item, name)
        elif isinstance(item, ModuleType):
            self.open += [] if library(item.__name__, self.own) else [(item, name)]
        elif isinstance(item, type):
            self.made.add(id(item))
            self.class_of(item, name)
        elif isinstance(item, Iterator) and not mine:
            raise TraceError(
                f"tg.compile: {name} is an iterator or a file ({type(item).__name__}): a replay "
                "would neither take its next item nor write: do that outside, and pass the item"
            )
        elif derives(item, "optim.optimizers"):
            self.optimizer(item, name)
        else:
            self.inside(item, name, mine)

    def inside(self, item: Any, name: str, mine: bool) -> None:
        """Containers, wrappers of functions, and objects."""
        slot, found = self.world.slot, self.found
        if isinstance(item, MappingProxyType):
            return found(gc.get_referents(item)[0], name)
        if isinstance(item, weakref.ref):
            return found(item(), name)
        if isinstance(item, tuple):
            for k, part in enumerate(item):
                found(part, f"{name}[{k}]")
        elif isinstance(item, (dict, list, deque)):
            self.world.container(item, name)
            for key in item if isinstance(item, dict) else range(len(item)):
                slot(item, key, f"{name}[{key!r}]")
            if isinstance(item, dict) and item:  # what is taken out and put back comes last
                self.world.assume("next(reversed({0})) is {1}", item, [*item][-1])
        elif isinstance(item, (set, frozenset)):
            if isinstance(item, set):
                self.world.container(item, name)
                self.world.assume("{0} == {1}", item, frozenset(item))
            for part in item:
                found(part, name)
        elif isinstance(item, ContextVar):
            value = item.get(None)
            self.world.assume("{0}.get(None) is {1}", item, value)
            if isinstance(value, (np.ndarray, np.random.Generator, tuple)):
                raise TraceError(f"tg.compile: {item.name} is a context variable: pass its value")
            found(value, name)
        elif isinstance(item, (bytearray, array)):
            self.world.assume("{0} == {1}", item, item[:])
        elif isinstance(item, partial):
            slot(item, "args", name, item=False)
            found(item.keywords, name)
        module = derives(item, "nn.module")
        if not (mine or module) and (callable(item) or hasattr(type(item), "__get__")):
            for part in (getattr(item, at, None) for at in WRAPPED):
                found(part, name)
        elif mine or type(item).__module__.split(".")[0] in HOLDERS | {ROOT}:
            self.open.append((item, name))
            self.class_of(type(item), type(item).__name__)
            self.world.assume("{0}.__class__ is {1}", item, item.__class__)
            if isinstance(item, threading.local):  # in another thread it holds something else
                self.world.assume(f"{{0}}() == {threading.get_ident()}", threading.get_ident)
            if hasattr(item, "__dict__"):
                self.world.container(vars(item), name)
        return None

    def function(self, f: Any, name: str) -> None:
        slot, world = self.world.slot, f.__globals__
        for free, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            slot(cell, "cell_contents", free, item=False)
        if f.__defaults__:
            slot(f, "__defaults__", f"the defaults of {name}", item=False)
        for items in (f.__kwdefaults__, vars(f)):
            if items:
                self.found(items, name)
        module = world.get("__name__")
        if not library(module, self.own):
            for code in codes(f.__code__):
                self.names.update(texts(code.co_consts))
                for step in dis.get_instructions(code):
                    key = step.argval
                    if "GLOBAL" in step.opname or step.opname == "LOAD_NAME":
                        if key in world:
                            slot(world, key, key)
                        else:  # one of Python's own
                            self.world.absent(world, key)
                            if key == "type" and not any(world is w for w in self.world.typed):
                                self.world.typed.append(world)
                    elif step.opname == "IMPORT_NAME":
                        self.found(sys.modules.get(key), key)
                    elif step.opcode in dis.hasname:
                        method = step.opname == "LOAD_METHOD" or "NULL" in step.argrepr
                        (self.called if method else self.names).add(key)

    def attributes(self, item: Any, name: str) -> None:
        """Slots for those that have a name in the code."""
        every = bool(self.names & DYNAMIC) and not isinstance(item, ModuleType)
        slot = self.world.slot
        if isinstance(item, type):
            return self.of_class(item, name, every)
        opaque = any(
            kind.__module__.startswith((ROOT, *HOLDERS)) and kind.__name__ != "Module"
            for kind in type(item).__mro__
        )
        module = derives(item, "nn.module")
        for key, value in [*getattr(item, "__dict__", {}).items()]:
            part = module and (derives(value, "nn.module") or isinstance(value, ARRAYS))
            if every or opaque or part or self.wanted(key, value):
                slot(vars(item), key, f"{name}.{key}")
        for kind in type(item).__mro__:
            for key, value in vars(kind).items():
                if isinstance(value, MEMBER) and (every or self.wanted(key, value)):
                    slot(item, key, f"{name}.{key}", item=False)

    def wanted(self, key: str, value: Any) -> bool:
        return key in self.names or (key in self.called and not isinstance(value, SIMPLE))

    def class_of(self, kind: type, name: str) -> None:
        known = ("class", id(kind)) in self.seen or issubclass(kind, enum.Enum)
        if not known and not library_class(kind, self.own):
            self.seen["class", id(kind)] = kind
            self.open.append((kind, name))

    def of_class(self, item: type, name: str, every: bool) -> None:
        """Attributes of a class: what they are, and that a subclass does not hide them."""
        made = id(item) in self.made
        for kind in (*item.__mro__[:-1], type(item)):
            self.made |= {id(kind)} if made else set()
            self.class_of(kind, kind.__name__)
            for key, value in [*vars(kind).items()]:
                special = key.startswith("__") and key.endswith("__")
                if special and kind is item and hasattr(value, "__get__"):
                    if made or key not in ("__init__", "__new__", "__post_init__"):
                        self.found(value, f"{name}.{key}")
                elif special or isinstance(value, MEMBER) or not (every or self.wanted(key, value)):
                    continue
                elif kind is item:
                    self.world.slot(vars(item), key, f"{name}.{key}", owner=item)
                elif key not in vars(item):
                    self.world.absent(vars(item), key, item)

    def optimizer(self, item: Any, name: str) -> None:
        """What schedules change is read anew; what it keeps itself is no concern here."""
        slot = self.world.slot
        self.seen[id(item.state)] = item.state
        slot(vars(item), "state", f"{name}.state")
        for k, group in enumerate(item.param_groups):
            self.seen[id(group)] = group
            self.world.container(group, f"{name}.param_groups[{k}]")
            for key in group.keys() - {"initial_lr"}:
                live = key in ("lr", "betas") or (key == "momentum" and group[key] != 0)
                slot(group, key, f"{name}.param_groups[{k}].{key}", live=live)
                if live and key == "momentum":
                    self.world.assume("{0}['momentum'] != 0", group)
        slot(vars(item), "param_groups", f"{name}.param_groups")


def library(name: Any, own: str) -> bool:
    """Whether a module is Python's, NumPy's, this package, or installed beside the user's own."""
    top = str(name).split(".")[0]
    if top in (ROOT, "numpy"):
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    if file is None:
        return top in sys.stdlib_module_names
    return top != own and file.startswith(PATHS)


def library_class(kind: type, own: str) -> bool:
    written = kind.__module__ == "builtins" and kind.__flags__ & HEAP  # by code without a module
    return not written and library(kind.__module__, own)


def codes(code: CodeType) -> list[CodeType]:
    """The code of a function, and of those that it defines."""
    found = [code]
    for item in found:  # it grows meanwhile
        found += [c for c in item.co_consts if isinstance(c, CodeType)]
    return found


def texts(constants: Any) -> Iterator[str]:
    """What may be names, for getattr or a pattern."""
    todo = [*constants]
    while todo:
        item = todo.pop()
        todo += item if isinstance(item, (tuple, frozenset)) else ()
        if isinstance(item, str) and item.isidentifier():
            yield item


def derives(item: Any, module: str) -> bool:
    """Whether an object's class comes from a module of this package."""
    return any(kind.__module__ == f"{ROOT}.{module}" for kind in type(item).__mro__)
