"""Bodies of fused attention and its gradient.

Queries are taken in tiles: the scores of one tile stay small, and a causal tile computes only the keys it may see.
The query heads that share a key head are folded into the rows of one product: arrays are (B, G, H/G, L, ·) inside.
Scores lie in memory with the keys outermost: maxima and sums over keys, and what is subtracted from all scores of a
query, then run along whole vectors of queries, and no product needs the slow form A·Bᵀ of small matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..aval import Aval
from ..backend import scratch as _scratch
from ..ops.random import keep_factor as _keep_factor
from ._filled import ones as _ones
from .random import _kept, _row_buffers

_SCORES = 2**20  # elements in the scores of one tile, but at least _ROWS queries
_ROWS = 64
_TOGETHER = 2**17  # elements in the scores of the samples that are taken together


def _tile(query: Any, key: Any) -> int:
    """Queries in a tile, from arrays or avals."""
    b, h, n, _ = query.shape
    fit = _SCORES // max(b * h * key.shape[2], 1)
    return max(1, min(n, max(fit, _ROWS)))


def _tiles(query: Any, key: Any, is_causal: bool) -> Iterator[tuple[slice, int]]:
    """(queries, number of keys they may see) of each tile."""
    n, s, size = query.shape[2], key.shape[2], _tile(query, key)
    for start in range(0, n, size):
        stop = min(start + size, n)
        yield slice(start, stop), min(s, stop) if is_causal else s


def _pieces(query: Any, key: Any, is_causal: bool, apart: bool) -> Iterator[tuple[slice, slice, int]]:
    """(samples, queries, number of keys they may see) of each piece: the samples of a tile together, or, if they may
    be taken `apart`, as many as leave their scores in the second-level cache."""
    b, h, _, _ = query.shape
    for rows, keys in _tiles(query, key, is_causal):
        each = h * (rows.stop - rows.start) * keys
        size = max(1, min(b, _TOGETHER // max(each, 1))) if apart else b
        for i in range(0, b, size):
            yield slice(i, min(i + size, b)), rows, keys


def _first(buffer: Any, *shape: int) -> Any:
    """The first elements of a flat buffer, in this shape."""
    return buffer[: math.prod(shape)].reshape(shape)


def _keys_outermost(buffer: Any, *shape: int) -> Any:
    """The first elements of a flat buffer in this shape, whose last axis is the outermost in memory."""
    made = _first(buffer, shape[-1], *shape[:-1])
    return made.transpose((*range(1, len(shape)), 0))


def _by_key(x: Any) -> Any:
    """(B, G, R, n, keys), keys outermost in memory, as the matrices (B, G, keys, R·n)."""
    b, g, r, n, keys = x.shape
    return x.transpose((0, 1, 4, 2, 3)).reshape(b, g, keys, r * n)


def _by_feature(buffer: Any, x: Any) -> Any:
    """Where (B, G, R, n, k) goes with the rows innermost in memory, (B, G, k, R, n)."""
    b, g, r, n, k = x.shape
    return _first(buffer, b, g, k, r, n)


def _columns(x: Any) -> Any:
    """(B, G, k, R, n) as the matrices (B, G, k, R·n)."""
    b, g, k, r, n = x.shape
    return x.reshape(b, g, k, r * n)


def _rows_of(x: Any, columns: Any) -> Any:
    """The rows of (B, G, R, n, k) as the matrices (B, G, R·n, k): itself where R is 1, else those of `columns`, which
    holds them the other way round."""
    b, g, r, n, k = x.shape
    return x.reshape(b, g, n, k) if r == 1 else _columns(columns).swapaxes(-1, -2)


def _split(query: Any, key: Any, *others: Any) -> list[Any]:
    """Arrays (B, H, …) as (B, G, H/G, …), which is always a view; an array of one head as (B, 1, 1, …)."""
    h, g = query.shape[1], key.shape[1]
    heads = {h: (g, h // max(g, 1)), 1: (1, 1)} if h != 1 else {1: (g, 1)}
    return [None if x is None else x.reshape(len(x), *heads[x.shape[1]], *x.shape[2:]) for x in (query, *others)]


# --- scores -----------------------------------------------------------------------------------------------------------


def _score_buffers(query: Aval, key: Aval, attn_mask: Aval | None, is_causal: bool) -> list[Aval]:
    """Flat buffers: scores, scaled queries, masks laid out as the scores are, one number a row."""
    b, h, _, e = query.shape
    s, size = key.shape[2], _tile(query, key)
    bounds = max(size * s if is_causal else 0, 0 if attn_mask is None else attn_mask.size)
    stat = "float64" if query.dtype == "float64" else "float32"
    return [Aval((k,), stat) for k in (b * h * size * s, b * h * size * e, bounds, b * h * size)]


def _scores(
    xp: Any, q: Any, key: Any, mask: Any, rows: slice, keys: int, is_causal: bool, scale: float, buffers: Any
) -> tuple[Any, Any]:
    """Masked scores (B, G, R, rows, keys) of a tile, and its scaled queries (B, G, E, R, rows)."""
    *lead, _, _ = q.shape
    part = q[..., rows, :]
    scaled = _by_feature(buffers[1], part)
    xp.multiply(part.transpose((0, 1, 4, 2, 3)), scale, out=scaled)
    s = _keys_outermost(buffers[0], *lead, rows.stop - rows.start, keys)
    xp.matmul(key[:, :, :keys], _columns(scaled), out=_by_key(s))
    if is_causal and keys > rows.start + 1:
        seen = xp.greater_equal(xp.arange(rows.start, rows.stop)[:, None], xp.arange(keys))
        _block(xp, s, seen, buffers[2])
    if mask is not None:
        part = _tile_part(mask, rows, keys)
        if mask.dtype == bool:
            _block(xp, s, part, buffers[2])
        else:
            added = _keys_outermost(buffers[2], *part.shape)
            xp.copyto(added, part, casting="same_kind")
            xp.add(s, added, out=s)
    return s, scaled


def _tile_part(mask: Any, rows: slice, keys: int) -> Any:
    """What of a mask (B, G, R, L, S), or its gradient, lies over a tile's queries and the keys they may see."""
    part = mask if mask.shape[3] == 1 else mask[..., rows, :]
    return part if mask.shape[4] == 1 else part[..., :keys]


