"""Card of the affine map with what follows it in a network: an activation, and an addition of the block's input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import Aval, need_same_dtype
from ..errors import ArgumentError, ShapeError
from ..registry import At, Op, find, get, register
from ..samples import Bad, Perf, Sample, t


def saved_of(activation: str, op: str = "linear_act") -> str | None:
    """What the gradient of an activation needs: its result ("y"), its slope ("slope"), or nothing (None) of "none".

    Args:
        op: who asks.

    Raises:
        ArgumentError: there is no such activation.
    """
    if activation == "none":
        return None
    card, backward = find(activation), find(f"{activation}_bwd")
    if card is None or backward is None or card.inputs != ("input",) or card.batch != "pointwise":
        raise ArgumentError(
            f"{op}: {activation!r} is not an activation with a gradient op of its own. "
            'Use one such as "relu" or "gelu", or "none".'
        )
    return "y" if card.saves == ("y",) else "slope"


def canon_of(op: str) -> Callable[..., dict[str, Any]]:
    """The `canon` of a card with an activation: of its options, all those of the activation's own card, as pairs."""

    def canon(
        input: Aval, *others: Aval | None, activation: str, options: Any, keep: bool, **rest: Any
    ) -> dict[str, Any]:
        given = dict(options)
        if saved_of(activation, op) is None:
            if given:
                raise ArgumentError(f"{op}: options {given} without an activation. Leave them out.")
        else:
            card = get(activation)
            given = card.at((input,), card.values(given)).attrs
        return {**rest, "activation": activation, "options": tuple(given.items()), "keep": bool(keep)}

    return canon


def _rule(
    input: Aval, weight: Aval, bias: Aval | None, residual: Aval | None, *, activation: str, options: Any, keep: bool
) -> tuple[Aval, Aval | None]:
    card = get("linear")
    y = card.at((input, weight, bias), ()).out
    need_same_dtype("linear_act", input=input, residual=residual)
    if residual is not None and residual.shape != y.shape:
        raise ShapeError(
            f"linear_act: residual has shape {residual.shape}, but the result is {y.shape}. Give it that shape."
        )
    kind = saved_of(activation)
    return y, y if keep and (kind == "slope" or (kind == "y" and residual is not None)) else None


def before_activation(F: Any, at: At, grads: Any, y: Any, saved: Any, affine: Callable[[], Any]) -> Any:
    """dz, with z = `affine()`, h = act(z) and y = h or h + residual; None where it is zero.

    `saved` is h or act'(z), and a function of z as well: the second of `grads` is its cotangent.
    """
    assert at.attrs["keep"], f"{at.op.name}: a value that gradients need was not kept"
    dy, dsaved = grads
    name, options = at.attrs["activation"], dict(at.attrs["options"])
    kind = saved_of(name)
    if kind == "y":
        h, dh = (y, dy) if saved is None else (saved, _total(F, dy, dsaved))
        return F.op(f"{name}_bwd", dh, h, **options)
    if kind is None:
        return dy
    dz = None if dy is None else F.mul(dy, saved)
    return dz if dsaved is None else _total(F, dz, _bent(F, get(f"{name}_bwd"), options, dsaved, affine()))


def _vjp(F: Any, at: At, grads: Any, input: Any, weight: Any, bias: Any, y: Any, saved: Any) -> tuple[Any, ...]:
    dz = before_activation(F, at, grads, y, saved, lambda: F.linear(input, weight, bias))
    bias_too = at.needs[2] and bias is not None
    wanted = dz is not None and any(at.needs[:3])  # a cotangent of the slope of straight lines ends here
    made = F.linear_bwd(dz, input, weight, needs=(*at.needs[:2], bias_too)) if wanted else (None,) * 3
    return *made, grads[0] if at.needs[3] else None


def _total(F: Any, a: Any, b: Any) -> Any:
    """a + b, where None stands for zero."""
    return b if a is None else a if b is None else F.add(a, b)


def _bent(F: Any, backward: Op, options: dict[str, Any], g: Any, z: Any) -> Any:
    """act''(z)·g, from the gradient that an activation's gradient op has."""
    at = backward.at((F.aval(g), F.aval(z)), backward.values(options)).with_needs((False, True))
    ones = F.expand(F.const(1.0, at.out.dtype), at.out.shape)
    return backward.vjp(F, at, g, ones, z)[1]


