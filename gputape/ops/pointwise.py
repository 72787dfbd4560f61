"""Cards of the element-wise ops of two arrays, and of those that choose, scale, cast and copy."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

from ..aval import DTYPES, Aval, broadcast_shapes, dtype_name, need_float
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t

NAN, INF = float("nan"), float("inf")


# --- what the cards of element-wise ops share ------------------------------------------------------------------------


def unbroadcast(F: Any, dy: Any, to: Aval) -> Any:
    """The gradient of an operand of aval `to`, from that of the broadcast result."""
    return dy if F.aval(dy).shape == to.shape else F.sum_to(dy, to.shape)


def zeros(F: Any, like: Aval) -> Any:
    """Zeros of that aval: the gradient of a step function, exact whatever the incoming gradient is."""
    return F.expand(F.const(0, like.dtype), like.shape)


def masked(F: Any, dy: Any, mask: Any) -> Any:
    """`dy` where `mask` holds, else 0; no NaN or infinity leaks from where it does not."""
    return F.where(mask, dy, F.const(0, F.aval(dy).dtype))


def as_float(input: Aval) -> Aval:
    """The result of a function of real numbers: integers and bools give float32, as in PyTorch."""
    return input if input.is_float else input.with_dtype("float32")


def not_bool(op: str, *inputs: Aval) -> None:
    """Raise `DTypeError` for a bool input."""
    if any(a.dtype == "bool" for a in inputs):
        raise DTypeError(f"{op}: bool arrays are not supported. Cast to an integer or float dtype with gt.cast.")


def only_floats(op: str, *inputs: Aval) -> None:
    """Raise `DTypeError` for an integer or bool input."""
    need_float(op, **dict(zip(("input", "other"), inputs)))


def plain_number(op: str, name: str, value: Any) -> int | float:
    """`value` as a Python int or float; `DTypeError` for arrays and anything else."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise DTypeError(f"{op}: {name} must be a plain number, got {type(value).__name__}. Pass an int or a float.")
    return int(value) if isinstance(value, numbers.Integral) else float(value)


# --- two arrays, broadcast --------------------------------------------------------------------------------------------


def broadcast_rule(
    name: str, dtype: str | None = None, check: Callable[..., None] | None = None
) -> Callable[..., Aval]:
    """The rule of an op of two arrays: broadcast shape, and `dtype` or the common one."""

    def rule(*avals: Aval) -> Aval:
        if check is not None:
            check(name, *avals)
        return Aval(broadcast_shapes(name, *(a.shape for a in avals)), dtype or avals[0].dtype)

    return rule


BINARY_SAMPLES = (
    Sample(t(5, 3), t(5, 3)),
    Sample(t(5, 1), t(3), why_="both sides broadcast"),
    Sample(t(), t(2, 3), why_="a scalar"),
    Sample(t(0, 3), t(1, 3), why_="no elements"),
    Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), why_="strided inputs"),
    Sample(t(7, dtype="float64"), t(7), why_="promotion"),
)
INT_SAMPLE = Sample(t(5, dtype="int64", fill="ints", low=-4, high=4), t(5, dtype="int32", fill="ints", low=1, high=4))
MASK = t(3, dtype="bool", fill="bool")
BINARY_ERRORS = (Bad(ShapeError, r"shapes .*\(3,\).*\(4,\)", t(3), t(4)),)


