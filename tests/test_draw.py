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
from tinygrad_lite.draw.diagram import DARK, HELP, ORANGE, clean

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


def composed_and_fused(shared):
    """Two losses of the same logits, or of logits of their own."""
    x, pair = leaf(np.array([[-1.0, 0.0, 1.0]]), "logits"), []
    for name, fused in (("composed", False), ("fused", True)):
        loss = losses.cross_entropy(x if shared else leaf(x.data, "logits"), [1], fused=fused)
        loss.name = name
        loss.backward()
        pair.append(loss)
    return pair


@pytest.mark.parametrize("shared", [True, False])
def test_compare_draws_each_graph_in_a_box_of_its_own(shared):
    pair = composed_and_fused(shared)
    diagram = tg.draw(compare=pair)
    alone = [list(cards(tg.draw(loss).source).values()) for loss in pair]  # with its own gradients
    assert sorted(cards(diagram.source).values()) == sorted(alone[0] + alone[1])
    found = boxes(diagram.source)
    for loss, graph in zip(pair, alone, strict=True):
        assert sorted(found.pop((loss.name,))) == sorted(lines[0] for lines in graph)
    assert not found  # nothing stands outside
    assert diagram.title == "composed, fused"


def test_compare_knows_scopes_modules_and_operations():
    tg.manual_seed(0)
    models, x = [nn.Sequential(nn.Linear(2, 2), nn.Tanh()) for _ in range(2)], np.ones((1, 2))
    found = boxes(tg.draw(input=x, compare=models).source)
    assert list(found) == [
        ("tanh", "Sequential", "1: Tanh"), ("tanh", "Sequential", "0: Linear"),
    ]  # fmt: skip
    hidden = models[0](x)  # a trunk is a part of both graphs
    found = boxes(tg.draw(compare=[np.sum(hidden), np.mean(hidden)], depth=0).source)
    assert {path: names.count("Sequential") for path, names in found.items()} == {
        ("sum",): 1, ("mean",): 1,
    }  # fmt: skip


@pytest.mark.parametrize("steps", [[30] * 4, [30, 31, 124, 1111], [2] * 25])
def test_what_is_compared_is_never_folded_away(steps):
    source = tg.draw(compare=[rnn(n) for n in steps]).source
    assert source.count('label="sum"') == len(steps)
    assert sum(lines[0] == "Σ" for lines in cards(source).values()) == len(steps)
    assert len(cards(source)) < 25 * len(steps)


@needs_dot
@pytest.mark.parametrize("direction", ["LR", "TB", "RL", "BT"])
def test_compare_keeps_the_order(direction):
    names = ["first", "second", "third"]
    losses = [leaf(1.0, "x") * 2.0 for _ in names]
    for loss, name in zip(losses, names, strict=True):
        loss.name = name
    svg = tg.draw(compare=losses, direction=direction).svg()
    found = re.findall(r'class="cluster">.*?<text.*?x="(.*?)" y="(.*?)".*?>(\w+)<', svg, re.DOTALL)
    axis = direction in ("LR", "RL")
    assert [text[2] for text in sorted(found, key=lambda text: float(text[axis]))] == names


def test_errors():
    with pytest.raises(ValueError, match="constant"):
        tg.draw(tg.tensor(1.0))
    with pytest.raises(ValueError, match="direction must be LR, TB, RL or BT"):
        tg.draw(neuron(), direction="up")
    with pytest.raises(ValueError, match="theme must be light or dark, got 'blue'"):
        tg.draw(neuron(), theme="blue")
    for wrong in ({}, {"compare": []}, {"loss": neuron(), "compare": [neuron()]}):
        with pytest.raises(ValueError, match=r"a loss or compare=\[one, another\], and not both"):
            tg.draw(**wrong)
    with pytest.raises(ValueError, match="constant"):
        tg.draw(compare=[neuron(), tg.tensor(1.0)])
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


