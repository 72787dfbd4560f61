"""Cards of the ops that pick elements by integer arrays, and of the sums that are their gradients.

Indices are integers of any width. One that is out of range raises `IndexRangeError`; negative ones count from the end
only where PyTorch lets them: in `index` (that is, x[i]) and `take_along_dim`.
"""

from __future__ import annotations

import math
from typing import Any

from ..aval import INTS, Aval, axis, broadcast_shapes
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, T, t


def need_index(op: str, **indices: Aval) -> None:
    """Raise `DTypeError` unless the arrays hold integers."""
    for name, a in indices.items():
        if a.dtype not in INTS:
            raise DTypeError(f'{op}: {name} is {a.dtype}, but integers are needed. Use gt.cast({name}, "int64").')


def zeros(F: Any, like: Aval) -> Any:
    return F.expand(F.const(0, like.dtype), like.shape)


def dim_canon(op: str) -> Any:
    return lambda input, *others, dim, **attrs: {"dim": axis(op, dim, input.ndim), **attrs}


def ids(*shape: int, high: int, low: int = 0, **options: Any) -> T:
    return t(*shape, dtype=options.pop("dtype", "int64"), fill="ints", low=low, high=high, **options)


def these(*values: int) -> T:
    return t(len(values), dtype="int64", fill=values)


# --- whole slices by a vector of indices: index_select and index_add --------------------------------------------------


def _index_select_rule(input: Aval, index: Aval, *, dim: int) -> Aval:
    need_index("index_select", index=index)
    if index.ndim > 1:
        raise ShapeError(
            f"index_select: index has shape {index.shape}, but must be a vector. Use x[index], or flatten."
        )
    if not input.ndim:
        if index.size != 1:
            raise ShapeError(f"index_select: {index.size} indices into a scalar. Pass one, or an array with axes.")
        return input
    return input.with_shape((*input.shape[:dim], index.size, *input.shape[dim + 1 :]))


def _index_select_vjp(F: Any, at: At, dy: Any, index: Any) -> Any:
    return F.index_add(zeros(F, at.ins[0]), at.attrs["dim"], index, dy), None


register(
    name="index_select",
    doc="The slices of `input` along `dim` at the positions in the vector `index`. As torch.index_select.",
    signature="input, dim, index",
    inputs=("input", "index"),
    canon=dim_canon("index_select"),
    rule=_index_select_rule,
    vjp=_index_select_vjp,
    saves=("index",),
    samples=(
        Sample(t(5, 3), ids(7, high=5), dim=0),
        Sample(t(2, 5, 3), ids(4, high=5, dtype="int32"), dim=1),
        Sample(t(2, 3), ids(2, high=3), dim=-1),
        Sample(t(5), ids(11, high=5), dim=0),
        Sample(t(5, 2), ids(high=5), dim=0, why_="a scalar index keeps the axis"),
        Sample(t(), ids(1, high=1), dim=0),
        Sample(t(5, 3), ids(0, high=1), dim=0),
        Sample(t(0, 3), ids(0, high=1), dim=0),
        Sample(t(5, 3), t(6, dtype="int64", fill="ones"), dim=0, why_="one slice again and again"),
        Sample(t(6, 4, layout="transposed"), ids(3, high=4), dim=1),
        Sample(t(5, 2, dtype="bfloat16"), ids(3, high=5), dim=0, grad_=False),
        Sample(t(5, dtype="bool", fill="bool"), ids(3, high=5, layout="strided"), dim=0),
        Sample(t(5, 2, dtype="float64"), ids(3, high=5), dim=0),
    ),
    errors=(
        Bad(IndexRangeError, "5 at .* size 5", t(5, 3), these(0, 5), dim=0),
        Bad(IndexRangeError, "-1 at .* size 5", t(5, 3), these(-1), dim=0),
        Bad(IndexRangeError, "size 0", t(0, 3), these(0), dim=0),
        Bad(DTypeError, "integers", t(5), t(2), dim=0),
        Bad(ShapeError, "vector", t(5), ids(2, 2, high=5), dim=0),
        Bad(ShapeError, "scalar", t(), ids(2, high=1), dim=0),
        Bad(ShapeError, "out of range", t(5), ids(2, high=5), dim=1),
    ),
    perf=(
        Perf(
            *(t(60000, 784), ids(64, high=60000)),
            dim=0,
            bytes_=lambda size: 64 * (2 * 784 * size + 8),
            name_="digits batch",
        ),
    ),
    torch="torch.index_select",
    exempt={"index_select[BLOCK_COLS=1]": "gathers elements"},
)


