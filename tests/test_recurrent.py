"""RNN, LSTM, GRU, attention and the encoder layer, against PyTorch in float64."""

import itertools

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite import nn

torch = pytest.importorskip("torch")
rng = np.random.default_rng(5)
STEPS, BATCH, IN, HIDDEN = 5, 3, 4, 6
X = rng.standard_normal((STEPS, BATCH, IN))


def flat(value):
    """All arrays in nested tuples, without None."""
    if isinstance(value, tuple):
        return [x for part in value for x in flat(part)]
    return [] if value is None else [value]


def array(x):
    return (
        x.detach().numpy() if hasattr(x, "detach") and not isinstance(x, tg.Tensor) else x.numpy()
    )


def close(ours, theirs):
    ours, theirs = [[array(x) for x in flat(tuple(values))] for values in (ours, theirs)]
    assert [x.shape for x in ours] == [x.shape for x in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def agree(ours, theirs, *inputs, second=False, **options):
    """Outputs, gradients of inputs and parameters, and a second-order product."""
    ours.load_state_dict(theirs.state_dict())
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in theirs.state_dict().items()
    ]
    ours.zero_grad()
    xs = [tg.tensor(x, requires_grad=True) for x in inputs]
    ys = [torch.tensor(x, requires_grad=True) for x in inputs]
    out, expected = flat(ours(*xs, **options)), flat(theirs(*ys, **tensors(options)))
    close(out, expected)
    leaves, others = xs + ours.parameters(), ys + list(theirs.parameters())
    seeds = [rng.standard_normal(x.shape) for x in out]
    sum((x * g).sum() for x, g in zip(out, seeds, strict=True)).backward(create_graph=second)
    loss = sum((y * torch.tensor(g)).sum() for y, g in zip(expected, seeds, strict=True))
    grads = torch.autograd.grad(loss, others, create_graph=second)
    firsts = [x.grad for x in leaves]
    close(firsts, grads)
    if second:
        for x in leaves:
            x.grad = None
        along = [rng.standard_normal(x.shape) for x in leaves]
        sum((g * v).sum() for g, v in zip(firsts, along, strict=True)).backward()
        loss = sum((g * torch.tensor(v)).sum() for g, v in zip(grads, along, strict=True))
        grads = [tg.tensor(np.zeros(x.shape)) if x.grad is None else x.grad for x in leaves]
        close(grads, torch.autograd.grad(loss, others, materialize_grads=True))


def tensors(options):
    def tensor(v):
        if isinstance(v, tuple):
            return tuple(map(tensor, v))
        return torch.tensor(v) if isinstance(v, np.ndarray) else v

    return {k: tensor(v) for k, v in options.items()}


def pair(name, *args, **options):
    theirs = getattr(torch.nn, name)(*args, **options, dtype=torch.float64)
    return getattr(nn, name)(*args, **options, dtype=np.float64), theirs


GRID = [
    {"num_layers": n, "bias": b, "batch_first": first, "bidirectional": two}
    for n, b, first, two in itertools.product((1, 3), (True, False), (False, True), (False, True))
]
KINDS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("GRU", {})]


@pytest.mark.parametrize(("name", "extra"), KINDS, ids=["tanh", "relu", "LSTM", "GRU"])
def test_recurrent_layers(name, extra):
    for i, options in enumerate(GRID):
        ours, theirs = pair(name, IN, HIDDEN, **extra, **options)
        agree(ours, theirs, X, second=i in (0, 9))
        rows = options["num_layers"] * (1 + options["bidirectional"])
        batch = STEPS if options["batch_first"] else BATCH
        for x, shape in [(X, (rows, batch, HIDDEN)), (X[:, 0], (rows, HIDDEN))]:  # without a batch
            state = rng.standard_normal(shape)
            agree(ours, theirs, x)
            agree(ours, theirs, x, hx=(state, 2 * state) if name == "LSTM" else state)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_gradient_of_the_initial_state(name):
    ours, theirs = pair(name, IN, HIDDEN, num_layers=2)
    ours.load_state_dict(theirs.state_dict())
    shape = (2, BATCH, HIDDEN)
    starts = [rng.standard_normal(shape) for _ in range(1 + (name == "LSTM"))]
    a = [tg.tensor(h, requires_grad=True) for h in starts]
    b = [torch.tensor(h, requires_grad=True) for h in starts]
    out, _ = ours(X, tuple(a) if len(a) == 2 else a[0])
    (out * out).sum().backward()
    expected, _ = theirs(torch.tensor(X), tuple(b) if len(b) == 2 else b[0])
    (expected * expected).sum().backward()
    close([out, [h.grad for h in a]][:1], [expected])
    close([h.grad for h in a], [h.grad for h in b])


