# %% [markdown]
# # Reading digits
# A two-layer network, written out with Tensors and trained by plain gradient descent on 1,437 real
# digits of 8×8 pixels. First of all, its loss's gradient is held against the formula on paper.

# %%
import sys
import time

import numpy as np
from pictures import learning_curve, save_graph
from tqdm import tqdm

import tinygrad_lite as tg
from tinygrad_lite.data import digits

rng = np.random.default_rng(0)
(images, labels), (test_images, test_labels) = digits()
x, test_x = images.reshape(-1, 64), test_images.reshape(-1, 64)
one_hot = np.eye(10, dtype=np.float32)


# %% The loss, composed from primitives: minus the log of the probability of the right class
def cross_entropy(logits, t):
    """mean over the batch of logsumexp(logits) - logits[right class]; t holds one-hot rows."""
    return np.mean(tg.logsumexp(logits, axis=1) - np.sum(logits * t, axis=1))


# %% Its gradient: the graph's beside the closed form (softmax(x) - t) / N
logits = tg.tensor(rng.normal(size=(4, 10)), requires_grad=True)
t = one_hot[labels[:4]]
cross_entropy(logits, t).backward()
e = np.exp(logits.data - logits.data.max(axis=1, keepdims=True))
closed_form = (e / e.sum(axis=1, keepdims=True) - t) / len(t)

print("Gradient of softmax cross-entropy, first of 4 rows of logits")
print("  class      graph                  (softmax(x) - t) / N")
for k in range(10):
    print(f"  {k}    {logits.grad.data[0, k]:22.17f} {closed_form[0, k]:22.17f}")
difference = np.max(np.abs(logits.grad.data - closed_form))
print(f"  largest difference in all 4 rows: {difference:.1e}\n")


# %% The network: 64 pixels, 256 hidden units, 10 classes, in float32
def parameter(name, value):
    p = tg.tensor(value, requires_grad=True, dtype=np.float32)
    p.name = name  # for the picture of the graph
    return p


w1 = parameter("w1", rng.normal(0, np.sqrt(2 / 64), (64, 256)))
b1 = parameter("b1", np.zeros(256))
w2 = parameter("w2", rng.normal(0, np.sqrt(2 / 256), (256, 10)))
b2 = parameter("b2", np.zeros(10))


def network(x):
    return np.maximum(x @ w1 + b1, 0) @ w2 + b2


def accuracy():
    with tg.no_grad():
        return np.mean(network(test_x).argmax(axis=1) == test_labels)


# %% Training
epochs, batch = 60, 32
losses, accuracies = [], []
start = time.perf_counter()
bar = tqdm(range(epochs), desc="training", unit="epoch")
for epoch in bar:
    lr = 0.5 * (1 - epoch / epochs)  # long steps first, short ones to settle
    total = 0.0
    for chosen in np.split(rng.permutation(len(x)), range(batch, len(x), batch)):
        loss = cross_entropy(network(x[chosen]), one_hot[labels[chosen]])
        loss.backward()
        with tg.no_grad():
            for p in (w1, b1, w2, b2):
                p -= lr * p.grad
                p.zero_grad()  # without this, the next gradient would be added to this one
        total += loss.item() * len(chosen)
    losses.append(total / len(x))
    accuracies.append(accuracy())
    bar.set_postfix(loss=f"{losses[-1]:.4f}", held_out=f"{accuracies[-1]:.1%}", refresh=False)
seconds = time.perf_counter() - start

# %% The learning curve
curve = learning_curve(
    "digits_mlp", losses, 100 * np.array(accuracies), "held-out digits read right (%)", ("aim", 96)
)

# %% The graph of one small loss: two digits through the network
loss = cross_entropy(network(x[:2]), one_hot[labels[:2]])
loss.backward(retain_graph=True)  # so that the picture knows what flowed where
drawn = save_graph("digits_mlp", tg.draw(loss))

# %%
print(f"\n{accuracies[-1]:.1%} of {len(test_x)} held-out digits read right, after {seconds:.1f} s")
print(f"  learning curve: {curve}")
print(f"  graph of the loss: {drawn}")
if difference > 1e-12:
    sys.exit(f"the graph's gradient is {difference:.1e} from the closed form")
if accuracies[-1] < 0.96 or seconds > 30:
    sys.exit(f"expected at least 96 % in 30 s, got {accuracies[-1]:.1%} in {seconds:.1f} s")
