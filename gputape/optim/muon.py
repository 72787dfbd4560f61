"""Muon: momentum made orthogonal, for the matrices of hidden layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import ArgumentError
from ..variable import Cell
from .composed import Change, Composed, State, blend
from .optimizer import ParamGroup, check_number

# How far a step reaches, by the shape of the matrix.
REACH = {
    "original": lambda rows, cols: math.sqrt(max(1, rows / cols)),
    "match_rms_adamw": lambda rows, cols: 0.2 * math.sqrt(max(rows, cols)),
}


class Muon(Composed):
    """Steps whose singular values are all about 1 (Jordan et al., 2024). As torch.optim.Muon.

    It is meant for the weight matrices of hidden layers; embeddings, the last layer, norms and biases go to another
    optimizer, whose `step` takes the same gradients.

    buffer' = momentum · buffer + (1 - momentum) · grad; with nesterov it is blended with the gradient once more. The
    step is that matrix over its Frobenius norm (at least eps), after `ns_steps` of
    X' = a·X + b·(X·Xᵀ)·X + c·(X·Xᵀ)²·X with (a, b, c) = `ns_coefficients` (Newton and Schulz). It is subtracted
    times lr · √max(1, rows/cols), or, with adjust_lr_fn="match_rms_adamw", lr · 0.2 · √max(rows, cols), so that rates
    of AdamW fit. Weight decay shrinks the parameter itself. The products have the parameter's dtype (PyTorch's are
    bfloat16).

    Raises:
        ArgumentError: a parameter that is no matrix, or an option out of its range.
    """

    numbers = ("lr", "weight_decay", "eps")
    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        options = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov}
        more = {"ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn}
        super().__init__(params, options | more)

    def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        options = super()._checked(options)
        options["momentum"] = check_number("Muon", "momentum", options["momentum"], below=1.0)
        given, steps = options["ns_coefficients"], options["ns_steps"]
        if not isinstance(given, tuple | list) or len(given) != 3:
            raise ArgumentError(f"Muon: ns_coefficients={given!r:.60} must be three numbers, as the default is.")
        options["ns_coefficients"] = tuple(check_number("Muon", "ns_coefficients", c, low=-math.inf) for c in given)
        if isinstance(steps, bool) or not isinstance(steps, int) or not 0 <= steps < 100:
            raise ArgumentError(f"Muon: ns_steps={steps!r:.60} must be an integer from 0 to 99. 5 is usual.")
        if options["adjust_lr_fn"] not in (None, *REACH):
            raise ArgumentError(f"Muon: adjust_lr_fn={options['adjust_lr_fn']!r:.60} is none of {', '.join(REACH)}.")
        for p in options["params"]:
            if len(p.shape) != 2:
                raise ArgumentError(
                    f"Muon: {p.name or 'a parameter'} has shape {p.shape}, but only matrices are orthogonal. Give it "
                    "to another optimizer, such as AdamW."
                )
        return options

    def _state_keys(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",)

    def _units(
        self, group: ParamGroup, params: list[Cell], grads: Mapping[Any, Any]
    ) -> Iterator[tuple[Cell, Any, dict[str, Cell]]]:
        """Matrix by matrix: a step of one depends on the whole of it."""
        return ((p, grads[p], self.state[p]) for p in params)

    def _change(self, F: Any, group: ParamGroup, grad: Any, state: State, *scalars: Any) -> Change:
        buffer = blend(F, state["momentum_buffer"], grad, group["momentum"])
        x = blend(F, buffer, grad, group["momentum"]) if group["nesterov"] else buffer
        rows, cols = grad.shape
        step = self._orthogonal(F, group, F.transpose(x, 0, 1) if rows > cols else x)
        reach = REACH[group["adjust_lr_fn"] or "original"](rows, cols)
        step = F.mul(F.transpose(step, 0, 1) if rows > cols else step, F.scale(*scalars, reach))
        return step, {"momentum_buffer": buffer}

    def _orthogonal(self, F: Any, group: ParamGroup, x: Any) -> Any:
        """About U·Vᵀ of x = U·S·Vᵀ, which has no more rows than columns."""
        a, b, c = group["ns_coefficients"]
        x = F.div(x, F.clamp(F.norm(x), group["eps"]))
        for _ in range(group["ns_steps"]):
            gram = F.matmul(x, F.transpose(x, 0, 1))
            x = F.add(F.scale(x, a), F.matmul(F.add(F.scale(gram, b), F.scale(F.matmul(gram, gram), c)), x))
        return x
