"""Device code of attention's gradients to queries, keys and values. The weights are computed again, from the logarithms
of their sums.

With P the weights, M what dropout makes of a 1, D = Σ over keys and δ = D(dP∘P) = Σ dy · y:
dP = M∘(dy · vᵀ), dS = P∘(dP - δ), dq = dS · k, dk = dSᵀ · q, dv = (M∘P)ᵀ · dy. Arrays are as in the forward pass.
"""

import triton
import triton.language as tl

import gputape.kernels.triton._attention as tile


@triton.jit
def attention_bwd_rows(
    delta_ptr,  # out (rows) float32: Σ dy · y
    dy_ptr,  # in (B, H, L, V)
    y_ptr,  # in (B, H, L, V)
    rows,  # B · H · L
    H,
    L,
    V,
    dy_batch,  # 64-bit strides
    dy_head,
    y_batch,
    y_head,
    dy_step,
    y_step,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    inside = (row < rows)[:, None] & (d < V)[None, :]
    batch = row // L // H
    head = row // L % H
    start = batch * dy_batch + head * dy_head + row % L * dy_step
    dy = tl.load(dy_ptr + start[:, None] + d[None, :], mask=inside, other=0.0).to(tl.float32)
    start = batch * y_batch + head * y_head + row % L * y_step
    y = tl.load(y_ptr + start[:, None] + d[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(delta_ptr + row, tl.sum(dy * y, axis=1), mask=row < rows)


@triton.jit
def _dots(a_rows, b_rows, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, CHUNK: tl.constexpr):
    """Σ a · b of each of the first BLOCK rows."""
    if CHUNK == 0:
        total = tl.sum(tile.read(a_rows, BLOCK, BLOCK_D).to(tl.float32) * tile.read(b_rows, BLOCK, BLOCK_D), axis=1)
    else:
        a_ptr, a_left, size, a_step = a_rows
        b_ptr, b_left, size, b_step = b_rows
        parts = tl.zeros((BLOCK, CHUNK), dtype=tl.float32)
        for first in range(0, size, CHUNK):
            x = tile.read((a_ptr + first, a_left, size - first, a_step), BLOCK, CHUNK).to(tl.float32)
            parts += x * tile.read((b_ptr + first, b_left, size - first, b_step), BLOCK, CHUNK)
        total = tl.sum(parts, axis=1)
    return total


@triton.jit
def _query_gradient(
    total,
    q,
    dy,
    lse,
    delta,
    queries,
    cotangents,
    keys,
    values,
    mask,
    dropout,
    factor,
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
    m = tl.arange(0, BLOCK_M)[:, None]
    n = tl.arange(0, BLOCK_N)[None, :]
    keys = tile.below(keys, start)
    values = tile.below(values, start)
    for first in range(start, stop, BLOCK_N):
        k = tile.read(keys, BLOCK_N, BLOCK_D)
        s = tile.product(q, queries, keys, BLOCK_M, BLOCK_N, BLOCK_D, PRECISION, CHUNK) * scale
        dp = tile.product(dy, cotangents, values, BLOCK_M, BLOCK_N, BLOCK_D, PRECISION, CHUNK)
        s = tile.masked(s, mask, m, n, first_m, first, L, S, causal, CHECK, MASK)
        if DROPOUT:
            dp = tl.where(tile.kept(dropout, first_m, first, S, BLOCK_M, BLOCK_N), dp * factor, 0.0)
        ds = tl.exp2(s - lse[:, None]) * (dp - delta[:, None])
        total = tl.dot(ds.to(k.dtype), k, total, input_precision=PRECISION)
        keys = tile.below(keys, BLOCK_N)
        values = tile.below(values, BLOCK_N)
    return total


@triton.jit
def attention_bwd_query(
    dq_ptr,  # out (B, H, L, E)
    y_ptr,  # in (B, H, L, V)
    dy_ptr,  # in (B, H, L, V)
    q_ptr,  # in (B, H, L, E)
    k_ptr,  # in (B, H / group, S, E)
    v_ptr,  # in (B, H / group, S, V)
    mask_ptr,  # in, broadcasts to (B, H, L, S), as in the forward pass
    lse_ptr,  # in (B, H, L) float32
    delta_ptr,  # out (B, H, L) float32: Σ dy · y; in the kernels after this one, in
    state_ptr,  # this and all that follows as in the forward pass
    H,
    group,
    L,
    S,
    E,
    V,
    dq_batch,
    dq_head,
    dq_step,
    y_batch,
    y_head,
    y_step,
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
    MASK: tl.constexpr,
    DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNK: tl.constexpr,
):
    tiles = tl.cdiv(L, BLOCK_M)
    first_m = (tiles - 1 - tl.program_id(0) % tiles) * BLOCK_M
    head = tl.program_id(0) // tiles % H
    batch = (tl.program_id(0) // tiles // H).to(tl.int64)
    row = (batch * H + head) * L
    queries = tile.below((q_ptr + batch * q_batch + head * q_head, L, E, q_step), first_m)
    cotangents = tile.below((dy_ptr + batch * dy_batch + head * dy_head, L, V, dy_step), first_m)
    keys = (k_ptr + batch * k_batch + head // group * k_head, S, E, k_step)
    values = (v_ptr + batch * v_batch + head // group * v_head, S, V, v_step)
    mask = (mask_ptr + batch * mask_batch + head * mask_head, mask_row, mask_col)
    dropout = (state_ptr, offset, threshold, row)

    q = tile.read(queries, BLOCK_M, BLOCK_D)
    dy = tile.read(cotangents, BLOCK_M, BLOCK_D)
    row += first_m
    lse = tile.logsum(lse_ptr + row, L - first_m, BLOCK_M)
    results = tile.below((y_ptr + batch * y_batch + head * y_head, L, V, y_step), first_m)
    delta = _dots(results, cotangents, BLOCK_M, BLOCK_D, CHUNK)
    m = tl.arange(0, BLOCK_M)
    tl.store(delta_ptr + row + m, delta, mask=m < L - first_m)
    total = tl.zeros((BLOCK_M, BLOCK_D), dtype=tl.float32)
    middle, stop = tile.whole_tiles(first_m, S, causal, BLOCK_M, BLOCK_N, MASK)
    if MASK == 0:
        total = _query_gradient(
            total, q, dy, lse, delta, queries, cotangents, keys, values, mask, dropout, factor, 0, middle, first_m, L,
            S, scale, causal, False, MASK, DROPOUT, PRECISION, BLOCK_M, BLOCK_N, BLOCK_D, CHUNK,
        )  # fmt: skip
    total = _query_gradient(
        total, q, dy, lse, delta, queries, cotangents, keys, values, mask, dropout, factor, middle, stop, first_m, L,
        S, scale, causal, True, MASK, DROPOUT, PRECISION, BLOCK_M, BLOCK_N, BLOCK_D, CHUNK,
    )  # fmt: skip
    gradients = tile.below((dq_ptr + batch * dq_batch + head * dq_head, L, E, dq_step), first_m)
    tile.write(gradients, total * (scale * 0.6931471805599453))


@triton.jit
def _key_gradient(
    carry,
    k,
    v,
    keys,
    values,
    queries,
    cotangents,
    lse_ptr,
    delta_ptr,
    mask,
    dropout,
    factor,
    start,
    stop,
    first_n,
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
    """The queries from `start` to `stop` for one tile of keys, keys down and queries across; CHECK on the diagonal of a
    causal call."""
    dk, dv = carry
    m = tl.arange(0, BLOCK_M)[None, :]
    n = tl.arange(0, BLOCK_N)[:, None]
    queries = tile.below(queries, start)
    cotangents = tile.below(cotangents, start)
    for first in range(start, stop, BLOCK_M):
        q = tile.read(queries, BLOCK_M, BLOCK_D)
        dy = tile.read(cotangents, BLOCK_M, BLOCK_D)
        lse, delta = tile.statistics(lse_ptr + first, delta_ptr + first, L - first, BLOCK_M)
        s = tile.product(k, keys, queries, BLOCK_N, BLOCK_M, BLOCK_D, PRECISION, CHUNK) * scale
        dp = tile.product(v, values, cotangents, BLOCK_N, BLOCK_M, BLOCK_D, PRECISION, CHUNK)
        s = tile.masked(s, mask, m, n, first, first_n, L, S, causal, CHECK, MASK)
        p = tl.exp2(s - lse[None, :])
        weight = p
        if DROPOUT:
            kept = tl.trans(tile.kept(dropout, first, first_n, S, BLOCK_M, BLOCK_N))
            weight = tl.where(kept, p, 0.0)
            dp = tl.where(kept, dp * factor, 0.0)
        dv = tl.dot(weight.to(dy.dtype), dy, dv, input_precision=PRECISION)
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
        queries = tile.below(queries, BLOCK_M)
        cotangents = tile.below(cotangents, BLOCK_M)
    return dk, dv


@triton.jit
def attention_bwd_key(
    dk_ptr,  # out (B, H / group, S, E)
    dv_ptr,  # out (B, H / group, S, V)
    dy_ptr,  # this and all that follows as in attention_bwd_query
    q_ptr,
    k_ptr,
    v_ptr,
    mask_ptr,
    lse_ptr,
    delta_ptr,
    state_ptr,
    H,
    group,
    L,
    S,
    E,
    V,
    dk_batch,
    dk_head,
    dk_step,
    dv_batch,
    dv_head,
    dv_step,
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
    MASK: tl.constexpr,
    DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNK: tl.constexpr,
):
    tiles = tl.cdiv(S, BLOCK_N)
    first_n = tl.program_id(0) % tiles * BLOCK_N
    key_heads = H // group
    key_head = tl.program_id(0) // tiles % key_heads
    batch = (tl.program_id(0) // tiles // key_heads).to(tl.int64)
    keys = tile.below((k_ptr + batch * k_batch + key_head * k_head, S, E, k_step), first_n)
    values = tile.below((v_ptr + batch * v_batch + key_head * v_head, S, V, v_step), first_n)
    k = tile.read(keys, BLOCK_N, BLOCK_D)
    v = tile.read(values, BLOCK_N, BLOCK_D)
    dk = tl.zeros((BLOCK_N, BLOCK_D), dtype=tl.float32)
    dv = tl.zeros((BLOCK_N, BLOCK_D), dtype=tl.float32)
    carry = (dk, dv)
    # The tiles of queries that see some of these keys, then (without a mask) those that see all.
    start = tl.where(causal != 0, first_n // BLOCK_M * BLOCK_M, 0)
    middle = L
    if MASK == 0:
        middle = tl.where(causal != 0, tl.minimum(tl.cdiv(first_n + BLOCK_N, BLOCK_M) * BLOCK_M, L), 0)
    for k_in_group in range(0, group):
        head = key_head * group + k_in_group
        row = (batch * H + head) * L
        queries = (q_ptr + batch * q_batch + head * q_head, L, E, q_step)
        cotangents = (dy_ptr + batch * dy_batch + head * dy_head, L, V, dy_step)
        mask = (mask_ptr + batch * mask_batch + head * mask_head, mask_row, mask_col)
        dropout = (state_ptr, offset, threshold, row)
        carry = _key_gradient(
            carry, k, v, keys, values, queries, cotangents, lse_ptr + row, delta_ptr + row, mask, dropout, factor,
            start, middle, first_n, L, S, scale, causal, True, MASK, DROPOUT, PRECISION, BLOCK_M, BLOCK_N, BLOCK_D,
            CHUNK,
        )  # fmt: skip
        if MASK == 0:
            carry = _key_gradient(
                carry, k, v, keys, values, queries, cotangents, lse_ptr + row, delta_ptr + row, mask, dropout, factor,
                tl.maximum(middle, start), L, first_n, L, S, scale, causal, False, MASK, DROPOUT, PRECISION, BLOCK_M,
                BLOCK_N, BLOCK_D, CHUNK,
            )  # fmt: skip
    dk, dv = carry
    if DROPOUT:
        dv *= factor
    keys = tile.below((dk_ptr + batch * dk_batch + key_head * dk_head, S, E, dk_step), first_n)
    tile.write(keys, dk * (scale * 0.6931471805599453))
    values = tile.below((dv_ptr + batch * dv_batch + key_head * dv_head, S, V, dv_step), first_n)
    tile.write(values, dv)
