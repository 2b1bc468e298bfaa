"""The layers, with PyTorch's names, arguments and initial values.

The one trick: a layer is a function of functional.py or losses.py, and what that
takes besides tensors are attributes of the layer under the same names. So a layer without
parameters (an activation, a pooling, a loss) is one line that names its function.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from .. import functional as F
from .. import losses as L
from ..conversion import operand
from ..rng import generator
from ..tensor import Tensor
from .module import Module, Parameter

SIZES = """in_features out_features in_channels out_channels groups num_features num_groups
    num_channels num_embeddings embedding_dim num_parameters input_size hidden_size num_layers
    embed_dim num_heads kdim vdim"""
NOT_KEPT = {"self", "__class__", "bias", "dtype", "training"}


class Layer(Module):
    """A function as a module: `class GLU(Layer, of=F.glu)`.

    `tensors` of its arguments are given at the call. The others, its options, are attributes;
    unless a subclass writes `__init__`, they are the arguments of the constructor. So
    `layer.fused = False`, or `layer(x, fused=False)`, runs the composition of primitives.
    """

    function: ClassVar[Callable[..., Any]]
    takes: ClassVar[dict[str, str]]  # the function's name of each option, and the layer's
    signature: ClassVar[inspect.Signature]

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init_subclass__(cls, of: Callable[..., Any] | None = None, tensors: int = 1) -> None:
        if of is None:
            return
        options = list(inspect.signature(of).parameters.values())[tensors:]
        cls.function = staticmethod(of)
        cls.takes = {p.name: "dim" if p.name == "axis" else p.name for p in options}
        options = [p.replace(name=cls.takes[p.name], annotation=p.empty) for p in options]
        cls.signature = inspect.Signature([p for p in options if p.name not in NOT_KEPT])
        cls.__doc__ = cls.__doc__ or f"{cls.__name__}{cls.signature}, as a layer:\n\n{of.__doc__}"

    def __init__(self, *values: Any, **options: Any) -> None:
        try:
            bound = self.signature.bind(*values, **options)
        except TypeError as error:
            name = type(self).__name__
            raise TypeError(f"{name}: {error}; its options are {self.signature}") from None
        bound.apply_defaults()
        self._keep(bound.arguments)

    def _keep(self, options: dict[str, Any]) -> None:
        """Check the arguments of `__init__` by their names, and make them attributes."""
        for name, value in options.items():
            if name in NOT_KEPT:
                continue
            if name in SIZES.split() and not (isinstance(value, (int, np.integer)) and value > 0):
                self._refuse(f"{name} must be a positive integer, got {value!r}")
            chance = name == "dropout" or (name == "p" and self.function is F.dropout)
            if chance and not 0 <= value <= 1:
                self._refuse(f"{name} is a probability, from 0 to 1, got {value!r}")
            if isinstance(value, Tensor) and value.requires_grad and not value.is_leaf:
                kind = type(self).__name__
                self._refuse(f"make it first, then call it: {kind}()(tensor), got it as {name}=")
            array = isinstance(value, (np.ndarray, Tensor)) and not isinstance(value, Parameter)
            (self.register_buffer if array else self.__setattr__)(name, value)
            if name not in ("rng", "fused", "broadcast"):
                self.shown = (*self.shown, name)

    def _refuse(self, problem: str) -> None:
        raise ValueError(f"{type(self).__name__}: {problem}")

    def forward(self, *tensors: Any, **changes: Any) -> Any:
        kept = {name: getattr(self, own) for name, own in self.takes.items() if hasattr(self, own)}
        return type(self).function(*tensors, **(kept | changes))


def uniform(shape: tuple[int, ...], bound: float, dtype: Any, rng: Any) -> Parameter:
    """A Parameter of random numbers between -bound and bound."""
    return Parameter(generator(rng).uniform(-bound, bound, shape).astype(dtype))


def affine_parameters(shape: Any, weight: bool, bias: bool, dtype: Any) -> list[Parameter | None]:
    """A weight of ones and a bias of zeros, or None."""
    pairs = (np.ones, weight), (np.zeros, bias)
    return [Parameter(filled(shape, dtype)) if on else None for filled, on in pairs]


class Linear(Layer, of=F.linear):
    """x @ weight.T + bias, on the last axis; both start in U(±1/√in_features)."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True,
        *, dtype: Any = np.float32, rng: Any = None,
    ) -> None:  # fmt: skip
        self._keep(locals())
        bound = 1 / math.sqrt(in_features)
        self.weight = uniform((out_features, in_features), bound, dtype, rng)
        self.bias = uniform((out_features,), bound, dtype, rng) if bias else None


