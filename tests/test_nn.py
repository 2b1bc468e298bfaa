"""Modules and layers: against PyTorch in float64, and the traps that leave a network untrained."""

import collections
import copy
import dataclasses
import inspect
import itertools
import pickle

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite import nn
from tinygrad_lite.nn.layers import Layer

torch = pytest.importorskip("torch")
rng = np.random.default_rng(11)


def grid(**options):
    """Every combination of the options' values."""
    return [dict(zip(options, v, strict=True)) for v in itertools.product(*options.values())]


def normal(*shape):
    return rng.standard_normal(shape)


def pair(name, args=(), options=None):
    """Our layer and PyTorch's, in float64."""
    options, ours, theirs = options or {}, getattr(nn, name), getattr(torch.nn, name)
    has = [inspect.signature(kind.__init__).parameters.keys() for kind in (ours, theirs)]
    double = [
        {"dtype": d} if "dtype" in h else {}
        for h, d in zip(has, (np.float64, torch.float64), strict=True)
    ]
    return ours(*args, **options, **double[0]), theirs(*args, **options, **double[1]).double()


def close(ours, theirs, rtol=1e-9):
    for a, b in zip(ours, theirs, strict=True):
        a = np.zeros(b.shape) if a is None else a.numpy()
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=rtol, atol=rtol / 10)


def agree(ours, theirs, *inputs, second=False, rtol=1e-9):
    """Names, outputs, gradients of inputs and parameters, and a second-order product."""
    ours.load_state_dict(theirs.state_dict())
    same_state(ours, theirs)
    ours.zero_grad()
    real = [x.dtype.kind == "f" for x in inputs]
    xs = [tg.tensor(x, requires_grad=r) if r else x for x, r in zip(inputs, real, strict=True)]
    ys = [torch.tensor(x, requires_grad=r) for x, r in zip(inputs, real, strict=True)]
    out, expected = ours(*xs), theirs(*ys)
    assert out.shape == tuple(expected.shape)
    close([out], [expected], rtol)
    leaves = [x for x, r in zip(xs, real, strict=True) if r] + ours.parameters()
    others = [y for y in ys if y.requires_grad] + list(theirs.parameters())
    seed = normal(*out.shape)
    (out * seed).sum().backward(create_graph=second)
    loss = (expected * torch.tensor(seed)).sum()
    grads = torch.autograd.grad(loss, others, create_graph=second)
    firsts = [x.grad for x in leaves]
    close(firsts, grads, rtol)
    if second:
        for x in leaves:
            x.grad = None
        along = [normal(*x.shape) for x in leaves]
        sum((g * v).sum() for g, v in zip(firsts, along, strict=True)).backward()
        loss = sum((g * torch.tensor(v)).sum() for g, v in zip(grads, along, strict=True))
        close([x.grad for x in leaves], torch.autograd.grad(loss, others, materialize_grads=True))


def same_state(ours, theirs):
    mine, other = ours.state_dict(), theirs.state_dict()
    assert [(k, v.shape) for k, v in mine.items()] == [
        (k, tuple(v.shape)) for k, v in other.items()
    ]
    for name, value in mine.items():
        np.testing.assert_allclose(value, other[name].numpy(), rtol=1e-9, atol=1e-12)


LINE, IMAGE, WIDE = normal(3, 4, 9), normal(2, 4, 8, 7), normal(5, 4, 6, 6)
IDS = rng.integers(0, 7, (4, 5))

