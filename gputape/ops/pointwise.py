"""Cards of the element-wise ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import DTYPES, Aval, broadcast_shapes, need_float
from ..errors import DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t

# --- two arrays, broadcast ---------------------------------------------------------------------------------------------


def unbroadcast(F: Any, dy: Any, to: Aval) -> Any:
    """The gradient of an operand of aval `to`, from that of the broadcast result."""
    return dy if F.aval(dy).shape == to.shape else F.sum_to(dy, to.shape)


def _broadcast_rule(name: str, dtype: str | None = None) -> Callable[..., Aval]:
    def rule(input: Aval, other: Aval) -> Aval:
        return Aval(broadcast_shapes(name, input.shape, other.shape), dtype or input.dtype)

    return rule


BINARY_SAMPLES = (
    Sample(t(5, 3), t(5, 3)),
    Sample(t(5, 1), t(3), why_="both sides broadcast"),
    Sample(t(), t(2, 3), why_="a scalar"),
    Sample(t(0, 3), t(1, 3), why_="no elements"),
    Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), why_="strided inputs"),
    Sample(t(7, dtype="float64"), t(7), why_="promotion"),
)
BINARY_ERRORS = (Bad(ShapeError, r"shapes .*\(3,\).*\(4,\)", t(3), t(4)),)


def _binary(name: str, formula: str, vjp: Callable[..., Any] | None, dtype: str | None = None, **fields: Any) -> None:
    fields = {
        "rule": _broadcast_rule(name, dtype),
        "samples": BINARY_SAMPLES,
        "errors": BINARY_ERRORS,
        "torch": f"torch.{name}",
    } | fields
    register(
        name=name,
        doc=f"{formula}, element by element. Shapes broadcast, dtypes promote (as torch.{name}).",
        signature="input, other",
        inputs=("input", "other"),
        promotes=("input", "other"),
        vjp=vjp,
        batch="pointwise",
        perf=(Perf(t(64, 128), t(128), name_="mlp bias"), Perf(t(1024, 128), t(1024, 128), name_="gpt residual")),
        **fields,
    )


def _add_vjp(F: Any, at: At, dy: Any) -> Any:
    a, b = at.ins
    y = at.out
    return (dy if a is y else unbroadcast(F, dy, a), dy if b is y else unbroadcast(F, dy, b))


def _sub_vjp(F: Any, at: At, dy: Any) -> Any:
    a, b = at.ins
    need_a, need_b = at.needs
    return (unbroadcast(F, dy, a) if need_a else None, F.neg(unbroadcast(F, dy, b)) if need_b else None)


def _mul_vjp(F: Any, at: At, dy: Any, input: Any, other: Any) -> Any:
    a, b = at.ins
    need_a, need_b = at.needs
    return (
        unbroadcast(F, F.mul(dy, other), a) if need_a else None,
        unbroadcast(F, F.mul(dy, input), b) if need_b else None,
    )


_binary("add", "input + other", _add_vjp)
_binary("sub", "input - other", _sub_vjp)
_binary("mul", "input · other", _mul_vjp, saves=("input", "other"))


# --- one array ---------------------------------------------------------------------------------------------------------

UNARY_SAMPLES = (
    Sample(t(5, 3)),
    Sample(t(), why_="a scalar"),
    Sample(t(0, 3), why_="no elements"),
    Sample(t(4, 6, layout="transposed"), why_="strided"),
    Sample(t(3, 5, layout="strided"), why_="strided"),
    Sample(t(7, dtype="float64")),
)


def _unary(name: str, formula: str, vjp: Callable[..., Any] | None, **fields: Any) -> None:
    def rule(input: Aval) -> Aval:
        need_float(name, input=input)
        return input

    fields = {
        "rule": rule,
        "samples": UNARY_SAMPLES,
        "errors": (Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones")),),
        "torch": f"torch.{name}",
        "perf": (Perf(t(1024, 512), name_="gpt hidden"),),
    } | fields
    register(
        name=name,
        doc=f"{formula}, element by element.",
        signature="input",
        inputs=("input",),
        vjp=vjp,
        batch="pointwise",
        **fields,
    )


_unary("neg", "-input", lambda F, at, dy: F.neg(dy), rule=lambda input: input, errors=())
_unary(
    "tanh", "tanh(input)", lambda F, at, dy, y: F.mul(dy, F.sub(F.const(1, at.out.dtype), F.square(y))), saves=("y",)
)
_unary(
    "square",
    "input²",
    lambda F, at, dy, input: F.scale(F.mul(dy, input), 2.0),
    saves=("input",),
    rule=lambda input: input,
    errors=(),
)


def _scale_rule(input: Aval, *, c: float) -> Aval:
    need_float("scale", input=input)
    if isinstance(c, bool) or not isinstance(c, int | float):
        raise DTypeError(f"scale: c must be a plain number, got {type(c).__name__}. Use mul for arrays.")
    return input


register(
    name="scale",
    doc="c · input for a plain number c, which gets no gradient. On the original API page.",
    signature="input, c",
    inputs=("input",),
    rule=_scale_rule,
    vjp=lambda F, at, dy: F.scale(dy, at.attrs["c"]),
    batch="pointwise",
    samples=(
        Sample(t(5, 3), c=-2.5),
        Sample(t(), c=3),
        Sample(t(0), c=1.0),
        Sample(t(4, 6, layout="transposed"), c=0.0),
    ),
    errors=(
        Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"), c=2.0),
        Bad(DTypeError, "plain number", t(3), c="2"),
    ),
)


def _cast_rule(input: Aval, *, dtype: str) -> Aval:
    if dtype not in DTYPES:
        raise DTypeError(f"cast: dtype {dtype!r} is not supported. Use one of {', '.join(DTYPES)}.")
    return input.with_dtype(dtype)


register(
    name="cast",
    doc="The same values in another dtype, rounded to nearest even; toward zero from float to integer. As Tensor.to.",
    signature="input, dtype",
    inputs=("input",),
    rule=_cast_rule,
    vjp=lambda F, at, dy: F.cast(dy, at.ins[0].dtype),
    batch="pointwise",
    samples=(
        Sample(t(5, 3), dtype="float64"),
        Sample(t(5, 3, dtype="float64"), dtype="float32", grad_=False, why_="rounding has no useful quotient"),
        Sample(t(5, 3), dtype="bfloat16", grad_=False),
        Sample(t(5, 3, low=-9, high=9, fill="uniform"), dtype="int64", grad_=False),
        Sample(t(3, dtype="bool", fill="bool"), dtype="float32"),
        Sample(t(0), dtype="float64"),
    ),
    errors=(Bad(DTypeError, "complex64", t(3), dtype="complex64"),),
)

register(
    name="copy",
    doc="The same values in C order, in memory of their own. As Tensor.clone.",
    signature="input",
    inputs=("input",),
    rule=lambda input: input,
    vjp=lambda F, at, dy: dy,
    batch="pointwise",
    samples=UNARY_SAMPLES,
    torch="torch.clone",
)
