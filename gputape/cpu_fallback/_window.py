"""Windows as arrays: `unfold` copies every window of an array side by side, `fold` adds them back. One axis at a time.

A tap is one position of the kernel; a stage handles one spatial axis: from the last axis, whose rows are short, to the
first, where all that follows is one long run. That takes Σ kernel copies instead of Π kernel, most of them long.
Positions in the padding are zeros of the result, so that the input itself is never padded.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """

    def __init__(self, spatial: Ints, out: Ints, kernel: Ints, stride: Ints, before: Ints, dilation: Ints) -> None:
        self.spatial, self.out, self.kernel = spatial, out, kernel
        n = len(kernel)
        options = list(zip(spatial, out, kernel, stride, before, dilation, strict=True))
        trivial = [(k, s, p) == (1, 1, 0) and size == o for size, o, k, s, p, _ in options]
        self.stages = tuple(a for a in reversed(range(n)) if not trivial[a])
        self.plain = [previous - a - 1 for previous, a in zip((n, *self.stages), self.stages, strict=False)]
        self.between = [(*kernel[a:], *spatial[:a], *out[a:]) for a in self.stages[:-1]]
        self.taps = [taps_of(*option) for option in options]
        self.apart = [s > d * (k - 1) for _, _, k, s, _, d in options]
        self.tiled = [(size, k, p, d) == (o * s, s, 0, 1) for size, o, k, s, p, d in options]


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

    `between` holds arrays (*lead, *shape) for `w.between`.
    """
    lead = (slice(None),) * (x.ndim - len(w.kernel))
    stages = w.stages
    if not stages:
        xp.copyto(windows.reshape(x.shape), x)
    targets = [*between, windows[(*lead, *(0,) * (stages[-1] if stages else 0))]]
    for a, plain, target in zip(stages, w.plain, targets, strict=False):
        behind = (slice(None),) * (len(w.kernel) - 1 - a)
        for u, (positions, seen) in enumerate(w.taps[a]):
            tap = target[(*lead, u, *(0,) * plain)]
            for gap in (slice(0, positions.start), slice(positions.stop, w.out[a])):
                if gap.stop > gap.start:
                    xp.copyto(tap[(..., gap, *behind)], 0)
            xp.copyto(tap[(..., positions, *behind)], x[(..., seen, *behind)])
        x = target


def fold(xp: Any, windows: Any, x: Any, w: Windows, between: Sequence[Any], start: Any = None) -> None:
    """Add `windows` (*lead, *kernel, *out) up in `x` (*lead, *spatial), on top of `start`. The adjoint of `unfold`."""
    lead = (slice(None),) * (x.ndim - len(w.kernel))
    stages = w.stages
    if not stages:
        xp.add(windows.reshape(x.shape), 0 if start is None else start, out=x)
        return
    windows = windows[(*lead, *(0,) * stages[-1])]
    rounds = list(zip(stages, w.plain, [x, *between], strict=True))
    for a, plain, target in reversed(rounds):
        behind = (slice(None),) * (len(w.kernel) - 1 - a)
        first = start if target is x else None
        found = w.taps[a]
        whole = next((u for u, (_, seen) in enumerate(found) if seen == slice(0, w.spatial[a], 1)), None)
        if whole is None and not (first is None and w.tiled[a]):
            xp.copyto(target, 0 if first is None else first)
        order = range(w.kernel[a]) if whole is None else (whole, *(u for u in range(w.kernel[a]) if u != whole))
        for u in order:
            positions, seen = found[u]
            tap = windows[(*lead, u, *(0,) * plain)][(..., positions, *behind)]
            into = target[(..., seen, *behind)]
            if first is None and (u == whole or w.apart[a]):
                xp.copyto(into, tap)
            else:
                xp.add(first if u == whole else into, tap, out=into)
        windows = target
