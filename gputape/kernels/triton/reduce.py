"""Device code of reductions: the middle axis of a contiguous (outer, n, inner) array.

A program holds BLOCK_OUT outputs (of the outer · inner ones) and walks along `group` of their n elements, BLOCK_RED at
a time. LAST says that inner is 1. Program (k, g) writes what group g gives for its outputs: y is (outputs, groups).
"""

import triton
import triton.language as tl


@triton.jit
def row_start(out, n, inner, LAST: tl.constexpr):
    """The first of the n elements behind each output; they lie `inner` apart. n is 64-bit."""
    return out.to(tl.int64) * n if LAST else (out // inner).to(tl.int64) * (n * inner) + out % inner


@triton.jit
def along(element, inner, LAST: tl.constexpr):
    """How far the elements are from the start."""
    return element if LAST else element.to(tl.int64) * inner


@triton.jit
def block_step(inner, BLOCK: tl.constexpr):
    """From one block of elements to the next, 64-bit."""
    return inner.to(tl.int64) * BLOCK


@triton.jit
def sums(
    y_ptr,  # out (outputs, groups)
    x_ptr,  # in (outer, n, inner); floats are summed in float32, integers in int64
    outputs,
    n,
    inner,
    group,
    divisor,  # of a floating-point result
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    first = tl.program_id(1).to(tl.int64) * group
    rest = n - first
    at = (row_start(out, n, inner, LAST) + first * inner)[:, None] + along(element, inner, LAST)[None, :]
    step = block_step(inner, BLOCK_RED)
    if x_ptr.dtype.element_ty.is_floating():
        total = tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=tl.float32)
    else:
        total = tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=tl.int64)
    for start in range(0, group, BLOCK_RED):
        inside = out_inside[:, None] & (element < rest - start)[None, :]
        total += tl.load(x_ptr + at, mask=inside, other=0).to(total.dtype)
        x_ptr += step
    y = tl.sum(total, axis=1)
    if y_ptr.dtype.element_ty.is_floating():
        y = y.to(tl.float32) / divisor
    to = out.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    tl.store(y_ptr + to, y.to(y_ptr.dtype.element_ty), mask=out_inside)


@triton.jit
def _operand(ptr, at, inside, FULL: tl.constexpr):
    """Elements of an array of the shape that is summed, or of a scalar."""
    return tl.load(ptr + at, mask=inside, other=0.0).to(tl.float32) if FULL else tl.load(ptr).to(tl.float32)


@triton.jit
def mapped_sums(
    y_ptr,  # out (outputs, groups)
    x0_ptr,  # in (outer, n, inner), or a scalar where the bit of FULL is 0
    x1_ptr,  # in, unused unless COUNT > 1
    x2_ptr,  # in, unused unless COUNT > 2
    outputs,
    n,
    inner,
    group,
    divisor,
    c0,  # the plain numbers of MAP
    c1,
    c2,
    c3,
    MAP: tl.constexpr,  # device function of (v0, v1, v2, c0, c1, c2, c3), whose results are summed
    COUNT: tl.constexpr,
    FULL: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    first = tl.program_id(1).to(tl.int64) * group
    rest = n - first
    at = (row_start(out, n, inner, LAST) + first * inner)[:, None] + along(element, inner, LAST)[None, :]
    step = block_step(inner, BLOCK_RED)
    total = tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=tl.float32)
    for start in range(0, group, BLOCK_RED):
        inside = out_inside[:, None] & (element < rest - start)[None, :]
        v0 = _operand(x0_ptr, at, inside, FULL & 1)
        v1 = v0
        v2 = v0
        if COUNT > 1:
            v1 = _operand(x1_ptr, at, inside, FULL & 2)
        if COUNT > 2:
            v2 = _operand(x2_ptr, at, inside, FULL & 4)
        total += tl.where(inside, MAP(v0, v1, v2, c0, c1, c2, c3), 0.0)
        at += step
    y = tl.sum(total, axis=1) / divisor
    to = out.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    tl.store(y_ptr + to, y.to(y_ptr.dtype.element_ty), mask=out_inside)


