"""Bodies of the bitwise ops."""

from __future__ import annotations

from typing import Any


def bitwise_and(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.bitwise_and(input, other, out=y)


def bitwise_or(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.bitwise_or(input, other, out=y)


def bitwise_xor(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.bitwise_xor(input, other, out=y)


def bitwise_not(xp: Any, y: Any, input: Any) -> None:
    xp.invert(input, out=y)
