"""Cards of the losses with a margin: against ±1, between scores, and between classes."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, need_float, need_float_yet
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError, UnsupportedError
from ..registry import register
from ..samples import Bad, Sample, t
from ._labels import check_labels
from .index import ids, need_index
from .loss import check_number, check_reduction, check_same_shape, reduce

NAN = float("nan")
_SIGNS = t(5, 3, fill=((1.0, -1.0, 1.0),))
_INT_SIGNS = t(5, 3, dtype="int64", fill=((1, -1, 1),))
INTS = t(3, dtype="int64", fill="ones")


def _scalar(F: Any, x: Any, value: float) -> Any:
    """A number of the dtype of `x`."""
    return F.const(value, F.aval(x).dtype)


def _hinge(F: Any, x: Any) -> Any:
    """max(x, 0), with a gradient of 1 at 0."""
    return F.clamp(x, 0.0)


def _pair_rule(name: str) -> Any:
    def rule(input: Aval, target: Aval, *, reduction: str, margin: float = 0.0) -> Aval:
        check_reduction(name, reduction)
        check_number(name, "margin", margin)
        need_float(name, input=input)
        check_same_shape(name, input=input, target=target)
        return input

    return rule


def _pair_errors() -> tuple[Bad, ...]:
    return (
        Bad(ShapeError, r"input has shape \(5, 1\), target \(5,\).*reshape", t(5, 1), t(5)),
        Bad(ShapeError, "does not broadcast", t(5, 3), t(3)),
        Bad(ArgumentError, "reduction='avg'", t(3), t(3), reduction="avg"),
        Bad(DTypeError, "floating-point", INTS, INTS),
    )


# --- against +1 and -1 ------------------------------------------------------------------------------------------------


def _hinge_embedding(F: Any, input: Any, target: Any, *, margin: float, reduction: str) -> Any:
    apart = _hinge(F, F.sub(_scalar(F, input, margin), input))
    apart = F.masked_fill(apart, F.eq(target, _scalar(F, target, 1)), 0.0)
    near = F.masked_fill(input, F.eq(target, _scalar(F, target, -1)), 0.0)
    return reduce(F, F.add(apart, near), reduction)


register(
    name="hinge_embedding_loss",
    doc="""input where target is 1, max(0, margin - input) where it is -1 (and their sum where it is neither).

    Both have one shape. As torch.nn.functional.hinge_embedding_loss.
    """,
    signature='input, target, margin=1.0, reduction="mean"',
    inputs=("input", "target"),
    promotes=("input", "target"),
    rule=_pair_rule("hinge_embedding_loss"),
    compose=_hinge_embedding,
    precision="wide",
    samples=(
        Sample(t(5, 3), _INT_SIGNS),
        Sample(t(5, 3), _INT_SIGNS, margin=0.3, reduction="sum"),
        Sample(t(5, 3), _SIGNS, margin=2, reduction="none", grad_=False, why_="a target of floats"),
        Sample(t(3), t(3, fill=(0.0, 2.0, -0.5)), reduction="none", why_="neither 1 nor -1: both terms"),
        Sample(
            t(3, fill=(1.0, NAN, NAN)), t(3, fill=(-1.0, 1.0, -1.0)), reduction="none", grad_=False, why_="the kink"
        ),
        Sample(t(), t(dtype="int32", fill="ones")),
        Sample(t(0, 3), t(0, 3), grad_=False, why_="the mean of nothing is NaN"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, dtype="int64", fill=-1, layout="strided")),
        Sample(t(7, dtype="float64"), t(7, fill=0.0), why_="promotion"),
    ),
    errors=(*_pair_errors(), Bad(ArgumentError, "margin='a'", t(3), t(3), margin="a")),
    torch="torch.nn.functional.hinge_embedding_loss",
)


register(
    name="soft_margin_loss",
    doc="""log(1 + exp(-target · input)) for targets ±1, without overflow.

    Both have one shape. As torch.nn.functional.soft_margin_loss, which gives inf where -target · input is large.
    """,
    signature='input, target, reduction="mean"',
    inputs=("input", "target"),
    promotes=("input", "target"),
    rule=_pair_rule("soft_margin_loss"),
    compose=lambda F, input, target, *, reduction: reduce(F, F.neg(F.logsigmoid(F.mul(target, input))), reduction),
    precision="wide",
    samples=(
        Sample(t(5, 3), _SIGNS),
        Sample(t(5, 3), _INT_SIGNS, reduction="sum"),
        Sample(t(5, 3), t(5, 3), reduction="none", why_="a gradient to the target"),
        Sample(t(2, fill=(200.0, -200.0)), t(2, fill=-1.0), reduction="none", torch_=False, why_="PyTorch overflows"),
        Sample(t(), t(fill="ones")),
        Sample(t(0, 3), t(0, 3), grad_=False, why_="the mean of nothing is NaN"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, fill=-1.0, layout="strided")),
        Sample(t(7, dtype="float64"), t(7, fill=-1.0), why_="promotion"),
    ),
    errors=_pair_errors(),
    torch="torch.nn.functional.soft_margin_loss",
)


# --- between two scores -----------------------------------------------------------------------------------------------


def _ranking_rule(input1: Aval, input2: Aval, target: Aval, *, margin: float, reduction: str) -> Aval:
    name = "margin_ranking_loss"
    check_reduction(name, reduction)
    check_number(name, "margin", margin)
    need_float_yet(name, input1=input1)
    check_same_shape(name, input1=input1, input2=input2, target=target)
    return input1


def _ranking(F: Any, input1: Any, input2: Any, target: Any, *, margin: float, reduction: str) -> Any:
    lead = F.mul(F.neg(target), F.sub(input1, input2))
    return reduce(F, _hinge(F, F.add(lead, _scalar(F, lead, margin))), reduction)


register(
    name="margin_ranking_loss",
    doc="""max(0, margin - target · (input1 - input2)): target 1 wants input1 the larger, -1 input2.

    All three have one shape. As torch.nn.functional.margin_ranking_loss.
    """,
    signature='input1, input2, target, margin=0, reduction="mean"',
    inputs=("input1", "input2", "target"),
    promotes=("input1", "input2", "target"),
    rule=_ranking_rule,
    compose=_ranking,
    precision="wide",
    samples=(
        Sample(t(5, 3), t(5, 3), _SIGNS),
        Sample(t(5, 3), t(5, 3), _INT_SIGNS, margin=1.5, reduction="sum"),
        Sample(t(5, 3), t(5, 3), t(5, 3), margin=-0.2, reduction="none", why_="a gradient to the target"),
        Sample(t(3, fill=(1.0, NAN, 2.0)), t(3, fill=(1.0, 0.0, 2.5)), t(3, fill="ones"), margin=0.5, grad_=False),
        Sample(t(2, fill="ones"), t(2, fill="ones"), t(2, fill="ones"), grad_=False, why_="the kink"),
        Sample(t(0, 3), t(0, 3), t(0, 3), reduction="sum"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), t(4, 6, fill=-1.0, layout="flipped")),
        Sample(t(7, dtype="float64"), t(7), t(7, fill=-1.0), why_="promotion"),
    ),
    errors=(
        Bad(ShapeError, r"input1 has shape \(5,\), target \(5, 1\)", t(5), t(5), t(5, 1)),
        Bad(ShapeError, r"input1 has shape \(5,\), input2 \(1,\)", t(5), t(1), t(5)),
        Bad(ArgumentError, "reduction='avg'", t(3), t(3), t(3), reduction="avg"),
        Bad(ArgumentError, "margin=None", t(3), t(3), t(3), margin=None),
        Bad(UnsupportedError, "floating-point", INTS, INTS, INTS),
    ),
    torch="torch.nn.functional.margin_ranking_loss",
)


# --- between classes --------------------------------------------------------------------------------------------------

NO_LABEL = -(2**63)  # an ignore_index that ignores no label


def _check_matrix(name: str, input: Aval) -> None:
    need_float(name, input=input)
    if input.ndim > 2 or 0 in input.shape[-1:]:
        raise ShapeError(f"{name}: the input has shape {input.shape}, but (N, C) or (C,) with C > 0 is needed.")


def _rows(F: Any, x: Any) -> Any:
    """(N, C) of an (N, C), (C,) or () array."""
    a = F.aval(x)
    return x if a.ndim == 2 else F.reshape(x, (1, a.size))


def _above_zero(F: Any, x: Any, among: Any) -> Any:
    """x where it is above 0 and `among` holds, else 0, also for NaN, as PyTorch's losses between classes have it."""
    return F.where(F.logical_and(among, F.gt(x, _scalar(F, x, 0))), x, _scalar(F, x, 0))


