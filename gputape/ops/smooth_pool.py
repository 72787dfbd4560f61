"""Cards of smooth max pooling, and of the copies of windows that its higher gradients use."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval
from ..errors import ArgumentError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from ._window import Ints, batched, pool_options, pooled, unbatched
from .pool import pool_errors

# --- windows side by side ---------------------------------------------------------------------------------------------


def _unfold_rule(input: Aval, *, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Aval:
    window: dict[str, Any] = dict(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
    out = pooled("unfold_nd", input, **window).shape[2:]
    return input.with_shape((*input.shape[:2], math.prod(kernel_size), *out))


def _fold_rule(input: Aval, *, spatial: Ints, **window: Ints) -> Aval:
    x = input.with_shape((*input.shape[:2], *spatial))
    if _unfold_rule(x, **window) is not input:
        raise ShapeError(
            f"fold_nd: {input.shape} does not hold the windows of {spatial} with {window}. Unfold it first."
        )
    return x


_OPTIONS: dict[str, Any] = dict(kernel_size=(2, 3), stride=(2, 1), padding=(1, 0), dilation=(1, 1))

register(
    name="unfold_nd",
    doc="""All windows: (N, C, *spatial) → (N, C, taps, *positions), taps in row-major order, zeros for the padding.""",
    signature="input, kernel_size, stride, padding, dilation",
    inputs=("input",),
    rule=_unfold_rule,
    vjp=lambda F, at, dy: F.fold_nd(dy, at.ins[0].shape[2:], **at.attrs),
    batch=(0, 0),
    samples=(
        Sample(t(2, 3, 4, 5), **_OPTIONS),
        Sample(t(0, 3, 4, 5), **_OPTIONS),
        Sample(t(2, 3, 4, 5, layout="transposed"), **_OPTIONS),
        Sample(t(2, 3, 4, 5, dtype="float64"), **_OPTIONS),
    ),
    public=False,
    exempt={"unfold": "one thread per element: windows begin at odd addresses"},
)
register(
    name="fold_nd",
    doc="""Windows (N, C, taps, *positions) added up where they lie in (N, C, *spatial): the adjoint of `unfold_nd`.""",
    signature="input, spatial, kernel_size, stride, padding, dilation",
    inputs=("input",),
    rule=_fold_rule,
    vjp=lambda F, at, dy: F.unfold_nd(dy, **{k: v for k, v in at.attrs.items() if k != "spatial"}),
    batch=(0, 0),
    samples=(
        Sample(t(2, 3, 6, 3, 3), spatial=(4, 5), **_OPTIONS),
        Sample(t(0, 3, 6, 3, 3), spatial=(4, 5), **_OPTIONS),
        Sample(t(2, 3, 6, 3, 3, layout="transposed"), spatial=(4, 5), **_OPTIONS),
        Sample(t(2, 3, 6, 3, 3, dtype="float64"), spatial=(4, 5), **_OPTIONS),
    ),
    errors=(Bad(ShapeError, "does not hold", t(2, 3, 6, 2, 3), spatial=(4, 5), **_OPTIONS),),
    public=False,
    exempt={"fold": "one thread per element: windows begin at odd addresses"},
)


# --- smooth max pooling -----------------------------------------------------------------------------------------------


def _nd_rule(input: Aval, *, kernel_size: Ints, stride: Ints, beta: float) -> Aval:
    n = len(kernel_size)
    window: dict[str, Any] = dict(kernel_size=kernel_size, stride=stride, padding=(0,) * n, dilation=(1,) * n)
    return pooled("smooth_max_pool_nd", input, **window)


def _bwd_vjp(F: Any, at: At, g: Any, dy: Any, input: Any, y: Any) -> tuple[Any, Any, Any]:
    """dx = fold(dy·w) with the weights w = exp(β(x - y)) of every window."""
    kernel, beta = at.attrs["kernel_size"], at.attrs["beta"]
    window = (kernel, at.attrs["stride"], (0,) * len(kernel), (1,) * len(kernel))
    shape = at.ins[0].shape
    spread = lambda v: F.reshape(v, (*shape[:2], 1, *shape[2:]))  # noqa: E731 - beside the taps
    weights = F.exp(F.scale(F.sub(F.unfold_nd(input, *window), spread(y)), beta))
    share = F.mul(F.unfold_nd(g, *window), weights)
    need_dy, need_x, need_y = at.needs
    total = F.sum(share, 2) if need_dy or need_y else None
    return (
        total if need_dy else None,
        F.fold_nd(F.scale(F.mul(share, spread(dy)), beta), at.ins[1].shape[2:], *window) if need_x else None,
        F.scale(F.mul(dy, total), -beta) if need_y else None,
    )


register(
    name="smooth_max_pool_nd",
    doc="""y = (1/β)·log Σ exp(β·x) over each window of (N, C, *spatial); the maximum (β < 0: minimum) taken out.""",
    signature="input, kernel_size, stride, beta",
    inputs=("input",),
    rule=_nd_rule,
    vjp=lambda F, at, dy, input, y: F.smooth_max_pool_nd_bwd(dy, input, y, **at.attrs),
    saves=("input", "y"),
    batch=(0, 0),
    samples=(
        Sample(t(2, 2, 5), kernel_size=(3,), stride=(1,), beta=1.5),
        Sample(t(0, 2, 5), kernel_size=(3,), stride=(1,), beta=1.5),
        Sample(t(2, 2, 5, layout="strided"), kernel_size=(3,), stride=(2,), beta=-2.0),
        Sample(t(2, 2, 5, dtype="float64"), kernel_size=(3,), stride=(1,), beta=1.5),
    ),
    public=False,
    exempt={"smooth_pool": "one thread per element: windows begin at odd addresses"},
)


def _bwd_sample(n: int, **options: Any) -> Sample:
    x, y = t(n, 2, 5, **options), t(n, 2, 3, **options)
    return Sample(y, x, y, kernel_size=(3,), stride=(1,), beta=0.5)


register(
    name="smooth_max_pool_nd_bwd",
    doc="""The gradient of `smooth_max_pool_nd`: dx = Σ over windows of dy·exp(β(x - y)).""",
    signature="dy, input, y, kernel_size, stride, beta",
    inputs=("dy", "input", "y"),
    outputs=("dx",),
    rule=lambda dy, input, y, **attrs: input,
    vjp=_bwd_vjp,
    saves=("dy", "input", "y"),
    batch=(0, 0, 0, 0),
    samples=(
        _bwd_sample(2),
        _bwd_sample(0),
        _bwd_sample(2, layout="transposed"),
        _bwd_sample(2, dtype="float64"),
    ),
    public=False,
    exempt={"smooth_pool_bwd": "one thread per element: windows begin at odd addresses"},
)


def _canon(input: Aval, *, kernel_size: Any, beta: Any, stride: Any) -> dict[str, Any]:
    options = pool_options("smooth_max_pool2d", 2, kernel_size, stride)
    if isinstance(beta, bool) or not isinstance(beta, (int, float)) or not math.isfinite(beta) or beta == 0:
        raise ArgumentError(
            f"smooth_max_pool2d: beta={beta!r} must be a finite number other than 0. "
            "Use a larger one for a sharper maximum."
        )
    return {"kernel_size": options["kernel_size"], "beta": float(beta), "stride": options["stride"]}


def _rule(input: Aval, *, kernel_size: Ints, beta: float, stride: Ints) -> Aval:
    none, ones = (0, 0), (1, 1)
    return pooled("smooth_max_pool2d", input, kernel_size=kernel_size, stride=stride, padding=none, dilation=ones)


def _compose(F: Any, input: Any, *, kernel_size: Ints, beta: float, stride: Ints) -> Any:
    x, lone = batched(F, input, 2)
    return unbatched(F, F.smooth_max_pool_nd(x, kernel_size, stride, beta), lone)


register(
    name="smooth_max_pool2d",
    doc="""A differentiable maximum of each window: (1/β)·log Σ exp(β·x), unnormalised. On the original API page.

