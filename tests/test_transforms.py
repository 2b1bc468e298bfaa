"""grad and its kin: closed forms, nesting, trees, errors."""

from typing import NamedTuple

import numpy as np
import pytest

import tinygrad_lite as tg

A = np.array([[2.0, -1.0, 0.5], [0.3, 1.5, -0.7], [-0.2, 0.4, 1.1]])
X = np.array([0.5, -1.2, 2.0])


def quadratic(x):
    return x @ A @ x / 2


SYMMETRIC = (A + A.T) / 2


def test_closed_forms():
    np.testing.assert_allclose(tg.grad(quadratic)(X), SYMMETRIC @ X, rtol=1e-14)
    np.testing.assert_allclose(tg.hessian(quadratic)(X), SYMMETRIC, rtol=1e-14)
    np.testing.assert_allclose(tg.hvp(quadratic)(X, X), SYMMETRIC @ X, rtol=1e-14)
    np.testing.assert_allclose(tg.jacobian(lambda x: A @ np.sin(x))(X), A * np.cos(X), rtol=1e-14)
    np.testing.assert_allclose(tg.elementwise_grad(np.tanh)(A), 1 - np.tanh(A) ** 2, rtol=1e-14)
    value, pullback = tg.vjp(lambda x: A @ x, X)
    np.testing.assert_array_equal(value, A @ X)
    for g in (np.ones(3), X):
        np.testing.assert_allclose(pullback(g)[0], A.T @ g, rtol=1e-14)
    value, tangent = tg.jvp(lambda x: A @ np.sin(x), (X,), (X,))
    np.testing.assert_array_equal(value, A @ np.sin(X))
    np.testing.assert_allclose(tangent, A @ (np.cos(X) * X), rtol=1e-14)
    value, g = tg.value_and_grad(quadratic)(X)
    assert value == quadratic(X)
    np.testing.assert_allclose(g, SYMMETRIC @ X, rtol=1e-14)


def test_softmax_jacobian():
    def softmax(x):
        return np.exp(x - tg.logsumexp(x))

    y = softmax(X)
    np.testing.assert_allclose(
        tg.jacobian(softmax)(X), np.diag(y) - np.outer(y, y), rtol=1e-13, atol=1e-16
    )


def test_nesting_to_any_order():
    f = np.sin
    for expected in (np.cos(0.7), -np.sin(0.7), -np.cos(0.7), np.sin(0.7), np.cos(0.7)):
        f = tg.grad(f)
        assert f(0.7) == pytest.approx(expected, rel=1e-14)
    third = tg.jacobian(tg.hessian(lambda x: np.sum(x**4)))(X)
    expected = np.zeros((3, 3, 3))
    expected[np.arange(3), np.arange(3), np.arange(3)] = 24 * X
    np.testing.assert_allclose(third, expected, rtol=1e-13)


def test_a_pull_back_does_not_see_later_writes():
    x = X.copy()
    value, pullback = tg.vjp(lambda v: np.exp(v) * v, x)
    expected = pullback(np.ones(3))[0]
    value *= 0
    x *= 0
    np.testing.assert_array_equal(pullback(np.ones(3))[0], expected)


def test_no_confusion_of_variables():
    """d/dx (x * d/dy (x y)) = d/dx x^2: the inner derivative keeps its dependence on x."""
    assert tg.grad(lambda x: x * tg.grad(lambda y: x * y)(1.0))(2.0) == 4.0
    assert tg.grad(lambda x: x * tg.grad(lambda y: x + y)(1.0))(2.0) == 1.0
    assert tg.grad(lambda x: tg.value_and_grad(lambda y: x * x * y)(3.0)[0])(2.0) == 12.0
    assert tg.grad(lambda x: tg.jvp(lambda y: x * y * y, (3.0,), (1.0,))[1])(2.0) == 6.0
    assert tg.grad(lambda x: tg.vjp(lambda y: y * y, 3.0)[1](x)[0])(2.0) == 6.0
    assert type(tg.grad(lambda x: tg.vjp(lambda y: y * y, 3.0)[1](x)[0])(2.0)) is np.float64
    assert tg.grad(lambda x: tg.hvp(lambda y: x * y**3)(1.0, 1.0))(2.0) == 6.0


