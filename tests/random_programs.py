"""The random programs of test_random_programs.py, as functions that can be run again."""

import numpy as np

import tinygrad_lite as tg
from tests import test_random_programs as programs


def function(seed, mixed):
    """A function of arrays to a number, made of 3 to 30 random operations, and its arguments."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(rng.integers(2, 5)):
        shape = programs.SHAPES[rng.integers(len(programs.SHAPES))]
        dtype = rng.choice([np.float32, np.float64]) if mixed else np.float64
        value = rng.uniform(-2, 2, shape).astype(dtype)
        values.append(value if value.ndim else value[()])
    steps, pool, length = [], [tg.tensor(v) for v in values], int(rng.integers(3, 31))
    while len(steps) < length:
        i, j = (int(k) for k in rng.integers(len(pool), size=2))
        x, y = pool[i], pool[j]
        if rng.random() < 0.5:
            name = str(rng.choice(list(programs.UNARY)))
            if (name in programs.NEEDS_AXIS and x.ndim == 0) or (not mixed and name == "float32"):
                continue
            f, used = programs.UNARY[name][0], (i,)
        else:
            name = str(rng.choice(list(programs.BINARY)))
            if not programs.promotable(name, x, y):
                continue
            f, used = programs.BINARY[name][0], (i, j)
        out = f(*[pool[k] for k in used])
        if out.size > 200 or np.abs(np.asarray(out.data)).max() > 1e3:
            f, used, out = (lambda x: x * 0.5), (i,), x * 0.5
        steps.append((f, used))
        pool.append(out if isinstance(out, tg.Tensor) else tg.tensor(out))

    def program(*leaves):
        pool = list(leaves)
        for f, used in steps:
            pool.append(f(*[pool[k] for k in used]))
        total = 0.0
        for value in pool[len(leaves) :]:
            total = total + np.sum(np.tanh(value))
        return total

    return program, values
