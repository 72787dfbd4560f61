"""Device code of root-mean-square norms: a program holds BLOCK_ROWS rows and walks along them, BLOCK_COLS at a time."""

import triton
import triton.language as tl


@triton.jit
def rms_norm(
    y_ptr,  # out (rows, cols) float
    rstd_ptr,  # out (rows) float32
    x_ptr,  # in (rows, cols) float
    weight_ptr,  # in (cols) float, read if has_weight
    rows,
    cols,
    eps,
    has_weight,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    col = tl.arange(0, BLOCK_COLS)
    row_inside = row < rows
    at = row[:, None].to(tl.int64) * cols + col[None, :]
    square = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, cols, BLOCK_COLS):
        inside = row_inside[:, None] & (col[None, :] < cols - start)
        x = tl.load(x_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
        square += x * x
    rstd = 1.0 / tl.sqrt(tl.sum(square, axis=1) / cols + eps)
    tl.store(rstd_ptr + row, rstd, mask=row_inside)
    for start in range(0, cols, BLOCK_COLS):
        col_inside = col < cols - start
        inside = row_inside[:, None] & col_inside[None, :]
        y = tl.load(x_ptr + at + start, mask=inside, other=0.0).to(tl.float32) * rstd[:, None]
        weight = tl.load(weight_ptr + start + col, mask=col_inside & (has_weight != 0), other=1.0).to(tl.float32)
        y = y * weight[None, :]
        tl.store(y_ptr + at + start, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def rms_norm_bwd_input(
    dx_ptr,  # out (rows, cols) float
    dy_ptr,  # in (rows, cols) float
    x_ptr,  # in (rows, cols) float
    weight_ptr,  # in (cols) float, read if has_weight
    rstd_ptr,  # in (rows) float32
    rows,
    cols,
    has_weight,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """dx = rstd · (g - n · mean(g · n)) with g = dy · weight and n = x · rstd."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    col = tl.arange(0, BLOCK_COLS)
    row_inside = row < rows
    at = row[:, None].to(tl.int64) * cols + col[None, :]
    rstd = tl.load(rstd_ptr + row, mask=row_inside, other=0.0)[:, None]
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, cols, BLOCK_COLS):
        col_inside = col < cols - start
        inside = row_inside[:, None] & col_inside[None, :]
        g = tl.load(dy_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + start + col, mask=col_inside & (has_weight != 0), other=1.0).to(tl.float32)
        g = g * weight[None, :]
        total += g * (x * rstd)
    mean_gn = (tl.sum(total, axis=1) / cols)[:, None]
    for start in range(0, cols, BLOCK_COLS):
        col_inside = col < cols - start
        inside = row_inside[:, None] & col_inside[None, :]
        g = tl.load(dy_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at + start, mask=inside, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + start + col, mask=col_inside & (has_weight != 0), other=1.0).to(tl.float32)
        g = g * weight[None, :]
        dx = rstd * (g - x * rstd * mean_gn)
        tl.store(dx_ptr + at + start, dx.to(dx_ptr.dtype.element_ty), mask=inside)


@triton.jit
def rms_norm_bwd_weight(
    part_ptr,  # out (groups, cols) float32: Σ dy · x · rstd over the rows of each group
    dy_ptr,  # in (rows, cols) float
    x_ptr,  # in (rows, cols) float
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
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for start in range(0, group, BLOCK_ROWS):
        row = first + start + tl.arange(0, BLOCK_ROWS)
        row_inside = row < rows
        inside = row_inside[:, None] & col_inside[None, :]
        at = row[:, None].to(tl.int64) * cols + col[None, :]
        rstd = tl.load(rstd_ptr + row, mask=row_inside, other=0.0)[:, None]
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        total += dy * (x * rstd)
    out = tl.program_id(1).to(tl.int64) * cols + col
    tl.store(part_ptr + out, tl.sum(total, axis=0), mask=col_inside)
