"""Cards of rounding toward zero, of quotients that are rounded, and of what they leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import Aval, need_float
from ..errors import ArgumentError, DivisionError, DTypeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .pointwise import BINARY_ERRORS, INF, MASK, NAN, as_float, binary, broadcast_rule, not_bool, unbroadcast, zeros
from .unary import EDGES, STEP_SAMPLES, UNARY_SAMPLES, float_only, keeps_dtype, step_vjp, unary

unary("trunc", "input rounded toward zero; gradient 0", step_vjp, samples=STEP_SAMPLES, **keeps_dtype("trunc"))
unary(
    "frac",
    "input - trunc(input), with the sign of input; gradient 1",
    lambda F, at, dy: dy,
    samples=(*UNARY_SAMPLES, Sample(t(6, fill=(-2.5, -1.0, 1.25, 7.0, 1e9, -0.0)), grad_=False), EDGES),
    **float_only("frac"),
)


# --- round to decimals ------------------------------------------------------------------------------------------------


def _decimals_canon(input: Aval, *, decimals: Any) -> dict[str, Any]:
    if isinstance(decimals, bool) or not isinstance(decimals, int):
        raise ArgumentError(f"round: decimals={decimals!r} must be an integer. Pass 2 for hundredths.")
    return {"decimals": decimals}


def _decimals_rule(input: Aval, *, decimals: int) -> Aval:
    if decimals:
        need_float("round", input=input)
    return input


def _round_decimals(F: Any, input: Any, *, decimals: int) -> Any:
    if not decimals:
        return F.round(input)
    dtype, power = F.aval(input).dtype, 10.0 ** abs(decimals)
    if decimals > 0:
        return F.div(F.round(F.scale(input, power)), F.const(power, dtype))
    return F.scale(F.round(F.div(input, F.const(power, dtype))), power)


register(
    name="round_decimals",
    doc="input rounded to a multiple of 10 to the power -decimals, ties to even, in floating point; gradient 0. As "
    "torch.round with decimals.",
    signature="input, decimals",
    inputs=("input",),
    canon=_decimals_canon,
    rule=_decimals_rule,
    compose=_round_decimals,
    public=False,
    samples=(
        Sample(t(5, 3), decimals=1, grad_=False),
        Sample(t(fill=123.456), decimals=-1, grad_=False),
        Sample(t(0), decimals=2),
        Sample(t(4, 6, layout="transposed"), decimals=2, grad_=False),
        Sample(t(4, fill=(NAN, INF, 0.125, -0.375)), decimals=2, grad_=False),
        Sample(t(7, dtype="float64"), decimals=3, grad_=False),
    ),
    errors=(
        Bad(ArgumentError, "round: decimals=0.5", t(3), decimals=0.5),
        Bad(DTypeError, "round: input is int64", t(3, dtype="int64", fill="ones"), decimals=1),
    ),
    torch="torch.round",
)


# --- quotients and remainders -----------------------------------------------------------------------------------------

_FAR = {"fill": "uniform", "low": 2.1, "high": 2.9}  # quotients of these by those below stay off the whole numbers
_NEAR = {"fill": "uniform", "low": 1.0, "high": 1.05}
_BELOW = {"fill": "uniform", "low": -1.05, "high": -1.0}
QUOTIENT_SAMPLES = (
    Sample(t(5, 3, **_FAR), t(5, 3, **_NEAR)),
    Sample(t(5, 1, **_FAR), t(3, **_NEAR), why_="both sides broadcast"),
    Sample(t(**_FAR), t(2, 3, **_NEAR), why_="a scalar"),
    Sample(t(0, 3), t(1, 3), why_="no elements"),
    Sample(t(4, 6, layout="transposed", **_FAR), t(4, 6, layout="strided", **_BELOW), why_="strided, of other signs"),
    Sample(t(7, dtype="float64", **_FAR), t(7, **_NEAR), why_="promotion"),
    Sample(t(6, fill=(7.0, -7.0, 7.0, -7.0, 6.0, -6.0)), t(6, fill=(2.0, 2.0, -2.0, -2.0, 3.0, 3.0)), grad_=False),
    Sample(t(5, 1, fill=((0.0,), (1.5,), (-1.5,), (INF,), (NAN,))), t(5, fill=(0.0, 2.0, -2.0, INF, -INF)),
           grad_=False, why_="zeros, infinities"),
    Sample(t(4, fill=(1e4, -1e4, 3e4, 1.0)), t(4, fill=(0.7, 0.7, 1.3, 3e-4)), grad_=False, why_="long quotients"),
    Sample(t(9, dtype="int64", fill="ints", low=-9, high=9), t(9, dtype="int32", fill="ints", low=1, high=4)),
    Sample(t(9, dtype="int64", fill="ints", low=-9, high=9), t(9, dtype="int64", fill="ints", low=-4, high=0)),
    Sample(t(4, dtype="uint8", fill="ints", low=0, high=255), t(4, dtype="uint8", fill="ints", low=1, high=20)),
    Sample(t(0, dtype="int64", fill="zeros"), t(1, dtype="int64", fill="zeros"), why_="nothing is divided by 0"),
)  # fmt: skip
_ERRORS = (
    *BINARY_ERRORS,
    Bad(DTypeError, "bool", MASK, MASK),
    Bad(DivisionError, "divided by 0", t(3, dtype="int64", fill="ones"), t(3, dtype="int32", fill=(1, 0, 2))),
)


def _steps_vjp(F: Any, at: At, dy: Any) -> Any:
    return tuple(zeros(F, a) if need else None for a, need in zip(at.ins, at.needs, strict=True))


def _remainder_vjp(divide: str) -> Callable[..., Any]:
    def vjp(F: Any, at: At, dy: Any, input: Any, other: Any) -> Any:
        a, b = at.ins
        return (
            unbroadcast(F, dy, a) if at.needs[0] else None,
            unbroadcast(F, F.neg(F.mul(dy, F.op(divide, input, other))), b) if at.needs[1] else None,
        )

    return vjp


def _quotient(name: str, formula: str, vjp: Callable[..., Any], **fields: Any) -> None:
    binary(
        name,
        f"{formula}. Integers stay integers; one divided by 0 is an error (where a kernel runs, 0)",
        vjp,
        rule=broadcast_rule(name, check=not_bool),
        errors=_ERRORS,
        perf=(Perf(t(1024, 512), t(1024, 512)),),
        **fields,
    )


_STEPS = tuple(Sample(*s.inputs, grad_=False, torch_=s.torch, why_=s.why) for s in QUOTIENT_SAMPLES)
_quotient("floor_divide", "⌊input / other⌋; gradient 0", _steps_vjp, samples=_STEPS)
_quotient("trunc_divide", "input / other rounded toward zero", _steps_vjp, samples=_STEPS, public=False, torch=None)
_quotient(
    "remainder",
    "What ⌊input / other⌋ leaves, with the sign of other",
    _remainder_vjp("floor_divide"),
    saves=("input", "other"),
    samples=QUOTIENT_SAMPLES,
)
_quotient(
    "fmod",
    "What input / other rounded toward zero leaves, with the sign of input",
    _remainder_vjp("trunc_divide"),
    saves=("input", "other"),
    samples=QUOTIENT_SAMPLES,
)

_ROUNDED = {"floor": "floor_divide", "trunc": "trunc_divide"}


def _div_rounded_canon(input: Aval, other: Aval, *, rounding_mode: Any) -> dict[str, Any]:
    if rounding_mode not in (None, *_ROUNDED):
        raise ArgumentError(f'div: rounding_mode={rounding_mode!r} is unknown. Use None, "floor" or "trunc".')
    return {"rounding_mode": rounding_mode}


register(
    name="div_rounded",
    doc="input / other, rounded down or toward zero; integers stay integers. As torch.div with rounding_mode.",
    signature="input, other, rounding_mode",
    inputs=("input", "other"),
    promotes=("input", "other"),
    canon=_div_rounded_canon,
    rule=lambda input, other, *, rounding_mode: as_float(input),
    compose=lambda F, input, other, *, rounding_mode: F.op(_ROUNDED.get(rounding_mode, "div"), input, other),
    public=False,
    samples=tuple(
        Sample(*s.inputs, rounding_mode=mode, grad_=False, torch_=s.torch, why_=s.why)
        for mode in _ROUNDED
        for s in QUOTIENT_SAMPLES
    ),
    errors=(Bad(ArgumentError, "div: rounding_mode='up'", t(3), t(3), rounding_mode="up"),),
    torch="torch.div",
)
