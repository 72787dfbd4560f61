"""Device code of attention: the scores of a tile of queries and a tile of keys exist in registers only.

Scores are kept in units of log 2, so that the exponential is one instruction. A query of a causal call attends the keys
up to its own position. Arrays are (batch, heads, length, size) with stride 1 along the last axis.
"""

import triton
import triton.language as tl


@triton.jit
def _tile_of(ptr, rows, size, row, step, BLOCK_D: tl.constexpr):
    """Rows `row` (in a block) below `rows`, `step` elements apart, all `size` columns; zeros outside."""
    d = tl.arange(0, BLOCK_D)
    inside = (row < rows)[:, None] & (d < size)[None, :]
    return tl.load(ptr + row[:, None] * step + d[None, :], mask=inside, other=0.0)


@triton.jit
def _masked(s, mask_ptr, row, col, rows, cols, mask_row, mask_col, MASK: tl.constexpr):
    """The scores under the mask: 1 is a boolean one (False blocks), 2 is added. `rows`, `cols` are what is left."""
    if MASK != 0:
        at = row[:, None] * mask_row + col[None, :] * mask_col
        inside = (row < rows)[:, None] & (col < cols)[None, :]
        mask = tl.load(mask_ptr + at, mask=inside, other=0)
        if MASK == 1:
            s = tl.where(mask != 0, s, float("-inf"))
        else:
            s += mask.to(tl.float32) * 1.4426950408889634
    return s


@triton.jit
def _product(
    a_ptr,
    a_rows,
    a_step,
    b_ptr,
    b_rows,
    b_step,
    size,
    BLOCK_A: tl.constexpr,
    BLOCK_B: tl.constexpr,
    PRECISION: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """a · bᵀ, both read CHUNK columns at a time: long rows of float32 do not fit in registers."""
    row = tl.arange(0, BLOCK_A)
    col = tl.arange(0, BLOCK_B)
    total = tl.zeros((BLOCK_A, BLOCK_B), dtype=tl.float32)
    for first in range(0, size, CHUNK):
        a = _tile_of(a_ptr + first, a_rows, size - first, row, a_step, CHUNK)
        b = _tile_of(b_ptr + first, b_rows, size - first, col, b_step, CHUNK)
        total = tl.dot(a, tl.trans(b), total, input_precision=PRECISION)
    return total


@triton.jit
def _attend(
    total,
    norm,
    top,
    q,
    q_ptr,
    k_ptr,
    v_ptr,
    mask_ptr,
    m,
    start,
    stop,
    L,
    S,
    E,
    V,
    q_step,
    k_step,
    v_step,
    mask_row,
    mask_col,
    scale,
    causal,
    first_m,
    CHECK: tl.constexpr,
    MASK: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """The keys from `start` to `stop` for one tile of queries; CHECK where some of them may not be seen."""
    n = tl.arange(0, BLOCK_N)
    for first in range(start, stop, BLOCK_N):
        if CHUNK == 0:
            k = _tile_of(k_ptr, S - first, E, n, k_step, BLOCK_D)
            s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        else:
            s = _product(q_ptr, L - first_m, q_step, k_ptr, S - first, k_step, E, BLOCK_M, BLOCK_N, PRECISION, CHUNK)
            s *= scale
        s = _masked(s, mask_ptr, m, n, L - first_m, S - first, mask_row, mask_col, MASK)
        if CHECK:
            seen = (n < S - first)[None, :] & ((m[:, None] + (first_m - first) >= n[None, :]) | (causal == 0))
            s = tl.where(seen, s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, axis=1))
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)  # a row of -inf gives zeros instead of NaN
        p = tl.exp2(s - shift[:, None])
        fade = tl.exp2(top - shift)
        norm = norm * fade + tl.sum(p, axis=1)
        v = _tile_of(v_ptr, S - first, V, n, v_step, BLOCK_D)
        total = tl.dot(p.to(v.dtype), v, total * fade[:, None], input_precision=PRECISION)
        top = new_top
        k_ptr += BLOCK_N * k_step.to(tl.int64)
        v_ptr += BLOCK_N * v_step.to(tl.int64)
        mask_ptr += BLOCK_N * mask_col.to(tl.int64)
    return total, norm, top