# name: rows of (arguments, options, input)
CASES = {
    "Linear": [((4, n), o, x) for n in (1, 3) for o in grid(bias=[True, False])
               for x in (normal(4), normal(20, 4), normal(2, 3, 4))],
    "Conv1d": [((4, 6, 3), o, LINE) for o in grid(stride=[1, 2], padding=[0, 1, "valid"], groups=[1, 2])]
              + [((4, 6, 3), {"dilation": 2, "padding": "same"}, LINE), ((4, 6, 2), {"bias": False}, LINE),
                 ((4, 6, (3,)), {"dilation": (2,), "stride": (2,)}, LINE)],
    "Conv2d": [((4, 6, 3), o, IMAGE) for o in grid(stride=[1, 2], padding=[0, 1], groups=[1, 2], bias=[True, False])]
              + [((4, 8, (2, 3)), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}, IMAGE),
                 ((4, 4, 3), {"groups": 4, "padding": "same"}, IMAGE)],
    "ConvTranspose2d": [((4, 6, 3), o, IMAGE) for o in grid(stride=[1, 2], padding=[0, 1], groups=[1, 2])]
                       + [((4, 6, (2, 3)), {"stride": (2, 3), "output_padding": (1, 2)}, IMAGE),
                          ((4, 6, 3), {"dilation": 2, "padding": 1}, IMAGE), ((4, 6, 1), {"bias": False}, IMAGE),
                          ((4, 2, 3, 2, 1, 1, 2, False), {}, IMAGE)],
    "MaxPool1d": [((k,), o, LINE) for k in (2, 3) for o in grid(stride=[None, 1, 2], padding=[0, 1])],
    "MaxPool2d": [((k,), o, WIDE) for k in (2, (3, 2)) for o in grid(stride=[None, 1, (2, 3)], padding=[0, 1])],
    "AvgPool1d": [((k,), o, LINE) for k in (2, 3) for o in grid(stride=[None, 1, 2], padding=[0, 1])],
    "AvgPool2d": [((k,), o, WIDE) for k in (2, (3, 2)) for o in grid(stride=[None, 1, (2, 3)], padding=[0, 1])],
    "AdaptiveAvgPool2d": [((n,), {}, x) for n in (1, 2, 3, (2, 5), (7, 1)) for x in (IMAGE, WIDE)],
    "BatchNorm1d": [((4,), o, x) for o in grid(eps=[1e-5, 0.1], momentum=[0.1, None], affine=[True, False])
                    for x in (normal(20, 4), LINE)],
    "BatchNorm2d": [((4,), o, IMAGE) for o in
                    grid(momentum=[0.3, None], affine=[True, False], track_running_stats=[True, False])]
                   + [((4, 0.01, 0.9), {}, WIDE), ((4,), {}, WIDE)],
    "LayerNorm": [((s,), o, WIDE) for s in (6, (6, 6), [4, 6, 6])
                  for o in ({}, {"eps": 0.1}, {"elementwise_affine": False}, {"bias": False})],
    "RMSNorm": [((s,), o, WIDE) for s in (6, (6, 6), [4, 6, 6])
                for o in ({}, {"eps": 0.1}, {"elementwise_affine": False}, {"eps": 1e-3})],
    "GroupNorm": [((n, 4), o, x) for n in (1, 2, 4) for o in ({}, {"affine": False}, {"eps": 0.1})
                  for x in (LINE, WIDE)],
    "Embedding": [((7, 6), o, x) for o in ({}, {"padding_idx": 2}, {"padding_idx": -1}, {"padding_idx": 0})
                  for x in (IDS, IDS[0], IDS[0, 0])],
    "PReLU": [((n,), o, x) for n in (1, 4) for o in ({}, {"init": 0.7})
              for x in (LINE, WIDE, normal(20, 4))],
    "Flatten": [((), o, WIDE) for o in grid(start_dim=[0, 1, 2], end_dim=[-1, 2, 3])] + [((), {}, LINE)],
    "Unflatten": [((d, s), {}, normal(6, 12, 3)) for d, s in
                  [(1, (3, 4)), (1, (2, -1)), (-2, (12, 1)), (0, (2, 3)), (0, (-1, 2)), (2, (3, 1)),
                   (-1, (1, 3)), (1, (2, 2, 3)), (0, (6,)), (1, (-1, 6))]],
    "Identity": [((54,), {"unused": 1}, x) for x in (LINE, WIDE)],
}  # fmt: skip


# Without a second derivative to compare
STRAIGHT = {name for name in CASES if "Pool" in name} | {
    "Embedding",
    "PReLU",
    "Flatten",
    "Unflatten",
    "Identity",
}


@pytest.mark.parametrize("name", CASES)
def test_layers(name):
    for i, (args, options, x) in enumerate(CASES[name]):
        second = i in (0, len(CASES[name]) - 1) and name not in STRAIGHT
        ours, theirs = pair(name, args, options)
        agree(ours, theirs, np.asarray(x), second=second)
        if "Norm" in name:
            agree(ours.eval(), theirs.eval(), x)


ACTIVATIONS = {
    "ReLU": [{}], "ReLU6": [{}], "SELU": [{}], "SiLU": [{}], "Mish": [{}], "Softsign": [{}],
    "Sigmoid": [{}], "Tanh": [{}], "Hardsigmoid": [{}], "Hardswish": [{}], "LogSigmoid": [{}],
    "Tanhshrink": [{}],
    "LeakyReLU": grid(negative_slope=[0.01, 0.3]), "ELU": grid(alpha=[1.0, 0.4]),
    "CELU": grid(alpha=[1.0, 0.4]), "GELU": grid(approximate=["none", "tanh"]),
    "Softplus": grid(beta=[1, 2.5], threshold=[20, 3]),
    "Hardtanh": grid(min_val=[-1.0, -0.2], max_val=[1.0, 0.5]),
    "Threshold": grid(threshold=[0.1, -1.0], value=[0.0, 7.0]),
    "GLU": grid(dim=[0, 1, -1]), "Softmax": grid(dim=[0, 1, -1]), "LogSoftmax": grid(dim=[0, 1, -1]),
    "Softmin": grid(dim=[0, 1, -1]),
}  # fmt: skip
SINGLE = {"CELU": 1e-6, "Hardsigmoid": 1e-6}  # PyTorch keeps their constants in float32
SHAPES = [(2, 6), (4, 2), (2, 4, 2), (6, 8, 2), (2, 2, 2, 2)]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    for options in ACTIVATIONS[name]:
        for shape, size in itertools.product(SHAPES, (1, 4)):
            agree(*pair(name, (), options), normal(*shape) * size, rtol=SINGLE.get(name, 1e-9))
        ours, theirs = pair(name, tuple(options.values()))  # by position
        agree(ours, theirs, normal(4, 4, 6), rtol=SINGLE.get(name, 1e-9))


