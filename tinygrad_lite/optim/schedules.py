"""Learning rate schedules: PyTorch's names, defaults and values.

The one trick: a schedule is a function of the step, not of the last rate, so it can be read off,
resumed anywhere, and does not add up rounding.
"""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any, ClassVar

from ..mode import refuse_recording
from .optimizers import Optimizer, Options


def _each(optimizer: Optimizer, value: Any) -> list[Any]:
    """One value for each parameter group."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"expected an Optimizer, got {type(optimizer)}")
    n = len(optimizer.param_groups)
    values = list(value) if isinstance(value, (list, tuple)) else [value] * n
    if len(values) != n:
        raise ValueError(f"expected one value for each of the {n} groups, got {value}")
    return values


class Scheduler:
    """Sets options of an optimiser's groups, when made and at each `step()`: one per optimiser.

    `rule(t, i, lr)` gives those of group i at step t, from its first rate lr: a closed form where
    PyTorch has a recursion, equal up to rounding, which does not add up here. The state is the step
    and the rates: a resumed run passes the other arguments again.
    """

    fixed: ClassVar[tuple[str, ...]] = ("optimizer", "rule")  # no part of the state

    def __init__(self, optimizer: Optimizer, rule: Any, last_epoch: int = -1, **above_0: Any):
        if not all(value > 0 for value in above_0.values()):
            raise ValueError(f"expected positive numbers, got {above_0}")
        groups = _each(optimizer, None) and optimizer.param_groups
        if last_epoch >= 0 and not all("initial_lr" in group for group in groups):
            raise ValueError("last_epoch resumes a schedule, but a group has no 'initial_lr'")
        self.optimizer, self.rule = optimizer, rule
        self.base_lrs = [group.get("initial_lr", group["lr"]) for group in groups]
        self._write(last_epoch + 1)

    def _groups(self) -> list[Options]:
        groups, n = self.optimizer.param_groups, len(self.base_lrs)
        if len(groups) != n:
            raise ValueError(
                f"this schedule is of {n} groups, but the optimiser has {len(groups)} by now: make "
                "the schedule after add_param_group"
            )
        return groups

    def _write(self, t: int) -> None:
        groups = self._groups()
        new = [self.rule(t, i, lr) | {"initial_lr": lr} for i, lr in enumerate(self.base_lrs)]
        for group, options in zip(groups, new, strict=True):
            group.update(options)
        self.last_epoch, self._last_lr = t, [group["lr"] for group in groups]

    def step(self) -> None:
        """Go on to the next step; call it after the optimiser's."""
        refuse_recording("a scheduler's step")
        self._write(self.last_epoch + 1)

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group."""
        return list(self._last_lr)

    def state_dict(self) -> Options:
        """What a resumed run needs, for `tg.save`."""
        return {k: deepcopy(v) for k, v in vars(self).items() if k not in self.fixed}

    def load_state_dict(self, state_dict: Options) -> None:
        """Continue where `state_dict()` was taken; sets the optimiser's options too."""
        own, groups = self.state_dict(), self._groups()
        if own.keys() != state_dict.keys() or len(own["base_lrs"]) != len(state_dict["base_lrs"]):
            raise ValueError(f"expected a state like {own}, got {state_dict}")
        vars(self).update(deepcopy(state_dict))
        for group, lr in zip(groups, self._last_lr, strict=True):
            group["lr"] = lr
        self._write(self.last_epoch)


# fmt: off
def LambdaLR(optimizer: Optimizer, lr_lambda: Any, last_epoch: int = -1) -> Scheduler:
    """lr · lr_lambda(t): one function, or a list of one per group."""
    factors = _each(optimizer, lr_lambda)
    return Scheduler(optimizer, lambda t, i, lr: {"lr": float(lr * factors[i](t))}, last_epoch)


