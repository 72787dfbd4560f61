"""Cards of the bitwise ops of integers, which on bools are the logical ones. They have no derivative."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..errors import DTypeError, ShapeError
from ..samples import Bad, Perf, Sample, t
from .pointwise import binary, broadcast_rule
from .unary import NONE_GIVEN, unary

_INTS: dict[str, Any] = {"dtype": "int64", "fill": "ints", "low": -9, "high": 9}
_BOOL: dict[str, Any] = {"dtype": "bool", "fill": "bool"}


def _no_floats(op: str, *inputs: Aval) -> None:
    if any(a.is_float for a in inputs):
        raise DTypeError(f"{op}: floating-point arrays have no bits to combine. Pass integers or bools.")


for _name, _formula in (("bitwise_and", "both"), ("bitwise_or", "either"), ("bitwise_xor", "just one")):
    binary(
        _name,
        f"The bits that are set in {_formula} of input and other, two's complement; on bools the logical op",
        None,
        rule=broadcast_rule(_name, check=_no_floats),
        samples=(
            Sample(t(5, 3, **_INTS), t(5, 3, **_INTS)),
            Sample(t(5, 1, **_INTS), t(3, **_INTS), why_="both sides broadcast"),
            Sample(t(**_INTS), t(2, 3, **_INTS), why_="a scalar"),
            Sample(t(0, 3, **_INTS), t(1, 3, **_INTS), why_="no elements"),
            Sample(t(4, 6, layout="transposed", **_INTS), t(4, 6, layout="strided", **_INTS), why_="strided"),
            Sample(t(5, **_BOOL), t(5, **_BOOL), why_="bools"),
            Sample(t(5, **_INTS), t(5, **_BOOL), why_="promotion"),
            Sample(t(5, dtype="uint8", fill="ints", high=255), t(5, dtype="int8", fill="ints", low=-99, high=99)),
        ),
        errors=(
            Bad(ShapeError, "do not broadcast", t(3, **_INTS), t(4, **_INTS)),
            Bad(DTypeError, "floating-point", t(3), t(3)),
        ),
        perf=(Perf(t(1024, 512, **_INTS), t(1024, 512, **_INTS)),),
    )


def _not_rule(input: Aval) -> Aval:
    _no_floats("bitwise_not", input)
    return input


unary(
    "bitwise_not",
    "All bits of input turned, -input - 1; on bools the logical op",
    None,
    rule=_not_rule,
    samples=(
        Sample(t(5, 3, **_INTS)),
        Sample(t(**_INTS)),
        Sample(t(0, **_INTS)),
        Sample(t(4, 6, layout="transposed", **_INTS)),
        Sample(t(5, **_BOOL)),
        Sample(t(5, dtype="uint8", fill="ints", high=255)),
    ),
    errors=(NONE_GIVEN, Bad(DTypeError, "floating-point", t(3))),
    perf=(Perf(t(1024, 512, **_INTS)),),
)
