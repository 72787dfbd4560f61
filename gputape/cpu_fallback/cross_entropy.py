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
from ._filled import ones as _ones

_LONG = 1024  # classes
_EXACT = 1 << 24  # up to here float32 holds every integer


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


def _none_ignored(count: Any, rows: int) -> bool:
    """Whether a count in floating point says so."""
    return rows < _EXACT and count.item() == rows


@_as_one
def _place(
    op: str,
    xp: Any,
    at: Any,
    valid: Any,
    count: Any,
    target: Any,
    unsigned: Any,
    starts: Any,
    step: int,
    classes: int,
    ignore_index: int,
    counted: bool,
) -> None:
    """Into `at`: starts + step · label, or starts where the label is ignored; into `valid`, where it is not; into
    `count`, how many are not, unless they are `counted` already. `valid` is left alone where all are counted.

    `unsigned` is the target as integers without sign, of which a negative one is huge.
    """
    if target.dtype != at.dtype:
        xp.copyto(at, target)
        target = at
    if not (counted and _none_ignored(count, target.size)):
        xp.less(unsigned, classes, out=valid)
        kept = xp.count_nonzero(valid)
        if kept < target.size or 0 <= ignore_index < classes:
            _check_labels(op, xp, target, valid, classes, ignore_index)
            xp.logical_and(valid, target != ignore_index, out=valid)
            target, kept = xp.multiply(target, valid, out=at), xp.count_nonzero(valid)
        if count is not None:
            count[...] = kept
    if step != 1:
        target = xp.multiply(target, step, out=at)
    xp.add(target, starts, out=at)


def _positions(
    op: str,
    xp: Any,
    target: Any,
    ignore_index: int,
    classes: int,
    buffers: list[Any],
    starts: Any = None,
    step: int = 0,
    count: Any = None,
    counted: bool = False,
) -> tuple[Any, Any]:
    """(valid, at) of `_place`; by default for a flat (C, rows) table."""
    valid, at = buffers
    if starts is None:
        starts, step = xp.arange(at.size), at.size
    shape = target.shape
    unsigned = target.view(f"uint{8 * target.itemsize}")
    rows = [x.reshape(shape) for x in (at, valid, starts)]
    _place(op, xp, *rows[:2], count, target, unsigned, rows[2], step, classes, ignore_index, counted)
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
    peak, logsum, place = peak.reshape(-1), logsum.reshape(-1), ("cross_entropy", xp, target, ignore_index, classes)
    if input.ndim == 2 and classes >= _LONG:
        axis, z = 1, z.reshape(target.size, classes)
        valid, at = _positions(*place, scratch[:2], xp.arange(target.size) * classes, 1, count=count)
        xp.maximum.reduce(input, axis=1, out=peak)
        xp.subtract(input, peak[:, None], out=z)
    else:
        axis, moved = 0, _classes_first(input)
        valid, at = _positions(*place, scratch[:2], count=count)
        xp.copyto(z.reshape(moved.shape), moved)
        xp.maximum.reduce(z, axis=0, out=peak)
        xp.subtract(z, peak, out=z)
    xp.take(z.reshape(-1), at, out=loss, mode="clip")
    if label_smoothing:
        xp.add.reduce(z, axis=axis, out=even)
    xp.exp(z, out=z)
    one = _ones(xp, classes, z.dtype)
    xp.matmul(*((z, one) if axis else (one, z)), out=logsum)
    xp.log(logsum, out=logsum)
    if label_smoothing:  # logsum - (1-ε)·z[t] - ε·mean(z)
        xp.multiply(loss, 1 - label_smoothing, out=loss)
        xp.multiply(even, label_smoothing / classes, out=even)
        xp.add(loss, even, out=loss)
    if reduction == "none":
        y = y.reshape(-1)
        xp.subtract(logsum, loss, out=y)
        _zero_ignored(xp, y, valid, even, count)
        return
    xp.subtract(logsum, loss, out=loss)
    _zero_ignored(xp, loss, valid, even, count)
    xp.add.reduce(loss, out=y)
    if reduction == "mean":
        xp.divide(y, count, out=y)


@_as_one
def _zero_ignored(xp: Any, x: Any, valid: Any, buffer: Any, count: Any) -> None:
    """0 where the label is ignored, whatever the number there; most often none is."""
    if _none_ignored(count, valid.size):
        return
    bits = buffer.view(f"int{8 * buffer.itemsize}")[: valid.size].reshape(valid.shape)
    xp.negative(valid.view("int8"), out=bits)
    xp.bitwise_and(x.view(bits.dtype), bits, out=x.view(bits.dtype))


def _fused_bwd_scratch(dy: Aval, input: Aval, target: Aval, *rest: Aval, **attrs: Any) -> list[Aval]:
    return [*_row_scratch(target), Aval((max(target.size, 1),), input.dtype)]


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
    inner = math.prod(input.shape[2:])
    # No sums are left to take: the classes stay where they are, (n, C, inner).
    starts = xp.arange(n)[:, None] * (classes * inner) + xp.arange(inner)
    valid, at = _positions(
        "cross_entropy", xp, target, ignore_index, classes, scratch[:2], starts, inner, count, counted=True
    )
    (work,) = scratch[2:]
    beside = (n, 1, *input.shape[2:])
    xp.subtract(input, peak.reshape(beside), out=dx)
    xp.subtract(dx, logsum.reshape(beside), out=dx)
    xp.exp(dx, out=dx)
    if label_smoothing:
        xp.subtract(dx, label_smoothing / classes, out=dx)
    flat = dx.reshape(-1)
    chosen = work[: at.size]
    xp.take(flat, at, out=chosen, mode="clip")
    xp.subtract(chosen, 1 - label_smoothing, out=chosen)
    xp.put(flat, at, chosen, mode="clip")
    if reduction == "none":
        dy = dy.reshape(beside)
    elif reduction == "mean":
        dy = xp.divide(dy, count, out=work[:1].reshape(()))
    xp.multiply(dx, dy, out=dx)
    _zero_ignored(xp, dx, valid.reshape(beside), work, count)
