"""Device code of products and of the linear recurrence: the middle axis of a contiguous (outer, n, inner) array."""

import triton
import triton.language as tl

import gputape.kernels.triton.reduce as reduce


@triton.jit
def times(a, b):
    return a * b


@triton.jit
def products(
    y_ptr,  # out (outputs, groups)
    x_ptr,  # in (outer, n, inner); floats are multiplied in float32, integers in int64
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
    at = (reduce.row_start(out, n, inner, LAST) + first * inner)[:, None]
    at += reduce.along(element, inner, LAST)[None, :]
    step = reduce.block_step(inner, BLOCK_RED)
    if x_ptr.dtype.element_ty.is_floating():
        total = tl.full((BLOCK_OUT, BLOCK_RED), 1, dtype=tl.float32)
    else:
        total = tl.full((BLOCK_OUT, BLOCK_RED), 1, dtype=tl.int64)
    for start in range(0, group, BLOCK_RED):
        inside = out_inside[:, None] & (element < rest - start)[None, :]
        total *= tl.load(x_ptr + at, mask=inside, other=1).to(total.dtype)
        x_ptr += step
    y = tl.reduce(total, 1, times)
    to = out.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    tl.store(y_ptr + to, y.to(y_ptr.dtype.element_ty), mask=out_inside)


@triton.jit
def recurrence(
    y_ptr,  # out (outer, n, inner): y[k] = x[k] + a[k] · y[k - 1]
    x_ptr,  # in (outer, n, inner); the products of a alone if PRODUCTS
    a_ptr,  # in (outer, n, inner)
    outputs,
    n,
    inner,
    reverse,  # whether from the end
    PRODUCTS: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """One element after another, each row in a thread of its own. Floats in float32, integers in int64."""
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    inside = out < outputs
    at = reduce.row_start(out, n, inner, LAST)
    step = tl.where(reverse != 0, -1, 1) * inner.to(tl.int64)
    at += tl.where(reverse != 0, (n - 1) * inner, 0)
    if a_ptr.dtype.element_ty.is_floating():
        y = tl.full((BLOCK_OUT,), 1 if PRODUCTS else 0, dtype=tl.float32)
    else:
        y = tl.full((BLOCK_OUT,), 1 if PRODUCTS else 0, dtype=tl.int64)
    for k in range(0, n):
        a = tl.load(a_ptr + at, mask=inside, other=0).to(y.dtype)
        if PRODUCTS:
            y = a * y
        else:
            x = tl.load(x_ptr + at, mask=inside, other=0).to(y.dtype)
            y = tl.where(k == 0, x, x + a * y)
        tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)
        at += step