def _reduced_rows(F: Any, input: Any, loss: Any, reduction: str) -> Any:
    return F.reshape(loss, ()) if reduction == "none" and F.aval(input).ndim < 2 else reduce(F, loss, reduction)


def _multi_margin_rule(
    input: Aval, target: Aval, weight: Aval | None, *, p: int, margin: float, reduction: str
) -> Aval:
    name = "multi_margin_loss"
    check_reduction(name, reduction)
    check_number(name, "margin", margin)
    if isinstance(p, bool) or p not in (1, 2):
        raise ArgumentError(f"{name}: p={p!r} is not supported. Use 1 or 2.")
    _check_matrix(name, input)
    one = input.ndim < 2 and target.shape in ((), (1,))
    check_labels(name, input.with_shape(input.shape or (1,)), target.with_shape(()) if one else target)
    if weight is not None:
        need_float(name, weight=weight)
        if weight.shape != (input.shape[-1:] or (1,)):
            raise ShapeError(f"{name}: weight has shape {weight.shape}. Give one factor per class: {input.shape[-1:]}.")
    return input


def _multi_margin(F: Any, input: Any, target: Any, weight: Any, *, p: int, margin: float, reduction: str) -> Any:
    x = _rows(F, input)
    n, classes = F.aval(x).shape
    label = F.reshape(target, (n,))
    others = F.logical_not(F.cast(F.one_hot_of(label, classes), "bool"))
    own = F.reshape(F.pick_class(x, label, NO_LABEL), (n, 1))
    z = _above_zero(F, F.add(F.sub(x, own), _scalar(F, x, margin)), others)
    loss = F.scale(F.sum(z if p == 1 else F.square(z), 1), 1 / classes)
    if weight is not None:
        loss = F.mul(loss, F.index_select(weight, 0, label))
    return _reduced_rows(F, input, loss, reduction)


