"""Activations, normalisation, dropout, attention and the like, as functions.

Names, argument order, defaults and the slopes at kinks are PyTorch's (`axis=` where it says dim). A
Tensor gives a Tensor; arrays, lists and numbers give an array. The one trick: each is written with
NumPy functions only, so that its gradient writes itself; those that name a primitive of fused.py
run it instead, one node with the gradient in closed form, unless `fused=False`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from . import fused as fast
from . import primitives as p
from .array_methods import raw
from .conversion import as_array, floating, operand
from .convolution import conv1d as conv1d
from .convolution import conv2d as conv2d
from .convolution import conv_transpose2d as conv_transpose2d
from .fused import equals
from .pooling import adaptive_avg_pool2d as adaptive_avg_pool2d
from .pooling import avg_pool1d as avg_pool1d
from .pooling import avg_pool2d as avg_pool2d
from .pooling import fold as fold
from .pooling import interpolate as interpolate
from .pooling import max_pool1d as max_pool1d
from .pooling import max_pool2d as max_pool2d
from .pooling import unfold as unfold
from .primitives import Primitive, primitive
from .rng import generator
from .tensor import Tensor, apply


def _activation(name: str, does: str, function: Any, fused: Primitive | None = None) -> Any:
    """Take lists and numbers for x too; run the primitive, if one is given."""
    function = equals(fused)(function) if fused else function

    @functools.wraps(function)
    def call(x: Any, *args: Any, **params: Any) -> Any:
        if "dim" in params:
            raise TypeError(f"{name}: write axis= for dim=, as NumPy does")
        return function(floating(x), *args, **params)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = does
    return call


def _arrays(*values: Any) -> list[Any]:
    return [None if value is None else operand(value) for value in values]


def _relu(x: Any) -> Any:
    if isinstance(x, (np.generic, float, int)):
        return x * 0 if x < 0 else x  # type: ignore[operator]  # a tenth of np.maximum's time
    return np.maximum(x, 0)


_relu_node = primitive(_relu, lambda g, out, x: g * (x > 0), saves="x", name="relu")


def relu(x: Any) -> Any:
    """max(x, 0), with slope 0 at 0."""
    if isinstance(x, Tensor):
        return apply(_relu_node, (x,))
    return _relu(np.asarray(x) if isinstance(x, (list, tuple)) else x)


# fmt: off
# With a kink: a condition is a plain boolean array, and np.where chooses the slope as well.
hardtanh = _activation("hardtanh", "x between the bounds, with slope 0 on and beyond them.",
    lambda x, min_val=-1.0, max_val=1.0:
    np.where(x <= min_val, min_val, np.where(x >= max_val, max_val, x)))
relu6 = _activation("relu6", "min(max(x, 0), 6), with slope 0 at both ends.",
    lambda x: hardtanh(x, 0.0, 6.0))
leaky_relu = _activation("leaky_relu", "x where x > 0, else negative_slope * x.",
    lambda x, negative_slope=0.01: np.where(x > 0, x, negative_slope * x))
threshold = _activation("threshold", "x where it is above the threshold, else the value.",
    lambda x, threshold, value: np.where(x <= threshold, value, x))
elu = _activation("elu", "x where x > 0, else alpha (eˣ - 1).",
    lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.where(x > 0, 0, x))))
selu = _activation("selu", "1.0507 elu(x, 1.6733), which keeps mean 0 and variance 1.",
    lambda x: 1.0507009873554805 * elu(x, 1.6732632423543772))
celu = _activation("celu", "x where x > 0, else alpha (exp(x / alpha) - 1); slope 1 at 0.",
    lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.where(x > 0, 0, x) / alpha)))
hardsigmoid = _activation("hardsigmoid", "x / 6 + 1/2 from -3 to 3, and 0 and 1 beyond.",
    lambda x: np.where(x <= -3, 0, np.where(x >= 3, 1, x / 6 + 0.5)))
hardswish = _activation("hardswish", "x hardsigmoid(x).", lambda x: x * hardsigmoid(x))

# Smooth
tanh = _activation("tanh", "np.tanh(x).", lambda x: np.tanh(x))
erf = _activation("erf", "The error function, 2/√π ∫₀ˣ exp(-t²) dt.", lambda x: fast.erf(x))
sigmoid = _activation("sigmoid", "1 / (1 + e⁻ˣ).", lambda x: 1 / (1 + np.exp(-x)), fast.sigmoid)
softplus = _activation("softplus", "log(1 + exp(beta x)) / beta; x where beta x > threshold.",
    lambda x, beta=1.0, threshold=20.0:
    np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta), fast.softplus)
logsigmoid = _activation("logsigmoid", "log(sigmoid(x)), also where sigmoid(x) underflows.",
    lambda x: -softplus(-x, threshold=np.inf))
silu = _activation("silu", "x sigmoid(x).", lambda x: x / (1 + np.exp(-x)), fast.silu)
mish = _activation("mish", "x tanh(log(1 + eˣ)).",
    lambda x: x * np.tanh(softplus(x, threshold=np.inf)))
softsign = _activation("softsign", "x / (1 + |x|).", lambda x: x / (1 + abs(x)))
tanhshrink = _activation("tanhshrink", "x - tanh x.", lambda x: x - np.tanh(x))
_gelu = _activation("_gelu", "", lambda x: x * (1 + erf(x / math.sqrt(2))) / 2, fast.gelu)
_gelu_tanh = _activation("_gelu_tanh", "", lambda x:
    x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2, fast.gelu_tanh)
# fmt: on


def gelu(x: Any, approximate: str = "none", fused: bool = True) -> Any:
    """x P(z < x), z standard normal; "tanh": x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return (_gelu if approximate == "none" else _gelu_tanh)(x, fused=fused)


