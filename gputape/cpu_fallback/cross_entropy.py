"""Bodies of the losses against class labels.

They work with the classes first, (C, rows): reductions over a leading axis run at the speed of memory, those over a
short last axis do not. Where there are many classes, a copy in that order would cost more than they do.
"""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval
from ..backend import scratch
from ..errors import IndexRangeError
from ..flat import as_one as _as_one
from .pointwise import _masked

_LONG = 1024  # classes


def _classes_first(x: Any) -> Any:
    """A view of (N, C, …) or (C,) with the class axis in front."""
    return x if x.ndim == 1 else x.swapaxes(0, 1)


@_as_one
def _check_labels(op: str, xp: Any, target: Any, valid: Any, classes: int, ignore_index: int) -> None:
    """`IndexRangeError` naming the first label outside [0, classes) that is not ignored; most often all are valid."""
    if valid.all():
        return
    wrong = ((target < 0) | (target >= classes)) & (target != ignore_index)
    if not wrong.any():
        return
    where = tuple(int(i) for i in xp.unravel_index(int(xp.argmax(wrong)), wrong.shape))
    at = f"target[{', '.join(map(str, where))}]" if where else "target"
    raise IndexRangeError(
        f"{op}: {at} is {int(target[where])}, but there are {classes} classes. "
        f"Use labels from 0 to {classes - 1}, or ignore_index."
    )


def _row_scratch(target: Aval) -> list[Aval]:
    return [Aval((target.size,), "bool"), Aval((target.size,), "int64")]


def _valid(op: str, xp: Any, target: Any, ignore_index: int, classes: int, buffers: list[Any]) -> tuple[Any, Any]:
    """(valid, label): which labels are not ignored, and the labels as int64, ignored ones as 0."""
    valid, label = buffers
    shape = target.shape
    xp.less(target.view(f"uint{8 * target.itemsize}"), classes, out=valid.reshape(shape))  # a negative one is huge
    if 0 <= ignore_index < classes:
        kept = label.view("bool")[: target.size]
        xp.not_equal(target, ignore_index, out=kept.reshape(shape))
        xp.logical_and(valid, kept, out=valid)
    _check_labels(op, xp, target, valid.reshape(shape), classes, ignore_index)
    xp.multiply(target, valid.reshape(shape), out=label.reshape(shape))
    return valid, label


def _positions(op: str, xp: Any, target: Any, ignore_index: int, classes: int, buffers: list[Any]) -> tuple[Any, Any]:
    """(valid, at): which labels are not ignored, and where each label's element is in a flat (C, rows) table (ignored
    ones: class 0)."""
    valid, at = _valid(op, xp, target, ignore_index, classes, buffers)
    xp.multiply(at, at.size, out=at)
    xp.add(at, xp.arange(at.size), out=at)
    return valid, at


def _pick_scratch(input: Aval, target: Aval, **attrs: Any) -> list[Aval]:
    return [*_row_scratch(target), input]


@scratch(_pick_scratch)
def pick_class(xp: Any, y: Any, input: Any, target: Any, *, ignore_index: int, scratch: list[Any]) -> None:
    classes = input.shape[min(1, input.ndim - 1)]
    valid, at = _positions("labels", xp, target, ignore_index, classes, scratch[:2])
    table = scratch[2].reshape(classes, -1) if y.size else scratch[2]
    moved = _classes_first(input)
    xp.copyto(table.reshape(moved.shape), moved)
    y = y.reshape(-1)
    xp.take(table.reshape(-1), at, out=y, mode="clip")
    y[~valid] = 0


def _put_scratch(input: Aval, target: Aval, *, shape: tuple[int, ...], ignore_index: int) -> list[Aval]:
    return [*_row_scratch(target), Aval((math.prod(shape),), input.dtype)]


@scratch(_put_scratch)
def put_class(
    xp: Any, y: Any, input: Any, target: Any, *, shape: tuple[int, ...], ignore_index: int, scratch: list[Any]
) -> None:
    classes = shape[min(1, len(shape) - 1)]
    valid, at = _positions("labels", xp, target, ignore_index, classes, scratch[:2])
    table = scratch[2]
    xp.copyto(table, 0)
    table[at[valid]] = input.reshape(-1)[valid]
    moved = _classes_first(y)
    xp.copyto(moved, table.reshape(moved.shape))


