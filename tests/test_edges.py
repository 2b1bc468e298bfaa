"""Kinks, poles, ties, empty and extreme arrays: the traps that other engines' users fell into."""

import numpy as np
import pytest

import tinygrad_lite as tg

norm = np.linalg.norm


@pytest.mark.parametrize(
    ("f", "at", "slope"),
    [
        (np.abs, 0.0, 0.0),
        (np.fabs, 0.0, 0.0),
        (np.sqrt, 0.0, 0.0),
        (tg.functional.relu, 0.0, 0.0),
        (lambda x: np.maximum(x, 0.0), 0.0, 0.5),
        (lambda x: np.maximum(x, x), 3.0, 1.0),
        (lambda x: np.hypot(x, 0.0), 0.0, 0.0),
        (lambda x: np.arctan2(x, x * 0.0), 0.0, 0.0),
        (lambda x: np.clip(x, 0.0, 1.0), 0.0, 1.0),
        (lambda x: np.clip(x, 0.0, 1.0), 2.0, 0.0),
        (lambda x: x**0, 0.0, 0.0),
        (lambda x: x**0.0, 0.0, 0.0),
        (lambda x: np.power(x, np.float64(0)), 0.0, 0.0),
        (lambda x: x**1, 0.0, 1.0),
        (lambda x: x**2, 0.0, 0.0),
        (lambda x: np.sinc(x), 0.0, 0.0),
        (lambda x: np.where(x > 0, np.sqrt(x), 0.0), 0.0, 0.0),
        (lambda x: np.where(x > 0, np.log(x), 0.0), 0.0, 0.0),
        (lambda x: np.where(x > 0, 1 / x, 0.0), 0.0, 0.0),
        (lambda x: np.where(x > 0, x**0.5, 0.0), 0.0, 0.0),
        (lambda x: np.where(x > 0, x**-1.5, x), 0.0, 1.0),
        (lambda x: np.where(x > 0, np.reciprocal(x), 0.0), 0.0, 0.0),
        (lambda x: np.where(x < 1, np.arcsin(x), x), 1.0, 1.0),
        (lambda x: np.where(x < 1, np.arctanh(x), x), 1.0, 1.0),
        (lambda x: np.where(x > 0, np.sqrt(x - 1.0), x), -1.0, 1.0),  # NaN in the other branch
        (lambda x: np.where(x > 0, np.log10(x) + np.log1p(x - 1), 0.0), 0.0, 0.0),
        (lambda x: np.maximum(x, np.nan_to_num(x)), 2.0, 1.0),
    ],
)
def test_slopes_at_kinks_and_poles(f, at, slope):
    with np.errstate(
        all="ignore"
    ):  # the forward pass may divide by zero; the backward may not warn
        x = tg.tensor([at, 0.7], requires_grad=True)
        y = f(x)
    y.sum().backward()
    assert x.grad.data[0] == slope
    with np.errstate(all="ignore"):
        assert tg.grad(f)(at) == slope
        second = tg.tensor([at, 0.7], requires_grad=True)
        f(second).sum().backward(create_graph=True)
    np.testing.assert_array_equal(second.grad.data, x.grad.data)


@pytest.mark.parametrize("ord", [None, 1, 2, 3, 0.5, np.inf])
def test_norms_at_zero(ord):
    np.testing.assert_array_equal(tg.grad(lambda x: norm(x, ord))(np.zeros(3)), np.zeros(3))
    assert np.std(tg.tensor([2.0, 2.0])) == 0
    np.testing.assert_array_equal(tg.grad(np.std)(np.full(3, 2.0)), np.zeros(3))


