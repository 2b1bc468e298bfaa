"""Recurrent layers: RNN, LSTM and GRU, which differ in one step and share the rest.

The one trick: what the input contributes to the gates does not depend on the state, so it is one
matrix product for all steps; only the state's part is computed step by step.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .. import functional as F
from ..conversion import operand
from .layers import Layer, uniform

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Recurrent(Layer):
    """What RNN, LSTM and GRU share. Weights and biases start in U(±1/√hidden_size).

    Call it with an input of shape (steps, batch, features), (batch, steps, features) if
    `batch_first`, or (steps, features), and optionally with the initial state: one array (a pair
    for LSTM) of shape (layers * directions, batch, hidden_size), or without the batch. It returns
    the last layer's state at every step, and every layer's state after its last one. `dropout` acts
    between layers.
    """

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
        *, dtype: Any = np.float32, rng: Any = None,
    ) -> None:  # fmt: skip
        self._keep(locals())
        self.ways = ("", "_reverse")[: 1 + bidirectional]
        rows, inputs = self.gates * hidden_size, input_size
        for layer in range(num_layers):
            for way in self.ways:
                shapes = (rows, inputs), (rows, hidden_size), (rows,), (rows,)
                for name, shape in list(zip(WEIGHTS, shapes, strict=True))[: 4 if bias else 2]:
                    p = uniform(shape, hidden_size**-0.5, dtype, rng)
                    setattr(self, f"{name}_l{layer}{way}", p)
            inputs = hidden_size * len(self.ways)

    def _step(self, x: Any, u: Any, *state: Any) -> tuple[Any, ...]:
        """The next state, from the gates' shares of the input (x) and of the last state (u)."""
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        x = input = operand(input)
        batched = x.ndim == 3
        if not batched and x.ndim == 2:
            x = np.expand_dims(x, 1)
        elif self.batch_first:
            x = np.swapaxes(x, 0, 1)
        if x.ndim != 3 or x.shape[2] != self.input_size or 0 in x.shape:
            self._refuse(
                f"expected 2 axes, or 3 with a batch, the last of {self.input_size} features, and "
                f"one step or more, got {input.shape}"
            )
        shape = (self.num_layers * len(self.ways), x.shape[1], self.hidden_size)
        want = shape if batched else (shape[0], shape[2])
        if hx is None:
            hx = (np.zeros(want, self.weight_ih_l0.dtype),) * self.states
        hx = hx if isinstance(hx, (tuple, list)) else (hx,)
        if [h.shape for h in hx] != [want] * self.states:
            self._refuse(f"expected {self.states} state(s) {want}, got {[h.shape for h in hx]}")
        last: list[tuple[Any, ...]] = []
        for layer in range(self.num_layers):
            x, sides = F.dropout(x, self.dropout, self.training and layer > 0, self.rng), []
            for way in self.ways:
                wx, wh, bx, bh = (getattr(self, f"{n}_l{layer}{way}", None) for n in WEIGHTS)
                state, side = tuple(h.reshape(shape)[len(last)] for h in hx), []
                for row in _unstack(F.linear(x, wx, bx))[:: -1 if way else 1]:
                    state = self._step(row, F.linear(state[0], wh, bh), *state)
                    side.append(state[0])
                sides.append(np.stack(side[:: -1 if way else 1]))
                last.append(state)
            x = np.concatenate(sides, axis=-1) if len(sides) > 1 else sides[0]
        final = tuple(np.stack(h).reshape(want) for h in zip(*last, strict=True))
        out = x[:, 0] if not batched else np.swapaxes(x, 0, 1) if self.batch_first else x
        return out, final if self.states > 1 else final[0]


def _unstack(x: Any) -> list[Any]:
    """The entries along axis 0, by halving: the gradient of each x[i] alone would fill all of x."""
    half = len(x) // 2
    return _unstack(x[:half]) + _unstack(x[half:]) if half else [x[0]]


class RNN(Recurrent):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it, as `nonlinearity` says."""

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
        *args: Any, **options: Any,
    ) -> None:  # fmt: skip
        if nonlinearity not in ("tanh", "relu"):
            self._refuse(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(input_size, hidden_size, num_layers, *args, **options)
        self._keep({"nonlinearity": nonlinearity})

    def _step(self, x: Any, u: Any, *state: Any) -> tuple[Any, ...]:
        return ((np.tanh if self.nonlinearity == "tanh" else F.relu)(x + u),)


class LSTM(Recurrent):
    """c' = σ(f) c + σ(i) tanh(g) and h' = σ(o) tanh(c').

    (i, f, g, o) is W_ih x + b_ih + W_hh h + b_hh. S. Hochreiter and J. Schmidhuber, Long short-term
    memory, 1997.
    """

    gates, states = 4, 2

    def _step(self, x: Any, u: Any, *state: Any) -> tuple[Any, ...]:
        i, f, g, o = np.split(x + u, 4, axis=-1)
        c = F.sigmoid(f) * state[1] + F.sigmoid(i) * np.tanh(g)
        return F.sigmoid(o) * np.tanh(c), c


class GRU(Recurrent):
    """h' = (1 - z) n + z h, with r = σ(x_r + u_r), z = σ(x_z + u_z), n = tanh(x_n + r u_n).

    (x_r, x_z, x_n) is W_ih x + b_ih, (u_r, u_z, u_n) is W_hh h + b_hh. K. Cho et al., Learning
    phrase representations using RNN encoder-decoder, 2014.
    """

    gates = 3

    def _step(self, x: Any, u: Any, *state: Any) -> tuple[Any, ...]:
        (x_r, x_z, x_n), (u_r, u_z, u_n) = np.split(x, 3, axis=-1), np.split(u, 3, axis=-1)
        n, z = np.tanh(x_n + F.sigmoid(x_r + u_r) * u_n), F.sigmoid(x_z + u_z)
        return ((1 - z) * n + z * state[0],)
