"""Bodies of the element-wise functions of one array. `dtype=` brings integers to the result's dtype first."""

from __future__ import annotations

from typing import Any

from ..backend import scratch
from .pointwise import _blocks

# --- arithmetic -------------------------------------------------------------------------------------------------------


def neg(xp: Any, y: Any, input: Any) -> None:
    xp.negative(input, out=y)


def abs_(xp: Any, y: Any, input: Any) -> None:
    xp.absolute(input, out=y)


def square(xp: Any, y: Any, input: Any) -> None:
    xp.multiply(input, input, out=y)


def reciprocal(xp: Any, y: Any, input: Any) -> None:
    xp.divide(1, input, out=y, dtype=y.dtype)


# --- steps ------------------------------------------------------------------------------------------------------------


@scratch(lambda input: [input.with_dtype("bool")] * 2)
def sign(xp: Any, y: Any, input: Any, *, scratch: list[Any]) -> None:
    """The difference of two comparisons, in bytes: NaN is neither above nor below, which gives PyTorch's 0."""
    if y.dtype.kind == "b":
        xp.copyto(y, input)
        return
    above, below = scratch
    xp.greater(input, 0, out=above)
    xp.less(input, 0, out=below)
    xp.subtract(above.view("int8"), below.view("int8"), out=above.view("int8"))
    xp.copyto(y, above.view("int8"), casting="unsafe")


def _rounded(function: str) -> Any:
    def body(xp: Any, y: Any, input: Any) -> None:
        getattr(xp, function if y.dtype.kind == "f" else "positive")(input, out=y)

    return body


floor, ceil, round_ = _rounded("floor"), _rounded("ceil"), _rounded("rint")


# --- roots, exponentials, logarithms, circular functions --------------------------------------------------------------


def sqrt(xp: Any, y: Any, input: Any) -> None:
    xp.sqrt(input, out=y, dtype=y.dtype)


def rsqrt(xp: Any, y: Any, input: Any) -> None:
    xp.sqrt(input, out=y, dtype=y.dtype)
    xp.divide(1, y, out=y)


def exp(xp: Any, y: Any, input: Any) -> None:
    xp.exp(input, out=y, dtype=y.dtype)


def expm1(xp: Any, y: Any, input: Any) -> None:
    xp.expm1(input, out=y, dtype=y.dtype)


def log(xp: Any, y: Any, input: Any) -> None:
    xp.log(input, out=y, dtype=y.dtype)


def log1p(xp: Any, y: Any, input: Any) -> None:
    xp.log1p(input, out=y, dtype=y.dtype)


def sin(xp: Any, y: Any, input: Any) -> None:
    xp.sin(input, out=y, dtype=y.dtype)


def cos(xp: Any, y: Any, input: Any) -> None:
    xp.cos(input, out=y, dtype=y.dtype)


@scratch(lambda input, **attrs: [input, input])
def safe_log(xp: Any, y: Any, input: Any, *, eps: float, scratch: list[Any]) -> None:
    _softplus(xp, y, input, *scratch)
    xp.add(y, eps, out=y)
    xp.log(y, out=y)


def _log1p_exp(xp: Any, y: Any, x: Any, u: Any, lost: Any) -> None:
    """log(1 + exp(-|x|)); u and lost are buffers. `y` must not be `x`. In float32 it is log(u) plus what 1 + exp(-|x|)
    lost when it was rounded to u: the vector loop of log1p needs AVX-512, that of log does not."""
    xp.absolute(x, out=y)
    xp.negative(y, out=y)
    xp.exp(y, out=y)
    if y.dtype.itemsize == 8:
        xp.log1p(y, out=y)
        return
    xp.add(y, 1.0, out=u)
    xp.subtract(u, 1.0, out=lost)
    xp.subtract(y, lost, out=lost)
    xp.log(u, out=y)
    xp.add(y, lost, out=y)


def _softplus(xp: Any, y: Any, x: Any, work: Any, more: Any) -> None:
    """log(1 + exp x) as max(x, 0) + log1p(exp(-|x|)); work and more are buffers."""
    _log1p_exp(xp, y, x, work, more)
    xp.clip(x, 0.0, xp.inf, out=work)
    xp.add(y, work, out=y)


