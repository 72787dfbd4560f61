"""Device code of the row norms: a program holds BLOCK_ROWS rows and walks along them, BLOCK_COLS at a time."""

import triton
import triton.language as tl


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
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    col = tl.arange(0, BLOCK_COLS)
    row_inside = row < rows
    at = row[:, None].to(tl.int64) * cols + col[None, :]

    per_col = 1.0 / cols
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, cols, BLOCK_COLS):
        inside = row_inside[:, None] & (col[None, :] < cols - start)
        total += tl.load(x_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(total, axis=1) * per_col

    # The rounded mean of values far from 0 is off by much of their spread: `shift` is what it lacks.
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, cols, BLOCK_COLS):
        inside = row_inside[:, None] & (col[None, :] < cols - start)
        x = tl.load(x_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
        total += tl.where(inside, x - mean[:, None], 0.0)
    shift = tl.sum(total, axis=1) * per_col

    square = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, cols, BLOCK_COLS):
        inside = row_inside[:, None] & (col[None, :] < cols - start)
        x = tl.load(x_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
        centred = tl.where(inside, x - mean[:, None] - shift[:, None], 0.0)
        square += centred * centred
    rstd = 1.0 / tl.sqrt(tl.sum(square, axis=1) * per_col + eps)

    tl.store(mean_ptr + row, mean + shift, mask=row_inside)
    tl.store(rstd_ptr + row, rstd, mask=row_inside)
    for start in range(0, cols, BLOCK_COLS):
        col_inside = col < cols - start
        inside = row_inside[:, None] & col_inside[None, :]
        x = tl.load(x_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
        y = (x - mean[:, None] - shift[:, None]) * rstd[:, None]
        weight = tl.load(weight_ptr + start + col, mask=col_inside & (has_weight != 0), other=1.0).to(tl.float32)
        bias = tl.load(bias_ptr + start + col, mask=col_inside & (has_bias != 0), other=0.0).to(tl.float32)
        y = y * weight[None, :] + bias[None, :]
        tl.store(y_ptr + at + start, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def layer_norm_bwd(
    dx_ptr,  # out (rows, cols) float
    part_ptr,  # out (2, groups, cols) float32: Σ dy · n over the rows of each group, then Σ dy
    dy_ptr,  # in (rows, cols) float
    x_ptr,  # in (rows, cols) float
    weight_ptr,  # in (cols) float, read if has_weight
    mean_ptr,  # in (rows) float32
    rstd_ptr,  # in (rows) float32
    rows,
    cols,  # at most BLOCK_COLS
    group,  # rows per group, a multiple of BLOCK_ROWS
    has_weight,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """dx as of `layer_norm_bwd_input`, and the sums of `layer_norm_bwd_affine`, of rows that a tile holds whole."""
    col = tl.arange(0, BLOCK_COLS)
    col_inside = col < cols
    weight = tl.load(weight_ptr + col, mask=col_inside & (has_weight != 0), other=1.0).to(tl.float32)[None, :]
    sum_weight = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    sum_bias = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, group, BLOCK_ROWS):
        row = tl.program_id(0) * group + start + tl.arange(0, BLOCK_ROWS)
        row_inside = row < rows
        inside = row_inside[:, None] & col_inside[None, :]
        at = row[:, None].to(tl.int64) * cols + col[None, :]
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        mean = tl.load(mean_ptr + row, mask=row_inside, other=0.0)[:, None]
        rstd = tl.load(rstd_ptr + row, mask=row_inside, other=0.0)[:, None]
        centred = tl.where(inside, x - mean, 0.0)
        shift = (tl.sum(centred, axis=1) / cols)[:, None]  # what the rounded mean lacks
        n = tl.where(inside, (centred - shift) * rstd, 0.0)
        g = dy * weight
        mean_g = (tl.sum(g, axis=1) / cols)[:, None]
        mean_gn = (tl.sum(g * n, axis=1) / cols)[:, None]
        dx = rstd * (g - mean_g - n * mean_gn)
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
        sum_weight += dy * n
        sum_bias += dy
    part_ptr += tl.program_id(0).to(tl.int64) * cols
    tl.store(part_ptr + col, tl.sum(sum_weight, axis=0), mask=col_inside)
    part_ptr += tl.num_programs(0).to(tl.int64) * cols
    tl.store(part_ptr + col, tl.sum(sum_bias, axis=0), mask=col_inside)


@triton.jit
def layer_norm_bwd_input(
    dx_ptr,  # out (rows, cols) float
    shift_ptr,  # out (rows) float32: what the rounded mean lacks
    dy_ptr,  # in (rows, cols) float
    x_ptr,  # in (rows, cols) float
    weight_ptr,  # in (cols) float, read if has_weight
    mean_ptr,  # in (rows) float32
    rstd_ptr,  # in (rows) float32
    rows,
    cols,
    has_weight,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """dx = rstd · (g - mean(g) - n · mean(g · n)) with g = dy · weight and n = (x - mean - shift) · rstd."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    col = tl.arange(0, BLOCK_COLS)
    row_inside = row < rows
    at = row[:, None].to(tl.int64) * cols + col[None, :]
    mean = tl.load(mean_ptr + row, mask=row_inside, other=0.0)[:, None]
    rstd = tl.load(rstd_ptr + row, mask=row_inside, other=0.0)[:, None]

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
        centred = tl.where(inside, x - mean, 0.0)
        sum_g += g
        sum_x += centred
        sum_gx += g * centred
    shift = tl.sum(sum_x, axis=1) / cols
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
        g = g * weight[None, :]
        dx = rstd * (g - mean_g - (x - mean - shift) * rstd * mean_gn)
        tl.store(dx_ptr + at + start, dx.to(dx_ptr.dtype.element_ty), mask=inside)


@triton.jit
def layer_norm_bwd_affine(
    part_ptr,  # out (2, groups, cols) float32: Σ dy · n over the rows of each group, then Σ dy
    dy_ptr,  # in (rows, cols) float
    x_ptr,  # in (rows, cols) float
    mean_ptr,  # in (rows) float32
    shift_ptr,  # in (rows) float32
    rstd_ptr,  # in (rows) float32
    rows,
    cols,
    group,  # rows per group, a multiple of BLOCK_ROWS
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
        mean = tl.load(mean_ptr + row, mask=row_inside, other=0.0)[:, None]
        shift = tl.load(shift_ptr + row, mask=row_inside, other=0.0)[:, None]
        rstd = tl.load(rstd_ptr + row, mask=row_inside, other=0.0)[:, None]
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        sum_weight += dy * (x - mean - shift) * rstd
        sum_bias += dy
    part_ptr += tl.program_id(1).to(tl.int64) * cols
    tl.store(part_ptr + col, tl.sum(sum_weight, axis=0), mask=col_inside)
    part_ptr += tl.num_programs(1).to(tl.int64) * cols
    tl.store(part_ptr + col, tl.sum(sum_bias, axis=0), mask=col_inside)


@triton.jit
def sum_groups(
    y_ptr,  # out (cols) float
    part_ptr,  # in (groups, cols) float32
    groups,
    cols,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    col = tl.program_id(0) * BLOCK_COLS + tl.arange(0, BLOCK_COLS)
    col_inside = col < cols
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, groups, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        inside = (row < groups)[:, None] & col_inside[None, :]
        at = row[:, None].to(tl.int64) * cols + col[None, :]
        total += tl.load(part_ptr + at, mask=inside, other=0.0)
    y = tl.sum(total, axis=0)
    tl.store(y_ptr + col, y.to(y_ptr.dtype.element_ty), mask=col_inside)


@triton.jit
def sum_both(
    dweight_ptr,  # out (cols) float, if needs_weight
    dbias_ptr,  # out (cols) float, if needs_bias
    part_ptr,  # in (2, groups, cols) float32
    groups,
    cols,
    needs_weight,
    needs_bias,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    which = tl.program_id(1)
    col = tl.program_id(0) * BLOCK_COLS + tl.arange(0, BLOCK_COLS)
    col_inside = col < cols
    part_ptr += which.to(tl.int64) * groups * cols
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, groups, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        inside = (row < groups)[:, None] & col_inside[None, :]
        at = row[:, None].to(tl.int64) * cols + col[None, :]
        total += tl.load(part_ptr + at, mask=inside, other=0.0)
    y = tl.sum(total, axis=0).to(dweight_ptr.dtype.element_ty)
    tl.store(dweight_ptr + col, y, mask=col_inside & (which == 0) & (needs_weight != 0))
    tl.store(dbias_ptr + col, y, mask=col_inside & (which == 1) & (needs_bias != 0))
