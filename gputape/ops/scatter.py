"""Cards of the ops that overwrite elements at positions given by indices: scatter, and what is composed of it."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, broadcast_shapes, category, fits
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .gather import fits_but, gathered_like
from .index import dim_canon, ids, need_index, these
from .pointwise import INF, NAN

# --- scatter ----------------------------------------------------------------------------------------------------------


def _scatter_rule(input: Aval, index: Aval, src: Aval, *, dim: int) -> Aval:
    need_index("scatter", index=index)
    if input.dtype != src.dtype:
        raise DTypeError(f"scatter: input is {input.dtype}, src {src.dtype}. Cast one to the other with gt.cast.")
    if index.size and not (fits_but(dim, index, input) and fits_but(-1, index, src)):
        raise ShapeError(
            f"scatter: index has shape {index.shape}, src {src.shape}, input {input.shape}. Make index no larger than "
            f"src, nor than input but on axis {dim}."
        )
    return input


def _scatter_vjp(F: Any, at: At, dy: Any, index: Any) -> Any:
    dim, dsrc = at.attrs["dim"], None
    if at.needs[2]:
        dsrc = gathered_like(F, at, dy, index)
    return F.scatter_value(dy, dim, index, 0.0) if at.needs[0] else None, None, dsrc


register(
    name="scatter",
    doc="input, with src[i, j, …] in the place of the element at [i, …, index[i, j, …], …], the index taking the place "
    "of the position along `dim`. Of equal positions the last in row-major order wins, and all get its gradient. src "
    "is an array or a number. As torch.scatter.",
    signature="input, dim, index, src, *, reduce=None",
    inputs=("input", "index", "src"),
    spellings={"src": ("value",)},
    number=("src", "scatter_value"),
    variants=(("reduce", "scatter_reducing"),),
    canon=dim_canon("scatter"),
    rule=_scatter_rule,
    vjp=_scatter_vjp,
    saves=("index",),
    samples=(
        Sample(t(5, 3), t(3, 3, dtype="int64", fill=((4, 0, 1), (0, 2, 3), (1, 1, 0))), t(4, 3), dim=0),
        Sample(t(5, 3), t(2, 2, dtype="int32", fill=((2, 0), (1, 2))), t(4, 5), dim=-1, why_="index smaller than both"),
        Sample(t(5), these(1, 3, 1), t(3), dim=0, grad_=False, why_="the last wins, both get the gradient"),
        Sample(t(), ids(1, high=1), t(3), dim=0),
        Sample(t(3), ids(high=3), t(4), dim=0),
        Sample(t(3), ids(1, high=3), t(), dim=0),
        Sample(t(3, 2), ids(0, high=1), t(4), dim=0),
        Sample(t(3, fill=(NAN, INF, 1.0)), these(1), t(1, fill=NAN), dim=0, grad_=False),
        Sample(t(4, dtype="int64", fill="ints", high=9), these(3, 0), ids(6, high=9), dim=0),
        Sample(t(3, dtype="bool", fill="bool"), these(1), t(1, dtype="bool", fill="ones"), dim=0),
        Sample(t(6, 4, layout="transposed"), ids(1, 4, high=6), t(2, 4, layout="flipped"), dim=0),
        Sample(t(5, 3, dtype="float64"), t(1, 3, dtype="int64", fill=(4, 0, 1)), t(1, 3, dtype="float64"), dim=0),
    ),
    errors=(
        Bad(IndexRangeError, "5 at .* size 5", t(5), these(0, 5), t(2), dim=0),
        Bad(IndexRangeError, "-1 at", t(5), these(-1), t(1), dim=0),
        Bad(ShapeError, "larger", t(5), ids(3, high=5), t(2), dim=0),
        Bad(ShapeError, "larger", t(5, 2), ids(1, 3, high=5), t(3, 3), dim=0),
        Bad(DTypeError, "src float64", t(5), ids(2, high=5), t(2, dtype="float64"), dim=0),
        Bad(DTypeError, "integers", t(5), t(2), t(2), dim=0),
    ),
    # What is overwritten is copied first; one element of each row is 32 bytes of it for the memory.
    perf=(
        Perf(
            *(t(1024, 96), ids(1024, 1, high=96), t(1024, 1)),
            dim=1,
            bytes_=lambda size: 1024 * (2 * 96 * size + 32 + 8 + size),
        ),
    ),
    torch="torch.scatter",
    exempt={
        "put": "gathers elements",
        "places": "computes positions, one per index",
        "order": "compares every pair of a short vector",
    },
)


_REDUCES = {None: None, "add": "sum", "multiply": "prod"}  # those of scatter_reduce


def _reducing(F: Any, input: Any, index: Any, src: Any, *, dim: int, reduce: str | None) -> Any:
    if reduce is None:
        return F.scatter(input, dim, index, src)
    return F.scatter_reduce(input, dim, index, src, _REDUCES[reduce])


def _reducing_canon(input: Aval, *others: Aval, dim: Any, reduce: Any = None, **src: Any) -> dict[str, Any]:
    if reduce not in _REDUCES:
        raise ArgumentError(f"scatter: reduce={reduce!r} is unknown. Use 'add', 'multiply', or gt.scatter_reduce.")
    return dim_canon("scatter")(input, dim=dim) | src | {"reduce": reduce}


def _value_rule(input: Aval, index: Aval, *, dim: int, src: Any, reduce: str | None) -> Aval:
    if not fits(src, input.dtype):
        raise ArgumentError(f"scatter: src={src} does not fit {input.dtype}. Use a smaller one, or cast.")
    return _scatter_rule(input, index, Aval(index.shape, input.dtype), dim=dim)


def _value(F: Any, input: Any, index: Any, *, dim: int, src: Any, reduce: str | None) -> Any:
    dtype = F.aval(input).dtype
    number = src if category(dtype) == 2 else bool(src) if dtype == "bool" else int(src)
    src = F.expand(F.const(number, dtype), F.aval(index).shape)
    return F.scatter_reducing(input, dim, index, src, reduce=reduce)


register(
    name="scatter_value",
    doc="scatter of one number.",
    signature="input, dim, index, src, *, reduce=None",
    inputs=("input", "index"),
    canon=_reducing_canon,
    rule=_value_rule,
    compose=_value,
    public=False,
    samples=(
        Sample(t(5, 3), ids(3, 3, high=5), dim=0, src=2.5),
        Sample(t(5, 3), ids(2, 2, high=3), dim=-1, src=0),
        Sample(t(5, 3), ids(7, 3, high=5), dim=0, src=0.5, reduce="add"),
        Sample(t(), ids(1, high=1), dim=0, src=1),
        Sample(t(3, 2), ids(0, high=1), dim=0, src=1.0),
        Sample(t(4, dtype="int64", fill="ints", high=9), these(3, 0), dim=0, src=-7),
        Sample(t(6, 4, layout="transposed"), ids(1, 4, high=6), dim=0, src=float("-inf"), grad_=False),
        Sample(t(5, 3, dtype="float64"), ids(1, 3, high=5), dim=0, src=1),
    ),
    errors=(
        Bad(IndexRangeError, "5 at .* size 5", t(5), these(0, 5), dim=0, src=1),
        Bad(ArgumentError, "reduce='mean'", t(5), these(2), dim=0, src=1, reduce="mean"),
        Bad(ArgumentError, "does not fit", t(3, dtype="uint8", fill="ones"), these(0), dim=0, src=256),
    ),
)


register(
    name="scatter_reducing",
    doc="scatter with reduce: scatter_reduce by the name that has there.",
    signature="input, dim, index, src, *, reduce",
    inputs=("input", "index", "src"),
    canon=_reducing_canon,
    rule=lambda input, index, src, **attrs: input,
    compose=_reducing,
    public=False,
    samples=(
        Sample(t(5, 3), ids(7, 3, high=5), t(7, 3), dim=0, reduce="add"),
        Sample(t(5, 3), ids(7, 3, high=5), t(7, 3), dim=0, reduce="multiply"),
        Sample(t(5), these(2), t(1), dim=0, reduce=None),
        Sample(t(3, 2), ids(0, high=1), t(4), dim=0, reduce="add"),
        Sample(t(6, 4, layout="transposed"), ids(6, 4, high=6), t(6, 4, layout="transposed"), dim=0, reduce="add"),
        Sample(t(5, dtype="float64"), ids(7, high=5), t(7, dtype="float64"), dim=0, reduce="add"),
    ),
    errors=(Bad(ArgumentError, "scatter: reduce='mean'", t(5), these(2), t(1), dim=0, reduce="mean"),),
)


# --- along an axis ----------------------------------------------------------------------------------------------------


def _along_axis(F: Any, input: Any, index: Any, dim: int, n: int) -> Any:
    """The vector `index` as an index of scatter, of input's shape but `n` along `dim`."""
    shape = F.aval(input).shape
    if not shape:
        return F.reshape(index, ())
    column = F.reshape(index, (n, *(1,) * (len(shape) - dim - 1)))
    return F.expand(column, (*shape[:dim], n, *shape[dim + 1 :]))


