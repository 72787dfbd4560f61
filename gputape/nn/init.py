"""Initialisations, drawn from the generator that `gt.manual_seed` seeds. As torch.nn.init: each writes its argument and
returns it. They are drawn on the host, so that a seed gives the same weights on every device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..random import generator
from .module import Parameter


def _assign(param: Any, values: Any) -> Any:
    param.assign(np.broadcast_to(values, param.shape))
    return param


def uniform_(param: Any, a: float = 0.0, b: float = 1.0) -> Any:
    """Uniform in [a, b)."""
    return _assign(param, a + (b - a) * generator().uniform(param.shape, param.aval.dtype))


def normal_(param: Any, mean: float = 0.0, std: float = 1.0) -> Any:
    """Normal."""
    return _assign(param, mean + std * generator().normal(param.shape, param.aval.dtype))


def constant_(param: Any, val: float) -> Any:
    """Every element `val`."""
    return _assign(param, val)


def zeros_(param: Any) -> Any:
    """Every element 0."""
    return constant_(param, 0.0)


def ones_(param: Any) -> Any:
    """Every element 1."""
    return constant_(param, 1.0)


def fans(param: Any) -> tuple[int, int]:
    """(fan_in, fan_out): second and first axis times the rest, as PyTorch counts them.

    Raises:
        ShapeError: fewer than two axes.
    """
    if param.ndim < 2:
        raise ShapeError(
            f"init: fan in and fan out need at least 2 axes, got shape {param.shape}. Use uniform_ instead."
        )
    rest = math.prod(param.shape[2:])
    return param.shape[1] * rest, param.shape[0] * rest


GAINS = {
    "linear": 1.0,
    **{f"conv{kind}{n}d": 1.0 for kind in ("", "_transpose") for n in (1, 2, 3)},
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The recommended gain for a nonlinearity; `param` is the slope of leaky_relu (default 0.01)."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in GAINS:
        known = ", ".join([*GAINS, "leaky_relu"])
        raise ArgumentError(f"init: no gain is known for {nonlinearity!r}. Use one of {known}.")
    return GAINS[nonlinearity]


def _fan(param: Any, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"init: mode={mode!r}. Use 'fan_in' or 'fan_out'.")
    return max(fans(param)[mode == "fan_out"], 1)


def kaiming_uniform_(param: Any, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Any:
    """Uniform within ± gain · √(3 / fan)."""
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / _fan(param, mode))
    return uniform_(param, -bound, bound)


def kaiming_normal_(param: Any, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Any:
    """Normal with standard deviation gain / √fan."""
    return normal_(param, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(param, mode)))


def xavier_uniform_(param: Any, gain: float = 1.0) -> Any:
    """Uniform within ± gain · √(6 / (fan_in + fan_out))."""
    bound = gain * math.sqrt(6.0 / max(sum(fans(param)), 1))
    return uniform_(param, -bound, bound)


def xavier_normal_(param: Any, gain: float = 1.0) -> Any:
    """Normal with standard deviation gain · √(2 / (fan_in + fan_out))."""
    return normal_(param, 0.0, gain * math.sqrt(2.0 / max(sum(fans(param)), 1)))


def linear_default_(weight: Parameter, bias: Parameter | None) -> None:
    """PyTorch's default of Linear and the convolutions: both uniform within ± 1 / √fan_in (for the weight that is
    kaiming_uniform_ with a = √5)."""
    kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1.0 / math.sqrt(max(fans(weight)[0], 1))
        uniform_(bias, -bound, bound)
