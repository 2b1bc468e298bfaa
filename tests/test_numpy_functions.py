"""Every composition: NumPy's values, two derivatives, float32, PyTorch, and its edges."""

import numpy as np
import pytest

import tinygrad_lite as tg
import tinygrad_lite.linear_algebra  # registers the functions
from tinygrad_lite import Tensor


def array(*shape, seed=0, low=0.3, high=2.0):
    """Distinct entries of both signs, none near 0."""
    rng = np.random.default_rng(seed + 10 * len(shape) + sum(shape))
    x = rng.uniform(low, high, shape)
    return x * rng.choice([-1.0, 1.0], shape)


def parts(out):
    return list(out) if isinstance(out, (list, tuple)) else [out]


def weighted(out):
    """One number that depends on every entry of every result."""
    total = 0.0
    for k, part in enumerate(parts(out)):
        w = np.cos(np.arange(1, np.size(part) + 1) * (k + 1.3)).reshape(np.shape(part))
        total = total + np.sum(part * w.astype(part.dtype))
    return total


def gradient(f, arrays, create_graph=False):
    tensors = [Tensor(x, requires_grad=True) for x in arrays]
    y = weighted(f(*tensors))
    if y.requires_grad:
        y.backward(create_graph=create_graph)
    return tensors, [np.zeros(t.shape) if t.grad is None else t.grad for t in tensors]


def slope(f, arrays, h=1e-5):
    """Central differences of a number, or of a list of arrays, along each entry of each array."""
    result = []
    for x in arrays:
        g = np.zeros(x.shape)
        for i in np.ndindex(x.shape):
            old = x[i]
            x[i] = old + h
            up = f(*arrays)
            x[i] = old - h
            down = f(*arrays)
            x[i] = old
            g[i] = (up - down) / (2 * h)
        result.append(g)
    return result


def check(f, *arrays, order=2, single=True):
    arrays = [np.array(x) for x in arrays]
    wanted, found = parts(f(*arrays)), parts(f(*[Tensor(x) for x in arrays]))
    assert len(wanted) == len(found)
    for a, b in zip(wanted, found, strict=True):
        assert np.shape(a) == b.shape
        np.testing.assert_allclose(b.numpy(), a, rtol=1e-12, atol=1e-13)
        assert b.dtype == np.asarray(a).dtype
    _, grads = gradient(f, arrays)
    numeric = slope(lambda *xs: weighted(f(*xs)), arrays)
    for a, b in zip(numeric, grads, strict=True):
        np.testing.assert_allclose(np.asarray(b), a, rtol=1e-6, atol=1e-8)
    for i in range(len(arrays)) if len(arrays) > 1 else ():  # the other arguments plain
        t = Tensor(arrays[i], requires_grad=True)
        weighted(f(*arrays[:i], t, *arrays[i + 1 :])).backward()
        np.testing.assert_allclose(np.asarray(t.grad), np.asarray(grads[i]), rtol=1e-12, atol=1e-13)
    if order == 2:
        check_second(f, arrays)
    if single:
        tensors, grads = gradient(f, [x.astype(np.float32) for x in arrays])
        assert all(part.dtype == np.float32 for part in parts(f(*tensors)))
        assert all(t.grad is None or t.grad.dtype == np.float32 for t in tensors)


def check_second(f, arrays, h=1e-5):
    """A Hessian-vector product against differences of the gradient."""
    direction = [
        np.sin(np.arange(x.size) + 2.0 * k + 1).reshape(x.shape) for k, x in enumerate(arrays)
    ]

    def moved(step):
        return gradient(f, [x + step * v for x, v in zip(arrays, direction, strict=True)])[1]

    numeric = [
        (np.asarray(a) - np.asarray(b)) / (2 * h) for a, b in zip(moved(h), moved(-h), strict=True)
    ]
    tensors, grads = gradient(f, arrays, create_graph=True)
    slope = sum(np.sum(g * v) for g, v in zip(grads, direction, strict=True))
    for t in tensors:
        t.grad = None
    if isinstance(slope, Tensor) and slope.requires_grad:
        slope.backward()
    for t, a in zip(tensors, numeric, strict=True):
        found = np.zeros(t.shape) if t.grad is None else t.grad.numpy()
        np.testing.assert_allclose(found, a, rtol=1e-6, atol=1e-7)


