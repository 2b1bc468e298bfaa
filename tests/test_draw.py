"""Diagrams: what a card says, boxes and folding, hostile names, every format, golden files."""

import copy
import os
import pickle
import random
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite import losses, nn
from tinygrad_lite.draw.diagram import HELP, clean

GOLDEN = Path(__file__).parent / "golden"
needs_dot = pytest.mark.skipif(not shutil.which("dot"), reason="Graphviz is not installed")


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
    found = re.finditer(r'^\t(n\d+) \[label="((?:[^"\\]|\\.)*)"', source, re.MULTILINE)
    return {m[1]: m[2].split("\\n") for m in found}


def arrows(source):
    """(from, to): attributes, of every edge, by the first lines of the cards."""
    names = {k: lines[0] for k, lines in cards(source).items()}
    found = re.finditer(r"^\t(n\d+) -> (n\d+)(?: \[(.*)\])?$", source, re.MULTILINE)
    return {(names[m[1]], names[m[2]]): m[3] or "" for m in found}


def boxes(source):
    """Path of labels: the first lines of the cards directly inside that box."""
    found, path = {}, []
    for line in source.splitlines():
        if "subgraph" in line:
            path.append(None)
        elif path and path[-1] is None:
            path[-1] = re.search(r'label="((?:[^"\\]|\\.)*)"', line)[1]
        elif path and line.strip() == "}":
            path.pop()
        elif path and (card := cards(line)):
            found.setdefault(tuple(path), []).append(next(iter(card.values()))[0])
    return found


def test_what_cards_say():
    source = tg.draw(neuron()).source
    found = list(cards(source).values())
    for lines in (
        ["x", "2"],
        ["2"],
        ["w", "−3", "no gradient yet"],
        ["× ▪", "−6", "no gradient yet"],
        ["n", "+", "0.7", "no gradient yet"],
        ["tanh ▪", "0.6044", "no gradient yet"],
    ):
        assert lines in found
    assert "∇" not in source
    assert set(arrows(source).values()) == {""}  # nothing is known of what flows


def test_gradients_after_backward():
    loss = neuron()
    loss.backward()  # frees what it saved; small values stay, so the pass can be watched again
    source = tg.draw(loss).source
    by_name = {lines[0]: lines for lines in cards(source).values()}
    slope = 2 * np.tanh(0.7) * (1 - np.tanh(0.7) ** 2)
    assert by_name["b"][-1] == f"∇ {slope:.4g}"
    assert by_name["w"][-1] == f"∇ {2 * slope:.4g}"
    assert by_name["n"] == ["n", "+", "0.7", f"∇ {slope:.4g}"]
    flow = arrows(source)
    assert flow["x", "×"] == "style=dotted"  # a constant
    widths = {
        k: float(re.search("penwidth=([0-9.]+)", v)[1]) for k, v in flow.items() if "pen" in v
    }
    assert widths["w", "×"] > widths["×", "n"]  # twice the gradient, since x is 2
    assert loss.grad_fn.state == 2  # still freed: drawing gave nothing back
    with pytest.raises(tg.GraphFreedError):
        loss.backward()


def test_large_values():
    w = leaf(np.ones((30, 40)), "w")
    loss = (w * np.full(40, 2.0)).sum(axis=1).mean()
    loss.backward()
    by_name = {lines[0]: lines for lines in cards(tg.draw(loss).source).values()}
    norm = np.sqrt(1200) * 2 / 30
    assert by_name["w"] == ["w", "30×40", "μ 1  σ 0", f"‖∇‖ {norm:.4g}"]
    assert by_name["×"] == ["×", "30×40", "gradient not kept"]
    loss = (w * np.full(40, 2.0)).sum(axis=1).mean()
    w.grad = None
    loss.backward(retain_graph=True)
    by_name = {lines[0]: lines for lines in cards(tg.draw(loss).source).values()}
    assert by_name["× ▪"][-1] == f"‖∇‖ {np.sqrt(1200) / 30:.4g}"


