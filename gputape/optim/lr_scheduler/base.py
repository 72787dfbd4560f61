"""What all schedulers share: counting steps, setting the optimizer's rates, state."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import ArgumentError, CheckpointError, UnsupportedError
from ...variable import refuse_while_compiling
from ..optimizer import Optimizer, check_number


class LRScheduler:
    """Base of the schedulers. After n calls of `step` the learning rate of group k is `rate(base_lrs[k], n, k)`.

    A subclass gives `rate`, and sets what that reads before it calls this constructor. As the rate is a function of the
    number of steps, continuing from a saved state gives the same bits.

    If something else changes a rate between two steps (another scheduler, `opt.lr = …`), the ratio stays a factor of
    those that follow, as with PyTorch's recurrences; PyTorch's LambdaLR and CosineAnnealingWarmRestarts forget it. A
    rate that was 0 has no such factor.

    Args:
        optimizer: whose rates are set. Each group remembers as "initial_lr" what it had before its first scheduler.
        last_epoch: how many steps were taken before, less one. The default, -1, begins.

    Attributes:
        last_epoch: the number of steps.
        base_lrs: for each group, the rate that the schedule is applied to.

    Raises:
        ArgumentError: no optimizer, an option out of its range, or a `last_epoch` without "initial_lr" in the groups.
        CompileError: it is made while a compiled function is recorded.
    """

    _unsaved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self._refuse_recording()
        self._groups_of(optimizer)
        self.optimizer = optimizer
        begins = self._count("last_epoch", last_epoch, low=-1) == -1
        for group in optimizer.param_groups:
            if "initial_lr" not in group:
                if not begins:
                    raise ArgumentError(
                        f'{self._name}: last_epoch={last_epoch}, but a group has no "initial_lr". Load the optimizer '
                        "first, or leave last_epoch out and load the scheduler."
                    )
                group["initial_lr"] = group["lr"]
        self.base_lrs = self._last_lr = [group["initial_lr"] for group in optimizer.param_groups]
        self._go_to(last_epoch + 1, self._carried() if begins else self.base_lrs)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def rate(self, base_lr: float, epoch: float, group: int) -> float:
        """The learning rate of group number `group` after `epoch` steps, where the schedule starts from `base_lr`."""
        raise UnsupportedError(
            f"{self._name}: it has no rate(base_lr, epoch, group). Define that; it takes the place of get_lr()."
        )

    def step(self) -> None:
        """Set the rates of the next training step; to be called after the optimizer's `step`.

        Raises:
            CompileError: a compiled function is recorded, whose replay would not repeat this.
            ArgumentError: a rate is negative or not finite, or the optimizer has got another group.
        """
        self._advance(self.last_epoch + 1)

    def get_last_lr(self) -> list[float]:
        """The rates that were set last, one for each group."""
        return list(self._last_lr)

    # --- setting rates

    def _advance(self, epoch: float) -> None:
        self._check_moment()
        self._go_to(epoch, self._carried())

    def _check_moment(self) -> None:
        self._refuse_recording()
        if len(self.optimizer.param_groups) != len(self._last_lr):
            raise ArgumentError(
                f"{self._name}: the optimizer has {len(self.optimizer.param_groups)} groups, and had "
                f"{len(self._last_lr)} when the scheduler was made. Make it after add_param_group."
            )

    def _carried(self) -> list[float]:
        """The base rates, times what something else has multiplied the rates by since they were set here."""
        found = zip(self.base_lrs, self.optimizer.param_groups, self._last_lr, strict=True)
        return [base * (group["lr"] / last) if last and group["lr"] != last else base for base, group, last in found]

    def _go_to(self, epoch: float, bases: list[float]) -> None:
        rates = [self._number("the new rate", self._rate(base, epoch, k)) for k, base in enumerate(bases)]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.base_lrs, self._last_lr, self.last_epoch = bases, rates, math.floor(epoch)

    def _rate(self, base: float, epoch: float, group: int) -> float:
        try:
            return self.rate(base, epoch, group)
        except OverflowError:  # as of a power of a Python number
            return math.inf

    def _refuse_recording(self) -> None:
        refuse_while_compiling(
            f"{self._name}: the schedule moves on",
            "Call step() after the compiled function, which reads the new rate from its place.",
        )

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """Step count, rates and options as plain numbers, strings and lists; functions are not saved."""
        return copy.deepcopy({key: v for key, v in vars(self).items() if key not in self._unsaved})

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, options included. The optimizer's own state holds its rates; those that are
        still as this scheduler set them are restored, too.

        Raises:
            CheckpointError: it is the state of another kind of scheduler, or of one for other groups.
        """
        state = self._checked(state_dict)
        for group, last, saved in zip(self.optimizer.param_groups, self._last_lr, state["_last_lr"], strict=True):
            if group["lr"] == last:
                group["lr"] = saved
        self._restore(state)

    def _checked(self, state_dict: Any) -> dict[str, Any]:
        own = self.state_dict()
        if not isinstance(state_dict, Mapping) or set(state_dict) != set(own):
            found = sorted(state_dict) if isinstance(state_dict, Mapping) else type(state_dict).__name__
            raise CheckpointError(
                f"{self._name}: this is not its state: {found!s:.200}, not {sorted(own)}. Pass state_dict() of a "
                f"{self._name}."
            )
        lists = [key for key, v in own.items() if isinstance(v, list)]
        if wrong := [key for key in lists if not isinstance(state_dict[key], list)]:
            raise CheckpointError(f"{self._name}: {wrong} of the state must be lists. Pass state_dict().")
        if len(state_dict["_last_lr"]) != len(self._last_lr):
            raise CheckpointError(
                f"{self._name}: the state holds {len(state_dict['_last_lr'])} rates, the optimizer has "
                f"{len(self._last_lr)} groups. Build it over the groups that it was saved with."
            )
        return copy.deepcopy(dict(state_dict))

    def _restore(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    # --- checking options

    def _number(self, option: str, value: Any, low: float = 0.0) -> float:
        return check_number(self._name, option, value, low)

    def _positive(self, option: str, value: Any) -> float:
        if self._number(option, value) == 0:
            raise ArgumentError(f"{self._name}: {option}={value!r} is out of range. Use a number above 0.")
        return float(value)

    def _fraction(self, option: str, value: Any) -> float:
        if self._number(option, value) > 1:
            raise ArgumentError(f"{self._name}: {option}={value!r} is out of range. Use a number from 0 to 1.")
        return float(value)

    def _count(self, option: str, value: Any, low: int = 1) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ArgumentError(f"{self._name}: {option}={value!r:.60} must be an integer of at least {low}.")
        return value

    def _counts(self, option: str, values: Any, low: int = 1) -> list[int]:
        if not isinstance(values, Iterable):
            raise ArgumentError(f"{self._name}: {option}={values!r:.60} must be a list of integers.")
        return [self._count(f"{option}[{k}]", v, low) for k, v in enumerate(values)]

    def _choice(self, option: str, value: Any, *choices: str) -> str:
        if value not in choices:
            raise ArgumentError(f"{self._name}: {option}={value!r:.60} is unknown. Use one of {', '.join(choices)}.")
        return value

    def _groups_of(self, optimizer: Any) -> list[Any]:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"{self._name}: {optimizer!r:.60} is not an optimizer. Pass one of gputape.optim.")
        return optimizer.param_groups

    def _per_group(self, optimizer: Any, option: str, value: Any) -> list[Any]:
        """A value for each group: from a list of them, or one for all."""
        groups = self._groups_of(optimizer)
        if not isinstance(value, list | tuple):
            return [value] * len(groups)
        if len(value) != len(groups):
            raise ArgumentError(
                f"{self._name}: {option} holds {len(value)} values, the optimizer {len(groups)} groups. Pass one for "
                "each group, or one for all."
            )
        return list(value)

    def _numbers(self, optimizer: Any, option: str, value: Any) -> list[float]:
        return [self._number(option, v) for v in self._per_group(optimizer, option, value)]