A, B, C, V = array(3, 4), array(3, 4, seed=1), array(2, 3, 4), array(5)
MASK = np.arange(12).reshape(3, 4) % 3 == 0
INF = np.inf

# fmt: off
CASES = {
    # choosing
    "clip":            (lambda x: np.clip(x, -1, 1), A),
    "clip_names":      (lambda x: np.clip(x, min=-0.5, max=None), A),
    "clip_bounds":     (lambda x, low, high: np.clip(x, low, high), A, [-1.1, -1, -.9, -1.2], 1.05),
    "clip_upper":      (lambda x, h: np.clip(x, None, h), A, 0.2),
    "where":           (lambda x, y: np.where(MASK, x, y), A, V[:4]),
    "where_scalar":    (lambda x: np.where(MASK, x, 0), A),
    "select":          (lambda x, y: np.select([MASK, y > 0], [x * x, y], 3), A, B),
    "choose":          (lambda x, y: np.choose([[0, 1, 1, 0]], [x, y]), A, B),
    "choose_wrap":     (lambda x: np.choose([3, -1, 5, 0], x, mode="wrap"), A),
    "choose_clip":     (lambda x: np.choose([3, -1, 5, 0], x, mode="clip"), A),
    "compress":        (lambda x: np.compress([True, False, True], x, axis=0), A),
    "compress_flat":   (lambda x: np.compress([0, 1, 1, 0, 1], x), A),
    "extract":         (lambda x: np.extract(MASK, x), A),
    # order
    "sort":            (lambda x: np.sort(x), C),
    "sort_axis":       (lambda x: np.sort(x, axis=1), C),
    "sort_flat":       (lambda x: np.sort(x, axis=None), C),
    "partition":       (lambda x: np.partition(x, 2), np.sort(V)),
    # statistics
    "amax":            (lambda x: np.amax(x, 1), A),
    "amin":            (lambda x: np.amin(x, axis=(0, 1), keepdims=True), A),
    "ptp":             (lambda x: np.ptp(x), A),
    "ptp_axis":        (lambda x: np.ptp(x, axis=1, keepdims=True), A),
    "median":          (lambda x: np.median(x), A),
    "median_odd":      (lambda x: np.median(x, axis=0), A),
    "median_axes":     (lambda x: np.median(x, axis=(0, -1)), C),
    "median_keep":     (lambda x: np.median(x, axis=(2, 0), keepdims=True), C),
    "median_0d":       (lambda x: np.median(x), 2.0),
    "average":         (lambda x: np.average(x, axis=1), A),
    "average_w":       (lambda x, w: np.average(x, weights=w * w), A, B),
    "average_w1":      (lambda x, w: np.average(x, 1, w, True, keepdims=True), A, [1., 2, 3, 4]),
    "average_w2":      (lambda x, w: np.average(x, (2, 0), w * w), C, array(4, 2)),
    "nansum":          (lambda x: np.nansum(np.where(MASK, np.nan, x), axis=1), A),
    "nanmean":         (lambda x: np.nanmean(np.where(MASK, np.nan, x), axis=0, keepdims=True), A),
    "cumulative_sum":  (lambda x: np.cumulative_sum(x, axis=1, include_initial=True), A),
    "cumulative_prod": (lambda x: np.cumulative_prod(x, include_initial=True), V),
    # norms
    **{f"norm_{o}": (lambda x, o=o: np.linalg.norm(x, o), V)
         for o in (None, 2, 1, 3, 1.5, 0.5, -1, -2, INF, -INF, 0)},
    **{f"norm_axis_{o}": (lambda x, o=o: np.linalg.norm(x, o, axis=1, keepdims=True), C)
         for o in (None, 2, 1, 3.5, INF)},
    **{f"norm_matrix_{o}": (lambda x, o=o: np.linalg.norm(x, o), A)
         for o in (None, "fro", "nuc", 2, -2, 1, -1, INF, -INF)},
    **{f"norm_axes_{o}": (lambda x, o=o: np.linalg.norm(x, o, (2, 0), True), C)
         for o in ("fro", "nuc", 2, -2, 1, -1, INF, -INF)},
    "norm_3d":         (lambda x: np.linalg.norm(x, keepdims=True), C),
    "vector_norm":     (lambda x: np.linalg.vector_norm(x, axis=(0, 2), ord=3), C),
    "matrix_norm":     (lambda x: np.linalg.matrix_norm(x, ord=1), C),
    # shape
    "concatenate":     (lambda x, y: np.concatenate((x, y, x), axis=-1), A, B),
    "concatenate_flat": (lambda x, y: np.concatenate([x, y], axis=None), A, V),
    "stack":           (lambda x, y: np.stack([x, y, x], axis=1), A, B),
    "stack_last":      (lambda x, y: np.stack((x, y), -1), A, B),
    "append":          (lambda x, y: np.append(x, y), A, V),
    "append_axis":     (lambda x, y: np.append(x, y, 0), A, B),
    "atleast_1d":      (lambda x, y: np.atleast_1d(x, y), 2.0, V),
    "atleast_2d":      (lambda x, y, z: np.atleast_2d(x, y, z), 2.0, V, C),
    "atleast_3d":      (lambda x, y, z: np.atleast_3d(x, y, z), V, A, C),
    "vstack":          (lambda x, y: np.vstack([x, y]), A, V[:4]),
    "hstack":          (lambda x, y: np.hstack([x, y]), A, B),
    "hstack_1d":       (lambda x, y: np.hstack([x, y]), 3.0, V),
    "dstack":          (lambda x, y: np.dstack([x, y]), A, B),
    "column_stack":    (lambda x, y: np.column_stack([x, y]), V[:3], A),
    "split":           (lambda x: np.split(x, 2, axis=1), A),
    "split_at":        (lambda x: np.split(x, [1, 1, -1, 9], axis=-1), A),
    "array_split":     (lambda x: np.array_split(x, 3), V),
    "hsplit":          (lambda x: np.hsplit(x, 2), A),
    "vsplit":          (lambda x: np.vsplit(x, [1]), A),
    "dsplit":          (lambda x: np.dsplit(x, 2), C),
    "unstack":         (lambda x: np.unstack(x, axis=1), A),
    "broadcast_arrays": (lambda x, y: np.broadcast_arrays(x, y), A, 2.0),
    "meshgrid":        (lambda x, y: np.meshgrid(x, y), V, V[:3]),
    "meshgrid_ij":     (lambda x, y, z: np.meshgrid(x, y, z, indexing="ij"), V, V[:2], 1.0),
    "meshgrid_sparse": (lambda x, y, z: np.meshgrid(x, y, z, sparse=True), V, V[:3], V[:2]),
    "rollaxis":        (lambda x: np.rollaxis(x, 2), C),
    "rollaxis_end":    (lambda x: np.rollaxis(x, 0, 3), C),
    "flips":           (lambda x: [np.fliplr(x), np.flipud(x)], A),
    "trace":           (lambda x: np.trace(x, 1, 1, 2), C),
    **{f"pad_{m}": (lambda x, m=m: np.pad(x, ((1, 2), (0, 1)), mode=m), A)
         for m in ("constant", "edge", "reflect", "symmetric", "wrap")},
    "pad_value":       (lambda x: np.pad(x, 1, constant_values=2), A),
    "pad_values":      (lambda x: np.pad(x, 1, constant_values=((1, 2), (3, 4))), A),
    # differences
    "diff":            (lambda x: np.diff(x, 2, axis=0), A),
    "diff_ends":       (lambda x, y: np.diff(x, prepend=y, append=0.0), V, [.5, .7]),
    "diff_axis":       (lambda x: np.diff(x, axis=0, prepend=0), A),
    "ediff1d":         (lambda x, y: np.ediff1d(x, to_begin=y), A, V),
    "trapezoid":       (lambda y: np.trapezoid(y, dx=0.5, axis=0), A),
    "trapezoid_x":     (lambda y, x: np.trapezoid(y, x), C, V[:4]),
    "trapezoid_xn":    (lambda y, x: np.trapezoid(y, x, axis=1), C, array(2, 3, 4, seed=5)),
    "gradient":        (lambda x: np.gradient(x), V),
    "gradient_2":      (lambda x: np.gradient(x, 0.5, edge_order=2), array(3, 4)),
    "gradient_axes":   (lambda x: np.gradient(x, 2, 0.5, axis=(1, -1), edge_order=2),
         array(2, 3, 4)),
    "gradient_x":      (lambda f, x: np.gradient(f, np.exp(x / 2), edge_order=2),
         V, [0.1, .5, 1.2, 1.4, 2.]),
    "gradient_h":      (lambda f, h: np.gradient(f, h, axis=0), A, 0.7),
    # products
    "dot_0d":          (lambda x, y: np.dot(x, y), 2.0, A),
    "dot_1d":          (lambda x, y: np.dot(x, y), V, V + 1),
    "dot_2d":          (lambda x, y: np.dot(x, y), A, B.T),
    "dot_mixed":       (lambda x, y: np.dot(x, y), C, V[:4]),
    "dot_1_3":         (lambda x, y: np.dot(x, y), V[:3], C),
    "dot_nd":          (lambda x, y: np.dot(x, y), array(2, 3), C),
    "inner":           (lambda x, y: np.inner(x, y), A, C),
    "inner_1d":        (lambda x, y: np.inner(x, y), V, V),
    "inner_0d":        (lambda x, y: np.inner(x, y), 3.0, V),
    "vdot":            (lambda x, y: np.vdot(x, y), A, B),
    "outer":           (lambda x, y: np.outer(x, y), A, V),
    "kron":            (lambda x, y: np.kron(x, y), A[:2, :2], B[:, :2]),
    "kron_ranks":      (lambda x, y: np.kron(x, y), V[:2], C[:, :2, :2]),
    "kron_0d":         (lambda x, y: np.kron(x, y), V[:2], 3.0),
    "cross":           (lambda x, y: np.cross(x, y), A.T, V[:3]),
    "cross_axes":      (lambda x, y: np.cross(x, y, axisa=0, axisb=1, axisc=0), A, B.T),
    "tensordot":       (lambda x, y: np.tensordot(x, y), C, array(3, 4, 2)),
    "tensordot_0":     (lambda x, y: np.tensordot(x, y, axes=0), V[:2], A),
    "tensordot_1":     (lambda x, y: np.tensordot(x, y, 1), C, array(4, 2)),
    "tensordot_axes":  (lambda x, y: np.tensordot(x, y, axes=([2, 0], [-1, 0])), C, array(2, 5, 4)),
    "tensordot_order": (lambda x, y: np.tensordot(x, y, axes=((0, 2, 1), (1, 0, 2))), C,
         array(4, 2, 3)),
    "tensordot_same":  (lambda x: np.tensordot(x, x, axes=((1,), (1,))), A),
    "vecdot":          (lambda x, y: np.vecdot(x, y), C, B),
    "transposed":      (lambda x: [np.matrix_transpose(x), np.permute_dims(x, (2, 0, 1))], C),
    "linalg_aliases":  (lambda x, y: [np.linalg.diagonal(x, offset=1), np.linalg.trace(x),
         np.linalg.matmul(x, y.T),
                                      np.linalg.vecdot(x, y, axis=0), np.linalg.outer(x[0], y[1]),
                                      np.linalg.tensordot(x, y, axes=2),
                                      np.linalg.matrix_transpose(x),
                                      np.linalg.cross(x[:, :3], y[:, 1:])], A, B),
}