def _check_vector(op: str, index: Aval) -> None:
    need_index(op, index=index)
    if index.ndim > 1:
        raise ShapeError(f"{op}: index has shape {index.shape}, but a vector is needed. Flatten it.")


def _copy_rule(input: Aval, index: Aval, source: Aval, *, dim: int) -> Aval:
    _check_vector("index_copy", index)
    if input.dtype != source.dtype:
        raise DTypeError(f"index_copy: input is {input.dtype}, source {source.dtype}. Cast one of them with gt.cast.")
    fitting = (*input.shape[:dim], index.size, *input.shape[dim + 1 :]) if input.ndim else ()
    if source.shape != fitting or (not input.ndim and index.size != 1):
        raise ShapeError(f"index_copy: source has shape {source.shape}. For {index.size} indices give it {fitting}.")
    return input


register(
    name="index_copy",
    doc="input, with source[k] in the place of the slice at index[k] along `dim`; of equal indices the last wins. As "
    "torch.index_copy.",
    signature="input, dim, index, source",
    inputs=("input", "index", "source"),
    canon=dim_canon("index_copy"),
    rule=_copy_rule,
    compose=lambda F, input, index, source, *, dim: F.scatter(
        input, dim, _along_axis(F, input, index, dim, F.aval(index).size), source
    ),
    samples=(
        Sample(t(5, 3), these(4, 0), t(2, 3), dim=0),
        Sample(t(2, 5, 3), these(1, 3, 0), t(2, 3, 3), dim=-2),
        Sample(t(), these(0), t(), dim=0),
        Sample(t(5), ids(high=5), t(1), dim=0),
        Sample(t(5, 3), ids(0, high=1), t(0, 3), dim=0),
        Sample(t(6, 4, layout="transposed"), these(3, 1), t(6, 2, layout="transposed"), dim=1),
        Sample(t(5, 2, dtype="float64"), these(4), t(1, 2, dtype="float64"), dim=0),
    ),
    errors=(
        Bad(IndexRangeError, "5 at .* size 5", t(5), these(0, 5), t(2), dim=0),
        Bad(ShapeError, "source has shape", t(5, 3), these(0, 1), t(3, 3), dim=0),
        Bad(ShapeError, "vector", t(5), ids(1, 1, high=5), t(1), dim=0),
        Bad(DTypeError, "source float64", t(5), these(0), t(1, dtype="float64"), dim=0),
    ),
    torch="torch.index_copy",
)


