"""Cards of the activation functions, each with a fused gradient op that has a gradient of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..aval import Aval
from ..errors import ArgumentError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .pointwise import INF, NAN, masked, plain_number
from .unary import EDGES, INTS, UNARY_SAMPLES, float_only, keeps_dtype, unary

_GELU_TANH = math.sqrt(2 / math.pi), 0.044715
WIDE = Sample(t(6, fill=(-200.0, -90.0, -20.0, 20.0, 90.0, 200.0)), grad_=False, why_="both tails")
FLOAT_SAMPLES = (*UNARY_SAMPLES, WIDE, EDGES)
# Off the kink at 0, where there is no derivative.
KINKED_SAMPLES = (
    Sample(t(5, 3, fill="distinct", low=-1.01, high=1)),
    Sample(t(), why_="a scalar"),
    Sample(t(0, 3), why_="no elements"),
    Sample(t(4, 6, layout="transposed"), why_="strided"),
    Sample(t(3, 5, layout="strided"), why_="strided"),
    Sample(t(7, dtype="float64")),
    WIDE,
    EDGES,
)


def const(F: Any, at: At, value: float) -> Any:
    return F.const(value, at.out.dtype)


def gradient_op(
    name: str,
    formula: str,
    vjp: Callable[..., Any],
    of: str = "input",
    attrs: str = "",
    perf: tuple[Perf, ...] = (),
    **options: Any,
) -> None:
    """Register `<name>_bwd(dy, of)`. Its own vjp is linear in dy: itself again; `vjp` gives the gradient to `of`.
    `options` are the values of `attrs` in its samples."""
    op = f"{name}_bwd"

    def both(F: Any, at: At, g: Any, dy: Any, of: Any) -> Any:
        need_dy, need_of = at.needs
        return (
            F.op(op, g, of, **at.attrs) if need_dy else None,
            vjp(F, at, F.mul(g, dy), of) if need_of else None,
        )

    signature = f"dy, {of}" + (f", {attrs}" if attrs else "")
    register(
        name=op,
        doc=f"Gradient of {name}: dx = {formula}.",
        signature=signature,
        inputs=("dy", of),
        outputs=("dx",),
        rule=lambda dy, of, **attrs: of,
        vjp=both,
        saves=("dy", of),
        batch="pointwise",
        public=False,
        samples=(
            Sample(t(4, 6, layout="expanded"), t(4, 6, layout="transposed"), **options),
            Sample(t(0), t(0), **options),
            Sample(t(7, dtype="float64"), t(7, dtype="float64"), **options),
        ),
        perf=perf or (Perf(t(1024, 512), t(1024, 512), **options),),
    )


_RELUS = (
    ("mlp hidden", t(64, 128)),
    ("cnn conv 1", t(64, 16, 28, 28)),
    ("cnn conv 2", t(64, 32, 14, 14)),
    ("cnn hidden", t(64, 64)),
)

# --- relu -------------------------------------------------------------------------------------------------------------

unary(
    "relu",
    "max(input, 0); gradient 0 at 0; NaN stays NaN. As torch.relu",
    lambda F, at, dy, y: F.relu_bwd(dy, y),
    saves=("y",),
    samples=(*KINKED_SAMPLES, INTS),
    perf=(*(Perf(x, name_=name) for name, x in _RELUS), Perf(t(1024, 512))),
    **keeps_dtype("relu"),
)
gradient_op(
    "relu",
    "dy where y is not 0, else 0",
    lambda F, at, g, y: None,
    of="y",
    perf=tuple(Perf(x, x, name_=name) for name, x in _RELUS),
)


def _leaky_canon(input: Aval, *, negative_slope: Any = 0.01) -> dict[str, Any]:
    return {"negative_slope": plain_number("leaky_relu", "negative_slope", negative_slope)}


unary(
    "leaky_relu",
    "input where input > 0, else negative_slope · input. As torch.nn.functional.leaky_relu",
    lambda F, at, dy, input: F.leaky_relu_bwd(dy, input, **at.attrs),
    signature="input, negative_slope=0.01",
    canon=_leaky_canon,
    saves=("input",),
    samples=(*KINKED_SAMPLES, *(Sample(t(5, 3), negative_slope=c) for c in (0.0, 0.5, 1.5, -0.5))),
    torch="torch.nn.functional.leaky_relu",
    **float_only("leaky_relu"),
)
gradient_op(
    "leaky_relu",
    "dy where input > 0, else negative_slope·dy",
    lambda F, at, g, x: None,
    attrs="negative_slope",
    negative_slope=0.1,
)


# --- sigmoid and tanh -------------------------------------------------------------------------------------------------

unary("tanh", "tanh(input)", lambda F, at, dy, y: F.tanh_bwd(dy, y), saves=("y",), samples=(*FLOAT_SAMPLES, INTS))
gradient_op("tanh", "dy·(1 - y²)", lambda F, at, g, y: F.scale(F.mul(g, y), -2.0), of="y")
unary(
    "sigmoid",
    "1 / (1 + exp(-input))",
    lambda F, at, dy, y: F.sigmoid_bwd(dy, y),
    saves=("y",),
    samples=(*FLOAT_SAMPLES, INTS),
)
gradient_op("sigmoid", "dy·y·(1 - y)", lambda F, at, g, y: F.mul(g, F.sub(const(F, at, 1), F.scale(y, 2.0))), of="y")


def _slope(F: Any, at: At, s: Any) -> Any:
    """σ' = s·(1 - s)."""
    return F.mul(s, F.sub(const(F, at, 1), s))


