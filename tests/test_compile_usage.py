"""Programs as new users write them: eager and compiled agree, and nothing is recorded needlessly."""

import dataclasses
import types
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_lite as tg
from tests.test_compile_outside import X, plain, same
from tinygrad_lite import nn, optim
from tinygrad_lite.compiler.errors import TraceError

Y = np.cos(X[:, :2])


def trained(kind, **options):
    net = nn.Linear(3, 2, dtype=float, rng=np.random.default_rng(0))
    return net, kind(net.parameters(), **options)


def one_cycle(compiled, kind=optim.SGD, **options):
    net, optimizer = trained(kind, lr=0.1, **options)
    schedule = optim.OneCycleLR(optimizer, max_lr=0.2, total_steps=9)

    @compiled
    def step(x):
        optimizer.zero_grad()
        loss = np.mean((net(x) - Y) ** 2)
        loss.backward()
        optimizer.step()
        return loss

    for k in range(8):
        yield step(X * k), net.parameters(), [*optimizer.state_dict()["state"].values()]
        schedule.step()
        if k == 5 and kind is optim.SGD:
            optimizer.param_groups[0]["momentum"] = 0.0


def one_cycle_adam(compiled):
    return one_cycle(compiled, optim.Adam, amsgrad=True)


def several_steps_in_a_call(compiled):
    net, optimizer = trained(optim.Adam, lr=0.1, weight_decay=0.1)

    @compiled
    def steps(x):
        for k in range(3):
            optimizer.zero_grad()
            loss = np.mean((net(x) - Y * k) ** 2)
            loss.backward()
            optimizer.step()
        return loss

    for k in range(4):
        yield steps(X * k), net.parameters(), [*optimizer.state_dict()["state"].values()]


def accumulated(compiled):
    """Over calls, cleared outside; and of a network that the call does not train."""
    net, optimizer = trained(optim.SGD, lr=0.1)
    other, _ = trained(optim.SGD, lr=0.1)

    @compiled
    def backward(x):
        loss = np.mean((other(net(x)[:, [0, 1, 1]]) - Y) ** 2)
        loss.backward()
        loss = loss * 1 + np.sum(net(x))
        np.sum(net(x)).backward()
        return loss

    for k in range(7):
        yield backward(X * k), [p.grad for p in (*net.parameters(), *other.parameters())]
        if k % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()
            kept = other.weight.grad
            yield kept


def two_in_turn(compiled):
    (one, first), (two, second) = trained(optim.SGD, lr=0.1), trained(optim.Adam, lr=0.1)

    def critic(x):
        second.zero_grad()
        loss = np.mean(two(x) ** 2) - np.mean(two(one(x)[:, [0, 1, 0]].detach()))
        loss.backward()
        second.step()
        return loss

    def maker(x):
        first.zero_grad()
        loss = np.mean(two(one(x)[:, [0, 1, 0]]))
        loss.backward()
        first.step()
        return loss

    critic, maker = compiled(critic), compiled(maker)
    for k in range(4):
        yield critic(X * k), maker(X + k), two.weight.grad, one.weight.grad, two.weight


def cleared_afterwards(compiled):
    net, optimizer = trained(optim.SGD, lr=0.1)

    @compiled
    def step(x):
        np.mean(net(x) ** 2).backward()
        optimizer.step()
        optimizer.zero_grad()
        return net.weight.grad is None

    for k in range(4):
        yield step(X * k), net.parameters()


def averages_written_in_two_ways(compiled):
    net, optimizer = trained(optim.SGD, lr=0.1)
    slow = trained(optim.SGD, lr=0.1)[0]

    @compiled
    def step(x):
        optimizer.zero_grad()
        np.mean((net(x) - Y) ** 2).backward()
        for p, q in zip(net.parameters(), slow.parameters(), strict=True):
            p.data -= 0.1 * p.grad.data
            q.data *= 0.9
            q.data += 0.1 * p.data
        return x * 1

    for k in range(4):
        yield step(X * k), net.parameters(), slow.parameters()


