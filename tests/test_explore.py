"""The explorable page in a real browser: what it shows, how it is steered, and what cannot happen."""

import base64
import functools
import json
import math
import re
import shutil
import stat
import zlib

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite import nn
from tinygrad_lite.draw.description import cards_of
from tinygrad_lite.draw.explorer import explore, render
from tinygrad_lite.draw.nudging import central_differences
from tinygrad_lite.explain import rms
from tinygrad_lite.losses import cross_entropy
from tinygrad_lite.tensor import Spec

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--",
    "\"'`&amp;<>",
    '\\\\\\"\\n${alert(1)}',
    "\ud800 lone \udfff",
    "NUL \0 \x1b \r\n \u2028 \u202e",
    "x" * 10_000,
    "",
    "__proto__",
    "{data}{script}",
]


def neuron():
    given = {"x1": 2.0, "x2": -3.0, "w1": -3.0, "w2": 1.0, "b": 6.8813735870195432}
    t = {k: tg.tensor(v, requires_grad=k[0] != "x") for k, v in given.items()}
    for name, tensor in t.items():
        tensor.name = name
    loss = np.tanh(t["x1"] * t["w1"] + t["x2"] * t["w2"] + t["b"])
    loss.name = "L"
    return loss


def softmax(nudged=()):
    rng = np.random.default_rng(0)
    arrays = {"W": rng.normal(size=(3, 3)), "b": np.zeros(3)}
    for name, (entry, h) in dict(nudged).items():
        arrays[name][entry] += h
    w, b = (tg.tensor(a, requires_grad=True) for a in arrays.values())
    w.name, b.name = arrays
    with tg.scope("Linear"):
        logits = rng.normal(size=(4, 3)) @ w + b
    return cross_entropy(logits, np.array([1, 2, 1, 0]), fused=False)


def cnn():
    tg.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    images = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    return cross_entropy(model(images), np.array([3, 5]))


def rnn(steps=1111):
    rng = np.random.default_rng(0)
    w, u, b = (tg.tensor(rng.normal(size=s) / 2, requires_grad=True) for s in ((4, 4), (3, 4), 4))
    h, total = np.zeros((1, 4)), 0.0
    with tg.scope("RNN"):
        for t in range(steps):
            with tg.scope(f"step {t}"):
                h = np.tanh(h @ w + rng.normal(size=(1, 3)) @ u + b)
                total = total + np.mean(h * h)
    return total


GRAPHS = {"neuron": neuron, "softmax": softmax, "cnn": cnn, "rnn": rnn}


@pytest.fixture(scope="module")
def browser():  # closed after this module: its event loop would be in the way of asyncio.run
    sync = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium")
    with sync.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {
        name: explore(make(), folder / f"{name}.html") and folder / f"{name}.html"
        for name, make in GRAPHS.items()
    }


@pytest.fixture
def visit(browser):
    """Opens a page, and fails the test if it wrote to the console, raised, or asked for anything."""
    trouble, contexts = [], []

    def open_page(path, place="", **options):
        context = browser.new_context(viewport={"width": 1400, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: (trouble.append("dialog"), dialog.dismiss()))
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or trouble.append(r.url))
        page.goto(path.as_uri() + place)
        if options.get("java_script_enabled", True) and "notebook" not in path.name:
            page.locator("#panel h2").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not trouble


def data_of(path):
    """What the page holds, its nodes as one dictionary each, and its numbers in their places."""
    kind, text = re.search(
        r'<script type="(\S+)" id="data">(.*?)</script>', path.read_text("utf-8"), re.S
    ).groups()
    data = json.loads(text if kind.endswith("json") else zlib.decompress(base64.b64decode(text)))
    columns = data["nodes"]
    data["nodes"] = [
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    ]
    return data


def go(page, place):
    page.evaluate(f"location.hash = '{place}'")
    page.evaluate("dispatchEvent(new HashChangeEvent('hashchange'))")


def number(text):
    return float(text.replace("−", "-").replace("∞", "inf"))


def flat(value):
    return [float(x) for x in np.ravel(value["data"])]


def cells(page, table):
    return [
        number(x)
        for x in table.locator("[data-value]").evaluate_all("all => all.map(e => e.dataset.value)")
    ]


@pytest.mark.parametrize("name", GRAPHS)
def test_opens_complete_and_soon(name, files, visit):
    page = visit(files[name])
    loss = GRAPHS[name]().item()
    assert number(page.locator("#loss").get_attribute("data-value")) == pytest.approx(
        loss, rel=1e-6 if name == "rnn" else 1e-12
    )
    assert "complete" in page.locator("#phase").inner_text()
    assert page.locator(".card").count() >= 5
    assert "?" not in page.locator("#canvas").inner_text()


