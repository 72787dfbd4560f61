"""Cards of element-wise functions composed of others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..aval import Aval
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .pointwise import (
    BINARY_ERRORS,
    BINARY_SAMPLES,
    INF,
    INT_SAMPLE,
    NAN,
    as_float,
    binary,
    broadcast_rule,
    not_bool,
    only_floats,
    plain_number,
)
from .unary import EDGES, INTS, UNARY_SAMPLES, keeps_dtype, unary


def _composed(name: str, formula: str, compose: Callable[..., Any], **fields: Any) -> None:
    unary(name, f"{formula}. As torch.{name}", None, **{"compose": compose, "perf": ()} | fields)


def _floating(F: Any, x: Any) -> Any:
    return x if F.aval(x).is_float else F.cast(x, "float32")


# --- of one array -----------------------------------------------------------------------------------------------------

for _name, _what, _factor in (("deg2rad", "π/180 · input", math.pi / 180), ("rad2deg", "180/π · input", 180 / math.pi)):
    _composed(_name, _what, lambda F, input, c=_factor: F.scale(_floating(F, input), c))


def _logit_canon(input: Aval, *, eps: Any = None) -> dict[str, Any]:
    eps = None if eps is None else plain_number("logit", "eps", eps)
    return {"eps": eps}


def _logit(F: Any, input: Any, *, eps: float | None) -> Any:
    x = _floating(F, input)
    zero, one = F.const(0, F.aval(x).dtype), F.const(1, F.aval(x).dtype)
    none = F.ne(x, x)
    if eps is None:
        none = F.logical_or(none, F.logical_or(F.lt(x, zero), F.gt(x, one)))
    x = F.mul(x, F.where(none, F.const(NAN, F.aval(x).dtype), one))  # where the gradient is NaN, too
    if eps is not None:
        x = F.clamp(x, eps, 1 - eps)
    return F.sub(F.log(x), F.log1p(F.neg(x)))


_PARTS: dict[str, Any] = {"fill": "uniform", "low": 0.1, "high": 0.9}
_composed(
    "logit",
    "log(input / (1 - input)), of input brought between eps and 1 - eps where eps is given",
    _logit,
    signature="input, eps=None",
    canon=_logit_canon,
    rule=lambda input, *, eps: as_float(input),
    samples=(
        Sample(t(5, 3, **_PARTS)),
        Sample(t(**_PARTS)),
        Sample(t(0, 3)),
        Sample(t(4, 6, layout="transposed", **_PARTS)),
        Sample(t(7, dtype="float64", **_PARTS), eps=0.01),
        Sample(t(6, fill=(-0.5, 0.0, 0.2, 1.0, 1.5, NAN)), eps=0.1, grad_=False),
        Sample(t(5, fill=(0.0, 1.0, NAN, -1.0, 2.0)), grad_=False),
        Sample(t(3, dtype="int64", fill="ones")),
    ),
    errors=(Bad(DTypeError, "eps must be a plain number", t(3), eps="a"),),
)
_composed(
    "positive",
    "input itself; not of bools",
    lambda F, input: F.alias(input),
    rule=keeps_dtype("positive")["rule"],
    errors=keeps_dtype("positive")["errors"],
)
for _name, _sign in (("isposinf", INF), ("isneginf", -INF)):

    def _is_infinity(F: Any, input: Any, sign: float = _sign) -> Any:
        a = F.aval(input)
        return F.eq(input, F.const(sign, a.dtype)) if a.is_float else F.ne(input, input)

    _composed(
        _name,
        f"whether input is {_sign}",
        _is_infinity,
        rule=lambda input: input.with_dtype("bool"),
        samples=tuple(Sample(*s.inputs, grad_=False) for s in (*UNARY_SAMPLES, EDGES, INTS)),
    )
_composed(
    "signbit",
    "whether input is below 0, or -0",
    lambda F, input: (
        F.lt(F.copysign(F.const(1, F.aval(input).dtype), input), F.const(0, F.aval(input).dtype))
        if F.aval(input).is_float
        else F.lt(input, F.const(0, F.aval(input).dtype))
    ),
    rule=lambda input: input.with_dtype("bool"),
    samples=(*(Sample(*s.inputs, grad_=False) for s in (*UNARY_SAMPLES, INTS)),
             Sample(t(5, fill=(0.0, -0.0, -1.0, INF, -INF)), grad_=False)),
)  # fmt: skip


def _bounded(name: str, option: str) -> None:
    other = f"{name}_of"

    bound: Callable[[Any], dict[str, Any]] = lambda value: {option: value}  # noqa: E731 - what mypy reads as options

    def canon(input: Aval, **given: Any) -> dict[str, Any]:
        return {option: plain_number(name, option, given[option])}

    def rule(input: Aval, **given: Any) -> Aval:
        not_bool(name, input)
        return as_float(input) if isinstance(given[option], float) else input

    _composed(
        name,
        f"clamp with {option} alone, a number or an array",
        lambda F, input, **bound: F.clamp(input, **bound),
        signature=f"input, {option}",
        canon=canon,
        rule=rule,
        arrays=((option,), other),
        samples=(
            *(Sample(*s.inputs, **bound(0.25), grad_=s.grad) for s in (*UNARY_SAMPLES, EDGES)),
            Sample(*INTS.inputs, **bound(2)),
        ),
        errors=(
            Bad(DTypeError, f"{option} must be a plain number", t(3), **bound("0")),
            Bad(DTypeError, "bool", t(3, dtype="bool", fill="bool"), **bound(0)),
        ),
    )
    register(
        name=other,
        doc=f"{name} with an array.",
        signature=f"input, {option}",
        inputs=("input", option),
        promotes=("input", option),
        rule=broadcast_rule(name, check=not_bool),
        compose=lambda F, input, bound: F.op("clamp_between", input, **{option: bound}),
        batch="pointwise",
        public=False,
        samples=(*BINARY_SAMPLES, INT_SAMPLE),
        errors=BINARY_ERRORS,
        torch=f"torch.{name}",
    )


_bounded("clamp_min", "min")
_bounded("clamp_max", "max")


# --- of two arrays ----------------------------------------------------------------------------------------------------


def _choosing(name: str, wins: str) -> None:
    """fmax and fmin: the other where one is NaN; the gradient goes to the one that is taken, input at a tie."""

    def compose(F: Any, input: Any, other: Any) -> Any:
        mine = F.op(wins, input, other)
        return F.where(F.logical_or(mine, F.ne(other, other)), input, other)

    binary(
        name,
        f"the {'larger' if wins == 'ge' else 'smaller'} of both; of a number and NaN the number. At a tie the gradient "
        "goes to input",
        None,
        compose=compose,
        perf=(),
        samples=(
            *BINARY_SAMPLES,
            INT_SAMPLE,
            Sample(t(2, 4, fill=(1.0, NAN, -INF, 2.0)), t(2, 4, fill=((1.0,), (NAN,))), grad_=False, why_="ties, NaN"),
        ),
    )


_choosing("fmax", "ge")
_choosing("fmin", "le")


def _copysign(F: Any, input: Any, other: Any) -> Any:
    """The angle of (-1, other) is above 0 for +0 and below it for -0."""
    x, y = _floating(F, input), _floating(F, other)
    y = F.where(F.ne(y, y), F.const(1, F.aval(y).dtype), y)  # NaN counts as positive
    angle = F.atan2(y, F.const(-1, F.aval(y).dtype))
    return F.mul(F.abs(x), F.detach(F.sign(angle)))


binary(
    "copysign",
    "|input| with the sign of other, which counts -0 as negative; integers give float32",
    None,
    compose=_copysign,
    rule=lambda input, other: as_float(broadcast_rule("copysign")(input, other)),
    inexact=True,
    perf=(),
    samples=(
        *BINARY_SAMPLES,
        INT_SAMPLE,
        Sample(t(2, fill=(1.0, -1.0)), t(2, fill=(NAN, NAN)), grad_=False),
        Sample(t(3, fill=(1.0, -1.0, 0.0)), t(3, 3, fill=((-2.0,), (0.0,), (-0.0,))), grad_=False),
        Sample(
            t(2, fill=(INF, NAN)),
            t(2, fill=(-1.0, -1.0)),
            grad_=False,
            torch_=False,
            why_="PyTorch's gradients there are NaN",
        ),
    ),
)


def _heaviside(F: Any, input: Any, values: Any) -> Any:
    dtype = F.aval(input).dtype
    zero, one = F.const(0, dtype), F.const(1, dtype)
    step = F.where(F.gt(input, zero), one, F.where(F.lt(input, zero), zero, F.detach(values)))
    return F.detach(F.where(F.ne(input, input), F.detach(input), step))


register(
    name="heaviside",
    doc="0 below 0, 1 above, `values` at 0, NaN of NaN; without gradient. Shapes broadcast. As torch.heaviside.",
    signature="input, values",
    inputs=("input", "values"),
    promotes=("input", "values"),
    rule=broadcast_rule("heaviside"),
    compose=_heaviside,
    batch="pointwise",
    samples=(
        *(Sample(*s.inputs, grad_=False, why_=s.why) for s in BINARY_SAMPLES[:-1]),
        Sample(t(4, dtype="float64", fill=(0.0, -0.0, NAN, 2.0)), t(4, dtype="float64"), grad_=False),
        Sample(t(5, dtype="int64", fill="ints", low=-1, high=2), t(5, dtype="int64", fill="ints", high=9)),
    ),
    errors=BINARY_ERRORS,
)


def _isclose_canon(input: Aval, other: Aval, *, rtol: Any, atol: Any, equal_nan: Any) -> dict[str, Any]:
    rtol, atol = plain_number("isclose", "rtol", rtol), plain_number("isclose", "atol", atol)
    if rtol < 0 or atol < 0:
        raise ArgumentError(f"isclose: rtol={rtol} and atol={atol} must be at least 0.")
    return {"rtol": float(rtol), "atol": float(atol), "equal_nan": bool(equal_nan)}


def _isclose_rule(input: Aval, other: Aval, **attrs: Any) -> Aval:
    if input.dtype != other.dtype:
        raise DTypeError(f"isclose: input is {input.dtype}, other {other.dtype}. Cast one with gt.cast.")
    return broadcast_rule("isclose", "bool")(input, other)


def _isclose(F: Any, input: Any, other: Any, *, rtol: float, atol: float, equal_nan: bool) -> Any:
    close = F.eq(input, other)
    if equal_nan:
        close = F.logical_or(close, F.logical_and(F.ne(input, input), F.ne(other, other)))
    a = F.aval(input)
    if rtol == 0 and atol == 0:
        return close
    x, y = (v if a.is_float else F.cast(v, "float64") for v in (input, other))
    gap = F.abs(F.sub(x, y))
    bound = F.add(F.scale(F.abs(y), rtol), F.const(atol, F.aval(y).dtype))
    return F.logical_or(close, F.logical_and(F.isfinite(gap), F.le(gap, bound)))


_NEAR = (t(6, fill=(1.0, 1.0, NAN, INF, INF, 0.0)), t(6, fill=(1.00001, 1.1, NAN, INF, -INF, 1e-9)))
register(
    name="isclose",
    doc="Whether |input - other| ≤ atol + rtol · |other|, element by element; infinities are close to themselves, and "
    "NaN to NaN with equal_nan. Shapes broadcast. As torch.isclose.",
    signature="input, other, rtol=1e-05, atol=1e-08, equal_nan=False",
    inputs=("input", "other"),
    canon=_isclose_canon,
    rule=_isclose_rule,
    compose=_isclose,
    batch="pointwise",
    samples=(
        Sample(*_NEAR, grad_=False),
        Sample(*_NEAR, rtol=0.2, equal_nan=True, grad_=False),
        Sample(*_NEAR, rtol=0, atol=0.0, grad_=False),
        Sample(t(5, 1), t(3), atol=0.5, grad_=False),
        Sample(t(0, 3), t(3), grad_=False),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), atol=1, grad_=False),
        Sample(t(3, dtype="float64"), t(3, dtype="float64"), grad_=False),
        Sample(t(3, dtype="int64", fill="ints", high=4), t(3, dtype="int64", fill="ints", high=4), atol=1),
        Sample(t(3, dtype="bool", fill="bool"), t(3, dtype="bool", fill="bool"), atol=1),
    ),
    errors=(
        Bad(ShapeError, "broadcast", t(3), t(4)),
        Bad(ArgumentError, "at least 0", t(3), t(3), rtol=-1),
        Bad(DTypeError, "other float64", t(3), t(3, dtype="float64")),
    ),
    torch="torch.isclose",
)


def _logaddexp2(F: Any, input: Any, other: Any) -> Any:
    """high + log2(1 + 2**(low - high)); with maximum and abs second derivatives would be 0 where both are equal."""
    swapped = F.lt(input, other)
    high, low = F.where(swapped, other, input), F.where(swapped, input, other)
    alike = F.logical_and(F.eq(high, low), F.isinf(high))
    gap = F.where(alike, F.const(0, F.aval(input).dtype), F.sub(low, high))
    return F.add(high, F.scale(F.log1p(F.exp2(gap)), 1 / math.log(2)))


binary(
    "logaddexp2",
    "log2(2**input + 2**other)",
    None,
    compose=_logaddexp2,
    rule=broadcast_rule("logaddexp2", check=only_floats),
    perf=(),
    samples=(
        *BINARY_SAMPLES,
        Sample(t(3, fill=(0.5, 0.0, -2.0)), t(3, fill=(0.5, 0.0, -2.0)), why_="equal"),
        Sample(t(2, fill=(INF, 900.0)), t(2, fill=(1.0, 901.0)), grad_=False),
        Sample(t(fill=-INF), t(fill=-INF), grad_=False, torch_=False, why_="PyTorch's gradient there is NaN"),
    ),
)


def _float_power_canon(input: Aval, *, exponent: Any) -> dict[str, Any]:
    return {"exponent": float(plain_number("float_power", "exponent", exponent))}


register(
    name="float_power",
    doc="input ** exponent in float64. exponent is a number or an array. As torch.float_power.",
    signature="input, exponent",
    inputs=("input",),
    arrays=(("exponent",), "float_power_of"),
    canon=_float_power_canon,
    rule=lambda input, *, exponent: input.with_dtype("float64"),
    compose=lambda F, input, *, exponent: F.pow_scalar(F.cast(input, "float64"), exponent),
    batch="pointwise",
    samples=(
        Sample(t(5, 3), exponent=2),
        Sample(t(4, 6, layout="transposed", **_PARTS), exponent=-0.5),
        Sample(t(0), exponent=1.5),
        Sample(t(3, dtype="int64", fill="ints", low=1, high=5), exponent=-2),
        Sample(t(3, dtype="float64", **_PARTS), exponent=3),
    ),
    errors=(Bad(DTypeError, "plain number", t(3), exponent="2"),),
    torch="torch.float_power",
)
register(
    name="float_power_of",
    doc="float_power with an array of exponents.",
    signature="input, exponent",
    inputs=("input", "exponent"),
    rule=lambda input, exponent: broadcast_rule("float_power", "float64")(input, exponent),
    compose=lambda F, input, exponent: F.pow(F.cast(input, "float64"), F.cast(exponent, "float64")),
    batch="pointwise",
    public=False,
    samples=(
        Sample(t(5, 3, **_PARTS), t(3)),
        Sample(t(0, 3), t(3)),
        Sample(t(4, 6, layout="transposed", **_PARTS), t(6, layout="strided")),
        Sample(t(3, dtype="int64", fill="ints", low=1, high=5), t(3, dtype="float64")),
    ),
    errors=(Bad(ShapeError, "float_power: shapes", t(3), t(4)),),
    torch="torch.float_power",
)
