"""Host side of sums, means, variances, logarithms of sums and running sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from ..aval import Aval
from ..backend import scratch as _scratch
from ..errors import BackendError
from ._integers import exact, widened
from ._steps import (
    INTEGER_TILES,
    INTEGERS,
    PAIRS,
    STEP_TYPES,
    TILES,
    Step,
    Tile,
    around,
    between,
    step_kernel,
    steps,
    variants,
)
from ._sums import add_up, moment_buffers, moments, moments_kernel, sum_kernel
from .launch import FLOATS, Kernel, Variant, covering, launch, need_kernel
from .tiles import cdiv

_SUMS = (*PAIRS, ("int64", "int64"))  # dtypes of a sum's input and result; other integers are widened first
_CUMSUM_ROWS, _CUMSUM_COLUMNS = (4, 256, 4), (64, 32, 4)

# --- sum, mean --------------------------------------------------------------------------------------------------------


def _sum_steps(input: Aval, *, dim: tuple[int, ...], dtype: str | None = None, **attrs: Any) -> list[Aval]:
    return between(*_plan(input.shape, dim, _summed(input.dtype, dtype)))


def _summed(came: str, goes: str | None) -> str:
    """The dtype that an input is brought to before it is summed."""
    return "float32" if goes == "float32" and came in INTEGERS else exact(came)


def _plan(shape: tuple[int, ...], dim: tuple[int, ...], dtype: str) -> tuple[Sequence[Step], str]:
    """The steps, and the dtype between them."""
    integers = dtype in INTEGERS
    return steps(shape, dim, integers), "int64" if integers else "float32"


def _sum(rt: Any, op: str, y: Any, x: Any, dim: tuple[int, ...], parts: Sequence[Any], divisor: float = 1.0) -> None:
    came, goes = need_kernel(op, x, FLOATS + INTEGERS), need_kernel(op, y, FLOATS + INTEGERS)
    kind = _summed(came, goes)
    if (kind, goes) not in _SUMS:
        raise BackendError(f"{op}: no kernel for {came} summed as {goes}. Cast the input to {goes} first.")
    add_up(rt, y, rt.packed(widened(rt, x, kind)), _plan(x.shape, dim, kind)[0], parts, divisor)


@_scratch(_sum_steps)
def sum_(rt: Any, y: Any, input: Any, *, dim: tuple[int, ...], scratch: Sequence[Any] = (), **attrs: Any) -> None:
    """`keepdim` and `dtype` have done their work in the aval of y."""
    _sum(rt, "sum", y, input, dim, scratch)


@_scratch(_sum_steps)
def mean(rt: Any, y: Any, input: Any, *, dim: tuple[int, ...], scratch: Sequence[Any] = (), **attrs: Any) -> None:
    _sum(rt, "mean", y, input, dim, scratch, float(_count(input.shape, dim)))


def _count(shape: tuple[int, ...], dim: tuple[int, ...]) -> int:
    return math.prod(shape[d] for d in dim)


def _expanded(shape: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that broadcasting from `to` to `shape` expanded."""
    lead = len(shape) - len(to)
    return (*range(lead), *(i + lead for i, n in enumerate(to) if n == 1 and shape[i + lead] != 1))


@_scratch(lambda input, *, shape: _sum_steps(input, dim=_expanded(input.shape, shape)))
def sum_to(rt: Any, y: Any, input: Any, *, shape: tuple[int, ...], scratch: Sequence[Any] = ()) -> None:
    _sum(rt, "sum_to", y, input, _expanded(input.shape, shape), scratch)


# --- variance ---------------------------------------------------------------------------------------------------------


def _var_buffers(input: Aval, *, dim: tuple[int, ...], **attrs: Any) -> list[Aval]:
    means = Aval((steps(input.shape, dim)[-1].outputs,), "float32")
    return [means, means, *moment_buffers(input.shape, dim)]


@_scratch(_var_buffers)
def var(
    rt: Any, y: Any, input: Any, *, dim: tuple[int, ...], correction: float, keepdim: bool, scratch: list[Any]
) -> None:
    _var(rt, "var", y, input, dim, correction, scratch)


