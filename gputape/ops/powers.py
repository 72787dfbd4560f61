"""Cards of powers, of an array and of a plain number."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, promote
from ..errors import ArgumentError, DTypeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .pointwise import (
    BINARY_ERRORS,
    INF,
    NAN,
    as_float,
    binary,
    broadcast_rule,
    masked,
    not_bool,
    plain_number,
    unbroadcast,
    zeros,
)


def _pow_vjp(F: Any, at: At, dy: Any, input: Any, exponent: Any, y: Any) -> Any:
    a, b = at.ins
    da = db = None
    if at.needs[0]:
        lower = F.pow(input, F.sub(exponent, F.const(1, b.dtype)))
        da = unbroadcast(F, masked(F, F.mul(dy, F.mul(exponent, lower)), F.ne(exponent, F.const(0, b.dtype))), a)
    if at.needs[1]:
        flat = F.logical_and(F.eq(input, F.const(0, a.dtype)), F.ge(exponent, F.const(0, b.dtype)))
        db = unbroadcast(F, masked(F, F.mul(dy, F.mul(y, F.log(input))), F.logical_not(flat)), b)
    return da, db


def _pow_check(name: str, *avals: Aval) -> None:
    if promote(*avals) == "bool":
        not_bool(name, *avals)


_POSITIVE = {"fill": "uniform", "low": 0.5, "high": 2.0}
binary(
    "pow",
    "input ** exponent; 0**0 is 1, and the gradient to an exponent ≥ 0 of base 0 is 0. An integer to a negative "
    "integer power is 1, -1 or 0. A plain number as exponent is `pow_scalar`",
    _pow_vjp,
    rule=broadcast_rule("pow", check=_pow_check),
    signature="input, exponent",
    saves=("input", "exponent", "y"),
    number=("exponent", "pow_scalar"),
    samples=(
        Sample(t(5, 3, **_POSITIVE), t(5, 3)),
        Sample(t(5, 1, **_POSITIVE), t(3), why_="both sides broadcast"),
        Sample(t(**_POSITIVE), t(2, 3), why_="a scalar"),
        Sample(t(0, 3), t(1, 3), why_="no elements"),
        Sample(t(4, 6, **_POSITIVE, layout="transposed"), t(4, 6, layout="strided")),
        Sample(t(7, dtype="float64", **_POSITIVE), t(7), why_="promotion"),
        Sample(t(2, 4, fill=(0.0, -2.0, NAN, INF)), t(2, 4, fill=((2.0,), (0.0,))), grad_=False, why_="edges"),
        Sample(t(4, dtype="int64", fill=(2.0, -1.0, 1.0, 3.0)), t(4, dtype="int64", fill=(-1.0, -3.0, -2.0, 4.0))),
    ),
    perf=(Perf(t(64, 128, **_POSITIVE), t(128)), Perf(t(1024, 128, **_POSITIVE), t(1024, 128))),
    errors=(*BINARY_ERRORS, Bad(DTypeError, "bool", t(3, dtype="bool", fill="bool"), t(3, dtype="bool", fill="bool"))),
)


def _pow_scalar_canon(input: Aval, *, exponent: Any) -> dict[str, Any]:
    return {"exponent": plain_number("pow", "exponent", exponent)}


def _pow_scalar_rule(input: Aval, *, exponent: int | float) -> Aval:
    if input.is_float:
        return input
    if isinstance(exponent, float):
        return as_float(input)
    if exponent < 0:
        raise ArgumentError(
            f"pow: {input.dtype} to the power {exponent} is not an integer. Cast the input to a float dtype, or use "
            f"exponent={float(exponent)}."
        )
    return input.with_dtype("int64") if input.dtype == "bool" else input


def _pow_scalar_vjp(F: Any, at: At, dy: Any, input: Any) -> Any:
    c = at.attrs["exponent"]
    if c == 0:
        return zeros(F, at.ins[0])
    if c == 1:
        return dy
    lower = input if c == 2 else F.pow_scalar(input, c - 1)
    return F.scale(F.mul(dy, lower), c)


register(
    name="pow_scalar",
    doc="input ** exponent for a plain number: x·x for 2, √x for 0.5, and so on. As torch.pow with a number.",
    signature="input, exponent",
    inputs=("input",),
    canon=_pow_scalar_canon,
    rule=_pow_scalar_rule,
    vjp=_pow_scalar_vjp,
    saves=("input",),
    batch="pointwise",
    public=False,
    samples=(
        *(Sample(t(5, 3), exponent=n) for n in (0, 1, 2, 3, 4, 5, 6.0)),
        *(Sample(t(4, 6, layout="transposed", **_POSITIVE), exponent=c) for c in (0.5, -0.5, -1, -2, -3.0, 2.5)),
        Sample(t(2, 4, fill=(0.0, -2.0, NAN, INF)), exponent=-1, grad_=False),
        Sample(t(0), exponent=2),
        Sample(t(), exponent=3),
        Sample(t(4, dtype="int64", fill="ints", low=-4, high=4), exponent=3),
        Sample(t(4, dtype="int64", fill="ints", low=1, high=4), exponent=0.5),
        Sample(t(7, dtype="float64", **_POSITIVE), exponent=-1.5),
    ),
    errors=(
        Bad(ArgumentError, "pow: int64 to the power -1", t(3, dtype="int64", fill="ones"), exponent=-1),
        Bad(DTypeError, "pow: exponent must be a plain number", t(3), exponent="2"),
    ),
)
