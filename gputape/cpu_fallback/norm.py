"""Bodies of the norms over the last axes.

Sums over rows and columns are products with ones, which BLAS computes several times as fast as `add.reduce`.
"""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval
from ..backend import scratch
from ._filled import ones as _ones


def _extent(x: Any, normalized_shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, cols) of an array or aval whose last axes are normalised."""
    cols = math.prod(normalized_shape)
    return math.prod(x.shape[: x.ndim - len(normalized_shape)]), cols


def _packed(xp: Any, x: Any, buffer: Any) -> Any:
    """`x` as the two-dimensional, C-contiguous `buffer` is; copied into that if `x` is strided."""
    if x.flags.c_contiguous:
        return x.reshape(buffer.shape)
    xp.copyto(buffer.reshape(x.shape), x)
    return buffer


def _beside(statistic: Any, x: Any) -> Any:
    """A statistic with axes of size 1 where `x` has its normalised axes."""
    return statistic.reshape(statistic.shape + (1,) * (x.ndim - statistic.ndim))


def _forward_scratch(input: Aval, *params: Any, normalized_shape: tuple[int, ...], eps: float) -> list[Aval]:
    rows, _ = _extent(input, normalized_shape)
    return [Aval((rows,), input.dtype)]


@scratch(_forward_scratch)
def layer_norm(
    xp: Any,
    y: Any,
    mean: Any,
    rstd: Any,
    input: Any,
    weight: Any,
    bias: Any,
    *,
    normalized_shape: tuple[int, ...],
    eps: float,
    scratch: list[Any],
) -> None:
    rows, cols = _extent(input, normalized_shape)
    (rest,), ones = scratch, _ones(xp, cols, y.dtype)
    y, mean, rstd = y.reshape(rows, cols), mean.reshape(rows), rstd.reshape(rows)
    x = _packed(xp, input, y)
    xp.matmul(x, ones, out=mean)
    xp.divide(mean, cols, out=mean)
    xp.subtract(x, mean[:, None], out=y)
    _recentre(xp, y, ones, rest)
    xp.add(mean, rest, out=mean)
    xp.vecdot(y, y, out=rstd)
    _to_rstd(xp, rstd, cols, eps)
    xp.multiply(y, rstd[:, None], out=y)
    if weight is not None:
        xp.multiply(y, weight.reshape(cols), out=y)
    if bias is not None:
        xp.add(y, bias.reshape(cols), out=y)


def _recentre(xp: Any, x: Any, ones: Any, rest: Any) -> None:
    """Subtract from each row what rounding the mean left over; `rest` is that."""
    xp.matmul(x, ones, out=rest)
    xp.divide(rest, x.shape[1], out=rest)
    xp.subtract(x, rest[:, None], out=x)


def _to_rstd(xp: Any, total: Any, count: int, eps: float) -> None:
    """Sums of squares → 1/√(mean + eps), in place."""
    xp.divide(total, count, out=total)
    xp.add(total, eps, out=total)
    xp.sqrt(total, out=total)
    xp.divide(1, total, out=total)


def _backward_scratch(
    dy: Aval, input: Aval, *rest: Any, normalized_shape: tuple[int, ...], needs: tuple[bool, ...]
) -> list[Aval]:
    rows, cols = _extent(input, normalized_shape)
    table, row, col = (Aval(shape, input.dtype) for shape in ((rows, cols), (rows,), (cols,)))
    return [table, table, table, row, row, row, row, col]


@scratch(_backward_scratch)
def layer_norm_bwd(
    xp: Any,
    dx: Any,
    dweight: Any,
    dbias: Any,
    dy: Any,
    input: Any,
    weight: Any,
    mean: Any,
    rstd: Any,
    residual: Any,
    *,
    normalized_shape: tuple[int, ...],
    needs: tuple[bool, ...],
    scratch: list[Any],
) -> None:
    """With c = x - mean less its rest r, k = rstd² · M(dy · weight · c) and m = M(dy · weight):
    dx = rstd · (dy · weight - m - c · k) and dweight = Σ rstd · dy · c; r enters by row, without another pass."""
    rows, cols = _extent(input, normalized_shape)
    c, products, copy, first, second, rest, row, column = scratch
    ones = _ones(xp, cols, c.dtype)
    dy, rstd = _packed(xp, dy, copy), rstd.reshape(rows)
    if dbias is not None:
        xp.matmul(_ones(xp, rows, c.dtype), dy, out=dbias.reshape(cols))
    if dx is None and dweight is None:
        return
    xp.subtract(input, _beside(mean, input), out=c.reshape(input.shape))
    xp.matmul(c, ones, out=rest)
    xp.divide(rest, cols, out=rest)
    xp.multiply(dy, c, out=products)
    if dweight is not None:
        out = dweight.reshape(cols)
        xp.matmul(rstd, products, out=out)
        xp.multiply(rest, rstd, out=first)
        xp.matmul(first, dy, out=column)
        xp.subtract(out, column, out=out)
    if dx is None:
        return
    w = ones if weight is None else weight.reshape(cols)
    dx = dx.reshape(rows, cols)
    xp.matmul(dy, w, out=first)
    xp.matmul(products, w, out=second)
    xp.multiply(first, rest, out=row)
    xp.subtract(second, row, out=second)
    xp.multiply(second, rstd, out=second)
    xp.multiply(second, rstd, out=second)
    xp.divide(second, cols, out=second)
    xp.divide(first, cols, out=first)
    xp.multiply(rest, second, out=rest)
    xp.subtract(first, rest, out=first)
    xp.multiply(c, second[:, None], out=c)
    if weight is None:
        xp.subtract(dy, c, out=dx)
    else:
        xp.multiply(dy, w, out=dx)
        xp.subtract(dx, c, out=dx)
    xp.subtract(dx, first[:, None], out=dx)
    xp.multiply(dx, rstd[:, None], out=dx)
    _plus(xp, dx, residual)


def _plus(xp: Any, dx: Any, residual: Any) -> None:
    if residual is not None:
        dx = dx.reshape(residual.shape)
        xp.add(dx, residual, out=dx)


def rms_norm(
    xp: Any, y: Any, rstd: Any, input: Any, weight: Any, *, normalized_shape: tuple[int, ...], eps: float
) -> None:
    rows, cols = _extent(input, normalized_shape)
    y, rstd = y.reshape(rows, cols), rstd.reshape(rows)
    x = _packed(xp, input, y)
    xp.vecdot(x, x, out=rstd)
    _to_rstd(xp, rstd, cols, eps)
    xp.multiply(x, rstd[:, None], out=y)
    if weight is not None:
        xp.multiply(y, weight.reshape(cols), out=y)


@scratch(_backward_scratch)
def rms_norm_bwd(
    xp: Any,
    dx: Any,
    dweight: Any,
    dy: Any,
    input: Any,
    weight: Any,
    rstd: Any,
    residual: Any,
    *,
    normalized_shape: tuple[int, ...],
    needs: tuple[bool, ...],
    scratch: list[Any],
) -> None:
    rows, cols = _extent(input, normalized_shape)
    n, products, copy, _, second, *_ = scratch
    dy = _packed(xp, dy, copy)
    xp.multiply(input, _beside(rstd, input), out=n.reshape(input.shape))
    xp.multiply(dy, n, out=products)
    if dweight is not None:
        xp.matmul(_ones(xp, rows, n.dtype), products, out=dweight.reshape(cols))
    if dx is None:
        return
    w = _ones(xp, cols, n.dtype) if weight is None else weight.reshape(cols)
    dx = dx.reshape(rows, cols)
    xp.matmul(products, w, out=second)
    xp.divide(second, cols, out=second)
    xp.multiply(n, second[:, None], out=n)
    xp.multiply(dy, w, out=dx)
    xp.subtract(dx, n, out=dx)
    xp.multiply(dx, rstd.reshape(rows, 1), out=dx)
    _plus(xp, dx, residual)