def test_captured_tensors_that_require_a_gradient_stay_linked():
    """A gradient penalty: the derivative by the input is itself differentiated by the weights."""
    w = tg.tensor(X, requires_grad=True)
    g = tg.grad(lambda v: np.sum(w * v**2))(np.ones(3))
    assert isinstance(g, tg.Tensor)
    np.sum(g**2).backward()
    np.testing.assert_allclose(w.grad.data, 8 * X)
    with tg.no_grad():
        assert isinstance(tg.grad(lambda v: np.sum(w * v**2))(np.ones(3)), np.ndarray)
    t = tg.tensor(X, requires_grad=True)
    tg.grad(quadratic)(t).sum().backward()
    np.testing.assert_allclose(t.grad.data, SYMMETRIC.sum(0), rtol=1e-14)


def test_hessian_where_a_gradient_is_zero():
    """At a residual of 0 the cotangent is 0, but not its derivative."""
    for f, at, second in (
        (lambda x: np.log(x) ** 2 / 2, 1.0, 1.0),
        (lambda x: (1 / x - 1) ** 2 / 2, 1.0, 1.0),
        (lambda x: (np.sqrt(x) - 1) ** 2 / 2, 1.0, 0.25),
        (lambda x: (x**3 - 1) ** 2 / 2, 1.0, 9.0),
        (lambda x: x**2, 0.0, 2.0),
        (lambda x: np.sin(x) * x, 0.0, 2.0),
        (lambda x: np.sinc(x), 0.0, -(np.pi**2) / 3),
        (lambda x: np.maximum(x, -1.0) ** 2, 0.0, 2.0),
    ):
        assert tg.grad(tg.grad(f))(at) == pytest.approx(second, rel=1e-12)
        assert tg.hvp(f)(at, 1.0) == pytest.approx(second, rel=1e-12)
    cross = tg.grad(lambda x: tg.grad(lambda y: x**y)(0.0))(3.0)  # d2/dxdy x^y at y = 0 is 1/x
    assert cross == pytest.approx(1 / 3)
    assert tg.grad(lambda y: tg.grad(lambda x: x**y)(3.0))(0.0) == pytest.approx(1 / 3)


def test_jvp_through_cancelling_cotangents():
    """The pull-back of (1, 1) cancels in the log's cotangent; each direction must still see it."""
    _, tangent = tg.jvp(lambda x: np.stack([np.log(x), -np.log(x)]), (2.0,), (1.0,))
    np.testing.assert_allclose(tangent, [0.5, -0.5])


class Pair(NamedTuple):
    w: object
    b: object


def test_trees():
    params = {"layers": [Pair(A, X), (A * 2, 1.5)], "scale": np.float32(2)}

    def f(p, x):
        (w, b), (v, c) = p["layers"]
        return np.sum((v @ np.tanh(w @ x + b) + c) * p["scale"])

    value, g = tg.value_and_grad(f)(params, X)
    assert value == f(params, X)
    assert list(g) == ["layers", "scale"]
    assert type(g["layers"][0]) is Pair
    assert type(g["layers"]) is list
    assert type(g["layers"][1]) is tuple
    assert g["scale"].dtype == np.float32
    h = np.tanh(A @ X + X)
    np.testing.assert_allclose(g["layers"][1][0], 2 * np.outer(np.ones(3), h))
    np.testing.assert_allclose(g["layers"][0].b, 2 * (A * 2).sum(0) * (1 - h**2))
    assert g["layers"][1][1] == 6.0
    hessian = tg.hessian(lambda d: d["a"] ** 2 * d["b"])({"a": 2.0, "b": 3.0})
    assert hessian == {"a": {"a": 6.0, "b": 4.0}, "b": {"a": 4.0, "b": 0.0}}
    out = tg.jacobian(lambda x: {"s": np.sin(x), "p": (x[0] * x,)})(X)
    np.testing.assert_allclose(out["s"], np.diag(np.cos(X)))
    assert out["p"][0].shape == (3, 3)
    v, t = tg.jvp(lambda p: p["a"] * p["b"], ({"a": 2.0, "b": 3.0},), ({"a": 1.0, "b": 10.0},))
    assert (v, t) == (6.0, 23.0)
    product = tg.hvp(lambda d: d["a"] ** 2 * d["b"])({"a": 2.0, "b": 3.0}, {"a": 1.0, "b": 0.0})
    assert product == {"a": 6.0, "b": 4.0}


