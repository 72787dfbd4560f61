"""Host side of the ops that pick slices by a vector of indices, and of the sums that are their gradients."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from ._integers import exact, narrowed, widened
from ._places import BLOCK, SUMS, alpha_as, axes, positions, select, sum_type
from ._sort import argsort as _argsort
from .launch import FLOATS, Variant, covering, launch, need_kernel, triton
from .tiles import cdiv

SUM_TILES = ((128, 1), (16, 64))  # rows, columns


def index_select(rt: Any, y: Any, input: Any, index: Any, *, dim: int) -> None:
    size = input.shape[dim] if input.ndim else 1
    outer, cols = (math.prod(input.shape[:dim]), math.prod(input.shape[dim + 1 :])) if input.ndim else (1, 1)
    select(rt, "index_select", y, input, index, outer, size, cols)


def index_add(rt: Any, y: Any, input: Any, index: Any, source: Any, *, dim: int, alpha: float) -> None:
    kind = need_kernel("index_add", input, SUMS)
    size = input.shape[dim] if input.ndim else 1
    if not y.size:
        rt.check_range("index_add", index, size)
        return
    n, cols = index.size, math.prod(input.shape[dim + 1 :])
    outer = y.size // (size * cols)
    plain = str(index.dtype) == "int64"  # one that is out of range is the number of no row
    place = (
        rt.packed(index) if plain else positions(rt, "index_add", index, index.shape, (0,) * index.ndim, 1, size, size)
    )
    one = not any(input.strides)  # a single element that repeats: the zeros that gradients begin with
    x = rt.view(input, 0, (1,), (1,)) if one else rt.packed(input)
    sums = y if exact(kind) == kind else rt.empty(y.shape, exact(kind))
    x, source = (widened(rt, a, exact(kind)) for a in (x, rt.packed(source)))
    shape = next((t for t in SUM_TILES if cols <= t[1]), SUM_TILES[-1])
    grid = (outer * size * cdiv(cols, shape[1]),)
    arrays = (sums, x, source, place, _argsort(rt, place))
    numbers = (n, size, cols, int(not one), alpha_as(kind, alpha), n.bit_length() + 1)
    look = lambda fault, number: launch(SUM_ROWS[shape], grid, (*arrays, *numbers, fault, number), rt.stream)  # noqa: E731
    rt.check_range("index_add", index, size, look=look)
    narrowed(rt, y, sums)


def wrap_index(rt: Any, y: Any, *indices: Any, sizes: tuple[int, ...], op: str) -> None:
    for k, (index, size) in enumerate(zip(indices, sizes, strict=True)):
        rt.check_range(op, index, size, -size)
        index = widened(rt, index, "int64")
        args = axes(op, y.shape, [0 if n == 1 else s // index.itemsize for n, s in _trailing(index, y.ndim)])
        programs = cdiv(y.size, BLOCK)
        launch(WRAP[k == 0], (programs,), (y, index, np.int64(y.size), *args, np.int64(size)), rt.stream)


def _trailing(x: Any, ndim: int) -> list[tuple[int, int]]:
    """(size, stride) of each of `ndim` axes to which the array broadcasts."""
    return [(1, 0)] * (ndim - x.ndim) + list(zip(x.shape, x.strides, strict=True))


SUM_ROWS = {
    shape: triton("index", "index_add", divisible=("cols",), BLOCK_ROWS=shape[0], BLOCK_COLS=shape[1])
    for shape in SUM_TILES
}
WRAP = [triton("index", "wrap_index", divisible=None, FIRST=first, BLOCK=BLOCK) for first in (0, 1)]


def _variants() -> list[Variant]:
    found = [Variant(kernel, ("*int64", "*int64", *("int64",) * 11)) for kernel in WRAP]
    for wide, kind in product((True, False), (*FLOATS, "int64")):
        for place in ("int64", "int32"):
            ints = ("int32",) * 4
            types = (*(f"*{kind}",) * 3, f"*{place}", "*int64", *ints, sum_type(kind), "int32", "*int64", "int64")
            found += [Variant(kernel, types, wide) for kernel in SUM_ROWS.values()]
    return found


VARIANTS = covering(_variants())
