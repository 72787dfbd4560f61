"""Host side of the affine map and of its gradients."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from ..aval import Aval
from ..backend import scratch
from . import _steps
from ._products import (
    INPUT_PRECISION,
    KINDS,
    NOTHING,
    Ending,
    Plan,
    add_splits,
    check_rows,
    kind_of,
    multiply,
    operand,
    part_size,
    partial_sums,
)
from ._sums import add_up
from .launch import Kernel, Variant, covering, launch, need_kernel, triton
from .tiles import MATMUL, cdiv

TIMES = Ending(factor=True)
WIDE = 128  # rows of the tiles of products that fill a GPU alone


def _matrix(rt: Any, x: Any) -> Any:
    """All leading axes as one."""
    return x if x.ndim == 2 else rt.packed(x).reshape((_rows(x), x.shape[-1]))


def _rows(x: Any) -> int:
    return math.prod(x.shape[:-1])


@scratch(lambda input, weight, bias: partial_sums(input.dtype, _rows(input), _rows(weight), weight.shape[-1]))
def linear(rt: Any, y: Any, input: Any, weight: Any, bias: Any, *, scratch: Any = ()) -> None:
    need_kernel("linear", y)
    if weight.ndim == 1:
        weight, y = weight[None], y.reshape((*y.shape, 1))
    y, x = _matrix(rt, y), _matrix(rt, input)
    multiply(rt, "linear", y, x, weight.T, None if bias is None else rt.packed(bias), scratch)


def _partial_sums(dy: Aval, input: Aval, weight: Aval, factor: Any, *, needs: tuple[bool, ...]) -> list[Aval]:
    """Those of the product for dinput, of that for dweight, then of the sums for dbias if they are taken alone."""
    rows, (m, n) = _rows(dy), weight.shape
    joined = all(needs[1:])
    return [
        *(partial_sums(dy.dtype, rows, n, m) if needs[0] else []),
        *(partial_sums(dy.dtype, m, n, rows, row_sums=joined) if needs[1] else []),
        *(_steps.between(_steps.steps((rows, m), (0,)), "float32") if needs[2] and not joined else []),
    ]


@scratch(_partial_sums)
def linear_bwd(
    rt: Any,
    dinput: Any,
    dweight: Any,
    dbias: Any,
    dy: Any,
    input: Any,
    weight: Any,
    factor: Any,
    *,
    needs: tuple[bool, ...],
    scratch: Any = (),
) -> None:
    dtype = need_kernel("linear_bwd", dy)
    dy, buffers = _matrix(rt, dy), list(scratch)
    rows, (m, n) = dy.shape[0], weight.shape
    if _together(rt, (dinput, dweight, dbias), (dy, input, weight, factor), buffers):
        return
    if dinput is not None:
        own = buffers[: len(partial_sums(dtype, rows, n, m))]
        ending, other = (NOTHING, None) if factor is None else (TIMES, rt.packed(factor))
        multiply(rt, "linear_bwd", _matrix(rt, dinput), dy, weight, None, own, ending, other=other)
        buffers = buffers[len(own) :]
    if dweight is None and dbias is None:
        return
    dy = rt.packed(dy)
    if dweight is not None:
        multiply(rt, "linear_bwd", dweight, dy.T, _matrix(rt, input), scratch=buffers, row_sums=dbias)
    else:
        add_up(rt, dbias, dy, _steps.steps(dy.shape, (0,)), buffers)


def _together(rt: Any, outs: tuple[Any, ...], arrays: tuple[Any, ...], scratch: list[Any]) -> bool:
    """Compute both products of `linear_bwd` in one launch, which reads dy once, and dbias with them.

    Returns:
        False, and does nothing, where one of the products is not wanted, fills a GPU alone, or needs another kernel.
    """
    dinput, dweight, dbias = outs
    dy, x, weight, factor = arrays
    kind, rows, (m, n) = kind_of(rt, str(dy.dtype)), dy.shape[0], weight.shape
    one, two = Plan.of(rows, n, m, 1, kind), Plan.of(m, n, rows, 1, kind)
    if dinput is None or dweight is None or one.tile != two.tile or one.tile[0] >= WIDE or one.splits > 1:
        return False
    (x, x_transposed, row_x, _), (w, w_transposed, row_w, _) = (operand(rt, a, ()) for a in (_matrix(rt, x), weight))
    if x_transposed or w_transposed:
        return False
    check_rows("linear_bwd", m, n, row_x, row_w)
    dy, summed = rt.packed(dy), int(dbias is not None)
    other = dy if factor is None else rt.packed(factor)
    part = part_size(dweight.size, m * summed) if two.splits > 1 else 0
    dw, db = dweight, dweight if dbias is None else dbias
    if part:
        dw = scratch[0].reshape(-1)
        db = dw[dweight.size :]
    programs = one.programs + (two.programs + summed * cdiv(m, two.tile[0])) * two.splits
    sizes = (rows, m, n, part, two.depth, row_x, row_w, summed)
    kernel = _kernel(kind, one.tile, factor is not None)
    launch(kernel, (programs,), (dinput, dw, db, dy, x, w, other, *sizes), rt.stream)
    if part:
        add_splits(rt, dweight, dbias, dw, two.splits)
    return True


@cache
def _kernel(kind: str, tile: tuple[int, int, int, int, int], factor: bool) -> Kernel:
    block_m, block_n, block_k, warps, stages = tile
    return triton(
        "matmul",
        "linear_bwd",
        divisible=("M", "N", "part", "depth", "row_x", "row_w"),
        warps=warps,
        stages=stages,
        OTHER=TIMES.constants()["OTHER"] if factor else None,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=block_k,
        INPUT_PRECISION=INPUT_PRECISION[kind],
    )


def _variants() -> list[Variant]:
    found = []
    for dtype, kind in KINDS:
        for tile in (tile for tile in MATMUL[kind] if tile[0] < WIDE):
            for out, factor, wide in ((dtype, False, True), ("float32", True, True), (dtype, False, False)):
                types = (f"*{dtype}", f"*{out}", f"*{out}", *(f"*{dtype}",) * 4, *("int32",) * 8)
                found.append(Variant(_kernel(kind, tile, factor), types, wide))
    return found


VARIANTS = covering(_variants())
