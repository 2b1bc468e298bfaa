"""Optimisers, clipping and schedules: PyTorch's numbers, and nothing changed that should not be."""

import inspect
import json
import math
from functools import partial

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite import optim

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(8, 4)), RNG.normal(size=(8, 2))
START = [RNG.normal(size=(4, 3)), np.zeros(3), RNG.normal(size=(3, 2)), np.array(0.7)]

OPTIONS = {
    "SGD": [
        {},
        {"lr": 0.1},
        {"lr": 0.05, "momentum": 0.9},
        {"lr": 0.05, "momentum": 0.9, "dampening": 0.3},
        {"lr": 0.05, "momentum": 0.9, "dampening": -0.3},
        {"lr": 0.05, "momentum": 0.9, "nesterov": True},
        {"lr": 0.05, "weight_decay": 0.1},
        {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.5, "nesterov": True},
        {"lr": 0.01, "maximize": True},
        {"lr": 0.01, "maximize": True, "weight_decay": 0.2, "momentum": 0.5, "dampening": 0.1},
    ],
    "Adam": [
        {},
        {"lr": 0.05},
        {"lr": 0.05, "betas": (0.5, 0.6)},
        {"lr": 0.05, "betas": (0.0, 0.9)},
        {"lr": 0.05, "betas": (0.9, 0.3)},
        {"lr": 0.05, "eps": 0.1},
        {"lr": 0.05, "weight_decay": 0.1},
        {"lr": 0.05, "amsgrad": True},
        {"lr": 0.05, "amsgrad": True, "betas": (0.5, 0.6), "weight_decay": 0.3},
        {"lr": 0.02, "maximize": True, "weight_decay": 0.1},
    ],
    "RMSprop": [
        {},
        {"lr": 0.02},
        {"lr": 0.02, "alpha": 0.5},
        {"lr": 0.02, "eps": 0.1},
        {"lr": 0.02, "weight_decay": 0.1},
        {"lr": 0.01, "momentum": 0.9},
        {"lr": 0.01, "centered": True},
        {"lr": 0.005, "centered": True, "momentum": 0.5, "alpha": 0.9},
        {"lr": 0.01, "maximize": True},
        {"lr": 0.005, "maximize": True, "weight_decay": 0.2, "momentum": 0.9, "centered": True},
    ],
    "Adagrad": [
        {},
        {"lr": 0.1},
        {"lr": 0.1, "lr_decay": 0.1},
        {"lr": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "initial_accumulator_value": 0.5},
        {"lr": 0.1, "eps": 0.1},
        {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.01},
        {"lr": 0.1, "initial_accumulator_value": 2, "lr_decay": 0.5},
        {"lr": 0.05, "maximize": True},
        {"lr": 0.05, "maximize": True, "weight_decay": 0.3, "eps": 1e-3},
    ],
}
OPTIONS["AdamW"] = [*OPTIONS["Adam"][:-1], {"lr": 0.02, "maximize": True, "weight_decay": 0}]
CASES = [(name, options) for name, rows in OPTIONS.items() for options in rows]
all_cases = pytest.mark.parametrize(
    ("name", "options"), CASES, ids=[f"{n}-{i % 10}" for i, (n, _) in enumerate(CASES)]
)


def parameters(dtype=np.float64):
    return [tg.tensor(p, requires_grad=True, dtype=dtype) for p in START]


def grouped(params, options):
    """Two groups, the second with options of its own."""
    return [{"params": params[:2]}, {"params": params[2:], "lr": 0.5 * options.get("lr", 0.01)}]


def loss_of(params, x, y, tanh, mean):
    w, b, v, s = params
    return mean(tanh(s * (tanh(x @ w + b) @ v) - y) ** 2)  # bounded: it can be maximized too


def train(optimizer, params, steps, gradients=None):
    for i in range(steps):
        optimizer.zero_grad()
        if gradients is None:
            loss_of(params, X, Y, np.tanh, np.mean).backward()
        else:
            for p, g in zip(params, gradients[i], strict=True):
                p.grad = g
        before = [p.grad.data.copy() for p in params]
        optimizer.step()
        for p, g in zip(params, before, strict=True):
            assert np.array_equal(p.grad.data, g), "step() changed a gradient"
    return params


