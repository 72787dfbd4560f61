"""Card of the original page's multi_head_attention."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, need_float, need_same_dtype
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t


def _mha_rule(wq: Aval, wk: Aval, wv: Aval, wo: Aval, input: Aval, mask: Aval | None, *, num_heads: int) -> Aval:
    op = "multi_head_attention"
    if isinstance(num_heads, bool) or not isinstance(num_heads, int) or num_heads < 1:
        raise ArgumentError(f"{op}: num_heads={num_heads!r} must be an integer of at least 1.")
    need_float(op, input=input)
    need_same_dtype(op, wq=wq, wk=wk, wv=wv, wo=wo, input=input)
    if input.ndim < 2:
        raise ShapeError(f"{op}: input has shape {input.shape}, but (…, n, d_model) is needed. Add the missing axes.")
    n, d = input.shape[-2:]
    width = wq.shape[-1] if wq.shape else 0
    for name, w in (("wq", wq), ("wk", wk), ("wv", wv)):
        if w.shape != (d, width):
            raise ShapeError(
                f"{op}: {name} has shape {w.shape}, but ({d}, heads·head_dim) is needed for input {input.shape}, the "
                "same for wq, wk and wv. Reshape it."
            )
    if width % num_heads:
        raise ShapeError(f"{op}: wq has {width} columns, which num_heads={num_heads} does not divide. Change one.")
    if wo.ndim != 2 or wo.shape[0] != width:
        raise ShapeError(f"{op}: wo has shape {wo.shape}, but ({width}, d_model) is needed. Reshape it.")
    if mask is not None and mask.dtype != "bool":
        raise DTypeError(f"{op}: mask is {mask.dtype}, but bool (True = may attend) is needed. Cast or compare it.")
    if mask is not None and mask.shape != (n, n):
        raise ShapeError(f"{op}: mask has shape {mask.shape}, but ({n}, {n}) (queries, keys) is needed.")
    return input.with_shape((*input.shape[:-1], wo.shape[1]))


def _mha(F: Any, wq: Any, wk: Any, wv: Any, wo: Any, input: Any, mask: Any, *, num_heads: int) -> Any:
    *lead, n, _ = F.aval(input).shape
    width = F.aval(wq).shape[1]
    axes = (*range(len(lead)), len(lead) + 1, len(lead), len(lead) + 2)  # exchanges tokens and heads; its own inverse

    def heads(w: Any) -> Any:
        return F.permute(F.reshape(F.mm_nd(input, w), (*lead, n, num_heads, width // num_heads)), axes)

    y = F.scaled_dot_product_attention(heads(wq), heads(wk), heads(wv), mask)
    return F.mm_nd(F.reshape(F.permute(y, axes), (*lead, n, width)), wo)


WEIGHTS = (t(5, 6), t(5, 6), t(5, 6), t(6, 5))

register(
    name="multi_head_attention",
    doc="""Self-attention of the original API page: heads of softmax(q·kᵀ/√head_dim)·v, joined and multiplied by wo.

    input (…, n, d_model); q = input·wq, k = input·wk, v = input·wv with weights (d_model, heads·head_dim), columns in
    the order (head, feature); wo (heads·head_dim, d_model) → (…, n, d_model). No biases, no dropout. mask (n, n), bool,
    rows are queries, True = may attend; a query that may attend nothing gives a zero row before wo and zero gradients.
    """,
    signature="wq, wk, wv, wo, input, mask=None, num_heads=1",
    precision="narrow",
    inputs=("wq", "wk", "wv", "wo", "input", "mask"),
    rule=_mha_rule,
    compose=_mha,
    samples=(
        Sample(*WEIGHTS, t(3, 5), num_heads=2),
        Sample(*WEIGHTS, t(3, 5), why_="one head"),
        Sample(*WEIGHTS, t(2, 3, 5), num_heads=3, why_="a batch"),
        Sample(*WEIGHTS, t(2, 1, 3, 5), t(3, 3, dtype="bool", fill="bool"), num_heads=2),
        Sample(*WEIGHTS, t(3, 5), t(3, 3, dtype="bool", fill=((True,), (False,), (True,))), num_heads=6),
        Sample(*WEIGHTS, t(1, 5), num_heads=2),
        Sample(*WEIGHTS, t(0, 3, 5), num_heads=2),
        Sample(*WEIGHTS, t(4, 5, layout="transposed"), num_heads=2),
        Sample(*(t(5, 6, dtype="float64") for _ in range(3)), t(6, 4, dtype="float64"), t(3, 5, dtype="float64")),
    ),
    errors=(
        Bad(ShapeError, r"wk has shape \(5, 4\)", t(5, 6), t(5, 4), t(5, 6), t(6, 5), t(3, 5)),
        Bad(ShapeError, r"wq has shape \(4, 6\)", t(4, 6), t(4, 6), t(4, 6), t(6, 4), t(3, 5)),
        Bad(ShapeError, r"wo has shape \(5, 5\)", t(5, 6), t(5, 6), t(5, 6), t(5, 5), t(3, 5)),
        Bad(ShapeError, r"\(…, n, d_model\)", *WEIGHTS, t(5)),
        Bad(ShapeError, "num_heads=4 does not divide", *WEIGHTS, t(3, 5), num_heads=4),
        Bad(ShapeError, r"mask has shape \(3, 4\)", *WEIGHTS, t(3, 5), t(3, 4, dtype="bool", fill="ones")),
        Bad(DTypeError, "mask is float32", *WEIGHTS, t(3, 5), t(3, 3)),
        Bad(DTypeError, "different dtypes", *WEIGHTS, t(3, 5, dtype="float64")),
        Bad(ArgumentError, "num_heads=0", *WEIGHTS, t(3, 5), num_heads=0),
    ),
    perf=(
        Perf(
            *(t(128, 128) for _ in range(4)),
            t(16, 64, 128),
            num_heads=4,
            flops_=8 * 1024 * 128 * 128 + 4 * 64 * 64 * 64 * 32,
            name_="gpt",
        ),
    ),
)
