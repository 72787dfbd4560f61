"""Cards of fused attention and its gradient. What users call is in `sdpa.py` and `multi_head.py`."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, need_float, need_same_dtype
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .matmul import transpose
from .random import STATE, check_p, check_state

INF = float("inf")
LOWEST = {"float16": -65504.0, "bfloat16": -3e38, "float32": -3e38, "float64": -1e308}


def check_mask_dtype(op: str, attn_mask: Aval | None, query: Aval) -> None:
    """Raise `DTypeError` unless the mask is bool, float32 or of the query's dtype."""
    if attn_mask is not None and attn_mask.dtype not in ("bool", "float32", query.dtype):
        raise DTypeError(
            f"{op}: attn_mask is {attn_mask.dtype}, but bool (True = may attend), float32 or the query's {query.dtype} "
            "(added to the scores) is needed. Cast it."
        )


def default_scale(query: Aval) -> float:
    """1/√head size; 1 for the empty head, whose scores are all 0."""
    return (query.shape[-1] or 1) ** -0.5


def _canon(query: Aval, *others: Aval | None, scale: float | None, **attrs: Any) -> dict[str, Any]:
    return {"scale": default_scale(query) if scale is None else float(scale), **attrs}


def _rule(
    query: Aval,
    key: Aval,
    value: Aval,
    attn_mask: Aval | None,
    state: Aval | None,
    *,
    is_causal: bool,
    scale: float,
    dropout_p: float,
    offset: int,
) -> tuple[Aval, Aval]:
    need_float("attention", query=query)
    need_same_dtype("attention", query=query, key=key, value=value)
    check_mask_dtype("attention", attn_mask, query)
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    if not query.ndim == key.ndim == value.ndim == 4:
        raise ShapeError(f"attention: four axes each are needed, got {shapes}. Use scaled_dot_product_attention.")
    b, h, n, e = query.shape
    heads, s = key.shape[1:3]
    divides = h % heads == 0 if heads else h == 0
    if key.shape != (b, heads, s, e) or value.shape[:3] != (b, heads, s) or not divides:
        raise ShapeError(
            f"attention: {shapes} do not fit. Give (B, H, L, E), (B, G, S, E) and (B, G, S, V) where G divides H."
        )
    full = (b, h, n, s)
    if attn_mask is not None and (attn_mask.ndim != 4 or any(m not in (1, k) for m, k in zip(attn_mask.shape, full))):
        raise ShapeError(f"attention: attn_mask {attn_mask.shape} does not broadcast to {full}. Give each size or 1.")
    check_p("attention", dropout_p)
    if state is not None:
        check_state("attention", state, offset)
    elif dropout_p > 0:
        raise ArgumentError(f"attention: dropout_p={dropout_p} needs the generator's state. Pass state and offset.")
    stat = "float64" if query.dtype == "float64" else "float32"
    return query.with_shape((b, h, n, value.shape[3])), Aval((b, h, n), stat)


def _vjp(F: Any, at: At, grads: Any, *saved: Any) -> tuple[Any, ...]:
    return *F.attention_bwd(grads[0], *saved, **at.attrs, needs=at.needs[:4]), None


def _batch(count: int) -> Any:
    """Which axis is the batch's. The words that dropout takes for a sample depend on how many come before it."""
    axes: list[int | None] = [0] * count
    axes[4 if count == 7 else 7] = None  # the generator's state
    return lambda *arrays, dropout_p, **attrs: "none" if dropout_p > 0 else tuple(axes)


def words_of(query: Aval, key: Aval) -> tuple[int, int, int, int]:
    """The shape of the words that dropout takes: one for each weight, and a row begins with a fresh four of them."""
    b, h, n, _ = query.shape
    return b, h, n, (key.shape[2] + 3) // 4 * 4


def _flops(at: At, products: tuple[int, int], first: int) -> int:
    """Of that many products along the size of keys and of values, the query being input `first`; the half if each query
    sees the keys before it only."""
    query, key, value = at.ins[first : first + 3]
    scores = math.prod((*query.shape[:3], key.shape[2]))
    total = 2 * scores * (products[0] * query.shape[3] + products[1] * value.shape[3])
    return total // 2 if at.attrs["is_causal"] else total


