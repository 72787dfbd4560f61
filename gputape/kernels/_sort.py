"""The order that sorts a vector of integers: for short ones a kernel of ours, which a stream capture may hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from .launch import Variant, launch, triton
from .tiles import cdiv

LONGEST = 2**16  # every pair is compared; beyond this CuPy's radix sort is faster
BLOCK, TILE = 32, 64
ORDER = triton("index", "order", divisible=None, BLOCK=BLOCK, TILE=TILE)


def argsort(rt: Any, keys: Any) -> Any:
    """The order (int64) that sorts a vector of int64; equal keys keep theirs."""
    n = keys.size
    if n > LONGEST:
        return rt.argsort(keys)
    order = rt.empty((n,), np.int64)
    launch(ORDER, (cdiv(n, BLOCK),), (order, keys, n), rt.stream)
    return order


VARIANTS = (Variant(ORDER, ("*int64", "*int64", "int32")),)
