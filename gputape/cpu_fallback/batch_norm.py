"""Bodies of batch normalisation.

An array (N, C, …) is worked on as (N, C, L). Sums are products with ones and dot products, several times as fast as
`add.reduce`. Rounding the mean leaves a rest over; it is found from the centred values and enters the factors of each
channel instead of taking another pass over the array.
"""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval
from ..backend import scratch


def _table(x: Any) -> tuple[int, int, int]:
    """(N, C, L) with L the values behind each channel."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def _beside(channels: Any, x: Any) -> Any:
    """A value per channel, shaped to broadcast against `x`."""
    return channels.reshape(-1, *(1,) * (x.ndim - 2))


class _Sums:
    """Sums per channel over C-contiguous (N, C, L) arrays."""

    @staticmethod
    def scratch(x: Aval) -> list[Aval]:
        n, c, length = _table(x)
        return [Aval((n,), x.dtype), Aval((length,), x.dtype), Aval((n, c), x.dtype)]

    def __init__(self, xp: Any, buffers: list[Any]) -> None:
        self.xp = xp
        self.samples, self.behind, self.partial = buffers
        xp.copyto(self.samples, 1)
        xp.copyto(self.behind, 1)

    def of(self, x: Any, out: Any) -> None:
        n, c, length = x.shape
        if length == 1:
            self.xp.matmul(self.samples, x.reshape(n, c), out=out)
            return
        self.xp.matmul(x.reshape(n * c, length), self.behind, out=self.partial.reshape(n * c))
        self.xp.matmul(self.samples, self.partial, out=out)

    def of_products(self, a: Any, b: Any, out: Any) -> None:
        n, c, length = a.shape
        if length == 1:
            self.xp.multiply(a.reshape(n, c), b.reshape(n, c), out=self.partial)
        else:
            self.xp.vecdot(a, b, out=self.partial)
        self.xp.matmul(self.samples, self.partial, out=out)


def _train_scratch(input: Aval, *params: Any, eps: float) -> list[Aval]:
    channel = Aval(input.shape[1:2], input.dtype)
    return [*_Sums.scratch(input), channel, channel]


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
    sums, (rest, factor) = _Sums(xp, scratch[:3]), scratch[3:]
    if not input.flags.c_contiguous:
        xp.copyto(y, input)
        input = y
    y, x = y.reshape(shape), input.reshape(shape)
    sums.of(x, mean)
    xp.divide(mean, count, out=mean)
    xp.subtract(x, mean[:, None], out=y)
    sums.of(y, rest)
    xp.divide(rest, count, out=rest)
    xp.add(mean, rest, out=mean)
    sums.of_products(y, y, var)
    xp.divide(var, count, out=var)
    xp.multiply(rest, rest, out=factor)
    xp.subtract(var, factor, out=var)
    xp.maximum(var, 0, out=var)
    xp.add(var, eps, out=rstd)
    xp.sqrt(rstd, out=rstd)
    xp.divide(1, rstd, out=rstd)
    if weight is None:
        xp.copyto(factor, rstd)
    else:
        xp.multiply(rstd, weight, out=factor)
    xp.multiply(rest, factor, out=rest)
    xp.subtract(0 if bias is None else bias, rest, out=rest)
    xp.multiply(y, factor[:, None], out=y)
    xp.add(y, rest[:, None], out=y)


def _bwd_scratch(dy: Aval, input: Aval, *rest: Any, needs: tuple[bool, ...]) -> list[Aval]:
    channel = Aval(input.shape[1:2], input.dtype)
    return [*_Sums.scratch(input), input, input, *[channel] * 4]


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
    """With c = x - mean less its rest, per channel: dweight = rstd · Σ dy·c and
    dx = rstd · weight · (dy - M(dy) - c · rstd² · M(dy · c))."""
    shape = _table(input)
    count = shape[0] * shape[2]
    sums, (centred, copy, first, second, rest, scaled) = _Sums(xp, scratch[:3]), scratch[3:]
    if not dy.flags.c_contiguous:
        xp.copyto(copy, dy)
        dy = copy
    dy = dy.reshape(shape)
    sums.of(dy, first)
    if dbias is not None:
        xp.copyto(dbias, first)
    if dx is None and dweight is None:
        return
    c = centred if dx is None else dx
    xp.subtract(input, _beside(mean, input), out=c)
    c = c.reshape(shape)
    sums.of(c, rest)
    xp.divide(rest, count, out=rest)
    sums.of_products(dy, c, second)
    xp.multiply(rest, first, out=scaled)
    xp.subtract(second, scaled, out=second)
    xp.multiply(second, rstd, out=second)
    if dweight is not None:
        xp.copyto(dweight, second)
    if dx is None:
        return
    xp.multiply(second, rstd, out=second)
    xp.divide(second, -count, out=second)  # the slope of dy - M(dy) - … in c
    xp.divide(first, -count, out=first)
    xp.multiply(rest, second, out=rest)
    xp.subtract(first, rest, out=first)
    xp.multiply(c, second[:, None], out=c)
    xp.add(c, dy, out=c)
    xp.add(c, first[:, None], out=c)
    if weight is None:
        xp.multiply(c, rstd[:, None], out=c)
    else:
        xp.multiply(rstd, weight, out=second)
        xp.multiply(c, second[:, None], out=c)
