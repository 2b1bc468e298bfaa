"""The table: every primitive of the engine, with one gradient rule per argument.

A rule is a vector-Jacobian product (VJP): from the cotangent `g` of the output, the output `out` and
the arguments, it computes the cotangent of its own argument. The one trick: a rule is plain NumPy, so
on arrays it computes, and on Tensors (whose NumPy protocols record) it writes the graph of the
backward pass, which can be differentiated again.

Three things a rule need not do, because the engine does them once, in `backward.py`: undo
broadcasting, cast to its argument's dtype, ask whether its argument needs a gradient.

`saves` says what each rule reads, one word per rule: the rule's own letters, `o` for the output, `-`
for nothing. All else is freed early, and reaches the rule as a shape and dtype only.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from math import log as ln
from math import pi
from typing import Any

import numpy as np

Array = Any  # an ndarray, a NumPy scalar or a Tensor: a rule does not care which
Rule = Callable[..., Any]

PRIMITIVES: dict[Any, Primitive] = {}  # by function: what NumPy's protocols look up
BY_NAME: dict[str, Primitive] = {}  # by name: what a pickle holds


class Primitive:
    """A function with its gradient rules. Calling it on Tensors records one node.

    Attributes: `name` (in diagrams), `function` (what NumPy's protocols look up), `forward` (what
    runs), `rules` (one per argument; None: no gradient) or `joint` (one rule for all arguments),
    `saves` (per rule, the positions it reads; -1 is the output; None: everything), `params` (the
    names of the arguments that are not arrays).
    """

    __slots__ = ("forward", "function", "joint", "name", "params", "rules", "saves")

    def __call__(self, *args: Any, **params: Any) -> Any:
        for value in args:
            record = getattr(type(value), "_call_primitive", None)
            if record is not None:
                return record(self, args, params)
        return self.function(*args, **params)

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
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
    joint : instead of rules, `(needs, g, out, *args, **params) -> one cotangent or None per argument`:
        for any number of arguments, or for arguments that share work.
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
            f"primitive {new.name}: expected Python functions (g, out, *args, **params) as rules, one "
            f"per array argument, or a joint rule; got {rules!r}"
        )
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount][3 if joint else 2 :]
    new.params = names[len(rules) :]
    if saves is not None:
        where = {"o": -1, **{letter: i for i, letter in enumerate(names[: len(rules)])}}
        new.saves = tuple(tuple(where[c] for c in word if c != "-") for word in saves.split())
    if pole:
        new.rules = tuple(r and _zero_at_poles(r) for r in rules)
    PRIMITIVES[function] = BY_NAME[new.name] = new
    return new


def _zero_at_poles(rule: Rule) -> Rule:
    """Where nothing depends on the output (g = 0), an infinite slope passes on 0, and not 0 * inf = NaN."""

    def guarded(g: Array, out: Array, *args: Array, **params: Any) -> Array:
        if (isinstance(g, np.generic) and g) or (isinstance(g, np.ndarray) and g.all()):
            return rule(g, out, *args, **params)
        with np.errstate(divide="ignore", invalid="ignore"):
            piece = rule(g, out, *args, **params)
        return np.where((g == 0) & np.isnan(piece), 0, piece)

    return guarded


def strong(x: Any, like: Array) -> Array:
    """A Python scalar as one of `like`'s dtype, so that NumPy functions of it do not widen to float64."""
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


def _power_x(g: Array, out: Array, x: Array, y: Array) -> Array:
    if isinstance(y, (int, float)):
        return g * y * x ** (y - 1) if y else g * 0
    return g * y * x ** np.where((x == 0) & (y == 0), 1, y - 1)  # 0 ** 0 is flat in x


def _power_y(g: Array, out: Array, x: Array, y: Array) -> Array:
    x = strong(x, out)
    return g * out * np.log(np.where(x == 0, 1, x))  # 0 ** y is flat


power       = primitive(np.power,       _power_x, _power_y, saves="xy ox", forward=operator.pow, pole=True)
float_power = primitive(np.float_power, _power_x, _power_y, saves="xy ox", pole=True)
mod  = primitive(np.mod,  lambda g, out, x, y: g,
                          lambda g, out, x, y: -g * np.floor(x / y), saves="- xy", name="mod")
fmod = primitive(np.fmod, lambda g, out, x, y: g,
                          lambda g, out, x, y: -g * np.trunc(x / y), saves="- xy")

