"""Cards of the activation functions made of straight pieces, of mish, and of those that are composed."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, axis, need_float, need_same_dtype
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .activation import FLOAT_SAMPLES, KINKED_SAMPLES, WIDE, const, gradient_op
from .pointwise import INF, NAN, masked, plain_number
from .slicing import along, need_axes
from .unary import EDGES, INTS, POSITIVE_SAMPLES, UNARY_SAMPLES, float_only, keeps_dtype, unary

_FUNCTIONAL = "torch.nn.functional"
_BENDS = Sample(t(13, fill=(-6.0, -3.0, -2.9, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.9, 3.0, 6.0, 9.0)), grad_=False,
                why_="the kinks")  # fmt: skip
_OFF = Sample(t(7, fill=(-7.0, -2.5, -1.5, 0.2, 1.7, 4.4, 8.0)), why_="both sides of the kinks")

# --- bounded ----------------------------------------------------------------------------------------------------------


def _hardtanh_canon(input: Aval, *, min_val: Any = -1.0, max_val: Any = 1.0) -> dict[str, Any]:
    low, high = plain_number("hardtanh", "min_val", min_val), plain_number("hardtanh", "max_val", max_val)
    if low > high:
        raise ArgumentError(f"hardtanh: min_val={low} is above max_val={high}. Exchange them.")
    kind = lambda v: float(v) if input.is_float or math.isinf(v) else int(v)  # noqa: E731 - used twice
    return {"min_val": kind(low), "max_val": kind(high)}


unary(
    "hardtanh",
    "input brought between min_val and max_val; gradient 1 strictly between them, 0 elsewhere; NaN stays NaN. As "
    "torch.nn.functional.hardtanh",
    lambda F, at, dy, input: F.hardtanh_bwd(dy, input, **at.attrs),
    signature="input, min_val=-1.0, max_val=1.0",
    canon=_hardtanh_canon,
    saves=("input",),
    samples=(*UNARY_SAMPLES, EDGES, INTS, _BENDS, _OFF, Sample(t(5, 3), min_val=-0.25, max_val=2)),
    torch=f"{_FUNCTIONAL}.hardtanh",
    rule=keeps_dtype("hardtanh")["rule"],
    errors=(*keeps_dtype("hardtanh")["errors"], Bad(ArgumentError, "above max_val", t(3), min_val=1, max_val=0)),
)
gradient_op(
    "hardtanh",
    "0 where input ≤ min_val or input ≥ max_val, else dy",
    lambda F, at, g, x: None,
    attrs="min_val, max_val",
    min_val=-0.5,
    max_val=0.75,
)

unary(
    "hardsigmoid",
    "input/6 + ½ between -3 and 3, 0 below and 1 above. As torch.nn.functional.hardsigmoid",
    lambda F, at, dy, input: F.hardsigmoid_bwd(dy, input),
    saves=("input",),
    samples=(
        *UNARY_SAMPLES[:-1],
        EDGES,
        _BENDS,
        _OFF,
        Sample(t(7, dtype="float64"), torch_=False, why_="PyTorch's slope is 1/6 in float32"),
    ),
    torch=f"{_FUNCTIONAL}.hardsigmoid",
    **float_only("hardsigmoid"),
)
gradient_op("hardsigmoid", "dy/6 where -3 < input < 3, else 0", lambda F, at, g, x: None)


def _hardswish_bwd_vjp(F: Any, at: At, g: Any, x: Any) -> Any:
    curved = F.logical_and(F.gt(x, const(F, at, -3)), F.lt(x, const(F, at, 3)))
    return masked(F, F.scale(g, 1 / 3), curved)


unary(
    "hardswish",
    "input · hardsigmoid(input). As torch.nn.functional.hardswish",
    lambda F, at, dy, input: F.hardswish_bwd(dy, input),
    saves=("input",),
    samples=(*UNARY_SAMPLES, EDGES, _BENDS, _OFF),
    torch=f"{_FUNCTIONAL}.hardswish",
    **float_only("hardswish"),
)
gradient_op("hardswish", "0 where input ≤ -3, dy·(input/3 + ½) where input < 3, else dy", _hardswish_bwd_vjp)


# --- mish -------------------------------------------------------------------------------------------------------------


def _mish_bwd_vjp(F: Any, at: At, g: Any, x: Any) -> Any:
    """mish'' = (1 - t²)·s·(2 + x·(1 - s - 2·t·s)), t = tanh(softplus(x)), s = sigmoid(x)."""
    one = const(F, at, 1)
    th, s = F.tanh(F.softplus(x)), F.sigmoid(x)
    bend = F.add(F.mul(x, F.sub(F.sub(one, s), F.scale(F.mul(th, s), 2.0))), const(F, at, 2))
    return F.mul(g, F.mul(F.mul(F.sub(one, F.square(th)), s), bend))


unary(
    "mish",
    "input · tanh(softplus(input)); its gradient at inf is 1. As torch.nn.functional.mish",
    lambda F, at, dy, input: F.mish_bwd(dy, input),
    saves=("input",),
    samples=(
        *UNARY_SAMPLES,
        WIDE,
        Sample(t(3, fill=(0.0, -0.0, NAN)), grad_=False),
        Sample(t(fill=INF), grad_=False, torch_=False, why_="PyTorch's gradient there is NaN"),
    ),
    torch=f"{_FUNCTIONAL}.mish",
    **float_only("mish"),
)
gradient_op("mish", "dy · (t + input·(1 - t²)·sigmoid(input)), t = tanh(softplus(input))", _mish_bwd_vjp)


# --- composed, of one array -------------------------------------------------------------------------------------------


def _composed(name: str, formula: str, compose: Any, **fields: Any) -> None:
    unary(
        name,
        f"{formula}. As torch.nn.functional.{name}",
        None,
        **{"compose": compose, "torch": f"{_FUNCTIONAL}.{name}", "perf": ()} | fields,
    )


def _number_canon(op: str, name: str, default: float, least: float) -> Any:
    def canon(input: Aval, **given: Any) -> dict[str, Any]:
        value = plain_number(op, name, given.get(name, default))
        if value < least:
            raise ArgumentError(f"{op}: {name}={value} is below {least}. Pass a larger number.")
        return {name: value}

    return canon


_composed(
    "relu6",
    "input brought between 0 and 6; gradient 1 strictly between them, 0 elsewhere",
    lambda F, input: F.hardtanh(input, 0, 6),
    samples=(*KINKED_SAMPLES, INTS, _BENDS, _OFF),
    **keeps_dtype("relu6"),
)
_composed(
    "selu",
    "1.0507 · elu(input, 1.6733), the constants to full precision",
    lambda F, input: F.scale(F.elu(input, 1.6732632423543772848170429916717), 1.0507009873554804934193349852946),
    samples=KINKED_SAMPLES,
    **float_only("selu"),
)


def _celu_canon(input: Aval, *, alpha: Any = 1.0) -> dict[str, Any]:
    alpha = plain_number("celu", "alpha", alpha)
    if alpha <= 0:
        raise ArgumentError(f"celu: alpha={alpha} must be above 0.")
    return {"alpha": alpha}


_composed(
    "celu",
    "input where input > 0, else alpha·(exp(input/alpha) - 1)",
    lambda F, input, *, alpha: F.elu(input) if alpha == 1 else F.scale(F.elu(F.scale(input, 1 / alpha)), alpha),
    signature="input, alpha=1.0",
    canon=_celu_canon,
    samples=(*KINKED_SAMPLES, Sample(t(5, 3), alpha=0.5), Sample(t(5, 3), alpha=2)),
    rule=float_only("celu")["rule"],
    errors=(*float_only("celu")["errors"], Bad(ArgumentError, "above 0", t(3), alpha=0)),
)


def _hardshrink(F: Any, input: Any, *, lambd: float) -> Any:
    dtype = F.aval(input).dtype
    small = F.logical_and(F.ge(input, F.const(-lambd, dtype)), F.le(input, F.const(lambd, dtype)))
    return F.where(small, F.const(0, dtype), input)


_composed(
    "hardshrink",
    "0 where |input| ≤ lambd, else input",
    _hardshrink,
    signature="input, lambd=0.5",
    canon=_number_canon("hardshrink", "lambd", 0.5, -INF),
    samples=(*UNARY_SAMPLES, EDGES, _BENDS, _OFF, Sample(t(5, 3), lambd=1.0), Sample(t(5, 3), lambd=-1)),
    **float_only("hardshrink"),
)
_composed(
    "softshrink",
    "input brought nearer to 0 by lambd, and 0 where |input| ≤ lambd",
    lambda F, input, *, lambd: F.sub(input, F.clamp(input, -lambd, lambd)),
    signature="input, lambd=0.5",
    canon=_number_canon("softshrink", "lambd", 0.5, 0),
    samples=(*UNARY_SAMPLES, EDGES, _BENDS, _OFF, Sample(t(5, 3), lambd=1), Sample(t(5, 3), lambd=0)),
    rule=float_only("softshrink")["rule"],
    errors=(*float_only("softshrink")["errors"], Bad(ArgumentError, "below 0", t(3), lambd=-1)),
)
_composed(
    "tanhshrink",
    "input - tanh(input)",
    lambda F, input: F.sub(input, F.tanh(input)),
    samples=(*FLOAT_SAMPLES, INTS),
    **keeps_dtype("tanhshrink"),
)


def _softsign(F: Any, input: Any) -> Any:
    size = F.abs(input)
    return F.div(input, F.add(size, F.const(1, F.aval(size).dtype)))


_composed(
    "softsign",
    "input / (1 + |input|)",
    _softsign,
    samples=(*POSITIVE_SAMPLES, _OFF, WIDE, EDGES, INTS),
    **keeps_dtype("softsign"),
)


def _threshold_canon(input: Aval, *, threshold: Any, value: Any) -> dict[str, Any]:
    return {
        "threshold": plain_number("threshold", "threshold", threshold),
        "value": plain_number("threshold", "value", value),
    }


def _threshold(F: Any, input: Any, *, threshold: float, value: float) -> Any:
    dtype = F.aval(input).dtype
    return F.where(F.le(input, F.const(threshold, dtype)), F.const(value, dtype), input)


_composed(
    "threshold",
    "value where input ≤ threshold, else input",
    _threshold,
    signature="input, threshold, value",
    canon=_threshold_canon,
    samples=(
        *(Sample(*s.inputs, threshold=0.5, value=-20.0, grad_=s.grad) for s in (*UNARY_SAMPLES, EDGES, _OFF)),
        Sample(*INTS.inputs, threshold=2, value=-1),
        Sample(*_BENDS.inputs, threshold=1, value=7, grad_=False),
    ),
    rule=keeps_dtype("threshold")["rule"],
    errors=(
        Bad(DTypeError, "bool", t(3, dtype="bool", fill="bool"), threshold=0, value=0),
        Bad(DTypeError, "value must be a plain number", t(3), threshold=0, value=None),
    ),
)


# --- composed, of a part of each row, and with weights ----------------------------------------------------------------


def _softmin_canon(input: Aval, *, dim: Any, dtype: Any = None) -> dict[str, Any]:
    return {"dim": axis("softmin", dim, input.ndim), "dtype": dtype}


register(
    name="softmin",
    doc="softmax(-input) along `dim`. As torch.nn.functional.softmin.",
    signature="input, dim, dtype=None",
    precision="wide",
    inputs=("input",),
    canon=_softmin_canon,
    rule=lambda input, *, dim, dtype: input,
    compose=lambda F, input, *, dim, dtype: F.softmax(F.neg(input), dim, dtype),
    samples=(
        Sample(t(5, 3), dim=1),
        Sample(t(2, 3, 4), dim=-2),
        Sample(t(4, 6, layout="transposed"), dim=0),
        Sample(t(0, 3), dim=1),
        Sample(t(7, dtype="float64"), dim=0),
    ),
    errors=(Bad(ShapeError, "out of range", t(5, 3), dim=2),),
    torch=f"{_FUNCTIONAL}.softmin",
)


def _glu_canon(input: Aval, *, dim: Any = -1) -> dict[str, Any]:
    need_axes("glu", input)
    return {"dim": axis("glu", dim, input.ndim)}


def _glu_rule(input: Aval, *, dim: int) -> Aval:
    need_float("glu", input=input)
    if input.shape[dim] % 2:
        raise ShapeError(f"glu: axis {dim} of {input.shape} is odd, but it is cut into halves. Make it even.")
    return input


def _glu(F: Any, input: Any, *, dim: int) -> Any:
    half = F.aval(input).shape[dim] // 2
    return F.mul(along(F, input, dim, 0, half), F.sigmoid(along(F, input, dim, half, 2 * half)))


register(
    name="glu",
    doc="a · sigmoid(b), a and b the first and second half of input along `dim`. As torch.nn.functional.glu.",
    signature="input, dim=-1",
    inputs=("input",),
    canon=_glu_canon,
    rule=_glu_rule,
    compose=_glu,
    samples=(
        Sample(t(5, 6)),
        Sample(t(4, 3), dim=0),
        Sample(t(2, 4, 3, layout="transposed"), dim=-2),
        Sample(t(0, 2)),
        Sample(t(3, 0)),
        Sample(t(8, dtype="float64")),
    ),
    errors=(
        Bad(ShapeError, "odd", t(5, 3)),
        Bad(ShapeError, "scalar", t()),
        Bad(DTypeError, "floating-point", t(4, dtype="int64", fill="ones")),
    ),
    torch=f"{_FUNCTIONAL}.glu",
)


def _prelu_rule(input: Aval, weight: Aval) -> Aval:
    need_float("prelu", input=input)
    need_same_dtype("prelu", input=input, weight=weight)
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or weight.size not in (1, channels):
        raise ShapeError(
            f"prelu: weight has shape {weight.shape}, but input {input.shape} has {channels} channels on axis 1. Give "
            f"one number, or {channels}."
        )
    return input


def _prelu(F: Any, input: Any, weight: Any) -> Any:
    x, w = F.aval(input), F.aval(weight)
    if w.size > 1 or w.ndim != x.ndim:
        weight = F.reshape(weight, (w.size, *(1,) * (x.ndim - 2)) if x.ndim > 1 else (1,) * x.ndim)
    positive = F.gt(input, F.const(0, x.dtype))
    return F.mul(input, F.where(positive, F.const(1, x.dtype), weight))


register(
    name="prelu",
    doc="input where input > 0, else weight · input, with one weight for all or one per channel (axis 1). As "
    "torch.nn.functional.prelu.",
    signature="input, weight",
    inputs=("input", "weight"),
    rule=_prelu_rule,
    compose=_prelu,
    samples=(
        Sample(t(5, 3), t(1)),
        Sample(t(5, 3), t(3)),
        Sample(t(2, 3, 4), t(3), why_="channels on axis 1"),
        Sample(t(2, 3, 4, 2, layout="transposed"), t(3, layout="strided")),
        Sample(t(5), t(1), why_="no channels"),
        Sample(t(), t(1), why_="a scalar"),
        Sample(t(5, 3), t(), why_="a scalar weight"),
        Sample(t(0, 3), t(3)),
        Sample(t(4, 3, dtype="float64"), t(3, dtype="float64")),
        Sample(t(4, fill=(0.0, NAN, INF, -2.0)), t(1), grad_=False, why_="the kink, NaN"),
    ),
    errors=(
        Bad(ShapeError, "3 channels", t(5, 3), t(5)),
        Bad(ShapeError, "1 channels", t(5), t(5)),
        Bad(DTypeError, "different dtypes", t(5, 3), t(3, dtype="float64")),
    ),
    perf=(Perf(t(64, 16, 28, 28), t(16)),),
    torch=f"{_FUNCTIONAL}.prelu",
)
