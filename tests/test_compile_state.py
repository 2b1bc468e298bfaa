"""Programs whose state is outside: what a compiled step does to it, and what is refused."""

import copy
import random
import threading
import types

import numpy as np
import pytest

import tinygrad_lite as tg
from tests.test_compile_outside import A, X, plain, same
from tinygrad_lite import nn, optim
from tinygrad_lite.compiler import outside
from tinygrad_lite.compiler.errors import TraceError


def trainer(kind, n=2, **options):
    ws = [tg.tensor(A(k), requires_grad=True) for k in range(n)]
    return ws, kind([{"params": [w]} for w in ws], **options)


def clipping(compiled):
    ws, optimizer = trainer(optim.SGD, lr=0.1)

    def step(x, most):
        optimizer.zero_grad()
        np.sum((x * ws[0] + ws[1]) ** 2).backward()
        norm = optim.clip_grad_norm_(ws, most, error_if_nonfinite=True)
        optim.clip_grad_value_(ws, most / 2)
        optimizer.step()
        return norm * 1.0, [w.grad for w in ws]

    step = compiled(step)
    for k, most in enumerate([0.1, 1e9, 0.5, 0.0]):
        yield step(X * k, most), ws
    with pytest.raises(RuntimeError, match="joint norm"):
        step(X * np.inf, 1.0)
    yield ws


def schedule(compiled):
    (w, b), optimizer = trainer(optim.SGD, lr=0.1, momentum=0.9)
    scheduler = optim.StepLR(optimizer, 1, 0.5)

    def step(x):
        optimizer.zero_grad()
        np.sum(np.sin(x * w + b)).backward()
        optimizer.step()
        return optimizer.param_groups[0]["lr"] * x

    step = compiled(step)
    for k in range(7):
        yield step(X * k), w, b, [s["momentum_buffer"] for s in optimizer.state.values()]
        scheduler.step()
        if k == 2:
            optimizer.param_groups[1]["momentum"] = 0.5
        if k == 3:
            w.requires_grad_(False)
        if k == 4:
            optimizer.load_state_dict(optimizer.state_dict())


def layers(compiled):
    tg.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(3, 4, dtype=float), nn.BatchNorm1d(4, dtype=float), nn.Dropout(0.5)
    )
    f = compiled(lambda x: net(x))
    norm, changes = net[1], {
        0: lambda: setattr(norm, "momentum", None), 1: lambda: setattr(norm, "eps", 0.5),
        2: lambda: setattr(norm, "running_mean", norm.running_mean * 2), 3: net.eval, 4: net.train,
        5: lambda: setattr(net[2], "p", 0.1), 6: lambda: net.append(nn.Tanh()),
        7: lambda: setattr(norm, "num_batches_tracked", 7), 8: lambda: setattr(net[0], "bias", None),
    }  # fmt: skip
    for k in range(10):
        yield f(np.random.default_rng(k).normal(size=(5, 3))), list(net.state_dict().values())
        changes.get(k, int)()


def generators(compiled):
    rng, draws = np.random.default_rng(0), {"rng": np.random.default_rng(1)}

    def f(x, given):
        y = tg.functional.dropout(x * rng.normal(size=3), 0.5, rng=draws["rng"])
        return y + given.integers(0, 9, 3) + x[:, draws["rng"].permutation(3)]

    f, given = compiled(f), np.random.default_rng(2)
    for _ in range(3):
        yield f(X, given), rng.random()
        draws["rng"] = np.random.default_rng(3)


def written_from_outside(compiled):
    box, count, table = types.SimpleNamespace(m=A()), np.zeros(3, int), np.zeros((4, 3))

    def f(x):
        nonlocal count
        box.m *= 0.9
        box.m += x[0]
        count += 1
        table[1:3] = x
        np.multiply(table, 2, out=table)
        return box.m * count

    f = compiled(f)
    for k in range(4):
        yield f(X * k), box.m, count, table
        box.m = A(k) if k == 1 else box.m


def into_out(compiled):
    def f(x):
        c, s, d = np.empty_like(x), np.zeros_like(x[0]), np.zeros_like(x @ x.T)
        np.add(x, 1, out=c)
        np.clip(c, 0, 1.3, out=c)
        np.sum(c, axis=0, out=s)
        np.matmul(c, c.T, out=d)
        np.fill_diagonal(d, 3.0)
        np.copyto(c, 0.5, where=x > 0.4)
        np.putmask(d, d > 4, 0.0)
        np.put(s, [0], 9.0)
        return c, s, d

    f = compiled(f)
    for k in range(3):
        yield f(X * k)


