"""Host side of the losses against class labels.

The kernels give NaN for a label out of range and read nothing there.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..aval import INTS, Aval
from ..backend import scratch as _scratch
from ..errors import IndexRangeError
from ._places import readable
from ._steps import (
    STEP_TYPES,
    Step,
    Tile,
    around,
    between,
    choose_tile,
    step_kernel,
    steps,
    variants,
    walk,
    walk_variants,
)
from ._sums import add_up
from .launch import FLOATS, Kernel, Variant, covering, launch, need_kernel, triton
from .tiles import POINTWISE, cdiv

ONE_PROGRAM = 16384  # losses that one program adds up
FEW_ROWS, FEW_CLASSES = 256, 16  # that one program works on from the start: four tiles


def _labels(rt: Any, op: str, target: Any, ignore_index: int, classes: int, look: Any = None) -> Any:
    """The labels, contiguous and int64. Emulated, those out of range are named as on the CPU.

    Args:
        look: `(labels, fault, number)`, launches the op's kernel, which looks at them; else another does.
    """
    need_kernel(op, target, INTS)
    if rt.stream.machine == "emulated":
        wrong = ((target < 0) | (target >= classes)) & (target != ignore_index)
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            at = f"target[{', '.join(map(str, where))}]" if where else "target"
            raise IndexRangeError(
                f"{op}: {at} is {int(target[where])}, but there are {classes} classes. "
                f"Use labels from 0 to {classes - 1}, or ignore_index."
            )
    labels = readable(rt, target)
    own = None if look is None else lambda fault, number: look(labels, fault, number)
    rt.check_range(op, target, classes, ignore=ignore_index, look=own)
    return labels


# --- one element per row ----------------------------------------------------------------------------------------------


def pick_class(rt: Any, y: Any, input: Any, target: Any, *, ignore_index: int) -> None:
    need_kernel("pick_class", input)
    _, n, inner = around(input.shape, min(1, input.ndim - 1))
    labels = _labels(rt, "labels", target, ignore_index, n)
    sizes = (y.size, np.int64(n), inner, np.int64(ignore_index))
    launch(PICK, (cdiv(y.size, POINTWISE),), (y, rt.packed(input), labels, *sizes), rt.stream)


def put_class(rt: Any, y: Any, input: Any, target: Any, *, shape: tuple[int, ...], ignore_index: int) -> None:
    need_kernel("put_class", input)
    outer, n, inner = around(shape, min(1, len(shape) - 1))
    labels = _labels(rt, "labels", target, ignore_index, n)
    tile = choose_tile(n, inner)
    sizes, grid = _tiled(outer * inner, n, inner, tile)
    arrays = (y, rt.packed(input), labels, *sizes, np.int64(ignore_index))
    launch(_put(inner == 1, tile), grid, arrays, rt.stream)


def _tiled(outputs: int, n: int, inner: int, tile: Tile) -> tuple[tuple[Any, ...], tuple[int]]:
    """Sizes and grid of a kernel whose programs have one tile each."""
    blocks = cdiv(n, tile[1])
    return (outputs, np.int64(n), inner, blocks), (cdiv(outputs, tile[0]) * blocks,)


PICK = triton("cross_entropy", "pick_class", divisible=None, BLOCK=POINTWISE)


@cache
def _put(last: bool, tile: Tile) -> Kernel:
    return step_kernel("cross_entropy", "put_class", last, tile)


# --- cross_entropy ----------------------------------------------------------------------------------------------------


def _total_steps(rows: int, reduction: str) -> tuple[Step, ...]:
    """Steps that add up losses and valid labels, kept as (2, rows): until one program can do the rest."""
    if reduction == "none":
        return steps((rows,), (0,))
    return steps((2, rows), (1,))[:-1] if rows > ONE_PROGRAM else ()


def _few(input: Any, target: Any, reduction: str) -> bool:
    """Whether one program does all."""
    _, n, inner = around(input.shape, 1)
    return reduction != "none" and inner == 1 and n <= FEW_CLASSES and target.size <= FEW_ROWS


def _loss_buffers(input: Aval, target: Aval, *, reduction: str, **attrs: Any) -> list[Aval]:
    rows = target.size
    if _few(input, target, reduction):
        return []
    found = _total_steps(rows, reduction)
    if reduction == "none":
        return [Aval((rows,), "float32"), *between(found, "float32")]
    return [Aval((2, rows), "float32"), *(Aval((2, s.groups), "float32") for s in found)]


@_scratch(_loss_buffers)
def cross_entropy_labels(
    rt: Any,
    y: Any,
    peak: Any,
    logsum: Any,
    count: Any,
    input: Any,
    target: Any,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    scratch: Any = (),
) -> None:
    need_kernel("cross_entropy", input)
    outer, n, inner = around(input.shape, 1)
    rows, per_row, x = outer * inner, reduction == "none", rt.packed(input)
    few, options = _few(input, target, reduction), (np.int64(ignore_index), float(label_smoothing))

    def launch_few(labels: Any, fault: Any, number: np.int64) -> None:
        arrays = (y, count, peak, logsum, x, labels, fault)
        launch(FEW, (1,), (*arrays, rows, n, options[0], int(reduction == "mean"), options[1], number), rt.stream)

    def launch_rows(labels: Any, fault: Any, number: np.int64) -> None:
        chosen = walk(n, inner)
        table = scratch[0]
        loss, valid = (peak, table) if per_row else (table[0], table[1])  # peak stands for no table
        arrays = (y, loss, valid, peak, logsum, x, labels, fault)
        sizes = (rows, np.int64(n), inner, n, options[0], int(per_row), options[1], number)
        launch(_forward(*chosen), (cdiv(rows, chosen[2][0]),), (*arrays, *sizes), rt.stream)

    _labels(rt, "cross_entropy", target, ignore_index, n, launch_few if few else launch_rows)
    if few:
        return
    table, *parts = scratch
    found = _total_steps(rows, reduction)
    if per_row:
        add_up(rt, count, table, found, parts)
        return
    if found:
        add_up(rt, parts[-1], table, found, parts[:-1])
        table = parts[-1]
    launch(TOTAL, (1,), (y, count, table[0], table[1], table.shape[1], int(reduction == "mean")), rt.stream)


def cross_entropy_labels_bwd(
    rt: Any,
    dx: Any,
    dy: Any,
    input: Any,
    target: Any,
    peak: Any,
    logsum: Any,
    count: Any,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> None:
    need_kernel("cross_entropy", input)
    outer, n, inner = around(input.shape, 1)
    labels = readable(rt, target)  # the forward pass has looked at them: what it saved is needed here
    rows = outer * inner
    tile = choose_tile(n, inner)
    sizes, grid = _tiled(rows, n, inner, tile)
    arrays = (dx, *(rt.packed(x) for x in (dy, input)), labels, *(rt.packed(x) for x in (peak, logsum)), count)
    scalars = (np.int64(ignore_index), int(reduction == "none"), int(reduction == "mean"), float(label_smoothing))
    launch(_backward(inner == 1, tile), grid, (*arrays, *sizes, *scalars), rt.stream)


@cache
def _forward(whole: bool, last: bool, tile: Tile) -> Kernel:
    return step_kernel("cross_entropy", "cross_entropy", last, tile, WHOLE=whole)


FEW = triton("cross_entropy", "cross_entropy_few", divisible=None, BLOCK_OUT=64, BLOCK_RED=FEW_CLASSES)
TOTAL = triton("cross_entropy", "cross_entropy_total", divisible=("n",), warps=8, BLOCK=2048)


@cache
def _backward(last: bool, tile: Tile) -> Kernel:
    return step_kernel("cross_entropy", "cross_entropy_bwd", last, tile)


def _variants() -> list[Variant]:
    found, stat, label = [], "*float32", "*int64"
    for dtype in FLOATS:
        x, sizes = f"*{dtype}", ("int32", "int64", "int32", "int32")
        types = (x, stat, stat, stat, stat, x, label, label, *STEP_TYPES, "int64", "int32", "float32", "int64")
        found += walk_variants(_forward, types)
        gradient = (x, x, x, label, stat, stat, stat, *sizes, "int64", "int32", "int32", "float32")
        found += variants(_backward, gradient)
        found += variants(_put, (x, x, label, *sizes, "int64"))
        few = (x, stat, stat, stat, x, label, label, "int32", "int32", "int64", "int32", "float32", "int64")
        found.append(Variant(FEW, few))
        found.append(Variant(PICK, (x, x, label, "int32", "int64", "int32", "int64")))
        for wide in (True, False):
            found.append(Variant(TOTAL, (x, stat, stat, stat, "int32", "int32"), wide))
    return found


VARIANTS = covering(_variants())
