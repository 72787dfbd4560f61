"""Bodies of the ops that blank out elements.

They select bits: an integer of all ones keeps an element, 0 drops it. That is several times faster than `where` and,
unlike a product, right for NaN and infinities.
"""

from __future__ import annotations

from typing import Any

from ..aval import ITEMSIZE, Aval
from ..backend import NARROW, scratch


def _bits(dtype: str) -> str:
    """The integer type as wide as the elements that a body sees (16-bit floats arrive widened)."""
    return f"int{8 * (4 if dtype in NARROW else ITEMSIZE[dtype])}"


@scratch(lambda input, mask, *, value: [Aval(mask.shape, _bits(input.dtype))])
def masked_fill(xp: Any, y: Any, input: Any, mask: Any, *, value: float, scratch: list[Any]) -> None:
    (fill,) = scratch
    bits, old = y.view(fill.dtype), input.view(fill.dtype)
    new = xp.full((), value, y.dtype).view(fill.dtype)
    xp.copyto(fill, mask)
    xp.negative(fill, out=fill)
    xp.bitwise_xor(old, new, out=bits)
    xp.bitwise_and(bits, fill, out=bits)
    xp.bitwise_xor(bits, old, out=bits)


_keep = scratch(lambda input, *, diagonal: [Aval(input.shape[-2:], _bits(input.dtype))])


@_keep
def tril(xp: Any, y: Any, input: Any, *, diagonal: int, scratch: list[Any]) -> None:
    _triangle(xp, y, input, xp.less_equal, diagonal, *scratch)


@_keep
def triu(xp: Any, y: Any, input: Any, *, diagonal: int, scratch: list[Any]) -> None:
    _triangle(xp, y, input, xp.greater_equal, diagonal, *scratch)


def _triangle(xp: Any, y: Any, input: Any, compare: Any, diagonal: int, keep: Any) -> None:
    rows, cols = keep.shape
    compare(xp.arange(cols), xp.arange(rows)[:, None] + diagonal, out=keep)
    xp.negative(keep, out=keep)
    xp.bitwise_and(input.view(keep.dtype), keep, out=y.view(keep.dtype))
