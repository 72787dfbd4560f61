"""Device code of the gradient of a mask that is added to attention's scores: dS of `attention_bwd.py`, summed over what
the mask repeats along."""

import triton
import triton.language as tl

import gputape.kernels.triton._attention as tile


@triton.jit
def attention_bwd_mask(
    dmask_ptr,  # out (mask_b, mask_h, mask_l, mask_s) contiguous: gradient of the mask that is added
    dy_ptr,  # this and all that follows as in attention_bwd_query, of attention_bwd.py
    q_ptr,
    k_ptr,
    v_ptr,
    mask_ptr,
    lse_ptr,
    delta_ptr,
    state_ptr,
    B,
    mask_b,  # sizes of the mask's axes, each that of the scores or 1
    mask_h,
    mask_l,
    mask_s,
    H,
    group,
    L,
    S,
    E,
    V,
    dy_batch,
    dy_head,
    q_batch,
    q_head,
    k_batch,
    k_head,
    v_batch,
    v_head,
    mask_batch,
    mask_head,
    dy_step,
    q_step,
    k_step,
    v_step,
    mask_row,
    mask_col,
    scale,
    causal,
    offset,
    threshold,
    factor,
    DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """One program per tile of the mask sums the gradients of the scores that the tile was added to, one after the
    other; an axis of size 1 is a tile that meets all the tiles of scores along it."""
    tiles_m = tl.cdiv(mask_l, BLOCK_M)
    tiles_n = tl.cdiv(mask_s, BLOCK_N)
    number = tl.program_id(0)
    tile_n = number % tiles_n
    tile_m = number // tiles_n % tiles_m
    own_head = number // tiles_n // tiles_m % mask_h
    own_batch = number // tiles_n // tiles_m // mask_h
    m = tl.arange(0, BLOCK_M)[:, None]
    n = tl.arange(0, BLOCK_N)[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    heads = H // mask_h
    rounds_m = tl.where(mask_l == L, 1, tl.cdiv(L, BLOCK_M))
    rounds_n = tl.where(mask_s == S, 1, tl.cdiv(S, BLOCK_N))
    rounds = B // mask_b * heads * rounds_m * rounds_n
    for k_round in range(0, rounds):
        first_n = (tile_n + k_round % rounds_n) * BLOCK_N
        first_m = (tile_m + k_round // rounds_n % rounds_m) * BLOCK_M
        head = own_head + k_round // rounds_n // rounds_m % heads
        batch = (own_batch + k_round // rounds_n // rounds_m // heads).to(tl.int64)
        row = (batch * H + head) * L
        queries = tile.below((q_ptr + batch * q_batch + head * q_head, L, E, q_step), first_m)
        cotangents = tile.below((dy_ptr + batch * dy_batch + head * dy_head, L, V, dy_step), first_m)
        keys = tile.below((k_ptr + batch * k_batch + head // group * k_head, S, E, k_step), first_n)
        values = tile.below((v_ptr + batch * v_batch + head // group * v_head, S, V, v_step), first_n)
        mask = (mask_ptr + batch * mask_batch + head * mask_head, mask_row, mask_col)
        lse, delta = tile.statistics(lse_ptr + row + first_m, delta_ptr + row + first_m, L - first_m, BLOCK_M)
        s = tile.product(total, queries, keys, BLOCK_M, BLOCK_N, CHUNK, PRECISION, CHUNK) * scale
        dp = tile.product(total, cotangents, values, BLOCK_M, BLOCK_N, CHUNK, PRECISION, CHUNK)
        s = tile.masked(s, mask, m, n, first_m, first_n, L, S, causal, True, 2)
        if DROPOUT:
            dropout = (state_ptr, offset, threshold, row)
            dp = tl.where(tile.kept(dropout, first_m, first_n, S, BLOCK_M, BLOCK_N), dp * factor, 0.0)
        s = tl.where(m < L - first_m, s, float("-inf"))
        total += tl.exp2(s - lse[:, None]) * (dp - delta[:, None])
    if mask_l != L:
        total = tl.sum(total, axis=0, keep_dims=True) + tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    if mask_s != S:
        total = tl.sum(total, axis=1, keep_dims=True) + tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    to_m = tile_m * BLOCK_M + m
    to_n = tile_n * BLOCK_N + n
    row = (own_batch.to(tl.int64) * mask_h + own_head) * mask_l + to_m
    inside = (to_m < mask_l) & (to_n < mask_s)
    tl.store(dmask_ptr + row * mask_s + to_n, total.to(dmask_ptr.dtype.element_ty), mask=inside)