def test_a_long_sequence_and_one_step():
    for steps in (1, 2, 37):
        ours, theirs = pair("GRU", 2, 3)
        agree(ours, theirs, rng.standard_normal((steps, 70, 2)))


def test_dropout_between_layers():
    def run(training, seed=0, layers=2):
        tg.manual_seed(seed)
        layer = nn.LSTM(IN, HIDDEN, layers, dropout=0.5).train(training)
        x = X.astype(np.float32)
        return [layer(x)[0].numpy() for _ in range(2)]

    a, b = run(True)
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(run(True)[1], b)  # the same seed
    np.testing.assert_array_equal(*run(False))
    np.testing.assert_array_equal(*run(True, layers=1))  # none after the last layer
    assert a.dtype == np.float32


def test_dropout_is_on_average_no_change():
    layer = nn.RNN(3, 400, 2, nonlinearity="relu", dropout=0.3, rng=np.random.default_rng(0))
    w = layer.weight_ih_l1
    w.data[...], layer.bias_ih_l1.data[...], layer.bias_hh_l1.data[...] = 0.01, 0, 0
    x = np.ones((1, 50, 3), np.float32)
    kept, full = layer(x)[0].numpy().mean(), layer.eval()(x)[0].numpy().mean()
    assert kept == pytest.approx(full, rel=0.02)


BAD_RNN = [
    (lambda: nn.LSTM(0, 3), "input_size must be a positive integer, got 0"),
    (lambda: nn.GRU(3, -1), "hidden_size .* -1"),
    (lambda: nn.GRU(3, 2, num_layers=0), "num_layers"),
    (lambda: nn.RNN(3, 2, dropout=1.5), "dropout is a probability"),
    (lambda: nn.RNN(3, 2, nonlinearity="sin"), "'tanh' or 'relu', got 'sin'"),
    (lambda: nn.GRU(3, 2)(np.ones((4, 1, 2))), r"last of 3 features.*\(4, 1, 2\)"),
    (lambda: nn.GRU(3, 2)(np.ones((4, 1, 1, 3))), r"expected 2 axes, or 3.*\(4, 1, 1, 3\)"),
    (lambda: nn.GRU(3, 2)(np.ones(3)), r"expected 2 axes"),
    (lambda: nn.GRU(3, 2)(np.ones((0, 1, 3))), "one step or more"),
    (lambda: nn.GRU(3, 2)(np.ones((4, 1, 3)), np.ones((1, 2, 2))), r"1 state\(s\) \(1, 1, 2\)"),
    (lambda: nn.LSTM(3, 2)(np.ones((4, 1, 3)), np.ones((1, 1, 2))), r"2 state\(s\)"),
    (lambda: nn.LSTM(3, 2)(np.ones((4, 3)), (np.ones((1, 1, 2)),) * 2), r"\(1, 2\), got"),
]


@pytest.mark.parametrize(("call", "message"), BAD_RNN)
def test_bad_recurrent_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Attention

E, HEADS, L, S = 12, 3, 4, 7


def causal(n):
    return np.triu(np.ones((n, n), bool), 1)


