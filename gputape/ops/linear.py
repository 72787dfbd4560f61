"""Cards of the affine map and its fused gradient."""

from __future__ import annotations

from math import prod
from typing import Any

from ..aval import Aval, need_same_dtype
from ..errors import DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .matmul import rows_of, transpose
from .pointwise import not_bool


def _linear_rule(input: Aval, weight: Aval, bias: Aval | None) -> Aval:
    if weight.ndim not in (1, 2) or not input.shape:
        raise ShapeError(
            f"linear: input {input.shape} and weight {weight.shape} do not fit. "
            "Give input (…, in_features) and weight (out_features, in_features), or (in_features,)."
        )
    need_same_dtype("linear", input=input, weight=weight, bias=bias)
    not_bool("linear", input)
    *outs, k = weight.shape
    if input.shape[-1] != k:
        raise ShapeError(
            f"linear: the last axis of input is {input.shape[-1]} (input: {input.shape}), but weight {weight.shape} "
            f"takes {k} features. Make them equal."
        )
    if bias is not None and bias.shape != tuple(outs):
        raise ShapeError(
            f"linear: bias has shape {bias.shape}, but with weight {weight.shape} it must have {tuple(outs)}. "
            "Reshape one of them."
        )
    return input.with_shape((*input.shape[:-1], *outs))


def _linear_vjp(F: Any, at: At, dy: Any, input: Any, weight: Any) -> Any:
    _, w, b = at.ins
    if w.ndim == 2:
        return F.linear_bwd(dy, input, weight, needs=at.needs)
    dinput, dweight, dbias = F.linear_bwd(F.unsqueeze(dy, -1), input, F.unsqueeze(weight, 0), needs=at.needs)
    return (
        dinput,
        None if dweight is None else F.reshape(dweight, w.shape),
        None if dbias is None else F.reshape(dbias, b.shape),
    )


# name, leading axes, features in and out, whether there is a bias, whether the input needs a gradient
_LAYERS = (
    ("mlp first", (64,), 64, 128, True, False),
    ("mlp hidden", (64,), 128, 128, True, True),
    ("mlp last", (64,), 128, 10, True, True),
    ("cnn hidden", (64,), 1568, 64, True, True),
    ("cnn last", (64,), 64, 10, True, True),
    ("gpt qkv", (16, 64), 128, 384, True, True),
    ("gpt attention", (16, 64), 128, 128, True, True),
    ("gpt hidden", (16, 64), 128, 512, True, True),
    ("gpt projection", (16, 64), 512, 128, True, True),
    ("gpt logits", (16, 64), 128, 96, False, True),
)

register(
    name="linear",
    doc="""input · weightᵀ + bias: input (…, in), weight (out, in), bias (out,) or None → (…, out); or weight (in,) and
    bias () → (…).

    One dtype, on the CPU also of integers; any number of leading axes, none included. in = 0 gives the bias, or zeros.
    As torch.nn.functional.linear; on the original API page as linear(w, b, x).
    """,
    signature="input, weight, bias=None",
    precision="narrow",
    inputs=("input", "weight", "bias"),
    rule=_linear_rule,
    vjp=_linear_vjp,
    saves=("input", "weight"),
    batch=(0, None, None, 0),
    flops=lambda at: 2 * at.out.size * at.ins[1].shape[-1],
    samples=(
        Sample(t(5, 3), t(7, 3), t(7)),
        Sample(t(5, 3), t(7, 3), why_="no bias"),
        Sample(t(3), t(7, 3), t(7), why_="one sample"),
        Sample(t(2, 3, 5), t(7, 5), t(7)),
        Sample(t(2, 3, 1, 5), t(1, 5), t(1)),
        Sample(t(0, 3), t(7, 3), t(7), why_="no rows"),
        Sample(t(2, 0, 3), t(7, 3), t(7)),
        Sample(t(5, 0), t(7, 0), t(7), why_="an empty sum is 0"),
        Sample(t(2, 5, 3), t(3), t(), why_="no axis of features"),
        Sample(t(3, layout="strided"), t(3)),
        Sample(t(5, 3), t(0, 3), t(0)),
        Sample(t(4, 6, layout="transposed"), t(3, 6, layout="strided"), t(3, layout="strided")),
        Sample(t(2, 3, 6, layout="transposed"), t(3, 6, layout="flipped"), t(3, layout="flipped")),
        Sample(t(5, 3, dtype="float64"), t(7, 3, dtype="float64"), t(7, dtype="float64")),
        Sample(*(t(*s, dtype="int64", fill="ints", low=-9, high=9) for s in ((5, 3), (7, 3), (7,))), why_="integers"),
        Sample(*[t(3, 70, dtype="uint8", fill="ints", low=0, high=255)] * 2, why_="sums wrap"),
        Sample(t(17, 13, dtype="bfloat16"), t(5, 13, dtype="bfloat16"), t(5, dtype="bfloat16"), grad_=False),
    ),
    errors=(
        Bad(ShapeError, "last axis of input is 4 .* takes 3 features", t(5, 4), t(7, 3), t(7)),
        Bad(ShapeError, r"bias has shape \(3,\).*\(7,\)", t(5, 3), t(7, 3), t(3)),
        Bad(ShapeError, "do not fit", t(), t(7, 3)),
        Bad(ShapeError, "do not fit", t(5, 3), t(2, 7, 3)),
        Bad(ShapeError, r"bias has shape \(1,\).*have \(\)", t(5, 3), t(3), t(1)),
        Bad(DTypeError, "different dtypes", t(5, 3), t(7, 3, dtype="float64")),
        Bad(DTypeError, "bool", *[t(5, 3, dtype="bool", fill="bool")] * 2),
    ),
    perf=(
        *(
            Perf(t(*lead, k), t(n, k), t(n) if bias else None, gemms_=((1, prod(lead), n, k),), name_=name)
            for name, lead, k, n, bias, _ in _LAYERS
        ),
        Perf(t(8192, 4096), t(4096, 4096), t(4096), gemms_=((1, 8192, 4096, 4096),), name_="large"),
    ),
    torch="torch.nn.functional.linear",
)