def arrays_that_it_makes(compiled):
    def f(x, t):
        out, y = np.zeros((4, 3)), np.empty_like(x)
        for k in range(3):
            out[k] = x[0] * k
        for k in np.arange(2):
            out[3, k] = x[1, k]
        y[...] = np.asarray(x, float)
        pair = np.array([[x[0, 0], 1], (2.0, x[1, 1])], np.float32)
        return out, np.eye(4)[t], y, pair, np.array([x[0], x[1]]), np.array(x), np.arange(3)

    f = compiled(f)
    for k in range(3):
        yield f(X * k, np.array([k, 3 - k, 1]))


def kinds_of_arguments(compiled):
    def f(x, n):
        kinds = [type(x) is np.ndarray, type(n) is float, isinstance(f, type), type(n)(3)]
        return kinds, x * n, round(n, 1), x.nbytes, x.conj() + x.imag, type("A", (), {})().__class__

    f = compiled(lambda x, n, f=f: f(x, n)[:-1])
    for k in range(3):
        yield f(X * k, k / 7)


def one_hot(compiled):
    f = compiled(tg.value_and_grad(lambda w, t: np.mean(np.eye(3)[t] * tg.logsumexp(w))))
    for k in range(3):
        yield f(X[0] * k, np.array([k, 2 - k]))


RECORDINGS = {
    accumulated: 1, two_in_turn: 2, kinds_of_arguments: 1, cleared_afterwards: 1, arrays_that_it_makes: 1, one_hot: 1,
    one_cycle: 3, one_cycle_adam: 1, several_steps_in_a_call: 1, averages_written_in_two_ways: 1,
}  # fmt: skip


@pytest.mark.parametrize("program", RECORDINGS, ids=lambda p: p.__name__)
def test_programs(program):
    made = []

    def compiled(f):
        made.append(tg.compile(f))
        return made[-1]

    same(*([plain(r) for r in program(how)] for how in (compiled, lambda f: f)))
    assert sum(f.recorded for f in made) == RECORDINGS[program]


