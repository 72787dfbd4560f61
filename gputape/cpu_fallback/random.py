"""Bodies of the random ops. The stream of words is made in pieces that stay in cache; `ops/random.py` defines it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..aval import Aval
from ..backend import scratch
from ..ops.random import BITS, keep_factor, threshold, words

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = 0xFFFFFFFF
PIECE = 32768  # words, a multiple of 4


def _buffers(count: int) -> list[Aval]:
    """Scratch of `_stream` for `count` words."""
    piece = min(count, PIECE)
    blocks = (piece + 3) // 4 + 1
    pairs = Aval((2, blocks), "int64")
    return [pairs, pairs, pairs, Aval((2, 10), "int64"), Aval((blocks, 4), "int32"), *[Aval((piece,), "int64")] * 2]


def _stream(xp: Any, state: Any, offset: int, count: int, buffers: list[Any]) -> Iterator[tuple[int, Any]]:
    """The words from counter + offset on, as (index of the first, uint32 array) per piece of at most `PIECE` words.

    The state is only read by array operations, so that the same calls serve another state.
    """
    lanes, high, low, keys = (b.view(xp.uint64) for b in buffers[:4])
    blocks, index, found = buffers[4].view(xp.uint32), buffers[5], buffers[6].view(xp.uint32)
    if not count:
        return
    seed, counter = state.view(xp.uint64)[:1], state[1:]
    _round_keys(xp, keys, seed)
    xp.copyto(index, 1)  # counts up from where the words begin in their block
    first = index[:1]
    xp.add(counter, offset, out=first)
    xp.bitwise_and(first, 3, out=first)
    xp.add.accumulate(index, out=index)
    for start in range(0, count, PIECE):
        n = min(PIECE, count - start)
        xp.copyto(lanes[0], 1)
        block = lanes.view(xp.int64)[0, :1]
        xp.add(counter, offset + start, out=block)
        xp.right_shift(block, 2, out=block)
        xp.add.accumulate(lanes[0], out=lanes[0])
        _philox(xp, blocks, lanes, high, low, keys)
        piece = found[:n]
        xp.take(blocks.reshape(-1), index[:n], out=piece, mode="clip")
        yield start, piece


def _round_keys(xp: Any, keys: Any, seed: Any) -> None:
    """keys[:, r] = the two key words of round r."""
    for k, step in enumerate(WEYL):
        xp.copyto(keys[k], step)
    xp.bitwise_and(seed, LOW, out=keys[0, :1])
    xp.right_shift(seed, 32, out=keys[1, :1])
    xp.add.accumulate(keys, axis=1, out=keys)
    xp.bitwise_and(keys, LOW, out=keys)


def _philox(xp: Any, words: Any, lanes: Any, high: Any, low: Any, keys: Any) -> None:
    """words[i] = the four output words of block lanes[0, i]; `lanes`, `high` and `low` are overwritten."""
    xp.right_shift(lanes[0], 32, out=low[0])
    xp.copyto(lanes[1], 0)
    xp.copyto(low[1], 0)
    _rounds(xp, words, lanes, high, low, keys)


def _rounds(xp: Any, words: Any, lanes: Any, high: Any, low: Any, keys: Any) -> None:
    """The ten rounds: (x0, x1, x2, x3) = (lanes[0], low[0], lanes[1], low[1]) → words[:, 0] to words[:, 3].

    Each round maps (x0, x1, x2, x3) to (hi(M1·x2) ^ x1 ^ k0, lo(M1·x2), hi(M0·x0) ^ x3 ^ k1, lo(M0·x0)). The high
    halves of `low` are rubbish that never enters a product.
    """
    for r in range(10):
        xp.bitwise_and(lanes, LOW, out=lanes)
        xp.multiply(lanes[1], MULTIPLIERS[1], out=high[0])
        xp.multiply(lanes[0], MULTIPLIERS[0], out=high[1])
        xp.right_shift(high, 32, out=lanes)
        xp.bitwise_xor(lanes, low, out=lanes)
        xp.bitwise_xor(lanes, keys[:, r : r + 1], out=lanes)
        high, low = low, high
    for k, word in enumerate((lanes[0], low[0], lanes[1], low[1])):
        xp.copyto(words[:, k], word, casting="unsafe")


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


@scratch(lambda state, *, shape, offset: _buffers(_size(shape)))
def random_bits(xp: Any, y: Any, state: Any, *, shape: Any, offset: int, scratch: list[Any]) -> None:
    y = y.reshape(-1)
    for start, found in _stream(xp, state, offset, y.size, scratch):
        xp.copyto(y[start : start + found.size], found)


@scratch(lambda state, *, shape, dtype, offset: _buffers(words(_size(shape), dtype)))
def random_uniform(xp: Any, y: Any, state: Any, *, shape: Any, dtype: str, offset: int, scratch: list[Any]) -> None:
    y = y.reshape(-1)
    if dtype == "float64":
        for start, found in _stream(xp, state, offset, 2 * y.size, scratch):
            _unit53(xp, y[start // 2 : (start + found.size) // 2], found[::2], found[1::2])
        return
    bits = BITS[dtype]
    for start, found in _stream(xp, state, offset, y.size, scratch):
        _unit(xp, y[start : start + found.size], found, bits)


def _unit(xp: Any, y: Any, word: Any, bits: int) -> None:
    """The top `bits` bits of each word as a number in [0, 1)."""
    xp.right_shift(word, 32 - bits, out=word)
    xp.copyto(y, word, casting="unsafe")
    xp.multiply(y, 2.0**-bits, out=y)


def _unit53(xp: Any, y: Any, upper: Any, lower: Any) -> None:
    """The top 53 bits of each pair of words as a number in [0, 1); every step is exact."""
    xp.copyto(y, upper)
    xp.multiply(y, 2.0**21, out=y)
    xp.right_shift(lower, 11, out=lower)
    xp.add(y, lower, out=y)
    xp.multiply(y, 2.0**-53, out=y)


def _normal_buffers(state: Aval, *, shape: tuple[int, ...], dtype: str, offset: int) -> list[Aval]:
    count = words(2 * ((_size(shape) + 1) // 2), dtype)
    half = Aval((min(count, PIECE) // 2,), "float64" if dtype == "float64" else "float32")
    return [*_buffers(count), half, half]


@scratch(_normal_buffers)
def random_normal(xp: Any, y: Any, state: Any, *, shape: Any, dtype: str, offset: int, scratch: list[Any]) -> None:
    y = y.reshape(-1)
    per = words(1, dtype)  # words per element
    for start, found in _stream(xp, state, offset, (y.size + 1) // 2 * 2 * per, scratch):
        pairs = found.size // (2 * per)
        radius, angle = scratch[7][:pairs], scratch[8][:pairs]
        if per == 2:
            _unit53(xp, radius, found[::4], found[1::4])
            _unit53(xp, angle, found[2::4], found[3::4])
            xp.add(radius, 2.0**-54, out=radius)
        else:
            xp.copyto(radius, found[::2], casting="unsafe")
            xp.multiply(radius, 2.0**-32, out=radius)
            xp.add(radius, 2.0**-33, out=radius)
            _unit(xp, angle, found[1::2], 24)
        xp.log(radius, out=radius)
        xp.multiply(radius, -2.0, out=radius)
        xp.sqrt(radius, out=radius)
        xp.multiply(angle, 2.0 * math.pi, out=angle)
        out = y[start // per : start // per + 2 * pairs]
        cosines, sines = out[::2], out[1::2]
        xp.cos(angle, out=cosines)
        xp.multiply(cosines, radius, out=cosines)
        xp.sin(angle[: sines.size], out=sines)
        xp.multiply(sines, radius[: sines.size], out=sines)


def _mask_buffers(state: Aval, *, shape: tuple[int, ...], p: float, offset: int, dtype: str) -> list[Aval]:
    return [*_buffers(_size(shape)), Aval((min(_size(shape), PIECE),), "bool")]


@scratch(_mask_buffers)
def random_bernoulli(
    xp: Any, y: Any, state: Any, *, shape: Any, p: float, offset: int, dtype: str, scratch: list[Any]
) -> None:
    _fill_where(xp, y, state, offset, scratch, p, xp.less, 1.0)


@scratch(_mask_buffers)
def dropout_mask(
    xp: Any, y: Any, state: Any, *, shape: Any, p: float, offset: int, dtype: str, scratch: list[Any]
) -> None:
    _fill_where(xp, y, state, offset, scratch, p, xp.greater_equal, keep_factor(p))


def _fill_where(
    xp: Any, y: Any, state: Any, offset: int, buffers: list[Any], p: float, holds: Any, value: float
) -> None:
    """`value` where `holds(top 24 bits of the word, threshold)`, else 0."""
    y, bound = y.reshape(-1), threshold(p)
    for start, found in _stream(xp, state, offset, y.size, buffers):
        out, chosen = y[start : start + found.size], buffers[7][: found.size]
        xp.right_shift(found, 8, out=found)
        holds(found, bound, out=chosen)
        xp.copyto(out, chosen)
        if value != 1:
            xp.multiply(out, value, out=out)


def _row_buffers(rows: int, cols: int) -> list[Aval]:
    """Scratch of `_kept` for up to that many rows and columns."""
    quads = (cols + 3) // 4 + 1
    some = max(1, min(rows, PIECE // (4 * quads)))
    lanes, keys = Aval((2, some * quads), "int64"), Aval((2, 10), "int64")
    return [lanes, lanes, lanes, keys, Aval((some * quads, 4), "int32"), Aval((some * cols,), "int32")]


def _kept(xp: Any, out: Any, state: Any, offset: int, p: float, first: Any, buffers: list[Any]) -> None:
    """out (rows, cols), bool: whether `dropout_mask` keeps the elements of rows that begin with quad `first` (rows, 1)
    of the words from counter + offset on."""
    lanes, high, low, keys = (b.view(xp.uint64) for b in buffers[:4])
    blocks, found = (b.view(xp.uint32) for b in buffers[4:])
    rows, cols = out.shape
    quads = (cols + 3) // 4 + 1  # one more, as the words may begin inside a block
    some = min(len(blocks) // quads, len(found) // cols)
    _round_keys(xp, keys, state.view(xp.uint64)[:1])
    start = state[1:] + offset
    index = xp.arange(cols) + (start & 3)
    column = xp.arange(quads) + (start >> 2)
    for row in range(0, rows, some):
        n = min(some, rows - row)
        here = slice(0, n * quads)
        xp.add(first[row : row + n], column, out=lanes.view(xp.int64)[0, here].reshape(n, quads))
        _philox(xp, blocks[here], lanes[:, here], high[:, here], low[:, here], keys)
        piece = found[: n * cols].reshape(n, cols)
        xp.take(blocks[here].reshape(n, 4 * quads), index, axis=1, out=piece, mode="clip")
        xp.right_shift(piece, 8, out=piece)
        xp.greater_equal(piece, threshold(p), out=out[row : row + n])


@scratch(lambda state, *, n, offset: [*_buffers(2 * n), Aval((n,), "int64")])
def random_permutation(xp: Any, y: Any, state: Any, *, n: int, offset: int, scratch: list[Any]) -> None:
    keys = scratch[7].view(xp.uint64)
    for start, found in _stream(xp, state, offset, 2 * n, scratch):
        piece = keys[start // 2 : (start + found.size) // 2]
        xp.left_shift(found[::2], 32, out=piece, dtype=xp.uint64)
        xp.bitwise_or(piece, found[1::2], out=piece)
    xp.copyto(y, xp.argsort(keys, kind="stable"))