@_scratch(_var_buffers)
def std(
    rt: Any, y: Any, input: Any, *, dim: tuple[int, ...], correction: float, keepdim: bool, scratch: list[Any]
) -> None:
    _var(rt, "std", y, input, dim, correction, scratch)


def _var(rt: Any, op: str, y: Any, x: Any, dim: tuple[int, ...], correction: float, buffers: list[Any]) -> None:
    need_kernel(op, x)
    divisor = float(max(_count(x.shape, dim) - correction, 0))
    means, rests, *parts = buffers
    moments(rt, y, means, rests, rt.packed(x), dim, divisor, parts, root=op == "std")


# --- logarithms of sums, running sums ---------------------------------------------------------------------------------


@_scratch(_sum_steps)
def logsumexp(rt: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, scratch: Sequence[Any] = ()) -> None:
    """The logarithm of sums over groups is a sum of that kind itself."""
    need_kernel("logsumexp", input)
    x = rt.packed(input)
    for s, out in zip(steps(input.shape, dim), (*scratch, y), strict=True):
        launch(_logsumexp(s.last, s.tile), s.grid, (out, x, *s.sizes), rt.stream)
        x = out


@cache
def _logsumexp(last: bool, tile: Tile) -> Kernel:
    return step_kernel("reduce", "logsumexp", last, tile)


def cumsum(rt: Any, y: Any, input: Any, *, dim: int, dtype: str | None) -> None:
    came, goes = need_kernel("cumsum", input, FLOATS + INTEGERS), need_kernel("cumsum", y, FLOATS + INTEGERS)
    if goes != exact(came):
        raise BackendError(f"cumsum: no kernel for {came} summed as {goes}. Cast the input to {goes} first.")
    _cumsum(rt, y, input, dim, reverse=False)


def cumsum_bwd(rt: Any, dx: Any, dy: Any, *, dim: int) -> None:
    need_kernel("cumsum_bwd", dy)
    _cumsum(rt, dx, dy, dim, reverse=True)


def _cumsum(rt: Any, y: Any, x: Any, dim: int, reverse: bool) -> None:
    outer, n, inner = around(x.shape, dim)
    tile = _CUMSUM_ROWS if inner == 1 else _CUMSUM_COLUMNS
    kernel = _running(reverse, inner == 1, tile)
    sizes = (outer * inner, np.int64(n), inner, np.int64(cdiv(n, tile[1])))
    x = rt.packed(widened(rt, x, exact(str(x.dtype))))
    launch(kernel, (cdiv(outer * inner, tile[0]),), (y, x, *sizes), rt.stream)


@cache
def _running(reverse: bool, last: bool, tile: Tile) -> Kernel:
    return step_kernel("reduce", "cumsum", last, tile, REVERSE=reverse)


def _variants() -> list[Variant]:
    found = []
    for x, y in _SUMS:
        tiles = INTEGER_TILES if x in INTEGERS else TILES
        found += variants(sum_kernel, (f"*{y}", f"*{x}", *STEP_TYPES, "float32"), tiles)
    for x, y in PAIRS:
        types = (f"*{y}", "*float32", "*float32", *(f"*{x}",) * 3, *STEP_TYPES, *("float32",) * 3, "int32")
        if y in (x, "float32"):  # the first of several steps keeps float32
            found += variants(partial(moments_kernel, True), types)
        found += variants(_logsumexp, (f"*{y}", f"*{x}", *STEP_TYPES))
    for y in FLOATS:
        types = (f"*{y}", *("*float32",) * 5, *STEP_TYPES, *("float32",) * 3, "int32")
        found += variants(partial(moments_kernel, False), types)
    ends = ((True, _CUMSUM_ROWS), (False, _CUMSUM_COLUMNS))
    for x in (*FLOATS, "int64"):
        for reverse in (False, True) if x in FLOATS else (False,):
            running = (f"*{x}", f"*{x}", "int32", "int64", "int32", "int64")
            found += variants(partial(_running, reverse), running, ends)
    return found


VARIANTS = covering(_variants())