MASK = t(1, 1, 5, 7, dtype="bool", fill="bool")
ROWS = t(1, 1, 3, 3, dtype="bool", fill=((True, False, True), (False, False, False), (True, True, True)))
BIAS = t(1, 2, 3, 3, fill=((0.5, -INF, 1.0), (-INF, -INF, -INF), (-2.0, 0.0, 3.0)))
SAMPLES = (
    Sample(t(2, 3, 5, 4), t(2, 3, 7, 4), t(2, 3, 7, 4)),
    Sample(t(2, 1, 5, 7), t(2, 1, 5, 7), t(2, 1, 5, 3), is_causal=True, why_="a head size of its own for the values"),
    Sample(t(1, 2, 3, 4), t(1, 2, 7, 4), t(1, 2, 7, 4), is_causal=True, why_="more keys than queries"),
    Sample(t(1, 2, 7, 4), t(1, 2, 3, 4), t(1, 2, 3, 4), is_causal=True, why_="more queries than keys"),
    Sample(t(2, 1, 5, 4), t(2, 1, 7, 4), t(2, 1, 7, 4), MASK, scale=0.3),
    Sample(t(2, 2, 3, 4), t(2, 2, 3, 4), t(2, 2, 3, 4), ROWS, why_="a query that may attend nothing"),
    Sample(t(2, 2, 3, 4), t(2, 2, 3, 4), t(2, 2, 3, 4), BIAS, why_="the same with an additive mask"),
    Sample(t(2, 2, 5, 4), t(2, 2, 7, 4), t(2, 2, 7, 4), t(2, 1, 5, 1), why_="a mask that broadcasts over keys"),
    Sample(t(1, 4, 5, 3), t(1, 2, 7, 3), t(1, 2, 7, 3), t(1, 4, 1, 7), why_="two query heads share a key head"),
    Sample(t(2, 4, 3, 3), t(2, 1, 3, 3), t(2, 1, 3, 5), is_causal=True),
    Sample(t(1, 1, 1, 1), t(1, 1, 1, 1), t(1, 1, 1, 1)),
    Sample(t(0, 2, 3, 4), t(0, 2, 5, 4), t(0, 2, 5, 4), why_="no batch"),
    Sample(t(2, 2, 0, 4), t(2, 2, 5, 4), t(2, 2, 5, 4), why_="no queries"),
    Sample(t(2, 2, 3, 4), t(2, 2, 0, 4), t(2, 2, 0, 4), t(1, 1, 3, 1), why_="no keys: zeros"),
    Sample(t(2, 2, 3, 0), t(2, 2, 5, 0), t(2, 2, 5, 4), why_="no features: the mean of the values"),
    Sample(t(2, 2, 3, 4), t(2, 2, 5, 4), t(2, 2, 5, 0)),
    Sample(t(1, 2, 130, 3), t(1, 2, 131, 3), t(1, 2, 131, 3), is_causal=True, why_="longer than a tile"),
    Sample(
        t(2, 2, 5, 4, layout="transposed"),
        t(2, 2, 7, 4, layout="flipped"),
        t(2, 2, 7, 4, layout="strided"),
        t(2, 2, 5, 7, layout="expanded"),
    ),
    Sample(t(1, 2, 3, 4), t(1, 2, 7, 4), t(1, 2, 7, 4), t(1, 2, 3, 7), is_causal=True, why_="both, and more keys"),
    Sample(*(t(1, 2, 5, 4, dtype="float64") for _ in range(3)), t(1, 1, 5, 5)),
    Sample(*(t(2, 2, 17, 16, dtype="bfloat16") for _ in range(3)), is_causal=True, grad_=False),
    Sample(*(t(1, 2, 5, 4, fill="uniform", low=-300, high=300) for _ in range(3)), grad_=False, why_="huge scores"),
    Sample(*(t(2, 2, 5, 4) for _ in range(3)), None, STATE, dropout_p=0.4, why_="rows of words are padded"),
    Sample(t(2, 4, 3, 3), t(2, 2, 8, 3), t(2, 2, 8, 5), None, STATE, dropout_p=0.3, offset=1, is_causal=True),
    Sample(t(2, 2, 3, 4), t(2, 2, 3, 4), t(2, 2, 3, 4), BIAS, STATE, dropout_p=0.5, offset=2),
    Sample(t(2, 2, 3, 4), t(2, 2, 3, 4), t(2, 2, 3, 4), ROWS, STATE, dropout_p=0.5),
    Sample(t(1, 2, 3, 4), t(1, 2, 5, 4), t(1, 2, 5, 4), None, STATE, dropout_p=1.0, why_="all weights dropped"),
    Sample(*(t(1, 1, 3, 4, dtype="float64") for _ in range(3)), None, STATE, dropout_p=0.25),
    Sample(t(2, 1, 3, 4), t(2, 1, 0, 4), t(2, 1, 0, 4), None, STATE, dropout_p=0.5),
)
GPT = t(16, 4, 64, 32, layout=(0, 2, 1, 3))
LONG = t(4, 16, 2048, 64)


