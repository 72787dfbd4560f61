"""Adam and AdamW, as torch.optim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..dispatch import updates
from ..registry import get
from ..variable import Cell
from .optimizer import Optimizer, ParamGroup, check_betas, check_number, write


class Adam(Optimizer):
    """Adam (Kingma & Ba, 2015). Its weight decay is added to the gradient. With amsgrad it divides by the largest mean
    square so far (Reddi et al., 2018). With maximize it climbs instead, by the negated gradient."""

    decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, {**options, "maximize": maximize})

    def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        for key in ("lr", "eps", "weight_decay"):
            options[key] = check_number(self._name, key, options[key])
        options["betas"] = check_betas(self._name, options["betas"])
        return options

    def _state_keys(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if options["amsgrad"] else ()))

    def _update(self, group: ParamGroup, clock: Cell, params: list[Cell], grads: Mapping[Any, Any], skip: Any) -> None:
        F, schedule = updates(), get("adam_schedule")
        decay, decoupled = group["weight_decay"], self.decoupled and group["weight_decay"] != 0
        coefficients = (*group["betas"], group["eps"], decay if decoupled else 0.0)
        values = (*group["betas"], 0.0 if self.decoupled else decay, decoupled)
        scalars: dict[str, Any] = {}
        for p, grad, state in self._units(group, params, grads):
            dtype = p.aval.dtype
            if dtype not in scalars:
                scalars[dtype] = F.run(schedule, (clock, group.rate, skip), (*coefficients, dtype))
            _, step_size, small, keep = scalars[dtype]
            moments = [state[key] for key in self._state_keys(group)]
            inputs = (p, grad, *moments, step_size, small, keep, skip)
            write("amsgrad_update" if group["amsgrad"] else "adam_update", (p, *moments), inputs, values)
        clock.assign(next(iter(scalars.values()))[0])


class AdamW(Adam):
    """Adam with weight decay that is applied to the parameter itself (Loshchilov & Hutter, 2019)."""

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
