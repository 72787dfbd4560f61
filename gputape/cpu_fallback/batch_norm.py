"""Bodies of batch normalisation. Arrays (N, C, …) are worked on as tables: (N, C) where nothing is behind the channel,
else one row per sample and channel; sums are products with ones."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval
from ..backend import scratch


def _table(x: Any) -> tuple[int, int, int]:
    """(N, C, L) with L the values behind each channel."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def _sum_scratch(x: Aval) -> list[Aval]:
    n, c, behind = _table(x)
    return [Aval((behind,), x.dtype), Aval((n,), x.dtype), Aval((n, c), x.dtype)]


def _channel_sums(xp: Any, x: Any, out: Any, ones: list[Any]) -> None:
    """out[c] = the sum of x[:, c, :] for a C-contiguous (N, C, L) array."""
    behind, samples, partial = ones
    n, c, length = x.shape
    if length == 1:
        xp.matmul(samples, x.reshape(n, c), out=out)
        return
    xp.matmul(x.reshape(n * c, length), behind, out=partial.reshape(n * c))
    xp.matmul(samples, partial, out=out)


def _set_ones(xp: Any, ones: list[Any]) -> list[Any]:
    xp.copyto(ones[0], 1)
    xp.copyto(ones[1], 1)
    return ones


def _centre(xp: Any, y: Any, x: Any, mean: Any, rest: Any, ones: list[Any], count: int) -> None:
    """y = x - mean[c], less what rounding the mean left over; `rest` is that."""
    xp.subtract(x, mean.reshape(-1, *(1,) * (x.ndim - 2)), out=y.reshape(x.shape))
    _channel_sums(xp, y, rest, ones)
    xp.divide(rest, count, out=rest)
    xp.subtract(y, rest[:, None], out=y)


def _train_scratch(input: Aval, *params: Any, eps: float) -> list[Aval]:
    return [*_sum_scratch(input), Aval(input.shape, input.dtype), Aval(input.shape[1:2], input.dtype)]


@scratch(_train_scratch)
def batch_norm_train(
    xp: Any,
    y: Any,
    mean: Any,
    var: Any,
    rstd: Any,
    input: Any,
    weight: Any,
    bias: Any,
    *,
    eps: float,
    scratch: list[Any],
) -> None:
    shape = _table(input)
    count = shape[0] * shape[2]
    ones, squares, rest = _set_ones(xp, scratch[:3]), scratch[3].reshape(shape), scratch[4]
    y = y.reshape(shape)
    x = input
    if not input.flags.c_contiguous:
        xp.copyto(y.reshape(input.shape), input)
        x = y
    _channel_sums(xp, x.reshape(shape), mean, ones)
    xp.divide(mean, count, out=mean)
    _centre(xp, y, x, mean, rest, ones, count)
    xp.add(mean, rest, out=mean)
    xp.multiply(y, y, out=squares)
    _channel_sums(xp, squares, var, ones)
    xp.divide(var, count, out=var)
    xp.add(var, eps, out=rstd)
    xp.sqrt(rstd, out=rstd)
    xp.divide(1, rstd, out=rstd)
    factor = rstd
    if weight is not None:
        factor = rest
        xp.multiply(rstd, weight, out=factor)
    xp.multiply(y, factor[:, None], out=y)
    if bias is not None:
        xp.add(y, bias[:, None], out=y)


def _bwd_scratch(dy: Aval, input: Aval, *rest: Any, needs: Any) -> list[Aval]:
    channel = Aval(input.shape[1:2], input.dtype)
    return [*_sum_scratch(input), input, input, input, channel, channel]


@scratch(_bwd_scratch)
def batch_norm_bwd(
    xp: Any,
    dx: Any,
    dweight: Any,
    dbias: Any,
    dy: Any,
    input: Any,
    weight: Any,
    mean: Any,
    rstd: Any,
    *,
    needs: tuple[bool, ...],
    scratch: list[Any],
) -> None:
    shape = _table(input)
    count = shape[0] * shape[2]
    ones, (n, products, copy), (first, second) = (
        _set_ones(xp, scratch[:3]),
        [b.reshape(shape) for b in scratch[3:6]],
        scratch[6:],
    )
    if dy.flags.c_contiguous:
        dy = dy.reshape(shape)
    else:
        xp.copyto(copy.reshape(dy.shape), dy)
        dy = copy
    _channel_sums(xp, dy, first, ones)
    if dbias is not None:
        xp.copyto(dbias, first)
    if dx is None and dweight is None:
        return
    _centre(xp, n, input, mean, second, ones, count)
    xp.multiply(n, rstd[:, None], out=n)
    xp.multiply(dy, n, out=products)
    _channel_sums(xp, products, second, ones)
    if dweight is not None:
        xp.copyto(dweight, second)
    if dx is None:
        return
    dx = dx.reshape(shape)
    xp.divide(first, count, out=first)
    xp.divide(second, count, out=second)
    xp.subtract(dy, first[:, None], out=dx)
    xp.multiply(n, second[:, None], out=n)
    xp.subtract(dx, n, out=dx)
    factor = rstd
    if weight is not None:
        factor = first
        xp.multiply(rstd, weight, out=factor)
    xp.multiply(dx, factor[:, None], out=dx)