@pytest.mark.parametrize("name", GRAPHS)
def test_steps_to_the_end_by_keyboard(name, files, visit):
    page = visit(files[name])
    page.keyboard.press("Home")
    assert page.locator("#phase").inner_text() == "before the forward pass"
    assert "?" in page.locator("#canvas").text_content()
    seen = []
    for _ in range(300):
        page.keyboard.press("ArrowRight")
        seen.append(page.locator("#phase").inner_text())
        if "complete" in seen[-1]:
            break
    assert "complete" in seen[-1]
    assert len(set(seen)) == len(seen)
    assert any("forward" in s for s in seen)
    assert any("backward" in s for s in seen)
    back = []
    for _ in seen:
        page.keyboard.press("ArrowLeft")
        back.append(page.locator("#phase").inner_text())
    assert back == [*seen[-2::-1], "before the forward pass"]
    page.keyboard.press("End")
    assert "complete" in page.locator("#phase").inner_text()


@pytest.mark.parametrize("name", GRAPHS)
def test_every_number_is_the_engines(name, files, visit):
    steps = list(tg.backward_steps(GRAPHS[name]()))  # another recording, and a pass of its own
    nodes = data_of(files[name])["nodes"]
    recorded = [i for i, node in enumerate(nodes) if node["kind"] != "input"]
    engine = sorted((step.node for step in steps), key=lambda node: node.birth)
    assert len(engine) == len(recorded)
    place = dict(zip(engine, recorded, strict=True))
    forward = sum(bool(node["parents"]) for node in nodes)
    page = visit(files[name])
    same = np.testing.assert_array_equal
    if name == "rnn":  # told in float32
        same = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-37)
    seen = 0
    for k, step in enumerate(steps):
        if len(steps) > 2000 and k % 701 and k + 5 < len(steps):
            continue
        go(page, "step=99999999")  # the last: all is known
        go(page, f"node={place[step.node]}")  # opens the boxes that it is in
        shown = cells(page, page.locator("#panel > div > .product"))
        known = [
            v for v in (step.node.out, step.cotangent) if not isinstance(v, Spec) and v.size <= 64
        ]
        same(shown, np.concatenate([np.ravel(v) for v in known] or [[]]))
        if step.op == "leaf":
            continue
        go(page, f"step={forward + k + 1}")
        parts = page.locator(".sent")
        assert parts.count() == len(step.contributions)
        for part, c in zip(parts.all(), step.contributions, strict=True):
            figures = part.locator("> .product figure").all()
            if c.value.size > 64:
                assert f"rms {rms(c.value):.4g}" in figures[-1].inner_text()
                continue
            same(cells(page, figures[-1]), np.ravel(c.value))
            if c.slope is not None:
                same(cells(page, figures[1]), c.slope)
            if c.arrival > 1:
                total = part.locator("> .sum figure").last
                same(cells(page, total), np.ravel(c.total))
                assert f"arrival {c.arrival} of {c.of}" in part.inner_text()
            seen += 1
    assert seen >= 4


def test_cards_and_the_table_agree_with_the_engine(files, visit):
    page = visit(files["neuron"])
    page.locator("#all summary").click()
    page.locator("#table tbody tr").first.wait_for()
    rows = page.locator("#table tbody tr").all()
    nodes = data_of(files["neuron"])["nodes"]
    assert len(rows) == len(nodes)
    for row, node in zip(rows, nodes, strict=True):
        texts = row.locator("td").all_inner_texts()
        assert number(texts[3]) == pytest.approx(node["value"]["data"], rel=1e-3)
        if node["grad"]:
            assert number(texts[4].removeprefix("∇ ")) == pytest.approx(
                node["grad"]["data"], rel=1e-3
            )


def test_softmax_minus_onehot_is_seen(files, visit):
    data = data_of(files["softmax"])
    exp = next(s["node"] for s in data["steps"] if data["nodes"][s["node"]]["op"] == "exp")
    at = (
        sum(bool(n["parents"]) for n in data["nodes"])
        + 1
        + [s["node"] for s in data["steps"]].index(exp)
    )
    page = visit(files["softmax"], f"#step={at}")
    text = page.locator("#panel").inner_text()
    assert "used 2 times" in text
    assert "arrival 2 of 2" in text
    assert "Softmax minus one-hot" in text
    first, second, total = (np.array(cells(page, t)) for t in page.locator(".sum figure").all())
    np.testing.assert_allclose(first + second, total)
    assert sorted(set(first)) == [-0.25, 0]
    np.testing.assert_allclose(second.reshape(4, 3).sum(1), 0.25)
    cell = page.locator(".sent > .product [role=grid] td").nth(1)
    cell.hover()
    a, b, c = map(number, re.findall(r"−?[\d.e−]+", page.locator(".sent > .arith").inner_text()))
    assert a * b == pytest.approx(c, rel=1e-3)
    page.locator(".sum [role=grid] td").first.focus()
    page.keyboard.press("ArrowRight")
    numbers = [
        number(x) for x in re.findall(r"−?[\d.e−]+", page.locator(".sum .arith").inner_text())
    ]
    assert numbers[0] + numbers[1] == pytest.approx(numbers[2], rel=1e-3)