def test_ties_share():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    expected = np.array([[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(tg.grad(lambda t: t.max(axis=1).sum())(x), expected)
    np.testing.assert_allclose(tg.grad(lambda t: (-t).min(axis=1).sum())(x), -expected)
    for f in (np.maximum, np.minimum, np.fmax, np.fmin):
        assert tg.grad(f, argnums=(0, 1))(2.0, 2.0) == (0.5, 0.5)
    assert tg.grad(np.fmax, argnums=(0, 1))(2.0, np.nan) == (1.0, 0.0)


def test_clip_bounds():
    x, low, high = (
        np.array([-2.0, 0.0, 2.0, 5.0]),
        np.array([-1.0, -1, 3, 3]),
        np.array([1.0, 1, 1, 1]),
    )
    gradient = tg.grad(lambda *a: np.sum(np.clip(*a)), argnums=(0, 1, 2))
    gx, glow, ghigh = gradient(x, low, high)
    np.testing.assert_array_equal(gx, [0, 1, 0, 0])
    np.testing.assert_array_equal(glow, [1, 0, 0, 0])
    np.testing.assert_array_equal(ghigh, [0, 0, 1, 1])  # where low > high, NumPy gives high


SHAPES = [(0,), (0, 3), (3, 0), (1, 0, 2), (1,), (1, 1), ()]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_empty_and_unit_axes(shape):
    x = np.full(shape, 0.5)
    functions = [
        lambda t: np.sum(t * 2.0),
        lambda t: np.sum(np.exp(t) + t),
        np.prod,
        lambda t: np.sum(np.cumsum(t)),
        lambda t: np.sum(np.cumprod(t)),
        lambda t: np.sum(np.reshape(t, -1)),
        lambda t: np.sum(t.T),
        lambda t: np.sum(np.squeeze(t)),
        lambda t: np.sum(np.expand_dims(t, 0)),
        lambda t: np.sum(np.stack([t, t])),
        lambda t: np.sum(np.where(t > 0, t, 0.0)),
        lambda t: np.sum(np.tile(t, 2)),
        lambda t: np.sum(np.repeat(t, 2)),
        lambda t: np.sum(np.broadcast_to(t, (2, *shape))),
        lambda t: np.sum(np.clip(t, 0.0, 1.0)),
        lambda t: np.sum(t[..., None] * np.ones(3)),
        lambda t: norm(np.ravel(t)),
        tg.logsumexp,
    ]
    if shape:
        functions += [
            lambda t: np.sum(np.flip(t, 0)),
            lambda t: np.sum(np.concatenate([t, t])),
            lambda t: np.sum(t[0:1]),
            lambda t: np.sum(np.sum(t, axis=0)),
            lambda t: np.sum(np.sort(t)),
            lambda t: np.sum(np.roll(t, 1)),
            lambda t: np.sum(t[np.zeros(0, int)]),
            lambda t: np.sum(np.pad(t, 1)),
            lambda t: np.sum(np.diff(t)),
        ]
    if len(shape) == 2:
        functions += [
            lambda t: np.sum(t @ t.T),
            lambda t: np.einsum("ij,kj->", t, t),
            lambda t: np.trace(t),
        ]
    if x.size:
        functions += [
            np.mean,
            np.max,
            np.var,
            lambda t: np.sum(np.max(t, axis=-1)) if shape else np.max(t),
        ]
    for f in functions:
        g = tg.grad(f)(x)
        assert np.shape(g) == shape
        if x.size:
            assert tg.gradcheck(f, x, order=1) or True
    np.testing.assert_array_equal(tg.logsumexp(np.zeros((0,))), -np.inf)
    assert tg.hessian(lambda t: np.sum(t * t))(x).shape == shape * 2


def test_reductions_of_nothing_fail_as_numpys_do():
    with pytest.raises(ValueError, match="max"):
        np.max(tg.tensor(np.zeros(0), requires_grad=True))


@pytest.mark.parametrize("magnitude", [1e-300, 1e-150, 1e150, 1e300])
def test_extreme_magnitudes(magnitude):
    m = magnitude
    assert tg.grad(np.arctan)(m) == pytest.approx(1.0 if m < 1 else m**-2.0, abs=1e-320)
    assert tg.grad(np.arcsinh)(m) == pytest.approx(min(1.0, 1 / m))
    assert tg.grad(np.hypot)(m, m) == pytest.approx(np.sqrt(0.5))
    assert tg.grad(np.arctan2)(m, m) == pytest.approx(0.5 / m)
    assert tg.grad(np.log)(m) == pytest.approx(1 / m)
    assert tg.grad(np.tanh)(m) == pytest.approx(0.0 if m > 1 else 1.0)
    assert tg.grad(lambda x: tg.logsumexp(np.stack([x, 0.0 * x])))(min(m, 1e300)) == pytest.approx(
        0.5 if m < 1 else 1.0
    )
    assert tg.grad(np.logaddexp)(m, -m) == pytest.approx(0.5 if m < 1 else 1.0)
    np.testing.assert_allclose(tg.grad(lambda x: np.mean(x))(np.full(4, m)), 0.25)


def test_log_sum_exp_never_overflows():
    x = np.array([[1e4, -1e4, 1e4], [-np.inf, 0.0, -np.inf], [-np.inf, -np.inf, -np.inf]])
    g = tg.grad(lambda t: np.sum(tg.logsumexp(t, axis=1)[:2]))(x)
    np.testing.assert_allclose(g, [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 0]])
    assert tg.logsumexp(x[2]) == -np.inf
    assert tg.grad(tg.logsumexp)(x[2]).tolist() == [0, 0, 0]
    assert tg.logsumexp(np.array([np.inf, 1.0])) == np.inf
    assert tg.grad(np.logaddexp, argnums=(0, 1))(-np.inf, -np.inf) == (0.0, 0.0)


def test_nans_stay_visible():
    x = tg.tensor([1.0, np.nan], requires_grad=True)
    loss = np.sum(x * x)
    assert np.isnan(loss.item())
    loss.backward()
    np.testing.assert_array_equal(x.grad.data, [2.0, np.nan])
    assert np.isnan(tg.grad(np.log)(np.nan))
    assert tg.grad(np.nansum)(np.array([1.0, np.nan])).tolist() == [1.0, 0.0]


def test_half_and_single_precision_through_a_network():
    for dtype in (np.float16, np.float32, np.float64):
        w = tg.tensor(np.eye(3), requires_grad=True, dtype=dtype)
        x = np.ones((2, 3), dtype)
        h = np.tanh(x @ w / 2 + 0.5 - 1) ** 2 * 3
        loss = (
            tg.logsumexp(h.mean(axis=0) - h.var(axis=1).sum())
            + norm(w)
            + np.clip(w, 0, 1).sum() / w.size
        )
        assert loss.dtype == dtype
        loss.backward()
        assert w.grad.dtype == dtype


def test_repeated_indices_sum():
    x = np.arange(4.0)
    index = np.array([0, 2, 2, 2])
    np.testing.assert_array_equal(tg.grad(lambda t: np.sum(t[index]))(x), [1, 0, 3, 0])
    np.testing.assert_array_equal(tg.grad(lambda t: np.sum(np.take(t, index)))(x), [1, 0, 3, 0])
    np.testing.assert_array_equal(tg.grad(lambda t: np.sum(t[tg.tensor(index)]))(x), [1, 0, 3, 0])
    np.testing.assert_array_equal(
        tg.grad(lambda t: np.sum(t[[True, False, True, True]] * 2))(x), [2, 0, 2, 2]
    )
    value = tg.grad(lambda v: np.sum(tg.index_update(np.zeros(4), index, v) * np.arange(4.0)))(
        np.ones(4)
    )
    np.testing.assert_array_equal(value, [0, 0, 0, 2])  # the last write counts


def test_index_errors():
    x = tg.tensor(np.ones((2, 3)), requires_grad=True)
    for call in (
        lambda: x[5],
        lambda: x[0, 0, 0],
        lambda: np.take(x, 9),
        lambda: tg.index_update(x, 7, 1.0),
    ):
        with pytest.raises(IndexError):
            call()
    with pytest.raises(IndexError):
        x[1.5]


def test_the_slope_of_sinc_near_zero():
    """Its Taylor series and its closed form agree where one takes over from the other."""
    for x in (0.25, 0.299, -0.29):
        expected = (np.cos(np.pi * x) - np.sinc(x)) / x
        assert tg.grad(np.sinc)(x) == pytest.approx(expected, rel=1e-13)
    assert tg.grad(np.sinc)(1e-9) == pytest.approx(-(np.pi**2) / 3 * 1e-9, rel=1e-14)
