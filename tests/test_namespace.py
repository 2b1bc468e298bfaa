"""No NumPy function detaches a tracked Tensor silently.

Each one records, is constant by intent, or raises.
"""

import types
import warnings

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite.dispatch import CONSTANT

# These call float(t) entry by entry: as explicit as t.item(), and refused inside tg.grad and kin.
CALL_FLOAT = {"float64", "double", "complex64", "csingle", "complex128", "cdouble", "fromiter"}


def namespace():
    for module in (np, np.linalg, np.fft):
        for name in sorted(dir(module)):
            if name.startswith(("_", "set", "test", "printoptions")):  # these change NumPy itself
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = getattr(module, name)
            if callable(value) and not isinstance(value, types.ModuleType):
                yield f"{module.__name__}.{name}", value


FUNCTIONS = dict(namespace())
SQUARE = np.array([[2.0, 0.3], [0.1, 1.5]])


def arguments(scale):
    """The ways to hand over a tracked Tensor: alone, twice, in a list, with other arguments."""
    t, v, one = (
        tg.tensor(x * scale, requires_grad=True) for x in (SQUARE, np.array([0.5, 1.5]), 1.5)
    )
    yield from (
        (t,),
        (t, t),
        (t, t, t),
        ([t, t],),
        (t, 1),
        (t, 1, 1),
        (1, t),
        (SQUARE, t),
        (t, (2, 2)),
        (t, (0, 1)),
        (v,),
        (v, v),
        (v, v, v),
        ([v, v],),
        (one,),
        (one, one),
        (one, 3, 2),
        ((2, 2), one),
        (SQUARE > 0, t),
        (SQUARE > 0, t, 0.0),
        ("ij,ij", t, SQUARE),
        ([0, 1], t),
        ([SQUARE > 0], [t]),
        (np.ones(2, int), [v, v]),
        (np.arange(2.0), np.arange(2.0), v),
        (SQUARE, 0, t),
        (SQUARE, [0, 1], v),
        (0, one, 3),
        (0, 1, one),
        (v, 1.0),
        (v, float),
        ([one, one], float),
        (SQUARE, v),
        (v, SQUARE),
        (t, 0.5),
        (lambda x: x, v),
    )


def flat(value):
    """The floating entries of a result, and whether a part of it is tracked."""
    if isinstance(value, (tuple, list)):
        parts = [flat(v) for v in value]
        return [x for entries, _ in parts for x in entries], any(tracked for _, tracked in parts)
    data = value.data if isinstance(value, tg.Tensor) else value
    if getattr(getattr(data, "dtype", None), "kind", "") not in ("f", "c"):
        return [], isinstance(value, tg.Tensor) and value.requires_grad
    return list(np.ravel(data)), isinstance(value, tg.Tensor) and value.requires_grad


def run(f, args):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return flat(f(*args))
        except Exception:
            return None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_detaches(name):
    """A result that changes with a tracked argument is tracked, or the function is listed."""
    f = FUNCTIONS[name]
    short = name.rpartition(".")[2]
    if f in CONSTANT or short in {
        "empty",
        "empty_like",
        "save",
        "savez",
        "savez_compressed",
        "savetxt",
    }:
        return
    for args, other in zip(arguments(1.0), arguments(1.01), strict=True):
        first, second = run(f, args), run(f, other)
        if first is None or second is None or repr(first[0]) == repr(second[0]):
            continue
        if not first[1] and first[0]:
            assert short in CALL_FLOAT, f"{name}{[np.shape(a) for a in args]} detached silently"
            with pytest.raises((TypeError, ValueError)):
                tg.grad(lambda x, f=f: x * f([x], float)[0] if f is np.fromiter else x * f(x))(1.0)