def prelu(x: Any, weight: Any) -> Any:
    """x where x > 0, else weight * x. One weight, or one per channel (axis 1 of x)."""
    x, weight = _arrays(x, weight)
    if weight.size != 1 and weight.shape != x.shape[1:2]:
        raise ValueError(f"prelu: expected 1 weight or {x.shape[1:2]}, got {weight.shape}")
    shape = (1,) * x.ndim if weight.size == 1 else (-1, *[1] * (x.ndim - 2))
    return np.where(x > 0, x, weight.reshape(shape) * x)


def glu(x: Any, axis: int = -1) -> Any:
    """a sigmoid(b), where a and b are the halves of x along the axis."""
    x = operand(x)
    if x.shape[axis] % 2:
        raise ValueError(f"glu: axis {axis} of shape {x.shape} does not split into equal halves")
    a, b = np.split(x, 2, axis=axis)
    return a * sigmoid(b)


# fmt: off
softmax = _activation("softmax", "exp(x) / sum(exp(x)) along the axis: positive, with sum 1.",
    lambda x, axis=-1: (e := np.exp(x - np.max(x, axis=axis, keepdims=True)))
    / np.sum(e, axis=axis, keepdims=True), fast.softmax)
logsumexp = _activation("logsumexp", "log(sum(exp(x))) over the axis (None: all).",
    lambda x, axis=None, keepdims=False:
    np.log(np.sum(np.exp(x - np.max(x, axis=axis, keepdims=True)), axis=axis, keepdims=keepdims))
    + np.max(x, axis=axis, keepdims=keepdims), p.logsumexp)
log_softmax = _activation("log_softmax", "x - logsumexp(x) along the axis: log(softmax(x)).",
    lambda x, axis=-1: x - logsumexp(x, axis, True, fused=False), fast.log_softmax)
softmin = _activation("softmin", "softmax(-x).", lambda x, axis=-1: softmax(-x, axis=axis))
normalize = _activation("normalize", "x / max(‖x‖ₚ, eps), the norm along the axis (or axes).",
    lambda x, p=2.0, axis=1, eps=1e-12:
    x / np.clip(np.linalg.vector_norm(x, ord=p, axis=axis, keepdims=True), eps, None))
cosine_similarity = _activation("cosine_similarity", "x1 · x2 / (‖x1‖ ‖x2‖), norms at least eps.",
    lambda x1, x2, axis=1, eps=1e-8:
    np.sum(normalize(x1, 2, axis, eps) * normalize(x2, 2, axis, eps), axis=axis))
pairwise_distance = _activation("pairwise_distance", "‖x1 - x2 + eps‖ₚ along the last axis.",
    lambda x1, x2, p=2.0, eps=1e-6, keepdims=False:
    np.linalg.vector_norm(x1 - x2 + eps, ord=p, axis=-1, keepdims=keepdims))
# fmt: on