N, C = 9, 8
Y, P, Q, SIGNS = normal(N, C), *rng.uniform(0.02, 0.98, (2, N, C)), np.sign(normal(N, C))
LABELS, W = rng.integers(0, C, N), rng.uniform(0.2, 2, C)
REDUCTIONS = ["mean", "sum", "none"]
LOSSES = {  # inputs, options
    "MSELoss": ([(Y, P), (P, Q), (Y[0], Y[1]), (Y, Y)], grid(reduction=REDUCTIONS)),
    "L1Loss": ([(Y, P), (P, Q), (Y[0], Y[1]), (Y[1:], Y[:-1])], grid(reduction=REDUCTIONS)),
    "SmoothL1Loss": ([(Y, P), (P, Y)], grid(reduction=REDUCTIONS, beta=[0.3, 1.0])),
    "HuberLoss": ([(Y, P), (P, Y)], grid(reduction=REDUCTIONS, delta=[0.3, 1.0])),
    "CrossEntropyLoss": ([(Y, LABELS), (Y[0], LABELS[0])],
                         grid(reduction=REDUCTIONS, weight=[None, W], label_smoothing=[0.0, 0.1], ignore_index=[-100])),
    "NLLLoss": ([(Y, LABELS)], grid(reduction=REDUCTIONS, weight=[None, W], ignore_index=[-100, 3])),
    "BCELoss": ([(P, Q), (Q, P)], grid(reduction=REDUCTIONS, weight=[None, W])),
    "BCEWithLogitsLoss": ([(Y, Q)], grid(reduction=REDUCTIONS, weight=[None, W], pos_weight=[None, W])),
    "KLDivLoss": ([(Y, Q), (np.log(P), P)], grid(reduction=[*REDUCTIONS, "batchmean"], log_target=[False, True])),
    "PoissonNLLLoss": ([(Y, 3 * P)], grid(log_input=[True], full=[False, True], reduction=REDUCTIONS, eps=[1e-8, 0.1])),
    "GaussianNLLLoss": ([(Y, P, Q), (P, Y, Q[:, :1])], grid(full=[False, True], reduction=REDUCTIONS)),
    "HingeEmbeddingLoss": ([(Y, SIGNS)], grid(margin=[0.3, 1.0, 2.0, 0.7], reduction=REDUCTIONS)),
    "SoftMarginLoss": ([(Y, SIGNS), (P, SIGNS), (Y[0], SIGNS[0]), (Q, SIGNS)], grid(reduction=REDUCTIONS)),
    "MultiMarginLoss": ([(Y, LABELS)], grid(p=[1, 2], margin=[0.5, 1.0], weight=[None, W], reduction=REDUCTIONS)),
    "MultiLabelSoftMarginLoss": ([(Y, Q), (P, Q)], grid(weight=[None, W], reduction=REDUCTIONS)),
    "MarginRankingLoss": ([(Y[0], P[0], SIGNS[0])], grid(margin=[0.0, 0.2, 0.5, 1.0], reduction=REDUCTIONS)),
    "CosineEmbeddingLoss": ([(Y, P, SIGNS[:, 0])], grid(margin=[0.0, 0.2, 0.5, -0.3], reduction=REDUCTIONS)),
    "TripletMarginLoss": ([(Y, P, Q)], grid(margin=[1.0, 3.0], p=[2, 3], swap=[False, True], reduction=REDUCTIONS)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    """The numbers are checked in test_losses.py: here, that options reach their function."""
    inputs, options = LOSSES[name]
    ours, theirs = getattr(nn, name), getattr(torch.nn, name)
    for xs, kept in itertools.product(inputs, options):
        given = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in kept.items()}
        mine, other = ours(**kept), theirs(**given)
        same_state(mine, other)
        close([tg.tensor(mine(*xs))], [other(*map(torch.tensor, xs))])


@pytest.mark.parametrize(
    ("module", "args", "function"),
    [
        (nn.SquaredErrorLoss(), (Y, P), tg.losses.squared_error(Y, P)),
        (nn.FocalLoss(0.3, gamma=1.0), (Y, Q > 0.5), tg.losses.focal_loss(Y, Q > 0.5, 0.3, 1.0)),
        (nn.AMSoftmaxLoss(0.2), (P, LABELS), tg.losses.am_softmax_loss(P, LABELS, 0.2)),
        (nn.ArcFaceLoss(scale=9), (P, LABELS), tg.losses.arcface_loss(P, LABELS, scale=9)),
        (nn.MSELoss(fused=False), (Y, P), tg.losses.mse_loss(Y, P, fused=False)),
        (nn.MSELoss(broadcast=True), (Y, P[0]), tg.losses.mse_loss(Y, P[0], broadcast=True)),
    ],
)
def test_losses_beyond_pytorch(module, args, function):
    assert module(*args) == function


def classes(kind=nn.Module):
    return [v for v in vars(nn).values() if isinstance(v, type) and issubclass(v, kind)]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_every_class_is_documented_and_can_be_pickled(kind):
    assert inspect.getdoc(kind).strip()
    assert kind.__doc__
    assert pickle.loads(pickle.dumps(kind)) is kind
    assert kind.__module__.startswith("tinygrad_lite.nn.")


def test_options_show_in_repr_and_are_checked():
    assert repr(nn.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"
    assert repr(nn.HuberLoss(delta=2)) == "HuberLoss(reduction='mean', delta=2, weight=None)"
    with pytest.raises(TypeError, match=r"ReLU: .*too many positional.*options are \(\)"):
        nn.ReLU(True)
    with pytest.raises(TypeError, match=r"MSELoss: .*'size_average'.*reduction='mean'"):
        nn.MSELoss(size_average=True)
    with pytest.raises(TypeError, match=r"Threshold: missing .*'value'.*\(threshold"):
        nn.Threshold(0.5)
    loss = nn.CrossEntropyLoss(weight=tg.tensor(W))
    assert loss.reduction == "mean"
    assert list(loss.state_dict()) == ["weight"]


# Initial values


INITIAL = {
    "Linear": ((300, 200), {}),
    "Conv1d": ((40, 60, 5), {"groups": 2}),
    "Conv2d": ((20, 60, (3, 5)), {"groups": 4}),
    "ConvTranspose2d": ((60, 30, 3), {"groups": 3}),
    "LSTM": ((50, 60), {"num_layers": 2}),
    "GRU": ((50, 60), {"bidirectional": True}),
    "RNN": ((150, 120), {}),
    "Embedding": ((400, 50), {"padding_idx": 3}),
    "MultiheadAttention": ((96, 4), {}),
    "BatchNorm2d": ((30,), {}),
    "LayerNorm": (((5, 6),), {}),
    "RMSNorm": ((5,), {}),
    "GroupNorm": ((2, 6), {}),
    "PReLU": ((3,), {}),
}


@pytest.mark.parametrize("name", INITIAL)
def test_initial_values_are_distributed_as_pytorchs(name):
    args, options = INITIAL[name]
    tg.manual_seed(0)
    torch.manual_seed(0)
    ours = getattr(nn, name)(*args, **options)
    theirs = getattr(torch.nn, name)(*args, **options).state_dict()
    assert list(ours.state_dict()) == list(theirs)
    for key, value in ours.state_dict().items():
        other = theirs[key].numpy()
        assert value.dtype == other.dtype, key  # float32; the batches are counted in int64
        if other.std() == 0:
            np.testing.assert_array_equal(value, other)
        else:
            few = 4 / np.sqrt(other.size)
            assert value.std() == pytest.approx(other.std(), rel=few), key
            assert abs(value.mean()) < few * other.std()
            if name != "Embedding":
                assert abs(value).max() == pytest.approx(abs(other).max(), rel=2 * few)


def test_the_seed_repeats_weights_and_dropout():
    def run():
        tg.manual_seed(3)
        net = nn.Sequential(nn.Linear(5, 50), nn.Dropout(0.5), nn.Embedding(2, 3))
        return [*net.state_dict().values(), net[:2](np.ones((2, 5), np.float32)).numpy()]

    for a, b in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(a, b)
    a, b = (nn.Linear(5, 5, rng=np.random.default_rng(s)).weight.data for s in (1, 2))
    assert not np.array_equal(a, b)
    with pytest.raises(TypeError, match="rng must be a NumPy Generator"):
        nn.Linear(2, 3, rng=0)


def test_dropout():
    x = tg.tensor(np.ones((100, 100), np.float32), requires_grad=True)
    layer = nn.Dropout(0.25, rng=np.random.default_rng(0))
    y = layer(x)
    values, counts = np.unique(y.numpy(), return_counts=True)
    np.testing.assert_allclose(values, [0, 4 / 3], rtol=1e-6)
    assert abs(counts[0] / 10_000 - 0.25) < 0.02
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
    assert y.dtype == np.float32
    assert layer.eval()(x) is x
    np.testing.assert_array_equal(nn.Dropout(1.0)(x).numpy(), 0)


def test_the_padding_row_starts_at_zero():
    weight = nn.Embedding(5, 4, padding_idx=-2).weight.data
    assert (weight == 0).all(axis=1).tolist() == [False, False, False, True, False]


# State: names, order, exchange


def block(lib, channels=4, stride=2):
    """The same source is a module of either library."""

    class Block(lib.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = lib.Conv2d(channels, 2 * channels, 3, stride, 1, bias=False)
            self.bn1 = lib.BatchNorm2d(2 * channels)
            self.conv2 = lib.Conv2d(2 * channels, 2 * channels, 3, padding=1, bias=False)
            self.bn2 = lib.BatchNorm2d(2 * channels)
            self.downsample = lib.Sequential(
                lib.Conv2d(channels, 2 * channels, 1, stride, bias=False),
                lib.BatchNorm2d(2 * channels),
            )
            self.relu = lib.ReLU()

        def forward(self, x):
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + self.downsample(x))

    return Block()


def lenet(lib):
    features = [lib.Conv2d(1, 6, 5, padding=2), lib.Tanh(), lib.AvgPool2d(2)]
    features += [lib.Conv2d(6, 16, 5), lib.Tanh(), lib.AvgPool2d(2), lib.Flatten()]
    head = [lib.Linear(400, 120), lib.Tanh(), lib.Linear(120, 84), lib.Tanh(), lib.Linear(84, 10)]
    names = {"features": lib.Sequential(*features), "head": lib.Sequential(*head)}
    return lib.Sequential(collections.OrderedDict(names))


NETWORKS = {
    "lenet": (lenet, (3, 1, 28, 28)),
    "block": (block, (3, 4, 9, 9)),
    "lstm": (lambda lib: lib.LSTM(6, 8, 2, bidirectional=True, batch_first=True), (3, 5, 6)),
    "encoder": (lambda lib: lib.TransformerEncoderLayer(8, 2, 16, batch_first=True), (3, 5, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_exchanged_with_pytorch(name, tmp_path):
    from safetensors.numpy import load_file as load
    from safetensors.numpy import save_file as save
    from safetensors.torch import load_file as torch_load
    from safetensors.torch import save_file as torch_save

    build, shape = NETWORKS[name]
    x = normal(*shape).astype(np.float32)
    theirs, ours = build(torch.nn), build(nn)
    theirs(torch.tensor(x))  # moves the running statistics
    torch_save(theirs.state_dict(), tmp_path / "theirs")
    assert ours.load_state_dict(load(tmp_path / "theirs")) == ([], [])
    same_state(ours, theirs)

    def first(out):
        return out[0] if isinstance(out, tuple) else out

    def outputs():
        ours.eval(), theirs.eval()
        return first(ours(x)).numpy(), first(theirs(torch.tensor(x))).detach().numpy()

    np.testing.assert_allclose(*outputs(), rtol=1e-5, atol=1e-5)
    for p in ours.parameters():
        p.data[...] += 0.01 * normal(*p.shape)
    save(ours.state_dict(), tmp_path / "ours")
    theirs.load_state_dict(torch_load(tmp_path / "ours"))
    same_state(ours, theirs)
    np.testing.assert_allclose(*outputs(), rtol=1e-5, atol=1e-5)
    assert first(ours(x)).dtype == np.float32


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_follow_pytorchs(momentum):
    ours, theirs = pair("BatchNorm1d", (4,), {"momentum": momentum})
    for step in range(7):
        training = step != 4
        x = normal(6, 4, 3) * (step + 1) + step
        ours.train(training), theirs.train(training)
        close([ours(tg.tensor(x))], [theirs(torch.tensor(x))])
        same_state(ours, theirs)
    close([ours.eval()(tg.tensor(x))], [theirs.eval()(torch.tensor(x))])
    assert ours.num_batches_tracked == 6
    assert ours.num_batches_tracked.dtype == np.int64


def test_a_refused_batch_does_not_count():
    layer = nn.BatchNorm1d(3)
    with pytest.raises(ValueError, match="batch_norm"):
        layer(tg.tensor(np.ones((1, 3), np.float32)))  # one value per channel has no variance
    assert layer.num_batches_tracked == 0
    np.testing.assert_array_equal(layer.running_mean, 0)


def test_state_dict_copies_and_loading_writes_in_place():
    layer = nn.Linear(2, 3)
    weight, data, state = layer.weight, layer.weight.data, layer.state_dict()
    state["weight"][...] = 7
    assert not (data == 7).any()
    layer.load_state_dict({"weight": tg.tensor(state["weight"]), "bias": nn.Parameter(np.ones(3))})
    assert layer.weight is weight
    assert layer.weight.data is data
    assert (data == 7).all()
    assert layer.bias.dtype == np.float32


BAD_STATE = [
    ({"weight": np.ones((3, 2))}, "bias is missing"),
    ({"weight": np.ones((2, 3)), "bias": np.ones(3)}, r"weight is float64 \(2, 3\), not float32 \(3, 2\)"),
    ({"weight": np.ones((3, 2), complex), "bias": np.ones(3)}, "weight is complex128"),
    ({"Weight": 1, "bias": np.ones(4)}, r"weight is missing; Weight is unexpected; bias is .*\(4,\)"),
]  # fmt: skip


@pytest.mark.parametrize(("state", "message"), BAD_STATE)
def test_nothing_is_loaded_from_a_state_that_does_not_fit(state, message):
    layer = nn.Linear(2, 3)
    before = layer.state_dict()
    with pytest.raises(ValueError, match=message):
        layer.load_state_dict(state)
    for name, value in before.items():
        np.testing.assert_array_equal(layer.state_dict()[name], value)
    with pytest.raises(TypeError, match="expected a dict"):
        layer.load_state_dict("weights.npz")


def test_loading_what_there_is():
    layer = nn.BatchNorm1d(2)
    done = layer.load_state_dict(
        {"weight": [3, 4], "num_batches_tracked": 5, "other": 1}, strict=False
    )
    assert done == (["bias", "running_mean", "running_var"], ["other"])
    assert layer.num_batches_tracked == 5
    np.testing.assert_array_equal(layer.weight.data, [3, 4])
    with pytest.raises(ValueError, match="num_batches_tracked is float64"):
        layer.load_state_dict({"num_batches_tracked": 5.5}, strict=False)


# Modules


class Net(nn.Module):
    """No super().__init__() on purpose."""

    def __init__(self):
        self.scale = nn.Parameter(2.0)
        self.inner = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU())
        self.shift = nn.Parameter(np.ones(4))
        self.last = self.inner[0]
        self.register_buffer("steps", 0)
        self.register_buffer("nothing", None)

    def forward(self, x):
        self.steps = self.steps + 1
        return self.inner(x) * self.scale + self.shift


def test_walks_find_everything_once_in_pytorchs_order():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["scale", "shift", "inner.0.weight"]
    assert [n for n, _ in net.named_modules()] == ["", "inner", "inner.0", "inner.1"]
    assert [type(m).__name__ for m in net.children()] == ["Sequential", "Linear"]
    names = [
        "scale",
        "shift",
        "steps",
        "inner.0.weight",
        "last.weight",
    ]  # PyTorch repeats shared ones
    assert list(net.state_dict()) == names
    assert net.named_buffers() == [("steps", 0)]
    assert net.buffers() == [0]
    assert net.num_parameters() == 1 + 4 + 12
    net(np.ones((2, 3)))
    assert net.state_dict()["steps"] == 1
    assert [p.name for p in net.parameters()] == ["scale", "shift", "weight"]
    net.load_state_dict(net.state_dict() | {"scale": 5})
    assert net.scale.item() == 5


def test_modes_freezing_and_gradients():
    net = Net()
    assert net.training
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())
    net.inner.requires_grad_(False)
    net(np.ones((2, 3))).sum().backward()
    assert [p.grad is None for p in net.parameters()] == [False, False, True]
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert "0 trained" not in net.summary((2, 3))
    assert "17 parameters: 5 trained, 12 frozen" in net.summary((2, 3))
    net.requires_grad_()
    assert all(p.requires_grad for p in net.parameters())
    seen = []
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Net", "Sequential", "Linear", "ReLU"]


def test_a_module_that_holds_its_parent():
    parent, child = nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2)
    child.parent = parent
    parent.append(child)
    assert list(parent.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert len(parent.parameters()) == len(child.parameters()) == 4
    assert "(parent): ..." in repr(parent)
    assert len(copy.deepcopy(parent)[1].parent) == 2
    child.eval()
    assert not parent[0].training


def hidden(**attributes):
    net = nn.Module()
    for name, value in attributes.items():
        setattr(net, name, value)
    return net


class Shared(nn.Module):
    layer = nn.Linear(2, 2)


LAYER, LEAF = nn.Linear(2, 2), tg.tensor([1.0], requires_grad=True)
TRAPS = [
    (hidden(layers=[LAYER]), r"Module: layers .*in a list: use nn.ModuleList / ModuleDict"),
    (hidden(layers=(1, [{"a": (LAYER,)}])), "in a tuple: use nn.ModuleList"),
    (hidden(layers={"a": LAYER}), "in a dict: use nn.ModuleList / ModuleDict"),
    (hidden(layers={LAYER}), "in a set: use"),
    (hidden(weights=[nn.Parameter([1.0])]), "in a list: use"),
    (hidden(weights=[nn.Parameter([1.0], requires_grad=False)]), "in a list: use"),
    (hidden(weights=[LEAF]), "in a list: use"),
    (hidden(weight=LEAF), "weight .*wrap it in nn.Parameter"),
    (nn.Sequential(hidden(weight=LEAF)), r"Sequential: 0\.weight .*wrap it in nn.Parameter"),
    (Shared(), "layer .*belongs to the class: assign it to self"),
]


@pytest.mark.parametrize(("net", "message"), TRAPS)
def test_what_would_stay_untrained_is_refused(net, message):
    for walk in (net.parameters, net.state_dict, net.named_parameters, net.train, net.zero_grad):
        with pytest.raises(TypeError, match=message):
            walk()
    assert repr(net)


def test_what_is_found_otherwise_is_not_refused():
    a, b = nn.Linear(2, 2), nn.Parameter([1.0])
    loop = [1]
    loop.append(loop)
    net = hidden(a=a, b=b, pair=[a, {"b": b}], loop=loop, steps=[LEAF * 2], x=tg.tensor(1.0))
    assert len(net.parameters()) == 3


def test_assignments_that_would_lose_a_parameter_are_refused():
    layer = nn.Linear(2, 3)
    for value in (
        np.ones((3, 2)),
        layer.weight * 2,
        tg.tensor(np.ones((3, 2)), requires_grad=True),
    ):
        with pytest.raises(TypeError, match=r"Linear\.weight is a Parameter"):
            layer.weight = value
    layer.weight = nn.Parameter(np.zeros((3, 2), np.float32))
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]
    with tg.no_grad():
        layer.weight -= 1.0
    assert (layer.weight.data == -1).all()
    norm = nn.BatchNorm1d(2)
    with pytest.raises(TypeError, match="cut the graph"):
        norm.running_mean = norm.weight * 2
    for name in ("running_mean", "a.b", ""):
        with pytest.raises(ValueError, match="register_buffer"):
            norm.register_buffer(name, 1)


def test_a_module_without_forward_says_what_to_write():
    with pytest.raises(NotImplementedError, match=r"Module has no forward: write `def forward"):
        nn.Module()(1)


def test_parameter():
    data = np.arange(3, dtype=np.float32)
    p = nn.Parameter(data)
    data[0] = 9
    assert (p.data == [0, 1, 2]).all()
    assert p.requires_grad
    assert p.is_leaf
    assert p.dtype == np.float32
    assert repr(p) == "Parameter([0., 1., 2.], dtype=float32, requires_grad=True)"
    assert isinstance(p * 2, tg.Tensor)
    assert not isinstance(p * 2, nn.Parameter)
    for twin in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert type(twin) is nn.Parameter
        assert twin.requires_grad
        assert twin.data is not p.data
        (twin * 2).sum().backward()
        assert twin.grad is not None
    assert p.grad is None
    with pytest.raises(TypeError, match="floating point"):
        nn.Parameter([1, 2])
    hidden(first=p, second=p)
    assert p.name == "first"  # a shared one keeps its first name
    assert not hasattr(p, "__dict__")


def test_copies_and_pickles_of_networks_compute_the_same_and_train_alone():
    net = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.GELU(), nn.LSTM(5, 4), Tail())
    x = normal(2, 2, 7).astype(np.float32)
    net(x)
    net.eval()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert repr(twin) == repr(net)
        np.testing.assert_array_equal(twin(x).numpy(), net(x).numpy())
        twin(x).sum().backward()
        assert all(p.grad is None for p in net.parameters())
        assert all(p.grad is not None for p in twin.parameters())
        assert [p.name for p in twin.parameters()] == [p.name for p in net.parameters()]


@dataclasses.dataclass
class Pair(nn.Module):
    """No __init__ of its own, and compared by value."""

    left: nn.Module
    right: nn.Module


def test_a_dataclass_can_be_a_module():
    pair = Pair(nn.Linear(2, 3), Pair(nn.Linear(3, 3), nn.Linear(2, 3)))
    assert len(pair.parameters()) == 6
    assert list(pair.state_dict())[-1] == "right.right.bias"


class Tail(nn.Module):
    def forward(self, pair):
        return pair[0].sum()


def test_repr_and_summary():
    net = nn.Sequential(
        collections.OrderedDict(
            body=nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.9)), tail=nn.MultiheadAttention(4, 2)
        )
    )
    assert (
        repr(net)
        == """Sequential(  # 96 parameters
  (body): Sequential(  # 16 parameters
    (0): Linear(in_features=3, out_features=4)  # 16 parameters
    (1): Dropout(p=0.9)
  )
  (tail): MultiheadAttention(  # 80 parameters
    embed_dim=4, num_heads=2, dropout=0.0, kdim=4, vdim=4, batch_first=False
    (out_proj): Linear(in_features=4, out_features=4)  # 20 parameters
  )
)"""
    )
    net = nn.Sequential(net.body, nn.BatchNorm1d(4).eval(), net.body, nn.LSTM(4, 2))
    net[0][0] = nn.Linear(4, 4)
    net.spare = nn.Module()
    del net.spare
    net.eval()
    net[0].train()
    net.idle = [1]
    assert (
        net.summary((5, 4))
        == """\
module  class        output shape            parameters
-------------------------------------------------------
(all)   Sequential   (5, 2), (1, 2), (1, 2)           0
0       Sequential   (5, 4)                           0
0.0     Linear       (5, 4)                          20
0.1     Dropout      (5, 4)                           0
1       BatchNorm1d  (5, 4)                           8
3       LSTM         (5, 2), (1, 2), (1, 2)          64
-------------------------------------------------------
92 parameters: 92 trained, 0 frozen"""
    )
    assert [m.training for m in net.modules()] == [False, True, True, True, False, False]
    assert net[1].num_batches_tracked == 0
    words = nn.ModuleList([nn.Embedding(10, 4)])
    assert "(2, 5, 4)" in words[0].summary((2, 5), np.int64)
    with pytest.raises(NotImplementedError, match="ModuleList has no forward"):
        words.summary((2, 5))
    assert words.training  # as before