EINSUMS = [  # formula, shapes
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ba,ca", (2, 3), (4, 3)),
    ("ij->ji", (2, 3)),
    ("ji", (2, 3)), ("ij->", (2, 3)), ("ij->j", (2, 3)), ("ii", (3, 3)), ("ii->i", (3, 3)),
    ("iij->j", (2, 2, 3)),
    ("iii->i", (2, 2, 2)), ("iji->j", (2, 3, 2)), ("i,i->", (3,), (3,)), ("i,j->ij", (2,), (3,)),
    (",ij->ij", (), (2, 3)),
    ("i,jk->j", (2,), (3, 4)), ("ii,jj->ij", (2, 2), (3, 3)), ("ij,ij->ij", (1, 3), (2, 3)),
    ("ij,jk->ik", (2, 1), (3, 4)),
    ("ij,kj->ik", (2, 3), (4, 1)), ("...ij,...jk->...ik", (2, 2, 3), (3, 2)),
    ("...ij,jk", (2, 2, 3), (3, 2)),
    ("...i,...i->...", (2, 1, 3), (4, 3)), ("i...->...", (2, 3, 2)), ("...", (2, 3)),
    ("...i->i...", (2, 3, 2)),
    ("i...i->...i", (2, 3, 2)), ("ij, jk, kl -> il", (2, 3), (3, 2), (2, 4)),
    ("ij,jk,ki->", (2, 3), (3, 2), (2, 2)),
    ("bi,bj,ijk->bk", (2, 3), (2, 2), (3, 2, 4)), ("...a,...a,...->...", (3, 2), (2, 1, 2), ()),
    ("Zb,bA", (2, 3), (3, 2)),
]
# fmt: on
CASES |= {
    f"einsum_{formula}": (lambda *xs, f=formula: np.einsum(f, *xs), *(array(*s) for s in shapes))
    for formula, *shapes in EINSUMS
}
CASES |= {
    "einsum_lists": (lambda x, y: np.einsum(x, [0, 5], y, [5, 2], [2, 0]), A, B.T),
    "einsum_implicit": (lambda x, y: np.einsum(x, [30, 5], y, [5, 2]), A, B.T),
    "einsum_ellipsis": (lambda x, y: np.einsum(x, [..., 1], y, [1, ...], [...]), C, A.T),
    "einsum_optimize": (lambda x, y: np.einsum("ij,kj,kl->il", x, y, y, optimize=True), A, B),
    "einsum_path": (
        lambda x, y: np.einsum("ij,kj,kl->il", x, y, y, optimize=["einsum_path", (0, 1), (0, 1)]),
        A,
        B,
    ),
}


