"""Schedules that multiply the initial rate by a factor."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...errors import ArgumentError
from ..optimizer import Optimizer
from .base import LRScheduler

Function = Callable[[int], float]


class _ByFunction(LRScheduler):
    """A schedule by the user's functions, one for all groups or one for each."""

    _unsaved: tuple[str, ...] = ("optimizer", "lr_lambdas")

    def __init__(self, optimizer: Optimizer, lr_lambda: Function | Sequence[Function], last_epoch: int = -1) -> None:
        self.lr_lambdas: list[Any] = self._per_group(optimizer, "lr_lambda", lr_lambda)
        for f in self.lr_lambdas:
            if not callable(f):
                raise ArgumentError(
                    f"{self._name}: lr_lambda={f!r:.60} is not a function. Pass a function of the step."
                )
        super().__init__(optimizer, last_epoch)


class LambdaLR(_ByFunction):
    """base_lr · lr_lambda(n), as torch.optim.lr_scheduler.LambdaLR. The function is not saved."""

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        return base_lr * self.lr_lambdas[group](epoch)


class MultiplicativeLR(_ByFunction):
    """base_lr · lr_lambda(1) · … · lr_lambda(n), as torch.optim.lr_scheduler.MultiplicativeLR.

    The function is not saved; after loading a state it is called for all steps up to there once more. In a
    `SequentialLR` the product begins at the initial rate; PyTorch's goes on from the rate of the schedule before.
    """

    _unsaved = ("optimizer", "lr_lambdas", "_products")

    def __init__(self, optimizer: Optimizer, lr_lambda: Function | Sequence[Function], last_epoch: int = -1) -> None:
        self._products: dict[int, tuple[int, float]] = {}  # group → (n, product of the first n factors)
        super().__init__(optimizer, lr_lambda, last_epoch)

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        done, product = self._products.get(group, (0, 1.0))
        if epoch < done:
            done, product = 0, 1.0
        for n in range(done + 1, int(epoch) + 1):
            product *= self.lr_lambdas[group](n)
        self._products[group] = int(epoch), product
        return base_lr * product


class StepLR(LRScheduler):
    """base_lr · gamma^⌊n / step_size⌋, as torch.optim.lr_scheduler.StepLR."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size = self._count("step_size", step_size)
        self.gamma = self._number("gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        return base_lr * self.gamma ** (epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """base_lr · gamma^k, where k milestones are at most n, as torch.optim.lr_scheduler.MultiStepLR."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = sorted(self._counts("milestones", milestones, low=0))
        self.gamma = self._number("gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        return base_lr * self.gamma ** bisect_right(self.milestones, epoch)


class ConstantLR(LRScheduler):
    """base_lr · factor for `total_iters` steps, then base_lr, as torch.optim.lr_scheduler.ConstantLR."""

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        self.factor = self._fraction("factor", factor)
        self.total_iters = self._count("total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        return base_lr * self.factor if epoch < self.total_iters else base_lr


class LinearLR(LRScheduler):
    """base_lr times a factor that goes linearly from `start_factor` to `end_factor` in `total_iters` steps and stays
    there, as torch.optim.lr_scheduler.LinearLR."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = self._positive("start_factor", self._fraction("start_factor", start_factor))
        self.end_factor = self._fraction("end_factor", end_factor)
        self.total_iters = self._count("total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        done = min(epoch, self.total_iters) / self.total_iters
        return base_lr * (self.start_factor + (self.end_factor - self.start_factor) * done)


class ExponentialLR(LRScheduler):
    """base_lr · gammaⁿ, as torch.optim.lr_scheduler.ExponentialLR."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = self._number("gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        return base_lr * self.gamma**epoch


class PolynomialLR(LRScheduler):
    """base_lr · (1 - min(n, total_iters) / total_iters)^power, as torch.optim.lr_scheduler.PolynomialLR."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters = self._count("total_iters", total_iters)
        self.power = self._number("power", power)
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        return base_lr * (1.0 - min(epoch, self.total_iters) / self.total_iters) ** self.power
