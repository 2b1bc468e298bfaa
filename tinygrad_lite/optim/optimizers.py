"""Optimisers and gradient clipping: PyTorch's names, defaults and formulas.

An optimiser is a few lines of update. The one trick: the signature of `update` is the list of its
options, and it sees plain arrays of one parameter: its values `w`, changed in place; the gradient
`g`, never changed; what it remembers, `state`; a scratch array `s`. All else is `Optimizer`'s.
Call `zero_grad()` before each `backward()`: gradients of several passes add up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar

import numpy as np

from ..mode import MODE, enable_grad
from ..tensor import Tensor, changed, constant

Options = dict[str, Any]


def _tensors(params: Any) -> list[Tensor]:
    tensors = [params] if isinstance(params, Tensor) else list(params)
    if not tensors:
        raise ValueError("no parameters: was a generator, net.parameters(), used a second time?")
    if isinstance(params, (set, frozenset)) or not all(isinstance(p, Tensor) for p in tensors):
        kinds = sorted({type(p).__name__ for p in tensors})
        raise TypeError(f"expected a list of Tensors, got a {type(params).__name__} of {kinds}")
    return tensors


def _checked(options: Options) -> Options:
    """A group's options as plain numbers; ValueError for those out of range."""
    plain: Options = {}
    for name, value in options.items():
        pair = name == "betas"
        numbers = tuple(float(v) for v in (value if pair else [value]))
        low, high = -math.inf if name == "dampening" else 0.0, 1.0 if pair else math.inf
        if len(numbers) != 1 + pair or not all(low <= v < high for v in numbers):
            raise ValueError(f"{name}={value}: expected a number from 0, or two betas in [0, 1)")
        plain[name] = numbers if pair else value if isinstance(value, bool) else numbers[0]
    if plain.get("nesterov") and (not plain["momentum"] or plain["dampening"]):
        raise ValueError("nesterov needs a momentum above 0 and dampening=0")
    return plain