register(
    name="attention",
    doc="""softmax(scale · query · keyᵀ + mask) · value, the softmax over the keys; scale defaults to 1/√E.

    query (B, H, L, E), key (B, G, S, E), value (B, G, S, V) → y (B, H, L, V); G divides H, and each key head serves H/G
    query heads in a row. attn_mask broadcasts to (B, H, L, S) with four axes; bool (True = may attend) or added to the
    scores. is_causal: query i attends keys 0 to i. A query that may attend nothing (all False, all -inf, S = 0) gives
    zeros and zero gradients. lse (B, H, L), float32 (float64 for float64), is the logarithm of Σ exp(scores), and the
    lowest finite number for such a query, so that exp(score - lse) is 0 there.
    dropout_p: the weights are multiplied by `dropout_mask` of shape (B, H, L, S'), S' being S rounded up to a multiple
    of 4: weight (b, h, i, j) reads word ((b·H + h)·L + i)·S' + j from counter + offset on. `state` is needed for it.
    """,
    signature="query, key, value, attn_mask=None, state=None, is_causal=False, scale=None, dropout_p=0.0, offset=0",
    precision="narrow",
    inputs=("query", "key", "value", "attn_mask", "state"),
    outputs=("y", "lse"),
    canon=_canon,
    rule=_rule,
    vjp=_vjp,
    strided=("y",),
    saves=("query", "key", "value", "attn_mask", "y", "lse", "state"),
    batch=_batch(7),
    flops=lambda at: _flops(at, (1, 1), 0),
    samples=SAMPLES,
    errors=(
        Bad(ShapeError, "four axes", t(5, 4), t(7, 4), t(7, 4)),
        Bad(ShapeError, "do not fit", t(2, 3, 5, 4), t(2, 3, 7, 3), t(2, 3, 7, 4)),
        Bad(ShapeError, "do not fit", t(2, 3, 5, 4), t(2, 2, 7, 4), t(2, 2, 7, 4)),
        Bad(ShapeError, "does not broadcast", t(2, 3, 5, 4), t(2, 3, 7, 4), t(2, 3, 7, 4), t(5, 7)),
        Bad(ArgumentError, "needs the generator's state", *(t(1, 1, 2, 2) for _ in range(3)), dropout_p=0.1),
        Bad(ArgumentError, "p=1.5 is not a probability", *(t(1, 1, 2, 2) for _ in range(3)), dropout_p=1.5),
        Bad(DTypeError, "seed, counter", *(t(1, 1, 2, 2) for _ in range(3)), None, t(2), dropout_p=0.1),
        Bad(ArgumentError, "offset=-1", *(t(1, 1, 2, 2) for _ in range(3)), None, STATE, dropout_p=0.1, offset=-1),
    ),
    perf=(
        Perf(GPT, GPT, GPT, is_causal=True, scale=32**-0.5, flops_=4 * 64 * 64 * 64 * 32, name_="gpt"),
        Perf(LONG, LONG, LONG, is_causal=True, flops_=2 * 64 * 2048 * 2048 * 64, name_="long"),
    ),
    public=False,
)


# --- the gradient -----------------------------------------------------------------------------------------------------


def _bwd_canon(
    dy: Aval, query: Aval, *others: Aval | None, scale: float | None, needs: Any, **attrs: Any
) -> dict[str, Any]:
    return _canon(query, scale=scale) | attrs | {"needs": tuple(needs)}


