"""Stochastic gradient descent, as torch.optim.SGD."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..dispatch import updates
from ..errors import ArgumentError
from ..registry import get
from ..variable import Cell
from .optimizer import Optimizer, ParamGroup, check_number, write


class SGD(Optimizer):
    """param -= lr · d, with momentum, dampening, Nesterov's momentum and weight decay as in PyTorch. With maximize d is
    made of the negated gradient."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        for key in ("lr", "momentum", "weight_decay"):
            options[key] = check_number("SGD", key, options[key])
        options["dampening"] = check_number("SGD", "dampening", options["dampening"], low=-float("inf"))
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ArgumentError(
                f"SGD: nesterov needs momentum > 0 and dampening 0, got momentum={options['momentum']} and "
                f"dampening={options['dampening']}. Set them, or leave nesterov out."
            )
        return options

    def _state_keys(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if options["momentum"] else ()

    def _update(self, group: ParamGroup, clock: Cell, params: list[Cell], grads: Mapping[Any, Any], skip: Any) -> None:
        F, schedule = updates(), get("sgd_schedule")
        momentum, decay = group["momentum"], group["weight_decay"]
        scalars: dict[str, Any] = {}
        for p, grad, state in self._units(group, params, grads):
            dtype = p.aval.dtype
            if dtype not in scalars:
                scalars[dtype] = F.run(schedule, (clock, group.rate, skip), (group["dampening"], dtype))
            _, rate, fresh = scalars[dtype]
            buffer = state.get("momentum_buffer")
            if buffer is None:
                write("sgd_update", (p,), (p, grad, rate, skip), (decay,))
            else:
                values = (momentum, decay, group["nesterov"])
                write("sgd_momentum_update", (p, buffer), (p, grad, buffer, rate, fresh, skip), values)
        clock.assign(next(iter(scalars.values()))[0])
