"""Functions that turn a function into its derivatives: grad, vjp, jvp, jacobian, hessian, hvp.

They take and return what the user gave: arrays for arrays, nested tuples, lists and dicts alike.
The one trick is `create_graph`: a derivative that still depends on something tracked outside (the
variable of an enclosing transform, a captured tensor that requires a gradient) is recorded and
stays a Tensor, so transforms nest to any order and nothing is cut off silently.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .backward import ancestors, cotangent_for, gradients
from .conversion import as_array
from .mode import MODE, mode
from .primitives import Primitive, primitive
from .tensor import Node, Tensor, apply, births, constant, leaf_node, raw

Function = Callable[..., Any]
variable = primitive(lambda x: x, lambda g, out, x: g, saves="-", name="variable")


def leaves(tree: Any) -> list[Any]:
    """The leaves of nested tuples, lists and dicts, in order."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [tree]


def rebuild(tree: Any, values: Iterator[Any]) -> Any:
    """The same nesting as `tree`, around other leaves."""
    if isinstance(tree, dict):
        return {key: rebuild(branch, values) for key, branch in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*[rebuild(branch, values) for branch in tree])
    if isinstance(tree, (tuple, list)):
        return type(tree)([rebuild(branch, values) for branch in tree])
    return next(values)


class _Run:
    """One run of a function on variables, and the pull-back through it that all transforms use."""

    def __init__(
        self, name: str, f: Function, argnum: Any, has_aux: bool, args: tuple[Any, ...], kwargs: Any
    ) -> None:
        chosen = argnum if isinstance(argnum, tuple) else (argnum,)
        if not all(-len(args) <= i < len(args) for i in chosen):
            raise TypeError(
                f"{name}: argnum={argnum}, but {len(args)} positional arguments were given"
            )
        self.name, self.has_aux = name, has_aux
        self.given = tuple(args[i] for i in chosen) if isinstance(argnum, tuple) else args[argnum]
        self.plain = not any(isinstance(leaf, Tensor) for leaf in leaves(args))
        inputs = [self.variable(leaf) for leaf in leaves(self.given)]
        self.variables: list[Node] = [t._node for t in inputs if t._node is not None]
        stream = iter(inputs)
        arguments = list(args)
        for i in chosen:
            arguments[i] = rebuild(args[i], stream)
        record, enclosing = MODE.get().record, MODE.get().transform
        with mode(record=True, transform=enclosing.union(self.variables)):
            result = f(*arguments, **kwargs)
        self.aux: Any = None
        if has_aux:
            if not (isinstance(result, tuple) and len(result) == 2):
                raise TypeError(f"{name}: has_aux=True needs f to return (result, aux)")
            result, self.aux = result
        self.result = result
        self.outs: list[Tensor] = leaves(result)
        for out in self.outs:
            if not isinstance(out, Tensor):
                raise TypeError(
                    f"{name}: f returned a {type(out).__name__}, which carries no graph: compute "
                    "with Tensors and NumPy functions (not math, float() or .numpy()), or return "
                    "tg.tensor(c) if a constant is meant"
                )
        nodes = ancestors([t._node for t in self.outs if t._node is not None])
        self.linked = record and any(  # on an enclosing transform's variable, or on a user's leaf
            node in enclosing or (node.primitive is None and node.holder is not None)
            for node in nodes
        )

    def variable(self, leaf: Any) -> Tensor:
        data = raw(leaf) if isinstance(leaf, Tensor) else as_array(leaf)
        if data.dtype.kind != "f":
            raise TypeError(
                f"{self.name}: only floating point can be differentiated by, got {data.dtype} "
                f"{data.shape}: write 2.0 instead of 2, or choose other arguments with argnum="
            )
        if isinstance(leaf, Tensor) and leaf._node is not None:
            with mode(record=True):
                return apply(variable, (leaf,))
        data = data if data.ndim else data[()]
        return constant(data, leaf_node(data))

    def pull(self, cotangents: list[Any], create_graph: bool = False) -> list[Any]:
        """The gradient of every variable (None: there is none), from one cotangent per output."""
        create_graph = create_graph or self.linked
        seeds: dict[Node, Any] = {}
        for out, g in zip(self.outs, cotangents, strict=True):
            if out._node is not None and g is not None:
                seed = cotangent_for(out, g, create_graph)
                seeds[out._node] = seeds[out._node] + seed if out._node in seeds else seed
        with mode(record=create_graph):
            found = gradients(seeds, self.variables, create_graph)
        return [found.get(node) for node in self.variables]

    def scalar(self) -> list[Any]:
        """The cotangents of a function that returns one number: 1."""
        if len(self.outs) != 1 or self.outs[0].size != 1:
            shapes = ", ".join(str(t.shape) for t in self.outs)
            raise ValueError(
                f"{self.name}: f must return one number, but it returned shape {shapes}: reduce it "
                "with .sum() or .mean(), or use tg.jacobian, tg.vjp or tg.elementwise_grad"
            )
        return [np.ones(self.outs[0].shape, self.outs[0].dtype)]

    def give(self, value: Any, plain: bool, keep: bool = True) -> Any:
        """A result in the arguments' form; `keep` leaves one that carries a graph a Tensor."""
        if isinstance(value, Tensor) and not (keep and value._node is not None):
            value = value._data
        return value if isinstance(value, Tensor) or plain else constant(value)

    def value(self) -> Any:
        outs = [self.give(t, self.plain, self.linked) for t in self.outs]
        return rebuild(self.result, iter(outs))

    def answer(self, found: list[Any]) -> Any:
        """Gradients in the nesting of the chosen arguments, zeros where nothing depends on them."""
        answers = []
        for g, x, node in zip(found, leaves(self.given), self.variables, strict=True):
            g = np.zeros(node.shape, node.dtype) if g is None else g
            g = self.give(g, not isinstance(x, Tensor))
            answers.append(g if isinstance(g, Tensor) or g.ndim else g[()])
        return rebuild(self.given, iter(answers))

    def with_aux(self, answer: Any) -> Any:
        """(answer, aux) if the function returns an aux, else the answer."""
        if not self.has_aux:
            return answer
        found = [
            self.give(t, self.plain, self.linked) if isinstance(t, Tensor) else t
            for t in leaves(self.aux)
        ]
        return answer, rebuild(self.aux, iter(found))


