"""Cards of distances, integrals and covariances that are composed of sums."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, axis, need_float
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .index import need_index, these
from .pointwise import as_float, plain_number
from .slicing import along, need_axes

# --- dist -------------------------------------------------------------------------------------------------------------


def _dist_canon(input: Aval, other: Aval, *, p: Any = 2) -> dict[str, Any]:
    need_float("dist", input=input, other=other)
    return {"p": plain_number("dist", "p", p)}


register(
    name="dist",
    doc="The p-norm of input - other, over all elements; shapes broadcast. As torch.dist.",
    signature="input, other, p=2",
    inputs=("input", "other"),
    promotes=("input", "other"),
    canon=_dist_canon,
    rule=lambda input, other, *, p: input,
    compose=lambda F, input, other, *, p: F.norm(F.sub(input, other), p),
    precision="wide",
    samples=(
        Sample(t(5, 3), t(5, 3)),
        Sample(t(5, 1), t(3), p=1),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), p=3.5),
        Sample(t(5, 3), t(), p=float("inf")),
        Sample(t(5), t(5), p=0, grad_=False, torch_=False, why_="PyTorch's gradient fails"),
        Sample(t(0), t(0)),
        Sample(t(7, dtype="float64"), t(7, dtype="float64"), p=2),
    ),
    errors=(
        Bad(ShapeError, "do not broadcast", t(3), t(4)),
        Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"), t(3, dtype="int64", fill="ones")),
        Bad(DTypeError, "p must be a plain number", t(3), t(3), p="fro"),
    ),
    torch="torch.dist",
)


# --- trapezoid --------------------------------------------------------------------------------------------------------


def _trapezoid_canon(y: Aval, x: Aval | None, *, dx: Any = None, dim: Any = -1) -> dict[str, Any]:
    need_axes("trapezoid", y)
    if x is not None and dx is not None:
        raise ArgumentError(f"trapezoid: x and dx={dx!r} are both given. Give one.")
    return {"dx": plain_number("trapezoid", "dx", 1 if dx is None else dx), "dim": axis("trapezoid", dim, y.ndim)}


def _trapezoid_rule(y: Aval, x: Aval | None, *, dx: float, dim: int) -> Aval:
    if x is not None and x.ndim == 1 and x.size != y.shape[dim]:
        raise ShapeError(f"trapezoid: x has {x.size} points, but y {y.shape} has {y.shape[dim]} on axis {dim}.")
    return y


def _trapezoid(F: Any, y: Any, x: Any, *, dx: float, dim: int) -> Any:
    a = F.aval(y)
    n = a.shape[dim]
    first, last = max(n - 1, 0), min(1, n)
    pairs = F.add(along(F, y, dim, 0, first), along(F, y, dim, last, n))
    if x is None:
        return F.scale(F.sum(pairs, dim), dx / 2)
    if F.aval(x).ndim == 1:
        x = F.reshape(x, (n, *(1,) * (a.ndim - dim - 1)))
    at = F.aval(x).ndim + dim - a.ndim if F.aval(x).ndim < a.ndim else dim
    n = F.aval(x).shape[at]
    steps = F.sub(along(F, x, at, min(1, n), n), along(F, x, at, 0, max(n - 1, 0)))
    return F.scale(F.sum(F.mul(pairs, steps), dim), 0.5)


register(
    name="trapezoid",
    doc="""The integral of y along `dim` by the trapezoidal rule, at the points x (a vector, or of y's shape), or dx
    apart (1 if neither is given). Integers as float32. As torch.trapezoid.""",
    signature="y, x=None, *, dx=None, dim=-1",
    inputs=("y", "x"),
    promotes=("y", "x"),
    inexact=True,
    outputs=("z",),
    canon=_trapezoid_canon,
    rule=_trapezoid_rule,
    compose=_trapezoid,
    samples=(
        Sample(t(5, 3)),
        Sample(t(5, 3), dx=0.5, dim=0),
        Sample(t(5, 3), t(3)),
        Sample(t(5, 3), t(5), dim=0),
        Sample(t(5, 3), t(5, 3), dim=1),
        Sample(t(2, 5, 3), t(5, 3), dim=1),
        Sample(t(1), t(1)),
        Sample(t(3, 0)),
        Sample(t(4, 6, layout="transposed"), t(6, layout="strided")),
        Sample(t(7, dtype="float64"), t(7, dtype="float64")),
        Sample(t(5, dtype="int64", fill="ints", high=9)),
    ),
    errors=(
        Bad(ArgumentError, "both given", t(3), t(3), dx=1),
        Bad(ShapeError, "x has 4 points", t(3), t(4)),
        Bad(ShapeError, "out of range", t(3), dim=1),
    ),
    torch="torch.trapezoid",
)


# --- covariance -------------------------------------------------------------------------------------------------------


def _cov_canon(input: Aval, fweights: Aval | None, aweights: Aval | None, *, correction: Any = 1) -> dict[str, Any]:
    n = input.shape[-1] if input.ndim else 1
    if input.ndim > 2:
        raise ShapeError(f"cov: input has shape {input.shape}, but (variables, observations) is needed.")
    for name, w in (("fweights", fweights), ("aweights", aweights)):
        if w is not None and w.shape != (n,):
            raise ShapeError(f"cov: {name} has shape {w.shape}, but there are {n} observations. Give it ({n},).")
    if fweights is not None:
        need_index("cov", fweights=fweights)
    return {"correction": plain_number("cov", "correction", correction)}


def _cov(F: Any, input: Any, fweights: Any, aweights: Any, *, correction: float) -> Any:
    a = as_float(F.aval(input))
    x = input if F.aval(input) == a else F.cast(input, a.dtype)
    x = x if a.ndim == 2 else F.reshape(x, (1, a.size))
    rows, n = F.aval(x).shape
    weights = [w if F.aval(w).dtype == a.dtype else F.cast(w, a.dtype) for w in (fweights, aweights) if w is not None]
    if not weights:
        centred = F.sub(x, F.mean(x, 1, True))
        y = F.matmul(centred, F.transpose(centred, 0, 1))
        y = F.div(y, F.const(max(n - correction, 0), a.dtype))
    else:
        w = weights[0] if len(weights) == 1 else F.mul(*weights)
        total = F.sum(w)
        centred = F.sub(x, F.div(F.sum(F.mul(x, w), 1, True), total))
        lost = F.const(correction, a.dtype)
        if aweights is not None:
            lost = F.mul(lost, F.div(F.sum(F.mul(w, weights[-1])), total))
        y = F.matmul(centred, F.transpose(F.mul(centred, w), 0, 1))
        y = F.div(y, F.clamp(F.sub(total, lost), 0))
    return y if a.ndim == 2 and rows != 1 else F.reshape(y, ())


register(
    name="cov",
    doc="""The covariances of the rows of input (variables, observations), whose sums are divided by n - correction; of
    one variable, or a vector, its variance.

    fweights tells how often each observation counts, aweights how much it matters; they are not looked at, but must not
    be negative. Integers as float32. As torch.cov.""",
    signature="input, *, correction=1, fweights=None, aweights=None",
    inputs=("input", "fweights", "aweights"),
    promotes=("input", "aweights"),
    precision="narrow",
    canon=_cov_canon,
    rule=lambda input, *weights, correction: input,
    compose=_cov,
    samples=(
        Sample(t(3, 7)),
        Sample(t(3, 7), correction=0),
        Sample(t(1, 5)),
        Sample(t(5)),
        Sample(t(6, 4, layout="transposed")),
        Sample(t(2, 3, dtype="float64"), correction=2),
        Sample(t(2, 4), these(1, 3, 0, 2)),
        Sample(t(2, 4), None, t(4, fill="uniform", low=0.5, high=2), correction=0),
        Sample(t(2, 4), these(1, 3, 1, 2), t(4, fill="uniform", low=0.5, high=2)),
        Sample(
            t(2, 4, dtype="float64"),
            None,
            t(4, fill="uniform", low=0.5, high=2),
            torch_=False,
            why_="PyTorch adds the weights up in float32",
        ),
        Sample(t(2, 5, dtype="int64", fill="ints", high=9)),
        Sample(t(0, 5)),
        Sample(t(3, 0), grad_=False, why_="no observations: NaN"),
    ),
    errors=(
        Bad(ShapeError, "observations", t(2, 2, 2)),
        Bad(ShapeError, "fweights has shape", t(2, 3), these(1, 2)),
        Bad(DTypeError, "integers", t(2, 3), t(3)),
        Bad(DTypeError, "correction must be", t(3), correction="1"),
    ),
    torch="torch.cov",
)


def _corrcoef(F: Any, input: Any) -> Any:
    c = F.cov(input)
    if not F.aval(c).ndim:
        return F.div(c, c)
    scale = F.sqrt(F.diagonal(c))
    n = F.aval(scale).size
    y = F.div(F.div(c, F.reshape(scale, (n, 1))), F.reshape(scale, (1, n)))
    return F.clamp(y, -1.0, 1.0)


register(
    name="corrcoef",
    doc="The correlations of the rows of input (variables, observations), brought between -1 and 1. As torch.corrcoef.",
    signature="input",
    inputs=("input",),
    precision="narrow",
    rule=lambda input: input,
    compose=_corrcoef,
    samples=(
        Sample(t(3, 7), grad_=False, why_="bounded: correlations with itself are at a kink"),
        Sample(t(5), grad_=False),
        Sample(t(6, 4, layout="transposed"), grad_=False),
        Sample(t(2, 5, dtype="float64"), grad_=False),
        Sample(t(0, 5)),
    ),
    errors=(Bad(ShapeError, "cov: .* observations", t(2, 2, 2)),),
    torch="torch.corrcoef",
)
