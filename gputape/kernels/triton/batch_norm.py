"""Device code of batch normalisation, on (N, C, L) arrays taken apart as reductions are.

With L above 1 an output is one of the N · C rows and its elements are neighbours (LAST); with L = 1 it is one of the C
channels and its elements are the N samples. Either way `output % channels` is the channel.
"""

import triton
import triton.language as tl

import gputape.kernels.triton.reduce as reduce


@triton.jit
def batch_norm(
    y_ptr,  # out (outer, n, inner) float
    rstd_ptr,  # out (channels) float32
    x_ptr,  # in (outer, n, inner) float
    weight_ptr,  # in (channels) float, read if has_weight
    bias_ptr,  # in (channels) float, read if has_bias
    mean_ptr,  # in (channels) float32
    rest_ptr,  # in (channels) float32: what the rounded mean lacks
    var_ptr,  # in (channels) float32
    outputs,
    n,
    inner,
    blocks,  # of elements along n
    channels,
    eps,
    has_weight,
    has_bias,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    block = tl.program_id(0) % blocks
    out = tl.program_id(0) // blocks * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = block * BLOCK_RED + tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    inside = out_inside[:, None] & (element < n)[None, :]
    at = reduce.row_start(out, n, inner, LAST)[:, None] + reduce.along(element, inner, LAST)[None, :]
    channel = out % channels
    mean = tl.load(mean_ptr + channel, mask=out_inside, other=0.0)
    rest = tl.load(rest_ptr + channel, mask=out_inside, other=0.0)
    rstd = 1.0 / tl.sqrt(tl.load(var_ptr + channel, mask=out_inside, other=0.0) + eps)
    tl.store(rstd_ptr + channel, rstd, mask=out_inside & (out < channels) & (block == 0))
    weight = tl.load(weight_ptr + channel, mask=out_inside & (has_weight != 0), other=1.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, mask=out_inside & (has_bias != 0), other=0.0).to(tl.float32)
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    y = (x - mean[:, None] - rest[:, None]) * (rstd * weight)[:, None] + bias[:, None]
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def batch_norm_few(
    y_ptr,  # out (n, channels) float
    mean_ptr,  # out (channels) float32, like the two after it
    var_ptr,
    rstd_ptr,
    x_ptr,  # in (n, channels) float
    weight_ptr,  # in (channels) float, read if has_weight
    bias_ptr,  # in (channels) float, read if has_bias
    n,
    channels,
    eps,
    has_weight,
    has_bias,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """Statistics and result of up to BLOCK_ROWS samples, which a program holds whole."""
    row = tl.arange(0, BLOCK_ROWS)
    channel = tl.program_id(0) * BLOCK_COLS + tl.arange(0, BLOCK_COLS)
    known = channel < channels
    inside = (row < n)[:, None] & known[None, :]
    at = row[:, None].to(tl.int64) * channels + channel[None, :]
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / n
    centred = tl.where(inside, x - mean[None, :], 0.0)
    rest = tl.sum(centred, axis=0) / n  # what the rounded mean lacks
    centred = tl.where(inside, centred - rest[None, :], 0.0)
    var = tl.sum(centred * centred, axis=0) / n
    rstd = 1.0 / tl.sqrt(var + eps)
    weight = tl.load(weight_ptr + channel, mask=known & (has_weight != 0), other=1.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, mask=known & (has_bias != 0), other=0.0).to(tl.float32)
    y = centred * (rstd * weight)[None, :] + bias[None, :]
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(mean_ptr + channel, mean + rest, mask=known)
    tl.store(var_ptr + channel, var, mask=known)
    tl.store(rstd_ptr + channel, rstd, mask=known)


@triton.jit
def batch_norm_bwd_sums(
    part_ptr,  # out (3, outputs, groups) float32: Σ dy, Σ c and Σ dy · c with c = x - mean
    dy_ptr,  # in (outer, n, inner) float
    x_ptr,  # in (outer, n, inner) float
    mean_ptr,  # in (channels) float32
    outputs,
    n,
    inner,
    group,
    channels,
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
    mean = tl.load(mean_ptr + out % channels, mask=out_inside, other=0.0)[:, None]
    sum_dy = tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=tl.float32)
    sum_c = tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=tl.float32)
    sum_both = tl.zeros((BLOCK_OUT, BLOCK_RED), dtype=tl.float32)
    for start in range(0, group, BLOCK_RED):
        inside = out_inside[:, None] & (element < rest - start)[None, :]
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        c = tl.where(inside, x - mean, 0.0)
        sum_dy += dy
        sum_c += c
        sum_both += dy * c
        dy_ptr += step
        x_ptr += step
    groups = tl.num_programs(1)
    to = out.to(tl.int64) * groups + tl.program_id(1)
    plane = outputs.to(tl.int64) * groups
    tl.store(part_ptr + to, tl.sum(sum_dy, axis=1), mask=out_inside)
    tl.store(part_ptr + plane + to, tl.sum(sum_c, axis=1), mask=out_inside)
    tl.store(part_ptr + 2 * plane + to, tl.sum(sum_both, axis=1), mask=out_inside)


@triton.jit
def batch_norm_bwd_channels(
    line_ptr,  # out (3, channels) float32: dx = factor · (dy + slope · (x - mean) + offset)
    dweight_ptr,  # out (channels) float, if need_weight
    dbias_ptr,  # out (channels) float, if need_bias
    sum_ptr,  # in (3, channels) float32: of batch_norm_bwd_sums
    weight_ptr,  # in (channels) float, read if has_weight
    rstd_ptr,  # in (channels) float32
    channels,
    count,  # values per channel
    has_weight,
    need_weight,
    need_bias,
    BLOCK: tl.constexpr,
):
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < channels
    sum_dy = tl.load(sum_ptr + channel, mask=inside, other=0.0)
    shift = tl.load(sum_ptr + channels + channel, mask=inside, other=0.0) / count  # what the rounded mean lacks
    both = tl.load(sum_ptr + 2 * channels + channel, mask=inside, other=0.0) - shift * sum_dy
    rstd = tl.load(rstd_ptr + channel, mask=inside, other=0.0)
    weight = tl.load(weight_ptr + channel, mask=inside & (has_weight != 0), other=1.0).to(tl.float32)
    slope = -both * rstd * rstd / count
    tl.store(line_ptr + channel, rstd * weight, mask=inside)
    tl.store(line_ptr + channels + channel, slope, mask=inside)
    tl.store(line_ptr + 2 * channels + channel, -sum_dy / count - shift * slope, mask=inside)
    dweight = (both * rstd).to(dweight_ptr.dtype.element_ty)
    tl.store(dweight_ptr + channel, dweight, mask=inside & (need_weight != 0))
    tl.store(dbias_ptr + channel, sum_dy.to(dbias_ptr.dtype.element_ty), mask=inside & (need_bias != 0))


@triton.jit
def batch_norm_bwd_input(
    dx_ptr,  # out (outer, n, inner) float
    dy_ptr,  # in (outer, n, inner) float
    x_ptr,  # in (outer, n, inner) float
    mean_ptr,  # in (channels) float32
    line_ptr,  # in (3, channels) float32
    outputs,
    n,
    inner,
    blocks,  # of elements along n
    channels,
    LAST: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_RED: tl.constexpr,
):
    out = tl.program_id(0) // blocks * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    element = tl.program_id(0) % blocks * BLOCK_RED + tl.arange(0, BLOCK_RED)
    out_inside = out < outputs
    inside = out_inside[:, None] & (element < n)[None, :]
    at = reduce.row_start(out, n, inner, LAST)[:, None] + reduce.along(element, inner, LAST)[None, :]
    channel = out % channels
    mean = tl.load(mean_ptr + channel, mask=out_inside, other=0.0)[:, None]
    factor = tl.load(line_ptr + channel, mask=out_inside, other=0.0)[:, None]
    slope = tl.load(line_ptr + channels + channel, mask=out_inside, other=0.0)[:, None]
    offset = tl.load(line_ptr + 2 * channels + channel, mask=out_inside, other=0.0)[:, None]
    dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    dx = factor * (dy + slope * (x - mean) + offset)
    tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
