"""Cards of the losses that compare two arrays element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import Aval, broadcast_shapes, need_float
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(name: str, reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"{name}: reduction={reduction!r} is not known. Use 'none', 'mean' or 'sum'.")


def check_same_shape(name: str, **avals: Aval) -> None:
    """Raise unless all have the shape of the first: a loss never broadcasts."""
    (first, a), *rest = avals.items()
    for other, b in rest:
        if a.shape != b.shape:
            raise ShapeError(
                f"{name}: {first} has shape {a.shape}, {other} {b.shape}. A loss does not broadcast: "
                f"give both one shape, for example with gt.reshape({other}, {a.shape})."
            )


def check_pair(name: str, input: Aval, target: Aval) -> None:
    """Raise unless both have one shape and a floating-point dtype."""
    need_float(name, input=input, target=target)
    check_same_shape(name, input=input, target=target)


def check_number(name: str, option: str, value: Any) -> None:
    """Raise `ArgumentError` unless the option is a plain number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentError(f"{name}: {option}={value!r} must be a number. Use for example 1.0.")


def reduce(F: Any, loss: Any, reduction: str) -> Any:
    """The losses, their sum, or their mean (NaN of none)."""
    if reduction == "none":
        return loss
    total, n = F.sum(loss), F.aval(loss).size
    return total if reduction == "sum" else F.mul(total, F.const(1 / n if n else float("nan"), F.aval(loss).dtype))


def per_element(F: Any, at: At, dy: Any) -> Any:
    """The cotangent of each element's loss, from that of the reduced one; it broadcasts against the elements."""
    n = at.ins[0].size
    return F.scale(dy, 1 / n) if at.attrs["reduction"] == "mean" and n else dy


# --- distances --------------------------------------------------------------------------------------------------------


def _distance(name: str, formula: str, slope: Callable[..., Any], option: str | None = None, **fields: Any) -> None:
    """A loss that is a function of input - target; `slope(F, difference, option)` is its derivative."""

    def rule(input: Aval, target: Aval, *, reduction: str, **options: float) -> Aval:
        check_reduction(name, reduction)
        check_pair(name, input, target)
        if option is not None:
            value, low = options[option], fields["low"]
            if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 or value == low == 0):
                raise ArgumentError(f"{name}: {option}={value!r} must be a number above 0. Use for example 1.0.")
        return input if reduction == "none" else input.with_shape(())

    def vjp(F: Any, at: At, dy: Any, input: Any, target: Any) -> Any:
        g = F.mul(slope(F, F.sub(input, target), at.attrs.get(option or "")), per_element(F, at, dy))
        return g if at.needs[0] else None, F.neg(g) if at.needs[1] else None

    register(
        name=name,
        doc=f"""{formula}, d = input - target; averaged, summed or left as they are, by `reduction`.

    Both inputs have one shape (no broadcasting); each that requires a gradient gets one. The mean of nothing is NaN.
    As torch.nn.functional.{name}.""",
        signature='input, target, reduction="mean"' + (f", {option}=1.0" if option else ""),
        precision="wide",
        inputs=("input", "target"),
        promotes=("input", "target"),
        rule=rule,
        vjp=vjp,
        saves=("input", "target"),
        samples=(
            Sample(t(5, 3), t(5, 3)),
            Sample(t(5, 3), t(5, 3), reduction="sum"),
            Sample(t(5, 3), t(5, 3), reduction="none"),
            Sample(t(), t(), why_="scalars"),
            Sample(t(0, 3), t(0, 3), reduction="sum", why_="no elements"),
            Sample(t(0, 3), t(0, 3), grad_=False, why_="the mean of nothing is NaN"),
            Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided")),
            Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), reduction="none"),
            Sample(t(6, dtype="float64"), t(6), why_="promotion"),
            Sample(t(7, dtype="bfloat16"), t(7, dtype="bfloat16"), grad_=False, why_="rounded once"),
            Sample(t(3, fill=(1.0, float("nan"), float("inf"))), t(3), reduction="none", grad_=False),
            *fields.get("samples", ()),
        ),
        errors=(
            Bad(ShapeError, r"\(5, 1\), target \(5,\).*reshape", t(5, 1), t(5)),
            Bad(ShapeError, "does not broadcast", t(5, 3), t(3)),
            Bad(ArgumentError, "reduction='average'", t(3), t(3), reduction="average"),
            Bad(ArgumentError, "reduction=None", t(3), t(3), reduction=None),
            Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"), t(3, dtype="int64", fill="ones")),
            *fields.get("errors", ()),
        ),
        perf=(Perf(t(64, 10), t(64, 10)), Perf(t(1024, 128), t(1024, 128))),
        torch=f"torch.nn.functional.{name}",
    )


def _clamped(F: Any, d: Any, width: float) -> Any:
    return F.clamp(d, -width, width) if width else F.sign(d)


