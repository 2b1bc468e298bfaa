"""What a recording takes for granted of the world outside: all that changes there is seen, or refused.

Each case is built twice; one is compiled, and after the same changes both must say the same.
"""

import contextlib
import copy
import functools
import itertools

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite.transforms import leaves

X = np.arange(6.0).reshape(2, 3) / 7 + 0.1


def A(k=0):
    return np.array([1.0, 2.0, 3.0]) + k


def plain(result):
    """Copies that later writing does not reach."""
    return [np.array(v.data if isinstance(v, tg.Tensor) else v) for v in leaves(result)]


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        if isinstance(b, type):  # an error
            assert a is b
            continue
        for p, q in zip(plain(a), plain(b), strict=True):
            assert (p.shape, p.dtype) == (q.shape, q.dtype)
            tolerance = 1e-6 if p.dtype == np.float32 else 1e-12
            np.testing.assert_allclose(p, q, rtol=tolerance, atol=tolerance)


WORLD = """
import collections, functools, threading, types, weakref
import numpy as np, tinygrad_lite as tg
from tinygrad_lite import nn
from dataclasses import dataclass

class Box: pass
class Slotted: __slots__ = "v"
class Property: v = property(lambda self: self._v * 1, lambda self, v: setattr(self, "_v", v))
class Method:
    def times(self, x): return x * self.v
class Super(Method):
    def times(self, x): return super().times(x) + 1
class Network(nn.Module):
    def __init__(self): self.lin = nn.Linear(3, 3, dtype=float, rng=np.random.default_rng(0))
    def forward(self, x): return self.lin(x) * self.v
class Delegating:
    def __init__(self): self.__dict__["inner"] = Box()
    def __getattr__(self, name): return getattr(self.inner, name)
@dataclass(frozen=True)
class Frozen: v: object = None
Named = collections.namedtuple("Named", "v n")
box = Super()
ref = weakref.ref(box)
user = types.ModuleType("user")
v = keep = None

def closure():
    w = None
    def put(new): nonlocal w; w = new
    return (lambda x: (lambda y: (lambda: y * (w * 2))())(x)), put, lambda: w
def helper(x): return [y * (v * 2) for y in [x]][0]
def local(x):
    class Local: k = v * 2
    return x * Local.k
def odd(x, n): return even(x, n - 1) if n else x * v
def even(x, n): return odd(x + 1, n)
def several(x):
    for k in range(2): yield x * v
def default(x, w=None): return x * (w * 2)
def keyword(x, *, w=None): return x * (w * 2)
def double(g): return functools.wraps(g)(lambda *args: g(*args) * v)
part = functools.partial(keyword, w=None)
"""
PLACES = {  # what is done first, what f computes, how the place is set, how it is read
    "closure": ("f, put, get = closure()", "f(x)", "put(new)", "get()"),
    "global": ("", "x * (v * 2)", "v = new", "v"), "in a helper": ("", "helper(x)", "v = new", "v"),
    "class body": ("", "local(x)", "v = new", "v"), "recursion": ("", "odd(x, 3)", "v = new", "v"),
    "generator": ("", "sum(several(x))", "v = new", "v"), "decorated": ("g = double(lambda x: x)", "g(x)", "v = new", "v"),
    "default": ("", "default(x)", "default.__defaults__ = (new,)", "default.__defaults__[0]"),
    "keyword default": ("", "keyword(x)", "keyword.__kwdefaults__['w'] = new", "keyword.__kwdefaults__['w']"),
    "partial, keyword": ("", "part(x)", "part.keywords['w'] = new", "part.keywords['w']"),
    "partial": ("", "p(x)", "p = functools.partial(np.multiply, new)", "p.args[0]"),
    "tuple": ("", "x * (t[0] * t[1])", "t = (new, 2)", "t[0]"), "named": ("", "x * t.v * t.n", "t = Named(new, 2)", "t.v"),
    "module": ("", "x * (user.v * 2)", "user.v = new", "user.v"), "dict": ("d = {}", "x * (d['v'] * 2)", "d['v'] = new", "d['v']"),
    "odd key": ("d = {}", "x * d[1, 2]", "d[1, 2] = new", "d[1, 2]"), "braces": ("d = {}", "x * d['{0']", "d['{0'] = new", "d['{0']"), "values": ("d = {}", "x * sum(d.values())", "d['v'] = new", "d['v']"),
    "default dict": ("d = collections.defaultdict(int)", "x * d['v']", "d['v'] = new", "d['v']"),
    "user dict": ("d = collections.UserDict()", "x * d['v']", "d['v'] = new", "d['v']"),
    "list": ("d = [0, 1]", "x * d[0]", "d[0] = new", "d[0]"), "deque": ("d = collections.deque([0])", "x * d[0]", "d[0] = new", "d[0]"),
    "nested": ("d = {'a': [{}]}", "x * d['a'][0]['b'][0]", "d['a'][0]['b'] = (new, 1)", "d['a'][0]['b'][0]"),
    "object": ("box = Box()", "x * (box.v * 2)", "box.v = new", "box.v"), "slots": ("box = Slotted()", "x * box.v", "box.v = new", "box.v"),
    "property": ("box = Property()", "x * (box.v * 2)", "box.v = new", "box.v"),
    "namespace": ("box = types.SimpleNamespace()", "x * box.v", "box.v = new", "box.v"),
    "thread's": ("box = threading.local()", "x * box.v", "box.v = new", "box.v"),
    "frozen": ("", "x * box.v", "box = Frozen(new)", "box.v"),
    "frozen, forced": ("box = Frozen()", "x * box.v", "object.__setattr__(box, 'v', new)", "box.v"),
    "delegating": ("box = Delegating()", "x * box.v", "box.inner.v = new", "box.inner.v"),
    "getattr": ("", "x * getattr(box, ''.join('v'))", "box.v = new", "box.v"), "super": ("", "box.times(x)", "box.v = new", "box.v"),
    "bound method": ("m = box.times", "m(x)", "box.v = new", "box.v"), "weak": ("", "x * ref().v", "box.v = new", "box.v"),
    "class": ("box = Box()", "x * (box.v * 2)", "Box.v = new", "Box.v"),
    "shadowed": ("Method.v = 3", "x * (Super().v * 2)", "Super.v = new", "Super.v"),
    "instance, shadowing": ("Box.v = 3; box = Box()", "x * (box.v * 2)", "box.v = new", "box.v"),
    "network": ("net = Network()", "net(x)", "net.v = new", "net.v"),
    "tg.grad": ("", "tg.grad(lambda y: np.sum(np.sin(y) * (v * 2)))(x)", "v = new", "v"),
    "compiled": ("g = tg.compile(lambda y: y * (v * 2))", "g(x)", "v = new", "v"),
}  # fmt: skip
VALUES = {
    "array": A, "view": lambda: A()[::-1], "0-d": lambda: np.array(2.0), "int": lambda: 2, "NumPy's": lambda: np.float64(2.0),
    "Tensor": lambda: tg.tensor(A()), "tracked": lambda: tg.tensor(A(), requires_grad=True),
}  # fmt: skip


