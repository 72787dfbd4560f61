"""Bodies of resampling: one spatial axis after another, those that shrink the most first.

Along an axis, each place of the result is a weighted sum of a few elements, its taps. Forward takes the slices of a tap
for all places at once. Backward adds runs of slices up, as the taps of neighbouring places lie in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from ..aval import Aval
from ..backend import scratch as _scratch

Ints = tuple[int, ...]
_A = -0.75  # of the cubic convolution (Keys, 1981)


class _Areas:
    """Means over the parts of an axis, ⌊j·size/out⌋ to ⌈(j+1)·size/out⌉."""

    def __init__(self, xp: Any, size: int, out: int, dtype: str) -> None:
        j, i = xp.arange(out), xp.arange(size)
        start, end = j * size // out, -(-(j + 1) * size // out)
        self.share = (1 / (end - start)).astype(dtype)
        self.progressions: list[tuple[slice, slice]] | None = []
        for k in range(int((end - start).max(initial=0))):
            places = xp.flatnonzero(end - start > k)
            found = _progressions(xp, start[places] + k, places)
            self.progressions = None if found is None or self.progressions is None else self.progressions + found
        self.runs = xp.stack((start, end), 1).reshape(-1)
        # The parts that an element is in lie side by side too.
        inside = (xp.searchsorted(end, i, side="right"), xp.searchsorted(start, i, side="right"))
        self.runs_back = xp.stack(inside, 1).reshape(-1)

    def forward(self, xp: Any, y: Any, x: Any, axis: int, work: Any) -> None:
        if self.progressions is None:
            xp.copyto(work[_at(axis, slice(0, x.shape[axis]))], x)
            _add_runs(xp, y, work, axis, self.runs)
        else:
            xp.copyto(y, 0)
            _add_slices(xp, y, x, axis, [(places, elements) for elements, places in self.progressions])
        xp.multiply(y, _along(self.share, axis, y.ndim), out=y)

    def backward(self, xp: Any, dx: Any, dy: Any, axis: int, work: Any) -> None:
        shares = work[_at(axis, slice(0, dy.shape[axis]))]
        xp.multiply(dy, _along(self.share, axis, dy.ndim), out=shares)
        if self.progressions is None:
            _add_runs(xp, dx, work, axis, self.runs_back)
        else:
            xp.copyto(dx, 0)
            _add_slices(xp, dx, shares, axis, self.progressions)


def _add_slices(xp: Any, sums: Any, x: Any, axis: int, pairs: list[tuple[slice, slice]]) -> None:
    """Slices of `x` added to slices of `sums`."""
    for to, given in pairs:
        into = sums[_at(axis, to)]
        xp.add(into, x[_at(axis, given)], out=into)


def _add_runs(xp: Any, sums: Any, x: Any, axis: int, runs: Any) -> None:
    """Sums of runs of slices, each from a start to an end. What `reduceat` adds between them is left out; the last
    slice of `x` is there for runs to end before it."""
    xp.copyto(x[_at(axis, slice(-1, None))], 0)
    xp.copyto(sums, xp.add.reduceat(x, runs, axis=axis)[_at(axis, slice(None, None, 2))])


class _Taps:
    """Taps of an axis: per tap, which element it is and its weight, over the places of the result."""

    def __init__(self, xp: Any, mode: str, align_corners: bool, size: int, out: int, scale: Any, dtype: str) -> None:
        number = xp.dtype(dtype).type
        j = xp.arange(out).astype(dtype)
        if align_corners:
            step = number(size - 1) / number(out - 1) if out > 1 else number(0)
        else:
            step = number(size) / number(out) if scale is None else number(1 / scale)
        half = number(0.5)
        if mode in ("nearest", "nearest-exact"):
            at = xp.floor((j if mode == "nearest" else j + half) * step)
            taps = [(at, None)]
        else:
            at = j * step if align_corners else (j + half) * step - half
            at = at if mode == "cubic" else xp.maximum(at, number(0))
            first = xp.minimum(xp.floor(at), number(size - 1))
            part = xp.clip(at - first, number(0), number(1))
            if mode == "linear":
                taps = [(first, 1 - part), (first + 1, part)]
            else:
                weights = (_outer(part + 1), _inner(part), _inner(1 - part), _outer(2 - part))
                taps = [(first + k, w) for k, w in enumerate(weights, -1)]
        self.taps = [(xp.clip(at, 0, size - 1).astype("int64"), w) for at, w in taps]
        self.progressions = [_progressions(xp, index, xp.arange(out)) for index, _ in self.taps]

    def forward(self, xp: Any, y: Any, x: Any, axis: int, work: Any) -> None:
        for k, (index, weight) in enumerate(self.taps):
            into = work if k else y
            xp.take(x, index, axis=axis, out=into, mode="clip")
            if weight is not None:
                xp.multiply(into, _along(weight, axis, y.ndim), out=into)
            if k:
                xp.add(y, work, out=y)

    def backward(self, xp: Any, dx: Any, dy: Any, axis: int, work: Any) -> None:
        xp.copyto(dx, 0)
        for (index, weight), progressions in zip(self.taps, self.progressions, strict=True):
            share = dy if weight is None else xp.multiply(dy, _along(weight, axis, dy.ndim), out=work)
            if progressions is None:
                starts = xp.flatnonzero(xp.diff(index, prepend=-1))
                dx[_at(axis, index[starts])] += xp.add.reduceat(share, starts, axis=axis)
            else:
                _add_slices(xp, dx, share, axis, progressions)


def _progressions(xp: Any, index: Any, places: Any) -> list[tuple[slice, slice]] | None:
    """Which element (`index`, ascending) goes with which of the places, as a few pairs of slices, or None.

    Where sizes are in a ratio of small integers, every q-th place looks p elements further. Adding strided slices is
    several times as fast as adding runs, which are short there.
    """
    for q in range(1, 9):
        phases = [(index[first::q], places[first::q]) for first in range(min(q, len(index)))]
        turns = [
            xp.count_nonzero(xp.diff(a) == 0) + sum(xp.count_nonzero(xp.diff(v, 2)) for v in (a, b)) for a, b in phases
        ]
        if max(turns) <= 4:
            return [pair for a, b in phases for pair in _cut(a.tolist(), b.tolist())]
    return None


def _cut(index: list[int], places: list[int]) -> Iterator[tuple[slice, slice]]:
    """The runs in which both are arithmetic progressions, as slices."""
    start = 0
    while start < len(index):
        end, step, stride = start, 1, 1
        if start + 1 < len(index) and index[start + 1] > index[start]:  # else one slice cannot add both up
            step, stride = index[start + 1] - index[start], places[start + 1] - places[start]
            while index[end + 1 : end + 2] == [index[end] + step] and places[end + 1] == places[end] + stride:
                end += 1
        yield slice(index[start], index[end] + 1, step), slice(places[start], places[end] + 1, stride)
        start = end + 1


def _inner(x: Any) -> Any:
    """The cubic convolution's weight of an element at a distance of 0 to 1."""
    return ((_A + 2) * x - (_A + 3)) * x * x + 1


