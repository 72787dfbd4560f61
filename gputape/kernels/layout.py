"""How an element-wise launch walks its arrays: axes merged where all of them allow it, then flat or in tiles.

All strides count elements. Pure functions of shapes and strides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .tiles import POINTWISE, cdiv

Strides = tuple[int, ...]
MOST_AXES = 6
TILES = ((1, 1024), (4, 256), (16, 64), (64, 16), (256, 4))  # rows, columns
TURNED = (32, 32)  # where an array runs along the rows: both directions in runs of 32


@dataclass(frozen=True)
class Layout:
    """One way to walk.

    Attributes:
        codes: per array, how its elements lie. Flat: "v" one after the other, "s" a single one. Tiled: one character
            each for rows and columns: "0" stride 0, "1" stride 1, "n" any other.
        outer: number of axes beside rows and columns.
        sizes: flat: the number of elements. Tiled: rows, columns, then the outer axes from the inside out.
        strides: per array, in the order of `sizes`; of flat ones empty.
        block: elements per program: (n,) or (rows, columns).
    """

    codes: tuple[str, ...]
    outer: int
    sizes: tuple[int, ...]
    strides: tuple[Strides, ...]
    block: tuple[int, ...]

    @property
    def flat(self) -> bool:
        return len(self.block) == 1

    @property
    def programs(self) -> int:
        tiles = [cdiv(n, b) for n, b in zip(self.sizes, self.block)]
        return math.prod((*tiles, *self.sizes[len(self.block) :]))


def broadcast(shape: Strides, strides: Strides, to: Strides) -> Strides:
    """The strides with which an array of `shape` is seen as one of shape `to`: 0 where it repeats."""
    missing = len(to) - len(shape)
    return (0,) * missing + tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))


def collapse(shape: Strides, strides: Sequence[Strides]) -> tuple[Strides, list[Strides]]:
    """The fewest axes that describe the same elements: none of size 1, and no two that are one run for every array."""
    axes: list[tuple[int, Strides]] = []
    for k, n in enumerate(shape):
        if n == 1:
            continue
        here = tuple(s[k] for s in strides)
        if axes and all(before == n * s for before, s in zip(axes[-1][1], here, strict=True)):
            axes[-1] = (axes[-1][0] * n, here)
        else:
            axes.append((n, here))
    return tuple(n for n, _ in axes), [tuple(s[k] for _, s in axes) for k in range(len(strides))]


def plan(shape: Strides, strides: Sequence[Strides], tiled: bool = False) -> Layout | None:
    """How to walk arrays of `shape` (broadcast), not empty; None if that takes more than `MOST_AXES` axes.

    Args:
        tiled: never flat, since a formula asks for positions.
    """
    sizes, steps = collapse(shape, strides)
    if not tiled and len(sizes) < 2 and all(s[-1:] in ((), (0,), (1,)) for s in steps):
        n = math.prod(sizes)
        codes = tuple("s" if s == (0,) else "v" for s in steps)
        return Layout(codes, 0, (n,), ((),) * len(steps), (POINTWISE,))
    if len(sizes) > MOST_AXES:
        return None
    missing = max(2 - len(sizes), 0)
    sizes, steps = (1,) * missing + sizes, [(0,) * missing + s for s in steps]
    last = len(sizes) - 1
    along = [k for s in steps if s[last] != 1 for k in range(last) if s[k] == 1]
    row = along[0] if along else last - 1
    order = (row, last, *(k for k in reversed(range(last)) if k != row))
    codes = tuple("".join("n" if s[k] not in (0, 1) else str(s[k]) for k in order[:2]) for s in steps)
    turned = any(c[0] == "1" and c[1] == "n" for c in codes)
    block = TURNED if turned else _tile(sizes[row], sizes[last])
    picked = tuple(tuple(s[k] for k in order) for s in steps)
    return Layout(codes, last - 1, tuple(sizes[k] for k in order), picked, block)


def _tile(rows: int, cols: int) -> tuple[int, int]:
    """The tile that covers the most with the least beside it; among equals the one with the longest rows."""
    return min(TILES, key=lambda t: cdiv(rows, t[0]) * cdiv(cols, t[1]))
