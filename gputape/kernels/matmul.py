"""Host side of the matrix product."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise, product
from typing import Any

import numpy as np

from ..errors import BackendError
from . import tiles
from .launch import FLOATS, Kernel, Variant, launch, need_kernel, triton

LONGEST_ROW = 2**24 - 1  # offsets inside a tile of 128 rows are 32-bit


def mm_nd(rt: Any, y: Any, input: Any, other: Any) -> None:
    """y (…, M, N) = input (…, M, K) @ other (…, K, N); batch axes broadcast."""
    dtype = need_kernel("mm_nd", y)
    m, k, n = input.shape[-2], input.shape[-1], other.shape[-1]
    batch = y.shape[:-2]
    a, a_transposed, row_a, batch_a = _operand(rt, input, batch)
    b, b_transposed, row_b, batch_b = _operand(rt, other, batch)
    if max(row_a, row_b, n) > LONGEST_ROW:
        raise BackendError(
            f"mm_nd: rows of {max(row_a, row_b, n)} elements are longer than the kernel's {LONGEST_ROW} "
            f"({input.shape} @ {other.shape}). Split the product."
        )
    kernel = _kernel(a_transposed, b_transposed, tiles.matmul(m, n, dtype))
    block_m, block_n = (dict(kernel.constants)[name] for name in ("BLOCK_M", "BLOCK_N"))
    programs = tiles.cdiv(m, block_m) * tiles.cdiv(n, block_n) * math.prod(batch)
    launch(kernel, (programs,), (y, a, b, m, n, k, row_a, row_b, np.int64(batch_a), np.int64(batch_b)), rt.stream)


def _operand(rt: Any, x: Any, batch: tuple[int, ...]) -> tuple[Any, bool, int, int]:
    """The array to read, whether its matrices are transposed in memory, its row stride and its batch stride."""
    count = math.prod(batch)
    if math.prod(x.shape[:-2]) not in (1, count):  # broadcast along some batch axes only
        x = rt.packed(rt.expanded(x, (*batch, *x.shape[-2:])))
    step = _batch_step(x)
    item, (rows, cols) = x.itemsize, x.shape[-2:]
    down, along = (s // item for s in x.strides[-2:])
    plain = (along == 1 or cols <= 1) and (down >= cols or rows <= 1)
    transposed = (down == 1 or rows <= 1) and (along >= rows or cols <= 1)
    if step is None or not (plain or transposed):
        x = rt.packed(x)
        step, plain, down = rows * cols, True, cols
    row = max(down, cols) if plain else max(along, rows)
    return x, not plain, row, step if math.prod(x.shape[:-2]) == count and count > 1 else 0


def _batch_step(x: Any) -> int | None:
    """Elements from one matrix to the next if that is one number for the whole batch, else None."""
    axes = [(n, s // x.itemsize) for n, s in zip(x.shape[:-2], x.strides[:-2], strict=True) if n != 1]
    for (_, outer), (n, inner) in pairwise(axes):
        if outer != n * inner:
            return None
    return axes[-1][1] if axes else 0


@cache
def _kernel(a_transposed: bool, b_transposed: bool, tile: tuple[int, int, int, int, int]) -> Kernel:
    block_m, block_n, block_k, warps, stages = tile
    return triton(
        "matmul",
        "mm_nd",
        divisible=(
            "row_a",
            "batch_a",
            "M" if a_transposed else "K",
            "row_b",
            "batch_b",
            "K" if b_transposed else "N",
            "N",
        ),
        warps=warps,
        stages=stages,
        A_TRANSPOSED=a_transposed,
        B_TRANSPOSED=b_transposed,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=block_k,
    )


VARIANTS = tuple(
    Variant(
        _kernel(a_transposed, b_transposed, tile),
        (f"*{dtype}",) * 3 + ("int32",) * 5 + ("int64",) * 2,
        wide,
        tensor_cores=dtype != "float32",
    )
    for (ieee, _), tile in tiles.MATMUL.items()
    for dtype in FLOATS
    if ieee == (dtype == "float32")
    for a_transposed, b_transposed in product((False, True), repeat=2)
    for wide in (True, False)
)
