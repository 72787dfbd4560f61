"""Device code of the affine map's weight gradient; the rest of it are matrix products."""

import triton
import triton.language as tl


@triton.jit
def linear_weight(
    y_ptr,  # out (splits, M, N): the sums over `depth` rows each
    dy_ptr,  # in (rows, M)
    x_ptr,  # in (rows, N)
    rows,
    M,
    N,
    depth,  # a multiple of BLOCK_K
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """y = dyᵀ · x, one program per tile and split."""
    tiles_n = tl.cdiv(N, BLOCK_N)
    first_m = tl.program_id(0) // tiles_n * BLOCK_M
    first_n = tl.program_id(0) % tiles_n * BLOCK_N
    split = tl.program_id(1).to(tl.int64)
    m = tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    m_inside = m < M - first_m
    n_inside = n < N - first_n
    first = split * depth
    left = rows - first  # rows of this split and of those after it
    dy_ptr += first * M + first_m
    x_ptr += first * N + first_n
    dy_at = k[:, None] * M + m[None, :]
    x_at = k[:, None] * N + n[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, depth, BLOCK_K):
        k_inside = k < left - start
        dy = tl.load(dy_ptr + dy_at, mask=k_inside[:, None] & m_inside[None, :], other=0.0)
        x = tl.load(x_ptr + x_at, mask=k_inside[:, None] & n_inside[None, :], other=0.0)
        total = tl.dot(tl.trans(dy), x, total, input_precision=INPUT_PRECISION)
        dy_ptr += BLOCK_K * M.to(tl.int64)
        x_ptr += BLOCK_K * N.to(tl.int64)
    y_ptr += (split * M + first_m) * N + first_n
    y_at = m[:, None] * N + n[None, :]
    tl.store(y_ptr + y_at, total.to(y_ptr.dtype.element_ty), mask=m_inside[:, None] & n_inside[None, :])
