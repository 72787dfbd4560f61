"""Device code of the convolutions: matrix products whose right side is gathered from windows of the input.

An axis is described by integers: output position j of that axis and tap v of its kernel meet at input position
start + j·step + v·tap, which may lie outside of the axis; the result is stored at j·out, the weight is read at v·w.
With these, a strided convolution, and each of the interleaved parts of a transposed one, is the same loop. There are
always three axes; missing ones have size 1. Offsets inside a tile are 32-bit; 64-bit scalars lead to it.
"""

import triton
import triton.language as tl

import gputape.kernels.triton.matmul as matmul


@triton.jit
def conv(
    y_ptr,  # out (images, groups, outs, out_plane)
    x_ptr,  # in (images, groups, channels, size0, size1, size2)
    w_ptr,  # in: group, output, channel and tap lie w_group, w_out, w_channel and w0, w1, w2 elements apart
    bias_ptr,  # in (groups, outs), unused unless has_bias
    saved_ptr,  # out, as y: what the backward pass needs of the activation, unused unless SAVED
    has_bias,
    images,
    groups,
    outs,
    channels,
    out_plane,  # elements of y from one channel to the next
    out_from,  # offsets of the first output in its plane and of the first tap in the kernel
    w_from,
    w_group,
    w_out,
    w_channel,
    count0,  # output positions along each axis
    count1,
    count2,
    taps0,  # taps along each axis
    taps1,
    taps2,
    size0,  # sizes of the input
    size1,
    size2,
    start0,
    start1,
    start2,
    step0,
    step1,
    step2,
    tap0,
    tap1,
    tap2,
    out0,
    out1,
    out2,
    w0,
    w1,
    w2,
    c0,  # the plain numbers of the activation
    c1,
    ACTIVATION: tl.constexpr,  # device functions of (sum, c0, c1), or None
    SAVED: tl.constexpr,
    TAPWISE: tl.constexpr,  # channels are a multiple of BLOCK_K: all of a block's depth shares one tap
    BLOCK_M: tl.constexpr,  # outputs (channels of y)
    BLOCK_N: tl.constexpr,  # positions, over all images
    BLOCK_K: tl.constexpr,  # products (channel, tap)
    INPUT_PRECISION: tl.constexpr,
):
    positions = count0 * count1 * count2
    taps = taps0 * taps1 * taps2
    plane = size0 * size1 * size2
    edge0 = size0.to(tl.uint32, bitcast=True)  # as unsigned numbers, positions before the first are beyond the last
    edge1 = size1.to(tl.uint32, bitcast=True)
    edge2 = size2.to(tl.uint32, bitcast=True)
    tiles_m = tl.cdiv(outs, BLOCK_M)
    tiles_n = tl.cdiv(images * positions, BLOCK_N)
    tile = tl.program_id(0)
    group = tile // (tiles_m * tiles_n)
    o = tile % tiles_m * BLOCK_M + tl.arange(0, BLOCK_M)
    first = tile // tiles_m % tiles_n * BLOCK_N
    p = first + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    o_inside = o < outs
    p_inside = p < images * positions

    first_image = first // positions
    image = p // positions - first_image
    at = p % positions
    j0 = at // (count1 * count2)
    j1 = at // count2 % count1
    j2 = at % count2
    i0 = start0 + j0 * step0
    i1 = start1 + j1 * step1
    i2 = start2 + j2 * step2
    x_ptr += (first_image.to(tl.int64) * groups + group) * channels * plane
    x_at = image * (groups * channels * plane) + (i0 * size1 + i1) * size2 + i2
    w_ptr += group.to(tl.int64) * w_group + w_from
    w_at = o * w_out

    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, channels * taps, BLOCK_K):
        if TAPWISE:
            c = start % channels + k
            tap = k * 0 + start // channels
        else:
            c = (start + k) // taps
            tap = (start + k) % taps
        v0 = tap // (taps1 * taps2)
        v1 = tap // taps2 % taps1
        v2 = tap % taps2
        k_inside = start + k < channels * taps
        r0 = v0 * tap0
        r1 = v1 * tap1
        r2 = v2 * tap2
        d0 = (i0[None, :] + r0[:, None]).to(tl.uint32, bitcast=True)
        d1 = (i1[None, :] + r1[:, None]).to(tl.uint32, bitcast=True)
        d2 = (i2[None, :] + r2[:, None]).to(tl.uint32, bitcast=True)
        hit = (d0 < edge0) & (d1 < edge1) & (d2 < edge2)
        x_shift = c * plane + (r0 * size1 + r1) * size2 + r2
        w_shift = c * w_channel + v0 * w0 + v1 * w1 + v2 * w2
        inside = hit & k_inside[:, None] & p_inside[None, :]
        x = tl.load(x_ptr + (x_at[None, :] + x_shift[:, None]), mask=inside, other=0.0)
        inside = o_inside[:, None] & k_inside[None, :]
        w = tl.load(w_ptr + (w_at[:, None] + w_shift[None, :]), mask=inside, other=0.0)
        total = tl.dot(w, x, total, input_precision=INPUT_PRECISION)

    bias = tl.load(bias_ptr + group * outs + o, mask=o_inside & (has_bias != 0), other=0.0)
    bias = bias.to(tl.float32)[:, None]
    plane_of = (first_image.to(tl.int64) * groups + group) * outs * out_plane + out_from
    y_at = image * (groups * outs * out_plane) + j0 * out0 + j1 * out1 + j2 * out2
    at = y_at[None, :] + (o * out_plane)[:, None]
    inside = o_inside[:, None] & p_inside[None, :]
    y_ptr += plane_of
    saved_ptr += plane_of
    matmul._finish(total, bias, y_ptr, y_ptr, saved_ptr, at, inside, c0, c1, ACTIVATION, SAVED, None)


