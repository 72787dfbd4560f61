"""Cards of the norms over the batch and the space behind each channel; those of one sample are in group_norm.py."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, need_float, need_same_dtype
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .norm import Axes, add_up, as_aval, as_shape, backward_of_backward, gradient_avals, statistics_dtype


def check_channels(name: str, input: Aval, **per_channel: Aval | None) -> int:
    """The number of channels; raises unless the input is (N, C, …) and the others are (C,)."""
    need_float(name, input=input, **per_channel)
    need_same_dtype(name, input=input, **{k: a for k, a in per_channel.items() if k in ("weight", "bias")})
    if input.ndim < 2:
        raise ShapeError(f"{name}: input has shape {input.shape}, but (N, C, …) is needed. Add a batch axis in front.")
    channels = input.shape[1]
    for key, a in per_channel.items():
        if a is not None and a.shape != (channels,):
            raise ShapeError(
                f"{name}: {key} has shape {a.shape}, but the input {input.shape} has {channels} channels. "
                f"Give {key} shape ({channels},)."
            )
    return channels


def _channels(x: Aval) -> Axes:
    rest = (x.shape[1], *(1,) * (x.ndim - 2))
    return Axes((1, *rest), rest, per_channel(x))


def per_channel(x: Aval) -> int:
    """Values per channel of an (N, C, …) array."""
    return x.shape[0] * math.prod(x.shape[2:])


# --- batch statistics -------------------------------------------------------------------------------------------------


def _train_rule(input: Aval, weight: Aval | None, bias: Aval | None, *, eps: float) -> tuple[Aval, ...]:
    stat = Aval((check_channels("batch_norm_train", input, weight=weight, bias=bias),), statistics_dtype(input))
    return input, stat, stat, stat


def _train_vjp(F: Any, at: At, grads: Any, input: Any, weight: Any, mean: Any, rstd: Any) -> Any:
    dy, dmean, dvar, drstd = grads
    x, axes = at.ins[0], _channels(at.ins[0])
    dx = dweight = dbias = None
    if dy is not None:
        dx, dweight, dbias = F.batch_norm_bwd(dy, input, weight, mean, rstd, at.needs)
    if at.needs[0]:
        # mean moves with the input by 1/n, var by 2(x - mean)/n, rstd by -rstd³(x - mean)/n
        n = 1 / max(axes.count, 1)
        slope = None if dvar is None else F.scale(dvar, 2 * n)
        if drstd is not None:
            slope = add_up(F, slope, F.scale(F.mul(drstd, F.mul(rstd, F.square(rstd))), -n))
        if slope is not None:
            centred = F.sub(input, as_shape(F, mean, axes.stat))
            dx = add_up(F, dx, F.mul(centred, as_shape(F, slope, axes.stat)))
        if dmean is not None:
            dx = add_up(F, dx, F.expand(as_shape(F, F.scale(dmean, n), axes.stat), x.shape))
        dx = None if dx is None else as_aval(F, dx, x)
    return dx, dweight, dbias


_OFFSET = {"fill": "uniform", "low": 1e4, "high": 1e4 + 2}

register(
    name="batch_norm_train",
    doc="""(input - mean) / √(var + eps) · weight + bias, each channel of (N, C, …) over the batch and the space.

    Gives (y, mean, var): var is the biased variance, float32 (float64 for float64) as mean and rstd = 1/√(var + eps).
    The variance is taken from the centred values, so a large common offset costs no precision. One value per channel
    gives the bias. Ioffe and Szegedy 2015.
    """,
    signature="input, weight=None, bias=None, eps=1e-05",
    precision="wide",
    inputs=("input", "weight", "bias"),
    outputs=("y", "mean", "var", "rstd"),
    returns=3,
    rule=_train_rule,
    vjp=_train_vjp,
    saves=("input", "weight", "mean", "rstd"),
    samples=(
        Sample(t(4, 3, 5, 2), t(3), t(3)),
        Sample(t(5, 3), t(3), t(3), eps=1e-3),
        Sample(t(2, 3, 5), why_="no weight, no bias"),
        Sample(t(2, 3, 5), None, t(3)),
        Sample(t(1, 3, 1), t(3), t(3), eps=1.0, why_="one value per channel"),
        Sample(t(61, 2, **_OFFSET), t(2), t(2), why_="offset: E[x²] - E[x]² would cancel"),
        Sample(t(2, 3, 4, 6, layout="transposed"), t(3, layout="strided"), t(3, layout="flipped")),
        Sample(t(5, 4, layout="transposed"), t(4), t(4)),
        Sample(t(4, 3, dtype="float64"), t(3, dtype="float64"), t(3, dtype="float64")),
        Sample(t(4, 3, 2, dtype="bfloat16"), t(3, dtype="bfloat16"), t(3, dtype="bfloat16")),
        Sample(t(4, 0, 2), t(0), t(0), why_="no channels"),
    ),
    errors=(
        Bad(ShapeError, r"\(N, C, …\)", t(5)),
        Bad(ShapeError, r"weight has shape \(5,\)", t(4, 3), t(5), t(3)),
        Bad(DTypeError, "floating-point", t(4, 3, dtype="int64", fill="ones")),
        Bad(DTypeError, "different dtypes", t(4, 3), t(3, dtype="float64")),
    ),
    perf=(Perf(t(64, 16, 28, 28), t(16), t(16), name_="cnn"), Perf(t(256, 128), t(128), t(128))),
    public=False,
)


def _bwd_vjp(F: Any, at: At, grads: Any, dy: Any, input: Any, weight: Any, mean: Any, rstd: Any) -> Any:
    project = lambda c: F.batch_norm_bwd(c, input, None, mean, rstd, (True, False, False))[0]  # noqa: E731
    return backward_of_backward(F, at.needs, _channels(at.ins[1]), grads, dy, input, weight, mean, rstd, project)


register(
    name="batch_norm_bwd",
    doc="""Gradients of batch_norm_train's y: dx, dweight and dbias, None where `needs` is false.

    dx = rstd · weight · (dy - M(dy) - n · M(dy · n)), dweight = Σ dy · n, dbias = Σ dy, with n = (input - mean) · rstd,
    M the mean and Σ the sum over all axes but the channel. mean and rstd must be those of this input.
    """,
    signature="dy, input, weight, mean, rstd, needs",
    inputs=("dy", "input", "weight", "mean", "rstd"),
    outputs=("dx", "dweight", "dbias"),
    returns=3,
    rule=lambda dy, input, weight, mean, rstd, *, needs: gradient_avals(input, weight, input.shape[1:2], needs),
    vjp=_bwd_vjp,
    saves=("dy", "input", "weight", "mean", "rstd"),
    public=False,
)


# --- the user's norms -------------------------------------------------------------------------------------------------


def _batch_norm_rule(
    input: Aval,
    running_mean: Aval | None,
    running_var: Aval | None,
    weight: Aval | None,
    bias: Aval | None,
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> Aval:
    params = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    check_channels("batch_norm", input, **params)
    if (running_mean is None) != (running_var is None):
        raise ArgumentError("batch_norm: running_mean and running_var go together. Give both or neither.")
    if not training and running_mean is None:
        raise ArgumentError(
            "batch_norm: running_mean and running_var are missing, and training=False. Give both, or training=True."
        )
    if training and per_channel(input) == 1:
        raise ShapeError(
            f"batch_norm: more than 1 value per channel is needed when training, got an input of shape {input.shape}. "
            "Use a larger batch, or training=False."
        )
    return input


def affine(F: Any, y: Any, weight: Any, bias: Any) -> Any:
    """y · weight + bias with the channel on axis 1."""
    shape = (-1, *(1,) * (len(F.aval(y).shape) - 2))
    if weight is not None:
        y = F.mul(y, F.reshape(weight, shape))
    return y if bias is None else F.add(y, F.reshape(bias, shape))


def _batch_norm(
    F: Any,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    if training:
        return F.batch_norm_train(input, weight, bias, eps)[0]
    x = F.aval(input)
    shape = (-1, *(1,) * (x.ndim - 2))
    factor = F.rsqrt(F.add(running_var, F.const(eps, F.aval(running_var).dtype)))
    if weight is not None:
        factor = F.mul(factor, weight)
    y = F.mul(F.sub(input, F.reshape(running_mean, shape)), F.reshape(factor, shape))
    return as_aval(F, affine(F, y, None, bias), x)


_POSITIVE = {"fill": "uniform", "low": 0.5, "high": 2.0}

register(
    name="batch_norm",
    doc="""(input - mean) / √(var + eps) · weight + bias, each channel of (N, C, …). As torch.nn.functional.batch_norm.

    training: mean and biased variance of the batch, over batch and space; more than one value per channel is needed.
    Else running_mean and running_var. The op itself is pure: `gt.batch_norm` also updates the running statistics by
    `momentum`, with the unbiased variance; `Tape.batch_norm` and `TapeM.batch_norm` do not.
    """,
    signature="input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-05",
    precision="wide",
    inputs=("input", "running_mean", "running_var", "weight", "bias"),
    nullable=("running_mean", "running_var"),
    rule=_batch_norm_rule,
    compose=_batch_norm,
    samples=(
        Sample(t(4, 3, 5, 2), None, None, t(3), t(3), training=True),
        Sample(t(5, 3), None, None, training=True, eps=1e-3),
        Sample(
            t(2, 3, 5), t(3), t(3, **_POSITIVE), t(3), training=True, momentum=0.3, why_="the statistics play no part"
        ),
        Sample(t(4, 3, 5, 2), t(3), t(3, **_POSITIVE), t(3), t(3), why_="gradients to all five"),
        Sample(t(1, 3), t(3), t(3, **_POSITIVE), why_="one value per channel is fine in evaluation"),
        Sample(t(0, 3, 2), t(3), t(3, **_POSITIVE), why_="no batch"),
        Sample(t(2, 3, 4, 6, layout="transposed"), t(3), t(3, **_POSITIVE)),
        Sample(t(4, 3, dtype="float64"), None, None, training=True),
    ),
    errors=(
        Bad(ShapeError, "more than 1 value per channel", t(1, 3), None, None, training=True),
        Bad(ShapeError, "more than 1 value per channel", t(1, 3, 1, 1), t(3), t(3), training=True),
        Bad(ArgumentError, "are missing", t(4, 3), None, None),
        Bad(ArgumentError, "go together", t(4, 3), t(3), None),
        Bad(ShapeError, r"running_mean has shape \(4,\)", t(4, 3), t(4), t(3)),
        Bad(ShapeError, r"bias has shape \(1,\)", t(4, 3), t(3), t(3), t(3), t(1)),
        Bad(ShapeError, r"\(N, C, …\)", t(3), t(3), t(3)),
        Bad(DTypeError, "floating-point", t(4, 3, dtype="int64", fill="ones"), t(3), t(3)),
    ),
    perf=(Perf(t(64, 16, 28, 28), t(16), t(16, fill="ones"), t(16), t(16), name_="cnn, evaluation"),),
    torch="torch.nn.functional.batch_norm",
)


def _channel_first_rule(input: Aval, weight: Aval, bias: Aval, *, eps: float) -> Aval:
    if input.ndim != 3:
        raise ShapeError(
            f"batchnorm_channel_first: input has shape {input.shape}, but (C, H, W) is needed. Reshape it."
        )
    check_channels("batchnorm_channel_first", input.with_shape((1, *input.shape)), weight=weight, bias=bias)
    return input


def _channel_first(F: Any, input: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    shape = F.aval(input).shape
    return F.reshape(F.batch_norm_train(F.reshape(input, (1, *shape)), weight, bias, eps)[0], shape)


register(
    name="batchnorm_channel_first",
    doc="""Each channel of one image (C, H, W) normalised over H·W with the biased variance, times weight plus bias.

    On the original API page; what BatchNorm2d does in training with a batch of one image. H·W = 1 gives the bias.
    """,
    signature="input, weight, bias, eps=1e-05",
    precision="wide",
    inputs=("input", "weight", "bias"),
    rule=_channel_first_rule,
    compose=_channel_first,
    samples=(
        Sample(t(3, 5, 2), t(3), t(3)),
        Sample(t(3, 5, 2), t(3), t(3), eps=0.1),
        Sample(t(3, 1, 1), t(3), t(3), eps=1.0),
        Sample(t(2, 4, 6, layout="transposed"), t(2), t(2)),
        Sample(t(2, 4, 6, dtype="float64"), t(2, dtype="float64"), t(2, dtype="float64")),
        Sample(t(0, 4, 6), t(0), t(0), why_="no channels"),
    ),
    errors=(
        Bad(ShapeError, r"\(C, H, W\)", t(2, 3, 5, 2), t(3), t(3)),
        Bad(ShapeError, r"weight has shape \(5,\)", t(3, 5, 2), t(5), t(3)),
        Bad(DTypeError, "floating-point", t(3, 5, 2, dtype="int64", fill="ones"), t(3), t(3)),
    ),
)
