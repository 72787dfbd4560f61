"""Body of scatter."""

from __future__ import annotations

from typing import Any

from .gather import _places
from .index import _check_range


def scatter(xp: Any, y: Any, input: Any, index: Any, src: Any, *, dim: int) -> None:
    """Of equal positions the last is written last."""
    _check_range(xp, "scatter", index, input.shape[dim] if input.ndim else 1)
    xp.copyto(y, input)
    if index.size:
        part = src.reshape(src.shape or (1,))[tuple(map(slice, index.shape or (1,)))]
        y.reshape(-1)[_places(xp, index, input.shape, dim).reshape(-1)] = part.reshape(-1)
