"""Checks that do not trust the engine: numerical derivatives, and where a NaN was born.

`gradcheck` compares the recorded graph with central differences and, where the function is
analytic, with the complex step Im f(x + ih) / h, which has no cancellation. `detect_anomaly`
watches every operation of a block of code; the trick is that the engine tells observers what it
does, so that nothing is paid for when nobody watches.
"""

from __future__ import annotations

import linecache
import math
import os
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .backward import gradients
from .mode import MODE, mode
from .tensor import Node, constant, raw
from .transforms import leaves, rebuild, vjp

STEP = float(np.finfo(float).eps) ** (1 / 3)  # balances truncation (h^2) against rounding (eps / h)
FULL = 4096  # Jacobians of up to this many entries are compared entry by entry


class NonFiniteError(FloatingPointError):
    """A NaN or an infinity came out of finite numbers."""


def gradcheck(
    f: Callable[..., Any],
    *inputs: Any,
    order: int = 2,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    seed: int = 0,
) -> bool:
    """Compare the derivatives of f, up to `order`, with numerical ones.

    Parameters
    ----------
    f : a function of arrays that returns an array, or nested tuples, lists and dicts of arrays.
    *inputs : float64 arrays or numbers, possibly nested, at a point where f is smooth.
    order : 2 also checks the derivative of the gradient, 3 that of the second derivative, ...
    rtol, atol : the error allowed in an entry is `atol + rtol * (largest entry of that Jacobian)`;
        the numerical error of central differences is about 1e-10 of f's curvature.
    seed : of the random directions and cotangents.

    Returns
    -------
    True

    Raises
    ------
    AssertionError : a derivative is wrong; names the worst entry, both numbers, and whether f has a
        kink there (where one-sided differences disagree).
    TypeError : inputs that are not float64. ValueError : f is random, or not finite there.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.gradcheck(lambda x, w: np.tanh(x @ w), np.eye(2) / 2, np.ones((2, 3)))
    True
    """
    for x in leaves(inputs):
        if np.asarray(raw(x)).dtype != np.float64:
            raise TypeError(
                "gradcheck: expected float64 inputs (differences of lower precision are too "
                f"coarse), got {np.asarray(raw(x)).dtype}: convert with .astype(float)"
            )
    points = [np.array(raw(x)) for x in leaves(inputs)]
    rng = np.random.default_rng(seed)

    def value(xs: list[Any]) -> Any:
        """f as one flat vector, without a graph."""
        with mode(record=False), warnings.catch_warnings():
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
            out = f(*rebuild(inputs, iter([constant(x if np.ndim(x) else x[()]) for x in xs])))
        return np.concatenate([np.ravel(raw(t)) for t in leaves(out)] or [np.zeros(0)])

    at = value(points)
    if not np.array_equal(at, value(points)):
        raise ValueError(
            "gradcheck: f is random, or not finite here: two calls gave different values"
        )
    out, pullback = vjp(f, *inputs)

    def pull(u: Any) -> list[Any]:
        """The graph's u^T J, one flat vector per input."""
        parts = iter(np.split(u, np.cumsum([np.size(raw(t)) for t in leaves(out)])[:-1]))
        g = pullback(
            rebuild(out, iter([next(parts).reshape(np.shape(raw(t))) for t in leaves(out)]))
        )
        return [np.ravel(raw(t)) for t in leaves(g)]

    for k, x in enumerate(points):
        full = x.size * at.size <= FULL
        if full:  # the whole Jacobian: rows by the graph, columns by differences
            directions, u = np.eye(x.size), np.eye(at.size)
        else:  # u^T J v for some random u and v
            directions, u = rng.standard_normal((8, x.size)), rng.standard_normal((1, at.size))
        exact = np.array([pull(row)[k] for row in u]).reshape(len(u), x.size) @ directions.T
        found = [_directional(value, points, k, v.reshape(x.shape)) for v in directions]
        number = np.array([u @ column for column, _ in found]).reshape(len(found), len(u)).T
        error = np.abs(exact - number)
        scale = max(np.abs(number).max(initial=0), np.abs(exact).max(initial=0))
        if not np.all(error <= atol + rtol * scale):  # a NaN is not
            worst = np.argmax(np.where(np.isfinite(error), error, np.inf))
            i, j = (int(n) for n in np.unravel_index(worst, error.shape))
            index = [int(n) for n in np.unravel_index(j, x.shape)] if full else []
            entry = f"d out[{i}] / d input {k}{index}"
            raise AssertionError(
                f"gradcheck: {entry if full else f'a random direction of input {k}'}: the graph "
                f"says {exact[i, j]:.12g}, the numerical derivative is {number[i, j]:.12g} "
                f"(difference {error[i, j]:.3g}, allowed {atol:g} + {rtol:g} * {scale:.3g})"
                + ("; f has a kink near this point, so check it elsewhere" if found[j][1] else "")
            )
    if order > 1:
        cotangents = [rng.standard_normal(np.shape(raw(t))) for t in leaves(out)]

        def gradient(*xs: Any) -> Any:
            with mode(record=True):
                value, pullback = vjp(f, *xs)
                return pullback(rebuild(value, iter(cotangents)))

        return gradcheck(gradient, *inputs, order=order - 1, rtol=rtol, atol=atol, seed=seed + 1)
    return True


