"""Whether operations are recorded, and who watches them, at the moment.

The state is a context variable, so that it is local to a thread and to an asynchronous task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple


class Mode(NamedTuple):
    """What recording does at the moment, in this thread or async task."""

    record: bool = True
    observers: tuple[Any, ...] = ()  # each is told of every operation: anomaly checks, tracing
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
