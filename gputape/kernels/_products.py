"""Host side that the matrix products share: operands as they lie in memory, tiles, and the launch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product
from typing import Any

import numpy as np

from ..aval import Aval
from ..errors import BackendError
from . import tiles
from .launch import FLOATS, Function, Kernel, Variant, covering, launch, triton

LONGEST_ROW = 2**24 - 1  # offsets inside a tile of 128 rows are 32-bit
INPUT_PRECISION = {"16-bit": "ieee", "tf32": "tf32", "ieee": "ieee"}  # products of 16-bit numbers are exact either way
KINDS = (("float32", "ieee"), ("float32", "tf32"), ("float16", "16-bit"), ("bfloat16", "16-bit"))


def kind_of(rt: Any, dtype: str) -> str:
    """How a dtype enters matrix products on this runtime: "16-bit", or for float32 "ieee" or "tf32"."""
    return getattr(rt, "matmul_precision", "ieee") if dtype == "float32" else "16-bit"


@dataclass(frozen=True)
class Ending:
    """What comes after the sum and its bias: the activation, what is saved of it for backward, another array that is
    added or (`factor`) multiplied by."""

    activation: Function | None = None
    saved: Function | None = None
    residual: bool = False
    factor: bool = False

    def constants(self) -> dict[str, Any]:
        other = "add" if self.residual else "multiply" if self.factor else None
        return {"ACTIVATION": self.activation, "SAVED": self.saved, "OTHER": other}


NOTHING = Ending()


@dataclass(frozen=True)
class Plan:
    """How `batch` products (m, k) @ (k, n) are computed: a function of the shape alone."""

    tile: tuple[int, int, int, int, int]
    programs: int
    splits: int
    depth: int

    @classmethod
    @cache
    def of(cls, m: int, n: int, k: int, batch: int, kind: str) -> Plan:
        tile = tiles.matmul(m, n, k, batch, kind)
        programs = tiles.cdiv(m, tile[0]) * tiles.cdiv(n, tile[1]) * batch
        return cls(tile, programs, *tiles.split_sums(programs, k, tile[2]))


def partial_sums(dtype: str, m: int, n: int, k: int, batch: int = 1, row_sums: bool = False) -> list[Aval]:
    """The scratch of `multiply`: the sums of each split, where there are several."""
    splits = max((Plan.of(m, n, k, batch, kind).splits for d, kind in KINDS if d == dtype), default=1)
    return [Aval((splits, part_size(batch * m * n, m * row_sums)), "float32")] if splits > 1 else []


def part_size(size: int, rows: int) -> int:
    """The elements from the sums of one split to those of the next: `size` of products, then `rows` of rows."""
    return tiles.cdiv(size + rows, tiles.ALIGNED) * tiles.ALIGNED


def multiply(
    rt: Any,
    op: str,
    y: Any,
    a: Any,
    b: Any,
    bias: Any = None,
    scratch: Sequence[Any] = (),
    ending: Ending = NOTHING,
    numbers: tuple[float, float] = (0.0, 0.0),
    other: Any = None,
    saved: Any = None,
    row_sums: Any = None,
) -> None:
    """y (…, M, N) = activation(a (…, M, K) @ b (…, K, N) + bias (N)) + other; batch axes of a and b broadcast, the
    other arrays are contiguous.

    Args:
        scratch: begins with the buffer of `partial_sums`, if that has one.
        ending: the activation, what to do with `other`, and what to write to `saved`.
        numbers: the plain numbers of the activation.
        row_sums: (M) for Σ a over K, if it is wanted; of a product without batch axes.
    """
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    batch = y.shape[:-2]
    left, a_transposed, row_a, batch_a = operand(rt, a, batch)
    right, b_transposed, row_b, batch_b = operand(rt, b, batch)
    check_rows(op, row_a, row_b, n)
    kind = kind_of(rt, str(y.dtype))
    plan = Plan.of(m, n, k, math.prod(batch), kind)
    ends = tuple(y if array is None else array for array in (bias, other, saved))
    sums, rows = (y, 0) if row_sums is None else (row_sums, m)
    has_bias, summed = int(bias is not None), row_sums is not None
    places = (plan.depth, row_a, row_b, np.int64(batch_a), np.int64(batch_b))
    grid = (plan.programs + summed * tiles.cdiv(m, plan.tile[0]), plan.splits)
    if plan.splits == 1:
        code = _kernel(kind, a_transposed, b_transposed, plan.tile, ending, summed)
        launch(code, grid, (y, left, right, *ends, sums, m, n, k, 0, *places, has_bias, *numbers), rt.stream)
        return
    part = part_size(y.size, rows)
    parts = scratch[0].reshape(-1)
    arrays = (parts, left, right, *ends, parts[y.size :] if summed else parts)
    code = _kernel(kind, a_transposed, b_transposed, plan.tile, row_sums=summed)
    launch(code, grid, (*arrays, m, n, k, part, *places, 0, *numbers), rt.stream)
    add_splits(rt, y, row_sums, parts, plan.splits, ending, ends, has_bias, numbers)


def add_splits(
    rt: Any,
    y: Any,
    row_sums: Any,
    parts: Any,
    splits: int,
    ending: Ending = NOTHING,
    ends: Sequence[Any] = (),
    has_bias: int = 0,
    numbers: tuple[float, float] = (0.0, 0.0),
) -> None:
    """y (…, N) and the sums of rows, if they are wanted, from those of each split, which lie one after the other."""
    sums, rows = (y, 0) if row_sums is None else (row_sums, row_sums.size)
    sizes = (np.int64(y.size), rows, part_size(y.size, rows), y.shape[-1], splits)
    args = (y, parts, *(ends or (y, y, y)), sums, *sizes, has_bias, *numbers)
    launch(_sum_kernel(ending), (tiles.cdiv(y.size + rows, tiles.POINTWISE),), args, rt.stream)


def check_rows(op: str, *rows: int) -> None:
    """`BackendError` where rows are longer than the kernel's offsets reach."""
    if max(rows) > LONGEST_ROW:
        raise BackendError(
            f"{op}: rows of {max(rows)} elements are longer than the kernel's {LONGEST_ROW}. Split the product."
        )


