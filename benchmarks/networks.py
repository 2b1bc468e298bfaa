"""Training steps and layers beside PyTorch: the same networks, weights, data and optimiser.

Both run in turn in one process, on one thread each; first their losses and gradients are compared.
`python benchmarks/networks.py` prints medians and ratios; `--quick` runs each once, for CI.
"""

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import sys
import time

import numpy as np
import torch

import tinygrad_lite as tg

torch.set_num_threads(1)
rng = np.random.default_rng(0)


def lenet(nn):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def cifar_net(nn):
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 5, padding=2), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1024, 64), nn.Linear(64, 10),
    )  # fmt: skip


def encoder(nn):
    layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(64 * 64, 10))


ROWS = {  # name: network, shape of its input
    "LeNet, batch 64": (lenet, (64, 1, 28, 28)),
    "CIFAR-10 network, batch 64": (cifar_net, (64, 3, 32, 32)),
    "transformer layer, 64 wide, batch 32 of 64": (encoder, (32, 64, 64)),
}


def steps(build, shape):
    """One training step of each engine, which returns its loss."""
    x, t = rng.standard_normal(shape, np.float32), rng.integers(0, 10, shape[0])
    theirs, ours = build(torch.nn), build(tg.nn)
    ours.load_state_dict({name: p.detach().numpy() for name, p in theirs.state_dict().items()})
    adam, torch_adam = tg.optim.Adam(ours.parameters()), torch.optim.Adam(theirs.parameters())
    torch_x, torch_t = torch.tensor(x), torch.tensor(t)

    def our_step():
        adam.zero_grad()
        loss = tg.losses.cross_entropy(ours(x), t)
        loss.backward()
        adam.step()
        return loss.item()

    def their_step():
        torch_adam.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(torch_x), torch_t)
        loss.backward()
        torch_adam.step()
        return loss.item()

    return our_step, their_step, ours, theirs


def main():
    repeats = 1 if "--quick" in sys.argv else 25
    print(f"{'training step (Adam), one thread':45} {'ours':>9} {'PyTorch':>9}   ratio (quartiles)")
    for name, (build, shape) in ROWS.items():
        our_step, their_step, ours, theirs = steps(build, shape)
        losses = our_step(), their_step()
        np.testing.assert_allclose(*losses, rtol=1e-4)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            scale = q.grad.abs().max().item()  # in float32 a near tie of a pool falls either way
            np.testing.assert_allclose(p.grad.data, q.grad, rtol=0, atol=1e-2 * scale)
        times = np.zeros((repeats, 2))
        for row in times:
            for k, step in enumerate((our_step, their_step)):
                start = time.perf_counter()
                step()
                row[k] = time.perf_counter() - start
        ratio = np.quantile(times[:, 0] / times[:, 1], [0.5, 0.25, 0.75])
        a, b = 1e3 * np.median(times, axis=0)
        print(
            f"{name:45} {a:6.1f} ms {b:6.1f} ms   {ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})"
        )


main()
