"""Bodies of maxima and minima along axes, and of where they are."""

from __future__ import annotations

from typing import Any


def amax(xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool) -> None:
    xp.maximum.reduce(input, axis=dim, out=y, keepdims=keepdim)


def amin(xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool) -> None:
    xp.minimum.reduce(input, axis=dim, out=y, keepdims=keepdim)


def max_total(xp: Any, y: Any, input: Any) -> None:
    xp.maximum.reduce(input, axis=None, out=y)


def min_total(xp: Any, y: Any, input: Any) -> None:
    xp.minimum.reduce(input, axis=None, out=y)


def argmax(xp: Any, y: Any, input: Any, *, dim: int | None, keepdim: bool) -> None:
    xp.argmax(input, axis=dim if input.ndim else None, out=y, keepdims=keepdim)


def argmin(xp: Any, y: Any, input: Any, *, dim: int | None, keepdim: bool) -> None:
    xp.argmin(input, axis=dim if input.ndim else None, out=y, keepdims=keepdim)
