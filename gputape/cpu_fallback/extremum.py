"""Bodies of maxima and minima along axes, and of where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..aval import Aval
from ..backend import scratch as _scratch

_SHORT = (8, 1024)  # elements in a row


def _row_scratch(input: Aval, *, dim: tuple[int, ...], keepdim: bool) -> list[Aval]:
    """Where the extremum of each row is, if the last axis is reduced and short: the reductions of NumPy are slow there,
    three times as slow as finding the place."""
    if dim != (input.ndim - 1,) or not input.is_float or not _SHORT[0] <= input.shape[-1] <= _SHORT[1]:
        return []
    return [input.with_shape((input.size // input.shape[-1],)).with_dtype("int64")]


@_scratch(_row_scratch)
def amax(xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, scratch: Any = ()) -> None:
    _extremum(xp, "max", y, input, dim, keepdim, scratch)


@_scratch(_row_scratch)
def amin(xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, scratch: Any = ()) -> None:
    _extremum(xp, "min", y, input, dim, keepdim, scratch)


def _extremum(
    xp: Any, which: str, y: Any, input: Any, dim: tuple[int, ...], keepdim: bool, scratch: Sequence[Any]
) -> None:
    if not scratch or not input.flags.c_contiguous:
        (xp.maximum if which == "max" else xp.minimum).reduce(input, axis=dim, out=y, keepdims=keepdim)
        return
    (at,), n = scratch, input.shape[-1]
    (xp.argmax if which == "max" else xp.argmin)(input.reshape(-1, n), axis=1, out=at)
    xp.add(at, xp.arange(0, input.size, n), out=at)
    xp.take(input.reshape(-1), at, out=y.reshape(-1), mode="clip")


def max_total(xp: Any, y: Any, input: Any) -> None:
    xp.maximum.reduce(input, axis=None, out=y)


def min_total(xp: Any, y: Any, input: Any) -> None:
    xp.minimum.reduce(input, axis=None, out=y)


def argmax(xp: Any, y: Any, input: Any, *, dim: int | None, keepdim: bool) -> None:
    xp.argmax(input, axis=dim if input.ndim else None, out=y, keepdims=keepdim)


def argmin(xp: Any, y: Any, input: Any, *, dim: int | None, keepdim: bool) -> None:
    xp.argmin(input, axis=dim if input.ndim else None, out=y, keepdims=keepdim)
