"""Body of the order that sorts."""

from __future__ import annotations

from typing import Any

_GROUPS = 8  # for each of the first elements that are wanted


def sorted_order(xp: Any, y: Any, input: Any, *, dim: int, descending: bool, first: int | None) -> None:
    if not input.ndim:
        xp.copyto(y, 0)
    elif first and y.size and input.shape[dim] >= 2 * _GROUPS * first:
        _first(xp, xp.moveaxis(y, dim, -1), xp.moveaxis(input, dim, -1), descending)
    else:
        _order(xp, y, input, dim, descending)


def _order(xp: Any, y: Any, x: Any, dim: int, descending: bool) -> None:
    """Descending is ascending from the end, which turns equal elements round twice, and NaN to the front."""
    kept = (*[slice(None)] * dim, slice(y.shape[dim]))
    if descending:
        order = xp.argsort(xp.flip(x, dim), axis=dim, kind="stable")
        xp.subtract(x.shape[dim] - 1, xp.flip(order, dim)[kept], out=y)
    else:
        xp.copyto(y, xp.argsort(x, axis=dim, kind="stable")[kept])


def _first(xp: Any, y: Any, x: Any, descending: bool) -> None:
    """The first k along the last axis. There are k elements at or before the k-th of the best of some groups: these few
    are sorted, unless they are many, being equal or NaN."""
    k, n, groups = y.shape[-1], x.shape[-1], _GROUPS * y.shape[-1]
    x = xp.ascontiguousarray(x).reshape(-1, n)
    grouped = x[:, : n - n % groups].reshape(len(x), -1, groups)
    best = (xp.maximum if descending else xp.fmin).reduce(grouped, axis=1)
    place = groups - k if descending else k - 1
    bound = xp.partition(best, place, axis=1)[:, place : place + 1]
    found = xp.flatnonzero(~xp.less(x, bound) if descending else xp.less_equal(x, bound))
    rows = found // n
    counts = xp.bincount(rows, minlength=len(x))
    if len(found) > groups * len(x) or counts.min() < k:
        _order(xp, y, x.reshape(*y.shape[:-1], n), y.ndim - 1, descending)
        return
    order = xp.empty_like(found)
    _order(xp, order, x.reshape(-1).take(found), 0, descending)
    order = order[xp.argsort(rows[order], kind="stable")]
    starts = xp.cumsum(counts) - counts
    found = found[order[starts[:, None] + xp.arange(k)]] - xp.arange(0, x.size, n)[:, None]
    xp.copyto(y, found.reshape(y.shape))
