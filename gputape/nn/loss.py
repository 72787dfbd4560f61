"""Losses as modules: `forward` calls the function of the loss with the module's options. As in torch.nn."""

from __future__ import annotations

from typing import Any

from ..dispatch import call
from .module import Buffer, Module


class _Loss(Module):
    """Options become attributes and are passed on; arrays among them (`weight`) become buffers."""

    op = ""

    def __init__(self, reduction: str = "mean") -> None:
        self._set(reduction=reduction)

    def _set(self, **options: Any) -> None:
        self.options = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return call(self.op, *inputs, **named, **{name: getattr(self, name) for name in self.options})

    def extra_repr(self) -> str:
        values = {name: getattr(self, name) for name in self.options}
        return ", ".join(f"{k}={v!r}" for k, v in values.items() if v is not None and not isinstance(v, Buffer))


def _buffer(array: Any) -> Buffer | None:
    return None if array is None else Buffer(array)


# --- distances --------------------------------------------------------------------------------------------------------


class MSELoss(_Loss):
    """Mean (or sum) of squared differences."""

    op = "mse_loss"


class L1Loss(_Loss):
    """Mean (or sum) of absolute differences."""

    op = "l1_loss"


class SmoothL1Loss(_Loss):
    """Squared below `beta`, then absolute differences."""

    op = "smooth_l1_loss"

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        self._set(reduction=reduction, beta=beta)


class HuberLoss(_Loss):
    """Squared up to `delta`, then absolute differences, times `delta`."""

    op = "huber_loss"

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        self._set(reduction=reduction, delta=delta)


# --- classes ----------------------------------------------------------------------------------------------------------


class CrossEntropyLoss(_Loss):
    """Cross entropy of logits (N, C, …) against class indices or probabilities.

    Args:
        weight: one factor per class, shape (C,).
        ignore_index: targets of this value count for nothing.
        label_smoothing: in [0, 1]: how much of each target is spread evenly over the classes.
    """

    op = "cross_entropy"

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        self._set(
            reduction=reduction, weight=_buffer(weight), ignore_index=ignore_index, label_smoothing=label_smoothing
        )


class NLLLoss(_Loss):
    """Minus the log-probability (N, C, …) of each label, times the `weight` of its class."""

    op = "nll_loss"

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        self._set(weight=_buffer(weight), ignore_index=ignore_index, reduction=reduction)


class BCELoss(_Loss):
    """Binary cross entropy of probabilities."""

    op = "binary_cross_entropy"

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        self._set(weight=_buffer(weight), reduction=reduction)


class BCEWithLogitsLoss(_Loss):
    """Binary cross entropy of logits. `pos_weight` multiplies the terms of the positive targets."""

    op = "binary_cross_entropy_with_logits"

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        self._set(weight=_buffer(weight), pos_weight=_buffer(pos_weight), reduction=reduction)


class MultiMarginLoss(_Loss):
    """Every other class must score `margin` less than the label."""

    op = "multi_margin_loss"

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean") -> None:
        self._set(p=p, margin=margin, weight=_buffer(weight), reduction=reduction)


class MultiLabelMarginLoss(_Loss):
    """Every class that is no label must score 1 less than each label."""

    op = "multilabel_margin_loss"


class MultiLabelSoftMarginLoss(_Loss):
    """Binary cross entropy of logits, averaged over the classes."""

    op = "multilabel_soft_margin_loss"

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        self._set(weight=_buffer(weight), reduction=reduction)


class CTCLoss(_Loss):
    """Connectionist temporal classification: `loss(log_probs, targets, input_lengths, target_lengths)`."""

    op = "ctc_loss"

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        self._set(blank=blank, reduction=reduction, zero_infinity=zero_infinity)


# --- distributions ----------------------------------------------------------------------------------------------------


class KLDivLoss(_Loss):
    """Divergence of log-probabilities from probabilities. reduction "batchmean" is the one that statistics means."""

    op = "kl_div"

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        self._set(log_target=log_target, reduction=reduction)


class PoissonNLLLoss(_Loss):
    """Negative log-likelihood of counts, from (log-)rates."""

    op = "poisson_nll_loss"

    def __init__(self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean") -> None:
        self._set(log_input=log_input, full=full, eps=eps, reduction=reduction)


class GaussianNLLLoss(_Loss):
    """Negative log-likelihood of normal targets: `loss(mean, target, variance)`."""

    op = "gaussian_nll_loss"

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        self._set(full=full, eps=eps, reduction=reduction)


# --- margins and angles -----------------------------------------------------------------------------------------------


class HingeEmbeddingLoss(_Loss):
    """The input where the target is 1, how much it lacks of `margin` where the target is -1."""

    op = "hinge_embedding_loss"

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        self._set(margin=margin, reduction=reduction)


class SoftMarginLoss(_Loss):
    """log(1 + exp(-target · input)) for targets ±1."""

    op = "soft_margin_loss"


class MarginRankingLoss(_Loss):
    """input1 must be `margin` above input2 where the target is 1, below it where -1."""

    op = "margin_ranking_loss"

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        self._set(margin=margin, reduction=reduction)


class CosineEmbeddingLoss(_Loss):
    """1 - cosine where the target is 1, how far the cosine is above `margin` where it is -1."""

    op = "cosine_embedding_loss"

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        self._set(margin=margin, reduction=reduction)


class TripletMarginLoss(_Loss):
    """The anchor must be `margin` nearer to the positive than to the negative."""

    op = "triplet_margin_loss"

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean"
    ) -> None:
        self._set(margin=margin, p=p, eps=eps, swap=swap, reduction=reduction)