def aliases(compiled, of):
    (w, v), optimizer = trainer(optim.SGD, lr=0.1)
    other = of(w)

    def step(x):
        optimizer.zero_grad()
        np.sum(x * w * v).backward()
        optimizer.step()
        return other * 2

    step = compiled(step)
    for k in range(6):
        yield step(X), w, v
        if k == 1:
            w.data = w.data * 2
        if k == 3:
            v.data = w.data


def detached(compiled):
    return aliases(compiled, lambda w: w.detach())


def its_array(compiled):
    return aliases(compiled, lambda w: w.data)


def two_names(compiled):
    options = {"a": A(), "b": None}
    options["b"] = options["a"]
    f = compiled(lambda x: options["a"] * x - options["b"])
    for k in range(4):
        yield f(X)
        options["ab"[k % 2]] = A(k)


def overlapping_arguments(compiled):
    buffer = np.arange(8.0) / 7
    w = tg.tensor(np.ones(6), requires_grad=True)
    w.data = buffer[:6]
    optimizer = optim.SGD([w], lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        np.sum(x * w[:3] * y).backward()
        optimizer.step()
        return x * 1

    step = compiled(step)
    for x, y in [
        (A(), X),
        (buffer[:3], X),
        (buffer[2:5], X),
        (A(), w.data.reshape(2, 3)),
        (A(), X),
    ]:
        yield step(x, y), buffer


def tensors_read_in_other_ways(compiled):
    m = tg.tensor(A())
    f = compiled(
        lambda x: (np.where(m > 2, x, -x) + np.sign(m), m.argmax(), m.astype(int), copy.deepcopy(m))
    )
    for k in range(3):
        yield f(X)
        m.data = m.data[::-1] - k


def gradients_from_before(compiled):
    w = tg.tensor(A(), requires_grad=True)
    f = compiled(lambda x: x * (1 if w.grad is None else 2 * w.grad))
    for k in range(5):
        yield f(X)
        w.grad = None
        if k != 3:
            np.sum(w * w * (k + 1)).backward()


def content(compiled):
    modes, options, data = {2}, {"a": A(), "b": A(1)}, bytearray(b"\1\2\3")

    def f(x):
        x = x * 2 if 3 in modes else x + getattr(data, "missing", 1)
        entries = [np.arctan2(0 * x, v) + x * v for v in options.values()]
        return entries, np.frombuffer(data, np.uint8) * x * len(options), options["a"].astype(float)

    f = compiled(f)
    for change in (
        int, lambda: modes.add(3), lambda: options.update(a=options.pop("a")), lambda: options.pop("b"),
        lambda: options.update(a=np.arange(3)), lambda: options.update(a=A(4), b=options["a"]),
        lambda: data.__setitem__(0, 9), lambda: options.update(c=float("nan")), lambda: options.update(c=0.0), lambda: options.update(c=-0.0),
    ):  # fmt: skip
        change()
        yield f(X)


def methods(compiled):
    class Kind:
        k = 2

        def times(self, x):
            return x * 2

    class Other(Kind):
        def times(self, x):
            return x * 5

    box = Kind()
    world = {"box": box}
    exec("def f(x): return box.times(x) + abs(x) * box.k", world)
    f = compiled(world["f"])
    yield f(X)
    Kind.times = lambda self, x: x * 3
    yield f(X)
    box.__class__ = Other
    yield f(X)
    Other.k = 7
    yield f(X)
    world["abs"] = lambda x: x * 8
    yield f(X)
    box.times = lambda x: x * 4
    yield f(X)


def kinds(compiled):
    f = compiled(lambda x, n: (isinstance(x, np.ndarray), isinstance(n, float), x * n))
    yield f(X, 2.0)


PROGRAMS = [
    clipping, schedule, layers, generators, written_from_outside, into_out, detached, its_array, two_names, overlapping_arguments,
    tensors_read_in_other_ways, gradients_from_before, content, methods, kinds,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_state_outside(program):
    ours, theirs = ([plain(r) for r in program(how)] for how in (tg.compile, lambda f: f))
    same(ours, theirs)


RNG, BOX, LIST, NET = np.random.default_rng(0), types.SimpleNamespace(n=0, m=A()), [3, 1], nn.ReLU()
W, DRAW, BATCHES = tg.tensor(A(), requires_grad=True), RNG.normal, iter([X, X])
VIEW = W.data[:2]


def steps_on_a_view(x):
    with tg.no_grad():
        W.__isub__(x[0])
    return VIEW * 1


REFUSED = {
    "np.random": lambda x: x * np.random.normal(), "random": lambda x: x * random.random(), "a bound draw": lambda x: x * DRAW(),
    "an iterator": lambda x: next(BATCHES), "a count": lambda x: setattr(BOX, "n", BOX.n + 1) or x * BOX.n,
    "a new attribute": lambda x: setattr(BOX, "new", 1) or x, "an average": lambda x: setattr(BOX, "m", BOX.m * 0.9) or x,
    "a list": lambda x: LIST.append(1) or x, "a sorted list": lambda x: LIST.sort() or x * LIST[0],
    "a mode": lambda x: NET.eval()(x), "requires_grad": lambda x: W.requires_grad_(False) * x, "a view": steps_on_a_view,
    "a seed": lambda x: tg.manual_seed(0) and x, "an argument": lambda x, d: d.update(x=x) or x, "a generator": lambda x: iter([x]),
    "numbers of an array": lambda x: x[: int(VIEW[0])], "a Tensor as array": lambda x: np.asarray(W.detach()) * x,
    "pieces": lambda x: np.split(x[0], np.argsort(x[0])), "an int array": lambda x: np.zeros_like(x, int).__iadd__(x),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_replay_would_not_do_is_refused_and_put_back(name):
    before = copy.deepcopy((vars(BOX), LIST, W.data, NET.training)), RNG.bit_generator.state
    args = (X, {}) if name == "an argument" else (X,)
    with pytest.raises(TypeError, match=r"tg\.compile|cannot hold"):
        tg.compile(REFUSED[name])(*args)
    assert repr(before[0]) == repr((vars(BOX), LIST, W.data, NET.training))
    assert W.requires_grad


def test_arrays_that_come_to_share_memory_are_refused():
    box = types.SimpleNamespace(a=A(), b=A(1))
    f = tg.compile(lambda x: np.add(box.a, x, out=box.a) * box.b)
    np.testing.assert_array_equal(f(X[0]), (A() + X[0]) * A(1))
    box.b = box.a[::-1]
    with pytest.raises(TraceError, match="shares memory"):
        f(X[0])


def test_an_interrupt_leaves_everything_in_its_place():
    box = types.SimpleNamespace(m=A(), t=(A(), 1), d={"r": np.random.default_rng(0)}, stop=True)

    def f(x):
        y = box.m * x * box.t[0] + box.d["r"].random()
        if box.stop:
            raise KeyboardInterrupt
        return y

    m, t, r, compiled = box.m, box.t, box.d["r"], tg.compile(f)
    with pytest.raises(KeyboardInterrupt):
        compiled(X)
    assert (box.m is m, box.t is t, box.d["r"] is r) == (True, True, True)
    box.stop = False
    copied = copy.deepcopy(r)
    np.testing.assert_array_equal(compiled(X), m * X * t[0] + copied.random())


def test_other_threads_get_an_error_and_no_stand_in():
    shared, error = A(), None

    def in_thread():
        nonlocal error
        try:
            shared * 2
        except TraceError as found:
            error = str(found)

    def f(x):
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
        return x * shared

    with pytest.raises(TraceError, match="changes error"):  # and is not None
        tg.compile(f)(X)
    np.testing.assert_array_equal(shared, A())


def test_what_a_thread_has_for_itself():
    own, found = threading.local(), []
    own.m = A()
    f = tg.compile(lambda x: x * own.m)
    f(X)

    def in_thread():
        own.m = A(4)
        found.append(f(X))

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found, [X * A(4)])
    np.testing.assert_array_equal(f(X), X * A())


def test_what_the_code_does_not_name_is_not_watched():
    """A loop's counter, also one with the name of a method that is called."""

    class Loop:
        def __init__(self):
            self.step, self.k, self.history = 0, 3, []
            self.w, self.optimizer = trainer(optim.SGD, lr=0.1)

        def run(self, x):
            self.optimizer.zero_grad()
            np.sum(self.w[0] * x * self.k).backward()
            self.optimizer.step()

    loop = Loop()
    run = tg.compile(loop.run)
    run(X)
    (recording,) = run.recordings.values()
    loop.step, loop.history = 7, [1]
    assert recording.holds()
    loop.k = 3.0
    assert not recording.holds()


def test_too_much_to_look_at_is_refused(monkeypatch):
    many = list(range(300))
    monkeypatch.setattr(outside, "LIMIT", 200)
    with pytest.raises(TraceError, match=r"more than 200 names.*many\[\d+\]"):
        tg.compile(lambda x: x * many[0])(X)