@triton.jit
def moments(
    y_ptr,  # out (outputs, groups) float: Σ (x - mean)² / divisor, or its root
    mean_ptr,  # out (outputs, groups) float32
    rest_ptr,  # out (outputs, groups) float32: what the rounded mean lacks
    x_ptr,  # in (outer, n, inner): values if PLAIN, else float32 means of `full` values each (the last of `last`)
    x_rest_ptr,  # in, of x's shape, float32: what those means lack; unused if PLAIN
    square_ptr,  # in, of x's shape, float32: Σ (value - mean)² of those values; unused if PLAIN
    outputs,
    n,
    inner,
    group,
    full,
    last,
    divisor,
    root,  # whether to take the square root
    PLAIN: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    first = tl.program_id(1).to(tl.int64) * group
    rest = n - first
    at = (row_start(out, n, inner, LAST) + first * inner)[:, None] + along(element, inner, LAST)[None, :]
    step = block_step(inner, BLOCK_RED)

    walk = x_ptr
    total = tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=tl.float32)
    counts = tl.zeros((BLOCK_RED,), dtype=tl.float32)
    for start in range(0, group, BLOCK_RED):
        element_inside = element < rest - start
        inside = out_inside[:, None] & element_inside[None, :]
        x = tl.load(walk + at, mask=inside, other=0.0).to(tl.float32)
        if PLAIN:
            total += x
        else:
            count = tl.where(element == rest - start - 1, last, full)
            counts += tl.where(element_inside, count, 0.0)
            total += x * count[None, :]
        walk += step
    size = tl.minimum(rest, group).to(tl.float32) if PLAIN else tl.sum(counts, axis=0)
    mean = tl.sum(total, axis=1) / size

    # The rounded mean of values far from 0 is off by much of their spread: the sum of the rests corrects for it.
    walk = x_ptr
    rests = tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=tl.float32)
    squares = tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=tl.float32)
    for start in range(0, group, BLOCK_RED):
        inside = out_inside[:, None] & (element < rest - start)[None, :]
        x = tl.load(walk + at, mask=inside, other=0.0).to(tl.float32)
        centred = tl.where(inside, x - mean[:, None], 0.0)
        if PLAIN:
            rests += centred
            squares += centred * centred
        else:
            centred += tl.load(x_rest_ptr + at, mask=inside, other=0.0)
            x_rest_ptr += step
            count = tl.where(element == rest - start - 1, last, full)[None, :]
            rests += centred * count
            squares += centred * centred * count + tl.load(square_ptr + at, mask=inside, other=0.0)
            square_ptr += step
        walk += step
    total_rest = tl.sum(rests, axis=1)
    square = tl.sum(squares, axis=1) - total_rest * total_rest / size
    y = tl.where(square < 0, 0.0, square) / divisor  # in this direction NaN stays NaN
    y = tl.where(root != 0, tl.sqrt(y), y)
    to = out.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    shift = total_rest / size
    rounded = mean + shift
    tl.store(mean_ptr + to, rounded, mask=out_inside)
    tl.store(rest_ptr + to, shift - (rounded - mean), mask=out_inside)
    tl.store(y_ptr + to, y.to(y_ptr.dtype.element_ty), mask=out_inside)


@triton.jit
def logsumexp(
    y_ptr,  # out (outputs, groups) float
    x_ptr,  # in (outer, n, inner) float
    outputs,
    n,
    inner,
    group,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    first = tl.program_id(1).to(tl.int64) * group
    rest = n - first
    at = (row_start(out, n, inner, LAST) + first * inner)[:, None] + along(element, inner, LAST)[None, :]
    step = block_step(inner, BLOCK_RED)
    peak = tl.full((BLOCK_OUT,), float("-inf"), dtype=tl.float32)
    shift = tl.zeros((BLOCK_OUT,), dtype=tl.float32)  # peak, or 0 where that is infinite: inf - inf is no number
    total = tl.zeros((BLOCK_OUT,), dtype=tl.float32)
    for start in range(0, group, BLOCK_RED):
        inside = out_inside[:, None] & (element < rest - start)[None, :]
        x = tl.load(x_ptr + at, mask=inside, other=float("-inf")).to(tl.float32)
        top = tl.maximum(peak, tl.max(x, axis=1))
        shift = tl.where(tl.abs(top) == float("inf"), 0.0, top)
        before = tl.where(peak == float("-inf"), 0.0, tl.exp(peak - shift))
        total = total * before + tl.sum(tl.exp(x - shift[:, None]), axis=1)
        peak = top
        x_ptr += step
    y = tl.log(total) + shift
    to = out.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    tl.store(y_ptr + to, y.to(y_ptr.dtype.element_ty), mask=out_inside)


@triton.jit
def cumsum(
    y_ptr,  # out (outer, n, inner)
    x_ptr,  # in (outer, n, inner); floats are summed in float32, integers in int64
    outputs,
    n,
    inner,
    blocks,  # of elements along n
    REVERSE: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    at = row_start(out, n, inner, LAST)[:, None] + along(element, inner, LAST)[None, :]
    step = block_step(inner, BLOCK_RED)
    rest = n  # elements from the start of the block on
    forward = 1
    if REVERSE:
        forward = -1
        rest = n - (blocks - 1) * BLOCK_RED
        at += (blocks - 1) * step
    if x_ptr.dtype.element_ty.is_floating():
        carry = tl.zeros((BLOCK_OUT,), dtype=tl.float32)
    else:
        carry = tl.zeros((BLOCK_OUT,), dtype=tl.int64)
    for _ in range(0, blocks):
        inside = out_inside[:, None] & (element < rest)[None, :]
        x = tl.load(x_ptr + at, mask=inside, other=0).to(carry.dtype)
        y = tl.cumsum(x, axis=1, reverse=REVERSE) + carry[:, None]
        carry += tl.sum(x, axis=1)
        tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)
        at += step * forward
        rest -= BLOCK_RED * forward
