"""Host side of the gradients of slices."""

from __future__ import annotations

from typing import Any

from ._copy import copy_into, window_into

Ints = tuple[int, ...]


def slice_bwd(rt: Any, dx: Any, dy: Any, *, shape: Ints, start: Ints, stop: Ints, step: Ints) -> None:
    window_into("slice_bwd", rt, dx, dy, start, step, 0)


def slices_bwd(rt: Any, y: Any, *dys: Any, shape: Ints, slices: Any) -> None:
    for dy, of in zip(dys, slices, strict=True):
        copy_into(rt, y[(*map(slice, *of), ...)], dy)