# Exponentials, logarithms, roots. sqrt has slope 0 at 0, by convention: a norm at 0 is then no NaN.
exp   = primitive(np.exp,   lambda g, out, x: g * out, saves="o")
exp2  = primitive(np.exp2,  lambda g, out, x: g * out * ln(2), saves="o")
expm1 = primitive(np.expm1, lambda g, out, x: g * (out + 1), saves="o")
log   = primitive(np.log,   lambda g, out, x: g / x, saves="x", pole=True)
log2  = primitive(np.log2,  lambda g, out, x: g / x / ln(2), saves="x", pole=True)
log10 = primitive(np.log10, lambda g, out, x: g / x / ln(10), saves="x", pole=True)
log1p = primitive(np.log1p, lambda g, out, x: g / (1 + x), saves="x", pole=True)
sqrt  = primitive(np.sqrt,  lambda g, out, x: g / (2 * np.where(out == 0, np.inf, out)), saves="o", pole=True)
cbrt  = primitive(np.cbrt,  lambda g, out, x: g / (3 * out * out), saves="o", pole=True)
square     = primitive(np.square,     lambda g, out, x: g * 2 * x, saves="x")
reciprocal = primitive(np.reciprocal, lambda g, out, x: -g / (x * x), saves="x", pole=True)
logaddexp  = primitive(np.logaddexp,  lambda g, out, x, y: g * np.exp(x - _finite(out)),
                                      lambda g, out, x, y: g * np.exp(y - _finite(out)), saves="xo yo", pole=True)
logaddexp2 = primitive(np.logaddexp2, lambda g, out, x, y: g * np.exp2(x - _finite(out)),
                                      lambda g, out, x, y: g * np.exp2(y - _finite(out)), saves="xo yo", pole=True)

# Trigonometry and its inverses, factored so that nothing overflows or cancels near the ends.
sin     = primitive(np.sin,     lambda g, out, x: g * np.cos(x), saves="x")
cos     = primitive(np.cos,     lambda g, out, x: -g * np.sin(x), saves="x")
tan     = primitive(np.tan,     lambda g, out, x: g * (1 + out * out), saves="o")
arcsin  = primitive(np.arcsin,  lambda g, out, x: g / np.sqrt((1 - x) * (1 + x)), saves="x", pole=True)
arccos  = primitive(np.arccos,  lambda g, out, x: -g / np.sqrt((1 - x) * (1 + x)), saves="x", pole=True)
arctan  = primitive(np.arctan,  lambda g, out, x: g / np.hypot(1, x) / np.hypot(1, x), saves="x")
sinh    = primitive(np.sinh,    lambda g, out, x: g * np.cosh(x), saves="x")
cosh    = primitive(np.cosh,    lambda g, out, x: g * np.sinh(x), saves="x")
tanh    = primitive(np.tanh,    lambda g, out, x: g * (1 - out * out), saves="o")
arcsinh = primitive(np.arcsinh, lambda g, out, x: g / np.hypot(1, x), saves="x")
arccosh = primitive(np.arccosh, lambda g, out, x: g / np.sqrt((x - 1) * (x + 1)), saves="x", pole=True)
arctanh = primitive(np.arctanh, lambda g, out, x: g / ((1 - x) * (1 + x)), saves="x", pole=True)
hypot   = primitive(np.hypot,   lambda g, out, x, y: g * (x / np.where(out == 0, np.inf, out)),
                                lambda g, out, x, y: g * (y / np.where(out == 0, np.inf, out)), saves="ox oy")
arctan2 = primitive(np.arctan2, lambda g, out, x, y: g * _over_square(y, x, y),
                                lambda g, out, x, y: -g * _over_square(x, x, y), saves="xy xy")
deg2rad = primitive(np.deg2rad, lambda g, out, x: g * (pi / 180), saves="-")
radians = primitive(np.radians, lambda g, out, x: g * (pi / 180), saves="-")
rad2deg = primitive(np.rad2deg, lambda g, out, x: g * (180 / pi), saves="-")
degrees = primitive(np.degrees, lambda g, out, x: g * (180 / pi), saves="-")
sinc    = primitive(np.sinc,    lambda g, out, x: g * _sinc_slope(x), saves="x")


