"""Bodies of max pooling: one pass per position of the window (a tap), over all windows at once.

Which tap leads is kept by its offset, for most inputs one byte per window. A tap takes the lead if it is strictly
larger than all before it, or NaN; so the last to take the lead is the first of the maxima, or the last NaN.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise, product
from typing import Any

from ..aval import Aval
from ..aval import window as _window
from ..backend import scratch as _scratch
from ..blas import at_a_time as _at_a_time
from ..flat import constant as _constant
from ._window import taps_of as _taps_of

Ints = tuple[int, ...]

_BLOCK = 1 << 18  # elements of the input at a time: with what is made of them, they stay in a second-level cache


class _Plan:
    """Constants of one pool.

    Attributes:
        taps: per tap (its code, positions that have it in the input, elements they see).
        offsets: code → flat offset from the window's origin, or None where the offsets are the codes.
        origin: flat index of each window's first corner, which may lie outside the input.
        first: code of the first tap of each window that is inside the input.
        empty: which windows have no element at all, or None.
    """

    def __init__(
        self, xp: Any, spatial: Ints, out: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
    ) -> None:
        axes = list(zip(spatial, out, kernel, stride, padding, dilation, strict=True))
        weights = [math.prod(spatial[a + 1 :]) for a in range(len(axes))]
        offsets = _offsets(spatial, kernel, dilation)
        coded = _rises(offsets)
        ranges = [_taps_of(*axis) for axis in axes]
        self.taps = []
        for k, tap in enumerate(product(*map(range, kernel))):
            found = [ranges[a][u] for a, u in enumerate(tap)]
            code = offsets[k] if coded else k
            self.taps.append((code, (..., *(p for p, _ in found)), (..., *(e for _, e in found))))
        self.offsets = None if coded else xp.asarray(offsets, dtype="int32")
        self.origin = xp.zeros(out, "int32")
        first = xp.zeros(out, "int64")
        empty = xp.zeros(out, "bool")
        for a, (n, o, k, s, p, d) in enumerate(axes):
            shape = [1] * len(axes)
            shape[a] = o
            start = (xp.arange(o, dtype="int32") * s - p).reshape(shape)
            ahead = xp.maximum(-(start // d), 0)  # taps that lie before the input
            self.origin += (start * weights[a]).astype("int32")
            first += xp.minimum(ahead, k - 1) * math.prod(kernel[a + 1 :])
            empty |= (ahead >= k) | (start + ahead * d >= n)
        self.first = xp.asarray([code for code, _, _ in self.taps], _code_dtype(offsets))[first]
        self.empty = empty if bool(empty.any()) else None


_plan = _constant(lru_cache(maxsize=512)(_Plan))


def _offsets(spatial: Ints, kernel: Ints, dilation: Ints) -> list[int]:
    """Flat offset of each tap from its window's origin."""
    steps = [d * math.prod(spatial[a + 1 :]) for a, d in enumerate(dilation)]
    return [sum(u * s for u, s in zip(tap, steps, strict=True)) for tap in product(*map(range, kernel))]


def _rises(offsets: list[int]) -> bool:
    """Whether a later tap has a larger offset: not where a kernel is longer than its axis, with padding around it."""
    return all(a < b for a, b in pairwise(offsets))


def _code_dtype(offsets: list[int]) -> str:
    """The smallest dtype that holds the codes of the taps."""
    most = offsets[-1] if _rises(offsets) else len(offsets) - 1
    return "uint8" if most < 2**8 else "int16" if most < 2**15 else "int32"


