"""Losses as modules. As in torch.nn."""

from __future__ import annotations

from typing import Any

from ..dispatch import call
from .module import Buffer, Module


class _Loss(Module):
    op = ""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        return call(self.op, input, target, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """Mean (or sum) of squared differences."""

    op = "mse_loss"


class L1Loss(_Loss):
    """Mean (or sum) of absolute differences."""

    op = "l1_loss"


class CrossEntropyLoss(_Loss):
    """Cross entropy of logits (N, C, …) against class indices or probabilities.

    Args:
        weight: one factor per class, shape (C,).
        ignore_index: targets of this value count for nothing.
        label_smoothing: in [0, 1]: how much of each target is spread evenly over the classes.
    """

    op = "cross_entropy"

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self.weight = None if weight is None else Buffer(weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        return call(
            self.op,
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