class Optimizer:
    """What all optimisers share; a new one defines `slots` and `update`.

    `params` is an iterable of leaf Tensors, or of dicts {"params": Tensors, option: value, ...},
    one per group. Frozen ones are skipped. Raises ValueError for none, none that requires grad,
    duplicates, computed Tensors, bad values; TypeError for non-Tensors and unknown options.
    """

    slots: ClassVar[dict[str, str]] = {}  # arrays to remember: the option that asks for it, or ""
    update: ClassVar[Callable[..., None]]  # (self, w, g, state, s, lr=..., and other options)
    decoupled: ClassVar[bool] = False  # whether weight decay stays out of the gradient
    __signature__: ClassVar[Signature]

    def __init_subclass__(cls, **changed: Any) -> None:
        rest = list(signature(cls.update).parameters.values())[5:]
        rest = [
            option.replace(
                default=changed.get(option.name, option.default), annotation=option.empty
            )
            for option in rest
        ]
        cls.__signature__ = Signature([Parameter("params", rest[0].kind), *rest])

    def __init__(self, *args: Any, **options: Any) -> None:
        try:
            given = self.__signature__.bind(*args, **options)
        except TypeError as error:
            name = type(self).__name__
            raise TypeError(f"{name}: {error}; its arguments are {self.__signature__}") from None
        given.apply_defaults()
        params = given.arguments.pop("params")
        if isinstance(params, (Tensor, dict, set, frozenset)) or not isinstance(params, Iterable):
            raise TypeError(
                "params must be a list of Tensors, such as net.parameters(), or of dicts, "
                f"not {type(params)}"
            )
        self.defaults = _checked(given.arguments)
        self.param_groups: list[Options] = []
        self.state: dict[Tensor, Options] = {}
        self._scratch: dict[Any, Any] = {}
        groups = list(params)
        for group in groups if groups and isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)
        if not any(p.requires_grad for p, _ in self._pairs()):
            raise ValueError("none of the parameters requires grad: there is nothing to train")

    def _pairs(self) -> list[tuple[Tensor, Options]]:
        return [(p, group) for group in self.param_groups for p in group["params"]]

    def _names(self, group: Options) -> list[str]:
        return [name for name, option in self.slots.items() if not option or group[option]]

    def remembered(self, p: Tensor, group: Options, names: Iterable[str]) -> Options:
        """What a parameter's steps have left, or a start."""
        state = self.state.setdefault(p, {"step": 0})
        for name in names:
            if name not in state:
                state[name] = np.full_like(p._data, group.get("initial_accumulator_value", 0))
        return state

    def add_param_group(self, group: Options) -> None:
        """Train more parameters: {"params": Tensors, option: value, ...}."""
        known = ["params", *self.defaults, "initial_lr"]
        if not isinstance(group, dict) or "params" not in group or group.keys() - set(known):
            raise TypeError(f"expected a dict of 'params' and any of {known}, got {group!r}")
        params, seen = _tensors(group["params"]), {p for p, _ in self._pairs()}
        for i, p in enumerate(params):
            if p in seen or not p.is_leaf:
                problem = "there twice" if p in seen else "computed: only leaves can be trained"
                raise ValueError(f"parameter {i} of the group, of shape {p.shape}, is {problem}")
            seen.add(p)
        options = _checked(self.defaults | {k: v for k, v in group.items() if k != "params"})
        self.param_groups.append({"params": params, **options})

    def zero_grad(self) -> None:
        """Forget all gradients (sets them to None)."""
        for p, _ in self._pairs():
            p.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns the loss of `closure`, if given.

        `closure` clears gradients, computes the loss, runs `backward()` and returns the loss. A
        gradient of another shape, or a read-only parameter, is refused before anything changes.
        """
        loss, todo = None, []
        if closure:
            with enable_grad():
                loss = closure()
        if (tracer := MODE.get().tracer) is not None:
            tracer.optimise(self)
            return loss
        for i, (p, group) in enumerate(self._pairs()):
            if (grad := p._grad) is not None and p._node is not None:
                w, g = p._data, np.asarray(grad._data)
                w = w if g.ndim else np.array(w)
                if g.shape != w.shape or not w.flags.writeable:
                    raise ValueError(
                        f"parameter {i} has shape {w.shape}, its gradient {g.shape}: they must "
                        "agree, and its data must be writeable"
                    )
                if g.dtype is not w.dtype:
                    g = g.astype(w.dtype, casting="same_kind", copy=False)
                todo.append((p, group, w, g))
        shared = {  # what all parameters of a group have in common is looked up once
            id(group): (self._names(group), {name: group[name] for name in self.defaults})
            for group in self.param_groups
        }
        for p, group, w, g in todo:
            names, options = shared[id(group)]
            state = self.remembered(p, group, names)
            state["step"] += 1
            if (scratch := self._scratch.get((w.shape, w.dtype))) is None:
                scratch = self._scratch[w.shape, w.dtype] = np.empty_like(w), np.empty_like(w)
            self.apply(w, g, state, scratch, options)
            if w.ndim:
                changed(p)
            else:
                p.data = w
        return loss

    def apply(self, w: Any, g: Any, state: Options, scratch: Any, options: Options) -> None:
        """`update` of one parameter, with what all optimisers do about its gradient."""
        s, spare = scratch
        if options.get("maximize"):
            g = np.negative(g, out=spare)
        if (decay := options.get("weight_decay")) and self.decoupled:
            w *= 1 - options["lr"] * decay
        elif decay:
            g = np.add(g, np.multiply(w, decay, out=s), out=spare)
        self.update(w, g, state, s, **options)

    def state_dict(self) -> Options:
        """What a resumed run needs, for `tg.save`: copies, with parameters by index."""
        index = {p: i for i, (p, _) in enumerate(self._pairs())}
        groups = [{**g, "params": [index[p] for p in g["params"]]} for g in self.param_groups]
        state = {index[p]: deepcopy(entry) for p, entry in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Options) -> None:
        """Continue where `state_dict()` was taken; ValueError, before any change, if it misfits."""
        saved, pairs = state_dict["param_groups"], self._pairs()
        want, got = (
            [(len(g["params"]), sorted({*g} - {"initial_lr"})) for g in groups]
            for groups in (self.param_groups, saved)
        )
        if want != got:
            raise ValueError(f"expected groups of (parameters, options) {want}, got {got}")
        new = [_checked({k: v for k, v in g.items() if k != "params"}) for g in saved]
        owners = [options for g, options in zip(saved, new, strict=True) for _ in g["params"]]
        index = [i for g in saved for i in g["params"]]
        state: dict[Tensor, Options] = {}
        for i, entry in state_dict["state"].items():
            if index.count(i) != 1:
                raise ValueError(f"there is a state of parameter {i!r}, in groups of {index}")
            p, names = pairs[index.index(i)][0], self._names(owners[index.index(i)])
            shapes = {name: np.shape(entry[name]) for name in names if name in entry}
            if shapes != dict.fromkeys(names, p.shape) or type(entry.get("step")) is not int:
                raise ValueError(
                    f"state {i!r} must have an integer 'step' and {names} of shape {p.shape}, "
                    f"got {list(entry)} of {shapes}"
                )
            arrays = {name: np.array(entry[name], dtype=p.dtype) for name in names}
            state[p] = {"step": entry["step"], **arrays}
        for group, options in zip(self.param_groups, new, strict=True):
            group.update(options)
        self.state = state


# fmt: off
class SGD(Optimizer):
    """Gradient descent (Robbins & Monro 1951), momentum (Polyak 1964), nesterov (Sutskever 2013).

    g ← ∇ + weight_decay·w;  b ← momentum·b + (1 - dampening)·g, at first g;
    w ← w - lr·b, or with nesterov w - lr·(g + momentum·b).

    >>> import tinygrad_lite as tg
    >>> w = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.data
    array([ 0.5, -1. ])
    """

    slots: ClassVar = {"momentum_buffer": "momentum"}

    def update(self, w: Any, g: Any, state: Options, s: Any, lr: float = 1e-3, momentum: float = 0,
               dampening: float = 0, weight_decay: float = 0, nesterov: bool = False, *,
               maximize: bool = False) -> None:
        if momentum:
            b = state["momentum_buffer"]
            b *= momentum
            b += np.multiply(g, 1 - dampening if dampening and state["step"] > 1 else 1, out=s)
            g = np.add(g, np.multiply(b, momentum, out=s), out=s) if nesterov else b
        w -= np.multiply(g, lr, out=s)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980); amsgrad: Reddi et al. 2018, arXiv:1904.09237.

    g ← ∇ + weight_decay·w;  m ← β₁·m + (1 - β₁)·g;  v ← β₂·v + (1 - β₂)·g²;
    w ← w - lr·m/(1 - β₁ᵗ) / (√(v/(1 - β₂ᵗ)) + eps), with amsgrad the largest v so far.
    """

    slots: ClassVar = {"exp_avg": "", "exp_avg_sq": "", "max_exp_avg_sq": "amsgrad"}

    def update(self, w: Any, g: Any, state: Options, s: Any, lr: float = 1e-3,
               betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
               weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False) -> None:
        m, v, t, (beta1, beta2) = state["exp_avg"], state["exp_avg_sq"], state["step"], betas
        m += np.multiply(np.subtract(g, m, out=s), 1 - beta1, out=s)
        v *= beta2
        v += np.multiply(np.square(g, out=s), 1 - beta2, out=s)
        if amsgrad:
            v = np.maximum(state["max_exp_avg_sq"], v, out=state["max_exp_avg_sq"])
        np.divide(np.sqrt(v, out=s), (1 - beta2**t) ** 0.5, out=s)
        np.divide(m, np.add(s, eps, out=s), out=s)
        w -= np.multiply(s, lr / (1 - beta1**t), out=s)


