"""Bodies of powers, of an array and of a plain number."""

from __future__ import annotations

from typing import Any


def pow_(xp: Any, y: Any, input: Any, exponent: Any) -> None:
    if y.dtype.kind == "f":
        xp.power(input, exponent, out=y)
        return
    xp.power(input, xp.maximum(exponent, 0), out=y)  # NumPy refuses negative powers of integers
    if y.dtype.kind == "i":
        negative = exponent < 0
        unit = xp.abs(input) == 1  # y = ±1 there: the power |exponent| has the same sign
        odd = xp.where(exponent % 2 == 1, input, 1)
        y[...] = xp.where(negative, xp.where(unit, odd, 0), y)


def pow_scalar(xp: Any, y: Any, input: Any, *, exponent: int | float) -> None:
    if exponent == 0:
        xp.copyto(y, 1)
    elif exponent == 1:
        xp.copyto(y, input)
    elif exponent in (2, 3, 4) and input.dtype.kind != "b":
        xp.multiply(input, input, out=y, dtype=y.dtype)
        if exponent != 2:
            xp.multiply(y, input if exponent == 3 else y, out=y, dtype=y.dtype)
    elif y.dtype.kind != "f" or input.dtype.kind != "f":
        xp.power(input, xp.asarray(exponent).astype(y.dtype), out=y, dtype=y.dtype)
    elif abs(exponent) == 0.5:
        xp.sqrt(input, out=y)
        if exponent < 0:
            xp.divide(1, y, out=y)
    elif exponent in (-1, -2):
        xp.divide(1, input, out=y)
        if exponent == -2:
            xp.multiply(y, y, out=y)
    elif exponent == int(exponent) if abs(exponent) < 2**31 else False:
        # the vector loop of power is for positive bases: negative ones take 50 times as long
        xp.abs(input, out=y)
        xp.power(y, exponent, out=y)
        if exponent % 2:
            xp.copysign(y, input, out=y)
    else:
        xp.power(input, exponent, out=y)
