"""Bodies of the affine map and its gradient."""

from __future__ import annotations

import math
from typing import Any

from ._filled import ones as _ones

# OpenBLAS multiplies small matrices without packing them first, with AVX-512: A·B up to _UNPACKED, A·Bᵀ up to _TILE
# results. What is little more than that is taken in parts; larger products pay for their packing.
_UNPACKED, _TILE = 10**6, 1024


def linear(xp: Any, y: Any, input: Any, weight: Any, bias: Any) -> None:
    if input.flags.c_contiguous:
        n, k = weight.shape
        rows = _rows(input)
        x, w, out = input.reshape(rows, k), weight.T, y.reshape(rows, n)
        some = _TILE // max(rows, 1)
        if 8 <= some < n and not n % some and rows * n * k <= 2 * _UNPACKED:
            w = weight.reshape(n // some, some, k).transpose((0, 2, 1))
            out = y.reshape(rows, n // some, some).transpose((1, 0, 2))
        xp.matmul(x, w, out=out)
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
        xp.matmul(
            _ones(xp, rows, dy.dtype), dy, out=dbias
        )  # a sum of columns by BLAS is four times as fast as add.reduce


def _product(xp: Any, y: Any, a: Any, b: Any) -> None:
    """a · b, where it pays the upper and the lower half by themselves."""
    (m, k), n = a.shape, b.shape[1]
    if not m % 2 and _UNPACKED < m * k * n <= 2 * _UNPACKED:
        a, y = a.reshape(2, m // 2, k), y.reshape(2, m // 2, n)
    xp.matmul(a, b, out=y)


def _rows(x: Any) -> int:
    """Number of rows of an array: the product of all sizes but the last."""
    return math.prod(x.shape[:-1])
