"""Device code of the matrix product: one program per tile of the output, matrix after matrix.

Where few tiles have long sums, several programs share one (`splits`), and a second kernel adds up what they found, in
their order. Whichever kernel holds the whole sum finishes it: bias, activation, residual or factor, and one rounding.
"""

import triton
import triton.language as tl


@triton.jit
def _finish(
    total,  # float32
    bias,  # float32, to broadcast
    y_ptr,
    other_ptr,
    saved_ptr,
    at,
    inside,
    c0,
    c1,
    ACTIVATION: tl.constexpr,
    SAVED: tl.constexpr,
    OTHER: tl.constexpr,
):
    """Store activation(total + bias) with the other array, and what the backward pass needs of the activation."""
    total += bias
    if SAVED is not None:
        tl.store(saved_ptr + at, SAVED(total, c0, c1).to(saved_ptr.dtype.element_ty), mask=inside)
    if ACTIVATION is not None:
        total = ACTIVATION(total, c0, c1)
    if OTHER is not None:
        other = tl.load(other_ptr + at, mask=inside, other=0.0).to(tl.float32)
        total = total + other if OTHER == "add" else total * other
    tl.store(y_ptr + at, total.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _left(ptr, first_m, first_k, row, A_TRANSPOSED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr):
    """Of the matrix a: the pointer to a tile, offsets inside it, and elements from there to the next."""
    # 64-bit scalars lead to the first row of a tile; offsets inside stay 32-bit, which saves registers.
    m = tl.arange(0, BLOCK_M)
    k = tl.arange(0, BLOCK_K)
    if A_TRANSPOSED:
        ptr += first_k * row + first_m
        at = m[:, None] + k[None, :] * row
        step = BLOCK_K * row.to(tl.int64)
    else:
        ptr += first_m * row.to(tl.int64) + first_k
        at = m[:, None] * row + k[None, :]
        step = tl.full((), BLOCK_K, tl.int64)
    return ptr, at, step


@triton.jit
def _total(
    a_ptr,
    b_ptr,
    first_m,
    first_n,
    first_k,  # 64-bit
    M,
    N,
    K,
    depth,
    row_a,
    row_b,
    A_TRANSPOSED: tl.constexpr,
    B_TRANSPOSED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """The tile at (first_m, first_n) of a @ b, summed over `depth` products from first_k on; arrays as of `mm_nd`."""
    m = tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    a_ptr, a_at, a_step = _left(a_ptr, first_m, first_k, row_a, A_TRANSPOSED, BLOCK_M, BLOCK_K)
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
    for start in range(0, tl.minimum(left, depth), BLOCK_K):
        k_inside = k < left - start
        a = tl.load(a_ptr + a_at, mask=m_inside[:, None] & k_inside[None, :], other=0.0)
        b = tl.load(b_ptr + b_at, mask=k_inside[:, None] & n_inside[None, :], other=0.0)
        total = tl.dot(a, b, total, input_precision=INPUT_PRECISION)
        a_ptr += a_step
        b_ptr += b_step
    return total


@triton.jit
def _sum_rows(
    sums_ptr,
    a_ptr,
    first_m,
    first_k,  # 64-bit
    M,
    K,
    depth,
    row_a,
    A_TRANSPOSED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Store the sums of BLOCK_M rows of a over `depth` columns from first_k on."""
    m = tl.arange(0, BLOCK_M)
    k = tl.arange(0, BLOCK_K)
    m_inside = m < M - first_m
    a_ptr, a_at, a_step = _left(a_ptr, first_m, first_k, row_a, A_TRANSPOSED, BLOCK_M, BLOCK_K)
    left = K - first_k.to(tl.int32)
    sums = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32)
    for start in range(0, tl.minimum(left, depth), BLOCK_K):
        inside = m_inside[:, None] & (k < left - start)[None, :]
        sums += tl.load(a_ptr + a_at, mask=inside, other=0.0).to(tl.float32)
        a_ptr += a_step
    sums = tl.sum(sums, axis=1).to(sums_ptr.dtype.element_ty)
    tl.store(sums_ptr + first_m + m, sums, mask=m_inside)


@triton.jit
def _place(first_m, first_n, M, N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Of a contiguous matrix (M, N): the offset of a tile, offsets inside it, and which of them are in the matrix."""
    m = tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_N)
    inside = (m < M - first_m)[:, None] & (n < N - first_n)[None, :]
    return first_m.to(tl.int64) * N + first_n, m[:, None] * N + n[None, :], inside


@triton.jit
def mm_nd(
    y_ptr,  # out (batch, M, N) contiguous; of several splits, each `part` elements after the one before, in float32
    a_ptr,  # in (batch, M, K), or (batch, K, M) in memory if A_TRANSPOSED; rows row_a elements apart
    b_ptr,  # in (batch, K, N), or (batch, N, K) in memory if B_TRANSPOSED; rows row_b elements apart
    bias_ptr,  # in (N), unused unless has_bias
    other_ptr,  # in (batch, M, N), unused unless OTHER
    saved_ptr,  # out (batch, M, N), unused unless SAVED
    sums_ptr,  # out (M), of y's type and with its splits as far apart: the sums of a's rows, if ROW_SUMS
    M,
    N,
    K,
    part,
    depth,  # products that a split sums up, a multiple of BLOCK_K
    row_a,
    row_b,
    batch_a,  # 64-bit, like batch_b: elements from one matrix of the batch to the next; 0 repeats one matrix
    batch_b,
    has_bias,
    c0,  # the plain numbers of the activation
    c1,
    A_TRANSPOSED: tl.constexpr,
    B_TRANSPOSED: tl.constexpr,
    ACTIVATION: tl.constexpr,  # device functions of (sum, c0, c1), or None
    SAVED: tl.constexpr,
    OTHER: tl.constexpr,  # what is done with the other array: "add" or "multiply"
    ROW_SUMS: tl.constexpr,  # 0 or 1; of one matrix, batch being 1
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    columns = tl.cdiv(N, BLOCK_N) + ROW_SUMS  # of tiles; the programs of the one before the first sum up rows
    tiles = tl.cdiv(M, BLOCK_M) * columns
    tile = tl.program_id(0) % tiles
    first_m = tile // columns * BLOCK_M
    first_n = (tile % columns - ROW_SUMS) * BLOCK_N
    batch = (tl.program_id(0) // tiles).to(tl.int64)
    split = tl.program_id(1).to(tl.int64)
    first_k = split * depth
    a_ptr += batch * batch_a
    b_ptr += batch * batch_b
    if ROW_SUMS:  # noqa: SIM102 - known when compiling; what is inside is not
        if first_n < 0:
            sums_ptr += split * part
            _sum_rows(sums_ptr, a_ptr, first_m, first_k, M, K, depth, row_a, A_TRANSPOSED, BLOCK_M, BLOCK_K)
            return
    total = _total(
        a_ptr, b_ptr, first_m, first_n, first_k, M, N, K, depth, row_a, row_b, A_TRANSPOSED, B_TRANSPOSED, BLOCK_M,
        BLOCK_N, BLOCK_K, INPUT_PRECISION,
    )  # fmt: skip
    first, at, inside = _place(first_m, first_n, M, N, BLOCK_M, BLOCK_N)
    first += split * part + batch * M * N
    n = first_n + tl.arange(0, BLOCK_N)
    bias = tl.load(bias_ptr + n, mask=(n < N) & (has_bias != 0), other=0.0).to(tl.float32)[None, :]
    y_ptr += first
    other_ptr += first
    saved_ptr += first
    _finish(total, bias, y_ptr, other_ptr, saved_ptr, at, inside, c0, c1, ACTIVATION, SAVED, OTHER)


@triton.jit
def linear_bwd(
    dx_ptr,  # out (rows, N): dy @ w
    dw_ptr,  # out (M, N): dyᵀ @ x; of several splits, each `part` elements after the one before, in float32
    db_ptr,  # out (M), of dw's type and with its splits as far apart: the sums of dy's columns, if `summed`
    dy_ptr,  # in (rows, M) contiguous
    x_ptr,  # in (rows, N); rows row_x apart
    w_ptr,  # in (M, N); rows row_w apart
    factor_ptr,  # in (rows, N), unused unless OTHER
    rows,
    M,
    N,
    part,
    depth,  # rows that a split of dw sums up, a multiple of BLOCK_K
    row_x,
    row_w,
    summed,
    OTHER: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """Both products of an affine map's gradient: first the programs of dx, then those of each split of dw."""
    tiles_n = tl.cdiv(N, BLOCK_N)
    tile = tl.program_id(0) - tl.cdiv(rows, BLOCK_M) * tiles_n
    if tile < 0:
        tile = tl.program_id(0)
        first_m = tile // tiles_n * BLOCK_M
        first_n = tile % tiles_n * BLOCK_N
        total = _total(
            dy_ptr, w_ptr, first_m, first_n, tl.full((), 0, tl.int64), rows, N, M, M, M, row_w, False, False, BLOCK_M,
            BLOCK_N, BLOCK_K, INPUT_PRECISION,
        )  # fmt: skip
        first, at, inside = _place(first_m, first_n, rows, N, BLOCK_M, BLOCK_N)
        _finish(total, 0.0, dx_ptr + first, factor_ptr + first, dx_ptr, at, inside, 0.0, 0.0, None, None, OTHER)
    else:
        columns = tiles_n + summed  # as in mm_nd
        tiles = tl.cdiv(M, BLOCK_M) * columns
        split = (tile // tiles).to(tl.int64)
        tile = tile % tiles
        first_m = tile // columns * BLOCK_M
        first_n = (tile % columns - summed) * BLOCK_N
        if first_n < 0:
            _sum_rows(db_ptr + split * part, dy_ptr, first_m, split * depth, M, rows, depth, M, True, BLOCK_M, BLOCK_K)
        else:
            total = _total(
                dy_ptr, x_ptr, first_m, first_n, split * depth, M, N, rows, depth, M, row_x, True, False, BLOCK_M,
                BLOCK_N, BLOCK_K, INPUT_PRECISION,
            )  # fmt: skip
            first, at, inside = _place(first_m, first_n, M, N, BLOCK_M, BLOCK_N)
            tl.store(dw_ptr + split * part + first + at, total.to(dw_ptr.dtype.element_ty), mask=inside)


@triton.jit
def mm_sum(
    y_ptr,  # out (size)
    part_ptr,  # in (splits, part) float32, of which the first size + rows are read
    bias_ptr,  # in (N), unused unless has_bias
    other_ptr,  # in (size), unused unless OTHER
    saved_ptr,  # out (size), unused unless SAVED
    sums_ptr,  # out (rows)
    size,  # 64-bit: the elements of all matrices of the batch
    rows,  # further sums: those of rows
    part,
    N,  # the columns of the matrices
    splits,
    has_bias,
    c0,
    c1,
    ACTIVATION: tl.constexpr,
    SAVED: tl.constexpr,
    OTHER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    summed = at < size + rows
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for _ in range(0, splits):
        total += tl.load(part_ptr + at, mask=summed, other=0.0)
        part_ptr += part
    tl.store(sums_ptr + (at - size), total.to(sums_ptr.dtype.element_ty), mask=summed & (at >= size))
    bias = tl.load(bias_ptr + at % N, mask=inside & (has_bias != 0), other=0.0).to(tl.float32)
    _finish(total, bias, y_ptr, other_ptr, saved_ptr, at, inside, c0, c1, ACTIVATION, SAVED, OTHER)
