"""Device code of dynamic loss scaling."""

import triton
import triton.language as tl

import gputape.kernels.triton.pointwise_optim as optim


@triton.jit
def unscale(
    y_ptr,  # out (n)
    flag_ptr,  # out (programs) int32, or with LAST () bool
    grad_ptr,  # in (n)
    scale_ptr,  # in () float
    found_ptr,  # in () bool: what was found before
    n,  # 64-bit
    LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """y = grad · (1 / scale), and whether an element of the program's block is not finite."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(grad_ptr + at, mask=at < n, other=0).to(tl.float32)
    factor = tl.div_rn(1.0, tl.load(scale_ptr).to(tl.float32))
    tl.store(y_ptr + at, (g * factor).to(y_ptr.dtype.element_ty), mask=at < n)
    finite = tl.abs(g) < float("inf")
    found = 1 - tl.min(finite.to(tl.int32), axis=0)
    if LAST:
        tl.store(flag_ptr, tl.load(found_ptr) | (found != 0))
    else:
        tl.store(flag_ptr + tl.program_id(0), found)


@triton.jit
def any_found(
    now_found_ptr,  # out () bool
    flag_ptr,  # in (programs) int32
    found_ptr,  # in () bool: what was found before
    programs,
    BLOCK: tl.constexpr,
):
    found = tl.zeros((BLOCK,), tl.int32)
    for first in range(0, programs, BLOCK):
        at = first + tl.arange(0, BLOCK)
        found = tl.maximum(found, tl.load(flag_ptr + at, mask=at < programs, other=0))
    tl.store(now_found_ptr, tl.load(found_ptr) | (tl.max(found, axis=0) != 0))


@triton.jit
def update_scale(
    new_scale_ptr,  # out () float
    new_tracker_ptr,  # out () int32
    scale_ptr,  # in () float
    tracker_ptr,  # in () int32
    found_ptr,  # in () bool
    growth_factor,  # bits of a float64
    backoff_factor,  # the same
    growth_interval,
):
    kind = new_scale_ptr.dtype.element_ty
    scale = tl.load(scale_ptr)
    found = tl.load(found_ptr)
    count = tl.load(tracker_ptr) + 1
    full = count == growth_interval
    grown = (scale.to(tl.float64) * optim.float64(growth_factor)).to(kind)
    grown = tl.where(tl.abs(grown.to(tl.float32)) < float("inf"), grown, scale)
    shrunk = (scale.to(tl.float64) * optim.float64(backoff_factor)).to(kind)
    tl.store(new_scale_ptr, tl.where(found, shrunk, tl.where(full, grown, scale)))
    tl.store(new_tracker_ptr, tl.where(found | full, 0, count))