def test_what_goes_in_comes_out():
    assert type(tg.grad(np.sin)(1.0)) is np.float64
    assert type(tg.grad(np.sin)(np.float32(1))) is np.float32
    assert type(tg.grad(np.sum)(X)) is np.ndarray
    assert isinstance(tg.grad(np.sum)(tg.tensor(X)), tg.Tensor)
    assert tg.grad(np.sum)(X.astype(np.float32)).dtype == np.float32
    assert tg.grad(np.sum)(np.array(1.0)).shape == ()
    assert tg.grad(lambda x: np.sum(x) * 0.0)(np.ones((0, 3))).shape == (0, 3)
    assert tg.jacobian(np.sin)(np.ones(0)).shape == (0, 0)
    assert tg.grad(np.sum)(np.broadcast_to(X, (4, 3))).flags.writeable
    frozen = X.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(tg.grad(lambda x: np.sum(x * x))(frozen), 2 * X)
    assert tg.grad(lambda x: np.sum(x[::2, 1]))(np.asfortranarray(A)).shape == (3, 3)
    assert tg.elementwise_grad(np.sin)(np.arange(3, dtype=">f8")).dtype == np.float64


def test_argnums_and_aux():
    f = lambda x, y, k=1.0: k * x * y  # noqa: E731
    assert tg.grad(f, 1)(2.0, 3.0) == 2.0
    assert tg.grad(f, argnum=1)(2.0, 3.0, k=2.0) == 4.0
    assert tg.grad(f, argnums=(0, 1))(2.0, 3.0) == (3.0, 2.0)
    assert tg.grad(f, argnums=-1)(2.0, 3.0) == 2.0
    assert tg.value_and_grad(f, argnums=[0, 1])(2.0, 3.0) == (6.0, (3.0, 2.0))
    assert tg.grad(lambda x: (x * x, {"x": x, "note": "n"}), has_aux=True)(3.0) == (
        6.0,
        {"x": 3.0, "note": "n"},
    )
    assert tg.value_and_grad(lambda x: (x * x, x), has_aux=True)(3.0) == ((9.0, 3.0), 6.0)
    assert tg.hessian(lambda x, y: x * x * y, argnums=(0, 1))(2.0, 3.0) == ((6.0, 4.0), (4.0, 0.0))
    jac, aux = tg.jacobian(lambda x: (x * 2.0, "aux"), has_aux=True)(X)
    assert aux == "aux"
    np.testing.assert_array_equal(jac, 2 * np.eye(3))
    assert tg.vjp(lambda x: (x * 2.0, "aux"), 1.0, has_aux=True)[2] == "aux"
    assert tg.grad(f).__name__ == "grad(<lambda>)"


def test_independent_results_are_zero():
    assert tg.grad(lambda x: tg.tensor(3.0))(1.0) == 0.0
    np.testing.assert_array_equal(tg.grad(lambda x: np.floor(x).sum())(X), np.zeros(3))
    assert tg.grad(lambda x, y: x * 1.0, argnums=(0, 1))(1.0, 2.0) == (1.0, 0.0)
    np.testing.assert_array_equal(tg.hessian(np.sum)(X), np.zeros((3, 3)))
    assert tg.jvp(lambda x: tg.tensor(2.0), (1.0,), (1.0,)) == (2.0, 0.0)


