"""`tg.compile`: run a function once, write down what NumPy computed, and from then on replay that.

The recording holds the forward pass, the backward pass (gradient rules are NumPy too) and updates
of parameters. The one trick is `trace.Symbol`: an array-like that the engine computes with as with
any array, while every step is written down. The passes make the recording shorter, `emit` writes
it out as NumPy source, and that source is what runs.
"""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..mode import MODE, RECORDING
from ..tensor import Tensor
from ..transforms import leaves, rebuild
from .errors import NumbersError
from .plan import Plan
from .recording import DifferenceError, Recording, argument_names
from .replay import Changed

KEPT = 16  # recordings of one function, one per signature
OFTEN = 20  # recordings with no replay in between: time to say so


def compile(f: Callable[..., Any] | None = None, *, check: bool = False) -> Any:
    """A function that does what `f` does, from a recording of one run of it: no graph, only NumPy.

    The first call with new shapes, dtypes or static arguments (whatever is neither an array, a
    Tensor nor a float) records; later ones replay. Leaf Tensors and arrays that f reads from
    outside are read anew at each call, and written into where f updates them; `.grad`, optimisers
    and random numbers work as without. Results are those of f, mostly to the last bit; where sums
    run in another order, or a formula was recognised as a fused operation, to 1e-12 in float64.

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
        # backward
        dw = (1 - v0 * v0) * x
        return dw,
    <BLANKLINE>
    """
    return functools.partial(compile, check=check) if f is None else Compiled(f, check)


class Compiled:
    """What `tg.compile(f)` returns. Call it as f."""

    def __init__(self, f: Callable[..., Any], check: bool) -> None:
        functools.update_wrapper(self, f, updated=())
        self.f, self.check = f, check
        self.recordings: OrderedDict[Any, Recording] = OrderedDict()
        self.latest: Recording | None = None
        self.missed = 0  # calls that the recording did not cover: f itself ran
        self.recorded, self.idle = 0, 0  # recordings made: in all, and since the last replay

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
        if recording is None or key != recording.key:
            recording = self.recordings.get(key)
        if recording is None or not recording.holds():
            if any(isinstance(x, Tensor) and x._node is not None for x in given):
                return self.f(*args, **kwargs)
            recording = self._record(args, kwargs, key)
        else:
            self.idle = 0
        if recording is not self.latest:
            self.recordings.move_to_end(key)
            self.latest = recording
        try:
            return (
                recording.checked(self.f, args, kwargs) if self.check else recording.replay(given)
            )
        except DifferenceError:
            raise
        except Exception as error:  # nothing was written yet
            self.missed += 1
            result = self.f(*args, **kwargs)  # it may say the same, more clearly
            if not isinstance(error, (Changed, ArithmeticError, ValueError)):  # of floats
                what = f"tg.compile: the recording failed, so the function itself ran: {error!r}"
                warnings.warn(what, RuntimeWarning, stacklevel=2)
            return result

    def _record(self, args: Any, kwargs: Any, key: Any) -> Recording:
        before = self.recordings.get(key, self.latest)
        if self.idle == OFTEN and before is not None:
            names = list(argument_names(self.f, args, kwargs))
            warnings.warn(
                f"tg.compile: each of the last {OFTEN} calls of {self.f!r:.60} was recorded anew, "
                f"which takes longer than the function itself: {before.difference(names, key)}. "
                "Numbers that vary can be floats or arrays, batches of equal size; what holds "
                "arrays a tuple, list or dict, or the same object each time",
                RuntimeWarning,
                stacklevel=3,
            )
        try:
            recording = Recording(self.f, args, kwargs, key)
        except NumbersError as error:
            try:
                recording = Recording(self.f, args, kwargs, key, creates=True)
            except Exception:
                raise error from None
        self.recordings[key] = recording
        self.recorded, self.idle = self.recorded + 1, self.idle + 1
        if len(self.recordings) > KEPT:
            self.recordings.popitem(last=False)
        return recording

    def forget(self) -> None:
        """Drop all recordings, and the storage that they keep: the next call records anew."""
        self.recordings.clear()
        self.latest = None

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
