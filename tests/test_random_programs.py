"""Random programs, run here and in PyTorch: the same values, the same gradients.

2,100 programs in float64, equal to 1e-9, and 2,100 of mixed dtypes. Each has 3 to 30 operations on
a pool of values of different shapes and dtypes: results go back into the pool, so values are
shared, broadcast against each other, and mixed between float32 and float64.
"""

import numpy as np
import pytest

import tinygrad_lite as tg

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

SHAPES = [(), (3,), (2, 3), (1, 3), (2, 1), (4, 2, 3), (3, 3)]

# name: (ours, PyTorch's). Domains are made safe with abs, clip and tanh, the same on both sides.
UNARY = {
    "sin": (np.sin, torch.sin),
    "cos": (np.cos, torch.cos),
    "tanh": (np.tanh, torch.tanh),
    "exp": (lambda x: np.exp(np.tanh(x)), lambda x: torch.exp(torch.tanh(x))),
    "log": (lambda x: np.log(np.abs(x) + 0.5), lambda x: torch.log(torch.abs(x) + 0.5)),
    "sqrt": (lambda x: np.sqrt(x * x + 0.1), lambda x: torch.sqrt(x * x + 0.1)),
    "square": (np.square, torch.square),
    "cube": (lambda x: x**3, lambda x: x**3),
    "reciprocal": (lambda x: 1.0 / (x * x + 1.0), lambda x: 1.0 / (x * x + 1.0)),
    "negative": (lambda x: -x, lambda x: -x),
    "abs": (np.abs, torch.abs),
    "clip": (lambda x: np.clip(x, -0.7, 1.1), lambda x: torch.clamp(x, -0.7, 1.1)),
    "where": (
        lambda x: np.where(x > 0.1, x * 2.0, np.sin(x)),
        lambda x: torch.where(x > 0.1, x * 2.0, torch.sin(x)),
    ),
    "log1p": (lambda x: np.log1p(np.square(x)), lambda x: torch.log1p(torch.square(x))),
    "arctan": (np.arctan, torch.arctan),
    "arcsinh": (np.arcsinh, torch.arcsinh),
    "expm1": (lambda x: np.expm1(np.sin(x)), lambda x: torch.expm1(torch.sin(x))),
    "sum": (
        lambda x: np.sum(x, axis=-1, keepdims=True),
        lambda x: torch.sum(x, dim=-1, keepdim=True),
    ),
    "mean": (lambda x: np.mean(x, axis=0), lambda x: torch.mean(x, dim=0)),
    "var": (lambda x: np.var(x, axis=-1), lambda x: torch.var(x, dim=-1, correction=0)),
    "prod": (lambda x: np.prod(np.tanh(x), axis=-1), lambda x: torch.prod(torch.tanh(x), dim=-1)),
    "max": (
        lambda x: np.max(x, axis=-1, keepdims=True),
        lambda x: torch.amax(x, dim=-1, keepdim=True),
    ),
    "min": (lambda x: np.min(x), lambda x: torch.amin(x)),
    "cumsum": (lambda x: np.cumsum(x, axis=-1), lambda x: torch.cumsum(x, dim=-1)),
    "cumprod": (
        lambda x: np.cumprod(np.tanh(x), axis=0),
        lambda x: torch.cumprod(torch.tanh(x), dim=0),
    ),
    "logsumexp": (lambda x: tg.logsumexp(x, axis=-1), lambda x: torch.logsumexp(x, dim=-1)),
    "transpose": (lambda x: np.swapaxes(x, 0, -1), lambda x: torch.swapaxes(x, 0, -1)),
    "flip": (lambda x: np.flip(x, 0), lambda x: torch.flip(x, (0,))),
    "ravel": (lambda x: np.reshape(x, -1)[:3], lambda x: torch.reshape(x, (-1,))[:3]),
    "getitem": (lambda x: x[..., [0, -1, 0]], lambda x: x[..., [0, -1, 0]]),
    "first": (lambda x: x[0], lambda x: x[0]),
    "sort": (lambda x: np.sort(x, axis=-1), lambda x: torch.sort(x, dim=-1)[0]),
    "roll": (lambda x: np.roll(x, 1, axis=-1), lambda x: torch.roll(x, 1, dims=-1)),
    "norm": (lambda x: np.linalg.norm(x, axis=-1), lambda x: torch.linalg.vector_norm(x, dim=-1)),
    "float32": (lambda x: x.astype(np.float32), lambda x: x.to(torch.float32)),
    "float64": (lambda x: x.astype(np.float64), lambda x: x.to(torch.float64)),
}
NEEDS_AXIS = [
    "sum", "mean", "var", "prod", "max", "cumsum", "cumprod", "logsumexp", "transpose", "flip",
    "getitem", "first", "sort", "roll", "norm",
]  # fmt: skip
BINARY = {
    "add": (lambda x, y: x + y, lambda x, y: x + y),
    "subtract": (lambda x, y: x - y, lambda x, y: x - y),
    "multiply": (lambda x, y: x * y, lambda x, y: x * y),
    "divide": (lambda x, y: x / (np.square(y) + 1.0), lambda x, y: x / (torch.square(y) + 1.0)),
    "maximum": (np.maximum, torch.maximum),
    "minimum": (np.minimum, torch.minimum),
    "hypot": (lambda x, y: np.hypot(x, y + 3.0), lambda x, y: torch.hypot(x, y + 3.0)),
    "arctan2": (
        lambda x, y: np.arctan2(x, np.abs(y) + 0.5),
        lambda x, y: torch.arctan2(x, torch.abs(y) + 0.5),
    ),
    "logaddexp": (np.logaddexp, torch.logaddexp),
    "power": (
        lambda x, y: np.power(np.abs(x) + 0.5, np.tanh(y)),
        lambda x, y: torch.pow(torch.abs(x) + 0.5, torch.tanh(y)),
    ),
    "matmul": (np.matmul, torch.matmul),
    "stack": (
        lambda x, y: np.stack(np.broadcast_arrays(x, y)),
        lambda x, y: torch.stack(torch.broadcast_tensors(x, y)),
    ),
    "outer": (lambda x, y: x[..., None] * y, lambda x, y: x[..., None] * y),
    "scalar": (lambda x, y: 1.5 * x - y / 2, lambda x, y: 1.5 * x - y / 2),
}