_LABELS = t(4, dtype="int64", fill=(2, 0, 1, 2))

register(
    name="multi_margin_loss",
    doc="""weight[t] · Σ max(0, margin - input[t] + input[j])ᵖ / C over the classes j ≠ t, for scores (N, C) or (C,).

    Labels t (N) or () are integers of any width in [0, C); p is 1 or 2; the mean is over the samples. A term that is
    NaN counts as 0, as in PyTorch. As torch.nn.functional.multi_margin_loss.
    """,
    signature='input, target, p=1, margin=1.0, weight=None, reduction="mean"',
    inputs=("input", "target", "weight"),
    rule=_multi_margin_rule,
    compose=_multi_margin,
    precision="wide",
    samples=(
        Sample(t(4, 3), _LABELS),
        Sample(t(4, 3), _LABELS, p=2, margin=0.4, reduction="sum"),
        Sample(t(4, 3), _LABELS, t(3), p=2, reduction="none", why_="a gradient to the weight"),
        Sample(t(3), t(dtype="int64", fill="ones"), reduction="none", why_="one sample without a batch axis"),
        Sample(t(3), t(dtype="int64", fill="ones"), t(3)),
        Sample(t(3), t(1, dtype="int64", fill="ones"), why_="one sample, its label with an axis"),
        Sample(t(), t(dtype="int64", fill="zeros"), why_="one score: 0"),
        Sample(t(4, 1), t(4, dtype="int64", fill="zeros"), why_="one class: 0"),
        Sample(t(2, 3, fill=((2.0, 1.0, 3.0),)), t(2, dtype="int64", fill="zeros"), grad_=False, why_="the kink"),
        Sample(t(2, 3, fill=((0.0, NAN, 1.0),)), t(2, dtype="int64", fill=(0, 1)), grad_=False),
        Sample(t(5, 4, layout="transposed"), t(5, dtype="int64", fill=(3, 0, 1, 2, 0), layout="strided")),
        Sample(t(4, 3, dtype="float64"), _LABELS),
        Sample(t(0, 3), t(0, dtype="int64", fill="zeros"), reduction="none", why_="no samples"),
    ),
    errors=(
        Bad(IndexRangeError, "3 .*size 3", t(2, 3), t(2, dtype="int64", fill=(0, 3))),
        Bad(ShapeError, r"labels must have shape \(4,\)", t(4, 3), t(4, 1, dtype="int64", fill="zeros")),
        Bad(ShapeError, r"\(N, C\)", t(2, 4, 3), t(2, 3, dtype="int64", fill="zeros")),
        Bad(ShapeError, r"weight has shape \(4,\)", t(4, 3), _LABELS, t(4)),
        Bad(DTypeError, "must be integers", t(4, 3), t(4)),
        Bad(ArgumentError, "p=3", t(4, 3), _LABELS, p=3),
        Bad(ArgumentError, "reduction='avg'", t(4, 3), _LABELS, reduction="avg"),
    ),
    torch="torch.nn.functional.multi_margin_loss",
)