if not hasattr(np, "unstack"):  # NumPy 2.0
    for newer in ("clip_names", "cumulative_sum", "cumulative_prod", "unstack"):
        del CASES[newer]


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name):
    f, *arrays = CASES[name]
    check(f, *arrays)


KNOTS, VALUES = np.array([-1.0, 0.2, 1.0, 2.5]), np.array([1.0, -2.0, 0.5, 3.0])


@pytest.mark.parametrize("options", [{}, {"left": -9, "right": 9}, {"period": 3.6}])
def test_interp(options):
    x = np.array([[-3.0, -0.3, 0.25], [2.2, 1.1, 4.0]])
    check(lambda *a: np.interp(*a, **options), x, KNOTS, VALUES, single=False)
    out = np.interp(Tensor(x.astype("f4")), KNOTS.astype("f4"), VALUES.astype("f4"))
    assert out.dtype == np.float32  # NumPy computes in float64; a Tensor keeps its own dtype


def test_interp_edges():
    x = Tensor([-1.0, 2.5, np.inf, np.nan], requires_grad=True)
    y = np.interp(x, KNOTS, VALUES)
    np.testing.assert_array_equal(y.numpy(), [1.0, 3.0, 3.0, np.nan])
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy()[:3], [-3 / 1.2, 2.5 / 1.5, 0.0])
    assert np.interp(Tensor(0.3, requires_grad=True), [1.0], [5.0]).item() == 5.0
    assert np.interp(0.5, KNOTS, Tensor(VALUES, requires_grad=True)).item() == np.interp(
        0.5, KNOTS, VALUES
    )