_distance("mse_loss", "d²", lambda F, d, _: F.scale(d, 2.0))
_distance("l1_loss", "|d|", lambda F, d, _: F.sign(d))
_distance(
    "smooth_l1_loss",
    "d²/(2·beta) where |d| < beta, else |d| - beta/2",
    lambda F, d, beta: F.scale(_clamped(F, d, beta), 1 / beta) if beta else F.sign(d),
    "beta",
    low=0,
    samples=(Sample(t(5, 3), t(5, 3), beta=0.5), Sample(t(5, 3), t(5, 3), beta=0, reduction="none")),
    errors=(Bad(ArgumentError, "beta=-1", t(3), t(3), beta=-1),),
)
_distance(
    "huber_loss",
    "d²/2 where |d| <= delta, else delta·(|d| - delta/2)",
    lambda F, d, delta: _clamped(F, d, delta),
    "delta",
    low=None,
    samples=(Sample(t(5, 3), t(5, 3), delta=0.5), Sample(t(5, 3), t(5, 3), delta=2, reduction="none")),
    errors=(Bad(ArgumentError, "delta=0", t(3), t(3), delta=0),),
)


# --- binary cross entropy ---------------------------------------------------------------------------------------------


def _check_weight(name: str, input: Aval, **weights: Aval | None) -> None:
    for key, a in weights.items():
        if a is not None and broadcast_shapes(name, a.shape, input.shape) != input.shape:
            raise ShapeError(
                f"{name}: {key} has shape {a.shape}, which does not broadcast to the input's {input.shape}. "
                "Give it a shape that does."
            )


def _logits_rule(input: Aval, target: Aval, weight: Aval | None, pos_weight: Aval | None, *, reduction: str) -> Aval:
    name = "binary_cross_entropy_with_logits"
    check_reduction(name, reduction)
    check_pair(name, input, target)
    _check_weight(name, input, weight=weight, pos_weight=pos_weight)
    return input if reduction == "none" else input.with_shape(())


def _to(F: Any, g: Any, aval: Aval) -> Any:
    """A gradient summed over what was broadcast."""
    return g if F.aval(g) is aval else F.sum_to(g, aval.shape)


def _logits_vjp(F: Any, at: At, dy: Any, input: Any, target: Any, weight: Any, pos_weight: Any) -> Any:
    """With s = σ(x) and p = softplus(-x), the loss is w·((1-t)·x + (1 + (q-1)·t)·p); p' = s - 1."""
    x, _, w_, q_ = at.ins
    one = F.const(1, x.dtype)
    k = per_element(F, at, dy)
    if F.aval(k).shape != x.shape:
        k = F.expand(k, x.shape)
    kw = k if weight is None else F.mul(k, weight)
    s = F.sigmoid(input)
    more = None if pos_weight is None else F.sub(pos_weight, one)
    p = F.softplus(F.neg(input)) if any(at.needs[1:]) else None
    dx = dt = dw = dq = None
    if at.needs[0]:
        slope = F.sub(s, target)
        if more is not None:  # (1-t) + (1 + (q-1)·t)·(s-1) = s - t + (q-1)·t·(s-1)
            slope = F.add(slope, F.mul(F.mul(more, target), F.sub(s, one)))
        dx = F.mul(kw, slope)
    if at.needs[1]:
        slope = F.neg(input) if more is None else F.sub(F.mul(more, p), input)
        dt = F.mul(kw, slope)
    if at.needs[2]:
        loss = F.add(F.mul(F.sub(one, target), input), p)
        if more is not None:
            loss = F.add(loss, F.mul(F.mul(more, target), p))
        dw = _to(F, F.mul(k, loss), w_)
    if at.needs[3]:
        dq = _to(F, F.mul(kw, F.mul(target, p)), q_)
    return dx, dt, dw, dq


_PROBABILITY = {"fill": "uniform", "low": 0.2, "high": 0.8}

