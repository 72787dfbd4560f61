"""Bodies of the element-wise ops of two arrays, and of those that choose, scale, cast and copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..aval import ITEMSIZE, Aval, broadcast_shapes
from ..backend import NARROW, scratch

_BLOCK = 1 << 16
_LINE = 64  # bytes of a cache line


def _blocks(arrays: tuple[Any, ...], buffers: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Matching pieces of arrays, small enough to stay in the second-level cache from pass to pass, each with the same
    first piece of the buffers. The first array has the full shape, to which others broadcast."""
    shape, n = arrays[0].shape, arrays[0].size
    if n < 2 * _BLOCK:
        yield (*arrays, *buffers)
        return
    if all([a.flags.c_contiguous and a.shape == shape for a in arrays]):
        shape = (n,)
        arrays, buffers = (tuple([a.reshape(-1) for a in some]) for some in (arrays, buffers))
    rows = -(-_BLOCK * shape[0] // n)
    split = [a.ndim == len(shape) and a.shape[0] == shape[0] for a in (*arrays, *buffers)]
    for i in range(0, shape[0], rows):
        k = min(rows, shape[0] - i)
        parts = [a[i : i + k] if s else a for a, s in zip(arrays, split)]
        yield (*parts, *[b[:k] if s else b for b, s in zip(buffers, split[len(arrays) :])])


def _bits(mask: Aval, like: Aval) -> Aval:
    """A buffer for `_spread(mask)` against values of aval `like` (16-bit floats are widened to 32 bits)."""
    return Aval(mask.shape, f"int{8 * (4 if like.dtype in NARROW else ITEMSIZE[like.dtype])}")


def _spread(xp: Any, bits: Any, mask: Any) -> Any:
    """All bits set where the bool `mask` holds, none elsewhere."""
    return xp.negative(mask.view("int8"), out=bits)


def _masked(xp: Any, y: Any, x: Any, mask: Any) -> None:
    """x where the mask of y's shape holds, else 0: the product of the bit patterns as integers, faster than `where=`,
    and unlike x·mask right for infinities and NaN."""
    yi = y.view(f"i{y.itemsize}")
    xp.copyto(yi, mask.view("int8"))
    xp.multiply(x.view(yi.dtype), yi, out=yi)


def _select(xp: Any, y: Any, bits: Any, a: Any, b: Any) -> None:
    """a where `bits` (of `_spread`) are set, else b: b ^ ((a ^ b) & bits). `y` may be `a`, not `b`."""
    yi = y.view(bits.dtype)
    bi = b.view(bits.dtype)
    xp.bitwise_xor(a.view(bits.dtype), bi, out=yi)
    xp.bitwise_and(yi, bits, out=yi)
    xp.bitwise_xor(yi, bi, out=yi)


# --- two arrays -------------------------------------------------------------------------------------------------------


def add(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.add(input, other, out=y)


def sub(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.subtract(input, other, out=y)


def mul(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.multiply(input, other, out=y)


def div(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.divide(input, other, out=y, dtype=y.dtype)


def maximum(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.maximum(input, other, out=y)


def minimum(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.minimum(input, other, out=y)


# --- choosing ---------------------------------------------------------------------------------------------------------


@scratch(lambda c, a, b: [_bits(a.with_shape(broadcast_shapes("where", a.shape, b.shape)), a)])
def where(xp: Any, y: Any, condition: Any, input: Any, other: Any, *, scratch: list[Any]) -> None:
    """By bit patterns: other ^ ((input ^ other) · condition)."""
    for y_, c, a, b, difference in _blocks((y, condition, input, other), tuple(scratch)):
        yi, bi = y_.view(difference.dtype), b.view(difference.dtype)
        xp.bitwise_xor(a.view(difference.dtype), bi, out=difference)
        xp.copyto(yi, c.view("int8"))
        xp.multiply(yi, difference, out=yi)
        xp.bitwise_xor(yi, bi, out=yi)


# --- scaling, casting, copying ----------------------------------------------------------------------------------------


def scale(xp: Any, y: Any, input: Any, *, c: float) -> None:
    xp.multiply(input, c, out=y)


def cast(xp: Any, y: Any, input: Any, *, dtype: str) -> None:
    xp.copyto(y, input, casting="unsafe")


def copy(xp: Any, y: Any, input: Any) -> None:
    """Where a step along the last axis is a multiple of 1024 bytes, all that a row reads competes for a few lines of
    the cache; strips as narrow as such a line use it up before it goes."""
    n, strip = input.shape[-1] if input.ndim > 1 else 0, _LINE // input.itemsize
    if n <= strip or input.strides[-1] == 0 or input.strides[-1] % 1024:
        xp.copyto(y, input)
        return
    for i in range(0, n, strip):
        xp.copyto(y[..., i : i + strip], input[..., i : i + strip])
