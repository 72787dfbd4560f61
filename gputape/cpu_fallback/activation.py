"""Bodies of the activation functions and their gradients, in few passes, over pieces that stay in the cache."""

from __future__ import annotations

import math
from typing import Any

from ..backend import scratch
from .pointwise import _blocks, _masked, _select, _spread
from .unary import _erf, _log1p_exp, _polynomial, _softplus

_MASK = scratch(lambda dy, y, **attrs: [y.with_dtype("bool")])
_ONE = scratch(lambda *avals, **attrs: [avals[0]])
_FOUR = scratch(lambda *avals, **attrs: [avals[0]] * 4)


# --- relu -------------------------------------------------------------------------------------------------------------


def relu(xp: Any, y: Any, input: Any) -> None:
    if y.dtype.kind == "f":
        xp.clip(input, 0.0, math.inf, out=y)  # a scalar operand keeps `maximum` off its vector loop
    else:
        xp.maximum(input, 0, out=y)


@_MASK
def relu_bwd(xp: Any, dx: Any, dy: Any, y: Any, *, scratch: list[Any]) -> None:
    for dx_, g, y_, passed in _blocks((dx, dy, y), tuple(scratch)):
        _masked(xp, dx_, g, xp.not_equal(y_, 0, out=passed))  # NaN passes the gradient on, as in PyTorch


@_ONE
def leaky_relu(xp: Any, y: Any, input: Any, *, negative_slope: float, scratch: list[Any]) -> None:
    if negative_slope == 0:
        xp.clip(input, -math.inf, 0.0, out=scratch[0])
        xp.multiply(scratch[0], negative_slope, out=scratch[0])
        xp.clip(input, 0.0, math.inf, out=y)
        xp.add(y, scratch[0], out=y)
        return
    for y_, x in _blocks((y, input)):
        xp.multiply(x, negative_slope, out=y_)
        (xp.maximum if negative_slope <= 1 else xp.minimum)(x, y_, out=y_)


@scratch(lambda dy, input, **attrs: [input.with_dtype("bool"), input, input])
def leaky_relu_bwd(xp: Any, dx: Any, dy: Any, input: Any, *, negative_slope: float, scratch: list[Any]) -> None:
    for dx_, g, x, positive, bits, small in _blocks((dx, dy, input), tuple(scratch)):
        xp.greater(x, 0, out=positive)
        if 0 <= negative_slope <= 1:  # 1 or 0, raised to the slope
            xp.copyto(small, positive)
            xp.clip(small, negative_slope, 1.0, out=small)
            xp.multiply(g, small, out=dx_)
            continue
        xp.multiply(g, negative_slope, out=small)
        _select(xp, dx_, _spread(xp, bits.view(f"i{bits.itemsize}"), positive), g, small)


# --- sigmoid and tanh -------------------------------------------------------------------------------------------------


def tanh(xp: Any, y: Any, input: Any) -> None:
    xp.tanh(input, out=y, dtype=y.dtype)


def tanh_bwd(xp: Any, dx: Any, dy: Any, y: Any) -> None:
    for dx_, g, y_ in _blocks((dx, dy, y)):
        xp.multiply(y_, y_, out=dx_)
        xp.subtract(1.0, dx_, out=dx_)
        xp.multiply(dx_, g, out=dx_)


def sigmoid(xp: Any, y: Any, input: Any) -> None:
    for y_, x in _blocks((y, input)):
        _sigmoid(xp, y_, x)


def _sigmoid(xp: Any, y: Any, x: Any) -> None:
    """1 / (1 + exp(-x)): where exp overflows the quotient is 0, and no tail cancels."""
    xp.multiply(x, -1.0, out=y)
    xp.exp(y, out=y)
    xp.add(y, 1.0, out=y)
    xp.divide(1.0, y, out=y)


def sigmoid_bwd(xp: Any, dx: Any, dy: Any, y: Any) -> None:
    for dx_, g, y_ in _blocks((dx, dy, y)):
        xp.subtract(1.0, y_, out=dx_)
        xp.multiply(dx_, y_, out=dx_)
        xp.multiply(dx_, g, out=dx_)


@scratch(lambda input: [input, input])
def logsigmoid(xp: Any, y: Any, input: Any, *, scratch: list[Any]) -> None:
    for y_, x, work, more in _blocks((y, input), tuple(scratch)):
        _log1p_exp(xp, y_, x, work, more)
        xp.clip(x, -math.inf, 0.0, out=work)
        xp.subtract(work, y_, out=y_)


