"""Programs as new users write them: eager and compiled agree, and nothing is recorded needlessly."""

import types
from typing import NamedTuple

import numpy as np
import pytest

import tinygrad_lite as tg
from tests.test_compile_outside import X, plain, same
from tinygrad_lite import nn, optim

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


RECORDINGS = {one_cycle: 3, one_cycle_adam: 1, several_steps_in_a_call: 1}


@pytest.mark.parametrize("program", RECORDINGS, ids=lambda p: p.__name__)
def test_programs(program):
    made = []

    def compiled(f):
        made.append(tg.compile(f))
        return made[-1]

    same(*([plain(r) for r in program(how)] for how in (compiled, lambda f: f)))
    assert sum(f.recorded for f in made) == RECORDINGS[program]


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
