"""The schedule that looks at a metric."""

from __future__ import annotations

import math
from typing import Any

from ...errors import ArgumentError
from ..optimizer import Optimizer
from .base import LRScheduler


class ReduceLROnPlateau(LRScheduler):
    """Multiply the rates by `factor` once the metric has not improved for more than `patience` steps, as
    torch.optim.lr_scheduler.ReduceLROnPlateau.

    Args:
        mode: "min" or "max": whether the metric is to fall or to rise.
        threshold: an improvement is more than that: of the best so far times it ("rel"), or itself ("abs").
        cooldown: steps after a reduction that are not counted.
        min_lr: a number, or one for each group, below which no rate goes.
        eps: a rate that would change by no more stays.

    Attributes:
        best: the best metric so far.
        num_bad_epochs: steps without an improvement.

    Raises:
        ArgumentError: no optimizer, or an option out of its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self.min_lrs = self._numbers(optimizer, "min_lr", min_lr)
        self.optimizer = optimizer
        self.mode = self._choice("mode", mode, "min", "max")
        self.factor = self._fraction("factor", factor)
        if self.factor == 1:
            raise ArgumentError("ReduceLROnPlateau: factor=1 would reduce nothing. Use less than 1.")
        self.patience = self._count("patience", patience, low=0)
        self.threshold = self._number("threshold", threshold)
        self.threshold_mode = self._choice("threshold_mode", threshold_mode, "rel", "abs")
        self.cooldown = self._count("cooldown", cooldown, low=0)
        self.eps = self._number("eps", eps)
        self.best = math.inf if mode == "min" else -math.inf
        self.last_epoch = self.cooldown_counter = self.num_bad_epochs = 0
        self._last_lr = [group["lr"] for group in optimizer.param_groups]

    @property
    def in_cooldown(self) -> bool:
        return self.cooldown_counter > 0

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """Take note of the metric of another epoch (a number, or an array of one element, which waits for the device),
        and reduce the rates if it is time. NaN is no improvement.

        Raises:
            ArgumentError: the metric is not a number, or the optimizer has got another group.
            CompileError: a compiled function is recorded.
        """
        self._check_moment()
        try:
            metric = float(metrics)
        except (TypeError, ValueError) as e:
            raise ArgumentError(
                f"{self._name}: metrics={metrics!r:.60} is not a number. Pass a loss, or another number to watch."
            ) from e
        self.last_epoch += 1
        if self._improves(metric):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _improves(self, metric: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        margin = sign * self.threshold
        bound = self.best * (1 + margin) if self.threshold_mode == "rel" else self.best + margin
        return sign * metric > sign * bound

    def _reduce(self) -> None:
        for group, low in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            reduced = max(group["lr"] * self.factor, low)
            if group["lr"] - reduced > self.eps:
                group["lr"] = reduced
