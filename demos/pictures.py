"""What the demos share: where their pictures go, learning curves, and graphs drawn with `dot`."""

from pathlib import Path

from matplotlib.figure import Figure

import tinygrad_lite as tg

OUT = Path(__file__).resolve().parent.parent / "out"


def learning_curve(name, train, test, right, aim=None, unit="epoch"):
    """Two panels: the training loss after each epoch (or `unit`), and what was measured then."""
    OUT.mkdir(exist_ok=True)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, values, label in zip(
        panels, (train, test), ("training loss (nats)", right), strict=True
    ):
        axes.plot(range(1, len(values) + 1), values, marker=".")
        axes.set(xlabel=unit, ylabel=label)
        axes.grid(alpha=0.3)
    if train[0] > 10 * train[-1]:
        panels[0].set_yscale("log")
    if aim is not None:
        panels[1].axhline(aim[1], color="grey", linestyle=":", label=f"{aim[0]}: {aim[1]:g}")
        panels[1].legend()
    figure.savefig(OUT / f"{name}.png", dpi=150)
    return OUT / f"{name}.png"


def save_graph(name, diagram):
    """The diagram as SVG, or, where Graphviz is missing, as Mermaid text."""
    OUT.mkdir(exist_ok=True)
    try:
        return diagram.save(OUT / f"{name}.svg")
    except RuntimeError as error:
        return f"{diagram.save(OUT / f'{name}.mmd')} ({error})"


def save_light_and_dark(name, *loss, **options):
    """What README shows, from copies in docs/: the graph for light pages, and for dark ones."""
    save_graph(f"{name}_dark", tg.draw(*loss, **options, theme="dark"))
    return save_graph(name, tg.draw(*loss, **options))
