"""Card of scaled_dot_product_attention: PyTorch's shapes, masks and options, brought to the fused op."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, broadcast_shapes, need_float, need_same_dtype
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t
from .attention import BIAS, GPT, check_mask_dtype, default_scale, words_of

SDPA = "scaled_dot_product_attention"


def _leads(query: Aval, key: Aval, value: Aval, enable_gqa: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Leading axes of the queries and of keys and values after broadcasting; the last of each is the head axis."""
    shapes = [a.shape for a in (query, key, value)]
    if not enable_gqa:
        lead = broadcast_shapes(SDPA, *(s[:-2] for s in shapes))
        return lead, lead
    heads = [s[-3] if len(s) > 2 else 0 for s in shapes]
    divides = not heads[0] if not heads[1] else heads[0] % heads[1] == 0
    if min(map(len, shapes)) < 3 or heads[1] != heads[2] or not divides:
        raise ShapeError(
            f"{SDPA}: with enable_gqa the heads of query {shapes[0]}, key {shapes[1]} and value {shapes[2]} (third "
            "axis from the right) do not fit. Give key and value equally many, a divisor of the query's."
        )
    batch = broadcast_shapes(SDPA, *(s[:-3] for s in shapes))
    return (*batch, heads[0]), (*batch, heads[1])


def _sdpa_rule(
    query: Aval,
    key: Aval,
    value: Aval,
    attn_mask: Aval | None,
    *,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Aval:
    need_float(SDPA, query=query)
    need_same_dtype(SDPA, query=query, key=key, value=value)
    for name, a in (("query", query), ("key", key), ("value", value)):
        if a.ndim < 2:
            raise ShapeError(f"{SDPA}: {name} has shape {a.shape}, but at least two axes are needed: (length, size).")
    if query.shape[-1] != key.shape[-1]:
        raise ShapeError(
            f"{SDPA}: the head sizes {query.shape[-1]} and {key.shape[-1]} differ (query: {query.shape}, "
            f"key: {key.shape}). Make the last axes equal."
        )
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            f"{SDPA}: {key.shape[-2]} keys but {value.shape[-2]} values (key: {key.shape}, value: {value.shape}). "
            "Make the second-to-last axes equal."
        )
    lead, _ = _leads(query, key, value, enable_gqa)
    if isinstance(dropout_p, bool) or not isinstance(dropout_p, int | float) or not 0 <= dropout_p <= 1:
        raise ArgumentError(f"{SDPA}: dropout_p={dropout_p!r} is not a probability. Use a number from 0 to 1.")
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int | float)):
        raise ArgumentError(f"{SDPA}: scale={scale!r} must be a number, or None for 1/√(head size).")
    if attn_mask is not None:
        if is_causal:
            raise ArgumentError(f"{SDPA}: attn_mask and is_causal are both given. Put the causal mask into attn_mask.")
        check_mask_dtype(SDPA, attn_mask, query)
        full = (*lead, query.shape[-2], key.shape[-2])
        padded = (1,) * (len(full) - attn_mask.ndim) + attn_mask.shape
        if len(padded) != len(full) or any(m not in (1, n) for m, n in zip(padded, full, strict=True)):
            raise ShapeError(
                f"{SDPA}: attn_mask {attn_mask.shape} does not broadcast to {full} (…, queries, keys). Reshape it."
            )
    return query.with_shape((*lead, query.shape[-2], value.shape[-1]))


def _four_axes(F: Any, x: Any, lead: tuple[int, ...], is_mask: bool = False) -> Any:
    """`x` with its leading axes broadcast to `lead` and merged into batch and heads. A mask keeps axes of size 1 where
    all of the merged ones have it."""
    shape = F.aval(x).shape
    lead = (1,) * (2 - len(lead)) + lead
    if is_mask:
        padded = (1,) * (len(lead) + 2 - len(shape)) + shape
        lead = ((1,) * (len(lead) - 1) if set(padded[:-3]) <= {1} else lead[:-1]) + padded[-3:-2]
    if math.prod(shape[:-2]) != math.prod(lead):
        x = F.expand(x, (*lead, *shape[-2:]))
    merged = (math.prod(lead[:-1]), lead[-1], *((1,) * (2 - len(shape)) + shape)[-2:])
    return x if F.aval(x).shape == merged else F.reshape(x, merged)