def test_a_fold_that_holds_the_loss_shows_the_gradient_of_the_loss():
    with tg.scope("inside"):
        y = np.exp(leaf(np.array([1.0, 2.0]), "x"))
        loss = y * 3.0
    assert list(cards(tg.draw(loss, depth=0).source).values()) == [["inside", "2 nodes, 1 params"]]
    loss.backward(np.array([3.0, 4.0]), retain_graph=True)
    found = list(cards(tg.draw(loss, depth=0).source).values())
    assert found == [["inside", "2 nodes, 1 params", "‖∇‖ 5"]]
    other = np.sum(y * np.array([0.0, 12.0]))  # y leaves the box as well as the loss
    other.backward()
    found = list(cards(tg.draw([loss, other], depth=0).source).values())
    norm = np.sqrt(3**2 + 4**2 + 9**2 + 24**2)  # of 3, 4 at the loss; 3 * 3, 3 * 4 + 12 at y
    assert ["inside", "2 nodes, 1 params", f"‖∇‖ {norm:.4g}"] in found


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


# Themes


def contrast(one, other):
    """WCAG 2's ratio of two colours' relative luminances."""

    def luminance(colour):
        s = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4) @ [
            0.2126, 0.7152, 0.0722,
        ]  # fmt: skip

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def rich():
    """All kinds of cards, boxes, and arrows."""
    loss = rnn(20)
    loss.backward(retain_graph=True)
    return loss


@needs_dot
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_and_kinds_told_apart(theme):
    diagram, page = tg.draw(rich(), theme=theme), {"light": "#ffffff", "dark": "#0d1117"}[theme]
    root = ElementTree.fromstring(diagram.svg().replace('"white"', '"#ffffff"'))
    svg = "{http://www.w3.org/2000/svg}"
    assert next(root.iter(f"{svg}polygon")).get("fill") == page  # an opaque background
    kinds = set()
    for group in root.iter(f"{svg}g"):
        shapes = [s for s in group if s.tag in (f"{svg}path", f"{svg}polygon")]
        if group.get("class") == "node":
            fill = shapes[0].get("fill")
            kinds.add((fill, shapes[0].get("stroke")))
        else:
            fill = page
        if group.get("class") in ("node", "edge", "cluster"):
            assert all(contrast(page, s.get("stroke")) >= 3 for s in shapes)
        if group.get("class") in ("node", "cluster"):
            for text in group.iter(f"{svg}text"):
                colour = text.get("fill", "#000000")
                assert contrast(fill, colour) >= 4.5, (text.text, fill, colour)
                gradient = (text.text or "")[:1] in "∇‖"
                assert gradient == (colour in (ORANGE, DARK[ORANGE]))
    assert len(kinds) == 5
    assert len({fill for fill, _ in kinds}) == 5


def test_a_dark_picture_differs_in_colours_only():
    loss = rich()
    light, dark = (tg.draw(loss, theme=theme) for theme in ("light", "dark"))
    assert tg.draw(loss).source == light.source
    plain = [re.sub(r' ?\w*color="?[#\w]+"?', "", d.source) for d in (light, dark)]
    assert plain[0] == plain[1].replace("node [ ", "node [")
    assert light.mermaid == dark.mermaid
    colours = [set(re.findall(r'color="?(#?\w+)', d.source)) for d in (light, dark)]
    assert not colours[0] & colours[1]


def test_a_name_is_no_colour():
    names = ["#ffffff", 'color="#ffffff', "bgcolor=white", "node [", "\tnode [", *hostile_names()]
    for name in names:
        with tg.scope(name):
            loss = leaf(1.0, name) * 2.0
        light, dark = (tg.draw(loss, theme=theme).source for theme in ("light", "dark"))
        assert cards(light) == cards(dark)
        assert boxes(light) == boxes(dark)


@needs_dot
def test_a_dark_page(tmp_path):
    diagram = tg.draw(rich(), theme="dark")
    assert 'content="dark"' in diagram.save(tmp_path / "a.html").read_text()
    assert diagram._repr_mimebundle_()["image/svg+xml"] == diagram.svg()


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
