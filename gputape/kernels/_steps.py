"""How reductions over any axes are laid out for the kernels: pure functions of shapes.

A step reduces the middle axis of a contiguous (outer, n, inner) array; its kernel works on a tile of outputs by
elements. Axes that are not neighbours take a step each. Where few outputs stand for many elements, a step is split
into groups of elements, and a further step puts the groups together: always in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np

from ..aval import Aval
from .launch import FLOATS, Kernel, Variant, triton
from .tiles import ALIGNED, cdiv, power_of_2

ROWS = ((4, 256, 4), (1, 4096, 8))  # (outputs, elements, warps) of a tile if inner is 1
COLUMNS = (64, 32, 4)  # else: neighbours in memory are outputs
WALK_ROWS = ((4, 256, 4), (1, 1024, 4), (1, 4096, 8))  # of kernels that keep a row if it fits
INTEGERS = ("bool", "uint8", "int8", "int16", "int32", "int64")
PROGRAMS = 1024  # enough to fill a GPU
LONG = 1024  # elements: above, a row has a tile of its own
SHORTEST = 4  # tiles: a shorter step is never split

Tile = tuple[int, int, int]


@dataclass(frozen=True)
class Step:
    """One launch: `outputs` = outer · inner results of n elements each, `group` elements to a program."""

    outputs: int
    n: int
    inner: int
    tile: Tile
    group: int
    groups: int

    @property
    def last(self) -> bool:
        """Whether the elements of one output are neighbours."""
        return self.inner == 1

    @property
    def grid(self) -> tuple[int, int]:
        return cdiv(self.outputs, self.tile[0]), self.groups

    @property
    def sizes(self) -> tuple[Any, ...]:
        """The integers that each kernel of a step takes after its pointers."""
        return self.outputs, np.int64(self.n), self.inner, self.group


def choose_tile(n: int, inner: int, integers: bool = False) -> Tile:
    """The tile for results of n elements that are `inner` apart."""
    if inner > 1:
        return COLUMNS
    return ROWS[0] if integers or n <= LONG or n % ALIGNED else ROWS[-1]


def split(programs: int, n: int, block: int) -> tuple[int, int]:
    """(elements per group, groups) of n elements that are read in blocks; one group unless programs are few."""
    blocks = cdiv(n, block)
    if blocks <= SHORTEST or programs * 2 > PROGRAMS:
        return n, 1
    group = block * max(2, power_of_2(cdiv(blocks * programs, PROGRAMS)))
    return group, cdiv(n, group)


def step(outer: int, n: int, inner: int, integers: bool = False, whole: bool = False) -> Step:
    """The step over the middle axis; `whole`: never split."""
    outputs = outer * inner
    tile = choose_tile(n, inner, integers)
    group, groups = (n, 1) if whole else split(cdiv(outputs, tile[0]), n, tile[1])
    return Step(outputs, n, inner, tile, group, groups)


@cache
def steps(shape: tuple[int, ...], dims: tuple[int, ...], integers: bool = False) -> tuple[Step, ...]:
    """The steps that reduce the axes `dims` of a contiguous array, the last axes first."""
    axes = [(n, k in dims) for k, n in enumerate(shape) if n != 1]
    runs = [(math.prod(n for n, _ in run), over) for over, run in groupby(axes, key=lambda a: a[1])]
    found = []
    for k in reversed(range(len(runs))):
        n, over = runs[k]
        if over:
            outer = math.prod(m for m, _ in runs[:k])
            inner = math.prod(m for m, over in runs[k + 1 :] if not over)
            found += _with_second(step(outer, n, inner, integers), integers)
    return tuple(found) or (step(math.prod(shape), 1, 1, integers),)


def _with_second(first: Step, integers: bool) -> list[Step]:
    if first.groups == 1:
        return [first]
    return [first, step(first.outputs, first.groups, 1, integers, whole=True)]


def between(found: Sequence[Step], dtype: str) -> list[Aval]:
    """What the steps but the last write."""
    return [Aval((s.outputs * s.groups,), dtype) for s in found[:-1]]


def around(shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """(outer, n, inner) around one axis; a scalar has one element there."""
    if not shape:
        return 1, 1, 1
    return math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :])


def step_kernel(stem: str, name: str, last: bool, tile: Tile, **constants: Any) -> Kernel:
    """The kernel of a step."""
    outs, elements, warps = tile
    promised = ("n", "group") if last else ("outputs", "inner")
    return triton(
        stem, name, divisible=promised, warps=warps, LAST=last, BLOCK_OUT=outs, BLOCK_RED=elements, **constants
    )


def of_bytes(tile: Tile) -> Tile:
    """The tile for elements of one byte: with two warps each thread reads 16."""
    return *tile[:2], 2


STEP_TYPES = ("int32", "int64", "int32", "int32")  # of `Step.sizes`
TILES = (*((True, tile) for tile in ROWS), (False, COLUMNS))
INTEGER_TILES = ((True, ROWS[0]), (False, COLUMNS))
# What a reduction whose steps keep float32 between them reads and writes.
PAIRS = (
    *((d, d) for d in FLOATS),
    *((d, "float32") for d in FLOATS if d != "float32"),
    *(("float32", d) for d in FLOATS if d != "float32"),
)


def variants(make: Callable[[bool, Tile], Kernel], types: Sequence[str], at: Any = TILES) -> list[Variant]:
    """`make(last, tile)` at every tile; rows of odd sizes have one."""
    narrow = [(last, tile) for last, tile in at if not last or tile == ROWS[0]]
    return [Variant(make(*way), tuple(types), wide) for wide, ways in ((True, at), (False, narrow)) for way in ways]


# --- kernels that go over whole rows ----------------------------------------------------------------------------------


def walk(n: int, inner: int) -> tuple[bool, bool, Tile]:
    """(whether a row fits into one block, whether inner is 1, tile) for rows of n elements."""
    if inner > 1:
        return n <= COLUMNS[1] and inner % ALIGNED == 0, False, COLUMNS
    if n % ALIGNED:
        return False, True, WALK_ROWS[0]
    tile = next((t for t in WALK_ROWS if n <= t[1]), WALK_ROWS[-1])
    return n <= tile[1], True, tile


def walk_variants(make: Callable[[bool, bool, Tile], Kernel], types: Sequence[str]) -> list[Variant]:
    """`make(whole, last, tile)` for all that `walk` gives."""
    rows = [(True, True, tile) for tile in WALK_ROWS] + [(False, True, WALK_ROWS[-1])]
    wide = [*rows, (True, False, COLUMNS), (False, False, COLUMNS)]
    narrow = [(False, True, WALK_ROWS[0]), (False, False, COLUMNS)]
    return [Variant(make(*way), tuple(types), fits) for fits, ways in ((True, wide), (False, narrow)) for way in ways]
