"""Cards of running extremes and running logarithms of sums, composed of passes over whole arrays: with each, what an
element has seen doubles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import Aval, axis, need_float
from ..errors import DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .extremum import ValuesIndices
from .pointwise import INF, NAN
from .slicing import along


def _running(F: Any, x: Any, dim: int, join: Callable[[Any, Any], Any]) -> Any:
    """`join` of all elements up to each along `dim`, the earlier ones first."""
    n, seen = F.aval(x).shape[dim], 1
    while seen < n:
        joined = join(along(F, x, dim, 0, n - seen), along(F, x, dim, seen, n))
        x = F.cat([along(F, x, dim, 0, seen), joined], dim)
        seen *= 2
    return x


def _canon(name: str) -> Callable[..., dict[str, Any]]:
    return lambda input, *, dim: {"dim": axis(name, dim, input.ndim)}


# --- extremes ---------------------------------------------------------------------------------------------------------


def _extreme(best: str) -> Callable[..., ValuesIndices]:
    def compose(F: Any, input: Any, *, dim: int) -> ValuesIndices:
        a = F.aval(input)
        if not a.ndim:
            return ValuesIndices(F.alias(input), F.const(0, "int64"))
        x = F.detach(input)
        y = _running(F, x, dim, getattr(F, best))
        place = F.const(list(range(a.shape[dim])), "int64")
        place = F.reshape(place, (-1, *(1,) * (a.ndim - dim - 1))) if a.size else F.const(0, "int64")
        found = F.where(F.logical_or(F.eq(x, y), F.isnan(x)), place, F.const(0, "int64"))
        indices = _running(F, found, dim, F.maximum)
        return ValuesIndices(F.gather(input, dim, indices), indices)

    return compose


_ROWS = ((1.0, 3.0, 3.0, 2.0, 3.0), (2.0, NAN, 5.0, NAN, 1.0), (-INF, -INF, 0.0, INF, INF))
for _name, _best, _which in (("cummax", "maximum", "largest"), ("cummin", "minimum", "smallest")):
    register(
        name=_name,
        doc=f"(values, indices): the {_which} element up to each along the axis `dim`, and where it is, the last at a "
        f"tie; NaN wins over numbers. The gradient goes to that element. As torch.{_name}.",
        signature="input, dim",
        inputs=("input",),
        canon=_canon(_name),
        rule=lambda input, *, dim: input,
        compose=_extreme(_best),
        samples=(
            Sample(t(5, 3), dim=0),
            Sample(t(5, 7), dim=-1),
            Sample(t(2, 9, 4, layout="transposed"), dim=1),
            Sample(t(7, dtype="float64", layout="strided"), dim=0),
            Sample(t(3, 5, fill=_ROWS), dim=1, grad_=False, why_="ties, NaN, infinities"),
            Sample(t(5, 4, dtype="int64", fill="ints", low=-2, high=2), dim=0, why_="ties"),
            Sample(t(6, dtype="bool", fill="bool"), dim=0),
            Sample(t(6, dtype="uint8", fill="ints", high=9), dim=0),
            Sample(t(0, 3), dim=0),
            Sample(t(2, 0), dim=0),
            Sample(t(), dim=0),
        ),
        errors=(Bad(ShapeError, "out of range", t(5, 3), dim=2),),
        torch=f"torch.{_name}",
    )


# --- logcumsumexp -----------------------------------------------------------------------------------------------------


def _rule(input: Aval, *, dim: int) -> Aval:
    need_float("logcumsumexp", input=input)
    return input


def _logcumsumexp(F: Any, input: Any, *, dim: int) -> Any:
    return _running(F, input, dim, F.logaddexp) if F.aval(input).ndim else F.alias(input)


register(
    name="logcumsumexp",
    doc="log Σ exp(input) of the elements up to each along the axis `dim`, without overflow. As torch.logcumsumexp.",
    signature="input, dim",
    inputs=("input",),
    precision="wide",
    canon=_canon("logcumsumexp"),
    rule=_rule,
    compose=_logcumsumexp,
    samples=(
        Sample(t(5, 3), dim=0),
        Sample(t(5, 7), dim=-1),
        Sample(t(2, 9, 4, layout="transposed"), dim=1),
        Sample(t(7, dtype="float64", layout="strided"), dim=0),
        Sample(t(2, 4, fill=((1000.0, 1001.0, -1000.0, 999.0), (-1000.0, -1001.0, 0.0, 1.0))), dim=1, why_="far off"),
        Sample(t(3, 5, fill=_ROWS), dim=1, grad_=False, why_="NaN, infinities"),
        Sample(t(0, 3), dim=0),
        Sample(t(2, 0), dim=0),
        Sample(t(), dim=0),
    ),
    errors=(
        Bad(ShapeError, "out of range", t(5, 3), dim=2),
        Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"), dim=0),
    ),
    torch="torch.logcumsumexp",
)