def test_a_picture_shows_the_present_value_of_a_leaf():
    x = leaf(1.0, "x")
    y = x * 2.0
    x.data = 5.0
    assert ["x", "5", "no gradient yet"] in cards(tg.draw(y).source).values()


def test_fused_operations_have_two_outlines():
    x = leaf(np.eye(2), "x")
    source = tg.draw(losses.cross_entropy(x, [0, 1])).source
    assert [
        line for line in source.splitlines() if "peripheries=2" in line and "cross_entropy" in line
    ]
    assert "peripheries" not in tg.draw(losses.cross_entropy(x, [0, 1], fused=False)).source


@pytest.mark.parametrize("after_backward", [False, True])
def test_a_fused_operation_opens_into_its_composition(after_backward):
    def graph(fused):
        x, w = leaf(np.eye(2) + 0.1, "x"), leaf(np.array([[0.3, -0.2], [0.5, 0.4]]), "w")
        logits = tg.functional.linear(x, w, fused=fused)
        logits.name = "logits"
        loss = losses.cross_entropy(logits, [0, 1], fused=fused)
        loss.name = "loss"
        if after_backward:
            loss.backward()
        return loss

    opened = tg.draw(graph(True), expand_fused=True).source
    plain = tg.draw(graph(False)).source
    assert sorted(map(tuple, cards(opened).values())) == sorted(map(tuple, cards(plain).values()))
    assert sorted(arrows(opened).items()) == sorted(arrows(plain).items())
    assert {path[0] for path in boxes(opened)} == {"linear", "cross_entropy"}
    assert not boxes(plain)


def test_named_constants_are_one_card():
    x, w = tg.tensor(np.ones((2, 3))), leaf(np.ones(3), "w")
    x.name = "x"
    source = tg.draw(np.sum(x @ w + np.sum(x * w, axis=1))).source
    assert [lines[0] for lines in cards(source).values()].count("x") == 1


def test_several_graphs_models_and_backward_graphs():
    pair = tg.draw([np.exp(leaf(1.0, "a")), np.sin(leaf(2.0, "b"))]).source
    assert arrows(pair).keys() == {("a", "exp ▪"), ("b", "sin ▪")}
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert ("Sequential", "1: ReLU") in boxes(tg.draw(model, np.ones((1, 2))).source)
    x = leaf(3.0, "x")
    (x**3).backward(create_graph=True)
    assert "x" in {lines[0] for lines in cards(tg.draw(x.grad).source).values()}


def test_errors():
    with pytest.raises(ValueError, match="constant"):
        tg.draw(tg.tensor(1.0))
    with pytest.raises(ValueError, match="direction must be LR, TB, RL or BT"):
        tg.draw(neuron(), direction="up")
    with pytest.raises(ValueError, match=r"expected the suffix .svg"):
        tg.draw(neuron()).save("graph.jpeg")


# Boxes and folding


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
    assert boxes(tg.draw(b + 1.0).source) == {
        ("outer", "first"): ["shared", "own", "× ▪", "exp ▪"],
        ("outer", "second"): ["shared", "× ▪", "sin ▪"],  # once in each box that uses it
    }


def test_two_calls_of_one_module_are_two_boxes():
    layer = nn.Linear(2, 2)
    source = tg.draw(layer(layer(np.ones((1, 2)))).sum()).source
    assert source.count("subgraph") == 2
    assert source.count("weight") == 2


class Cell(nn.Module):
    def __init__(self):
        self.x, self.h = nn.Linear(4, 4, dtype=float), nn.Linear(4, 4, dtype=float)

    def forward(self, x, h):
        return np.tanh(self.x(x) + self.h(h))


