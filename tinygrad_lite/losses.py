"""Losses: what to minimise, with PyTorch's names, arguments and defaults.

Each exists three times: composed of primitives (`fused=False`: the graph to look at), as one fused
node (the default), and as a closed form on paper, which its docstring states and the tests hold
against both. The formulas are rows of loss_table.py; here arguments are checked and reductions
chosen: "mean", "sum", "none", or "batchmean" (the sum, divided by the length of axis 0).

Predictions may be Tensors or arrays; a result is what went in. Lists and Python's numbers take the
dtype of what they stand beside. Shapes must agree: a (n, 1) against a (n,) is an error unless
`broadcast=True`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import loss_checks as check
from . import loss_table as table
from .array_methods import raw
from .conversion import as_array, floating

# Regression


def squared_error(
    input: Any, target: Any, reduction: str = "sum", *, broadcast: bool = False, fused: bool = True
) -> Any:
    """½ Σ (y - t)², half the squared distance. Gradient: y - t.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.grad(tg.losses.squared_error)(np.array([3.0, -1.0]), [1.0, 1.0])
    array([ 2., -2.])
    """
    xs = check.pair("squared_error", input, target, broadcast)
    return check.entrywise(
        "squared_error", xs, reduction, fused, factor=0.5, kernel=table.squared_difference
    )


def mse_loss(
    input: Any, target: Any, reduction: str = "mean", weight: Any = None,
    *, broadcast: bool = False, fused: bool = True,
) -> Any:  # fmt: skip
    """Mean squared error, Σ w (y - t)² / Σ w. Gradient: 2 w (y - t) / Σ w."""
    xs = check.pair("mse_loss", input, target, broadcast)
    weight = check.mean_weights("mse_loss", weight, reduction, xs)
    kernel = table.squared_difference
    return check.entrywise("mse_loss", xs, reduction, fused, weight, kernel=kernel)


def l1_loss(
    input: Any, target: Any, reduction: str = "mean", weight: Any = None,
    *, broadcast: bool = False, fused: bool = True,
) -> Any:  # fmt: skip
    """Mean absolute error, Σ w |y - t| / Σ w. Gradient: w sign(y - t) / Σ w."""
    xs = check.pair("l1_loss", input, target, broadcast)
    weight = check.mean_weights("l1_loss", weight, reduction, xs)
    return check.entrywise("l1_loss", xs, reduction, fused, weight)


def smooth_l1_loss(
    input: Any, target: Any, reduction: str = "mean", beta: float = 1.0,
    *, broadcast: bool = False, fused: bool = True,
) -> Any:  # fmt: skip
    """d²/2β where d = |y - t| < β, else d - β/2. Gradient: clip((y - t)/β, -1, 1)."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    xs = check.pair("smooth_l1_loss", input, target, broadcast)
    return check.entrywise("smooth_l1_loss", xs, reduction, fused, beta=beta)


def huber_loss(
    input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None,
    *, broadcast: bool = False, fused: bool = True,
) -> Any:  # fmt: skip
    """d²/2 where d = |y - t| <= δ, else δ (d - δ/2). Gradient: clip(y - t, -δ, δ).

    `weight` multiplies; a mean still divides by the number of entries, as PyTorch's.
    P. J. Huber, Robust estimation of a location parameter, 1964.
    """
    if delta <= 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    xs = check.pair("huber_loss", input, target, broadcast)
    return check.entrywise("huber_loss", xs, reduction, fused, weight, delta=delta)