try:
    import torch
except ImportError:
    torch = None
needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch, the oracle, is not installed")


def torch_select(x, y):
    return torch.where(torch.tensor(MASK), x * x, torch.where(y > 0, y, 3.0))


# fmt: off
TORCH = [
    (lambda x: np.linalg.norm(x), lambda x: torch.linalg.norm(x), A),
    (lambda x: np.linalg.norm(x, 3, axis=0), lambda x: torch.linalg.norm(x, 3, dim=0), A),
    (lambda x: np.linalg.norm(x, "nuc"), lambda x: torch.linalg.norm(x, "nuc"), A),
    (lambda x: np.linalg.norm(x, 2), lambda x: torch.linalg.norm(x, 2), A),
    (lambda x: np.linalg.norm(x, -1), lambda x: torch.linalg.norm(x, -1), A),
    (lambda x: np.linalg.norm(x), lambda x: torch.linalg.norm(x), np.zeros(3)),
    (lambda x: np.linalg.norm(x, 3), lambda x: torch.linalg.norm(x, 3), np.zeros(3)),
    (lambda x: np.sort(x, axis=1), lambda x: torch.sort(x, dim=1).values, C),
    (lambda x, y: np.select([MASK, y > 0], [x * x, y], 3), torch_select, A, B),
    (lambda x: np.gradient(x, 0.5, axis=1, edge_order=2),
         lambda x: torch.gradient(x, spacing=0.5, dim=1, edge_order=2), A),
    (lambda x: np.diff(x, 2, axis=0), lambda x: torch.diff(x, 2, dim=0), A),
    (lambda y, x: np.trapezoid(y, x), lambda y, x: torch.trapezoid(y, x), C, V[:4]),
    (lambda x, y: np.kron(x, y), lambda x, y: torch.kron(x, y), A, B),
    (lambda x, y: np.cross(x, y), lambda x, y: torch.linalg.cross(x, y), A.T, B.T),
    (lambda x, y: np.inner(x, y), lambda x, y: torch.inner(x, y), A, C),
    (lambda x: np.pad(x, ((1, 2), (2, 1)), "reflect"),
         lambda x: torch.nn.functional.pad(x[None], (2, 1, 1, 2), "reflect")[0], A),
    (lambda x: np.nanmean(np.where(MASK, np.nan, x), axis=1),
         lambda x: torch.nanmean(torch.where(torch.tensor(MASK), np.nan, x), dim=1), A),
    (lambda x, y: np.meshgrid(x, y), lambda x, y: torch.meshgrid(x, y, indexing="xy"), V, V[:3]),
    (lambda x, y: np.tensordot(x, y, axes=([2, 0], [-1, 0])),
         lambda x, y: torch.tensordot(x, y, ([2, 0], [2, 0])), C, array(2, 5, 4)),
    *((lambda *xs, f=f: np.einsum(f, *xs), lambda *xs, f=f: torch.einsum(f, *xs), *(array(*s)
         for s in shapes)) for f, *shapes in EINSUMS),
]
# fmt: on