@all_cases
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_fifty_steps_are_those_of_torch(name, options, dtype):
    """In float32 with given gradients: those of a loss would magnify differences in rounding."""
    torch = pytest.importorskip("torch")
    ours = parameters(dtype)
    theirs = [torch.tensor(p.astype(dtype), requires_grad=True) for p in START]
    rng = np.random.default_rng(0)
    given = [[rng.normal(size=p.shape).astype(dtype) for p in START] for _ in range(50)]
    arrays = [p.data for p in ours]
    optimizer = getattr(optim, name)(grouped(ours, options), **options)
    train(optimizer, ours, 50, None if dtype == np.float64 else given)
    optimizer = getattr(torch.optim, name)(grouped(theirs, options), foreach=False, **options)
    for i in range(50):
        optimizer.zero_grad()
        if dtype == np.float64:
            loss_of(theirs, torch.tensor(X), torch.tensor(Y), torch.tanh, torch.mean).backward()
        else:
            for p, g in zip(theirs, given[i], strict=True):
                p.grad = torch.tensor(g)
        optimizer.step()
    for p, q, array, start in zip(ours, theirs, arrays, START, strict=True):
        assert p.dtype == dtype
        assert p.data is array or not p.ndim, "not in place"
        assert np.abs(p.data - start).max() > 1e-4
        error = np.abs(p.data - q.detach().numpy()).max() / np.abs(p.data).max()
        assert error <= (1e-12 if dtype == np.float64 else 1e-6)


def test_defaults_and_their_order_are_those_of_torch():
    torch = pytest.importorskip("torch")
    for name in OPTIONS:
        ours = list(inspect.signature(getattr(optim, name)).parameters.values())
        theirs = inspect.signature(getattr(torch.optim, name)).parameters
        assert [p.name for p in ours if p.kind != p.KEYWORD_ONLY] == [
            n for n in theirs if n in {p.name for p in ours if p.kind != p.KEYWORD_ONLY}
        ]
        for p in ours[1:]:
            assert p.default == theirs[p.name].default


@all_cases
def test_a_resumed_run_is_bit_identical(name, options):
    make = getattr(optim, name)
    whole, half = parameters(), parameters()
    train(make(grouped(whole, options), **options), whole, 20)
    first = make(grouped(half, options), **options)
    train(first, half, 9)
    state = first.state_dict()
    halfway = [p.data.copy() for p in half]
    train(first, half, 1)  # does not reach into the state
    for _ in range(2):  # neither does training from it
        rest = [tg.tensor(p, requires_grad=True) for p in halfway]
        second = make(grouped(rest, {"lr": 9}), lr=7)  # the state brings the options back
        second.load_state_dict(state)
        assert second.param_groups[1]["lr"] == first.param_groups[1]["lr"]
        train(second, rest, 11)
        for p, q in zip(whole, rest, strict=True):
            assert np.array_equal(p.data, q.data)
    third = make(grouped(parameters(np.float32), {}))
    third.load_state_dict(state)
    for entry in third.state.values():
        assert all(x.dtype == np.float32 for x in entry.values() if isinstance(x, np.ndarray))


def test_state_dict_is_arrays_and_plain_numbers():
    params = parameters(np.float32)
    optimizer = optim.Adam(grouped(params, {}), lr=np.float32(0.5), betas=[0.5, np.float64(0.9)])
    assert optimizer.state_dict()["state"] == {}
    train(optimizer, params, 3)
    state = optimizer.state_dict()
    assert [g["params"] for g in state["param_groups"]] == [[0, 1], [2, 3]]
    assert json.loads(json.dumps(state["param_groups"][0])) == {
        "params": [0, 1], "lr": 0.5, "betas": [0.5, 0.9], "eps": 1e-8, "weight_decay": 0.0,
        "amsgrad": False, "maximize": False,
    }  # fmt: skip
    assert list(state["state"]) == [0, 1, 2, 3]
    for p, entry in zip(params, state["state"].values(), strict=True):
        assert entry["step"] == 3
        for name in ("exp_avg", "exp_avg_sq"):
            assert type(entry[name]) is np.ndarray
            assert (entry[name].shape, entry[name].dtype) == (p.shape, np.float32)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adagrad"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_weight_decay_adds_exactly_its_share(name, shape):
    """A step of descent with lr=1 from a zero gradient moves by exactly lambda * w."""
    w = np.random.default_rng(1).normal(size=shape)
    p, q, r = (tg.tensor(w, requires_grad=True) for _ in range(3))
    p.grad = np.zeros(shape)
    optim.SGD([p], lr=1, weight_decay=0.125).step()
    assert np.array_equal(p.data, w - 0.125 * w)
    q.grad, r.grad = np.ones(shape), np.ones(shape) + 0.125 * w
    make = getattr(optim, name)
    make([q], weight_decay=0.125).step()
    make([r]).step()
    assert np.array_equal(q.data, r.data)