def _multilabel_margin_rule(input: Aval, target: Aval, *, reduction: str) -> Aval:
    name = "multilabel_margin_loss"
    check_reduction(name, reduction)
    _check_matrix(name, input)
    need_index(name, target=target)
    check_same_shape(name, input=input, target=target)
    return input


def _multilabel_margin(F: Any, input: Any, target: Any, *, reduction: str) -> Any:
    """Over all pairs (slot k of the target, class i) of an (N, C, C) array."""
    x, labels = _rows(F, input), F.cast(_rows(F, target), "int64")
    n, classes = F.aval(x).shape
    listed = F.eq(F.cumsum(F.lt(labels, F.const(0, "int64")), 1), F.const(0, "int64"))  # before the first negative
    labels = F.where(listed, labels, F.const(0, "int64"))
    listed = F.reshape(listed, (n, classes, 1))
    is_label = F.logical_and(F.cast(F.one_hot_of(labels, classes), "bool"), listed)
    others = F.logical_not(F.any(is_label, 1, True))
    own = F.reshape(F.gather(x, 1, labels), (n, classes, 1))
    gap = F.sub(_scalar(F, x, 1), F.sub(own, F.reshape(x, (n, 1, classes))))
    loss = F.scale(F.sum(_above_zero(F, gap, F.logical_and(listed, others)), (1, 2)), 1 / classes)
    return _reduced_rows(F, input, loss, reduction)


register(
    name="multilabel_margin_loss",
    doc="""Σ max(0, 1 - (input[t] - input[i])) / C over the labels t and the classes i that are no label.

    input (N, C) or (C,); target, integers of that shape, lists the labels of each sample up to the first negative
    number. The mean is over the samples. A term that is NaN counts as 0. Takes memory for N·C² numbers. As
    torch.nn.functional.multilabel_margin_loss.
    """,
    signature='input, target, reduction="mean"',
    inputs=("input", "target"),
    rule=_multilabel_margin_rule,
    compose=_multilabel_margin,
    precision="wide",
    samples=(
        Sample(t(3, 4), t(3, 4, dtype="int64", fill=((3, 0, -1, 1), (2, -1, -1, -1), (-1, 0, 1, 2)))),
        Sample(
            t(2, 3), t(2, 3, dtype="int64", fill=((0, 1, 2), (1, 1, -1))), reduction="none", why_="all, and one twice"
        ),
        Sample(t(4), t(4, dtype="int64", fill=(2, 1, -1, 0)), reduction="none", why_="one sample without a batch axis"),
        Sample(t(4), t(4, dtype="int64", fill=(2, 1, -1, 0)), reduction="sum"),
        Sample(t(), t(dtype="int64", fill="zeros"), why_="one score: 0"),
        Sample(t(2, 3, fill=(2.0, 1.0, 3.0)), t(2, 3, dtype="int64", fill=(0, -1, -1)), grad_=False, why_="the kink"),
        Sample(t(1, 3, fill=(0.0, NAN, 1.0)), t(1, 3, dtype="int64", fill=(0, -1, -1)), grad_=False),
        Sample(t(2, 3, layout="transposed"), t(2, 3, dtype="int64", fill=(1, -1, 0), layout="strided")),
        Sample(t(2, 3, dtype="float64"), t(2, 3, dtype="int64", fill=(1, -1, 0))),
        Sample(t(0, 3), t(0, 3, dtype="int64", fill="zeros"), reduction="none", why_="no samples"),
    ),
    errors=(
        Bad(IndexRangeError, "3 .*size 3", t(2, 3), t(2, 3, dtype="int64", fill=(0, 3, -1))),
        Bad(ShapeError, r"input has shape \(2, 3\), target \(2, 2\)", t(2, 3), ids(2, 2, high=3)),
        Bad(ShapeError, r"\(N, C\)", t(2, 2, 3), ids(2, 2, 3, high=3)),
        Bad(DTypeError, "integers are needed", t(2, 3), t(2, 3)),
        Bad(ArgumentError, "reduction='avg'", t(2, 3), ids(2, 3, high=3), reduction="avg"),
    ),
    torch="torch.nn.functional.multilabel_margin_loss",
)


