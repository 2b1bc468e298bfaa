"""The backward pass: sums, ownership, freeing, cycles, depth."""

import gc
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite.backward import ancestors, fit, gradients
from tinygrad_lite.primitives import BY_NAME, PRIMITIVES

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])


def leaf(data):
    return tg.tensor(data, requires_grad=True)


def test_fan_out_is_summed():
    x = leaf(3.0)
    y = x * x
    (y + y * x + x).backward()
    assert x.grad.item() == 2 * 3 + 3 * 9 + 1


def test_grad_accumulates_until_cleared():
    x = leaf(X)
    for _ in range(3):
        (x * 2).sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.full(X.shape, 6.0))
    first = x.grad
    x.zero_grad()
    assert x.grad is None
    np.testing.assert_array_equal(first.data, 6.0)


def test_second_backward_does_not_double_interior_gradients():
    x = leaf(2.0)
    loss = (x * x) * 3.0
    loss.backward(retain_graph=True)
    loss.backward(retain_graph=True)
    assert x.grad.item() == 24.0


def test_freed_graph():
    x = leaf(X)
    loss = np.exp(x).sum()
    loss.backward()
    with pytest.raises(tg.GraphFreedError, match="retain_graph=True"):
        loss.backward()
    assert isinstance(tg.GraphFreedError(), RuntimeError)
    np.testing.assert_array_equal(x.grad.data, np.exp(X))  # the refused pass changed nothing
    trunk = np.sin(x)
    (trunk * 2).sum().backward()
    other = leaf(X)
    with pytest.raises(tg.GraphFreedError):
        (trunk * other).sum().backward()
    assert other.grad is None


def test_freed_graph_keeps_its_structure():
    loss = np.exp(leaf(X)).sum()
    loss.backward()
    assert [n.name for n in ancestors([loss.grad_fn])] == ["leaf", "exp", "sum"]
    assert loss.grad_fn.parents[0].shape == X.shape


def test_values_are_freed_as_the_pass_goes():
    x = leaf(np.ones(1000))
    y = np.exp(x)
    value = weakref.ref(y.data)
    loss = y.sum()
    del y
    assert value() is not None  # exp's rule reads its output
    loss.backward()
    assert value() is None


def test_an_activation_that_no_rule_needs_is_freed_at_once():
    x = leaf(np.ones(1000))
    y = x + 1.0
    value = weakref.ref(y.data)
    loss = (y + 2.0).sum()
    del y
    assert value() is None
    loss.backward()
    np.testing.assert_array_equal(x.grad.data, 1.0)


def test_operators_between_tensors_keep_no_more_than_their_rules_read():
    x, y = leaf(np.ones(1000)), leaf(np.ones(1000))
    h = x * 1.0
    value = weakref.ref(h.data)
    total = h + y
    del h
    assert value() is None  # addition reads nothing
    h = x * 1.0
    value = weakref.ref(h.data)
    loss = total.sum() + h @ y  # the product of two vectors reads both, though it is one number
    del h
    assert value() is not None
    loss.backward()
    assert value() is None


def test_rules_run_only_where_needed():
    calls = []
    spy = tg.primitive(
        lambda x, y: x * y,
        lambda g, out, x, y: calls.append("x") or g * y,
        lambda g, out, x, y: calls.append("y") or g * x,
        name="spy",
    )
    spy(X, leaf(X)).sum().backward()
    assert calls == ["y"]
    x, y = leaf(X), leaf(X)
    gradients({spy(x, y).sum()._node: np.float64(1)}, [x._node])
    assert calls == ["y", "x"]
    del PRIMITIVES[spy.function], BY_NAME["spy"]


def test_cotangent():
    x = leaf(X)
    y = x * 2
    with pytest.raises(ValueError, match=r"\(2, 3\).*needs its cotangent"):
        y.backward()
    with pytest.raises(ValueError, match=r"cannot have shape \(3,\)"):
        y.backward(np.ones(3))
    y.backward(X)
    np.testing.assert_array_equal(x.grad.data, 2 * X)
    with pytest.raises(RuntimeError, match="constant"):
        tg.tensor(1.0).backward()
    one = leaf([[2.0]])
    (one * 3).backward()  # one entry needs no cotangent
    assert one.grad.shape == (1, 1)