def _directional(value: Callable[..., Any], points: list[Any], k: int, v: Any) -> tuple[Any, bool]:
    """The numerical derivative along v, and whether the two one-sided ones disagree."""

    def moved(step: Any) -> Any:
        return value([x + step * v if i == k else x for i, x in enumerate(points)])

    h = STEP * max(1.0, float(np.abs(points[k]).max(initial=0)))
    at, ahead, behind = value(points), moved(h), moved(-h)
    central = (ahead - behind) / (2 * h)
    bend = np.abs(ahead - 2 * at + behind) / h > 1e-3 * (1 + np.abs(central))
    jump = np.abs(ahead - behind) > 1e-3 * (1 + np.abs(at))
    kink = bool(np.any(bend | jump))
    try:
        with np.errstate(all="ignore"):
            exact = moved(1e-30j).imag / 1e-30
    except (TypeError, ValueError, ArithmeticError, NotImplementedError):
        return central, kink  # f does not take complex numbers
    analytic = np.abs(exact - central) <= 1e-5 * (1 + np.abs(central))
    return np.where(analytic, exact, central), kink


# Where did the NaN come from?


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Stop at the operation, and the line of your code, where a NaN or an infinity is born.

    Forward: at an operation with finite arguments whose result is not finite. Backward (run inside
    the same block): at a rule that makes a finite cotangent non-finite, and at an array that was
    changed after an operation saved it.

    Raises
    ------
    NonFiniteError : naming the line and the operation. RuntimeError : naming the changed array.

    >>> import numpy as np, tinygrad_lite as tg
    >>> x = tg.tensor([1.0, 0.0], requires_grad=True)
    >>> with np.errstate(divide="ignore"), tg.detect_anomaly():  # doctest: +ELLIPSIS
    ...     y = np.log(x)
    Traceback (most recent call last):
    ...
    tinygrad_lite.check.NonFiniteError: log made -inf at index (1,) from finite arguments, ...
    """
    with mode(observers=(*MODE.get().observers, _Anomaly())):
        yield


class _Anomaly:
    def __init__(self) -> None:
        self.lines: dict[int, str] = {}
        self.sums: dict[int, list[int | None]] = {}

    def forward(
        self, primitive: Any, values: Any, params: Any, out: Any, node: Node | None
    ) -> None:
        line, in_a_rule = _user_line()
        if not in_a_rule and not _finite(out) and all(map(_finite, values)):
            raise NonFiniteError(
                f"{primitive.name} made {_first_bad(out)} from finite arguments, forward at {line}"
            )
        if node is not None:
            self.lines[node.birth] = line
            self.sums[node.birth] = _checksums(node)

    def before_rules(self, node: Node, g: Any) -> None:
        then = self.sums.get(node.birth)
        now = _checksums(node)
        if then is not None and then != now:
            i = next(i for i, (a, b) in enumerate(zip(then, now, strict=True)) if a != b)
            n = len(node.args)
            what = f"argument {i}" if i < n else "the result" if i == n else "the index"
            raise RuntimeError(
                f"{what} of {node.name} was changed in place after it was saved at "
                f"{self.lines[node.birth]}: its gradient would be wrong; "
                "write into a copy, or after backward()"
            )

    def contribution(self, node: Node, i: int, g: Any, piece: Any) -> None:
        if not _finite(raw(piece)) and _finite(raw(g)):
            raise NonFiniteError(
                f"the gradient of {node.name} for argument {i} became "
                f"{_first_bad(raw(piece))} from "
                "a finite cotangent, backward of "
                f"{self.lines.get(node.birth, 'an operation outside this block')}"
            )


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if getattr(getattr(value, "dtype", None), "kind", "") not in "fc":
        return True
    return not hasattr(value, "__array__") or bool(np.all(np.isfinite(value)))


def _first_bad(value: Any) -> str:
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0]) if np.ndim(value) else ()
    return f"{np.asarray(value)[index]} at index {index}" if index else f"{value}"


def _checksums(node: Node) -> list[int | None]:
    """Of the arrays that a node holds: its arguments, its result, its parameters (an index)."""
    values = [*node.args, node.out]
    for param in node.params.values():
        values += param if isinstance(param, (tuple, list)) else [param]
    return [zlib.crc32(v.tobytes()) if isinstance(v, np.ndarray) else None for v in values]


def _user_line() -> tuple[str, bool]:
    """The innermost line outside this package, and whether a backward pass runs in between."""
    package = os.path.dirname(__file__)
    frame, in_a_rule = sys._getframe(1), False
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename).startswith(
        package
    ):
        in_a_rule |= frame.f_code is gradients.__code__
        frame = frame.f_back
    name, number = frame.f_code.co_filename, frame.f_lineno
    return f"{name}:{number}: {linecache.getline(name, number).strip()}", in_a_rule