@triton.jit
def conv_depthwise(
    y_ptr,  # as in conv
    x_ptr,
    w_ptr,
    bias_ptr,
    saved_ptr,
    has_bias,
    images,
    groups,
    outs,
    channels,
    out_plane,
    out_from,
    w_from,
    w_group,
    w_out,
    w_channel,
    count0,
    count1,
    count2,
    taps0,
    taps1,
    taps2,
    size0,
    size1,
    size2,
    start0,
    start1,
    start2,
    step0,
    step1,
    step2,
    tap0,
    tap1,
    tap2,
    out0,
    out1,
    out2,
    w0,
    w1,
    w2,
    c0,
    c1,
    ACTIVATION: tl.constexpr,
    SAVED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Groups of one channel or one output: a program has BLOCK outputs and visits their products one by one."""
    positions = count0 * count1 * count2
    taps = taps0 * taps1 * taps2
    plane = size0 * size1 * size2
    edge0 = size0.to(tl.uint32, bitcast=True)  # as unsigned numbers, positions before the first are beyond the last
    edge1 = size1.to(tl.uint32, bitcast=True)
    edge2 = size2.to(tl.uint32, bitcast=True)
    element = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row = element // positions
    at = (element % positions).to(tl.int32)
    image = row // (groups * outs)
    output = (row % (groups * outs)).to(tl.int32)
    inside = image < images
    j0 = at // (count1 * count2)
    j1 = at // count2 % count1
    j2 = at % count2
    i0 = start0 + j0 * step0
    i1 = start1 + j1 * step1
    i2 = start2 + j2 * step2
    group = output // outs
    x_at = (image * groups + group) * channels * plane + (i0 * size1 + i1) * size2 + i2
    w_at = group.to(tl.int64) * w_group + output % outs * w_out + w_from

    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for k in range(0, channels * taps):
        c = k // taps
        v0 = k % taps // (taps1 * taps2)
        v1 = k // taps2 % taps1
        v2 = k % taps2
        d0 = (i0 + v0 * tap0).to(tl.uint32, bitcast=True)
        d1 = (i1 + v1 * tap1).to(tl.uint32, bitcast=True)
        d2 = (i2 + v2 * tap2).to(tl.uint32, bitcast=True)
        hit = (d0 < edge0) & (d1 < edge1) & (d2 < edge2) & inside
        x_shift = c * plane + (v0 * tap0 * size1 + v1 * tap1) * size2 + v2 * tap2
        x = tl.load(x_ptr + (x_at + x_shift), mask=hit, other=0.0)
        w = tl.load(w_ptr + (w_at + (c * w_channel + v0 * w0 + v1 * w1 + v2 * w2)), mask=inside, other=0.0)
        total += x.to(tl.float32) * w.to(tl.float32)

    bias = tl.load(bias_ptr + output, mask=inside & (has_bias != 0), other=0.0)
    y_at = row * out_plane + out_from + j0 * out0 + j1 * out1 + j2 * out2
    bias = bias.to(tl.float32)
    matmul._finish(total, bias, y_ptr, y_ptr, saved_ptr, y_at, inside, c0, c1, ACTIVATION, SAVED, None)


@triton.jit
def conv_weight(
    part_ptr,  # out (splits, groups, outs, channels, taps) float32: the sums over `depth` positions each
    part_bias_ptr,  # out (splits, groups, outs) float32
    x_ptr,  # in (images, groups, channels, size0, size1, size2)
    dy_ptr,  # in (images, groups, outs, positions)
    images,
    groups,
    outs,
    channels,
    depth,  # a multiple of BLOCK_K
    count0,
    count1,
    count2,
    taps0,
    taps1,
    taps2,
    size0,
    size1,
    size2,
    start0,
    start1,
    start2,
    step0,
    step1,
    step2,
    tap0,
    tap1,
    tap2,
    BLOCK_M: tl.constexpr,  # outputs (channels of dy)
    BLOCK_N: tl.constexpr,  # weights of an output (channel, tap)
    BLOCK_K: tl.constexpr,  # positions, over all images
    INPUT_PRECISION: tl.constexpr,
):
    positions = count0 * count1 * count2
    taps = taps0 * taps1 * taps2
    plane = size0 * size1 * size2
    edge0 = size0.to(tl.uint32, bitcast=True)  # as unsigned numbers, positions before the first are beyond the last
    edge1 = size1.to(tl.uint32, bitcast=True)
    edge2 = size2.to(tl.uint32, bitcast=True)
    tiles_m = tl.cdiv(outs, BLOCK_M)
    tiles_n = tl.maximum(tl.cdiv(channels * taps, BLOCK_N), 1)  # without channels the bias is still summed
    tile = tl.program_id(0)
    split = tl.program_id(1)
    group = tile // (tiles_m * tiles_n)
    tile_n = tile // tiles_m % tiles_n
    o = tile % tiles_m * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    o_inside = o < outs
    n_inside = n < channels * taps
    r0 = n % taps // (taps1 * taps2) * tap0
    r1 = n // taps2 % taps1 * tap1
    r2 = n % taps2 * tap2
    x_shift = n // taps * plane + (r0 * size1 + r1) * size2 + r2

    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    total_bias = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32)
    for start in range(0, depth, BLOCK_K):
        first = split * depth + start
        first_image = first // positions
        p = first + k
        p_inside = p < images * positions
        image = p // positions - first_image
        at = p % positions
        i0 = start0 + at // (count1 * count2) * step0
        i1 = start1 + at // count2 % count1 * step1
        i2 = start2 + at % count2 * step2
        plane_of = first_image.to(tl.int64) * groups + group
        x_at = image * (groups * channels * plane) + (i0 * size1 + i1) * size2 + i2
        dy_at = image * (groups * outs * positions) + at
        inside = o_inside[:, None] & p_inside[None, :]
        dy_block = dy_ptr + plane_of * outs * positions
        dy = tl.load(dy_block + ((o * positions)[:, None] + dy_at[None, :]), mask=inside, other=0.0)
        d0 = (i0[None, :] + r0[:, None]).to(tl.uint32, bitcast=True)
        d1 = (i1[None, :] + r1[:, None]).to(tl.uint32, bitcast=True)
        d2 = (i2[None, :] + r2[:, None]).to(tl.uint32, bitcast=True)
        hit = (d0 < edge0) & (d1 < edge1) & (d2 < edge2)
        inside = hit & n_inside[:, None] & p_inside[None, :]
        x_block = x_ptr + plane_of * channels * plane
        x = tl.load(x_block + (x_shift[:, None] + x_at[None, :]), mask=inside, other=0.0)
        total = tl.dot(dy, tl.trans(x), total, input_precision=INPUT_PRECISION)
        total_bias += dy.to(tl.float32)

    out = (split.to(tl.int64) * groups + group) * outs + o
    inside = o_inside[:, None] & n_inside[None, :]
    tl.store(part_ptr + (out[:, None] * (channels * taps) + n[None, :]), total, mask=inside)
    tl.store(part_bias_ptr + out, tl.sum(total_bias, axis=1), mask=o_inside & (tile_n == 0))


@triton.jit
def conv_weight_depthwise(
    part_ptr,  # as in conv_weight
    part_bias_ptr,
    x_ptr,
    dy_ptr,
    images,
    groups,
    outs,
    channels,
    depth,
    count0,
    count1,
    count2,
    taps0,
    taps1,
    taps2,
    size0,
    size1,
    size2,
    start0,
    start1,
    start2,
    step0,
    step1,
    step2,
    tap0,
    tap1,
    tap2,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Groups of one channel or one output: a program has BLOCK_N weights of one output."""
    positions = count0 * count1 * count2
    taps = taps0 * taps1 * taps2
    plane = size0 * size1 * size2
    edge0 = size0.to(tl.uint32, bitcast=True)  # as unsigned numbers, positions before the first are beyond the last
    edge1 = size1.to(tl.uint32, bitcast=True)
    edge2 = size2.to(tl.uint32, bitcast=True)
    output = tl.program_id(0) % (groups * outs)
    tile_n = tl.program_id(0) // (groups * outs)
    split = tl.program_id(1)
    n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    n_inside = n < channels * taps
    r0 = n % taps // (taps1 * taps2) * tap0
    r1 = n // taps2 % taps1 * tap1
    r2 = n % taps2 * tap2
    x_shift = n // taps * plane + (r0 * size1 + r1) * size2 + r2

    total = tl.zeros((BLOCK_N, BLOCK_K), dtype=tl.float32)
    total_bias = tl.zeros((BLOCK_K,), dtype=tl.float32)
    for start in range(0, depth, BLOCK_K):
        p = split * depth + start + k
        p_inside = p < images * positions
        image = (p // positions).to(tl.int64)
        at = p % positions
        i0 = start0 + at // (count1 * count2) * step0
        i1 = start1 + at // count2 % count1 * step1
        i2 = start2 + at % count2 * step2
        dy_at = (image * groups * outs + output) * positions + at
        dy = tl.load(dy_ptr + dy_at, mask=p_inside, other=0.0).to(tl.float32)
        d0 = (i0[None, :] + r0[:, None]).to(tl.uint32, bitcast=True)
        d1 = (i1[None, :] + r1[:, None]).to(tl.uint32, bitcast=True)
        d2 = (i2[None, :] + r2[:, None]).to(tl.uint32, bitcast=True)
        hit = (d0 < edge0) & (d1 < edge1) & (d2 < edge2)
        inside = hit & n_inside[:, None] & p_inside[None, :]
        x_at = (image * groups + output // outs) * channels * plane + (i0 * size1 + i1) * size2 + i2
        x = tl.load(x_ptr + (x_shift[:, None] + x_at[None, :]), mask=inside, other=0.0)
        total += x.to(tl.float32) * dy[None, :]
        total_bias += dy

    out = split.to(tl.int64) * (groups * outs) + output
    tl.store(part_ptr + (out * (channels * taps) + n), tl.sum(total, axis=1), mask=n_inside)
    tl.store(part_bias_ptr + out, tl.sum(total_bias, axis=0), mask=tile_n == 0)
