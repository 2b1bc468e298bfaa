"""Linear algebra: NumPy's values, two derivatives, PyTorch, batches, and degenerate cases."""

import numpy as np
import pytest

import tinygrad_lite as tg
import tinygrad_lite.linear_algebra  # registers the functions
from tests.test_numpy_functions import array, check, check_torch, gradient, needs_torch, slope
from tinygrad_lite import Tensor

la = np.linalg


def T(x):
    return np.swapaxes(x, -1, -2)


def symmetric(x):
    return (x + T(x)) / 2


def positive(x):
    return x @ T(x) + 2 * np.eye(x.shape[-2], dtype=x.dtype)


def fixed(q):
    """Numbers made of vectors that do not depend on their signs."""
    return q * q[..., :1, :]


A = array(3, 3) + 2 * np.eye(3)
BATCH = array(2, 3, 3, seed=3) + 2 * np.eye(3)
TALL, WIDE, WIDES = array(4, 3), array(3, 4), array(2, 2, 3)
B, V = array(3, 2), array(3)

# fmt: off
CASES = {
    "inv":             (lambda x: la.inv(x), A),
    "inv_batch":       (lambda x: la.inv(x), BATCH),
    "det":             (lambda x: la.det(x), A),
    "det_batch":       (lambda x: la.det(x), BATCH),
    "det_1":           (lambda x: la.det(x), [[2.0]]),
    "slogdet":         (lambda x: la.slogdet(x).logabsdet, BATCH),
    "solve_vector":    (lambda a, b: la.solve(a, b), A, V),
    "solve_matrix":    (lambda a, b: la.solve(a, b), A, B),
    "solve_batch":     (lambda a, b: la.solve(a, b), BATCH, array(2, 3, 2)),
    "solve_shared_a":  (lambda a, b: la.solve(a, b), A, array(2, 3, 2)),
    "solve_shared_b":  (lambda a, b: la.solve(a, b), BATCH, B),
    "solve_vectors":   (lambda a, b: la.solve(a, b), BATCH, V),
    "cholesky":        (lambda x: la.cholesky(positive(x)), A),
    "cholesky_batch":  (lambda x: la.cholesky(positive(x)), BATCH),
    "cholesky_upper":  (lambda x: la.cholesky(positive(x), upper=True), A),
    "eigh":            (lambda x: [la.eigh(symmetric(x))[0], la.eigh(symmetric(x))[1] ** 2], A),
    "eigh_batch":      (lambda x: [(r := la.eigh(symmetric(x), UPLO="U"))[0], fixed(r[1])], BATCH),
    "eigvalsh":        (lambda x: la.eigvalsh(symmetric(x)), BATCH),
    "eigvalsh_upper":  (lambda x: la.eigvalsh(symmetric(x), "U"), A),
    "qr":              (lambda x: la.qr(x), A),
    "qr_tall":         (lambda x: la.qr(x), TALL),
    "qr_wide":         (lambda x: la.qr(x), WIDE),
    "qr_batch":        (lambda x: la.qr(x), BATCH),
    "qr_wides":        (lambda x: la.qr(x), WIDES),
    "qr_r":            (lambda x: la.qr(x, mode="r"), TALL),
    "svd":             (lambda x: la.svd(x).S, A),
    "svd_tall":        (lambda x: [t * t for t in la.svd(x, full_matrices=False)], TALL),
    "svd_wide":        (lambda x: [t * t for t in la.svd(x, full_matrices=False)], WIDE),
    "svd_batch":       (lambda x: [t * t for t in la.svd(x)], BATCH),
    "svd_wides":       (lambda x: [t * t for t in la.svd(x, full_matrices=False)], WIDES),
    "svd_product":     (lambda x: la.svd(x, False).U @ la.svd(x, False).Vh, TALL),
    "svd_values":      (lambda x: la.svd(x, compute_uv=False), BATCH),
    "svdvals":         (lambda x: la.svdvals(x), WIDES),
    "pinv":            (lambda x: la.pinv(x), TALL),
    "pinv_wide":       (lambda x: la.pinv(x), WIDES),
    "pinv_rank":       (lambda x, y: la.pinv(x @ y, rtol=1e-6), array(4, 2), array(2, 3)),
    "pinv_rcond":      (lambda x: la.pinv(x, 1e-8), BATCH),
    "multi_dot":       (lambda x, y, z: la.multi_dot([x, y, z]), A, B, B.T),
    "multi_dot_ends":  (lambda x, y, z: la.multi_dot([x, y, y.T, z]), V, B, V),
    "multi_dot_many":  (lambda x, y: la.multi_dot([x, y, y.T, x, y]), A, B),
    "power_3":         (lambda x: la.matrix_power(x, 3), A),
    "power_6":         (lambda x: la.matrix_power(x, 6), BATCH / 3),
    "power_1":         (lambda x: la.matrix_power(x, 1), A),
    "power_negative":  (lambda x: la.matrix_power(x, -3), A),
}
# fmt: on


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name):
    f, *arrays = CASES[name]
    check(f, *arrays)