def operand(rt: Any, x: Any, batch: tuple[int, ...]) -> tuple[Any, bool, int, int]:
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
def _kernel(
    kind: str,
    a_transposed: bool,
    b_transposed: bool,
    tile: tuple[int, int, int, int, int],
    ending: Ending = NOTHING,
    row_sums: bool = False,
) -> Kernel:
    block_m, block_n, block_k, warps, stages = tile
    contiguous = ("M" if a_transposed else "K", "K" if b_transposed else "N")
    return triton(
        "matmul",
        "mm_nd",
        divisible=tuple(dict.fromkeys(("row_a", "batch_a", "row_b", "batch_b", "depth", "part", "N", *contiguous))),
        warps=warps,
        stages=stages,
        A_TRANSPOSED=a_transposed,
        B_TRANSPOSED=b_transposed,
        **ending.constants(),
        ROW_SUMS=int(row_sums),
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=block_k,
        INPUT_PRECISION=INPUT_PRECISION[kind],
    )


@cache
def _sum_kernel(ending: Ending = NOTHING) -> Kernel:
    divisible = ("size", "rows", "part", "N")
    return triton("matmul", "mm_sum", divisible=divisible, **ending.constants(), BLOCK=tiles.POINTWISE)


def affine_variant(dtype: str, kind: str, tile: tuple[int, int, int, int, int], ending: Ending) -> Variant:
    """x · weightᵀ with that ending, wide."""
    return Variant(_kernel(kind, False, True, tile, ending), _types(dtype, dtype))


def _types(out: str, dtype: str) -> tuple[str, ...]:
    """The argument types of mm_nd that writes `out`; beside it lie arrays of the inputs' dtype."""
    arrays = (f"*{out}", *(f"*{dtype}",) * 5, f"*{out}")
    return (*arrays, *("int32",) * 7, "int64", "int64", "int32", "float32", "float32")


def _variants() -> list[Variant]:
    found = []
    for dtype, kind in KINDS:
        own = (*tiles.MATMUL[kind], *(tiles.SHALLOW.values() if kind == "16-bit" else ()))
        for tile, a_transposed, b_transposed in product(own, (False, True), (False, True)):
            kernel = _kernel(kind, a_transposed, b_transposed, tile)
            found.append(Variant(kernel, _types(dtype, dtype)))
            if not a_transposed:  # odd sizes: what differs is how the second matrix is read
                found.append(Variant(kernel, _types(dtype, dtype), False))
            if dtype != "float32":  # splits
                found.append(Variant(kernel, _types("float32", dtype)))
        for tile in own:  # the gradients of a weight and a bias
            kernel = _kernel(kind, True, False, tile, row_sums=True)
            outs = {(dtype, True): 0, ("float32", True): 0, (dtype, False): 0}
            found += [Variant(kernel, _types(out, dtype), wide) for out, wide in outs]
        for a_transposed, b_transposed in ((False, False), (False, True), (True, True)):  # of one row, of strided rows
            kernel = _kernel(kind, a_transposed, b_transposed, tiles.MATMUL[kind][-1], row_sums=True)
            found.append(Variant(kernel, _types(dtype, dtype), False))
        for tile in tiles.MATMUL[kind][:2]:  # the gradient of an activation's result, with its slope
            kernel = _kernel(kind, False, False, tile, Ending(factor=True))
            found.append(Variant(kernel, _types(dtype, dtype)))
    for dtype in FLOATS:
        types = (f"*{dtype}", "*float32", *(f"*{dtype}",) * 4, "int64", *("int32",) * 5, "float32", "float32")
        found += [Variant(_sum_kernel(), types, wide) for wide in (True, False)]
    return found


VARIANTS = covering(_variants())
