"""Cards of the losses against distributions: kl_div, poisson_nll_loss, gaussian_nll_loss."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, need_float, need_float_yet
from ..errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from ..registry import register
from ..samples import Bad, Sample, t
from .loss import REDUCTIONS, check_number, check_pair, check_reduction, check_same_shape, reduce

NAN, INF = float("nan"), float("inf")
_RATE = {"fill": "uniform", "low": 0.5, "high": 4.0}
_PROBABILITY = {"fill": "uniform", "low": 0.1, "high": 0.9}


# --- kl_div -----------------------------------------------------------------------------------------------------------


def _kl_div_rule(input: Aval, target: Aval, *, reduction: str, log_target: bool) -> Aval:
    if reduction not in ("batchmean", *REDUCTIONS):
        raise ArgumentError(f"kl_div: reduction={reduction!r} is not known. Use 'batchmean', 'none', 'mean' or 'sum'.")
    check_pair("kl_div", input, target)
    return input


def _kl_div(F: Any, input: Any, target: Any, *, reduction: str, log_target: bool) -> Any:
    if log_target:
        loss = F.mul(F.exp(target), F.sub(target, input))
    else:
        entropy = F.masked_fill(F.mul(target, F.log(target)), F.eq(target, F.const(0, F.aval(target).dtype)), 0.0)
        loss = F.sub(entropy, F.mul(target, input))
    if reduction != "batchmean":
        return reduce(F, loss, reduction)
    rows = (*F.aval(loss).shape, 1)[0]
    return F.scale(F.sum(loss), 1 / rows) if rows else F.mul(F.sum(loss), F.const(NAN, F.aval(loss).dtype))


register(
    name="kl_div",
    doc="""target · (log target - input), the divergence of log-probabilities `input` from probabilities `target`.

    A target of 0 gives 0 (minus 0 · input), and NaN as its own gradient, as in PyTorch. log_target: the target holds
    log-probabilities, exp(target) · (target - input). reduction "batchmean" divides the sum by the size of the first
    axis, which is the divergence; "mean" divides by the number of elements. Both inputs have one shape. As
    torch.nn.functional.kl_div.
    """,
    signature='input, target, reduction="mean", log_target=False',
    inputs=("input", "target"),
    promotes=("input", "target"),
    rule=_kl_div_rule,
    compose=_kl_div,
    precision="wide",
    samples=(
        Sample(t(5, 3), t(5, 3, **_PROBABILITY)),
        Sample(t(5, 3), t(5, 3, **_PROBABILITY), reduction="batchmean"),
        Sample(t(5, 3), t(5, 3, **_PROBABILITY), reduction="sum"),
        Sample(t(5, 3), t(5, 3), reduction="none", log_target=True),
        Sample(t(5, 3), t(5, 3), reduction="batchmean", log_target=True),
        Sample(
            t(5), t(5, fill=(0.0, 0.2, 0.0, 1.0, -1.0)), reduction="none", grad_=False, why_="targets of 0 and below"
        ),
        Sample(t(3, fill=-INF), t(3, fill=(0.0, 0.5, 1.0)), reduction="none", grad_=False, why_="impossible outcomes"),
        Sample(t(), t(**_PROBABILITY), reduction="batchmean", why_="scalars"),
        Sample(t(0, 3), t(0, 3), reduction="sum"),
        Sample(t(0, 3), t(0, 3), reduction="batchmean", grad_=False, why_="the mean of nothing is NaN"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided", **_PROBABILITY)),
        Sample(t(7, dtype="float64"), t(7, **_PROBABILITY), why_="promotion"),
    ),
    errors=(
        Bad(ShapeError, r"\(5, 1\), target \(5,\).*reshape", t(5, 1), t(5)),
        Bad(ArgumentError, "reduction='avg'.*batchmean", t(3), t(3), reduction="avg"),
        Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"), t(3, dtype="int64", fill="ones")),
    ),
    torch="torch.nn.functional.kl_div",
)


# --- poisson_nll_loss -------------------------------------------------------------------------------------------------


def _poisson_rule(input: Aval, target: Aval, *, log_input: bool, full: bool, eps: float, reduction: str) -> Aval:
    check_reduction("poisson_nll_loss", reduction)
    check_number("poisson_nll_loss", "eps", eps)
    need_float_yet("poisson_nll_loss", input=input)
    check_pair("poisson_nll_loss", input, target)
    return input


def _poisson(F: Any, input: Any, target: Any, *, log_input: bool, full: bool, eps: float, reduction: str) -> Any:
    dtype = F.aval(input).dtype
    if log_input:
        loss = F.sub(F.exp(input), F.mul(target, input))
    else:
        loss = F.sub(input, F.mul(target, F.log(F.add(input, F.const(eps, dtype)))))
    if full:
        small = F.le(target, F.const(1, dtype))
        n = F.masked_fill(target, small, 1.0)  # so that no logarithm of 0 reaches the gradient
        stirling = F.add(F.sub(F.mul(n, F.log(n)), n), F.scale(F.log(F.scale(n, 2 * math.pi)), 0.5))
        loss = F.add(loss, F.masked_fill(stirling, small, 0.0))
    return reduce(F, loss, reduction)


register(
    name="poisson_nll_loss",
    doc="""exp(input) - target · input, for log-rates `input` and counts `target`; the negative log-likelihood.

    log_input False: the input holds rates, input - target · log(input + eps). full adds Stirling's approximation of
    log(target!), target · log target - target + log(2π · target) / 2, where target > 1. Both inputs have one shape. As
    torch.nn.functional.poisson_nll_loss.
    """,
    signature='input, target, log_input=True, full=False, eps=1e-08, reduction="mean"',
    inputs=("input", "target"),
    promotes=("input", "target"),
    rule=_poisson_rule,
    compose=_poisson,
    precision="wide",
    samples=(
        Sample(t(5, 3), t(5, 3, **_RATE)),
        Sample(t(5, 3), t(5, 3, **_RATE), full=True, reduction="sum"),
        Sample(t(5, 3, **_RATE), t(5, 3, **_RATE), log_input=False, reduction="none"),
        Sample(t(5, **_RATE), t(5, dtype="int64", fill=(0, 1, 2, 3, 30)), log_input=False, full=True),
        Sample(t(4, fill="zeros"), t(4, fill=(0.0, 1.0, 2.0, 5.0)), log_input=False, reduction="none", grad_=False),
        Sample(
            t(2),
            t(2, fill=(0.0, 1.0)),
            full=True,
            reduction="none",
            grad_=False,
            torch_=False,
            why_="the gradient to a target of 0 is that of the term that counts; PyTorch's is NaN",
        ),
        Sample(t(0, 3), t(0, 3), grad_=False, why_="the mean of nothing is NaN"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided", **_RATE), full=True),
        Sample(t(7, dtype="float64"), t(7, **_RATE), why_="promotion"),
    ),
    errors=(
        Bad(ShapeError, r"\(5, 1\), target \(5,\)", t(5, 1), t(5)),
        Bad(ArgumentError, "reduction='avg'", t(3), t(3), reduction="avg"),
        Bad(ArgumentError, "eps='a'", t(3), t(3), eps="a"),
        Bad(UnsupportedError, "floating-point", t(3, dtype="int64", fill="ones"), t(3, dtype="int64", fill="ones")),
    ),
    torch="torch.nn.functional.poisson_nll_loss",
)


# --- gaussian_nll_loss ------------------------------------------------------------------------------------------------


def _gaussian_rule(input: Aval, target: Aval, var: Aval, *, full: bool, eps: float, reduction: str) -> Aval:
    name = "gaussian_nll_loss"
    check_reduction(name, reduction)
    check_number(name, "eps", eps)
    need_float(name, input=input, target=target, var=var)
    check_same_shape(name, input=input, target=target)
    ones = [k for k, (n, m) in enumerate(zip(input.shape, var.shape)) if n != m]
    shared = var.ndim == input.ndim and len(ones) == 1 and var.shape[ones[0]] == 1
    if not shared and var.shape not in (input.shape, input.shape[:-1], ()):
        raise ShapeError(
            f"{name}: var has shape {var.shape}, input {input.shape}. Give var the input's shape, that shape without "
            "its last axis or with 1 for one axis, or a number."
        )
    return input


def _gaussian(F: Any, input: Any, target: Any, var: Any, *, full: bool, eps: float, reduction: str) -> Any:
    x, v = F.aval(input), F.aval(var)
    zero = F.const(0, v.dtype)
    if v.shape and v.shape != x.shape and v.ndim < x.ndim:
        var = F.reshape(var, (*v.shape, 1))
    # The bound is taken out of the derivative, so that a variance below it can grow; one below 0 has no likelihood.
    bounded = F.add(var, F.detach(F.sub(F.clamp(var, float(eps)), var)))
    bounded = F.masked_fill(bounded, F.lt(var, zero), NAN)
    loss = F.add(F.log(bounded), F.div(F.square(F.sub(input, target)), bounded))
    loss = F.scale(loss, 0.5)
    if full:
        loss = F.add(loss, F.const(0.5 * math.log(2 * math.pi), x.dtype))
    return reduce(F, loss, reduction)


_VARIANCE = {"fill": "uniform", "low": 0.5, "high": 2.0}

register(
    name="gaussian_nll_loss",
    doc="""(log v + (input - target)² / v) / 2 with v = max(var, eps): the negative log-likelihood of normal targets.

    input and target have one shape; var has it too, or lacks the last axis or has size 1 there (one variance per
    sample), or is a number. Its gradient ignores the bound eps. A negative variance gives NaN, where PyTorch raises.
    full adds log(2π) / 2. As torch.nn.functional.gaussian_nll_loss.
    """,
    signature='input, target, var, full=False, eps=1e-06, reduction="mean"',
    inputs=("input", "target", "var"),
    promotes=("input", "target", "var"),
    rule=_gaussian_rule,
    compose=_gaussian,
    precision="wide",
    samples=(
        Sample(t(5, 3), t(5, 3), t(5, 3, **_VARIANCE)),
        Sample(t(5, 3), t(5, 3), t(5, 3, **_VARIANCE), full=True, reduction="sum"),
        Sample(t(5, 3), t(5, 3), t(5, 1, **_VARIANCE), reduction="none", why_="one variance per sample"),
        Sample(t(5, 3), t(5, 3), t(5, **_VARIANCE), reduction="none"),
        Sample(t(5, 3), t(5, 3), t(1, 3, **_VARIANCE), why_="one variance per column"),
        Sample(t(5), t(5), t(**_VARIANCE)),
        Sample(t(4), t(4), t(4, fill=(0.0, 1e-9, 0.1, 1.0)), eps=0.5, reduction="none", grad_=False, why_="below eps"),
        Sample(t(3), t(3), t(3, fill=(-1.0, 1.0, NAN)), grad_=False, torch_=False, why_="PyTorch raises"),
        Sample(t(0, 3), t(0, 3), t(0, 3), grad_=False, why_="the mean of nothing is NaN"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), t(4, 6, layout="flipped", **_VARIANCE)),
        Sample(t(7, dtype="float64"), t(7), t(7, **_VARIANCE), why_="promotion"),
    ),
    errors=(
        Bad(ShapeError, r"\(5, 1\), target \(5,\)", t(5, 1), t(5), t(5)),
        Bad(ShapeError, r"var has shape \(3,\), input \(5, 3\)", t(5, 3), t(5, 3), t(3)),
        Bad(ArgumentError, "reduction='avg'", t(3), t(3), t(3), reduction="avg"),
        Bad(ArgumentError, "eps=None", t(3), t(3), t(3), eps=None),
    ),
    torch="torch.nn.functional.gaussian_nll_loss",
)