@needs_torch
@pytest.mark.parametrize(
    "name", [n for n in CASES if not n.startswith(("eigh", "pinv_rank", "multi"))]
)
def test_against_torch(name):
    import torch

    f, *arrays = CASES[name]
    peers = {
        "inv": torch.linalg.inv,
        "det": torch.linalg.det,
        "slogdet": lambda x: torch.linalg.slogdet(x)[1],
        "solve": torch.linalg.solve
        if name != "solve_vectors"
        else lambda a, b: torch.linalg.inv(a) @ b,
        "cholesky": lambda x: torch.linalg.cholesky(
            x @ x.mT + 2 * torch.eye(3, dtype=x.dtype), upper=name.endswith("upper")
        ),
        "eigvalsh": lambda x: torch.linalg.eigvalsh((x + x.mT) / 2),
        "qr": torch_qr if name != "qr_r" else lambda x: torch_qr(x).R,
        "svd": lambda x: [t * t for t in torch.linalg.svd(x, full_matrices=False)],
        "svdvals": torch.linalg.svdvals,
        "pinv": torch.linalg.pinv,
        "power": lambda x: torch.linalg.matrix_power(
            x, {"3": 3, "6": 6, "1": 1, "negative": -3}[name[6:]]
        ),
    }
    peer = peers[name.split("_")[0]]
    if name in ("svd", "svd_values"):
        peer = torch.linalg.svdvals
    elif name == "svd_product":
        peer = torch_polar
    check_torch(f, peer, arrays, rtol=1e-8, atol=1e-9)


def torch_polar(x):
    import torch

    u, _, vt = torch.linalg.svd(x, full_matrices=False)
    return u @ vt


def torch_qr(x):
    import torch

    return torch.linalg.qr(x)


@needs_torch
def test_eigenvectors_against_torch():
    """The same signs are given to both, so that the vectors themselves can be compared."""
    import torch

    x = symmetric(A)
    signs = np.sign(la.eigh(x)[1] * torch.linalg.eigh(torch.tensor(x))[1].numpy())[0]
    check_torch(
        lambda x: la.eigh((x + x.T) / 2)[1] * signs,
        lambda x: torch.linalg.eigh((x + x.T) / 2)[1],
        [A],
        1e-8,
    )


def test_results_are_numpys_types():
    x = Tensor(symmetric(A), requires_grad=True)
    for f in (la.eigh, la.qr, la.svd, la.slogdet):
        assert type(f(x)) is type(f(x.numpy()))
    sign = la.slogdet(x).sign
    assert sign == la.slogdet(x.numpy()).sign
    assert not sign.requires_grad
    np.testing.assert_allclose((la.svd(x).U * la.svd(x).S @ la.svd(x).Vh).numpy(), x.numpy())


@pytest.mark.parametrize(
    "x",
    [
        np.arange(9.0).reshape(3, 3),
        np.diag([1.0, 2.0, 0.0]),
        np.diag([0.0, 2.0, 0.0]),
        np.zeros((3, 3)),
        np.zeros((1, 1)),
        np.eye(3),
        np.stack([np.eye(3), np.ones((3, 3))]),
        np.diag([1.0, 1e-9, 3.0]),
        array(4, 4, seed=2) * [1, 1, 1, 0],
    ],
)
def test_det_of_singular_matrices(x):
    """The gradient is the matrix of cofactors, whatever the rank; and so on to the second order."""
    check(lambda x: la.det(x), x, single=False)


def test_det_of_large_singular_matrices():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 20)) / 3
    x[:, 3] = 0
    x = Tensor(x, requires_grad=True)
    la.det(x).backward()
    cofactors = [
        la.det(np.delete(np.delete(x.numpy(), i, 0), 3, 1)) * (-1) ** (i + 3) for i in range(20)
    ]
    np.testing.assert_allclose(x.grad.numpy()[:, 3], cofactors, rtol=1e-9)
    assert abs(np.delete(x.grad.numpy(), 3, 1)).max() < 1e-12 * max(map(abs, cofactors))
    with pytest.raises(la.LinAlgError, match="second derivative"):
        la.det(x).backward(create_graph=True)
    full = Tensor(rng.normal(size=(20, 20)), requires_grad=True)
    la.det(full).backward(create_graph=True)
    np.testing.assert_allclose(full.grad.numpy(), la.det(full.numpy()) * la.inv(full.numpy()).T)


@pytest.mark.parametrize("uplo", ["L", "U"])
def test_symmetric_gradients(uplo):
    """NumPy reads one triangle; the gradient is shared between both."""
    x = Tensor(np.tril(positive(A)) if uplo == "L" else np.triu(positive(A)), requires_grad=True)
    la.eigh(x, uplo).eigenvalues[0].backward()
    np.testing.assert_allclose(x.grad.numpy(), x.grad.numpy().T)
    np.testing.assert_allclose(np.trace(x.grad.numpy()), 1)
    x.grad = None
    la.cholesky(x, upper=uplo == "U").sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), x.grad.numpy().T)


