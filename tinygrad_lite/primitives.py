"""The table: the engine's primitives, each with one gradient rule per argument.

A rule is a vector-Jacobian product (VJP): from the cotangent `g` of the output, the output `out`
and the arguments, it computes the cotangent of its own argument. The one trick: a rule is plain
NumPy, so on arrays it computes, and on Tensors (whose NumPy protocols record) it writes the graph
of the backward pass, which can be differentiated again.

Three things a rule need not do, because the engine does them once, in `backward.py`: undo
broadcasting, cast to its argument's dtype, ask whether its argument needs a gradient.

`saves` says what each rule reads, one word per rule: the rule's own letters, `o` for the output,
`-` for nothing. All else is freed early, and reaches the rule as a shape and dtype only.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any  # an ndarray, a NumPy scalar or a Tensor: a rule does not care which
Rule = Callable[..., Any]

PRIMITIVES: dict[Any, Primitive] = {}  # by function: what NumPy's protocols look up
BY_NAME: dict[str, Primitive] = {}  # by name: what a pickle holds


class Primitive:
    """A function with its gradient rules. Calling it on Tensors records one node.

    `function` is what NumPy's protocols look up, `forward` what runs; `rules` has one rule per
    argument (None: no gradient), `joint` is one for all of them; `saves` holds, per rule, the
    positions it reads (-1: the output; None: everything); `params` names the other arguments.
    """

    __slots__ = ("forward", "function", "joint", "name", "params", "rules", "saves")

    name: str
    function: Callable[..., Any]
    forward: Callable[..., Any]
    rules: tuple[Rule | None, ...]
    joint: Rule | None
    saves: tuple[tuple[int, ...], ...] | None
    params: tuple[str, ...]

    def __call__(self, *args: Any, **params: Any) -> Any:
        for value in args:
            record = getattr(type(value), "_call_primitive", None)
            if record is not None:
                return record(self, args, params)
        return self.function(*args, **params)

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if BY_NAME.get(self.name) is not self:
            raise TypeError(f"two primitives are named {self.name}: give one a name= of its own")
        return by_name, (self.name,)


def by_name(name: str) -> Primitive:
    """Find a registered primitive, as unpickling a graph must."""
    if name not in BY_NAME:
        raise LookupError(f"no primitive is named {name!r}: import the module that registers it")
    return BY_NAME[name]


def primitive(
    function: Callable[..., Any],
    *rules: Rule | None,
    saves: str | None = None,
    forward: Callable[..., Any] | None = None,
    joint: Rule | None = None,
    name: str | None = None,
    pole: bool = False,
) -> Primitive:
    """Register `function` as differentiable, with one gradient rule per array argument.

    Parameters
    ----------
    function : a NumPy function (which then works on Tensors) or your own (then call the result).
    *rules : `(g, out, *args, **params) -> cotangent of that argument`: linear in `g`, made of NumPy
        functions only; None for an argument without a gradient. What follows the arrays in the
        signature names the accepted params, in NumPy's order.
    saves : what each rule reads, one word per rule, in the rule's own letters, `o` for the output,
        `-` for nothing. The default keeps everything, which is always right.
    forward : a faster function with equal results (an operator: ten times faster on scalars).
    joint : instead of rules, `(needs, g, out, *args, **params) -> cotangents (None: no gradient)`,
        one per argument: for any number of arguments, or for arguments that share work.
    name : shown in diagrams; `function.__name__` unless given.
    pole : the slope can be infinite; then a cotangent of 0 stays 0 (and not 0 * inf, which is NaN).

    Examples
    --------
    >>> import tinygrad_lite as tg
    >>> def cube(x):
    ...     return x * x * x
    >>> cube = tg.primitive(cube, lambda g, out, x: g * 3 * x * x)
    >>> tg.grad(cube)(2.0)
    np.float64(12.0)
    """
    new = Primitive()
    new.name, new.function, new.forward = name or function.__name__, function, forward or function
    new.rules, new.joint, new.saves = rules, joint, None
    rule = joint or next((r for r in rules if r is not None), None)
    code = getattr(rule, "__code__", None)
    if code is None or not all(r is None or callable(r) for r in rules):
        raise TypeError(
            f"primitive {new.name}: expected Python functions (g, out, *args, **params) as rules, "
            f"one per array argument, or a joint rule; got {rules!r}"
        )
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount][3 if joint else 2 :]
    new.params = names[len(rules) :]
    if saves is not None:
        letters = names if joint else names[: len(rules)]
        where = {"o": -1, **{letter: i for i, letter in enumerate(letters)}}
        new.saves = tuple(tuple(where[c] for c in word if c != "-") for word in saves.split())
    if pole:
        new.rules = tuple(r and _zero_at_poles(r) for r in rules)
    taken = BY_NAME.get(new.name)
    if (
        taken is not None
        and taken.function is not function
        and vars(np).get(new.name) is taken.function
    ):
        raise ValueError(f"primitive {new.name}: NumPy's function is named so: pass name=")
    PRIMITIVES[function] = BY_NAME[new.name] = new
    return new


def _zero_at_poles(rule: Rule) -> Rule:
    """Where nothing depends on the output (g = 0), an infinite slope passes on 0, and not NaN."""

    def guarded(g: Array, out: Array, *args: Array, **params: Any) -> Array:
        if (isinstance(g, np.generic) and g) or (isinstance(g, np.ndarray) and g.all()):
            return rule(g, out, *args, **params)
        with np.errstate(divide="ignore", invalid="ignore"):
            piece = rule(g, out, *args, **params)
        return np.where((g == 0) & np.isnan(piece), 0, piece)

    return guarded


def strong(x: Any, like: Array) -> Array:
    """A Python scalar in `like`'s dtype: a NumPy function of it then does not widen to float64."""
    return like.dtype.type(x) if isinstance(x, (int, float)) else x