def logsigmoid_bwd(xp: Any, dx: Any, dy: Any, input: Any) -> None:
    for dx_, g, x in _blocks((dx, dy, input)):
        xp.exp(x, out=dx_)
        xp.add(dx_, 1.0, out=dx_)
        xp.divide(g, dx_, out=dx_)


# --- smooth relatives of relu -----------------------------------------------------------------------------------------


@scratch(lambda input, **attrs: [input, input, input, input.with_dtype("bool")])
def softplus(xp: Any, y: Any, input: Any, *, beta: float, threshold: float, scratch: list[Any]) -> None:
    for y_, x, z, work, more, linear in _blocks((y, input), tuple(scratch)):
        if beta != 1:
            xp.multiply(x, beta, out=z)
        else:
            xp.copyto(z, x)
        _softplus(xp, y_, z, work, more)
        if beta != 1:
            xp.divide(y_, beta, out=y_)
        xp.greater(z, threshold, out=linear)
        _select(xp, z, _spread(xp, work.view(f"i{work.itemsize}"), linear), x, y_)
        xp.copyto(y_, z)


_SIGMOID_IS_1 = 17.4  # from here on, in float32


@scratch(lambda dy, input, **attrs: [input, input, input.with_dtype("bool")])
def softplus_bwd(xp: Any, dx: Any, dy: Any, input: Any, *, beta: float, threshold: float, scratch: list[Any]) -> None:
    for dx_, g, x, z, work, linear in _blocks((dx, dy, input), tuple(scratch)):
        if dx.dtype.itemsize == 4 and threshold > _SIGMOID_IS_1:
            xp.multiply(x, -beta, out=z)
            xp.exp(z, out=z)
            xp.add(z, 1.0, out=z)
            xp.divide(g, z, out=dx_)
            continue
        xp.multiply(x, beta, out=z)
        xp.greater(z, threshold, out=linear)
        _sigmoid(xp, work, z)
        xp.multiply(work, g, out=work)
        _select(xp, dx_, _spread(xp, z.view(f"i{z.itemsize}"), linear), g, work)


@_ONE
def elu(xp: Any, y: Any, input: Any, *, alpha: float, scratch: list[Any]) -> None:
    """exp(x) - 1 as 2·t/(1 - t), t = tanh(x/2), which cancels nothing below 0: expm1 is slow without
    AVX-512."""
    for y_, x, low in _blocks((y, input), tuple(scratch)):
        xp.clip(x, -math.inf, 0.0, out=low)
        xp.multiply(low, 0.5, out=low)
        xp.tanh(low, out=low)
        xp.subtract(1.0, low, out=y_)
        xp.divide(low, y_, out=low)
        xp.multiply(low, 2 * alpha, out=low)
        xp.clip(x, 0.0, math.inf, out=y_)
        xp.add(y_, low, out=y_)


@scratch(lambda dy, input, **attrs: [input, input, input.with_dtype("bool")])
def elu_bwd(xp: Any, dx: Any, dy: Any, input: Any, *, alpha: float, scratch: list[Any]) -> None:
    for dx_, g, x, curve, bits, curved in _blocks((dx, dy, input), tuple(scratch)):
        xp.less_equal(x, 0, out=curved)
        xp.exp(x, out=curve)
        xp.multiply(curve, alpha, out=curve)
        xp.multiply(curve, g, out=curve)
        _select(xp, dx_, _spread(xp, bits.view(f"i{bits.itemsize}"), curved), curve, g)


def silu(xp: Any, y: Any, input: Any) -> None:
    for y_, x in _blocks((y, input)):
        xp.negative(x, out=y_)
        xp.exp(y_, out=y_)
        xp.add(y_, 1.0, out=y_)
        xp.divide(x, y_, out=y_)


@_ONE
def silu_bwd(xp: Any, dx: Any, dy: Any, input: Any, *, scratch: list[Any]) -> None:
    for dx_, g, x, s in _blocks((dx, dy, input), tuple(scratch)):
        _sigmoid(xp, s, x)
        xp.subtract(1.0, s, out=dx_)
        xp.multiply(dx_, x, out=dx_)
        xp.add(dx_, 1.0, out=dx_)
        xp.multiply(dx_, s, out=dx_)
        xp.multiply(dx_, g, out=dx_)


# --- gelu -------------------------------------------------------------------------------------------------------------

_K, _C = math.sqrt(2 / math.pi), 0.044715


def _gelu_tanh(xp: Any, out: Any, x: Any) -> None:
    """tanh(√(2/π)·(x + 0.044715·x³))."""
    xp.multiply(x, x, out=out)
    xp.multiply(out, _K * _C, out=out)
    xp.add(out, _K, out=out)
    xp.multiply(out, x, out=out)
    xp.tanh(out, out=out)


