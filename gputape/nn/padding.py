"""Padding at the ends of the last axes. As in torch.nn."""

from __future__ import annotations

from typing import Any

from ..dispatch import call
from ..errors import ArgumentError
from .module import Module


class _Pad(Module):
    """`padding`: an integer for all sides, or (left, right) of the last axis, then of the one before it, …"""

    ndim = 0
    mode = ""

    def __init__(self, padding: Any) -> None:
        sides = 2 * self.ndim
        listed = tuple(padding) if isinstance(padding, tuple | list) else (padding,) * sides
        if len(listed) != sides or any(isinstance(p, bool) or not isinstance(p, int) for p in listed):
            raise ArgumentError(
                f"{type(self).__name__}: padding={padding!r:.60} must be an integer or {sides} of them, "
                "(left, right) of the last axis first."
            )
        self.padding = listed

    def forward(self, input: Any) -> Any:
        return call("pad", input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Any) -> Any:
        return call("pad", input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    ndim = 1


class ConstantPad2d(_ConstantPad):
    ndim = 2


class ConstantPad3d(_ConstantPad):
    ndim = 3


class ZeroPad1d(_Pad):
    ndim, mode = 1, "constant"


class ZeroPad2d(_Pad):
    ndim, mode = 2, "constant"


class ZeroPad3d(_Pad):
    ndim, mode = 3, "constant"


class ReflectionPad1d(_Pad):
    ndim, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    ndim, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    ndim, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    ndim, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    ndim, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    ndim, mode = 3, "replicate"


class CircularPad1d(_Pad):
    ndim, mode = 1, "circular"


class CircularPad2d(_Pad):
    ndim, mode = 2, "circular"


class CircularPad3d(_Pad):
    ndim, mode = 3, "circular"
