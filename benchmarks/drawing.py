"""How long diagrams and explorable pages take to build, how large they are, how soon they open.

A recurrence with shared weights, of 10,000 and of 100,000 nodes. Aims: 5 s to build either; for the
smaller graph at most 1.5 MB, and open within a second. Opening needs playwright and chromium.

    python benchmarks/drawing.py
"""

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import tinygrad_lite as tg


def recurrence(nodes):
    rng = np.random.default_rng(0)
    w, u, b = (tg.tensor(rng.normal(size=s) / 2, requires_grad=True) for s in ((4, 4), (3, 4), 4))
    h, total = np.zeros((1, 4)), 0.0
    with tg.scope("RNN"):
        for t in range(nodes // 9):
            with tg.scope(f"step {t}"):
                h = np.tanh(h @ w + rng.normal(size=(1, 3)) @ u + b)
                total = total + np.mean(h * h)
    return total


def seconds(work, runs=3):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def opening(path):
    """Seconds from the request to the finished picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()

        def visit():
            page.goto("about:blank")
            page.goto(path.as_uri())
            page.locator("#loss").wait_for()

        visit()
        return seconds(visit, 5)


for nodes in (10_000, 100_000):
    loss = recurrence(nodes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        drawn = seconds(lambda loss=loss: tg.draw(loss))
        built = seconds(lambda loss=loss, path=path: tg.explore(loss, path))
        print(f"{nodes:,} nodes: diagram {drawn:.2f} s; page {built:.2f} s", end="")
        print(f", {path.stat().st_size:,} bytes", end="")
        try:
            print(f", opens in {opening(path):.2f} s")
        except ImportError:
            print("; playwright is not installed: opening was not measured")
