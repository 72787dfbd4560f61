"""Device code of the optimizers' schedules: one program that turns a step count and a learning rate into scalars.

Options come as the bit patterns of their float64 values, since a launch passes floating-point numbers as float32.
"""

import triton
import triton.language as tl


@triton.jit
def float64(bits):
    return bits.to(tl.float64, bitcast=True)


@triton.jit
def counted(step_ptr, skip_ptr, SKIPS: tl.constexpr):
    """The step count after an update, which does not move where the update is skipped."""
    step = tl.load(step_ptr)
    after = step + 1
    if SKIPS:
        after = tl.where(tl.load(skip_ptr), step, after)
    return after


@triton.jit
def sgd_schedule(
    next_step_ptr,  # out () int64
    rate_ptr,  # out () float
    fresh_ptr,  # out () float
    step_ptr,  # in () int64
    lr_ptr,  # in () float64
    skip_ptr,  # in () bool
    dampening,
    SKIPS: tl.constexpr,
):
    step = tl.load(step_ptr)
    fresh = 1.0 - tl.where(step > 0, float64(dampening), 0.0)
    tl.store(next_step_ptr, counted(step_ptr, skip_ptr, SKIPS))
    tl.store(rate_ptr, tl.load(lr_ptr).to(rate_ptr.dtype.element_ty))
    tl.store(fresh_ptr, fresh.to(fresh_ptr.dtype.element_ty))


@triton.jit
def adam_schedule(
    next_step_ptr,  # out () int64
    step_size_ptr,  # out () float
    small_ptr,  # out () float
    keep_ptr,  # out () float
    step_ptr,  # in () int64
    lr_ptr,  # in () float64
    skip_ptr,  # in () bool
    beta1,
    beta2,
    eps,
    weight_decay,
    SKIPS: tl.constexpr,
):
    """With n = step + 1 and r = √(1 - beta2ⁿ): n, lr · r / (1 - beta1ⁿ), eps · r, 1 - lr · weight_decay."""
    n = tl.load(step_ptr) + 1
    lr = tl.load(lr_ptr)
    steps = n.to(tl.float64)
    first = 1.0 - tl.exp(tl.log(float64(beta1)) * steps)
    root = tl.sqrt(1.0 - tl.exp(tl.log(float64(beta2)) * steps))
    kind = step_size_ptr.dtype.element_ty
    tl.store(next_step_ptr, counted(step_ptr, skip_ptr, SKIPS))
    tl.store(step_size_ptr, (root / first * lr).to(kind))
    tl.store(small_ptr, (root * float64(eps)).to(kind))
    tl.store(keep_ptr, (1.0 - lr * float64(weight_decay)).to(kind))


@triton.jit
def _pack_one(y_ptr, x_ptr, n, block, BLOCK: tl.constexpr, PACK: tl.constexpr):
    at = block * BLOCK + tl.arange(0, BLOCK)  # beyond the array, or negative, in the blocks of the others
    x = tl.load(x_ptr + at, mask=(at >= 0) & (at < n), other=0)
    tl.store(y_ptr + at, x, mask=(at >= 0) & (at < tl.cdiv(n, PACK) * PACK))


@triton.jit
def pack(
    y_ptr,  # out: the vector
    x0_ptr,  # in (n0), and so on
    x1_ptr,
    x2_ptr,
    x3_ptr,
    x4_ptr,
    x5_ptr,
    x6_ptr,
    x7_ptr,
    start,  # 64-bit: where the first of them begins in y, a multiple of PACK
    n0,
    n1,
    n2,
    n3,
    n4,
    n5,
    n6,
    n7,
    BLOCK: tl.constexpr,
    PACK: tl.constexpr,
):
    """Each program copies a block of one of the arrays; masks leave the others to other programs."""
    block = tl.program_id(0)
    y_ptr += start // PACK * PACK
    _pack_one(y_ptr, x0_ptr, n0, block, BLOCK, PACK)
    y_ptr += tl.cdiv(n0, PACK) * PACK
    block -= tl.cdiv(n0, BLOCK)
    _pack_one(y_ptr, x1_ptr, n1, block, BLOCK, PACK)
    y_ptr += tl.cdiv(n1, PACK) * PACK
    block -= tl.cdiv(n1, BLOCK)
    _pack_one(y_ptr, x2_ptr, n2, block, BLOCK, PACK)
    y_ptr += tl.cdiv(n2, PACK) * PACK
    block -= tl.cdiv(n2, BLOCK)
    _pack_one(y_ptr, x3_ptr, n3, block, BLOCK, PACK)
    y_ptr += tl.cdiv(n3, PACK) * PACK
    block -= tl.cdiv(n3, BLOCK)
    _pack_one(y_ptr, x4_ptr, n4, block, BLOCK, PACK)
    y_ptr += tl.cdiv(n4, PACK) * PACK
    block -= tl.cdiv(n4, BLOCK)
    _pack_one(y_ptr, x5_ptr, n5, block, BLOCK, PACK)
    y_ptr += tl.cdiv(n5, PACK) * PACK
    block -= tl.cdiv(n5, BLOCK)
    _pack_one(y_ptr, x6_ptr, n6, block, BLOCK, PACK)
    y_ptr += tl.cdiv(n6, PACK) * PACK
    block -= tl.cdiv(n6, BLOCK)
    _pack_one(y_ptr, x7_ptr, n7, block, BLOCK, PACK)
