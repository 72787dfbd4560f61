"""Bodies of the affine map and its gradient."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval
from ..backend import scratch as _scratch
from ._filled import ones as _ones
from ._product import product as _product
from ._product import spare_for as _spare_for


def _spare(input: Aval, weight: Aval, *others: Any) -> list[Aval]:
    return _spare_for(_rows(input), weight.shape[-1], _rows(weight), input.dtype)


@_scratch(_spare)
def linear(xp: Any, y: Any, input: Any, weight: Any, bias: Any, *, scratch: Any = ()) -> None:
    if weight.ndim == 1:
        weight, y = weight[None], y.reshape((*y.shape, 1))
    if input.flags.c_contiguous:
        n, k = weight.shape
        rows = _rows(input)
        _product(xp, y.reshape(rows, n), input.reshape(rows, k), weight.T, *scratch)
    else:
        xp.matmul(input, weight.T, out=y)
    if bias is not None:
        xp.add(y, bias, out=y)


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
) -> None:
    n, k = weight.shape
    rows = _rows(dy)
    dy = dy.reshape(rows, n)
    if dinput is not None:
        _product(xp, dinput.reshape(rows, k), dy, weight)
        if factor is not None:
            xp.multiply(dinput, factor, out=dinput)
    if dweight is not None:
        _product(xp, dweight, dy.T, input.reshape(rows, k))
    if dbias is not None:
        # A sum of columns by BLAS is four times as fast as add.reduce.
        xp.matmul(_ones(xp, rows, dy.dtype), dy, out=dbias)


def _rows(x: Any) -> int:
    """Number of rows of an array or aval: the product of all sizes but the last."""
    return math.prod(x.shape[:-1])