def _of(mask: Any, some: slice) -> Any:
    """What of a mask, or its gradient, is for these samples."""
    return mask if mask is None or len(mask) == 1 else mask[some]


def _block(xp: Any, s: Any, seen: Any, buffer: Any) -> None:
    """-inf where `seen` is False: a minimum with ±inf, which costs a tenth of a choice."""
    bound = _keys_outermost(buffer, *seen.shape)
    xp.subtract(seen, 0.5, out=bound, dtype=bound.dtype)
    xp.multiply(bound, xp.inf, out=bound)
    xp.minimum(s, bound, out=s)


def _sums(xp: Any, s: Any, out: Any) -> Any:
    """Sums over the keys, kept as size 1."""
    *lead, keys = s.shape
    rows = math.prod(lead)
    total = out[:rows]
    xp.matmul(s.reshape(rows, keys), _ones(xp, keys, s.dtype), out=total)
    return total.reshape(*lead, 1)


# --- dropout ----------------------------------------------------------------------------------------------------------


def _dropout_buffers(query: Aval, key: Aval, dropout_p: float) -> list[Aval]:
    """Which weights of a tile are kept, and what it takes to find out; nothing where all are."""
    rows, keys = query.shape[0] * query.shape[1] * _tile(query, key), key.shape[2]
    return [Aval((rows * keys,), "bool"), *_row_buffers(rows, keys)] if dropout_p > 0 else []


