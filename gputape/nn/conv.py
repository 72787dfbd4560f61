"""Convolutions and transposed convolutions over one, two or three spatial axes. As in torch.nn."""

from __future__ import annotations

from typing import Any

from ..aval import per_axis
from ..dispatch import call
from ..errors import ArgumentError
from ..ops._window import pairs
from . import init
from .module import Module, Parameter, whole, zeros

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def _check_channels(kind: str, in_channels: int, out_channels: int, groups: int) -> None:
    for name, n in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
        whole(kind, name, n, 1)
    for name, n in (("in_channels", in_channels), ("out_channels", out_channels)):
        if n % groups:
            raise ArgumentError(f"{kind}: {name}={n} is not divisible by groups={groups}. Choose a divisor.")


class _ConvBase(Module):
    """What both directions share: options, weight, bias, PyTorch's initialisation."""

    ndim = 0
    op = ""
    weight: Parameter
    bias: Parameter | None

    def _set(self, weight_shape: tuple[int, ...], out_channels: int, bias: bool) -> None:
        self.weight = Parameter(zeros(*weight_shape))
        self.bias = Parameter(zeros(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and bias anew from the generator."""
        init.linear_default_(self.weight, self.bias)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        spatial = (1,) * self.ndim
        if self.padding != (0,) * self.ndim:
            text += f", padding={self.padding!r}"
        if self.dilation != spatial:
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text + ("" if self.bias is not None else ", bias=False")

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Any
    dilation: tuple[int, ...]
    groups: int


class _Conv(_ConvBase):
    """Cross-correlation of (N, in_channels, *spatial) with weights (out_channels, in_channels/groups, *kernel_size)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        kind, n = type(self).__name__, self.ndim
        _check_channels(kind, in_channels, out_channels, groups)
        if padding_mode not in PADDING_MODES:
            raise ArgumentError(
                f"{kind}: padding_mode={padding_mode!r} is unknown. Use one of {', '.join(PADDING_MODES)}."
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = per_axis(kind, "kernel_size", kernel_size, n, 1)
        self.stride = per_axis(kind, "stride", stride, n, 1)
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ArgumentError(f"{kind}: padding={padding!r} is not known. Use 'same', 'valid' or integers.")
        self.padding = padding if isinstance(padding, str) else per_axis(kind, "padding", padding, n, 0)
        self.dilation = per_axis(kind, "dilation", dilation, n, 1)
        if self.padding == "same" and max(self.stride) > 1:
            raise ArgumentError(f"{kind}: padding='same' with stride {self.stride} has no defined size. Use stride 1.")
        self.padding_mode = padding_mode
        self._set((out_channels, in_channels // groups, *self.kernel_size), out_channels, bias)

    def forward(self, input: Any) -> Any:
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = call("pad", input, self._sides(), self.padding_mode), 0
        return call(self.op, input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _sides(self) -> tuple[int, ...]:
        """The padding as `pad` takes it: (left, right) of the last axis, then of the one before it, …"""
        found = pairs(type(self).__name__, self.padding, self.kernel_size, self.stride, self.dilation)
        return tuple(n for pair in reversed(found) for n in pair)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.padding_mode == "zeros" else f", padding_mode={self.padding_mode}")


class Conv1d(_Conv):
    ndim, op = 1, "conv1d"


class Conv2d(_Conv):
    ndim, op = 2, "conv2d"


class Conv3d(_Conv):
    ndim, op = 3, "conv3d"


class _ConvTranspose(_ConvBase):
    """The gradient of a convolution as a layer; weights (in_channels, out_channels/groups, *kernel_size)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
    ) -> None:
        kind, n = type(self).__name__, self.ndim
        _check_channels(kind, in_channels, out_channels, groups)
        if padding_mode != "zeros":
            raise ArgumentError(f"{kind}: padding_mode={padding_mode!r} is not possible. Use 'zeros'.")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = per_axis(kind, "kernel_size", kernel_size, n, 1)
        self.stride = per_axis(kind, "stride", stride, n, 1)
        self.padding = per_axis(kind, "padding", padding, n, 0)
        self.output_padding = per_axis(kind, "output_padding", output_padding, n, 0)
        self.dilation = per_axis(kind, "dilation", dilation, n, 1)
        self._set((in_channels, out_channels // groups, *self.kernel_size), out_channels, bias)

    def forward(self, input: Any) -> Any:
        options = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return call(self.op, input, self.weight, self.bias, *options)


class ConvTranspose1d(_ConvTranspose):
    ndim, op = 1, "conv_transpose1d"


class ConvTranspose2d(_ConvTranspose):
    ndim, op = 2, "conv_transpose2d"


class ConvTranspose3d(_ConvTranspose):
    ndim, op = 3, "conv_transpose3d"