def check_torch(f, peer, arrays, rtol=1e-10, atol=1e-12):
    """First and second derivatives against PyTorch's, on the same inputs."""
    tensors, grads = gradient(f, arrays, create_graph=True)
    peers = [torch.tensor(np.asarray(x), requires_grad=True) for x in arrays]
    y = 0.0
    for k, part in enumerate(parts(peer(*peers))):
        w = np.cos(np.arange(1, part.numel() + 1) * (k + 1.3)).reshape(tuple(part.shape))
        y = y + torch.sum(part * torch.tensor(w))
    others = torch.autograd.grad(y, peers, create_graph=True)
    for a, b in zip(others, grads, strict=True):
        np.testing.assert_allclose(np.asarray(b.detach()), a.detach().numpy(), rtol=rtol, atol=atol)
    if not others[0].requires_grad or not all(np.any(x) for x in arrays):
        return
    second = torch.autograd.grad(
        sum(torch.sum(torch.sin(g)) for g in others), peers, allow_unused=True
    )
    total = sum(np.sum(np.sin(g)) for g in grads)
    for t in tensors:
        t.grad = None
    if total.requires_grad:
        total.backward()
    for t, b in zip(tensors, second, strict=True):
        found = np.zeros(t.shape) if t.grad is None else t.grad.numpy()
        np.testing.assert_allclose(
            found, 0 * found if b is None else b.numpy(force=True), rtol=rtol * 100, atol=atol * 100
        )


@needs_torch
@pytest.mark.parametrize("case", range(len(TORCH)))
def test_against_torch(case):
    f, peer, *arrays = TORCH[case]
    check_torch(f, peer, arrays)


@pytest.mark.parametrize("ord", [None, 2, 1, 3, 1.5, 0.5, -1, np.inf, -np.inf, 0])
def test_norm_at_zero(ord):
    """At a zero vector every norm has slope 0, at both orders, and no warning."""
    x = Tensor(np.zeros((2, 3)), requires_grad=True)
    y = np.linalg.norm(x, ord, axis=1).sum()
    if ord == 0:
        assert not y.requires_grad
        return
    y.backward(create_graph=True)
    first, x.grad = x.grad, None
    np.testing.assert_array_equal(first.numpy(), 0)
    if first.requires_grad:
        (first * first).sum().backward()
        np.testing.assert_array_equal(0 if x.grad is None else x.grad.numpy(), 0)


