"""Cards of the ops that blank out or pick elements by a mask: masked_fill, masked_select, tril, triu."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, broadcast_shapes, category, fits
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .pointwise import unbroadcast


def _masked_fill_rule(input: Aval, mask: Aval, *, value: float) -> Aval:
    if mask.dtype != "bool":
        raise DTypeError(f"masked_fill: mask is {mask.dtype}, but bool is needed. Compare, for example gt.ne(mask, 0).")
    if not isinstance(value, int | float):
        raise ArgumentError(
            f"masked_fill: value must be a number, got {type(value).__name__}. Use gt.where for an array."
        )
    if not fits(value, input.dtype):
        raise ArgumentError(f"masked_fill: value={value} does not fit {input.dtype}. Use a smaller one, or cast.")
    return input.with_shape(broadcast_shapes("masked_fill", input.shape, mask.shape))


def _masked_fill_vjp(F: Any, at: At, dy: Any, mask: Any) -> Any:
    return unbroadcast(F, F.masked_fill(dy, mask, 0.0), at.ins[0]), None


register(
    name="masked_fill",
    doc="input, with `value`, a number or an array without axes, where the boolean `mask` is True; input and mask "
    "broadcast. As torch.masked_fill.",
    signature="input, mask, value",
    inputs=("input", "mask"),
    arrays=(("value",), "masked_fill_with"),
    rule=_masked_fill_rule,
    vjp=_masked_fill_vjp,
    saves=("mask",),
    batch="pointwise",
    samples=(
        Sample(t(5, 3), t(5, 3, dtype="bool", fill="bool"), value=-2.5),
        Sample(t(2, 5, 5), t(5, 5, dtype="bool", fill="bool"), value=float("-inf"), grad_=False),
        Sample(t(3), t(2, 1, dtype="bool", fill="bool"), value=0, why_="both sides broadcast"),
        Sample(t(3, fill=(float("nan"), 1.0, float("inf"))), t(3, dtype="bool", fill="ones"), value=1.0),
        Sample(t(), t(dtype="bool", fill="ones"), value=1),
        Sample(t(0, 3), t(3, dtype="bool", fill="bool"), value=1.0),
        Sample(t(7, dtype="float64"), t(7, dtype="bool", fill="bool"), value=float("nan"), grad_=False),
        Sample(t(5, dtype="int32", fill="ints", high=9), t(5, dtype="bool", fill="bool"), value=-3),
        Sample(t(5, dtype="bool", fill="bool"), t(5, dtype="bool", fill="bool"), value=True),
        Sample(t(5, dtype="bfloat16"), t(5, dtype="bool", fill="bool"), value=-1e30, grad_=False),
        Sample(t(4, 6, layout="transposed"), t(4, 6, dtype="bool", fill="bool", layout="strided"), value=9.0),
    ),
    errors=(
        Bad(DTypeError, "bool is needed", t(3), t(3), value=1.0),
        Bad(ShapeError, "broadcast", t(3), t(2, dtype="bool", fill="bool"), value=1.0),
        Bad(ArgumentError, "gt.where", t(3), t(3, dtype="bool", fill="bool"), value="x"),
        Bad(ArgumentError, "does not fit float32", t(3), t(3, dtype="bool", fill="bool"), value=1e39),
        Bad(ArgumentError, "does not fit uint8", t(3, dtype="uint8"), t(3, dtype="bool", fill="bool"), value=256),
    ),
    perf=(Perf(t(16, 4, 64, 64), t(64, 64, dtype="bool", fill="bool"), value=float("-inf"), name_="gpt causal mask"),),
    torch="torch.masked_fill",
)


def _fill_with_rule(input: Aval, mask: Aval, value: Aval) -> Aval:
    if value.ndim:
        raise ShapeError(f"masked_fill: value has shape {value.shape}, but one number is needed. Use gt.where.")
    if category(value.dtype) > category(input.dtype):
        raise DTypeError(f"masked_fill: value is {value.dtype}, input {input.dtype}. Cast one with gt.cast.")
    return _masked_fill_rule(input, mask, value=0)


register(
    name="masked_fill_with",
    doc="masked_fill with an array without axes as the value.",
    signature="input, mask, value",
    inputs=("input", "mask", "value"),
    rule=_fill_with_rule,
    compose=lambda F, input, mask, value: F.where(mask, F.cast(value, F.aval(input).dtype), input),
    batch="pointwise",
    public=False,
    samples=(
        Sample(t(5, 3), t(5, 3, dtype="bool", fill="bool"), t()),
        Sample(t(3), t(2, 1, dtype="bool", fill="bool"), t(), why_="both sides broadcast"),
        Sample(t(), t(dtype="bool", fill="ones"), t(dtype="int64", fill="ones")),
        Sample(t(0, 3), t(3, dtype="bool", fill="bool"), t()),
        Sample(t(7, dtype="float64"), t(7, dtype="bool", fill="bool"), t(), why_="cast to the input's dtype"),
        Sample(t(5, dtype="int32", fill="ones"), t(5, dtype="bool", fill="bool"), t(dtype="int64", fill="zeros")),
        Sample(t(4, 6, layout="transposed"), t(4, 6, dtype="bool", fill="bool", layout="strided"), t(dtype="float64")),
    ),
    errors=(
        Bad(ShapeError, "masked_fill: value has shape", t(3), t(3, dtype="bool", fill="bool"), t(1)),
        Bad(DTypeError, "masked_fill: value is float32", t(3, dtype="int64"), t(3, dtype="bool", fill="bool"), t()),
        Bad(DTypeError, "bool is needed", t(3), t(3), t()),
    ),
    torch="torch.masked_fill",
)


def _masked_select_rule(input: Aval, mask: Aval) -> Aval:
    if mask.dtype != "bool":
        raise DTypeError(
            f"masked_select: mask is {mask.dtype}, but bool is needed. Compare, for example gt.ne(mask, 0)."
        )
    broadcast_shapes("masked_select", input.shape, mask.shape)
    return input


def _masked_select(F: Any, input: Any, mask: Any) -> Any:
    shape = broadcast_shapes("masked_select", F.aval(input).shape, F.aval(mask).shape)
    found = F.read(F.flatten(F.expand(mask, shape))).nonzero()[0]
    return F.index_select(F.flatten(F.expand(input, shape)), 0, F.const(found, "int64"))


register(
    name="masked_select",
    doc="A vector of the elements of input where the boolean `mask` is True, in row-major order; they broadcast. How "
    "many there are is read on the host, which `gt.compile` refuses. As torch.masked_select.",
    signature="input, mask",
    inputs=("input", "mask"),
    rule=_masked_select_rule,
    compose=_masked_select,
    samples=(
        Sample(t(5, 3), t(5, 3, dtype="bool", fill="bool")),
        Sample(t(5, 3), t(3, dtype="bool", fill=(1, 0, 1)), why_="the mask broadcasts"),
        Sample(t(3), t(2, 1, dtype="bool", fill="bool"), why_="both broadcast"),
        Sample(t(3), t(3, dtype="bool", fill="zeros"), why_="nothing is left"),
        Sample(t(), t(dtype="bool", fill="ones")),
        Sample(t(0, 3), t(3, dtype="bool", fill="ones")),
        Sample(t(5, dtype="int32", fill="ints", high=9), t(5, dtype="bool", fill="bool")),
        Sample(t(4, 6, layout="transposed"), t(4, 6, dtype="bool", fill="bool", layout="strided")),
        Sample(t(7, dtype="float64"), t(7, dtype="bool", fill="bool")),
    ),
    errors=(
        Bad(DTypeError, "bool is needed", t(3), t(3)),
        Bad(ShapeError, "broadcast", t(3), t(2, dtype="bool", fill="bool")),
    ),
    torch="torch.masked_select",
)


def _triangle(name: str, kept: str) -> None:
    def rule(input: Aval, *, diagonal: int) -> Aval:
        if input.ndim < 2:
            raise ShapeError(f"{name}: needs at least two axes, got shape {input.shape}. Pass a matrix.")
        if isinstance(diagonal, bool) or not isinstance(diagonal, int):
            raise ArgumentError(f"{name}: diagonal={diagonal!r} must be an integer.")
        return input

    register(
        name=name,
        doc=f"The elements {kept} the given diagonal of the last two axes (0 the main one, positive above it), zeros "
        f"elsewhere. As torch.{name}.",
        signature="input, diagonal=0",
        inputs=("input",),
        rule=rule,
        vjp=lambda F, at, dy: getattr(F, name)(dy, at.attrs["diagonal"]),
        samples=(
            Sample(t(5, 5)),
            Sample(t(3, 5), diagonal=1),
            Sample(t(2, 5, 3), diagonal=-2),
            Sample(t(3, 3), diagonal=9),
            Sample(t(0, 3)),
            Sample(t(2, 2, fill=float("nan")), grad_=False),
            Sample(t(4, 4, dtype="bool", fill="ones")),
            Sample(t(3, 3, dtype="float64")),
            Sample(t(4, 6, layout="transposed")),
        ),
        errors=(
            Bad(ShapeError, "two axes", t(3)),
            Bad(ArgumentError, "integer", t(3, 3), diagonal=0.5),
        ),
        perf=(Perf(t(64, 64), name_="gpt causal mask"),),
        torch=f"torch.{name}",
    )


_triangle("tril", "on and below")
_triangle("triu", "on and above")