def poisson_nll_loss(
    input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8,
    reduction: str = "mean", *, broadcast: bool = False, fused: bool = True,
) -> Any:  # fmt: skip
    """exp(x) - t x for a logarithmic rate x, else x - t log(x + ε); `full` adds log t!, as Stirling
    has it for t > 1. Gradient: exp(x) - t, or 1 - t / (x + ε)."""
    xs = check.pair("poisson_nll_loss", input, target, broadcast)
    params = {"log_input": log_input, "full": full, "eps": eps}
    return check.entrywise("poisson_nll_loss", xs, reduction, fused, **params)


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6,
    reduction: str = "mean", *, broadcast: bool = False, fused: bool = True,
) -> Any:  # fmt: skip
    """½ (log v + (y - t)²/v), with v = max(var, ε); `full` adds ½ log 2π.

    `var` is a number, or has the input's shape, possibly without its last axis, or with length 1
    for one of its axes. Gradients: (y - t)/v, and ½ (1 - (y - t)²/v)/v for the variance, also where
    it was raised to ε.
    """
    y, t = check.pair("gaussian_nll_loss", input, target, broadcast)
    v = check.beside(var, y)
    if v.shape == y.shape[:-1] and v.ndim:
        v = np.expand_dims(v, -1)
    if np.any(raw(v) < 0):
        raise ValueError(f"gaussian_nll_loss: a variance is negative: {np.min(raw(v))}")
    if v.ndim and (v.ndim != y.ndim or sum(a != b for a, b in zip(v.shape, y.shape)) > 1):  # noqa: B905
        raise ValueError(
            f"gaussian_nll_loss: var of shape {v.shape} does not fit an input of shape {y.shape}"
        )
    v = v + np.maximum(eps - raw(v), 0).astype(v.dtype)  # a constant: the slope stays 1
    return check.entrywise("gaussian_nll_loss", (y, t, v), reduction, fused, full=full)


# Probabilities, signs and distances


def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean",
    *, broadcast: bool = False, fused: bool = True,
) -> Any:  # fmt: skip
    """-(t log p + (1 - t) log(1 - p)) for probabilities p. Gradient: (p - t) / (p (1 - p)).

    As in PyTorch a logarithm is at least -100 and a slope at most 1e12. Prefer logits:
    `binary_cross_entropy_with_logits` needs no such limits.
    """
    p, t = check.pair("binary_cross_entropy", input, target, broadcast)
    if not np.all((raw(p).real >= 0) & (raw(p).real <= 1) | np.isnan(raw(p))):
        raise ValueError(
            f"binary_cross_entropy: probabilities must lie in 0 to 1, got {np.min(raw(p))} to "
            f"{np.max(raw(p))}: for logits use binary_cross_entropy_with_logits"
        )
    return check.entrywise("binary_cross_entropy", (p, t), reduction, fused, weight)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None,
    *, broadcast: bool = False, fused: bool = True,
) -> Any:  # fmt: skip
    """-(t log σ(x) + (1 - t) log σ(-x)) for logits x. Gradient: σ(x) - t.

    `pos_weight` multiplies the first term, `weight` both; exact at any logit.
    """
    name = "binary_cross_entropy_with_logits"
    return _sigmoid_loss(name, input, target, weight, reduction, pos_weight, broadcast, fused)


def sigmoid_cross_entropy(
    input: Any, target: Any, weight: Any = None, reduction: str = "batchmean",
    pos_weight: Any = None, *, broadcast: bool = False, fused: bool = True,
) -> Any:  # fmt: skip
    """`binary_cross_entropy_with_logits` by its field name: summed, divided by the batch size N.

    Gradient: (σ(x) - t) / N.

    >>> import numpy as np, tinygrad_lite as tg
    >>> tg.grad(tg.losses.sigmoid_cross_entropy)(np.array([[0.0, 1e4]]), [[1.0, 0.0]])
    array([[-0.5,  1. ]])
    """
    name = "sigmoid_cross_entropy"
    return _sigmoid_loss(name, input, target, weight, reduction, pos_weight, broadcast, fused)


def _sigmoid_loss(
    name: str, x: Any, t: Any, weight: Any, reduction: str, pos: Any, broadcast: bool, fused: bool
) -> Any:
    x, t = check.pair(name, x, t, broadcast)
    shape = np.broadcast_shapes(x.shape, t.shape)
    scale, total = check.reduction_factor(
        name, reduction, math.prod(shape), shape[0] if shape else 1
    )
    w = scale if weight is None else scale * check.weights(name, weight, shape, x)
    p = 1 if pos is None else check.weights(name, pos, shape, x, "pos_weight")
    return check.run(name, table.sigmoid_cross_entropy, (x, t), w, p, total=total, fused=fused)