@triton.jit
def attention(
    y_ptr,  # out (B, H, L, V) contiguous
    lse_ptr,  # out (B, H, L) float32: ln Σ exp(scores); the lowest number where nothing may be attended
    q_ptr,  # in (B, H, L, E)
    k_ptr,  # in (B, H / group, S, E)
    v_ptr,  # in (B, H / group, S, V)
    mask_ptr,  # in, broadcasts to (B, H, L, S): int8 if MASK is 1, float if 2, unused if 0
    H,
    group,  # query heads that share a key head
    L,
    S,
    E,
    V,
    q_batch,  # 64-bit strides from one sample, and one head, to the next
    q_head,
    k_batch,
    k_head,
    v_batch,
    v_head,
    mask_batch,
    mask_head,
    q_step,  # strides from one row to the next
    k_step,
    v_step,
    mask_row,
    mask_col,
    scale,  # times log2(e)
    causal,  # 0 or 1
    MASK: tl.constexpr,
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
    m = tl.arange(0, BLOCK_M)
    q_ptr += batch * q_batch + head * q_head + first_m * q_step.to(tl.int64)
    k_ptr += batch * k_batch + head // group * k_head
    v_ptr += batch * v_batch + head // group * v_head
    mask_ptr += batch * mask_batch + head * mask_head + first_m * mask_row.to(tl.int64)

    q = _tile_of(q_ptr, L - first_m, E, m, q_step, BLOCK_D)
    total = tl.zeros((BLOCK_M, BLOCK_D), dtype=tl.float32)
    norm = tl.zeros((BLOCK_M,), dtype=tl.float32)
    top = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    # Without a mask, whole tiles of keys that all these queries see; then the rest.
    stop = tl.where(causal != 0, tl.minimum(S, first_m + BLOCK_M), S)
    middle = stop * 0
    if MASK == 0:
        middle = tl.where(causal != 0, tl.minimum(S, first_m), S) // BLOCK_N * BLOCK_N
        total, norm, top = _attend(
            total, norm, top, q, q_ptr, k_ptr, v_ptr, mask_ptr, m, 0, middle, L, S, E, V, q_step, k_step, v_step,
            mask_row, mask_col, scale, causal, first_m, False, MASK, PRECISION, BLOCK_M, BLOCK_N, BLOCK_D, CHUNK,
        )  # fmt: skip
        k_ptr += middle * k_step.to(tl.int64)
        v_ptr += middle * v_step.to(tl.int64)
    total, norm, top = _attend(
        total, norm, top, q, q_ptr, k_ptr, v_ptr, mask_ptr, m, middle, stop, L, S, E, V, q_step, k_step, v_step,
        mask_row, mask_col, scale, causal, first_m, True, MASK, PRECISION, BLOCK_M, BLOCK_N, BLOCK_D, CHUNK,
    )  # fmt: skip

    row = (batch * H + head) * L + first_m
    empty = norm == 0
    norm = tl.where(empty, 1.0, norm)
    lse = tl.where(empty, -3.4028234663852886e38, (top + tl.log2(norm)) * 0.6931471805599453)
    d = tl.arange(0, BLOCK_D)
    tl.store(lse_ptr + row + m, lse, mask=m < L - first_m)
    y = (total / norm[:, None]).to(y_ptr.dtype.element_ty)
    inside = (m < L - first_m)[:, None] & (d < V)[None, :]
    tl.store(y_ptr + row * V + m[:, None] * V + d[None, :], y, mask=inside)


@triton.jit
def attention_bwd_rows(
    delta_ptr,  # out (rows) float32: Σ dy · y
    dy_ptr,  # in (B, H, L, V)
    y_ptr,  # in (B, H, L, V) contiguous
    rows,  # B · H · L
    H,
    L,
    V,
    dy_batch,  # 64-bit strides
    dy_head,
    dy_step,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    inside = (row < rows)[:, None] & (d < V)[None, :]
    start = row // L // H * dy_batch + row // L % H * dy_head + row % L * dy_step
    dy = tl.load(dy_ptr + start[:, None] + d[None, :], mask=inside, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + row[:, None] * V + d[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(delta_ptr + row, tl.sum(dy * y, axis=1), mask=row < rows)


@triton.jit
def _in_log2(lse):
    """lse in units of log 2; 0 for a row that attends nothing, whose scores are all -inf."""
    return tl.where(lse < -3.4e38, 0.0, lse * 1.4426950408889634)


@triton.jit
def _query_gradient(
    total,
    q,
    dy,
    lse,
    delta,
    q_ptr,
    dy_ptr,
    k_ptr,
    v_ptr,
    mask_ptr,
    m,
    start,
    stop,
    L,
    S,
    E,
    V,
    q_step,
    dy_step,
    k_step,
    v_step,
    mask_row,
    mask_col,
    scale,
    causal,
    first_m,
    CHECK: tl.constexpr,
    MASK: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNK: tl.constexpr,
):
    n = tl.arange(0, BLOCK_N)
    for first in range(start, stop, BLOCK_N):
        k = _tile_of(k_ptr, S - first, E, n, k_step, BLOCK_D)
        if CHUNK == 0:
            v = _tile_of(v_ptr, S - first, V, n, v_step, BLOCK_D)
            s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
            dp = tl.dot(dy, tl.trans(v), input_precision=PRECISION)
        else:
            left = L - first_m
            s = _product(q_ptr, left, q_step, k_ptr, S - first, k_step, E, BLOCK_M, BLOCK_N, PRECISION, CHUNK) * scale
            dp = _product(dy_ptr, left, dy_step, v_ptr, S - first, v_step, V, BLOCK_M, BLOCK_N, PRECISION, CHUNK)
        s = _masked(s, mask_ptr, m, n, L - first_m, S - first, mask_row, mask_col, MASK)
        if CHECK:
            seen = (n < S - first)[None, :] & ((m[:, None] + (first_m - first) >= n[None, :]) | (causal == 0))
            s = tl.where(seen, s, float("-inf"))
        p = tl.exp2(s - lse[:, None])
        ds = p * (dp - delta[:, None])
        total = tl.dot(ds.to(k.dtype), k, total, input_precision=PRECISION)
        k_ptr += BLOCK_N * k_step.to(tl.int64)
        v_ptr += BLOCK_N * v_step.to(tl.int64)
        mask_ptr += BLOCK_N * mask_col.to(tl.int64)
    return total


@triton.jit
def attention_bwd_query(
    dq_ptr,  # out (B, H, L, E) contiguous
    dy_ptr,  # in (B, H, L, V)
    q_ptr,  # in (B, H, L, E)
    k_ptr,  # in (B, H / group, S, E)
    v_ptr,  # in (B, H / group, S, V)
    mask_ptr,  # in, broadcasts to (B, H, L, S), as in the forward pass
    lse_ptr,  # in (B, H, L) float32
    delta_ptr,  # in (B, H, L) float32: Σ dy · y
    H,
    group,
    L,
    S,
    E,
    V,
    dy_batch,  # 64-bit strides
    dy_head,
    q_batch,
    q_head,
    k_batch,
    k_head,
    v_batch,
    v_head,
    mask_batch,
    mask_head,
    dy_step,  # strides from one row to the next
    q_step,
    k_step,
    v_step,
    mask_row,
    mask_col,
    scale,
    causal,
    MASK: tl.constexpr,
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
    m = tl.arange(0, BLOCK_M)
    q_ptr += batch * q_batch + head * q_head + first_m * q_step.to(tl.int64)
    dy_ptr += batch * dy_batch + head * dy_head + first_m * dy_step.to(tl.int64)
    k_ptr += batch * k_batch + head // group * k_head
    v_ptr += batch * v_batch + head // group * v_head
    mask_ptr += batch * mask_batch + head * mask_head + first_m * mask_row.to(tl.int64)
    row = (batch * H + head) * L + first_m

    q = _tile_of(q_ptr, L - first_m, E, m, q_step, BLOCK_D)
    dy = _tile_of(dy_ptr, L - first_m, V, m, dy_step, BLOCK_D)
    lse = _in_log2(tl.load(lse_ptr + row + m, mask=m < L - first_m, other=0.0))
    delta = tl.load(delta_ptr + row + m, mask=m < L - first_m, other=0.0)
    total = tl.zeros((BLOCK_M, BLOCK_D), dtype=tl.float32)
    stop = tl.where(causal != 0, tl.minimum(S, first_m + BLOCK_M), S)
    middle = stop * 0
    if MASK == 0:
        middle = tl.where(causal != 0, tl.minimum(S, first_m), S) // BLOCK_N * BLOCK_N
        total = _query_gradient(
            total, q, dy, lse, delta, q_ptr, dy_ptr, k_ptr, v_ptr, mask_ptr, m, 0, middle, L, S, E, V, q_step, dy_step,
            k_step, v_step, mask_row, mask_col, scale, causal, first_m, False, MASK, PRECISION, BLOCK_M, BLOCK_N,
            BLOCK_D, CHUNK,
        )  # fmt: skip
        k_ptr += middle * k_step.to(tl.int64)
        v_ptr += middle * v_step.to(tl.int64)
    total = _query_gradient(
        total, q, dy, lse, delta, q_ptr, dy_ptr, k_ptr, v_ptr, mask_ptr, m, middle, stop, L, S, E, V, q_step, dy_step,
        k_step, v_step, mask_row, mask_col, scale, causal, first_m, True, MASK, PRECISION, BLOCK_M, BLOCK_N,
        BLOCK_D, CHUNK,
    )  # fmt: skip
    d = tl.arange(0, BLOCK_D)
    dq = (total * (scale * 0.6931471805599453)).to(dq_ptr.dtype.element_ty)
    inside = (m < L - first_m)[:, None] & (d < E)[None, :]
    tl.store(dq_ptr + row * E + m[:, None] * E + d[None, :], dq, mask=inside)


@triton.jit
def _key_gradient(
    dk,
    dv,
    k,
    v,
    k_ptr,
    v_ptr,
    q_ptr,
    dy_ptr,
    lse_ptr,
    delta_ptr,
    mask_ptr,
    n,
    start,
    stop,
    L,
    S,
    E,
    V,
    k_step,
    v_step,
    q_step,
    dy_step,
    mask_row,
    mask_col,
    scale,
    causal,
    first_n,
    CHECK: tl.constexpr,
    MASK: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """The queries from `start` to `stop` for one tile of keys; CHECK on the diagonal of a causal call."""
    m = tl.arange(0, BLOCK_M)
    for first in range(start, stop, BLOCK_M):
        q = _tile_of(q_ptr, L - first, E, m, q_step, BLOCK_D)
        dy = _tile_of(dy_ptr, L - first, V, m, dy_step, BLOCK_D)
        lse = _in_log2(tl.load(lse_ptr + first + m, mask=m < L - first, other=0.0))
        delta = tl.load(delta_ptr + first + m, mask=m < L - first, other=0.0)
        if CHUNK == 0:  # keys down, queries across
            s = tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale
            dp = tl.dot(v, tl.trans(dy), input_precision=PRECISION)
        else:
            left = S - first_n
            s = _product(k_ptr, left, k_step, q_ptr, L - first, q_step, E, BLOCK_N, BLOCK_M, PRECISION, CHUNK) * scale
            dp = _product(v_ptr, left, v_step, dy_ptr, L - first, dy_step, V, BLOCK_N, BLOCK_M, PRECISION, CHUNK)
        s = _masked(s, mask_ptr, n, m, S - first_n, L - first, mask_col, mask_row, MASK)
        if CHECK:
            s = tl.where((m[None, :] + (first - first_n) >= n[:, None]) | (causal == 0), s, float("-inf"))
        p = tl.exp2(s - lse[None, :])
        dv = tl.dot(p.to(dy.dtype), dy, dv, input_precision=PRECISION)
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
        q_ptr += BLOCK_M * q_step.to(tl.int64)
        dy_ptr += BLOCK_M * dy_step.to(tl.int64)
        mask_ptr += BLOCK_M * mask_row.to(tl.int64)
    return dk, dv


@triton.jit
def attention_bwd_key(
    dk_ptr,  # out (B, H / group, S, E) contiguous
    dv_ptr,  # out (B, H / group, S, V) contiguous
    dy_ptr,  # in (B, H, L, V)
    q_ptr,  # in (B, H, L, E)
    k_ptr,  # in (B, H / group, S, E)
    v_ptr,  # in (B, H / group, S, V)
    mask_ptr,  # in, broadcasts to (B, H, L, S), as in the forward pass
    lse_ptr,  # in (B, H, L) float32
    delta_ptr,  # in (B, H, L) float32: Σ dy · y
    H,
    group,
    L,
    S,
    E,
    V,
    dy_batch,  # 64-bit strides
    dy_head,
    q_batch,
    q_head,
    k_batch,
    k_head,
    v_batch,
    v_head,
    mask_batch,
    mask_head,
    dy_step,  # strides from one row to the next
    q_step,
    k_step,
    v_step,
    mask_row,
    mask_col,
    scale,
    causal,
    MASK: tl.constexpr,
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
    n = tl.arange(0, BLOCK_N)
    k_ptr += batch * k_batch + key_head * k_head + first_n * k_step.to(tl.int64)
    v_ptr += batch * v_batch + key_head * v_head + first_n * v_step.to(tl.int64)
    k = _tile_of(k_ptr, S - first_n, E, n, k_step, BLOCK_D)
    v = _tile_of(v_ptr, S - first_n, V, n, v_step, BLOCK_D)
    dk = tl.zeros((BLOCK_N, BLOCK_D), dtype=tl.float32)
    dv = tl.zeros((BLOCK_N, BLOCK_D), dtype=tl.float32)
    # The tiles of queries that see some of these keys, then (without a mask) those that see all.
    start = tl.where(causal != 0, first_n // BLOCK_M * BLOCK_M, 0)
    middle = L
    if MASK == 0:
        middle = tl.where(causal != 0, tl.minimum(tl.cdiv(first_n + BLOCK_N, BLOCK_M) * BLOCK_M, L), 0)
    for k_in_group in range(0, group):
        head = key_head * group + k_in_group
        row = (batch * H + head) * L
        q_at = q_ptr + batch * q_batch + head * q_head + start * q_step.to(tl.int64)
        dy_at = dy_ptr + batch * dy_batch + head * dy_head + start * dy_step.to(tl.int64)
        mask_at = mask_ptr + batch * mask_batch + head * mask_head
        mask_at += first_n * mask_col.to(tl.int64) + start * mask_row.to(tl.int64)
        dk, dv = _key_gradient(
            dk, dv, k, v, k_ptr, v_ptr, q_at, dy_at, lse_ptr + row, delta_ptr + row, mask_at, n, start, middle, L, S, E,
            V, k_step, v_step, q_step, dy_step, mask_row, mask_col, scale, causal, first_n, True, MASK, PRECISION,
            BLOCK_M, BLOCK_N, BLOCK_D, CHUNK,
        )  # fmt: skip
        if MASK == 0:
            past = tl.maximum(middle, start)
            q_at += (past - start) * q_step.to(tl.int64)
            dy_at += (past - start) * dy_step.to(tl.int64)
            dk, dv = _key_gradient(
                dk, dv, k, v, k_ptr, v_ptr, q_at, dy_at, lse_ptr + row, delta_ptr + row, mask_at, n, past, L, L, S, E,
                V, k_step, v_step, q_step, dy_step, mask_row, mask_col, scale, causal, first_n, False, MASK, PRECISION,
                BLOCK_M, BLOCK_N, BLOCK_D, CHUNK,
            )  # fmt: skip
    row = (batch * key_heads + key_head) * S + first_n
    d = tl.arange(0, BLOCK_D)
    dk = (dk * (scale * 0.6931471805599453)).to(dk_ptr.dtype.element_ty)
    n_inside = (n < S - first_n)[:, None]
    tl.store(dk_ptr + row * E + n[:, None] * E + d[None, :], dk, mask=n_inside & (d < E)[None, :])
    tl.store(
        dv_ptr + row * V + n[:, None] * V + d[None, :],
        dv.to(dv_ptr.dtype.element_ty),
        mask=n_inside & (d < V)[None, :],
    )


@triton.jit
def attention_bwd_mask(
    dmask_ptr,  # out (mask_b, mask_h, mask_l, mask_s) contiguous: gradient of the mask that is added
    dy_ptr,  # in (B, H, L, V)
    q_ptr,  # in (B, H, L, E)
    k_ptr,  # in (B, H / group, S, E)
    v_ptr,  # in (B, H / group, S, V)
    mask_ptr,  # in (mask_b, mask_h, mask_l, mask_s) with its strides, as in the forward pass
    lse_ptr,  # in (B, H, L) float32
    delta_ptr,  # in (B, H, L) float32: Σ dy · y
    B,
    H,
    group,
    L,
    S,
    E,
    V,
    mask_b,  # sizes of the mask's axes, each that of the scores or 1
    mask_h,
    mask_l,
    mask_s,
    dy_batch,  # 64-bit strides
    dy_head,
    q_batch,
    q_head,
    k_batch,
    k_head,
    v_batch,
    v_head,
    mask_batch,
    mask_head,
    dy_step,  # strides from one row to the next
    q_step,
    k_step,
    v_step,
    mask_row,
    mask_col,
    scale,
    causal,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """One program per tile of the mask sums the gradients of the scores that the tile was added to, one after the
    other; an axis of size 1 is a tile that meets all the tiles of scores along it."""
    tiles_m = tl.cdiv(mask_l, BLOCK_M)
    tiles_n = tl.cdiv(mask_s, BLOCK_N)
    tile = tl.program_id(0)
    tile_n = tile % tiles_n
    tile_m = tile // tiles_n % tiles_m
    own_head = tile // tiles_n // tiles_m % mask_h
    own_batch = tile // tiles_n // tiles_m // mask_h
    m = tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_N)
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
        q_at = q_ptr + batch * q_batch + head * q_head + first_m * q_step.to(tl.int64)
        dy_at = dy_ptr + batch * dy_batch + head * dy_head + first_m * dy_step.to(tl.int64)
        k_at = k_ptr + batch * k_batch + head // group * k_head + first_n * k_step.to(tl.int64)
        v_at = v_ptr + batch * v_batch + head // group * v_head + first_n * v_step.to(tl.int64)
        mask_at = mask_ptr + batch * mask_batch + head * mask_head
        mask_at += first_m * mask_row.to(tl.int64) + first_n * mask_col.to(tl.int64)
        row = (batch * H + head) * L + first_m
        lse = _in_log2(tl.load(lse_ptr + row + m, mask=m < L - first_m, other=0.0))
        delta = tl.load(delta_ptr + row + m, mask=m < L - first_m, other=0.0)
        s = _product(q_at, L - first_m, q_step, k_at, S - first_n, k_step, E, BLOCK_M, BLOCK_N, PRECISION, CHUNK)
        s *= scale
        s = _masked(s, mask_at, m, n, L - first_m, S - first_n, mask_row, mask_col, 2)
        seen = (n < S - first_n)[None, :] & ((m[:, None] + (first_m - first_n) >= n[None, :]) | (causal == 0))
        seen = seen & (m < L - first_m)[:, None]
        p = tl.exp2(tl.where(seen, s, float("-inf")) - lse[:, None])
        dp = _product(dy_at, L - first_m, dy_step, v_at, S - first_n, v_step, V, BLOCK_M, BLOCK_N, PRECISION, CHUNK)
        total += p * (dp - delta[:, None])
    if mask_l != L:
        total = tl.sum(total, axis=0, keep_dims=True) + tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    if mask_s != S:
        total = tl.sum(total, axis=1, keep_dims=True) + tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    to_m = tile_m * BLOCK_M + m
    to_n = tile_n * BLOCK_N + n
    row = (own_batch.to(tl.int64) * mask_h + own_head) * mask_l + to_m
    inside = (to_m < mask_l)[:, None] & (to_n < mask_s)[None, :]
    tl.store(dmask_ptr + row[:, None] * mask_s + to_n[None, :], total.to(dmask_ptr.dtype.element_ty), mask=inside)