class Convolution(Layer):
    """What convolutions share: weight and bias start in U(±1/√n), n = the size of weight[0]."""

    axes: ClassVar[int]
    transposed = False

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True,
        padding_mode: str = "zeros", *, dtype: Any = np.float32, rng: Any = None,
    ) -> None:  # fmt: skip
        if isinstance(kernel_size, (int, np.integer)):
            kernel_size = (kernel_size,) * self.axes
        self._keep(locals())
        if len(kernel_size) != self.axes or min(kernel_size) < 1:
            self._refuse(f"kernel_size must be {self.axes} positive integers, got {kernel_size}")
        if in_channels % groups or out_channels % groups:
            self._refuse(f"{groups} groups do not divide {in_channels} and {out_channels} channels")
        if padding_mode != "zeros":
            self._refuse(f"padding_mode must be 'zeros', got {padding_mode!r}: use functional.pad")
        a, b = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        bound = 1 / math.sqrt(b // groups * math.prod(kernel_size))
        self.weight = uniform((a, b // groups, *kernel_size), bound, dtype, rng)
        self.bias = uniform((out_channels,), bound, dtype, rng) if bias else None


class Conv1d(Convolution, of=F.conv1d):
    """`conv1d` of (N, in_channels, l), with a weight (out_channels, in_channels / groups, k)."""

    axes = 1


class Conv2d(Convolution, of=F.conv2d):
    """`conv2d` of (N, in_channels, h, w); weight (out_channels, in_channels / groups, k, k)."""

    axes = 2


class ConvTranspose2d(Convolution, of=F.conv_transpose2d):
    """`conv_transpose2d`; the weight is (in_channels, out_channels / groups, k, k)."""

    axes, transposed = 2, True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, output_padding: Any = 0, groups: int = 1, bias: bool = True,
        dilation: Any = 1, padding_mode: str = "zeros", *, dtype: Any = np.float32, rng: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, dtype=dtype, rng=rng,
        )  # fmt: skip
        self._keep({"output_padding": output_padding})


class BatchNorm(Layer):
    """In training the batch's statistics normalise, and the running ones follow them.

    `momentum` None makes the running statistics the averages of all batches. Buffers: running_mean,
    running_var, num_batches_tracked.
    """

    axes: ClassVar[tuple[int, ...]]
    num_batches_tracked: Any

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True, track_running_stats: bool = True, *, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self._keep(locals())
        self.weight, self.bias = affine_parameters(num_features, affine, affine, dtype)
        start = np.zeros(num_features, dtype), np.ones(num_features, dtype), np.int64(0)
        names = ("running_mean", "running_var", "num_batches_tracked")
        for name, value in zip(names, start, strict=True):
            self.register_buffer(name, value if track_running_stats else None)

    def forward(self, x: Any) -> Any:
        x = operand(x)
        if x.ndim not in self.axes or x.shape[1] != self.num_features:
            self._refuse(
                f"expected an input of {' or '.join(map(str, self.axes))} axes, with "
                f"{self.num_features} channels on axis 1, got shape {x.shape}"
            )
        count, rate = self.num_batches_tracked, self.momentum
        kept = self.running_mean is not None
        if rate is None and kept:  # as if a Python number: it does not widen the statistics
            rate = (1 / (count + 1)).astype(self.running_mean.dtype)
        out = super().forward(x, training=self.training or not kept, momentum=rate)
        if self.training and kept:
            np.add(count, 1, out=count)
        return out


class BatchNorm1d(BatchNorm, of=F.batch_norm):
    """`batch_norm` of (N, C) or (N, C, l)."""

    axes = (2, 3)


class BatchNorm2d(BatchNorm, of=F.batch_norm):
    """`batch_norm` of (N, C, h, w)."""

    axes = (4,)


class LayerNorm(Layer, of=F.layer_norm):
    """`layer_norm` over the last axes, of shape `normalized_shape`."""

    def __init__(
        self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True, *, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self._keep(locals())
        on = elementwise_affine
        self.weight, self.bias = affine_parameters(normalized_shape, on, on and bias, dtype)


class RMSNorm(Layer, of=F.rms_norm):
    """`rms_norm` over the last axes, of shape `normalized_shape`."""

    def __init__(
        self, normalized_shape: Any, eps: float | None = None, elementwise_affine: bool = True,
        *, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self._keep(locals())
        self.weight, _ = affine_parameters(normalized_shape, elementwise_affine, False, dtype)


class GroupNorm(Layer, of=F.group_norm):
    """`group_norm` of (N, num_channels, ...), with `num_groups` groups of channels."""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True,
        *, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self._keep(locals())
        if num_channels % num_groups:
            self._refuse(f"{num_groups} groups do not divide {num_channels} channels")
        self.weight, self.bias = affine_parameters(num_channels, affine, affine, dtype)


class Embedding(Layer, of=F.embedding):
    """A row of `embedding_dim` numbers for each integer below `num_embeddings`; starts in N(0, 1).

    The row `padding_idx` starts as 0 and gets no gradient.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
        *, dtype: Any = np.float32, rng: Any = None,
    ) -> None:  # fmt: skip
        self._keep(locals())
        rows = generator(rng).standard_normal((num_embeddings, embedding_dim)).astype(dtype)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                self._refuse(f"padding_idx {padding_idx} is not one of {num_embeddings} rows")
            rows[padding_idx] = 0
        self.weight = Parameter(rows)


class PReLU(Layer, of=F.prelu):
    """`prelu` with a learnt slope for negative x, or one for each channel (axis 1)."""

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, *, dtype: Any = np.float32
    ) -> None:
        self._keep(locals())
        self.weight = Parameter(np.full(num_parameters, init, dtype))


class Identity(Module):
    """x; arguments at construction are ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, x: Any) -> Any:
        return x


def _flatten(x: Any, start_dim: int = 1, end_dim: int = -1) -> Any:
    """x with the axes from start_dim to end_dim made one."""
    x = operand(x)
    start, end = (normalize_axis_index(axis, x.ndim) for axis in (start_dim, end_dim))
    if start > end:
        raise ValueError(f"start_dim={start_dim} is behind end_dim={end_dim} in shape {x.shape}")
    return x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


def _unflatten(x: Any, dim: int, unflattened_size: tuple[int, ...]) -> Any:
    """x with the axis `dim` split into several, of which one may be -1."""
    x = operand(x)
    dim = normalize_axis_index(dim, x.ndim)
    return x.reshape(*x.shape[:dim], *unflattened_size, *x.shape[dim + 1 :])


# fmt: off
class Flatten(Layer, of=_flatten): ...
class Unflatten(Layer, of=_unflatten): ...
class Dropout(Layer, of=F.dropout): ...
class MaxPool1d(Layer, of=F.max_pool1d): ...
class MaxPool2d(Layer, of=F.max_pool2d): ...
class AvgPool1d(Layer, of=F.avg_pool1d): ...
class AvgPool2d(Layer, of=F.avg_pool2d): ...
class AdaptiveAvgPool2d(Layer, of=F.adaptive_avg_pool2d): ...

class ReLU(Layer, of=F.relu): ...
class ReLU6(Layer, of=F.relu6): ...
class LeakyReLU(Layer, of=F.leaky_relu): ...
class ELU(Layer, of=F.elu): ...
class SELU(Layer, of=F.selu): ...
class CELU(Layer, of=F.celu): ...
class GELU(Layer, of=F.gelu): ...
class SiLU(Layer, of=F.silu): ...
class Mish(Layer, of=F.mish): ...
class Softplus(Layer, of=F.softplus): ...
class Softsign(Layer, of=F.softsign): ...
class Sigmoid(Layer, of=F.sigmoid): ...
class Tanh(Layer, of=F.tanh): ...
class Hardsigmoid(Layer, of=F.hardsigmoid): ...
class Hardswish(Layer, of=F.hardswish): ...
class Hardtanh(Layer, of=F.hardtanh): ...
class LogSigmoid(Layer, of=F.logsigmoid): ...
class Tanhshrink(Layer, of=F.tanhshrink): ...
class Threshold(Layer, of=F.threshold): ...
class GLU(Layer, of=F.glu): ...
class Softmax(Layer, of=F.softmax): ...
class LogSoftmax(Layer, of=F.log_softmax): ...
class Softmin(Layer, of=F.softmin): ...

class SquaredErrorLoss(Layer, of=L.squared_error, tensors=2): ...
class MSELoss(Layer, of=L.mse_loss, tensors=2): ...
class L1Loss(Layer, of=L.l1_loss, tensors=2): ...
class SmoothL1Loss(Layer, of=L.smooth_l1_loss, tensors=2): ...
class HuberLoss(Layer, of=L.huber_loss, tensors=2): ...
class CrossEntropyLoss(Layer, of=L.cross_entropy, tensors=2): ...
class NLLLoss(Layer, of=L.nll_loss, tensors=2): ...
class BCELoss(Layer, of=L.binary_cross_entropy, tensors=2): ...
class BCEWithLogitsLoss(Layer, of=L.binary_cross_entropy_with_logits, tensors=2): ...
class SigmoidCrossEntropyLoss(Layer, of=L.sigmoid_cross_entropy, tensors=2): ...
class KLDivLoss(Layer, of=L.kl_div, tensors=2): ...
class PoissonNLLLoss(Layer, of=L.poisson_nll_loss, tensors=2): ...
class GaussianNLLLoss(Layer, of=L.gaussian_nll_loss, tensors=3): ...
class HingeEmbeddingLoss(Layer, of=L.hinge_embedding_loss, tensors=2): ...
class SoftMarginLoss(Layer, of=L.soft_margin_loss, tensors=2): ...
class MultiMarginLoss(Layer, of=L.multi_margin_loss, tensors=2): ...
class MultiLabelSoftMarginLoss(Layer, of=L.multilabel_soft_margin_loss, tensors=2): ...
class MarginRankingLoss(Layer, of=L.margin_ranking_loss, tensors=3): ...
class CosineEmbeddingLoss(Layer, of=L.cosine_embedding_loss, tensors=3): ...
class TripletMarginLoss(Layer, of=L.triplet_margin_loss, tensors=3): ...
class FocalLoss(Layer, of=L.focal_loss, tensors=2): ...
class AMSoftmaxLoss(Layer, of=L.am_softmax_loss, tensors=2): ...
class ArcFaceLoss(Layer, of=L.arcface_loss, tensors=2): ...
