"""Host side of the root-mean-square norm over the last axes."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

from ..backend import scratch as _scratch
from . import tiles
from .launch import FLOATS, Kernel, Variant, covering, launch, need_kernel, triton
from .norm import _buffers, _extent, _gradients


def rms_norm(
    rt: Any, y: Any, rstd: Any, input: Any, weight: Any, *, normalized_shape: tuple[int, ...], eps: float
) -> None:
    need_kernel("rms_norm", input)
    rows, cols = _extent(input, normalized_shape)
    tile = tiles.rows(cols)
    x = rt.packed(input)
    w = x if weight is None else rt.packed(weight)
    arguments = (y, rstd, x, w, rows, cols, float(eps), int(weight is not None))
    launch(_kernel(*tile), (tiles.cdiv(rows, tile[0]),), arguments, rt.stream)


@_scratch(lambda dy, input, *rest, normalized_shape, needs: _buffers(input, normalized_shape, needs, False))
def rms_norm_bwd(
    rt: Any,
    dx: Any,
    dweight: Any,
    dy: Any,
    input: Any,
    weight: Any,
    rstd: Any,
    residual: Any,
    *,
    normalized_shape: tuple[int, ...],
    needs: tuple[bool, ...],
    scratch: list[Any],
) -> None:
    need_kernel("rms_norm_bwd", input)
    arrays = (dy, input, weight, None, rstd, residual)
    _gradients(rt, (dx, dweight, None), arrays, _extent(input, normalized_shape), scratch)


@cache
def _kernel(block_rows: int, block_cols: int, warps: int) -> Kernel:
    tile = {"BLOCK_ROWS": block_rows, "BLOCK_COLS": block_cols}
    return triton("rms_norm", "rms_norm", divisible=("cols",), warps=warps, **tile)


def _variants() -> list[Variant]:
    found = []
    for dtype, wide in product(FLOATS, (True, False)):
        x, stat = f"*{dtype}", "*float32"
        types = (x, stat, x, x, "int32", "int32", "float32", "int32")
        found += [Variant(_kernel(*tile), types, wide) for tile in (tiles.ROWS if wide else tiles.ROWS[:1])]
    return found


VARIANTS = covering(_variants())
