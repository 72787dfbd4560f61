"""Host side that the matrix products share: operands as they lie in memory, tiles, and the launch."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise, product
from typing import Any

import numpy as np

from ..errors import BackendError
from . import tiles
from .launch import Kernel, Variant, launch, triton

LONGEST_ROW = 2**24 - 1  # offsets inside a tile of 128 rows are 32-bit
INPUT_PRECISION = {"16-bit": "ieee", "tf32": "tf32", "ieee": "ieee"}  # products of 16-bit numbers are exact either way
KINDS = (("float32", "ieee"), ("float32", "tf32"), ("float16", "16-bit"), ("bfloat16", "16-bit"))


def kind_of(rt: Any, dtype: str) -> str:
    """How a dtype enters matrix products on this runtime: "16-bit", or for float32 "ieee" or "tf32"."""
    return getattr(rt, "matmul_precision", "ieee") if dtype == "float32" else "16-bit"


def multiply(rt: Any, op: str, y: Any, a: Any, b: Any, bias: Any = None) -> None:
    """y (…, M, N) = a (…, M, K) @ b (…, K, N) + bias (N); batch axes broadcast, y and bias are contiguous."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    batch = y.shape[:-2]
    left, a_transposed, row_a, batch_a = _operand(rt, a, batch)
    right, b_transposed, row_b, batch_b = _operand(rt, b, batch)
    if max(row_a, row_b, n) > LONGEST_ROW:
        raise BackendError(
            f"{op}: rows of {max(row_a, row_b, n)} elements are longer than the kernel's {LONGEST_ROW} "
            f"({a.shape} @ {b.shape}). Split the product."
        )
    count = math.prod(batch)
    kind = kind_of(rt, str(y.dtype))
    tile = tiles.matmul(m, n, count, kind)
    programs = tiles.cdiv(m, tile[0]) * tiles.cdiv(n, tile[1]) * count
    sizes = (m, n, k, row_a, row_b, np.int64(batch_a), np.int64(batch_b), int(bias is not None))
    arrays = (y, left, right, y if bias is None else bias)
    launch(_kernel(kind, a_transposed, b_transposed, tile), (programs,), (*arrays, *sizes), rt.stream)


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
def _kernel(kind: str, a_transposed: bool, b_transposed: bool, tile: tuple[int, int, int, int, int]) -> Kernel:
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
        INPUT_PRECISION=INPUT_PRECISION[kind],
    )


VARIANTS = tuple(
    Variant(
        _kernel(kind, a_transposed, b_transposed, tile),
        (f"*{dtype}",) * 4 + ("int32",) * 5 + ("int64",) * 2 + ("int32",),
        wide,
        tensor_cores=kind != "ieee",
    )
    for dtype, kind in KINDS
    for tile in tiles.MATMUL[kind]
    for a_transposed, b_transposed in product((False, True), repeat=2)
    for wide in (True, False)
)