# float32: erf(x/√2) = tanh(x·P(x²)), in two thirds of the passes of a quotient. P is the minimax fit of degree 6, found
# by linear programming: |error| ≤ 6e-8 in exact arithmetic, 1.3e-7 in float32. From x = 6 on it gives ±1, also where x²
# overflows, since the leading coefficient is positive.
_GATE = (1.75617057e-9, -1.3226331e-7, 3.96474366e-6, -5.53061871e-5, -3.25949977e-5, 0.0363330846, 0.797884941)


def _gate(xp: Any, out: Any, x: Any, u: Any, *buffers: Any) -> None:
    """erf(x/√2) into out."""
    if x.dtype.itemsize == 4:
        xp.multiply(x, x, out=u)
        _polynomial(xp, out, u, _GATE)
        xp.multiply(out, x, out=out)
        xp.tanh(out, out=out)
    else:
        xp.multiply(x, math.sqrt(0.5), out=u)
        _erf(xp, out, u, *buffers)


@_FOUR
def gelu(xp: Any, y: Any, input: Any, *, approximate: str, scratch: list[Any]) -> None:
    for y_, x, half, *buffers in _blocks((y, input), tuple(scratch)):
        if approximate == "tanh":
            _gelu_tanh(xp, y_, x)
        else:
            _gate(xp, y_, x, half, *buffers)
        xp.multiply(x, 0.5, out=half)
        xp.add(y_, 1.0, out=y_)
        xp.multiply(y_, half, out=y_)


@_FOUR
def gelu_bwd(xp: Any, dx: Any, dy: Any, input: Any, *, approximate: str, scratch: list[Any]) -> None:
    for dx_, g, x, u, *buffers in _blocks((dx, dy, input), tuple(scratch)):
        (_gelu_tanh_slope if approximate == "tanh" else _gelu_slope)(xp, dx_, x, u, *buffers)
        xp.multiply(dx_, g, out=dx_)


def _gelu_and_slope(xp: Any, y: Any, x: Any, *scratch: Any, approximate: str) -> None:
    """y = gelu(x), and the slope there in the place of x: the costly function in both is computed once."""
    for y_, x_, u, gate, *buffers in _blocks((y, x), scratch):
        if approximate == "tanh":
            _gelu_tanh(xp, gate, x_)
            xp.multiply(x_, x_, out=u)
            xp.multiply(u, 3 * _K * _C, out=u)
            xp.add(u, _K, out=u)
            xp.multiply(u, x_, out=u)
            xp.subtract(1.0, gate, out=y_)
            xp.multiply(u, y_, out=u)
            xp.add(u, 1.0, out=u)
        else:
            _gate(xp, gate, x_, u, y_, *buffers)
            _times_density(xp, u, x_)
        xp.multiply(gate, 0.5, out=gate)
        xp.add(gate, 0.5, out=gate)
        xp.multiply(gate, x_, out=y_)
        (xp.multiply if approximate == "tanh" else xp.add)(u, gate, out=x_)


def _times_density(xp: Any, u: Any, x: Any) -> None:
    """x·φ(x) into u, in which `_gate` has left x² (in float32)."""
    if x.dtype.itemsize == 4:
        xp.multiply(u, -0.5, out=u)
    else:
        xp.multiply(x, -0.5, out=u)
        xp.multiply(u, x, out=u)
    xp.exp(u, out=u)
    xp.multiply(u, 1 / math.sqrt(2 * math.pi), out=u)
    xp.multiply(u, x, out=u)


def _gelu_slope(xp: Any, out: Any, x: Any, u: Any, *buffers: Any) -> None:
    """Φ(x) + x·φ(x)."""
    _gate(xp, out, x, u, *buffers)
    xp.add(out, 1.0, out=out)
    xp.multiply(out, 0.5, out=out)
    _times_density(xp, u, x)
    xp.add(out, u, out=out)


def _gelu_tanh_slope(xp: Any, out: Any, x: Any, u: Any, work: Any, *_: Any) -> None:
    """½·(1 + t) + ½·x·(1 - t²)·√(2/π)·(1 + 3·0.044715·x²) = ½·(1 + t)·(1 + x·(1 - t)·u')."""
    _gelu_tanh(xp, u, x)
    xp.multiply(x, x, out=out)
    xp.multiply(out, 3 * _K * _C, out=out)
    xp.add(out, _K, out=out)
    xp.multiply(out, x, out=out)
    xp.subtract(1.0, u, out=work)
    xp.multiply(out, work, out=out)
    xp.add(out, 1.0, out=out)
    xp.multiply(u, 0.5, out=u)
    xp.add(u, 0.5, out=u)
    xp.multiply(out, u, out=out)