def test_containers():
    a, b, c = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    net = nn.Sequential(a, b).append(c)
    assert list(net) == [a, b, c]
    assert (len(net), net[0], net[-1], net["1"]) == (3, a, c, b)
    assert list(net[1:]) == [b, c]
    assert list(net[1:].state_dict()) == ["2.weight", "2.bias"]  # as PyTorch
    assert len(net[1:].append(a)) == 3
    net[1] = nn.Tanh()
    assert [type(m).__name__ for m in net] == ["Linear", "Tanh", "Linear"]
    x = normal(4, 2).astype(np.float32)
    np.testing.assert_array_equal(net(x).numpy(), c(np.tanh(a(x))).numpy())
    named = nn.Sequential({"first": a, "second": b})
    assert named.first is a
    assert list(named.state_dict()) == ["first.weight", "first.bias"]

    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    layers.append(nn.Parameter(np.ones(2)))
    assert list(layers.state_dict())[:2] == ["3", "0.weight"]  # own parameters first
    assert len(layers[:2].parameters()) == 4
    assert list(layers[1:3].state_dict())[::2] == ["0.weight", "1.weight"]  # as PyTorch
    heads = nn.ModuleDict({"a": a, "b": b})
    heads["c"] = c
    assert list(heads) == heads.keys() == ["a", "b", "c"]
    assert heads.values() == [a, b, c]
    assert heads.items() == [("a", a), ("b", b), ("c", c)]
    assert "c" in heads
    assert "d" not in heads
    assert heads["a"] is heads.a is a
    with pytest.raises(KeyError):
        heads["d"]
    with pytest.raises(IndexError):
        net[3]


