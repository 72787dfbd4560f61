"""Device code of maxima and minima: the middle axis of a contiguous (outer, n, inner) array, by groups as sums are.

A minimum is a maximum with the order turned round: floats change their sign, integers all their bits.
"""

import triton
import triton.language as tl

import gputape.kernels.triton.reduce as reduce


@triton.jit
def ranked(x, turned):
    """x as float32 or int64, in ascending order, or in descending order if `turned`. Its own inverse on those."""
    if x.dtype.is_floating():
        value = x.to(tl.float32)
        value = tl.where(turned != 0, -value, value)
    else:
        value = x.to(tl.int64)
        value = tl.where(turned != 0, ~value, value)
    return value


@triton.jit
def extremum(
    y_ptr,  # out (outputs, groups), of x's dtype; bool if TEST
    x_ptr,  # in (outer, n, inner) float, integer or bool
    outputs,
    n,
    inner,
    group,
    turned,  # whether the smallest is wanted
    TEST: tl.constexpr,  # compare x != 0 instead of x
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    first = tl.program_id(1).to(tl.int64) * group
    rest = n - first
    at = (reduce.row_start(out, n, inner, LAST) + first * inner)[:, None]
    at += reduce.along(element, inner, LAST)[None, :]
    step = reduce.block_step(inner, BLOCK_RED)
    to = out.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    if TEST:
        found = tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=tl.int32)  # an element that decides: != 0 of any, 0 of all
        for start in range(0, group, BLOCK_RED):
            inside = out_inside[:, None] & (element < rest - start)[None, :]
            x = tl.load(x_ptr + at, mask=inside, other=0)
            found |= (inside & ((x == 0) == (turned != 0))).to(tl.int32)
            x_ptr += step
        y = (tl.max(found, axis=1) != 0) ^ (turned != 0)
        tl.store(y_ptr + to, y, mask=out_inside)
    elif x_ptr.dtype.element_ty.is_floating():
        best = tl.full((BLOCK_OUT, BLOCK_RED), float("-inf"), dtype=tl.float32)
        nan = tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=tl.int32)
        for start in range(0, group, BLOCK_RED):
            inside = out_inside[:, None] & (element < rest - start)[None, :]
            x = ranked(tl.load(x_ptr + at, mask=inside, other=0.0), turned)
            nan |= (inside & (x != x)).to(tl.int32)
            best = tl.where(inside & (x > best), x, best)
            x_ptr += step
        y = ranked(tl.max(best, axis=1), turned)
        y = tl.where(tl.max(nan, axis=1) != 0, float("nan"), y)
        tl.store(y_ptr + to, y.to(y_ptr.dtype.element_ty), mask=out_inside)
    else:
        least = tl.full((BLOCK_OUT, BLOCK_RED), -(2**63), dtype=tl.int64)
        for start in range(0, group, BLOCK_RED):
            inside = out_inside[:, None] & (element < rest - start)[None, :]
            x = ranked(tl.load(x_ptr + at, mask=inside, other=0), turned)
            least = tl.where(inside & (x > least), x, least)
            x_ptr += step
        y = ranked(tl.max(least, axis=1), turned)
        tl.store(y_ptr + to, y.to(y_ptr.dtype.element_ty), mask=out_inside)


@triton.jit
def where_extreme(
    y_ptr,  # out (outputs, groups) int64: index along n; of several that are equal, the smallest
    best_ptr,  # out (outputs, groups), of x's dtype: the element there if `grouped`, else unused
    x_ptr,  # in (outer, n, inner) float or integer
    index_ptr,  # in, of x's shape, int64: indices that stand for 0 … n-1, ascending, if `indexed`
    outputs,
    n,
    inner,
    group,
    turned,  # whether the smallest is wanted
    grouped,
    indexed,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    NONE: tl.constexpr = 2**62
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    first = tl.program_id(1).to(tl.int64) * group
    rest = n - first
    at = (reduce.row_start(out, n, inner, LAST) + first * inner)[:, None]
    at += reduce.along(element, inner, LAST)[None, :]
    step = reduce.block_step(inner, BLOCK_RED)
    best = ranked(tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=x_ptr.dtype.element_ty), 0)
    where = tl.full((BLOCK_OUT, BLOCK_RED), NONE, dtype=tl.int64)
    nan = tl.full((BLOCK_OUT, BLOCK_RED), NONE, dtype=tl.int64)  # where the first NaN is
    for start in range(0, group, BLOCK_RED):
        inside = out_inside[:, None] & (element < rest - start)[None, :]
        x = ranked(tl.load(x_ptr + at, mask=inside, other=0), turned)
        index = tl.load(index_ptr + at, mask=inside & (indexed != 0), other=0)
        index = tl.where(indexed != 0, index, (first + start + element)[None, :])
        index_ptr += step
        number = inside & (x == x)
        nan = tl.where(inside & (x != x) & (index < nan), index, nan)
        better = number & ((where == NONE) | (x > best))
        best = tl.where(better, x, best)
        where = tl.where(better, index, where)
        x_ptr += step
    # Lanes without a number stand back behind those that have one, whatever their value.
    has = where != NONE
    low = tl.min(best, axis=1)[:, None]
    top = tl.max(tl.where(has, best, low), axis=1)
    y = tl.min(tl.where(has & (best == top[:, None]), where, NONE), axis=1)
    first_nan = tl.min(nan, axis=1)
    y = tl.where(first_nan != NONE, first_nan, y)
    to = out.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    tl.store(y_ptr + to, y, mask=out_inside)
    value = ranked(top, turned)
    if x_ptr.dtype.element_ty.is_floating():
        value = tl.where(first_nan != NONE, float("nan"), value)
    tl.store(best_ptr + to, value.to(best_ptr.dtype.element_ty), mask=out_inside & (grouped != 0))