unary(
    "logsigmoid",
    "log(sigmoid(input)) as min(input, 0) - log1p(exp(-|input|)). As torch.nn.functional.logsigmoid",
    lambda F, at, dy, input: F.logsigmoid_bwd(dy, input),
    saves=("input",),
    samples=FLOAT_SAMPLES,
    torch="torch.nn.functional.logsigmoid",
    **float_only("logsigmoid"),
)
gradient_op("logsigmoid", "dy·sigmoid(-input)", lambda F, at, g, x: F.neg(F.mul(g, _slope(F, at, F.sigmoid(x)))))


# --- smooth relatives of relu -----------------------------------------------------------------------------------------


def _softplus_canon(input: Aval, *, beta: Any = 1.0, threshold: Any = 20.0) -> dict[str, Any]:
    beta, threshold = plain_number("softplus", "beta", beta), plain_number("softplus", "threshold", threshold)
    if beta == 0:
        raise ArgumentError("softplus: beta=0 divides by zero. Pass another number.")
    return {"beta": beta, "threshold": threshold}


def _softplus_bwd_vjp(F: Any, at: At, g: Any, x: Any) -> Any:
    beta, threshold = at.attrs["beta"], at.attrs["threshold"]
    z = F.scale(x, beta)
    curved = F.lt(z, const(F, at, threshold))
    return masked(F, F.scale(F.mul(g, _slope(F, at, F.sigmoid(z))), beta), curved)


unary(
    "softplus",
    "log(1 + exp(beta·input)) / beta without overflow, and input itself where beta·input > threshold. As "
    "torch.nn.functional.softplus",
    lambda F, at, dy, input: F.softplus_bwd(dy, input, **at.attrs),
    signature="input, beta=1.0, threshold=20.0",
    canon=_softplus_canon,
    saves=("input",),
    samples=(
        *FLOAT_SAMPLES,
        Sample(t(5, 3), beta=2.5),
        Sample(t(5, 3), beta=-1),
        Sample(t(5, 3), threshold=0.25, why_="linear beyond a low threshold"),
        Sample(t(5, fill=(-1.0, 0.5, 1.0, 21.0, 19.0)), threshold=1, grad_=False),
    ),
    torch="torch.nn.functional.softplus",
    rule=float_only("softplus")["rule"],
    errors=(*float_only("softplus")["errors"], Bad(ArgumentError, "beta=0", t(3), beta=0)),
)
gradient_op(
    "softplus",
    "dy·sigmoid(beta·input), dy beyond the threshold",
    _softplus_bwd_vjp,
    attrs="beta, threshold",
    beta=2.0,
    threshold=20.0,
)


def _elu_canon(input: Aval, *, alpha: Any = 1.0) -> dict[str, Any]:
    return {"alpha": plain_number("elu", "alpha", alpha)}


def _elu_bwd_vjp(F: Any, at: At, g: Any, x: Any) -> Any:
    curved = F.lt(x, const(F, at, 0))
    return F.scale(masked(F, F.mul(g, F.exp(x)), curved), at.attrs["alpha"])


