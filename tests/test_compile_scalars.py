"""tg.compile on graphs of single numbers: alike ones become arrays, the rest runs on floats."""

import itertools
import re

import numpy as np
import pytest

import tinygrad_lite as tg
from tests.test_compile import same
from tinygrad_lite.compiler.entries import entries, row_sums
from tinygrad_lite.transforms import leaves

RNG = np.random.default_rng(0)
N = 40
POINTS = RNG.normal(size=(N, 2)).tolist()


def parameters(n):
    return [tg.tensor(float(v), requires_grad=True) for v in RNG.uniform(-1, 1, n)]


def neuron(w, x):
    return np.tanh(w[0] * x[0] + w[1] * x[1] + w[2])


def training(loss, w):
    """A step of a loss of parameters, with the gradients."""

    def step():
        for p in w:
            p.grad = None
        total = loss(w)
        total.backward()
        return total, *[p.grad for p in w]

    return step


def one_differs(w):
    """Of one point another formula, and of another one a literal."""
    total = 0.0
    for k, x in enumerate(POINTS):
        value = neuron(w, x) * (3.0 if k == 5 else 2.0)
        total = total + (np.exp(value) if k == 7 else value)
    return total


def other_order(w):
    """A second layer that meets the numbers of the first one in another order, some twice."""
    first = [neuron(w, x) for x in POINTS]
    order = np.random.default_rng(1).integers(0, N, N)
    return sum(first[i] * first[k] ** 2 for k, i in enumerate(order))


def layers(w):
    """Two layers, as micrograd has them."""
    total = 0.0
    for x in POINTS:
        hidden = [neuron(w[3 * k : 3 * k + 3], x) for k in range(5)]
        total = total + tg.functional.relu(
            sum(v * h for v, h in zip(w[15:20], hidden, strict=True))
        )
    return total * (1 / N) + 0.01 * sum(p * p for p in w)


def used_outside(w):
    """Numbers of a group are used one by one, and among arrays."""
    first = [neuron(w, x) for x in POINTS]
    return first[3] * first[4] + np.sum(np.stack(first[:4]) ** 2) + first[0] / first[1]


def running(w):
    """Sums on the way to a sum, of which each is used again; literals among the terms."""
    sums = list(itertools.accumulate(neuron(w, x) for x in POINTS))
    total = 1
    for value in sums:
        total = total + value * value + 0.5
    return total + 2 * sum(w)


def recurrent(w):
    """The same number over and over, on a few series: one group per step."""
    total = 0.0
    for k in range(20):
        h = 0.1 * k
        for x in POINTS[:6]:
            h = np.tanh(w[0] * h + w[1] * x[0] + w[2])
        total = total + h
    return total


LOSSES = {  # the loss, how many parameters, how many lines of source at most
    "neuron": (lambda w: sum(neuron(w, x) for x in POINTS), 3, 30),
    "one differs": (one_differs, 3, 45),
    "other order": (other_order, 3, 160),
    "layers": (layers, 20, 80),
    "used outside": (used_outside, 3, 90),
    "running": (running, 3, 400),
    "literals": (lambda w: sum((w[0] * x for x, _ in POINTS), 2.0) ** 2 + 3 + w[0], 1, 30),
    "recurrent": (recurrent, 3, 120),
    "duplicates": (lambda w: sum(w[0] * w[1] for _ in range(N)) * np.exp(w[0] * w[1]), 2, 30),
    "quotients": (lambda w: sum((p / q) ** 3 for p in w for q in w), 5, 40),
    "second layer": (lambda w: sum(np.log(1 + p * p) for p in w) ** 2, 30, 60),
    "choices": (lambda w: sum(np.where(p > q, p * q, np.abs(p)) for p in w for q in w), 7, 60),
    "few": (lambda w: np.sin(w[0]) * w[1] + w[2] ** 2 / w[0] - np.maximum(w[1], 0), 3, 50),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name):
    """Those of the engine, on other numbers than those recorded."""
    loss, n, lines = LOSSES[name]
    w = parameters(n)
    step = training(loss, w)
    compiled = tg.compile(step)
    compiled()
    for p in w:
        p.data = p.data * 1.1 + 0.01
    same(compiled(), step(), exact=False)
    assert (len(compiled.recordings), compiled.missed) == (1, 0)
    assert compiled.source.count("\n") <= lines, compiled.source