def _outer(x: Any) -> Any:
    """The same at a distance of 1 to 2."""
    return ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A


def _at(axis: int, index: Any) -> tuple[Any, ...]:
    return (*(slice(None),) * axis, index)


def _along(values: Any, axis: int, ndim: int) -> Any:
    return values.reshape((-1, *(1,) * (ndim - 1 - axis)))


@lru_cache(maxsize=1024)
def _map(xp: Any, mode: str, align_corners: bool, size: int, out: int, scale: Any, dtype: str) -> Any:
    if mode == "area":
        return _Areas(xp, size, out, dtype)
    return _Taps(xp, mode, align_corners, size, out, scale, dtype)


@lru_cache(maxsize=1024)
def _stages(inner: Ints, outer: Ints, scales: tuple[Any, ...]) -> tuple[tuple[int, Ints, Ints], ...]:
    """The spatial axes that change, and for each the sizes before and after it."""
    sizes, found = inner, []
    for a in sorted(range(len(inner)), key=lambda a: outer[a] / inner[a]):
        if inner[a] != outer[a] or scales[a] is not None:
            after = (*sizes[:a], outer[a], *sizes[a + 1 :])
            found.append((a, sizes, after))
            sizes = after
    return tuple(found)


def _buffers(array: Aval, stages: tuple[tuple[int, Ints, Ints], ...], longer: Callable[..., Ints]) -> list[Aval]:
    """What lies between the stages, then what each works in."""
    shapes = [after for _, _, after in stages[:-1]] + [longer(*stage) for stage in stages]
    return [array.with_shape((*array.shape[:2], *shape)) for shape in shapes]


def _one_more(sizes: Ints, a: int) -> Ints:
    return (*sizes[:a], sizes[a] + 1, *sizes[a + 1 :])


def _forward_scratch(input: Aval, *, size: Ints, mode: str, scales: tuple[Any, ...], **rest: Any) -> list[Aval]:
    work = lambda a, before, after: _one_more(before, a) if mode == "area" else after  # noqa: E731
    return _buffers(input, _stages(input.shape[2:], size, scales), work)


@_scratch(_forward_scratch)
def resample_nd(
    xp: Any, y: Any, input: Any, *, size: Ints, mode: str, align_corners: bool, scales: Any, scratch: Any = ()
) -> None:
    stages = _stages(input.shape[2:], size, scales)
    if not stages:
        xp.copyto(y, input)
        return
    arrays, works = [input, *scratch[: len(stages) - 1], y], scratch[len(stages) - 1 :]
    for (a, before, after), x, into, work in zip(stages, arrays, arrays[1:], works, strict=False):
        along = _map(xp, mode, align_corners, before[a], after[a], scales[a], y.dtype.name)
        along.forward(xp, into, x, a + 2, work)


def _backward_scratch(dy: Aval, *, spatial: Ints, mode: str, scales: tuple[Any, ...], **rest: Any) -> list[Aval]:
    work = lambda a, before, after: _one_more(after, a) if mode == "area" else after  # noqa: E731
    return _buffers(dy, _stages(spatial, dy.shape[2:], scales), work)


@_scratch(_backward_scratch)
def resample_nd_bwd(
    xp: Any, dx: Any, dy: Any, *, spatial: Ints, mode: str, align_corners: bool, scales: Any, scratch: Any = ()
) -> None:
    stages = _stages(spatial, dy.shape[2:], scales)
    if not stages:
        xp.copyto(dx, dy)
        return
    arrays, works = [dx, *scratch[: len(stages) - 1], dy], scratch[len(stages) - 1 :]
    for (a, before, after), into, share, work in reversed(list(zip(stages, arrays, arrays[1:], works, strict=False))):
        along = _map(xp, mode, align_corners, before[a], after[a], scales[a], dx.dtype.name)
        along.backward(xp, into, share, a + 2, work)
