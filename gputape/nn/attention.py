"""Multi-head attention, as torch.nn.MultiheadAttention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dispatch import call
from ..errors import ArgumentError, ShapeError
from . import init
from .basic import Linear
from .module import Module, Parameter, zeros

# finite, so that a query that may attend to nothing gets zeros and not NaN
MASKED = {"float16": -6e4, "bfloat16": -1e30, "float32": -1e30, "float64": -1e30}


def _barring(barred: Any, dtype: str) -> Any:
    """What is added to scores: a very negative number where `barred` is True, else 0."""
    return call("cast", call("where", barred, MASKED[dtype], 0.0), dtype)


class MultiheadAttention(Module):
    """Attention of several heads with projections of query, key and value.

    Parameter names and shapes are PyTorch's: `in_proj_weight` (3·E, E), or `q_proj_weight`, `k_proj_weight`,
    `v_proj_weight` where kdim or vdim differ from E; `in_proj_bias` (3·E); `out_proj.weight`, `out_proj.bias`; with
    add_bias_kv `bias_k` and `bias_v` (1, 1, E), a key and a value behind all others. add_zero_attn puts zeros there.

    Masks have PyTorch's polarity for this module, which is the opposite of `gt.scaled_dot_product_attention`'s: True
    means *may not* attend. A query that may attend to nothing gets zeros.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
    ) -> None:
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: embed_dim={embed_dim} is not divisible into num_heads={num_heads} heads. "
                "Choose a divisor."
            )
        if not 0.0 <= dropout <= 1.0:
            raise ArgumentError(f"MultiheadAttention: dropout={dropout!r} is not a probability. Use 0 to 1.")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        e = embed_dim
        if self.kdim == self.vdim == e:
            self.in_proj_weight = Parameter(zeros(3 * e, e))
        else:
            self.q_proj_weight = Parameter(zeros(e, e))
            self.k_proj_weight = Parameter(zeros(e, self.kdim))
            self.v_proj_weight = Parameter(zeros(e, self.vdim))
        self.in_proj_bias = Parameter(zeros(3 * e)) if bias else None
        self.bias_k = Parameter(zeros(1, 1, e)) if add_bias_kv else None
        self.bias_v = Parameter(zeros(1, 1, e)) if add_bias_kv else None
        self.add_zero_attn = add_zero_attn
        self.out_proj = Linear(e, e, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections in: Xavier uniform, biases 0."""
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if name in vars(self):
                init.xavier_uniform_(getattr(self, name))
        if self.in_proj_bias is not None and self.out_proj.bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        if self.bias_k is not None and self.bias_v is not None:
            init.xavier_normal_(self.bias_k)
            init.xavier_normal_(self.bias_v)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Any, Any]:
        """(output, attention weights or None).

        Args:
            query, key, value: (L, N, E), (S, N, kdim), (S, N, vdim); with batch_first (N, L, E) and so on; without a
                batch (L, E), (S, kdim), (S, vdim).
            key_padding_mask: (N, S), or (S) without a batch: bool, True where a key is to be ignored, or floats to add.
            need_weights: also return the weights (N, L, S). False is faster.
            attn_mask: (L, S) or (N·num_heads, L, S): bool, True where a query may not attend, or floats to add.
            average_attn_weights: False returns the weights of each head, (N, num_heads, L, S).
            is_causal: mask the future as well; `attn_mask` need not be given.

        Raises:
            ShapeError: the inputs or masks do not fit together.
        """
        batched = len(query.shape) == 3
        if len({len(x.shape) for x in (query, key, value)}) > 1 or len(query.shape) not in (2, 3):
            shapes = ", ".join(str(x.shape) for x in (query, key, value))
            raise ShapeError(f"MultiheadAttention: query, key, value have shapes {shapes}. Give all 3 axes, or all 2.")
        q, k, v = (self._split(x, i, batched) for i, x in enumerate((query, key, value)))
        mask = self._mask(attn_mask, key_padding_mask, q.shape, k.shape, batched, is_causal, str(q.dtype))
        if self.bias_k is not None or self.add_zero_attn:
            k, v, mask = self._more(k, self.bias_k), self._more(v, self.bias_v), self._open(mask)
        y, weights = self._attend(q, k, v, mask, need_weights)
        n, h, length, d = y.shape
        shape: tuple[int, ...]
        if not batched:
            order, shape = (0, 2, 1, 3), (length, h * d)
        elif self.batch_first:
            order, shape = (0, 2, 1, 3), (n, length, h * d)
        else:
            order, shape = (2, 0, 1, 3), (length, n, h * d)
        y = self.out_proj(call("reshape", call("permute", y, order), shape))
        if weights is not None:
            weights = call("mean", weights, 1) if average_attn_weights else weights
            weights = weights if batched else call("reshape", weights, weights.shape[1:])
        return y, weights

    def _split(self, x: Any, index: int, batched: bool) -> Any:
        """The projection number `index` (query, key, value) of `x`, as (N, heads, length, head_dim)."""
        e = self.embed_dim
        if "in_proj_weight" in vars(self):
            weight = call("narrow", self.in_proj_weight, 0, index * e, e)
        else:
            weight = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[index]
        bias = None if self.in_proj_bias is None else call("narrow", self.in_proj_bias, 0, index * e, e)
        y = call("linear", x, weight, bias)
        heads = (self.num_heads, e // self.num_heads)
        if not batched:
            return call("permute", call("reshape", y, (1, y.shape[0], *heads)), (0, 2, 1, 3))
        order = (0, 2, 1, 3) if self.batch_first else (1, 2, 0, 3)
        return call("permute", call("reshape", y, (*y.shape[:2], *heads)), order)

    def _more(self, x: Any, bias: Any) -> Any:
        """The keys or values `x`, with the learned one and one of zeros behind them, where the module has these."""
        n, h, _, d = x.shape
        parts = [x]
        if bias is not None:
            parts.append(call("expand", call("reshape", bias, (1, h, 1, d)), (n, h, 1, d)))
        if self.add_zero_attn:
            parts.append(np.zeros((n, h, 1, d), x.dtype))
        return call("cat", parts, 2)

    def _open(self, mask: Any) -> Any:
        """A mask of `_mask`, open for the keys of `_more`."""
        if mask is None:
            return None
        more = (self.bias_k is not None) + bool(self.add_zero_attn)
        return call("cat", [mask, np.full((*mask.shape[:-1], more), mask.dtype == bool, mask.dtype)], -1)

    def _mask(
        self,
        attn_mask: Any,
        padding: Any,
        q: tuple[int, ...],
        k: tuple[int, ...],
        batched: bool,
        causal: bool,
        dtype: str,
    ) -> Any:
        """One mask that broadcasts to (N, heads, L, S): bool with True = may attend, floats to add, or None."""
        n, h, length, source = q[0], q[1], q[2], k[2]
        parts = []
        if attn_mask is not None:
            shape = attn_mask.shape
            if shape not in ((length, source), (n * h, length, source)):
                raise ShapeError(
                    f"MultiheadAttention: attn_mask has shape {shape}. "
                    f"Give it {(length, source)} or {(n * h, length, source)}."
                )
            parts.append((attn_mask, (1, 1, length, source) if len(shape) == 2 else (n, h, length, source)))
        if padding is not None:
            expected = (n, source) if batched else (source,)
            if padding.shape != expected:
                raise ShapeError(f"MultiheadAttention: key_padding_mask has shape {padding.shape}. Give it {expected}.")
            parts.append((padding, (n, 1, 1, source)))
        if causal and attn_mask is None:
            parts.append((np.triu(np.ones((length, source), bool), 1), (1, 1, length, source)))
        masks = [call("reshape", m, shape) for m, shape in parts]
        if not masks:
            return None
        if all(m.dtype == bool for m in masks):
            barred = masks[0]
            for m in masks[1:]:
                barred = call("logical_or", barred, m)
            return call("logical_not", barred)
        total: Any = None
        for m in masks:
            added = _barring(m, dtype) if m.dtype == bool else m
            total = added if total is None else call("add", total, added)
        return total

    def _attend(self, q: Any, k: Any, v: Any, mask: Any, need_weights: bool) -> tuple[Any, Any]:
        p = self.dropout if self.training else 0.0
        if not need_weights:
            return call("scaled_dot_product_attention", q, k, v, mask, p), None
        q = call("mul", q, 1.0 / math.sqrt(q.shape[-1]))
        scores = call("matmul", q, call("permute", k, (0, 1, 3, 2)))
        allowed = None
        if mask is not None:
            if mask.dtype == bool:
                allowed = call("cast", mask, str(q.dtype))
                mask = _barring(call("logical_not", mask), str(q.dtype))
            scores = call("add", scores, mask)
        weights = call("softmax", scores, -1)
        if allowed is not None:
            weights = call("mul", weights, allowed)
        if p:
            weights = call("dropout", weights, p, True)
        return call("matmul", weights, v), weights
