"""Body of the order that sorts."""

from __future__ import annotations

from typing import Any


def sorted_order(xp: Any, y: Any, input: Any, *, dim: int, descending: bool) -> None:
    """Descending is ascending from the end, which turns equal elements round twice, and NaN to the front."""
    if not input.ndim:
        xp.copyto(y, 0)
    elif descending:
        order = xp.argsort(xp.flip(input, dim), axis=dim, kind="stable")
        xp.subtract(input.shape[dim] - 1, xp.flip(order, dim), out=y)
    else:
        xp.copyto(y, xp.argsort(input, axis=dim, kind="stable"))