def _fused_scratch(input: Aval, target: Aval, **attrs: Any) -> list[Aval]:
    row = Aval((target.size,), input.dtype)
    return [*_row_scratch(target), Aval((input.shape[1], target.size), input.dtype), row, row]


@scratch(_fused_scratch)
def cross_entropy_labels(
    xp: Any,
    y: Any,
    peak: Any,
    logsum: Any,
    count: Any,
    input: Any,
    target: Any,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    scratch: list[Any],
) -> None:
    classes = input.shape[1]
    z, loss, even = scratch[2:]
    peak, logsum = peak.reshape(-1), logsum.reshape(-1)
    if input.ndim == 2 and classes >= _LONG:
        axis, z = 1, z.reshape(target.size, classes)
        valid, at = _valid("cross_entropy", xp, target, ignore_index, classes, scratch[:2])
        xp.add(at, xp.arange(target.size) * classes, out=at)
        xp.maximum.reduce(input, axis=1, out=peak)
        xp.subtract(input, peak[:, None], out=z)
    else:
        axis, moved = 0, _classes_first(input)
        valid, at = _positions("cross_entropy", xp, target, ignore_index, classes, scratch[:2])
        xp.copyto(z.reshape(moved.shape), moved)
        xp.maximum.reduce(z, axis=0, out=peak)
        xp.subtract(z, peak, out=z)
    xp.take(z.reshape(-1), at, out=loss, mode="clip")
    if label_smoothing:
        xp.add.reduce(z, axis=axis, out=even)
    xp.exp(z, out=z)
    xp.add.reduce(z, axis=axis, out=logsum)
    xp.log(logsum, out=logsum)
    if label_smoothing:  # logsum - (1-ε)·z[t] - ε·mean(z)
        xp.multiply(loss, 1 - label_smoothing, out=loss)
        xp.multiply(even, label_smoothing / classes, out=even)
        xp.add(loss, even, out=loss)
    xp.subtract(logsum, loss, out=loss)
    xp.add.reduce(valid, out=count, dtype=count.dtype)
    if reduction == "none":
        _masked(xp, y.reshape(-1), loss, valid)
        return
    _masked(xp, even, loss, valid)
    xp.add.reduce(even, out=y)
    if reduction == "mean":
        xp.divide(y, count, out=y)


def _fused_bwd_scratch(dy: Aval, input: Aval, target: Aval, *rest: Aval, **attrs: Any) -> list[Aval]:
    row = Aval((target.size,), input.dtype)
    return [*_row_scratch(target), row, row]


@scratch(_fused_bwd_scratch)
def cross_entropy_labels_bwd(
    xp: Any,
    dx: Any,
    dy: Any,
    input: Any,
    target: Any,
    peak: Any,
    logsum: Any,
    count: Any,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    scratch: list[Any],
) -> None:
    n, classes = input.shape[:2]
    valid, at = _valid("cross_entropy", xp, target, ignore_index, classes, scratch[:2])
    k, taken = scratch[2:]
    inner = math.prod(input.shape[2:])
    # No sums are left to take: the classes stay where they are, (n, C, inner).
    flat = at.reshape(n, inner)
    xp.multiply(flat, inner, out=flat)
    xp.add(flat, xp.arange(n)[:, None] * (classes * inner) + xp.arange(inner), out=flat)
    beside = (n, 1, *input.shape[2:])
    xp.subtract(input, peak.reshape(beside), out=dx)
    xp.subtract(dx, logsum.reshape(beside), out=dx)
    xp.exp(dx, out=dx)
    if label_smoothing:
        xp.subtract(dx, label_smoothing / classes, out=dx)
    flat = dx.reshape(-1)
    xp.take(flat, at, out=taken, mode="clip")
    xp.subtract(taken, 1 - label_smoothing, out=taken)
    xp.put(flat, at, taken, mode="clip")
    xp.copyto(k, xp.broadcast_to(dy.reshape(-1), k.shape))
    if reduction == "mean":
        xp.divide(k, count, out=k)
    xp.multiply(dx, k.reshape(beside), out=dx)
    # What is ignored is 0, whatever its logits are.
    bits = k.view(f"int{8 * k.itemsize}")
    xp.negative(valid.view("int8"), out=bits)
    xp.bitwise_and(dx.view(bits.dtype), bits.reshape(beside), out=dx.view(bits.dtype))
