"""Bodies of softmax, log-softmax and their gradients.

NumPy's `maximum.reduce` and `add.reduce` over the last axis are slow where it is short (tens to hundreds of elements).
There `argmax` and `take` find the maxima and products with ones the sums, 3 to 8 times as fast.
"""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..backend import scratch as _scratch


def _softmax_scratch(input: Aval, *, dim: int, dtype: str) -> list[Aval]:
    """Where a row's maximum is; one number a row; ones (last axis) or nothing."""
    n = input.shape[dim] if input.ndim else 1
    rows = input.size // n if n else 0
    last = dim >= input.ndim - 1
    kept = (rows, 1) if last else tuple(1 if i == dim else k for i, k in enumerate(input.shape))
    return [Aval((rows if last else 0,), "int64"), Aval(kept, dtype), Aval((n if last else 0,), dtype)]


def _top(xp: Any, x: Any, index: Any, top: Any) -> None:
    """The maximum of each row of the contiguous matrix `x`, NaN if there is one, into `top`."""
    rows, n = x.shape
    xp.argmax(x, axis=1, out=index)
    xp.add(index, xp.arange(0, rows * n, n), out=index)
    xp.take(x.reshape(rows * n), index, out=top.reshape(rows), mode="clip")


def _centre(xp: Any, y: Any, input: Any, dim: int, index: Any, top: Any) -> tuple[Any, int]:
    """input - max over `dim` into y; y (as a matrix if `dim` is the last axis) and the axis to go on with."""
    if y.dtype != input.dtype:
        xp.copyto(y, input, casting="unsafe")
        input = y
    if dim < y.ndim - 1:
        xp.maximum.reduce(input, axis=dim, out=top, keepdims=True)
        xp.subtract(input, top, out=y)
        return y, dim
    if not input.flags.c_contiguous:
        xp.copyto(y, input)
        input = y
    x, y = input.reshape(len(top), -1), y.reshape(len(top), -1)
    _top(xp, x, index, top)
    xp.subtract(x, top, out=y)
    return y, 1


@_scratch(_softmax_scratch)
def softmax(xp: Any, y: Any, input: Any, *, dim: int, dtype: str, scratch: Any) -> None:
    if not y.size:
        return
    index, total, ones = scratch
    y, axis = _centre(xp, y, input, dim, index, total)
    xp.exp(y, out=y)
    _sum(xp, y, axis, ones, total)
    xp.divide(y, total, out=y)


@_scratch(lambda input, **attrs: [*_softmax_scratch(input, **attrs), input.with_dtype(attrs["dtype"])])
def log_softmax(xp: Any, y: Any, input: Any, *, dim: int, dtype: str, scratch: Any) -> None:
    if not y.size:
        return
    index, total, ones, work = scratch
    y, axis = _centre(xp, y, input, dim, index, total)
    work = work.reshape(y.shape)
    xp.exp(y, out=work)
    _sum(xp, work, axis, ones, total)
    xp.log(total, out=total)
    xp.subtract(y, total, out=y)


def _sum(xp: Any, x: Any, axis: int, ones: Any, total: Any) -> None:
    """Sums over `axis`, kept as size 1; by BLAS over the rows of a matrix."""
    if ones.size:
        ones.fill(1)
        xp.matmul(x, ones, out=total.reshape(len(total)))
    else:
        xp.add.reduce(x, axis=axis, out=total, keepdims=True)


def _bwd_scratch(dy: Aval, y: Aval, *, dim: int) -> list[Aval]:
    """One number a row; ones (last axis) or nothing."""
    _, total, ones = _softmax_scratch(y, dim=dim, dtype=y.dtype)
    return [total, ones]


def _rows(dx: Any, dy: Any, y: Any, dim: int, total: Any) -> tuple[Any, Any, Any, int]:
    """The arrays as matrices with the axis 1 to go on with, if `dim` is the last one; else as they are."""
    if dim < y.ndim - 1:
        return dx, dy, y, dim
    shape = (len(total), y.size // len(total))
    return dx.reshape(shape), dy.reshape(shape), y.reshape(shape), 1


@_scratch(_bwd_scratch)
def softmax_bwd(xp: Any, dx: Any, dy: Any, y: Any, *, dim: int, scratch: Any) -> None:
    if not y.size:
        return
    total, ones = scratch
    dx, dy, y, axis = _rows(dx, dy, y, dim, total)
    if ones.size:
        xp.vecdot(dy, y, out=total.reshape(len(total)))
    else:
        xp.multiply(dy, y, out=dx)
        xp.add.reduce(dx, axis=axis, out=total, keepdims=True)
    xp.subtract(dy, total, out=dx)
    xp.multiply(dx, y, out=dx)


@_scratch(_bwd_scratch)
def log_softmax_bwd(xp: Any, dx: Any, dy: Any, y: Any, *, dim: int, scratch: Any) -> None:
    if not y.size:
        return
    total, ones = scratch
    dx, dy, y, axis = _rows(dx, dy, y, dim, total)
    _sum(xp, dy, axis, ones, total)
    xp.exp(y, out=dx)
    xp.multiply(dx, total, out=dx)
    xp.subtract(dy, dx, out=dx)