BAD_CONTAINERS = [
    (lambda: nn.Sequential([nn.ReLU()]), TypeError, r"Sequential\(\*layers\)"),
    (lambda: nn.Sequential(nn.ReLU), TypeError, r"entry '0' .*write nn.ReLU\(\) instead"),
    (lambda: nn.ModuleList([nn.ReLU(), np.tanh]), TypeError, "entry '1' must be a Module"),
    (lambda: nn.ModuleDict({"keys": nn.ReLU()}), ValueError, "'keys' cannot be the name"),
    (lambda: nn.ModuleDict({"a.b": nn.ReLU()}), ValueError, "'a.b' cannot"),
    (lambda: nn.ModuleDict({"": nn.ReLU()}), ValueError, "'' cannot"),
]


@pytest.mark.parametrize(("build", "kind", "message"), BAD_CONTAINERS)
def test_bad_entries(build, kind, message):
    with pytest.raises(kind, match=message):
        build()


X = np.ones((2, 4), np.float32)
BAD_ARGUMENTS = [
    (lambda: nn.Linear(-3, 2), "Linear: in_features must be a positive integer, got -3"),
    (lambda: nn.Linear(3, 2.5), "out_features must be a positive integer, got 2.5"),
    (lambda: nn.Linear(3, 2)(X), r"linear: expected .*\(2, 4\)"),
    (lambda: nn.Conv2d(4, 6, 3, groups=4), "4 groups do not divide 4 and 6 channels"),
    (lambda: nn.Conv2d(4, 6, (3, 3, 3)), r"kernel_size must be 2 positive integers, got \(3, 3, 3\)"),
    (lambda: nn.Conv1d(4, 6, 0), "kernel_size must be 1 positive integers"),
    (lambda: nn.Conv2d(0, 6, 3), "in_channels must be a positive integer"),
    (lambda: nn.Conv2d(4, 6, 3, padding_mode="reflect"), "padding_mode must be 'zeros', got 'reflect'"),
    (lambda: nn.Conv2d(3, 6, 3)(np.ones((1, 4, 9, 9), np.float32)), r"\(1, 4, 9, 9\)"),
    (lambda: nn.BatchNorm1d(3)(X), r"BatchNorm1d: expected .*2 or 3 axes, with 3 .*\(2, 4\)"),
    (lambda: nn.BatchNorm2d(4)(X), r"expected an input of 4 axes, with 4"),
    (lambda: nn.BatchNorm2d(0), "num_features must be"),
    (lambda: nn.LayerNorm(3)(X), r"layer_norm: expected .*\(2, 4\)"),
    (lambda: nn.GroupNorm(3, 4), "3 groups do not divide 4 channels"),
    (lambda: nn.GroupNorm(2, 6)(X), r"group_norm.*\(2, 4\)|group_norm: expected"),
    (lambda: nn.Embedding(5, 2, padding_idx=5), "padding_idx 5 is not one of 5 rows"),
    (lambda: nn.Embedding(5, 0), "embedding_dim"),
    (lambda: nn.Dropout(1.5), "p is a probability, from 0 to 1, got 1.5"),
    (lambda: nn.PReLU(0), "num_parameters"),
    (lambda: nn.Linear(2, 2, dtype=int), "floating point"),
    (lambda: nn.Flatten()(X[0]), "axis 1 is out of bounds for array of dimension 1"),
    (lambda: nn.Flatten(2, 1)(WIDE), "start_dim=2 is behind end_dim=1"),
    (lambda: nn.Flatten(0, 4)(WIDE), "axis 4 is out of bounds"),
    (lambda: nn.Unflatten(4, (2, 3))(WIDE), "axis 4 is out of bounds"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "message"), BAD_ARGUMENTS)
