"""Body of erfc. Small results take their digits from those of x², so that its square is taken in two parts."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..backend import scratch
from .pointwise import _blocks, _select, _spread
from .unary import _ERF64_C, _ERF64_D, _ERF64_SPLIT, _erf, _polynomial, _ratio

# The third interval of Cody's (see `unary.py`), from 4 on: erfc(x) = exp(-x²)/x · (1/√π - P(x⁻²)/(x²·Q(x⁻²))).
_FAR, _END = 4.0, 28.0
_P = (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
      1.60837851487422766e-2, 6.58749161529837803e-4)  # fmt: skip
_Q = (1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2,
      2.33520497626869185e-3)  # fmt: skip


# float32: W. H. Press et al., "Numerical Recipes": erfc(z) = t·exp(-z² + P(t)), t = 1/(1 + z/2), to 1.2e-7 of it.
_SHORT_SPLIT, _SHORT_END = 0.5, 12.0
_SHORT_P = (0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196,
            1.00002368, -1.26551223)  # fmt: skip


def _buffers(input: Aval) -> list[Aval]:
    if input.dtype == "float64":
        return [input] * 5 + [input.with_dtype(kind) for kind in ("float32", "bool")]
    more = () if input.is_float else ("float32",)
    return [input.with_dtype(kind) for kind in (*("float32",) * 6, "bool", *more)]


@scratch(_buffers)
def erfc(xp: Any, y: Any, input: Any, *, scratch: list[Any]) -> None:
    if input.dtype != y.dtype:
        xp.copyto(scratch[7], input)
        input = scratch[7]
    split, tail_of = (_ERF64_SPLIT, _tail) if y.dtype.itemsize == 8 else (_SHORT_SPLIT, _short_tail)
    for y_, x, z, tail, work, more, spare, short, mask in _blocks((y, input), tuple(scratch[:7])):
        xp.absolute(x, out=z)
        tail_of(xp, tail, z, work, more, short, mask)
        xp.subtract(2.0, tail, out=work)
        bits = more.view(f"i{more.itemsize}")
        xp.less(x, 0.0, out=mask)
        _select(xp, work, _spread(xp, bits, mask), work, tail)
        _erf(xp, y_, x, z, more, spare)
        xp.subtract(1.0, y_, out=y_)
        xp.absolute(x, out=z)
        xp.greater(z, split, out=mask)
        _select(xp, work, _spread(xp, bits, mask), work, y_)
        xp.copyto(y_, work)


def _short_tail(xp: Any, y: Any, z: Any, work: Any, more: Any, short: Any, mask: Any) -> None:
    """erfc(z) in float32 for z from 0 on; z² in two parts, the square of its leading 12 bits being exact."""
    xp.clip(z, 0.0, _SHORT_END, out=z)
    xp.multiply(z, 0.5, out=work)
    xp.add(work, 1.0, out=work)
    xp.reciprocal(work, out=work)
    _polynomial(xp, y, work, _SHORT_P)
    xp.bitwise_and(z.view("int32"), -4096, out=more.view("int32"))
    xp.subtract(more, z, out=short)
    xp.add(z, more, out=z)
    xp.multiply(short, z, out=short)
    xp.add(y, short, out=y)
    xp.exp(y, out=y)
    xp.multiply(y, work, out=y)
    xp.multiply(more, more, out=more)
    xp.negative(more, out=more)
    xp.exp(more, out=more)
    xp.multiply(y, more, out=y)


def _tail(xp: Any, y: Any, z: Any, work: Any, more: Any, short: Any, mask: Any) -> None:
    """erfc(z) in float64 for z from the split on; z² in two parts, the square of 24 bits being exact."""
    xp.clip(z, _ERF64_SPLIT, _END, out=z)
    xp.multiply(z, z, out=more)
    xp.reciprocal(more, out=more)
    _ratio(xp, work, more, _P, _Q, y)
    xp.multiply(work, more, out=work)
    xp.subtract(0.5641895835477563, work, out=work)
    xp.divide(work, z, out=work)
    _ratio(xp, y, z, _ERF64_C, _ERF64_D, more)
    xp.greater(z, _FAR, out=mask)
    xp.copyto(y, work, where=mask)
    xp.copyto(short, z, casting="same_kind")
    xp.copyto(work, short)
    xp.subtract(z, work, out=more)
    xp.add(z, work, out=z)
    xp.multiply(more, z, out=more)
    xp.multiply(work, work, out=work)
    for part in (more, work):
        xp.negative(part, out=part)
        xp.exp(part, out=part)
        xp.multiply(y, part, out=y)
