"""Bodies of the affine map and its gradient."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval
from ..backend import scratch as _scratch


def linear(xp: Any, y: Any, input: Any, weight: Any, bias: Any) -> None:
    if input.flags.c_contiguous:
        n, k = weight.shape
        rows = _rows(input)
        xp.matmul(input.reshape(rows, k), weight.T, out=y.reshape(rows, n))
    else:
        xp.matmul(input, weight.T, out=y)
    if bias is not None:
        xp.add(y, bias, out=y)


@_scratch(lambda dy, input, weight, factor, needs: [Aval((_rows(dy),), dy.dtype)] if needs[2] else [])
def linear_bwd(
    xp: Any,
    dinput: Any,
    dweight: Any,
    dbias: Any,
    dy: Any,
    input: Any,
    weight: Any,
    factor: Any,
    *,
    needs: tuple[bool, ...],
    scratch: Any = (),
) -> None:
    n, k = weight.shape
    rows = _rows(dy)
    dy = dy.reshape(rows, n)
    if dinput is not None:
        xp.matmul(dy, weight, out=dinput.reshape(rows, k))
        if factor is not None:
            xp.multiply(dinput, factor, out=dinput)
    if dweight is not None:
        xp.matmul(dy.T, input.reshape(rows, k), out=dweight)
    if dbias is not None:
        (ones,) = scratch
        ones.fill(1)
        xp.matmul(ones, dy, out=dbias)  # a sum of columns by BLAS is four times as fast as add.reduce


def _rows(x: Any) -> int:
    """Number of rows of an array or aval: the product of all sizes but the last."""
    return math.prod(x.shape[:-1])