def kl_div(
    input: Any, target: Any, reduction: str = "mean", log_target: bool = False,
    *, broadcast: bool = False, fused: bool = True,
) -> Any:  # fmt: skip
    """Kullback-Leibler divergence t (log t - x) for log-probabilities x; 0 where t = 0.

    Gradient: -t. With `log_target` t is given as its logarithm. The divergence itself, per sample,
    is reduction="batchmean".
    """
    xs = check.pair("kl_div", input, target, broadcast)
    return check.entrywise("kl_div", xs, reduction, fused, log_target=log_target)


def hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, reduction: str = "mean", *, fused: bool = True
) -> Any:
    """x where t = 1, max(0, margin - x) where t = -1. Gradient: 1, or -1 within the margin."""
    x, t = check.pair("hinge_embedding_loss", input, target, False)
    xs = x, check.signs("hinge_embedding_loss", t, x)
    return check.entrywise("hinge_embedding_loss", xs, reduction, fused, margin=margin)


def soft_margin_loss(
    input: Any, target: Any, reduction: str = "mean", *, fused: bool = True
) -> Any:
    """log(1 + exp(-t x)) for t = ±1. Gradient: -t σ(-t x)."""
    x, t = check.pair("soft_margin_loss", input, target, False)
    xs = x, check.signs("soft_margin_loss", t, x)
    return check.entrywise("soft_margin_loss", xs, reduction, fused)


def margin_ranking_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean",
    *, fused: bool = True,
) -> Any:  # fmt: skip
    """max(0, margin - t (x - y)): t = 1 wants x above y. Gradient: -t and t where positive."""
    x, y = check.pair("margin_ranking_loss", input1, input2, False)
    x, t = check.pair("margin_ranking_loss", x, target, False)
    xs = x, y, check.signs("margin_ranking_loss", t, x)
    return check.entrywise("margin_ranking_loss", xs, reduction, fused, margin=margin)


def focal_loss(
    input: Any, target: Any, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean",
    *, fused: bool = True,
) -> Any:  # fmt: skip
    """α' (1 - p')^γ (-log p'), p' the probability that σ(x) gives to the target 0 or 1.

    α' is α for t = 1 and 1 - α for t = 0. With m = 1 - p' and L = -log p', the gradient is
    α' (m^γ (p - t) + γ m^(γ-1) L (1 - 2t) p (1 - p)). T.-Y. Lin et al., Focal loss for dense object
    detection, 2017.
    """
    x, t = check.pair("focal_loss", input, target, False)
    xs = x, check.no_gradient("focal_loss", "target", t)
    return check.entrywise("focal_loss", xs, reduction, fused, alpha=alpha, gamma=gamma)


def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean",
    *, fused: bool = True,
) -> Any:  # fmt: skip
    """1 - cos(x, y) where t = 1, max(0, cos(x, y) - margin) where t = -1; over the last axis.

    Gradient: ∓ (y / (|x| |y|) - cos x / |x|²).
    """
    x, y = check.pair("cosine_embedding_loss", input1, input2, False)
    t = check.signs("cosine_embedding_loss", target, x)
    if t.shape != x.shape[:-1] or x.ndim == 0:
        raise ValueError(
            f"cosine_embedding_loss: inputs of shape {x.shape} need targets of shape "
            f"{x.shape[:-1]}, got {t.shape}"
        )
    return check.samplewise("cosine_embedding_loss", (x, y, t), reduction, fused, margin=margin)