def test_what_is_not_reached_is_a_question(files, visit):
    page = visit(files["neuron"], "#step=5")  # the forward pass is over
    text = page.locator("#canvas").text_content()
    assert text.count("∇ ?") == 8
    page.keyboard.press("ArrowRight")
    assert page.locator("#canvas").text_content().count("∇ ?") == 6  # the loss and its argument


def test_live_recomputation_and_nudging(files, visit):
    page = visit(files["neuron"])
    page.get_by_role("button", name="Check by nudging").click()
    for row in page.locator("#panel table.list").last.locator("tbody tr").all():
        gradient, difference = row.locator("td").all_inner_texts()[:2]
        if gradient != "constant":
            assert number(gradient) == pytest.approx(number(difference), rel=1e-6)
    field = page.get_by_label("Value of w1")
    field.fill("-2.5")
    expected = math.tanh(2 * -2.5 - 3 + 6.8813735870195432)
    assert number(page.locator("#loss").get_attribute("data-value")) == pytest.approx(
        expected, rel=1e-12
    )
    loss = neuron()
    for place in ("#phase", "#panel"):  # numbers that are not the engine's say so
        assert "your numbers" in page.locator(place).inner_text()
    page.get_by_role("button", name="Back to the recorded run").click()
    assert "your numbers" not in page.locator("body").inner_text()
    assert number(page.locator("#loss").get_attribute("data-value")) == loss.item()


def test_only_graphs_of_numbers_are_live(files, visit):
    assert visit(files["softmax"]).get_by_role("slider").count() == 1  # the steps


@pytest.mark.parametrize(("name", "leaf"), [("softmax", "W"), ("softmax", "b"), ("cnn", 0)])
def test_entries_of_arrays_are_nudged(name, leaf, files, visit):
    """Against (L(x + h) - L(x - h)) / 2h of a graph that is built anew."""
    nodes = data_of(files[name])["nodes"]
    place = leaf or next(i for i, n in enumerate(nodes) if n["kind"] == "parameter")
    if leaf:
        place = [n["name"] for n in nodes].index(leaf)
    page = visit(files[name], f"#node={place}")
    page.locator("#panel summary").click()
    rows = page.locator("#panel table.list tbody tr").all()
    assert len(rows) == {"W": 9, "b": 3, 0: 8}[leaf]
    for row in rows:
        entry = json.loads(row.locator("th").inner_text())
        gradient, difference, _ = map(number, row.locator("td").all_inner_texts())
        assert gradient == pytest.approx(difference, rel=1e-4, abs=1e-9)
        if name == "softmax":
            ends = []
            for h in (1e-5, -1e-5):
                loss = softmax({leaf: (tuple(entry), h)})
                ends.append(loss.item())
            assert difference == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-9)


def test_keys_links_find_and_boxes(files, visit):
    page = visit(files["softmax"])
    page.keyboard.press("/")
    page.keyboard.type("exp")
    page.keyboard.press("Enter")
    assert page.locator("#panel h2").inner_text().startswith("exp")
    assert re.search(r"#node=\d+$", page.url)
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.locator("#panel h2").inner_text() == "The finished picture"
    box = page.get_by_role("button", name="Linear")
    before = page.locator(".card").count()
    box.focus()
    page.keyboard.press("Enter")
    assert page.locator(".card").count() < before
    fold = page.get_by_role("button", name="Linear")
    assert fold.get_attribute("aria-expanded") == "false"
    assert fold.evaluate("e => e === document.activeElement")
    page.keyboard.press("Enter")
    assert page.locator(".card").count() == before
    page.keyboard.press("Tab")
    page.locator("a.card").first.focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("heading", name="Gradient").count() >= 1
    page.keyboard.press("Escape")
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    page.locator("#phase", has_text="forward").wait_for()
    page.keyboard.press(" ")
    assert "Play" in page.locator("#play").inner_text()


def test_a_closed_box_is_passed_in_one_step(files, visit):
    page = visit(files["softmax"])
    page.get_by_role("button", name="Linear").locator("text").first.click()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.locator("#phase").inner_text().startswith("forward → 2 of")
    assert "folded" in page.locator("#panel").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", GRAPHS)