def test_bad_arguments(build, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build()


def test_a_layer_takes_changes_at_the_call():
    x = tg.tensor(normal(3, 4))
    np.testing.assert_allclose(
        nn.Softmax(0)(x, fused=False).numpy(), tg.functional.softmax(x, axis=0).numpy(), rtol=1e-12
    )

    class Scaled(nn.LeakyReLU):
        """A subclass of a one-line layer keeps its options."""

    assert repr(Scaled(0.5)) == "Scaled(negative_slope=0.5)"
    assert issubclass(Scaled, Layer)


def test_a_loss_is_made_before_it_is_called():
    with pytest.raises(ValueError, match=r"make it first, then call it: MSELoss\(\)\(tensor\)"):
        nn.MSELoss(nn.Linear(2, 2)(np.zeros((1, 2))), np.zeros((1, 2)))


def test_a_deleted_buffer_is_no_longer_part_of_the_state():
    layer = nn.BatchNorm1d(2)
    del layer.num_batches_tracked
    assert list(layer.state_dict()) == ["weight", "bias", "running_mean", "running_var"]


def test_lists_are_inputs_as_arrays_are():
    rows = [[1.0, 2.0], [3.0, 5.0], [2.0, 2.0]]
    for module in (
        *(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Flatten(), nn.Unflatten(1, (2, 1)), nn.GRU(2, 3)),
        lambda x: nn.MultiheadAttention(2, 1, rng=np.random.default_rng(0))(x, x, x)[0],
    ):
        out, same = (module(x) for x in (rows, np.array(rows)))
        out, same = (x[0] if isinstance(x, tuple) else x for x in (out, same))  # of a GRU
        np.testing.assert_array_equal(*map(np.asarray, map(tg.functional.raw, (out, same))))