def _index_add_rule(input: Aval, index: Aval, source: Aval, *, dim: int, alpha: float) -> Aval:
    need_index("index_add", index=index)
    if input.dtype != source.dtype:
        raise DTypeError(f"index_add: input is {input.dtype}, source {source.dtype}. Cast one of them with gt.cast.")
    if index.ndim > 1:
        raise ShapeError(f"index_add: index has shape {index.shape}, but a vector is needed. Flatten it.")
    fitting = (*input.shape[:dim], index.size, *input.shape[dim + 1 :]) if input.ndim else ()
    if source.shape != fitting or (not input.ndim and index.size != 1):
        raise ShapeError(f"index_add: source has shape {source.shape}. For {index.size} indices give it {fitting}.")
    if not isinstance(alpha, int | float if input.is_float else int):
        raise ArgumentError(f"index_add: alpha={alpha!r:.40} is no number for {input.dtype}. Multiply source instead.")
    return input


def _index_add_vjp(F: Any, at: At, dy: Any, index: Any) -> Any:
    dsource = None
    if at.needs[2]:
        dsource = F.index_select(dy, at.attrs["dim"], index)
        if at.attrs["alpha"] != 1:
            dsource = F.scale(dsource, at.attrs["alpha"])
    return dy, None, dsource


register(
    name="index_add",
    doc="input, with alpha · source[k] added to the slice at index[k] along `dim`. Equal indices add up, in a fixed "
    "order: the same inputs give the same bits. As torch.index_add.",
    signature="input, dim, index, source, alpha=1",
    precision="wide",
    inputs=("input", "index", "source"),
    canon=lambda input, *others, dim, alpha=1: {"dim": axis("index_add", dim, input.ndim), "alpha": alpha},
    rule=_index_add_rule,
    vjp=_index_add_vjp,
    saves=("index",),
    samples=(
        Sample(t(5, 3), ids(7, high=5), t(7, 3), dim=0),
        Sample(t(2, 5, 3), ids(4, high=5), t(2, 4, 3), dim=1, alpha=-2.5),
        Sample(t(5), ids(11, high=5), t(11), dim=0),
        Sample(t(3, 2), t(40, dtype="int64", fill="ones"), t(40, 2), dim=0, why_="one slice again and again"),
        Sample(t(3, 7), ids(29, high=7), t(3, 29), dim=-1),
        Sample(t(), ids(1, high=1), t(), dim=0),
        Sample(t(5, 3), ids(0, high=1), t(0, 3), dim=0),
        Sample(t(5, 0), ids(2, high=5), t(2, 0), dim=0),
        Sample(t(4, 2, dtype="int64", fill="ints", high=9), ids(5, high=4), ids(5, 2, high=9), dim=0),
        *(
            Sample(
                t(*n, dtype="uint8", fill="ints", high=9),
                ids(1, high=1),
                t(*n, dtype="uint8", fill="ones"),
                dim=0,
                alpha=-1,
                why_="wraps around",
            )
            for n in ((), (1, 2))
        ),
        Sample(t(2, 2, fill=((0.0, 1.0),)), these(0), t(1, 2, fill=((float("nan"), 1.0),)), dim=0, grad_=False),
        Sample(t(6, 4, layout="transposed"), ids(3, high=4), t(6, 3, layout="transposed"), dim=1),
        Sample(t(5, 2, dtype="float64"), ids(7, high=5), t(7, 2, dtype="float64"), dim=0),
    ),
    errors=(
        Bad(IndexRangeError, "5 at .* size 5", t(5, 3), these(0, 5), t(2, 3), dim=0),
        Bad(IndexRangeError, "-2 at", t(5, 3), these(0, -2), t(2, 3), dim=0),
        Bad(ShapeError, "source has shape", t(5, 3), ids(2, high=5), t(3, 3), dim=0),
        Bad(ShapeError, "vector", t(5, 3), ids(2, 2, high=5), t(4, 3), dim=0),
        Bad(DTypeError, "source float64", t(5), ids(2, high=5), t(2, dtype="float64"), dim=0),
        Bad(DTypeError, "integers", t(5), t(2), t(2), dim=0),
        Bad(ArgumentError, "alpha", ids(5, high=5), ids(2, high=5), ids(2, high=5), dim=0, alpha=0.5),
    ),
    perf=(
        Perf(t(96, 128, layout="repeated"), ids(1024, high=96), t(1024, 128), dim=0, name_="gpt gradient of tokens"),
        Perf(t(64, 128, layout="repeated"), ids(64, high=64), t(64, 128), dim=0, name_="gpt gradient of positions"),
    ),
    torch="torch.index_add",
    exempt={"index_add[BLOCK_COLS=1]": "gathers elements"},
)


# --- x[i, j] ----------------------------------------------------------------------------------------------------------


def _wrap_index_rule(*indices: Aval, sizes: tuple[int, ...], op: str) -> Aval:
    need_index(op, **{f"index array {k}": a for k, a in enumerate(indices)})
    return Aval(broadcast_shapes(op, *(a.shape for a in indices)), "int64")


