"""Device code of the losses against class labels: the middle axis, classes, of a contiguous (outer, n, inner) array.

Labels, one per row, are int64. One that is neither in [0, n) nor `ignore_index` is never used as an address: the
results of its row are NaN.
"""

import triton
import triton.language as tl

import gputape.kernels.triton.reduce as reduce
import gputape.kernels.triton.softmax as softmax


@triton.jit
def _losses(
    x_ptr,
    label_ptr,
    fault_ptr,
    out,  # the rows of a tile
    outputs,
    n,
    inner,
    group,
    ignore_index,
    smoothing,
    number,
    WHOLE: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    """(losses, whether labels are not ignored, peaks, logarithms of sums) of rows; arguments as of `cross_entropy`."""
    element = tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    row = reduce.row_start(out, n, inner, LAST)
    at = row[:, None] + reduce.along(element, inner, LAST)[None, :]
    even = tl.zeros(out.shape, dtype=tl.float32)
    if WHOLE:
        inside = out_inside[:, None] & (element < n)[None, :]
        x = tl.load(x_ptr + at, mask=inside, other=float("-inf")).to(tl.float32)
        peak = tl.max(x, axis=1)
        total = tl.sum(tl.exp(x - softmax.finite(peak)[:, None]), axis=1)
        if smoothing > 0:
            even = tl.sum(tl.where(inside, x - peak[:, None], 0.0), axis=1)
    else:
        walk = x_ptr
        step = reduce.block_step(inner, BLOCK_RED)
        peak = tl.full(out.shape, float("-inf"), dtype=tl.float32)
        total = tl.zeros(out.shape, dtype=tl.float32)
        for start in range(0, group, BLOCK_RED):
            inside = out_inside[:, None] & (element < n - start)[None, :]
            x = tl.load(walk + at, mask=inside, other=float("-inf")).to(tl.float32)
            top = tl.maximum(peak, tl.max(x, axis=1))
            total = softmax.grown(total, peak, top) + tl.sum(tl.exp(x - softmax.finite(top)[:, None]), axis=1)
            peak = top
            walk += step
        if smoothing > 0:
            walk = x_ptr
            for start in range(0, group, BLOCK_RED):
                inside = out_inside[:, None] & (element < n - start)[None, :]
                x = tl.load(walk + at, mask=inside, other=0.0).to(tl.float32)
                even += tl.sum(tl.where(inside, x - peak[:, None], 0.0), axis=1)
                walk += step
    logsum = tl.log(total)
    label = tl.load(label_ptr + out, mask=out_inside, other=0)
    valid = label != ignore_index
    known = (label >= 0) & (label < n)
    wrong = tl.max((out_inside & valid & ~known).to(tl.int32), axis=0)
    tl.atomic_min(fault_ptr, number, mask=wrong > 0)
    labelled = tl.load(x_ptr + row + label * inner, mask=out_inside & valid & known, other=0.0).to(tl.float32)
    loss = logsum - (1.0 - smoothing) * (labelled - peak)
    if smoothing > 0:
        loss -= smoothing * even / n.to(tl.float32)
    loss = tl.where(known, loss, float("nan"))
    return tl.where(valid, loss, 0.0), valid, peak, logsum


@triton.jit
def cross_entropy(
    y_ptr,  # out (outputs) float: the losses if `per_row`, else unused
    loss_ptr,  # out (outputs) float32: the losses unless `per_row`
    valid_ptr,  # out (outputs) float32: 1, or 0 where the label is ignored
    peak_ptr,  # out (outputs) float32: largest element of the row
    logsum_ptr,  # out (outputs) float32: log Σ exp(x - peak)
    x_ptr,  # in (outer, n, inner) float
    label_ptr,  # in (outputs) int64
    fault_ptr,  # in and out (): lowered to `number`, which is negative, by a label out of range
    outputs,
    n,
    inner,
    group,  # n
    ignore_index,
    per_row,
    smoothing,
    number,  # 64-bit
    WHOLE: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    """loss = logsum - (1 - smoothing) · (x[label] - peak) - smoothing · mean(x - peak), without the probabilities."""
    out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    loss, valid, peak, logsum = _losses(
        x_ptr, label_ptr, fault_ptr, out, outputs, n, inner, group, ignore_index, smoothing, number, WHOLE, LAST,
        BLOCK_RED,
    )  # fmt: skip
    out_inside = out < outputs
    tl.store(y_ptr + out, loss.to(y_ptr.dtype.element_ty), mask=out_inside & (per_row != 0))
    tl.store(loss_ptr + out, loss, mask=out_inside & (per_row == 0))
    tl.store(valid_ptr + out, tl.where(valid, 1.0, 0.0), mask=out_inside)
    tl.store(peak_ptr + out, peak, mask=out_inside)
    tl.store(logsum_ptr + out, logsum, mask=out_inside)


@triton.jit
def cross_entropy_few(
    y_ptr,  # out () float: Σ loss, with `mean` / count
    count_ptr,  # out () float32: how many labels are not ignored
    peak_ptr,  # this and what follows as in cross_entropy
    logsum_ptr,
    x_ptr,
    label_ptr,
    fault_ptr,
    outputs,
    n,
    ignore_index,
    mean,
    smoothing,
    number,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    """Losses and their sum by one program: of few rows of up to BLOCK_RED neighbouring elements."""
    losses = tl.zeros((BLOCK_OUT,), dtype=tl.float32)
    counts = tl.zeros((BLOCK_OUT,), dtype=tl.float32)
    for start in range(0, outputs, BLOCK_OUT):
        out = start + tl.arange(0, BLOCK_OUT)
        loss, valid, peak, logsum = _losses(
            x_ptr, label_ptr, fault_ptr, out, outputs, n, 1, n, ignore_index, smoothing, number, True, True, BLOCK_RED
        )
        out_inside = out < outputs
        losses += tl.where(out_inside, loss, 0.0)
        counts += tl.where(out_inside & valid, 1.0, 0.0)
        tl.store(peak_ptr + out, peak, mask=out_inside)
        tl.store(logsum_ptr + out, logsum, mask=out_inside)
    count = tl.sum(counts, axis=0)
    y = tl.sum(losses, axis=0)
    y = tl.where(mean != 0, y / count, y)
    tl.store(count_ptr, count)
    tl.store(y_ptr, y.to(y_ptr.dtype.element_ty))


@triton.jit
def cross_entropy_total(
    y_ptr,  # out () float: Σ loss, with `mean` / count
    count_ptr,  # out () float32: Σ valid
    loss_ptr,  # in (n) float32
    valid_ptr,  # in (n) float32
    n,
    mean,
    BLOCK: tl.constexpr,
):
    at = tl.arange(0, BLOCK)
    losses = tl.zeros((BLOCK,), dtype=tl.float32)
    counts = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, n, BLOCK):
        inside = at < n - start
        losses += tl.load(loss_ptr + start + at, mask=inside, other=0.0)
        counts += tl.load(valid_ptr + start + at, mask=inside, other=0.0)
    count = tl.sum(counts, axis=0)
    y = tl.sum(losses, axis=0)
    y = tl.where(mean != 0, y / count, y)
    tl.store(count_ptr, count)
    tl.store(y_ptr, y.to(y_ptr.dtype.element_ty))


@triton.jit
def cross_entropy_bwd(
    dx_ptr,  # out (outer, n, inner) float
    dy_ptr,  # in (outputs) float if `per_row`, else ()
    x_ptr,  # in (outer, n, inner) float
    label_ptr,  # in (outputs) int64
    peak_ptr,  # in (outputs) float32
    logsum_ptr,  # in (outputs) float32
    count_ptr,  # in () float32: divides dy if `mean`
    outputs,
    n,
    inner,
    blocks,  # of elements along n
    ignore_index,
    per_row,
    mean,
    smoothing,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    """dx = dy · (exp(x - peak - logsum) - smoothing / n - (1 - smoothing at the label))."""
    out = tl.program_id(0) // blocks * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = tl.program_id(0) % blocks * BLOCK_RED + tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    inside = out_inside[:, None] & (element < n)[None, :]
    at = reduce.row_start(out, n, inner, LAST)[:, None] + reduce.along(element, inner, LAST)[None, :]
    peak = tl.load(peak_ptr + out, mask=out_inside, other=0.0)
    logsum = tl.load(logsum_ptr + out, mask=out_inside, other=0.0)
    label = tl.load(label_ptr + out, mask=out_inside, other=0)
    dy = tl.load(dy_ptr + out * per_row, mask=out_inside, other=0.0).to(tl.float32)
    if mean != 0:
        dy = dy / tl.load(count_ptr)
    valid = label != ignore_index
    known = (label >= 0) & (label < n)
    dy = tl.where(known, dy, float("nan"))
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    dx = tl.exp(x - peak[:, None] - logsum[:, None]) - smoothing / n.to(tl.float32)
    dx = tl.where(element[None, :] == label[:, None], dx - (1.0 - smoothing), dx)
    dx = tl.where(valid[:, None], dx * dy[:, None], 0.0)
    tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)


@triton.jit
def pick_class(
    y_ptr,  # out (outputs) float
    x_ptr,  # in (outer, n, inner) float
    label_ptr,  # in (outputs) int64
    outputs,
    n,
    inner,
    ignore_index,
    BLOCK: tl.constexpr,
):
    out = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    out_inside = out < outputs
    label = tl.load(label_ptr + out, mask=out_inside, other=0)
    valid = label != ignore_index
    known = (label >= 0) & (label < n)
    at = reduce.row_start(out, n, inner, False) + label * inner
    x = tl.load(x_ptr + at, mask=out_inside & valid & known, other=0.0).to(tl.float32)
    y = tl.where(valid, tl.where(known, x, float("nan")), 0.0)
    tl.store(y_ptr + out, y.to(y_ptr.dtype.element_ty), mask=out_inside)


@triton.jit
def put_class(
    y_ptr,  # out (outer, n, inner) float
    x_ptr,  # in (outputs) float
    label_ptr,  # in (outputs) int64
    outputs,
    n,
    inner,
    blocks,  # of elements along n
    ignore_index,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    out = tl.program_id(0) // blocks * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = tl.program_id(0) % blocks * BLOCK_RED + tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    inside = out_inside[:, None] & (element < n)[None, :]
    at = reduce.row_start(out, n, inner, LAST)[:, None] + reduce.along(element, inner, LAST)[None, :]
    label = tl.load(label_ptr + out, mask=out_inside, other=0)
    x = tl.load(x_ptr + out, mask=out_inside, other=0.0).to(tl.float32)
    valid = label != ignore_index
    known = (label >= 0) & (label < n)
    x = tl.where(known, x, float("nan"))
    here = (element[None, :] == label[:, None]) | ~known[:, None]
    y = tl.where(here & valid[:, None], x[:, None], 0.0)
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)
