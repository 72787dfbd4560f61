"""Host side of table look-up."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._places import BLOCK, readable, select
from .launch import Variant, covering, launch, triton
from .tiles import cdiv


def embedding(rt: Any, y: Any, input: Any, weight: Any, **of_gradients: Any) -> None:
    select(rt, "embedding", y, weight, input, 1, len(weight), weight.shape[1])


def one_hot_of(rt: Any, y: Any, input: Any, *, num_classes: int) -> None:
    rt.check_range("one_hot", input, num_classes)
    total = cdiv(y.size, BLOCK)
    launch(ONE_HOT, (total,), (y, readable(rt, input), np.int64(y.size), np.int64(num_classes)), rt.stream)


ONE_HOT = triton("index", "one_hot_of", divisible=("total",), BLOCK=BLOCK)

VARIANTS = covering(Variant(ONE_HOT, ("*int64", "*int64", "int64", "int64"), wide) for wide in (True, False))