def _images(x: Any) -> int:
    """Images at a time of an array or aval."""
    return max(1, min(x.shape[0], _at_a_time(_BLOCK) // max(math.prod(x.shape[1:]), 1)))


def _forward_scratch(
    input: Aval, *, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool
) -> list[Aval]:
    sizes = zip(input.shape[2:], kernel_size, stride, padding, dilation, strict=True)
    shape = (_images(input), input.shape[1], *(_window(*w, ceil_mode) for w in sizes))
    code = _code_dtype(_offsets(input.shape[2:], kernel_size, dilation))
    return [Aval(shape, code), Aval(shape, code), Aval(shape, "bool"), Aval(shape, "bool"), Aval(shape, input.dtype)]


@_scratch(_forward_scratch)
def max_pool_nd(
    xp: Any,
    y: Any,
    index: Any,
    input: Any,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
    scratch: Any,
) -> None:
    plan = _plan(xp, input.shape[2:], y.shape[2:], kernel_size, stride, padding, dilation)
    images = _images(input)
    for i in range(0, input.shape[0], images):
        part = slice(i, i + images)
        count = min(images, input.shape[0] - i)
        _pool(xp, plan, y[part], index[part], input[part], *[s[:count] for s in scratch])


def _pool(
    xp: Any, plan: _Plan, y: Any, index: Any, input: Any, lead: Any, step: Any, win: Any, nan: Any, x: Any
) -> None:
    least = -math.inf if y.dtype.kind == "f" else xp.iinfo(y.dtype).min
    _, positions, elements = plan.taps[0]
    skip = all(p == slice(0, o) for p, o in zip(positions[1:], y.shape[2:], strict=True))
    if skip:
        xp.copyto(y, input[elements])
        xp.copyto(lead, 0)
    else:
        xp.copyto(y, least)
        xp.copyto(lead, plan.first)
    for code, positions, elements in plan.taps[skip:]:
        _fill_outside(xp, x, positions, least)
        xp.copyto(x[positions], input[elements])  # one strided reading; what follows runs over packed arrays
        xp.greater(x, y, out=win)
        xp.not_equal(x, x, out=nan)
        xp.logical_or(win, nan, out=win)
        xp.multiply(win.view("uint8"), code, out=step, dtype=step.dtype)
        xp.maximum(lead, step, out=lead)
        xp.maximum(y, x, out=y)
    if plan.offsets is None:
        xp.add(lead, plan.origin, out=index)
    else:
        xp.take(plan.offsets, lead, out=index, mode="clip")
        xp.add(index, plan.origin, out=index)
    if plan.empty is not None:
        xp.copyto(index, -1, where=plan.empty)


def _fill_outside(xp: Any, x: Any, positions: Any, least: float) -> None:
    """The least number at the windows whose tap lies in the padding."""
    for a, found in enumerate(positions[1:], 1 - len(positions)):
        behind = (slice(None),) * (-1 - a)
        for gap in (slice(0, found.start), slice(found.stop, x.shape[a])):
            if gap.stop > gap.start:
                xp.copyto(x[(..., gap, *behind)], least)


@_scratch(lambda dy, index, **attrs: [index.with_dtype("int64"), dy])
def max_pool_nd_bwd(
    xp: Any,
    dx: Any,
    dy: Any,
    index: Any,
    *,
    spatial: Ints,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    scratch: Any,
) -> None:
    at, kept = scratch
    planes, size = math.prod(dy.shape[:2]), math.prod(spatial)
    start = (xp.arange(planes) * size).reshape((*dy.shape[:2], *(1,) * len(spatial)))
    empty = _plan(xp, spatial, dy.shape[2:], kernel_size, stride, padding, dilation).empty
    if empty is not None:
        xp.copyto(kept, dy)
        xp.copyto(kept, 0, where=empty)
        dy, index = kept, xp.maximum(index, 0)
    xp.add(index, start, out=at)
    xp.copyto(dx, 0)
    xp.add.at(dx.reshape(-1), at.reshape(-1), xp.ascontiguousarray(dy).reshape(-1))


def max_pool_nd_gather(xp: Any, y: Any, input: Any, index: Any, **attrs: Any) -> None:
    flat = input.reshape((*input.shape[:2], math.prod(input.shape[2:])))
    found = xp.take_along_axis(flat, index.reshape((*index.shape[:2], math.prod(index.shape[2:]))), axis=2)
    xp.multiply(found.reshape(y.shape), index >= 0, out=y)
