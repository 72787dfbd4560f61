"""Device code of the losses that compare two contiguous arrays element by element.

TOTAL: program g adds up elements g · group … of them. Else each program writes BLOCK losses.
"""

import triton
import triton.language as tl


@triton.jit
def log1p_exp(x):
    """log(1 + exp(x)) for x <= 0, as exact relative to the result where that is small."""
    e = tl.exp(x)
    one_more = 1.0 + e
    rest = one_more - 1.0
    return tl.where(rest == 0, e, tl.log(one_more) * (e / tl.where(rest == 0, 1.0, rest)))


@triton.jit
def distance_of(input, target, width, factor, kind):
    """d² for kind 0, |d| for 1, and for 2 factor · m · (2·|d| - m) with m = min(|d|, width)."""
    d = input - target
    size = tl.abs(d)
    m = tl.where(size > width, width, size)  # in this direction NaN stays NaN
    loss = tl.where(kind == 1, size, (size - 0.5 * m) * m * factor)
    return tl.where(kind == 0, d * d, loss)


@triton.jit
def entropy_of(x, target, weight, pos_weight, LOGITS: tl.constexpr):
    """The binary cross entropy of logits, or of probabilities: NaN outside [0, 1], logarithms of at least -100."""
    if LOGITS:
        softplus = log1p_exp(-tl.abs(x)) - tl.where(x > 0, 0.0, x)  # of -x
        loss = (1.0 - target) * x + softplus * (1.0 + (pos_weight - 1.0) * target)
    else:
        log_p = tl.log(x)
        log_q = tl.log(1.0 - x)
        log_p = tl.where(log_p < -100.0, -100.0, log_p)
        log_q = tl.where(log_q < -100.0, -100.0, log_q)
        loss = (target - 1.0) * log_q - target * log_p
        loss = tl.where((x >= 0) & (x <= 1), loss, float("nan"))
    return loss * weight


@triton.jit
def distance(
    y_ptr,  # out (groups) float if TOTAL: sums, divided by `divisor`; else (n): the losses
    input_ptr,  # in (n) float
    target_ptr,  # in (n) float
    n,
    group,
    divisor,
    width,
    factor,
    kind,
    TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * group + tl.arange(0, BLOCK)
    if TOTAL:
        total = tl.zeros((BLOCK,), dtype=tl.float32)
        for start in range(0, group, BLOCK):
            inside = at < n - start
            x = tl.load(input_ptr + start + at, mask=inside, other=0.0).to(tl.float32)
            t = tl.load(target_ptr + start + at, mask=inside, other=0.0).to(tl.float32)
            total += distance_of(x, t, width, factor, kind)  # 0 outside
        y = tl.sum(total, axis=0) / divisor
        tl.store(y_ptr + tl.program_id(0), y.to(y_ptr.dtype.element_ty))
    else:
        inside = at < n
        x = tl.load(input_ptr + at, mask=inside, other=0.0).to(tl.float32)
        t = tl.load(target_ptr + at, mask=inside, other=0.0).to(tl.float32)
        loss = distance_of(x, t, width, factor, kind)
        tl.store(y_ptr + at, loss.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def binary_cross_entropy(
    y_ptr,  # out (groups) float if TOTAL: sums, divided by `divisor`; else (n): the losses
    input_ptr,  # in (n) float: logits or probabilities
    target_ptr,  # in (n) float
    weight_ptr,  # in (n) float, read if `weighted`
    pos_ptr,  # in (n) float, read if `has_pos`
    n,
    group,
    divisor,
    weighted,
    has_pos,
    LOGITS: tl.constexpr,
    TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * group + tl.arange(0, BLOCK)
    if TOTAL:
        total = tl.zeros((BLOCK,), dtype=tl.float32)
        for start in range(0, group, BLOCK):
            inside = at < n - start
            x = tl.load(input_ptr + start + at, mask=inside, other=0.0).to(tl.float32)
            t = tl.load(target_ptr + start + at, mask=inside, other=0.0).to(tl.float32)
            w = tl.load(weight_ptr + start + at, mask=inside & (weighted != 0), other=1.0).to(tl.float32)
            q = tl.load(pos_ptr + start + at, mask=inside & (has_pos != 0), other=1.0).to(tl.float32)
            total += tl.where(inside, entropy_of(x, t, w, q, LOGITS), 0.0)
        y = tl.sum(total, axis=0) / divisor
        tl.store(y_ptr + tl.program_id(0), y.to(y_ptr.dtype.element_ty))
    else:
        inside = at < n
        x = tl.load(input_ptr + at, mask=inside, other=0.0).to(tl.float32)
        t = tl.load(target_ptr + at, mask=inside, other=0.0).to(tl.float32)
        w = tl.load(weight_ptr + at, mask=inside & (weighted != 0), other=1.0).to(tl.float32)
        q = tl.load(pos_ptr + at, mask=inside & (has_pos != 0), other=1.0).to(tl.float32)
        loss = entropy_of(x, t, w, q, LOGITS)
        tl.store(y_ptr + at, loss.to(y_ptr.dtype.element_ty), mask=inside)
