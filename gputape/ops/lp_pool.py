"""Cards of power-average pooling, composed of average pooling and powers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..aval import Aval
from ..errors import ArgumentError
from ..registry import register
from ..samples import Bad, Sample, t
from ._window import Ints, pool_options, pooled
from .pool import flag, pool_errors

INF = math.inf


def _canon(op: str, n: int) -> Callable[..., dict[str, Any]]:
    def canon(input: Aval, *, norm_type: Any, kernel_size: Any, stride: Any, ceil_mode: Any) -> dict[str, Any]:
        if type(norm_type) not in (int, float) or norm_type == 0 or math.isnan(norm_type):
            raise ArgumentError(f"{op}: norm_type={norm_type!r} must be a number other than 0. Pass for example 2.")
        options = pool_options(op, n, kernel_size, stride)
        return {
            "norm_type": float(norm_type),
            "kernel_size": options["kernel_size"],
            "stride": options["stride"],
            "ceil_mode": flag(op, "ceil_mode", ceil_mode),
        }

    return canon


def _compose(F: Any, input: Any, *, norm_type: float, kernel_size: Ints, stride: Ints, ceil_mode: bool) -> Any:
    n = len(kernel_size)
    if math.isinf(norm_type):
        x = F.abs(input) if norm_type > 0 else F.neg(F.abs(input))
        y = F.op(f"max_pool{n}d", x, kernel_size, stride, ceil_mode=ceil_mode)
        return y if norm_type > 0 else F.neg(y)
    mean = F.op(f"avg_pool{n}d", F.pow_scalar(input, norm_type), kernel_size, stride, ceil_mode=ceil_mode)
    # relu's gradient at 0 is 0; a mean below 0, of odd powers, keeps its sign, as in PyTorch.
    total = F.scale(F.mul(F.sign(mean), F.relu(F.abs(mean))), math.prod(kernel_size))
    return F.pow_scalar(total, 1 / norm_type)


def _register(n: int, samples: tuple[Sample, ...]) -> None:
    name = f"lp_pool{n}d"
    zeros = (0,) * n

    def rule(input: Aval, *, norm_type: float, kernel_size: Ints, stride: Ints, ceil_mode: bool) -> Aval:
        window: dict[str, Any] = dict(kernel_size=kernel_size, stride=stride, padding=zeros, dilation=(1,) * n)
        return pooled(name, input, **window, ceil_mode=ceil_mode)

    register(
        name=name,
        doc=f"""(Σ xᵖ)^(1/p) over each window, p being `norm_type`; ∞ gives the largest |x|, -∞ the smallest. As
torch.nn.functional.{name}.

input (N, C, *spatial) or (C, *spatial) with {n} spatial sizes. kernel_size and stride (None: the kernel size): an
integer, or one per axis. `ceil_mode` also takes windows that leave the input at its end; their sums are scaled up to a
whole window's. Powers are of x itself, not of |x|: with p = 1 it is a plain sum, and with p = 1.5 a negative x gives
NaN.""",
        signature="input, norm_type, kernel_size, stride=None, ceil_mode=False",
        inputs=("input",),
        canon=_canon(name, n),
        rule=rule,
        compose=_compose,
        samples=samples,
        errors=(
            *(
                Bad(b.error, b.match, *b.inputs, **b.attrs, norm_type=2)
                for b in pool_errors(n)
                if "padding" not in b.attrs
            ),
            Bad(ArgumentError, "norm_type=0", t(1, 1, *(4,) * n), norm_type=0, kernel_size=2),
            Bad(ArgumentError, "a number", t(1, 1, *(4,) * n), norm_type="2", kernel_size=2),
        ),
        torch=f"torch.nn.functional.{name}",
    )


def _samples(n: int) -> tuple[Sample, ...]:
    sizes = (5, 4, 4)[:n]
    return (
        Sample(t(2, 3, *sizes), norm_type=2, kernel_size=2),
        Sample(t(2, 1, *sizes, fill="uniform", low=0.2, high=2.0), norm_type=1.5, kernel_size=2, stride=1),
        Sample(t(1, 2, *sizes), norm_type=1, kernel_size=3, stride=2, ceil_mode=True, why_="a cut-off window"),
        Sample(t(2, *sizes, fill="distinct"), norm_type=INF, kernel_size=2, grad_=False, why_="unbatched; ties of |x|"),
        Sample(t(2, *sizes, fill="distinct"), norm_type=-INF, kernel_size=2, grad_=False),
        Sample(
            t(1, 1, *(1,) * (n - 1), 4, fill=(-2.0, 0.5, 0.25, -0.75)), norm_type=INF, kernel_size=(*(1,) * (n - 1), 2)
        ),
        Sample(t(0, 2, *sizes), norm_type=2, kernel_size=2, why_="no samples"),
        Sample(t(1, 1, *sizes, layout="strided"), norm_type=2, kernel_size=2),
        Sample(t(1, 1, *sizes, dtype="float64"), norm_type=2, kernel_size=2),
    )


for _n in (1, 2, 3):
    _register(_n, _samples(_n))
