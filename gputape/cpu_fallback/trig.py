"""Bodies of the circular and hyperbolic functions, their inverses, and the angle and length of a vector."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, broadcast_shapes
from ..backend import scratch
from ..flat import as_one as _as_one
from .pointwise import _blocks


def _real(function: str) -> Any:
    def body(xp: Any, y: Any, *inputs: Any) -> None:
        getattr(xp, function)(*inputs, out=y, dtype=y.dtype)

    return body


tan, asin, acos, atan = map(_real, ("tan", "arcsin", "arccos", "arctan"))
sinh, cosh, asinh, acosh, atanh = map(_real, ("sinh", "cosh", "arcsinh", "arccosh", "arctanh"))
atan2 = _real("arctan2")


def _hypot_buffers(input: Aval, other: Aval) -> list[Aval]:
    if not input.is_float or input.dtype == "float64":
        return []
    return [Aval(broadcast_shapes("hypot", input.shape, other.shape), "float64")] * 2


@scratch(_hypot_buffers)
def hypot(xp: Any, y: Any, input: Any, other: Any, *, scratch: Any = ()) -> None:
    """Of float32 numbers in float64, where their squares neither overflow nor vanish; NumPy's own is a call of the C
    library for each element."""
    if not scratch:
        xp.hypot(input, other, out=y, dtype=y.dtype)
        return
    for y_, a, b, total, square in _blocks((y, input, other), tuple(scratch)):
        xp.copyto(total, a)
        xp.copyto(square, b)
        xp.multiply(total, total, out=total)
        xp.multiply(square, square, out=square)
        xp.add(total, square, out=total)
        xp.sqrt(total, out=total)
        xp.copyto(y_, total, casting="same_kind")
        _infinite(xp, y_, a, b, total)


@_as_one
def _infinite(xp: Any, y: Any, a: Any, b: Any, length: Any) -> None:
    """An infinity beside NaN is infinitely long. A sum of squares tells whether there is one."""
    flat = length.reshape(-1)
    if xp.vecdot(flat, flat) < xp.inf:
        return
    wrong = xp.isnan(length)
    a, b = xp.broadcast_to(a, y.shape), xp.broadcast_to(b, y.shape)
    y[wrong] = xp.hypot(a[wrong], b[wrong])
