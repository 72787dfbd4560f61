"""Host side of the affine map and of its gradients."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from ..aval import Aval
from ..backend import scratch
from ..errors import BackendError
from . import _products, _steps, tiles
from ._sums import add_up
from .launch import Kernel, Variant, launch, need_kernel, triton
from .norm import SUM_GROUPS

PROGRAMS = 128  # at most so many share a sum over rows: about one for each multiprocessor of a large GPU
SHORTEST = 256  # rows that a program sums up at least


def linear(rt: Any, y: Any, input: Any, weight: Any, bias: Any) -> None:
    need_kernel("linear", y)
    y, x = _matrix(rt, y), _matrix(rt, input)
    _products.multiply(rt, "linear", y, x, weight.T, None if bias is None else rt.packed(bias))


def _matrix(rt: Any, x: Any) -> Any:
    """All leading axes as one."""
    return x if x.ndim == 2 else rt.packed(x).reshape((math.prod(x.shape[:-1]), x.shape[-1]))


# --- its gradients ----------------------------------------------------------------------------------------------------


def _weight_plan(kind: str, rows: int, m: int, n: int) -> tuple[Kernel, int, int, int]:
    """(kernel, programs of one split, splits, rows per split) of the weight gradient (m, n).

    Depends on the shape alone, never on the device, so that the order of the sum is the same everywhere.
    """
    tile = tiles.matmul(m, n, 1, kind)
    programs = tiles.cdiv(m, tile[0]) * tiles.cdiv(n, tile[1])
    wanted = max(PROGRAMS // max(programs, 1), 1)
    deep = tiles.cdiv(max(tiles.cdiv(rows, wanted), min(rows, SHORTEST), 1), tile[2]) * tile[2]
    return _weight_kernel(kind, tile), programs, max(tiles.cdiv(rows, deep), 1), deep


def _partial_sums(dy: Aval, input: Aval, weight: Aval, *, needs: tuple[bool, ...]) -> list[Aval]:
    """The sums per split of the rows for dweight, where there are several; then those for dbias."""
    rows, (m, n) = math.prod(dy.shape[:-1]), weight.shape
    found = []
    if needs[1]:
        kinds = (kind for dtype, kind in _products.KINDS if dtype == dy.dtype)
        most = max((_weight_plan(kind, rows, m, n)[2] for kind in kinds), default=1)
        found += [Aval((most, m, n), "float32")] if most > 1 else []
    if needs[2]:
        found += _steps.between(_steps.steps((rows, m), (0,)), "float32")
    return found


@scratch(_partial_sums)
def linear_bwd(
    rt: Any,
    dinput: Any,
    dweight: Any,
    dbias: Any,
    dy: Any,
    input: Any,
    weight: Any,
    *,
    needs: tuple[bool, ...],
    scratch: Any = (),
) -> None:
    need_kernel("linear_bwd", dy)
    dy = _matrix(rt, dy)
    if dinput is not None:
        _products.multiply(rt, "linear_bwd", _matrix(rt, dinput), dy, weight)
    if dweight is None and dbias is None:
        return
    dy = rt.packed(dy)
    if dweight is not None:
        _weight_gradient(rt, dweight, dy, rt.packed(_matrix(rt, input)), scratch)
    if dbias is not None:
        found = _steps.steps(dy.shape, (0,))
        add_up(rt, dbias, dy, found, scratch[len(scratch) - len(found) + 1 :])


def _weight_gradient(rt: Any, dweight: Any, dy: Any, x: Any, scratch: Any) -> None:
    """dweight = dyᵀ · x; the first buffer is for the sums of several splits."""
    (rows, m), n = dy.shape, x.shape[1]
    if max(m, n) > _products.LONGEST_ROW:
        raise BackendError(
            f"linear_bwd: rows of {max(m, n)} elements are longer than the kernel's {_products.LONGEST_ROW} "
            f"(weight {dweight.shape}). Split the product."
        )
    code, programs, splits, depth = _weight_plan(_products.kind_of(rt, str(dy.dtype)), rows, m, n)
    sums = dweight if splits == 1 else scratch[0]
    launch(code, (programs, splits), (sums, dy, x, rows, m, n, depth), rt.stream)
    if splits > 1:
        launch(SUM_GROUPS, (tiles.cdiv(m * n, tiles.COLUMNS),), (dweight, sums, splits, m * n), rt.stream)


@cache
def _weight_kernel(kind: str, tile: tuple[int, int, int, int, int]) -> Kernel:
    block_m, block_n, block_k, warps, stages = tile
    return triton(
        "linear",
        "linear_weight",
        divisible=("M", "N"),
        warps=warps,
        stages=stages,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=block_k,
        INPUT_PRECISION=_products.INPUT_PRECISION[kind],
    )


VARIANTS = tuple(
    Variant(
        _weight_kernel(kind, tile),
        (f"*{out}", f"*{dtype}", f"*{dtype}") + ("int32",) * 4,
        wide,
        tensor_cores=kind != "ieee",
    )
    for dtype, kind in _products.KINDS
    for tile in tiles.MATMUL[kind]
    for out in dict.fromkeys((dtype, "float32") if tile[0] < 128 else (dtype,))  # the largest tile is never split
    for wide in (True, False)
)
