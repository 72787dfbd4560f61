"""Body of the convolution with an activation."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..backend import scratch as _scratch
from ..ops.conv import conv_rule as _conv_rule
from ..ops.linear_act import saved_of as _saved_of
from . import conv as _conv
from .linear_act import _activated, _aval, _ending_buffers

_ENDING = ("activation", "options", "keep")
_rule = _conv_rule("conv_act")


def _apart(attrs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes of the activation, and those of the convolution."""
    return {k: attrs[k] for k in _ENDING}, {k: v for k, v in attrs.items() if k not in _ENDING}


def _buffers(input: Aval, weight: Aval, bias: Aval | None, **attrs: Any) -> list[Aval]:
    """Those of the activation, then those of the convolution."""
    ending, window = _apart(attrs)
    z = _rule(input, weight, bias, **window)
    return [*_ending_buffers(z, **ending), *_conv._conv_scratch(input, weight, bias, **window)]


@_scratch(_buffers)
def conv_act(
    xp: Any, y: Any, saved: Any, input: Any, weight: Any, bias: Any, *, scratch: Any = (), **attrs: Any
) -> None:
    ending, window = _apart(attrs)
    own = len(_ending_buffers(_aval(y), **ending))
    affine = lambda z: _conv.conv_nd(xp, z, input, weight, bias, scratch=scratch[own:], **window)  # noqa: E731
    _activated(xp, affine, y, saved, scratch[:own], **ending)


def _takes(activation: str, options: dict[str, Any]) -> bool:
    """Whether the rewrites of compiled programs gain by it: other activations do not work in place, nor is their slope
    a by-product."""
    return activation == "gelu" or _saved_of(activation) == "y"


conv_act.takes = _takes  # type: ignore[attr-defined]
