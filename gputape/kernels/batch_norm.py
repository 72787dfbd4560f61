"""Host side of batch normalisation."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ..aval import ITEMSIZE, Aval
from ..backend import scratch as _scratch
from ._pools import ELEMENT
from ._steps import STEP_TYPES, TILES, Step, Tile, between, step, step_kernel, steps, variants
from ._sums import add_up, moment_buffers, moments
from .launch import FLOATS, Kernel, Variant, covering, cuda, launch, need_kernel, triton
from .tiles import cdiv

FEW_ROWS, FEW_CHANNELS = 256, 16  # of a program that holds all samples of its channels
PACK, THREADS = 16, 512  # bytes that a thread accesses at a time; threads of a block that keeps a channel
PACKS = (5, 15, 25)  # of a thread; with more, registers would spill: a block cannot keep that channel
CHANNELS = 256  # per program of the kernel that goes over channels only


def _table(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(N, C, L) with L the values behind each channel; no values count as no samples."""
    length = math.prod(shape[2:])
    return (shape[0], shape[1], length) if length else (0, shape[1], 1)


def _whole(shape: tuple[int, ...]) -> Step:
    """How a kernel goes over all values: along the rows, or with L = 1 along the columns."""
    n, c, length = _table(shape)
    return step(n * c, length, 1) if length > 1 else step(1, n, c)


def _tiled(s: Step) -> tuple[tuple[int], tuple[Any, ...]]:
    """Grid and sizes of a kernel whose programs have one tile each."""
    blocks = cdiv(s.n, s.tile[1])
    return (cdiv(s.outputs, s.tile[0]) * blocks,), (s.outputs, np.int64(s.n), s.inner, blocks)


# --- forward ----------------------------------------------------------------------------------------------------------


def _few(shape: tuple[int, ...]) -> bool:
    """Whether a program holds all values of its channels."""
    n, _, length = _table(shape)
    return length == 1 and 0 < n <= FEW_ROWS


def _kept(shape: tuple[int, ...], itemsize: int) -> int:
    """The packs of a thread if a block keeps a channel, which it then reads once; 0 if it cannot."""
    n, _, length = _table(shape)
    row = length * itemsize
    if not n or row % PACK:
        return 0
    return next((packs for packs in PACKS if n * row <= packs * THREADS * PACK), 0)


def _moment_buffers(input: Aval, *params: Any, eps: float) -> list[Aval]:
    """What the rounded means lack, and what the steps leave for each other."""
    if _few(input.shape) or _kept(input.shape, ITEMSIZE[input.dtype]):
        return []
    return [Aval(input.shape[1:2], "float32"), *moment_buffers(_table(input.shape), (0, 2))]


@_scratch(_moment_buffers)
def batch_norm_train(
    rt: Any,
    y: Any,
    mean: Any,
    var: Any,
    rstd: Any,
    input: Any,
    weight: Any,
    bias: Any,
    *,
    eps: float,
    scratch: Any = (),
) -> None:
    need_kernel("batch_norm_train", input)
    n, channels, length = _table(input.shape)
    packs = _kept(input.shape, input.itemsize)
    x = rt.packed(input, wide=packs > 0)
    w, b = (x if a is None else rt.packed(a) for a in (weight, bias))
    given = (float(eps), int(weight is not None), int(bias is not None))
    arrays = (y, mean, var, rstd, x, w, b)
    if _few(input.shape):
        launch(FEW, (cdiv(channels, FEW_CHANNELS),), (*arrays, n, channels, *given), rt.stream)
        return
    if packs:
        launch(_keeping(packs, str(x.dtype)), (channels,), (*arrays, n, channels, length, *given), rt.stream)
        return
    rest, *parts = scratch
    moments(rt, var, mean, rest, x.reshape(n, channels, length), (0, 2), float(n * length), parts)
    if not input.size:  # no program would write rstd, which is NaN as var is
        moments(rt, rstd, mean, rest, x.reshape(n, channels, length), (0, 2), 0.0, parts)
    s = _whole(input.shape)
    grid, sizes = _tiled(s)
    launch(_forward(s.last, s.tile), grid, (y, rstd, x, w, b, mean, rest, var, *sizes, channels, *given), rt.stream)


