"""Cards of the ops that pick and add single elements by an array of indices: gather, scatter_add."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, axis, broadcast_shapes
from ..errors import DTypeError, IndexRangeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .index import dim_canon, ids, need_index, these, zeros
from .slicing import need_axes


def fits_but(dim: int, index: Aval, other: Aval) -> bool:
    """Whether index is no larger than the other on every axis but `dim`; a scalar counts as one axis of size 1."""
    a, b = index.shape or (1,), other.shape or (1,)
    return len(a) == len(b) and all(i == dim or n <= m for i, (n, m) in enumerate(zip(a, b, strict=True)))


def _gather_rule(input: Aval, index: Aval, *, dim: int) -> Aval:
    need_index("gather", index=index)
    if index.size and not fits_but(dim, index, input):
        raise ShapeError(
            f"gather: index has shape {index.shape}, input {input.shape}. Give index as many axes, none larger."
        )
    return input.with_shape(index.shape)


register(
    name="gather",
    doc="y[i, j, …] = input[i, …, index[i, j, …], …], the index taking the place of the position along `dim`. index "
    "has as many axes as input and is no larger on the others. As torch.gather.",
    signature="input, dim, index",
    inputs=("input", "index"),
    canon=dim_canon("gather"),
    rule=_gather_rule,
    vjp=lambda F, at, dy, index: (F.scatter_add(zeros(F, at.ins[0]), at.attrs["dim"], index, dy), None),
    saves=("index",),
    samples=(
        Sample(t(5, 3), ids(5, 7, high=3), dim=1),
        Sample(t(5, 3), ids(2, 2, high=5, dtype="int32"), dim=0),
        Sample(t(2, 5, 3), ids(1, 4, 3, high=5), dim=-2),
        Sample(t(5), ids(11, high=5), dim=0),
        Sample(t(), ids(3, high=1), dim=0),
        Sample(t(3), ids(high=3), dim=0),
        Sample(t(5, 3), ids(0, high=1), dim=0),
        Sample(t(0, 3), ids(0, 3, high=1), dim=0),
        Sample(t(6, 4, layout="transposed"), ids(3, 4, high=6, layout="transposed"), dim=0),
        Sample(t(5, dtype="bool", fill="bool"), ids(3, high=5), dim=0),
        Sample(t(5, 3, dtype="float64"), ids(2, 3, high=5), dim=0),
    ),
    errors=(
        Bad(IndexRangeError, "3 at .* size 3", t(2, 3), t(2, 1, dtype="int64", fill=3), dim=1),
        Bad(IndexRangeError, "-1 at", t(3), these(0, -1), dim=0),
        Bad(DTypeError, "integers", t(3), t(2), dim=0),
        Bad(ShapeError, "as many axes", t(2, 3), ids(2, high=2), dim=0),
        Bad(ShapeError, "none larger", t(2, 3), ids(3, 2, high=2), dim=1),
    ),
    # One element of each row, which is 32 bytes of it for the memory.
    perf=(Perf(t(1024, 96), ids(1024, 1, high=96), dim=1, bytes_=lambda size: 1024 * (32 + 8 + size)),),
    torch="torch.gather",
    exempt={"gather": "gathers elements"},
)


def _scatter_add_rule(input: Aval, index: Aval, src: Aval, *, dim: int) -> Aval:
    need_index("scatter_add", index=index)
    if input.dtype != src.dtype:
        raise DTypeError(f"scatter_add: input is {input.dtype}, src {src.dtype}. Cast one to the other with gt.cast.")
    if index.size and not (fits_but(dim, index, input) and fits_but(-1, index, src)):
        raise ShapeError(
            f"scatter_add: index has shape {index.shape}, src {src.shape}, input {input.shape}. Make index no larger "
            f"than src, nor than input but on axis {dim}."
        )
    return input


def gathered_like(F: Any, at: At, dy: Any, index: Any) -> Any:
    """The gradient of the `src` of a scatter: what is at the indices, zeros where src is larger than index."""
    _, ids, src = at.ins
    if not ids.size:
        return zeros(F, src)
    dsrc = F.gather(dy, at.attrs["dim"], index)
    if ids.shape != src.shape:
        used, whole = ids.shape or (1,), src.shape or (1,)
        missing = [k for a, b in zip(reversed(whole), reversed(used), strict=True) for k in (0, a - b)]
        dsrc = F.reshape(F.constant_pad_nd(F.reshape(dsrc, used), tuple(missing)), src.shape)
    return dsrc


def _scatter_add_vjp(F: Any, at: At, dy: Any, index: Any) -> Any:
    return dy, None, gathered_like(F, at, dy, index) if at.needs[2] else None


register(
    name="scatter_add",
    doc="input, with src[i, j, …] added at [i, …, index[i, j, …], …], the index taking the place of the position along "
    "`dim`. Equal positions add up: the same inputs give the same bits. As torch.scatter_add.",
    signature="input, dim, index, src",
    precision="wide",
    inputs=("input", "index", "src"),
    canon=dim_canon("scatter_add"),
    rule=_scatter_add_rule,
    vjp=_scatter_add_vjp,
    saves=("index",),
    samples=(
        Sample(t(5, 3), ids(7, 3, high=5), t(7, 3), dim=0),
        Sample(t(5, 3), ids(2, 2, high=3), t(4, 5), dim=-1, why_="index smaller than both"),
        Sample(t(5), t(9, dtype="int64", fill="ones"), t(9), dim=0),
        Sample(t(), ids(3, high=1), t(3), dim=0),
        Sample(t(3), ids(high=3), t(4), dim=0),
        Sample(t(3), ids(1, high=3), t(), dim=0),
        Sample(t(5, 3), ids(2, 3, high=5), t(4, 3), dim=0),
        Sample(t(3, 2), ids(0, high=1), t(4), dim=0),
        Sample(t(4, dtype="int64", fill="ints", high=9), ids(6, high=4), ids(6, high=9), dim=0),
        Sample(t(6, 4, layout="transposed"), ids(6, 4, high=6), t(6, 4, layout="transposed"), dim=0),
        Sample(t(5, 3, dtype="float64"), ids(7, 3, high=5), t(7, 3, dtype="float64"), dim=0),
    ),
    errors=(
        Bad(IndexRangeError, "5 at .* size 5", t(5), these(0, 5), t(2), dim=0),
        Bad(IndexRangeError, "-1 at", t(5), these(-1), t(1), dim=0),
        Bad(ShapeError, "larger", t(5), ids(3, high=5), t(2), dim=0),
        Bad(ShapeError, "larger", t(5), ids(3, high=5), t(), dim=0),
        Bad(ShapeError, "larger", t(5, 2), ids(1, 3, high=5), t(3, 3), dim=0),
        Bad(DTypeError, "src float64", t(5), ids(2, high=5), t(2, dtype="float64"), dim=0),
        Bad(DTypeError, "integers", t(5), t(2), t(2), dim=0),
    ),
    perf=(Perf(t(1024, 96, fill="zeros"), ids(1024, 1, high=96), t(1024, 1), dim=1),),
    torch="torch.scatter_add",
    exempt={
        "scatter_add": "gathers elements",
        "places": "computes positions, one per index",
        "order": "compares every pair of a short vector",
        "merge_runs": "gathers keys by their order",
    },
)


def _take_along_dim_canon(input: Aval, indices: Aval, *, dim: int | None = None) -> dict[str, Any]:
    need_index("take_along_dim", indices=indices)
    if dim is None:
        return {"dim": None}
    need_axes("take_along_dim", input)
    if input.ndim != indices.ndim:
        raise ShapeError(
            f"take_along_dim: input has shape {input.shape}, indices {indices.shape}. Give both as many axes."
        )
    return {"dim": axis("take_along_dim", dim, input.ndim)}


def _take_along_dim(F: Any, input: Any, indices: Any, *, dim: int | None) -> Any:
    if dim is None:
        input, indices, dim = F.flatten(input), F.flatten(indices), 0
    a, b = F.aval(input).shape, F.aval(indices).shape
    at = F.wrap_index([indices], (a[dim],), "take_along_dim")
    others = broadcast_shapes("take_along_dim", (*a[:dim], 1, *a[dim + 1 :]), (*b[:dim], 1, *b[dim + 1 :]))
    sized = lambda n: (*others[:dim], n, *others[dim + 1 :])  # noqa: E731
    return F.gather(F.expand(input, sized(a[dim])), dim, F.expand(at, sized(b[dim])))


register(
    name="take_along_dim",
    doc="gather with shapes that broadcast on the axes other than `dim`, and negative indices that count from the end; "
    "with dim=None both are flattened first. As torch.take_along_dim.",
    signature="input, indices, dim=None",
    inputs=("input", "indices"),
    canon=_take_along_dim_canon,
    rule=lambda input, indices, *, dim: input,
    compose=_take_along_dim,
    samples=(
        Sample(t(5, 3), ids(5, 2, low=-3, high=3), dim=1),
        Sample(t(5, 3), ids(2, 1, high=5), dim=0, why_="indices broadcast"),
        Sample(t(1, 3), ids(4, 2, high=3), dim=-1, why_="input broadcasts"),
        Sample(t(2, 3), ids(2, 4, high=6)),
        Sample(t(), ids(high=1), why_="a scalar"),
        Sample(t(5, 3), ids(5, 0, high=1), dim=1, why_="no indices"),
        Sample(t(6, 4, layout="transposed"), ids(2, 4, high=6, layout="strided"), dim=0),
        Sample(t(5, 3, dtype="float64"), ids(5, 2, high=3), dim=1),
    ),
    errors=(
        Bad(ShapeError, "scalar", t(), ids(high=1), dim=0),
        Bad(IndexRangeError, "3 at .* size 3", t(3), these(3), dim=0),
        Bad(IndexRangeError, "-4 at .* size 3", t(3), these(-4), dim=0),
        Bad(ShapeError, "as many axes", t(2, 3), ids(2, high=2), dim=0),
        Bad(ShapeError, "broadcast", t(2, 3), ids(3, 1, high=2), dim=1),
        Bad(DTypeError, "integers", t(3), t(2)),
    ),
    torch="torch.take_along_dim",
)