def test_a_long_source_stays_readable():
    """Long signatures are wrapped, runs of equal arguments are one line, long literals named."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), *[nn.Linear(3, 3) for _ in range(9)])
    optimizer = optim.Adam(net.parameters())

    def step(x, numbers):
        optimizer.zero_grad()
        loss = np.mean(net(x) ** 2) * sum(numbers) + np.sum(numbers[0] * np.eye(40))
        loss.backward()
        optimizer.step()
        return loss

    step = tg.compile(step)
    step(np.ones((2, 1, 8, 8), np.float32), [0.1] * 30)
    body = step.source[step.source.index("def step(") :]
    assert max(map(len, body.splitlines())) < 100
    for text in (
        "numbers_0 … numbers_29: float64 ()",
        "exp_avg3[...] = ",
        "np.eye(40",
        "c, (3, 3))",
    ):
        assert text in step.source
    assert step.source.count("zeros_like") == 0


def test_check_undoes_what_a_replay_did():
    net, _ = trained(optim.Adam, lr=0.1)
    f = tg.compile(lambda x: np.sum(net(x)).backward(), check=True)
    for k in range(1, 4):
        assert f(X) is None
        np.testing.assert_allclose(net.bias.grad.data, [2 * k, 2 * k])


@dataclasses.dataclass
class Pair:
    a: Any
    b: Any


def net_and(*do):
    net, optimizer = trained(optim.SGD, lr=0.1)

    def f(x):
        return [g(x, net, optimizer) for g in do][-1]

    return f


SCHEDULE = optim.StepLR(trained(optim.SGD, lr=0.1)[1], 1)
MISTAKES = {  # the message, what leads to it, and what it says to do
    "NumPy's functions": (lambda x: np.ma.array(x) * 2, lambda x: x * 2),
    "print after the call": (lambda x: print(x), lambda x: x),
    "return them, and print": (lambda x: {f"x = {x[0, 0]}": x}, lambda x: {"x": x[0, 0]}),
    "cannot record .flat of an array": (lambda x: x.flat[2], lambda x: x.ravel()[2]),
    r"x = x \+ 1 for x \+= 1": (lambda x: x.__iadd__(1), lambda x: x.copy().__iadd__(1)),
    r"np\.take\(x, i \+ np\.arange\(n\)\)":
        (lambda x: x[0, x.argmax() // 9 :], lambda x: np.take(x[0], x.argmax() // 9 + np.arange(2))),
    "none of NumPy's functions": (lambda x: np.frompyfunc(abs, 1, 1)(x), lambda x: abs(x)),
    "no text of numbers while recording: return": (lambda x: print(tg.tensor(x)) or x, lambda x: x),
    "no text of numbers": (lambda x: f"{tg.tensor(x).sum():.3f}", lambda x: tg.tensor(x).sum()),
    r"\.item\(\).*after the call": (lambda x: x.sum().item(), lambda x: x.sum()),
    "decide after the call": (lambda x: 1 if np.isnan(x).any() else x, lambda x: np.isnan(x).any()),
    r"draws from numpy\.random, which.*default_rng":
        (lambda x: x + np.random.random(), lambda x: x + np.random.default_rng(0).random()),
    "return them, in a tuple": (lambda x: Pair(x * 2, x), lambda x: (x * 2, x)),
    r"scheduler's step.*after the call\. .*, line": (lambda x: SCHEDULE.step(), lambda x: x),
    r"p\.data\[\.\.\.\] = value":
        (net_and(lambda x, net, _: setattr(net.bias, "data", x[0, :2])),
         net_and(lambda x, net, _: net.bias.data.__setitem__(..., x[0, :2]),
                 lambda x, net, _: net.bias.data.__imul__(2) * 1)),
}  # fmt: skip


@pytest.mark.parametrize("message", MISTAKES)
def test_what_is_refused_and_what_to_do_instead(message):
    wrong, right = MISTAKES[message]
    with pytest.raises(TraceError, match=message) as caught:
        tg.compile(wrong)(X)
    told = "keeps" in str(caught.value) or "draws" in str(caught.value)  # after the run: no line
    assert told or "test_compile_usage.py, line " in str(caught.value)
    f = tg.compile(right)
    same([plain(f(X * k)) for k in range(3)], [plain(right(X * k)) for k in range(3)])


class Params(NamedTuple):
    w: np.ndarray
    t: int


LOOP = types.SimpleNamespace(count=0, entries={})


def counting(x):
    return x * LOOP.count


def entries(x):
    return sum(LOOP.entries.values(), x)


RECORDED_OFTEN = {
    "the argument n was 20, now it is 21": (lambda x, n: x * n, lambda k: (X, k)),
    "the argument state_1 was 20, now it is 21": (lambda state: state.w, lambda k: (Params(X, k),)),
    r"the argument x was float64 \(20, 3\), now it is float64 \(21, 3\)":
        (lambda x: x * 2, lambda k: (np.ones((k, 3)),)),
    "the argument p was another SimpleNamespace":
        (lambda p: p.w * 2, lambda k: (types.SimpleNamespace(w=X),)),
    r"LOOP\.count was 20, now it is 21": (counting, lambda k: setattr(LOOP, "count", k) or (X,)),
    "a list or dict that it reads has other entries":
        (entries, lambda k: LOOP.entries.update({k: k}) or (X,)),
}  # fmt: skip


@pytest.mark.parametrize("what", RECORDED_OFTEN)
def test_recording_again_and_again_is_told_once(what):
    f, given = RECORDED_OFTEN[what]
    f = tg.compile(f)
    for k in range(1, 21):
        f(*given(k))
    with pytest.warns(RuntimeWarning, match=what) as caught:
        f(*given(21))
    assert caught[0].filename == __file__
    f(*given(22))


def test_one_replay_in_between_is_enough():
    f = tg.compile(lambda x, n: x * n)
    for k in range(30):
        f(X, k)
        f(X, k if k == 12 else k - 1)