def StepLR(optimizer: Optimizer, step_size: int, gamma: float = 0.1,
           last_epoch: int = -1) -> Scheduler:
    """lr · gamma^⌊t / step_size⌋."""
    return Scheduler(optimizer, lambda t, i, lr: {"lr": lr * gamma ** (t // step_size)},
                     last_epoch, step_size=step_size)


def CosineAnnealingLR(optimizer: Optimizer, T_max: int, eta_min: float = 0.0,
                      last_epoch: int = -1) -> Scheduler:
    """eta_min + (lr - eta_min)·(1 + cos(π·t/T_max))/2 (Loshchilov & Hutter, arXiv:1608.03983)."""
    return Scheduler(optimizer, lambda t, i, lr: {
        "lr": eta_min + (lr - eta_min) * (1 + math.cos(math.pi * t / T_max)) / 2
    }, last_epoch, T_max=T_max)


def OneCycleLR(optimizer: Optimizer, max_lr: Any, total_steps: int | None = None,
               epochs: int | None = None, steps_per_epoch: int | None = None,
               pct_start: float = 0.3, anneal_strategy: str = "cos", cycle_momentum: bool = True,
               base_momentum: Any = 0.85, max_momentum: Any = 0.95, div_factor: float = 25.0,
               final_div_factor: float = 1e4, three_phase: bool = False,
               last_epoch: int = -1) -> Scheduler:
    """Smith & Topin 2018, arXiv:1708.07120: rates rise from max_lr/div_factor to max_lr within the
    first pct_start of the steps, then fall to max_lr/div_factor/final_div_factor (three_phase: fall
    as they rose, then on to that); momentum, or betas[0], goes the other way.
    """
    tops, lows, highs = (_each(optimizer, v) for v in (max_lr, base_momentum, max_momentum))
    total = (epochs or 0) * (steps_per_epoch or 0) if total_steps is None else total_steps
    key = next((name for name in ("betas", "momentum") if name in optimizer.defaults), "")
    if anneal_strategy not in ("cos", "linear") or not 0 <= pct_start <= 1:
        raise ValueError(f"pct_start={pct_start} not in [0, 1], or {anneal_strategy!r} unknown")
    if cycle_momentum and not key:
        raise ValueError("this optimiser has no momentum: pass cycle_momentum=False")
    ends = [0, pct_start * total - 1, *([2 * pct_start * total - 2] * three_phase), total - 1]

    def anneal(t: int, *points: float) -> float:
        k = next((k for k in range(1, len(ends) - 1) if t <= ends[k]), len(ends) - 1)
        part = min((t - ends[k - 1]) / ((ends[k] - ends[k - 1]) or 1), 1.0)
        left = (1 + math.cos(math.pi * part)) / 2 if anneal_strategy == "cos" else 1 - part
        return points[k] + (points[k - 1] - points[k]) * left

    def rule(t: int, i: int, lr: float) -> Options:
        if t > total:
            raise ValueError(f"step {t} of a schedule of {total} steps")
        first, momentum = tops[i] / div_factor, anneal(t, highs[i], lows[i], highs[i], highs[i])
        rate = anneal(t, first, tops[i], *([first] * three_phase), first / final_div_factor)
        pair = (momentum, *optimizer.param_groups[i].get("betas", ())[1:])
        cycled = {key: momentum if key == "momentum" else pair} if cycle_momentum else {}
        return {"lr": rate, **cycled}

    return Scheduler(optimizer, rule, last_epoch, total_steps=total)


class ReduceLROnPlateau(Scheduler):
    """lr ← max(factor·lr, min_lr) when more than `patience` steps in a row brought nothing better.

    Better is (mode "min") a metric below best·(1 - threshold), or best - threshold if
    threshold_mode is "abs". `cooldown` steps after a cut do not count; one of at most eps is none.
    """

    fixed = (*Scheduler.fixed, "given")

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1,
                 patience: int = 10, threshold: float = 1e-4, threshold_mode: str = "rel",
                 cooldown: int = 0, min_lr: Any = 0, eps: float = 1e-8) -> None:
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs") or not factor < 1:
            raise ValueError(f"{mode=}, {threshold_mode=} unknown, or {factor=} not below 1")
        sign, share = 1 if mode == "min" else -1, threshold_mode == "rel"
        least = _each(optimizer, min_lr)
        self.given = sign, factor, patience, threshold, share, cooldown, least, eps
        self.best, self.num_bad_epochs, self.cooldown_counter = sign * math.inf, 0, 0
        super().__init__(optimizer, lambda t, i, lr: {})

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """Take note of a metric, and cut the rates if it has been no better for too long."""
        refuse_recording("a scheduler's step")
        sign, factor, patience, threshold, share, cooldown, least, eps = self.given
        groups = self._groups()
        limit = self.best * (1 - sign * threshold) if share else self.best - sign * threshold
        better = sign * (value := float(metrics)) < sign * limit
        self.best = value if better else self.best
        self.num_bad_epochs = 0 if better or self.cooldown_counter else self.num_bad_epochs + 1
        self.cooldown_counter = max(self.cooldown_counter - 1, 0)
        if self.num_bad_epochs > patience:
            self.cooldown_counter, self.num_bad_epochs = cooldown, 0
            for group, low in zip(groups, least, strict=True):
                lr = max(group["lr"] * factor, low)
                group["lr"] = lr if group["lr"] - lr > eps else group["lr"]
        super().step()
