# %% [markdown]
# # LeNet on MNIST
# The network of Y. LeCun et al., Gradient-based learning applied to document recognition, 1998,
# with relu and max-pooling in place of its tanh and averages. `--data FOLDER` names the folder of
# MNIST's files; `--download` fetches them. If only the 10,000 test images are there, the first
# 8,000 are trained on and the others tested.

# %%
import argparse
import sys
import time

import numpy as np
from pictures import learning_curve
from tqdm import tqdm

import tinygrad_lite as tg
from tinygrad_lite import nn, optim
from tinygrad_lite.data import DataLoader, TensorDataset, mnist
from tinygrad_lite.losses import cross_entropy

parser = argparse.ArgumentParser(description="LeNet on MNIST")
parser.add_argument("--data", default="mnist", help="the folder of MNIST's four files")
parser.add_argument("--download", action="store_true", help="fetch them into that folder")
parser.add_argument("--epochs", type=int, default=5)
options = parser.parse_args()
if options.epochs < 1:
    parser.error("--epochs must be at least 1")

tg.manual_seed(0)
try:
    (images, labels), (test_images, test_labels) = mnist(options.data, download=options.download)
except FileNotFoundError as error:
    try:
        every, every_label = mnist(options.data, "test")
    except (OSError, ValueError):
        sys.exit(f"{error}\n(download=True is --download here)")
    images, labels, test_images, test_labels = (
        *(every[:8000], every_label[:8000]),
        *(every[8000:], every_label[8000:]),
    )
    print("only the test images are here: 8,000 to train on, 2,000 to test")
except (OSError, ValueError, ImportError) as error:
    sys.exit(str(error))
images, test_images = images[:, None], test_images[:, None]

# %% The network
model = nn.Sequential(
    nn.Conv2d(1, 6, 5, padding=2),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(6, 16, 5),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(400, 120),
    nn.ReLU(),
    nn.Linear(120, 84),
    nn.ReLU(),
    nn.Linear(84, 10),
)
print(model.summary((1, 1, 28, 28)))


def accuracy():
    with tg.no_grad():
        read = [model(x).argmax(axis=1) for x in np.array_split(test_images, 10)]
    return np.mean(np.concatenate(read) == test_labels)


# %% Training
loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True)
optimizer = optim.Adam(model.parameters())
schedule = optim.OneCycleLR(
    optimizer, max_lr=4e-3, epochs=options.epochs, steps_per_epoch=len(loader)
)
losses, accuracies = [], []
start = time.perf_counter()
for epoch in range(options.epochs):
    bar, total = tqdm(loader, desc=f"epoch {epoch + 1}", unit="batch"), 0.0
    for x, t in bar:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), t)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item() * len(x)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    losses.append(total / len(images))
    accuracies.append(accuracy())
    print(f"  loss {losses[-1]:.4f}, {accuracies[-1]:.2%} of the test images read right")

# %%
seconds = time.perf_counter() - start
curve = learning_curve(
    "mnist_lenet",
    losses,
    100 * np.array(accuracies),
    aim=("aim", 97.5),
    right="test images read right (%)",
)
print(f"\n{accuracies[-1]:.2%} of {len(test_labels)} test images read right after {seconds:.0f} s")
print(f"  learning curve: {curve}")
if accuracies[-1] < 0.975:
    sys.exit(f"expected at least 97.5 %, got {accuracies[-1]:.2%}")