def _linear_bwd_rule(
    dy: Aval, input: Aval, weight: Aval, factor: Aval | None, *, needs: tuple[bool, ...]
) -> tuple[Aval | None, ...]:
    made = (input, weight, weight.with_shape(weight.shape[:1]))
    return tuple(a if need else None for a, need in zip(made, needs, strict=True))


def _linear_bwd_vjp(F: Any, at: At, grads: Any, dy: Any, input: Any, weight: Any, factor: Any) -> Any:
    """dinput = dy·W, dweight = dyᵀ·x and dbias = Σ dy are linear in each factor; `grads` are their cotangents."""
    gx, gw, gb = grads
    ddy = dinput = dweight = dfactor = None
    if factor is not None and gx is not None:
        dfactor = F.mul(gx, F.linear(dy, transpose(F, weight))) if at.needs[3] else None
        gx = F.mul(gx, factor)
    if at.needs[0]:
        terms = [] if gx is None else [F.linear(gx, weight)]
        if gw is not None:
            terms.append(F.linear(input, gw, gb))
        elif gb is not None:
            terms.append(F.expand(gb, at.ins[0].shape))
        ddy = F.add(*terms) if len(terms) == 2 else terms[0]
    if at.needs[1] and gw is not None:
        dinput = F.matmul(dy, gw)
    if at.needs[2] and gx is not None:
        dweight = F.mm_nd(transpose(F, rows_of(F, dy)), rows_of(F, gx))
    return ddy, dinput, dweight, dfactor


register(
    name="linear_bwd",
    doc="""Gradients of linear: dinput = dy · weight, dweight = dyᵀ · input and dbias = Σ dy over all leading axes.

    `needs` says which of the three are wanted; the others are None. Compiled programs multiply dinput by `factor`, of
    its shape: the slope of an activation that gave the input.
    """,
    signature="dy, input, weight, factor=None, needs=(True, True, True)",
    precision="narrow",
    inputs=("dy", "input", "weight", "factor"),
    outputs=("dinput", "dweight", "dbias"),
    returns=3,
    rule=_linear_bwd_rule,
    vjp=_linear_bwd_vjp,
    saves=("dy", "input", "weight", "factor"),
    batch=lambda dy, *_, **attrs: "none" if dy.ndim < 2 else (0, 0, None, 0, 0, "sum", "sum"),
    flops=lambda at: sum(at.attrs["needs"][:2]) * 2 * at.ins[0].size * at.ins[2].shape[-1],
    samples=(
        Sample(t(5, 7), t(5, 3), t(7, 3)),
        Sample(t(5, 7), t(5, 3), t(7, 3), t(5, 3)),
        Sample(t(2, 3, 7), t(2, 3, 5), t(7, 5), t(2, 3, 5, layout="transposed")),
        Sample(t(7), t(3), t(7, 3)),
        Sample(t(2, 3, 7, layout="transposed"), t(2, 3, 5, layout="strided"), t(7, 5, layout="transposed")),
        Sample(t(5, 7, layout="expanded"), t(5, 3), t(7, 3), why_="dy of a sum"),
        Sample(t(0, 7), t(0, 3), t(7, 3)),
        Sample(t(2, 3, 7), t(2, 3, 0), t(7, 0)),
        Sample(t(5, 7, dtype="float64"), t(5, 3, dtype="float64"), t(7, 3, dtype="float64")),
    ),
    perf=(
        *(
            Perf(
                *(t(*lead, n), t(*lead, k), t(n, k)),
                needs=(deep, True, bias),
                gemms_=((1 + deep, prod(lead), n, k),),
                name_=name,
            )
            for name, lead, k, n, bias, deep in _LAYERS
        ),
    ),
    public=False,
)
