"""Lion: steps of one size, by sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .composed import Change, Composed, State, blend
from .optimizer import ParamGroup


class Lion(Composed):
    """The sign of a mean of the gradients (Chen et al., "Symbolic discovery of optimization algorithms", 2023), with
    half the state of Adam. Use a learning rate of a tenth of Adam's, and ten times its weight decay.

    param' = param · (1 - lr · weight_decay) - lr · sign(beta1 · exp_avg + (1 - beta1) · grad);
    exp_avg' = beta2 · exp_avg + (1 - beta2) · grad.

    Raises:
        ArgumentError: a number that is negative or not finite, or betas outside [0, 1).
    """

    numbers = ("lr", "weight_decay")
    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize})

    def _state_keys(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("exp_avg",)

    def _change(self, F: Any, group: ParamGroup, grad: Any, state: State, *scalars: Any) -> Change:
        beta1, beta2 = group["betas"]
        step = F.sign(blend(F, state["exp_avg"], grad, beta1))
        return F.mul(step, *scalars), {"exp_avg": blend(F, state["exp_avg"], grad, beta2)}
