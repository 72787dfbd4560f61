"""Host side of the kernels that move elements: strided copies, and copies into a window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from ..errors import BackendError
from .launch import Kernel, Variant, covering, launch, triton
from .tiles import cdiv

AXES = 5  # rows, columns and three more
LONGEST = 2**30  # positions along one axis are 32-bit
COLS, ROWS, NEITHER = 1, 2, 0  # along which of the axes the stride is 1
WIDE_TILES = ((1, 1024), (16, 64))  # rows, columns
TILES = (*WIDE_TILES, (256, 4))
TURNED = (32, 32)
# A tile has 1024 elements: two warps move bytes 16 at a time.
BITS = {1: "int8", 2: "int16", 4: "int32", 8: "int64"}

Ints = tuple[int, ...]


def bits(x: Any) -> Any:
    """The array as integers as wide as its elements."""
    return x.view(BITS[x.itemsize])


def pattern(value: float, dtype: Any) -> np.int64:
    """The integer with the bits of `value` in that dtype."""
    return np.int64(np.array(value).astype(dtype).view(BITS[np.dtype(dtype).itemsize]))


def merged(axes: Sequence[tuple[int, Any]], joins: Any) -> list[tuple[int, Any]]:
    """Axes (size, anything) without those of size 1, neighbours joined by `joins(outer, inner) -> axis | None`."""
    found: list[tuple[int, Any]] = []
    for axis in axes:
        if axis[0] == 1:
            continue
        joined = joins(found[-1], axis) if found and found[-1][0] * axis[0] < LONGEST else None
        if joined is None:
            found.append(axis)
        else:
            found[-1] = joined
    return found


def tile(rows: int, cols: int) -> tuple[int, int]:
    """The tile that covers the axes with the fewest programs; among equals the one with the longest rows.

    Rows of a few elements are for rows that are hardly longer: else several programs share each sector of memory.
    """
    fit = TILES if cols <= 2 * TILES[-1][1] else TILES[:-1]
    return min(fit, key=lambda t: cdiv(rows, t[0]) * cdiv(cols, t[1]))


def strides_of(x: Any) -> Ints:
    """Strides in elements."""
    return tuple(s // x.itemsize for s in x.strides)


def copy_into(rt: Any, y: Any, x: Any) -> None:
    """y[...] = x, of one shape and element size, with any strides."""
    if not y.size:
        return

    def joins(outer: Any, inner: Any) -> Any:
        (m, (a, b)), (n, (c, d)) = outer, inner
        return (m * n, (c, d)) if a == n * c and b == n * d else None

    axes = merged(list(zip(y.shape, zip(strides_of(y), strides_of(x), strict=True), strict=True)), joins)
    if len(axes) > AXES:  # rare: one launch per element of the longest axis in front
        for k in range(y.shape[0]):
            copy_into(rt, y[k], x[k])
        return
    axes = [(1, (0, 0))] * (2 - len(axes)) + axes
    turned = [k for k, (_, (_, s)) in enumerate(axes[:-1]) if s == 1]
    down = turned[0] if turned and axes[-1][1][1] != 1 else len(axes) - 2
    order = (down, len(axes) - 1, *(k for k in reversed(range(len(axes) - 1)) if k != down))
    sizes, strides = zip(*(axes[k] for k in order), strict=True)
    y_strides, x_strides = (tuple(s[i] for s in strides) for i in (0, 1))
    plain = y_strides[1] == 1
    turn = plain and x_strides[0] == 1 and x_strides[1] != 1
    shape = TURNED if turn else tile(*sizes[:2])
    across = plain and x_strides[1] == 1 and shape in WIDE_TILES
    kernel = _copy(ROWS if turn else COLS if across else NEITHER, shape)
    launch(
        kernel,
        (_programs(sizes, shape),),
        (bits(y), bits(x), *_padded(sizes, 1)[:4], *_longs(y_strides), *_longs(x_strides)),
        rt.stream,
    )


def _programs(sizes: Ints, shape: tuple[int, int]) -> int:
    return math.prod(cdiv(n, b) for n, b in zip(sizes, shape, strict=False)) * math.prod(sizes[2:])


def _padded(values: Ints, rest: int) -> Ints:
    return (*values, *(rest,) * (AXES - len(values)))


def _longs(strides: Ints) -> tuple[np.int64, ...]:
    return tuple(np.int64(s) for s in _padded(strides, 0))


def window_into(op: str, rt: Any, y: Any, x: Any, start: Ints, step: Ints, value: float) -> None:
    """y (contiguous) is x at start, start + step, … of each axis, `value` elsewhere; what does not fit is left out."""
    if not y.size:
        return
    if not x.size:
        x = rt.view(y, 0, (1,) * y.ndim, (1,) * y.ndim)  # nothing of it is read
        start, step = y.shape, (1,) * y.ndim

    def joins(outer: Any, inner: Any) -> Any:
        (m, (s, a, k, size)), (n, (t, b, kk, inside)) = outer, inner
        whole = b == 0 and kk == 1 and inside == n and s == n * t
        return (m * n, (t, a * n, 1, size * n)) if whole and k == 1 else None

    walks = zip(y.shape, zip(strides_of(x), start, step, x.shape, strict=True), strict=True)
    each = [(n, (s, a, k, size)) for n, (s, a, k, size) in walks if n != 1 or size != 1 or a != 0]
    axes = _whole(each, joins)
    if len(axes) > AXES:
        raise BackendError(f'{op}: no kernel for {len(axes)} axes (up to {AXES}). Use gt.device("cpu").')
    axes = [(1, (0, 0, 1, 1))] * (2 - len(axes)) + axes
    order = (len(axes) - 2, len(axes) - 1, *reversed(range(len(axes) - 2)))
    sizes, parts = zip(*(axes[k] for k in order), strict=True)
    strides, starts, steps, inner = (tuple(p[i] for p in parts) for i in range(4))
    shape = tile(*sizes[:2])
    across = strides[1] == 1 and all(k == 1 for k in steps) and shape in WIDE_TILES
    kernel = _window(across, shape)
    ints = (*_padded(starts, 0), *_padded(steps, 1), *_padded(inner, 1))
    args = (*_padded(sizes, 1)[:4], *_longs(strides), *ints, pattern(value, y.dtype))
    launch(kernel, (_programs(sizes, shape),), (bits(y), bits(x), *args), rt.stream)


def _whole(axes: list[Any], joins: Any) -> list[Any]:
    """`merged`, but an axis of size 1 counts: a window may miss it."""
    found: list[Any] = []
    for axis in axes:
        joined = joins(found[-1], axis) if found and found[-1][0] * axis[0] < LONGEST else None
        found = [*found[:-1], joined] if joined is not None else [*found, axis]
    return found


@cache
def _copy(x_unit: int, shape: tuple[int, int]) -> Kernel:
    """The copy to rows with stride 1, or with x_unit NEITHER to any."""
    names = ("cols", "y_row", "y_1", "y_2", "y_3", "x_row" if x_unit != ROWS else "x_col", "x_1", "x_2", "x_3")
    return triton(
        "copy",
        "copy",
        divisible=names if x_unit else None,
        warps=2 if x_unit == COLS else 4,
        Y_UNIT=COLS if x_unit else NEITHER,
        X_UNIT=x_unit,
        BLOCK_ROWS=shape[0],
        BLOCK_COLS=shape[1],
    )


@cache
def _window(across: bool, shape: tuple[int, int]) -> Kernel:
    """The window on rows with stride 1 that goes on step by step, or on any."""
    return triton(
        "copy",
        "window",
        divisible=("cols", "x_row", "x_1", "x_2", "x_3", "a_col", "s_col") if across else None,
        warps=2 if across else 4,
        STEPPED=not across,
        X_UNIT=COLS if across else NEITHER,
        BLOCK_ROWS=shape[0],
        BLOCK_COLS=shape[1],
    )


def _variants() -> list[Variant]:
    copies = [*(_copy(COLS, shape) for shape in WIDE_TILES), _copy(ROWS, TURNED)]
    copies += [_copy(NEITHER, shape) for shape in TILES]
    windows = [*(_window(True, shape) for shape in WIDE_TILES), *(_window(False, shape) for shape in TILES)]
    found = []
    for kind in BITS.values():
        ends = (f"*{kind}",) * 2 + ("int32",) * 4
        for types, kernels in (
            ((*ends, *("int64",) * 10), copies),
            ((*ends, *("int64",) * 5, *("int32",) * 15, "int64"), windows),
        ):
            found += [Variant(k, types, wide) for k in kernels for wide in (True, False) if wide or k.divisible]
    return found


VARIANTS = covering(_variants())