def _fill_rule(input: Aval, index: Aval, *, dim: int, value: Any) -> Aval:
    _check_vector("index_fill", index)
    if not isinstance(value, int | float) or not fits(value, input.dtype):
        raise ArgumentError(f"index_fill: value={value!r:.40} is no number that {input.dtype} holds. Cast the input.")
    return input


def _fill_with_rule(input: Aval, index: Aval, value: Aval, *, dim: int) -> Aval:
    if value.ndim:
        raise ShapeError(f"index_fill: value has shape {value.shape}, but one number is needed. Use gt.index_copy.")
    return _fill_rule(input, index, dim=dim, value=0)


def _marked(F: Any, input: Any, index: Any, dim: int) -> Any:
    """A mask that broadcasts against input: whether `index` holds the position along `dim`, or how far it is behind
    the end."""
    a = F.aval(input)
    n = a.shape[dim] if a.ndim else 1
    at = F.reshape(index, (-1,))
    if F.aval(at).dtype != "int64":
        at = F.cast(at, "int64")
    at = F.where(F.lt(at, F.const(0, "int64")), F.add(at, F.const(n, "int64")), at)
    mask = F.scatter_value(F.expand(F.const(False, "bool"), (n,)), 0, at, True)
    return F.reshape(mask, (n, *(1,) * (a.ndim - dim - 1)) if a.ndim else ())


