"""Linear algebra: factorisations, inverses, determinants and their gradients, batched as in NumPy.

The one trick: a function with several results is one primitive whose output packs them, side by
side, into one flat array per matrix; slicing and reshaping, ordinary recorded nodes, unpack it.

Sources: M. Giles, *Collected matrix derivative results* (2008): inv, det, solve, eigh, svd.
I. Murray, *Differentiation of the Cholesky decomposition* (2016). J. Townsend, *Differentiating the
singular value decomposition* (2016). S. Walter and L. Lehmann, *Algorithmic differentiation of
linear algebra functions* (2010): qr. G. Golub and V. Pereyra (1973): pinv. G. W. Stewart, *On the
adjugate matrix* (1998): det.

Conventions. The gradient of a symmetric argument (cholesky, eigh) is symmetric, whichever triangle
NumPy reads. An eigenvector or singular vector is defined up to its sign, and at equal values up to
a rotation: only a loss that does not depend on that choice has a meaningful gradient. Where values
repeat (or a singular value is 0) the vectors have no derivative, not even if the loss has one: a
cotangent that reaches them there is an error. The values themselves are fine.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .numpy_functions import composition
from .primitives import primitive
from .tensor import Tensor, apply, constant, raw

Array = Any
EighResult: Any
QRResult: Any
SVDResult: Any
SlogdetResult: Any
EighResult, QRResult, SVDResult, SlogdetResult = (
    type(f(np.eye(1))) for f in (np.linalg.eigh, np.linalg.qr, np.linalg.svd, np.linalg.slogdet)
)


def T(x: Array) -> Array:
    """The transpose of the last two axes."""
    return np.swapaxes(x, -1, -2)


def pack(*parts: Array) -> Array:
    """Several results as one array: per matrix, all entries in a row. A matrix comes first."""
    batch = parts[0].shape[:-2]
    rows = [part.reshape((*batch, math.prod(part.shape[len(batch) :]))) for part in parts]
    return np.concatenate(rows, axis=-1)


def unpack(flat: Array, *shapes: tuple[int, ...]) -> list[Array]:
    """The results, or their cotangents, that `pack` put side by side."""
    ends = [sum(math.prod(shape) for shape in shapes[:i]) for i in range(len(shapes) + 1)]
    return [
        flat[..., i:j].reshape(flat.shape[:-1] + shape)
        for i, j, shape in zip(ends, ends[1:], shapes, strict=False)
    ]


def inverse(x: Array, scale: Array, *cotangents: Array, differences: bool = False) -> Array:
    """1 / x; 0 where x is 0 up to the rounding of `scale`'s largest entry (per matrix).

    There, the columns of the cotangents must be 0 too: 0 / 0 would have to be something else. A
    matrix of differences is 0 on its diagonal, which does not count.
    """
    scale = abs(raw(scale))
    top = np.max(scale, axis=-1, initial=0).reshape(
        scale.shape[:-1] + (1,) * (x.ndim - scale.ndim + 1)
    )
    zero = abs(raw(x)) <= top * (scale.shape[-1] * np.finfo(scale.dtype).eps)
    used = sum((np.any(raw(g) != 0, axis=-2, keepdims=True) for g in cotangents), np.False_)
    apart = ~np.eye(x.shape[-1], dtype=bool) if differences else np.True_
    if np.any(zero & apart & used):
        raise np.linalg.LinAlgError(
            "the gradient of eigenvectors or singular vectors does not exist where values repeat "
            "(or a singular value is 0): use the values only, or a function that needs no "
            "factorisation"
        )
    return np.where(zero, 0, 1 / np.where(zero, 1, x))


# Inverse, solution, determinant


def _solve_b(g: Array, out: Array, a: Array, b: Array) -> Array:
    return np.linalg.solve(T(a), g[..., None])[..., 0] if b.ndim == 1 else np.linalg.solve(T(a), g)


def _solve_a(g: Array, out: Array, a: Array, b: Array) -> Array:
    gb = _solve_b(g, out, a, b)
    return -gb[..., None] * out[..., None, :] if b.ndim == 1 else -gb @ T(out)


def _minors(x: Array) -> Array:
    """The cofactors of a matrix, each from its own minor: right where it is singular too."""
    n = x.shape[-1]
    rest = np.array([[j for j in range(n) if j != i] for i in range(n)], int).reshape(
        n, max(n - 1, 0)
    )
    sign = (-1) ** np.add.outer(np.arange(n), np.arange(n))
    return np.linalg.det(x[..., rest[:, None, :, None], rest[None, :, None, :]]) * sign.astype(
        x.dtype
    )


def _cofactors(x: Array) -> Array:
    """The cofactors of a plain matrix of any rank, by its singular values."""
    u, s, vt = np.linalg.svd(x)
    others = np.prod(np.where(np.eye(s.shape[-1], dtype=bool), 1, s[..., None, :]), axis=-1)
    return (u * (others * (np.linalg.det(u) * np.linalg.det(vt))[..., None])[..., None, :]) @ vt


def _det(g: Array, out: Array, x: Array) -> Array:
    """The cofactors. det(x) / x' gives them accurately (Stewart 1998), but not for a singular
    matrix, and it cancels in the second derivative near one. There, up to n = 16, minors, at a
    cost of n^5; beyond, for singular matrices, their SVD, without a second derivative."""
    n = x.shape[-1]
    condition = np.linalg.cond(raw(x), 1) if x.size else np.zeros(1)
    if np.all(condition < (np.finfo(x.dtype).eps ** -0.5 if n <= 16 else np.inf)):
        cofactors = out[..., None, None] * T(np.linalg.inv(x))
    elif n <= 16:
        cofactors = _minors(x)
    elif isinstance(x, Tensor):
        raise np.linalg.LinAlgError(
            f"det: no second derivative at a singular matrix larger than 16 by 16, got {x.shape}"
        )
    else:
        cofactors = _cofactors(x)
    return g[..., None, None] * cofactors


def _logabsdet(x: Array) -> Array:
    return np.linalg.slogdet(x)[1]


def _pinv(g: Array, out: Array, x: Array, **options: Any) -> Array:
    """Golub and Pereyra's three terms; x may lack rank, as long as its rank stays."""
    gt, pt = T(g), T(out)
    left, right = gt @ (out @ pt), (pt @ out) @ gt
    return (left - x @ (out @ left)) + (right - (right @ out) @ x) - pt @ g @ pt