def test_scipy_takes_them():
    optimize = pytest.importorskip("scipy.optimize")

    def rosenbrock(x):
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    at = np.array([-1.2, 1.0, 0.7])
    np.testing.assert_allclose(tg.grad(rosenbrock)(at), optimize.rosen_der(at), rtol=1e-12)
    np.testing.assert_allclose(tg.hessian(rosenbrock)(at), optimize.rosen_hess(at), rtol=1e-12)
    found = optimize.minimize(
        tg.value_and_grad(rosenbrock), at, jac=True, hessp=tg.hvp(rosenbrock), method="trust-ncg"
    )
    np.testing.assert_allclose(found.x, 1, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tg.grad(np.sin)(2), TypeError, "2.0 instead of 2"),
        (lambda: tg.grad(np.sin)(np.arange(3)), TypeError, r"int64 \(3,\)"),
        (lambda: tg.grad(np.sin)(1j), TypeError, "floating point"),
        (lambda: tg.grad(np.sin)(X), ValueError, r"shape \(3,\).*tg\.jacobian"),
        (lambda: tg.grad(lambda x: 3.0)(1.0), TypeError, r"returned a float.*tg\.tensor"),
        (lambda: tg.grad(lambda x: x.numpy())(1.0), TypeError, "returned a ndarray"),
        (lambda: tg.grad(np.sin, argnum=2)(1.0), TypeError, "argnum=2, but 1 positional"),
        (lambda: tg.grad(lambda x: x, has_aux=True)(1.0), TypeError, r"\(result, aux\)"),
        (lambda: tg.jvp(np.sin, 1.0, 1.0), TypeError, "tuples"),
        (lambda: tg.jvp(np.sin, (1.0,), (X,)), ValueError, r"shape \(3,\) for a variable of \(\)"),
        (lambda: tg.jvp(np.sin, (1.0,), (1.0, 2.0)), ValueError, "1 variables"),
        (lambda: tg.hvp(np.sum)(X, np.ones(4)), ValueError, r"shape \(4,\)"),
        (lambda: tg.vjp(np.sin, X)[1](1.0), ValueError, "cotangent"),
        (lambda: tg.vjp(np.sin, X)[1]((X, X)), ValueError, "1 outputs"),
    ],
)
def test_mistakes(make, error, message):
    with pytest.raises(error, match=message):
        make()


# Checkpoints


def test_checkpoint_equals_the_plain_function():
    def block(x, w, scale):
        return np.tanh(x @ w["a"] + w["b"]) * scale

    def loss(x, wrap):
        return np.sum(wrap(block)(x, {"a": x * 2, "b": x[0]}, 1.5) ** 2)

    for derivative in (tg.grad, tg.hessian):
        plain = derivative(lambda x: loss(x, lambda f: f))(A)
        np.testing.assert_allclose(
            derivative(lambda x: loss(x, tg.checkpoint))(A), plain, rtol=1e-13
        )


def test_checkpoint_reaches_captured_tensors():
    w = tg.tensor(A, requires_grad=True)
    h = w * 2
    tg.checkpoint(lambda x: np.exp(x @ h) + w)(np.sin(w)).sum().backward()
    v = tg.tensor(A, requires_grad=True)
    (np.exp(np.sin(v) @ (v * 2)) + v).sum().backward()
    np.testing.assert_allclose(w.grad.data, v.grad.data, rtol=1e-14)


def test_checkpoint_of_an_argument_that_is_captured_too():
    x = tg.tensor(X, requires_grad=True)
    tg.checkpoint(lambda t: t * np.sin(x) + x)(x).sum().backward()
    np.testing.assert_allclose(x.grad.data, np.sin(X) + X * np.cos(X) + 1)
    y = tg.tensor(X, requires_grad=True)
    tg.checkpoint(lambda a, b: a * b)(y, y).sum().backward()
    np.testing.assert_allclose(y.grad.data, 2 * X)


def test_checkpoint_saves_memory():
    import tracemalloc

    x = tg.tensor(np.ones(100_000), requires_grad=True)

    def deep(t):
        for _ in range(10):
            t = np.sin(t)
        return t

    def peak(f):
        tracemalloc.start()
        out = f(x)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        del out
        return held

    assert peak(tg.checkpoint(deep)) < peak(deep) / 5


def test_checkpoint_refuses_a_random_function():
    rng = np.random.default_rng(0)
    x = tg.tensor(X, requires_grad=True)
    y = tg.checkpoint(lambda t: np.sin(t) * rng.standard_normal(3))(x)
    with pytest.raises(RuntimeError, match="another value"):
        y.sum().backward()
    with pytest.raises(TypeError, match="one Tensor"):
        tg.checkpoint(lambda t: (t, t))(x)
