"""Host side of the norms over the last axes."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from ..aval import Aval
from ..backend import scratch
from . import tiles
from .launch import FLOATS, Kernel, Variant, launch, need_kernel, triton

GROUP_ROWS = 16  # rows that a program of the weight gradients reads at a time
MOST_GROUPS = 512  # some for each multiprocessor of a large GPU


def layer_norm(
    rt: Any,
    y: Any,
    mean: Any,
    rstd: Any,
    input: Any,
    weight: Any,
    bias: Any,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> None:
    need_kernel("layer_norm", input)
    rows, cols = _extent(input, normalized_shape)
    kernel = _forward(*tiles.rows(cols))
    x, w, b = (rt.packed(a) if a is not None else y for a in (input, weight, bias))
    given = (int(weight is not None), int(bias is not None))
    launch(kernel, _grid(kernel, rows), (y, mean, rstd, x, w, b, rows, cols, float(eps), *given), rt.stream)


def _extent(x: Any, normalized_shape: tuple[int, ...]) -> tuple[int, int]:
    cols = math.prod(normalized_shape)
    return math.prod(x.shape[: x.ndim - len(normalized_shape)]), cols


def _grid(kernel: Kernel, rows: int) -> tuple[int]:
    return (tiles.cdiv(rows, dict(kernel.constants)["BLOCK_ROWS"]),)


def _groups(rows: int, cols: int, needs: tuple[bool, ...]) -> tuple[bool, int, int]:
    """(whether one kernel makes dx and the sums of each group of rows, groups, rows per group).

    It can where a tile holds whole rows; there are enough groups for many multiprocessors, and of enough rows that
    their sums are little beside them.
    """
    joined = needs[0] and any(needs[1:]) and 0 < cols <= tiles.rows(cols)[1]
    if not joined:
        return False, *tiles.row_groups(rows)
    group = max(GROUP_ROWS, tiles.power_of_2(tiles.cdiv(rows, MOST_GROUPS)))
    return True, max(tiles.cdiv(rows, group), 1), group


def _partial_sums(
    dy: Aval, input: Aval, *rest: Any, normalized_shape: tuple[int, ...], needs: tuple[bool, ...], **attrs: Any
) -> list[Aval]:
    """Σ dy · n and Σ dy per group of rows; where several kernels make them, the shift of each row's mean, and dx if
    nobody else wants it."""
    rows, cols = _extent(input, normalized_shape)
    joined, groups, _ = _groups(rows, cols, needs)
    partial = Aval((2, groups, cols), "float32")
    return [partial] if joined else [partial, Aval((rows,), "float32"), *([] if needs[0] else [input])]


@scratch(_partial_sums)
def layer_norm_bwd(
    rt: Any,
    dx: Any,
    dweight: Any,
    dbias: Any,
    dy: Any,
    input: Any,
    weight: Any,
    mean: Any,
    rstd: Any,
    *,
    normalized_shape: tuple[int, ...],
    needs: tuple[bool, ...],
    scratch: list[Any],
) -> None:
    need_kernel("layer_norm_bwd", input)
    rows, cols = _extent(input, normalized_shape)
    dy, x, mean, rstd = (rt.packed(a) for a in (dy, input, mean, rstd))
    w = rt.packed(weight) if weight is not None else x
    (joined, groups, group), tile, part = _groups(rows, cols, needs), tiles.rows(cols), scratch[0]
    has_weight, across = int(weight is not None), tiles.cdiv(cols, tiles.COLUMNS)
    if joined:
        arrays = (dx, part, dy, x, w, mean, rstd)
        launch(_whole(*tile), (groups,), (*arrays, rows, cols, group, has_weight), rt.stream)
    else:
        _, shift, *spare = scratch
        kernel, dx = _backward(*tile), spare[0] if dx is None else dx
        launch(kernel, _grid(kernel, rows), (dx, shift, dy, x, w, mean, rstd, rows, cols, has_weight), rt.stream)
        if dweight is not None or dbias is not None:
            launch(AFFINE, (across, groups), (part, dy, x, mean, shift, rstd, rows, cols, group), rt.stream)
    if dweight is not None or dbias is not None:
        outs = (dbias if dweight is None else dweight, dweight if dbias is None else dbias)
        wanted = (int(dweight is not None), int(dbias is not None))
        launch(SUM_BOTH, (across, 2), (*outs, part, groups, cols, *wanted), rt.stream)


@cache
def _forward(block_rows: int, block_cols: int, warps: int) -> Kernel:
    return triton(
        "norm",
        "layer_norm",
        divisible=("cols",),
        warps=warps,
        BLOCK_ROWS=block_rows,
        BLOCK_COLS=block_cols,
    )


@cache
def _backward(block_rows: int, block_cols: int, warps: int) -> Kernel:
    return triton(
        "norm",
        "layer_norm_bwd_input",
        divisible=("cols",),
        warps=warps,
        BLOCK_ROWS=block_rows,
        BLOCK_COLS=block_cols,
    )


@cache
def _whole(block_rows: int, block_cols: int, warps: int) -> Kernel:
    return triton(
        "norm",
        "layer_norm_bwd",
        divisible=("cols",),
        warps=warps,
        BLOCK_ROWS=block_rows,
        BLOCK_COLS=block_cols,
    )


_TILE = {"BLOCK_ROWS": GROUP_ROWS, "BLOCK_COLS": tiles.COLUMNS}
AFFINE = triton("norm", "layer_norm_bwd_affine", divisible=("cols",), **_TILE)
SUM_GROUPS = triton("norm", "sum_groups", divisible=("cols",), **_TILE)
SUM_BOTH = triton("norm", "sum_both", divisible=("cols",), **_TILE)


def _variants() -> list[Variant]:
    found = []
    for dtype in FLOATS:
        x, stat, sizes = f"*{dtype}", "*float32", ("int32", "int32")
        for wide in (True, False):
            for tile in tiles.ROWS if wide else tiles.ROWS[:1]:
                types = (x, stat, stat, x, x, x, *sizes, "float32", "int32", "int32")
                found.append(Variant(_forward(*tile), types, wide))
                gradient = (x, stat, x, x, x, stat, stat, *sizes, "int32")
                found.append(Variant(_backward(*tile), gradient, wide))
                types = (x, stat, x, x, x, stat, stat, *sizes, "int32", "int32")
                found.append(Variant(_whole(*tile), types, wide))
            found.append(Variant(AFFINE, (stat, x, x, stat, stat, stat, *sizes, "int32"), wide))
            found.append(Variant(SUM_BOTH, (x, x, stat, *sizes, "int32", "int32"), wide))
            found.append(Variant(SUM_GROUPS, (x, stat, *sizes), wide))
    return found


VARIANTS = tuple(_variants())
