"""Bodies of `slice` and its gradient."""

from __future__ import annotations

from typing import Any

Ints = tuple[int, ...]


def slice_(xp: Any, input: Any, *, start: Ints, stop: Ints, step: Ints) -> Any:
    return input[_window(start, stop, step)]


def slice_bwd(xp: Any, dx: Any, dy: Any, *, shape: Ints, start: Ints, stop: Ints, step: Ints) -> None:
    if dy.size != dx.size:
        dx.fill(0)
    dx[_window(start, stop, step)] = dy


def slices_bwd(xp: Any, y: Any, *dys: Any, shape: Ints, slices: Any) -> None:
    for dy, of in zip(dys, slices, strict=True):
        y[_window(*of)] = dy


def _window(start: Ints, stop: Ints, step: Ints) -> tuple[Any, ...]:
    return (*map(slice, start, stop, step), ...)  # the ellipsis keeps a scalar an array
