"""Cards of the views that are composed of `reshape` and `permute`. They have no bodies."""

from __future__ import annotations

import math
from operator import index as to_int
from typing import Any

from ..aval import Aval, axes, axis
from ..errors import ArgumentError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t


def _same(*avals: Aval, **attrs: Any) -> Aval:
    return avals[0]


# --- the order and number of axes -------------------------------------------------------------------------------------


def _transpose_canon(input: Aval, *, dim0: int, dim1: int) -> dict[str, Any]:
    return {name: axis("transpose", d, input.ndim, name) for name, d in (("dim0", dim0), ("dim1", dim1))}


def _transpose(F: Any, input: Any, *, dim0: int, dim1: int) -> Any:
    dims = list(range(F.aval(input).ndim))
    if dims:
        dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return F.permute(input, tuple(dims))


register(
    name="transpose",
    doc="Two axes exchanged. A view. As torch.transpose.",
    signature="input, dim0, dim1",
    inputs=("input",),
    canon=_transpose_canon,
    rule=_same,
    compose=_transpose,
    samples=(
        Sample(t(2, 3, 5), dim0=0, dim1=-1),
        Sample(t(2, 3), dim0=1, dim1=1),
        Sample(t(4, 6, layout="strided"), dim0=0, dim1=1),
        Sample(t(2, 3, dtype="float64"), dim0=0, dim1=1),
        Sample(t(), dim0=0, dim1=-1, why_="a scalar"),
        Sample(t(0, 3), dim0=0, dim1=1),
    ),
    errors=(Bad(ShapeError, "dim1=2 is out of range", t(2, 3), dim0=0, dim1=2),),
    torch="torch.transpose",
)


def _squeeze(F: Any, input: Any, *, dim: tuple[int, ...]) -> Any:
    shape = F.aval(input).shape
    return F.reshape(input, tuple(n for i, n in enumerate(shape) if n != 1 or i not in dim))


register(
    name="squeeze",
    doc="Without those of the axes `dim` (default all) that have size 1. A view. As torch.squeeze.",
    signature="input, dim=None",
    inputs=("input",),
    canon=lambda input, *, dim=None: {"dim": axes("squeeze", dim, input.ndim)},
    rule=_same,
    compose=_squeeze,
    samples=(
        Sample(t(1, 3, 1)),
        Sample(t(1, 3, 1), dim=-1),
        Sample(t(1, 3, 1), dim=1, why_="not of size 1: it stays"),
        Sample(t(1, 3, 1, 2), dim=(0, 2)),
        Sample(t(4, 1, 6, layout="strided"), dim=1),
        Sample(t(1, 3, dtype="float64")),
        Sample(t(1, 3), dim=()),
        Sample(t(), dim=0),
        Sample(t(1, 0)),
    ),
    errors=(
        Bad(ShapeError, "out of range", t(1, 3), dim=2),
        Bad(ShapeError, "twice", t(1, 3), dim=(0, -2)),
    ),
    torch="torch.squeeze",
)


def _unsqueeze(F: Any, input: Any, *, dim: int) -> Any:
    shape = F.aval(input).shape
    return F.reshape(input, (*shape[:dim], 1, *shape[dim:]))


register(
    name="unsqueeze",
    doc="With a new axis of size 1 at position `dim` of the result. A view. As torch.unsqueeze.",
    signature="input, dim",
    inputs=("input",),
    canon=lambda input, *, dim: {"dim": axis("unsqueeze", dim, input.ndim + 1)},
    rule=_same,
    compose=_unsqueeze,
    samples=(
        Sample(t(2, 3), dim=0),
        Sample(t(2, 3), dim=-1),
        Sample(t(), dim=0),
        Sample(t(0, 3), dim=1),
        Sample(t(4, 6, layout="transposed"), dim=1),
        Sample(t(3, dtype="float64"), dim=0),
    ),
    errors=(Bad(ShapeError, "dim=3 is out of range", t(2, 3), dim=3),),
    torch="torch.unsqueeze",
)


def _flatten_canon(input: Aval, *, start_dim: int = 0, end_dim: int = -1) -> dict[str, Any]:
    first = axis("flatten", start_dim, input.ndim, "start_dim")
    last = axis("flatten", end_dim, input.ndim, "end_dim")
    if first > last:
        raise ShapeError(f"flatten: start_dim={start_dim} comes after end_dim={end_dim} in {input.shape}. Swap them.")
    return {"start_dim": first, "end_dim": last}


def _flatten(F: Any, input: Any, *, start_dim: int, end_dim: int) -> Any:
    shape = F.aval(input).shape
    merged = 1
    for n in shape[start_dim : end_dim + 1]:
        merged *= n
    return F.reshape(input, (*shape[:start_dim], merged, *shape[end_dim + 1 :]))


register(
    name="flatten",
    doc="The axes start_dim to end_dim merged into one, in row-major order; a scalar becomes (1,). As torch.flatten.",
    signature="input, start_dim=0, end_dim=-1",
    inputs=("input",),
    canon=_flatten_canon,
    rule=_same,
    compose=_flatten,
    samples=(
        Sample(t(2, 3, 5)),
        Sample(t(2, 3, 5), start_dim=1),
        Sample(t(2, 3, 5), start_dim=-3, end_dim=1),
        Sample(t(2, 3, dtype="float64")),
        Sample(t(2, 3), start_dim=1, end_dim=1),
        Sample(t()),
        Sample(t(0, 3)),
        Sample(t(4, 6, layout="transposed")),
    ),
    errors=(
        Bad(ShapeError, "comes after", t(2, 3), start_dim=1, end_dim=0),
        Bad(ShapeError, "end_dim=2 is out of range", t(2, 3), end_dim=2),
    ),
    torch="torch.flatten",
)


