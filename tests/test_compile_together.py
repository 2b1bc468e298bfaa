"""Programs that found mistakes in tg.compile: each compared with itself, uncompiled."""

import numpy as np
import pytest

import tinygrad_lite as tg

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 4, 4))
S = X @ X.T + 4 * np.eye(4)

PROGRAMS = {
    "sum along the axis of a number": (lambda x: np.sum(x[0, 0], axis=-1) * 2, X),
    "numbers in arrays": (lambda x: (np.squeeze(x[:1, :1]), x[0, 0], x[..., 1, 1], np.sum(x)), X),
    "a gradient that is a number": (tg.grad(lambda x: np.argmax(x) * x.mean()), X[0, 0]),
    "select": (tg.grad(lambda x: np.sum(np.select([x > 1, x < -1], [x, 2 * x], 3 * x))), X),
    "sum of a float": (lambda x: np.deg2rad(np.sum(x)) * 2, 0.5),
    "no gradient": (tg.grad(lambda x: np.sum(np.floor(x))), X),
    "softmax of a number": (tg.grad(lambda x: tg.functional.softmax(np.sum(x)) * 3), X),
    "concatenated": (tg.grad(lambda x: np.sum(np.concatenate([x, x * x]) ** 2)), X),
    "a mask that is known": (lambda x: x[np.array([True, False, True, False])] * 2, X),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_is_as_without(name):
    f, *args = PROGRAMS[name]
    compiled, kept = tg.compile(f), []
    for factor in (1, 0.5, 0.9):
        given = [a * factor for a in args]
        mine, theirs = (flat(g(*given)) for g in (compiled, f))
        kept += [(a, np.array(a)) for a in mine]
        for a, b in zip(mine, theirs, strict=True):
            assert (type(a), a.dtype, a.shape) == (type(b), b.dtype, b.shape)
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    assert compiled.missed == 0
    for a, before in kept:
        np.testing.assert_array_equal(a, before)


def flat(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


VIEWS = {
    "rot90": np.rot90,
    "diag": np.diag,
    "flipud": np.flipud,
    "atleast_3d": np.atleast_3d,
    "matrix_transpose": np.matrix_transpose,
    "array_split": lambda x: np.array_split(x, 2)[1],
    "einsum": lambda x: np.einsum("ii->i", x),
    "broadcast_arrays": lambda x: np.broadcast_arrays(0.0, x)[1],
    "linalg.diagonal": np.linalg.diagonal,
}
if hasattr(np, "unstack"):  # from NumPy 2.1 on
    VIEWS["unstack"] = lambda x: np.unstack(x)[1]


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_no_memory_with_arguments_and_are_not_read_after_a_write(name):
    view = VIEWS[name]
    x = X.copy()
    made = tg.compile(lambda x: (view(x), np.swapaxes(view(x), 0, -1)))(x)
    assert not any(np.may_share_memory(a, b) for a, b in [(made[0], x), (made[1], x), made])

    def written(x):
        y = x.copy()
        part = view(y)
        y[...] = 5.0
        return part * 2

    with pytest.raises(TypeError, match="written into in place"):
        tg.compile(written)(x)
