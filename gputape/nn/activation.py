"""Activations as modules: each calls the op of its name. As in torch.nn."""

from __future__ import annotations

from typing import Any

from ..dispatch import call
from .module import Module


class _Activation(Module):
    """Calls `op` with the options that were given to the constructor."""

    op = ""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def forward(self, input: Any) -> Any:
        return call(self.op, input, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v!r}" for k, v in self.options.items())


class ReLU(_Activation):
    """max(x, 0)."""

    op = "relu"

    def __init__(self) -> None:
        super().__init__()


class Tanh(_Activation):
    """tanh(x)."""

    op = "tanh"

    def __init__(self) -> None:
        super().__init__()


class Sigmoid(_Activation):
    """1/(1 + exp(-x))."""

    op = "sigmoid"

    def __init__(self) -> None:
        super().__init__()


class SiLU(_Activation):
    """x · sigmoid(x)."""

    op = "silu"

    def __init__(self) -> None:
        super().__init__()


class GELU(_Activation):
    """x · Φ(x), or its tanh approximation with `approximate="tanh"`."""

    op = "gelu"

    def __init__(self, approximate: str = "none") -> None:
        super().__init__(approximate=approximate)


class LeakyReLU(_Activation):
    """x where x > 0, else negative_slope · x."""

    op = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__(negative_slope=negative_slope)


class ELU(_Activation):
    """x where x > 0, else alpha · (exp(x) - 1)."""

    op = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha=alpha)


class Softplus(_Activation):
    """log(1 + exp(beta · x)) / beta; x itself where beta · x > threshold."""

    op = "softplus"

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(beta=beta, threshold=threshold)


class Softmax(_Activation):
    """exp(x) over its sum along `dim`."""

    op = "softmax"

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim=dim)


class LogSoftmax(_Activation):
    """The logarithm of the softmax along `dim`."""

    op = "log_softmax"

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim=dim)