def test_axe_finds_nothing(name, scheme, files, visit):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for place in ("", "#step=0", "#step=4", "#step=14", "#node=3"):
        page = visit(files[name], place, bypass_csp=True, color_scheme=scheme)
        if not place and name != "rnn":  # a table of ten thousand rows takes axe minutes
            page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
        found = axe.run(page).response["violations"]
        assert not found, [(v["id"], v["nodes"][0]["html"]) for v in found]


def test_controls_have_names(files, visit):
    page = visit(files["neuron"])
    for role in ("button", "slider", "searchbox", "spinbutton", "link"):
        for control in page.get_by_role(role).all():
            assert control.evaluate("e => e.ariaLabel || e.textContent.trim()"), control
    assert page.locator("[aria-live=polite]").count() >= 1


@pytest.mark.parametrize("width", [1400, 700])  # 700: a window of 1400 at 200 %
def test_nothing_is_wider_than_the_window(width, files, visit):
    page = visit(files["softmax"])
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_names_are_inert(tmp_path, visit):
    total = 0.0
    for name in HOSTILE:
        x = tg.tensor([1.0, 2.0], requires_grad=True)
        x.name = name
        with tg.scope(name):
            y = np.exp(x)
            y.name = name
            total = total + np.sum(y)
    total.name = HOSTILE[0]
    path = tmp_path / "hostile.html"
    explore(total, path)
    data = data_of(path)
    assert [n["name"] for n in data["nodes"] if n["kind"] == "parameter"] == HOSTILE
    page = visit(path)
    assert page.title().startswith("</script>")
    elements = "document.querySelectorAll('script, img, iframe').length"
    assert page.evaluate(elements) == 2  # the data and the script
    for i in range(len(data["nodes"])):
        page.evaluate(f"location.hash = 'node={i}'")
        page.locator(f'[aria-current][data-key^="n{i}"]').first.wait_for()
    page.keyboard.press("Escape")
    page.locator("#all summary").click()
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    assert page.evaluate(elements) == 2


def test_the_file_is_whole_small_and_sealed(tmp_path):
    path = tmp_path / "page.html"
    page = explore(neuron(), path, title="One <neuron>")
    assert path.read_text("utf-8") == page.html
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444
    assert "default-src 'none'" in page.html
    assert "unsafe" not in page.html.split("<style>")[0]
    assert "<title>One &lt;neuron&gt;</title>" in page.html
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page.html)
    assert "Chris Pettitt" in page.html  # the notice that dagre's licence asks for
    assert len(render({"title": ""}).encode()) <= 120_000
    assert len(explore(rnn()).html) <= 1_500_000  # of ten thousand nodes
    with pytest.raises(FileNotFoundError):
        page.save(tmp_path / "no" / "page.html")


def test_in_a_notebook(browser, visit, tmp_path):
    frame = explore(neuron())._repr_html_()
    assert 'sandbox="allow-scripts"' in frame
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><title>notebook</title>{frame}", "utf-8")
    inside = visit(path).frame_locator("iframe")
    inside.locator("#forward").wait_for()
    inside.get_by_role("button", name="Step through it from the start").click()
    inside.locator("#forward").click()
    assert inside.locator("#phase").inner_text() == "forward → 1 of 5"


def test_readable_without_javascript(files, visit):
    page = visit(files["neuron"], java_script_enabled=False)
    assert "needs JavaScript" in page.locator("noscript").inner_text()


def test_nudging_claims_nothing_that_it_cannot_run_again():
    x = tg.tensor(np.linspace(-1, 1, 70, dtype=np.float32), requires_grad=True)
    mask = np.arange(70) % 3
    kept = central_differences(cards_of([np.sum(np.exp(x) * mask)], run=True)[0])
    ((_, found),) = kept.items()
    assert len(found["at"]) == 8  # of more than 64 entries, those with the largest gradients
    np.testing.assert_allclose(found["difference"], found["grad"], rtol=1e-5)
    np.testing.assert_allclose(found["grad"], (np.exp(x.data) * mask)[np.ravel(found["at"])])
    lost = np.sum(np.exp(x + mask))  # no rule reads the mask: it is not kept
    rounded = np.sum(np.exp(x).astype(np.float32))  # not in float64 all the way
    assert not any(central_differences(cards_of([loss], run=True)[0]) for loss in (lost, rounded))
    tg.manual_seed(0)
    w = tg.tensor(np.ones(40), requires_grad=True)
    dropped = tg.functional.dropout(w * 2.0, 0.5)  # the same mask each time
    ((_, found),) = central_differences(cards_of([np.sum(dropped**2)], run=True)[0]).items()
    np.testing.assert_allclose(found["difference"], found["grad"], rtol=1e-6, atol=1e-9)
    assert 0 < np.count_nonzero(found["grad"]) < 40
    large = rnn(300)
    assert not central_differences(cards_of([large], run=True)[0])