def _multilabel_soft_rule(input: Aval, target: Aval, weight: Aval | None, *, reduction: str) -> Aval:
    name = "multilabel_soft_margin_loss"
    check_reduction(name, reduction)
    need_float(name, input=input)
    check_same_shape(name, input=input, target=target)
    if not input.ndim or not input.shape[-1]:
        raise ShapeError(f"{name}: the input has shape {input.shape}, but (…, C) with C > 0 is needed.")
    if weight is not None and weight.shape not in (input.shape[-1:], (1,), (), input.shape):
        raise ShapeError(f"{name}: weight has shape {weight.shape}. Give one factor per class: {input.shape[-1:]}.")
    return input


def _multilabel_soft(F: Any, input: Any, target: Any, weight: Any, *, reduction: str) -> Any:
    classes = F.aval(input).shape[-1]
    absent = F.sub(_scalar(F, target, 1), target)
    loss = F.add(F.mul(target, F.logsigmoid(input)), F.mul(absent, F.logsigmoid(F.neg(input))))
    if weight is not None:
        loss = F.mul(loss, weight)
    return reduce(F, F.scale(F.sum(loss, -1), -1 / classes), reduction)


_PRESENT = t(5, 3, fill=((1.0, 0.0, 1.0),))

register(
    name="multilabel_soft_margin_loss",
    doc="""Binary cross entropy of logits (…, C) against targets in [0, 1] of that shape, averaged over the classes.

    weight: one factor per class. The mean is over the samples. As
    torch.nn.functional.multilabel_soft_margin_loss.
    """,
    signature='input, target, weight=None, reduction="mean"',
    inputs=("input", "target", "weight"),
    promotes=("input", "target", "weight"),
    rule=_multilabel_soft_rule,
    compose=_multilabel_soft,
    precision="wide",
    samples=(
        Sample(t(5, 3), _PRESENT),
        Sample(t(5, 3), _PRESENT, t(3), reduction="sum"),
        Sample(t(5, 3), t(5, 3), t(5, 3), reduction="none", why_="gradients to all three"),
        Sample(t(3), t(3, dtype="int64", fill=(1, 0, 1)), reduction="none", why_="one sample without a batch axis"),
        Sample(t(2, 2, fill=(200.0, -200.0)), t(2, 2, fill=((0.0, 1.0), (1.0, 0.0))), reduction="none", why_="far off"),
        Sample(t(0, 3), t(0, 3), grad_=False, why_="the mean of nothing is NaN"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, fill="bool", layout="strided")),
        Sample(t(7, 2, dtype="float64"), t(7, 2, fill="bool"), why_="promotion"),
    ),
    errors=(
        Bad(ShapeError, r"input has shape \(5, 1\), target \(5,\)", t(5, 1), t(5)),
        Bad(ShapeError, r"weight has shape \(4,\)", t(5, 3), t(5, 3), t(4)),
        Bad(ShapeError, r"\(…, C\)", t(), t()),
        Bad(ArgumentError, "reduction='avg'", t(2, 3), t(2, 3), reduction="avg"),
        Bad(DTypeError, "floating-point", INTS, INTS),
    ),
    torch="torch.nn.functional.multilabel_soft_margin_loss",
)
