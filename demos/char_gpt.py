# %% [markdown]
# # A small language model
# A transformer that reads characters and predicts the next one: embeddings of characters and of
# positions, blocks of causal self-attention and a GELU network, layer norms, AdamW under a cosine
# schedule. It learns *Alice's Adventures in Wonderland* (Lewis Carroll, 1865), and then writes.

# %%
import sys
import time

import numpy as np
from pictures import learning_curve
from tqdm import tqdm

import tinygrad_lite as tg
from tinygrad_lite import nn, optim
from tinygrad_lite.data import alice
from tinygrad_lite.functional import attention, softmax
from tinygrad_lite.losses import cross_entropy

rng = tg.manual_seed(0)
text = alice()
alphabet = sorted(set(text))
ids = np.array([alphabet.index(c) for c in text])
split = int(0.9 * len(ids))
train, held_out = ids[:split], ids[split:]
share = np.bincount(train, minlength=len(alphabet)) / len(train)
unigram = -np.sum(share[share > 0] * np.log(share[share > 0]))
print(f"{len(text):,} characters, {len(alphabet)} different; unigram entropy {unigram:.3f} nats")

# %% The model
context, width, heads, depth = 64, 64, 4, 2


class Block(nn.Module):
    def __init__(self):
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.gelu = nn.Linear(width, 4 * width), nn.GELU(approximate="tanh")
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        n, length, _ = x.shape
        parts = self.qkv(self.norm1(x)).reshape(n, length, 3, heads, width // heads)
        q, k, v = np.transpose(parts, (2, 0, 3, 1, 4))
        mixed = attention(q, k, v, is_causal=True)  # (n, heads, length, width / heads)
        x = x + self.out(np.swapaxes(mixed, 1, 2).reshape(n, length, width))
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self):
        self.token, self.place = nn.Embedding(len(alphabet), width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*[Block() for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(alphabet))

    def forward(self, ids):
        x = self.token(ids) + self.place(np.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))


model = GPT()
for p in (model.token.weight, model.place.weight):
    p.data *= 0.1  # so that the first predictions are cautious
print(model.summary((1, context), dtype=int))


def batch(source, n=32):
    start = rng.integers(0, len(source) - context, n)
    window = source[start[:, None] + np.arange(context + 1)]
    return window[:, :-1], window[:, 1:]


def loss_of(x, t):
    return cross_entropy(np.swapaxes(model(x), 1, 2), t)


def held_out_loss():
    with tg.no_grad():
        return np.mean([loss_of(*batch(held_out)).item() for _ in range(5)])


# %% Training
steps, report = 900, 30
optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
schedule = optim.CosineAnnealingLR(optimizer, T_max=steps)
losses, tests, recent = [], [], []
start = time.perf_counter()
bar = tqdm(range(steps), desc="training", unit="step")
for step in bar:
    optimizer.zero_grad()
    loss = loss_of(*batch(train))
    loss.backward()
    optim.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    recent.append(loss.item())
    if (step + 1) % report == 0:
        losses.append(np.mean(recent))
        tests.append(held_out_loss())
        recent.clear()
        bar.set_postfix(loss=f"{losses[-1]:.3f}", held_out=f"{tests[-1]:.3f}", refresh=False)
seconds = time.perf_counter() - start


# %% What it writes: each next character drawn from the predicted probabilities, a little sharpened
def write(prompt, length=300, sharpness=1.25):
    written = [alphabet.index(c) for c in prompt]
    with tg.no_grad():
        for _ in range(length):
            logits = model(np.array([written[-context:]])).data[0, -1]
            written.append(rng.choice(len(alphabet), p=softmax(logits.astype(float) * sharpness)))
    return "".join(alphabet[i] for i in written)


print(f"\n{write('Alice was ')}\n")
aim = ("unigram entropy", round(unigram, 2))
curve = learning_curve("char_gpt", losses, tests, "held-out loss (nats)", aim, f"× {report} steps")
print(f"held-out loss {tests[-1]:.3f} nats a character (unigram: {unigram:.3f}), {seconds:.0f} s")
print(f"  learning curve: {curve}")
if tests[-1] > 0.75 * unigram:
    sys.exit(f"expected less than three quarters of the unigram entropy, got {tests[-1]:.3f}")
