"""Host side of products, running products and the linear recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from ..aval import Aval
from ..backend import NP_DTYPE
from ..backend import scratch as _scratch
from ..errors import BackendError
from ._steps import (
    INTEGER_TILES,
    INTEGERS,
    PAIRS,
    STEP_TYPES,
    TILES,
    Tile,
    around,
    between,
    of_bytes,
    step_kernel,
    steps,
    variants,
)
from .launch import FLOATS, Kernel, Variant, covering, launch, need_kernel, triton
from .tiles import cdiv

_PRODUCTS = (*PAIRS, *((i, y) for i in INTEGERS for y in ("int64", "float32")))  # dtypes of input and result
_ROWS = 128  # of a program of the recurrence


def _parts(input: Aval, *, dim: tuple[int, ...], **attrs: Any) -> list[Aval]:
    integers = input.dtype in INTEGERS
    return between(steps(input.shape, dim, integers), "int64" if integers else "float32")


@_scratch(_parts)
def prod(rt: Any, y: Any, input: Any, *, dim: tuple[int, ...], scratch: Sequence[Any] = (), **attrs: Any) -> None:
    """`keepdim` and `dtype` have done their work in the aval of y."""
    came, goes = need_kernel("prod", input, FLOATS + INTEGERS), need_kernel("prod", y, FLOATS + INTEGERS)
    if (came, goes) not in _PRODUCTS:
        raise BackendError(f"prod: no kernel for {came} multiplied as {goes}. Cast the input to {goes} first.")
    x = rt.packed(input)
    for s, out in zip(steps(x.shape, dim, came in INTEGERS), (*scratch, y), strict=True):
        launch(_products(x.itemsize, s.last, s.tile), s.grid, (out, x, *s.sizes), rt.stream)
        x = out


@cache
def _products(itemsize: int, last: bool, tile: Tile) -> Kernel:
    return step_kernel("prod", "products", last, of_bytes(tile) if itemsize == 1 else tile)


def cumprod(rt: Any, y: Any, input: Any, *, dim: int, dtype: str | None) -> None:
    came, goes = need_kernel("cumprod", input, FLOATS + INTEGERS), need_kernel("cumprod", y, FLOATS + INTEGERS)
    if goes != ("int64" if came in INTEGERS else came):
        raise BackendError(f"cumprod: no kernel for {came} multiplied as {goes}. Cast the input to {goes} first.")
    x = rt.packed(input)
    _run(rt, y, x, x, dim, products=True, reverse=False)


def recurrence(rt: Any, y: Any, x: Any, a: Any, *, dim: int, reverse: bool) -> None:
    need_kernel("recurrence", x)
    _run(rt, y, rt.packed(x), rt.packed(a), dim, products=False, reverse=reverse)


def _run(rt: Any, y: Any, x: Any, a: Any, dim: int, products: bool, reverse: bool) -> None:
    outer, n, inner = around(x.shape, dim)
    rows = outer * inner
    sizes = (rows, np.int64(n), inner, int(reverse))
    launch(_recurrence(products, inner == 1), (cdiv(rows, _ROWS),), (y, x, a, *sizes), rt.stream)


@cache
def _recurrence(products: bool, last: bool) -> Kernel:
    return triton("prod", "recurrence", PRODUCTS=products, LAST=last, BLOCK_OUT=_ROWS)


def _variants() -> list[Variant]:
    found = []
    for x, y in _PRODUCTS:
        kernel, tiles = partial(_products, NP_DTYPE[x].itemsize), INTEGER_TILES if x in INTEGERS else TILES
        found += variants(kernel, (f"*{y}", f"*{x}", *STEP_TYPES), tiles)
    for last in (True, False):
        for x in FLOATS + INTEGERS:
            y = "int64" if x in INTEGERS else x
            types = (f"*{y}", f"*{x}", f"*{x}", "int32", "int64", "int32", "int32")
            found.append(Variant(_recurrence(True, last), types))
            if x in FLOATS:
                found.append(Variant(_recurrence(False, last), types))
    return found


VARIANTS = covering(_variants())
