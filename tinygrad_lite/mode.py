"""Whether operations are recorded, who watches them, and under what name, at the moment.

The state is a context variable, so that it is local to a thread and to an asynchronous task.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple


class Mode(NamedTuple):
    """What recording does at the moment, in this thread or async task."""

    record: bool = True
    observers: tuple[Any, ...] = ()  # each is told of every operation: anomaly checks, tracing
    tracer: Any = None  # writes down what is computed, for tg.compile
    transform: frozenset[Any] = frozenset()  # the variables of the running grad(f) and its kin


RECORDING = Mode()
MODE: ContextVar[Mode] = ContextVar("tinygrad_lite_mode", default=RECORDING)


@contextmanager
def mode(**changes: Any) -> Iterator[None]:
    """Change the mode for a block of code."""
    token = MODE.set(MODE.get()._replace(**changes))
    try:
        yield
    finally:
        MODE.reset(token)


def whole(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays that a recording (tg.compile) calls as it is, instead of its steps."""

    @functools.wraps(kernel)
    def either(*args: Any, **params: Any) -> Any:
        for value in args:
            record = getattr(value, "record_whole", None)
            if record is not None:
                return record(kernel, args, params)
        return kernel(*args, **params)

    return either


def refuse_recording(what: str) -> None:
    """For what changes Python's state: a replay would not do it again."""
    if (tracer := MODE.get().tracer) is not None:
        tracer.once(what)


class Scope:
    """A part of a program by name, such as one call of a module; its identity is that of the call.

    Every Node remembers the innermost scope that it was recorded in, for diagrams.
    """

    __slots__ = ("name", "parent")

    def __init__(self, name: str, parent: Scope | None = None) -> None:
        self.name = name
        self.parent = parent

    def path(self) -> list[Scope]:
        """The scopes around it, the outermost first, and itself."""
        found, scope = [self], self.parent
        while scope is not None:
            found.append(scope)
            scope = scope.parent
        return found[::-1]


SCOPE: ContextVar[Scope | None] = ContextVar("tinygrad_lite_scope", default=None)


@contextmanager
def scope(name: str) -> Iterator[Scope]:
    """Draw what is recorded inside as one box with this name.

    >>> import tinygrad_lite as tg
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> with tg.scope("square"):
    ...     y = x * x
    >>> y.grad_fn.scope.name
    'square'
    """
    token = SCOPE.set(Scope(str(name), SCOPE.get()))
    try:
        yield SCOPE.get()  # type: ignore[misc]
    finally:
        SCOPE.reset(token)


def no_grad(function: Callable[..., Any] | None = None) -> Any:
    """Record nothing inside: `with tg.no_grad():`, or a decorator. Local to a thread or async task.

    >>> import tinygrad_lite as tg
    >>> w = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> with tg.no_grad():
    ...     w -= 0.5
    >>> w.data
    array([0.5, 1.5])
    """
    block: AbstractContextManager[None] = mode(record=False)
    return block(function) if function is not None else block  # type: ignore[operator]


def enable_grad() -> AbstractContextManager[None]:
    """Record again, inside `no_grad`."""
    return mode(record=True)
