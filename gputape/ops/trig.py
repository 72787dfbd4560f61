"""Cards of the circular and hyperbolic functions, their inverses, and the angle and length of a vector."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..registry import At
from ..samples import Sample, t
from .pointwise import (
    BINARY_SAMPLES,
    INF,
    INT_SAMPLE,
    NAN,
    as_float,
    binary,
    broadcast_rule,
    masked,
    only_floats,
    unbroadcast,
)
from .unary import EDGES, INTS, UNARY_SAMPLES, unary


def _one(F: Any, at: At) -> Any:
    return F.const(1, at.out.dtype)


def _within(low: float, high: float) -> tuple[Sample, ...]:
    """The usual samples inside an interval."""
    fill = {"fill": "uniform", "low": low, "high": high}
    return (
        Sample(t(5, 3, **fill)),
        Sample(t(**fill), why_="a scalar"),
        Sample(t(0, 3), why_="no elements"),
        Sample(t(4, 6, layout="transposed", **fill), why_="strided"),
        Sample(t(3, 5, layout="strided", **fill), why_="strided"),
        Sample(t(7, dtype="float64", **fill)),
        EDGES,
        Sample(t(2, dtype="int64", fill=(0.0, 1.0)), why_="integers"),
    )


_INSIDE, _ABOVE = _within(-0.9, 0.9), _within(1.1, 4.0)
_ENDS = Sample(t(4, fill=(1.0, -1.0, 1.5, -1.5)), grad_=False, why_="the ends of the interval, and beyond")
_WIDE = Sample(t(8, fill=(-11.0, -6.0, -1e-4, 1e-4, 0.3, 4.0, 8.0, 11.0)), grad_=False, why_="tails, near 0")
_HUGE = Sample(t(4, fill=(1e-30, -1e-10, 1e20, -3e38)), grad_=False, why_="whose squares leave float32")

# --- of one number ----------------------------------------------------------------------------------------------------

unary(
    "tan",
    "tan(input)",
    lambda F, at, dy, y: F.mul(dy, F.add(F.square(y), _one(F, at))),
    saves=("y",),
    samples=(*_INSIDE, Sample(t(5, fill=(-100.0, -1.5, 1.5, 4.7, 1000.0)), grad_=False)),
)
unary(
    "asin",
    "The angle in [-π/2, π/2] whose sine is input; NaN beyond ±1",
    lambda F, at, dy, input: F.mul(dy, F.rsqrt(F.sub(_one(F, at), F.square(input)))),
    saves=("input",),
    samples=(*_INSIDE, _ENDS),
)
unary(
    "acos",
    "The angle in [0, π] whose cosine is input; NaN beyond ±1",
    lambda F, at, dy, input: F.neg(F.mul(dy, F.rsqrt(F.sub(_one(F, at), F.square(input))))),
    saves=("input",),
    samples=(*_INSIDE, _ENDS),
)
unary(
    "atan",
    "The angle in [-π/2, π/2] whose tangent is input",
    lambda F, at, dy, input: F.div(dy, F.add(F.square(input), _one(F, at))),
    saves=("input",),
    samples=(*UNARY_SAMPLES, EDGES, INTS, _WIDE, _HUGE),
)
unary(
    "sinh",
    "(exp(input) - exp(-input)) / 2",
    lambda F, at, dy, input: F.mul(dy, F.cosh(input)),
    saves=("input",),
    samples=(*UNARY_SAMPLES, EDGES, INTS, _WIDE),
)
unary(
    "cosh",
    "(exp(input) + exp(-input)) / 2",
    lambda F, at, dy, input: F.mul(dy, F.sinh(input)),
    saves=("input",),
    samples=(*UNARY_SAMPLES, EDGES, INTS, _WIDE),
)
unary(
    "asinh",
    "The number whose sinh is input",
    lambda F, at, dy, input: F.mul(dy, F.rsqrt(F.add(F.square(input), _one(F, at)))),
    saves=("input",),
    samples=(*UNARY_SAMPLES, EDGES, INTS, _WIDE, _HUGE),
)
unary(
    "acosh",
    "The number ≥ 0 whose cosh is input; NaN below 1",
    lambda F, at, dy, input: F.mul(dy, F.rsqrt(F.sub(F.square(input), _one(F, at)))),
    saves=("input",),
    samples=(*_ABOVE, _ENDS, _HUGE, Sample(t(2, fill=(1.0001, 1.001)), grad_=False, why_="near 1")),
)
unary(
    "atanh",
    "The number whose tanh is input; ±inf at ±1, NaN beyond",
    lambda F, at, dy, input: F.div(dy, F.sub(_one(F, at), F.square(input))),
    saves=("input",),
    samples=(*_INSIDE, _ENDS, Sample(t(4, fill=(-1e-4, 1e-10, 0.999, -0.9999)), grad_=False)),
)


# --- of two numbers ---------------------------------------------------------------------------------------------------


def _real_rule(name: str) -> Any:
    plain = broadcast_rule(name)

    def rule(*avals: Aval) -> Aval:
        return as_float(plain(*avals))

    return rule


def _atan2_vjp(F: Any, at: At, dy: Any, input: Any, other: Any) -> Any:
    a, b = at.ins
    need_a, need_b = at.needs
    squares = F.add(F.square(input), F.square(other))
    over = masked(F, F.mul(dy, F.reciprocal(squares)), F.ne(squares, F.const(0, F.aval(squares).dtype)))
    return (
        unbroadcast(F, F.mul(over, other), a) if need_a else None,
        unbroadcast(F, F.neg(F.mul(over, input)), b) if need_b else None,
    )


def _hypot_vjp(F: Any, at: At, dy: Any, input: Any, other: Any, y: Any) -> Any:
    a, b = at.ins
    need_a, need_b = at.needs
    return (
        unbroadcast(F, F.mul(dy, F.div(input, y)), a) if need_a else None,
        unbroadcast(F, F.mul(dy, F.div(other, y)), b) if need_b else None,
    )


_CORNERS = (0.0, -0.0, 1.0, -2.0, INF, -INF, NAN)
_PAIRS = Sample(t(7, 1, fill=tuple((c,) for c in _CORNERS)), t(7, fill=_CORNERS), grad_=False, why_="axes, corners")
binary(
    "atan2",
    "The angle in [-π, π] of the point (other, input) seen from 0, integers as float32; gradient 0 at (0, 0)",
    _atan2_vjp,
    rule=_real_rule("atan2"),
    inexact=True,
    saves=("input", "other"),
    samples=(
        *BINARY_SAMPLES,
        INT_SAMPLE,
        _PAIRS,
        Sample(t(3, fill=(0.0, -0.0, 2.0)), t(3, fill=(0.0, 0.0, 0.0)), grad_=False, why_="at 0"),
    ),
)
binary(
    "hypot",
    "√(input² + other²), without overflow in between; floating point only; NaN gradient where both are 0",
    _hypot_vjp,
    rule=broadcast_rule("hypot", check=only_floats),
    saves=("input", "other", "y"),
    samples=(
        *BINARY_SAMPLES,
        _PAIRS,
        Sample(t(3, fill=(3e30, 1e-30, 0.0)), t(3, fill=(4e30, 1e-30, 5.0)), grad_=False, why_="squares overflow"),
    ),
)


def _sinc(F: Any, input: Any) -> Any:
    x = input if F.aval(input).is_float else F.cast(input, "float32")
    dtype = F.aval(x).dtype
    flat = F.eq(x, F.const(0, dtype))
    z = F.scale(F.where(flat, F.const(1, dtype), x), 3.141592653589793)
    return F.where(flat, F.const(1, dtype), F.div(F.sin(z), z))


unary(
    "sinc",
    "sin(π·input) / (π·input), 1 at 0",
    None,
    rule=lambda input: input,
    compose=_sinc,
)