def triplet_margin_loss(
    anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2, eps: float = 1e-6,
    swap: bool = False, reduction: str = "mean", *, fused: bool = True,
) -> Any:  # fmt: skip
    """max(0, margin + d(a, p) - d(a, n)), where d is |x - y + ε| in the p-norm of the last axis.

    `swap` takes the smaller of d(a, n) and d(p, n). Gradient: where positive, the unit vector from
    p to a minus that from n to a, for the anchor.
    """
    a, near = check.pair("triplet_margin_loss", anchor, positive, False)
    a, far = check.pair("triplet_margin_loss", a, negative, False)
    check.no_gradient("triplet_margin_loss", "p", p)
    params = {"margin": margin, "norm": p, "eps": eps, "swap": swap}
    return check.samplewise("triplet_margin_loss", (a, near, far), reduction, fused, **params)


# Classification


def cross_entropy(
    input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean",
    label_smoothing: float = 0.0, *, fused: bool = True,
) -> Any:  # fmt: skip
    """-log softmax(x)[t], for logits x of shape (N, C) or (N, C, d1, ...), or (C) for one sample.

    Parameters
    ----------
    target : class indices of shape (N) or (N, d1, ...); or probabilities of the input's shape, of
        which one-hot rows are a case (-Σ q log softmax(x); also differentiable in q).
    weight : of each class; a mean over indices then divides by the sum of the targets' weights.
    ignore_index : samples with this target do not count.
    label_smoothing : the share of the target's probability that is spread over all classes.

    The gradient is (softmax(x) - onehot) / N. Derivation: x - max x changes nothing;
    L = log Σ exp z - z[t]; dL/dz = exp z / Σ exp z - onehot.

    Raises
    ------
    ValueError : a label out of range, shapes that do not fit, an empty batch, logits not finite.
    TypeError : labels that are not integers.

    >>> import numpy as np, tinygrad_lite as tg
    >>> x = np.array([[-1, 0, 1], [-2, 0, 2]], np.float32)
    >>> tg.grad(tg.losses.cross_entropy)(x, [1, 2])
    array([[ 0.04501529, -0.37763578,  0.33262047],
           [ 0.00793812,  0.05865521, -0.06659332]], dtype=float32)
    """
    name = "cross_entropy"
    if label_smoothing.__class__ is not float:
        check.no_gradient(name, "label_smoothing", label_smoothing)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: label_smoothing must lie in 0 to 1, got {label_smoothing}")
    x, t, added = check.batched(name, input, target)
    t = t if hasattr(t, "dtype") else as_array(t)
    classes = x.shape[1]
    w = None if weight is None else check.class_weights(name, weight, x)
    if t.shape == x.shape:  # probabilities
        q = check.beside(target, x)
        q = np.expand_dims(q, 0) if added else q
        if np.any(raw(q) < 0):
            raise ValueError(f"{name}: a target probability is negative: {np.min(raw(q))}")
        if label_smoothing:
            q = q * (1 - label_smoothing) + label_smoothing / classes
        if w is not None:
            q = q * w.reshape(-1, *[1] * (x.ndim - 2))
        factor, total = check.reduction_factor(name, reduction, x.size // max(classes, 1), len(x))
        out = check.run(name, table.soft_cross_entropy, (x, q * factor), total=total, fused=fused)
    else:
        t, each, scale, total = check.index_scale(name, x, t, w, ignore_index, reduction)
        if label_smoothing:
            spread = np.full(classes, label_smoothing / classes, x.dtype) * (1 if w is None else w)
            one_hot = np.expand_dims(t, 1) == np.arange(classes).reshape(-1, *[1] * (x.ndim - 2))
            q = one_hot * np.expand_dims(scale * (1 - label_smoothing), 1)
            q = q + np.expand_dims(each, 1) * spread.reshape(-1, *[1] * (x.ndim - 2))
            q = q.astype(x.dtype)
            out = check.run(name, table.soft_cross_entropy, (x, q), total=total, fused=fused)
        else:
            out = check.run(name, table.cross_entropy, (x, t), scale, total=total, fused=fused)
    return out[0] if added and not total else out


def nll_loss(
    input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean",
    *, fused: bool = True,
) -> Any:  # fmt: skip
    """-x[t] for log-probabilities x, such as log_softmax gives: `cross_entropy`'s second half.

    Shapes, `weight` and `ignore_index` as there. Gradient: -1/N at the target.
    """
    x, t, added = check.batched("nll_loss", input, target)
    w = None if weight is None else check.class_weights("nll_loss", weight, x)
    t, _, scale, total = check.index_scale("nll_loss", x, t, w, ignore_index, reduction)
    out = check.run("nll_loss", table.nll_loss, (x, t), scale, total=total, fused=fused)
    return out[0] if added and not total else out


def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None,
    reduction: str = "mean", *, fused: bool = True,
) -> Any:  # fmt: skip
    """Σ over wrong classes j of max(0, margin - x[t] + x[j])^p / C; `weight` is the target's.

    Gradient, with m that maximum: p m^(p-1) / C for each wrong class, minus their sum for t.
    """
    name = "multi_margin_loss"
    if p not in (1, 2):
        raise ValueError(f"{name}: p must be 1 or 2, got {p}")
    x, t, added = check.batched(name, input, target)
    t, _ = check.class_indices(name, x, t)
    scale, total = check.reduction_factor(name, reduction, t.size, len(x))
    scale = scale if weight is None else scale * check.class_weights(name, weight, x)[t]
    params = {"p": p, "margin": margin}
    out = check.run(
        name, table.multi_margin_loss, (x, t), scale, total=total, fused=fused, **params
    )
    return out[0] if added and not total else out


