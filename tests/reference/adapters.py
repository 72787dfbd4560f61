"""The counterparts that cannot simply be called by the card's argument names: why not, and how instead.

Where PyTorch refuses a gradient that gputape gives, the value is PyTorch's and `through` adds a term that is zero but
has the gradient of the formula, written in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as nn

# --- arguments -------------------------------------------------------------------------------------------------------


def as_tuple(n: Any) -> Any:
    return (n,) if isinstance(n, int) else n


def scattering(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(input: Any, dim: int, index: Any, src: Any) -> Any:
        used = src[tuple(slice(n) for n in index.shape)] if index.ndim == src.ndim else src.reshape(-1)[: index.numel()]
        return function(input, dim, index.long(), used.reshape(index.shape))

    return call


def total(input: Any, dtype: Any = None, **k: Any) -> Any:
    return torch.sum(input if dtype is None or dtype.is_floating_point else input.detach(), dtype=dtype, **k)


def promoted(a: Any, b: Any) -> tuple[Any, Any]:
    common = torch.promote_types(a.dtype, b.dtype)
    return a.to(common), b.to(common)


# --- gradients that PyTorch refuses ----------------------------------------------------------------------------------


def through(y: Any, formula: Any) -> Any:
    return y + (formula - formula.detach())


def running(norm: Callable[..., Any], switch: str) -> Callable[..., Any]:
    """A norm that may use running statistics: writes to copies of them, and gives them gradients."""

    def call(input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, **k: Any) -> Any:
        if running_mean is None:
            return norm(input, None, None, weight, **k)
        y = norm(input, running_mean.detach().clone(), running_var.detach().clone(), weight, **k)
        if k.get(switch, switch == "use_input_stats"):
            return y
        shape = (-1, *(1,) * (input.ndim - 2))
        slope = torch.rsqrt(running_var + k.get("eps", 1e-5)) * (1 if weight is None else weight.detach())
        return through(y, (input.detach() - running_mean.reshape(shape)) * slope.reshape(shape))

    return call


def reduced(loss: Any, weight: Any, reduction: str) -> Any:
    loss = loss if weight is None else loss * weight
    return loss if reduction == "none" else getattr(loss, reduction)()


def bce(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    return reduced(nn.binary_cross_entropy(input, target, reduction="none"), weight, reduction)


def bce_with_logits(
    input: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"
) -> Any:
    input, target = promoted(input, target)
    fixed = None if pos_weight is None else pos_weight.detach()
    loss = nn.binary_cross_entropy_with_logits(input, target, reduction="none", pos_weight=fixed)
    if pos_weight is not None:
        loss = through(loss, pos_weight * (target * nn.softplus(-input)).detach())
    return reduced(loss, weight, reduction)


def labelled(loss: Callable[..., Any], log: Callable[..., Any]) -> Callable[..., Any]:
    """A loss against labels with class weights: `log` makes log-probabilities of its input."""

    def call(input: Any, target: Any, weight: Any = None, **k: Any) -> Any:
        if weight is None or target.is_floating_point():
            return loss(input, target, weight, **k)
        dim, smooth = min(1, input.ndim - 1), k.get("label_smoothing", 0.0)
        p = log(input.detach(), dim)
        keep = target != k.get("ignore_index", -100)
        label = torch.where(keep, target, 0).long()
        row = weight[label] * keep
        every = (p * weight.reshape(-1, *(1,) * (p.ndim - 2)) if p.ndim > 1 else p * weight).sum(dim) * keep
        picked = p.gather(dim, label.unsqueeze(dim)).squeeze(dim) * row
        y = -(1 - smooth) * picked - smooth / p.shape[dim] * every
        reduction = k.get("reduction", "mean")
        if reduction != "none":
            y = y.sum() / (row.sum() if reduction == "mean" else 1)
        return through(loss(input, target, weight.detach(), **k), y)

    return call


def multi_margin(input: Any, target: Any, weight: Any = None, reduction: str = "mean", **k: Any) -> Any:
    loss = nn.multi_margin_loss(input, target.long(), reduction="none", **k)
    return reduced(loss, None if weight is None else weight[target.long()], reduction)


def soft_margin(input: Any, target: Any, reduction: str = "mean") -> Any:
    loss = nn.soft_margin_loss(input, target.detach(), reduction="none")
    return reduced(through(loss, nn.softplus(-target * input.detach())), None, reduction)


# --- the table -------------------------------------------------------------------------------------------------------

METHOD = "a method takes its tensor by position"
TUPLE = "torch wants a tuple where an integer is fine here"
LARGER = "torch's gradient fails where src is larger than index"
STILL = "torch refuses inputs that require a gradient"
INT64 = "torch wants int64 indices where any integers are fine here"
STATISTICS = "torch refuses gradients to the running statistics, and writes to them"
WEIGHT = "torch refuses a gradient to the weight"

ADAPTERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "expand": (METHOD, lambda input, size: torch.Tensor.expand(input, size)),
    "repeat": (METHOD, lambda input, repeats: torch.Tensor.repeat(input, repeats)),
    "detach": (METHOD, lambda input: torch.Tensor.detach(input)),
    "reshape": (TUPLE, lambda input, shape: torch.reshape(input, as_tuple(shape))),
    "tensor_split": (
        "torch has two names for what is one here",
        lambda input, indices_or_sections, dim=0: torch.tensor_split(input, indices_or_sections, dim),
    ),
    "flip": (TUPLE, lambda input, dims: torch.flip(input, as_tuple(dims))),
    "layer_norm": (TUPLE, lambda input, normalized_shape, **k: nn.layer_norm(input, as_tuple(normalized_shape), **k)),
    "rms_norm": (TUPLE, lambda input, normalized_shape, **k: nn.rms_norm(input, as_tuple(normalized_shape), **k)),
    "unique": (STILL, lambda input, **k: torch.unique(input.detach(), **k)),
    "bincount": (
        STILL,
        lambda input, weights=None, **k: torch.bincount(input, None if weights is None else weights.detach(), **k),
    ),
    "embedding": (INT64, lambda input, weight, **k: nn.embedding(input.long(), weight, **k)),
    "one_hot": (INT64, lambda input, num_classes=-1: nn.one_hot(input.long(), num_classes)),
    "scatter_add": (LARGER, scattering(torch.scatter_add)),
    "scatter": (LARGER, scattering(torch.scatter)),
    "floor_divide": (
        "torch has no gradient of it, but of this",
        lambda input, other: torch.div(input, other, rounding_mode="floor"),
    ),
    "sum": ("torch refuses an input that requires a gradient where the result is an integer", total),
    "batch_norm": (STATISTICS, running(nn.batch_norm, "training")),
    "instance_norm": (STATISTICS, running(nn.instance_norm, "use_input_stats")),
    "binary_cross_entropy": (WEIGHT, bce),
    "binary_cross_entropy_with_logits": (WEIGHT + ", and takes the target's dtype where they differ", bce_with_logits),
    "nll_loss": (WEIGHT, labelled(nn.nll_loss, lambda x, dim: x)),
    "cross_entropy": (WEIGHT, labelled(nn.cross_entropy, nn.log_softmax)),
    "soft_margin_loss": ("torch refuses a gradient to the target", soft_margin),
    "multi_margin_loss": (WEIGHT, multi_margin),
    "huber_loss": (
        "torch's gradient fails where the dtypes differ",
        lambda input, target, **k: nn.huber_loss(*promoted(input, target), **k),
    ),
}
