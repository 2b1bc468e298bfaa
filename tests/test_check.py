"""The checker is checked: wrong rules, kinks, randomness; and where a NaN is said to be born."""

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite.primitives import BY_NAME, PRIMITIVES

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])


@pytest.fixture
def register():
    names = []

    def register(f, *rules, name, **kwargs):
        names.append(name)
        return tg.primitive(f, *rules, name=name, **kwargs)

    yield register
    for name in names:
        del PRIMITIVES[BY_NAME.pop(name).function]


def test_right_functions_pass():
    assert tg.gradcheck(lambda x, w: np.tanh(x @ w).sum(axis=0), X, X.T.copy(), order=3)
    assert tg.gradcheck(lambda d: d["a"] * np.sin(d["b"][0]), {"a": X, "b": [X]})
    assert tg.gradcheck(lambda x: (np.sin(x), np.sum(x)), X)
    assert tg.gradcheck(lambda x: np.log(x).sum(), np.linspace(1, 2, 5000))
    assert tg.gradcheck(np.abs, X)  # not analytic: the complex step is set aside
    assert tg.gradcheck(lambda x: x * 1.0, np.zeros((0, 2)))
    assert tg.gradcheck(np.sin, 0.3)


@pytest.mark.parametrize("factor", [1 + 1e-5, 0.0, -1.0, np.nan])
def test_wrong_first_derivatives_fail(register, factor):
    wrong = register(lambda x: np.sin(x), lambda g, out, x: g * np.cos(x) * factor, name="wrong")
    with pytest.raises(AssertionError, match=r"d out\[\d\] / d input 0\[\d, \d\]: the graph says"):
        tg.gradcheck(wrong, X)
    with pytest.raises(AssertionError, match="a random direction"):
        tg.gradcheck(wrong, np.linspace(0.1, 1, 200))


def test_wrong_second_derivatives_fail(register):
    half = register(
        lambda x: np.sin(x),
        lambda g, out, x: g * np.cos(x.detach() if isinstance(x, tg.Tensor) else x),
        name="half",
    )
    assert tg.gradcheck(half, X, order=1)
    with pytest.raises(AssertionError):
        tg.gradcheck(half, X)


def test_the_worst_entry_is_named(register):
    """Also where an earlier entry is wrong too."""

    def rule(g, out, x):
        return g * np.cos(x) * np.array([1.01, 1.0, 1.5])

    worst = register(lambda x: np.sin(x), rule, name="worst")
    with pytest.raises(AssertionError, match=r"d out\[2\] / d input 0\[2\]"):
        tg.gradcheck(worst, X[0])


def test_a_kink_is_reported():
    with pytest.raises(AssertionError, match="kink"):
        tg.gradcheck(
            lambda x: np.maximum(x, 0.0) * 1.0 + 0.2 * np.minimum(x, 0.0), np.array([1.0, 1e-7])
        )
    with pytest.raises(AssertionError, match="kink"):
        tg.gradcheck(np.abs, np.array([0.0]), order=2)


def test_detached_results_are_caught():
    with pytest.raises(AssertionError):
        tg.gradcheck(lambda x: x * np.sin(x).detach(), X)


def test_bad_inputs():
    with pytest.raises(TypeError, match="float32"):
        tg.gradcheck(np.sin, X.astype(np.float32))
    with pytest.raises(TypeError, match="float64"):
        tg.gradcheck(np.sin, 2)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="random"):
        tg.gradcheck(lambda x: x * rng.random(), X)
    with pytest.raises(ValueError, match="not finite"), np.errstate(all="ignore"):
        tg.gradcheck(np.log, -X)


# Anomalies


def leaf(data):
    return tg.tensor(data, requires_grad=True)


def test_a_nan_is_found_where_it_is_born():
    x = leaf([1.0, -1.0])
    with (
        tg.detect_anomaly(),
        np.errstate(all="ignore"),
        pytest.raises(tg.NonFiniteError) as error,
    ):
        np.log(x)  # born here
    assert "log made nan at index (1,)" in str(error.value)
    assert "test_check.py" in str(error.value)
    assert "# born here" in str(error.value)
    assert issubclass(tg.NonFiniteError, FloatingPointError)


def test_an_infinity_in_the_backward_pass():
    x = leaf([1.0, 0.0])
    with tg.detect_anomaly(), np.errstate(all="ignore"):
        y = np.cbrt(x)  # finite, with an infinite slope at 0
        with pytest.raises(
            tg.NonFiniteError, match=r"gradient of cbrt for argument 0 became inf at index \(1,\)"
        ) as error:
            y.sum().backward()
    assert "an infinite slope at 0" in str(error.value)


def test_non_finite_inputs_are_not_births():
    mask = np.array([0.0, -np.inf])
    with tg.detect_anomaly():
        x = leaf([1.0, 2.0])
        tg.logsumexp(x + mask).backward()
    np.testing.assert_array_equal(x.grad.data, [1.0, 0.0])


def test_create_graph_under_anomaly_detection():
    x = leaf([4.0, 0.0])
    with tg.detect_anomaly():
        np.sum(np.where(x > 0, np.sqrt(x), 0.0)).backward(create_graph=True)
    np.testing.assert_array_equal(x.grad.data, [0.25, 0.0])


@pytest.mark.parametrize("changed", ["argument", "result", "parameter"])
def test_an_array_changed_before_backward_is_reported(changed):
    x, a = leaf(np.ones(100)), np.full(100, 2.0)
    with tg.detect_anomaly():
        y = np.exp(x * x * a)
        {"argument": a, "result": y.data, "parameter": x.data}[changed][3] = 7.0
        with pytest.raises(
            RuntimeError, match=r"changed in place after it was saved at .*test_check\.py"
        ):
            y.sum().backward()


def test_an_index_that_was_changed_is_reported():
    x, index = leaf(np.arange(5.0)), np.array([0, 2])
    with tg.detect_anomaly():
        y = x[index, None]
        index[0] = 4
        with pytest.raises(RuntimeError, match="the index of getitem was changed in place"):
            y.sum().backward()


def test_nothing_is_watched_outside():
    x = leaf(0.0)
    with np.errstate(all="ignore"):
        assert np.isneginf(np.log(x).item())
        with tg.detect_anomaly():
            pass
        np.log(x)


def test_infinities_that_a_user_put_in_are_no_anomaly():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with tg.detect_anomaly():
        y = np.where(np.array([True, False]), x, -np.inf)
        np.sum(np.exp(y)).backward()
    np.testing.assert_array_equal(x.grad.data, [np.e, 0.0])