register(
    name="wrap_index",
    doc="Positions, in row-major order, in an array of shape `sizes`, of one index array per axis; they broadcast, and "
    "negative ones count from the end. `op` is what a message is headed with.",
    signature="indices, sizes, op",
    inputs=("*indices",),
    rule=_wrap_index_rule,
    samples=(
        Sample(ids(7, low=-5, high=5), sizes=(5,), op="index"),
        Sample(ids(3, 1, low=-2, high=2), ids(4, low=-5, high=5, dtype="int32"), sizes=(2, 5), op="index"),
        Sample(ids(0, high=1), sizes=(0,), op="index"),
        Sample(ids(3, high=2, dtype="uint8"), ids(high=300), sizes=(2, 300), op="index"),
        Sample(ids(4, 6, high=5, layout="transposed"), sizes=(5,), op="index"),
    ),
    public=False,
    exempt={"wrap_index": "indices broadcast with any strides"},
)


def _index_canon(*tensors: Aval, dims: tuple[int, ...] | None = None) -> dict[str, Any]:
    if len(tensors) < 2:
        raise ArgumentError("index: pass an array and at least one index array, as in index([x, i]).")
    x, *indices = tensors
    for k, a in enumerate(indices):
        need_index("index", **{f"index array {k}": a})
    if dims is not None and len(dims) != len(indices):
        raise ArgumentError(f"index: {len(indices)} index arrays for dims={dims}. Name one axis per array.")
    if len(indices) > x.ndim:
        raise IndexRangeError(f"index: {len(indices)} indices for an array with {x.ndim} axes. Use at most {x.ndim}.")
    over = tuple(axis("index", d, x.ndim, "dims") for d in (range(len(indices)) if dims is None else dims))
    if len(set(over)) != len(over):
        raise ShapeError(f"index: dims={dims} names an axis twice. Name each axis once.")
    broadcast_shapes("index", *(a.shape for a in indices))
    return {"dims": over}


def _index(F: Any, x: Any, *indices: Any, dims: tuple[int, ...]) -> Any:
    pairs = sorted(zip(dims, indices, strict=True), key=lambda pair: pair[0])
    over = [d for d, _ in pairs]
    shape = F.aval(x).shape
    first, count = over[0], len(over)
    if over != list(range(first, first + count)):
        order = (*over, *(i for i in range(len(shape)) if i not in over))
        x, shape, first = F.permute(x, order), tuple(shape[i] for i in order), 0
    before, sizes, after = shape[:first], shape[first : first + count], shape[first + count :]
    at = F.wrap_index([i for _, i in pairs], sizes, "index")
    picked = F.aval(at)
    if count > 1:
        x = F.reshape(x, (*before, math.prod(sizes), *after))
    y = F.index_select(x, first, F.reshape(at, (picked.size,)))
    return y if picked.ndim == 1 else F.reshape(y, (*before, *picked.shape, *after))


register(
    name="index",
    doc="x[i] or x[i, j] for integer arrays: tensors is (x, i, j, …), dims says which axes they index (default: the "
    "first). The index arrays broadcast; their axes stand where the indexed ones stood if those are neighbours, else "
    "in front. Negative indices count from the end. As indexing with arrays in NumPy and PyTorch.",
    signature="tensors, dims=None",
    inputs=("*tensors",),
    canon=_index_canon,
    rule=lambda x, *indices, dims: x,
    compose=_index,
    samples=(
        Sample(t(5, 3), ids(7, low=-5, high=5)),
        Sample(t(5, 3), ids(2, 2, low=-3, high=3), dims=(1,)),
        Sample(t(5, 3), ids(7, high=5), ids(7, low=-3, high=3)),
        Sample(t(2, 5, 3), ids(4, 1, high=5), ids(2, high=3), dims=(1, 2)),
        Sample(t(2, 5, 3), ids(4, high=3), ids(4, high=2), dims=(2, 0), why_="not neighbours: their axes in front"),
        Sample(t(5), ids(high=5)),
        Sample(t(5, 3), ids(0, high=1)),
        Sample(t(6, 4, layout="transposed"), ids(5, high=6), ids(5, high=4)),
        Sample(t(5, 3, dtype="float64"), ids(7, low=-5, high=5)),
    ),
    errors=(
        Bad(IndexRangeError, "index: index 5 at .* size 5", t(5, 3), these(0, 5)),
        Bad(IndexRangeError, "-6 at .* size 5", t(5, 3), these(-6)),
        Bad(IndexRangeError, "2 indices", t(5), these(0), these(0)),
        Bad(DTypeError, "integers", t(5), t(2)),
        Bad(ShapeError, "broadcast", t(5, 3), ids(2, high=3), ids(3, high=3)),
        Bad(ShapeError, "twice", t(5, 3), ids(2, high=3), ids(2, high=3), dims=(1, -1)),
        Bad(ArgumentError, "one axis per array", t(5, 3), ids(2, high=3), dims=(0, 1)),
        Bad(ArgumentError, "at least one index", t(5)),
    ),
)
