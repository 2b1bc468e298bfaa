"""What losses share: checks of their arguments, reductions as factors, and one way to run a row.

Messages name the loss, what was given and what was expected. The one trick: NaN is looked for in
the result only, and in the arguments once it is there.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from . import loss_table as table
from .array_methods import raw
from .conversion import as_array, floating
from .tensor import Tensor


def no_gradient(name: str, what: str, t: Any) -> Any:
    if isinstance(t, Tensor) and t.requires_grad:
        raise TypeError(
            f"{name}: there is no gradient by {what}: pass {what}=t.detach() if a constant is meant"
        )
    return t if hasattr(raw(t), "dtype") and not isinstance(t, Tensor) else as_array(raw(t))


def beside(x: Any, like: Any) -> Any:
    """x as floating point: what has no such dtype of its own (lists, numbers) takes `like`'s."""
    own, other = (getattr(getattr(v, "dtype", None), "kind", "") in ("f", "c") for v in (x, like))
    x = x if hasattr(x, "dtype") else as_array(x)
    return x.astype(like.dtype) if other and not own else floating(x)


def pair(name: str, y: Any, t: Any, broadcast: bool) -> tuple[Any, Any]:
    y = beside(y, t)
    t = beside(t, y)
    if y.shape != t.shape and not broadcast:
        raise ValueError(
            f"{name}: expected input and target of one shape, got {y.shape} and {t.shape}: "
            "reshape one of them, or pass broadcast=True if they shall broadcast"
        )
    return y, t


def signs(name: str, t: Any, like: Any) -> Any:
    t = no_gradient(name, "target", t)
    wrong = np.argwhere(abs(t) != 1)
    if wrong.size:
        i = tuple(int(k) for k in wrong[0])
        raise ValueError(f"{name}: targets must be 1 or -1, but target{list(i)} = {t[i]}")
    return t.astype(like.dtype)


def class_indices(name: str, x: Any, t: Any, ignore_index: int | None = None) -> tuple[Any, bool]:
    """Class indices as integers, from 0 to C - 1 or `ignore_index`; whether one may be that."""
    t = no_gradient(name, "target", t)
    if x.ndim < 2:
        raise ValueError(f"{name}: expected an input of shape (N, C) or (N, C, ...), got {x.shape}")
    expected = x.shape[:1] + x.shape[2:]
    if t.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: class indices must be integers, got {t.dtype} of shape {t.shape}: "
            f"t.astype(int) for indices of shape {expected}, or probabilities of shape {x.shape} "
            "where the loss takes them"
        )
    if t.shape != expected:
        raise ValueError(
            f"{name}: inputs of shape {x.shape} need targets of shape {expected}, got {t.shape}"
        )
    n, indices = x.shape[1], t.astype(np.intp)
    outside = t.size and indices.view(np.uintp).max() >= n  # unsigned, a negative index is huge
    if outside:
        wrong = ((t < 0) | (t >= n)) & (t != ignore_index)
        if wrong.any():
            wrong = np.argwhere(wrong)
            i = tuple(int(k) for k in wrong[0])
            at = ", ".join(map(str, i))
            raise ValueError(
                f"{name}: target[{at}] = {t[i]}, but logits have {n} classes (0 to {n - 1})"
            )
    return indices, bool(outside) or ignore_index in range(n)


def batched(name: str, x: Any, t: Any) -> tuple[Any, Any, bool]:
    """Logits (N, C, ...) and targets with a batch axis; whether one had to be added."""
    x = floating(x)
    if x.ndim == 0:
        raise ValueError(f"{name}: expected logits of shape (N, C) or (N, C, ...), got a number")
    if np.ndim(raw(t)) > x.ndim:
        raise ValueError(
            f"{name}: the input has shape {x.shape}, the target {np.shape(raw(t))}: logits come "
            "first, then the target"
        )
    if x.ndim > 1:
        return x, t, False
    t = t if hasattr(t, "dtype") else as_array(t)
    return np.expand_dims(x, 0), np.expand_dims(t, 0), True


def reduction_factor(name: str, reduction: str, size: int, batch: int) -> tuple[float, bool]:
    """The factor that a reduction puts before each entry, and whether it sums them."""
    factors = {"none": 1, "sum": 1, "mean": size, "batchmean": batch}
    if reduction not in factors:
        raise ValueError(
            f"{name}: reduction must be 'mean', 'sum', 'none' or 'batchmean', got {reduction!r}"
        )
    if not factors[reduction]:
        raise ValueError(f"{name}: the {reduction} of an empty batch is 0 / 0: skip the batch")
    return 1 / factors[reduction], reduction != "none"


