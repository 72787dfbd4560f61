"""Device code that moves elements, whatever they mean: arrays are integers as wide as their elements.

A program holds a tile of two axes, rows and columns; up to three more axes are walked by the program number.
"""

import triton
import triton.language as tl


@triton.jit
def _outer(rows, cols, n1, n2, BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr):
    """First row and column of this program's tile, and its positions on the three outer axes."""
    tiles_cols = tl.cdiv(cols, BLOCK_COLS)
    tiles_rows = tl.cdiv(rows, BLOCK_ROWS)
    tile = tl.program_id(0)
    outer = tile // tiles_cols // tiles_rows
    first_row = tile // tiles_cols % tiles_rows * BLOCK_ROWS
    return first_row, tile % tiles_cols * BLOCK_COLS, outer % n1, outer // n1 % n2, outer // n1 // n2


@triton.jit
def _offsets(row, col, row_stride, col_stride, UNIT: tl.constexpr):
    """UNIT: 1 where the stride along the columns is 1, 2 along the rows, 0 if neither is."""
    if UNIT == 1:
        at = row[:, None] * row_stride + col[None, :]
    elif UNIT == 2:
        at = row[:, None] + col[None, :] * col_stride
    else:
        at = row[:, None] * row_stride + col[None, :] * col_stride
    return at


@triton.jit
def copy(
    y_ptr,  # out (n3, n2, n1, rows, cols), its strides 64-bit like those of x
    x_ptr,  # in, the same shape
    rows,
    cols,
    n1,
    n2,
    y_row,
    y_col,
    y_1,
    y_2,
    y_3,
    x_row,
    x_col,
    x_1,
    x_2,
    x_3,
    Y_UNIT: tl.constexpr,
    X_UNIT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    first_row, first_col, i1, i2, i3 = _outer(rows, cols, n1, n2, BLOCK_ROWS, BLOCK_COLS)
    row = (first_row + tl.arange(0, BLOCK_ROWS)).to(tl.int64)
    col = (first_col + tl.arange(0, BLOCK_COLS)).to(tl.int64)
    inside = (row < rows)[:, None] & (col < cols)[None, :]
    x_ptr += i1 * x_1 + i2 * x_2 + i3 * x_3
    y_ptr += i1 * y_1 + i2 * y_2 + i3 * y_3
    x = tl.load(x_ptr + _offsets(row, col, x_row, x_col, X_UNIT), mask=inside, other=0)
    tl.store(y_ptr + _offsets(row, col, y_row, y_col, Y_UNIT), x, mask=inside)


@triton.jit
def _source(i, start, step, size, STEPPED: tl.constexpr):
    """Which element of x stands at position i of y along one axis, and whether there is one."""
    k = i - start
    inside = (k >= 0) & (k < size * step)
    if STEPPED:
        inside = inside & (k % step == 0)
        k = k // step
    return k, inside


@triton.jit
def window(
    y_ptr,  # out (n3, n2, n1, rows, cols) contiguous: x where the window is, `blank` elsewhere
    x_ptr,  # in (s3, s2, s1, s_row, s_col) with strides
    rows,
    cols,
    n1,
    n2,
    x_row,  # 64-bit strides
    x_col,
    x_1,
    x_2,
    x_3,
    a_row,  # where the window starts along each axis of y; may be negative
    a_col,
    a_1,
    a_2,
    a_3,
    k_row,  # the steps between its elements
    k_col,
    k_1,
    k_2,
    k_3,
    s_row,  # the sizes of x
    s_col,
    s_1,
    s_2,
    s_3,
    blank,  # 64-bit
    STEPPED: tl.constexpr,  # some step is not 1
    X_UNIT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    first_row, first_col, i1, i2, i3 = _outer(rows, cols, n1, n2, BLOCK_ROWS, BLOCK_COLS)
    row = (first_row + tl.arange(0, BLOCK_ROWS)).to(tl.int64)
    col = (first_col + tl.arange(0, BLOCK_COLS)).to(tl.int64)
    x1, inside_1 = _source(i1, a_1, k_1, s_1, STEPPED)
    x2, inside_2 = _source(i2, a_2, k_2, s_2, STEPPED)
    x3, inside_3 = _source(i3, a_3, k_3, s_3, STEPPED)
    from_row, in_rows = _source(row, a_row, k_row, s_row, STEPPED)
    from_col, in_cols = _source(col, a_col, k_col, s_col, STEPPED)
    x_at = _offsets(from_row, from_col, x_row, x_col, X_UNIT) + (x1 * x_1 + x2 * x_2 + x3 * x_3)
    inside = (row < rows)[:, None] & (col < cols)[None, :]
    in_cols = in_cols & (col < tl.where(inside_1 & inside_2 & inside_3, cols, 0))
    found = inside & in_rows[:, None] & in_cols[None, :]
    x = tl.load(x_ptr + x_at, mask=found, other=0)
    outer = (i3.to(tl.int64) * n2 + i2) * n1 + i1
    y_at = (outer * rows + row[:, None]) * cols + col[None, :]
    tl.store(y_ptr + y_at, tl.where(found, x, blank.to(x.dtype)), mask=inside)
