"""Device code of sorting along the middle axis of a contiguous (outer, n, inner) array.

Each element counts those that come before it: n² comparisons in any order, no exchange, and ties keep theirs.
"""

import triton
import triton.language as tl

import gputape.kernels.triton.extremum as extremum
import gputape.kernels.triton.reduce as reduce


@triton.jit
def sorted_order(
    y_ptr,  # out (outer, kept, inner) int64: the first of the order
    x_ptr,  # in (outer, n, inner) float, integer or bool; NaN is the largest
    n,
    kept,
    inner,
    descending,
    LAST: tl.constexpr,
    BLOCK: tl.constexpr,
    OTHERS: tl.constexpr,
):
    across = tl.cdiv(n, BLOCK)
    row = (tl.program_id(0) // across).to(tl.int32)
    mine = (tl.program_id(0) % across).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = mine < n
    start = reduce.row_start(row, n, inner, LAST)
    x = extremum.ranked(tl.load(x_ptr + start + mine * inner, mask=inside, other=0), descending)
    nan = x != x
    before = tl.zeros((BLOCK,), dtype=tl.int64)
    for first in range(0, n, OTHERS):
        other = first + tl.arange(0, OTHERS).to(tl.int64)
        other_inside = other < n
        z = extremum.ranked(tl.load(x_ptr + start + other * inner, mask=other_inside, other=0), descending)
        z_nan = z != z
        less = (z[None, :] < x[:, None]) | (nan[:, None] & (z_nan == 0)[None, :] & (descending == 0))
        less |= z_nan[None, :] & (nan == 0)[:, None] & (descending != 0)
        same = (z[None, :] == x[:, None]) | (nan[:, None] & z_nan[None, :])
        less |= same & (other[None, :] < mine[:, None])
        before += tl.sum((less & other_inside[None, :]).to(tl.int64), axis=1)
    to = reduce.row_start(row, kept, inner, LAST)
    tl.store(y_ptr + to + before * inner, mine, mask=inside & (before < kept))
