"""Bodies of the matrix products."""

from __future__ import annotations

import math
from typing import Any


def mm_nd(xp: Any, y: Any, input: Any, other: Any) -> None:
    if other.ndim == 2 and input.ndim > 2 and input.flags.c_contiguous:
        k, n = other.shape
        rows = math.prod(y.shape[:-1])
        xp.matmul(input.reshape(rows, k), other, out=y.reshape(rows, n))  # one product instead of many small ones
    else:
        xp.matmul(input, other, out=y)