@pytest.mark.parametrize("ord", [None, "fro", "nuc", 2, -2, 1, -1, np.inf, -np.inf])
def test_matrix_norm_at_zero(ord):
    x = Tensor(np.zeros((2, 3)), requires_grad=True)
    np.linalg.norm(x, ord).backward()
    np.testing.assert_array_equal(x.grad.numpy(), 0)


def test_norm_with_some_zeros():
    x = Tensor([0.0, 3.0, -4.0], requires_grad=True)
    np.linalg.norm(x, 1.5).backward()
    assert x.grad.numpy()[0] == 0
    assert np.isfinite(x.grad.numpy()).all()


def test_python_scalars_are_weak():
    """Where NumPy would make a float64 array of a Python scalar, a Tensor stays float32."""
    t = Tensor(np.float32([1, 2]), requires_grad=True)
    for y in (
        np.append(t, 1.0),
        np.hstack([t, 1.0]),
        np.stack([t[0], 1.0]),
        np.diff(t, prepend=0.5),
        np.ediff1d(t, to_end=1.0),
        np.outer(t, 0.5),
        np.kron(t, 0.5),
        np.einsum(",i", 0.5, t),
        np.interp(1.5, t, t),
        np.choose([0, 1], [t, 0.5]),
        np.gradient(t, 0.5),
        np.inner(0.5, t),
        np.clip(t, 0.5, 1.5),
        np.where([True, False], t, 0.5),
        np.select([t > 1], [t], 0.5),
        np.pad(t, 1, constant_values=0.5),
        np.trapezoid(t, dx=0.5),
        np.linalg.norm(t, 1.5),
    ):
        assert y.dtype == np.float32
        t.grad = None
        y.sum().backward()
        assert t.grad.dtype == np.float32


def test_one_node_each():
    x = Tensor(C, requires_grad=True)
    for y in (
        np.einsum("aij,bij->ab", x, x),
        np.tensordot(x, x, 0),
        np.dot(x, A.T),
        np.dot(x, 2.0),
        np.clip(x, 0, 1),
        np.where(x > 0, x, 0),
        np.stack([x, x]),
        np.inner(x, A),
    ):
        assert all(parent is x._node for parent in y._node.parents if parent is not None)


def test_full_like():
    c = Tensor(2.0, requires_grad=True)
    y = np.full_like(Tensor(A), c)
    assert y.shape == A.shape
    y.sum().backward()
    assert c.grad.item() == A.size
    assert not np.full_like(Tensor(A, requires_grad=True), 3).requires_grad
    assert np.full_like(Tensor(A.astype("f4")), 3.5).dtype == np.float32
    with pytest.raises(TypeError, match="gradient"):
        np.full_like(Tensor([1, 2]), c)


def test_edges():
    empty = Tensor(np.zeros((0, 3)), requires_grad=True)
    assert np.concatenate([empty, A[:, :3]]).shape == (3, 3)
    assert np.sort(empty, axis=0).shape == (0, 3)
    assert np.nansum(empty, axis=0).shape == (3,)
    assert np.einsum("ij->j", empty).shape == (3,)
    assert np.tensordot(empty, empty, axes=((0,), (0,))).shape == (3, 3)
    assert [p.shape for p in np.array_split(empty, 2)] == [(0, 3), (0, 3)]
    loss = np.einsum("ij,ij->", empty, empty) + np.tensordot(empty, empty) + np.linalg.norm(empty)
    loss.backward()
    assert empty.grad.shape == (0, 3)
    one = Tensor([[2.0]], requires_grad=True)
    for f in (np.median, np.ptp, np.trace, np.linalg.norm, np.average):
        assert f(one).shape == ()
    assert np.diff(one).shape == (1, 0)
    assert np.trapezoid(one).item() == 0


def test_ties_and_nans():
    x = Tensor([1.0, 1.0, 1.0, 2.0], requires_grad=True)
    np.median(x).backward()
    assert x.grad.numpy().sum() == 1
    y = Tensor([1.0, np.nan, 3.0], requires_grad=True)
    assert np.isnan(np.median(y).item())
    np.nanmean(y).backward()
    np.testing.assert_array_equal(y.grad.numpy(), [0.5, 0, 0.5])
    assert np.isnan(np.nanmean(Tensor([np.nan])).item())


