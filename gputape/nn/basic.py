"""Linear, Embedding, Dropout, and the modules that only reshape. As in torch.nn."""

from __future__ import annotations

import math
from typing import Any

from ..dispatch import call
from ..errors import ArgumentError
from ..ops.embedding import refuse_renorm
from ..remat import checkpoint
from . import init
from .module import Module, Parameter, not_in_place, whole, zeros


class Identity(Module):
    """Returns its input; takes and ignores any arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return input


class Linear(Module):
    """input · weightᵀ + bias, with weight (out_features, in_features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        in_features = whole("Linear", "in_features", in_features, 0)
        out_features = whole("Linear", "out_features", out_features, 0)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(zeros(out_features, in_features))
        self.bias = Parameter(zeros(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and bias anew from the generator."""
        init.linear_default_(self.weight, self.bias)

    def forward(self, input: Any) -> Any:
        return call("linear", input, self.weight, self.bias)

    def extra_repr(self) -> str:
        bias = "" if self.bias is not None else ", bias=False"
        return f"{self.in_features}, {self.out_features}{bias}"


class Bilinear(Module):
    """y[k] = input1 · weight[k] · input2 + bias[k], with weight (out_features, in1_features, in2_features)."""

    def __init__(self, in1_features: int, in2_features: int, out_features: int, bias: bool = True) -> None:
        self.in1_features = whole("Bilinear", "in1_features", in1_features, 1)
        self.in2_features = whole("Bilinear", "in2_features", in2_features, 0)
        self.out_features = whole("Bilinear", "out_features", out_features, 0)
        self.weight = Parameter(zeros(out_features, in1_features, in2_features))
        self.bias = Parameter(zeros(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and bias anew, uniform within 1/√in1_features."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Any, input2: Any) -> Any:
        return call("bilinear", input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        bias = "" if self.bias is not None else ", bias=False"
        return f"{self.in1_features}, {self.in2_features}, {self.out_features}{bias}"


def _draw_rows(weight: Parameter, padding_idx: int | None) -> None:
    init.normal_(weight)
    if padding_idx is not None:
        rows = weight.numpy()
        rows[padding_idx] = 0
        weight.assign(rows)


class Embedding(Module):
    """Rows of weight (num_embeddings, embedding_dim) by index. `padding_idx` names a row that gets no gradient.

    max_norm and sparse are refused, as in `gt.embedding`.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> None:
        refuse_renorm("Embedding", max_norm, sparse)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(
                f"Embedding: padding_idx={padding_idx} is outside the {num_embeddings} rows. "
                f"Use {-num_embeddings} to {num_embeddings - 1}."
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.scale_grad_by_freq = scale_grad_by_freq
        self.weight = Parameter(zeros(num_embeddings, embedding_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw standard normal weights anew; the padding row is zero."""
        _draw_rows(self.weight, self.padding_idx)

    def forward(self, input: Any) -> Any:
        return call(
            "embedding", input, self.weight, padding_idx=self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq
        )

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class EmbeddingBag(Module):
    """Sums, means or maxima of rows of weight (num_embeddings, embedding_dim) by bags of indices; see
    `gt.embedding_bag`."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> None:
        refuse_renorm("EmbeddingBag", max_norm, sparse)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.scale_grad_by_freq, self.mode, self.include_last_offset = scale_grad_by_freq, mode, include_last_offset
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = Parameter(zeros(num_embeddings, embedding_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw standard normal weights anew; the padding row is zero."""
        _draw_rows(self.weight, self.padding_idx)

    def forward(self, input: Any, offsets: Any = None, per_sample_weights: Any = None) -> Any:
        return call(
            "embedding_bag",
            input,
            self.weight,
            offsets,
            scale_grad_by_freq=self.scale_grad_by_freq,
            mode=self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}"


class _Dropout(Module):
    op = ""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        kind = type(self).__name__
        if not isinstance(p, int | float) or not 0.0 <= p <= 1.0:
            raise ArgumentError(f"{kind}: p={p!r} is not a probability. Use a number from 0 to 1.")
        not_in_place(self, inplace)
        self.p = p

    def forward(self, input: Any) -> Any:
        return call(self.op, input, p=self.p, training=self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout(_Dropout):
    """In training, zeroes each element with probability p and scales the rest by 1/(1 - p)."""

    op = "dropout"


class Dropout1d(_Dropout):
    """Dropout of whole channels of (N, C, L) or (C, L)."""

    op = "dropout1d"


class Dropout2d(_Dropout):
    """Dropout of whole channels of (N, C, H, W) or (N, C, L)."""

    op = "dropout2d"


class Dropout3d(_Dropout):
    """Dropout of whole channels of (N, C, D, H, W) or (C, D, H, W)."""

    op = "dropout3d"


class AlphaDropout(_Dropout):
    """Dropout for networks of selu: keeps mean and variance."""

    op = "alpha_dropout"


class Flatten(Module):
    """Merges the axes start_dim to end_dim into one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Any) -> Any:
        return call("flatten", input, self.start_dim, self.end_dim)


class Unflatten(Module):
    """Splits axis `dim` into the sizes `unflattened_size` (one of them may be -1)."""

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Any) -> Any:
        return call("unflatten", input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Checkpoint(Module):
    """A module whose inner values are dropped after forward and computed again in backward; see `gt.checkpoint`."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(self.module, *args, **kwargs)
