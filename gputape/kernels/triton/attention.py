"""Device code of attention: the scores of a tile of queries and a tile of keys exist in registers only.

A query of a causal call attends the keys up to its own position. Arrays are (batch, heads, length, size) with stride 1
along the last axis.
"""

import triton
import triton.language as tl

import gputape.kernels.triton._attention as tile


@triton.jit
def _attend(
    carry,
    q,
    queries,
    keys,
    values,
    mask,
    dropout,
    start,
    stop,
    first_m,
    L,
    S,
    scale,
    causal,
    CHECK: tl.constexpr,
    MASK: tl.constexpr,
    DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """The keys from `start` to `stop` for one tile of queries; CHECK where some of them may not be seen."""
    total, norm, top = carry
    m = tl.arange(0, BLOCK_M)[:, None]
    n = tl.arange(0, BLOCK_N)[None, :]
    keys = tile.below(keys, start)
    values = tile.below(values, start)
    for first in range(start, stop, BLOCK_N):
        s = tile.product(q, queries, keys, BLOCK_M, BLOCK_N, BLOCK_D, PRECISION, CHUNK) * scale
        s = tile.masked(s, mask, m, n, first_m, first, L, S, causal, CHECK, MASK)
        new_top = tl.maximum(top, tl.max(s, axis=1))
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)  # a row of -inf gives zeros instead of NaN
        p = tl.exp2(s - shift[:, None])
        fade = tl.exp2(top - shift)
        norm = norm * fade + tl.sum(p, axis=1)
        if DROPOUT:
            p = tl.where(tile.kept(dropout, first_m, first, S, BLOCK_M, BLOCK_N), p, 0.0)
        v = tile.read(values, BLOCK_N, BLOCK_D)
        total = tl.dot(p.to(v.dtype), v, total * fade[:, None], input_precision=PRECISION)
        top = new_top
        keys = tile.below(keys, BLOCK_N)
        values = tile.below(values, BLOCK_N)
    return total, norm, top


@triton.jit
def attention(
    y_ptr,  # out (B, H, L, V)
    lse_ptr,  # out (B, H, L) float32: ln Σ exp(scores); the lowest number where nothing may be attended
    q_ptr,  # in (B, H, L, E)
    k_ptr,  # in (B, H / group, S, E)
    v_ptr,  # in (B, H / group, S, V)
    mask_ptr,  # in, broadcasts to (B, H, L, S): int8 if MASK is 1, float if 2, unused if 0
    state_ptr,  # in (2) int64: seed, counter; unused unless DROPOUT
    H,
    group,  # query heads that share a key head
    L,
    S,
    E,
    V,
    y_batch,  # 64-bit strides from one sample, and one head, to the next
    y_head,
    q_batch,
    q_head,
    k_batch,
    k_head,
    v_batch,
    v_head,
    mask_batch,
    mask_head,
    y_step,  # strides from one row to the next
    q_step,
    k_step,
    v_step,
    mask_row,
    mask_col,
    scale,  # times log2(e)
    causal,  # 0 or 1
    offset,  # 64-bit: words of the generator before those of the weights
    threshold,  # of the words whose weights are kept
    factor,  # of the weights that are kept
    MASK: tl.constexpr,
    DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNK: tl.constexpr,  # columns that a product reads at a time, 0 for all
):
    tiles = tl.cdiv(L, BLOCK_M)
    first_m = (tiles - 1 - tl.program_id(0) % tiles) * BLOCK_M  # the longest causal rows start first
    head = tl.program_id(0) // tiles % H
    batch = (tl.program_id(0) // tiles // H).to(tl.int64)
    row = (batch * H + head) * L
    queries = tile.below((q_ptr + batch * q_batch + head * q_head, L, E, q_step), first_m)
    keys = (k_ptr + batch * k_batch + head // group * k_head, S, E, k_step)
    values = (v_ptr + batch * v_batch + head // group * v_head, S, V, v_step)
    mask = (mask_ptr + batch * mask_batch + head * mask_head, mask_row, mask_col)
    dropout = (state_ptr, offset, threshold, row)

    q = tile.read(queries, BLOCK_M, BLOCK_D)
    total = tl.zeros((BLOCK_M, BLOCK_D), dtype=tl.float32)
    norm = tl.zeros((BLOCK_M,), dtype=tl.float32)
    top = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    carry = (total, norm, top)
    middle, stop = tile.whole_tiles(first_m, S, causal, BLOCK_M, BLOCK_N, MASK)
    if MASK == 0:
        carry = _attend(
            carry, q, queries, keys, values, mask, dropout, 0, middle, first_m, L, S, scale, causal,
            False, MASK, DROPOUT, PRECISION, BLOCK_M, BLOCK_N, BLOCK_D, CHUNK,
        )  # fmt: skip
    total, norm, top = _attend(
        carry, q, queries, keys, values, mask, dropout, middle, stop, first_m, L, S, scale, causal,
        True, MASK, DROPOUT, PRECISION, BLOCK_M, BLOCK_N, BLOCK_D, CHUNK,
    )  # fmt: skip

    m = tl.arange(0, BLOCK_M)
    empty = norm == 0
    norm = tl.where(empty, 1.0, norm)
    lse = tl.where(empty, -3.4028234663852886e38, (top + tl.log2(norm)) * 0.6931471805599453)
    tl.store(lse_ptr + row + first_m + m, lse, mask=m < L - first_m)
    if DROPOUT:
        total *= factor
    results = tile.below((y_ptr + batch * y_batch + head * y_head, L, V, y_step), first_m)
    tile.write(results, total / norm[:, None])
