# %% [markdown]
# # See backpropagation
# A gallery: the same recorded graphs as diagrams and as pages to step through. Open
# `out/index.html` in a browser; the pages need no network.

# %%
import html

import numpy as np
from pictures import OUT, save_graph

import tinygrad_lite as tg
from tinygrad_lite import losses, nn
from tinygrad_lite.data import digits

tg.manual_seed(0)
OUT.mkdir(exist_ok=True)


def parameter(name, value):
    t = tg.tensor(value, requires_grad=True)
    t.name = name
    return t


# %% One neuron: every number fits on its card
def neuron():
    w, b = parameter("w", 0.5), parameter("b", 0.3)
    a = np.tanh(w * 2.0 + b)
    a.name = "a"
    return 0.5 * (a - 0.2) ** 2


# %% Softmax cross-entropy: where (p - t) / N comes from
def cross_entropy():
    logits = parameter("logits", np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0]]))
    return losses.cross_entropy(logits, [1, 2], fused=False)


# %% The digits network, untrained, on two digits
def network():
    (images, labels), _ = digits()
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)
    )
    return losses.cross_entropy(model(images[:2, None]), labels[:2])


# %% A recurrence of forty steps: folded, and its gradient vanishing
def recurrence():
    cell, h = nn.Linear(4, 4), parameter("h", np.full((1, 4), 0.5, np.float32))
    for step in range(40):
        with tg.scope(f"step {step}"):
            h = np.tanh(cell(h))
    return np.sum(h)


# %% The gallery
GRAPHS = {
    "neuron": ("One neuron", neuron),
    "softmax_cross_entropy": ("Softmax cross-entropy", cross_entropy),
    "digits_network": ("A network that reads digits", network),
    "recurrence": ("A recurrence of forty steps", recurrence),
}
rows = []
for name, (title, build) in GRAPHS.items():
    loss = build()
    loss.name = "loss"
    page = tg.explore(loss, OUT / f"see_{name}.html", title=title)
    loss.backward(retain_graph=True)
    drawn = save_graph(f"see_{name}", tg.draw(loss))
    print(f"{title}: {drawn}\n  step by step: see_{name}.html ({len(page.html):,} characters)")
    picture = f'<img src="see_{name}.svg" alt="the graph" style="max-width:100%">'
    link = f'<a href="see_{name}.html">{html.escape(title)}, step by step</a>'
    rows.append(f"<h2>{link}</h2>{picture}")
(OUT / "index.html").write_text(
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>See backpropagation</title>'
    '<body style="font-family:sans-serif;max-width:70em;margin:auto">'
    f"<h1>See backpropagation</h1>{''.join(rows)}"
)
print(f"\nThe gallery: {OUT / 'index.html'}")
