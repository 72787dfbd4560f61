"""Device code of softmax, log-softmax and their gradients: the middle axis of a contiguous (outer, n, inner) array.

A program holds BLOCK_OUT of the outer · inner rows. WHOLE says that a row fits into one block of BLOCK_RED elements;
longer rows are walked along. LAST says that inner is 1. `log` asks for the logarithm's.
"""

import triton
import triton.language as tl

import gputape.kernels.triton.reduce as reduce


@triton.jit
def finite(peak):
    """peak, or 0 where a row is all -inf: inf - inf is no number."""
    return tl.where(peak == float("-inf"), 0.0, peak)


@triton.jit
def grown(total, peak, top):
    """A sum of exp(x - peak), once the maximum is `top`."""
    return tl.where(peak == float("-inf"), total, total * tl.exp(peak - top))


@triton.jit
def softmax(
    y_ptr,  # out (outer, n, inner) float
    x_ptr,  # in (outer, n, inner) float
    outputs,
    n,
    inner,
    group,  # n
    log,
    WHOLE: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    at = reduce.row_start(out, n, inner, LAST)[:, None] + reduce.along(element, inner, LAST)[None, :]
    step = reduce.block_step(inner, BLOCK_RED)
    if WHOLE:
        inside = out_inside[:, None] & (element < n)[None, :]
        x = tl.load(x_ptr + at, mask=inside, other=float("-inf")).to(tl.float32)
        x = x - finite(tl.max(x, axis=1))[:, None]
        e = tl.exp(x)
        total = tl.sum(e, axis=1)[:, None]
        y = tl.where(log != 0, x - tl.log(total), e / total)
        tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)
    else:
        walk = x_ptr
        peak = tl.full((BLOCK_OUT,), float("-inf"), dtype=tl.float32)
        total = tl.zeros((BLOCK_OUT,), dtype=tl.float32)
        for start in range(0, group, BLOCK_RED):
            inside = out_inside[:, None] & (element < n - start)[None, :]
            x = tl.load(walk + at, mask=inside, other=float("-inf")).to(tl.float32)
            top = tl.maximum(peak, tl.max(x, axis=1))
            total = grown(total, peak, top) + tl.sum(tl.exp(x - finite(top)[:, None]), axis=1)
            peak = top
            walk += step
        shift = finite(peak)
        log_total = tl.log(total)[:, None]
        for start in range(0, group, BLOCK_RED):
            inside = out_inside[:, None] & (element < n - start)[None, :]
            x = tl.load(x_ptr + at, mask=inside, other=float("-inf")).to(tl.float32) - shift[:, None]
            y = tl.where(log != 0, x - log_total, tl.exp(x) / total[:, None])
            tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)
            x_ptr += step
            y_ptr += step


@triton.jit
def softmax_bwd(
    dx_ptr,  # out (outer, n, inner) float
    dy_ptr,  # in (outer, n, inner) float
    y_ptr,  # in (outer, n, inner) float: result of the forward pass
    outputs,
    n,
    inner,
    group,  # n
    log,
    WHOLE: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    """dx = y · (dy - Σ dy·y), or with `log` dx = dy - exp(y) · Σ dy."""
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    at = reduce.row_start(out, n, inner, LAST)[:, None] + reduce.along(element, inner, LAST)[None, :]
    step = reduce.block_step(inner, BLOCK_RED)
    if WHOLE:
        inside = out_inside[:, None] & (element < n)[None, :]
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        y = tl.load(y_ptr + at, mask=inside, other=0.0).to(tl.float32)
        total = tl.sum(tl.where(log != 0, dy, dy * y), axis=1)[:, None]
        dx = tl.where(log != 0, dy - tl.exp(y) * total, (dy - total) * y)
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
    else:
        walk_dy = dy_ptr
        walk_y = y_ptr
        sums = tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=tl.float32)
        for start in range(0, group, BLOCK_RED):
            inside = out_inside[:, None] & (element < n - start)[None, :]
            dy = tl.load(walk_dy + at, mask=inside, other=0.0).to(tl.float32)
            sums += dy * tl.load(walk_y + at, mask=inside & (log == 0), other=1.0).to(tl.float32)
            walk_dy += step
            walk_y += step
        total = tl.sum(sums, axis=1)[:, None]
        for start in range(0, group, BLOCK_RED):
            inside = out_inside[:, None] & (element < n - start)[None, :]
            dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
            y = tl.load(y_ptr + at, mask=inside, other=0.0).to(tl.float32)
            dx = tl.where(log != 0, dy - tl.exp(y) * total, (dy - total) * y)
            tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
            dx_ptr += step
            dy_ptr += step
            y_ptr += step