unary(
    "elu",
    "input where input > 0, else alpha·(exp(input) - 1). As torch.nn.functional.elu",
    lambda F, at, dy, input: F.elu_bwd(dy, input, **at.attrs),
    signature="input, alpha=1.0",
    canon=_elu_canon,
    saves=("input",),
    samples=(*KINKED_SAMPLES, Sample(t(5, 3), alpha=0.5), Sample(t(5, 3), alpha=-2)),
    torch="torch.nn.functional.elu",
    **float_only("elu"),
)
gradient_op("elu", "dy where input > 0, else dy·alpha·exp(input)", _elu_bwd_vjp, attrs="alpha", alpha=2.0)


def _silu_bwd_vjp(F: Any, at: At, g: Any, x: Any) -> Any:
    """silu'' = σ'·(2 + x·(1 - 2σ))."""
    s = F.sigmoid(x)
    bend = F.add(F.mul(x, F.sub(const(F, at, 1), F.scale(s, 2.0))), const(F, at, 2))
    return F.mul(g, F.mul(_slope(F, at, s), bend))


unary(
    "silu",
    "input · sigmoid(input). As torch.nn.functional.silu",
    lambda F, at, dy, input: F.silu_bwd(dy, input),
    saves=("input",),
    samples=FLOAT_SAMPLES,
    torch="torch.nn.functional.silu",
    **float_only("silu"),
)
gradient_op("silu", "dy·(s + input·s·(1 - s)), s = sigmoid(input)", _silu_bwd_vjp)


# --- gelu -------------------------------------------------------------------------------------------------------------


def _gelu_canon(input: Aval, *, approximate: Any = "none") -> dict[str, Any]:
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f'gelu: approximate={approximate!r} is unknown. Use "none" or "tanh".')
    return {"approximate": approximate}


def _gelu_bwd_vjp(F: Any, at: At, g: Any, x: Any) -> Any:
    """φ(x)·(2 - x²); of the tanh form, with u = k·(x + c·x³) and t = tanh(u): (1 - t²)·(u' + x·u''/2 - x·t·u'²)."""
    x2 = F.square(x)
    if at.attrs["approximate"] == "none":
        density = F.scale(F.exp(F.scale(x2, -0.5)), 1 / math.sqrt(2 * math.pi))
        return F.mul(g, F.mul(density, F.sub(const(F, at, 2), x2)))
    k, c = _GELU_TANH
    u = F.scale(F.mul(x, F.add(F.scale(x2, c), const(F, at, 1))), k)
    du = F.scale(F.add(F.scale(x2, 3 * c), const(F, at, 1)), k)
    th = F.tanh(u)
    bend = F.sub(F.add(du, F.scale(x2, 3 * k * c)), F.mul(F.mul(x, th), F.square(du)))
    return F.mul(g, F.mul(F.sub(const(F, at, 1), F.square(th)), bend))


unary(
    "gelu",
    "input · Φ(input), Φ the normal distribution function: through erf, or with approximate='tanh' as "
    "½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))). As torch.nn.functional.gelu",
    lambda F, at, dy, input: F.gelu_bwd(dy, input, **at.attrs),
    signature='input, approximate="none"',
    canon=_gelu_canon,
    saves=("input",),
    samples=(
        *UNARY_SAMPLES,
        WIDE,
        Sample(
            t(4, fill=(0.0, -0.0, NAN, INF)), grad_=False, torch_=False, why_="PyTorch's vector loop: gelu(inf) is NaN"
        ),
        Sample(t(5, 3), approximate="tanh"),
        Sample(t(4, 6, layout="transposed", dtype="float64"), approximate="tanh"),
        Sample(t(), approximate="tanh"),
        Sample(t(0), approximate="tanh"),
    ),
    perf=(Perf(t(16, 64, 512), name_="gpt hidden"), Perf(t(1024, 512), approximate="tanh", name_="tanh")),
    torch="torch.nn.functional.gelu",
    rule=float_only("gelu")["rule"],
    errors=(*float_only("gelu")["errors"], Bad(ArgumentError, "approximate='erf'", t(3), approximate="erf")),
)
gradient_op(
    "gelu",
    "dy · (Φ(input) + input·φ(input)), φ = Φ'",
    _gelu_bwd_vjp,
    attrs='approximate="none"',
    perf=(Perf(t(16, 64, 512), t(16, 64, 512), name_="gpt hidden"),),
    approximate="tanh",
)
