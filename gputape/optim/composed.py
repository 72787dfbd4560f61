"""What optimizers share whose updates are written with ops, which `gt.compile` puts into few passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dispatch import updates
from ..variable import Cell
from .optimizer import Optimizer, ParamGroup, check_betas, check_number

State = Mapping[str, Cell]
Change = tuple[Any, dict[str, Any]]


class Composed(Optimizer):
    """Base of optimizers that say what one step subtracts from a parameter; the counting, weight decay, skipping and
    writing are here.

    Attributes:
        numbers: the options that must be finite and at least 0.
        decoupled: whether weight decay shrinks the parameter itself, instead of being added to the gradient.
    """

    numbers: tuple[str, ...] = ("lr", "eps", "weight_decay")
    decoupled = False

    def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        for key in self.numbers:
            options[key] = check_number(self._name, key, options[key])
        if "betas" in options:
            options["betas"] = check_betas(self._name, options["betas"])
        return options

    def _scalars(self, F: Any, group: ParamGroup, lr: Any, n: Any) -> tuple[Any, ...]:
        """What step `n` needs of it and the learning rate. They and the result are float32, or float64 for parameters
        in that."""
        return (lr,)

    def _change(self, F: Any, group: ParamGroup, grad: Any, state: State, *scalars: Any) -> Change:
        """What to subtract from a parameter, and its new state; `scalars` have the parameter's dtype."""
        raise NotImplementedError

    def _update(self, group: ParamGroup, clock: Cell, params: list[Cell], grads: Mapping[Any, Any], skip: Any) -> None:
        F, decay, known = updates(), group["weight_decay"], {}
        count = F.add(clock, 1)
        written: list[tuple[Cell, Any]] = [(clock, count)]
        for p, grad, state in self._units(group, params, grads):
            if (dtype := p.aval.dtype) not in known:
                wide = "float64" if dtype == "float64" else "float32"
                lr = F.cast(group.rate, wide)
                scalars = F.scale(lr, decay), *self._scalars(F, group, lr, F.cast(count, wide))
                known[dtype] = scalars if dtype == wide else [F.cast(x, dtype) for x in scalars]
            shrink, *own = known[dtype]
            if decay and not self.decoupled:
                grad = F.add(grad, F.scale(p, decay))
            change, fresh = self._change(F, group, grad, state, *own)
            if decay and self.decoupled:
                change = F.add(change, F.mul(p, shrink))
            written += [(p, F.sub(p, change)), *((state[key], value) for key, value in fresh.items())]
        for cell, value in written:
            cell.assign(value if skip is None else F.where(skip, cell, value))


def blend(F: Any, old: Any, new: Any, share: float) -> Any:
    """share · old + (1 - share) · new."""
    return F.add(F.scale(old, share), F.scale(new, 1 - share))