def binary(name: str, formula: str, vjp: Callable[..., Any] | None, dtype: str | None = None, **fields: Any) -> None:
    """Register an op of two arrays that broadcasts and promotes."""
    fields = {
        "rule": broadcast_rule(name, dtype),
        "signature": "input, other",
        "samples": (*BINARY_SAMPLES, INT_SAMPLE),
        "errors": BINARY_ERRORS,
        "torch": f"torch.{name}",
        "perf": (Perf(t(64, 128), t(128)), Perf(t(1024, 128), t(1024, 128))),
    } | fields
    inputs = tuple(str(fields["signature"]).split(", *, ")[0].split(", "))
    register(
        name=name,
        doc=f"{formula}, element by element. Shapes broadcast, dtypes promote (as torch.{name}).",
        inputs=inputs,
        promotes=inputs,
        vjp=vjp,
        batch="pointwise",
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


def no_bools_subtracted(input: Aval, other: Aval) -> dict[str, Any]:
    """The canon of a difference: `DTypeError` for a bool array, whatever is beside it."""
    if "bool" in (input.dtype, other.dtype):
        raise DTypeError(
            f"sub: a bool array in {input} - {other}. Use `^` for where two differ, `~` to invert a mask, or gt.cast."
        )
    return {}


def _mul_vjp(F: Any, at: At, dy: Any, input: Any, other: Any) -> Any:
    a, b = at.ins
    need_a, need_b = at.needs
    return (
        unbroadcast(F, F.mul(dy, other), a) if need_a else None,
        unbroadcast(F, F.mul(dy, input), b) if need_b else None,
    )


def _div_vjp(F: Any, at: At, dy: Any, other: Any, y: Any) -> Any:
    a, b = at.ins
    need_a, need_b = at.needs
    over = F.div(dy, other)
    return (
        unbroadcast(F, over, a) if need_a else None,
        F.neg(unbroadcast(F, F.mul(over, y), b)) if need_b else None,
    )


def _div_rule(input: Aval, other: Aval) -> Aval:
    return as_float(Aval(broadcast_shapes("div", input.shape, other.shape), input.dtype))


binary(
    "add",
    "input + alpha · other",
    _add_vjp,
    signature="input, other, *, alpha=1",
    variants=(("alpha", "add_scaled"),),
    perf=(
        Perf(t(64, 128), t(128)),
        Perf(t(16, 64, 128), t(64, 128), name_="gpt positions"),
        Perf(t(16, 64, 128), t(16, 64, 128), name_="gpt residual"),
        Perf(*[t(3, 16, 4, 64, 32)] * 2, name_="gpt gradient of qkv"),
    ),
    exempt={"add__n1_n1_01[BLOCK_COLS=4]": "rows of up to four elements"},
)
binary(
    "sub",
    "input - alpha · other; not of bools",
    _sub_vjp,
    signature="input, other, *, alpha=1",
    variants=(("alpha", "sub_scaled"),),
    canon=no_bools_subtracted,
    errors=(
        *BINARY_ERRORS,
        *(Bad(DTypeError, "sub: a bool array", *pair) for pair in ((MASK, MASK), (MASK, t(3)), (t(3), MASK))),
    ),
)
binary("mul", "input · other", _mul_vjp, saves=("input", "other"))
binary(
    "div",
    'input / other, the true quotient: integers give float32; x/0 is ±inf, 0/0 NaN. rounding_mode "floor" rounds '
    'down, "trunc" toward zero; integers stay integers then',
    _div_vjp,
    signature="input, other, *, rounding_mode=None",
    variants=(("rounding_mode", "div_rounded"),),
    rule=_div_rule,
    inexact=True,
    saves=("other", "y"),
    samples=(
        Sample(t(5, 3), t(5, 3, fill="uniform", low=0.5, high=2)),
        Sample(t(5, 1), t(3, fill="uniform", low=-2, high=-0.5), why_="both sides broadcast"),
        Sample(t(), t(2, 3, fill="uniform", low=0.5, high=2), why_="a scalar"),
        Sample(t(0, 3), t(1, 3), why_="no elements"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, fill="uniform", low=1, high=2, layout="strided")),
        Sample(t(7, dtype="float64"), t(7, fill="uniform", low=1, high=2), why_="promotion"),
        Sample(t(3, fill=(1.0, 0.0, -1.0)), t(3, fill="zeros"), grad_=False, why_="division by zero"),
        INT_SAMPLE,
    ),
)


