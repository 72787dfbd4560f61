"""Bodies of the ops with bool results."""

from __future__ import annotations

from typing import Any


def eq(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.equal(input, other, out=y)


def ne(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.not_equal(input, other, out=y)


def lt(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.less(input, other, out=y)


def le(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.less_equal(input, other, out=y)


def gt(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.greater(input, other, out=y)


def ge(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.greater_equal(input, other, out=y)


def logical_and(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.logical_and(input, other, out=y)


def logical_or(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.logical_or(input, other, out=y)


def logical_xor(xp: Any, y: Any, input: Any, other: Any) -> None:
    xp.logical_xor(input, other, out=y)


def logical_not(xp: Any, y: Any, input: Any) -> None:
    xp.logical_not(input, out=y)


def isnan(xp: Any, y: Any, input: Any) -> None:
    xp.isnan(input, out=y)


def isinf(xp: Any, y: Any, input: Any) -> None:
    xp.isinf(input, out=y)


def isfinite(xp: Any, y: Any, input: Any) -> None:
    xp.isfinite(input, out=y)


def any_(xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool) -> None:
    xp.logical_or.reduce(input, axis=dim, out=y, keepdims=keepdim)


def all_(xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool) -> None:
    xp.logical_and.reduce(input, axis=dim, out=y, keepdims=keepdim)
