"""Bodies of logarithms and exponentials to other bases, and of those of two arrays."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, broadcast_shapes
from ..backend import scratch
from .pointwise import _masked
from .unary import _log1p_exp


def log2(xp: Any, y: Any, input: Any) -> None:
    xp.log2(input, out=y, dtype=y.dtype)


def log10(xp: Any, y: Any, input: Any) -> None:
    xp.log10(input, out=y, dtype=y.dtype)


def exp2(xp: Any, y: Any, input: Any) -> None:
    xp.exp2(input, out=y, dtype=y.dtype)


def _sum_buffers(input: Aval, other: Aval) -> list[Aval]:
    shape = broadcast_shapes("logaddexp", input.shape, other.shape)
    return [Aval(shape, input.dtype)] * 3 if input.is_float else []


@scratch(_sum_buffers)
def logaddexp(xp: Any, y: Any, input: Any, other: Any, *, scratch: Any = ()) -> None:
    """max + log1p(exp(-|input - other|)); equal infinities differ by NaN, which `fmax` leaves out."""
    if not scratch:
        xp.logaddexp(input, other, out=y)
        return
    gap, part, work = scratch
    xp.minimum(input, other, out=gap)
    xp.maximum(input, other, out=y)
    xp.subtract(gap, y, out=gap)
    xp.fmax(gap, -1e4, out=gap)
    _log1p_exp(xp, part, gap, work, gap)
    xp.add(y, part, out=y)


def _product_buffers(input: Aval, other: Aval) -> list[Aval]:
    product = Aval(broadcast_shapes("xlogy", input.shape, other.shape), input.dtype)
    return [product, product.with_dtype("bool"), other.with_dtype("bool")]


@scratch(_product_buffers)
def xlogy(xp: Any, y: Any, input: Any, other: Any, *, scratch: list[Any]) -> None:
    product, counts, nan = scratch
    xp.log(other, out=product)
    xp.multiply(product, input, out=product)
    xp.not_equal(input, 0, out=counts)
    xp.isnan(other, out=nan)
    xp.logical_or(counts, nan, out=counts)
    _masked(xp, y, product, counts)