_PADS: Any = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(x: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """Widen x at its edges: pad = (before, after) of the last axis, then of the one before, ...

    mode : "constant" (filled with value, default 0), "reflect" (without repeating the edge),
        "replicate" (the edge), "circular" (from the other end). A negative pad crops.

    >>> import tinygrad_lite as tg
    >>> tg.functional.pad([[1, 2, 3]], (2, 1), "reflect")
    array([[3, 2, 1, 2, 3, 2]])
    """
    x, inside = operand(x), []
    if mode not in _PADS or (value is not None and mode != "constant"):
        raise ValueError(f"pad: no mode={mode!r} with value={value}: {', '.join(_PADS)}")
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(f"pad: expected up to {x.ndim} pairs (before, after), got {pad}")
    pairs = np.zeros((x.ndim, 2), int)
    pairs[x.ndim - len(pad) // 2 :] = np.reshape(pad, (-1, 2))[::-1]
    for n, (a, b) in zip(x.shape, pairs, strict=True):
        inside.append(slice(max(-a, 0), n - max(-b, 0)))
        n += min(a, 0) + min(b, 0)
        most = {"reflect": max(n - 1, 0), "circular": n}.get(mode, max(a, b))
        if n < 0 or max(a, b) > most:
            raise ValueError(f"pad: {mode} cannot add {a} and {b} to the axes of {x.shape}")
    fill: Any = {"constant_values": value} if value else {}
    return np.pad(x[tuple(inside)], np.maximum(pairs, 0), _PADS[mode], **fill)


def _check_indices(name: str, ids: Any, n: int, what: str) -> None:
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {ids.dtype}: convert with .astype(int)")
    bad = np.argwhere((ids < 0) | (ids >= n))
    if len(bad):
        at = tuple(bad[0].tolist())
        raise IndexError(f"{name}{list(at) or ''} = {ids[at]}, but {what} has {n} (0 to {n - 1})")


def one_hot(labels: Any, num_classes: int = -1) -> Any:
    """1 at the label, else 0: integers with one more axis, of num_classes (-1: those there are)."""
    labels = as_array(raw(labels))
    if num_classes == -1 and labels.size == 0:
        raise ValueError("one_hot: no labels to count classes by: pass num_classes=")
    n = num_classes if num_classes != -1 else int(labels.max()) + 1
    _check_indices("one_hot: labels", labels, n, "num_classes")
    return (labels[..., None] == np.arange(n)).astype(np.int64)


def embedding(ids: Any, weight: Any, padding_idx: int | None = None, fused: bool = True) -> Any:
    """weight[ids]: for every integer its row of the (n, dim) weight; shape (*ids.shape, dim).

    padding_idx : the row that gets no gradient; a negative one counts from the end.
    """
    ids, weight = as_array(raw(ids)), operand(weight)
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight must have shape (n, dim), got {weight.shape}")
    n = weight.shape[0]
    _check_indices("embedding: ids", ids, n, "weight")
    if padding_idx is not None:
        padding_idx = padding_idx + n if padding_idx < 0 else padding_idx
        _check_indices("embedding: padding_idx", np.asarray(padding_idx), n, "weight")
    return _embedding(ids, weight, padding_idx=padding_idx, fused=fused)


def _keep(name: str, p: float, shape: Any, rng: Any) -> tuple[Any, float]:
    """Which entries dropout keeps, and the factor that keeps their expected sum."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name} must be a probability, from 0 to 1, got {p}")
    return generator(rng).random(shape, np.float32) >= p, 1 / (1 - p) if p < 1 else 1.0


def dropout(
    x: Any, p: float = 0.5, training: bool = True, rng: Any = None, fused: bool = True
) -> Any:
    """Zero entries with probability p and divide the others by 1 - p; x itself unless training."""
    x = operand(x)
    mask, scale = _keep("dropout: p", p, x.shape if training and p > 0 else 0, rng)
    return _dropout(x, mask, scale=scale, fused=fused) if training and p > 0 else x


def _affine(x: Any, weight: Any, bias: Any, per_channel: bool = False) -> Any:
    """x * weight + bias, either of which may be None; they belong to the last axes or to axis 1."""
    if per_channel:
        shape = (-1, *[1] * (x.ndim - 2))
        weight, bias = (w if w is None else w.reshape(shape) for w in (weight, bias))
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _standard(x: Any, axes: tuple[int, ...], eps: float) -> Any:
    d = x - np.mean(x, axis=axes, keepdims=True)
    return d / np.sqrt(np.mean(d * d, axis=axes, keepdims=True) + eps)


# fmt: off
_embedding = equals(fast.embedding)(lambda ids, w, padding_idx=None: (w if padding_idx is None else
    np.where(np.arange(w.shape[0])[:, None] == padding_idx, raw(w), w))[ids])
_dropout = equals(fast.dropout)(lambda x, mask, scale=1.0: x * mask * scale)
_linear = equals(fast.linear)(lambda x, w, b: _affine(x @ w.T, None, b))
_linear_relu = equals(fast.linear_relu)(lambda x, w, b: relu(_affine(x @ w.T, None, b)))
_layer_norm = equals(fast.layer_norm)(lambda x, w, b, eps=1e-5, ndim=1:
    _affine(_standard(x, tuple(range(-ndim, 0)), eps), w, b))
_rms_norm = equals(fast.rms_norm)(lambda x, w, eps=1e-5, ndim=1: _affine(
    x / np.sqrt(np.mean(x * x, axis=tuple(range(-ndim, 0)), keepdims=True) + eps), w, None))
_batch_norm = equals(fast.batch_norm)(lambda x, w, b, eps=1e-5:
    _affine(_standard(x, (0, *range(2, x.ndim)), eps), w, b, True))
_group_norm = equals(fast.group_norm)(lambda x, w, b, eps=1e-5, num_groups=1: _affine(
    _standard(x.reshape(x.shape[0], num_groups, math.prod(x.shape[1:]) // num_groups), (2,), eps)
    .reshape(x.shape), w, b, True))
# fmt: on


def _check(name: str, shape: Any, **given: Any) -> list[Any]:
    """The given as arrays of this shape, or None."""
    for what, value in given.items():
        if value is not None and np.shape(value) != shape:
            raise ValueError(f"{name}: expected {what} of shape {shape}, got {np.shape(value)}")
    return _arrays(*given.values())


def _check_linear(name: str, x: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any]:
    x, weight = operand(x), operand(weight)
    given, shape = x.shape, weight.shape
    if not given or len(shape) != 2 or given[-1] != shape[1]:
        shapes = f"x {given} and weight {shape}"
        raise ValueError(f"{name}: expected (..., features) and (outputs, features), got {shapes}")
    if bias is not None and (bias := operand(bias)).shape != shape[:1]:
        raise ValueError(f"{name}: expected bias of shape {shape[:1]}, got {bias.shape}")
    return x, weight, bias


def linear(x: Any, weight: Any, bias: Any = None, fused: bool = True) -> Any:
    """x @ weight.T + bias: x (..., features), weight (outputs, features), bias (outputs,)."""
    return _linear(*_check_linear("linear", x, weight, bias), fused=fused)


def linear_relu(x: Any, weight: Any, bias: Any = None, fused: bool = True) -> Any:
    """relu(linear(x, weight, bias)), in one node."""
    return _linear_relu(*_check_linear("linear_relu", x, weight, bias), fused=fused)


def _trailing(name: str, x: Any, normalized_shape: Any) -> tuple[Any, tuple[int, ...]]:
    x, shape = floating(x), tuple(np.atleast_1d(normalized_shape).tolist())
    if x.shape[-len(shape) :] != shape:
        raise ValueError(f"{name}: expected the last axes of x to be {shape}, got x {x.shape}")
    return x, shape


def layer_norm(
    x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    fused: bool = True,
) -> Any:  # fmt: skip
    """(x - mean) / √(var + eps) * weight + bias, over the last axes, of shape normalized_shape."""
    x, shape = _trailing("layer_norm", x, normalized_shape)
    weight, bias = _check("layer_norm", shape, weight=weight, bias=bias)
    return _layer_norm(x, weight, bias, eps=eps, ndim=len(shape), fused=fused)


def rms_norm(
    x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None, fused: bool = True
) -> Any:
    """x / √(mean(x²) + eps) * weight, over the last axes; eps is the dtype's unless given."""
    x, shape = _trailing("rms_norm", x, normalized_shape)
    (weight,) = _check("rms_norm", shape, weight=weight)
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    return _rms_norm(x, weight, eps=eps, ndim=len(shape), fused=fused)


def group_norm(
    x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    fused: bool = True,
) -> Any:  # fmt: skip
    """Normalise each sample's groups of channels: x (n, channels, ...), weight (channels,)."""
    x = operand(x)
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ValueError(f"group_norm: axis 1 of x {x.shape} does not make {num_groups} groups")
    weight, bias = _check("group_norm", x.shape[1:2], weight=weight, bias=bias)
    return _group_norm(x, weight, bias, eps=eps, num_groups=num_groups, fused=fused)


def batch_norm(
    x: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5, fused: bool = True,
) -> Any:  # fmt: skip
    """(x - mean) / √(var + eps) * weight + bias, per channel (axis 1 of x).

    training : mean and variance are the batch's, and the running ones (ndarrays, or None) move
        towards them by momentum, in place, the variance as if divided by n - 1. Otherwise the
        running ones are what normalises.
    """
    x, running = operand(x), (running_mean, running_var)
    axes = (0, *range(2, x.ndim))
    if x.ndim < 2 or (training and p.count(x, axes) < 2):
        raise ValueError(f"batch_norm: expected x (n, channels, ...) with n > 1, got {x.shape}")
    arrays = [isinstance(r, np.ndarray) or hasattr(r, "traced") for r in running]
    if not all((r is None and training) or array for r, array in zip(running, arrays, strict=True)):
        raise TypeError(f"batch_norm: running_mean and running_var must be ndarrays, got {running}")
    weight, bias, mean, var = _check(
        "batch_norm", x.shape[1:2], weight=weight, bias=bias, mean=running_mean, var=running_var
    )
    if not training:
        r = 1 / np.sqrt(var + eps)
        r = r if weight is None else weight * r
        return _affine(_affine(x, None, -mean, True), r, bias, True)
    for old, new in ((mean, raw(x).mean(axes)), (var, raw(x).var(axes, ddof=1))):
        if old is not None:
            np.copyto(old, old + momentum * (new - old))
    return _batch_norm(x, weight, bias, eps=eps, fused=fused)


@equals(fast.attention)
def _attention(
    q: Any, k: Any, v: Any, mask: Any, drop: Any, scale: float = 1.0, kept: float = 1.0
) -> Any:
    s = q @ np.swapaxes(k, -1, -2) * scale
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == np.bool_ else s + mask
    nothing = np.max(raw(s), axis=-1, keepdims=True) == -np.inf
    weights = np.where(nothing, 0, softmax(np.where(nothing, 0, s), fused=False))
    return (weights if drop is None else _dropout(weights, drop, kept, fused=False)) @ v


def attention(
    q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, rng: Any = None, fused: bool = True,
) -> Any:  # fmt: skip
    """softmax(scale q kᵀ + mask) v: PyTorch's scaled_dot_product_attention.

    q (..., l, e), k (..., s, e) and v (..., s, d) give (..., l, d); leading axes broadcast.
    attn_mask : broadcasts to (..., l, s). Booleans: True where a query may look (one that may look
        nowhere gets 0). Numbers are added to the scores, and may require gradients.
    is_causal : query i looks at keys 0 to i only. scale : 1 / √e unless given.
    dropout_p : of the softmax's entries, always (there is no training= here).
    """
    q, k, v, attn_mask = _arrays(q, k, v, attn_mask)
    if min(q.ndim, k.ndim, v.ndim) < 2 or (q.shape[-1], v.shape[-2]) != k.shape[:-3:-1]:
        raise ValueError(
            f"attention: expected q (..., l, e), k (..., s, e) and v (..., s, d), got {q.shape}, "
            f"{k.shape} and {v.shape}"
        )
    shape = (*np.broadcast_shapes(q.shape[:-2], k.shape[:-2]), q.shape[-2], k.shape[-2])
    if is_causal and attn_mask is not None:
        raise ValueError("attention: pass attn_mask or is_causal=True, not both")
    mask = np.tri(*shape[-2:], dtype=np.bool_) if is_causal else attn_mask
    if mask is not None and mask.dtype.kind not in "bf":
        raise TypeError(f"attention: attn_mask must be boolean or floating, got {mask.dtype}")
    if mask is not None and np.broadcast_shapes(mask.shape, shape) != shape:
        raise ValueError(f"attention: attn_mask {mask.shape} does not broadcast to {shape}")
    drop, kept = _keep("attention: dropout_p", dropout_p, shape, rng) if dropout_p else (None, 1.0)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return _attention(q, k, v, mask, drop, scale=scale, kept=kept, fused=fused)


scaled_dot_product_attention = attention