def test_mixed_arguments():
    t = Tensor([1.0, 2.0], requires_grad=True)
    for y in (
        np.concatenate([[0.0], t, np.ones(1)]),
        np.stack([[1.0, 2.0], t]),
        np.append([3.0], t),
        np.outer([1.0, 2.0], t),
        np.kron([1.0], t),
        np.average([3.0, 4.0], weights=t),
        np.where([True, False], 1.0, t),
        np.inner(t, [1.0, 2.0]),
        np.clip([0.0, 5.0], t, None),
        np.einsum("i,i", [1.0, 2.0], t),
        np.pad([1.0], 1, constant_values=0) + t[0],
        np.meshgrid([1.0], t)[1],
        np.trapezoid([1.0, 2.0], t),
        np.gradient([1.0, 2.0], t),
        np.diff([1.0], prepend=t),
        np.select([[True, False]], [t]),
        np.vdot([1.0, 2.0], t),
        np.linalg.vecdot([1.0, 2.0], t),
        np.hstack([1.0, t]),
    ):
        assert y.requires_grad


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda t: np.pad(t, 1, mode="mean"), TypeError, "reflect"),
        (lambda t: np.pad(t, 1, mode="edge", stat_length=2), TypeError, "stat_length"),
        (
            lambda t: np.pad(t, 1, constant_values=np.stack([t[0, 0], t[0, 1]])),
            TypeError,
            "one number",
        ),
        (lambda t: np.concatenate([t], out=np.zeros(3)), TypeError, "out"),
        (lambda t: np.nansum(t, where=True), TypeError, "where"),
        (lambda t: np.linalg.norm(t, "nope"), ValueError, "nope"),
        (lambda t: np.linalg.norm(t[0], "fro"), ValueError, "matrices"),
        (lambda t: np.linalg.norm(t, 3), ValueError, "matrix norm"),
        (lambda t: np.linalg.norm(t, axis=(0, 0)), ValueError, "twice"),
        (lambda t: np.linalg.norm(t, axis=5), IndexError, "axis"),
        (lambda t: np.split(t, 3, axis=1), ValueError, "array_split"),
        (lambda t: np.einsum("ij", t, t), ValueError, "operands"),
        (lambda t: np.einsum("ijk", t), ValueError, "subscripts"),
        (lambda t: np.einsum("...i->i", t), ValueError, "broadcast"),
        (lambda t: np.cross(t[:, :2], t[:, :2]), ValueError, "3 entries"),
        (lambda t: np.average(t, weights=np.zeros((3, 4))), ZeroDivisionError, "zero"),
        (lambda t: np.average(t, weights=t[0]), ValueError, "weights"),
        (lambda t: np.choose([7], t), ValueError, "index"),
        (lambda t: np.clip(t, 0, 1, max=2), ValueError, "both"),
        (lambda t: np.gradient(t, edge_order=3), ValueError, "edge_order"),
        (lambda t: np.gradient(t[:1], axis=0), ValueError, "at least 2"),
        (lambda t: np.meshgrid(t[0], indexing="ab"), ValueError, "indexing"),
        (lambda t: getattr(np, "cumulative_sum", np.sum)(t, axis=7), ValueError, "axis"),
        (lambda t: np.interp(t, [0.0, 1.0], [1.0]), ValueError, "equally long"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(Tensor(A, requires_grad=True))


def test_signatures_are_numpys():
    """A composition accepts only what NumPy accepts: same names, same order, same defaults."""
    import inspect

    from tinygrad_lite.dispatch import COMPOSITIONS

    for function, composed in COMPOSITIONS.items():
        try:
            theirs = inspect.signature(function).parameters
        except ValueError:
            continue
        if any(p.kind is p.VAR_POSITIONAL for p in theirs.values()):
            continue
        ours = inspect.signature(composed).parameters
        if isinstance(function, np.ufunc) or any(p.kind is p.VAR_POSITIONAL for p in ours.values()):
            continue
        if function is np.reshape:  # shape was newshape once
            continue
        for name in ours:
            assert name in theirs or any(p.kind is p.VAR_KEYWORD for p in theirs.values()), (
                function,
                name,
            )


def test_nothing_tracked_gives_constants():
    assert not np.einsum("ij->j", tg.tensor(A)).requires_grad
    assert not np.median(tg.tensor([1, 2, 4])).requires_grad