def test_a_closed_form():
    """Of least squares, each point a graph of its own."""
    w, b = parameters(2)
    x, t = np.array(POINTS).T
    loss = training(lambda w: sum((w[0] * x + w[1] - t) ** 2 for x, t in POINTS), [w, b])
    compiled = tg.compile(loss)
    for _ in range(3):
        w.data, b.data = w.data + 0.5, b.data - 0.25
        value, dw, db = compiled()
        residual = w.data * x + b.data - t
        np.testing.assert_allclose(value.data, np.sum(residual**2), rtol=1e-12)
        np.testing.assert_allclose(dw.data, np.sum(2 * residual * x), rtol=1e-12)
        np.testing.assert_allclose(db.data, np.sum(2 * residual), rtol=1e-12)
        np.testing.assert_allclose(w.grad.data, dw.data)


def test_entries_of_arrays_and_second_order():
    def loss(w, x):
        pairs = sum(np.tanh(w * a) * b for a, b in x)
        return pairs + sum(np.exp(w * x[k, 1]) * x[-k, 0] for k in range(N))

    def both(w, x):
        return loss(w, x), tg.grad(tg.grad(loss))(w, x)

    x = np.array(POINTS)
    compiled = tg.compile(both)
    compiled(0.3, x)
    same(compiled(0.7, x + 1), both(0.7, x + 1), exact=False)
    assert compiled.source.count("\n") < 60
    assert compiled.missed == 0


def test_results_one_by_one():
    """Truths are no numbers to be summed, and zeros have signs."""
    w = parameters(9)

    def several():
        signs = [p * (-0.0 if k % 3 else 0.0) for p in w[:3] for k in range(N)]
        v = [p * 2 for p in w]
        truths = [(a > 0) + (b > 0) + (v[0] > 0) + (v[1] > 0) for a in v for b in v]
        zero = w[0] * w[0] + 1
        return (
            signs,
            truths,
            [neuron(w, x) for x in POINTS],
            zero * 0.0,
            zero * -0.0,
        )

    compiled = tg.compile(several)
    compiled()
    for p in w:
        p.data = -p.data
    same(compiled(), several(), exact=False)
    (mine, *_, plus, minus), (theirs, *_) = compiled(), several()
    assert [np.signbit(v.data) for v in mine] == [np.signbit(v.data) for v in theirs]
    assert np.signbit(plus.data) != np.signbit(minus.data)


def test_as_micrograd_does():
    """Inputs that are Tensors made inside, and .grad = 0: no gradient is kept for the inputs."""
    w = parameters(3)

    def step():
        inputs = [[tg.tensor(v, requires_grad=True) for v in x] for x in POINTS]
        loss = sum(neuron(w, x) for x in inputs)
        for p in w:
            p.grad = 0
        loss.backward()
        return loss, *[p.grad for p in w]

    compiled = tg.compile(step)
    compiled()
    first = [*compiled.recordings.values()]
    for _ in range(2):
        w[0].data = w[0].data + 0.1
        same(compiled(), step(), exact=False)
    assert [*compiled.recordings.values()] == first
    assert len(first[0].program.captured) == 3
    assert len(first[0].program.outputs) == 1 + 3 + 3  # the results, and three gradients


@pytest.mark.parametrize(
    ("index", "regular"),
    [
        (np.arange(24), True),
        (np.arange(3, 19, 5), True),
        (np.arange(20, 3, -4), True),
        (np.arange(8)[::-1], True),
        (np.repeat(np.arange(24), 3), True),
        (np.tile(np.arange(4, 10), 3), True),
        (np.tile(np.repeat([2, 5, 8], 2), 4), True),
        (np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0), True),
        (5 + np.arange(12).reshape(3, 4).T, True),
        (np.arange(24).reshape(2, 3, 4)[:, :2], False),
        (np.array([0, 1, 2, 4, 5, 7]), False),
        (np.array([0, 1, 3, 4, 5, 6]), False),
        (np.array([3, 1, 2, 0, 3]), False),
        (np.array([0, 2, 4, 1, 5, 3]), False),
    ],
)
def test_entries(index, regular):
    source = np.random.default_rng(0).normal(size=24)

    def write(op, call, args, shape, **kwargs):
        out = call(*args, **kwargs)
        assert out.shape == shape
        return out

    found = entries(source, index, write)
    assert (found is not None) == regular
    if regular:
        np.testing.assert_array_equal(found, source[index])


