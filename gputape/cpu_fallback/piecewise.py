"""Bodies of the activation functions made of straight pieces, and of mish."""

from __future__ import annotations

import math
from typing import Any

from ..backend import scratch
from .pointwise import _blocks, _masked, clamp

_MASKS = scratch(lambda dy, input, **attrs: [input.with_dtype("bool"), input.with_dtype("bool"), input])


def hardtanh(xp: Any, y: Any, input: Any, *, min_val: float, max_val: float) -> None:
    clamp(xp, y, input, min=min_val, max=max_val)


@_MASKS
def hardtanh_bwd(xp: Any, dx: Any, dy: Any, input: Any, *, min_val: float, max_val: float, scratch: list[Any]) -> None:
    """NaN passes the gradient on."""
    for dx_, g, x, inside, below, _ in _blocks((dx, dy, input), tuple(scratch)):
        xp.less_equal(x, min_val, out=inside)
        xp.greater_equal(x, max_val, out=below)
        xp.logical_or(inside, below, out=inside)
        xp.logical_not(inside, out=inside)
        _masked(xp, dx_, g, inside)


def hardsigmoid(xp: Any, y: Any, input: Any) -> None:
    for y_, x in _blocks((y, input)):
        _gate(xp, y_, x)


def _gate(xp: Any, y: Any, x: Any) -> None:
    xp.add(x, 3.0, out=y)
    xp.clip(y, 0.0, 6.0, out=y)
    xp.divide(y, 6.0, out=y)


@_MASKS
def hardsigmoid_bwd(xp: Any, dx: Any, dy: Any, input: Any, *, scratch: list[Any]) -> None:
    for dx_, g, x, inside, below, part in _blocks((dx, dy, input), tuple(scratch)):
        xp.greater(x, -3.0, out=inside)
        xp.less(x, 3.0, out=below)
        xp.logical_and(inside, below, out=inside)
        xp.multiply(g, 1 / 6, out=part)
        _masked(xp, dx_, part, inside)


def hardswish(xp: Any, y: Any, input: Any) -> None:
    for y_, x in _blocks((y, input)):
        _gate(xp, y_, x)
        xp.multiply(y_, x, out=y_)


@_MASKS
def hardswish_bwd(xp: Any, dx: Any, dy: Any, input: Any, *, scratch: list[Any]) -> None:
    """The slope is x/3 + ½ below 3, then 1, also for NaN."""
    for dx_, g, x, rising, beyond, slope in _blocks((dx, dy, input), tuple(scratch)):
        xp.multiply(x, 1 / 3, out=slope)
        xp.add(slope, 0.5, out=slope)
        xp.less(x, 3.0, out=rising)
        _masked(xp, dx_, slope, rising)
        xp.logical_not(rising, out=beyond)
        xp.add(dx_, beyond, out=dx_)
        xp.multiply(dx_, g, out=slope)
        xp.less_equal(x, -3.0, out=beyond)
        xp.logical_not(beyond, out=beyond)
        _masked(xp, dx_, slope, beyond)


# --- mish -------------------------------------------------------------------------------------------------------------
# With e = exp(x) and n = e·(e + 2), tanh(softplus(x)) = n/(n + 2) and its slope is 4·e·(e + 1)/(n + 2)². From x = 20 on
# the quotient is 1 in float64, so that e needs not be larger.

_FLAT = 20.0


@scratch(lambda input: [input])
def mish(xp: Any, y: Any, input: Any, *, scratch: list[Any]) -> None:
    for y_, x, n in _blocks((y, input), tuple(scratch)):
        _squares(xp, n, x, y_)
        xp.add(n, 2.0, out=y_)
        xp.divide(n, y_, out=y_)
        xp.multiply(y_, x, out=y_)


def _squares(xp: Any, n: Any, x: Any, e: Any) -> None:
    xp.clip(x, -math.inf, _FLAT, out=e)
    xp.exp(e, out=e)
    xp.add(e, 2.0, out=n)
    xp.multiply(n, e, out=n)


@scratch(lambda dy, input: [input] * 3)
def mish_bwd(xp: Any, dx: Any, dy: Any, input: Any, *, scratch: list[Any]) -> None:
    for dx_, g, x, e, n, work in _blocks((dx, dy, input), tuple(scratch)):
        _squares(xp, n, x, e)
        xp.add(n, 2.0, out=work)
        xp.divide(n, work, out=dx_)
        xp.add(e, 1.0, out=n)
        xp.multiply(n, e, out=n)
        xp.divide(n, work, out=n)
        xp.divide(n, work, out=n)
        xp.clip(x, -math.inf, _FLAT, out=e)
        xp.multiply(e, 4.0, out=e)
        xp.multiply(n, e, out=n)
        xp.add(dx_, n, out=dx_)
        xp.multiply(dx_, g, out=dx_)
