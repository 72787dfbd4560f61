"""Bodies of sums, means and variances.

Sums over leading or trailing axes of a C-contiguous float array are products with a vector of ones, which BLAS does
several times faster than `add.reduce`. Long columns are summed in runs of 1024 rows, so that rounding errors grow with
the run and not with the column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..aval import Aval, reduced
from ..backend import scratch

_FEW, _RUN, _LONG = 512, 1024, 1 << 16
_ACROSS = 4  # elements side by side from which on running sums are computed side by side
_PAIRED, _MANY = 32, 2048  # elements along the last axis, and of all, from which on they are computed in pairs


@lru_cache(maxsize=4096)
def _plan(shape: tuple[int, ...], dim: tuple[int, ...]) -> tuple[str, int, int]:
    """How to sum: ("rows", n, k) or ("columns", k, n) of a matrix with n results of k elements each; ("all", rows,
    columns) for a total; else ("reduce", 0, 0)."""
    size, axes = math.prod(shape), len(shape)
    dim = tuple(d for d in dim if shape[d] != 1)
    kept = [i for i in range(axes) if i not in dim and shape[i] != 1]
    if size >= _FEW and dim:
        k = math.prod(shape[d] for d in dim)
        if not kept:
            columns = 1
            for n in reversed(shape):
                if columns * n > 4096:
                    break
                columns *= n
            if columns >= 32 and size // columns >= 4:
                return "all", size // columns, columns
        elif max(dim) < kept[0]:
            return "columns", k, size // k
        elif min(dim) > kept[-1] and k < _LONG:
            return "rows", size // k, k
    return "reduce", 0, 0


def _buffers(input: Aval, dim: tuple[int, ...]) -> list[Aval]:
    """The vector of ones, and sums of runs and columns, for `_sum`."""
    how, a, b = _plan(input.shape, dim)
    if how == "reduce" or not input.is_float:
        return []
    if how == "rows":
        return [Aval((b,), input.dtype)]
    runs = [Aval((-(-a // _RUN), b), input.dtype)] if a > 2 * _RUN else []
    total = [Aval((b,), input.dtype)] if how == "all" else []
    return [Aval((min(a, 2 * _RUN),), input.dtype), *runs, *total]


def _sum(xp: Any, y: Any, input: Any, dim: tuple[int, ...], keepdim: bool, buffers: Sequence[Any]) -> None:
    """Sum of `input` over `dim` into y. `buffers` are of `_buffers`, or absent."""
    if not buffers or not input.flags.c_contiguous or input.dtype != y.dtype:
        if input.dtype.kind == "f" and y.dtype.kind != "f":
            input = input.astype(y.dtype)
        xp.add.reduce(input, axis=dim, out=y, keepdims=keepdim, dtype=y.dtype)
        return
    how, a, b = _plan(input.shape, dim)
    ones, *more = buffers
    xp.copyto(ones, 1)
    if how == "rows":
        xp.matmul(input.reshape(a, b), ones, out=y.reshape(a))
    elif how == "columns":
        _columns(xp, y.reshape(b), input.reshape(a, b), ones, more)
    else:
        _columns(xp, more[-1], input.reshape(a, b), ones, more)
        xp.add.reduce(more[-1], out=y.reshape(()))


def _columns(xp: Any, y: Any, x: Any, ones: Any, more: list[Any]) -> None:
    rows, columns = x.shape
    if rows <= 2 * _RUN:
        xp.matmul(ones, x, out=y)
        return
    runs, whole = more[0], rows // _RUN
    xp.matmul(ones[:_RUN], x[: whole * _RUN].reshape(whole, _RUN, columns), out=runs[:whole])
    if whole < len(runs):
        xp.matmul(ones[: rows - whole * _RUN], x[whole * _RUN :], out=runs[whole])
    xp.add.reduce(runs, axis=0, out=y)


# --- sum, mean --------------------------------------------------------------------------------------------------------


@scratch(lambda input, *, dim, **attrs: _buffers(input, dim))
def sum_(
    xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, dtype: str | None, scratch: Sequence[Any] = ()
) -> None:
    _sum(xp, y, input, dim, keepdim, scratch)


@scratch(lambda input, *, dim, **attrs: _buffers(input, dim))
def mean(
    xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, dtype: str | None, scratch: Sequence[Any] = ()
) -> None:
    _sum(xp, y, input, dim, keepdim, scratch)
    xp.divide(y, math.prod(input.shape[d] for d in dim), out=y)


def _expanded(shape: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that broadcasting from `to` to `shape` expanded."""
    lead = len(shape) - len(to)
    return (*range(lead), *(i + lead for i, n in enumerate(to) if n == 1 and shape[i + lead] != 1))


@scratch(lambda input, *, shape: _buffers(input, _expanded(input.shape, shape)))
def sum_to(xp: Any, y: Any, input: Any, *, shape: tuple[int, ...], scratch: Sequence[Any] = ()) -> None:
    kept = (1,) * (input.ndim - len(shape)) + shape
    _sum(xp, y.reshape(kept), input, _expanded(input.shape, shape), True, scratch)


# --- variance ---------------------------------------------------------------------------------------------------------


def _var_buffers(input: Aval, *, dim: tuple[int, ...], **attrs: Any) -> list[Aval]:
    return [input, input.with_shape(reduced(input.shape, dim, True)), *_buffers(input, dim)]


