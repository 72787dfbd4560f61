"""Bodies of rounding toward zero, of quotients that are rounded, and of what they leave."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, broadcast_shapes
from ..backend import scratch as _scratch
from ..errors import DivisionError
from ..flat import as_one as _as_one
from .pointwise import _blocks


def trunc(xp: Any, y: Any, input: Any) -> None:
    (xp.trunc if y.dtype.kind == "f" else xp.positive)(input, out=y)


def frac(xp: Any, y: Any, input: Any) -> None:
    xp.trunc(input, out=y)
    xp.subtract(input, y, out=y)


def _check_divisor(xp: Any, op: str, y: Any, other: Any) -> None:
    """Raise `DivisionError` where integers are divided by 0."""
    if y.dtype.kind in "iu" and y.size:
        _check_nonzero(xp, op, other)


@_as_one
def _check_nonzero(xp: Any, op: str, other: Any) -> None:
    if not other.all():
        raise DivisionError(f"{op}: integers are divided by 0. Replace the zeros of other, or cast to a float dtype.")


def trunc_divide(xp: Any, y: Any, input: Any, other: Any) -> None:
    if y.dtype.kind == "f":
        xp.divide(input, other, out=y)
        xp.trunc(y, out=y)
        return
    _check_divisor(xp, "div", y, other)
    xp.fmod(input, other, out=y)
    xp.subtract(input, y, out=y)
    xp.floor_divide(y, other, out=y)


# --- in float32 by way of float64 -------------------------------------------------------------------------------------
# In NumPy these are calls of the C library, one per element. Of two float32 numbers float64 holds the quotient well
# enough to round it (below 2**28 it is further from an integer than its rounding error, or equal to it), the product of
# that integer with the divisor exactly, and so what is left. Elements with larger quotients, infinite divisors or NaN
# are left to the C library.

_WHOLE = 2.0**28
_SHORT = 2.0**21  # up to here the rounding steps of NumPy's floor_divide in float32 lead to the integer itself


def _in_float64(count: int) -> Any:
    def avals(input: Aval, other: Aval) -> list[Aval]:
        if not input.is_float or input.dtype == "float64":
            return []
        return [Aval(broadcast_shapes("remainder", input.shape, other.shape), "float64")] * count

    return _scratch(avals)


@_in_float64(2)
def floor_divide(xp: Any, y: Any, input: Any, other: Any, *, scratch: Any = ()) -> None:
    _check_divisor(xp, "floor_divide", y, other)
    if not scratch:
        xp.floor_divide(input, other, out=y)
        return
    for y_, a, b, q, d in _blocks((y, input, other), tuple(scratch)):
        xp.copyto(q, a)
        xp.copyto(d, b)
        xp.divide(q, d, out=q)
        xp.floor(q, out=q)
        xp.copyto(y_, q, casting="same_kind")
        _mend(xp, xp.floor_divide, _SHORT, y_, a, b, q, d)


@_in_float64(3)
def remainder(xp: Any, y: Any, input: Any, other: Any, *, scratch: Any = ()) -> None:
    _check_divisor(xp, "remainder", y, other)
    if not scratch:
        xp.remainder(input, other, out=y)
        return
    for y_, a, b, *work in _blocks((y, input, other), tuple(scratch)):
        _left(xp, xp.floor, y_, a, b, *work)
        xp.copysign(y_, b, out=y_)
        _mend(xp, xp.remainder, _WHOLE, y_, a, b, *work[:2])


@_in_float64(3)
def fmod(xp: Any, y: Any, input: Any, other: Any, *, scratch: Any = ()) -> None:
    _check_divisor(xp, "fmod", y, other)
    if not scratch:
        xp.fmod(input, other, out=y)
        return
    for y_, a, b, *work in _blocks((y, input, other), tuple(scratch)):
        _left(xp, xp.trunc, y_, a, b, *work)
        xp.copysign(y_, a, out=y_)
        _mend(xp, xp.fmod, _WHOLE, y_, a, b, *work[:2])


def _left(xp: Any, rounded: Any, y: Any, a: Any, b: Any, q: Any, left: Any, d: Any) -> None:
    """a less the rounded quotient times b: in float64 in `left`, with the quotient in `q`, and in y."""
    xp.copyto(left, a)
    xp.copyto(d, b)
    xp.divide(left, d, out=q)
    rounded(q, out=q)
    xp.multiply(q, d, out=d)
    xp.subtract(left, d, out=left)
    xp.copyto(y, left, casting="same_kind")


@_as_one
def _mend(xp: Any, function: Any, limit: float, y: Any, a: Any, b: Any, q: Any, left: Any) -> None:
    """Where the quotient is not below the limit, or `left` is infinite or NaN, y by the C library. Sums of squares tell
    whether there is anything to mend."""
    flat = q.reshape(-1), left.reshape(-1)
    if xp.vecdot(flat[0], flat[0]) < limit * limit and xp.vecdot(flat[1], flat[1]) < xp.inf:
        return
    wrong = ~((abs(q) < limit) & xp.isfinite(left))
    a, b = xp.broadcast_to(a, y.shape), xp.broadcast_to(b, y.shape)
    y[wrong] = function(a[wrong], b[wrong])
