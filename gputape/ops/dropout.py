"""Cards of the dropouts beside the plain one, of rrelu and gumbel_softmax: random ops with a gradient."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, axis, need_float
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .loss import check_number
from .random import check_p

INTS = t(2, 3, 4, dtype="int64", fill="ones")


def _mask(F: Any, shape: tuple[int, ...], p: float, dtype: str) -> Any:
    """0 with probability p, else 1/(1-p); one word of the generator per element."""
    state, offset = F.rng(math.prod(shape))
    return F.dropout_mask(state, shape, p, offset, dtype)


def _uniform(F: Any, a: Aval) -> Any:
    """Uniform numbers in [0, 1) of a's shape and dtype; one word of the generator per element."""
    state, offset = F.rng(a.size)
    drawn = F.random_uniform(state, a.shape, "float32", offset)
    return drawn if a.dtype == "float32" else F.cast(drawn, a.dtype)


# --- whole channels ---------------------------------------------------------------------------------------------------


def _channels(name: str, spatial: int, batched: int) -> None:
    """Register a dropout of channels over `spatial` axes. Inputs of `batched` axes and more have a batch axis."""
    ndims = (spatial + 1, spatial + 2)

    def rule(input: Aval, *, p: float, training: bool) -> Aval:
        check_p(name, p)
        need_float(name, input=input)
        if input.ndim not in ndims:
            raise ShapeError(f"{name}: the input has shape {input.shape}. Give it {ndims[0]} or {ndims[1]} axes.")
        return input

    def compose(F: Any, input: Any, *, p: float, training: bool) -> Any:
        a = F.aval(input)
        if not training or p == 0:
            return input
        lead = 2 if a.ndim >= batched else 1
        return F.mul(input, _mask(F, (*a.shape[:lead], *(1,) * (a.ndim - lead)), p, a.dtype))

    one, two = (3, 4, 2, 3)[: ndims[0]], (2, 3, 4, 2, 3)[: ndims[1]]
    smaller = "(N, C, L), as in PyTorch" if batched == ndims[0] else "a single sample, (C, …)"
    register(
        name=name,
        doc=f"""Each channel of (N, C, …) with {spatial} spatial axes becomes 0 with probability p, else times 1/(1-p).

        An input with one axis less is {smaller}. The identity unless `training`, and for p = 0. Takes one word of the
        generator per channel. As torch.nn.functional.{name}.""",
        signature="input, p=0.5, training=True",
        inputs=("input",),
        rule=rule,
        compose=compose,
        samples=(
            Sample(t(*two)),
            Sample(t(*one), p=0.3),
            Sample(t(*two), p=1.0),
            Sample(t(*two), p=0.0),
            Sample(t(*two), training=False),
            Sample(t(0, *two[1:])),
            Sample(t(*two, layout="transposed"), p=0.7),
            Sample(t(*two, dtype="float64")),
        ),
        errors=(
            Bad(ShapeError, f"Give it {ndims[0]} or {ndims[1]} axes", t(*(1,) * spatial)),
            Bad(ShapeError, "axes", t(*(1,) * (spatial + 3))),
            Bad(ArgumentError, "p=1.5", t(*two), p=1.5),
            Bad(DTypeError, "floating-point", t(*two, dtype="int64", fill="ones")),
        ),
    )


_channels("dropout1d", 1, 3)
_channels("dropout2d", 2, 3)
_channels("dropout3d", 3, 5)


# --- alpha_dropout ----------------------------------------------------------------------------------------------------

_ALPHA = 1.7580993408473766  # minus the value that selu goes to


def _alpha_rule(input: Aval, *, p: float, training: bool) -> Aval:
    check_p("alpha_dropout", p)
    need_float("alpha_dropout", input=input)
    return input


def _alpha(F: Any, input: Any, *, p: float, training: bool) -> Any:
    if not training or p == 0:
        return input
    a = F.aval(input)
    if p == 1:
        return F.mul(input, F.const(0, a.dtype))
    mask = _mask(F, a.shape, p, a.dtype)
    gain = 1 / math.sqrt((_ALPHA * _ALPHA * p + 1) * (1 - p))
    kept = F.scale(mask, (1 - p) * gain)  # gain, or 0
    return F.add(F.mul(F.add(input, F.const(_ALPHA, a.dtype)), kept), F.const(gain * _ALPHA * (p - 1), a.dtype))


register(
    name="alpha_dropout",
    doc="""Dropout to -α (α = 1.7581, where selu saturates) with probability p, then an affine map that keeps mean 0 and
    variance 1. Klambauer et al. 2017; as torch.nn.functional.alpha_dropout.

    The identity unless `training`, which is off by default, and for p = 0; zeros for p = 1. Takes one word of the
    generator per element.""",
    signature="input, p=0.5, training=False",
    inputs=("input",),
    rule=_alpha_rule,
    compose=_alpha,
    samples=(
        Sample(t(5, 7), training=True),
        Sample(t(5, 7), p=0.1, training=True),
        Sample(t(5, 7), p=1.0, training=True),
        Sample(t(5, 7), p=0.0, training=True),
        Sample(t(5, 7)),
        Sample(t(), training=True),
        Sample(t(0, 3), training=True),
        Sample(t(4, 6, layout="transposed"), p=0.7, training=True),
        Sample(t(7, dtype="float64"), training=True),
    ),
    errors=(Bad(ArgumentError, "p=1.5", t(3), p=1.5), Bad(DTypeError, "floating-point", INTS)),
)


