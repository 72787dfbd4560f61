"""Body of lerp."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, broadcast_shapes
from ..backend import scratch
from .pointwise import _bits, _select, _spread


def _lerp_buffers(input: Aval, end: Aval, weight: Aval) -> list[Aval]:
    if weight.size == 1:
        return []
    y = input.with_shape(broadcast_shapes("lerp", input.shape, end.shape, weight.shape))
    mask = y.with_dtype("bool")
    return [y, y, mask, _bits(mask, y)]


@scratch(_lerp_buffers)
def lerp(xp: Any, y: Any, input: Any, end: Any, weight: Any, *, scratch: Any = ()) -> None:
    """From the nearer end, so that weight 1 gives `end` itself."""
    xp.subtract(end, input, out=y)
    if not scratch:
        near = abs(weight.reshape(-1)[0]) < 0.5
        xp.multiply(y, weight if near else 1 - weight, out=y)
        (xp.add if near else xp.subtract)(input if near else end, y, out=y)
        return
    low, high, mask, bits = scratch
    xp.multiply(y, weight, out=low)
    xp.add(low, input, out=low)
    xp.subtract(1, weight, out=high)
    xp.multiply(y, high, out=high)
    xp.subtract(end, high, out=high)
    xp.abs(xp.broadcast_to(weight, y.shape), out=y)
    xp.less(y, 0.5, out=mask)
    _select(xp, y, _spread(xp, bits, mask), low, high)