def _extremum_vjp(wins: str) -> Callable[..., Any]:
    """Half to each side at a tie, else all to the side that wins; both get all where either is NaN (as PyTorch)."""

    def vjp(F: Any, at: At, dy: Any, input: Any, other: Any) -> Any:
        a, b = at.ins
        need_a, need_b = at.needs
        shared = F.where(F.eq(input, other), F.scale(dy, 0.5), dy)
        loses = getattr(F, wins)
        return (
            unbroadcast(F, masked(F, shared, F.logical_not(loses(other, input))), a) if need_a else None,
            unbroadcast(F, masked(F, shared, F.logical_not(loses(input, other))), b) if need_b else None,
        )

    return vjp


for _name, _wins in (("maximum", "gt"), ("minimum", "lt")):
    binary(
        _name,
        f"{_name[:3]}(input, other); NaN wins over numbers; a tie sends half of the gradient to each side",
        _extremum_vjp(_wins),
        saves=("input", "other"),
        samples=(
            *BINARY_SAMPLES,
            INT_SAMPLE,
            Sample(t(2, 3, fill=(1.0, NAN, -0.0)), t(2, 3, fill=((1.0,), (NAN,))), grad_=False, why_="ties, NaN"),
        ),
    )


# --- choosing ---------------------------------------------------------------------------------------------------------


def _where_rule(condition: Aval, input: Aval | None, other: Aval | None) -> Aval:
    if input is None or other is None:
        raise ArgumentError("where: one of input and other is None. Pass both, or condition alone for its places.")
    if condition.dtype != "bool":
        raise DTypeError(
            f"where: condition is {condition.dtype} of shape {condition.shape}, but bools are needed. Compare first, "
            "for example condition != 0."
        )
    return Aval(broadcast_shapes("where", condition.shape, input.shape, other.shape), input.dtype)


def _where_vjp(F: Any, at: At, dy: Any, condition: Any) -> Any:
    _, a, b = at.ins
    _, need_a, need_b = at.needs
    return (
        None,
        unbroadcast(F, masked(F, dy, condition), a) if need_a else None,
        unbroadcast(F, masked(F, dy, F.logical_not(condition)), b) if need_b else None,
    )


_MASK = {"dtype": "bool", "fill": "bool"}
register(
    name="where",
    doc="input where condition holds, else other. Shapes broadcast; input and other promote. The side that is not "
    "chosen gets a gradient of exactly 0, whatever it holds. condition alone: nonzero(condition, as_tuple=True). As "
    "torch.where.",
    signature="condition, input=None, other=None",
    alone=("nonzero", {"as_tuple": True}),
    inputs=("condition", "input", "other"),
    promotes=("input", "other"),
    rule=_where_rule,
    vjp=_where_vjp,
    saves=("condition",),
    batch="pointwise",
    samples=(
        Sample(t(5, 3, **_MASK), t(5, 3), t(5, 3)),
        Sample(t(5, 1, **_MASK), t(3), t(), why_="all broadcast"),
        Sample(t(**_MASK), t(3), t(2, 1), why_="a scalar condition"),
        Sample(t(0, 3, **_MASK), t(3), t(1, 1), why_="no elements"),
        Sample(t(4, 6, **_MASK, layout="strided"), t(4, 6, layout="transposed"), t(4, 6, layout="flipped")),
        Sample(t(7, **_MASK), t(7, dtype="float64"), t(7), why_="promotion"),
        Sample(t(4, **_MASK), t(4, fill=(NAN, INF, 1.0, -0.0)), t(4, fill=(1.0, NAN, -INF, 0.0)), grad_=False),
        Sample(t(5, **_MASK), t(5, dtype="int8", fill="ints", low=-9, high=9), t(5, dtype="int8", fill="ones")),
        Sample(t(5, **_MASK), t(5, **_MASK), t(1, **_MASK), why_="bools"),
    ),
    errors=(
        Bad(DTypeError, "condition is float32", t(3), t(3), t(3)),
        Bad(ArgumentError, "one of input and other is None", t(3, **_MASK), t(3), None),
        Bad(ShapeError, "do not broadcast", t(3, **_MASK), t(3), t(4)),
    ),
    perf=(Perf(t(1024, 512, **_MASK), t(1024, 512), t(1024, 512)),),
    torch="torch.where",
)