PADDING = np.zeros((BATCH, S), bool)
PADDING[0, 4:], PADDING[2, 1] = True, True
SCORES = rng.standard_normal((L, S))
FORBIDDEN = rng.random((L, S)) < 0.3
EACH = rng.random((BATCH * HEADS, L, S)) < 0.3
FORBIDDEN[:, 0] = EACH[:, :, 0] = False  # something is always allowed
CALLS = [
    {},
    {"average_attn_weights": False},
    {"need_weights": False},
    {"attn_mask": SCORES},
    {"attn_mask": FORBIDDEN},
    {"attn_mask": EACH, "average_attn_weights": False},
    {"attn_mask": EACH * 0.7},
    {"key_padding_mask": PADDING},
    {"key_padding_mask": PADDING, "attn_mask": FORBIDDEN},
    {"key_padding_mask": PADDING * 0.5, "attn_mask": SCORES, "need_weights": False},
    {"key_padding_mask": PADDING, "attn_mask": EACH, "need_weights": False},
]


@pytest.mark.parametrize("options", CALLS, ids=lambda o: "-".join(o))
@pytest.mark.parametrize("widths", [{}, {"kdim": 5}, {"kdim": 5, "vdim": 7, "bias": False}])
def test_attention(options, widths):
    sizes = E, widths.get("kdim", E), widths.get("vdim", E)
    q, k, v = (rng.standard_normal((BATCH, n, w)) for n, w in zip((L, S, S), sizes, strict=True))
    ours, theirs = pair("MultiheadAttention", E, HEADS, batch_first=True, **widths)
    agree(ours, theirs, q, k, v, **options, second=options.get("need_weights", True))
    turned = [np.swapaxes(x, 0, 1).copy() for x in (q, k, v)]
    ours, theirs = pair("MultiheadAttention", E, HEADS, **widths)
    agree(ours, theirs, *turned, **options)
    if len(np.shape(options.get("attn_mask"))) < 3:
        alone = {k: v[0] if k == "key_padding_mask" else v for k, v in options.items()}
        agree(ours, theirs, q[0], k[0], v[0], **alone)


@pytest.mark.parametrize("need", [False, True])
def test_causal_attention_and_float32(need):
    ours, theirs = pair("MultiheadAttention", E, HEADS)
    ours.load_state_dict(theirs.state_dict())
    x = rng.standard_normal((L, BATCH, E))
    mask = torch.tensor(causal(L))
    expected, weights = theirs(*[torch.tensor(x)] * 3, attn_mask=mask, need_weights=need)
    for options in ({"is_causal": True}, {"is_causal": True, "attn_mask": causal(L)}):
        out, seen = ours(x, x, x, need_weights=need, **options)
        close((out, seen), (expected, weights))
    small, x = nn.MultiheadAttention(E, HEADS), x.astype(np.float32)
    out, seen = small(x, x, x, attn_mask=np.where(causal(L), -np.inf, 0.0), is_causal=True)
    assert out.dtype == seen.dtype == np.float32


def test_a_position_that_may_see_nothing_gets_no_nan():
    layer = nn.MultiheadAttention(E, HEADS, dtype=np.float64)
    x = tg.tensor(rng.standard_normal((L, 1, E)), requires_grad=True)
    mask = np.zeros((L, L), bool)
    mask[1] = True
    for need in (True, False):
        out, _ = layer(x, x, x, attn_mask=mask, need_weights=need)
        np.testing.assert_array_equal(out.numpy()[1], [layer.out_proj.bias.numpy()])
        out.sum().backward()
        assert np.isfinite(x.grad.numpy()).all()


def test_attention_drops_weights_in_training_only():
    layer = nn.MultiheadAttention(E, HEADS, dropout=0.5, rng=np.random.default_rng(0))
    x = np.ones((200, 2, E), np.float32)
    _, seen = layer(x, x, x, average_attn_weights=False)
    values, counts = np.unique(seen.numpy().round(6), return_counts=True)
    np.testing.assert_allclose(values, [0, 0.01], atol=1e-6)
    assert abs(counts[0] / counts.sum() - 0.5) < 0.01
    assert not np.array_equal(layer(x, x, x)[0].numpy(), layer(x, x, x)[0].numpy())
    _, seen = layer.eval()(x, x, x)
    np.testing.assert_allclose(seen.numpy(), 1 / 200, rtol=1e-5)