def multilabel_soft_margin_loss(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", *, fused: bool = True
) -> Any:
    """The mean over classes of `binary_cross_entropy_with_logits`; `weight` has one per class.

    Gradient: w (σ(x) - t) / C.
    """
    name = "multilabel_soft_margin_loss"
    x, t = check.pair(name, input, target, False)
    if x.ndim == 0:
        raise ValueError(f"{name}: expected classes on the last axis, got a number")
    scale, total = check.reduction_factor(name, reduction, x.size // max(x.shape[-1], 1), len(x))
    w = (1 if weight is None else check.weights(name, weight, x.shape, x)) * (scale / x.shape[-1])
    out = check.run(name, table.sigmoid_cross_entropy, (x, t), w, 1, total=total, fused=fused)
    return out if total else np.sum(out, axis=-1)


def am_softmax_loss(
    input: Any, target: Any, margin: float = 0.35, scale: float = 30.0, reduction: str = "mean",
    *, fused: bool = True,
) -> Any:  # fmt: skip
    """Cross-entropy of s (cos θ - m·onehot), for cosines of shape (N, C): additive margin.

    Cosines are products of normalised features and normalised class weights. Gradient:
    s (softmax - onehot) / N. F. Wang et al., Additive margin softmax for face verification, 2018.
    """
    x = floating(input)
    t, _ = check.class_indices("am_softmax_loss", x, target)
    logits = scale * (x - margin * table.one_hot(x, t))
    return cross_entropy(logits, t, reduction=reduction, fused=fused)


def arcface_loss(
    input: Any, target: Any, margin: float = 0.5, scale: float = 64.0, reduction: str = "mean",
    *, fused: bool = True,
) -> Any:  # fmt: skip
    """Cross-entropy of s cos(θ + m·onehot), for cosines of shape (N, C): additive angular margin.

    cos(θ + m) = cos θ cos m - sin θ sin m; past θ = π - m, where it would rise again, it gives way
    to cos θ - m sin m. Gradient: that of the cross-entropy, for the target times
    cos m + cos θ sin m / sin θ. J. Deng et al., ArcFace, 2019.
    """
    x = floating(input)
    t, _ = check.class_indices("arcface_loss", x, target)
    sine = np.sqrt(np.clip(1 - x * x, 0, None))
    turned = np.where(
        x > -math.cos(margin),
        x * math.cos(margin) - sine * math.sin(margin),
        x - margin * math.sin(margin),
    )
    logits = scale * np.where(table.one_hot(x, t) > 0, turned, x)
    return cross_entropy(logits, t, reduction=reduction, fused=fused)
