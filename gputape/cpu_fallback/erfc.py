"""Body of erfc, in float64 for all dtypes: small results take their digits from those of x²."""

from __future__ import annotations

from typing import Any

from ..backend import scratch
from .pointwise import _blocks
from .unary import _ERF64_C, _ERF64_D, _ERF64_SPLIT, _erf, _ratio

# The third interval of Cody's (see `unary.py`), from 4 on: erfc(x) = exp(-x²)/x · (1/√π - P(x⁻²)/(x²·Q(x⁻²))).
_FAR, _END = 4.0, 28.0
_P = (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
      1.60837851487422766e-2, 6.58749161529837803e-4)  # fmt: skip
_Q = (1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2,
      2.33520497626869185e-3)  # fmt: skip


@scratch(lambda input: [input.with_dtype(kind) for kind in ("float64",) * 6 + ("float32", "bool")])
def erfc(xp: Any, y: Any, input: Any, *, scratch: list[Any]) -> None:
    for y_, given, x, z, tail, work, more, spare, short, mask in _blocks((y, input), tuple(scratch)):
        xp.copyto(x, given)
        xp.absolute(x, out=z)
        xp.clip(z, _ERF64_SPLIT, _END, out=z)
        _tail(xp, tail, z, work, more, short, mask)
        xp.subtract(2.0, tail, out=work)
        xp.less(x, 0.0, out=mask)
        xp.copyto(tail, work, where=mask)
        _erf(xp, work, x, z, more, spare)
        xp.subtract(1.0, work, out=work)
        xp.absolute(x, out=z)
        xp.greater(z, _ERF64_SPLIT, out=mask)
        xp.copyto(work, tail, where=mask)
        xp.copyto(y_, work, casting="same_kind")


def _tail(xp: Any, y: Any, z: Any, work: Any, more: Any, short: Any, mask: Any) -> None:
    """erfc(z) for z from the split on."""
    xp.multiply(z, z, out=more)
    xp.reciprocal(more, out=more)
    _ratio(xp, work, more, _P, _Q, y)
    xp.multiply(work, more, out=work)
    xp.subtract(0.5641895835477563, work, out=work)
    xp.divide(work, z, out=work)
    _ratio(xp, y, z, _ERF64_C, _ERF64_D, more)
    xp.greater(z, _FAR, out=mask)
    xp.copyto(y, work, where=mask)
    xp.copyto(short, z, casting="same_kind")  # z² in two parts: the square of 24 bits is exact
    xp.copyto(work, short)
    xp.subtract(z, work, out=more)
    xp.add(z, work, out=z)
    xp.multiply(more, z, out=more)
    xp.multiply(work, work, out=work)
    for part in (more, work):
        xp.negative(part, out=part)
        xp.exp(part, out=part)
        xp.multiply(y, part, out=y)
