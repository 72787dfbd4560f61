"""What the cards of the losses against class labels share: checks, the weights of rows, samples."""

from __future__ import annotations

from typing import Any

from ..aval import INTS, Aval, need_float
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..samples import Bad, Sample, t

# --- checks -----------------------------------------------------------------------------------------------------------


def check_labels(name: str, input: Aval, target: Aval) -> None:
    """Raise unless `target` holds one integer label per position of the (N, C, …) or (C,) input."""
    if target.dtype not in INTS:
        raise DTypeError(
            f"{name}: class labels must be integers, got a target of {target}. Cast it to int64 (class probabilities "
            f"have the input's shape {input.shape})."
        )
    if not input.ndim:
        raise ShapeError(f"{name}: the input is a scalar, but (N, C, …) or (C,) is needed. Give it a class axis.")
    expected = input.shape[:1] + input.shape[2:] if input.ndim > 1 else ()
    if target.shape != expected:
        raise ShapeError(
            f"{name}: for an input of shape {input.shape} (N, C, …) the labels must have shape {expected}, "
            f"got {target.shape}. Reshape the target to {expected}."
        )
    if not input.shape[min(1, input.ndim - 1)]:
        raise ShapeError(f"{name}: the input {input.shape} has no classes. Give it at least one.")


def check_ignore(name: str, ignore_index: int) -> None:
    """Raise `ArgumentError` unless `ignore_index` is an integer."""
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
        raise ArgumentError(f"{name}: ignore_index={ignore_index!r} must be an integer. Use -100 for none.")


def check_weight(name: str, input: Aval, weight: Aval | None) -> None:
    """Raise unless `weight` is None or holds one floating-point number per class of the input."""
    if weight is None:
        return
    need_float(name, weight=weight)
    classes = input.shape[1 if input.ndim > 1 else 0]
    if weight.shape != (classes,):
        raise ShapeError(
            f"{name}: weight has shape {weight.shape}, but the input {input.shape} has {classes} classes. "
            f"Give weight shape ({classes},)."
        )


# --- weights ----------------------------------------------------------------------------------------------------------


def expand_classes(F: Any, per_class: Any, shape: tuple[int, ...]) -> Any:
    """A (C,) array against (N, C, …) or (C,)."""
    if len(shape) > 1:
        per_class = F.reshape(per_class, (-1, *(1,) * (len(shape) - 2)))
    return F.expand(per_class, shape)


def row_weights(F: Any, target: Any, weight: Any, shape: tuple[int, ...], dtype: str, ignore_index: int) -> Any:
    """The weight of each row: that of its class, 1 without weights, 0 where it is ignored."""
    per_class = F.expand(F.const(1, dtype), shape) if weight is None else expand_classes(F, weight, shape)
    return F.pick_class(per_class, target, ignore_index)


def weighted_mean(F: Any, loss: Any, weights: Any, reduction: str) -> Any:
    """Losses that hold their weights already: left, summed, or divided by the sum of the weights."""
    if reduction == "none":
        return loss
    return F.sum(loss) if reduction == "sum" else F.div(F.sum(loss), F.sum(weights))


# --- samples ----------------------------------------------------------------------------------------------------------

LABELS = t(4, dtype="int64", fill=(2, 0, 1, 2))
IGNORED = t(4, dtype="int64", fill=(2, -100, 1, -100))
ALL_IGNORED = t(4, dtype="int64", fill=-100)
IMAGE = t(2, 3, 2, dtype="int64", fill="ints", low=0, high=4)
LABEL_ERRORS = (
    Bad(IndexRangeError, r"target\[3\] is 3.*3 classes", t(4, 3), t(4, dtype="int64", fill=(0, 1, 2, 3))),
    Bad(IndexRangeError, r"target\[0\] is -1", t(4, 3), t(4, dtype="int64", fill=-1), ignore_index=2),
    Bad(ShapeError, r"must have shape \(4,\), got \(4, 1\)", t(4, 3), t(4, 1, dtype="int64", fill="zeros")),
    Bad(ShapeError, r"must have shape \(\), got \(3,\)", t(3), t(3, dtype="int64", fill="zeros")),
    Bad(ShapeError, "no classes", t(4, 0), t(4, dtype="int64", fill="zeros")),
    Bad(DTypeError, "must be integers", t(4, 3), t(4)),
    Bad(DTypeError, "must be integers", t(4, 3), t(4, dtype="bool", fill="bool")),
    Bad(DTypeError, "floating-point", t(4, 3, dtype="int64", fill="ones"), LABELS),
    Bad(ShapeError, r"weight has shape \(4,\)", t(4, 3), LABELS, t(4)),
    Bad(ArgumentError, "reduction='avg'", t(4, 3), LABELS, reduction="avg"),
    Bad(ArgumentError, "ignore_index=None", t(4, 3), LABELS, ignore_index=None),
)
LABEL_SAMPLES = (
    Sample(t(4, 3), LABELS),
    Sample(t(4, 3), LABELS, reduction="sum"),
    Sample(t(4, 3), LABELS, reduction="none"),
    Sample(t(4, 3), IGNORED),
    Sample(t(4, 3), IGNORED, reduction="none"),
    Sample(t(4, 3), LABELS, ignore_index=2, reduction="mean"),
    Sample(t(4, 3), ALL_IGNORED, grad_=False, why_="the mean of nothing is NaN"),
    Sample(t(4, 3), ALL_IGNORED, reduction="sum"),
    Sample(t(4, 3), IGNORED, t(3, fill="uniform", low=0.5, high=2.0), why_="a gradient to weight"),
    Sample(t(4, 3), LABELS, t(3, fill="uniform", low=0.5, high=2.0), reduction="none"),
    Sample(t(3), t(dtype="int64", fill="ones"), why_="one sample without a batch axis"),
    Sample(t(3), t(dtype="int64", fill="ones"), reduction="none"),
    Sample(t(2, 5, 3, 2), IMAGE, why_="one label per pixel"),
    Sample(t(2, 5, 3, 2), IMAGE, reduction="none"),
    Sample(t(5, 4, layout="transposed"), t(5, dtype="int64", fill=(3, 0, 1, 2, 0))),
    Sample(t(2, 5, 3, 2, layout="strided"), IMAGE, reduction="sum"),
    Sample(t(4, 3), t(4, dtype="uint8", fill=(2, 0, 1, 2)), why_="narrow labels"),
    Sample(t(4, 1), t(4, dtype="int64", fill="zeros"), why_="one class"),
    Sample(t(0, 3), t(0, dtype="int64", fill="zeros"), reduction="sum", why_="no rows"),
    Sample(t(0, 3), t(0, dtype="int64", fill="zeros"), grad_=False, why_="the mean of nothing is NaN"),
    Sample(t(4, 3, dtype="float64"), LABELS),
)