def _transform(
    name: str, f: Function, argnum: Any, has_aux: bool, answer: Callable[[_Run], Any]
) -> Function:
    """A transform from its `answer(run)`; the public functions below document each."""
    chosen = tuple(argnum) if isinstance(argnum, list) else argnum

    @functools.wraps(f, assigned=("__doc__", "__module__"), updated=())
    def derivative(*args: Any, **kwargs: Any) -> Any:
        return answer(_Run(name, f, chosen, has_aux, args, kwargs))

    derivative.__name__ = f"{name}({getattr(f, '__name__', 'f')})"
    return derivative


def grad(f: Function, argnum: Any = 0, *, argnums: Any = None, has_aux: bool = False) -> Function:
    """The gradient of a function that returns one number.

    Parameters
    ----------
    f : takes arrays (or nested tuples, lists and dicts of them) and returns a number; written with
        operators and NumPy functions.
    argnum, argnums : which positional argument to differentiate by; a tuple for several.
    has_aux : f returns (number, aux), and the gradient function (gradient, aux).

    Returns
    -------
    A function of the same arguments that returns the gradient, nested as the argument is.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    >>> tg.grad(tg.grad(np.sin))(0.5) == -np.sin(0.5)
    np.True_
    """

    def answer(run: _Run) -> Any:
        return run.with_aux(run.answer(run.pull(run.scalar())))

    return _transform("grad", f, argnum if argnums is None else argnums, has_aux, answer)


def value_and_grad(
    f: Function, argnum: Any = 0, *, argnums: Any = None, has_aux: bool = False
) -> Function:
    """Like `grad`, but returns (value, gradient), or ((value, aux), gradient) with `has_aux`.

    It plugs into `scipy.optimize.minimize(tg.value_and_grad(f), x0, jac=True)`.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.value_and_grad(lambda x: x * x)(3.0)
    (np.float64(9.0), np.float64(6.0))
    """

    def answer(run: _Run) -> Any:
        g = run.answer(run.pull(run.scalar()))
        return run.with_aux(run.value()), g

    return _transform("value_and_grad", f, argnum if argnums is None else argnums, has_aux, answer)


def elementwise_grad(f: Function, argnum: Any = 0, *, argnums: Any = None) -> Function:
    """The derivative of a function that acts on each entry by itself, at every entry.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.elementwise_grad(np.square)(np.array([1.0, 2.0, 3.0]))
    array([2., 4., 6.])
    """

    def answer(run: _Run) -> Any:
        return run.answer(run.pull([np.ones(t.shape, t.dtype) for t in run.outs]))

    return _transform("elementwise_grad", f, argnum if argnums is None else argnums, False, answer)


