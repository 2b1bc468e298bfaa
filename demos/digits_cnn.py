# %% [markdown]
# # A convolutional network that reads digits
# Convolution, relu, max-pooling, twice, and a linear layer; cross-entropy; Adam under a one-cycle
# schedule; 1,437 real digits of 8×8 pixels to learn from, 360 others to be tested on.

# %%
import sys
import time

import numpy as np
from pictures import learning_curve, save_light_and_dark
from tqdm import tqdm

import tinygrad_lite as tg
from tinygrad_lite import nn, optim
from tinygrad_lite.data import DataLoader, TensorDataset, digits
from tinygrad_lite.losses import cross_entropy

tg.manual_seed(0)
(images, labels), (test_images, test_labels) = digits()
images, test_images = images[:, None], test_images[:, None]  # one channel: (N, 1, 8, 8)

# %% The network
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(128, 10),
)
print(model.summary((1, 1, 8, 8)))


def accuracy():
    with tg.no_grad():
        return np.mean(model(test_images).argmax(axis=1) == test_labels)


# %% Training. Each image is moved by up to a pixel, so that the network learns shapes, not places
def moved(batch):
    padded = np.pad(batch, ((0, 0), (0, 0), (1, 1), (1, 1)))
    down, right = tg.rng.generator().integers(0, 3, 2)
    return padded[:, :, down : down + 8, right : right + 8]


epochs = 30
loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True)
optimizer = optim.Adam(model.parameters(), lr=1e-3)
schedule = optim.OneCycleLR(optimizer, max_lr=1e-2, epochs=epochs, steps_per_epoch=len(loader))
losses, accuracies = [], []
start = time.perf_counter()
bar = tqdm(range(epochs), desc="training", unit="epoch")
for _ in bar:
    total = 0.0
    for x, t in loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(moved(x)), t)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item() * len(x)
    losses.append(total / len(images))
    accuracies.append(accuracy())
    bar.set_postfix(loss=f"{losses[-1]:.4f}", held_out=f"{accuracies[-1]:.1%}", refresh=False)
seconds = time.perf_counter() - start

# %% The learning curve, and the graph of a loss of two digits
curve = learning_curve(
    "digits_cnn",
    losses,
    100 * np.array(accuracies),
    aim=("aim", 98),
    right="held-out digits read right (%)",
)
loss = cross_entropy(model(images[:2]), labels[:2])
loss.backward(retain_graph=True)  # so that the picture knows what flowed where
drawn = save_light_and_dark("digits_cnn", loss)

# %%
print(f"\n{accuracies[-1]:.1%} of {len(test_labels)} held-out digits read right, {seconds:.0f} s")
print(f"  learning curve: {curve}")
print(f"  graph of the loss: {drawn}")
if accuracies[-1] < 0.98:
    sys.exit(f"expected at least 98 %, got {accuracies[-1]:.1%}")