# Arithmetic. Operators are the forward functions: on NumPy scalars they skip the ufunc machinery.
# fmt: off
add      = primitive(np.add,      lambda g, out, x, y: g,
                                  lambda g, out, x, y: g, saves="- -", forward=operator.add)
subtract = primitive(np.subtract, lambda g, out, x, y: g,
                                  lambda g, out, x, y: -g, saves="- -", forward=operator.sub)
multiply = primitive(np.multiply, lambda g, out, x, y: g * y,
                                  lambda g, out, x, y: g * x, saves="y x", forward=operator.mul)
divide   = primitive(np.divide,   lambda g, out, x, y: g / y,
                                  lambda g, out, x, y: -g * out / y,
                                  saves="y oy", forward=operator.truediv, pole=True)
negative = primitive(np.negative, lambda g, out, x: -g, saves="-", forward=operator.neg)
positive = primitive(np.positive, lambda g, out, x: g, saves="-")


def power_x(g: Array, out: Array, x: Array, y: Array) -> Array:
    if isinstance(y, (int, float)):
        return g * y * x ** (y - 1) if y else g * 0
    return g * y * x ** np.where((x == 0) & (y == 0), 1, y - 1)  # 0 ** 0 is flat in x


def power_y(g: Array, out: Array, x: Array, y: Array) -> Array:
    x = strong(x, out)
    return g * out * np.log(np.where(x == 0, 1, x))  # 0 ** y is flat


power    = primitive(np.power, power_x, power_y, saves="xy ox", forward=operator.pow, pole=True)

# Exponentials, logarithms, roots. sqrt has slope 0 at 0, by convention: a norm at 0 is then no NaN.
exp   = primitive(np.exp,   lambda g, out, x: g * out, saves="o")
expm1 = primitive(np.expm1, lambda g, out, x: g * (out + 1), saves="o")
log   = primitive(np.log,   lambda g, out, x: g / x, saves="x", pole=True)
log1p = primitive(np.log1p, lambda g, out, x: g / (1 + x), saves="x", pole=True)
sqrt  = primitive(np.sqrt,  lambda g, out, x: g / (2 * np.where(out == 0, np.inf, out)),
                  saves="o", pole=True)
square     = primitive(np.square,     lambda g, out, x: g * 2 * x, saves="x")
reciprocal = primitive(np.reciprocal, lambda g, out, x: -g / (x * x), saves="x", pole=True)

# Trigonometry and its inverses, factored so that nothing overflows or cancels near the ends.
sin     = primitive(np.sin,     lambda g, out, x: g * np.cos(x), saves="x")
cos     = primitive(np.cos,     lambda g, out, x: -g * np.sin(x), saves="x")
tan     = primitive(np.tan,     lambda g, out, x: g * (1 + out * out), saves="o")
arcsin  = primitive(np.arcsin,  lambda g, out, x: g / np.sqrt((1 - x) * (1 + x)),
                    saves="x", pole=True)
arccos  = primitive(np.arccos,  lambda g, out, x: -g / np.sqrt((1 - x) * (1 + x)),
                    saves="x", pole=True)
