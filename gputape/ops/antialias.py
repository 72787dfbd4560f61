"""Resampling of images with antialiasing: a product with a matrix of weights along each axis.

As PyTorch's _upsample_bilinear2d_aa and its relatives, which follow Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Rows = tuple[tuple[float, ...], ...]


def _triangle(x: float) -> float:
    return max(1 - abs(x), 0.0)


def _cubic(x: float) -> float:
    """The cubic convolution of Keys (1981) with a = -½."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return -0.5 * (x - 1) * (x - 2) ** 2 if x < 2 else 0.0


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if abs(x) < 3 else 0.0


def _sinc(x: float) -> float:
    return math.sin(math.pi * x) / (math.pi * x) if x else 1.0


# kind → weight at a distance, distance from which it is 0
FILTERS: dict[str, tuple[Callable[[float], float], int]] = {
    "linear": (_triangle, 1),
    "cubic": (_cubic, 2),
    "lanczos": (_lanczos, 3),
}


@lru_cache(maxsize=32)
def _weights(kind: str, size: int, out: int, step: float) -> Rows:
    """(out, size): what each place of the result takes of each element. Place j looks around (j + ½)·step - ½; where
    the result is smaller, the filter is as many times as wide."""
    weight, reach = FILTERS[kind]
    wide, rows = max(step, 1.0), []
    for j in range(out):
        centre = (j + 0.5) * step
        first, end = (int(centre + side * reach * wide + 0.5) for side in (-1, 1))
        first, end = max(first, 0), min(end, size)
        shares = [weight((k + 0.5 - centre) / wide) for k in range(first, end)]
        total = sum(shares)
        rows.append((*(0.0,) * first, *(s / total for s in shares), *(0.0,) * (size - end)))
    return tuple(rows)


def _step(size: int, out: int, corners: bool, factor: float | None) -> float:
    """Elements from one place of the result to the next."""
    if corners:
        return (size - 1) / (out - 1) if out > 1 else 0.0
    return 1 / factor if factor else size / out


def antialiased(F: Any, input: Any, size: tuple[int, ...], kind: str, corners: bool, factors: Any) -> Any:
    """Images (N, C, H, W) in another size, computed in float32 or float64. An axis that keeps its size is left."""
    dtype, sizes = F.aval(input).dtype, F.aval(input).shape[2:]
    wide = "float64" if dtype == "float64" else "float32"
    x = input if dtype == wide else F.cast(input, wide)
    height, width = (
        None if n == m else _weights(kind, n, m, _step(n, m, corners, factor))
        for n, m, factor in zip(sizes, size, factors, strict=True)
    )
    if width is not None:
        x = F.matmul(x, F.const(tuple(zip(*width, strict=True)), wide))
    if height is not None:
        x = F.matmul(F.const(height, wide), x)
    return x if dtype == wide else F.cast(x, dtype)
