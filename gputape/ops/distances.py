"""Cards of distances of all pairs, and of slices brought to a length: cdist, renorm."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, axis, broadcast_shapes, need_float, need_same_dtype
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .distance import length
from .loss import check_number

INF = math.inf


def _cdist_canon(x1: Aval, x2: Aval, *, p: Any = 2.0, compute_mode: Any = None) -> dict[str, Any]:
    check_number("cdist", "p", p)
    if p < 0:
        raise ArgumentError(f"cdist: p={p} is negative. Use 0 or more.")
    return {"p": float(p)}


def _cdist_rule(x1: Aval, x2: Aval, *, p: float) -> Aval:
    need_float("cdist", x1=x1, x2=x2)
    need_same_dtype("cdist", x1=x1, x2=x2)
    if min(x1.ndim, x2.ndim) < 2 or x1.shape[-1] != x2.shape[-1]:
        raise ShapeError(f"cdist: x1 {x1.shape} and x2 {x2.shape} must end in (rows, columns) with as many columns.")
    lead = broadcast_shapes("cdist", x1.shape[:-2], x2.shape[:-2])
    return x1.with_shape((*lead, x1.shape[-2], x2.shape[-2]))


def _cdist(F: Any, x1: Any, x2: Any, *, p: float) -> Any:
    a, b = F.aval(x1), F.aval(x2)
    lead = broadcast_shapes("cdist", a.shape[:-2], b.shape[:-2])
    shape = (*lead, a.shape[-2], b.shape[-2])
    if not a.shape[-1]:
        return F.expand(F.const(0, a.dtype), shape)
    gap = F.sub(F.reshape(x1, (*a.shape[:-1], 1, a.shape[-1])), F.reshape(x2, (*b.shape[:-2], 1, *b.shape[-2:])))
    return F.reshape(length(F, gap, p, len(shape)), shape)


register(
    name="cdist",
    doc="""‖x1[i] - x2[j]‖ₚ for all pairs of rows: (…, n, d) and (…, m, d) to (…, n, m); the axes in front broadcast.

    Where a distance is 0 so is its gradient. Takes memory for n·m·d numbers; compute_mode changes nothing. As
    torch.cdist.
    """,
    signature="x1, x2, p=2.0, compute_mode=None",
    inputs=("x1", "x2"),
    canon=_cdist_canon,
    rule=_cdist_rule,
    compose=_cdist,
    precision="wide",
    samples=(
        *(Sample(t(4, 3), t(5, 3), p=p) for p in (2, 1, 3)),
        Sample(t(4, 3, fill="distinct", low=-2, high=2), t(5, 3, fill="distinct", low=-3, high=3), p=INF),
        Sample(t(4, 3), t(5, 3), p=0, grad_=False),
        Sample(t(2, 4, 3), t(5, 3), why_="the axes in front broadcast"),
        Sample(t(2, 3, fill="ones"), t(2, 3, fill="ones"), grad_=False, why_="distances of 0"),
        Sample(t(0, 3), t(5, 3), why_="no rows"),
        Sample(t(4, 0), t(5, 0), grad_=False, why_="no columns"),
        Sample(t(6, 4, layout="transposed"), t(3, 4, layout="flipped")),
        Sample(t(4, 3, dtype="float64"), t(5, 3, dtype="float64")),
    ),
    errors=(
        Bad(ShapeError, "as many columns", t(4, 3), t(5, 2)),
        Bad(ShapeError, "must end in", t(3), t(5, 3)),
        Bad(ArgumentError, "p=-1", t(4, 3), t(5, 3), p=-1),
        Bad(DTypeError, "floating-point", *[t(3, 3, dtype="int64", fill="ones")] * 2),
        Bad(DTypeError, "different dtypes", t(4, 3), t(5, 3, dtype="float64")),
    ),
    torch="torch.cdist",
)


def _renorm_canon(input: Aval, *, p: Any, dim: Any, maxnorm: Any) -> dict[str, Any]:
    for name, value in (("p", p), ("maxnorm", maxnorm)):
        check_number("renorm", name, value)
    if p <= 0 or maxnorm < 0:
        raise ArgumentError(f"renorm: p={p} must be above 0 and maxnorm={maxnorm} at least 0.")
    return {"p": float(p), "dim": axis("renorm", dim, input.ndim), "maxnorm": float(maxnorm)}


def _renorm_rule(input: Aval, **attrs: Any) -> Aval:
    need_float("renorm", input=input)
    if input.ndim < 2:
        raise ShapeError(f"renorm: input has shape {input.shape}, but at least two axes are needed.")
    return input


def _renorm(F: Any, input: Any, *, p: float, dim: int, maxnorm: float) -> Any:
    others = tuple(k for k in range(F.aval(input).ndim) if k != dim)
    n = F.norm(input, p, others, True)
    dtype = F.aval(n).dtype
    shrunk = F.div(F.const(maxnorm, dtype), F.add(n, F.const(1e-7, dtype)))
    return F.mul(input, F.where(F.gt(n, F.const(maxnorm, dtype)), shrunk, F.const(1, dtype)))


register(
    name="renorm",
    doc="The slices along `dim` whose p-norm is above maxnorm, scaled down to it. As torch.renorm.",
    signature="input, p, dim, maxnorm",
    inputs=("input",),
    canon=_renorm_canon,
    rule=_renorm_rule,
    compose=_renorm,
    precision="wide",
    samples=(
        Sample(t(5, 3), p=2, dim=0, maxnorm=1.0),
        Sample(t(5, 3), p=1, dim=-1, maxnorm=2),
        Sample(t(2, 3, 4), p=3, dim=1, maxnorm=0.5),
        Sample(t(2, 3, fill=((0.0,), (5.0,))), p=2, dim=0, maxnorm=1, grad_=False, why_="a slice of zeros"),
        Sample(t(0, 3), p=2, dim=0, maxnorm=1),
        Sample(t(4, 6, layout="transposed"), p=2, dim=1, maxnorm=1),
        Sample(t(5, 3, dtype="float64"), p=2, dim=0, maxnorm=1.5),
    ),
    errors=(
        Bad(ShapeError, "two axes", t(3), p=2, dim=0, maxnorm=1),
        Bad(ArgumentError, "above 0", t(3, 3), p=0, dim=0, maxnorm=1),
        Bad(ShapeError, "out of range", t(3, 3), p=2, dim=2, maxnorm=1),
        Bad(DTypeError, "floating-point", t(3, 3, dtype="int64", fill="ones"), p=2, dim=0, maxnorm=1),
    ),
    torch="torch.renorm",
)