FEW = triton("batch_norm", "batch_norm_few", divisible=("channels",), BLOCK_ROWS=FEW_ROWS, BLOCK_COLS=FEW_CHANNELS)


@cache
def _keeping(packs: int, dtype: str) -> Kernel:
    macros = {"ELEMENT": ELEMENT[dtype], "PACKS": packs, "THREADS": THREADS}
    return cuda("batch_norm", "batch_norm_kept", warps=THREADS // 32, **macros)


@cache
def _forward(last: bool, tile: Tile) -> Kernel:
    return step_kernel("batch_norm", "batch_norm", last, tile)


# --- backward ---------------------------------------------------------------------------------------------------------


def _partial(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape of the partial sums, and the axes along which they are to be summed to (3, C)."""
    n, channels, length = _table(shape)
    groups = _whole(shape).groups
    return ((3, n, channels, groups), (1, 3)) if length > 1 else ((3, channels, groups), (2,))


def _backward_buffers(dy: Aval, input: Aval, *rest: Any, needs: tuple[bool, ...]) -> list[Aval]:
    """Sums per channel, the line of dx per channel, partial sums."""
    shape, dims = _partial(input.shape)
    channel = Aval((3, input.shape[1]), "float32")
    return [channel, channel, Aval(shape, "float32"), *between(steps(shape, dims), "float32")]


@_scratch(_backward_buffers)
def batch_norm_bwd(
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
    needs: tuple[bool, ...],
    scratch: list[Any],
) -> None:
    need_kernel("batch_norm_bwd", input)
    n, channels, length = _table(input.shape)
    dy, x, mean, rstd = (rt.packed(a) for a in (dy, input, mean, rstd))
    sums, line, partial, *parts = scratch
    s = _whole(input.shape)
    launch(_sums(s.last, s.tile), s.grid, (partial, dy, x, mean, *s.sizes, channels), rt.stream)
    add_up(rt, sums, partial, steps(*_partial(input.shape)), parts)
    w = x if weight is None else rt.packed(weight)
    outs = (line, *(x if out is None else out for out in (dweight, dbias)))  # x is not written to
    flags = (int(weight is not None), int(dweight is not None), int(dbias is not None))
    arrays = (*outs, sums, w, rstd, channels, float(n * length), *flags)
    launch(PER_CHANNEL, (cdiv(channels, CHANNELS),), arrays, rt.stream)
    if dx is not None:
        grid, sizes = _tiled(s)
        launch(_input(s.last, s.tile), grid, (dx, dy, x, mean, line, *sizes, channels), rt.stream)


@cache
def _sums(last: bool, tile: Tile) -> Kernel:
    return step_kernel("batch_norm", "batch_norm_bwd_sums", last, tile)


PER_CHANNEL = triton("batch_norm", "batch_norm_bwd_channels", divisible=("channels",), warps=2, BLOCK=CHANNELS)


@cache
def _input(last: bool, tile: Tile) -> Kernel:
    return step_kernel("batch_norm", "batch_norm_bwd_input", last, tile)


def _variants() -> list[Variant]:
    found, stat = [], "*float32"
    tiled = ("int32", "int64", "int32", "int32", "int32")  # sizes and channels
    for dtype in FLOATS:
        x = f"*{dtype}"
        arrays, scalars = (x, stat, stat, stat, x, x, x), ("float32", "int32", "int32")
        few, kept = (arrays + ("int32",) * sizes + scalars for sizes in (2, 3))
        found += [Variant(FEW, few, wide) for wide in (True, False)]
        found += [Variant(_keeping(packs, dtype), kept) for packs in PACKS]
        found += variants(_forward, (x, stat, x, x, x, stat, stat, stat, *tiled, "float32", "int32", "int32"))
        found += variants(_sums, (stat, x, x, stat, *STEP_TYPES, "int32"), TILES)
        found += variants(_input, (x, x, x, stat, stat, *tiled))
        types = (stat, x, x, stat, x, stat, "int32", "float32", "int32", "int32", "int32")
        found += [Variant(PER_CHANNEL, types, wide) for wide in (True, False)]
    return found


VARIANTS = covering(_variants())
