"""Products of arrays: tensordot and einsum with their gradients, and what is built on products.

The one trick is einsum's own: once its letters are explicit, the gradient of an operand is again an
einsum, of the cotangent with the other operands, its own letters as output.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from . import primitives as p
from .numpy_functions import Array, composition, lift, lifted
from .tensor import Tensor, apply


def _contracted(x: Array, y: Array, axes: Any) -> tuple[list[int], list[int]]:
    """The axes of x and of y that tensordot sums over, from 0 up."""
    m, n = getattr(x, "ndim", 0), getattr(y, "ndim", 0)
    if isinstance(axes, (int, np.integer)):
        return list(range(m - int(axes), m)), list(range(int(axes)))
    a, b = ([int(i) for i in np.ravel(np.asarray(pair))] for pair in axes)
    return [i % m for i in a], [i % n for i in b]


def _tensordot_back(g: Array, x: Array, y: Array, a: list[int], b: list[int], first: bool) -> Array:
    """The cotangent of x, whose axes `a` met the axes `b` of y; x is the `first` or not."""
    free_x, free_y = (
        [i for i in range(getattr(t, "ndim", 0)) if i not in c] for t, c in ((x, a), (y, b))
    )
    places = [a[i] for i in np.argsort(b)]  # the contracted axes come out in y's order
    if first:
        piece = np.tensordot(g, y, axes=(list(range(len(free_x), g.ndim)), free_y))
        return np.transpose(piece, np.argsort(free_x + places))
    piece = np.tensordot(y, g, axes=(free_y, list(range(len(free_y)))))
    return np.transpose(piece, np.argsort(places + free_x))


def _tensordot_x(g: Array, out: Array, x: Array, y: Array, axes: Any = 2) -> Array:
    a, b = _contracted(x, y, axes)
    return _tensordot_back(g, x, y, a, b, True)


def _tensordot_y(g: Array, out: Array, x: Array, y: Array, axes: Any = 2) -> Array:
    a, b = _contracted(x, y, axes)
    return _tensordot_back(g, y, x, b, a, False)


tensordot = p.primitive(np.tensordot, _tensordot_x, _tensordot_y, saves="y x")


@composition(np.dot)
def dot(a: Any, b: Any) -> Any:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return apply(p.multiply, (a, b))
    if np.ndim(a) == 1 or np.ndim(b) <= 2:
        return apply(p.matmul, (a, b))
    return apply(tensordot, (a, b), {"axes": (-1, -2)})


@composition(np.inner)
def inner(a: Any, b: Any) -> Any:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return apply(p.multiply, (a, b))
    return apply(tensordot, (a, b), {"axes": (-1, -1)})


@composition(np.kron)
def kron(a: Any, b: Any) -> Any:
    a, b = lifted((a, b))
    n = max(a.ndim, b.ndim)
    m, k = ((1,) * (n - x.ndim) + x.shape for x in (a, b))
    blocks = np.reshape(a, [s for i in m for s in (i, 1)]) * np.reshape(
        b, [s for i in k for s in (1, i)]
    )
    return np.reshape(blocks, [i * j for i, j in zip(m, k, strict=True)])


@composition(np.cross)
def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None
) -> Any:
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    a, b = np.moveaxis(lift(a), axisa, -1), np.moveaxis(lift(b), axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(
            f"cross: expected vectors of 3 entries, got {a.shape[-1]} and {b.shape[-1]}"
        )
    out = np.roll(a, -1, -1) * np.roll(b, 1, -1) - np.roll(a, 1, -1) * np.roll(b, -1, -1)
    return np.moveaxis(out, -1, axisc)


def _explicit(operands: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """Both calling forms as `ij,jk->ik` with one letter per axis, and the arrays."""
    if isinstance(operands[0], str):
        formula, arrays = operands[0].replace(" ", ""), list(operands[1:])
    else:
        alphabet = string.ascii_uppercase + string.ascii_lowercase  # NumPy's numbering of letters
        n = len(operands) // 2 * 2
        lists = [*operands[1:n:2], *operands[n:]]
        terms = ["".join("..." if i is Ellipsis else alphabet[i] for i in s) for s in lists]
        arrays = list(operands[0:n:2])
        formula = ",".join(terms[: n // 2]) + "".join("->" + t for t in terms[n // 2 :])
    inputs, arrow, output = formula.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(arrays):
        raise ValueError(f"einsum: {formula!r} names {len(terms)} operands, got {len(arrays)}")
    if not arrow:
        letters = inputs.replace("...", "").replace(",", "")
        output = "..." * ("..." in inputs) + "".join(
            c for c in sorted(set(letters)) if letters.count(c) == 1
        )
    extra = [
        np.ndim(x) - len(t.replace("...", "")) if "..." in t else 0
        for t, x in zip(terms, arrays, strict=True)
    ]
    n = max(extra)
    if n > 0 and "..." not in output:
        raise ValueError(
            f"einsum: the output of {formula!r} needs '...' for {n} broadcast dimensions"
        )
    spare = "".join(c for c in string.ascii_letters if c not in formula)[:n]
    terms = [t.replace("...", spare[n - k :]) for t, k in zip(terms, extra, strict=True)]
    return ",".join(terms) + "->" + output.replace("...", spare), arrays


def _einsum(
    needs: tuple[bool, ...], g: Array, out: Array, *xs: Array, subscripts: str, optimize: Any
) -> list[Any]:
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    optimize = (
        optimize if isinstance(optimize, (bool, str)) else True
    )  # a path is for the forward only
    pieces: list[Any] = [None] * len(xs)
    for k, term in enumerate(terms):
        if not needs[k]:
            continue
        names, arrays = [output, *terms[:k], *terms[k + 1 :]], [g, *xs[:k], *xs[k + 1 :]]
        target = ""
        for i, c in enumerate(term):  # a repeated letter read a diagonal: put g back on it
            if c in term[:i]:
                fresh = next(s for s in string.ascii_letters if s not in subscripts + target)
                names.append(c + fresh)
                arrays.append(np.diag(np.ones_like(g, shape=xs[k].shape[i])))
                c = fresh
            target += c
        known = {c for name in names for c in name}
        lost = tuple(
            i for i, c in enumerate(target) if c not in known
        )  # summed in this operand only
        kept = "".join(c for c in target if c in known)
        piece = np.einsum(",".join(names) + "->" + kept, *arrays, optimize=optimize)
        piece = np.expand_dims(piece, lost) if lost else piece
        shape = np.broadcast_shapes(piece.shape, xs[k].shape)
        pieces[k] = np.broadcast_to(piece, shape) if piece.shape != shape else piece
    return pieces


einsum_node = p.primitive(
    np.einsum,
    joint=_einsum,
    forward=lambda *xs, subscripts, optimize: np.einsum(subscripts, *xs, optimize=optimize),
)


@composition(np.einsum)
def einsum(*operands: Any, optimize: Any = False) -> Tensor:
    subscripts, arrays = _explicit(operands)
    return apply(einsum_node, lifted(arrays), {"subscripts": subscripts, "optimize": optimize})
