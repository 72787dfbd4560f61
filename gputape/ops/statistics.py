"""Cards of reductions composed of others: norms, pairs of moments, extrema in pairs, counts, sums without NaN."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..aval import DTYPES, Aval, need_float, reduced
from ..errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from ..registry import register
from ..samples import Bad, Perf, Sample, t
from .extremum import need_elements
from .pointwise import INF, NAN, plain_number
from .reduce import REDUCE_ERRORS, REDUCE_SAMPLES, VAR_SAMPLES, dims_canon, var_canon, var_rule

# --- norms ------------------------------------------------------------------------------------------------------------


def _guarded(F: Any, x: Any, function: Any, value: float) -> Any:
    """function(x), but `value` where x is 0, with gradient 0 there."""
    dtype = F.aval(x).dtype
    none = F.eq(x, F.const(0, dtype))
    return F.where(none, F.const(value, dtype), function(F.where(none, F.const(1, dtype), x)))


def _norm(F: Any, input: Any, p: float, dim: tuple[int, ...], keepdim: bool) -> Any:
    """Of 16-bit numbers computed in float32: their squares overflow."""
    dtype = F.aval(input).dtype
    if dtype in ("float16", "bfloat16"):
        return F.cast(_norm(F, F.cast(input, "float32"), p, dim, keepdim), dtype)
    if p == 2:
        return _guarded(F, F.sum(F.square(input), dim, keepdim), F.sqrt, 0.0)
    size = F.abs(input)
    if p == 1:
        return F.sum(size, dim, keepdim)
    if math.isinf(p):
        return (F.amax if p > 0 else F.amin)(size, dim, keepdim)
    if p == 0:
        nan = F.ne(input, input)
        return F.sum(F.square(F.sign(F.where(nan, F.const(1, dtype), input))), dim, keepdim)  # its gradient is 0
    powers = _guarded(F, size, lambda x: F.pow(x, F.const(p, dtype)), 0.0 if p > 0 else INF)
    return _guarded(F, F.sum(powers, dim, keepdim), lambda x: F.pow(x, F.const(1 / p, dtype)), 0.0 if p > 0 else INF)


def _norm_compose(F: Any, input: Any, *, p: float, dim: tuple[int, ...], keepdim: bool, dtype: str | None) -> Any:
    return _norm(F, input if dtype is None else F.cast(input, dtype), p, dim, keepdim)


def _norm_rule(name: str) -> Any:
    def rule(input: Aval, *, p: float, dim: tuple[int, ...], keepdim: bool, dtype: str | None) -> Aval:
        if dtype is not None and dtype not in DTYPES:
            raise DTypeError(f"{name}: dtype {dtype!r} is not supported. Use one of {', '.join(DTYPES)}.")
        need_float(name, input=input if dtype is None else input.with_dtype(dtype))
        if p < 0 or p == INF:
            need_elements(name, input, dim)
        return Aval(reduced(input.shape, dim, keepdim), dtype or input.dtype)

    return rule


def _order(name: str, option: str, p: Any) -> float:
    if p is None or p == "fro":
        return 2.0
    if p == "nuc":
        raise UnsupportedError(f"{name}: the nuclear norm is not available. Use a number, or the default 2.")
    if isinstance(p, str):
        raise ArgumentError(f"{name}: {option}={p!r} is unknown. Use a number or inf.")
    return float(plain_number(name, option, p))


def _norm_canon(
    input: Aval, *, p: Any = "fro", dim: Any = None, keepdim: Any = False, dtype: Any = None
) -> dict[str, Any]:
    return dims_canon("norm")(input, dim=dim, p=_order("norm", "p", p), keepdim=keepdim, dtype=dtype)


_DISTINCT: dict[str, Any] = {"fill": "distinct", "low": -2.01, "high": 2.0}
_APART = t(2, 3, fill=((1.0, -2.1, 3.3), (-4.2, 0.7, 2.5)))  # also without their signs
_ROW = t(2, 3, fill=((0.0, 0.0, 0.0), (3.0, 0.0, -4.0)))
_ORDERS = (2, 1, INF, -INF, 0, 3, 0.5, 1.5, -1, 2.5, -2)


def _norm_samples(option: str) -> tuple[Sample, ...]:
    """Samples at the orders of a norm."""

    def of(p: float) -> dict[str, Any]:
        return {option: p}

    return (
        *(s for s in REDUCE_SAMPLES if s.inputs[0].shape),
        *(Sample(_APART, dim=1, **of(p)) for p in _ORDERS if p),
        *(Sample(_ROW, dim=1, **of(p), grad_=False, why_="zeros") for p in _ORDERS if p >= -1),
        Sample(t(2, 3, 4, fill="uniform", low=0.5, high=2), dim=(0, 2), keepdim=True, **of(3)),
        Sample(t(5, 3), dim=1, **of(0), grad_=False),
        Sample(t(3, 4, fill=((1.0, NAN, 0.0, 2.0), (INF, 1.0, 0.0, 0.0), (2.0, -2.0, 2.0, 1.0))), dim=1, grad_=False),
        Sample(t(0, 3), dim=0),
        Sample(t(0, 3), dim=1, **of(INF)),
        Sample(t(), grad_=False, why_="a scalar"),
        Sample(t(5, 3), dim=1, dtype="float64"),
        Sample(t(2, 3, dtype="float16", fill=((6e3, 8e3, -1e4), (1e-4, 2e-4, 0.0))), dim=1, grad_=False),
    )


_NORM_ERRORS = (
    *REDUCE_ERRORS,
    Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones")),
    Bad(DTypeError, "complex64", t(3), dtype="complex64"),
)
register(
    name="norm",
    doc="""(Σ |input|ᵖ)^(1/p) over the axes `dim` (default all), "fro" being p = 2.

    p = inf is the largest absolute value, -inf the smallest, 0 the number of elements that are not 0. Where the
    norm or an element is 0 the gradient is 0. As torch.norm.""",
    signature='input, p="fro", dim=None, keepdim=False, dtype=None',
    inputs=("input",),
    canon=_norm_canon,
    rule=_norm_rule("norm"),
    compose=_norm_compose,
    precision="wide",
    samples=_norm_samples("p"),
    errors=(
        *_NORM_ERRORS,
        Bad(ShapeError, "no elements", t(0, 3), p=INF, dim=0),
        Bad(UnsupportedError, "nuclear", t(3, 3), p="nuc"),
        Bad(ArgumentError, "p='l2' is unknown", t(3), p="l2"),
    ),
    perf=(Perf(t(1024, 512)), Perf(t(1024, 512), dim=1)),
    torch="torch.norm",
)


def _vector_norm_canon(
    input: Aval, *, ord: Any = 2, dim: Any = None, keepdim: Any = False, dtype: Any = None
) -> dict[str, Any]:
    order = _order("vector_norm", "ord", ord)
    return dims_canon("vector_norm")(input, dim=dim, ord=order, keepdim=keepdim, dtype=dtype)


register(
    name="vector_norm",
    doc="`norm` under the name and with the argument order of torch.linalg.vector_norm.",
    signature="input, ord=2, dim=None, keepdim=False, *, dtype=None",
    inputs=("input",),
    canon=_vector_norm_canon,
    rule=lambda input, *, ord, **attrs: _norm_rule("vector_norm")(input, p=ord, **attrs),
    compose=lambda F, input, *, ord, **attrs: _norm_compose(F, input, p=ord, **attrs),
    precision="wide",
    samples=_norm_samples("ord"),
    errors=(*_NORM_ERRORS, Bad(ShapeError, "no elements", t(0, 3), ord=-1, dim=0)),
    torch="torch.linalg.vector_norm",
)

# --- pairs ------------------------------------------------------------------------------------------------------------


def _pair_compose(name: str) -> Any:
    def compose(F: Any, input: Any, *, dim: tuple[int, ...], correction: float, keepdim: bool) -> Any:
        return F.op(name, input, dim, correction, keepdim), F.mean(input, dim, keepdim)

    return compose


for _name, _what in (("var", "variance"), ("std", "standard deviation")):
    register(
        name=f"{_name}_mean",
        doc=f"({_what}, mean) over the axes `dim` (default all), as `{_name}` and `mean`. As torch.{_name}_mean.",
        signature="input, dim=None, correction=1, keepdim=False, *, unbiased=None",
        inputs=("input",),
        canon=var_canon(f"{_name}_mean"),
        rule=var_rule(f"{_name}_mean"),
        compose=_pair_compose(_name),
        precision="wide",
        samples=tuple(s for s in VAR_SAMPLES if s.inputs[0].layout != "expanded"),
        errors=(*REDUCE_ERRORS, Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"))),
        torch=f"torch.{_name}_mean",
    )


class MinMax(NamedTuple):
    """What `gt.aminmax(x)` returns."""

    min: Any
    max: Any


def _aminmax_rule(input: Aval, *, dim: tuple[int, ...], keepdim: bool) -> Aval:
    need_elements("aminmax", input, dim)
    return input


register(
    name="aminmax",
    doc="(min, max) over the axes `dim` (default all), as `amin` and `amax`. As torch.aminmax.",
    signature="input, *, dim=None, keepdim=False",
    inputs=("input",),
    canon=dims_canon("aminmax"),
    rule=_aminmax_rule,
    compose=lambda F, input, *, dim, keepdim: MinMax(F.amin(input, dim, keepdim), F.amax(input, dim, keepdim)),
    samples=(
        Sample(t(5, 3, **_DISTINCT)),
        Sample(t(5, 3, **_DISTINCT), dim=0),
        Sample(t(4, 6, layout="transposed", **_DISTINCT), dim=-1, keepdim=True),
        Sample(t(), why_="a scalar"),
        Sample(t(0, 3), dim=1),
        Sample(t(2, 3, fill=((1.0, NAN, 2.0), (3.0, 3.0, 3.0))), dim=1, grad_=False, why_="ties, NaN"),
        Sample(t(5, dtype="int64", fill="ints", low=-9, high=9)),
        Sample(t(7, dtype="float64", **_DISTINCT), dim=0),
    ),
    errors=(*REDUCE_ERRORS, Bad(ShapeError, "no elements", t(0, 3), dim=0)),
    torch="torch.aminmax",
)

# --- counts, and sums without NaN -------------------------------------------------------------------------------------


def _count(F: Any, input: Any, *, dim: tuple[int, ...]) -> Any:
    return F.sum(F.ne(input, F.const(0, F.aval(input).dtype)), dim)


register(
    name="count_nonzero",
    doc="How many elements are different from 0, over the axes `dim` (default all); int64. NaN counts. As "
    "torch.count_nonzero.",
    signature="input, dim=None",
    inputs=("input",),
    canon=dims_canon("count_nonzero"),
    rule=lambda input, *, dim: input.with_dtype("int64"),
    compose=_count,
    samples=(
        Sample(t(5, 3, dtype="int64", fill="ints", high=2)),
        Sample(t(5, 3, dtype="int32", fill="ints", high=2), dim=0),
        Sample(t(2, 3, 4, dtype="bool", fill="bool"), dim=(0, -1)),
        Sample(t(5, fill=(0.0, -0.0, NAN, INF, 1e-30)), dim=0, grad_=False),
        Sample(t(4, 6, layout="transposed", fill="ints", high=2), dim=1, grad_=False),
        Sample(t(0, 3), dim=0, grad_=False),
        Sample(t(), grad_=False),
        Sample(t(3, dtype="float64", fill=(0.0, 1e-310, 2.0)), grad_=False),
    ),
    errors=REDUCE_ERRORS,
    torch="torch.count_nonzero",
)


def _without_nan(F: Any, input: Any) -> Any:
    """The input with 0 in the place of NaN, and where it is not NaN."""
    number = F.eq(input, input)
    return F.where(number, input, F.const(0, F.aval(input).dtype)), number


def _nansum(F: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, dtype: str | None) -> Any:
    x = _without_nan(F, input)[0] if F.aval(input).is_float else input
    return F.sum(x, dim, keepdim, dtype=dtype)


def _nanmean(F: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, dtype: str | None) -> Any:
    x, number = _without_nan(F, input)
    return F.div(F.sum(x, dim, keepdim, dtype=dtype), F.sum(number, dim, keepdim, dtype=dtype or F.aval(x).dtype))


def _nan_rule(name: str) -> Any:
    def rule(input: Aval, *, dim: tuple[int, ...], keepdim: bool, dtype: str | None) -> Aval:
        if name == "nanmean":
            need_float(name, input=input)
        return input

    return rule


_NAN_SAMPLES = (
    *(s for s in REDUCE_SAMPLES if s.inputs[0].shape in ((5, 3), (2, 3, 5), (4, 6))),
    Sample(t(7, 3, dtype="float64"), dim=0),
    Sample(t(2, 3, fill=((1.0, NAN, 2.0), (INF, 1.0, NAN))), dim=1, grad_=False, why_="NaN"),
    Sample(t(0, 3), dim=0, grad_=False),
    Sample(t(5, 3), dim=1, dtype="float64"),
)
_NO_NUMBER = Sample(t(2, fill=NAN), grad_=False, torch_=False, why_="PyTorch's gradient is NaN where all elements are")
for _name, _compose, _what, _more in (("nansum", _nansum, "Sum", ()), ("nanmean", _nanmean, "Mean", (_NO_NUMBER,))):
    register(
        name=_name,
        doc=f"{_what} over the axes `dim` (default all) of the elements that are not NaN; these alone get gradients. "
        f"As torch.{_name}.",
        signature="input, dim=None, keepdim=False, *, dtype=None",
        inputs=("input",),
        canon=dims_canon(_name),
        rule=_nan_rule(_name),
        compose=_compose,
        precision="wide",
        samples=(*_NAN_SAMPLES, *_more),
        errors=REDUCE_ERRORS,
        torch=f"torch.{_name}",
    )
