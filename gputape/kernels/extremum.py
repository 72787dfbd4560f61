"""Host side of maxima and minima, of where they are, and of `any` and `all`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from ..aval import Aval
from ..backend import scratch as _scratch
from ._integers import exact, narrowed, widened
from ._steps import INTEGER_TILES, INTEGERS, STEP_TYPES, TILES, Tile, between, of_bytes, step_kernel, steps, variants
from .launch import FLOATS, Kernel, Variant, covering, launch, need_kernel

# --- over several axes ------------------------------------------------------------------------------------------------


def _partial(input: Aval, *, dim: tuple[int, ...], dtype: str | None = None, **attrs: Any) -> list[Aval]:
    kind = dtype or exact(input.dtype)
    return between(steps(input.shape, dim, kind in INTEGERS), kind)


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
    came, test = need_kernel(op, x, FLOATS + INTEGERS), op in ("any", "all")
    kind = "bool" if test else exact(came)
    x, turned = rt.packed(widened(rt, x, kind)), int(op in ("amin", "min_total", "all"))
    # Of uint8 the truths are uint8, too: the same bytes as bools.
    result = y.view(bool) if test else y if came == kind else rt.empty(y.shape, kind)
    for s, out in zip(steps(x.shape, dim, kind in INTEGERS), (*parts, result), strict=True):
        launch(_extremum(test, s.last, s.tile), s.grid, (out, x, *s.sizes, turned), rt.stream)
        x = out
    if not test:
        narrowed(rt, y, result)


@cache
def _extremum(test: bool, last: bool, tile: Tile) -> Kernel:
    return step_kernel("extremum", "extremum", last, of_bytes(tile) if test else tile, TEST=test)


# --- where ------------------------------------------------------------------------------------------------------------


def _where_parts(input: Aval, *, dim: int | None, keepdim: bool) -> list[Aval]:
    """Indices and elements of the groups."""
    found = steps(input.shape, _over(input.ndim, dim), input.dtype in INTEGERS)
    return [*between(found, "int64"), *between(found, exact(input.dtype))]


def _over(ndim: int, dim: int | None) -> tuple[int, ...]:
    return tuple(range(ndim)) if dim is None or not ndim else (dim,)


@_scratch(_where_parts)
def argmax(rt: Any, y: Any, input: Any, *, dim: int | None, keepdim: bool, scratch: Sequence[Any] = ()) -> None:
    _where(rt, "argmax", y, input, dim, scratch)


@_scratch(_where_parts)
def argmin(rt: Any, y: Any, input: Any, *, dim: int | None, keepdim: bool, scratch: Sequence[Any] = ()) -> None:
    _where(rt, "argmin", y, input, dim, scratch)


def _where(rt: Any, op: str, y: Any, x: Any, dim: int | None, parts: Sequence[Any]) -> None:
    kind = exact(need_kernel(op, x, FLOATS + INTEGERS[1:]))
    x, turned = rt.packed(widened(rt, x, kind)), int(op == "argmin")
    found = steps(x.shape, _over(x.ndim, dim), kind in INTEGERS)
    index = y  # the first step takes positions
    for k, s in enumerate(found):
        final = s is found[-1]
        out, best = (y, x) if final else parts
        flags = (turned, int(not final), int(k > 0))
        launch(_where_extreme(s.last, s.tile), s.grid, (out, best, x, index, *s.sizes, *flags), rt.stream)
        x, index = best, out


@cache
def _where_extreme(last: bool, tile: Tile) -> Kernel:
    return step_kernel("extremum", "where_extreme", last, tile)


def _variants() -> list[Variant]:
    found = variants(partial(_extremum, True), ("*bool", "*bool", *STEP_TYPES, "int32"), INTEGER_TILES)
    for x in (*FLOATS, "int64"):
        tiles = TILES if x in FLOATS else INTEGER_TILES
        found += variants(partial(_extremum, False), (f"*{x}", f"*{x}", *STEP_TYPES, "int32"), tiles)
        types = ("*int64", f"*{x}", f"*{x}", "*int64", *STEP_TYPES, *("int32",) * 3)
        found += variants(_where_extreme, types, tiles)
    return found


VARIANTS = covering(_variants())
