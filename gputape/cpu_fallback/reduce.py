"""Bodies of the reductions."""

from __future__ import annotations

from typing import Any


def sum_(xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool) -> None:
    xp.add.reduce(input, axis=dim, out=y, keepdims=keepdim, dtype=y.dtype)


def sum_to(xp: Any, y: Any, input: Any, *, shape: tuple[int, ...]) -> None:
    lead = input.ndim - len(shape)
    over = (*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1 and input.shape[i + lead] != 1))
    xp.add.reduce(input, axis=over, out=y.reshape((1,) * lead + shape), keepdims=True)
