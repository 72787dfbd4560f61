"""Body of nan_to_num."""

from __future__ import annotations

from typing import Any

from ..backend import scratch
from ..flat import as_one as _as_one
from .pointwise import _blocks, _masked


@scratch(lambda input, **attrs: [input, input.with_dtype("bool")] if input.is_float else [])
def nan_to_num(xp: Any, y: Any, input: Any, *, nan: float, posinf: float, neginf: float, scratch: Any = ()) -> None:
    if not scratch:
        xp.copyto(y, input)
        return
    for part in _blocks((y, input), tuple(scratch)):
        _finite(xp, *part, nan, posinf, neginf)


@_as_one
def _finite(xp: Any, y: Any, x: Any, bounded: Any, number: Any, nan: float, posinf: float, neginf: float) -> None:
    """Most often there is nothing to replace, and a copy will do."""
    if xp.isfinite(x, out=number).all():
        xp.copyto(y, x)
        return
    info = xp.finfo(y.dtype)
    xp.clip(x, info.min, info.max, out=bounded)
    xp.equal(x, x, out=number)
    _masked(xp, y, bounded, number)
    if nan != 0:
        xp.copyto(y, nan, where=xp.logical_not(number, out=number))
    if posinf != info.max:
        xp.copyto(y, posinf, where=xp.equal(x, xp.inf, out=number))
    if neginf != info.min:
        xp.copyto(y, neginf, where=xp.equal(x, -xp.inf, out=number))