class AdamW(Adam, weight_decay=1e-2):
    """Adam after w ← w - lr·weight_decay·w (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    decoupled = True


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012, lecture 6.5); centered: Graves 2013, arXiv:1308.0850.

    g ← ∇ + weight_decay·w;  v ← alpha·v + (1 - alpha)·g²;  b ← momentum·b + g / (√v + eps);
    w ← w - lr·b. centered: √(v - a²), where a ← alpha·a + (1 - alpha)·g; rounding below 0 is cut.
    """

    slots: ClassVar = {"square_avg": "", "momentum_buffer": "momentum", "grad_avg": "centered"}

    def update(self, w: Any, g: Any, state: Options, s: Any, lr: float = 1e-2, alpha: float = 0.99,
               eps: float = 1e-8, weight_decay: float = 0, momentum: float = 0,
               centered: bool = False, *, maximize: bool = False) -> None:
        v = state["square_avg"]
        v *= alpha
        v += np.multiply(np.square(g, out=s), 1 - alpha, out=s)
        if centered:
            a = state["grad_avg"]
            a += np.multiply(np.subtract(g, a, out=s), 1 - alpha, out=s)
            v = np.maximum(np.subtract(v, np.square(a, out=s), out=s), 0, out=s)
        b = np.divide(g, np.add(np.sqrt(v, out=s), eps, out=s), out=s)
        if momentum:
            b = state["momentum_buffer"]
            b *= momentum
            b += s
        w -= np.multiply(b, lr, out=s)


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011, JMLR 12).

    g ← ∇ + weight_decay·w;  v ← v + g², at first initial_accumulator_value;
    w ← w - lr/(1 + (t - 1)·lr_decay) · g / (√v + eps).
    """

    slots: ClassVar = {"sum": ""}

    def update(self, w: Any, g: Any, state: Options, s: Any, lr: float = 1e-2, lr_decay: float = 0,
               weight_decay: float = 0, initial_accumulator_value: float = 0, eps: float = 1e-10,
               *, maximize: bool = False) -> None:
        v = state["sum"]
        v += np.square(g, out=s)
        np.divide(g, np.add(np.sqrt(v, out=s), eps, out=s), out=s)
        w -= np.multiply(s, lr / (1 + (state["step"] - 1) * lr_decay), out=s)
# fmt: on


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    """Scale gradients by min(1, max_norm / (total + 1e-6)); returns `total`, their joint norm.

    In float64 (Pascanu et al. 2013, arXiv:1211.5063). Each `.grad` becomes a new Tensor.
    `error_if_nonfinite`: RuntimeError, and nothing changes, if the norm is infinite or NaN.
    """
    held = [(p, p.grad.data) for p in _tensors(parameters) if p.grad is not None]
    arrays = [g.astype(np.float64, copy=False).ravel() for _, g in held]
    norms: Any = [np.linalg.norm(g, float(norm_type)) for g in arrays]
    traced = norms and hasattr(norms[0], "traced")
    norms = np.stack(norms) if traced else norms
    total: Any = np.linalg.norm(norms, float(norm_type)) if held else 0.0
    if error_if_nonfinite and not np.isfinite(total):
        raise RuntimeError(f"the joint norm of the gradients is {total}")
    if not max_norm >= 0:
        raise ValueError(f"max_norm must not be negative, got {max_norm}")
    scale = np.minimum(1.0, max_norm / (total + 1e-6))
    for p, g in held:
        p.grad = constant(g * scale.astype(g.dtype))
    return total if traced else float(total)


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Limit gradients to between -clip_value and clip_value. Each `.grad` becomes a new Tensor."""
    if not clip_value >= 0:
        raise ValueError(f"clip_value must not be negative, got {clip_value}")
    for p in _tensors(parameters):
        if p.grad is not None:
            p.grad = constant(np.clip(p.grad.data, -clip_value, clip_value))
