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
