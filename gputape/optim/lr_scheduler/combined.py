"""Schedules made of schedules."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ...errors import ArgumentError, CheckpointError
from ..optimizer import Optimizer
from .base import LRScheduler
from .plateau import ReduceLROnPlateau


class _Combined(LRScheduler):
    """Schedulers of one optimizer, of which only `rate` is called from now on."""

    _unsaved = ("optimizer", "_schedulers")

    def __init__(self, optimizer: Optimizer, last_epoch: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]  # undoes the first steps of the schedulers
        super().__init__(optimizer, last_epoch)

    def _take(self, schedulers: Any, optimizer: Optimizer | None) -> None:
        if not isinstance(schedulers, list | tuple) or not schedulers:
            raise ArgumentError(
                f"{self._name}: schedulers={schedulers!r:.60} must be a list of at least one scheduler."
            )
        for k, s in enumerate(schedulers):
            if not isinstance(s, LRScheduler) or isinstance(s, ReduceLROnPlateau):
                raise ArgumentError(
                    f"{self._name}: element {k} is a {type(s).__name__}. Pass schedulers that need nothing but the "
                    "number of steps; ReduceLROnPlateau can be stepped beside this one."
                )
            if s.optimizer is not (optimizer or schedulers[0].optimizer):
                raise ArgumentError(
                    f"{self._name}: element {k}, a {s._name}, belongs to another optimizer. Build all over one."
                )
            s._check_moment()
        self._schedulers = list(schedulers)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def _checked(self, state_dict: Any) -> dict[str, Any]:
        state = super()._checked(state_dict)
        if len(state["_schedulers"]) != len(self._schedulers):
            raise CheckpointError(
                f"{self._name}: the state is of {len(state['_schedulers'])} schedulers, not {len(self._schedulers)}. "
                "Build it with those that it was saved with."
            )
        state["_schedulers"] = [
            s._checked(part) for s, part in zip(self._schedulers, state["_schedulers"], strict=True)
        ]
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        for s, part in zip(self._schedulers, state.pop("_schedulers"), strict=True):
            s._restore(part)
        super()._restore(state)


class SequentialLR(_Combined):
    """One schedule after the other, as torch.optim.lr_scheduler.SequentialLR: from each milestone on the next, which
    counts its steps from there and starts from the initial rate.

    Args:
        schedulers: at least one; they are not stepped any more.
        milestones: increasing step counts, one less than there are schedulers.
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        self._take(schedulers, optimizer)
        self._milestones = self._counts("milestones", milestones)
        if len(self._milestones) != len(schedulers) - 1:
            raise ArgumentError(
                f"SequentialLR: {len(schedulers)} schedulers and {len(self._milestones)} milestones. Pass a milestone "
                "for each change to the next."
            )
        if self._milestones != sorted(set(self._milestones)):
            raise ArgumentError(f"SequentialLR: milestones={self._milestones} must increase. Sort them.")
        super().__init__(optimizer, last_epoch)

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        k = bisect_right(self._milestones, epoch)
        start = self._milestones[k - 1] if k else 0
        return self._schedulers[k].rate(base_lr, epoch - start, group)


class ChainedScheduler(_Combined):
    """Several schedules at once, as torch.optim.lr_scheduler.ChainedScheduler: each starts from the rate that the one
    before it gives for the same step.

    For schedules that multiply the rate by a factor this is the product, as in PyTorch. Its recurrences differ from it
    where an `eta_min` is not 0, and for LambdaLR and CosineAnnealingWarmRestarts, which there drop what came before.

    Args:
        schedulers: at least one, all after the same number of steps; they are not stepped any more.
        optimizer: theirs, if it is to be checked.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._take(schedulers, optimizer)
        steps = [s.last_epoch for s in self._schedulers]
        if len(set(steps)) > 1:
            raise ArgumentError(f"ChainedScheduler: its schedulers have taken {steps} steps. Build them together.")
        super().__init__(self._schedulers[0].optimizer, steps[0] - 1)

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        for s in self._schedulers:
            base_lr = s.rate(base_lr, epoch, group)
        return base_lr
