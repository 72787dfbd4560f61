"""Host side of the root-mean-square norm over the last axes."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from ..aval import Aval
from ..backend import scratch as _scratch
from . import tiles
from .launch import FLOATS, Kernel, Variant, launch, need_kernel, triton
from .norm import GROUP_ROWS, SUM_GROUPS


def rms_norm(
    rt: Any, y: Any, rstd: Any, input: Any, weight: Any, *, normalized_shape: tuple[int, ...], eps: float
) -> None:
    need_kernel("rms_norm", input)
    rows, cols = _extent(input, normalized_shape)
    tile = tiles.rows(cols)
    x = rt.packed(input)
    w = x if weight is None else rt.packed(weight)
    arguments = (y, rstd, x, w, rows, cols, float(eps), int(weight is not None))
    launch(_kernel("rms_norm", *tile), (tiles.cdiv(rows, tile[0]),), arguments, rt.stream)


def _extent(x: Any, normalized_shape: tuple[int, ...]) -> tuple[int, int]:
    return math.prod(x.shape[: x.ndim - len(normalized_shape)]), math.prod(normalized_shape)


def _partial_sums(
    dy: Aval, input: Aval, weight: Any, rstd: Aval, *, normalized_shape: tuple[int, ...], needs: tuple[bool, ...]
) -> list[Aval]:
    """Σ dy · n per group of rows."""
    rows, cols = _extent(input, normalized_shape)
    return [Aval((tiles.row_groups(rows)[0], cols), "float32")] if needs[1] else []


@_scratch(_partial_sums)
def rms_norm_bwd(
    rt: Any,
    dx: Any,
    dweight: Any,
    dy: Any,
    input: Any,
    weight: Any,
    rstd: Any,
    *,
    normalized_shape: tuple[int, ...],
    needs: tuple[bool, ...],
    scratch: Any = (),
) -> None:
    need_kernel("rms_norm_bwd", input)
    rows, cols = _extent(input, normalized_shape)
    dy, x, rstd = (rt.packed(a) for a in (dy, input, rstd))
    if dx is not None:
        tile = tiles.rows(cols)
        w = x if weight is None else rt.packed(weight)
        kernel = _kernel("rms_norm_bwd_input", *tile)
        arguments = (dx, dy, x, w, rstd, rows, cols, int(weight is not None))
        launch(kernel, (tiles.cdiv(rows, tile[0]),), arguments, rt.stream)
    if dweight is not None:
        (partial,) = scratch
        groups, group = tiles.row_groups(rows)
        across = tiles.cdiv(cols, tiles.COLUMNS)
        launch(WEIGHT, (across, groups), (partial, dy, x, rstd, rows, cols, group), rt.stream)
        launch(SUM_GROUPS, (across,), (dweight, partial, groups, cols), rt.stream)


@cache
def _kernel(name: str, block_rows: int, block_cols: int, warps: int) -> Kernel:
    return triton(
        "rms_norm",
        name,
        divisible=("cols",),
        warps=warps,
        BLOCK_ROWS=block_rows,
        BLOCK_COLS=block_cols,
    )


WEIGHT = triton("rms_norm", "rms_norm_bwd_weight", divisible=("cols",), BLOCK_ROWS=GROUP_ROWS, BLOCK_COLS=tiles.COLUMNS)


def _variants() -> list[Variant]:
    found = []
    for dtype in FLOATS:
        x, stat, sizes = f"*{dtype}", "*float32", ("int32", "int32")
        for wide in (True, False):
            for tile in tiles.ROWS if wide else tiles.ROWS[:1]:
                types = (x, stat, x, x, *sizes, "float32", "int32")
                found.append(Variant(_kernel("rms_norm", *tile), types, wide))
                types = (x, x, x, x, stat, *sizes, "int32")
                found.append(Variant(_kernel("rms_norm_bwd_input", *tile), types, wide))
            found.append(Variant(WEIGHT, (stat, x, x, stat, *sizes, "int32"), wide))
    return found


VARIANTS = tuple(_variants())
