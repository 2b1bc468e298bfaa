"""Where compiled results live: in place, in storage kept between calls, or anew; and the plan."""

import threading

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite.compiler.buffers import HUGE

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 300))
assert X.size >= HUGE


def embedded(x):
    """An update in place of a large array, which then leaves."""
    return tg.index_update(np.exp(x) * 2 + x * x, 0, 7.0)


INSIDE = {  # functions with large arrays inside, of which something is handed out
    "itself": lambda x: np.tanh(x * 2) * x,
    "and what it was made of": lambda x: (y := np.exp(x), y * 2 + 1, (y * 2 + 1) * x),
    "transposed": lambda x: (np.exp(x) * x).T,
    "a row": lambda x: (np.exp(x) * x)[3],
    "reshaped twice": lambda x: (y := (np.exp(x) * x).reshape(-1), y.reshape(100, -1) * 1.0),
    "halves": lambda x: np.split(np.exp(x) * x, 2),
    "diagonal": lambda x: np.diagonal(np.exp(x) @ x),
    "update": embedded,
    "product of products": lambda x: ((x @ x) * 0.5) @ ((x @ x.T) - x),
    "gradient": tg.grad(lambda x: np.sum(np.sin(x) * np.exp(-x * x) * x + np.tanh(x) * x)),
    "value and gradient": tg.value_and_grad(lambda x: np.sum(np.tanh(x @ x) ** 2)),
    "hvp": lambda x: tg.hvp(lambda y: np.sum(np.tanh(y) ** 3))(x, x + 1),
}


@pytest.mark.parametrize("name", INSIDE)
def test_nothing_kept_is_handed_out(name):
    f, compiled = INSIDE[name], tg.compile(INSIDE[name])
    inputs = [X, 0.5 * X, 2 - X]
    results = [compiled(x.copy()) for x in inputs]
    assert compiled.missed == 0
    for result, x in zip(results, inputs, strict=True):
        for mine, theirs in zip(*map(flat, (result, f(x))), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)
    known = compiled.latest.replay.__globals__.values()  # what the call holds: spare storage, too
    kept = [
        array for spare in known if type(spare) is list for room in spare for array in room or ()
    ]
    assert len(kept) == compiled.source.count("np.empty(")
    for array in kept:
        assert not any(np.may_share_memory(array, a) for r in results for a in flat(r))


