"""Attention with several heads, and the encoder layer of a transformer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import functional as F
from ..array_methods import raw
from ..conversion import operand
from .layers import Dropout, Layer, LayerNorm, Linear, uniform
from .module import Module, Parameter


class MultiheadAttention(Layer):
    """softmax(q kᵀ / √d) v in each of `num_heads` heads of d = embed_dim / num_heads features.

    q, k and v are linear in `query`, `key` and `value`, whose last axes are embed_dim, kdim and
    vdim; the heads' results, side by side, pass through `out_proj`. Weights start Xavier-uniform,
    biases at 0. A. Vaswani et al., Attention is all you need, 2017.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
        *, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
        dtype: Any = np.float32, rng: Any = None,
    ) -> None:  # fmt: skip
        kdim, vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self._keep(locals())
        if embed_dim % num_heads:
            self._refuse(f"{num_heads} heads do not divide embed_dim = {embed_dim}")
        widths = {"q_proj_weight": embed_dim, "k_proj_weight": kdim, "v_proj_weight": vdim}
        shapes = {name: (embed_dim, width) for name, width in widths.items()}
        if kdim == vdim == embed_dim:
            shapes = {"in_proj_weight": (3 * embed_dim, embed_dim)}
        for name, shape in shapes.items():
            setattr(self, name, uniform(shape, math.sqrt(6 / sum(shape)), dtype, rng))
        self.in_proj_bias = Parameter(np.zeros(3 * embed_dim, dtype)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype=dtype, rng=rng)
        if self.out_proj.bias is not None:
            self.out_proj.bias.data[...] = 0

    def forward(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None,
        need_weights: bool = True, attn_mask: Any = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Any, Any]:  # fmt: skip
        """The output, and the weights or None.

        Parameters
        ----------
        query : (L, N, embed_dim). key : (S, N, kdim). value : (S, N, vdim). The output is (L, N,
            embed_dim). Axes 0 and 1 are exchanged if `batch_first`; a single sample has no N.
        key_padding_mask : (N, S). attn_mask : (L, S) or (N * num_heads, L, S). In booleans True
            forbids to look; floating point numbers are added to the scores.
        need_weights : also return the softmax, (N, L, S) as the mean of the heads or, unless
            `average_attn_weights`, (N, num_heads, L, S). Slower.
        is_causal : position i looks at 0 to i only. Where all is forbidden, weights are 0.
        """
        inputs = query, key, value = [operand(x) for x in (query, key, value)]
        batched = query.ndim == 3
        if not batched:
            inputs = [np.expand_dims(x, 0) for x in inputs]
        elif not self.batch_first:
            inputs = [np.swapaxes(x, 0, 1) for x in inputs]
        n, rows, columns, heads = len(inputs[0]), *(x.shape[1] for x in inputs[:2]), self.num_heads
        sizes = (rows, self.embed_dim), (columns, self.kdim), (columns, self.vdim)
        if [x.shape for x in inputs] != [(n, *size) for size in sizes]:
            self._refuse(
                f"expected query (L, N, {self.embed_dim}), key (S, N, {self.kdim}) and value (S, "
                f"N, {self.vdim}), with N first if batch_first, or without N; got {query.shape}, "
                f"{key.shape} and {value.shape}"
            )
        if hasattr(self, "in_proj_weight"):
            weights = np.split(self.in_proj_weight, 3)
        else:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases = [None] * 3 if self.in_proj_bias is None else np.split(self.in_proj_bias, 3)
        q, k, v = (
            np.swapaxes(F.linear(x, w, b).reshape(n, x.shape[1], heads, -1), 1, 2)
            for x, w, b in zip(inputs, weights, biases, strict=True)
        )
        masks = []
        if attn_mask is not None:
            full = (n * heads, rows, columns)
            mask = self._added("attn_mask", attn_mask, full[-np.ndim(attn_mask) :], q.dtype)
            masks.append(mask.reshape(-1, heads, rows, columns) if mask.ndim == 3 else mask)
        if key_padding_mask is not None:
            shape = (n, columns) if batched else (columns,)
            mask = self._added("key_padding_mask", key_padding_mask, shape, q.dtype)
            masks.append(mask.reshape(n, 1, 1, columns))
        if is_causal:
            masks.append(np.where(np.tri(rows, columns, dtype=bool), 0, -np.inf).astype(q.dtype))
        options: Any = {"attn_mask": sum(masks) if masks else None, "rng": self.rng}
        options["dropout_p"] = self.dropout if self.training else 0.0
        seen = None
        if need_weights:  # attention to the rows of the unit matrix is the softmax itself
            seen = F.attention(q, k, np.eye(columns, dtype=q.dtype), **options)
        out = F.attention(q, k, v, **options) if seen is None else seen @ v
        out = self.out_proj(np.swapaxes(out, 1, 2).reshape(n, rows, self.embed_dim))
        if seen is not None and average_attn_weights:
            seen = np.mean(seen, axis=1)
        if not batched:
            return out[0], None if seen is None else seen[0]
        return out if self.batch_first else np.swapaxes(out, 0, 1), seen

    def _added(self, name: str, mask: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        """A mask as numbers to add to the scores: -inf where a boolean forbids to look."""
        mask = operand(mask)
        if mask.shape != shape or mask.dtype.kind not in "bf":
            self._refuse(
                f"{name} must be booleans or floats {shape}, got {mask.dtype} {mask.shape}"
            )
        return (np.where(raw(mask), -np.inf, 0) if mask.dtype == bool else mask).astype(dtype)


class TransformerEncoderLayer(Module):
    """Self-attention, then two Linears with an activation between; each added to its input.

    The sums are normalised, or, with `norm_first`, what enters the two parts. `activation` is
    "relu", "gelu" or a function. Shapes and masks are those of `MultiheadAttention`.
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = "relu", layer_norm_eps: float = 1e-5,
        batch_first: bool = False, norm_first: bool = False, bias: bool = True,
        *, dtype: Any = np.float32, rng: Any = None,
    ) -> None:  # fmt: skip
        named: dict[Any, Any] = {"relu": F.relu, "gelu": F.gelu}
        if activation not in named and not callable(activation):
            raise ValueError(
                "TransformerEncoderLayer: activation must be 'relu', 'gelu' or a function, "
                f"got {activation!r}"
            )
        options: Any = {"dtype": dtype, "rng": rng}
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, **options
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, **options)
        self.dropout = Dropout(dropout, rng)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **options)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout, rng), Dropout(dropout, rng)
        self.norm_first, self.activation = norm_first, named.get(activation, activation)

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Any:  # fmt: skip
        def attend(x: Any) -> Any:
            out, _ = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, True, is_causal)
            return self.dropout1(out)

        def feed(x: Any) -> Any:
            return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))

        if self.norm_first:
            src = src + attend(self.norm1(src))
            return src + feed(self.norm2(src))
        src = self.norm1(src + attend(src))
        return self.norm2(src + feed(src))
