"""Device code of the row norms: a program holds BLOCK_ROWS rows and walks along them, BLOCK_COLS at a time, if it does
not hold them whole.

`norm_bwd` is for rows that fit into one block, the two kernels after it for longer ones. CENTRED says that the norm
subtracts the mean (layer_norm) and adds a bias; without it (rms_norm) both are 0 in what follows, and pointers to what
has to do with them are unused. `shift` is what the rounded mean lacks. With g = dy · weight and
n = (x - mean - shift) · rstd, dx = rstd · (g - mean(g) - n · mean(g · n)) + residual.
"""

import triton
import triton.language as tl


@triton.jit
def _store_affine(y_at, y, weight_ptr, bias_ptr, col, cols, has_weight, has_bias, inside):
    """Store y · weight + bias of these columns."""
    weight = tl.load(weight_ptr + col, mask=(col < cols) & (has_weight != 0), other=1.0).to(tl.float32)
    bias = tl.load(bias_ptr + col, mask=(col < cols) & (has_bias != 0), other=0.0).to(tl.float32)
    y = y * weight[None, :] + bias[None, :]
    tl.store(y_at, y.to(y_at.dtype.element_ty), mask=inside)


@triton.jit
def layer_norm(
    y_ptr,  # out (rows, cols) float
    mean_ptr,  # out (rows) float32
    rstd_ptr,  # out (rows) float32
    x_ptr,  # in (rows, cols) float
    weight_ptr,  # in (cols) float, read if has_weight
    bias_ptr,  # in (cols) float, read if has_bias
    rows,
    cols,
    eps,
    has_weight,
    has_bias,
    WHOLE: tl.constexpr,  # a row fits into one block
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    col = tl.arange(0, BLOCK_COLS)
    row_inside = row < rows
    at = row[:, None].to(tl.int64) * cols + col[None, :]

    inside = row_inside[:, None] & (col < cols)[None, :]
    per_col = 1.0 / cols
    # The rounded mean of values far from 0 is off by much of their spread: `shift` is what it lacks.
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if WHOLE:
        mean = tl.sum(x, axis=1) * per_col
        centred = tl.where(inside, x - mean[:, None], 0.0)
        shift = tl.sum(centred, axis=1) * per_col
        centred = tl.where(inside, centred - shift[:, None], 0.0)
        rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) * per_col + eps)
        _store_affine(
            y_ptr + at, centred * rstd[:, None], weight_ptr, bias_ptr, col, cols, has_weight, has_bias, inside
        )
    else:
        mean = tl.sum(x, axis=1) / tl.minimum(cols, BLOCK_COLS)  # that of the first block, which the others go by
        total = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
        square = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
        for start in range(0, cols, BLOCK_COLS):
            inside = row_inside[:, None] & (col < cols - start)[None, :]
            x = tl.load(x_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
            centred = tl.where(inside, x - mean[:, None], 0.0)
            total += centred
            square += centred * centred
        shift = tl.sum(total, axis=1) * per_col
        variance = tl.sum(square, axis=1) * per_col - shift * shift
        rstd = 1.0 / tl.sqrt(tl.where(variance < 0, 0.0, variance) + eps)  # in this direction NaN stays NaN
        for start in range(0, cols, BLOCK_COLS):
            inside = row_inside[:, None] & (col < cols - start)[None, :]
            x = tl.load(x_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
            y = (x - mean[:, None] - shift[:, None]) * rstd[:, None]
            at_col = start + col
            _store_affine(y_ptr + at + start, y, weight_ptr, bias_ptr, at_col, cols, has_weight, has_bias, inside)
    tl.store(mean_ptr + row, mean + shift, mask=row_inside)
    tl.store(rstd_ptr + row, rstd, mask=row_inside)


@triton.jit
def norm_bwd(
    dx_ptr,  # out (rows, cols) float
    part_weight_ptr,  # out (groups, cols) float32, written if has_sums: Σ dy · n over the rows of each group
    part_bias_ptr,  # out (groups, cols) float32, written if has_sums: Σ dy
    dy_ptr,  # in (rows, cols) float
    x_ptr,  # in (rows, cols) float
    weight_ptr,  # in (cols) float, read if has_weight
    mean_ptr,  # in (rows) float32
    rstd_ptr,  # in (rows) float32
    residual_ptr,  # in (rows, cols) float, read if has_residual
    rows,
    cols,
    group,  # rows per group, a multiple of BLOCK_ROWS
    has_weight,
    has_residual,
    has_sums,
    CENTRED: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """All gradients at once."""
    col = tl.arange(0, BLOCK_COLS)
    col_inside = col < cols
    per_col = 1.0 / cols
    weight = tl.load(weight_ptr + col, mask=col_inside & (has_weight != 0), other=1.0).to(tl.float32)[None, :]
    sum_weight = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    sum_bias = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, group, BLOCK_ROWS):
        row = tl.program_id(0) * group + start + tl.arange(0, BLOCK_ROWS)
        row_inside = row < rows
        inside = row_inside[:, None] & col_inside[None, :]
        at = row[:, None].to(tl.int64) * cols + col[None, :]
        rstd = tl.load(rstd_ptr + row, mask=row_inside, other=0.0)[:, None]
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        n = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        residual = tl.load(residual_ptr + at, mask=inside & (has_residual != 0), other=0.0).to(tl.float32)
        g = dy * weight
        if CENTRED:
            mean = tl.load(mean_ptr + row, mask=row_inside, other=0.0)[:, None]
            n = tl.where(inside, n - mean, 0.0)
            shift = tl.sum(n, axis=1)[:, None] * per_col
            n -= shift
            sum_bias += dy
        n = tl.where(inside, n * rstd, 0.0)
        sum_weight += dy * n
        mean_gn = tl.sum(g * n, axis=1)[:, None] * per_col
        if CENTRED:
            g -= tl.sum(g, axis=1)[:, None] * per_col
        dx = rstd * (g - n * mean_gn) + residual
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
    out = tl.program_id(0).to(tl.int64) * cols + col
    written = col_inside & (has_sums != 0)
    tl.store(part_weight_ptr + out, tl.sum(sum_weight, axis=0), mask=written)
    if CENTRED:
        tl.store(part_bias_ptr + out, tl.sum(sum_bias, axis=0), mask=written)


@triton.jit
def norm_bwd_input(
    dx_ptr,  # out (rows, cols) float
    shift_ptr,  # out (rows) float32
    dy_ptr,  # in (rows, cols) float
    x_ptr,  # in (rows, cols) float
    weight_ptr,  # in (cols) float, read if has_weight
    mean_ptr,  # in (rows) float32
    rstd_ptr,  # in (rows) float32
    residual_ptr,  # in (rows, cols) float, read if has_residual
    rows,
    cols,
    has_weight,
    has_residual,
    CENTRED: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    col = tl.arange(0, BLOCK_COLS)
    row_inside = row < rows
    at = row[:, None].to(tl.int64) * cols + col[None, :]
    rstd = tl.load(rstd_ptr + row, mask=row_inside, other=0.0)[:, None]
    mean = tl.zeros((BLOCK_ROWS, 1), dtype=tl.float32)
    if CENTRED:
        mean = tl.load(mean_ptr + row, mask=row_inside, other=0.0)[:, None]

    sum_g = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    sum_x = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    sum_gx = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, cols, BLOCK_COLS):
        col_inside = col < cols - start
        inside = row_inside[:, None] & col_inside[None, :]
        g = tl.load(dy_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + start + col, mask=col_inside & (has_weight != 0), other=1.0).to(tl.float32)
        g = g * weight[None, :]
        x = tl.where(inside, x - mean, 0.0)
        sum_gx += g * x
        if CENTRED:
            sum_g += g
            sum_x += x
    shift = tl.sum(sum_x, axis=1) / cols
    if CENTRED:
        tl.store(shift_ptr + row, shift, mask=row_inside)
    shift = shift[:, None]
    mean_g = (tl.sum(sum_g, axis=1) / cols)[:, None]
    mean_gn = ((tl.sum(sum_gx, axis=1) / cols)[:, None] - shift * mean_g) * rstd

    for start in range(0, cols, BLOCK_COLS):
        col_inside = col < cols - start
        inside = row_inside[:, None] & col_inside[None, :]
        g = tl.load(dy_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + start + col, mask=col_inside & (has_weight != 0), other=1.0).to(tl.float32)
        residual = tl.load(residual_ptr + at + start, mask=inside & (has_residual != 0), other=0.0).to(tl.float32)
        g = g * weight[None, :]
        dx = rstd * (g - mean_g - (x - mean - shift) * rstd * mean_gn) + residual
        tl.store(dx_ptr + at + start, dx.to(dx_ptr.dtype.element_ty), mask=inside)


@triton.jit
def norm_bwd_affine(
    part_weight_ptr,  # out (groups, cols) float32: Σ dy · n over the rows of each group
    part_bias_ptr,  # out (groups, cols) float32: Σ dy
    dy_ptr,  # in (rows, cols) float
    x_ptr,  # in (rows, cols) float
    mean_ptr,  # in (rows) float32
    shift_ptr,  # in (rows) float32
    rstd_ptr,  # in (rows) float32
    rows,
    cols,
    group,  # rows per group, a multiple of BLOCK_ROWS
    CENTRED: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    col = tl.program_id(0) * BLOCK_COLS + tl.arange(0, BLOCK_COLS)
    col_inside = col < cols
    first = tl.program_id(1) * group
    sum_weight = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    sum_bias = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, group, BLOCK_ROWS):
        row = first + start + tl.arange(0, BLOCK_ROWS)
        row_inside = row < rows
        inside = row_inside[:, None] & col_inside[None, :]
        at = row[:, None].to(tl.int64) * cols + col[None, :]
        rstd = tl.load(rstd_ptr + row, mask=row_inside, other=0.0)[:, None]
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        if CENTRED:
            x -= tl.load(mean_ptr + row, mask=row_inside, other=0.0)[:, None]
            x -= tl.load(shift_ptr + row, mask=row_inside, other=0.0)[:, None]
            sum_bias += dy
        sum_weight += dy * x * rstd
    out = tl.program_id(1).to(tl.int64) * cols + col
    tl.store(part_weight_ptr + out, tl.sum(sum_weight, axis=0), mask=col_inside)
    if CENTRED:
        tl.store(part_bias_ptr + out, tl.sum(sum_bias, axis=0), mask=col_inside)


@triton.jit
def sum_groups(
    y_ptr,  # out (cols) float
    z_ptr,  # out (z_cols) float
    y_part_ptr,  # in (groups, cols) float32
    z_part_ptr,  # in (groups, z_cols) float32
    groups,
    cols,  # 0 if y is not wanted; z likewise
    z_cols,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    col = tl.program_id(0) * BLOCK_COLS + tl.arange(0, BLOCK_COLS)
    y = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    z = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, groups, BLOCK_ROWS):
        row = (start + tl.arange(0, BLOCK_ROWS))[:, None]
        inside = row < groups
        row = row.to(tl.int64)
        y += tl.load(y_part_ptr + row * cols + col[None, :], mask=inside & (col < cols)[None, :], other=0.0)
        z += tl.load(z_part_ptr + row * z_cols + col[None, :], mask=inside & (col < z_cols)[None, :], other=0.0)
    tl.store(y_ptr + col, tl.sum(y, axis=0).to(y_ptr.dtype.element_ty), mask=col < cols)
    tl.store(z_ptr + col, tl.sum(z, axis=0).to(z_ptr.dtype.element_ty), mask=col < z_cols)