def test_gradients_are_never_aliases_and_always_writable():
    x, y = leaf(X), leaf(X)
    z = x + y
    g = np.ones(X.shape)
    z.backward(g)
    broadcast = leaf(X)
    broadcast.sum().backward()
    root = leaf(X)
    root.backward(g)
    arrays = [x.grad.data, y.grad.data, broadcast.grad.data, root.grad.data, g, X]
    for i, a in enumerate(arrays):
        assert a.flags.writeable
        assert not any(np.shares_memory(a, b) for b in arrays[i + 1 :])
    retained = leaf(X)
    h = retained * 1.0
    h.retain_grad()
    (h + 0.0).sum().backward()
    h.grad.data[:] = 7
    np.testing.assert_array_equal(retained.grad.data, 1.0)


def test_a_joint_rule_may_return_one_array_twice():
    def rule(needs, g, out, x, y):
        piece = g * 2.0
        return piece, piece

    both = tg.primitive(lambda x, y: 2.0 * (x + y), joint=rule, name="both")
    x, y = leaf(X), leaf(X)
    (both(x, y) + x + x).sum().backward()
    np.testing.assert_array_equal(x.grad.data, 4.0)
    np.testing.assert_array_equal(y.grad.data, 2.0)
    assert not np.shares_memory(x.grad.data, y.grad.data)
    del PRIMITIVES[both.function], BY_NAME["both"]


def test_accumulating_in_place_touches_nobody_else():
    """Three arrivals add into a buffer; the arrays that arrived belong to others."""
    x = leaf(X)
    y = x * 1.0
    y.retain_grad()
    z = (y + x) + (x + x) + x * X
    z.sum().backward()
    np.testing.assert_allclose(x.grad.data, 4 + X)
    np.testing.assert_array_equal(y.grad.data, 1.0)


def test_gradient_has_its_tensors_dtype_and_shape():
    a, b = tg.tensor(X, requires_grad=True, dtype=np.float32), leaf(2.0)
    c = tg.tensor([1.0], requires_grad=True, dtype=np.float16)
    (a * b + c).sum().backward()
    assert [(t.grad.dtype, t.grad.shape) for t in (a, b, c)] == [
        (np.float32, (2, 3)),
        (np.float64, ()),
        (np.float16, (1,)),
    ]
    assert type(b.grad.data) is np.float64


def test_fit_refuses_a_wrong_rule():
    with pytest.raises(ValueError, match=r"returned shape \(2,\) for an argument of shape \(3,\)"):
        fit(np.ones(2), np.ones(3))
    np.testing.assert_array_equal(fit(np.ones((4, 2, 3)), np.ones((2, 1))), [[12.0], [12.0]])


def test_interior_grad_warns_and_can_be_retained():
    x = leaf(X)
    y = x * 2
    with pytest.warns(UserWarning, match="retain_grad"):
        assert y.grad is None
    y.retain_grad()
    (y * y).sum().backward()
    np.testing.assert_array_equal(y.grad.data, 4 * X)
    x.retain_grad()  # a leaf does so anyway
    with pytest.raises(RuntimeError, match="does not require"):
        tg.tensor(1.0).retain_grad()


def test_create_graph():
    x = leaf(X)
    (x**3).sum().backward(create_graph=True)
    g = x.grad
    np.testing.assert_allclose(g.data, 3 * X**2)
    x.zero_grad()
    g.sum().backward()
    np.testing.assert_allclose(x.grad.data, 6 * X)


def test_create_graph_makes_no_cycle():
    gc.collect()
    gc.disable()
    try:
        x = leaf(np.ones(1000))
        dead = weakref.ref(x)
        np.sin(x).sum().backward(create_graph=True)
        del x
        assert dead() is None
    finally:
        gc.enable()


def step():
    w = leaf(np.ones((50, 50)))
    h = np.tanh(w @ w)
    loss = (h * h).mean() + tg.logsumexp(w)
    loss.backward()
    tg.grad(lambda v: np.sum(np.sin(v)))(np.ones(100))
    tg.hessian(lambda v: np.sum(v**3))(np.ones(3))
    tg.checkpoint(lambda v: np.sin(v @ w))(w).sum().backward()
    return loss


def test_a_dropped_graph_is_freed_with_the_garbage_collector_off():
    """100 graphs of some 500 kB each: neither a node nor an array stays behind.

    (A few bytes per step do: CPython keeps lists of free tuples, which only its collector empties.)
    """

    def count():
        return sum(type(o) in (tg.Node, tg.Tensor) for o in gc.get_objects())

    step()
    gc.collect()
    gc.disable()
    try:
        nodes = count()
        tracemalloc.start()
        step()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            step()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert count() == nodes
        assert gc.collect() == 0
        assert after - before < 200_000, f"{after - before} bytes stayed behind"
    finally:
        gc.enable()


