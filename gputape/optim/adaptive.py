"""Optimizers that scale each element of the gradient by its history: RMSprop, Adagrad, Adadelta, Adamax."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .composed import Change, Composed, State, blend
from .optimizer import ParamGroup, check_number


class RMSprop(Composed):
    """The gradient over the root of its mean square (Hinton, lecture 6e, 2012). As torch.optim.RMSprop.

    square_avg' = alpha · square_avg + (1 - alpha) · grad²; param' = param - lr · grad / (√square_avg' + eps). centered:
    the square of the mean gradient is subtracted from the mean square (Graves, 2013). momentum: a sum of the steps.

    Raises:
        ArgumentError: a number that is negative or not finite.
    """

    numbers = ("lr", "alpha", "eps", "weight_decay", "momentum")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {**options, "centered": centered, "maximize": maximize})

    def _state_keys(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        momentum, mean = options["momentum"] > 0, options["centered"]
        return ("square_avg", *(("momentum_buffer",) if momentum else ()), *(("grad_avg",) if mean else ()))

    def _change(self, F: Any, group: ParamGroup, grad: Any, state: State, *scalars: Any) -> Change:
        fresh = {"square_avg": blend(F, state["square_avg"], F.square(grad), group["alpha"])}
        spread = fresh["square_avg"]
        if group["centered"]:
            fresh["grad_avg"] = blend(F, state["grad_avg"], grad, group["alpha"])
            spread = F.sub(spread, F.square(fresh["grad_avg"]))
        step = F.div(grad, F.add(F.sqrt(spread), group["eps"]))
        if group["momentum"]:
            step = fresh["momentum_buffer"] = F.add(F.scale(state["momentum_buffer"], group["momentum"]), step)
        return F.mul(step, *scalars), fresh


class Adagrad(Composed):
    """The gradient over the root of the sum of its squares (Duchi et al., 2011). As torch.optim.Adagrad.

    sum' = sum + grad²; param' = param - lr / (1 + (n - 1) · lr_decay) · grad / (√sum' + eps) at step n.

    Raises:
        ArgumentError: a number that is negative or not finite.
    """

    numbers = ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, {**options, "initial_accumulator_value": initial_accumulator_value})

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        super().add_param_group(group)
        made = self.param_groups[-1]
        for p in made["params"]:
            self.state[p]["sum"].assign(np.full(p.shape, made["initial_accumulator_value"], p.dtype))

    def _state_keys(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("sum",)

    def _scalars(self, F: Any, group: ParamGroup, lr: Any, n: Any) -> tuple[Any, ...]:
        return (F.div(lr, F.add(F.scale(F.sub(n, 1.0), group["lr_decay"]), 1.0)),)

    def _change(self, F: Any, group: ParamGroup, grad: Any, state: State, *scalars: Any) -> Change:
        total = F.add(state["sum"], F.square(grad))
        return F.mul(F.div(grad, F.add(F.sqrt(total), group["eps"])), *scalars), {"sum": total}


class Adadelta(Composed):
    """Steps in the unit of the parameter, without a learning rate to choose (Zeiler, 2012). As torch.optim.Adadelta.

    square_avg' = rho · square_avg + (1 - rho) · grad²; delta = grad · √(acc_delta + eps) / √(square_avg' + eps);
    acc_delta' = rho · acc_delta + (1 - rho) · delta²; param' = param - lr · delta.

    Raises:
        ArgumentError: a number that is negative or not finite, or rho above 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize})

    def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        options["rho"] = check_number(self._name, "rho", options["rho"], below=np.nextafter(1.0, 2.0))
        return super()._checked(options)

    def _state_keys(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("square_avg", "acc_delta")

    def _change(self, F: Any, group: ParamGroup, grad: Any, state: State, *scalars: Any) -> Change:
        square = blend(F, state["square_avg"], F.square(grad), group["rho"])
        past = F.sqrt(F.add(state["acc_delta"], group["eps"]))
        delta = F.mul(grad, F.div(past, F.sqrt(F.add(square, group["eps"]))))
        moved = blend(F, state["acc_delta"], F.square(delta), group["rho"])
        return F.mul(delta, *scalars), {"square_avg": square, "acc_delta": moved}


class Adamax(Composed):
    """Adam with the largest gradient so far in place of the mean square (Kingma & Ba, 2015). As torch.optim.Adamax.

    exp_inf' = max(beta2 · exp_inf, |grad| + eps); param' = param - lr / (1 - beta1ⁿ) · exp_avg' / exp_inf' at step n.

    Raises:
        ArgumentError: a number that is negative or not finite, or betas outside [0, 1).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        )

    def _state_keys(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_inf")

    def _scalars(self, F: Any, group: ParamGroup, lr: Any, n: Any) -> tuple[Any, ...]:
        log = math.log(group["betas"][0]) if group["betas"][0] else -math.inf
        return (F.div(lr, F.neg(F.expm1(F.scale(n, log)))),)  # 1 - beta1ⁿ loses no digits this way

    def _change(self, F: Any, group: ParamGroup, grad: Any, state: State, *scalars: Any) -> Change:
        beta1, beta2 = group["betas"]
        mean = blend(F, state["exp_avg"], grad, beta1)
        largest = F.maximum(F.scale(state["exp_inf"], beta2), F.add(F.abs(grad), group["eps"]))
        return F.mul(F.div(mean, largest), *scalars), {"exp_avg": mean, "exp_inf": largest}