@scratch(_var_buffers)
def var(
    xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], correction: float, keepdim: bool, scratch: list[Any]
) -> None:
    centred, mean, *buffers = scratch
    n = math.prod(input.shape[d] for d in dim)
    _sum(xp, mean, input, dim, True, buffers)
    xp.divide(mean, n, out=mean)
    xp.subtract(input, mean, out=centred)
    _sum(xp, mean, centred, dim, True, buffers)  # what rounding left of the mean, n times
    xp.multiply(mean, mean, out=mean)
    xp.divide(mean, n, out=mean)
    xp.multiply(centred, centred, out=centred)
    _sum(xp, y, centred, dim, keepdim, buffers)
    xp.subtract(y, mean.reshape(y.shape), out=y)
    xp.maximum(y, 0, out=y)
    xp.divide(y, max(n - correction, 0), out=y)


@scratch(_var_buffers)
def std(xp: Any, y: Any, input: Any, *, scratch: list[Any], **attrs: Any) -> None:
    var(xp, y, input, scratch=scratch, **attrs)
    xp.sqrt(y, out=y)


# --- logarithms of sums, running sums ---------------------------------------------------------------------------------


def _logsumexp_buffers(input: Aval, *, dim: tuple[int, ...], keepdim: bool) -> list[Aval]:
    wide = input if input.is_float else input.with_dtype("float32")
    return [wide, wide.with_shape(reduced(input.shape, dim, True)), *_buffers(wide, dim)]


@scratch(_logsumexp_buffers)
def logsumexp(xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, scratch: list[Any]) -> None:
    shifted, top, *buffers = scratch
    xp.maximum.reduce(input, axis=dim, out=top, keepdims=True, initial=-math.inf)
    xp.nan_to_num(top, copy=False, nan=math.nan, posinf=0.0, neginf=0.0)  # inf - inf is no number
    xp.subtract(input, top, out=shifted, dtype=y.dtype)
    xp.exp(shifted, out=shifted)
    _sum(xp, y, shifted, dim, keepdim, buffers)
    xp.log(y, out=y)
    xp.add(y, top.reshape(y.shape), out=y)


def _running_buffers(input: Aval, *, dim: int, dtype: str | None = None) -> list[Aval]:
    """One for `_running` or, along a long last axis, for `_running_pairs`."""
    n = input.shape[dim] if input.shape else 0
    along = dim == input.ndim - 1 and n > _PAIRED and input.size >= _MANY
    pays = math.prod(input.shape[dim + 1 :]) >= _ACROSS or along
    return [input] if pays and n > 1 and input.size and input.is_float and dtype in (None, input.dtype) else []


@scratch(_running_buffers)
def cumsum(xp: Any, y: Any, input: Any, *, dim: int, dtype: str | None, scratch: Sequence[Any] = ()) -> None:
    if scratch:
        _running_sums(xp, y, input, dim, scratch[0])
        return
    if input.dtype.kind == "f" and y.dtype.kind != "f":
        input = input.astype(y.dtype)
    xp.cumsum(xp.atleast_1d(input), axis=dim, out=xp.atleast_1d(y), dtype=y.dtype)


@scratch(_running_buffers)
def cumsum_bwd(xp: Any, dx: Any, dy: Any, *, dim: int, scratch: Sequence[Any] = ()) -> None:
    if scratch:
        _running_sums(xp, xp.flip(dx, dim), xp.flip(dy, dim), dim, scratch[0])
        return
    xp.cumsum(xp.flip(xp.atleast_1d(dy), dim), axis=dim, out=xp.flip(xp.atleast_1d(dx), dim))


def _running_sums(xp: Any, y: Any, x: Any, dim: int, buffer: Any) -> None:
    if dim == x.ndim - 1:
        _running_pairs(xp, xp.add, y, x, buffer.reshape(-1), _PAIRED)
    else:
        _running(xp, y, x, dim, buffer)


def _running_pairs(xp: Any, function: Any, y: Any, x: Any, work: Any, longest: int) -> None:
    """Running sums or products along the last axis, of which `accumulate` waits for each before it takes the next:
    those of the sums of pairs are every second one, and the others lack one element. Axes that are not longer than
    `longest` are left to `accumulate`."""
    n = x.shape[-1]
    if n <= longest:
        function.accumulate(x, axis=-1, out=y)
        return
    half = n // 2
    size = x.size // n * half
    pairs = work[:size].reshape(*x.shape[:-1], half)
    function(x[..., : 2 * half : 2], x[..., 1::2], out=pairs)
    _running_pairs(xp, function, pairs, pairs, work[size:], longest)
    xp.copyto(y[..., :1], x[..., :1])
    xp.copyto(y[..., 1::2], pairs)
    function(pairs[..., : (n - 1) // 2], x[..., 2::2], out=y[..., 2::2])


def _running(xp: Any, y: Any, x: Any, dim: int, buffer: Any) -> None:
    """Running sums along `dim`: to each element the one before it is added, then the one two before, four before, …
    These are passes over whole arrays, where `cumsum` goes along the axis in steps of a row."""
    at = lambda start, stop: (*[slice(None)] * dim, slice(start, stop))  # noqa: E731
    steps = [1 << k for k in range((x.shape[dim] - 1).bit_length())]
    into, other = (y, buffer) if len(steps) % 2 else (buffer, y)
    for k in steps:
        xp.add(x[at(k, None)], x[at(None, -k)], out=into[at(k, None)])
        xp.copyto(into[at(None, k)], x[at(None, k)])
        x, into, other = into, other, into
