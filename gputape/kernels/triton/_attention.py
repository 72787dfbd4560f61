"""What the kernels of attention have in common: the scores of a tile of queries and a tile of keys.

Rows in memory are described by (pointer to the first, rows that are left, elements of a row, elements from one row to
the next); stride 1 along a row. `m` and `n` number queries and keys inside a tile, one of them down and one across.
Scores are kept in units of log 2, so that the exponential is one instruction.
"""

import triton
import triton.language as tl

import gputape.kernels.triton.random as random


@triton.jit
def below(rows, count):
    """The rows after the first `count`."""
    ptr, left, size, step = rows
    return ptr + count * step.to(tl.int64), left - count, size, step


@triton.jit
def read(rows, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr):
    """The first BLOCK rows, BLOCK_D elements of each; zeros outside."""
    ptr, left, size, step = rows
    row = tl.arange(0, BLOCK)
    d = tl.arange(0, BLOCK_D)
    inside = (row < left)[:, None] & (d < size)[None, :]
    return tl.load(ptr + row[:, None] * step + d[None, :], mask=inside, other=0.0)


@triton.jit
def write(rows, x):
    """A tile as the first rows."""
    ptr, left, size, step = rows
    row = tl.arange(0, x.shape[0])
    d = tl.arange(0, x.shape[1])
    inside = (row < left)[:, None] & (d < size)[None, :]
    tl.store(ptr + row[:, None] * step + d[None, :], x.to(ptr.dtype.element_ty), mask=inside)


@triton.jit
def product(
    a,  # the first rows of a_rows, whole; unused if CHUNK is not 0
    a_rows,
    b_rows,
    BLOCK_A: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """a · bᵀ. Long rows of float32 do not fit in registers: both are read CHUNK columns at a time."""
    if CHUNK == 0:
        total = tl.dot(a, tl.trans(read(b_rows, BLOCK_B, BLOCK_D)), input_precision=PRECISION)
    else:
        a_ptr, a_left, size, a_step = a_rows
        b_ptr, b_left, size, b_step = b_rows
        total = tl.zeros((BLOCK_A, BLOCK_B), dtype=tl.float32)
        for first in range(0, size, CHUNK):
            x = read((a_ptr + first, a_left, size - first, a_step), BLOCK_A, CHUNK)
            y = read((b_ptr + first, b_left, size - first, b_step), BLOCK_B, CHUNK)
            total = tl.dot(x, tl.trans(y), total, input_precision=PRECISION)
    return total


@triton.jit
def masked(s, mask, m, n, first_m, first_n, L, S, causal, CHECK: tl.constexpr, MASK: tl.constexpr):
    """The scores under the mask: 1 is a boolean one (False blocks), 2 is added. CHECK where some of the keys may not be
    seen: those past the last, and those after the query if `causal`."""
    if MASK != 0:
        ptr, row, col = mask
        ptr += first_m * row.to(tl.int64) + first_n * col.to(tl.int64)
        value = tl.load(ptr + (m * row + n * col), mask=(m < L - first_m) & (n < S - first_n), other=0)
        if MASK == 1:
            s = tl.where(value != 0, s, float("-inf"))
        else:
            s += value.to(tl.float32) * 1.4426950408889634
    if CHECK:
        seen = (n < S - first_n) & ((m + (first_m - first_n) >= n) | (causal == 0))
        s = tl.where(seen, s, float("-inf"))
    return s


@triton.jit
def whole_tiles(first_m, S, causal, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, MASK: tl.constexpr):
    """(keys in whole tiles that all queries of a tile see without CHECK, keys that some of them see)."""
    stop = tl.where(causal != 0, tl.minimum(S, first_m + BLOCK_M), S)
    middle = stop * 0
    if MASK == 0:
        middle = tl.where(causal != 0, tl.minimum(S, first_m), S) // BLOCK_N * BLOCK_N
    return middle, stop


@triton.jit
def kept(dropout, first_m, first_n, S, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Whether dropout keeps each weight of a tile, queries down: its word has `threshold` or more in the top 24 bits.

    Each row of weights begins with a fresh quad of words.
    """
    state_ptr, offset, threshold, row = dropout
    quad = tl.cdiv(S, 4) * (row + first_m + tl.arange(0, BLOCK_M))[:, None]
    quad += (first_n // 4 + tl.arange(0, BLOCK_N // 4))[None, :]
    a, b, c, d = random._words(state_ptr, offset, quad)
    word = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (BLOCK_M, BLOCK_N))
    return (word >> 8).to(tl.int32) >= threshold


@triton.jit
def logsum(lse_ptr, left, BLOCK: tl.constexpr):
    """lse of BLOCK queries in units of log 2; 0 where nothing is attended: all scores are -inf there."""
    m = tl.arange(0, BLOCK)
    lse = tl.load(lse_ptr + m, mask=m < left, other=0.0)
    return tl.where(lse < -3.4e38, 0.0, lse * 1.4426950408889634)


@triton.jit
def statistics(lse_ptr, delta_ptr, left, BLOCK: tl.constexpr):
    """(lse as of `logsum`, δ) of BLOCK queries."""
    m = tl.arange(0, BLOCK)
    return logsum(lse_ptr, left, BLOCK), tl.load(delta_ptr + m, mask=m < left, other=0.0)
