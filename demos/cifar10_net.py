# %% [markdown]
# # A small network for colour images
# Three convolutions of 5×5, max-pooling after each, two linear layers, cross-entropy. With
# `--data FOLDER` it learns CIFAR-10 (`--download` fetches it). Without, it learns coloured shapes
# that are drawn here, so that it runs anywhere; these are far easier than photographs.

# %%
import argparse
import sys
import time

import numpy as np
from pictures import learning_curve
from tqdm import tqdm

import tinygrad_lite as tg
from tinygrad_lite import nn, optim
from tinygrad_lite.data import DataLoader, TensorDataset, cifar10
from tinygrad_lite.losses import cross_entropy

parser = argparse.ArgumentParser(description="a small network for 32×32 colour images")
parser.add_argument("--data", help="the folder of CIFAR-10; without it, generated shapes")
parser.add_argument("--download", action="store_true", help="fetch CIFAR-10 into that folder")
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--optimizer", choices=["SGD", "Adam"], default="Adam")
options = parser.parse_args()
if options.epochs < 1 or (options.download and not options.data):
    parser.error("--epochs must be at least 1, and --download needs --data FOLDER")
rng = tg.manual_seed(0)


# %% Shapes: disc, square, ring, cross, stripes, warm or cold: ten classes, placed anywhere
def shapes(n):
    y, x = np.mgrid[:32, :32][:, None] - rng.uniform(13, 19, (2, n, 1, 1))
    r, size = np.hypot(x, y), rng.uniform(6, 10, (n, 1, 1))
    forms = np.stack([
        r < size,
        np.maximum(abs(x), abs(y)) < 0.9 * size,
        abs(r - 0.8 * size) < 2,
        (np.minimum(abs(x), abs(y)) < 2) & (r < size),
        (np.floor(x / 3) % 2 == 0) & (r < size),
    ])  # fmt: skip
    labels = rng.integers(0, 10, n)
    form = forms[labels % 5, np.arange(n)][:, None]
    colour = rng.uniform(0.5, 1, (n, 3, 1, 1)) * np.where(
        (labels < 5)[:, None, None, None], [[[1.0]], [[0.6]], [[0.2]]], [[[0.2]], [[0.6]], [[1.0]]]
    )
    images = np.where(form, colour, rng.uniform(0, 0.4, (n, 3, 1, 1)))
    return (images + rng.normal(0, 0.1, images.shape)).astype(np.float32), labels


if options.data:
    try:
        train, test = cifar10(options.data, download=options.download)
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"{error}\n(download=True is --download here)")
    (images, labels), (test_images, test_labels) = train, test
else:
    print("no --data: training on generated coloured shapes, not on CIFAR-10\n")
    (images, labels), (test_images, test_labels) = shapes(2000), shapes(500)

# %% The network
model = nn.Sequential(
    nn.Conv2d(3, 32, 5, padding=2),
    nn.MaxPool2d(2),
    nn.Conv2d(32, 32, 5, padding=2),
    nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 5, padding=2),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(1024, 64),
    nn.Linear(64, 10),
)
print(model.summary((1, 3, 32, 32)))
if options.optimizer == "SGD":
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
else:
    optimizer = optim.Adam(model.parameters())


def accuracy():
    with tg.no_grad():
        parts = np.array_split(test_images, max(1, len(test_images) // 100))
        return np.mean(np.concatenate([model(x).argmax(axis=1) for x in parts]) == test_labels)


# %% Training
loader = DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True)
losses, accuracies = [], []
start = time.perf_counter()
for epoch in range(options.epochs):
    bar, total = tqdm(loader, desc=f"epoch {epoch + 1}", unit="batch"), 0.0
    for x, t in bar:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), t)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    losses.append(total / len(images))
    accuracies.append(accuracy())
    print(f"  loss {losses[-1]:.4f}, {accuracies[-1]:.1%} of the test images classified right")

# %%
curve = learning_curve(
    "cifar10_net", losses, 100 * np.array(accuracies), right="test images classified right (%)"
)
print(f"\n{accuracies[-1]:.1%} of {len(test_labels)} test images classified right")
print(f"  after {time.perf_counter() - start:.0f} s; learning curve: {curve}")
if not options.data and accuracies[-1] < 0.85:
    sys.exit(f"expected at least 85 % of the generated shapes, got {accuracies[-1]:.1%}")
