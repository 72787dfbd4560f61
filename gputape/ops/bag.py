"""Card of embedding_bag: sums, means or maxima of the rows of a table."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, need_same_dtype
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError, UnsupportedError
from ..registry import register
from ..samples import Bad, Sample, t
from .embedding import refuse_renorm
from .index import ids, need_index, these, zeros

_MODES = ("mean", "sum", "max")


def _canon(
    input: Aval,
    weight: Aval,
    offsets: Aval | None,
    per_sample_weights: Aval | None,
    *,
    max_norm: Any = None,
    norm_type: Any = 2.0,
    scale_grad_by_freq: Any = False,
    mode: Any = "mean",
    sparse: Any = False,
    include_last_offset: Any = False,
    padding_idx: int | None = None,
) -> dict[str, Any]:
    refuse_renorm("embedding_bag", max_norm, sparse)
    if mode not in _MODES:
        raise ArgumentError(f"embedding_bag: mode={mode!r} is unknown. Use one of {', '.join(_MODES)}.")
    if per_sample_weights is not None and mode != "sum":
        raise ArgumentError(f"embedding_bag: per_sample_weights with mode={mode!r}. Weights belong to mode='sum'.")
    if weight.ndim != 2:
        raise ShapeError(f"embedding_bag: weight has shape {weight.shape}, but (rows, columns) is needed.")
    n = weight.shape[0]
    if padding_idx is not None and not -n <= padding_idx < n:
        raise IndexRangeError(f"embedding_bag: padding_idx={padding_idx} is out of range for {n} rows.")
    return {
        "scale_grad_by_freq": bool(scale_grad_by_freq),
        "mode": mode,
        "include_last_offset": bool(include_last_offset),
        "padding_idx": None if padding_idx is None else padding_idx % n,
    }


def _rule(input: Aval, weight: Aval, offsets: Aval | None, per_sample_weights: Aval | None, **attrs: Any) -> Aval:
    need_index("embedding_bag", input=input)
    if input.ndim == 2:
        if offsets is not None:
            raise ShapeError(f"embedding_bag: offsets beside an input of shape {input.shape}, whose rows are the bags.")
        bags = input.shape[0]
    elif input.ndim == 1 and offsets is not None:
        need_index("embedding_bag", offsets=offsets)
        if offsets.ndim != 1:
            raise ShapeError(f"embedding_bag: offsets has shape {offsets.shape}, but a vector is needed.")
        bags = offsets.size - attrs["include_last_offset"]
        if bags < 0:
            raise ShapeError("embedding_bag: offsets are empty. With include_last_offset give at least one.")
    else:
        raise ShapeError(
            f"embedding_bag: input has shape {input.shape}. Give (bags, length), or a vector with offsets."
        )
    if per_sample_weights is not None:
        need_same_dtype("embedding_bag", weight=weight, per_sample_weights=per_sample_weights)
        if per_sample_weights.shape != input.shape:
            raise ShapeError(
                f"embedding_bag: per_sample_weights has shape {per_sample_weights.shape}, the input {input.shape}. "
                "Give one weight per index."
            )
    return weight.with_shape((bags, weight.shape[1]))


def _bags(F: Any, input: Any, weight: Any, offsets: Any, include_last: bool) -> tuple[Any, int]:
    """Which bag each index of the flattened input is in (int64), and how many there are."""
    a = F.aval(input)
    place = F.const(range(a.size), "int64")
    if a.ndim == 2:
        return F.floor_divide(place, F.const(max(a.shape[1], 1), "int64")), a.shape[0]
    starts = F.cast(offsets, "int64")
    n = F.aval(offsets).size - include_last
    began = F.le(F.reshape(F.slice(starts, (0,), (n,)), (1, n)), F.reshape(place, (a.size, 1)))
    return F.sub(F.sum(began, 1), F.const(1, "int64")), n


def _compose(
    F: Any,
    input: Any,
    weight: Any,
    offsets: Any,
    per_sample_weights: Any,
    *,
    scale_grad_by_freq: bool,
    mode: str,
    include_last_offset: bool,
    padding_idx: int | None,
) -> Any:
    dtype, size = F.aval(weight).dtype, F.aval(input).size
    kept = None
    if padding_idx is not None:
        kept = F.ne(input, F.const(padding_idx, F.aval(input).dtype))
    rows = F.embedding(F.reshape(input, (size,)), weight, padding_idx, scale_grad_by_freq=scale_grad_by_freq)
    bag, n = _bags(F, input, weight, offsets, include_last_offset)
    columns = F.aval(weight).shape[1]
    if mode == "max" and offsets is not None:
        return _largest_at(F, rows, kept, bag, n)
    if mode == "max":
        return _largest(F, F.reshape(rows, (*F.aval(input).shape, columns)), kept)
    if kept is not None:
        rows = F.where(F.reshape(kept, (size, 1)), rows, F.const(0, dtype))
    if per_sample_weights is not None:
        rows = F.mul(rows, F.reshape(per_sample_weights, (size, 1)))
    y = F.index_add(zeros(F, F.aval(weight).with_shape((n, columns))), 0, bag, rows)
    if mode == "sum":
        return y
    one = F.expand(F.const(1, dtype), (size,)) if kept is None else F.cast(F.reshape(kept, (size,)), dtype)
    count = F.index_add(F.expand(F.const(0, dtype), (n,)), 0, bag, one)
    return F.div(y, F.reshape(F.maximum(count, F.const(1, dtype)), (n, 1)))


def _largest(F: Any, rows: Any, kept: Any) -> Any:
    """The largest of each column of (bags, length, columns), 0 where nothing is kept."""
    bags, length, columns = F.aval(rows).shape
    if not length:
        return zeros(F, F.aval(rows).with_shape((bags, columns)))
    if kept is None:
        return F.max(rows, 1)[0]
    kept = F.reshape(kept, (bags, length, 1))
    found = F.max(F.masked_fill(rows, F.logical_not(kept), float("-inf")), 1)[0]
    return F.where(F.any(kept, 1), found, F.const(0, F.aval(rows).dtype))


def _largest_at(F: Any, rows: Any, kept: Any, bag: Any, n: int) -> Any:
    """The largest of each column of those rows that are kept, for each of n bags; 0 where nothing is."""
    a = F.aval(rows)
    size, columns = a.shape
    none = zeros(F, a.with_shape((n, columns)))
    if not n:
        return none
    if kept is not None:
        rows = F.masked_fill(rows, F.reshape(F.logical_not(kept), (size, 1)), float("-inf"))
    places = F.expand(F.reshape(bag, (size, 1)), a.shape)
    y = F.scatter_reduce(none, 0, places, rows, "amax", include_self=False)
    if kept is None:
        return y
    count = F.index_add(F.expand(F.const(0, "int64"), (n,)), 0, bag, F.cast(kept, "int64"))
    return F.where(F.reshape(F.gt(count, F.const(0, "int64")), (n, 1)), y, F.const(0, a.dtype))


register(
    name="embedding_bag",
    doc="""The sum, mean or maximum of the rows of `weight` (rows, columns) that each bag of indices names.

    input (bags, length), or a vector in which bag k begins at offsets[k] (with include_last_offset the last offset is
    the end). An empty bag gives zeros. padding_idx is left out of all bags. per_sample_weights, of input's shape, are
    factors for mode="sum". scale_grad_by_freq as in embedding. As torch.nn.functional.embedding_bag, without max_norm
    and sparse gradients. Offsets must begin with 0 and ascend; they are not looked at.
    """,
    signature="input, weight, offsets=None, max_norm=None, norm_type=2, scale_grad_by_freq=False, "
    'mode="mean", sparse=False, per_sample_weights=None, include_last_offset=False, padding_idx=None',
    inputs=("input", "weight", "offsets", "per_sample_weights"),
    canon=_canon,
    rule=_rule,
    compose=_compose,
    samples=(
        Sample(ids(3, 4, high=5), t(5, 2)),
        Sample(ids(3, 4, high=5), t(5, 2), None, t(3, 4), mode="sum", padding_idx=2, grad_=False),
        Sample(t(2, 3, dtype="int64", fill=((0, 4, 1), (3, 2, 3))), t(5, 2, fill="distinct"), mode="max"),
        Sample(
            t(2, 3, dtype="int64", fill=((0, 1, 0), (1, 1, 1))),
            t(2, 2),
            mode="max",
            padding_idx=1,
            grad_=False,
            why_="a bag of padding",
        ),
        Sample(ids(7, high=5), t(5, 2), these(0, 3, 3, 5), why_="an empty bag"),
        Sample(ids(7, high=5), t(5, 2), these(0, 2, 7), t(7), mode="sum", include_last_offset=True),
        Sample(these(4, 0, 3, 3, 2, 1), t(5, 2, fill="distinct"), these(0, 3, 3), mode="max", why_="an empty bag"),
        Sample(
            these(4, 0, 3, 3, 2, 1),
            t(5, 2, fill="distinct"),
            these(0, 2, 4, 6),
            mode="max",
            include_last_offset=True,
            padding_idx=3,
            grad_=False,
            why_="a bag of padding",
        ),
        Sample(
            ids(7, high=3),
            t(3, 2),
            these(0, 4),
            mode="mean",
            padding_idx=1,
            scale_grad_by_freq=True,
            grad_=False,
            torch_=False,
            why_="PyTorch counts otherwise where it scales gradients",
        ),
        Sample(ids(0, 3, high=1), t(5, 2), mode="sum", why_="no bags"),
        Sample(ids(2, 0, high=1), t(5, 2), torch_=False, why_="empty bags: PyTorch fails"),
        Sample(ids(3, 4, high=6, layout="transposed"), t(6, 4, layout="transposed"), mode="sum"),
        Sample(ids(3, 4, high=5), t(5, 2, dtype="float64")),
    ),
    errors=(
        Bad(ArgumentError, "mode='min'", ids(2, 2, high=2), t(2, 2), mode="min"),
        Bad(ArgumentError, "belong to", ids(2, 2, high=2), t(2, 2), None, t(2, 2)),
        Bad(ShapeError, "whose rows are the bags", ids(2, 2, high=2), t(2, 2), these(0)),
        Bad(ShapeError, "a vector with offsets", ids(2, high=2), t(2, 2)),
        Bad(ShapeError, "one weight per index", ids(2, 2, high=2), t(2, 2), None, t(2), mode="sum"),
        Bad(IndexRangeError, "5 at", these(0, 5), t(5, 2), these(0)),
        Bad(IndexRangeError, "padding_idx=5", ids(2, 2, high=2), t(5, 2), padding_idx=5),
        Bad(DTypeError, "integers", t(2, 2), t(5, 2)),
        Bad(UnsupportedError, "sparse", ids(2, 2, high=2), t(2, 2), sparse=True),
    ),
    torch="torch.nn.functional.embedding_bag",
)
