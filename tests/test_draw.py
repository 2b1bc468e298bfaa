"""The first picture: structure, values, gradients, hostile names, limits."""

import copy
import pickle
import re
import shutil

import graphviz
import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite.draw.diagram import clean


def leaf(data, name=None):
    t = tg.tensor(data, requires_grad=True)
    t.name = name
    return t


def neuron():
    x, w, b = tg.tensor(2.0), leaf(-3.0, "w"), leaf(6.7, "b")
    x.name = "x"
    n = x * w + b
    n.name = "n"
    return np.tanh(n) ** 2


def cards(source):
    """id: label lines, of every node in a DOT text."""
    pattern = r'^\t(\w+) \[label=(?:"((?:[^"\\]|\\.)*)"|([\w.-]+)) '
    return {
        m[1]: (m[2] or m[3] or "").split("\\n") for m in re.finditer(pattern, source, re.MULTILINE)
    }


def test_structure_and_values():
    loss = neuron()
    picture = tg.draw(loss)
    assert isinstance(picture, graphviz.Digraph)
    assert picture.source.count("->") == 7
    found = {tuple(lines[:2]) for lines in cards(picture.source).values()}
    assert {
        ("w", "-3"),
        ("b", "6.7"),
        ("x", "2"),
        ("multiply", "-6"),
        ("n", "add"),
        ("2",),
    } <= found
    assert "∇" not in picture.source  # no gradient was computed yet


def test_gradients_after_backward():
    loss = neuron()
    loss.backward()  # frees what it saved; the picture still knows the values
    labels = cards(tg.draw(loss).source).values()
    slope = 2 * np.tanh(0.7) * (1 - np.tanh(0.7) ** 2)
    by_name = {lines[0]: lines for lines in labels}
    assert by_name["b"][-1] == f"∇ {slope:.4g}"
    assert by_name["w"][-1] == f"∇ {2 * slope:.4g}"
    assert by_name["n"][1:] == ["add", "0.7", f"∇ {slope:.4g}"]


def test_large_values_are_summarised():
    w = leaf(np.ones((30, 40)), "w")
    loss = (w * np.ones(40)).sum(axis=1).mean()
    loss.backward()
    labels = {lines[0]: lines for lines in cards(tg.draw(loss).source).values()}
    assert labels["w"][1] == "(30, 40)"
    assert labels["w"][2] == f"∇ rms {1 / 30:.4g}"
    assert labels["sum(axis=1)"][1] == "(30,)"


HOSTILE = [
    '"',
    "\\",
    '\\"',
    "a\\nb",
    "<b>x</b>",
    "&lt;",
    "{a|b}",
    "]; evil [",
    "\n",
    "\x00",
    "\ud800",
    "é→∇",
    "\\N \\G",
    "x" * 10_000,
    "",
    "->",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_text(name):
    x = leaf(1.0, name)
    source = tg.draw(x * 2.0).source
    source.encode()
    assert len(cards(source)) == 3
    assert len(re.findall(r"^\tn\w+ -> n\w+", source, re.MULTILINE)) == 2
    assert max(map(len, source.splitlines())) < 400
    if shutil.which("dot"):
        svg = tg.draw(x * 2.0).pipe(format="svg").decode()
        assert svg.count('class="node"') == 3
    with tg.scope(name):
        y = x * 2.0
    source = tg.draw(y).source
    source.encode()
    assert source.count("subgraph cluster1 {") == 1
    if shutil.which("dot"):
        svg = tg.draw(y).pipe(format="svg").decode()
        assert svg.count('class="cluster"') == 1
        assert svg.count('class="node"') == 3


def test_a_picture_shows_the_present_value_of_a_leaf():
    x = leaf(1.0, "x")
    y = x * 2.0
    x.data = 5.0
    assert ["x", "5"] in cards(tg.draw(y).source).values()


def test_clean():
    assert clean("a\tb") == "a\\x09b"
    assert len(clean("x" * 100)) == 60


def test_limits_and_constants():
    x = leaf(1.0)
    y = x
    for _ in range(300):
        y = y * 1.5
    with pytest.raises(ValueError, match="301 nodes, more than limit=200"):
        tg.draw(y)
    assert tg.draw(y, limit=1000).source.count("->") == 600
    with pytest.raises(ValueError, match="constant"):
        tg.draw(tg.tensor(1.0))


def test_repr_in_a_notebook():
    if shutil.which("dot") is None:
        pytest.skip("dot is not installed")
    bundle = tg.draw(neuron())._repr_mimebundle_()
    assert "<svg" in bundle["image/svg+xml"]


def test_scopes_are_remembered_by_call():
    x = tg.tensor(1.5, requires_grad=True)
    with tg.scope("outer"):
        a = x * x
        with tg.scope("inner"):
            b = a * x
        with tg.scope("inner"):
            c = b * x
    d = c * x
    scopes = [t.grad_fn.scope for t in (a, b, c)]
    assert [[s.name for s in scope.path()] for scope in scopes] == [
        ["outer"], ["outer", "inner"], ["outer", "inner"],
    ]  # fmt: skip
    assert scopes[1] is not scopes[2]
    assert scopes[1].parent is scopes[2].parent is scopes[0]
    assert d.grad_fn.scope is None
    for twin in (pickle.loads(pickle.dumps(c)), copy.deepcopy(c)):
        assert [s.name for s in twin.grad_fn.scope.path()] == ["outer", "inner"]
        assert twin.grad_fn.scope.parent is twin.grad_fn.left.scope.parent  # one call, one scope
    model = tg.nn.Sequential(tg.nn.Linear(2, 2), tg.nn.ReLU())
    node = model(np.ones((1, 2))).grad_fn
    assert [s.name for s in node.scope.path()] == ["Sequential", "1: ReLU"]
    with pytest.raises(RuntimeError), tg.scope("left by an error"):
        raise RuntimeError
    assert (x * x).grad_fn.scope is None


def test_every_call_is_a_box_with_what_only_it_uses():
    shared, own = leaf(2.0, "shared"), leaf(3.0, "own")
    with tg.scope("outer"):
        with tg.scope("first"):
            a = np.exp(shared * own)
        with tg.scope("second"):
            b = np.sin(a * shared)
    source = tg.draw(b + 1.0).source
    boxes = {}  # box: the cards that stand in it, not in a box inside
    path = []
    for line in source.splitlines():
        if "subgraph" in line:
            path.append(None)
        elif path and path[-1] is None and "label=" in line:
            path[-1] = re.search(r"label=(\w+)", line)[1]
        elif path and line.strip() == "}":
            path.pop()
        elif path and (card := re.match(r'\s*n\w+ \[label="?(\w+)', line)):
            boxes.setdefault(tuple(path), []).append(card[1])
    assert boxes == {
        ("outer",): ["shared"],
        ("outer", "first"): ["own", "multiply", "exp"],
        ("outer", "second"): ["multiply", "sin"],
    }


def test_two_calls_of_one_module_are_two_boxes():
    layer = tg.nn.Linear(2, 2)
    source = tg.draw(layer(layer(np.ones((1, 2)))).sum()).source
    assert source.count("label=Linear") == 2
    assert source.count("weight") == 1  # shared by both: in neither
