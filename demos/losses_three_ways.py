# %% [markdown]
# # One loss, three ways
# Every loss here exists as a graph of primitives, as one fused node, and as a formula on paper.
# This demo takes softmax cross-entropy apart and holds all of its gradients against each other;
# then it does the same, in one line each, for other losses.

# %%
import sys
from functools import partial

import numpy as np
from pictures import save_light_and_dark

import tinygrad_lite as tg
from tinygrad_lite import losses
from tinygrad_lite.functional import softmax

np.set_printoptions(precision=8, suppress=True)
x = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0]])  # logits: two samples, three classes
labels = np.array([1, 2])
one_hot = np.eye(3)[labels]
n = len(x)

# %% The Jacobian of softmax, row by row: diag(y) - y yᵀ
y = softmax(x)
jacobian = tg.jacobian(softmax)(x)  # shape (2, 3, 2, 3)
print("Jacobian of softmax at", x[0], "from the graph, and diag(y) - y yᵀ:")
for row, paper in zip(jacobian[0, :, 0], np.diag(y[0]) - np.outer(y[0], y[0]), strict=True):
    print(f"  {row}   {paper}")

# %% Four ways to the gradient of the mean cross-entropy
by_chain_rule = np.zeros_like(x)
for i in range(n):  # dL/dy = -1 / (n y[t]) at the label, then through the Jacobian
    by_chain_rule[i] = (-one_hot[i] / (n * y[i])) @ jacobian[i, :, i]
gradients = {
    "chain rule through the Jacobian": by_chain_rule,
    "composed graph": tg.grad(partial(losses.cross_entropy, target=labels, fused=False))(x),
    "fused node": tg.grad(partial(losses.cross_entropy, target=labels))(x),
    "on paper: (softmax(x) - onehot)/N": (y - one_hot) / n,
}
single = tg.grad(partial(losses.cross_entropy, target=labels))(x.astype(np.float32))
print("\nGradient of cross_entropy, by")
for name, g in gradients.items():
    print(f"  {name:34} {g[0]} {g[1]}")
values = list(gradients.values())
scale = np.abs(values[0]).max()
apart = max(np.abs(a - b).max() for a in values for b in values) / scale
print(f"  {'fused node, in float32':34} {single[0]} {single[1]}")
print(f"  largest difference in float64, relative to the largest entry: {apart:.1e}")

# %% Other losses: the graph, the fused node, the paper
t = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
sigmoid = 1 / (1 + np.exp(-x))
paper = {
    "squared_error": (0 * x, x),
    "mse_loss": (t, 2 * (x - t) / x.size),
    "l1_loss": (t, np.sign(x - t) / x.size),
    "huber_loss": (t, np.clip(x - t, -1, 1) / x.size),
    "sigmoid_cross_entropy": (t, (sigmoid - t) / n),
    "binary_cross_entropy_with_logits": (t, (sigmoid - t) / x.size),
    "soft_margin_loss": (2 * t - 1, (sigmoid - t) / x.size),
    "kl_div": (one_hot, -one_hot / x.size),
}
print(f"\n{'first row of the gradient of':33} {'composed':36} {'fused':36} on paper")
worst = apart
for name, (target, formula) in paper.items():
    loss = partial(getattr(losses, name), target=target)
    composed, fused = (tg.grad(partial(loss, fused=way))(x) for way in (False, True))
    print(f"{name:33} {composed[0]!s:36} {fused[0]!s:36} {formula[0]}")
    worst = max(worst, np.abs(composed - formula).max(), np.abs(fused - formula).max())

# %% No clipping constant: at logits of ten thousand all three still agree
far = np.array([[1e4, -1e4, 0.0]])
for name in ("cross_entropy", "sigmoid_cross_entropy"):
    target = [1] if name == "cross_entropy" else [[0.0, 1.0, 0.0]]
    for way in (False, True):
        loss = partial(getattr(losses, name), target=target, fused=way)
        value, g = tg.value_and_grad(loss)(far)
        way = "fused" if way else "composed"
        print(f"{name:21} at {far[0]}, {way:8}: {value:.4f}, gradient {g[0]}")

# %% Both graphs, side by side: what the fused node stands for
pair = []
for way in (False, True):
    logits = tg.tensor(x, requires_grad=True)
    logits.name = "logits"
    loss = losses.cross_entropy(logits, labels, fused=way)
    loss.name = "fused" if way else "composed"
    loss.backward()
    pair.append(loss)
print(f"\nBoth graphs: {save_light_and_dark('losses_three_ways', compare=pair)}")
if apart > 1e-15 or worst > 1e-12:
    sys.exit(f"the gradients differ by {worst:.1e}")
