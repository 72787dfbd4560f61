"""Bodies of smooth max pooling, and of copying windows out and adding them back."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

from ..aval import Aval
from ..aval import window as _window
from ..backend import scratch as _scratch
from ._window import Windows as _Windows
from ._window import fold as _fold
from ._window import unfold as _unfold

Ints = tuple[int, ...]


@lru_cache(maxsize=1024)
def _windows(spatial: Ints, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints) -> _Windows:
    out = tuple(_window(*w) for w in zip(spatial, kernel_size, stride, padding, dilation, strict=True))
    return _Windows(spatial, out, kernel_size, stride, padding, dilation)


def _between(array: Aval, spatial: Ints, window: dict[str, Ints]) -> list[Aval]:
    return [array.with_shape((*array.shape[:2], *shape)) for shape in _windows(spatial, **window).between]


@_scratch(lambda input, **window: _between(input, input.shape[2:], window))
def unfold_nd(xp: Any, y: Any, input: Any, *, scratch: Any = (), **window: Ints) -> None:
    w = _windows(input.shape[2:], **window)
    _unfold(xp, input, y.reshape((*y.shape[:2], *w.kernel, *w.out)), w, scratch)


@_scratch(lambda input, spatial, **window: _between(input, spatial, window))
def fold_nd(xp: Any, y: Any, input: Any, *, spatial: Ints, scratch: Any = (), **window: Ints) -> None:
    w = _windows(spatial, **window)
    windows = xp.ascontiguousarray(input).reshape((*input.shape[:2], *w.kernel, *w.out))
    _fold(xp, windows, y, w, scratch)


@lru_cache(maxsize=1024)
def _taps(spatial: Ints, kernel_size: Ints, stride: Ints) -> tuple[Any, ...]:
    """Per tap: the elements it sees, over all windows."""
    n = len(kernel_size)
    w = _windows(spatial, kernel_size, stride, (0,) * n, (1,) * n)
    return tuple((..., *(w.taps[a][u][1] for a, u in enumerate(tap))) for tap in product(*map(range, kernel_size)))


def _pooled(input: Aval, kernel_size: Ints, stride: Ints) -> Aval:
    n = len(kernel_size)
    return input.with_shape((*input.shape[:2], *_windows(input.shape[2:], kernel_size, stride, (0,) * n, (1,) * n).out))


@_scratch(lambda input, kernel_size, stride, beta: [_pooled(input, kernel_size, stride)] * 2)
def smooth_max_pool_nd(
    xp: Any, y: Any, input: Any, *, kernel_size: Ints, stride: Ints, beta: float, scratch: Any
) -> None:
    most, term = scratch
    first, *rest = taps = _taps(input.shape[2:], kernel_size, stride)
    farthest = xp.maximum if beta > 0 else xp.minimum
    xp.copyto(most, input[first])
    for tap in rest:
        farthest(most, input[tap], out=most)
    xp.copyto(most, 0, where=xp.isinf(most))  # ∞ - ∞ is not a number, ∞ itself is the answer
    xp.copyto(y, 0)
    for tap in taps:
        xp.subtract(input[tap], most, out=term)
        xp.multiply(term, beta, out=term)
        xp.exp(term, out=term)
        xp.add(y, term, out=y)
    xp.log(y, out=y)
    xp.multiply(y, 1 / beta, out=y)
    xp.add(y, most, out=y)


@_scratch(lambda dy, input, y, **attrs: [dy])
def smooth_max_pool_nd_bwd(
    xp: Any, dx: Any, dy: Any, input: Any, y: Any, *, kernel_size: Ints, stride: Ints, beta: float, scratch: Any
) -> None:
    (share,) = scratch
    xp.copyto(dx, 0)
    for tap in _taps(input.shape[2:], kernel_size, stride):
        xp.subtract(input[tap], y, out=share)
        xp.multiply(share, beta, out=share)
        xp.exp(share, out=share)
        xp.multiply(share, dy, out=share)
        into = dx[tap]
        xp.add(into, share, out=into)
