"""Host side of the convolution with an activation: the convolution's kernel, its end generated."""

from __future__ import annotations

from typing import Any

from . import _products, _windows
from .conv import _convolve
from .launch import Variant, covering, need_kernel
from .linear_act import _ending, _ending_of, _takes


def conv_act(
    rt: Any,
    y: Any,
    saved: Any,
    input: Any,
    weight: Any,
    bias: Any,
    *,
    activation: str,
    options: Any,
    keep: bool,
    **window: Any,
) -> None:
    need_kernel("conv_act", y)
    ending, numbers = _ending_of("conv_act", activation, options, False, keep)
    _convolve(rt, "conv_act", y, input, weight, bias, ending, numbers, saved, **window)


conv_act.takes = _takes  # type: ignore[attr-defined]


def _variants() -> list[Variant]:
    """The commonest endings, at the tiles of few and of many outputs; others are compiled when they are met."""
    endings = [_ending("relu", "", False), _ending("gelu", ".none", False)]
    found = []
    for dtype, kind in _products.KINDS:
        for ending in endings:
            for outs, channels in ((16, 16), (128, 32)):
                tile = _windows.conv_tile(outs, channels, kind, ending.saved is not None)
                found.append(Variant(_windows.kernel(*tile, kind, ending), _windows.types(dtype)))
            if kind != "tf32":
                found.append(Variant(_windows.depthwise(ending), _windows.types(dtype)))
    return found


VARIANTS = covering(_variants())
