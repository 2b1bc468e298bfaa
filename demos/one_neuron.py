# %% [markdown]
# # One neuron, by hand
# Two inputs, a weight for each, a bias and a tanh; the loss is half the squared distance to a
# target. Few enough numbers to derive every gradient on paper and hold it against the graph's.

# %% The neuron, as plain NumPy would write it
import math
import sys

import numpy as np
from pictures import save_light_and_dark

import tinygrad_lite as tg


def parameter(name, value):
    t = tg.tensor(value, requires_grad=True)
    t.name = name
    return t


x1, x2, target = 2.0, -1.0, 0.2
w1, w2, b = parameter("w1", 0.5), parameter("w2", 0.8), parameter("b", 0.3)

z = w1 * x1 + w2 * x2 + b
z.name = "z"
a = np.tanh(z)
a.name = "a"
loss = 0.5 * (a - target) ** 2
loss.name = "loss"
print(f"z = {z.item():.4f}, a = tanh(z) = {a.item():.4f}, loss = {loss.item():.4f}\n")

# %% The ledger: what every step of the backward pass hands on, and to whom
tg.explain(loss)

# %% The same on paper
# The chain rule, from the loss back to the sum z:
#     dloss/da = a - target        da/dz = 1 - a²
# and z is linear in w1, w2 and b, with slopes x1, x2 and 1.
loss.backward()

activation = math.tanh(0.5 * x1 + 0.8 * x2 + 0.3)
slope = (activation - target) * (1 - activation**2)
print("\n                 by hand             from the graph")
for t, by_hand in ((w1, slope * x1), (w2, slope * x2), (b, slope)):
    print(f"dloss/d{t.name:<3} {by_hand:20.16f} {t.grad.item():20.16f}")
    if not math.isclose(by_hand, t.grad.item(), rel_tol=1e-12):
        sys.exit(f"the gradients of {t.name} differ")

# %% The graph, with values and gradients (∇) on its cards
print(f"\nThe graph: {save_light_and_dark('one_neuron', loss)}")
