"""Device code of the matrix product: one program per tile of the output, batch in the third grid axis."""

import triton
import triton.language as tl


@triton.jit
def matmul(
    y_ptr,  # out (batch, M, N) contiguous
    a_ptr,  # in (batch, M, K), or (batch, K, M) in memory if A_TRANSPOSED; rows row_a elements apart
    b_ptr,  # in (batch, K, N), or (batch, N, K) in memory if B_TRANSPOSED; rows row_b elements apart
    M,
    N,
    K,
    row_a,
    row_b,
    batch_a,  # 64-bit, like batch_b: elements from one matrix of the batch to the next; 0 repeats one matrix
    batch_b,
    A_TRANSPOSED: tl.constexpr,
    B_TRANSPOSED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    batch = tl.program_id(2).to(tl.int64)
    k = tl.arange(0, BLOCK_K)
    row_a_wide = row_a.to(tl.int64)
    row_b_wide = row_b.to(tl.int64)
    if A_TRANSPOSED:
        a_at = a_ptr + batch * batch_a + m[:, None] + k[None, :] * row_a_wide
        a_step = BLOCK_K * row_a_wide
    else:
        a_at = a_ptr + batch * batch_a + m[:, None] * row_a_wide + k[None, :]
        a_step = tl.full((), BLOCK_K, tl.int64)
    if B_TRANSPOSED:
        b_at = b_ptr + batch * batch_b + k[:, None] + n[None, :] * row_b_wide
        b_step = tl.full((), BLOCK_K, tl.int64)
    else:
        b_at = b_ptr + batch * batch_b + k[:, None] * row_b_wide + n[None, :]
        b_step = BLOCK_K * row_b_wide
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, K, BLOCK_K):
        a = tl.load(a_at, mask=(m[:, None] < M) & (k[None, :] < K - start), other=0.0)
        b = tl.load(b_at, mask=(k[:, None] < K - start) & (n[None, :] < N), other=0.0)
        total = tl.dot(a, b, total, input_precision="ieee")
        a_at += a_step
        b_at += b_step
    y_at = y_ptr + batch * M * N + m[:, None].to(tl.int64) * N + n[None, :]
    inside = (m[:, None] < M) & (n[None, :] < N)
    tl.store(y_at, total.to(y_ptr.dtype.element_ty), mask=inside)