def _bwd_rule(
    dy: Aval,
    query: Aval,
    key: Aval,
    value: Aval,
    attn_mask: Aval | None,
    y: Aval,
    lse: Aval,
    state: Aval | None,
    *,
    needs: tuple[bool, ...],
    **attrs: Any,
) -> tuple[Aval | None, ...]:
    made = (query, key, value, attn_mask if attn_mask is not None and attn_mask.is_float else None)
    return tuple(a if need else None for a, need in zip(made, needs, strict=True))


def probabilities(F: Any, query: Any, key: Any, attn_mask: Any, is_causal: bool, scale: float) -> Any:
    """The weights (B, H, L, S) of attention, in ops of any order; zeros for a query that may attend nothing."""
    q, s = F.aval(query), F.aval(key).shape[2]
    shape = (*q.shape[:3], s)
    scores = F.mm_nd(_grouped(F, query, key), transpose(F, _per_group(F, key)))
    scores = F.reshape(F.scale(scores, scale), shape)
    blocked = later = None
    if is_causal:
        blocked = later = F.triu(F.expand(F.const(True, "bool"), shape[2:]), 1)
    if attn_mask is not None and F.aval(attn_mask).dtype == "bool":
        blocked = F.logical_not(attn_mask)
    elif attn_mask is not None:
        scores = F.add(scores, attn_mask)
        blocked = F.eq(attn_mask, F.const(-INF, F.aval(attn_mask).dtype))
    if later is not None and blocked is not later:
        blocked = F.logical_or(blocked, later)
    if blocked is not None:
        scores = F.masked_fill(scores, blocked, LOWEST[F.aval(scores).dtype])
    p = _cast(F, F.softmax(scores, -1), q.dtype)
    return p if blocked is None else F.masked_fill(p, blocked, 0.0)