def _over_square(a: Array, x: Array, y: Array) -> Array:
    """a / (x² + y²), without overflow, and 0 at the origin."""
    r = np.hypot(x, y)
    r = np.where(r == 0, np.inf, r)
    return a / r / r


def _sinc_slope(x: Array) -> Array:
    """(cos πx - sinc x) / x; near 0, where that cancels, its Taylor series."""
    near = abs(x) < 0.3
    z = np.where(near, x, 0)
    series, term = z * 0, z * (-pi * pi / 3)  # term k: (-1)^k 2k π^2k x^(2k-1) / (2k+1)!
    for k in range(1, 14):
        series = series + term
        term = term * (z * z) * (-pi * pi / (k * (2 * k + 3) * 2))
    far = np.where(near, 1, x)
    return np.where(near, series, (np.cos(pi * far) - np.sinc(far)) / far)


def _finite(out: Array) -> Array:
    return np.where(out == -np.inf, 0, out)  # the log of an empty sum: exp(x - out) is then 0


def _share_x(g: Array, out: Array, x: Array, y: Array) -> Array:
    return g * (out == x) - 0.5 * g * (x == y)


def _share_y(g: Array, out: Array, x: Array, y: Array) -> Array:
    return g * (out == y) - 0.5 * g * (x == y)


# Kinks: slope 0 at abs(0); a tie of two shares equally; a clipped entry passes on its bounds.
absolute = primitive(np.absolute, lambda g, out, x: g * np.sign(x), saves="x", forward=operator.abs)
fabs     = primitive(np.fabs,     lambda g, out, x: g * np.sign(x), saves="x")
copysign = primitive(np.copysign, lambda g, out, x, y: g * np.sign(x) * np.copysign(1, strong(y, g)), None,
                     saves="xy -")
maximum  = primitive(np.maximum, _share_x, _share_y, saves="oxy oxy")
minimum  = primitive(np.minimum, _share_x, _share_y, saves="oxy oxy")
fmax     = primitive(np.fmax,    _share_x, _share_y, saves="oxy oxy")
fmin     = primitive(np.fmin,    _share_x, _share_y, saves="oxy oxy")
where    = primitive(np.where, None, lambda g, out, c, x, y: np.where(c, g, 0),
                                     lambda g, out, c, x, y: np.where(c, 0, g), saves="- c c")
clip     = primitive(np.clip, lambda g, out, x, l, h: g * (True if l is None else x >= l) * (True if h is None else x <= h),
                              lambda g, out, x, l, h: g * (x < l),
                              lambda g, out, x, l, h: g * (x > h), saves="xlh xl xh")
nan_to_num = primitive(np.nan_to_num, lambda g, out, x, copy=True, nan=0.0, posinf=None, neginf=None:
                       np.where(np.isfinite(x), g, 0), saves="x")

# fmt: on


# Reductions. `restore` puts the reduced axes back, so that a cotangent lies over the argument again.
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