@pytest.mark.parametrize(
    ("rows", "regular"),
    [
        (np.arange(24).reshape(6, 4), True),
        (np.arange(24).reshape(6, 4).T, True),
        (np.arange(24).reshape(2, 3, 4).transpose(0, 2, 1).reshape(8, 3), True),
        (7 + np.arange(12).reshape(3, 4), True),
        (np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1).reshape(8, 3), False),
        (np.array([[0, 1, 2], [3, 5, 6]]), False),
    ],
)
def test_row_sums(rows, regular):
    source = np.random.default_rng(0).normal(size=24)
    sums = row_sums(source, rows, lambda op, call, args, shape, **kwargs: call(*args, **kwargs))
    assert (sums is not None) == regular
    if regular:
        np.testing.assert_allclose(sums, source[rows].sum(axis=1))


def test_updates_of_numbers():
    """Parameters of one number that the step itself changes."""
    results = []
    for wrap in (tg.compile, lambda f: f):
        w = [tg.tensor(v, requires_grad=True) for v in (0.5, -0.3, 0.1)]

        @wrap
        def step(w=w):
            loss = sum((neuron(w, x) - 1) ** 2 for x in POINTS)
            for p in w:
                p.zero_grad()
            loss.backward()
            with tg.no_grad():
                for p in w:
                    p -= 0.01 * p.grad
            return loss

        results.append([step() for _ in range(3)] + w)
    same(*results, exact=False)


def chain(a, b):
    """Enough operations to be worth floats."""
    for k in range(20):
        a = a * b + 0.5 / (k + 1)
    return a


@pytest.mark.parametrize(
    ("f", "first", "then"),
    [
        (lambda a, b: chain(a, b) / a, (1.0, 0.5), (0.0, 0.5)),
        (lambda a, b: chain(a, b) ** 3, (1.0, 0.5), (1e200, 0.9)),
        (lambda a, b: np.exp(chain(a, b)), (1.0, 0.5), (1e4, 1.0)),
        (lambda a, b: np.log(chain(a, b) - 1), (9.0, 1.0), (0.0, 0.5)),
        (lambda a, b: chain(a, b) ** 0.5, (1.0, 0.5), (-100.0, 1.0)),
        (lambda a, b: chain(a, b) ** -2, (1.0, 0.5), (3.0, 2.0)),
        (lambda a, b: 2 ** chain(a, b), (1.0, 0.5), (3.0, 1.0)),
        (lambda a, b: chain(np.maximum(a, 0.0), b) + np.minimum(1, a), (1.0, 0.5), (np.nan, 0.5)),
        (lambda a, b: np.sqrt(chain(a, b)) * np.abs(a), (1.0, 0.5), (-100.0, 1.0)),
        (lambda a, b: (chain(a, b) > 1, chain(a, b) * (chain(a, b) < 3)), (1.0, 0.5), (0.0, 0.1)),
        (lambda a, b: chain(a, b) * np.float32(0.5), (1.0, 0.5), (2.0, 0.1)),
    ],
)
def test_floats_give_what_numpy_gives(f, first, then):
    """Infinities and NaN too: where Python raises an error, f itself runs."""
    p, q = (tg.tensor(v, requires_grad=True) for v in first)
    compiled = tg.compile(lambda: f(p, q))
    with np.errstate(all="ignore"):
        same(compiled(), f(p, q))
        assert "float(" in compiled.source
        p.data, q.data = map(np.float64, then)
        same(compiled(), f(p, q), exact=False)


