"""The order that sorts a vector of integers: runs are sorted by comparing every pair, then merged two by two."""

from __future__ import annotations

from typing import Any

import numpy as np

from .launch import Variant, launch, triton
from .tiles import cdiv

LONGEST = 2**13  # a vector up to this length is one run
RUN = 2**10
BLOCK, TILE = 32, 64
MERGED = 256  # elements that a program moves
ORDER = triton("index", "order", divisible=None, BLOCK=BLOCK, TILE=TILE)
MERGE = triton("index", "merge_runs", divisible=None, BLOCK=MERGED)


def argsort(rt: Any, keys: Any, into: Any = None) -> Any:
    """The order (int64) that sorts a vector of int32 or int64; equal keys keep theirs. Written to `into` if given."""
    n = keys.size
    run = n if n <= LONGEST else RUN
    order = rt.empty((n,), np.int64) if into is None else into
    if run == n:
        launch(ORDER, (cdiv(n, BLOCK),), (order, keys, n, n), rt.stream)
        return order
    merges = (cdiv(n, run) - 1).bit_length()
    other = rt.empty((n,), np.int64)
    found, spare = (order, other) if merges % 2 == 0 else (other, order)  # the last merge writes `order`
    launch(ORDER, (cdiv(n, BLOCK),), (found, keys, n, run), rt.stream)
    for _ in range(merges):
        launch(MERGE, (cdiv(n, MERGED),), (spare, found, keys, n, run, run.bit_length() + 1), rt.stream)
        found, spare, run = spare, found, 2 * run
    return order


VARIANTS = tuple(
    found
    for key in ("*int64", "*int32")
    for found in (
        Variant(ORDER, ("*int64", key, "int32", "int32")),
        Variant(MERGE, ("*int64", "*int64", key, *("int32",) * 3)),
    )
)