def _sdpa(
    F: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any,
    *,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Any:
    q, k, v = F.aval(query), F.aval(key), F.aval(value)
    lead, kv_lead = _leads(q, k, v, enable_gqa)
    shape = (*lead, q.shape[-2], v.shape[-1])
    query, key, value = (_four_axes(F, x, at) for x, at in ((query, lead), (key, kv_lead), (value, kv_lead)))
    if attn_mask is not None:
        attn_mask = _four_axes(F, attn_mask, lead, is_mask=True)
    scale = default_scale(q) if scale is None else float(scale)
    state, offset = None, 0
    if dropout_p > 0:
        state, offset = F.rng(math.prod(words_of(F.aval(query), F.aval(key))))
    options = {"is_causal": is_causal, "scale": scale, "dropout_p": float(dropout_p), "offset": offset}
    y = F.attention(query, key, value, attn_mask, state, **options)
    return y if F.aval(y).shape == shape else F.reshape(y, shape)


QKV = (t(2, 3, 5, 4), t(2, 3, 7, 4), t(2, 3, 7, 4))
FLAT = (t(5, 4), t(7, 4), t(7, 3))
DEAD = t(5, 7, dtype="bool", fill=((True,), (False,), (True,), (True,), (False,)))

register(
    name=SDPA,
    doc="""softmax(scale · query · keyᵀ + mask) · value: query (…, L, E), key (…, S, E), value (…, S, V) → (…, L, V).

    Leading axes broadcast; scale defaults to 1/√E. attn_mask broadcasts to (…, L, S): bool (True = may attend) or added
    to the scores, with a gradient if it needs one. is_causal: query i attends keys 0 to i. enable_gqa: each key head
    serves as many query heads in a row as there are more of them. dropout_p is applied to the weights, always; it takes
    a word of the generator for each, a row of S rounded up to a multiple of 4.
    As torch.nn.functional.scaled_dot_product_attention, but a query that may attend nothing (all False, or all -inf)
    gives zeros and zero gradients whatever the mask's dtype, as on the original API page.
    """,
    signature="query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False",
    precision="narrow",
    inputs=("query", "key", "value", "attn_mask"),
    rule=_sdpa_rule,
    compose=_sdpa,
    samples=(
        Sample(*QKV),
        Sample(*QKV, is_causal=True),
        Sample(*QKV, scale=-0.7),
        Sample(*QKV, t(5, 7, dtype="bool", fill="bool")),
        Sample(*QKV, DEAD, why_="zeros and zero gradients in a fully masked row"),
        Sample(*(t(2, 2, 3, 4) for _ in range(3)), BIAS, why_="the same with an additive mask"),
        Sample(*QKV, t(2, 1, 5, 7), why_="an additive mask"),
        Sample(*QKV, t(1, 7)),
        Sample(*FLAT),
        Sample(*FLAT, t(5, 7), why_="two axes each"),
        Sample(t(3, 5, 13), t(3, 7, 13), t(3, 7, 11), t(3, 1, 7), why_="heads only; sizes that are prime"),
        Sample(t(2, 2, 3, 5, 4), t(2, 2, 3, 7, 4), t(2, 2, 3, 7, 4), t(2, 1, 1, 5, 7), why_="five axes"),
        Sample(t(2, 2, 3, 5, 4), t(2, 2, 3, 7, 4), t(2, 2, 3, 7, 4), t(3, 5, 1)),
        Sample(t(2, 1, 5, 4), t(1, 3, 7, 4), t(7, 4), why_="leading axes that broadcast"),
        Sample(t(2, 6, 5, 4), t(2, 2, 7, 4), t(2, 2, 7, 4), enable_gqa=True),
        Sample(t(2, 6, 5, 4), t(2, 2, 7, 4), t(2, 2, 7, 4), t(6, 5, 7), enable_gqa=True),
        Sample(t(4, 5, 4), t(1, 5, 4), t(1, 5, 4), enable_gqa=True, is_causal=True),
        Sample(*QKV, dropout_p=1.0, why_="all weights dropped"),
        Sample(t(0, 3, 5, 4), t(0, 3, 7, 4), t(0, 3, 7, 4), why_="no batch"),
        Sample(t(2, 3, 0, 4), t(2, 3, 7, 4), t(2, 3, 7, 4), why_="no queries"),
        Sample(t(2, 3, 5, 4), t(2, 3, 0, 4), t(2, 3, 0, 4), why_="no keys"),
        Sample(
            t(2, 5, 4, layout="transposed"),
            t(2, 7, 4, layout="strided"),
            t(2, 7, 4, layout="expanded"),
            t(2, 5, 7, dtype="bool", fill="ones", layout="transposed"),
        ),
        Sample(*(t(2, 5, 4, dtype="float64") for _ in range(3)), is_causal=True),
        Sample(*(t(2, 9, 16, dtype="bfloat16") for _ in range(3)), is_causal=True, grad_=False),
    ),
    errors=(
        Bad(ShapeError, "head sizes 4 and 3 differ", t(2, 5, 4), t(2, 7, 3), t(2, 7, 4)),
        Bad(ShapeError, "7 keys but 6 values", t(2, 5, 4), t(2, 7, 4), t(2, 6, 4)),
        Bad(ShapeError, "do not broadcast", t(2, 5, 4), t(3, 7, 4), t(3, 7, 4)),
        Bad(ShapeError, "at least two axes", t(4), t(7, 4), t(7, 4)),
        Bad(ShapeError, "heads .* do not fit", t(3, 5, 4), t(2, 7, 4), t(2, 7, 4), enable_gqa=True),
        Bad(ShapeError, "heads .* do not fit", *FLAT, enable_gqa=True),
        Bad(ShapeError, r"attn_mask \(5, 6\) does not broadcast to \(2, 3, 5, 7\)", *QKV, t(5, 6)),
        Bad(ShapeError, "does not broadcast", *QKV, t(1, 2, 3, 5, 7)),
        Bad(ArgumentError, "both given", *QKV, t(5, 7), is_causal=True),
        Bad(ArgumentError, "dropout_p=1.5", *QKV, dropout_p=1.5),
        Bad(ArgumentError, "dropout_p=-0.1", *QKV, dropout_p=-0.1),
        Bad(ArgumentError, "scale='a' must be", *QKV, scale="a"),
        Bad(DTypeError, "attn_mask is int64", *QKV, t(5, 7, dtype="int64", fill="ones")),
        Bad(DTypeError, "different dtypes", t(5, 4), t(7, 4, dtype="float64"), t(7, 4)),
        Bad(DTypeError, "floating-point", *(t(5, 4, dtype="int64", fill="ones") for _ in range(3))),
    ),
    perf=(Perf(GPT, GPT, GPT, is_causal=True, flops_=4 * 64 * 64 * 64 * 32, name_="gpt"),),
    torch="torch.nn.functional.scaled_dot_product_attention",
)