def run(name: str, kernel: Any, xs: tuple[Any, ...], *rest: Any, **params: Any) -> Any:
    """The kernel's result; NaN in it that comes from an input is an error."""
    with np.errstate(invalid="ignore"):
        out = kernel(*xs, *rest, **params)
    value = raw(out)
    if np.isnan(value).any() if value.ndim else value != value:  # only NaN differs from itself
        for k, x in enumerate(xs):
            wrong = np.argwhere(~np.isfinite(raw(x)))
            if wrong.size:
                i = tuple(int(n) for n in wrong[0])
                raise ValueError(
                    f"{name}: argument {k} is {np.asarray(raw(x))[i]} at index {list(i)} "
                    f"(shape {x.shape}): tg.detect_anomaly() shows where it was born"
                )
        warnings.warn(f"{name}: NaN from finite arguments", RuntimeWarning, stacklevel=4)
    return out


def entrywise(
    name: str,
    xs: tuple[Any, ...],
    reduction: str,
    fused: bool,
    weight: Any = None,
    factor: float = 1,
    kernel: Any = None,
    **params: Any,
) -> Any:
    """Run a row of the table on arrays that broadcast, with its reduction as a factor."""
    shape = np.broadcast_shapes(*(x.shape for x in xs))
    scale, total = reduction_factor(name, reduction, math.prod(shape), shape[0] if shape else 1)
    scale = factor * scale * (1 if weight is None else weights(name, weight, shape, xs[0]))
    kernel = kernel or getattr(table, name)
    return run(name, kernel, xs, scale, total=total, fused=fused, **params)


def weights(name: str, weight: Any, shape: tuple[int, ...], like: Any, what: str = "weight") -> Any:
    w = no_gradient(name, what, weight).astype(like.dtype)
    try:
        return np.broadcast_to(w, shape)
    except ValueError:
        raise ValueError(f"{name}: {what}s of shape {w.shape} do not fit {shape}") from None


def mean_weights(name: str, weight: Any, reduction: str, xs: tuple[Any, Any]) -> Any:
    """So that a "mean" divides by the sum of the weights and not by their number."""
    if weight is None or reduction != "mean":
        return weight
    w = weights(name, weight, np.broadcast_shapes(xs[0].shape, xs[1].shape), xs[0])
    total = float(np.sum(w.real, dtype=float))
    if w.size and not total:
        raise ValueError(f"{name}: the weights sum to 0, and so their mean is 0 / 0")
    return w * (w.size / total) if total else w


def samplewise(name: str, xs: tuple[Any, ...], reduction: str, fused: bool, **params: Any) -> Any:
    shape = xs[0].shape[:-1]
    scale, total = reduction_factor(name, reduction, math.prod(shape), shape[0] if shape else 1)
    return run(name, getattr(table, name), xs, scale, total=total, fused=fused, **params)


def class_weights(name: str, weight: Any, x: Any) -> Any:
    w = no_gradient(name, "weight", weight)
    if w.shape != x.shape[1:2]:
        raise ValueError(f"{name}: {x.shape[1]} classes need that many weights, got {w.shape}")
    return w.astype(x.dtype)


def index_scale(
    name: str, x: Any, t: Any, w: Any, ignore_index: int | None, reduction: str
) -> tuple[Any, Any, Any, bool]:
    """Targets that can be indexed with; the factor of each by the reduction, and its weight's too.

    An ignored one becomes a class whose loss is finite, since 0 * inf would be NaN.
    """
    t, ignored = class_indices(name, x, t, ignore_index)
    factor, total = reduction_factor(name, reduction, t.size, len(x))
    counted = t != ignore_index if ignored else np.ones(t.shape, bool)
    if not counted.all():
        t = np.where(counted, t, np.argmax(raw(x), axis=1))
    elif w is None:  # the usual case: all samples count alike, so nothing need be added up
        each = np.full(t.shape, factor, x.dtype)
        return t, each, each, total
    each = counted.astype(x.dtype)
    scale = each if w is None else each * np.take(w, t, 0)
    if reduction == "mean":
        if not np.any(scale):
            raise ValueError(f"{name}: every target is ignored or has weight 0: skip the batch")
        factor = 1 / np.sum(scale.real, dtype=float)
        factor = factor.astype(scale.dtype) if hasattr(factor, "traced") else float(factor)
    return t, each * factor, scale * factor, total
