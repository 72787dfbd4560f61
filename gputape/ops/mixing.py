"""Cards of the ops that weigh and add several arrays: lerp, addcmul, addcdiv, and add and sub with alpha."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, broadcast_shapes, need_float, need_same_dtype
from ..errors import DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .pointwise import (
    BINARY_ERRORS,
    BINARY_SAMPLES,
    INT_SAMPLE,
    MASK,
    no_bools_subtracted,
    not_bool,
    plain_number,
    unbroadcast,
)

# --- interpolation ----------------------------------------------------------------------------------------------------


def _lerp_rule(input: Aval, end: Aval, weight: Aval) -> Aval:
    need_float("lerp", input=input)
    need_same_dtype("lerp", input=input, end=end, weight=weight)
    return input.with_shape(broadcast_shapes("lerp", input.shape, end.shape, weight.shape))


def _lerp_vjp(F: Any, at: At, dy: Any, input: Any, end: Any, weight: Any) -> Any:
    a, b, w = at.ins
    part = F.mul(dy, weight) if at.needs[0] or at.needs[1] else None
    return (
        unbroadcast(F, F.sub(dy, part), a) if at.needs[0] else None,
        unbroadcast(F, part, b) if at.needs[1] else None,
        unbroadcast(F, F.mul(dy, F.sub(end, input)), w) if at.needs[2] else None,
    )


_DOUBLE = {"dtype": "float64"}
register(
    name="lerp",
    doc="input + weight · (end - input), exact at weights 0 and 1; weight is an array or a number. As torch.lerp.",
    signature="input, end, weight",
    inputs=("input", "end", "weight"),
    rule=_lerp_rule,
    vjp=_lerp_vjp,
    saves=("input", "end", "weight"),
    batch="pointwise",
    samples=(
        Sample(t(5, 3), t(5, 3), t(5, 3, fill="uniform")),
        Sample(t(5, 3), t(5, 3), t(fill=0.25), why_="one weight"),
        Sample(t(5, 3), t(5, 3), t(fill=0.75), why_="one weight"),
        Sample(t(5, 1), t(3), t(2, 1, 1, fill="uniform"), why_="all broadcast"),
        Sample(t(0, 3), t(3), t(1, 1), why_="no elements"),
        Sample(t(), t(), t(), why_="scalars"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), t(4, 6, layout="flipped")),
        Sample(t(7, **_DOUBLE), t(7, **_DOUBLE), t(7, **_DOUBLE)),
        Sample(
            t(4, fill=1.1), t(4, fill=(3.3, float("nan"), 1e30, 2.0)), t(4, fill=(1.0, 0.0, 1.0, -2.0)), grad_=False
        ),
    ),
    errors=(
        Bad(ShapeError, "do not broadcast", t(3), t(4), t()),
        Bad(DTypeError, "different dtypes", t(3), t(3, **_DOUBLE), t()),
        Bad(DTypeError, "floating-point", *[t(3, dtype="int64", fill="ones")] * 3),
    ),
    perf=(Perf(t(1024, 512), t(1024, 512), t(fill=0.1), name_="moving average"),),
    torch="torch.lerp",
)


# --- weighed sums -----------------------------------------------------------------------------------------------------


def scaled(F: Any, x: Any, c: float) -> Any:
    """c · x; an integer x stays one."""
    if c == 1:
        return x
    aval = F.aval(x)
    return F.scale(x, c) if aval.is_float else F.mul(x, F.const(int(c), aval.dtype))


def whole_for_integers(op: str, name: str, value: Any, *avals: Aval) -> int | float:
    """`value` as a number; `DTypeError` for a fraction beside arrays of integers."""
    value = plain_number(op, name, value)
    if isinstance(value, float) and not any(a.is_float for a in avals):
        raise DTypeError(f"{op}: {name}={value} is no integer, but the arrays are. Cast them, or pass {int(value)}.")
    return value


def _alpha_canon(name: str) -> Any:
    def canon(input: Aval, other: Aval, *, alpha: Any) -> dict[str, Any]:
        if name == "sub":
            no_bools_subtracted(input, other)
        return {"alpha": whole_for_integers(name, "alpha", alpha, input, other)}

    return canon


def _alpha_rule(name: str) -> Any:
    def rule(input: Aval, other: Aval, *, alpha: float) -> Aval:
        not_bool(name, input, other)
        return input

    return rule


def _alpha_compose(name: str) -> Any:
    def compose(F: Any, input: Any, other: Any, *, alpha: float) -> Any:
        return F.op(name, input, scaled(F, other, alpha))

    return compose


for _name, _sign in (("add", "+"), ("sub", "-")):
    register(
        name=f"{_name}_scaled",
        doc=f"input {_sign} alpha · other. As torch.{_name} with alpha.",
        signature="input, other, alpha",
        inputs=("input", "other"),
        promotes=("input", "other"),
        canon=_alpha_canon(_name),
        rule=_alpha_rule(_name),
        compose=_alpha_compose(_name),
        public=False,
        samples=(
            *(Sample(*s.inputs, alpha=-2.5, why_=s.why) for s in BINARY_SAMPLES),
            Sample(*INT_SAMPLE.inputs, alpha=3),
        ),
        errors=(
            *(Bad(b.error, b.match, *b.inputs, alpha=2) for b in BINARY_ERRORS),
            Bad(DTypeError, f"{_name}: alpha=0.5 is no integer", *INT_SAMPLE.inputs, alpha=0.5),
            Bad(DTypeError, f"{_name}: alpha must be a plain number", t(3), t(3), alpha="2"),
            Bad(DTypeError, f"{_name}: .*bool array", MASK, MASK, alpha=2),
        ),
        torch=f"torch.{_name}",
    )


def _value_canon(name: str) -> Any:
    def canon(input: Aval, tensor1: Aval, tensor2: Aval, *, value: Any = 1) -> dict[str, Any]:
        return {"value": whole_for_integers(name, "value", value, input, tensor1, tensor2)}

    return canon


def _value_rule(name: str) -> Any:
    def rule(input: Aval, tensor1: Aval, tensor2: Aval, *, value: float) -> Aval:
        if name == "addcdiv":
            need_float(name, input=input)
        return input.with_shape(broadcast_shapes(name, input.shape, tensor1.shape, tensor2.shape))

    return rule


def _value_compose(op: str) -> Any:
    def compose(F: Any, input: Any, tensor1: Any, tensor2: Any, *, value: float) -> Any:
        return F.add(input, scaled(F, F.op(op, tensor1, tensor2), value))

    return compose


for _name, _op, _sign in (("addcmul", "mul", "·"), ("addcdiv", "div", "/")):
    register(
        name=_name,
        doc=f"input + value · tensor1 {_sign} tensor2; shapes broadcast, dtypes promote. As torch.{_name}.",
        signature="input, tensor1, tensor2, *, value=1",
        inputs=("input", "tensor1", "tensor2"),
        promotes=("input", "tensor1", "tensor2"),
        canon=_value_canon(_name),
        rule=_value_rule(_name),
        compose=_value_compose(_op),
        samples=(
            Sample(t(5, 3), t(5, 3), t(5, 3, fill="uniform", low=0.5, high=2)),
            Sample(t(5, 1), t(3), t(2, 1, 1, fill="uniform", low=0.5, high=2), value=-0.5, why_="all broadcast"),
            Sample(t(0, 3), t(3), t(1, 1), value=2, why_="no elements"),
            Sample(t(), t(), t(fill="ones"), why_="scalars"),
            Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), t(6, fill="uniform", low=1, high=2)),
            Sample(t(7, **_DOUBLE), t(7), t(7, fill="uniform", low=1, high=2, **_DOUBLE), value=3),
        ),
        errors=(
            Bad(ShapeError, "do not broadcast", t(3), t(4), t()),
            Bad(DTypeError, "value must be a plain number", t(3), t(3), t(3), value="1"),
        ),
        torch=f"torch.{_name}",
    )