def test_adamw_decays_apart_from_the_gradient():
    w = np.array([1.0, -2.0])
    p = tg.tensor(w, requires_grad=True)
    p.grad = np.zeros(2)
    optim.AdamW([p], lr=0.5, weight_decay=0.25).step()
    assert np.array_equal(p.data, 0.875 * w)


def leaf(*shape, dtype=np.float64):
    return tg.tensor(np.ones(shape), requires_grad=True, dtype=dtype)


A, B = leaf(2), leaf(3)
USED = iter([A])
list(USED)
BAD = [  # arguments of SGD, exception, what the message says
    (([],), {}, ValueError, "generator"),
    ((USED,), {}, ValueError, "generator"),
    (([{"params": []}],), {}, ValueError, "generator"),
    (([{"params": [A]}, {"params": USED}],), {}, ValueError, "generator"),
    ((A,), {}, TypeError, "list of Tensors"),
    (({"params": [A]},), {}, TypeError, "list of Tensors"),
    (({A},), {}, TypeError, "list of Tensors"),
    (([{"params": {A}}],), {}, TypeError, "list of Tensors"),
    (([A, np.ones(2)],), {}, TypeError, "ndarray"),
    (([("weight", A)],), {}, TypeError, "tuple"),
    (([A, {"params": [B]}],), {}, TypeError, "dict"),
    (([{"params": [A]}, B],), {}, TypeError, "dict"),
    (([A, B * 2],), {}, ValueError, "parameter 1 .*computed"),
    (([A, B, A],), {}, ValueError, "parameter 2 .*twice"),
    (([{"params": [A]}, {"params": [B, A]}],), {}, ValueError, "parameter 1 .*twice"),
    (([tg.tensor([1.0])],), {}, ValueError, "requires grad"),
    (([{"lr": 1}],), {}, TypeError, "'params'"),
    (([{"params": [A], "lrr": 1}],), {}, TypeError, "lrr"),
    (([{"params": [A], "betas": (0, 0)}],), {}, TypeError, "betas"),
    (([{"params": [A], "lr": -1}],), {}, ValueError, "lr=-1"),
    (([{"params": [A], "nesterov": True}],), {}, ValueError, "nesterov"),
    (([A],), {"lr": -0.1}, ValueError, "lr=-0.1"),
    (([A],), {"lr": math.nan}, ValueError, "lr=nan"),
    (([A],), {"lr": math.inf}, ValueError, "lr=inf"),
    (([A],), {"momentum": -1}, ValueError, "momentum=-1"),
    (([A],), {"weight_decay": -1}, ValueError, "weight_decay=-1"),
    (([A],), {"dampening": math.nan}, ValueError, "dampening=nan"),
    (([A],), {"nesterov": True}, ValueError, "nesterov"),
    (([A],), {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "nesterov"),
    (([A],), {"beta": 1}, TypeError, "beta"),
    ((), {}, TypeError, "params"),
]


@pytest.mark.parametrize(("args", "options", "kind", "says"), BAD)
def test_bad_arguments(args, options, kind, says):
    with pytest.raises(kind, match=says):
        optim.SGD(*args, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {"betas": (0.9, 1.0)}),
        ("Adam", {"betas": (-0.1, 0.9)}),
        ("AdamW", {"betas": (0.9,)}),
        ("AdamW", {"betas": (0.9, 0.9, 0.9)}),
        ("Adam", {"eps": -1}),
        ("AdamW", {"weight_decay": -1}),
        ("RMSprop", {"alpha": -1}),
        ("RMSprop", {"momentum": -1}),
        ("Adagrad", {"lr_decay": -1}),
        ("Adagrad", {"initial_accumulator_value": -1}),
    ],
)
def test_options_out_of_range(name, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        getattr(optim, name)([A], **options)


def test_a_group_is_added_or_refused_whole():
    optimizer = optim.SGD([A], lr=0.5, momentum=0.25)
    for bad in ({"params": [B, A]}, {"params": [B, 1]}, {"params": B, "lr": -1}, {"params": []}):
        with pytest.raises((ValueError, TypeError)):
            optimizer.add_param_group(bad)
        assert len(optimizer.param_groups) == 1
    group = {"params": B, "lr": 1}
    optimizer.add_param_group(group)
    assert group == {"params": B, "lr": 1}
    assert optimizer.param_groups[1]["params"] == [B]
    assert (optimizer.param_groups[1]["lr"], optimizer.param_groups[1]["momentum"]) == (1, 0.25)


def read_only(p):
    p.data.flags.writeable = False


def reshape(p):
    p.grad = tg.tensor(np.ones(3))
    p.grad.data = np.ones((3, 1))


@pytest.mark.parametrize(
    ("spoil", "kind", "says"),
    [
        (read_only, ValueError, r"parameter 1 .*\(3,\).*writeable"),
        (reshape, ValueError, r"parameter 1 .*\(3,\).*\(3, 1\)"),
        (lambda p: setattr(p.grad, "data", np.ones(3, complex)), TypeError, "complex"),
    ],
)
def test_a_step_is_refused_before_anything_changes(spoil, kind, says):
    params = [leaf(2), leaf(3)]
    for p in params:
        p.grad = np.ones(p.shape)
    optimizer = optim.Adam(params)
    spoil(params[1])
    with pytest.raises(kind, match=says):
        optimizer.step()
    assert (params[0].data == 1).all()
    assert optimizer.state == {}


def test_what_has_no_gradient_is_skipped():
    free, frozen, later = leaf(2), tg.tensor([1.0]), leaf(3)
    optimizer = optim.Adam([free, frozen, later], weight_decay=0.5)
    free.grad, later.grad = np.ones(2), np.ones(3)
    later.requires_grad_(False)
    optimizer.step()
    assert (frozen.data == 1).all()
    assert (later.data == 1).all()
    assert (free.data != 1).all()
    assert list(optimizer.state_dict()["state"]) == [0]
    optimizer.zero_grad()
    assert free.grad is later.grad is None
    optimizer.step()
    assert optimizer.state_dict()["state"][0]["step"] == 1


def test_gradients_of_other_dtypes_and_layouts():
    p, q, r = (tg.tensor(np.ones((2, 3)), requires_grad=True, dtype=np.float32) for _ in range(3))
    q.data, r.data = np.asfortranarray(q.data), np.ones((3, 4), np.float32)[:, ::2].T
    for x, g in ((p, np.ones((2, 3), int)), (q, np.ones((3, 2)).T), (r, np.ones((2, 3)))):
        x.grad = tg.tensor(g)
    optim.Adam([p, q, r]).step()
    assert p.dtype == q.dtype == r.dtype == np.float32
    assert np.array_equal(p.data, q.data)
    assert np.array_equal(p.data, r.data)


@pytest.mark.parametrize("name", list(OPTIONS))
def test_a_step_allocates_no_arrays(name):
    tracemalloc = pytest.importorskip("tracemalloc")
    p = tg.tensor(np.ones(100_000), requires_grad=True)
    optimizer = getattr(optim, name)([p], weight_decay=0.1, maximize=True)
    p.grad = np.ones(100_000)
    optimizer.step()
    tracemalloc.start()
    try:
        optimizer.step()
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_closure():
    p = leaf(2)
    optimizer = optim.SGD([p], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with tg.no_grad():
        assert optimizer.step(closure).item() == 2
    assert (p.data == 0.5).all()
    assert optimizer.step() is None


def test_centered_rmsprop_stays_finite_on_constant_gradients():
    """E[g^2] - E[g]^2 may round to less than 0."""
    p = tg.tensor(np.zeros(1000), requires_grad=True)
    optimizer = optim.RMSprop([p], centered=True, alpha=0.5)
    p.grad = np.random.default_rng(0).normal(size=1000)
    for _ in range(200):
        optimizer.step()
    assert np.isfinite(p.data).all()


def test_an_optimiser_of_ones_own():
    class Sign(optim.Optimizer):
        def update(self, w, g, state, s, lr=0.5):
            w -= np.multiply(np.sign(g, out=s), lr, out=s)

    p = leaf(2)
    p.grad = np.array([3.0, -0.1])
    Sign([p]).step()
    assert p.data.tolist() == [0.5, 1.5]


def broken(change):
    """A state after one step of Adam on A, B, with a change made to it."""
    params = [leaf(2), leaf(3)]
    for p in params:
        p.grad = np.ones(p.shape)
    optimizer = optim.Adam(params)
    optimizer.step()
    state = optimizer.state_dict()
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s["param_groups"].append(s["param_groups"][0]), "groups"),
        (lambda s: s["param_groups"][0]["params"].pop(), "groups"),
        (lambda s: s["param_groups"][0].pop("eps"), "options"),
        (lambda s: s["param_groups"][0].update(momentum=0.1), "options"),
        (lambda s: s["param_groups"][0].update(lr=-1), "lr=-1"),
        (lambda s: s["param_groups"][0].update(amsgrad=True), "state 0"),
        (lambda s: s["state"].update({2: s["state"][0]}), "parameter 2"),
        (lambda s: s["state"].update({"0": s["state"][0]}), "parameter .0."),
        (lambda s: s["state"][1].pop("exp_avg"), "state 1"),
        (lambda s: s["state"][1].pop("step"), "state 1"),
        (lambda s: s["state"][1].update(step=1.5), "state 1"),
        (lambda s: s["state"][1].update(exp_avg=np.ones(2)), r"state 1.*\(3,\).*\(2,\)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_whole(change, says):
    optimizer = optim.Adam([leaf(2), leaf(3)], lr=0.25)
    with pytest.raises(ValueError, match=says):
        optimizer.load_state_dict(broken(change))
    assert optimizer.state == {}
    assert optimizer.param_groups[0]["lr"] == 0.25
    with pytest.raises(ValueError, match="options"):
        optim.SGD([leaf(2), leaf(3)]).load_state_dict(broken(lambda s: None))


# Clipping


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", [1, 2, 2.0, 3.5, math.inf, "inf"])
@pytest.mark.parametrize("limit", [1e-3, 1.0, 7.5, 1e6])
def test_clip_grad_norm_is_that_of_torch(dtype, order, limit):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    grads = [rng.normal(size=p.shape).astype(dtype) for p in START]
    ours = parameters(dtype)
    theirs = [torch.tensor(p.astype(dtype), requires_grad=True) for p in START]
    for p, q, g in zip(ours, theirs, grads, strict=True):
        p.grad, q.grad = tg.tensor(g), torch.tensor(g)
    held = [p.grad for p in ours]
    total = optim.clip_grad_norm_(iter(ours), limit, order)
    expected = torch.nn.utils.clip_grad_norm_(theirs, limit, float(order)).item()
    assert type(total) is float
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    assert abs(total - expected) <= tolerance * expected
    for p, q, g, old in zip(ours, theirs, grads, held, strict=True):
        assert p.grad.dtype == dtype
        assert np.abs(p.grad.data - q.grad.numpy()).max() <= tolerance * np.abs(g).max()
        assert np.array_equal(old.data, g), "an array that a user may hold was changed"
        assert p.grad is not old


@pytest.mark.parametrize("limit", [0, 0.1, 1.0, 10])
def test_clip_grad_value_is_that_of_torch(limit):
    torch = pytest.importorskip("torch")
    ours = parameters()
    theirs = [torch.tensor(p, requires_grad=True) for p in START]
    for p, q, g in zip(ours, theirs, START, strict=True):
        p.grad, q.grad = tg.tensor(g + 0.3), torch.tensor(g + 0.3)
    held = [p.grad for p in ours]
    optim.clip_grad_value_(ours, limit)
    torch.nn.utils.clip_grad_value_(theirs, limit)
    for p, q, g, old in zip(ours, theirs, START, held, strict=True):
        assert np.array_equal(p.grad.data, q.grad.numpy())
        assert np.array_equal(old.data, g + 0.3)


def test_clipping_edges():
    p, q = leaf(2), leaf(2, dtype=np.float32)
    assert optim.clip_grad_norm_([p, q], 1.0) == 0
    p.grad = np.array([math.inf, 1.0])
    with pytest.raises(RuntimeError, match="inf"):
        optim.clip_grad_norm_([p, q], 1.0, error_if_nonfinite=True)
    assert p.grad.data.tolist() == [math.inf, 1]
    p.grad = np.array([math.nan, 1.0])
    assert math.isnan(optim.clip_grad_norm_(p, 1.0))
    assert np.isnan(p.grad.data).all()
    q.grad = np.full(2, 3e30, np.float32)  # whose squares overflow in float32
    assert optim.clip_grad_norm_([q], 1.0) == pytest.approx(3e30 * math.sqrt(2))
    assert q.grad.data.tolist() == pytest.approx([0.5**0.5] * 2)
    for clip in (optim.clip_grad_norm_, optim.clip_grad_value_):
        for bad, limit, kind in (
            (iter([]), 1, ValueError),
            ([1.0], 1, TypeError),
            ([p], -1, ValueError),
            ([p], math.nan, ValueError),
        ):
            with pytest.raises(kind):
                clip(bad, limit)


# Schedules

LAMBDAS = [
    lambda t: 0.95**t,
    lambda t: 1 / (1 + t),
    lambda t: min(1.0, (t + 1) / 10),
    lambda t: 1.0,
    lambda t: 0.0,
    lambda t: math.sin(t) ** 2,
    lambda t: 2.0 ** (t // 30),
    lambda t: t,
    [lambda t: 0.5**t, lambda t: 0.9**t],
    [lambda t: 1 - t / 200, lambda t: (t % 7) / 7],
]
SCHEDULES = {
    "LambdaLR": [{"lr_lambda": f} for f in LAMBDAS],
    "StepLR": [
        {"step_size": n, "gamma": gamma}
        for n, gamma in [(1, 0.9), (2, 0.5), (7, 0.1), (10, 1.0), (30, 0.3), (50, 2.0), (200, 0.1),
                         (3, 0.99), (99, 0.0), (13, 0.7)]
    ] + [{"step_size": 5}],
    "CosineAnnealingLR": [
        {"T_max": n, "eta_min": low}
        for n, low in [(1, 0), (2, 0.01), (10, 0), (33, 1e-3), (50, 0.05), (60, 0), (100, 0.02),
                       (120, 0), (200, 1e-6), (119, 0.3)]
    ] + [{"T_max": 40}],
    "OneCycleLR": [
        {"max_lr": 0.3, "total_steps": 120, **row}
        for row in [
            {},
            {"max_lr": [0.3, 0.6]},
            {"total_steps": None, "epochs": 12, "steps_per_epoch": 10},
            {"pct_start": 0.0},
            {"pct_start": 1.0},
            {"pct_start": 0.45, "anneal_strategy": "linear"},
            {"three_phase": True},
            {"three_phase": True, "anneal_strategy": "linear", "pct_start": 0.4},
            {"three_phase": True, "pct_start": 0.6},
            {"cycle_momentum": False},
            {"base_momentum": 0.5, "max_momentum": [0.8, 0.9]},
            {"div_factor": 2.0, "final_div_factor": 10.0},
            {"total_steps": 125, "pct_start": 0.333},
            {"total_steps": 300, "pct_start": 0.001},
        ]
    ],
}  # fmt: skip
ROWS = [(name, row) for name, rows in SCHEDULES.items() for row in rows]


def two_groups(module, name="SGD", tensor=tg.tensor):
    one, two = (tensor([x], requires_grad=True) for x in (1.0, 2.0))
    options = {"momentum": 0.9} if name == "SGD" else {}
    groups = [{"params": [one]}, {"params": [two], "lr": 0.05}]
    return getattr(module, name)(groups, lr=0.2, **options)


def settings(optimizer):
    return [
        x
        for g in optimizer.param_groups
        for x in (g["lr"], *g.get("betas", ()), g.get("momentum", 0))
    ]


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
@pytest.mark.parametrize(
    ("schedule", "row"), ROWS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(ROWS)]
)
def test_schedules_are_those_of_torch(schedule, row, name):
    torch = pytest.importorskip("torch")
    a, b = two_groups(optim, name), two_groups(torch.optim, name, torch.tensor)
    ours = getattr(optim, schedule)(a, **row)
    theirs = getattr(torch.optim.lr_scheduler, schedule)(b, **row)
    for t in range(120):
        assert settings(a) == pytest.approx(settings(b), rel=1e-11, abs=1e-14), f"step {t}"
        assert ours.get_last_lr() == [g["lr"] for g in a.param_groups]
        assert ours.last_epoch == t
        if t < 119:
            b.step()
            ours.step()
            theirs.step()


PLATEAUS = [
    {},
    {"patience": 0},
    {"patience": 3, "factor": 0.5},
    {"patience": 2, "cooldown": 3},
    {"patience": 2, "cooldown": 1, "min_lr": 0.01},
    {"patience": 1, "factor": 0.3, "min_lr": [0.001, 0.02]},
    {"mode": "max", "patience": 2},
    {"mode": "max", "threshold_mode": "abs", "threshold": 0.3, "patience": 2},
    {"threshold_mode": "abs", "threshold": 0.2, "patience": 2},
    {"threshold": 0.1, "patience": 4, "factor": 0.7},
    {"patience": 0, "factor": 0.5, "eps": 1e-3},
    {"mode": "max", "patience": 0, "cooldown": 5, "factor": 0.0},
]


@pytest.mark.parametrize("row", PLATEAUS)
@pytest.mark.parametrize("offset", [3.0, 0.0, -3.0])
def test_plateaus_are_those_of_torch(row, offset):
    torch = pytest.importorskip("torch")
    a, b = two_groups(optim), two_groups(torch.optim, tensor=torch.tensor)
    ours = optim.ReduceLROnPlateau(a, **row)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(b, **row)
    rng = np.random.default_rng(4)
    metrics = offset + np.cumsum(rng.normal(size=120)) * 0.1
    metrics[50] = math.nan
    for metric in metrics:
        ours.step(tg.tensor(metric))
        theirs.step(metric)
        assert settings(a) == pytest.approx(settings(b), rel=1e-13, abs=0)
        assert ours.get_last_lr() == theirs.get_last_lr()
        assert ours.best == theirs.best
        assert ours.num_bad_epochs == theirs.num_bad_epochs
        assert ours.cooldown_counter == theirs.cooldown_counter


@pytest.mark.parametrize("order", ["optimizer first", "schedule first"])
@pytest.mark.parametrize(
    ("schedule", "row"),
    [(name, rows[5]) for name, rows in SCHEDULES.items()]
    + [("ReduceLROnPlateau", {"patience": 1, "cooldown": 2})],
)
def test_a_resumed_schedule_goes_on_exactly(schedule, row, order):
    def steps(schedule, start, stop):
        for t in range(start, stop):
            schedule.step(*[math.sin(t)] * isinstance(schedule, optim.ReduceLROnPlateau))

    make = partial(getattr(optim, schedule), **row)
    a, b = two_groups(optim), two_groups(optim)
    whole, half = make(a), make(b)
    steps(whole, 0, 50)
    steps(half, 0, 21)
    states = b.state_dict(), half.state_dict()
    assert json.loads(json.dumps(states[1])) == states[1]
    c = two_groups(optim)
    if order == "optimizer first":
        c.load_state_dict(states[0])
        resumed = make(c)
    else:
        resumed = make(c)
        c.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    alone = two_groups(optim)
    make(alone).load_state_dict(states[1])
    assert settings(alone) == settings(b)
    assert settings(c) == settings(b)
    steps(resumed, 21, 50)
    assert settings(c) == settings(a)
    assert resumed.state_dict() == whole.state_dict()
    if schedule != "ReduceLROnPlateau":
        d = two_groups(optim)
        d.load_state_dict(states[0])
        steps(make(d, last_epoch=20), 21, 50)
        assert settings(d) == settings(a)


def test_the_rate_after_the_last_step_of_a_cycle():
    """PyTorch extrapolates there: with "linear" to below 0."""
    for strategy in ("cos", "linear"):
        optimizer = two_groups(optim)
        schedule = optim.OneCycleLR(optimizer, 1.0, 10, anneal_strategy=strategy)
        for _ in range(10):
            schedule.step()
        assert schedule.get_last_lr() == pytest.approx([1 / 25 / 1e4] * 2)
        state = schedule.state_dict()
        with pytest.raises(ValueError, match=r"11 .*10 steps"):
            schedule.step()
        assert schedule.state_dict() == state


@pytest.mark.parametrize(
    ("schedule", "row", "kind", "says"),
    [
        ("StepLR", {"step_size": 0}, ValueError, "step_size"),
        ("CosineAnnealingLR", {"T_max": -1}, ValueError, "T_max"),
        ("LambdaLR", {"lr_lambda": [math.sqrt]}, ValueError, "2 groups"),
        ("LambdaLR", {"lr_lambda": 0.5}, TypeError, "callable"),
        ("StepLR", {"step_size": 5, "last_epoch": 3}, ValueError, "initial_lr"),
        ("OneCycleLR", {"max_lr": 1}, ValueError, "total_steps"),
        ("OneCycleLR", {"max_lr": 1, "total_steps": -3}, ValueError, "total_steps"),
        ("OneCycleLR", {"max_lr": 1, "epochs": 3}, ValueError, "total_steps"),
        ("OneCycleLR", {"max_lr": 1, "total_steps": 9, "pct_start": 2}, ValueError, "pct_start"),
        ("OneCycleLR", {"max_lr": 1, "total_steps": 9, "anneal_strategy": "x"}, ValueError, "'x'"),
        ("OneCycleLR", {"max_lr": [1, 2, 3], "total_steps": 9}, ValueError, "2 groups"),
        ("ReduceLROnPlateau", {"mode": "x"}, ValueError, "mode"),
        ("ReduceLROnPlateau", {"threshold_mode": "x"}, ValueError, "threshold_mode"),
        ("ReduceLROnPlateau", {"factor": 1.0}, ValueError, "factor"),
        ("ReduceLROnPlateau", {"min_lr": [1, 2, 3]}, ValueError, "2 groups"),
    ],
)
def test_bad_schedules_change_nothing(schedule, row, kind, says):
    optimizer = two_groups(optim)
    before = optimizer.state_dict()
    with pytest.raises(kind, match=says):
        getattr(optim, schedule)(optimizer, **row)
    assert optimizer.state_dict() == before
    with pytest.raises((TypeError, ValueError)):
        getattr(optim, schedule)("SGD", **row)


def test_bad_states_of_schedules_and_optimisers_without_momentum():
    schedule = optim.StepLR(two_groups(optim), 3)
    one = optim.StepLR(optim.SGD([A]), 3)
    for state in (one.state_dict(), optim.ReduceLROnPlateau(optim.SGD([A])).state_dict(), {}):
        with pytest.raises(ValueError, match="state"):
            schedule.load_state_dict(state)
    with pytest.raises(ValueError, match="cycle_momentum"):
        optim.OneCycleLR(optim.Adagrad([A]), 1.0, 10)


def test_an_unknown_option_names_the_known_ones():
    with pytest.raises(
        TypeError, match=r"Adam: .*'momentum'; its arguments are \(params, lr=0.001"
    ):
        optim.Adam([tg.tensor(1.0, requires_grad=True)], momentum=0.9)


@pytest.mark.parametrize("schedule", ["StepLR", "ReduceLROnPlateau"])
def test_a_group_that_a_schedule_does_not_know(schedule):
    optimizer = optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.1)
    options = {"patience": 0} if schedule == "ReduceLROnPlateau" else {"step_size": 1}
    steps = getattr(optim, schedule)(optimizer, **options)
    saved, arguments = steps.state_dict(), (1.0,) if "patience" in options else ()
    optimizer.add_param_group({"params": tg.tensor(1.0, requires_grad=True)})
    for call in (
        lambda: [steps.step(*arguments) for _ in range(3)],
        lambda: steps.load_state_dict(saved),
    ):
        with pytest.raises(ValueError, match="of 1 groups, but the optimiser has 2 by now"):
            call()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]
    assert steps.state_dict() == saved


def test_a_network_in_place_of_its_parameters():
    class Net:
        def parameters(self): ...

    for wrong in (Net(), Net().parameters):
        with pytest.raises(TypeError, match=r"such as net.parameters\(\)"):
            optim.Adam(wrong)