def _grouped(F: Any, x: Any, key: Any) -> Any:
    """(B, H, …) as (B, G, H/G, …), G the number of key heads; an axis of one head as (B, 1, 1, …)."""
    b, h, *rest = F.aval(x).shape
    g = F.aval(key).shape[1] if h != 1 else 1
    return F.reshape(x, (b, g, h // max(g, 1), *rest))


def _per_group(F: Any, x: Any) -> Any:
    """(B, G, …) as (B, G, 1, …)."""
    b, g, *rest = F.aval(x).shape
    return F.reshape(x, (b, g, 1, *rest))


def _cast(F: Any, x: Any, dtype: str) -> Any:
    return x if F.aval(x).dtype == dtype else F.cast(x, dtype)


def _total(F: Any, a: Any, b: Any) -> Any:
    """a + b, where None stands for zero."""
    return b if a is None else a if b is None else F.add(a, b)


def _bwd_vjp(
    F: Any, at: At, grads: Any, dy: Any, query: Any, key: Any, value: Any, attn_mask: Any, y: Any, lse: Any, state: Any
) -> tuple[Any, ...]:
    """Derivatives of the gradient. With P the weights, every product per group of heads, M the mask of dropout, and
    D = Σ over keys:

    dv = (M∘P)ᵀ·dy, dp = M∘(dy·vᵀ), ds = P∘(dp - D(dp∘P)), dq = scale·ds·k, dk = scale·dsᵀ·q, dmask = ds. `a, b, c, e`
    are the cotangents of dq, dk, dv, dmask; those of ds, dp, P and the scores follow from the last to the first. `y`
    and `lse` are functions of the other inputs, and the result here is the whole derivative, so they get none.
    """
    a, b, c, e = grads
    scale, p_drop, dtype = at.attrs["scale"], at.attrs["dropout_p"], at.ins[1].dtype
    shapes: list[Any] = [None if i is None else i.shape for i in at.ins]
    mm = lambda x, z: None if x is None or z is None else F.mm_nd(x, z)  # noqa: E731 - absent cotangents
    mt = lambda x: None if x is None else transpose(F, x)  # noqa: E731
    scaled = lambda x: None if x is None else F.scale(x, scale)  # noqa: E731
    p = _grouped(F, probabilities(F, query, key, attn_mask, at.attrs["is_causal"], scale), key)
    dropped = lambda x: x  # noqa: E731
    if p_drop > 0:
        shape = words_of(at.ins[1], at.ins[2])
        kept = F.dropout_mask(state, shape, p_drop, at.attrs["offset"], dtype)
        kept = _grouped(F, F.narrow(kept, 3, 0, at.ins[2].shape[2]), key)
        dropped = lambda x: None if x is None else F.mul(x, kept)  # noqa: E731
    fold = lambda x: None if x is None else _grouped(F, x, key)  # noqa: E731
    q, dy, a = fold(query), fold(dy), fold(a)
    k, v, b, c = (None if x is None else _per_group(F, x) for x in (key, value, b, c))
    e = None if e is None else _cast(F, fold(e), dtype)

    dp = dropped(F.mm_nd(dy, mt(v)))
    ds = F.softmax_bwd(dp, p, dim=-1)
    to_ds = _total(F, scaled(_total(F, mm(a, mt(k)), mm(q, mt(b)))), e)
    to_p, to_product = dropped(mm(dy, mt(c))), None
    if to_ds is not None:
        shape = F.aval(p).shape
        to_ds = to_ds if F.aval(to_ds).shape == shape else F.expand(to_ds, shape)
        sums = [F.sum(F.mul(x, p), dim=-1, keepdim=True) for x in (dp, to_ds)]
        to_p = _total(F, to_p, F.sub(F.mul(to_ds, F.sub(dp, sums[0])), F.mul(dp, sums[1])))
        to_product = dropped(F.softmax_bwd(to_ds, p, dim=-1))
    to_scores = F.softmax_bwd(to_p, p, dim=-1)

    def back(x: Any, i: int) -> Any:
        """A gradient in the shape of input `i`, summed over the query heads of a group."""
        if x is None:
            return None
        if i in (2, 3):
            x = F.sum(x, dim=2)
        return F.reshape(x, shapes[i])

    dmask = None
    if at.needs[4]:
        dmask = F.reshape(to_scores, (*shapes[1][:3], shapes[2][2]))
        dmask = _cast(F, dmask if F.aval(dmask).shape == shapes[4] else F.sum_to(dmask, shapes[4]), at.ins[4].dtype)
    makers = (
        lambda: back(_total(F, mm(dropped(p), c), mm(to_product, v)), 0),
        lambda: back(scaled(_total(F, mm(to_scores, k), mm(ds, b))), 1),
        lambda: back(scaled(_total(F, mm(mt(to_scores), q), mm(mt(ds), a))), 2),
        lambda: back(mm(mt(to_product), dy), 3),
    )
    return (*(make() if need else None for make, need in zip(makers, at.needs)), dmask, None, None, None)


register(
    name="attention_bwd",
    doc="""Gradients of attention with respect to query, key, value and an additive mask.

    `y` and `lse` are attention's results; the weights are computed again from them. `needs` says which of the four are
    wanted; the others are None.
    """,
    signature="dy, query, key, value, attn_mask, y, lse, state=None, is_causal=False, scale=None, dropout_p=0.0, "
    "offset=0, needs=(True, True, True, True)",
    precision="narrow",
    inputs=("dy", "query", "key", "value", "attn_mask", "y", "lse", "state"),
    outputs=("dquery", "dkey", "dvalue", "dmask"),
    returns=4,
    canon=_bwd_canon,
    rule=_bwd_rule,
    vjp=_bwd_vjp,
    strided=("dquery", "dkey", "dvalue"),
    saves=("dy", "query", "key", "value", "attn_mask", "y", "lse", "state"),
    batch=_batch(12),
    flops=lambda at: _flops(at, (3, 2), 1),
    perf=(
        Perf(
            *(GPT, GPT, GPT, GPT, None, t(16, 4, 64, 32), t(16, 4, 64, stat=True)),
            is_causal=True,
            scale=32**-0.5,
            needs=(True, True, True, False),
            flops_=10 * 64 * 64 * 64 * 32,
            name_="gpt",
        ),
        Perf(
            *(LONG, LONG, LONG, LONG, None, LONG, t(4, 16, 2048, stat=True)),
            is_causal=True,
            flops_=5 * 64 * 2048 * 2048 * 64,
            name_="long",
        ),
    ),
    public=False,
)