def _var(g: Array, out: Array, x: Array, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Array:
    centred = x - np.mean(x, axis=axis, keepdims=True)
    return restore(g * (2 / (count(x, axis) - ddof)), x, axis, keepdims) * centred


def _std(g: Array, out: Array, x: Array, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Array:
    return _var(g / (2 * np.where(out == 0, np.inf, out)), out, x, axis, ddof, keepdims)


def _prod(g: Array, out: Array, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """The product of all the other entries, as running products from both ends: no division by zeros."""
    axes = axes_of(x, axis)
    order = [a for a in range(x.ndim) if a not in axes] + list(axes)
    last = np.transpose(x, order)
    shape = last.shape
    last = last.reshape(shape[: x.ndim - len(axes)] + (-1,) if x.size else shape + (1,) * (not axes))
    one = np.ones_like(last[..., :1])
    left = np.cumprod(np.concatenate([one, last[..., :-1]], axis=-1), axis=-1)
    right = np.cumprod(np.concatenate([one, np.flip(last, -1)[..., :-1]], axis=-1), axis=-1)
    others = (left * np.flip(right, -1)).reshape(shape)
    return restore(g, x, axis, keepdims) * np.transpose(others, np.argsort(order))


def _cumsum(g: Array, out: Array, x: Array, axis: int | None = None) -> Array:
    a = axis or 0
    return np.flip(np.cumsum(np.flip(g, a), axis=a), a).reshape(x.shape)


def _cumprod(g: Array, out: Array, x: Array, axis: int | None = None) -> Array:
    """With r[i] = g[i] + x[i+1] r[i+1]: (product of the earlier entries) * r. No division by zeros.

    The recurrence is solved in log2(n) doublings: r over a window of 2s entries is r over the first
    s plus their product times r over the next s.
    """
    a = axis or 0
    x_, g_, out_ = (np.moveaxis(t, a, -1) for t in (x.reshape(out.shape), g, out))
    one = np.ones_like(x_[..., :1])
    r, product, s = g_, np.concatenate([x_[..., 1:], 0 * one], axis=-1), 1
    while s < x_.shape[-1]:
        nothing = np.zeros_like(x_[..., :s])
        r = r + product * np.concatenate([r[..., s:], nothing], axis=-1)
        product = product * np.concatenate([product[..., s:], nothing], axis=-1)
        s *= 2
    earlier = np.concatenate([one, out_[..., :-1]], axis=-1)
    return np.moveaxis(earlier * r, -1, a).reshape(x.shape)


def _logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):  # the log of an empty or vanished sum is -inf
        out = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return out if keepdims else np.squeeze(out, axis=axes_of(x, axis))


# fmt: off
sum_    = primitive(np.sum,  lambda g, out, x, axis=None, keepdims=False: restore(g, x, axis, keepdims), saves="-")
mean    = primitive(np.mean, lambda g, out, x, axis=None, keepdims=False:
                    restore(g / count(x, axis), x, axis, keepdims), saves="-")
max_    = primitive(np.max, _extreme, saves="ox")
min_    = primitive(np.min, _extreme, saves="ox")
var     = primitive(np.var, _var, saves="x")
std     = primitive(np.std, _std, saves="ox")
prod    = primitive(np.prod, _prod, saves="x")
cumsum  = primitive(np.cumsum, _cumsum, saves="-")
cumprod = primitive(np.cumprod, _cumprod, saves="ox")
logsumexp = primitive(_logsumexp, lambda g, out, x, axis=None, keepdims=False:
                      restore(g, x, axis, keepdims) * np.exp(x - restore(_finite(out), x, axis, keepdims)),
                      saves="ox", name="logsumexp")

# Shape. Forward moves entries; the rule moves the cotangent back.
reshape      = primitive(np.reshape, lambda g, out, x, shape: g.reshape(x.shape), saves="-",
                         forward=lambda x, shape: x.reshape(shape))
ravel        = primitive(np.ravel, lambda g, out, x: g.reshape(x.shape), saves="-")
expand_dims  = primitive(np.expand_dims, lambda g, out, x, axis: g.reshape(x.shape), saves="-")
squeeze      = primitive(np.squeeze, lambda g, out, x, axis=None: g.reshape(x.shape), saves="-")
transpose    = primitive(np.transpose, lambda g, out, x, axes=None: np.transpose(
                         g, axes if axes is None else np.argsort([a % x.ndim for a in axes])), saves="-")
swapaxes     = primitive(np.swapaxes, lambda g, out, x, axis1, axis2: np.swapaxes(g, axis1, axis2), saves="-")
moveaxis     = primitive(np.moveaxis, lambda g, out, x, source, destination:
                         np.moveaxis(g, destination, source), saves="-")
broadcast_to = primitive(np.broadcast_to, lambda g, out, x, shape: g, saves="-")
flip         = primitive(np.flip, lambda g, out, x, axis=None: np.flip(g, axis), saves="-")
roll         = primitive(np.roll, lambda g, out, x, shift, axis=None: np.roll(g, np.negative(shift), axis), saves="-")
copy         = primitive(np.copy, lambda g, out, x: g, saves="-")
astype       = primitive(np.astype, lambda g, out, x, dtype: g, saves="-", forward=lambda x, dtype: x.astype(dtype))
concatenate  = primitive(np.concatenate, saves="-", forward=lambda *xs, axis: np.concatenate(xs, axis=axis),
                         joint=lambda needs, g, out, *xs, axis=0:
                         np.split(g, np.cumsum([x.shape[axis] for x in xs])[:-1], axis=axis))
stack        = primitive(np.stack, saves="-", forward=lambda *xs, axis: np.stack(xs, axis=axis),
                         joint=lambda needs, g, out, *xs, axis=0: list(np.moveaxis(g, axis, 0)))
# fmt: on


# One rule serves every function that only copies entries (or fills with zeros): send the numbers
# 1, 2, 3, ... through the same function, and they tell where each entry of the output came from.
def mover(function: Callable[..., Any], params: str) -> Primitive:
    """Register a function of one array that repeats, drops or rearranges its entries."""

    def rule(g: Array, out: Array, x: Array, **params: Any) -> Array:
        numbers = np.arange(1, math.prod(x.shape) + 1).reshape(x.shape)
        return scatter(g, source=function(numbers, **params), shape=x.shape)

    new = primitive(function, rule, saves="-")
    new.params = tuple(params.split())
    return new


def _scatter(g: Array, source: Any, shape: tuple[int, ...]) -> Array:
    """Sum the entries of `g` into the places of an array that `source` numbers from 1 (0: nowhere)."""
    total = np.bincount(np.ravel(source), weights=np.ravel(g), minlength=math.prod(shape) + 1)
    return total[1:].reshape(shape).astype(g.dtype)


def _gather(g: Array, out: Array, x: Array, source: Any, shape: tuple[int, ...]) -> Array:
    return np.concatenate([np.zeros_like(g, shape=(1,)), g.ravel()])[source]


scatter = primitive(_scatter, _gather, saves="-", name="scatter")
for function, params in (
    (np.repeat, "repeats axis"),
    (np.tile, "reps"),
    (np.rot90, "k axes"),
    (np.pad, "pad_width mode"),
    (np.diag, "k"),
    (np.diagflat, "k"),
    (np.diagonal, "offset axis1 axis2"),
    (np.tril, "k"),
    (np.triu, "k"),
    (np.take, "indices axis mode"),
    (np.take_along_axis, "indices axis"),
    (np.delete, "obj axis"),
):
    mover(function, params)


# Indexing. The cotangent of x[index] is zero but at the index; repeated indices sum.
def at_most_once(index: Any) -> bool:
    """Whether an index can name no entry twice: then assignment serves, and np.add.at is not needed."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        isinstance(p, (int, np.integer, slice, type(None), type(Ellipsis)))
        or getattr(p, "dtype", None) == np.bool_
        for p in parts
    )


def _embed(g: Array, index: Any, shape: tuple[int, ...]) -> Array:
    out = np.zeros_like(g, shape=shape)
    if at_most_once(index):
        out[index] = g
    else:
        np.add.at(out, index, g)
    return out


def _index_update(x: Array, value: Array, index: Any) -> Array:
    out = np.array(x)
    out[index] = value
    return out


def _index_add(x: Array, value: Array, index: Any) -> Array:
    out = np.array(x)
    np.add.at(out, index, value)
    return out


def _updated_value(g: Array, out: Array, x: Array, value: Array, index: Any) -> Array:
    """Of values written to the same place only the last one counts."""
    taken = g[index]
    if at_most_once(index):
        return taken
    order = np.arange(1, taken.size + 1).reshape(taken.shape)
    return taken * (_index_update(np.zeros(x.shape, int), order, index)[index] == order)


# fmt: off
embed        = primitive(_embed, lambda g, out, x, index, shape: g[index], saves="-", name="embed")
getitem      = primitive(operator.getitem, lambda g, out, x, index: embed(g, index=index, shape=x.shape), saves="-",
                         forward=lambda x, index: x[index])
index_update = primitive(_index_update, lambda g, out, x, value, index: index_update(g, np.zeros_like(g, shape=()), index=index),
                         _updated_value, saves="- -", name="index_update")
index_add    = primitive(_index_add, lambda g, out, x, value, index: g,
                         lambda g, out, x, value, index: g[index], saves="- -", name="index_add")
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

# Piecewise constant or not numeric: the result is a plain array or a constant, and that is meant.
CONSTANT: set[Any] = {
    getattr(np, name)
    for name in """floor ceil trunc rint round around fix sign heaviside floor_divide
        equal not_equal less less_equal greater greater_equal logical_and logical_or logical_not
        logical_xor isfinite isinf isnan isposinf isneginf signbit any all allclose isclose array_equal
        array_equiv argmax argmin nanargmax nanargmin argsort argpartition argwhere nonzero flatnonzero
        count_nonzero searchsorted digitize isin shape ndim size zeros_like ones_like empty_like
        result_type can_cast iscomplexobj isrealobj array_repr array_str array2string
        shares_memory may_share_memory""".split()
} | {np.linalg.matrix_rank}
