"""Bodies of average pooling: sums along one axis after another, then one division."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from ..aval import Aval
from ..aval import window as _window
from ..backend import scratch as _scratch
from ._window import Windows as _Windows

Ints = tuple[int, ...]


@lru_cache(maxsize=1024)
def _windows(spatial: Ints, kernel_size: Ints, stride: Ints, padding: Ints, ceil_mode: bool) -> _Windows:
    out = tuple(_window(*w, 1, ceil_mode) for w in zip(spatial, kernel_size, stride, padding, strict=True))
    return _Windows(spatial, out, kernel_size, stride, padding, (1,) * len(out))


def _between(w: _Windows) -> list[Ints]:
    """Shapes, after the leading axes, of the sums between two stages: (*sizes, *positions)."""
    return [(*w.spatial[:a], *w.out[a:]) for a in w.stages[:-1]]


@lru_cache(maxsize=512)
def _divisor(
    xp: Any,
    spatial: Ints,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    dtype: str,
) -> Any:
    """What each sum is divided by: a number, or an array over the positions."""
    if divisor_override is not None:
        return divisor_override
    out = _windows(spatial, kernel_size, stride, padding, ceil_mode).out
    counts: Any = 1
    for a, (n, o, k, s, p) in enumerate(zip(spatial, out, kernel_size, stride, padding, strict=True)):
        start = xp.arange(o) * s - p
        end = xp.minimum(start + k, n + p)
        if not count_include_pad:
            start, end = xp.maximum(start, 0), xp.minimum(end, n)
        counts = counts * (end - start).reshape((o, *(1,) * (len(out) - 1 - a)))
    if bool((counts == math.prod(kernel_size)).all()):
        return math.prod(kernel_size)
    return counts.astype(dtype)


def _forward_scratch(
    input: Aval, *, kernel_size: Ints, stride: Ints, padding: Ints, ceil_mode: bool, **rest: Any
) -> list[Aval]:
    w = _windows(input.shape[2:], kernel_size, stride, padding, ceil_mode)
    return [input.with_shape((*input.shape[:2], *shape)) for shape in _between(w)]


@_scratch(_forward_scratch)
def avg_pool_nd(
    xp: Any,
    y: Any,
    input: Any,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    scratch: Any = (),
) -> None:
    options = (input.shape[2:], kernel_size, stride, padding, ceil_mode)
    w = _windows(*options)
    x = input
    for a, into in zip(w.stages, (*scratch, y), strict=False):
        behind = (slice(None),) * (len(w.out) - 1 - a)
        rest: Any
        first, *rest = w.taps[a]
        if first[0] == slice(0, w.out[a]):
            xp.copyto(into, x[(..., first[1], *behind)])
        else:
            xp.copyto(into, 0)
            rest = w.taps[a]
        for positions, elements in rest:
            part = into[(..., positions, *behind)]
            xp.add(part, x[(..., elements, *behind)], out=part)
        x = into
    xp.divide(x, _divisor(xp, *options, count_include_pad, divisor_override, y.dtype.name), out=y)


def _backward_scratch(
    dy: Aval, *, spatial: Ints, kernel_size: Ints, stride: Ints, padding: Ints, ceil_mode: bool, **rest: Any
) -> list[Aval]:
    w = _windows(spatial, kernel_size, stride, padding, ceil_mode)
    return [dy, *(dy.with_shape((*dy.shape[:2], *shape)) for shape in _between(w))]


@_scratch(_backward_scratch)
def avg_pool_nd_bwd(
    xp: Any,
    dx: Any,
    dy: Any,
    *,
    spatial: Ints,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    scratch: Any,
) -> None:
    options = (spatial, kernel_size, stride, padding, ceil_mode)
    w = _windows(*options)
    share, *between = scratch
    xp.divide(dy, _divisor(xp, *options, count_include_pad, divisor_override, dx.dtype.name), out=share)
    for a, into in zip(reversed(w.stages), reversed((dx, *between)), strict=False):
        behind = (slice(None),) * (len(w.out) - 1 - a)
        if not w.tiled[a]:
            xp.copyto(into, 0)
        for positions, elements in w.taps[a]:
            part, given = into[(..., elements, *behind)], share[(..., positions, *behind)]
            xp.copyto(part, given) if w.apart[a] else xp.add(part, given, out=part)
        share = into
    if not w.stages:
        xp.copyto(dx, share)