def rnn(steps, scopes=True):
    tg.manual_seed(0)
    cell, h = Cell(), np.zeros((1, 4))
    for i in range(steps):
        if not scopes:
            h = np.tanh(np.ones((1, 4)) @ cell.x.weight.T + h @ cell.h.weight.T)
            continue
        with tg.scope(f"step.{i}"):
            h = cell(np.ones((1, 4)), h)
    return h.sum()


@pytest.mark.parametrize("scopes", [True, False])
@pytest.mark.parametrize("steps", [30, 124, 1111])
def test_long_recurrences_fold(steps, scopes):
    loss = rnn(steps, scopes)
    loss.backward()
    diagram = tg.draw(loss)
    found = cards(diagram.source)
    assert len(found) <= 50
    assert sum("shape=folder" in line for line in diagram.source.splitlines()) >= 1
    assert any(lines[0] == "Σ" for lines in found.values())  # the loss is never folded
    if scopes:
        assert [f"step.2 … step.{steps - 1}, {steps - 2} times", f"{4 * (steps - 2)} nodes"] in [
            lines[:2] for lines in found.values()
        ]
        assert ("step.0", "Cell", "x: Linear") in boxes(diagram.source)  # the first one is open
    if shutil.which("dot"):
        assert diagram.svg().count("<svg") == 1


def test_budget_and_depth():
    loss = rnn(6)
    assert len(cards(tg.draw(loss, budget=200).source)) > 40
    assert len(cards(tg.draw(loss, budget=12).source)) <= 20  # and copies of leaves
    assert not boxes(tg.draw(loss, depth=0).source)
    assert {len(path) for path in boxes(tg.draw(loss, depth=1).source)} == {1}


def test_a_fold_shows_the_gradient_at_its_boundary():
    x = leaf(np.array([1.0, 2.0]), "x")
    with tg.scope("inside"):
        y = np.exp(x) * 3.0
    loss = np.sum(y * np.array([3.0, 4.0]))
    loss.backward()
    found = cards(tg.draw(loss, depth=0).source).values()
    assert ["inside", "2 nodes, 1 params", "‖∇‖ 5"] in found


def test_a_hundred_thousand_nodes():
    x = leaf(2.0, "x")
    y = x
    for _ in range(50_000):
        y = y * 1.0001 + x
    y.backward()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        diagram = tg.draw(y)
    finally:
        sys.setrecursionlimit(limit)
    assert len(cards(diagram.source)) < 60


# Hostile names

HOSTILE = [
    '"', "\\", '\\"', "a\\nb", "<b>x</b>", "&lt;", "{a|b}", "]; evil [", "\n", "\x00", "\ud800",
    "é→∇", "\\N \\G", "x" * 10_000, "", "->", "</text><script>", "]]>", "<!--", "${x}", "end",
    "javascript:alert(1)", "%", "#quot;", "`", "\u202e", "\\l", "\\", "label=x", "'",
]  # fmt: skip


def hostile_names():
    """400 of them: the list, and random mixtures of its pieces and odd characters."""
    rng, pieces = random.Random(0), [*HOSTILE, *"\\\"'<>&;{}[]|\t\r\n\x07 ab∇"]
    mixed = ["".join(rng.choices(pieces, k=rng.randint(1, 6))) for _ in range(400 - len(HOSTILE))]
    return HOSTILE + mixed


def test_hostile_names_in_dot():
    for name in hostile_names():
        with tg.scope(name):
            y = leaf(1.0, name) * 2.0
        source = tg.draw(y).source
        source.encode()
        assert len(cards(source)) == 3
        assert source.count("subgraph") == 1
        assert len(source.splitlines()) == 13, repr(name)
        assert max(map(len, source.splitlines())) < 900


