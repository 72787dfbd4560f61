"""Device code of the matrix product: one program per tile of the output, matrix after matrix.

Where few tiles have long sums, several programs share one (`splits`), and a second kernel adds up what they found, in
their order. Whichever kernel holds the whole sum finishes it: bias, activation, residual, and one rounding.
"""

import triton
import triton.language as tl


@triton.jit
def _finish(
    total,  # float32
    bias,  # float32, to broadcast
    y_ptr,
    residual_ptr,
    saved_ptr,
    at,
    inside,
    c0,
    c1,
    ACTIVATION: tl.constexpr,
    SAVED: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    """Store activation(total + bias) + residual, and what the backward pass needs of the activation."""
    total += bias
    if SAVED is not None:
        tl.store(saved_ptr + at, SAVED(total, c0, c1).to(saved_ptr.dtype.element_ty), mask=inside)
    if ACTIVATION is not None:
        total = ACTIVATION(total, c0, c1)
    if RESIDUAL:
        total += tl.load(residual_ptr + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + at, total.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def mm_nd(
    y_ptr,  # out (splits, each), of which the first are (batch, M, N); float32 if there are several splits
    sums_ptr,  # out (M), as far from one split to the next; unused unless ROW_SUMS
    a_ptr,  # in (batch, M, K), or (batch, K, M) in memory if A_TRANSPOSED; rows row_a elements apart
    b_ptr,  # in (batch, K, N), or (batch, N, K) in memory if B_TRANSPOSED; rows row_b elements apart
    bias_ptr,  # in (N), unused unless has_bias
    residual_ptr,  # in (batch, M, N), unused unless RESIDUAL
    saved_ptr,  # out (batch, M, N), unused unless SAVED
    M,
    N,
    K,
    depth,  # products that a split sums up, a multiple of BLOCK_K
    row_a,
    row_b,
    batch_a,  # 64-bit, like batch_b: elements from one matrix of the batch to the next; 0 repeats one matrix
    batch_b,
    each,  # 64-bit: elements from one split to the next
    has_bias,
    c0,  # the plain numbers of the activation
    c1,
    A_TRANSPOSED: tl.constexpr,
    B_TRANSPOSED: tl.constexpr,
    ACTIVATION: tl.constexpr,  # device functions of (sum, c0, c1), or None
    SAVED: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ROW_SUMS: tl.constexpr,  # of a, over K; of a single matrix
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
    split = tl.program_id(1).to(tl.int64)
    first_k = split * depth
    m = tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    a_ptr += batch * batch_a
    b_ptr += batch * batch_b
    if A_TRANSPOSED:
        a_ptr += first_k * row_a + first_m
        a_at = m[:, None] + k[None, :] * row_a
        a_step = BLOCK_K * row_a.to(tl.int64)
    else:
        a_ptr += first_m * row_a.to(tl.int64) + first_k
        a_at = m[:, None] * row_a + k[None, :]
        a_step = tl.full((), BLOCK_K, tl.int64)
    if B_TRANSPOSED:
        b_ptr += first_n * row_b.to(tl.int64) + first_k
        b_at = k[:, None] + n[None, :] * row_b
        b_step = tl.full((), BLOCK_K, tl.int64)
    else:
        b_ptr += first_k * row_b + first_n
        b_at = k[:, None] * row_b + n[None, :]
        b_step = BLOCK_K * row_b.to(tl.int64)
    m_inside = m < M - first_m
    n_inside = n < N - first_n
    left = K - first_k.to(tl.int32)  # of the products: those of this split and of the splits after it
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    if ROW_SUMS:
        sums = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32)
    for start in range(0, tl.minimum(left, depth), BLOCK_K):
        k_inside = k < left - start
        a = tl.load(a_ptr + a_at, mask=m_inside[:, None] & k_inside[None, :], other=0.0)
        b = tl.load(b_ptr + b_at, mask=k_inside[:, None] & n_inside[None, :], other=0.0)
        total = tl.dot(a, b, total, input_precision=INPUT_PRECISION)
        if ROW_SUMS:
            sums += a.to(tl.float32)
        a_ptr += a_step
        b_ptr += b_step
    bias = tl.load(bias_ptr + first_n + n, mask=n_inside & (has_bias != 0), other=0.0).to(tl.float32)[None, :]
    first = split * each + (batch * M + first_m) * N + first_n
    at = m[:, None] * N + n[None, :]
    inside = m_inside[:, None] & n_inside[None, :]
    y_ptr += first
    residual_ptr += first
    saved_ptr += first
    _finish(total, bias, y_ptr, residual_ptr, saved_ptr, at, inside, c0, c1, ACTIVATION, SAVED, RESIDUAL)
    if ROW_SUMS:
        sums_ptr += split * each + first_m
        found = tl.sum(sums, axis=1).to(sums_ptr.dtype.element_ty)
        tl.store(sums_ptr + m, found, mask=m_inside & (first_n == 0))


@triton.jit
def mm_sum(
    y_ptr,  # out (products)
    sums_ptr,  # out (size - products), unused unless ROW_SUMS
    part_ptr,  # in (splits, size) float32
    bias_ptr,  # in (N), unused unless has_bias
    residual_ptr,  # in (products), unused unless RESIDUAL
    saved_ptr,  # out (products), unused unless SAVED
    size,  # 64-bit
    products,  # 64-bit: the elements of all matrices of the batch
    N,  # their columns
    splits,
    has_bias,
    c0,
    c1,
    ACTIVATION: tl.constexpr,
    SAVED: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ROW_SUMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for _ in range(0, splits):
        total += tl.load(part_ptr + at, mask=inside, other=0.0)
        part_ptr += size
    if ROW_SUMS:
        row = at - products
        tl.store(sums_ptr + row, total.to(sums_ptr.dtype.element_ty), mask=inside & (row >= 0))
        inside = inside & (row < 0)
    bias = tl.load(bias_ptr + at % N, mask=inside & (has_bias != 0), other=0.0).to(tl.float32)
    _finish(total, bias, y_ptr, residual_ptr, saved_ptr, at, inside, c0, c1, ACTIVATION, SAVED, RESIDUAL)
