"""Bodies of clamp between numbers."""

from __future__ import annotations

from math import inf
from typing import Any

from ..backend import scratch
from .pointwise import _masked


def clamp(xp: Any, y: Any, input: Any, *, min: int | float | None, max: int | float | None) -> None:
    if y.dtype.kind == "f":
        low, high = -inf if min is None else min, inf if max is None else max
        if input.dtype != y.dtype:
            xp.copyto(y, input)
            input = y
    else:
        info = xp.iinfo(y.dtype)
        low = info.min if min is None else sorted((info.min, min, info.max))[1]
        high = info.max if max is None else sorted((info.min, max, info.max))[1]
    xp.clip(input, low, high, out=y)  # both bounds, as that takes the vector loop


@scratch(lambda dy, input, **attrs: [input.with_dtype("bool")] * 2)
def clamp_bwd(
    xp: Any, dx: Any, dy: Any, input: Any, *, min: float | None, max: float | None, scratch: list[Any]
) -> None:
    inside, below = scratch
    xp.greater_equal(input, -inf if min is None else min, out=inside)
    xp.less_equal(input, inf if max is None else max, out=below)
    xp.logical_and(inside, below, out=inside)
    _masked(xp, dx, dy, inside)
