"""Bodies of rounding toward zero, of quotients that are rounded, and of what they leave."""

from __future__ import annotations

from typing import Any


def trunc(xp: Any, y: Any, input: Any) -> None:
    (xp.trunc if y.dtype.kind == "f" else xp.positive)(input, out=y)


def frac(xp: Any, y: Any, input: Any) -> None:
    xp.trunc(input, out=y)
    xp.subtract(input, y, out=y)


def floor_divide(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.floor_divide(input, other, out=y)


def trunc_divide(xp: Any, y: Any, input: Any, other: Any) -> None:
    if y.dtype.kind == "f":
        xp.divide(input, other, out=y)
        xp.trunc(y, out=y)
        return
    xp.fmod(input, other, out=y)
    xp.subtract(input, y, out=y)
    xp.floor_divide(y, other, out=y)


def remainder(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.remainder(input, other, out=y)


def fmod(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.fmod(input, other, out=y)
