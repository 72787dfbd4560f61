"""Bodies of the activation functions made of straight pieces, and of mish."""

from __future__ import annotations

import math
from typing import Any

from ..backend import scratch
from ..flat import as_one as _as_one
from .clamp import clamp
from .pointwise import _blocks, _masked

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
    xp.multiply(y, 1 / 6, out=y)


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


@scratch(lambda dy, input: [input])
def hardswish_bwd(xp: Any, dx: Any, dy: Any, input: Any, *, scratch: list[Any]) -> None:
    """The slope is x/3 + ½ between -3 and 3, below 0, above 1, also for NaN. With u = x/3, held between -1 and 1, it is
    u - trunc(u)/2 + ½."""
    for dx_, g, x, u in _blocks((dx, dy, input), tuple(scratch)):
        xp.clip(x, -3.0, 3.0, out=u)
        xp.divide(u, 3.0, out=u)
        xp.trunc(u, out=dx_)
        xp.multiply(dx_, 0.5, out=dx_)
        xp.subtract(u, dx_, out=dx_)
        xp.add(dx_, 0.5, out=dx_)
        xp.multiply(dx_, g, out=dx_)
        _pass_at_nan(xp, dx_, g, u)


@_as_one
def _pass_at_nan(xp: Any, dx: Any, g: Any, u: Any) -> None:
    """g where u is NaN; a sum of squares tells whether it is anywhere."""
    flat = u.reshape(-1)
    if not xp.vecdot(flat, flat) >= 0:
        nan = xp.isnan(u)
        dx[nan] = g[nan]


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