register(
    name="index_fill_with",
    doc="index_fill with an array without axes as the value.",
    signature="input, dim, index, value",
    inputs=("input", "index", "value"),
    canon=dim_canon("index_fill"),
    rule=_fill_with_rule,
    compose=lambda F, input, index, value, *, dim: F.where(
        _marked(F, input, index, dim), F.cast(value, F.aval(input).dtype), input
    ),
    public=False,
    samples=(
        Sample(t(5, 3), these(4, 0), t(), dim=0),
        Sample(t(2, 5, 3), these(1, 1, 2), t(), dim=-2, why_="an index twice"),
        Sample(t(), these(0), t(), dim=0),
        Sample(t(5, 3), ids(0, high=1), t(), dim=0),
        Sample(t(6, 4, layout="transposed"), these(3, 1), t(), dim=1),
        Sample(t(5, 2, dtype="float64"), ids(high=5), t(), dim=0),
    ),
    errors=(Bad(ShapeError, "index_fill: value has shape", t(5), these(0), t(1), dim=0),),
    torch="torch.index_fill",
)
register(
    name="index_fill",
    doc="input, with `value`, a number or an array without axes, in the slices along `dim` at the positions in the "
    "vector `index`; negative ones count from the end. As torch.index_fill.",
    signature="input, dim, index, value",
    inputs=("input", "index"),
    arrays=(("value",), "index_fill_with"),
    canon=dim_canon("index_fill"),
    rule=_fill_rule,
    compose=lambda F, input, index, *, dim, value: F.masked_fill(input, _marked(F, input, index, dim), value),
    samples=(
        Sample(t(5, 3), these(4, 0), dim=0, value=2.5),
        Sample(t(2, 5, 3), these(1, 1), dim=-2, value=0),
        Sample(t(), these(0), dim=0, value=1.0),
        Sample(t(), these(0, -1, 0), dim=0, value=1.0, why_="a scalar, an index several times"),
        Sample(t(5, 3), these(-1, 2, -5), dim=0, value=1, why_="from the end"),
        Sample(t(5, 3), ids(0, high=1), dim=0, value=1),
        Sample(t(4, dtype="int64", fill="ints", high=9), these(2), dim=0, value=-7),
        Sample(t(6, 4, layout="transposed"), these(3, 1), dim=1, value=float("inf"), grad_=False),
        Sample(t(5, 2, dtype="float64"), ids(high=5), dim=0, value=1),
    ),
    errors=(
        Bad(IndexRangeError, "5 at .* size 5", t(5), these(0, 5), dim=0, value=1),
        Bad(IndexRangeError, "-1 at .* size 5", t(5), these(0, -6), dim=0, value=1),
        Bad(ShapeError, "vector", t(5), ids(1, 1, high=5), dim=0, value=1),
        Bad(ArgumentError, "no number", t(5), these(0), dim=0, value="x"),
    ),
    torch="torch.index_fill",
)


# --- by a mask --------------------------------------------------------------------------------------------------------


def _masked_rule(input: Aval, mask: Aval, source: Aval) -> Aval:
    if mask.dtype != "bool":
        raise DTypeError(f"masked_scatter: mask is {mask.dtype}, but bool is needed. Compare, for example mask != 0.")
    if input.dtype != source.dtype:
        raise DTypeError(f"masked_scatter: input is {input.dtype}, source {source.dtype}. Cast one with gt.cast.")
    return input.with_shape(broadcast_shapes("masked_scatter", input.shape, mask.shape))


def _masked(F: Any, input: Any, mask: Any, source: Any) -> Any:
    shape = broadcast_shapes("masked_scatter", F.aval(input).shape, F.aval(mask).shape)
    flat = F.reshape(F.expand(mask, shape), (-1,))
    if not F.aval(flat).size:
        return F.expand(input, shape)
    nth = F.sub(F.cumsum(flat, 0), F.const(1, "int64"))
    picked = F.index_select(F.reshape(source, (-1,)), 0, F.where(flat, nth, F.const(0, "int64")))
    return F.where(mask, F.reshape(picked, shape), input)


register(
    name="masked_scatter",
    doc="input, with the elements of source, in row-major order, where the boolean `mask` is True; input and mask "
    "broadcast. source has at least as many elements as are replaced. As torch.masked_scatter.",
    signature="input, mask, source",
    inputs=("input", "mask", "source"),
    rule=_masked_rule,
    compose=_masked,
    samples=(
        Sample(t(5, 3), t(5, 3, dtype="bool", fill="bool"), t(15)),
        Sample(t(5, 3), t(3, dtype="bool", fill=(1, 0, 1)), t(4, 5), why_="the mask broadcasts"),
        Sample(t(3), t(3, dtype="bool", fill="zeros"), t(3)),
        Sample(t(), t(dtype="bool", fill="ones"), t(1)),
        Sample(t(0, 3), t(3, dtype="bool", fill="ones"), t(1)),
        Sample(t(4, 6, layout="transposed"), t(4, 6, dtype="bool", fill="bool", layout="strided"), t(5, 5)),
        Sample(t(7, dtype="float64"), t(7, dtype="bool", fill="bool"), t(7, dtype="float64")),
    ),
    errors=(
        Bad(DTypeError, "bool is needed", t(3), t(3), t(3)),
        Bad(DTypeError, "source float64", t(3), t(3, dtype="bool", fill="bool"), t(3, dtype="float64")),
        Bad(ShapeError, "broadcast", t(3), t(2, dtype="bool", fill="bool"), t(3)),
        Bad(IndexRangeError, "size 2", t(3), t(3, dtype="bool", fill="ones"), t(2)),
    ),
    torch="torch.masked_scatter",
)
