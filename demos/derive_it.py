# %% [markdown]
# # The backward pass, written out
# `tg.compile` records one run of a function, backward pass included, and writes it down as NumPy.
# Here that source runs where this package cannot be imported, on numbers other than the recorded
# ones, beside the derivation on paper and the graph. `raise Changed` asks for a new recording.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import tinygrad_lite as tg

rng = np.random.default_rng(0)
ALONE = """import sys; sys.modules["tinygrad_lite"] = None  # any import of it fails
import numpy as np; from derived import step
np.savez("results.npz", *step(*np.load("arguments.npz").values()))"""
differences = []


def run_alone(source, arguments):
    """What the generated module computes in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "derived.py").write_text(source)
        np.savez(f"{folder}/arguments.npz", *arguments)
        subprocess.run([sys.executable, "-c", ALONE], cwd=folder, check=True)
        with np.load(f"{folder}/results.npz") as results:
            return list(results.values())


def derive(title, f, paper, arguments, last_only=False):
    """Compile f with its gradients, print the source, and compare what it computes."""
    by_hand = paper(*arguments)  # the value, and gradients by the first arguments
    both = tg.value_and_grad(f, argnums=tuple(range(len(by_hand) - 1)))
    compiled = tg.compile(both)
    compiled(*[np.zeros_like(a) for a in arguments])  # recorded on zeros: only shapes matter
    shown = compiled.source[compiled.source.rindex("\ndef step(") if last_only else 0 :]
    print(f"\n# {title}\n\n{shown.strip()}\n")
    alone, (value, gradients) = run_alone(compiled.source, arguments), both(*arguments)
    for other, expected in (("graph", [value, *gradients]), ("paper", by_hand)):
        pairs = zip(alone, expected, strict=True)
        differences.append(max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs))
        print(f"largest difference from the {other}: {differences[-1]:.1e} of the largest entry")


# %% Softmax cross-entropy, as it is defined: what comes out is (softmax(z) - onehot(t)) / N
def cross_entropy(z, t):
    p = np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)
    return -np.mean(np.log(p[np.arange(len(t)), t]))


def cross_entropy_on_paper(z, t):
    p = np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)
    return cross_entropy(z, t), (p - np.eye(z.shape[1])[t]) / len(t)


arrays = rng.normal(size=(4, 3)), np.array([0, 2, 1, 1])
derive("Softmax cross-entropy", cross_entropy, cross_entropy_on_paper, arrays)


# %% Two layers: the error goes back through the second layer's weights and the slope of tanh
def network_on_paper(w1, b1, w2, b2, x, t):
    h = np.tanh(x @ w1 + b1)
    e = h @ w2 + b2 - t
    d = e @ w2.T * (1 - h**2)
    return np.sum(e**2) / 2, x.T @ d, d.sum(axis=0), h.T @ e, e.sum(axis=0)


arrays = [rng.normal(size=n) for n in ((3, 5), (5,), (5, 2), (2,), (4, 3), (4, 2))]
derive("Two layers",
       lambda w1, b1, w2, b2, x, t: np.sum((np.tanh(x @ w1 + b1) @ w2 + b2 - t) ** 2) / 2,
       network_on_paper, arrays)  # fmt: skip


# %% Convolution y = x * w + b, loss sum(y²) / 2: its gradient by y is y, so w slides back over y
def convolution_on_paper(x, w, b):
    windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))
    y = np.einsum("ncijkl,ockl->noij", windows, w) + b[:, None, None]
    around = np.pad(y, ((0, 0), (0, 0), (2, 2), (2, 2)))
    back = sliding_window_view(around, w.shape[2:], axis=(2, 3))
    dx = np.einsum("noijkl,ockl->ncij", back, w[:, :, ::-1, ::-1])
    return np.sum(y**2) / 2, dx, np.einsum("noij,ncijkl->ockl", y, windows), y.sum((0, 2, 3))


arrays = [rng.normal(size=n) for n in ((2, 3, 6, 6), (4, 3, 3, 3), (4,))]
derive("A convolution (the last function of the source: those that it calls are long)",
       lambda x, w, b: np.sum(tg.functional.conv2d(x, w, b) ** 2) / 2,
       convolution_on_paper, arrays, last_only=True)  # fmt: skip
if not all(d <= 1e-12 for d in differences):
    sys.exit(f"results differ by more than 1e-12 of their largest entry: {differences}")
