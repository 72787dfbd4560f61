"""Cards of clamp, between numbers and between arrays."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, broadcast_shapes
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t
from .pointwise import INF, NAN, as_float, not_bool, plain_number

# --- between numbers --------------------------------------------------------------------------------------------------


def _clamp_canon(input: Aval, *, min: Any = None, max: Any = None) -> dict[str, Any]:
    bound = lambda name, v: None if v is None else plain_number("clamp", name, v)  # noqa: E731 - used twice
    return {"min": bound("min", min), "max": bound("max", max)}


def _clamp_rule(input: Aval, *, min: int | float | None, max: int | float | None) -> Aval:
    if min is None and max is None:
        raise ArgumentError("clamp: min and max are both None. Give at least one bound.")
    if isinstance(min, float) or isinstance(max, float):
        return as_float(input)
    return input.with_dtype("int64") if input.dtype == "bool" else input


register(
    name="clamp",
    doc="min(max(input, lower bound), upper bound), for bounds that are numbers or arrays; crossed ones give the upper "
    "one, NaN stays NaN. The gradient is 1 from bound to bound, both included, and 0 elsewhere. As torch.clamp.",
    signature="input, min=None, max=None",
    inputs=("input",),
    arrays=(("min", "max"), "clamp_between"),
    canon=_clamp_canon,
    rule=_clamp_rule,
    vjp=lambda F, at, dy, input: F.clamp_bwd(dy, input, **at.attrs),
    saves=("input",),
    batch="pointwise",
    samples=(
        Sample(t(5, 3), min=-0.5, max=0.25),
        Sample(t(5, 3), min=-0.5),
        Sample(t(4, 6, layout="transposed"), max=0),
        Sample(t(5, 3), min=1.0, max=-1.0, why_="crossed bounds"),
        Sample(t(0, 3), min=0),
        Sample(t(), min=-9, max=9),
        Sample(t(7, dtype="float64", layout="strided"), min=0.1),
        Sample(t(5, fill=(-1.0, 1.0, NAN, INF, -INF)), min=-1, max=1, grad_=False, why_="on the bounds"),
        Sample(t(5, dtype="int32", fill="ints", low=-9, high=9), min=-3, max=3),
        Sample(t(5, dtype="int64", fill="ints", low=-9, high=9), max=0.5),
    ),
    errors=(
        Bad(ArgumentError, "both None", t(3)),
        Bad(DTypeError, "min must be a plain number", t(3), min="0"),
    ),
    perf=(Perf(t(1024, 512), min=0.0, max=6.0),),
    torch="torch.clamp",
)

register(
    name="clamp_bwd",
    doc="dy where min ≤ input ≤ max, else 0.",
    signature="dy, input, min, max",
    inputs=("dy", "input"),
    outputs=("dx",),
    rule=lambda dy, input, *, min, max: input,
    vjp=lambda F, at, g, input: (F.clamp_bwd(g, input, **at.attrs), None),
    saves=("input",),
    batch="pointwise",
    public=False,
    samples=(
        Sample(t(5, 3, layout="expanded"), t(5, 3, layout="transposed"), min=-0.5, max=None),
        Sample(t(0, 3), t(0, 3), min=0, max=1),
        Sample(t(7, dtype="float64"), t(7, dtype="float64"), min=None, max=0.25),
    ),
)


# --- between arrays ---------------------------------------------------------------------------------------------------


def _between_rule(input: Aval, min: Aval | None, max: Aval | None) -> Aval:
    bounds = [a for a in (min, max) if a is not None]
    if not bounds:
        raise ArgumentError("clamp: min and max are both None. Give at least one bound.")
    not_bool("clamp", input)
    return input.with_shape(broadcast_shapes("clamp", input.shape, *(a.shape for a in bounds)))


def _between(F: Any, input: Any, min: Any, max: Any) -> Any:
    """Each bound gets the gradient where it is the result; at a tie the input gets it all."""
    y = input
    if min is not None:
        y = F.where(F.lt(y, min), min, y)
    if max is not None:
        y = F.where(F.gt(y, max), max, y)
    for x in (input, min, max):
        if x is not None and F.aval(x).is_float:
            y = F.where(F.ne(x, x), F.detach(x), y)  # NaN, of which nobody gets a gradient
    return y


_SPREAD = t(5, 3, fill="distinct", low=-2, high=2)
_SIDES = (t(5, 3, fill=(-0.5, -0.25, -0.75)), t(5, 3, fill=(0.5, 0.25, 0.75)))
register(
    name="clamp_between",
    doc="clamp with arrays as bounds; shapes broadcast, dtypes promote.",
    signature="input, min=None, max=None",
    inputs=("input", "min", "max"),
    promotes=("input", "min", "max"),
    rule=_between_rule,
    compose=_between,
    batch="pointwise",
    public=False,
    samples=(
        Sample(_SPREAD, *_SIDES),
        Sample(t(5, 3), t(3), why_="one bound, broadcast"),
        Sample(t(3), None, t(5, 1), why_="the input broadcasts"),
        Sample(_SPREAD, t(fill=0.5), t(fill=-0.5), why_="crossed bounds"),
        Sample(t(0, 3), t(3), t(1, 1)),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), t(6, fill="ones")),
        Sample(t(6, fill=(-1.0, 1.0, NAN, INF, 0.0, 0.0)), t(6, fill=(-1.0, 0.0, 0.0, 0.0, NAN, 0.0)),
               t(6, fill=(1.0, 1.0, 1.0, 1.0, 1.0, NAN)), grad_=False, why_="on the bounds, NaN"),
        Sample(t(7, dtype="float64"), t(7), why_="promotion"),
        Sample(t(5, dtype="int32", fill="ints", low=-9, high=9), t(5, dtype="int64", fill="zeros")),
    ),
    errors=(
        Bad(ArgumentError, "clamp: min and max are both None", t(3)),
        Bad(ShapeError, "clamp: shapes", t(3), t(4)),
        Bad(DTypeError, "clamp: bool", *[t(3, dtype="bool", fill="bool")] * 2),
    ),
    torch="torch.clamp",
)  # fmt: skip