# --- the error function -----------------------------------------------------------------------------------------------

# float32: erf(x) = x·P(x²)/Q(x²) up to the x from which on erf rounds to 1; the coefficients of Eigen and XLA. 6 ulp.
_ERF32_END = 3.832506856900711
_ERF32_P = (2.2905065861350646e-4, 3.4082910107109506e-3, 5.0955695062380861e-2, 0.18520832239976145, 1.128379143519084)
_ERF32_Q = (
    -1.1791602954361697e-7,
    2.3547966471313185e-5,
    1.0179625278914885e-3,
    1.4070470171167667e-2,
    0.11098505178285362,
    0.49746925110067538,
    1.0,
)  # fmt: skip

# float64: W. J. Cody, "Rational Chebyshev Approximations for the Error Function", Math. Comp. 23 (1969): erf(x) =
# x·A(x²)/B(x²) up to 0.46875 and 1 - exp(-x²)·C(x)/D(x) beyond; 6 ulp. His third interval, from 4 on, adds less than
# an ulp to 1 - erfc and is left out.
_ERF64_SPLIT, _ERF64_END = 0.46875, 6.0
_ERF64_A = (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2,
            3.20937758913846947e3)  # fmt: skip
_ERF64_B = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_ERF64_C = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
            2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
            1.23033935479799725e3)  # fmt: skip
_ERF64_D = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
            3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3)  # fmt: skip


def _polynomial(xp: Any, out: Any, x: Any, coefficients: tuple[float, ...]) -> None:
    """Horner's rule, highest power first."""
    xp.multiply(x, coefficients[0], out=out)
    for c in coefficients[1:-1]:
        xp.add(out, c, out=out)
        xp.multiply(out, x, out=out)
    xp.add(out, coefficients[-1], out=out)


def _ratio(xp: Any, out: Any, x: Any, top: tuple[float, ...], bottom: tuple[float, ...], work: Any) -> None:
    _polynomial(xp, out, x, top)
    _polynomial(xp, work, x, bottom)
    xp.divide(out, work, out=out)


def _erf(xp: Any, y: Any, x: Any, z: Any, near: Any, work: Any) -> None:
    """erf(x) into y, all floats of one shape and dtype; z, near and work are buffers. `y` must not be `x`."""
    if y.dtype.itemsize == 4:
        xp.clip(x, -_ERF32_END, _ERF32_END, out=near)
        xp.multiply(near, near, out=z)
        _ratio(xp, y, z, _ERF32_P, _ERF32_Q, work)
        xp.multiply(y, near, out=y)
        xp.clip(y, -1.0, 1.0, out=y)
        return
    xp.absolute(x, out=z)
    xp.clip(z, 0.0, _ERF64_END, out=z)
    _ratio(xp, y, z, _ERF64_C, _ERF64_D, work)
    xp.multiply(z, z, out=work)
    xp.negative(work, out=work)
    xp.exp(work, out=work)
    xp.multiply(y, work, out=y)
    xp.subtract(1.0, y, out=y)
    xp.greater(z, _ERF64_SPLIT, out=work)  # 1 or 0; both sides are finite, so products choose between them exactly
    xp.multiply(y, work, out=y)
    xp.less_equal(z, _ERF64_SPLIT, out=work)
    xp.multiply(work, z, out=near)
    xp.multiply(z, z, out=z)
    _polynomial(xp, work, z, _ERF64_A)
    xp.multiply(near, work, out=near)
    _polynomial(xp, work, z, _ERF64_B)
    xp.divide(near, work, out=near)
    xp.add(y, near, out=y)
    xp.copysign(y, x, out=y)


@scratch(lambda input: [input if input.is_float else input.with_dtype("float32")] * 4)
def erf(xp: Any, y: Any, input: Any, *, scratch: list[Any]) -> None:
    if input.dtype != y.dtype:
        xp.copyto(scratch[3], input)
        input = scratch[3]
    for y_, x, *buffers in _blocks((y, input), tuple(scratch[:3])):
        _erf(xp, y_, x, *buffers)
