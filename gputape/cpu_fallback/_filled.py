"""Vectors of one number: sums by BLAS are products with ones, and some loops of NumPy are slow with a plain number."""

from __future__ import annotations

from typing import Any

from ..flat import constant

_held: dict[Any, Any] = {}  # (number, dtype) → the longest vector asked for


@constant
def filled(xp: Any, number: float, n: int, dtype: Any) -> Any:
    """`n` times that number, read-only: the front of a vector that all calls share."""
    found = _held.get((number, dtype))
    if found is None or len(found) < n:
        found = xp.full(n, number, dtype)
        found.flags.writeable = False
        _held[number, dtype] = found
    return found[:n]


def ones(xp: Any, n: int, dtype: Any) -> Any:
    return filled(xp, 1.0, n, dtype)