arctan  = primitive(np.arctan,  lambda g, out, x: g / np.hypot(1, x) / np.hypot(1, x), saves="x")
sinh    = primitive(np.sinh,    lambda g, out, x: g * np.cosh(x), saves="x")
cosh    = primitive(np.cosh,    lambda g, out, x: g * np.sinh(x), saves="x")
tanh    = primitive(np.tanh,    lambda g, out, x: g * (1 - out * out), saves="o")
arcsinh = primitive(np.arcsinh, lambda g, out, x: g / np.hypot(1, x), saves="x")
arccosh = primitive(np.arccosh, lambda g, out, x: g / np.sqrt((x - 1) * (x + 1)),
                    saves="x", pole=True)
arctanh = primitive(np.arctanh, lambda g, out, x: g / ((1 - x) * (1 + x)), saves="x", pole=True)
hypot   = primitive(np.hypot,   lambda g, out, x, y: g * (x / np.where(out == 0, np.inf, out)),
                                lambda g, out, x, y: g * (y / np.where(out == 0, np.inf, out)),
                    saves="ox oy")
arctan2 = primitive(np.arctan2, lambda g, out, x, y: g * _over_square(y, x, y),
                                lambda g, out, x, y: -g * _over_square(x, x, y), saves="xy xy")


def _over_square(a: Array, x: Array, y: Array) -> Array:
    """a / (x² + y²), without overflow, and 0 at the origin."""
    r = np.hypot(x, y)
    r = np.where(r == 0, np.inf, r)
    return a / r / r


def finite(out: Array) -> Array:
    return np.where(out == -np.inf, 0, out)  # the log of an empty sum: exp(x - out) is then 0


def _within(x: Array, low: Array, high: Array) -> Any:
    """Whether x lies between the bounds; None is no bound."""
    above = np.True_ if low is None else low <= x
    return above & (np.True_ if high is None else x <= high)


def share_x(g: Array, out: Array, x: Array, y: Array) -> Array:
    return g * (out == x) - 0.5 * g * (x == y)


def share_y(g: Array, out: Array, x: Array, y: Array) -> Array:
    return g * (out == y) - 0.5 * g * (x == y)


# Kinks: slope 0 at abs(0); a tie of two shares equally; a clipped entry passes on its bounds.
absolute = primitive(np.absolute, lambda g, out, x: g * np.sign(x), saves="x",
                     forward=operator.abs)
maximum  = primitive(np.maximum, share_x, share_y, saves="oxy oxy")
minimum  = primitive(np.minimum, share_x, share_y, saves="oxy oxy")
where    = primitive(np.where, None, lambda g, out, c, x, y: np.where(c, g, 0),
                                     lambda g, out, c, x, y: np.where(c, 0, g), saves="- c c")
clip     = primitive(np.clip, lambda g, out, x, a, b: g * _within(x, a, b),
                              lambda g, out, x, a, b: g * ((x < a) & _within(a, None, b)),
                              lambda g, out, x, a, b: g * ((x > b) | ~_within(b, a, None)),
                              saves="xab xab xab")

# fmt: on


