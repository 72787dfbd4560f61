"""Host side of the norms over the last axes."""

from __future__ import annotations

import math
from functools import cache
from itertools import product
from typing import Any

from ..aval import Aval
from ..backend import scratch
from . import tiles
from .launch import FLOATS, Kernel, Variant, covering, launch, need_kernel, triton

GROUP_ROWS = 16  # rows that a program of the weight gradients reads at a time
GROUPS = 256  # programs of the backward pass of whole rows: two for each multiprocessor of a large GPU


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
    kernel = _kernel("layer_norm", *tiles.rows(cols), WHOLE=_whole(cols))
    x, w, b = (rt.packed(a) if a is not None else y for a in (input, weight, bias))
    given = (int(weight is not None), int(bias is not None))
    launch(kernel, _grid(kernel, rows), (y, mean, rstd, x, w, b, rows, cols, float(eps), *given), rt.stream)


def _extent(x: Any, normalized_shape: tuple[int, ...]) -> tuple[int, int]:
    cols = math.prod(normalized_shape)
    return math.prod(x.shape[: x.ndim - len(normalized_shape)]), cols


def _grid(kernel: Kernel, rows: int) -> tuple[int]:
    return (tiles.cdiv(rows, dict(kernel.constants)["BLOCK_ROWS"]),)


def _whole(cols: int) -> bool:
    """Whether a row fits into one block."""
    return cols <= tiles.rows(cols)[1]


def _groups(rows: int, cols: int) -> tuple[int, int]:
    """`tiles.row_groups` of the backward pass; a group of whole rows is a program that writes all gradients."""
    return tiles.row_groups(rows, GROUPS, GROUP_ROWS) if _whole(cols) else tiles.row_groups(rows)


def _buffers(input: Aval, normalized_shape: tuple[int, ...], needs: tuple[bool, ...], centred: bool) -> list[Aval]:
    """Σ dy · n and (if centred) Σ dy per group of rows, dx if nobody else wants it, and the shift of each row's mean
    where kernels pass it on."""
    rows, cols = _extent(input, normalized_shape)
    partial = Aval((_groups(rows, cols)[0], cols), "float32")
    shift = [Aval((rows,), "float32")] if centred and not _whole(cols) else []
    return [*(partial,) * (1 + centred), *([] if needs[0] else [input]), *shift]


@scratch(lambda dy, input, *rest, normalized_shape, needs: _buffers(input, normalized_shape, needs, True))
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
    residual: Any,
    *,
    normalized_shape: tuple[int, ...],
    needs: tuple[bool, ...],
    scratch: list[Any],
) -> None:
    need_kernel("layer_norm_bwd", input)
    arrays = (dy, input, weight, mean, rstd, residual)
    _gradients(rt, (dx, dweight, dbias), arrays, _extent(input, normalized_shape), scratch)


def _gradients(
    rt: Any, outs: tuple[Any, Any, Any], arrays: tuple[Any, ...], extent: tuple[int, int], scratch: list[Any]
) -> None:
    """Those of a norm, which is centred if there is a mean; outputs, inputs and scratch as of `layer_norm_bwd`."""
    dx, dweight, dbias = outs
    rows, cols = extent
    dy, x, weight, mean, rstd, residual = (None if a is None else rt.packed(a) for a in arrays)
    centred = mean is not None
    flags = (int(weight is not None), int(residual is not None))
    w, mean, residual = x if weight is None else weight, mean if centred else rstd, x if residual is None else residual
    part_weight, *spare = scratch
    part_bias = spare.pop(0) if centred else part_weight
    dx = spare.pop(0) if dx is None else dx
    tile, (groups, group) = tiles.rows(cols), _groups(rows, cols)
    summed = dweight is not None or dbias is not None
    read = (dy, x, w, mean, rstd, residual, rows, cols)
    if _whole(cols):
        kernel, parts = _kernel("norm_bwd", *tile, CENTRED=centred), (part_weight, part_bias)
        launch(kernel, (groups,), (dx, *parts, *read, group, *flags, int(summed)), rt.stream)
    else:
        shift = spare.pop(0) if centred else rstd
        kernel = _kernel("norm_bwd_input", *tile, CENTRED=centred)
        launch(kernel, (tiles.cdiv(rows, tile[0]),), (dx, shift, *read, *flags), rt.stream)
        if summed:
            arguments = (part_weight, part_bias, dy, x, mean, shift, rstd, rows, cols, group)
            launch(_affine(centred), (tiles.cdiv(cols, tiles.COLUMNS), groups), arguments, rt.stream)
    if summed:
        _sum_groups(rt, (dweight, dbias), (part_weight, part_bias), groups)


def _sum_groups(rt: Any, outs: tuple[Any, Any], parts: tuple[Any, Any], groups: int) -> None:
    """Each of two outputs (or None) from its sums per group."""
    y, z = outs
    sizes = [0 if out is None else out.size for out in outs]
    arrays = (z if y is None else y, y if z is None else z, *parts)
    grid = (tiles.cdiv(max(sizes), tiles.COLUMNS),)
    launch(SUM_GROUPS, grid, (*arrays, groups, *sizes), rt.stream)


@cache
def _kernel(name: str, block_rows: int, block_cols: int, warps: int, **constants: Any) -> Kernel:
    return triton(
        "norm", name, divisible=("cols",), warps=warps, **constants, BLOCK_ROWS=block_rows, BLOCK_COLS=block_cols
    )


@cache
def _affine(centred: bool) -> Kernel:
    return _kernel("norm_bwd_affine", GROUP_ROWS, tiles.COLUMNS, 4, CENTRED=centred)


_TILE = {"BLOCK_ROWS": GROUP_ROWS, "BLOCK_COLS": tiles.COLUMNS}
SUM_GROUPS = triton("norm", "sum_groups", divisible=("cols", "z_cols"), **_TILE)


def _variants() -> list[Variant]:
    found = []
    for dtype, wide in product(FLOATS, (True, False)):
        x, stat, sizes = f"*{dtype}", "*float32", ("int32", "int32")
        read = (x, x, x, stat, stat, x, *sizes)
        own = tiles.ROWS if wide else tiles.ROWS[:1]
        types = (x, stat, stat, x, x, x, *sizes, "float32", "int32", "int32")
        found += [Variant(_kernel("layer_norm", *tile, WHOLE=True), types, wide) for tile in own]
        found.append(Variant(_kernel("layer_norm", *own[-1], WHOLE=False), types, wide))
        for centred in (True, False):
            kernels = [_kernel("norm_bwd", *tile, CENTRED=centred) for tile in own]
            found += [Variant(kernel, (x, stat, stat, *read, *("int32",) * 4), wide) for kernel in kernels]
            kernel = _kernel("norm_bwd_input", *own[-1], CENTRED=centred)
            found.append(Variant(kernel, (x, stat, *read, "int32", "int32"), wide))
            found.append(Variant(_affine(centred), (stat, stat, x, x, stat, stat, stat, *sizes, "int32"), wide))
        found.append(Variant(SUM_GROUPS, (x, x, stat, stat, "int32", "int32", "int32"), wide))
    return found


VARIANTS = covering(_variants())