def vjp(f: Function, *xs: Any, has_aux: bool = False) -> Any:
    """`(value, pullback)`: the pull-back takes a cotangent of the value to those of all arguments.

    `pullback(g)` returns a tuple, one entry per argument: g^T J (a vector-Jacobian product, the one
    thing that reverse mode computes). It can be called many times. With `has_aux`, `(value,
    pullback, aux)`.

    >>> import numpy as np, tinygrad_lite as tg
    >>> value, pullback = tg.vjp(np.multiply, 3.0, 4.0)
    >>> value, pullback(1.0)
    (np.float64(12.0), (np.float64(4.0), np.float64(3.0)))
    """
    run = _Run("vjp", f, tuple(range(len(xs))), has_aux, _copied(xs), {})

    def pullback(g: Any) -> Any:
        cotangents = leaves(g)
        if len(cotangents) != len(run.outs):
            raise ValueError(
                f"vjp: {len(run.outs)} outputs need as many cotangents, got {len(cotangents)}"
            )
        tracked = any(isinstance(c, Tensor) and c._node is not None for c in cotangents)
        return run.answer(run.pull(cotangents, tracked))

    value = _copied(run.value())
    return (value, pullback, _copied(run.with_aux(None)[1])) if has_aux else (value, pullback)


def _copied(tree: Any) -> Any:
    """Arrays that the caller may write into before calling a pull-back that still needs them."""
    return rebuild(tree, iter([x.copy() if isinstance(x, np.ndarray) else x for x in leaves(tree)]))


def jvp(f: Function, xs: Any, vs: Any) -> Any:
    """`(value, tangent)`: the directional derivative J v of f at `xs` (a tuple) along `vs` (alike).

    Reverse mode twice: the pull-back u -> u^T J is linear in u, and its own derivative in u is J.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.jvp(np.sin, (0.0,), (2.0,))
    (np.float64(0.0), np.float64(2.0))
    """
    if not isinstance(xs, tuple) or not isinstance(vs, tuple):
        raise TypeError("jvp: xs and vs are tuples, with one entry per argument of f")
    run = _Run("jvp", f, tuple(range(len(xs))), False, xs, {})
    us = [constant(u, leaf_node(u)) for u in (np.ones(t.shape, t.dtype)[()] for t in run.outs)]
    pulled = run.pull(us, create_graph=True)
    targets = [u._node for u in us if u._node is not None]
    found = gradients(_seeds("jvp", pulled, vs, run), targets, run.linked)
    tangents = [run.give(found.get(t, np.zeros(t.shape, t.dtype)[()]), run.plain) for t in targets]
    return run.value(), rebuild(run.result, iter(tangents))


def hvp(f: Function, argnum: int = 0) -> Function:
    """`hvp(f)(x, v)`: the Hessian of f at x times v, without forming the Hessian.

    It plugs into `scipy.optimize.minimize(..., hessp=tg.hvp(f))`.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.hvp(lambda x: np.sum(x**3))(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    array([6., 0.])
    """

    def product(*args: Any) -> Any:
        *xs, v = args
        run = _Run("hvp", f, argnum, False, tuple(xs), {})
        pulled = run.pull(run.scalar(), create_graph=True)
        with mode(record=run.linked):
            found = gradients(_seeds("hvp", pulled, v, run), run.variables, run.linked)
        return run.answer([found.get(node) for node in run.variables])

    return product


def _seeds(name: str, pulled: list[Any], vs: Any, run: _Run) -> dict[Node, Any]:
    """Pair every recorded gradient with its direction."""
    directions = leaves(vs)
    seeds: dict[Node, Any] = {}
    if len(directions) != len(pulled):
        raise ValueError(
            f"{name}: {len(pulled)} variables need as many directions, got {len(directions)}"
        )
    for g, v, node in zip(pulled, directions, run.variables, strict=True):
        if np.shape(raw(v)) != node.shape:
            raise ValueError(
                f"{name}: a direction of shape {np.shape(raw(v))} for a variable of {node.shape}"
            )
        if isinstance(g, Tensor) and g._node is not None:
            seed = cotangent_for(g, v, run.linked)
            seeds[g._node] = seeds[g._node] + seed if g._node in seeds else seed
    return seeds


