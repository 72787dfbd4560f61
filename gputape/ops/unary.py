"""Cards of the element-wise functions of one array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import Aval, need_float
from ..errors import ArgumentError, DTypeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .pointwise import INF, NAN, as_float, not_bool, plain_number, zeros

UNARY_SAMPLES = (
    Sample(t(5, 3)),
    Sample(t(), why_="a scalar"),
    Sample(t(0, 3), why_="no elements"),
    Sample(t(4, 6, layout="transposed"), why_="strided"),
    Sample(t(3, 5, layout="strided"), why_="strided"),
    Sample(t(7, dtype="float64")),
)
_POSITIVE = {"fill": "uniform", "low": 0.5, "high": 3.0}
POSITIVE_SAMPLES = (
    Sample(t(5, 3, **_POSITIVE)),
    Sample(t(**_POSITIVE), why_="a scalar"),
    Sample(t(0, 3), why_="no elements"),
    Sample(t(4, 6, layout="transposed", **_POSITIVE), why_="strided"),
    Sample(t(3, 5, layout="strided", **_POSITIVE), why_="strided"),
    Sample(t(7, dtype="float64", **_POSITIVE)),
)
EDGES = Sample(t(6, fill=(0.0, -0.0, -1.0, NAN, INF, -INF)), grad_=False, why_="zeros, NaN, infinities")
NONE_GIVEN = Bad(ArgumentError, "input is None", None)
INTS = Sample(t(5, dtype="int64", fill="ints", low=1, high=5), why_="integers")


def unary(name: str, formula: str, vjp: Callable[..., Any] | None, **fields: Any) -> None:
    """Register a function of one array. Integers and bools give float32 unless `fields` has another rule."""
    fields = {
        "rule": lambda input: as_float(input),
        "samples": (*UNARY_SAMPLES, EDGES, INTS),
        "errors": (NONE_GIVEN,),
        "torch": f"torch.{name}",
        "perf": (Perf(t(1024, 512)),),
        "signature": "input",
    } | fields
    register(name=name, doc=f"{formula}, element by element.", inputs=("input",), vjp=vjp, batch="pointwise", **fields)


def float_only(name: str) -> dict[str, Any]:
    """The rule and errors of a function that PyTorch has for floating point only."""

    def rule(input: Aval, **attrs: Any) -> Aval:
        need_float(name, input=input)
        return input

    return {"rule": rule, "errors": (Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones")),)}


def keeps_dtype(name: str) -> dict[str, Any]:
    """The rule and errors of a function that keeps integers and has no result for bools."""

    def rule(input: Aval, **attrs: Any) -> Aval:
        not_bool(name, input)
        return input

    return {"rule": rule, "errors": (Bad(DTypeError, "bool", t(3, dtype="bool", fill="bool")),)}


def _plus_one(F: Any, at: At, x: Any) -> Any:
    return F.add(x, F.const(1, at.out.dtype))


# --- arithmetic -------------------------------------------------------------------------------------------------------

unary("neg", "-input", lambda F, at, dy: F.neg(dy), **keeps_dtype("neg"))
unary(
    "abs",
    "|input|; gradient 0 at 0",
    lambda F, at, dy, input: F.mul(dy, F.sign(input)),
    saves=("input",),
    **keeps_dtype("abs"),
)
unary(
    "square",
    "input²",
    lambda F, at, dy, input: F.scale(F.mul(dy, input), 2.0),
    saves=("input",),
    rule=lambda input: input.with_dtype("int64") if input.dtype == "bool" else input,
)
unary(
    "reciprocal",
    "1 / input",
    lambda F, at, dy, y: F.neg(F.mul(dy, F.square(y))),
    saves=("y",),
    samples=(*POSITIVE_SAMPLES, EDGES, INTS),
)
register(
    name="inv",
    doc="1 / input, element by element: `reciprocal` under the name of the original API page.",
    signature="input",
    inputs=("input",),
    compose=lambda F, input: F.reciprocal(input),
    batch="pointwise",
    samples=POSITIVE_SAMPLES,
    errors=(NONE_GIVEN,),
)


# --- steps: the gradient is zero --------------------------------------------------------------------------------------


STEP_SAMPLES = (
    *(Sample(*s.inputs, grad_=False) for s in UNARY_SAMPLES),
    Sample(t(5, 3, fill="uniform", low=0.6, high=0.9), why_="between the steps"),
    Sample(t(6, fill=(-2.5, -0.5, 0.5, 1.5, 2.5, 1e9)), grad_=False, why_="halves"),
    EDGES,
    INTS,
)


def step_vjp(F: Any, at: At, dy: Any) -> Any:
    return zeros(F, at.out)


unary("sign", "-1, 0 or 1, the sign of input; 0 for NaN; gradient 0", step_vjp, rule=lambda input: input)
for _name, _formula in (("floor", "⌊input⌋"), ("ceil", "⌈input⌉")):
    unary(_name, f"{_formula}; gradient 0", step_vjp, samples=STEP_SAMPLES, **keeps_dtype(_name))
unary(
    "round",
    "input rounded to nearest, or to a multiple of 10 to the power -decimals, ties to even; gradient 0",
    step_vjp,
    signature="input, *, decimals=0",
    variants=(("decimals", "round_decimals"),),
    samples=STEP_SAMPLES,
    **keeps_dtype("round"),
)


# --- roots, exponentials, logarithms, circular functions --------------------------------------------------------------

unary(
    "sqrt",
    "√input; NaN below 0; the gradient at 0 is infinite",
    lambda F, at, dy, y: F.div(dy, F.scale(y, 2.0)),
    saves=("y",),
    samples=(*POSITIVE_SAMPLES, EDGES, INTS),
)
unary(
    "rsqrt",
    "1 / √input",
    lambda F, at, dy, y: F.scale(F.mul(dy, F.pow_scalar(y, 3)), -0.5),
    saves=("y",),
    samples=(*POSITIVE_SAMPLES, EDGES, INTS),
)
unary("exp", "exp(input)", lambda F, at, dy, y: F.mul(dy, y), saves=("y",))
unary("expm1", "exp(input) - 1, accurate near 0", lambda F, at, dy, y: F.mul(dy, _plus_one(F, at, y)), saves=("y",))
unary(
    "log",
    "log(input); -inf at 0, NaN below",
    lambda F, at, dy, input: F.div(dy, input),
    saves=("input",),
    samples=(*POSITIVE_SAMPLES, EDGES, INTS),
)
unary(
    "log1p",
    "log(1 + input), accurate near 0",
    lambda F, at, dy, input: F.div(dy, _plus_one(F, at, input)),
    saves=("input",),
    samples=(*POSITIVE_SAMPLES, EDGES, INTS),
    perf=(Perf(t(1024, 512, fill="uniform", low=0.0, high=4.0)),),
)
unary("sin", "sin(input)", lambda F, at, dy, input: F.mul(dy, F.cos(input)), saves=("input",))
unary("cos", "cos(input)", lambda F, at, dy, input: F.neg(F.mul(dy, F.sin(input))), saves=("input",))


def _erf_vjp(F: Any, at: At, dy: Any, input: Any) -> Any:
    return F.scale(F.mul(dy, F.exp(F.neg(F.square(input)))), 1.1283791670955126)  # 2/√π


unary(
    "erf",
    "The error function 2/√π ∫₀ˣ exp(-t²) dt: a rational approximation per dtype (see the body)",
    _erf_vjp,
    saves=("input",),
    samples=(*UNARY_SAMPLES, EDGES, INTS, Sample(t(97, fill="uniform", low=-7, high=7, dtype="float64"))),
)


unary(
    "erfc",
    "1 - erf(input), without losing the digits of a small result: rational approximations (see the body)",
    lambda F, at, dy, input: F.neg(_erf_vjp(F, at, dy, input)),
    saves=("input",),
    samples=(
        *UNARY_SAMPLES,
        EDGES,
        INTS,
        Sample(t(97, fill="uniform", low=-7, high=28, dtype="float64")),
        Sample(t(97, fill="uniform", low=3, high=10), why_="small results"),
    ),
)


def _safe_log_canon(input: Aval, *, eps: Any = 1e-6) -> dict[str, Any]:
    eps = plain_number("safe_log", "eps", eps)
    if eps < 0:
        raise ArgumentError(f"safe_log: eps={eps} is negative. Pass a small number such as 1e-6.")
    return {"eps": eps}


def _safe_log_vjp(F: Any, at: At, dy: Any, input: Any, y: Any) -> Any:
    return F.mul(F.mul(dy, F.sigmoid(input)), F.exp(F.neg(y)))


unary(
    "safe_log",
    "log(softplus(input) + eps), finite for every finite input. On the original API page",
    _safe_log_vjp,
    signature="input, eps=1e-6",
    canon=_safe_log_canon,
    saves=("input", "y"),
    samples=(*UNARY_SAMPLES, Sample(t(5, 3), eps=0.1), Sample(t(4, fill=(-200.0, 200.0, NAN, -3.0)), grad_=False)),
    errors=(*float_only("safe_log")["errors"], Bad(ArgumentError, "negative", t(3), eps=-1.0)),
    rule=float_only("safe_log")["rule"],
    torch=None,
)
