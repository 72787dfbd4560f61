"""Body of nan_to_num."""

from __future__ import annotations

from typing import Any

from ..backend import scratch
from .pointwise import _blocks, _masked


@scratch(lambda input, **attrs: [input, input.with_dtype("bool")] if input.is_float else [])
def nan_to_num(xp: Any, y: Any, input: Any, *, nan: float, posinf: float, neginf: float, scratch: Any = ()) -> None:
    if not scratch:
        xp.copyto(y, input)
        return
    info = xp.finfo(y.dtype)
    for y_, x, bounded, number in _blocks((y, input), tuple(scratch)):
        xp.clip(x, info.min, info.max, out=bounded)
        xp.equal(x, x, out=number)
        _masked(xp, y_, bounded, number)
        if nan != 0:
            xp.copyto(y_, nan, where=xp.logical_not(number, out=number))
        if posinf != info.max:
            xp.copyto(y_, posinf, where=xp.equal(x, xp.inf, out=number))
        if neginf != info.min:
            xp.copyto(y_, neginf, where=xp.equal(x, -xp.inf, out=number))