def _kept_weights(
    xp: Any, p: Any, rows: slice, length: int, keys: int, state: Any, offset: int, dropout_p: float, buffers: Any
) -> Any:
    """Which weights of a tile, in the shape of `p`, dropout keeps; `length` and `keys` are those of all tiles."""
    heads, used = math.prod(p.shape[:3]), p.shape[-1]
    row = xp.arange(heads)[:, None] * length + xp.arange(rows.start, rows.stop)
    out = _first(buffers[0], row.size, used)
    _kept(xp, out, state, offset, dropout_p, row.reshape(-1, 1) * ((keys + 3) // 4), buffers[1:])
    return out.reshape(p.shape)


# --- bodies -----------------------------------------------------------------------------------------------------------


def _forward_scratch(
    query: Aval,
    key: Aval,
    value: Aval,
    attn_mask: Aval | None,
    *more: Any,
    is_causal: bool,
    dropout_p: float,
    **rest: Any,
) -> list[Aval]:
    buffers = _score_buffers(query, key, attn_mask, is_causal)
    return [*buffers, buffers[3], *_dropout_buffers(query, key, dropout_p)]


@_scratch(_forward_scratch)
def attention(
    xp: Any,
    y: Any,
    lse: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any,
    state: Any,
    *,
    is_causal: bool,
    scale: float,
    dropout_p: float,
    offset: int,
    scratch: Any,
) -> None:
    buffers, tops, dropping = scratch[:4], scratch[4], scratch[5:]
    lowest = xp.finfo(lse.dtype).min
    if not key.shape[2]:
        y.fill(0)
        lse.fill(lowest)
        return
    q, y, lse, mask = _split(query, key, y, lse, attn_mask)
    for some, rows, keys in _pieces(query, key, is_causal, not dropping):
        s, _ = _scores(xp, q[some], key[some], _of(mask, some), rows, keys, is_causal, scale, buffers)
        top = _first(tops, *s.shape[:-1])
        xp.maximum.reduce(s, axis=-1, out=top)
        xp.maximum(top, lowest, out=top)  # a row of -inf becomes zeros instead of NaN
        xp.subtract(s, top[..., None], out=s)
        xp.exp(s, out=s)
        total = _sums(xp, s, buffers[3])
        xp.maximum(total, 1, out=total)  # at least exp(0), unless the row is all zeros
        xp.divide(s, total, out=s)
        if dropping:
            kept = _kept_weights(xp, s, rows, q.shape[3], key.shape[2], state, offset, dropout_p, dropping)
            xp.multiply(s, kept, out=s)
        part = y[some][..., rows, :]
        xp.matmul(s, value[some][:, :, None, :keys], out=part)
        if dropping:
            xp.multiply(part, _keep_factor(dropout_p), out=part)
        xp.log(total, out=total)
        xp.add(top, total[..., 0], out=lse[some][..., rows])


def _backward_scratch(
    dy: Aval,
    query: Aval,
    key: Aval,
    value: Aval,
    attn_mask: Aval | None,
    *others: Any,
    is_causal: bool,
    dropout_p: float,
    **attrs: Any,
) -> list[Aval]:
    buffers = _score_buffers(query, key, attn_mask, is_causal)
    b, h, _, v = dy.shape
    stat = buffers[0].dtype
    longest = max(key.size // max(key.shape[2], 1), value.size // max(value.shape[2], 1)) * key.shape[2]
    more = (buffers[0].size, b * h * _tile(query, key) * v, buffers[3].size, longest)
    return [*buffers, *(Aval((k,), stat) for k in more), *_dropout_buffers(query, key, dropout_p)]


@_scratch(_backward_scratch)
def attention_bwd(
    xp: Any,
    dquery: Any,
    dkey: Any,
    dvalue: Any,
    dmask: Any,
    dy: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any,
    y: Any,
    lse: Any,
    state: Any,
    *,
    is_causal: bool,
    scale: float,
    dropout_p: float,
    offset: int,
    needs: tuple[bool, ...],
    scratch: Any,
) -> None:
    buffers, (products, cotangents, inners, work), dropping = scratch[:4], scratch[4:8], scratch[8:]
    if dmask is not None:
        dmask.fill(0)
    if not key.shape[2] or not query.shape[2]:
        for out in (dquery, dkey, dvalue):
            if out is not None:
                out.fill(0)
        return
    q, y, lse, mask, dy, dq, dm = _split(query, key, y, lse, attn_mask, dy, dquery, dmask)
    factor = _keep_factor(dropout_p) if dropping else 1.0
    for some, rows, keys in _pieces(query, key, is_causal, not dropping):
        head, here, k, v = rows.start == 0, q[some][..., rows, :], key[some], value[some]
        p, scaled = _scores(xp, q[some], k, _of(mask, some), rows, keys, is_causal, scale, buffers)
        xp.subtract(p, lse[some][..., rows, None], out=p)
        xp.exp(p, out=p)
        # lse loses log Σ where the scores are huge, so p is normalised again
        total = _sums(xp, p, buffers[3])
        xp.maximum(total, 0.5 / keys, out=total)  # 0 where nothing may be attended; p is 0 there
        xp.divide(p, total, out=p)
        g = dy[some][..., rows, :]
        inner = _first(inners, *p.shape[:-1])
        xp.vecdot(g, y[some][..., rows, :], out=inner)
        columns = _by_feature(cotangents, g)
        xp.copyto(columns, g.transpose((0, 1, 4, 2, 3)))
        weights = p
        ds = _keys_outermost(products, *p.shape)
        if dropping:
            kept = _kept_weights(xp, p, rows, q.shape[3], key.shape[2], state, offset, dropout_p, dropping)
            weights = xp.multiply(p, kept, out=ds)
            xp.multiply(weights, factor, out=weights)
        if dvalue is not None:
            _add_product(xp, dvalue[some], _by_key(weights), _rows_of(g, columns), head, work)
        if dquery is None and dkey is None and dmask is None:
            continue
        xp.matmul(v[:, :, :keys], _columns(columns), out=_by_key(ds))
        if dropping:
            xp.multiply(ds, kept, out=ds)
            xp.multiply(ds, factor, out=ds)
        xp.subtract(ds, inner[..., None], out=ds)
        xp.multiply(ds, p, out=ds)
        if dquery is not None:
            part = dq[some][..., rows, :]
            xp.matmul(ds, k[:, :, None, :keys], out=part)
            xp.multiply(part, scale, out=part)
        if dkey is not None:
            _add_product(xp, dkey[some], _by_key(ds), _rows_of(here, scaled), head, work)
        if dmask is not None:
            part = _tile_part(_of(dm, some), rows, keys)
            over = tuple(i for i, n in enumerate(part.shape) if n == 1)
            xp.add(part, xp.add.reduce(ds, axis=over, keepdims=True), out=part)
    if dkey is not None and q.shape[2] == 1:
        xp.multiply(dkey, scale, out=dkey)  # of several heads the scaled queries were multiplied


def _add_product(xp: Any, out: Any, a: Any, b: Any, is_first: bool, work: Any) -> None:
    """Add a·b to the first rows of `out`, whose contents do not count if `is_first`."""
    keys = a.shape[-2]
    top = out[:, :, :keys]
    if is_first:
        out[:, :, keys:].fill(0)
        xp.matmul(a, b, out=top)
    else:
        part = _first(work, *top.shape)
        xp.matmul(a, b, out=part)
        xp.add(top, part, out=top)
