"""tg.compile: the recording computes what the function computes, and refuses what it cannot hold."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite import nn, optim
from tinygrad_lite.compiler import KEPT
from tinygrad_lite.compiler.algebra import algebra
from tinygrad_lite.compiler.common import common_subexpressions
from tinygrad_lite.compiler.dead_code import dead_code
from tinygrad_lite.compiler.errors import TraceError
from tinygrad_lite.compiler.folding import constant_folding
from tinygrad_lite.compiler.guards import guarded
from tinygrad_lite.compiler.trace import Tracer
from tinygrad_lite.mode import mode
from tinygrad_lite.transforms import leaves

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(5, 3)), RNG.integers(0, 2, 5)


def same(a, b, exact=True):
    """Equal to the last bit, or nearly, with equal types: arrays stay arrays, numbers numbers."""
    a, b = leaves(a), leaves(b)
    assert len(a) == len(b)
    for p, q in zip(a, b, strict=True):
        assert type(p) is type(q)
        p, q = (getattr(v, "data", v) if isinstance(v, tg.Tensor) else v for v in (p, q))
        assert np.asarray(p).dtype == np.asarray(q).dtype
        tolerance = 0 if exact else 1e-12 if p.dtype == float else 1e-5
        np.testing.assert_allclose(p, q, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("first", range(0, 1000, 50))
def test_random_programs(first):
    """2,000 programs, values and gradients, on numbers other than those recorded."""
    pytest.importorskip("torch")  # in whose company they were drawn
    from tests import random_programs

    for seed in range(first, first + 50):
        for mixed in (False, True):
            f, values = random_programs.function(seed, mixed)
            both = tg.value_and_grad(f, argnums=tuple(range(len(values))))
            compiled = tg.compile(both)
            compiled(*values)
            others = [(0.9 * v).astype(v.dtype) for v in values]
            others = [v if v.ndim else v[()] for v in others]
            same(compiled(*others), both(*others), exact=False)
            assert (len(compiled.recordings), compiled.missed) == (1, 0)


def network(x, t, w, b, v):
    return tg.losses.cross_entropy(np.tanh(x @ w + b) @ v, t)


PARAMETERS = RNG.normal(size=(3, 4)), np.zeros(4), RNG.normal(size=(4, 2))
PROGRAMS = {
    "hessian": (tg.hessian(lambda w: np.sum(np.tanh(X @ w) ** 2)), np.array([0.5, -0.3, 0.2])),
    "hvp": (tg.hvp(lambda w: np.sum(np.tanh(X @ w) ** 2)), np.ones(3), np.array([1.0, 0, 2])),
    "jacobian": (tg.jacobian(lambda w: np.exp(X @ w)), np.array([0.5, -0.3, 0.2])),
    "jvp": (lambda x, v: tg.jvp(np.sin, (x,), (v,)), X, X + 1),
    "third": (tg.grad(tg.grad(tg.grad(np.sin))), 0.5),
    "number": (tg.value_and_grad(lambda x: x * x * np.exp(x)), 3.0),
    "weak number": (lambda x, y: tg.tensor(x) * y, X.astype(np.float32), 2.5),
    "nested": (lambda p: {"sum": p["a"] + p["b"][0], "b": [p["b"][0] * 2]}, {"a": X, "b": (X,)}),
    "prod": (tg.grad(lambda x: np.prod(x)), np.array([2.0, 0.0, 3.0])),
    "indices": (tg.grad(lambda x: np.sum(x[[0, 0, 1]] ** 2)), X),
    "update": (tg.grad(lambda x: np.sum(tg.index_update(x, 0, 2.0) ** 2)), X),
    "sorted": (tg.grad(lambda x: np.sum(np.sort(x, axis=0)[1:] ** 2)), X),
    "linear algebra": (tg.grad(lambda x: np.linalg.slogdet(x.T @ x + np.eye(3))[1]), X),
    "static": (lambda x, n, how: getattr(np, how)(x) * n, X, 3, "sum"),
    "same twice": (lambda x: (x, x, x.T), X),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    f, *args = PROGRAMS[name]
    compiled = tg.compile(f, check=True)
    for _ in range(3):
        same(compiled(*args), f(*args))
        args = [a * 1.5 if isinstance(a, (float, np.ndarray)) else a for a in args]


def test_results_share_no_memory():
    a, b, c = tg.compile(lambda x: (x, x, x.T))(X)
    assert not any(np.may_share_memory(p, q) for p in (a, b, c) for q in (X, a, b, c) if p is not q)


def trained(compiled, make, steps=4):
    """The losses, parameters, gradients of a training loop, with the step compiled or not."""
    parameters, optimizer, loss = make()

    def step(x, t):
        optimizer.zero_grad()
        value = loss(x, t)
        value.backward()
        optimizer.step()
        return value

    step = tg.compile(step) if compiled else step
    rng, values = np.random.default_rng(1), []
    for k in range(steps):
        if k == 2:
            optimizer.param_groups[0]["lr"] *= 0.5
        values.append(step(rng.normal(size=(5, 3)), rng.integers(0, 2, 5)).data)
    if compiled:
        assert len(step.recordings) == 1
    state = [a for entry in optimizer.state.values() for a in entry.values()]
    return [values, [p.data for p in parameters], [p.grad.data for p in parameters], state]


def by_hand(optimizer, **options):
    def make():
        ws = [tg.tensor(p, requires_grad=True) for p in PARAMETERS]
        return ws, optimizer(ws, **options), lambda x, t: network(x, t, *ws)

    return make


def layers(optimizer, **options):
    def make():
        tg.manual_seed(0)
        first, last = (nn.Linear(*n, dtype=np.float64) for n in ((3, 8), (8, 2)))
        net = nn.Sequential(first, nn.ReLU(), nn.Dropout(0.3), last)
        tg.manual_seed(1)
        return (
            net.parameters(),
            optimizer(net.parameters(), **options),
            lambda x, t: tg.losses.cross_entropy(net(x), t),
        )

    return make


@pytest.mark.parametrize("make", [by_hand, layers])
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (optim.SGD, {"lr": 0.1}),
        (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
        (optim.Adam, {"lr": 0.01, "amsgrad": True}),
        (optim.AdamW, {"lr": 0.01}),
        (optim.RMSprop, {"centered": True, "momentum": 0.5}),
        (optim.Adagrad, {"lr_decay": 0.1}),
    ],
)
def test_training_steps(make, optimizer, options):
    make = make(optimizer, **options)
    for a, b in zip(trained(True, make), trained(False, make), strict=True):
        for p, q in zip(a, b, strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-11, atol=1e-14)


def test_parameters_changed_between_calls_are_seen():
    w = tg.tensor(PARAMETERS[0], requires_grad=True)
    c = X.copy()
    f = tg.compile(lambda x: np.sum(np.tanh(x @ w) * 2) + np.sum(c) + np.sum(w * w))

    def eager(x):
        return np.sum(np.tanh(x @ w.data) * 2) + np.sum(c) + np.sum(w.data * w.data)

    np.testing.assert_allclose(f(X).data, eager(X))
    w.data[...] += 1
    np.testing.assert_allclose(f(X).data, eager(X))
    w.data = w.data * 0.5
    np.testing.assert_allclose(f(X).data, eager(X))
    assert len(f.recordings) == 1


def test_questions_of_the_engine_are_asked_again():
    f = tg.compile(tg.value_and_grad(tg.losses.cross_entropy))
    f(X, np.array([0, 1, 2, 0, 1]))
    ignored = np.array([0, -100, 2, 0, 1])
    value, gradient = f(X, ignored)
    expected = tg.value_and_grad(tg.losses.cross_entropy)(X, ignored)
    np.testing.assert_allclose(value, expected[0])
    np.testing.assert_allclose(gradient, expected[1])
    with pytest.raises(ValueError, match=r"target\[2\] = 7, but logits have 3 classes"):
        f(X, np.array([0, 1, 7, 0, 1]))
    with pytest.raises(ValueError, match=r"target\[0\] = -1"):
        f(X, np.array([-1, 1, 2, 0, 1]))
    with pytest.raises(ValueError, match="nan"):
        f(np.full_like(X, np.nan), np.array([0, 1, 2, 0, 1]))


REFUSED = {
    "if": lambda x: x * 2 if x[0, 0] > 0 else x,
    "float": lambda x: x * float(x[0, 0]),
    "item": lambda x: tg.tensor(x) * x[0, 0].item(),
    "int": lambda x: x[: int(x[0, 0])],
    "plain array": lambda x: np.ma.array(x) * 2,
    "assignment into an argument": lambda x: x.__setitem__(0, 1.0),
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: np.sum(np.nonzero(x)[0]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_depends_on_numbers_is_refused(name):
    with pytest.raises(TraceError, match=r"tg\.compile.*test_compile\.py, line \d+"):
        tg.compile(REFUSED[name])(X)


@pytest.mark.parametrize(
    "use",
    [
        lambda w: w.grad * 1, lambda w: optim.SGD([w], lr=0.1).step(),
        lambda w: optim.clip_grad_value_([w], 0.5), lambda w: setattr(w, "grad", None) or w * 1,
    ],
)  # fmt: skip
def test_a_gradient_from_before_is_refused(use):
    w = tg.tensor(np.ones(3), requires_grad=True)

    @tg.compile
    def step(x):
        np.sum(w * x).backward()
        use(w)

    step(2.0)
    w.grad = tg.tensor(np.ones(3))
    with pytest.raises(TraceError, match="zero_grad"):
        step(2.0)
    same(w.grad.data, np.ones(3))


def test_signatures():
    f = tg.compile(lambda x, n=1: x * n)
    for n in (1, 2):
        for dtype in (np.float32, np.float64):
            for shape in ((2,), (3,)):
                x = np.ones(shape, dtype)
                same(f(x, n), x * n)
                same(f(x, n=n), x * n)
    assert len(f.recordings) == KEPT == 16
    f(np.ones(5))
    assert len(f.recordings) == KEPT
    with pytest.raises(RuntimeError, match="call the function once"):
        tg.compile(np.sin).source  # noqa: B018


def test_the_source_needs_numpy_only(tmp_path):
    f = tg.compile(tg.value_and_grad(lambda ws, x, t: network(x, t, *ws)))
    value, gradients = f(list(PARAMETERS), X, T)
    for name, array in zip("abcxt", (*PARAMETERS, X, T), strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    load = ", ".join(f"np.load('{tmp_path}/{name}.npy')" for name in "abcxt")
    code = f"import sys\nsys.modules['tinygrad_lite'] = None\n{f.source}\n"
    code += f"print(*[a.tobytes().hex() for a in map(np.asarray, step({load}))])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [np.asarray(a).tobytes().hex() for a in (value, *gradients)]


def test_the_source_reads_as_by_hand():
    w = tg.tensor(PARAMETERS[0], requires_grad=True)
    w.name = "w"

    @tg.compile
    def step(x, lr):
        w.zero_grad()
        loss = np.sum(np.tanh(x @ w) ** 2)
        loss.backward()
        with tg.no_grad():
            w.__isub__(lr * w.grad)
        return loss

    step(X, 0.1)
    for text in ("def step(x, lr, w):", "np.tanh(x @ w)", "x.T @ ", "w -= lr * "):
        assert text in step.source


def test_hostile_names():
    for name in (
        "import os",
        "np",
        "x); print(1",
        "class",
        "step",
        "é",
        "\n",
        "x" * 99,
        "",
        "Changed",
    ):
        w = tg.tensor(np.ones(3), requires_grad=True)
        w.name = name
        f = tg.compile(lambda x, w=w: np.sum(x @ w))
        np.testing.assert_allclose(f(X).data, np.sum(X))


def recorded(f, *args):
    tracer = Tracer()
    symbols = [tracer.input(a, f"x{k}") for k, a in enumerate(args)]
    with mode(tracer=tracer):
        out = f(*symbols)
    return tracer.finish([out])


def operations(program):
    return [step.op for step in program.body]


def test_each_pass_removes_what_it_says():
    x = X.copy()
    assert operations(dead_code(recorded(lambda x: (np.exp(x), np.sin(x))[1], x))) == ["sin"]
    twice = recorded(lambda x: np.exp(x) + np.exp(x), x)
    assert operations(common_subexpressions(twice)) == ["exp", "add"]
    folded = constant_folding(recorded(lambda x: x * np.multiply(np.float64(2), 3), x))
    assert operations(folded) == ["multiply"]
    for f in (
        lambda x: x * 1, lambda x: 1 * x, lambda x: x + 0, lambda x: x - 0, lambda x: x / 1,
        lambda x: np.negative(np.negative(x)), lambda x: x.T.T, lambda x: x.reshape(15).reshape(5, 3), lambda x: x**1,
        lambda x: np.broadcast_to(x, x.shape), lambda x: x.astype(float),
        lambda x: np.sum(x.reshape(1, 5, 3), axis=0),
    ):  # fmt: skip
        assert operations(dead_code(algebra(algebra(algebra(recorded(f, x)))))) == []
    repeated = recorded(lambda x: np.sum(np.broadcast_to(x[0], (7, 3)), axis=0), x)
    assert operations(dead_code(algebra(repeated))) == ["getitem", "multiply"]
    stretched = dead_code(algebra(recorded(lambda x: x * np.broadcast_to(x[0], x.shape), x)))
    assert operations(stretched) == ["getitem", "multiply"]

    def asks(x):
        positive = x > -100
        tg.losses.kl_div  # noqa: B018
        return x * positive

    assert operations(guarded(recorded(asks, x))) == ["greater", "multiply"]


def test_a_compiled_function_in_a_graph_is_the_function():
    """Its recording has no graph, so wherever a gradient is asked for, f itself runs."""
    c = tg.compile(lambda x: np.sum(x**3))
    same(tg.grad(c)(X), 3 * X**2)
    w = tg.tensor(X, requires_grad=True)
    (c(w) * 2).backward()
    same(w.grad.data, 6 * X**2)
    inner = tg.compile(lambda x, w: np.sum(w * x))
    same(tg.grad(lambda w: inner(X, w) + tg.compile(lambda x: np.sum(w * x))(X))(X), 2 * X)


def test_numbers_keep_their_width():
    x = np.ones(3, np.float32)
    for f in (
        lambda x: x * 2 + np.float64(3), lambda x: x + 0.1, lambda x: x * np.float32(0.1),
        lambda x: (np.maximum(x, np.zeros((2, 3))), (x > 0) * 1.0),
    ):  # fmt: skip
        compiled = tg.compile(f)
        for k in (1, 2):
            same(compiled(x * k), f(x * k))


def test_a_view_of_what_was_written_into_is_refused():
    def f(x):
        y = x * 2
        v = y[0]
        y[0] = 0
        return v

    with pytest.raises(TraceError, match="written into"):
        tg.compile(f)(X)


def test_check_sees_what_changed_outside():
    n, box = 1.0, {"n": 1.0}
    f = tg.compile(lambda x: x * n)
    same(f(X), X)
    n = 2.0  # what a name refers to is looked up
    same(f(X), X * 2)
    f = tg.compile(lambda x: x * box["n"])
    same(f(X), X)
    box["n"] = 2.0  # and what is in an object
    same(f(X), X * 2)
    hidden = map(abs, itertools.count(1))  # what another library's objects hold is not
    library = type("Object", (), {"__module__": "numpy", "__call__": lambda self: next(hidden)})()
    f = tg.compile(lambda x: x * library(), check=True)
    with pytest.raises(ValueError, match="differs from the function's own"):
        f(X)


def counted_up(s):
    t = s
    s += 1
    return t, s


LARGE = RNG.normal(size=(64, 64))
SHARED = {  # views of arrays that later steps would like to write into
    "split": lambda x: (lambda y: (np.sum(np.multiply(*np.split(y, 2))), y * 2 * 3))(np.exp(x)),
    "flip": lambda x: (lambda y, v: (y * 2 + 1, v))(y := np.exp(x), np.flipud(y)),
    "view of a view": lambda x: (lambda y, v: (y * 2 + 1, v * 1.0))(y := np.exp(x), y.T[1:]),
    "diagonal": lambda x: (lambda y, v: (y * 2 + 1, v + 1))(y := np.exp(x), np.diagonal(y)),
    "argument": lambda x: tg.index_update(np.flipud(x), 0, 99.0),
    "number": lambda x: counted_up(np.sum(x)),
}


@pytest.mark.parametrize("name", SHARED)
def test_shared_memory(name):
    f, x = tg.compile(SHARED[name]), LARGE.copy()
    for _ in range(2):
        same(f(x), SHARED[name](LARGE))
        same(x, LARGE)


def test_state_moves_once_per_call():
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)

    @tg.compile
    def step(x):
        optimizer.zero_grad()
        np.sum(w * x).backward()
        optimizer.step()
        optimizer.zero_grad()

    for k in range(3):
        step(np.ones(2))
        same(w.data, np.array([1.0, 2.0]) - 0.5 * (k + 1))
    assert w.grad is None

    @tg.compile
    def accumulate(x):
        np.sum(w * x).backward()

    accumulate(np.ones(2))
    accumulate(np.ones(2) * 2)
    same(w.grad.data, np.ones(2) * 3)
    with pytest.raises(TraceError, match="gradient from before"):
        tg.compile(optimizer.step)()


def test_results_have_no_graph_and_say_so():
    w = tg.tensor(2.0, requires_grad=True)
    loss = tg.compile(lambda x: w * x)(3.0)
    assert loss.item() == 6
    with pytest.raises(RuntimeError, match=r"results of tg\.compile carry no graph"):
        (loss + w * 2).backward()


def test_static_arguments_are_told_apart():
    f = tg.compile(lambda net, x: net(x))
    nets = [nn.Linear(3, 2, dtype=np.float64) for _ in range(2)]
    for net in nets:
        same(f(net, X).data, net(X).data)
    f = tg.compile(lambda x, s: tg.losses.cross_entropy(x, T, label_smoothing=s))
    for s in (0.0, 0.1):
        np.testing.assert_allclose(
            f(X, s), tg.losses.cross_entropy(X, T, label_smoothing=s), rtol=1e-12
        )


def test_a_captured_tensor_may_change_in_every_way():
    net = nn.Linear(3, 2, dtype=np.float64)
    f = tg.compile(lambda x: net(x) + net.bias.detach() + np.sum(net.weight.data))
    for k in range(4):
        same(f(X).data, (net(X) + net.bias.detach() + np.sum(net.weight.data)).data, exact=False)
        net.bias.data = net.bias.data + 1
        if k == 1:
            net.weight = nn.Parameter(net.weight.data * 2)
        net.weight.data[...] *= 0.5


def test_nothing_of_the_recording_stays_outside():
    """Eager, each call would change these; a replay would not."""
    kept = {"h": np.zeros(3)}
    w = tg.tensor(np.ones(3), requires_grad=True)

    def in_a_dictionary(x):
        kept["h"] = kept["h"] + x
        return x

    def in_a_tensor(x):
        w.data = w.data - x
        return x

    history = []
    for f in (in_a_dictionary, in_a_tensor, lambda x: history.append(x) or x):
        with pytest.raises(TypeError, match=r"changes|p\.data -= step"):
            tg.compile(f)(np.ones(3))
    same(w.data, np.ones(3))


def test_methods_and_schedulers():
    class Model:
        def __init__(self, factor):
            self.factor = factor

        @tg.compile
        def scaled(self, x):
            return x * self.factor

    one, two = Model(1.0), Model(2.0)
    for model in (one, two, one):
        same(model.scaled(X), X * model.factor)
    w = tg.tensor(np.ones(3), requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)
    scheduler = optim.StepLR(optimizer, 1)

    def step(x):
        scheduler.step()
        return x * 2

    with pytest.raises(TypeError, match="a scheduler's step inside the function"):
        tg.compile(step)(X)
