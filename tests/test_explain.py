"""The ledger: what it prints is what the engine computes, and its formulas are true."""

import numpy as np
import pytest

import tinygrad_lite as tg
from tests.test_primitives import SAMPLED_ELSEWHERE
from tinygrad_lite.explain import FORMULAS, WORDS
from tinygrad_lite.primitives import BY_NAME


def leaf(data, name):
    t = tg.tensor(data, requires_grad=True)
    t.name = name
    return t


def neuron():
    x1, x2 = tg.tensor(2.0), tg.tensor(0.0)
    x1.name, x2.name = "x1", "x2"
    w1, w2, b = leaf(-3.0, "w1"), leaf(1.0, "w2"), leaf(6.8813735870195432, "b")
    n = x1 * w1 + x2 * w2 + b
    n.name = "n"
    return np.tanh(n), (w1, w2, b)


def test_the_ledger_of_a_neuron(capsys):
    out, _ = neuron()
    tg.explain(out)
    assert (
        capsys.readouterr().out
        == """\
backward pass of v4 = 0.7071: 5 operations
1. v4 = tanh(n) = 0.7071
     g = 1
     to n: g * (1 - v4**2) = 1 * 0.5 = 0.5
2. n = add(v3, b) = 0.8814
     g = 0.5
     to v3: g * 1 = 0.5 * 1 = 0.5
     to b: g * 1 = 0.5 * 1 = 0.5
3. v3 = add(v1, v2) = -6
     g = 0.5
     to v1: g * 1 = 0.5 * 1 = 0.5
     to v2: g * 1 = 0.5 * 1 = 0.5
4. v2 = multiply(x2, w2) = 0
     g = 0.5
     to w2: g * x2 = 0.5 * 0 = 0
5. v1 = multiply(x1, w1) = -6
     g = 0.5
     to w1: g * x1 = 0.5 * 2 = 1
leaves
     w1 = -3, w1.grad = 1
     w2 = 1, w2.grad = 0
     b = 6.881, b.grad = 0.5
"""
    )


def test_steps_are_what_backward_adds_up():
    rng = np.random.default_rng(0)
    x = tg.tensor(rng.normal(size=(5, 3)))
    w, b = leaf(rng.normal(size=(3, 4)), "w"), leaf(rng.normal(size=4), "b")
    z = x @ w + b
    loss = (tg.logsumexp(z, axis=1) - z[:, 1] * 2 + np.sum(w * w)).mean()
    steps = list(tg.backward_steps(loss))
    assert w.grad is None
    assert [s.op for s in steps[-2:]] == ["leaf", "leaf"]
    loss.backward()
    for t in (w, b):
        leaf_step = next(s for s in steps if s.label == t.name)
        np.testing.assert_array_equal(leaf_step.cotangent, t.grad.data)
        received = [c for s in steps for c in s.contributions if c.parent is t._node]
        np.testing.assert_allclose(sum(c.value for c in received), t.grad.data)
        assert [c.arrival for c in received] == list(range(1, len(received) + 1))
        assert {c.of for c in received} == {len(received)}
        np.testing.assert_allclose(received[-1].total, t.grad.data)
    with pytest.raises(tg.GraphFreedError):
        next(tg.backward_steps(loss))
    with pytest.raises(RuntimeError, match="constant"):
        tg.explain(tg.tensor(1.0))


def test_a_vector_needs_its_cotangent(capsys):
    y = leaf([1.0, 2.0], "x") ** 2
    with pytest.raises(ValueError, match="cotangent"):
        tg.explain(y)
    tg.explain(y, np.array([1.0, 10.0]))
    assert "x.grad = [2, 40]" in capsys.readouterr().out


NAMES = "exp exp2 log sqrt sin cos sinh cosh floor trunc sign pi"
NAMESPACE = {name: getattr(np, name) for name in NAMES.split()}


@pytest.mark.parametrize("name", sorted(set(FORMULAS) - {"variable", "copy", "astype"}))
def test_formulas_equal_the_rules(name):
    primitive = BY_NAME[name]
    point = {"arccosh": 1.7}.get(name, 0.6)
    args = [np.float64(v) for v in (point, 0.8)[: len(primitive.rules)]]
    out = primitive.forward(*args)
    for i, (formula, rule) in enumerate(zip(FORMULAS[name], primitive.rules, strict=True)):
        said = eval(formula, NAMESPACE, {"x": args[0], "y": args[-1], "out": out})
        expected = 0.0 if rule is None else rule(np.float64(1), out, *args)
        assert said == pytest.approx(expected, rel=1e-12), (name, i)


def test_every_primitive_is_explained():
    for name, primitive in BY_NAME.items():
        table = FORMULAS.get(name) or WORDS.get(name)
        if table:
            assert primitive.joint or len(table) == len(primitive.rules), name
        else:
            assert len(primitive.rules) < 2 or name in SAMPLED_ELSEWHERE, (
                f"say what the rules of {name} do"
            )