X, W, B, R = t(5, 3), t(7, 3), t(7), t(5, 7)
MLP, GPT = t(64, 784), t(16, 64, 128)

register(
    name="linear_act",
    doc="""activation(input · weightᵀ + bias) + residual, in this order, as in a transformer's blocks, and rounded once.

    input (…, in), weight (out, in), bias (out,) or None, residual (…, out) or None → y (…, out).

    `activation` is the name of an element-wise op with a gradient op of its own (relu, gelu, silu, …), `options` its
    options as pairs (name, value); "none" is linear. For backward, `saved` is the activation's result where its
    gradient is taken from that and y is another array, or its slope, by which the gradient is then multiplied. It is
    left out without `keep`, where no gradient will be taken.
    """,
    signature='input, weight, bias=None, residual=None, activation="none", options=(), keep=True',
    precision="narrow",
    inputs=("input", "weight", "bias", "residual"),
    outputs=("y", "saved"),
    canon=canon_of("linear_act"),
    rule=_rule,
    vjp=_vjp,
    saves=("input", "weight", "bias", "y", "saved"),
    batch=(0, None, None, 0, 0, 0),
    flops=lambda at: 2 * at.out.size * at.ins[1].shape[-1],
    samples=(
        Sample(X, W, B, R),
        Sample(X, W, B, activation="relu"),
        Sample(X, W, B, R, activation="relu"),
        Sample(X, W, None, R, activation="tanh"),
        Sample(X, W, B, activation="gelu"),
        Sample(X, W, B, R, activation="gelu", options=(("approximate", "tanh"),)),
        Sample(X, W, None, activation="silu"),
        Sample(X, W, B, R, activation="gelu", keep=False, grad_=False),
        Sample(X, W, B, R, activation="tanh", keep=False, grad_=False),
        Sample(X, W, B, R, activation="leaky_relu", options=(("negative_slope", 0.2),)),
        Sample(X, W, B, activation="softplus", options=(("beta", 2.0),)),
        Sample(t(3), t(7, 3), t(7), t(7), activation="sigmoid", why_="one sample"),
        Sample(t(0, 3), W, B, t(0, 7), activation="gelu", why_="no rows"),
        Sample(t(5, 0), t(7, 0), B, activation="gelu", why_="an empty sum is 0"),
        Sample(
            t(2, 3, 6, layout="transposed"),
            t(3, 6, layout="flipped"),
            t(3, layout="strided"),
            t(2, 3, 3, layout="transposed"),
            activation="gelu",
        ),
        Sample(*(t(*x.shape, dtype="float64") for x in (X, W, B, R)), activation="silu"),
        Sample(*(t(*x.shape, dtype="bfloat16") for x in (X, W, B, R)), activation="relu", grad_=False),
    ),
    errors=(
        Bad(ShapeError, r"residual has shape \(7,\).*\(5, 7\)", X, W, B, t(7)),
        Bad(ShapeError, "takes 3 features", t(5, 4), W, B),
        Bad(ArgumentError, "'softmax' is not an activation", X, W, B, activation="softmax"),
        Bad(ArgumentError, "'nothing' is not an activation", X, W, B, activation="nothing"),
        Bad(ArgumentError, "without an activation", X, W, B, options=(("beta", 1.0),)),
        Bad(ArgumentError, "unknown option", X, W, B, activation="relu", options=(("beta", 1.0),)),
    ),
    perf=(
        Perf(MLP, t(128, 784), t(128), activation="relu", flops_=2 * 64 * 784 * 128, name_="mlp first"),
        Perf(t(64, 128), t(10, 128), t(10), flops_=2 * 64 * 128 * 10, name_="mlp last"),
        Perf(GPT, t(384, 128), t(384), flops_=2 * 1024 * 128 * 384, name_="gpt qkv"),
        Perf(GPT, t(128, 128), t(128), GPT, flops_=2 * 1024 * 128 * 128, name_="gpt attention out"),
        Perf(GPT, t(512, 128), t(512), activation="gelu", flops_=2 * 1024 * 128 * 512, name_="gpt hidden"),
        Perf(t(16, 64, 512), t(128, 512), t(128), GPT, flops_=2 * 1024 * 512 * 128, name_="gpt projection"),
    ),
    public=False,
)