def jacobian(
    f: Function, argnum: Any = 0, *, argnums: Any = None, has_aux: bool = False
) -> Function:
    """All partial derivatives: for an output of shape m and an argument of shape n, shape m + n.

    One backward pass per entry of the output. Nested outputs or arguments give nested Jacobians.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.jacobian(lambda x: x[0] * x)(np.array([2.0, 3.0]))
    array([[4., 0.],
           [3., 2.]])
    """

    def answer(run: _Run) -> Any:
        blocks = []
        for k, out in enumerate(run.outs):
            rows = []
            for i in range(out.size):
                basis = np.zeros(out.size, out.dtype)
                basis[i] = 1
                cotangents: list[Any] = [None] * len(run.outs)
                cotangents[k] = basis.reshape(out.shape)[()]
                rows.append(leaves(run.answer(run.pull(cotangents))))
            columns = [
                np.stack([row[j] for row in rows]).reshape(out.shape + node.shape)
                if rows
                else np.zeros(out.shape + node.shape, node.dtype)
                for j, node in enumerate(run.variables)
            ]
            blocks.append(rebuild(run.given, iter([c if np.ndim(c) else c[()] for c in columns])))
        return run.with_aux(rebuild(run.result, iter(blocks)))

    return _transform("jacobian", f, argnum if argnums is None else argnums, has_aux, answer)


def hessian(
    f: Function, argnum: Any = 0, *, argnums: Any = None, has_aux: bool = False
) -> Function:
    """The matrix of second derivatives of a function that returns one number.

    It is the Jacobian of the gradient.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    inner = grad(f, argnum, argnums=argnums, has_aux=has_aux)
    return jacobian(inner, argnum, argnums=argnums, has_aux=has_aux)


def checkpoint(f: Function) -> Function:
    """Make f save its arguments only, and compute its intermediate values again during backward.

    Takes more time and less memory. Tensors that f captures get their gradients too. f returns one
    Tensor, and the same one for the same arguments: a random f is refused during backward.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.grad(tg.checkpoint(lambda x: np.exp(np.sin(x))))(0.0)
    np.float64(1.0)
    """

    @functools.wraps(f)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        inputs = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        n = len(inputs)
        if not MODE.get().record:
            return f(*args, **kwargs)

        def run(values: Any) -> Tensor:
            values = iter(values)
            swap = [next(values) if isinstance(t, Tensor) else t for t in leaves((args, kwargs))]
            new_args, new_kwargs = rebuild((args, kwargs), iter(swap))
            out = f(*new_args, **new_kwargs)
            if not isinstance(out, Tensor):
                raise TypeError(f"checkpoint: f must return one Tensor, got {type(out).__name__}")
            return out

        stand_ins = [apply(variable, (t,)) for t in inputs]  # an input may be captured as well
        start = next(births)
        out = run(stand_ins)
        if out._node is None or out._node.birth < start:
            return out
        data, own = out._data, {t._node for t in stand_ins}
        inside = [node for node in ancestors([out._node]) if node.birth > start]
        parents = [parent for node in inside for parent in node.parents if isinstance(parent, Node)]
        outside = [p for p in dict.fromkeys(parents) if p.birth < start and p not in own]
        captured = [constant(node.out, node) for node in outside]

        def rule(needs: Any, g: Any, value: Any, *tensors: Any) -> list[Any]:
            with mode(record=True):
                variables = [
                    apply(variable, (t,)) if isinstance(t, Tensor) else constant(t, leaf_node(t))
                    for t in tensors[:n]
                ]
                again = run(variables)
                if not np.array_equal(raw(again), raw(value), equal_nan=True):
                    raise RuntimeError(
                        "checkpoint: f gave another value when it was computed again, so its "
                        "gradient would be wrong: it is random, or depends on something "
                        "that has changed since"
                    )
                assert again._node is not None
                targets = [v._node for v in variables if v._node is not None] + outside
            with mode(record=isinstance(g, Tensor)):
                found = gradients({again._node: g}, targets, isinstance(g, Tensor))
            return [found.get(target) for target in targets]

        node = Primitive()
        node.name, node.function, node.forward = "checkpoint", f, lambda *values: data
        node.rules, node.joint, node.params = (), rule, ()
        node.saves = ((-1, *range(n)),)
        return apply(node, (*inputs, *captured))

    return checkpointed
