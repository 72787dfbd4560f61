"""Cards of logarithms and exponentials to other bases, and of those of two arrays."""

from __future__ import annotations

import math
from typing import Any

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
from .unary import EDGES, INTS, POSITIVE_SAMPLES, UNARY_SAMPLES, unary

for _name, _base, _slope in (("log2", 2, 1 / math.log(2)), ("log10", 10, 1 / math.log(10))):
    unary(
        _name,
        f"The logarithm to base {_base}; -inf at 0, NaN below",
        lambda F, at, dy, input, c=_slope: F.scale(F.div(dy, input), c),
        saves=("input",),
        samples=(*POSITIVE_SAMPLES, EDGES, INTS, Sample(t(4, fill=(1e-30, 0.125, 8.0, 1e30)), grad_=False)),
    )
unary(
    "exp2",
    "2 to the power input",
    lambda F, at, dy, y: F.scale(F.mul(dy, y), math.log(2)),
    saves=("y",),
    samples=(*UNARY_SAMPLES, EDGES, INTS, Sample(t(4, fill=(-13.0, -0.001, 11.5, 15.0)), grad_=False)),
)


def _xlogy_vjp(F: Any, at: At, dy: Any, input: Any, other: Any) -> Any:
    a, b = at.ins
    da = db = None
    if at.needs[0]:
        none = F.const(0, b.dtype)
        flat = F.logical_and(F.eq(input, none), F.le(other, none))
        da = unbroadcast(F, masked(F, F.xlogy(dy, other), F.logical_not(flat)), a)
    if at.needs[1]:
        db = unbroadcast(F, F.div(F.mul(dy, input), other), b)
    return da, db


binary(
    "xlogy",
    "input · log(other), 0 where input is 0 and other is not NaN; integers as float32",
    _xlogy_vjp,
    rule=lambda input, other: as_float(broadcast_rule("xlogy")(input, other)),
    inexact=True,
    saves=("input", "other"),
    samples=(
        Sample(t(5, 3), t(5, 3, fill="uniform", low=0.5, high=2)),
        Sample(t(5, 1), t(3, fill="uniform", low=0.5, high=2), why_="both sides broadcast"),
        Sample(t(), t(2, 3, fill="uniform", low=0.5, high=2), why_="a scalar"),
        Sample(t(0, 3), t(1, 3), why_="no elements"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, fill="uniform", low=1, high=2, layout="strided")),
        Sample(t(7, dtype="float64"), t(7, fill="uniform", low=1, high=2), why_="promotion"),
        Sample(t(2, 1, fill=((0.0,), (2.0,))), t(5, fill=(0.0, -1.0, NAN, INF, 3.0)), grad_=False, why_="edges"),
        INT_SAMPLE,
    ),
)


def _logaddexp_vjp(F: Any, at: At, dy: Any, input: Any, other: Any) -> Any:
    a, b = at.ins
    gap = F.sub(input, other)
    return (
        unbroadcast(F, F.mul(dy, F.sigmoid(gap)), a) if at.needs[0] else None,
        unbroadcast(F, F.mul(dy, F.sigmoid(F.neg(gap))), b) if at.needs[1] else None,
    )


binary(
    "logaddexp",
    "log(exp(input) + exp(other)) without overflow; floating point only",
    _logaddexp_vjp,
    rule=broadcast_rule("logaddexp", check=only_floats),
    saves=("input", "other"),
    samples=(
        *BINARY_SAMPLES,
        Sample(t(3, fill=(1000.0, -1000.0, 3.0)), t(3, fill=(999.0, -1001.0, -200.0)), why_="far from 0"),
        Sample(t(3, fill=(INF, -INF, NAN)), t(3, 1, fill=((INF,), (-INF,), (1.0,))), grad_=False, why_="infinities"),
    ),
)
