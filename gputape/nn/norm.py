"""Normalisation layers. As in torch.nn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import as_array
from ..dispatch import call, updates
from ..errors import ArgumentError, ShapeError
from ..stateful import instance_norm
from . import init
from .module import Buffer, Module, Parameter, whole, zeros


class LayerNorm(Module):
    """(x - mean) / √(var + eps) over the last axes `normalized_shape`, times weight plus bias."""

    def __init__(
        self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        sizes = normalized_shape if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
        shape = tuple(whole("LayerNorm", "normalized_shape", n, 0) for n in sizes)
        self.normalized_shape, self.eps = shape, eps
        self.weight = Parameter(zeros(*shape)) if elementwise_affine else None
        self.bias = Parameter(zeros(*shape)) if elementwise_affine and bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Any) -> Any:
        return call("layer_norm", input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """x / √(mean of x² + eps) over the last axes `normalized_shape`, times weight; eps None is the resolution."""

    def __init__(self, normalized_shape: Any, eps: float | None = None, elementwise_affine: bool = True) -> None:
        sizes = normalized_shape if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
        self.normalized_shape = tuple(whole("RMSNorm", "normalized_shape", n, 0) for n in sizes)
        self.eps = eps
        self.weight = Parameter(zeros(*self.normalized_shape)) if elementwise_affine else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Any) -> Any:
        return call("rms_norm", input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(Module):
    """(x - mean) / √(var + eps) per sample over each of `num_groups` groups of channels, times weight plus bias."""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, bias: bool = True
    ) -> None:
        self.num_groups = whole("GroupNorm", "num_groups", num_groups, 1)
        self.num_channels = whole("GroupNorm", "num_channels", num_channels, 0)
        if num_channels % num_groups:
            raise ArgumentError(
                f"GroupNorm: {num_channels} channels do not split into num_groups={num_groups}. Choose a divisor."
            )
        self.eps = eps
        self.weight = Parameter(zeros(num_channels)) if affine else None
        self.bias = Parameter(zeros(num_channels)) if affine and bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Any) -> Any:
        return call("group_norm", input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.weight is not None}"


class LocalResponseNorm(Module):
    """x / (k + alpha · mean of x² over `size` neighbouring channels)^beta."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Any) -> Any:
        return call("local_response_norm", input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class _Statistics(Module):
    """What modules with running statistics per channel share."""

    ndims: tuple[int, ...] = ()

    def __init__(
        self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool, bias: bool
    ) -> None:
        num_features = whole(type(self).__name__, "num_features", num_features, 1)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = Parameter(zeros(num_features)) if affine else None
        self.bias = Parameter(zeros(num_features)) if affine and bias else None
        self.running_mean: Any = Buffer(zeros(num_features)) if track_running_stats else None
        self.running_var: Any = Buffer(zeros(num_features)) if track_running_stats else None
        self.num_batches_tracked: Any = Buffer(np.zeros((), np.int64)) if track_running_stats else None
        self.reset_running_stats()
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches seen."""
        if self.running_mean is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class _BatchNorm(_Statistics):
    """(x - mean) / √(var + eps) per channel over batch and space, times weight plus bias.

    In training the statistics of the batch are used and the running ones move towards them by `momentum` (None: they
    become the average of all batches); in inference the running ones are used. As torch.nn.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias)

    def forward(self, input: Any) -> Any:
        input = input if hasattr(input, "shape") else as_array(input)
        if len(input.shape) not in self.ndims:
            raise ShapeError(
                f"{type(self).__name__}: the input has shape {input.shape}. "
                f"Give it {' or '.join(map(str, self.ndims))} axes: (N, {self.num_features}, …)."
            )
        if not self.training and self.running_mean is not None:
            return call(
                "batch_norm", input, self.running_mean, self.running_var, self.weight, self.bias, False, eps=self.eps
            )
        count = input.shape[0] * math.prod(input.shape[2:])
        if count == 1:
            raise ShapeError(
                f"{type(self).__name__}: training needs more than 1 value per channel, the input has shape "
                f"{input.shape}. Use a larger batch, or eval()."
            )
        y, mean, var = call("batch_norm_train", input, self.weight, self.bias, self.eps)
        if self.running_mean is not None:
            self._track(mean, var, count)
        return y

    def _track(self, mean: Any, var: Any, count: int) -> None:
        """Count the batch; move the running statistics towards its mean and (biased) variance over `count` values."""
        F = updates()
        seen = F.add(self.num_batches_tracked, 1)
        self.num_batches_tracked.assign(seen)
        if not count:
            return
        unbiased = F.scale(var, count / (count - 1))
        for cell, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            step = F.sub(F.detach(value), cell)
            if self.momentum is None:
                step = F.mul(step, F.reciprocal(F.cast(seen, cell.aval.dtype)))
            else:
                step = F.scale(step, self.momentum)
            cell.assign(F.add(cell, step))


class BatchNorm1d(_BatchNorm):
    ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    ndims = (4,)


class BatchNorm3d(_BatchNorm):
    ndims = (5,)


class _InstanceNorm(_Statistics):
    """(x - mean) / √(var + eps) per channel of each sample over its space, times weight plus bias.

    With `track_running_stats` the running statistics move in training towards the mean of the samples' by `momentum`,
    and are used in inference. With or without a batch axis. As torch.nn.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias)

    def forward(self, input: Any) -> Any:
        input = input if hasattr(input, "shape") else as_array(input)
        lone = len(input.shape) + 1 in self.ndims
        channels = input.shape[0 if lone else 1 : 1 if lone else 2]
        if len(input.shape) + lone not in self.ndims or (self.weight is not None and channels != (self.num_features,)):
            raise ShapeError(
                f"{type(self).__name__}: the input has shape {input.shape}. Give it {self.ndims[0]} axes, "
                f"(N, {self.num_features}, …), or leave N out."
            )
        x = call("unsqueeze", input, 0) if lone else input
        stats = (self.running_mean, self.running_var)
        own = self.training or self.running_mean is None
        y = instance_norm(x, *stats, self.weight, self.bias, own, self.momentum or 0.0, self.eps)
        return call("squeeze", y, 0) if lone else y


class InstanceNorm1d(_InstanceNorm):
    ndims = (3,)


class InstanceNorm2d(_InstanceNorm):
    ndims = (4,)


class InstanceNorm3d(_InstanceNorm):
    ndims = (5,)
