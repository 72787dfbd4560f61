"""Card of the convolution with the activation that follows it in a network."""

from __future__ import annotations

from math import prod
from typing import Any

from ..aval import Aval
from ..errors import ArgumentError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .conv import LAYERS, conv_rule, conv_vjp
from .linear_act import before_activation, canon_of, saved_of

_rule_of_conv = conv_rule("conv_act")


def _rule(
    input: Aval, weight: Aval, bias: Aval | None, *, activation: str, options: Any, keep: bool, **window: Any
) -> tuple[Aval, Aval | None]:
    y = _rule_of_conv(input, weight, bias, **window)
    return y, y if keep and saved_of(activation) == "slope" else None


def _vjp(F: Any, at: At, grads: Any, input: Any, weight: Any, bias: Any, y: Any, saved: Any) -> tuple[Any, Any, Any]:
    window = {k: at.attrs[k] for k in ("stride", "padding", "dilation", "groups")}
    dz = before_activation(F, at, grads, y, saved, lambda: F.conv_nd(input, weight, bias, **window))
    return (None,) * 3 if dz is None else conv_vjp(F, at, dz, input, weight)


X, W, B = t(2, 3, 5, 4), t(4, 3, 3, 3), t(4)
_1: dict[str, Any] = dict(stride=(1,), padding=((0, 0),), dilation=(1,), groups=1)
_2: dict[str, Any] = dict(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1)

register(
    name="conv_act",
    doc="""activation(conv_nd(input, weight, bias)), as in a network of convolutions, and rounded once.

    input (N, C, *spatial), weight (out, C/groups, *kernel), bias (out,) or None → y (N, out, *positions).

    `activation` and its `options` are as in linear_act. For backward, `saved` is the activation's slope where the
    gradient is not taken from y; it is left out without `keep`, where no gradient will be taken.
    """,
    signature='input, weight, bias, stride, padding, dilation, groups, activation="none", options=(), keep=True',
    precision="narrow",
    inputs=("input", "weight", "bias"),
    outputs=("y", "saved"),
    canon=canon_of("conv_act"),
    rule=_rule,
    vjp=_vjp,
    saves=("input", "weight", "bias", "y", "saved"),
    batch=(0, None, None, 0, 0),
    flops=lambda at: 2 * at.out.size * prod(at.ins[1].shape[1:]),
    samples=(
        Sample(X, W, B, **_2),
        Sample(X, W, B, **_2, activation="relu"),
        Sample(X, W, None, **_2, activation="gelu"),
        Sample(X, W, B, **_2, activation="gelu", options=(("approximate", "tanh"),)),
        Sample(X, W, B, **_2, activation="silu"),
        Sample(X, W, B, **_2, activation="gelu", keep=False, grad_=False),
        Sample(X, W, None, **_2, activation="softplus", keep=False, grad_=False),
        Sample(t(2, 4, 9), t(6, 2, 3), t(6), **_1 | dict(stride=(2,), dilation=(2,), groups=2), activation="tanh"),
        Sample(t(2, 3, 7), t(6, 1, 2), t(6), **_1 | dict(groups=3), activation="leaky_relu", why_="depthwise"),
        Sample(t(0, 3, 5, 4), W, B, **_2, activation="silu", why_="no samples"),
        Sample(
            t(2, 3, 5, 4, layout="transposed"),
            t(4, 3, 3, 3, layout="flipped"),
            t(4, layout="strided"),
            **_2,
            activation="gelu",
        ),
        Sample(*(t(*x.shape, dtype="float64") for x in (X, W, B)), **_2, activation="silu"),
        Sample(*(t(*x.shape, dtype="bfloat16") for x in (X, W, B)), **_2, activation="relu", grad_=False),
    ),
    errors=(
        Bad(ShapeError, r"conv_act: bias has shape \(3,\)", X, W, t(3), **_2),
        Bad(ArgumentError, "conv_act: 'softmax' is not an activation", X, W, B, **_2, activation="softmax"),
        Bad(ArgumentError, "without an activation", X, W, B, **_2, options=(("beta", 1.0),)),
    ),
    perf=tuple(
        Perf(
            *(t(n, c, side, side), t(o, c, 3, 3), t(o)),
            **_2,
            activation="relu",
            gemms_=((1, o, n * side**2, 9 * c),),
            name_=name,
        )
        for name, n, c, o, side in LAYERS
        if name.startswith("cnn")
    ),
    public=False,
)
