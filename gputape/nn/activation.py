"""Activations as modules: each calls the op of its name. As in torch.nn."""

from __future__ import annotations

from typing import Any

from ..dispatch import call
from ..errors import ShapeError
from . import init as initial
from .module import Module, Parameter, not_in_place, whole, zeros


class _Activation(Module):
    """Calls `op` with the options that were given to the constructor."""

    op = ""

    def __init__(self, inplace: bool = False, **options: Any) -> None:
        not_in_place(self, inplace)
        self.options = options

    def forward(self, input: Any) -> Any:
        return call(self.op, input, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v!r}" for k, v in self.options.items())


class ReLU(_Activation):
    """max(x, 0)."""

    op = "relu"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


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

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class GELU(_Activation):
    """x · Φ(x), or its tanh approximation with `approximate="tanh"`."""

    op = "gelu"

    def __init__(self, approximate: str = "none") -> None:
        super().__init__(approximate=approximate)


class LeakyReLU(_Activation):
    """x where x > 0, else negative_slope · x."""

    op = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(negative_slope=negative_slope, inplace=inplace)


class ELU(_Activation):
    """x where x > 0, else alpha · (exp(x) - 1)."""

    op = "elu"

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha, inplace=inplace)


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


class Softmax2d(Module):
    """The softmax over the channels of (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Any) -> Any:
        if len(input.shape) not in (3, 4):
            raise ShapeError(f"Softmax2d: the input has shape {input.shape}. Give it (N, C, H, W) or (C, H, W).")
        return call("softmax", input, -3)


class LogSoftmax(_Activation):
    """The logarithm of the softmax along `dim`."""

    op = "log_softmax"

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim=dim)


# --- without options --------------------------------------------------------------------------------------------------


class ReLU6(_Activation):
    """x brought between 0 and 6."""

    op = "relu6"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class SELU(_Activation):
    """1.0507 · ELU with alpha 1.6733."""

    op = "selu"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class Mish(_Activation):
    """x · tanh(softplus(x))."""

    op = "mish"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class Hardsigmoid(_Activation):
    """x/6 + ½ brought between 0 and 1."""

    op = "hardsigmoid"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class Hardswish(_Activation):
    """x · hardsigmoid(x)."""

    op = "hardswish"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(inplace=inplace)


class LogSigmoid(_Activation):
    """log(sigmoid(x))."""

    op = "logsigmoid"

    def __init__(self) -> None:
        super().__init__()


class Softsign(_Activation):
    """x / (1 + |x|)."""

    op = "softsign"

    def __init__(self) -> None:
        super().__init__()


class Tanhshrink(_Activation):
    """x - tanh(x)."""

    op = "tanhshrink"

    def __init__(self) -> None:
        super().__init__()


# --- with options -----------------------------------------------------------------------------------------------------


class Hardtanh(_Activation):
    """x brought between min_val and max_val."""

    op = "hardtanh"

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(min_val=min_val, max_val=max_val, inplace=inplace)


class CELU(_Activation):
    """x where x > 0, else alpha · (exp(x/alpha) - 1)."""

    op = "celu"

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha, inplace=inplace)


class Hardshrink(_Activation):
    """0 where |x| ≤ lambd, else x."""

    op = "hardshrink"

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)


class Softshrink(_Activation):
    """x brought nearer to 0 by lambd, and 0 where |x| ≤ lambd."""

    op = "softshrink"

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)


class Threshold(_Activation):
    """value where x ≤ threshold, else x."""

    op = "threshold"

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(threshold=threshold, value=value, inplace=inplace)


class RReLU(_Activation):
    """x where x ≥ 0, else x times a slope: in training a random one of [lower, upper] for each, else the middle."""

    op = "rrelu"

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        super().__init__(lower=lower, upper=upper, inplace=inplace)

    def forward(self, input: Any) -> Any:
        return call("rrelu", input, training=self.training, **self.options)


class GLU(_Activation):
    """The first half of x along `dim`, times the sigmoid of the second."""

    op = "glu"

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim=dim)


class Softmin(_Activation):
    """softmax(-x) along `dim`."""

    op = "softmin"

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim=dim)


class PReLU(Module):
    """x where x > 0, else weight · x, with a learned weight for all, or for each of num_parameters channels."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        self.num_parameters = whole("PReLU", "num_parameters", num_parameters, 1)
        self.init = init
        self.weight = Parameter(zeros(num_parameters))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set all weights to `init`."""
        initial.constant_(self.weight, self.init)

    def forward(self, input: Any) -> Any:
        return call("prelu", input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
