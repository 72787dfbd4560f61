"""Bodies of gather and scatter_add."""

from __future__ import annotations

from typing import Any

from .index import _add_at, _check_range


def gather(xp: Any, y: Any, input: Any, index: Any, *, dim: int) -> None:
    _check_range(xp, "gather", index, input.shape[dim] if input.ndim else 1)
    if y.size:
        xp.take(input, _places(xp, index, input.shape, dim), out=y, mode="clip")


def scatter_add(xp: Any, y: Any, input: Any, index: Any, src: Any, *, dim: int) -> None:
    _check_range(xp, "scatter_add", index, input.shape[dim] if input.ndim else 1)
    xp.copyto(y, input)
    if index.size:
        part = src.reshape(src.shape or (1,))[tuple(map(slice, index.shape or (1,)))]
        _add_at(xp, y.reshape(-1), _places(xp, index, input.shape, dim).reshape(-1), part.reshape(-1))


def _places(xp: Any, index: Any, shape: tuple[int, ...], dim: int) -> Any:
    """Row-major positions in an array of `shape` that `index` names along `dim`."""
    step, places = 1, index.astype("int64")
    for d in range(len(shape) - 1, -1, -1):
        if d == dim and step != 1:
            places *= step
        step *= shape[d]
    step = 1
    for d in range(len(shape) - 1, -1, -1):
        if d != dim and index.shape[d] > 1:
            places += (step * xp.arange(index.shape[d])).reshape(-1, *(1,) * (index.ndim - 1 - d))
        step *= shape[d]
    return places