A constant window c of K elements gives c + ln(K)/β; β < 0 gives a smooth minimum. The maximum (minimum) is taken out
first, so that nothing overflows. input (N, C, H, W) or (C, H, W); kernel_size and stride (None: the kernel size): an
integer or one per axis; beta finite and not 0, without gradient.""",
    signature="input, kernel_size, beta, stride=None",
    inputs=("input",),
    canon=_canon,
    rule=_rule,
    compose=_compose,
    samples=(
        Sample(t(2, 3, 4, 6), kernel_size=2, beta=2.0),
        Sample(t(2, 3, 5, 5), kernel_size=(3, 2), beta=-1.5, stride=(1, 2), why_="a smooth minimum"),
        Sample(t(3, 4, 4), kernel_size=2, beta=1, why_="unbatched"),
        Sample(t(1, 1, 4, 4, fill="distinct", low=-300, high=300), kernel_size=2, beta=7.0, grad_=False, why_="large"),
        Sample(t(2, 2, 4, 6, layout="transposed"), kernel_size=3, beta=0.5, stride=1),
        Sample(t(0, 2, 4, 4), kernel_size=2, beta=1.0),
        Sample(t(2, 2, 4, 4, dtype="float64"), kernel_size=2, beta=1.0),
        Sample(t(1, 1, 2, 2, fill=((1.0, float("nan")),)), kernel_size=2, beta=1.0, grad_=False, why_="NaN stays"),
    ),
    errors=(
        *(
            Bad(b.error, b.match, *b.inputs, **b.attrs, beta=1.0)
            for b in pool_errors(2)
            if not set(b.attrs) & {"padding", "ceil_mode"}
        ),
        Bad(ArgumentError, "beta=0", t(2, 3, 4, 4), kernel_size=2, beta=0),
        Bad(ArgumentError, "finite", t(2, 3, 4, 4), kernel_size=2, beta=float("inf")),
        Bad(ArgumentError, "number", t(2, 3, 4, 4), kernel_size=2, beta="1"),
    ),
    perf=(Perf(t(64, 16, 28, 28), kernel_size=2, beta=1.0),),
)
