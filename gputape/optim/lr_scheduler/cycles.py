"""Schedules of cosines and cycles."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from ...errors import ArgumentError, UnsupportedError
from ..optimizer import Optimizer
from .base import LRScheduler


def _cosine(start: float, end: float, done: float) -> float:
    """From `start` to `end` by half a cosine, of which the fraction `done` is over."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base_lr - eta_min) · (1 + cos(π · n / T_max)) / 2 (Loshchilov & Hutter, SGDR, 2017), as
    torch.optim.lr_scheduler.CosineAnnealingLR. After `T_max` steps the rate rises again."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = self._count("T_max", T_max)
        self.eta_min = self._number("eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        return _cosine(base_lr, self.eta_min, epoch / self.T_max)


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine from base_lr to `eta_min` in `T_0` steps, then again and again, each `T_mult` times as long as the
    one before (Loshchilov & Hutter, SGDR, 2017), as torch.optim.lr_scheduler.CosineAnnealingWarmRestarts."""

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_0, self.T_mult = self._count("T_0", T_0), self._count("T_mult", T_mult)
        self.eta_min = self._number("eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def step(self, epoch: float | None = None) -> None:
        """As of any scheduler; or go to `epoch`, which may lie between two steps (`epoch + i / len(loader)`).

        A `step()` after that goes to the next whole number; PyTorch's adds 1.
        """
        self._advance(self.last_epoch + 1 if epoch is None else self._number("epoch", epoch))

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        length = self.T_0
        if self.T_mult == 1:
            epoch %= length
        while epoch >= length:
            epoch, length = epoch - length, length * self.T_mult
        return _cosine(base_lr, self.eta_min, epoch / length)


def _refuse_momentum(name: str, cycle_momentum: Any, *momentums: Any) -> None:
    if cycle_momentum or any(m is not None for m in momentums):
        raise UnsupportedError(
            f"{name}: the momentum cannot be cycled: a compiled step is recorded with it, so every value would record "
            "another program. Leave cycle_momentum, base_momentum and max_momentum out; only the rate is cycled then."
        )


class CyclicLR(LRScheduler):
    """From `base_lr` up to `max_lr` in `step_size_up` steps and back in `step_size_down`, again and again (Smith,
    Cyclical Learning Rates, 2017), as torch.optim.lr_scheduler.CyclicLR with cycle_momentum=False.

    The rate is base_lr + (max_lr - base_lr) · height · scale, where height goes from 0 to 1 and back. The rates are
    those given here, whatever the optimizer had.

    Args:
        base_lr, max_lr: a number, or one for each group.
        step_size_down: None: as `step_size_up`.
        mode: scale is 1 ("triangular"), 0.5 to the number of the cycle, from 0 ("triangular2"), or gamma to the number
            of the step ("exp_range").
        scale_fn: scale, as a function of the number of the cycle, from 1, or of the step. It is not saved.
        scale_mode: what `scale_fn` is a function of: "cycle" or "iterations".

    Raises:
        UnsupportedError: the momentum is to be cycled, too. PyTorch does so unless it is told not to.
    """

    _unsaved = ("optimizer", "scale_fn")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = False,
        base_momentum: None = None,
        max_momentum: None = None,
        last_epoch: int = -1,
    ) -> None:
        _refuse_momentum(self._name, cycle_momentum, base_momentum, max_momentum)
        self.min_lrs = self._numbers(optimizer, "base_lr", base_lr)
        self.max_lrs = self._numbers(optimizer, "max_lr", max_lr)
        self.step_size_up = self._count("step_size_up", step_size_up)
        self.step_size_down = self._count("step_size_down", step_size_up if step_size_down is None else step_size_down)
        self.mode = self._choice("mode", mode, "triangular", "triangular2", "exp_range")
        self.gamma = self._number("gamma", gamma)
        self.scale_fn = scale_fn
        self.scale_mode = self._choice("scale_mode", scale_mode, "cycle", "iterations")
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        cycle, at = divmod(epoch, self.step_size_up + self.step_size_down)
        up = at / self.step_size_up
        height = up if up <= 1 else 1 - (at - self.step_size_up) / self.step_size_down
        low = self.min_lrs[group]
        return low + (self.max_lrs[group] - low) * height * self._scale(cycle, epoch)

    def _scale(self, cycle: float, epoch: float) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(cycle + 1 if self.scale_mode == "cycle" else epoch)
        if self.mode == "triangular2":
            return 0.5**cycle
        return self.gamma**epoch if self.mode == "exp_range" else 1.0


class OneCycleLR(LRScheduler):
    """From max_lr / div_factor up to `max_lr`, then down to max_lr / (div_factor · final_div_factor) (Smith & Topin,
    Super-Convergence, 2018), as torch.optim.lr_scheduler.OneCycleLR with cycle_momentum=False.

    The peak is at step pct_start · total_steps - 1, the end at step total_steps - 1. The rates are those given here,
    whatever the optimizer had.

    Args:
        max_lr: a number, or one for each group.
        total_steps: or give `epochs` and `steps_per_epoch`, whose product it is.
        anneal_strategy: "cos" or "linear".
        three_phase: go down to the first rate as fast as up, and only then to the last.

    Raises:
        ArgumentError: by `step`, too, after more than `total_steps` calls.
        UnsupportedError: the momentum is to be cycled, too. PyTorch does so unless it is told not to.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = False,
        base_momentum: None = None,
        max_momentum: None = None,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        _refuse_momentum(self._name, cycle_momentum, base_momentum, max_momentum)
        if total_steps is None and (epochs is None or steps_per_epoch is None):
            raise ArgumentError("OneCycleLR: the length is missing. Pass total_steps, or epochs and steps_per_epoch.")
        if total_steps is None:
            total_steps = self._count("epochs", epochs) * self._count("steps_per_epoch", steps_per_epoch)
        self.max_lrs = self._numbers(optimizer, "max_lr", max_lr)
        self.total_steps = self._count("total_steps", total_steps)
        self.pct_start = self._fraction("pct_start", pct_start)
        self.anneal_strategy = self._choice("anneal_strategy", anneal_strategy, "cos", "linear")
        self.div_factor = self._positive("div_factor", div_factor)
        self.final_div_factor = self._positive("final_div_factor", final_div_factor)
        self.three_phase = bool(three_phase)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        if epoch > self.total_steps:
            raise ArgumentError(
                f"OneCycleLR: step {epoch} is beyond the total of {self.total_steps}. Build it with more total_steps."
            )
        top, last = self.max_lrs[group], self.total_steps - 1
        low = top / self.div_factor
        peak = self.pct_start * self.total_steps - 1
        points = [(0.0, low), (peak, top), (last, low / self.final_div_factor)]
        if self.three_phase:
            points.insert(2, (2 * peak, low))
        (start, first), (end, second) = next((p for p in pairwise(points) if epoch <= p[1][0]), points[-2:])
        done = min(1.0, (epoch - start) / (end - start)) if start != end else 1.0
        return _cosine(first, second, done) if self.anneal_strategy == "cos" else first + (second - first) * done