register(
    name="binary_cross_entropy_with_logits",
    doc="""weight · ((1-t)·x + (1 + (pos_weight-1)·t) · log(1 + exp(-x))) for logits x and targets t, without overflow.

    input and target have one shape; weight and pos_weight broadcast to it. Averaged over all elements, summed or left,
    by `reduction`. As torch.nn.functional.binary_cross_entropy_with_logits.
    """,
    signature='input, target, weight=None, reduction="mean", pos_weight=None',
    precision="wide",
    inputs=("input", "target", "weight", "pos_weight"),
    promotes=("input", "target", "weight", "pos_weight"),
    rule=_logits_rule,
    vjp=_logits_vjp,
    saves=("input", "target", "weight", "pos_weight"),
    samples=(
        Sample(t(5, 3), t(5, 3, **_PROBABILITY)),
        Sample(t(5, 3), t(5, 3, **_PROBABILITY), reduction="sum"),
        Sample(t(5, 3), t(5, 3, **_PROBABILITY), reduction="none"),
        Sample(t(5, 3), t(5, 3, **_PROBABILITY), t(3), why_="a gradient to weight"),
        Sample(t(5, 3), t(5, 3, **_PROBABILITY), t(5, 3), t(3), reduction="none"),
        Sample(t(5, 3), t(5, 3, **_PROBABILITY), None, t(1, 3), why_="a gradient to pos_weight"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided")),
        Sample(t(0, 3), t(0, 3), grad_=False, why_="the mean of nothing is NaN"),
        Sample(t(4, fill=(200.0, -200.0, 1e30, -1e30)), t(4, fill=(0.0, 1.0, 1.0, 0.0)), reduction="none", grad_=False),
        Sample(t(7, dtype="float64"), t(7, **_PROBABILITY), why_="promotion"),
    ),
    errors=(
        Bad(ShapeError, r"\(5, 1\), target \(5,\)", t(5, 1), t(5)),
        Bad(ShapeError, "does not broadcast to", t(3), t(3), t(5, 3)),
        Bad(ShapeError, "do not broadcast", t(5, 3), t(5, 3), None, t(4)),
        Bad(ArgumentError, "reduction='avg'", t(3), t(3), reduction="avg"),
        Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"), t(3, dtype="int64", fill="ones")),
    ),
    perf=(Perf(t(1024, 10), t(1024, 10)),),
    torch="torch.nn.functional.binary_cross_entropy_with_logits",
)


def _bce_rule(input: Aval, target: Aval, weight: Aval | None, *, reduction: str) -> Aval:
    check_reduction("binary_cross_entropy", reduction)
    check_pair("binary_cross_entropy", input, target)
    _check_weight("binary_cross_entropy", input, weight=weight)
    return input if reduction == "none" else input.with_shape(())


def _bce_vjp(F: Any, at: At, dy: Any, input: Any, target: Any, weight: Any) -> Any:
    one = F.const(1, at.ins[0].dtype)
    k = per_element(F, at, dy)
    if F.aval(k).shape != at.ins[0].shape:
        k = F.expand(k, at.ins[0].shape)
    kw = k if weight is None else F.mul(k, weight)
    rest = F.sub(one, input)
    dx = dt = dw = None
    if at.needs[0]:
        dx = F.div(F.mul(kw, F.sub(input, target)), F.clamp(F.mul(rest, input), 1e-12))
    if at.needs[1] or at.needs[2]:
        log_p, log_q = F.clamp(F.log(input), -100.0), F.clamp(F.log(rest), -100.0)
        dt = F.mul(kw, F.sub(log_q, log_p)) if at.needs[1] else None
    if at.needs[2]:
        loss = F.neg(F.add(F.mul(target, log_p), F.mul(F.sub(one, target), log_q)))
        dw = _to(F, F.mul(k, loss), at.ins[2])
    return dx, dt, dw


register(
    name="binary_cross_entropy",
    doc="""-weight · (t · log p + (1-t) · log(1-p)) for probabilities p and targets t; each logarithm is at least -100.

    input and target have one shape; weight broadcasts to it. A p outside [0, 1] is an error. The gradient to p divides
    by max(p·(1-p), 1e-12). Averaged over all elements, summed or left, by `reduction`. As
    torch.nn.functional.binary_cross_entropy; prefer the form with logits.
    """,
    signature='input, target, weight=None, reduction="mean"',
    precision="wide",
    inputs=("input", "target", "weight"),
    promotes=("input", "target", "weight"),
    rule=_bce_rule,
    vjp=_bce_vjp,
    saves=("input", "target", "weight"),
    samples=(
        Sample(t(5, 3, **_PROBABILITY), t(5, 3, **_PROBABILITY)),
        Sample(t(5, 3, **_PROBABILITY), t(5, 3, **_PROBABILITY), reduction="sum"),
        Sample(t(5, 3, **_PROBABILITY), t(5, 3, **_PROBABILITY), t(3), reduction="none"),
        Sample(t(4, 6, layout="transposed", **_PROBABILITY), t(4, 6, layout="strided", **_PROBABILITY)),
        Sample(
            t(4, fill=(0.0, 1.0, 0.0, 1.0)),
            t(4, fill=(0.0, 1.0, 1.0, 0.0)),
            reduction="none",
            grad_=False,
            torch_=False,
            why_="the gradient to the target stays finite, as the clamped loss is linear in it",
        ),
        Sample(t(0, 3), t(0, 3), reduction="sum"),
        Sample(t(7, dtype="float64", **_PROBABILITY), t(7, dtype="float64", **_PROBABILITY)),
    ),
    errors=(
        Bad(ArgumentError, r"is 1.5, which is not in \[0, 1\]", t(3, fill=(0.5, 1.5, 0.0)), t(3)),
        Bad(ArgumentError, r"is nan, which is not in \[0, 1\]", t(3, fill=(0.5, float("nan"), 0.0)), t(3)),
        Bad(ShapeError, r"\(5, 1\), target \(5,\)", t(5, 1), t(5)),
        Bad(ArgumentError, "reduction='avg'", t(3), t(3), reduction="avg"),
        Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"), t(3, dtype="int64", fill="ones")),
    ),
    perf=(Perf(t(1024, 128, **_PROBABILITY), t(1024, 128, **_PROBABILITY)),),
    torch="torch.nn.functional.binary_cross_entropy",
)
