"""Body of the order that sorts."""

from __future__ import annotations

from typing import Any

_SHARE = 4  # of how many elements one may be wanted for it to pay to look for these alone


def sorted_order(xp: Any, y: Any, input: Any, *, dim: int, descending: bool, first: int | None) -> None:
    if not input.ndim:
        xp.copyto(y, 0)
    elif first is None or _SHARE * first > input.shape[dim] or not y.size:
        _order(xp, y, input, dim, descending)
    else:
        _first(xp, xp.moveaxis(y, dim, -1), xp.moveaxis(input, dim, -1), descending)


def _order(xp: Any, y: Any, x: Any, dim: int, descending: bool) -> None:
    """Descending is ascending from the end, which turns equal elements round twice, and NaN to the front."""
    kept = (*[slice(None)] * dim, slice(y.shape[dim]))
    if descending:
        order = xp.argsort(xp.flip(x, dim), axis=dim, kind="stable")
        xp.subtract(x.shape[dim] - 1, xp.flip(order, dim)[kept], out=y)
    else:
        xp.copyto(y, xp.argsort(x, axis=dim, kind="stable")[kept])


def _first(xp: Any, y: Any, x: Any, descending: bool) -> None:
    """The first few along the last axis: what is not beyond the last of them, in order. Where that takes in too many
    of its equals, the later ones are left out."""
    n, k = x.shape[-1], y.shape[-1]
    x = xp.ascontiguousarray(x).reshape(-1, n)
    place = n - k if descending else k - 1
    bound = xp.partition(x, place, axis=1)[:, place : place + 1]
    chosen = xp.logical_not(xp.less(x, bound)) if descending else xp.less_equal(x, bound)
    if bool((bound != bound).any()):  # NaN among the first, or too few numbers
        _order(xp, y, x.reshape(*y.shape[:-1], n), y.ndim - 1, descending)
        return
    crowded = xp.flatnonzero(xp.count_nonzero(chosen, axis=1) > k)
    if crowded.size:
        equal = x[crowded] == bound[crowded]
        before = chosen[crowded] & ~equal
        left = k - xp.count_nonzero(before, axis=1)
        chosen[crowded] = before | (equal & (xp.cumsum(equal, axis=1) <= left[:, None]))
    order = xp.flatnonzero(chosen).reshape(-1, k)
    ranks = xp.empty_like(order)
    _order(xp, ranks, x.reshape(-1).take(order), 1, descending)
    order -= xp.arange(0, x.size, n)[:, None]
    xp.copyto(y, xp.take_along_axis(order, ranks, axis=1).reshape(y.shape))
