"""Bodies of the convolutions: windows side by side (`_window`), then matrix products.

Where an image has many positions, each image is one product and the output is written in place; where it has few,
images are joined to one long product, whose result is put in order by a copy. A row of ones under the windows carries
the bias: forward it adds it, backward it sums its gradient. Rows of windows are ordered by tap, then by channel: so all
channels that one tap sees are one long run.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from ..aval import Aval
from ..backend import scratch as _scratch
from ..blas import UNPACKED as _UNPACKED
from ..blas import at_a_time as _at_a_time
from ..blas import leaves_small_unpacked as _leaves_small_unpacked
from ._window import Windows as _Windows
from ._window import fold as _fold
from ._window import unfold as _unfold

_MANY = 64  # positions from which on an image makes a product of its own
_BLOCK = 1 << 18  # elements of windows at a time: with what is made of them, they stay in a second-level cache


class _Plan:
    """How one convolution is computed: sizes, block of images, layout.

    Attributes:
        channels: channels of the windowed array per group.
        taps: positions of the kernel. rows: windows of one group are (rows, positions), rows = taps · channels.
        others: channels of the other array per group.
        by_image: whether each image is a product of its own.
        block: images at a time.
    """

    def __init__(self, images: int, groups: int, others: int, windows: _Windows, many: int, block: int) -> None:
        self.images, self.groups, self.others, self.windows = images, groups, others, windows
        self.channels, self.positions = windows.spatial[0], math.prod(windows.out[1:])
        self.taps = math.prod(windows.kernel)
        self.rows = self.taps * self.channels
        self.by_image = self.positions >= many
        each = max(groups * (self.rows + 1) * self.positions, 1)
        parts = max(1, -(-images * each // block))
        self.block = max(1, -(-images // parts))

    def buffers(self, dtype: str, extra: int) -> list[Aval]:
        """The windows with `extra` rows, then the arrays between their stages."""
        lead = self.block * self.groups
        cols = Aval((lead * (self.rows + extra) * self.positions,), dtype)
        return [cols, *(Aval((lead * math.prod(s),), dtype) for s in self.windows.between)]

    def blocks(self) -> Iterator[slice]:
        return (slice(i, min(i + self.block, self.images)) for i in range(0, self.images, self.block))

    def views(self, cols: Any, between: Any, n: int, extra: int) -> tuple[Any, Any, list[Any]]:
        """The flat buffers for `n` images: windows as matrices; as (n, groups, *kernel, *out); between."""
        w, g, rows, extra_rows = self.windows, self.groups, self.rows, self.rows + extra
        shape = (g, extra_rows, self.positions)
        cols = cols[: n * math.prod(shape)]
        if self.by_image:
            cols = cols.reshape((n, *shape))
            taps = cols[:, :, :rows].reshape((n, g, *w.kernel, *w.out))
        else:
            cols = cols.reshape((g, extra_rows, n, self.positions))
            taps = cols[:, :rows].reshape((g, *w.kernel, self.channels, n, *w.out[1:]))
            at = 2 + len(w.kernel)
            taps = taps.transpose((at, *range(at), *range(at + 1, taps.ndim)))
            cols = cols.reshape((g, extra_rows, n * self.positions))
        lead = (n, g)
        made = zip(between, w.between, strict=True)
        return cols, taps, [x[: math.prod(lead + s)].reshape(lead + s) for x, s in made]

    def images_of(self, x: Any, part: slice) -> Any:
        """Images of the windowed array as (n, groups, channels, *spatial)."""
        return x[part].reshape((part.stop - part.start, self.groups, *self.windows.spatial))

    def by_tap(self, weight: Any) -> Any:
        """A weight (groups · others, channels, *kernel) as (groups, others, taps, channels)."""
        return weight.reshape((self.groups, self.others, self.channels, self.taps)).swapaxes(-1, -2)

    def matrices(self, xp: Any, x: Any, part: slice, joined: Any) -> Any:
        """Images of the other array as matrices that fit `views`' windows: (…, groups, others, positions)."""
        n = part.stop - part.start
        if self.by_image:
            return x[part].reshape((n, self.groups, self.others, self.positions))
        size = self.groups * self.others
        joined = joined[: n * size * self.positions].reshape((size, n, self.positions))
        xp.copyto(joined, x[part].reshape((n, size, self.positions)).transpose((1, 0, 2)))
        return joined.reshape((self.groups, self.others, n * self.positions))

    def joined(self, dtype: str) -> list[Aval]:
        """The buffer that `matrices` needs."""
        return [] if self.by_image else [Aval((self.block * self.groups * self.others * self.positions,), dtype)]