inv = primitive(np.linalg.inv, lambda g, out, x: -T(out) @ g @ T(out), saves="o")
solve = primitive(np.linalg.solve, _solve_a, _solve_b, saves="ao a")
det = primitive(np.linalg.det, _det, saves="ox")
logabsdet = primitive(
    _logabsdet,
    lambda g, out, x: g[..., None, None] * T(np.linalg.inv(x)),
    saves="x",
    name="logabsdet",
)
pinv_node = primitive(np.linalg.pinv, _pinv, saves="ox")


@composition(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    return SlogdetResult(constant(np.linalg.slogdet(raw(a)).sign), apply(logabsdet, (a,)))


@composition(np.linalg.pinv)
def pinv(a: Any, rcond: Any = None, *, rtol: Any = ...) -> Tensor:
    """Of constant rank: the gradient assumes that no singular value crosses the threshold."""
    options = {} if rcond is None else {"rcond": rcond}
    return apply(pinv_node, (a,), options if rtol is ... else {**options, "rtol": rtol})


# Factorisations


def _cholesky(g: Array, out: Array, a: Array) -> Array:
    """L'^-1 P L^-1 with P the lower triangle of L' g, its diagonal halved (Murray 2016)."""
    product = T(out) @ g
    triangle = (np.tril(product, k=0) + np.tril(product, k=-1)) / 2
    half = T(np.linalg.solve(T(out), T(np.linalg.solve(T(out), triangle))))
    return (half + T(half)) / 2


def _eigh(a: Array) -> Array:
    w, v = np.linalg.eigh(a)
    return pack(v, w)


def _eigh_back(g: Array, out: Array, a: Array) -> Array:
    n = a.shape[-1]
    (v, w), (gv, gw) = unpack(out, (n, n), (n,)), unpack(g, (n, n), (n,))
    f = inverse(w[..., None, :] - w[..., None], w, gv, differences=True)
    ga = (v @ (f * (T(v) @ gv)) + v * gw[..., None, :]) @ T(v)
    return (ga + T(ga)) / 2


def _svd(a: Array) -> Array:
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    return pack(u, vt, s)


def _svd_shapes(a: Array) -> tuple[tuple[int, ...], ...]:
    m, n = a.shape[-2:]
    k = min(m, n)
    return (m, k), (k, n), (k,)


def _svd_back(g: Array, out: Array, a: Array) -> Array:
    (u, vt, s), (gu, gvt, gs) = unpack(out, *_svd_shapes(a)), unpack(g, *_svd_shapes(a))
    v, gv, row = T(vt), T(gvt), s[..., None, :]
    column = T(row)
    # 1 / (s_j^2 - s_i^2)
    f = inverse(row - column, s, gu, gv, differences=True) * inverse(row + column, s)
    ut_gu, vt_gv = T(u) @ gu, vt @ gv
    middle = (f * (ut_gu - T(ut_gu))) * row + column * (f * (vt_gv - T(vt_gv)))
    outside_u = (gu - u @ ut_gu) * inverse(row, s, gu)
    outside_v = (gv - v @ vt_gv) * inverse(row, s, gv)
    return (u @ middle + u * gs[..., None, :] + outside_u) @ vt + u @ T(outside_v)


def _qr(a: Array) -> Array:
    return pack(*np.linalg.qr(a))


def _qr_shapes(a: Array) -> tuple[tuple[int, ...], ...]:
    m, n = a.shape[-2:]
    k = min(m, n)
    return (m, k), (k, n)


def _qr_back(g: Array, out: Array, a: Array) -> Array:
    """The leading square of a wide matrix determines q; the other columns are q times r's."""
    (q, r), (gq, gr) = unpack(out, *_qr_shapes(a)), unpack(g, *_qr_shapes(a))
    m, n = a.shape[-2:]
    if wide := m < n:
        others = gr[..., m:]
        gq = gq + q @ r[..., m:] @ T(others)  # q' a = r there, with a = q r
        r, gr = r[..., :m], gr[..., :m]
    product = r @ T(gr) - T(gq) @ q
    symmetric = np.tril(product, k=0) + T(np.tril(product, k=-1))
    ga = T(np.linalg.solve(r, T(gq + q @ symmetric)))
    return np.concatenate([ga, q @ others], axis=-1) if wide else ga


cholesky_node = primitive(np.linalg.cholesky, _cholesky, saves="o")
eigh_node = primitive(_eigh, _eigh_back, saves="o", name="eigh")
svd_node = primitive(_svd, _svd_back, saves="o", name="svd")
qr_node = primitive(_qr, _qr_back, saves="o", name="qr")


@composition(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    lower = apply(cholesky_node, (T(a) if upper else a,))
    return T(lower) if upper else lower


@composition(np.linalg.eigh)
def eigh(a: Any, UPLO: str = "L") -> Any:
    if UPLO.upper() not in ("L", "U"):
        raise ValueError(f"eigh: UPLO must be 'L' or 'U', got {UPLO!r}")
    n = np.shape(a)[-1]
    v, w = unpack(apply(eigh_node, (a if UPLO.upper() == "L" else T(a),)), (n, n), (n,))
    return EighResult(w, v)


@composition(np.linalg.eigvalsh)
def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    return eigh(a, UPLO).eigenvalues


@composition(np.linalg.svd)
def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    if compute_uv and full_matrices and a.shape[-1] != a.shape[-2]:
        raise TypeError(
            f"svd: the extra vectors of {a.shape} have no gradient: pass full_matrices=False"
        )
    u, vt, s = unpack(apply(svd_node, (a,)), *_svd_shapes(a))
    return SVDResult(u, s, vt) if compute_uv else s


@composition(np.linalg.svdvals)
def svdvals(x: Any, /) -> Any:
    return svd(x, compute_uv=False)


@composition(np.linalg.qr)
def qr(a: Any, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "r"):
        raise TypeError(f"qr: mode={mode!r} is not differentiable here: use 'reduced' or 'r'")
    q, r = unpack(apply(qr_node, (a,)), *_qr_shapes(a))
    return r if mode == "r" else QRResult(q, r)


# Products of several matrices


@composition(np.linalg.multi_dot)
def multi_dot(arrays: Any) -> Any:
    """In the order that multiplies least."""
    shapes = [np.shape(x) for x in arrays]
    if len(shapes) < 2:
        raise ValueError(f"multi_dot needs 2 arrays or more, got {len(shapes)}")
    rows = [1 if i == 0 and len(s) == 1 else s[0] for i, s in enumerate(shapes)]
    sizes = [*rows, shapes[-1][1] if len(shapes[-1]) > 1 else 1]

    @functools.cache
    def best(i: int, j: int) -> tuple[int, int]:
        """The cost of multiplying the arrays i to j, and after which one to split them."""
        if i == j:
            return 0, i
        work = sizes[i] * sizes[j + 1]
        return min(
            (best(i, k)[0] + best(k + 1, j)[0] + work * sizes[k + 1], k) for k in range(i, j)
        )

    def product(i: int, j: int) -> Any:
        k = best(i, j)[1]
        return arrays[i] if i == j else np.matmul(product(i, k), product(k + 1, j))

    return product(0, len(shapes) - 1)


@composition(np.linalg.matrix_power)
def matrix_power(a: Any, n: int) -> Any:
    if n == 0:
        return constant(np.linalg.matrix_power(raw(a), 0))
    a, n = (np.linalg.inv(a), -n) if n < 0 else (a, n)
    result = None
    while n:  # square, and multiply where n has a binary 1
        if n & 1:
            result = a if result is None else result @ a
        n >>= 1
        a = a @ a if n else a
    return result