# --- rrelu ------------------------------------------------------------------------------------------------------------


def _rrelu_canon(input: Aval, *, lower: Any, upper: Any, training: Any) -> dict[str, Any]:
    check_number("rrelu", "lower", lower)
    check_number("rrelu", "upper", upper)
    if lower > upper:
        raise ArgumentError(f"rrelu: lower={lower} is above upper={upper}. Exchange them.")
    return {"lower": lower, "upper": upper, "training": bool(training)}


def _rrelu_rule(input: Aval, **attrs: Any) -> Aval:
    need_float("rrelu", input=input)
    return input


def _rrelu(F: Any, input: Any, *, lower: float, upper: float, training: bool) -> Any:
    a = F.aval(input)
    if not training:
        return F.leaky_relu(input, (lower + upper) / 2)
    slope = F.add(F.scale(_uniform(F, a), upper - lower), F.const(lower, a.dtype))
    return F.where(F.lt(input, F.const(0, a.dtype)), F.mul(input, slope), input)


register(
    name="rrelu",
    doc="""input where input ≥ 0, else input times a slope: (lower + upper)/2, or, if `training`, a random one for each
    element, uniform in [lower, upper), which takes one word of the generator. Xu et al. 2015; as
    torch.nn.functional.rrelu.""",
    signature="input, lower=0.125, upper=0.3333333333333333, training=False",
    inputs=("input",),
    canon=_rrelu_canon,
    rule=_rrelu_rule,
    compose=_rrelu,
    samples=(
        Sample(t(5, 3)),
        Sample(t(5, 7), training=True),
        Sample(t(5, 7), lower=-0.5, upper=0.5, training=True),
        Sample(t(3), lower=0.25, upper=0.25, training=True),
        Sample(t(), training=True),
        Sample(t(0, 3), training=True),
        Sample(t(4, 6, layout="transposed"), training=True),
        Sample(t(7, dtype="float64"), training=True),
    ),
    errors=(
        Bad(ArgumentError, "above upper", t(3), lower=1, upper=0),
        Bad(ArgumentError, "lower='1'", t(3), lower="1"),
        Bad(DTypeError, "floating-point", INTS),
    ),
)


# --- gumbel_softmax ---------------------------------------------------------------------------------------------------


def _gumbel_canon(logits: Aval, *, tau: float, hard: bool, eps: float, dim: int) -> dict[str, Any]:
    check_number("gumbel_softmax", "tau", tau)
    return {"tau": tau, "hard": hard, "eps": eps, "dim": axis("gumbel_softmax", dim, logits.ndim)}


def _gumbel_rule(logits: Aval, **attrs: Any) -> Aval:
    need_float("gumbel_softmax", logits=logits)
    return logits


def _gumbel(F: Any, logits: Any, *, tau: float, hard: bool, eps: float, dim: int) -> Any:
    a = F.aval(logits)
    uniform = _uniform(F, a.with_dtype("float64" if a.dtype == "float64" else "float32"))
    # -log(1 - u) is exponential; a u of 0 counts as half the step between uniforms
    noise = F.neg(F.log(F.clamp(F.neg(F.log1p(F.neg(uniform))), 2.0**-25)))
    if F.aval(noise).dtype != a.dtype:
        noise = F.cast(noise, a.dtype)
    soft = F.softmax(F.scale(F.add(logits, noise), 1 / tau), dim)
    if not hard or not a.size:
        return soft
    best = F.argmax(soft, dim, True)
    classes = F.const(list(range(a.shape[dim] if a.ndim else 1)), "int64")
    column = F.reshape(classes, tuple(-1 if k == dim else 1 for k in range(a.ndim)))
    chosen = F.cast(F.eq(column, best), a.dtype)
    return F.add(F.detach(F.sub(chosen, soft)), soft)


register(
    name="gumbel_softmax",
    doc="""softmax((logits + g) / tau) along `dim`, with g = -log(-log u) of fresh uniform numbers u.

    hard: one-hot, 1 at the largest, with the gradient of the soft result. eps has no effect, as in PyTorch. Takes one
    word of the generator per element. Jang et al. 2017; as torch.nn.functional.gumbel_softmax.""",
    signature="logits, tau=1, hard=False, eps=1e-10, dim=-1",
    inputs=("logits",),
    canon=_gumbel_canon,
    rule=_gumbel_rule,
    compose=_gumbel,
    samples=(
        Sample(t(5, 3)),
        Sample(t(2, 5, 3), tau=0.5, dim=1),
        Sample(t(5, 3), hard=True, grad_=False, why_="the gradient of the soft result"),
        Sample(t(), hard=True, grad_=False),
        Sample(t(0, 3), hard=True),
        Sample(t(4, 6, layout="transposed"), dim=0),
        Sample(t(7, dtype="float64"), tau=2.0),
    ),
    errors=(
        Bad(ShapeError, "dim=2 is out of range", t(5, 3), dim=2),
        Bad(ArgumentError, "tau='1'", t(5, 3), tau="1"),
        Bad(DTypeError, "floating-point", INTS),
    ),
)