BAD_ATTENTION = [
    (lambda: nn.MultiheadAttention(8, 3), "3 heads do not divide embed_dim = 8"),
    (lambda: nn.MultiheadAttention(8, 0), "num_heads must be a positive integer"),
    (lambda: nn.MultiheadAttention(8, 2, dropout=-0.1), "dropout is a probability"),
    (lambda: nn.MultiheadAttention(8, 2, kdim=-1), "kdim must be"),
    (
        lambda: call((3, 1, 8), (3, 1, 8), (4, 1, 8)),
        r"got \(3, 1, 8\), \(3, 1, 8\) and \(4, 1, 8\)",
    ),
    (lambda: call((3, 2, 8), (3, 1, 8), (3, 1, 8)), "expected query"),
    (lambda: call((3, 2, 7), (3, 2, 8), (3, 2, 8)), "expected query"),
    (lambda: call((3, 8), (3, 2, 8), (3, 2, 8)), "expected query"),
    (lambda: call((8,), (8,), (8,)), "expected query"),
    (lambda: call(*[(3, 2, 8)] * 3, attn_mask=np.ones((2, 3), bool)), r"attn_mask .*\(3, 3\), got"),
    (lambda: call(*[(3, 2, 8)] * 3, attn_mask=np.ones((3, 3), int)), "booleans or floats"),
    (lambda: call(*[(3, 2, 8)] * 3, attn_mask=np.ones((2, 3, 3))), r"\(4, 3, 3\), got"),
    (lambda: call(*[(3, 2, 8)] * 3, key_padding_mask=np.ones((3, 2), bool)), r"\(2, 3\), got"),
    (lambda: nn.TransformerEncoderLayer(8, 2, activation="sin"), "'relu', 'gelu' or a function"),
    (lambda: nn.TransformerEncoderLayer(8, 2, dropout=2), "dropout is a probability"),
    (lambda: nn.TransformerEncoderLayer(8, 3), "do not divide"),
]


def call(*shapes, **options):
    return nn.MultiheadAttention(8, 2)(*(np.ones(s, np.float32) for s in shapes), **options)


@pytest.mark.parametrize(("call", "message"), BAD_ATTENTION)
def test_bad_attention_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


LAYERS = [
    {"norm_first": norm, "batch_first": first, "activation": activation, "bias": bias}
    for norm, first, (activation, bias) in itertools.product(
        (False, True), (False, True), (("relu", True), ("gelu", True), ("gelu", False))
    )
]


@pytest.mark.parametrize("options", LAYERS, ids=lambda o: "-".join(map(str, o.values())))
def test_encoder_layer(options):
    ours, theirs = pair("TransformerEncoderLayer", E, HEADS, 20, dropout=0.0, **options)
    x = rng.standard_normal((BATCH, S, E) if options["batch_first"] else (S, BATCH, E))
    agree(ours, theirs, x)
    agree(ours, theirs, x, src_mask=causal(S), src_key_padding_mask=PADDING)
    agree(ours.eval(), theirs, x[0] if options["batch_first"] else x[:, 0])
    out = ours(x, is_causal=True)
    np.testing.assert_array_equal(out.numpy(), ours(x, causal(S)).numpy())


def test_encoder_layer_trains_with_dropout_and_a_function_as_activation():
    tg.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, activation=np.tanh)
    x = rng.standard_normal((5, 2, 8)).astype(np.float32)
    target = np.sign(x[::-1])

    def loss():
        return ((layer(x) - target) ** 2).mean()

    before = loss().item()
    assert before != loss().item()
    for _ in range(100):
        layer.zero_grad()
        loss().backward()
        with tg.no_grad():
            for p in layer.parameters():
                p -= 0.1 * p.grad
    layer.eval()
    assert loss().item() < 0.5 * before
    module = nn.TransformerEncoderLayer(8, 2, 16, activation=nn.PReLU())
    assert "activation.weight" in module.state_dict()
