"""Bodies of products and of the linear recurrence."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval
from ..backend import scratch
from ..flat import as_one as _as_one
from .reduce import _MANY, _running_pairs

_FEW, _NARROW = 512, 32


def _rows(shape: tuple[int, ...], dim: tuple[int, ...]) -> tuple[int, int]:
    """(n, k) if the product takes the last axes: n results of k elements each; else (0, 0)."""
    k = math.prod(shape[d] for d in dim)
    trailing = tuple(dim) == tuple(range(len(shape) - len(dim), len(shape)))
    return (math.prod(shape) // k, k) if trailing and k > _NARROW else (0, 0)


def _prod_buffers(input: Aval, *, dim: tuple[int, ...], keepdim: bool, dtype: str | None) -> list[Aval]:
    pays = input.is_float and dtype in (None, input.dtype) and input.size >= _FEW and all(_rows(input.shape, dim))
    return [input.with_shape((input.size,))] if pays else []


@scratch(_prod_buffers)
def prod(
    xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, dtype: str | None, scratch: Any = ()
) -> None:
    if scratch and input.flags.c_contiguous:
        rows, k = _rows(input.shape, dim)
        _halves(xp, y.reshape(rows), input.reshape(rows, k), scratch[0])
        return
    if input.dtype.kind == "f" and y.dtype.kind != "f":
        input = input.astype(y.dtype)
    xp.multiply.reduce(input, axis=dim, out=y, keepdims=keepdim, dtype=y.dtype)


def _halves(xp: Any, y: Any, x: Any, work: Any) -> None:
    """Products of rows, of one half with the other until few columns are left: `reduce` multiplies the elements of a
    row one by one, but those of a column side by side."""
    rows, n = x.shape
    while n > _NARROW:
        half, odd = n // 2, n % 2
        part, work = work[: rows * half].reshape(rows, half), work[rows * half :]
        xp.multiply(x[:, :half], x[:, half : 2 * half], out=part)
        if odd:
            xp.multiply(part[:, :1], x[:, -1:], out=part[:, :1])
        x, n = part, half
    columns = work[: rows * n].reshape(n, rows)
    xp.copyto(columns, x.T)
    xp.multiply.reduce(columns, axis=0, out=y)


_PAIRS = 8  # elements of the longest run that is multiplied by itself, before what comes before it


def _cumprod_buffers(input: Aval, *, dim: int, dtype: str | None) -> list[Aval]:
    last = input.ndim > 0 and dim == input.ndim - 1 and input.shape[dim] > 8 * _PAIRS
    return [input] if last and input.size >= _MANY and input.is_float and dtype in (None, input.dtype) else []


@scratch(_cumprod_buffers)
def cumprod(xp: Any, y: Any, input: Any, *, dim: int, dtype: str | None, scratch: Any = ()) -> None:
    if scratch:
        _running_products(xp, y, input, scratch[0].reshape(-1))
        return
    if input.dtype.kind == "f" and y.dtype.kind != "f":
        input = input.astype(y.dtype)
    xp.multiply.accumulate(xp.atleast_1d(input), axis=dim, out=xp.atleast_1d(y), dtype=y.dtype)


@_as_one
def _running_products(xp: Any, y: Any, x: Any, work: Any) -> None:
    """In pairs where no product of a short run overflows or loses digits, so that only the running products can."""
    bound = 2.0 ** (xp.finfo(x.dtype).maxexp // _PAIRS - 1)
    xp.absolute(x, out=y)
    if xp.minimum.reduce(y, axis=None) > 1 / bound and xp.maximum.reduce(y, axis=None) < bound:
        _running_pairs(xp, xp.multiply, y, x, work, -(-x.shape[-1] // _PAIRS))
    else:
        xp.multiply.accumulate(x, axis=-1, out=y)


@scratch(lambda x, a, *, dim, reverse: [x.with_shape((1, *x.shape[:dim], *x.shape[dim + 1 :]))])
def recurrence(xp: Any, y: Any, x: Any, a: Any, *, dim: int, reverse: bool, scratch: list[Any]) -> None:
    """One element after another along `dim`: each needs the one before it."""
    y, x, a = (xp.moveaxis(v, dim, 0)[:: -1 if reverse else 1] for v in (y, x, a))
    carry = scratch[0]
    xp.copyto(y[:1], x[:1])
    for k in range(1, len(y)):
        xp.multiply(a[k : k + 1], y[k - 1 : k], out=carry)
        xp.add(x[k : k + 1], carry, out=y[k : k + 1])
