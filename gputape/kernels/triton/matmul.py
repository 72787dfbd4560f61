"""Device code of the matrix product: one program per tile of the output, matrix after matrix."""

import triton
import triton.language as tl


@triton.jit
def mm_nd(
    y_ptr,  # out (batch, M, N) contiguous
    a_ptr,  # in (batch, M, K), or (batch, K, M) in memory if A_TRANSPOSED; rows row_a elements apart
    b_ptr,  # in (batch, K, N), or (batch, N, K) in memory if B_TRANSPOSED; rows row_b elements apart
    bias_ptr,  # in (N), unused unless has_bias
    M,
    N,
    K,
    row_a,
    row_b,
    batch_a,  # 64-bit, like batch_b: elements from one matrix of the batch to the next; 0 repeats one matrix
    batch_b,
    has_bias,
    A_TRANSPOSED: tl.constexpr,
    B_TRANSPOSED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    # 64-bit scalars lead to the first row of the tile; offsets inside a tile stay 32-bit, which saves registers.
    tiles_n = tl.cdiv(N, BLOCK_N)
    tiles = tl.cdiv(M, BLOCK_M) * tiles_n
    tile = tl.program_id(0) % tiles
    first_m = tile // tiles_n * BLOCK_M
    first_n = tile % tiles_n * BLOCK_N
    batch = (tl.program_id(0) // tiles).to(tl.int64)
    m = tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    a_ptr += batch * batch_a
    b_ptr += batch * batch_b
    if A_TRANSPOSED:
        a_ptr += first_m
        a_at = m[:, None] + k[None, :] * row_a
        a_step = BLOCK_K * row_a.to(tl.int64)
    else:
        a_ptr += first_m * row_a.to(tl.int64)
        a_at = m[:, None] * row_a + k[None, :]
        a_step = tl.full((), BLOCK_K, tl.int64)
    if B_TRANSPOSED:
        b_ptr += first_n * row_b.to(tl.int64)
        b_at = k[:, None] + n[None, :] * row_b
        b_step = tl.full((), BLOCK_K, tl.int64)
    else:
        b_ptr += first_n
        b_at = k[:, None] * row_b + n[None, :]
        b_step = BLOCK_K * row_b.to(tl.int64)
    m_inside = m < M - first_m
    n_inside = n < N - first_n
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, K, BLOCK_K):
        k_inside = k < K - start
        a = tl.load(a_ptr + a_at, mask=m_inside[:, None] & k_inside[None, :], other=0.0)
        b = tl.load(b_ptr + b_at, mask=k_inside[:, None] & n_inside[None, :], other=0.0)
        total = tl.dot(a, b, total, input_precision=INPUT_PRECISION)
        a_ptr += a_step
        b_ptr += b_step
    bias = tl.load(bias_ptr + first_n + n, mask=n_inside & (has_bias != 0), other=0.0)
    total += bias.to(tl.float32)[None, :]
    y_ptr += (batch * M + first_m) * N + first_n
    y_at = m[:, None] * N + n[None, :]
    tl.store(y_ptr + y_at, total.to(y_ptr.dtype.element_ty), mask=m_inside[:, None] & n_inside[None, :])
