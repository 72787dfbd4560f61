"""What the index ops share on the host: how their kernels see indices, and where each index points."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from ..aval import INTS
from ..errors import BackendError
from ._copy import AXES, BITS, bits, pattern
from ._integers import widened
from .launch import FLOATS, Kernel, Variant, covering, launch, triton
from .tiles import cdiv

BLOCK = 512
SELECT_TILES = ((1024, 1), (16, 64), (1, 1024))  # rows, columns
SUMS = (*FLOATS, *INTS)  # element types of sums, integers widened first

Ints = tuple[int, ...]


def sum_type(kind: str) -> str:
    """What elements of this type are summed in."""
    return "float32" if kind in FLOATS else "int64"


def alpha_as(kind: str, alpha: float) -> Any:
    """The factor as an argument of the type that sums are made in."""
    return float(alpha) if kind in FLOATS else np.int64(alpha)


def no_value(dtype: Any) -> np.int64:
    """The bits that stand for what an index out of range does not find: NaN, or 0 for integers."""
    return pattern(0 if np.dtype(dtype).kind in "iub" else np.nan, dtype)


def axes(op: str, shape: Sequence[int], strides: Sequence[int]) -> tuple[np.int64, ...]:
    """The kernels' four sizes and five strides: axes of an array, its neighbours merged where they are one run."""
    found: list[tuple[int, int]] = []
    for n, s in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if found and found[-1][1] == n * s:
            found[-1] = (found[-1][0] * n, s)
        else:
            found.append((n, s))
    if len(found) > AXES:
        raise BackendError(f'{op}: no kernel for {len(found)} axes (up to {AXES}). Use gt.device("cpu").')
    found = [(1, 0)] * (AXES - len(found)) + found
    return (*(np.int64(max(n, 1)) for n, _ in found[1:]), *(np.int64(s) for _, s in found))


def positions(rt: Any, op: str, index: Any, shape: Ints, strides: Ints, step: int, size: int, reach: int) -> Any:
    """Flat integers: Σ position · stride + index · step for each index, all below `reach`; -1 for an index out of
    [0, size), which is noted for `op`."""
    place = rt.empty((index.size,), "int32" if reach < 2**31 else "int64")
    args = (np.int64(index.size), *axes("index", shape, strides), np.int64(step), np.int64(size))
    arrays, grid = (place, readable(rt, index)), (cdiv(index.size, BLOCK),)
    look = lambda fault, number: launch(PLACES, grid, (*arrays, *args, fault, number), rt.stream)  # noqa: E731
    rt.check_range(op, index, size, look=look)
    return place


def readable(rt: Any, index: Any) -> Any:
    """The indices, contiguous and int64."""
    return rt.packed(widened(rt, index, "int64"))


def select(rt: Any, op: str, y: Any, x: Any, index: Any, outer: int, size: int, cols: int) -> None:
    """y (outer, index.size, cols) is x (outer, size, cols) at the indices along the second axis, which are checked."""
    if not y.size:
        rt.check_range(op, index, size)
        return
    n = index.size
    shape = min(SELECT_TILES, key=lambda t: cdiv(n, t[0]) * cdiv(cols, t[1]))
    programs = outer * cdiv(n, shape[0]) * cdiv(cols, shape[1])
    args = (bits(y), bits(rt.packed(x)), readable(rt, index), n, size, cols, no_value(y.dtype))
    look = lambda fault, number: launch(_select(shape), (programs,), (*args, fault, number), rt.stream)  # noqa: E731
    rt.check_range(op, index, size, look=look)


@cache
def _select(shape: tuple[int, int]) -> Kernel:
    return triton("index", "index_select", divisible=("cols",), warps=2, BLOCK_ROWS=shape[0], BLOCK_COLS=shape[1])


PLACES = triton("index", "places", divisible=None, BLOCK=BLOCK)


def _variants() -> list[Variant]:
    found = [Variant(PLACES, ("*int32", "*int64", *("int64",) * 12, "*int64", "int64"))]
    for wide, kind in product((True, False), BITS.values()):
        types = (f"*{kind}", f"*{kind}", "*int64", *("int32",) * 3, "int64", "*int64", "int64")
        found += [Variant(_select(shape), types, wide) for shape in SELECT_TILES]
    return found


VARIANTS = covering(_variants())
