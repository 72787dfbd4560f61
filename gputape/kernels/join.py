"""Host side of the ops that put arrays together, and elements into another order."""

from __future__ import annotations

from typing import Any

from ._copy import copy_into


def cat(rt: Any, y: Any, *tensors: Any, dim: int) -> None:
    start = 0
    for x in tensors:
        if x.shape != (0,):
            stop = start + x.shape[dim]
            copy_into(rt, y[(slice(None),) * dim + (slice(start, stop),)], x)
            start = stop


def flip(rt: Any, y: Any, input: Any, *, dims: tuple[int, ...]) -> None:
    turned = tuple(slice(None, None, -1) if i in dims else slice(None) for i in range(input.ndim))
    copy_into(rt, y, input[(*turned, ...)])