def in_place(v, put):
    getattr(v, "data", v)[...] += 10


def data(v, put):
    v.data = v.data * 3


NEW = A(5), A().astype(np.float32), np.ones((2, 3)), 3, True, 2.5, None
CHANGES = [
    in_place,
    data,
    lambda v, put: put(copy.copy(v)),
    lambda v, put: v.requires_grad_(not v.requires_grad),
]
CHANGES += [lambda v, put, new=new: put(copy.copy(new)) for new in NEW]


@functools.cache
def code(text):
    return compile(text, "users_own.py", "exec")


def called_and_changed(place, value, change, compiled):
    """The results of three calls, between which something changes."""
    world, results = {"__name__": "users_own"}, []
    first, result, setting, reading = PLACES[place]
    exec(code(f"{WORLD}\n{first}\ndef step(x): return {result}"), world)

    def put(new):
        world["new"] = new
        exec(code(setting), world)

    put(value())
    step = tg.compile(world["step"]) if compiled else world["step"]
    for k in range(3):
        try:
            results.append(plain(step(X * (k + 1))))
        except TypeError as error:  # a number times None
            results.append(type(error))
        with contextlib.suppress(TypeError, AttributeError, RuntimeError):  # not of this value
            change(eval(reading, world), put)
    return results


@pytest.mark.parametrize("place", PLACES)
def test_every_change_in_every_place_is_seen(place):
    for value, change in itertools.product(VALUES.values(), CHANGES):
        same(*[called_and_changed(place, value, change, compiled) for compiled in (True, False)])