def _movedim_canon(input: Aval, *, source: Any, destination: Any) -> dict[str, Any]:
    listed = {}
    for name, given in (("source", source), ("destination", destination)):
        dims = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        listed[name] = tuple(axis("movedim", d, input.ndim, name) for d in dims)
        if len(set(listed[name])) != len(dims):
            raise ShapeError(f"movedim: {name}={given} names an axis twice. Name each axis once.")
    if len(listed["source"]) != len(listed["destination"]):
        raise ShapeError(
            f"movedim: source={source} and destination={destination} do not pair up. Give as many of each."
        )
    return listed


def _movedim(F: Any, input: Any, *, source: tuple[int, ...], destination: tuple[int, ...]) -> Any:
    ndim = F.aval(input).ndim
    if not ndim:
        return F.alias(input)
    placed = dict(zip(destination, source, strict=True))
    others = iter(d for d in range(ndim) if d not in source)
    return F.permute(input, tuple(placed[d] if d in placed else next(others) for d in range(ndim)))


register(
    name="movedim",
    doc="The axes `source` moved to the positions `destination`, the others in their order. A view. As torch.movedim.",
    signature="input, source, destination",
    inputs=("input",),
    canon=_movedim_canon,
    rule=_same,
    compose=_movedim,
    samples=(
        Sample(t(2, 3, 5), source=0, destination=-1),
        Sample(t(2, 3, 5), source=(0, 2), destination=(1, 0)),
        Sample(t(2, 3, 5), source=(), destination=()),
        Sample(t(), source=0, destination=-1, why_="a scalar"),
        Sample(t(0, 3), source=1, destination=0),
        Sample(t(4, 6, layout="strided"), source=-1, destination=0),
        Sample(t(2, 3, dtype="float64"), source=1, destination=0),
    ),
    errors=(
        Bad(ShapeError, "twice", t(2, 3), source=(0, -2), destination=(0, 1)),
        Bad(ShapeError, "pair up", t(2, 3), source=(0, 1), destination=0),
        Bad(ShapeError, "destination=2 is out of range", t(2, 3), source=0, destination=2),
    ),
    torch="torch.movedim",
)


def _unflatten_canon(input: Aval, *, dim: int, sizes: Any) -> dict[str, Any]:
    if not input.ndim:
        raise ShapeError("unflatten: a scalar has no axis to split. Pass an array with at least one axis.")
    dim = axis("unflatten", dim, input.ndim)
    n, given = input.shape[dim], tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)
    try:
        filled = [to_int(v) for v in given]
    except TypeError:
        raise ArgumentError(
            f"unflatten: sizes={sizes!r:.60} must hold integers. Pass a tuple such as (2, -1)."
        ) from None
    if filled.count(-1) == 1:
        known = math.prod(v for v in filled if v != -1)
        filled[filled.index(-1)] = n // known if known else -1
    if not filled or min(filled) < 0 or math.prod(filled) != n:
        raise ShapeError(
            f"unflatten: sizes={sizes} do not multiply to the size {n} of axis {dim}. Use -1 for one of them."
        )
    return {"dim": dim, "sizes": tuple(filled)}


def _unflatten(F: Any, input: Any, *, dim: int, sizes: tuple[int, ...]) -> Any:
    shape = F.aval(input).shape
    return F.reshape(input, (*shape[:dim], *sizes, *shape[dim + 1 :]))


register(
    name="unflatten",
    doc="Axis `dim` split into axes of the given sizes, one of which may be -1. A view where strides allow. As "
    "torch.unflatten.",
    signature="input, dim, sizes",
    inputs=("input",),
    canon=_unflatten_canon,
    rule=_same,
    compose=_unflatten,
    samples=(
        Sample(t(6, 5), dim=0, sizes=(2, 3)),
        Sample(t(2, 6), dim=-1, sizes=(3, -1)),
        Sample(t(6), dim=0, sizes=(1, 6, 1)),
        Sample(t(3, 0), dim=1, sizes=(0, 2)),
        Sample(t(4, 6, layout="transposed"), dim=1, sizes=(2, 3)),
        Sample(t(4, dtype="float64"), dim=0, sizes=(2, 2)),
    ),
    errors=(
        Bad(ShapeError, "do not multiply to the size 6", t(6, 5), dim=0, sizes=(2, 2)),
        Bad(ShapeError, "do not multiply", t(6), dim=0, sizes=(4, -1)),
        Bad(ShapeError, "do not multiply", t(6), dim=0, sizes=(-1, -1)),
        Bad(ShapeError, "do not multiply", t(6), dim=0, sizes=()),
        Bad(ArgumentError, "integers", t(6), dim=0, sizes=(2.0, 3)),
        Bad(ShapeError, "scalar", t(), dim=0, sizes=(1,)),
    ),
    torch="torch.unflatten",
)