def flat(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


def chain(x):
    for k in range(20):
        x = np.sin(x) * (k + 1)
        x = x @ x.T / 300
    return np.sum(x)


def test_storage_is_used_again():
    f = tg.compile(chain)
    np.testing.assert_allclose(f(X), chain(X))
    room = [line for line in f.plan if line.buffer.startswith("a")]
    assert len({line.buffer for line in room if line.buffer != "argument"}) == 2
    assert f.source.count("np.empty(") == 2
    namespace = {}
    exec(f.source, namespace)  # the source has storage of its own
    for x in (X, X / 2):
        np.testing.assert_allclose(namespace["step"](x), [chain(x)])


def test_threads_have_storage_of_their_own():
    f, wrong = tg.compile(chain), []
    inputs = [X * (1 + 0.01 * k) for k in range(4)]
    expected = [chain(x) for x in inputs]
    f(X)

    def work(x, value):
        wrong.extend(1 for _ in range(5) if not np.allclose(f(x), value, rtol=1e-12))

    threads = [threading.Thread(target=work, args=p) for p in zip(inputs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def trained():
    w = tg.tensor(np.zeros((3, 2)), requires_grad=True)
    w.name = "w"

    @tg.compile
    def step(x, t):
        w.zero_grad()
        with tg.scope("layer"):
            y = np.tanh(x @ w)
        loss = np.mean((y - t) ** 2)
        loss.backward()
        with tg.no_grad():
            w.__isub__(0.1 * w.grad)
        return loss

    step(np.ones((4, 3)), np.ones((4, 2)))
    return step


def test_the_plan_says_where_everything_is():
    plan = trained().plan
    assert [(line.text or line.name, line.buffer, line.last_use) for line in plan] == [
        ("x", "argument", 6),
        ("t", "argument", 4),
        ("w", "outside", 7),
        ("v0 = np.tanh(x @ w)", "new", 6),
        ("v1 = v0 - t", "new", 6),
        ("loss = (v1 * v1).mean()", "new", None),
        ("dw = x.T @ (0.25 * v1 * (1 - v0 * v0))", "new", None),
        ("w -= 0.1 * dw", "in place", None),
    ]
    assert [line.part for line in plan if line.text] == [
        "layer", "", "", "backward of layer", "update",
    ]  # fmt: skip
    assert [plan[3].reads, plan[6].reads, plan[7].reads] == [(0, 2), (0, 4, 3), (2, 6)]
    assert (plan[3].shape, plan[3].dtype, plan[3].bytes) == ((4, 2), "float64", 64)
    table = repr(plan).splitlines()
    assert table[0].split() == ["line", "shape", "dtype", "bytes", "buffer", "last", "use"]
    assert table[4].split()[-5:] == ["4×2", "float64", "64", "new", "6"]


def test_the_plan_as_a_picture():
    plan = trained().plan
    picture = plan.draw()
    for text in ("v0 = np.tanh(x @ w)", "layer", "backward of layer", "update", "in place"):
        assert text in picture.source
    assert "gradient" not in picture.source.replace("digraph", "")
    assert picture.source.count(" -> ") == sum(len(line.reads) for line in plan)
    assert "#161b22" in plan.draw(theme="dark").source


def test_the_source_says_which_part_a_line_is_of():
    source = trained().source
    places = [source.index(f"# {part}\n") for part in ("layer", "backward of layer", "update")]
    assert places == sorted(places)


def test_gradients_are_named_after_what_they_are_the_gradient_by():
    f = tg.compile(tg.value_and_grad(lambda w1, b1, w2, x: np.sum((np.tanh(x @ w1 + b1) @ w2) ** 2),
                                     argnums=(0, 1, 2)))  # fmt: skip
    f(*(np.ones(s) for s in ((3, 4), (4,), (4, 2), (5, 3))))
    lines = {line.split(" = ")[0].strip(): line for line in f.source.splitlines()}
    for name, made in {
        "dw1": "x.T @",
        "db1": ".sum(axis=0)",
        "dw2": "v0.T @",
        "loss": "sum",
    }.items():
        assert made in lines[name]
    assert "return loss, dw1, db1, dw2\n" in f.source


HOLDS = {
    "nobody": lambda w: None,
    "the Tensor": lambda w: w.grad,
    "the array": lambda w: w.grad.data,
    "a row": lambda w: w.grad.data[0],
    "memory": lambda w: memoryview(w.grad.data),
}


@pytest.mark.parametrize("who", HOLDS)
def test_a_gradient_is_written_over_the_last_one_unless_somebody_holds_that(who):
    w = tg.tensor(X, requires_grad=True)

    @tg.compile
    def step(x):
        w.zero_grad()
        loss = np.sum(np.exp(w * x))
        loss.backward()
        return loss

    step(X)
    assert "old=None" in step.source
    where = w.grad.data.ctypes.data
    held = HOLDS[who](w)
    before = np.array(getattr(held, "data", held) if who == "the Tensor" else held)
    step(X / 2)
    np.testing.assert_allclose(w.grad.data, np.exp(X * X / 2) * X / 2, rtol=1e-12)
    assert (w.grad.data.ctypes.data == where) == (who == "nobody")
    np.testing.assert_array_equal(
        getattr(held, "data", held) if who == "the Tensor" else held, before
    )
    w.grad = None
    step(X)
    np.testing.assert_allclose(w.grad.data, np.exp(X * X) * X, rtol=1e-12)
