"""Bodies of the ops that pick elements by integer arrays. They check the range of every index first."""

from __future__ import annotations

from typing import Any

from ..errors import IndexRangeError
from ..flat import as_one as _as_one


@_as_one
def _check_range(xp: Any, op: str, index: Any, size: int, low: int = 0) -> None:
    """Raise `IndexRangeError` naming the first index outside [low, size)."""
    if not index.size or (index.min() >= low and index.max() < size):
        return
    flat = int(xp.argmax((index < low) | (index >= size)))
    where = tuple(int(k) for k in xp.unravel_index(flat, index.shape))
    raise IndexRangeError(
        f"{op}: index {index[where]} at {where} of the indices {index.shape} is out of range for size {size}. "
        + (f"Use {low} to {size - 1}." if size else "There is nothing to index.")
    )


def index_select(xp: Any, y: Any, input: Any, index: Any, *, dim: int) -> None:
    _check_range(xp, "index_select", index, input.shape[dim] if input.ndim else 1)
    if y.size:
        xp.take(input, index.reshape(y.shape[dim : dim + 1]), axis=dim if input.ndim else None, out=y, mode="clip")


def index_add(xp: Any, y: Any, input: Any, index: Any, source: Any, *, dim: int, alpha: float) -> None:
    size = input.shape[dim] if input.ndim else 1
    _check_range(xp, "index_add", index, size)
    xp.copyto(y, input)
    if not source.size:
        return
    rows = [xp.moveaxis(a, dim, 0) if a.ndim else a.reshape(1) for a in (y, source)]
    _add_rows(xp, rows[0], index.reshape(-1), rows[1], alpha)


@_as_one
def _add_rows(xp: Any, y: Any, index: Any, rows: Any, alpha: float) -> None:
    """y[index] += alpha · rows, where equal indices add up."""
    if alpha != 1:
        rows = rows * xp.asarray(alpha).astype(y.dtype)
    if y.ndim == 1:
        _add_at(xp, y, index, rows)
        return
    n = len(index)
    if not xp.greater(index[1:], index[:-1]).all():
        index, rows = _sum_by_index(xp, index, rows, len(y))
    elif index[-1] - index[0] == n - 1:  # rows side by side
        index = slice(int(index[0]), int(index[0]) + n)
    y[index] += rows


def _sum_by_index(xp: Any, index: Any, rows: Any, size: int) -> tuple[Any, Any]:
    """The distinct indices (below `size`), and for each the sum of its rows, added one after the other."""
    n = len(index)
    keys = index.astype("uint16") if size <= 65536 else index  # sorted by radix, 20 times faster
    order = xp.argsort(keys, kind="stable")
    ordered = index[order]
    first = xp.empty(n + 1, bool)  # of its segment, and the end
    first[0] = first[n] = True
    xp.not_equal(ordered[1:], ordered[:-1], out=first[1:n])
    bounds = first.nonzero()[0]
    starts, counts = bounds[:-1], bounds[1:] - bounds[:-1]
    if int(counts.max()) > len(starts):  # few long segments
        return ordered[starts], xp.add.reduceat(rows.take(order, 0), starts, axis=0)
    # Many short segments: the first row of every segment, the longest segment in front, then the second row of those
    # that have one, and so on. Each of these runs is added to the front of the first.
    by_length = xp.argsort(-counts, kind="stable")
    place = xp.empty_like(by_length)
    place[by_length] = xp.arange(len(starts))
    rank = xp.arange(n) - xp.repeat(starts, counts)
    runs = xp.bincount(rank)
    layout = xp.empty_like(order)
    layout[(xp.cumsum(runs) - runs)[rank] + xp.repeat(place, counts)] = order
    rows, at = rows.take(layout, 0), len(starts)
    for m in runs.tolist()[1:]:
        rows[:m] += rows[at : at + m]
        at += m
    return ordered[starts[by_length]], rows[: len(starts)]


def _add_at(xp: Any, flat: Any, places: Any, values: Any) -> None:
    """flat[places] += values, where equal places add up: floats in float64, integers exactly."""
    if flat.dtype.kind == "f":
        flat += xp.bincount(places, values, len(flat)).astype(flat.dtype, copy=False)
    else:
        xp.add.at(flat, places, values)


def wrap_index(xp: Any, y: Any, *indices: Any, sizes: tuple[int, ...], op: str) -> None:
    y.fill(0)
    for index, n in zip(indices, sizes, strict=True):
        _check_range(xp, op, index, n, -n)
        y *= n
        if y.size:
            y += xp.remainder(index.astype("int64"), n)
