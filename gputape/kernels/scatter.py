"""Host side of scatter."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._copy import BITS, bits, copy_into, strides_of
from ._places import BLOCK, positions
from ._sort import argsort as _argsort
from .launch import Variant, launch, triton
from .tiles import cdiv


def scatter(rt: Any, y: Any, input: Any, index: Any, src: Any, *, dim: int) -> None:
    size = input.shape[dim] if input.ndim else 1
    copy_into(rt, y, input)
    if not index.size:
        return
    used = index.shape or (1,)
    source = rt.packed((src if src.ndim else src.reshape((1,)))[tuple(map(slice, used))])
    strides = strides_of(y) if y.ndim else (0,)
    beside = tuple(0 if k == dim else s for k, s in enumerate(strides))
    place = positions(rt, "scatter", index, used, beside, strides[dim] if y.ndim else 0, size, y.size)
    args = (bits(y), bits(source), place, _argsort(rt, place), np.int64(index.size))
    launch(PUT, (cdiv(index.size, BLOCK),), args, rt.stream)


PUT = triton("index", "put", divisible=None, BLOCK=BLOCK)

VARIANTS = tuple(Variant(PUT, (f"*{kind}", f"*{kind}", "*int32", "*int64", "int64")) for kind in BITS.values())
