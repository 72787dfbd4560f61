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


# float32: erfc(z) = exp(-z²)·t·P(t) with t = 1/(1 + z/2), from 0 to where it vanishes; 2 - erfc(-z) below 0. P is the
# minimax fit of degree 9: to 2.1e-8 of it in exact arithmetic, 7 ulp in float32.
_SHORT_END = 10.2
_SHORT_P = (0.0116841281, -0.120069739, 0.421632254, -0.66058543, 0.413701876, -0.0944206791, 0.22425969, 0.238904126,
            0.282827867, 0.282065887)  # fmt: skip


def _buffers(input: Aval) -> list[Aval]:
    if input.dtype == "float64":
        return [input] * 5 + [input.with_dtype(kind) for kind in ("float32", "bool")]
    return [input.with_dtype(kind) for kind in ("float32", "float32", "float32", "bool")]


@scratch(_buffers)
def erfc(xp: Any, y: Any, input: Any, *, scratch: list[Any]) -> None:
    for y_, x, *work in _blocks((y, input), tuple(scratch)):
        (_in_float64 if y.dtype.itemsize == 8 else _in_float32)(xp, y_, x, *work)


def _in_float32(xp: Any, y: Any, x: Any, z: Any, t: Any, high: Any, negative: Any) -> None:
    """z² in two parts, the square of its leading 12 bits being exact."""
    xp.less(x, 0.0, out=negative)
    xp.absolute(x, out=z, dtype=z.dtype)
    xp.clip(z, 0.0, _SHORT_END, out=z)
    xp.multiply(z, 0.5, out=t)
    xp.add(t, 1.0, out=t)
    xp.reciprocal(t, out=t)
    _polynomial(xp, y, t, _SHORT_P)
    xp.multiply(y, t, out=y)
    xp.bitwise_and(z.view("int32"), -4096, out=high.view("int32"))
    xp.subtract(high, z, out=t)
    xp.add(z, high, out=z)
    xp.multiply(t, z, out=t)
    xp.exp(t, out=t)
    xp.multiply(y, t, out=y)
    xp.multiply(high, high, out=high)
    xp.negative(high, out=high)
    xp.exp(high, out=high)
    xp.multiply(y, high, out=y)
    xp.copyto(z, negative)  # |0 - y| or |2 - y|
    xp.multiply(z, 2.0, out=z)
    xp.subtract(z, y, out=y)
    xp.absolute(y, out=y)


def _in_float64(xp: Any, y: Any, x: Any, z: Any, tail: Any, work: Any, more: Any, spare: Any, *rest: Any) -> None:
    short, mask = rest
    xp.absolute(x, out=z)
    _tail(xp, tail, z, work, more, short, mask)
    xp.subtract(2.0, tail, out=work)
    bits = more.view(f"i{more.itemsize}")
    xp.less(x, 0.0, out=mask)
    _select(xp, work, _spread(xp, bits, mask), work, tail)
    _erf(xp, y, x, z, more, spare)
    xp.subtract(1.0, y, out=y)
    xp.absolute(x, out=z)
    xp.greater(z, _ERF64_SPLIT, out=mask)
    _select(xp, work, _spread(xp, bits, mask), work, y)
    xp.copyto(y, work)


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
