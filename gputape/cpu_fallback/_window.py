"""Windows as arrays: `unfold` copies every window of an array side by side, `fold` adds them back. One axis at a time.

A tap is one position of the kernel; a stage handles one spatial axis: from the last axis, whose rows are short, to the
first, where all that follows is one long run. That takes Σ kernel copies instead of Π kernel, most of them long.
Positions in the padding are zeros of the result, so that the input itself is never padded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

Ints = tuple[int, ...]


class Windows:
    """Windows over the spatial axes: sizes of the array, number of positions, and what lies between them.

    `before` is the padding in front; the padding behind follows from `out`.

    Attributes:
        stages: the axes that have windows at all, last one first.
        plain: per stage, how many axes without windows lie between it and the stage before.
        between: per array between two stages, its shape after the leading axes: (*taps so far, *sizes, *positions).
        taps: per axis, see `taps_of`.
        apart: per axis, whether no element is in two windows.
        tiled: per axis, whether each element is in exactly one.
        whole: per axis, a tap that sees each element once, in order, or None.
        shifts: per axis, how far ahead of its window's position each tap looks.
        level: per axis, whether each tap sees the axis shifted, see `_pairs`.
    """

    def __init__(self, spatial: Ints, out: Ints, kernel: Ints, stride: Ints, before: Ints, dilation: Ints) -> None:
        self.spatial, self.out, self.kernel = spatial, out, kernel
        n = len(kernel)
        options = list(zip(spatial, out, kernel, stride, before, dilation, strict=True))
        trivial = [(k, s, p) == (1, 1, 0) and size == o for size, o, k, s, p, _ in options]
        self.stages = tuple(a for a in reversed(range(n)) if not trivial[a])
        self.plain = [previous - a - 1 for previous, a in zip((n, *self.stages), self.stages, strict=False)]
        self.between = [(*kernel[a:], *spatial[:a], *out[a:]) for a in self.stages[:-1]]
        self.shifts = [[u * d - p for u in range(k)] for _, _, k, _, p, d in options]
        self.taps = [taps_of(*option) for option in options]
        self.whole = [
            next((u for u, (_, seen) in enumerate(found) if seen == slice(0, size, 1)), None)
            for found, size in zip(self.taps, spatial, strict=True)
        ]
        self.apart = [s > d * (k - 1) for _, _, k, s, _, d in options]
        self.tiled = [(size, k, p, d) == (o * s, s, 0, 1) for size, o, k, s, p, d in options]
        self.level = [
            s == 1 and size == o and max(map(abs, shifts)) <= size
            for (size, o, _, s, _, _), shifts in zip(options, self.shifts, strict=True)
        ]


@lru_cache(maxsize=4096)
def taps_of(
    size: int, out: int, kernel: int, stride: int, before: int, dilation: int
) -> tuple[tuple[slice, slice], ...]:
    """Per tap along one axis: the positions whose window has it inside the array, and the elements they see there."""
    found = []
    for u in range(kernel):
        shift = u * dilation - before  # position o sees element o·stride + shift
        first = min(max(0, -(shift // stride)), out)
        end = max(first, min(out, (size - 1 - shift) // stride + 1))
        start = first * stride + shift
        seen = slice(start, start + (end - first - 1) * stride + 1, stride) if end > first else slice(0, 0)
        found.append((slice(first, end), seen))
    return tuple(found)


def unfold(xp: Any, x: Any, windows: Any, w: Windows, between: Sequence[Any]) -> None:
    """Write the windows of `x` (*lead, *spatial) to `windows` (*lead, *kernel, *out).

    `between` holds contiguous arrays (*lead, *shape) for `w.between`.
    """
    lead = (slice(None),) * (x.ndim - len(w.kernel))
    stages = w.stages
    if not stages:
        xp.copyto(windows.reshape(x.shape), x)
    targets = [*between, windows[(*lead, *(0,) * (stages[-1] if stages else 0))]]
    for a, plain, target in zip(stages, w.plain, targets, strict=False):
        taps = [target[(*lead, u, *(0,) * plain)] for u in range(w.kernel[a])]
        for seen, elements in _pairs(w, a, taps, x, len(lead)):
            xp.copyto(seen, elements)
        _zero_outside(xp, w, a, taps)
        x = target


def fold(xp: Any, windows: Any, x: Any, w: Windows, between: Sequence[Any], start: Any = None) -> None:
    """Add `windows` (*lead, *kernel, *out) up in `x` (*lead, *spatial), on top of `start`. The adjoint of `unfold`.

    Overwrites `between`.
    """
    lead = (slice(None),) * (x.ndim - len(w.kernel))
    stages = w.stages
    if not stages:
        xp.add(windows.reshape(x.shape), 0 if start is None else start, out=x)
        return
    windows = windows[(*lead, *(0,) * stages[-1])]
    for a, plain, target in reversed(list(zip(stages, w.plain, [x, *between], strict=True))):
        first = start if target is x else None
        taps = [windows[(*lead, u, *(0,) * plain)] for u in range(w.kernel[a])]
        if _joins(w, a, taps, target, len(lead)):
            _zero_outside(xp, w, a, taps)
        pairs = list(_pairs(w, a, taps, target, len(lead)))
        whole = w.whole[a]
        if whole is not None:
            tap, into = pairs.pop(whole)
            if first is None:
                xp.copyto(into, tap)
            else:
                behind = (slice(None),) * (len(w.kernel) - 1 - a)
                xp.add(taps[whole][(..., w.taps[a][whole][0], *behind)], first, out=target)
        elif not (first is None and w.tiled[a]):
            xp.copyto(target, 0 if first is None else first)
        for tap, into in pairs:
            xp.copyto(into, tap) if first is None and w.apart[a] else xp.add(into, tap, out=into)
        windows = target


def _joins(w: Windows, a: int, taps: Sequence[Any], x: Any, lead: int) -> bool:
    """Whether all that follows the `lead` axes may be taken as one run, see `_pairs`."""
    return w.level[a] and x.flags.c_contiguous and taps[0][(0,) * lead].flags.c_contiguous


def _pairs(w: Windows, a: int, taps: Sequence[Any], x: Any, lead: int) -> Iterator[tuple[Any, Any]]:
    """Per tap of axis `a`: the part of it that lies inside `x`, and the elements of `x` it sees there.

    Where an axis keeps its size, it is joined with all others: what a tap sees is `x` shifted, apart from what wraps
    around at the ends of the axis, which `_zero_outside` is for. One long run is several times as fast as short ones.
    """
    behind = (slice(None),) * (len(w.kernel) - 1 - a)
    if not _joins(w, a, taps, x, lead):
        for tap, (positions, elements) in zip(taps, w.taps[a], strict=True):
            yield tap[(..., positions, *behind)], x[(..., elements, *behind)]
        return
    flat = x.reshape((*x.shape[:lead], math.prod(x.shape[lead:])))
    size = flat.shape[-1]
    for tap, shift in zip(taps, w.shifts[a], strict=True):
        ahead = shift * math.prod(w.out[a + 1 :])
        first, end = max(0, -ahead), size - max(0, ahead)
        yield tap.reshape(flat.shape)[..., first:end], flat[..., first + ahead : end + ahead]


def _zero_outside(xp: Any, w: Windows, a: int, taps: Sequence[Any]) -> None:
    """Zeros at the positions whose tap lies in the padding."""
    behind = (slice(None),) * (len(w.kernel) - 1 - a)
    for tap, (positions, _) in zip(taps, w.taps[a], strict=True):
        for gap in (slice(0, positions.start), slice(positions.stop, w.out[a])):
            if gap.stop > gap.start:
                xp.copyto(tap[(..., gap, *behind)], 0)
