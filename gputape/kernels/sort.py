"""Host side of the order that sorts."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ._steps import INTEGERS, around
from .launch import FLOATS, Kernel, Variant, covering, launch, need_kernel, triton
from .tiles import cdiv

_BLOCK, _OTHERS = 64, 32


def sorted_order(rt: Any, y: Any, input: Any, *, dim: int, descending: bool, first: int | None) -> None:
    need_kernel("sorted_order", input, FLOATS + INTEGERS)
    outer, n, inner = around(input.shape, dim)
    kept = np.int64(n if first is None else first)
    grid = (outer * inner * cdiv(n, _BLOCK) if kept else 0,)
    launch(_order(inner == 1), grid, (y, rt.packed(input), np.int64(n), kept, inner, int(descending)), rt.stream)


@cache
def _order(last: bool) -> Kernel:
    return triton("sort", "sorted_order", LAST=last, BLOCK=_BLOCK, OTHERS=_OTHERS)


VARIANTS = covering(
    Variant(_order(last), ("*int64", f"*{x}", "int64", "int64", "int32", "int32"))
    for last in (True, False)
    for x in FLOATS + INTEGERS
)