def promotable(name, x, y):
    """PyTorch's 0-d tensors do not widen others, and its matmul and hypot do not mix dtypes."""
    if x.dtype != y.dtype and (
        0 in (x.ndim, y.ndim) or name in {"matmul", "hypot", "arctan2", "logaddexp", "stack"}
    ):
        return False
    if name == "matmul":
        return (
            min(x.ndim, y.ndim) > 0
            and x.shape[-1] == y.shape[-2 if y.ndim > 1 else 0]
            and max(x.ndim, y.ndim) < 3
        )
    if name == "outer":
        x, name = x[..., None], "multiply"
    try:
        return len(np.broadcast_shapes(x.shape, y.shape)) < 4
    except ValueError:
        return False


def program(seed, mixed):
    """Run one random program on both sides; yield each value and gradient as (ours, theirs)."""
    rng = np.random.default_rng(seed)
    ours, theirs = [], []
    for _ in range(rng.integers(2, 5)):
        shape = SHAPES[rng.integers(len(SHAPES))]
        dtype = rng.choice([np.float32, np.float64]) if mixed else np.float64
        value = rng.uniform(-2, 2, shape).astype(dtype)
        ours.append(tg.tensor(value, requires_grad=True))
        theirs.append(torch.tensor(value, requires_grad=True))
    leaves = list(zip(ours, theirs, strict=True))
    names = []
    length = int(rng.integers(3, 31))
    while len(names) < length:
        i, j = rng.integers(len(ours), size=2)
        x, y = ours[i], ours[j]
        if rng.random() < 0.5:
            name = str(rng.choice(list(UNARY)))
            if (name in NEEDS_AXIS and x.ndim == 0) or (not mixed and name == "float32"):
                continue
            (f, t), used = UNARY[name], [i]
        else:
            name = str(rng.choice(list(BINARY)))
            if not promotable(name, x, y):
                continue
            (f, t), used = BINARY[name], [i, j]
        out = f(*[ours[k] for k in used])
        if out.size > 200 or np.abs(out.data).max() > 1e3:
            out, f, t, used, name = x * 0.5, None, None, [i], "half"
        ours.append(out)
        theirs.append(theirs[i] * 0.5 if t is None else t(*[theirs[k] for k in used]))
        names.append(name)
    loss, their_loss = 0.0, 0.0
    for a, b in zip(ours[-3:], theirs[-3:], strict=True):
        loss = (
            loss + (a.astype(np.float64) * np.cos(np.arange(float(a.size)).reshape(a.shape))).sum()
        )
        their_loss = (
            their_loss
            + (
                b.double()
                * torch.cos(torch.arange(b.numel(), dtype=torch.float64).reshape(b.shape))
            ).sum()
        )
    loss.backward()
    their_loss.backward()
    for a, b in zip(ours, theirs, strict=True):
        yield names, a.data, b.detach().numpy()
    for a, b in leaves:
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            assert a.grad.dtype == a.dtype
            assert not any(np.shares_memory(a.grad.data, t.data) for t in ours)
            yield names, a.grad.data, b.grad.numpy()


@pytest.mark.parametrize("mixed", [False, True], ids=["float64", "mixed"])
@pytest.mark.parametrize("block", range(14))
def test_random_programs_agree_with_pytorch(block, mixed):
    tolerance = 2e-4 if mixed else 1e-9
    for seed in range(block * 150, (block + 1) * 150):
        for names, a, b in program(seed, mixed):
            assert a.shape == b.shape, (seed, names)
            assert a.dtype == b.dtype, (seed, names)
            scale = 1 + np.abs(b).max(initial=0)
            np.testing.assert_allclose(
                a / scale, b / scale, atol=tolerance, rtol=0, err_msg=f"{seed} {names}"
            )