# Reductions. `restore` puts the reduced axes back, to lay a cotangent over the argument again.
def restore(g: Array, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """Stretch a reduction's cotangent (or output) over the shape of its argument `x`."""
    if axis is not None and not keepdims:
        g = np.expand_dims(g, axis)
    return np.broadcast_to(g, x.shape)


def axes_of(x: Array, axis: Any = None) -> tuple[int, ...]:
    """The axes that a reduction over `axis` (None: all, an int or a tuple) runs over, from 0 up."""
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return tuple(a % x.ndim for a in axes)


def count(x: Array, axis: Any = None) -> int:
    """How many entries of `x` one entry of a reduction over `axis` combines."""
    return math.prod(x.shape[a] for a in axes_of(x, axis))


def _extreme(g: Array, out: Array, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    best = x == restore(out, x, axis, keepdims)
    ties = np.sum(best, axis=axis, keepdims=keepdims).astype(g.dtype)
    return best * restore(g / ties, x, axis, keepdims)


def _logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):  # the log of an empty or vanished sum is -inf
        out = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return out if keepdims else np.squeeze(out, axis=axes_of(x, axis))


# fmt: off
sum_ = primitive(np.sum,  lambda g, out, x, axis=None, keepdims=False:
                 restore(g, x, axis, keepdims), saves="-")
mean = primitive(np.mean, lambda g, out, x, axis=None, keepdims=False:
                 restore(g / count(x, axis), x, axis, keepdims), saves="-")
max_ = primitive(np.max, _extreme, saves="ox")
min_ = primitive(np.min, _extreme, saves="ox")
logsumexp = primitive(_logsumexp, lambda g, out, x, axis=None, keepdims=False:
                      restore(g, x, axis, keepdims)
                      * np.exp(x - restore(finite(out), x, axis, keepdims)),
                      saves="ox", name="logsumexp")

# Shape. Forward moves entries; the rule moves the cotangent back.
reshape      = primitive(np.reshape, lambda g, out, x, shape: g.reshape(x.shape), saves="-",
                         forward=lambda x, shape: x.reshape(shape))
ravel        = primitive(np.ravel, lambda g, out, x: g.reshape(x.shape), saves="-")
expand_dims  = primitive(np.expand_dims, lambda g, out, x, axis: g.reshape(x.shape), saves="-")
squeeze      = primitive(np.squeeze, lambda g, out, x, axis=None: g.reshape(x.shape), saves="-")
transpose    = primitive(np.transpose, lambda g, out, x, axes=None: np.transpose(
                         g, None if axes is None else np.argsort([a % x.ndim for a in axes])),
                         saves="-")
swapaxes     = primitive(np.swapaxes, lambda g, out, x, axis1, axis2:
                         np.swapaxes(g, axis1, axis2), saves="-")
moveaxis     = primitive(np.moveaxis, lambda g, out, x, source, destination:
                         np.moveaxis(g, destination, source), saves="-")
broadcast_to = primitive(np.broadcast_to, lambda g, out, x, shape: g, saves="-")
copy         = primitive(np.copy, lambda g, out, x: g, saves="-")
astype       = primitive(lambda x, dtype: x.astype(dtype), lambda g, out, x, dtype: g, saves="-",
                         name="astype")
concatenate  = primitive(np.concatenate, saves="-",
                         forward=lambda *xs, axis: np.concatenate(xs, axis=axis),
                         joint=lambda needs, g, out, *xs, axis=0:
                         np.split(g, np.cumsum([x.shape[axis] for x in xs])[:-1], axis=axis))
stack        = primitive(np.stack, saves="-",
                         forward=lambda *xs, axis: np.stack(xs, axis=axis),
                         joint=lambda needs, g, out, *xs, axis=0: list(np.moveaxis(g, axis, 0)))
# fmt: on


# Indexing. The cotangent of x[index] is zero but at the index; repeated indices sum.
def at_most_once(index: Any) -> bool:
    """Whether an index can name no entry twice: then plain assignment serves."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        isinstance(p, (int, np.integer, slice, type(None), type(Ellipsis)))
        or getattr(p, "dtype", None) == np.bool_
        for p in parts
    )


def _embed(g: Array, index: Any, shape: tuple[int, ...]) -> Array:
    parts = index if isinstance(index, tuple) else (index,)
    like = next((i for i in parts if hasattr(i, "traced")), g)  # recorded, if the index is
    out = np.zeros_like(like, g.dtype, shape=shape)
    if at_most_once(index):
        out[index] = g
    else:
        np.add.at(out, index, g)
    return out


# fmt: off
embed   = primitive(_embed, lambda g, out, x, index, shape: g[index], saves="-", name="embed")
getitem = primitive(operator.getitem, lambda g, out, x, index:
                    embed(g, index=index, shape=x.shape), saves="-",
                    forward=lambda x, index: x[index])
# fmt: on


# Matrix products. A 1-D argument is a row on the left, a column on the right.
def _matmul_x(g: Array, out: Array, x: Array, y: Array) -> Array:
    if y.ndim == 1:
        return g * y if x.ndim == 1 else np.expand_dims(g, -1) * y
    if x.ndim == 1:
        return (y @ np.expand_dims(g, -1))[..., 0]
    return g @ np.swapaxes(y, -1, -2)


def _matmul_y(g: Array, out: Array, x: Array, y: Array) -> Array:
    if x.ndim == 1:
        return g * x if y.ndim == 1 else np.expand_dims(x, -1) * np.expand_dims(g, -2)
    if y.ndim == 1:
        return (np.swapaxes(x, -1, -2) @ np.expand_dims(g, -1))[..., 0]
    if y.ndim == 2 < x.ndim:  # a batch against one matrix: one large product, not a sum of many
        return x.reshape(-1, x.shape[-1]).T @ g.reshape(-1, g.shape[-1])
    return np.swapaxes(x, -1, -2) @ g


matmul = primitive(np.matmul, _matmul_x, _matmul_y, saves="y x", forward=operator.matmul)
