"""Device code of the root-mean-square norm: a program holds BLOCK_ROWS rows and walks along them, BLOCK_COLS at a time.

Its gradients are those of `norm.py` without a mean.
"""

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
