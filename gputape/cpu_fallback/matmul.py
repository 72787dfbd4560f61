"""Bodies of the matrix products."""

from __future__ import annotations

import math
from typing import Any

from ._product import product as _product


def mm_nd(xp: Any, y: Any, input: Any, other: Any) -> None:
    if other.ndim == 2 and input.ndim > 2 and input.flags.c_contiguous:
        k, n = other.shape
        rows = math.prod(y.shape[:-1])
        _product(xp, y.reshape(rows, n), input.reshape(rows, k), other)  # one product instead of one for each matrix
    elif input.ndim == other.ndim == 2:
        _product(xp, y, input, other)
    else:
        xp.matmul(input, other, out=y)
