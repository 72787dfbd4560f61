"""Host side of maxima and minima, of where they are, and of `any` and `all`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from ..aval import Aval
from ..backend import scratch as _scratch
from ._steps import INTEGER_TILES, INTEGERS, STEP_TYPES, TILES, Tile, between, step_kernel, steps, variants
from .launch import FLOATS, Kernel, Variant, launch, need_kernel

# --- over several axes ------------------------------------------------------------------------------------------------


def _partial(input: Aval, *, dim: tuple[int, ...], dtype: str | None = None, **attrs: Any) -> list[Aval]:
    return between(steps(input.shape, dim, input.dtype in INTEGERS), dtype or input.dtype)


def _all_axes(input: Aval) -> list[Aval]:
    return _partial(input, dim=tuple(range(input.ndim)))


def _bools(input: Aval, *, dim: tuple[int, ...], keepdim: bool) -> list[Aval]:
    return _partial(input, dim=dim, dtype="bool")


@_scratch(_partial)
def amax(rt: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, scratch: Sequence[Any] = ()) -> None:
    _reduce(rt, "amax", y, input, dim, scratch)


@_scratch(_partial)
def amin(rt: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, scratch: Sequence[Any] = ()) -> None:
    _reduce(rt, "amin", y, input, dim, scratch)


@_scratch(_all_axes)
def max_total(rt: Any, y: Any, input: Any, *, scratch: Sequence[Any] = ()) -> None:
    _reduce(rt, "max_total", y, input, tuple(range(input.ndim)), scratch)


@_scratch(_all_axes)
def min_total(rt: Any, y: Any, input: Any, *, scratch: Sequence[Any] = ()) -> None:
    _reduce(rt, "min_total", y, input, tuple(range(input.ndim)), scratch)


@_scratch(_bools)
def any_(rt: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, scratch: Sequence[Any] = ()) -> None:
    _reduce(rt, "any", y, input, dim, scratch)


@_scratch(_bools)
def all_(rt: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, scratch: Sequence[Any] = ()) -> None:
    _reduce(rt, "all", y, input, dim, scratch)


def _reduce(rt: Any, op: str, y: Any, x: Any, dim: tuple[int, ...], parts: Sequence[Any]) -> None:
    integers = need_kernel(op, x, FLOATS + INTEGERS) in INTEGERS
    x, turned = rt.packed(x), int(op in ("amin", "min_total", "all"))
    for s, out in zip(steps(x.shape, dim, integers), (*parts, y), strict=True):
        launch(_extremum(op in ("any", "all"), s.last, s.tile), s.grid, (out, x, *s.sizes, turned), rt.stream)
        x = out


@cache
def _extremum(test: bool, last: bool, tile: Tile) -> Kernel:
    return step_kernel("extremum", "extremum", last, tile, TEST=test)


# --- where ------------------------------------------------------------------------------------------------------------


def _where_parts(input: Aval, *, dim: int | None, keepdim: bool) -> list[Aval]:
    """Indices and elements of the groups."""
    found = steps(input.shape, _over(input.ndim, dim), input.dtype in INTEGERS)
    return [*between(found, "int64"), *between(found, input.dtype)]


def _over(ndim: int, dim: int | None) -> tuple[int, ...]:
    return tuple(range(ndim)) if dim is None or not ndim else (dim,)


@_scratch(_where_parts)
def argmax(rt: Any, y: Any, input: Any, *, dim: int | None, keepdim: bool, scratch: Sequence[Any] = ()) -> None:
    _where(rt, "argmax", y, input, dim, scratch)


@_scratch(_where_parts)
def argmin(rt: Any, y: Any, input: Any, *, dim: int | None, keepdim: bool, scratch: Sequence[Any] = ()) -> None:
    _where(rt, "argmin", y, input, dim, scratch)


def _where(rt: Any, op: str, y: Any, x: Any, dim: int | None, parts: Sequence[Any]) -> None:
    integers = need_kernel(op, x, FLOATS + INTEGERS[1:]) in INTEGERS
    x, turned = rt.packed(x), int(op == "argmin")
    found = steps(x.shape, _over(x.ndim, dim), integers)
    index = y  # the first step takes positions
    for k, s in enumerate(found):
        final = s is found[-1]
        out, best = (y, x) if final else parts
        kernel = _where_extreme(not final, k > 0, s.last, s.tile)
        launch(kernel, s.grid, (out, best, x, index, *s.sizes, turned), rt.stream)
        x, index = best, out


@cache
def _where_extreme(groups: bool, indexed: bool, last: bool, tile: Tile) -> Kernel:
    return step_kernel("extremum", "where_extreme", last, tile, GROUPS=groups, INDEXED=indexed)


def _variants() -> list[Variant]:
    found = []
    for x in FLOATS + INTEGERS:
        tiles = INTEGER_TILES if x in INTEGERS else TILES
        for test in (False, True):
            reduced = ("*bool" if test else f"*{x}", f"*{x}", *STEP_TYPES, "int32")
            found += variants(partial(_extremum, test), reduced, tiles)
        if x == "bool":  # between the steps of `any` and `all` over floats, too
            found += variants(partial(_extremum, True), ("*bool", "*bool", *STEP_TYPES, "int32"), TILES)
            continue
        types = ("*int64", f"*{x}", f"*{x}", "*int64", *STEP_TYPES, "int32")
        for groups, indexed in ((False, False), (True, False), (False, True)):
            rows_only = tuple(t for t in tiles if t[0]) if indexed else tiles
            found += variants(partial(_where_extreme, groups, indexed), types, rows_only)
    return found


VARIANTS = tuple(dict.fromkeys(_variants()))