def test_float32_stays():
    w = [tg.tensor(np.float32(v), requires_grad=True) for v in (0.5, -0.3, 0.1)]
    step = training(lambda w: sum(neuron(w, x) for x in POINTS) * 0.5, w)
    compiled = tg.compile(step)
    compiled()
    assert all(v.dtype == np.float32 for v in compiled())
    same(compiled(), step(), exact=False)


def test_a_chain_of_100_000_instructions():
    a, x = tg.tensor(0.99, requires_grad=True), tg.tensor(0.01, requires_grad=True)

    @tg.compile
    def step():
        v = x
        a.grad = x.grad = None
        for _ in range(17_000):
            v = v * a + x
        v.backward()
        return v

    step()
    a.data = np.float64(0.999)
    value = step()
    n, r = 17_000, 0.999  # v = x (r^n + (1 - r^n) / (1 - r))
    slope = n * r ** (n - 1) + (1 - r**n) / (1 - r) ** 2 - n * r ** (n - 1) / (1 - r)
    np.testing.assert_allclose(value.data, 0.01 * (r**n + (1 - r**n) / (1 - r)), rtol=1e-9)
    np.testing.assert_allclose(a.grad.data, 0.01 * slope, rtol=1e-9)
    assert not re.search("np.float64.*\n.*np.float64.*\n.*np.float64.*\n.*np.float64", step.source)


UNARY = (
    np.tanh, np.sin, np.abs, lambda x: x**2, lambda x: -x, lambda x: x * 3, lambda x: 2 - x,
    lambda x: 1 / (1 + x * x), lambda x: (x * x + 1) ** 0.5, lambda x: np.log(x * x + 1),
    lambda x: np.maximum(x, 0.1), lambda x: np.where(x * 1 > 0, x, 0.1 * x), tg.functional.relu,
)  # fmt: skip
BINARY = (
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / (b * b + 1),
    lambda a, b: a + b + a, np.maximum, np.hypot,
)  # fmt: skip


def random_program(seed):
    """Numbers from numbers, many at a time: in order, shuffled, or as sums of products."""
    rng = np.random.default_rng(seed)
    w, x = parameters(rng.integers(1, 30)), rng.normal(size=rng.integers(2, (6, 30)))
    plan = tuple(rng.integers(1, 2**30, rng.integers(2, 8)).tolist())  # an array would be an input

    def loss(x):
        pools = [[p * 1.0 for p in w], *[[tg.tensor(v) for v in row] for row in x]]
        for step in plan:
            rng = np.random.default_rng(step)
            a, b = (pools[i] for i in rng.integers(len(pools), size=2))
            n, kind = rng.integers(1, 45), rng.integers(4)
            unary, binary = (table[rng.integers(len(table))] for table in (UNARY, BINARY))
            i, j = rng.integers(len(a), size=n), rng.integers(len(b), size=n)
            if kind == 0:
                pools.append([unary(v) for v in a])
            elif kind == 1:
                pools.append([binary(a[k % len(a)], b[k % len(b)]) for k in range(n)])
            elif kind == 2:
                pools.append([binary(a[k], b[m]) for k, m in zip(i, j, strict=True)])
            else:
                few = range(n % 7 + 1)
                pools.append([sum(a[i[k - t]] * b[j[t % n]] for t in few) for k in range(n)])
        total = sum(np.tanh(v) for pool in pools for v in pool[1:]) + w[0]
        return total, [pool[0] for pool in pools]

    return w, x, loss


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_random_programs(first):
    for seed in range(first, first + 20):
        w, x, loss = random_program(seed)

        def step(x, w=w, loss=loss):
            for p in w:
                p.grad = None
            total, some = loss(x)
            total.backward()
            return total, some, [p.grad for p in w]

        compiled = tg.compile(step)
        compiled(x)
        for p in w:
            p.data = p.data * 1.2 + 0.05
        for mine, theirs in zip(leaves(compiled(1.1 * x)), leaves(step(1.1 * x)), strict=True):
            np.testing.assert_allclose(mine.data, theirs.data, 1e-10, 1e-11)
        assert (len(compiled.recordings), compiled.missed) == (1, 0)