def _plan(*sizes: Any, many: int = _MANY, **attrs: Any) -> _Plan:
    return _planned(*sizes, **attrs, many=many, block=_at_a_time(_BLOCK))


@lru_cache(maxsize=1024)
def _planned(
    windowed: tuple[int, ...],
    other: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
    many: int,
    block: int,
) -> _Plan:
    """The plan for a windowed array (N, C, *spatial) and the other one (N, channels, *positions). From `many` positions
    on an image makes a product of its own. The channels are one more axis of the windows, with nothing to slide."""
    channels, before = windowed[1] // groups, tuple(p[0] for p in padding)
    sizes = (channels, *windowed[2:]), (channels, *other[2:])
    windows = _Windows(*sizes, (1, *kernel), (1, *stride), (0, *before), (1, *dilation))
    return _Plan(windowed[0], groups, other[1] // groups, windows, many, block)


# --- convolution ------------------------------------------------------------------------------------------------------


def _conv_plan(input: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> _Plan:
    spans = zip(input.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    out = tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in spans)
    other = (input.shape[0], weight.shape[0], *out)
    return _plan(input.shape, other, weight.shape[2:], stride, padding, dilation, groups)


def _conv_scratch(input: Aval, weight: Aval, bias: Aval | None, **attrs: Any) -> list[Aval]:
    plan, dtype = _conv_plan(input, weight, **attrs), input.dtype
    if plan.by_image and not plan.windows.stages:
        return []
    matrix = Aval((plan.groups, plan.others, plan.rows + (bias is not None)), dtype)
    return [matrix, *plan.joined(dtype), *plan.buffers(dtype, bias is not None)]


@_scratch(_conv_scratch)
def conv_nd(xp: Any, y: Any, input: Any, weight: Any, bias: Any, *, scratch: Any = (), **attrs: Any) -> None:
    plan = _conv_plan(input, weight, **attrs)
    g, others, rows, positions = plan.groups, plan.others, plan.rows, plan.positions
    if not scratch:  # a pointwise convolution: the images are the windows
        flat = xp.ascontiguousarray(weight).reshape((g, others, rows))
        x = xp.ascontiguousarray(input).reshape((plan.images, g, rows, positions))
        xp.matmul(flat, x, out=y.reshape((plan.images, g, others, positions)))
        if bias is not None:
            xp.add(y, bias.reshape((-1, *(1,) * (y.ndim - 2))), out=y)
        return
    extra = int(bias is not None)
    matrix, *scratch = scratch
    joined: Any = None
    if not plan.by_image:
        joined, *scratch = scratch
    xp.copyto(matrix[..., :rows].reshape((g, others, plan.taps, plan.channels)), plan.by_tap(weight))
    if bias is not None:
        xp.copyto(matrix[..., rows], bias.reshape((g, others)))
    for part in plan.blocks():
        n = part.stop - part.start
        cols, taps, between = plan.views(scratch[0], scratch[1:], n, extra)
        _unfold(xp, plan.images_of(input, part), taps, plan.windows, between)
        if extra:
            xp.copyto(cols[..., rows, :], 1)
        if plan.by_image:
            xp.matmul(matrix, cols, out=y[part].reshape((n, g, others, positions)))
        else:
            made = joined[: n * g * others * positions]
            xp.matmul(matrix, cols, out=made.reshape((g, others, n * positions)))
            made = made.reshape((g * others, n, positions)).transpose((1, 0, 2))
            xp.copyto(y[part].reshape((n, g * others, positions)), made)


# --- its weight gradient ----------------------------------------------------------------------------------------------


def _weight_plan(input: Any, dy: Any, kernel: Any, **attrs: Any) -> _Plan:
    """Products of single images have to be added up. They pay if they are small."""
    rows = input.shape[1] // attrs["groups"] * math.prod(kernel)
    each = rows * math.prod(dy.shape[2:]) * (dy.shape[1] // attrs["groups"])
    small = rows < _MANY or (each <= _UNPACKED and _leaves_small_unpacked())
    return _plan(input.shape, dy.shape, kernel, **attrs, many=_MANY if small else sys.maxsize)


def _turns(plan: _Plan) -> bool:
    """Whether dy is transposed by a copy: products that are not packed are quicker as A·B than as A·Bᵀ."""
    return plan.by_image and plan.rows >= _MANY


def _weight_scratch(input: Aval, dy: Aval, **attrs: Any) -> list[Aval]:
    plan, dtype = _weight_plan(input, dy, **attrs), input.dtype
    total = (plan.groups, plan.rows + 1, plan.others)
    product = Aval((plan.block, *total) if plan.by_image else total, dtype)
    turned = [Aval((plan.block, plan.groups, plan.positions, plan.others), dtype)] if _turns(plan) else []
    return [Aval(total, dtype), Aval(total, dtype), product, *turned, *plan.joined(dtype), *plan.buffers(dtype, 1)]


@_scratch(_weight_scratch)
def conv_weight_nd(xp: Any, dweight: Any, dbias: Any, input: Any, dy: Any, *, scratch: Any, **attrs: Any) -> None:
    plan = _weight_plan(input, dy, **attrs)
    total, partial, product, *scratch = scratch
    turned, scratch = (scratch[0], scratch[1:]) if _turns(plan) else (None, scratch)
    joined, scratch = (None, scratch) if plan.by_image else (scratch[0], scratch[1:])
    dy = xp.ascontiguousarray(dy)
    into = total
    for part in plan.blocks():
        n = part.stop - part.start
        cols, taps, between = plan.views(scratch[0], scratch[1:], n, 1)
        _unfold(xp, plan.images_of(input, part), taps, plan.windows, between)
        xp.copyto(cols[..., plan.rows, :], 1)
        right = plan.matrices(xp, dy, part, joined).swapaxes(-1, -2)
        if turned is not None:
            xp.copyto(turned[:n], right)
            right = turned[:n]
        if plan.by_image:
            xp.matmul(cols, right, out=product[:n])
            xp.add.reduce(product[:n], axis=0, out=into)
        else:
            xp.matmul(cols, right, out=into)
        if into is partial:
            xp.add(total, partial, out=total)
        into = partial
    if into is total:  # no images
        xp.copyto(total, 0)
    made = total[:, : plan.rows].reshape((plan.groups, plan.taps, plan.channels, plan.others))
    xp.copyto(plan.by_tap(dweight), made.transpose((0, 3, 1, 2)))
    xp.copyto(dbias.reshape((plan.groups, plan.others)), total[:, plan.rows])


# --- transposed convolution -------------------------------------------------------------------------------------------


def _transpose_plan(input: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> _Plan:
    spans = zip(input.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    out = tuple((n - 1) * s + d * (k - 1) + 1 - sum(p) for n, k, s, p, d in spans)
    windowed = (input.shape[0], weight.shape[1] * groups, *out)
    return _plan(windowed, input.shape, weight.shape[2:], stride, padding, dilation, groups)


def _transpose_scratch(input: Aval, weight: Aval, bias: Aval | None, **attrs: Any) -> list[Aval]:
    plan, dtype = _transpose_plan(input, weight, **attrs), input.dtype
    matrix = Aval((plan.groups, plan.rows, plan.others), dtype)
    if plan.by_image and not plan.windows.stages:
        return [matrix]
    return [matrix, *plan.joined(dtype), *plan.buffers(dtype, 0)]


@_scratch(_transpose_scratch)
def conv_transpose_nd(xp: Any, y: Any, input: Any, weight: Any, bias: Any, *, scratch: Any, **attrs: Any) -> None:
    plan = _transpose_plan(input, weight, **attrs)
    g, others, rows, positions = plan.groups, plan.others, plan.rows, plan.positions
    matrix, *scratch = scratch
    xp.copyto(matrix.reshape((g, plan.taps, plan.channels, others)), plan.by_tap(weight).transpose((0, 2, 3, 1)))
    input = xp.ascontiguousarray(input)
    start = 0 if bias is None else bias.reshape((g, plan.channels, *(1,) * (y.ndim - 2)))
    if not scratch:  # a pointwise convolution
        x = input.reshape((plan.images, g, others, positions))
        xp.matmul(matrix, x, out=y.reshape((plan.images, g, rows, positions)))
        if bias is not None:
            xp.add(y, bias.reshape((-1, *(1,) * (y.ndim - 2))), out=y)
        return
    joined, scratch = (None, scratch) if plan.by_image else (scratch[0], scratch[1:])
    for part in plan.blocks():
        cols, taps, between = plan.views(scratch[0], scratch[1:], part.stop - part.start, 0)
        xp.matmul(matrix, plan.matrices(xp, input, part, joined), out=cols)
        _fold(xp, taps, plan.images_of(y, part), plan.windows, between, start)