# --- scaling, casting, copying ----------------------------------------------------------------------------------------


def _scale_canon(input: Aval, *, c: Any) -> dict[str, Any]:
    return {"c": plain_number("scale", "c", c)}


def _scale_rule(input: Aval, *, c: int | float) -> Aval:
    need_float("scale", input=input)
    return input


register(
    name="scale",
    doc="c · input for a plain number c, which gets no gradient. On the original API page.",
    signature="input, c",
    inputs=("input",),
    canon=_scale_canon,
    rule=_scale_rule,
    vjp=lambda F, at, dy: F.scale(dy, at.attrs["c"]),
    batch="pointwise",
    samples=(
        Sample(t(5, 3), c=-2.5),
        Sample(t(), c=3),
        Sample(t(0), c=1.0),
        Sample(t(4, 6, layout="transposed"), c=0.0),
        Sample(t(7, dtype="float64"), c=1 / 3),
    ),
    errors=(
        Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"), c=2.0),
        Bad(DTypeError, "plain number", t(3), c="2"),
    ),
    perf=(Perf(t(1024, 512), c=0.5),),
)


def _cast_canon(input: Aval, *, dtype: Any) -> dict[str, Any]:
    """NumPy's dtypes and scalar types count by their names."""
    return {"dtype": dtype_name(dtype)}


def _cast_rule(input: Aval, *, dtype: str) -> Aval:
    if dtype not in DTYPES:
        raise DTypeError(f"cast: dtype {dtype!r} is not supported. Use one of {', '.join(DTYPES)}.")
    return input.with_dtype(dtype)


register(
    name="cast",
    doc="The same values in another dtype, rounded to nearest even; toward zero from float to integer. As Tensor.to.",
    signature="input, dtype",
    inputs=("input",),
    canon=_cast_canon,
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
        Sample(t(4, 6, layout="transposed"), dtype="float64"),
        Sample(t(3, 5, layout="strided", fill="ints", low=-9, high=9), dtype="int32", grad_=False),
    ),
    errors=(Bad(DTypeError, "complex64", t(3), dtype="complex64"),),
    perf=(
        Perf(t(1024, 512), dtype="bfloat16"),
        Perf(t(64, 784, dtype="uint8", fill="ints", high=255), dtype="float32"),
    ),
)

register(
    name="copy",
    doc="The same values in C order, in memory of their own. As Tensor.clone.",
    signature="input",
    inputs=("input",),
    rule=lambda input: input,
    vjp=lambda F, at, dy: dy,
    places=lambda strides, input: ((0, strides),),
    batch="pointwise",
    samples=(
        Sample(t(5, 3)),
        Sample(t()),
        Sample(t(0, 3)),
        Sample(t(4, 6, layout="transposed")),
        Sample(t(3, 5, layout="strided")),
        Sample(t(256, 20, layout="transposed"), why_="rows that lie 1024 bytes apart"),
        Sample(t(7, dtype="float64")),
    ),
    errors=(Bad(ArgumentError, "input is None", None),),
    perf=(
        Perf(t(1024, 512, layout="transposed"), name_="a transposed matrix, packed"),
        Perf(t(16, 64, 4, 32, layout=(0, 2, 1, 3)), name_="gpt heads side by side"),
        Perf(t(16, 64, 3, 4, 32, layout=(2, 0, 3, 1, 4)), name_="gpt gradient of qkv"),
    ),
    torch="torch.clone",
    exempt={"copy[X_UNIT=0]": "strided accesses", "copy[X_UNIT=2]": "turns a tile round: runs of 32 elements"},
)
