"""Cards of the losses against class labels or class probabilities. The class axis is axis 1, or the only one."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, need_float
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from ._labels import (
    IGNORED,
    IMAGE,
    LABEL_ERRORS,
    LABEL_SAMPLES,
    LABELS,
    check_ignore,
    check_labels,
    check_weight,
    expand_classes,
    row_weights,
    weighted_mean,
)
from .loss import check_reduction, reduce
from .norm import statistics_dtype

# --- one element per row ----------------------------------------------------------------------------------------------


def _pick_rule(input: Aval, target: Aval, *, ignore_index: int) -> Aval:
    check_labels("pick_class", input, target)
    check_ignore("pick_class", ignore_index)
    return input.with_shape(target.shape)


register(
    name="pick_class",
    doc="""input[n, target[n, …], …]: the labelled element of each row of classes (axis 1 of (N, C, …)).

    0 where the label is `ignore_index`; any other label outside [0, C) is an error.""",
    signature="input, target, ignore_index=-100",
    inputs=("input", "target"),
    rule=_pick_rule,
    vjp=lambda F, at, dy, target: (F.put_class(dy, target, at.ins[0].shape, at.attrs["ignore_index"]), None),
    saves=("target",),
    samples=(
        Sample(t(4, 3), t(4, dtype="int64", fill=(2, 0, 1, -100))),
        Sample(t(4, 3), t(4, dtype="int32", fill=(2, 0, 1, 1)), ignore_index=1),
        Sample(t(4, 3), t(4, dtype="uint8", fill=(2, 0, 1, 1))),
        Sample(t(2, 3, 4, layout="transposed"), t(2, 4, dtype="int16", fill="ints", low=0, high=3, layout="strided")),
        Sample(t(3), t(dtype="int64", fill="ones"), why_="one row"),
        Sample(t(0, 3), t(0, dtype="int64", fill="ints", low=0, high=3)),
        Sample(t(2, 3, 0), t(2, 0, dtype="int64", fill="ints", low=0, high=3)),
        Sample(t(4, 3, dtype="float64"), t(4, dtype="int64", fill=(2, 0, 1, -100))),
    ),
    errors=(
        Bad(IndexRangeError, r"target\[1\] is 3.*3 classes", t(2, 3), t(2, dtype="int64", fill=(0, 3))),
        Bad(IndexRangeError, r"target\[0, 1\] is -1", t(1, 3, 2), t(1, 2, dtype="int64", fill=(0, -1))),
        Bad(ShapeError, r"must have shape \(4,\), got", t(4, 3), t(4, 1, dtype="int64", fill="zeros")),
        Bad(DTypeError, "must be integers", t(4, 3), t(4)),
        Bad(ArgumentError, "ignore_index=1.5", t(4, 3), t(4, dtype="int64", fill="zeros"), ignore_index=1.5),
    ),
    public=False,
    exempt={"pick_class": "gathers one element of each row"},
)

register(
    name="put_class",
    doc="""Zeros of `shape` (N, C, …) with input[n, …] at the labelled class of each row: pick_class transposed.""",
    signature="input, target, shape, ignore_index=-100",
    inputs=("input", "target"),
    rule=lambda input, target, *, shape, ignore_index: input.with_shape(shape),
    vjp=lambda F, at, dy, target: (F.pick_class(dy, target, at.attrs["ignore_index"]), None),
    saves=("target",),
    samples=(
        Sample(t(4), t(4, dtype="int64", fill=(2, 0, 1, -100)), shape=(4, 3)),
        Sample(t(2, 4, layout="transposed"), t(2, 4, dtype="int32", fill="ints", low=0, high=3), shape=(2, 3, 4)),
        Sample(t(), t(dtype="int64", fill="ones"), shape=(3,)),
        Sample(t(0), t(0, dtype="int64", fill="zeros"), shape=(0, 3)),
        Sample(t(4, dtype="float64"), t(4, dtype="int64", fill=(2, 0, 1, -100)), shape=(4, 3)),
    ),
    public=False,
)


# --- nll_loss ---------------------------------------------------------------------------------------------------------


def _nll_rule(input: Aval, target: Aval, weight: Aval | None, *, ignore_index: int, reduction: str) -> Aval:
    check_reduction("nll_loss", reduction)
    need_float("nll_loss", input=input)
    check_labels("nll_loss", input, target)
    check_weight("nll_loss", input, weight)
    check_ignore("nll_loss", ignore_index)
    return input


def _nll(F: Any, input: Any, target: Any, weight: Any, *, ignore_index: int, reduction: str) -> Any:
    x = F.aval(input)
    loss = F.neg(F.pick_class(input, target, ignore_index))
    if weight is None and reduction != "mean":
        return loss if reduction == "none" else F.sum(loss)
    weights = row_weights(F, target, weight, x.shape, x.dtype, ignore_index)
    return weighted_mean(F, loss if weight is None else F.mul(loss, weights), weights, reduction)


register(
    name="nll_loss",
    doc="""-weight[t] · input[n, t] for log-probabilities (N, C, …) or (C,) and labels t (N, …) or ().

    mean: the sum divided by the weights of the labels that are not `ignore_index` (NaN if there is none). Labels may
    have any integer dtype; one outside [0, C) that is not ignored is an error. As torch.nn.functional.nll_loss.
    """,
    signature='input, target, weight=None, ignore_index=-100, reduction="mean"',
    precision="wide",
    inputs=("input", "target", "weight"),
    rule=_nll_rule,
    compose=_nll,
    samples=LABEL_SAMPLES,
    errors=LABEL_ERRORS,
    torch="torch.nn.functional.nll_loss",
)


# --- cross_entropy ----------------------------------------------------------------------------------------------------


def _fused_rule(
    input: Aval, target: Aval, *, ignore_index: int, reduction: str, label_smoothing: float
) -> tuple[Aval, ...]:
    check_labels("cross_entropy", input, target)
    stat = Aval(target.shape, statistics_dtype(input))
    y = target.shape if reduction == "none" else ()
    return input.with_shape(y), stat, stat, stat.with_shape(())


def _fused_vjp(F: Any, at: At, grads: Any, input: Any, target: Any, peak: Any, logsum: Any, count: Any) -> Any:
    if grads[0] is None:
        return None, None
    return F.cross_entropy_labels_bwd(grads[0], input, target, peak, logsum, count, **at.attrs), None


_LOGITS = (("mlp, cnn", 64, 10), ("gpt", 1024, 96), ("large vocabulary", 4096, 32000))  # name, rows, classes
register(
    name="cross_entropy_labels",
    doc="""cross_entropy of logits (N, C, …) and labels (N, …) without class weights, fused.

    Keeps for backward, in float32 (float64 for float64): peak = max over the classes, logsum = log Σ exp(input - peak),
    each of the labels' shape, and count, how many labels are not ignored.
    """,
    signature='input, target, ignore_index=-100, reduction="mean", label_smoothing=0.0',
    inputs=("input", "target"),
    outputs=("y", "peak", "logsum", "count"),
    rule=_fused_rule,
    vjp=_fused_vjp,
    saves=("input", "target", "peak", "logsum", "count"),
    samples=(
        Sample(t(4, 3), LABELS),
        Sample(t(4, 3), IGNORED, reduction="sum", label_smoothing=0.3),
        Sample(t(2, 5, 3, 2, layout="transposed"), IMAGE, reduction="none", label_smoothing=0.1),
        Sample(t(2, 5, 3, 2), t(2, 3, 2, dtype="int32", fill="ints", low=0, high=4, layout="strided"), ignore_index=1),
        Sample(t(4, 3, fill="uniform", low=1e4, high=1e4 + 2), LABELS, why_="no overflow, no loss of precision"),
        Sample(t(4, 3, dtype="bfloat16"), LABELS),
        Sample(t(0, 3), t(0, dtype="int64", fill="zeros"), reduction="sum", why_="no rows"),
        Sample(t(4, 3, dtype="float64"), LABELS, label_smoothing=0.1),
        Sample(
            t(3, 1030), t(3, dtype="int64", fill=(1029, -100, 7)), label_smoothing=0.1, why_="many classes, one ignored"
        ),
    ),
    perf=tuple(Perf(t(n, c), t(n, dtype="int64", fill="ints", low=0, high=c), name_=name) for name, n, c in _LOGITS),
    public=False,
    exempt={"cross_entropy_few": "rows of few classes begin at any element"},
)


def _fused_bwd_vjp(
    F: Any, at: At, c: Any, dy: Any, input: Any, target: Any, peak: Any, logsum: Any, count: Any
) -> tuple[Any, ...]:
    """dx = k · (p - q), linear in dy, with p = softmax(input), q the targets and k = dy, 0 where ignored, / count.

    peak and logsum are functions of the input, so the derivative through them is part of that to the input.
    """
    attrs, x = at.attrs, at.ins[1]
    ddy = dinput = None
    if at.needs[0]:
        one = F.expand(F.const(1, at.ins[0].dtype), at.ins[0].shape)
        terms = F.mul(c, F.cross_entropy_labels_bwd(one, input, target, peak, logsum, count, **attrs))
        ddy = F.sum(terms, 1) if attrs["reduction"] == "none" else F.sum(terms)
    if at.needs[1]:
        k = row_weights(F, target, None, x.shape, x.dtype, attrs["ignore_index"])
        if attrs["reduction"] == "mean":  # with none to count, k is 0 everywhere
            dy = F.div(dy, F.cast(F.maximum(F.detach(count), F.const(1, at.ins[5].dtype)), x.dtype))
        k = F.mul(k, dy)
        kept = (x.shape[0], 1, *x.shape[2:])
        pc = F.mul(F.softmax(input, 1), c)
        through = F.sub(pc, F.mul(F.softmax(input, 1), F.sum(pc, 1, True)))
        dinput = F.mul(through, F.reshape(k, kept))
    return ddy, dinput, None, None, None, None


register(
    name="cross_entropy_labels_bwd",
    doc="""Gradient of cross_entropy_labels: dy · (softmax(input) - q) per row, 0 where the label is ignored.

    q is 1 - label_smoothing at the label plus label_smoothing / C everywhere; for "mean" divided by count.
    """,
    signature="dy, input, target, peak, logsum, count, ignore_index, reduction, label_smoothing",
    inputs=("dy", "input", "target", "peak", "logsum", "count"),
    outputs=("dx",),
    rule=lambda dy, input, *rest, **attrs: input,
    vjp=_fused_bwd_vjp,
    saves=("dy", "input", "target", "peak", "logsum", "count"),
    perf=tuple(
        Perf(
            *(t(), t(n, c), t(n, dtype="int64", fill="ints", low=0, high=c)),
            *(t(n, stat=True), t(n, stat=True), t(stat=True)),
            ignore_index=-100,
            reduction="mean",
            label_smoothing=0.0,
            name_=name,
        )
        for name, n, c in _LOGITS
    ),
    public=False,
)


def _cross_entropy_rule(
    input: Aval, target: Aval, weight: Aval | None, *, ignore_index: int, reduction: str, label_smoothing: float
) -> Aval:
    name = "cross_entropy"
    check_reduction(name, reduction)
    need_float(name, input=input)
    check_ignore(name, ignore_index)
    if (
        isinstance(label_smoothing, bool)
        or not isinstance(label_smoothing, int | float)
        or not 0 <= label_smoothing <= 1
    ):
        raise ArgumentError(f"{name}: label_smoothing={label_smoothing!r} must be from 0 to 1. Use for example 0.1.")
    if target.is_float and target.shape == input.shape and input.ndim:
        if ignore_index >= 0:
            raise ArgumentError(
                f"{name}: ignore_index={ignore_index} has no meaning with class probabilities. Omit it."
            )
        if not input.shape[min(1, input.ndim - 1)]:
            raise ShapeError(f"{name}: the input {input.shape} has no classes. Give it at least one.")
    else:
        check_labels(name, input, target)
    check_weight(name, input, weight)
    return input


def _cross_entropy(
    F: Any, input: Any, target: Any, weight: Any, *, ignore_index: int, reduction: str, label_smoothing: float
) -> Any:
    x = F.aval(input)
    if F.aval(target).is_float:
        return _probabilities(F, input, target, weight, reduction, label_smoothing)
    if weight is not None:
        return _weighted(F, input, target, weight, ignore_index, reduction, label_smoothing)
    if x.ndim > 1:
        return F.cross_entropy_labels(input, target, ignore_index, reduction, label_smoothing)
    y = F.cross_entropy_labels(
        F.reshape(input, (1, x.size)), F.reshape(target, (1,)), ignore_index, reduction, label_smoothing
    )
    return F.reshape(y, ()) if reduction == "none" else y


def _weighted(F: Any, input: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Any:
    """(1-ε) · weight[t] · -log p[t] + (ε/C) · Σ_c weight[c] · -log p[c]; mean: over Σ weight[t]."""
    x = F.aval(input)
    axis = min(1, x.ndim - 1)
    log_p = F.log_softmax(input, axis)
    weights = row_weights(F, target, weight, x.shape, x.dtype, ignore_index)
    loss = F.mul(F.neg(F.pick_class(log_p, target, ignore_index)), weights)
    if smoothing:
        even = F.sum(F.mul(log_p, expand_classes(F, weight, x.shape)), axis, True)
        even = F.pick_class(F.expand(even, x.shape), target, ignore_index)  # 0 where ignored, also of its gradient
        loss = F.add(F.scale(loss, 1 - smoothing), F.scale(even, -smoothing / x.shape[axis]))
    return weighted_mean(F, loss, weights, reduction)


def _probabilities(F: Any, input: Any, target: Any, weight: Any, reduction: str, smoothing: float) -> Any:
    """-Σ_c weight[c] · target[c] · log p[c]; mean: over the number of rows."""
    x = F.aval(input)
    axis = min(1, x.ndim - 1)
    if smoothing:
        even = F.const(smoothing / x.shape[axis], F.aval(target).dtype)
        target = F.add(F.scale(target, 1 - smoothing), even)
    terms = F.mul(F.log_softmax(input, axis), target)
    if weight is not None:
        terms = F.mul(terms, expand_classes(F, weight, x.shape))
    return reduce(F, F.neg(F.sum(terms, axis)), reduction)


_SIMPLEX = {"fill": "uniform", "low": 0.0, "high": 0.5}

register(
    name="cross_entropy",
    doc="""-log softmax(input)[t] for logits (N, C, …) or (C,) and labels t (N, …) or (); or class probabilities.

    A floating-point target of the input's shape holds probabilities, else labels of any integer dtype; one outside
    [0, C) that is not `ignore_index` is an error. weight (C,): a factor per class. label_smoothing ε: the target is
    (1-ε) · target + ε/C. mean: for labels over the weights of those not ignored (NaN if there is none), for
    probabilities over the rows. As torch.nn.functional.cross_entropy.
    """,
    signature='input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0',
    precision="wide",
    inputs=("input", "target", "weight"),
    rule=_cross_entropy_rule,
    compose=_cross_entropy,
    samples=(
        *LABEL_SAMPLES,
        Sample(t(4, 3), IGNORED, label_smoothing=0.2),
        Sample(t(2, 5, 3, 2), IMAGE, reduction="none", label_smoothing=1.0),
        Sample(t(4, 3), IGNORED, t(3, fill="uniform", low=0.5, high=2.0), label_smoothing=0.2),
        Sample(t(4, 3, fill=(50.0, -1e4, 1e4)), LABELS, reduction="none", why_="far apart"),
        Sample(t(2, 3, fill=((1.0, float("-inf"), 0.0),)), t(2, dtype="int64", fill=(0, 2)), grad_=False),
        Sample(t(2, 3, fill=((1.0, float("nan"), 0.0),)), t(2, dtype="int64", fill=(0, 2)), grad_=False),
        Sample(t(4, 3), t(4, 3, **_SIMPLEX), why_="probabilities"),
        Sample(t(4, 3), t(4, 3, **_SIMPLEX), t(3), reduction="sum", label_smoothing=0.1),
        Sample(t(2, 5, 3, 2), t(2, 5, 3, 2, **_SIMPLEX), reduction="none"),
        Sample(t(3), t(3, **_SIMPLEX), why_="probabilities without a batch axis"),
        Sample(t(5, 4, layout="transposed"), t(5, 4, layout="strided", **_SIMPLEX)),
    ),
    errors=(
        *LABEL_ERRORS,
        Bad(ArgumentError, "label_smoothing=1.5", t(4, 3), LABELS, label_smoothing=1.5),
        Bad(ArgumentError, "no meaning with class probabilities", t(4, 3), t(4, 3), ignore_index=0),
        Bad(DTypeError, r"must be integers.*input's shape \(4, 3\)", t(4, 3), t(4, 1)),
    ),
    torch="torch.nn.functional.cross_entropy",
)