def chain(n):
    a, b = leaf(0.999999), leaf(1e-6)
    v = a
    for _ in range(n // 2):
        v = v * a + b
    return a, b, v


def test_a_million_operations_in_a_row():
    import copy
    import pickle

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        n = 1_000_000
        a, b, v = chain(n)
        a2, v2 = copy.deepcopy((a, v))
        v2.backward()
        a3, v3 = pickle.loads(pickle.dumps((a, v)))
        assert v3.item() == v.item()
        v.backward()
        assert a2.grad.item() == a.grad.item()
        # the closed form: v = a^(m+1) + b (1 + a + ... + a^(m-1)), with m = n / 2
        m, x = n // 2, 0.999999
        powers = np.cumprod(np.full(m, x)) / x
        assert b.grad.item() == pytest.approx(powers.sum(), rel=1e-9)
        slope = (m + 1) * x**m + 1e-6 * np.sum(np.arange(1, m) * powers[:-1])
        assert a.grad.item() == pytest.approx(slope, rel=1e-9)
        del v, v2, v3, a2, a3
    finally:
        sys.setrecursionlimit(limit)


def test_wide_fan_out_and_fan_in():
    x = leaf(1.0)
    sum((x * float(i) for i in range(1000)), 0.0).backward()
    assert x.grad.item() == 499500.0
    parts = [leaf(np.ones(2)) for _ in range(300)]
    np.concatenate(parts).sum().backward()
    assert all(np.array_equal(t.grad.data, [1.0, 1.0]) for t in parts)


def test_diamonds_are_linear():
    x = leaf(1.0)
    y = x
    for _ in range(200):  # 2^200 paths
        y = (y + y) * 0.5
    y.backward()
    assert x.grad.item() == 1.0


def test_backward_inside_no_grad_and_inside_recording():
    x = leaf(2.0)
    loss = x * x
    with tg.no_grad():
        loss.backward(retain_graph=True)
    assert x.grad.item() == 4.0
    loss.backward()
    assert not x.grad.requires_grad


def test_user_assigned_grad():
    x = leaf(X)
    mine = np.ones(X.shape)
    x.grad = mine
    x.sum().backward()
    np.testing.assert_array_equal(x.grad.data, 2.0)
    np.testing.assert_array_equal(mine, 1.0)
    with pytest.raises(ValueError, match="cannot have shape"):
        x.grad = np.ones(3)


def test_a_parameter_that_changed_before_backward_is_refused():
    """Its graph would read the new values: silently wrong. Only what a rule reads matters."""
    w, b = leaf(np.array([1.0, 2.0])), leaf(np.array([0.5, 0.5]))
    w.name = "w"
    late, harmless = np.sum(w * w + b), np.sum(b + w)
    optimizer = tg.optim.SGD([w, b], lr=0.1)
    np.sum(w * w).backward()
    optimizer.step()
    with pytest.raises(
        RuntimeError, match=r"w of shape \(2,\) was changed in place after multiply"
    ):
        late.backward()
    harmless.backward()  # a sum reads no values
    np.testing.assert_array_equal(b.grad.data, 1.0)
    again = np.sum(w * w)
    again.backward(retain_graph=True)
    with tg.no_grad():
        w -= 0.1
    with pytest.raises(RuntimeError, match="changed in place"):
        again.backward()
    x = np.ones((3, 2))
    layer = tg.nn.Linear(2, 2, dtype=float)
    out = layer(tg.tensor(x, requires_grad=True)).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="weight of shape"):
        out.backward()
    fine = layer(x).sum()  # reads x, and not the weight, which is only differentiated by
    layer.load_state_dict(layer.state_dict())
    fine.backward()
    number = leaf(3.0)
    square = number * number
    with tg.no_grad():
        number -= 1.0  # numbers are replaced, not written into: the graph has the old one
    square.backward()
    assert number.grad.item() == 6.0


def test_in_place_updates_reach_frozen_parameters():
    q = tg.nn.Parameter(np.ones(2)).requires_grad_(False)
    kept = q
    with tg.no_grad():
        q *= 0.5
        q += 1.0
    assert q is kept
    np.testing.assert_array_equal(kept.data, 1.5)
    with pytest.raises(RuntimeError, match="would change a parameter while recording"):
        q += 1.0