def test_equal_eigenvalues():
    """The values have their gradient; where vectors are used, a zero would be wrong: an error."""
    q = la.qr(A)[0]
    x = q @ np.diag([2.0, 2.0, 5.0]) @ q.T
    f = lambda x: np.exp(la.eigvalsh((x + x.T) / 2)).sum()  # noqa: E731
    _, (g,) = gradient(f, [x])
    np.testing.assert_allclose(g.numpy(), slope(f, [x])[0] * np.cos(1.3), rtol=1e-6, atol=1e-8)

    def last(x):  # the vector of the single value
        return np.sum(la.eigh((x + x.T) / 2)[1][:, 2] ** 2 * np.arange(3.0))

    _, (g,) = gradient(last, [x])
    np.testing.assert_allclose(g.numpy(), slope(last, [x])[0] * np.cos(1.3), rtol=1e-6, atol=1e-8)
    c = np.array([[0.0, 1.0], [1.0, 0.0]])

    def exponential(a):  # smooth, though it goes through the vectors: its gradient at 1 is e c
        w, v = la.eigh(a)
        return np.sum(c * ((v * np.exp(w)) @ v.T))

    for derivative in (tg.grad, tg.hessian):
        with pytest.raises(la.LinAlgError, match="values repeat"):
            derivative(exponential)(np.eye(2))
    near = np.diag([1.0, 1.0 + 1e-6])
    np.testing.assert_allclose(tg.grad(exponential)(near), np.e * c, rtol=1e-5)
    with pytest.raises(la.LinAlgError, match="values repeat"):
        tg.hessian(lambda a: np.sum(la.eigvalsh(a) ** 2))(np.eye(2))
    assert tg.grad(lambda a: np.sum(la.eigh(a)[1]))(np.array([[2.0]])) == 0


@pytest.mark.parametrize(
    "x", [np.eye(3), np.zeros((3, 2)), np.ones((2, 3)), np.diag([1.0, 1.0, 3.0])]
)
def test_equal_and_zero_singular_values(x):
    _, (g,) = gradient(lambda x: (la.svdvals(x) ** 2).sum(), [x])
    np.testing.assert_allclose(g.numpy(), 2 * x * np.cos(1.3), atol=1e-12)
    with pytest.raises(la.LinAlgError, match="values repeat"):
        tg.grad(lambda x: np.sum(np.sin(la.svd(x, full_matrices=False)[0])))(x)


def test_the_vectors_of_non_zero_singular_values():
    """A truncated factorisation of a matrix of that rank uses no vector without a derivative."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 2)) @ rng.normal(size=(2, 5))

    def truncated(x):
        u, s, vt = la.svd(x, full_matrices=False)
        return np.sum((u[:, :2] * s[:2]) @ vt[:2] * np.arange(20.0).reshape(4, 5))

    assert np.isfinite(tg.grad(truncated)(x)).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda t: la.svd(t[:2]), TypeError, "full_matrices=False"),
        (lambda t: la.svd(t, hermitian=True), TypeError, "hermitian"),
        (lambda t: la.qr(t, "raw"), TypeError, "reduced"),
        (lambda t: la.eigh(t, "X"), ValueError, "UPLO"),
        (lambda t: la.inv(t * 0), la.LinAlgError, "[Ss]ingular"),
        (lambda t: la.inv(t[0]), la.LinAlgError, "inv"),
        (lambda t: la.eigh(t[:2]), la.LinAlgError, "eigh"),
        (lambda t: la.cholesky(-t @ t.T), la.LinAlgError, "cholesky"),
        (lambda t: la.solve(t, t[:2]), ValueError, "solve"),
        (lambda t: la.multi_dot([t]), ValueError, "2 arrays"),
        (lambda t: la.multi_dot([t, t[:2]]), ValueError, "matmul"),
        (lambda t: la.eig(t), TypeError, "eig"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(Tensor(A, requires_grad=True))


def test_edges():
    empty = Tensor(np.zeros((0, 3, 3)), requires_grad=True)
    for f in (
        la.inv,
        la.det,
        la.cholesky,
        la.eigvalsh,
        la.qr,
        la.svdvals,
        la.pinv,
        lambda x: la.solve(x, x),
    ):
        _, (g,) = gradient(f, [empty.numpy()])
        assert g.shape == (0, 3, 3)
    assert la.det(Tensor(np.zeros((0, 0)), requires_grad=True)).item() == 1
    identity = la.matrix_power(Tensor(BATCH, requires_grad=True), 0)
    np.testing.assert_array_equal(identity.numpy(), la.matrix_power(BATCH, 0))
    x = Tensor(A, requires_grad=True)
    for y in (
        la.solve([[2.0, 0, 0], [0, 1, 0], [0, 0, 1]], x),
        la.solve(x, [1, 2, 3]),
        la.multi_dot([[1.0, 2, 3], x]),
    ):
        assert y.requires_grad