@needs_dot
def test_hostile_names_come_out_literally(tmp_path):
    names = hostile_names()
    total = sum(leaf(1.0, name) for name in names)
    diagram = tg.draw(total, budget=2000)
    shown = {line for line in (clean(name) for name in names) if line.strip()}
    for path in (tmp_path / "a.svg", tmp_path / "a.html"):
        diagram.save(path)
        text = path.read_text()
        root = ElementTree.fromstring(text[text.index("<svg") :])
        texts = {"".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")}
        spaced = {" ".join(t.replace("\xa0", " ").split()) for t in texts}
        missing = {line for line in shown if " ".join(line.split()) not in spaced}
        assert not missing
        assert "<script" not in text
    lines = diagram.mermaid.splitlines()
    assert all(re.fullmatch(r'  n\d+\W+"[\w .,×−#;<>]*"\W+|  n\d+ --> n\d+', x) for x in lines[1:])


def test_clean():
    assert clean("a\tb") == "a\\x09b"
    assert len(clean("x" * 100)) == 60


# Formats


@needs_dot
def test_every_format(tmp_path):
    diagram = tg.draw(neuron())
    starts = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF", "html": b"<!doctype html>",
              "dot": b"digraph", "mmd": b"flowchart LR"}  # fmt: skip
    for kind, start in starts.items():
        path = diagram.save(tmp_path / f"graph.{kind}")
        assert path.read_bytes().startswith(start)
    svg = (tmp_path / "graph.svg").read_text()
    assert svg.count('font-weight="bold"') == svg.count('class="node"') == 8
    assert 'fill="white"' in svg  # an opaque background
    bundle = diagram._repr_mimebundle_()
    assert bundle["image/svg+xml"] == svg
    assert bundle["text/plain"] == repr(diagram)


def test_without_graphviz(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    diagram = tg.draw(neuron())
    with pytest.raises(RuntimeError, match=r"apt install graphviz.*pip install pygraphviz"):
        diagram.svg()
    with pytest.raises(RuntimeError):
        diagram.save(tmp_path / "graph.svg")
    assert not list(tmp_path.iterdir())
    assert diagram._repr_mimebundle_() == {"text/plain": f"{diagram!r}\n({HELP})"}


def test_pygraphviz_draws_without_dot(monkeypatch):
    pytest.importorskip("pygraphviz")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    svg = tg.draw(neuron()).svg()
    assert svg.startswith("<svg")
    assert svg.count('class="node"') == 8


# Golden files: UPDATE_GOLDEN=1 writes them anew; look at the difference before committing it


def network(*layers):
    tg.manual_seed(0)
    return nn.Sequential(*[layer() for layer in layers])


def mlp():
    model = network(
        lambda: nn.Linear(2, 3, dtype=float), nn.Tanh, lambda: nn.Linear(3, 1, dtype=float)
    )
    return losses.mse_loss(model(np.array([[1.0, -2.0]])), [[0.5]])


def lenet():
    def conv(*args, **options):
        return lambda: nn.Conv2d(*args, **options, dtype=float)

    def linear(*args):
        return lambda: nn.Linear(*args, dtype=float)

    pool = lambda: nn.MaxPool2d(2)  # noqa: E731
    model = network(
        conv(1, 6, 5, padding=2), nn.ReLU, pool, conv(6, 16, 5), nn.ReLU, pool, nn.Flatten,
        linear(400, 120), nn.ReLU, linear(120, 84), nn.ReLU, linear(84, 10),
    )  # fmt: skip
    x = np.sin(np.arange(784.0)).reshape(1, 1, 28, 28)
    return losses.cross_entropy(model(x), [3])


def softmax_loss(fused):
    logits = leaf(np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0]]), "logits")
    return losses.cross_entropy(logits, [1, 2], fused=fused)


GRAPHS = {
    "neuron": neuron,
    "cross_entropy_composed": lambda: softmax_loss(False),
    "cross_entropy_fused": lambda: softmax_loss(True),
    "mlp": mlp,
    "lenet": lenet,
    "rnn": lambda: rnn(20),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_golden(name):
    loss = GRAPHS[name]()
    loss.backward(retain_graph=True)
    source, path = tg.draw(loss).source, GOLDEN / f"{name}.dot"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    assert source == path.read_text()