@pytest.mark.parametrize(
    "function", sorted(CONSTANT, key=lambda f: f.__name__), ids=lambda f: f.__name__
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # np.fix, since NumPy 2.5
def test_constants_are_plain_or_untracked(function):
    t = tg.tensor(SQUARE, requires_grad=True)
    for args in ((t,), (t, t), (t, 0), (t.ravel(), 0.5), (t.ravel(), [0.5])):
        try:
            out = function(*args)
        except (TypeError, ValueError):
            continue
        assert not flat(out)[1]
        plain = function(*[a.data if isinstance(a, tg.Tensor) else a for a in args])
        for ours, theirs in zip(
            *[x if isinstance(x, tuple) else (x,) for x in (out, plain)], strict=True
        ):
            if function is not np.empty_like:
                np.testing.assert_array_equal(
                    ours.data if isinstance(ours, tg.Tensor) else ours, theirs
                )
            kind = getattr(getattr(theirs, "dtype", None), "kind", "")
            assert isinstance(ours, tg.Tensor) == (kind == "f")
        break
    else:
        pytest.fail(f"{function.__name__} accepts no Tensor")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: np.histogram(t), "numpy.histogram is not differentiable here; use t.detach"),
        (lambda t: np.fft.fft(t), "numpy.fft.fft is not differentiable here"),
        (lambda t: np.linalg.eig(t), "numpy.linalg.eig is not differentiable here"),
        (lambda t: np.spacing(t), "numpy.spacing is not differentiable here"),
        (lambda t: np.frexp(t), "numpy.frexp is not differentiable here"),
        (lambda t: np.subtract.reduce(t), "numpy.subtract.reduce is not differentiable here"),
        (lambda t: np.add.reduceat(t, [0, 1]), "reduceat is not differentiable"),
        (lambda t: np.add.at(t, [0], 1.0), "add.at is not differentiable"),
        (
            lambda t: np.add(t, 1.0, out=SQUARE.copy()),
            "out= is not supported on a Tensor; a Tensor is never written into",
        ),
        (lambda t: np.sum(t, out=np.zeros(())), "out= is not supported"),
        (
            lambda t: np.add(t, 1.0, where=SQUARE > 0),
            r"where= is not supported on a Tensor; select with np.where",
        ),
        (lambda t: np.sum(t, where=SQUARE > 0), r"select with np\.where"),
        (lambda t: np.mean(t, dtype=np.float32), r"convert with t\.astype"),
        (lambda t: np.concatenate([t, t], out=np.zeros((4, 2))), "assign the result"),
        (lambda t: np.median(t, overwrite_input=True), "overwrite_input"),
        (lambda t: np.floor(t, out=SQUARE.copy()), "out= is not supported"),
        (lambda t: np.sum(t, initial=3.0), "initial= is not supported on a Tensor; leave it out"),
        (lambda t: np.copyto(SQUARE.copy(), t), "numpy.copyto is not differentiable here"),
    ],
)
def test_refusals_say_what_to_do(call, message):
    with pytest.raises(TypeError, match=message):
        call(tg.tensor(SQUARE, requires_grad=True))


def test_tensors_as_parameters():
    """An integer Tensor serves as a parameter; a tracked one would lose its gradient."""
    t = tg.tensor(SQUARE, requires_grad=True)
    two, tracked = tg.tensor(2), tg.tensor(1.0, requires_grad=True)
    np.testing.assert_array_equal(np.repeat(t, two).data, np.repeat(SQUARE, 2))
    np.testing.assert_array_equal(np.take(t, tg.tensor([3, 0])).data, SQUARE.ravel()[[3, 0]])
    np.testing.assert_array_equal(np.roll(t, two).data, np.roll(SQUARE, 2))
    np.testing.assert_array_equal(np.reshape(t, (two, tg.tensor(2))).data, SQUARE)
    for call in (lambda: np.var(t, ddof=tracked), lambda: t.var(ddof=tracked)):
        with pytest.raises(TypeError, match=r"no gradient by ddof=: pass ddof=t\.item"):
            call()


def test_ufunc_methods():
    t = tg.tensor(SQUARE, requires_grad=True)
    for ours, plain in (
        (np.add.reduce(t), np.add.reduce(SQUARE)),
        (np.multiply.reduce(t, axis=1), np.multiply.reduce(SQUARE, axis=1)),
        (np.maximum.reduce(t, axis=None), np.maximum.reduce(SQUARE, axis=None)),
        (np.minimum.reduce(t, keepdims=True), np.minimum.reduce(SQUARE, keepdims=True)),
        (np.logaddexp.reduce(t), np.logaddexp.reduce(SQUARE)),
        (np.add.accumulate(t), np.add.accumulate(SQUARE)),
        (np.multiply.accumulate(t, axis=1), np.multiply.accumulate(SQUARE, axis=1)),
        (np.multiply.outer(t, SQUARE[0]), np.multiply.outer(SQUARE, SQUARE[0])),
        (np.subtract.outer(SQUARE[0], t), np.subtract.outer(SQUARE[0], SQUARE)),
    ):
        assert ours.requires_grad
        np.testing.assert_allclose(ours.data, plain)
