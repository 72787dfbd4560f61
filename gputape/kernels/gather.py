"""Host side of gather and scatter_add."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._copy import BITS, bits, copy_into, strides_of
from ._integers import exact, narrowed, widened
from ._places import BLOCK, SUMS, alpha_as, axes, no_value, positions, readable, sum_type
from ._sort import argsort as _argsort
from .launch import FLOATS, Variant, launch, need_kernel, triton
from .tiles import cdiv

RUN = 128  # elements of a run of equal places that a program adds at a time


def gather(rt: Any, y: Any, input: Any, index: Any, *, dim: int) -> None:
    size = input.shape[dim] if input.ndim else 1
    if not y.size:
        rt.check_range("gather", index, size)
        return
    strides = strides_of(input) if input.ndim and index.ndim else (0,) * index.ndim
    step = strides_of(input)[dim] if input.ndim else 0
    beside = [0 if k == dim else s for k, s in enumerate(strides)]
    args = (np.int64(y.size), *axes("gather", index.shape, beside), np.int64(step), np.int64(size), no_value(y.dtype))
    arrays, grid = (bits(y), bits(input), readable(rt, index)), (cdiv(y.size, BLOCK),)
    look = lambda fault, number: launch(GATHER, grid, (*arrays, *args, fault, number), rt.stream)  # noqa: E731
    rt.check_range("gather", index, size, look=look)


def scatter_add(rt: Any, y: Any, input: Any, index: Any, src: Any, *, dim: int) -> None:
    kind = need_kernel("scatter_add", input, SUMS)
    size = input.shape[dim] if input.ndim else 1
    copy_into(rt, y, input)
    if not index.size:
        return
    sums = widened(rt, y, exact(kind))
    used = index.shape or (1,)
    source = rt.packed(widened(rt, (src if src.ndim else src.reshape((1,)))[tuple(map(slice, used))], exact(kind)))
    strides = strides_of(y) if y.ndim else (0,)
    beside = tuple(0 if k == dim else s for k, s in enumerate(strides))
    place = positions(rt, "scatter_add", index, used, beside, strides[dim] if y.ndim else 0, size, y.size)
    n, zero = index.size, alpha_as(kind, 0)
    launch(SCATTER, (n,), (sums, source, place, _argsort(rt, place), np.int64(n), zero), rt.stream)
    narrowed(rt, y, sums)


GATHER = triton("index", "gather", divisible=None, BLOCK=BLOCK)
SCATTER = triton("index", "scatter_add", divisible=None, warps=1, BLOCK=RUN)


VARIANTS = (
    *(
        Variant(GATHER, (f"*{kind}", f"*{kind}", "*int64", *("int64",) * 13, "*int64", "int64"))
        for kind in BITS.values()
    ),
    *(
        Variant(SCATTER, (f"*{kind}", f"*{kind}", "*int32", "*int64", "int64", sum_type(kind)))
        for kind in (*FLOATS, "int64")
    ),
)
