"""Cards of what counts and finds: unique, nonzero, argwhere, bincount, isin, searchsorted, bucketize."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, axis
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .index import ids, need_index, these
from .pointwise import INF, NAN


def _without_gradient(*samples: Sample) -> tuple[Sample, ...]:
    return tuple(Sample(*s.inputs, **s.attrs, grad_=False, why_=s.why) for s in samples)


_HOST = "How many there are is read on the host, which `gt.compile` refuses."

# --- where ------------------------------------------------------------------------------------------------------------


def _places(F: Any, input: Any) -> list[Any]:
    """Per axis the positions (on the host) of the elements that are not 0."""
    return list(F.read(F.ne(input, F.const(0, F.aval(input).dtype))).nonzero())


def _argwhere(F: Any, input: Any) -> Any:
    ndim = F.aval(input).ndim
    if not ndim:
        found = bool(F.read(F.ne(input, F.const(0, F.aval(input).dtype))))
        return F.expand(F.const(0, "int64"), (int(found), 0))
    return F.stack([F.const(at, "int64") for at in _places(F, input)], 1)


_FOUND = _without_gradient(
    Sample(t(5, 3, dtype="bool", fill="bool")),
    Sample(t(2, 3, 2, fill=(0.0, NAN))),
    Sample(t(7, dtype="int64", fill="ints", high=3)),
    Sample(t(fill="ones")),
    Sample(t(0, 3)),
    Sample(t(3, fill="zeros"), why_="none"),
    Sample(t(4, 6, dtype="bool", fill="bool", layout="transposed")),
    Sample(t(3, dtype="float64")),
)
register(
    name="argwhere",
    doc=f"The positions (n, axes), int64, of the elements that are not 0, in row-major order. {_HOST} As "
    "torch.argwhere.",
    signature="input",
    inputs=("input",),
    rule=lambda input: input,
    compose=_argwhere,
    samples=_FOUND,
    errors=(Bad(ArgumentError, "input is None", None),),
    torch="torch.argwhere",
)


def _nonzero_canon(input: Aval, *, as_tuple: Any = False) -> dict[str, Any]:
    return {"as_tuple": bool(as_tuple)}


def _nonzero(F: Any, input: Any, *, as_tuple: bool) -> Any:
    if not as_tuple:
        return F.argwhere(input)
    return tuple(F.const(at, "int64") for at in _places(F, input if F.aval(input).ndim else F.reshape(input, (1,))))


register(
    name="nonzero",
    doc=f"argwhere; with as_tuple one vector of positions per axis, as x[...] takes them. {_HOST} As torch.nonzero.",
    signature="input, *, as_tuple=False",
    inputs=("input",),
    canon=_nonzero_canon,
    rule=lambda input, **attrs: input,
    compose=_nonzero,
    samples=(
        *_FOUND,
        Sample(t(5, 3, dtype="bool", fill="bool"), as_tuple=True),
        Sample(t(fill="ones"), as_tuple=True, grad_=False),
    ),
    errors=(Bad(ArgumentError, "input is None", None),),
    torch="torch.nonzero",
)


# --- sets -------------------------------------------------------------------------------------------------------------


def _unique_canon(
    input: Aval, *, sorted: Any = True, return_inverse: Any = False, return_counts: Any = False, dim: Any = None
) -> dict[str, Any]:
    return {
        "return_inverse": bool(return_inverse),
        "return_counts": bool(return_counts),
        "dim": None if dim is None else axis("unique", dim, input.ndim),
    }


def _groups(rows: list[Any]) -> tuple[list[int], list[int], list[int]]:
    """Of a sorted walk over the rows: the first of each group of equal ones, the group of each row, and the sizes."""
    order = sorted(range(len(rows)), key=lambda k: [(v != v, v) for v in rows[k]])
    firsts: list[int] = []
    group, sizes = [0] * len(rows), []
    for k in order:
        if not firsts or rows[k] != rows[firsts[-1]]:
            firsts.append(k)
            sizes.append(0)
        group[k] = len(firsts) - 1
        sizes[-1] += 1
    return firsts, group, sizes


def _unique(F: Any, input: Any, *, return_inverse: bool, return_counts: bool, dim: int | None) -> Any:
    a = F.aval(input)
    x = F.reshape(input, (a.size,)) if dim is None or not a.ndim else input
    along = 0 if dim is None else dim
    n = F.aval(x).shape[along]
    rows = F.read(F.reshape(F.movedim(x, along, 0), (n, F.aval(x).size // n if n else 0))).tolist()
    firsts, group, sizes = _groups(rows)
    output = F.detach(F.index_select(x, along, F.const(firsts, "int64")))
    inverse = F.reshape(F.const(group, "int64"), a.shape if dim is None else (n,))
    found = [output, *([inverse] if return_inverse else []), *([F.const(sizes, "int64")] if return_counts else [])]
    return tuple(found) if len(found) > 1 else output


register(
    name="unique",
    doc=f"""The distinct elements in ascending order, or the distinct slices along `dim`; without gradient.

    With return_inverse also where each element of the input is among them, with return_counts also how often each one
    occurs. Every NaN is distinct from all others. `sorted` changes nothing. {_HOST} As torch.unique.""",
    signature="input, sorted=True, return_inverse=False, return_counts=False, dim=None",
    inputs=("input",),
    canon=_unique_canon,
    rule=lambda input, **attrs: input,
    compose=_unique,
    samples=(
        Sample(t(9, dtype="int64", fill="ints", low=-3, high=3)),
        Sample(t(3, 4, dtype="int64", fill="ints", high=4), return_inverse=True, return_counts=True),
        Sample(t(6, fill=(2.0, -0.5, 2.0, INF, -INF, 2.0)), return_counts=True, grad_=False),
        Sample(t(4, fill=(NAN, 1.0, NAN, 1.0)), return_counts=True, grad_=False),
        Sample(t(5, 2, dtype="int64", fill="ints", high=2), dim=0, return_inverse=True, return_counts=True),
        Sample(t(2, 6, dtype="int64", fill="ints", high=2), dim=-1),
        Sample(t(5, dtype="bool", fill="bool")),
        Sample(t(), return_inverse=True, grad_=False),
        Sample(t(0), return_inverse=True, return_counts=True),
        Sample(t(4, 6, dtype="uint8", fill="ints", high=9, layout="transposed"), return_inverse=True),
        Sample(t(3, dtype="float64", fill=(1.0, 0.0, 1.0)), grad_=False),
    ),
    errors=(Bad(ShapeError, "out of range", t(5, 3), dim=2),),
    torch="torch.unique",
)


def _isin_canon(elements: Aval, test_elements: Aval, *, assume_unique: Any = False, invert: Any = False) -> Any:
    return {"invert": bool(invert)}


def _isin(F: Any, elements: Any, test_elements: Any, *, invert: bool) -> Any:
    a, m = F.aval(elements), F.aval(test_elements).size
    same = F.eq(F.reshape(elements, (a.size, 1)), F.reshape(test_elements, (1, m)))
    found = F.reshape(F.any(same, 1), a.shape)
    return F.logical_not(found) if invert else found


register(
    name="isin",
    doc="Whether each of `elements` is one of `test_elements`; with invert whether it is none. Every pair is compared. "
    "As torch.isin.",
    signature="elements, test_elements, *, assume_unique=False, invert=False",
    inputs=("elements", "test_elements"),
    promotes=("elements", "test_elements"),
    canon=_isin_canon,
    rule=lambda elements, test_elements, **attrs: elements.with_dtype("bool"),
    compose=_isin,
    samples=_without_gradient(
        Sample(ids(3, 4, high=9), ids(4, high=9)),
        Sample(ids(5, high=9), ids(2, 2, high=9), invert=True),
        Sample(t(3, fill=(1.0, NAN, 2.0)), t(2, fill=(NAN, 2.0)), grad_=False),
        Sample(ids(high=2), ids(high=2)),
        Sample(t(0), t(3)),
        Sample(t(3), t(0)),
        Sample(ids(4, 6, high=9, layout="transposed"), ids(3, high=9, layout="strided")),
        Sample(t(3, dtype="float64", fill="ints", high=3), ids(2, high=3)),
    ),
    errors=(Bad(ArgumentError, "elements is None", None, t(1)),),
    torch="torch.isin",
)


# --- counts and places ------------------------------------------------------------------------------------------------


def _bincount_rule(input: Aval, weights: Aval | None, *, minlength: Any) -> Aval:
    need_index("bincount", input=input)
    if input.ndim != 1 or (weights is not None and weights.shape != input.shape):
        shape = None if weights is None else weights.shape
        raise ShapeError(f"bincount: a vector is needed, with weights of its shape: {input.shape}, weights {shape}.")
    if isinstance(minlength, bool) or not isinstance(minlength, int) or minlength < 0:
        raise ArgumentError(f"bincount: minlength={minlength!r} must be an integer of at least 0.")
    return input


def _bincount(F: Any, input: Any, weights: Any, *, minlength: int) -> Any:
    n = F.aval(input).size
    size = max(minlength, int(F.read(input).max()) + 1 if n else 0)
    if weights is None:
        source = F.expand(F.const(1, "int64"), (n,))
    else:
        source = weights if F.aval(weights).dtype == "float32" else F.cast(weights, "float64")
    return F.detach(F.index_add(F.expand(F.const(0, F.aval(source).dtype), (size,)), 0, input, source))


register(
    name="bincount",
    doc="How often each of 0, 1, … occurs in a vector of integers, or the sums of their weights (float32, else "
    f"float64); at least minlength numbers; without gradient. {_HOST} As torch.bincount.",
    signature="input, weights=None, minlength=0",
    inputs=("input", "weights"),
    rule=_bincount_rule,
    compose=_bincount,
    samples=(
        Sample(ids(9, high=5)),
        Sample(ids(9, high=5, dtype="int32"), t(9), minlength=8, grad_=False),
        Sample(ids(4, high=5, layout="strided"), t(4, dtype="float64"), grad_=False),
        Sample(ids(0, high=1), minlength=3),
        Sample(ids(0, high=1)),
        Sample(ids(4, high=3), ids(4, high=3), why_="whole weights: float64"),
    ),
    errors=(
        Bad(DTypeError, "integers", t(3)),
        Bad(ShapeError, "a vector", ids(2, 2, high=2)),
        Bad(ArgumentError, "minlength", ids(2, high=2), minlength=-1),
        Bad(IndexRangeError, "-1 at", these(-1, 2)),
    ),
    torch="torch.bincount",
)


def _search_canon(name: str) -> Any:
    def canon(*arrays: Aval, out_int32: Any = False, right: Any = False, side: Any = None) -> dict[str, Any]:
        if side not in (None, "left", "right") or (side == "left" and right):
            raise ArgumentError(f"{name}: side={side!r} with right={right!r}. Use 'left' or 'right', or right alone.")
        return {"out_int32": bool(out_int32), "right": bool(right) or side == "right"}

    return canon


def _search(F: Any, edges: Any, values: Any, *, out_int32: bool, right: bool) -> Any:
    """How many edges are below each value, or not above it with `right`; NaN is above all."""
    m = F.aval(edges).shape[-1]
    edges = F.reshape(edges, (*F.aval(edges).shape[:-1], 1, m))
    values = F.reshape(values, (*F.aval(values).shape, 1))
    below = F.logical_not((F.gt if right else F.ge)(edges, values))
    found = F.sum(F.logical_or(below, F.ne(values, values)), -1)
    return F.cast(found, "int32") if out_int32 else found


def _searchsorted(F: Any, sorted_sequence: Any, input: Any, sorter: Any, *, out_int32: bool, right: bool) -> Any:
    if sorter is not None:
        sorted_sequence = F.gather(sorted_sequence, F.aval(sorter).ndim - 1, sorter)
    a, b = F.aval(sorted_sequence), F.aval(input)
    values = F.reshape(input, (1,)) if not b.ndim else input
    if a.ndim == 1:
        sorted_sequence = F.reshape(sorted_sequence, (*(1,) * (F.aval(values).ndim - 1), a.size))
    return F.reshape(_search(F, sorted_sequence, values, out_int32=out_int32, right=right), b.shape)


def _searchsorted_rule(sorted_sequence: Aval, input: Aval, sorter: Aval | None, **attrs: Any) -> Aval:
    if sorter is not None:
        need_index("searchsorted", sorter=sorter)
        if sorter.shape != sorted_sequence.shape:
            raise ShapeError(f"searchsorted: sorter has shape {sorter.shape}, but {sorted_sequence.shape} is needed.")
    if not sorted_sequence.ndim or (sorted_sequence.ndim > 1 and sorted_sequence.shape[:-1] != input.shape[:-1]):
        raise ShapeError(
            f"searchsorted: sorted_sequence has shape {sorted_sequence.shape}, input {input.shape}. Give one vector, "
            "or equal axes in front."
        )
    return input


register(
    name="searchsorted",
    doc="Where in the last axis of `sorted_sequence`, which ascends, each value of `input` would go: before the "
    'elements equal to it, or behind them with right=True (side="right"). A vector serves all, else the axes in front '
    "are equal. Every pair is compared. sorter: indices that sort the sequence, which need not ascend then. As "
    "torch.searchsorted.",
    signature="sorted_sequence, input, *, out_int32=False, right=False, side=None, sorter=None",
    inputs=("sorted_sequence", "input", "sorter"),
    canon=_search_canon("searchsorted"),
    rule=_searchsorted_rule,
    compose=_searchsorted,
    samples=_without_gradient(
        Sample(t(4, fill=(-1.0, 0.0, 0.0, 1.0)), t(3, 5, fill=(-2.0, -1.0, 0.0, 0.5, 9.0))),
        Sample(t(4, fill=(-1.0, 0.0, 0.0, 1.0)), t(3, fill=(-1.0, 0.0, NAN)), right=True),
        Sample(t(2, 3, fill=((1.0, 2.0, 3.0), (0.0, 4.0, 5.0))), t(2, 2), side="right", out_int32=True),
        Sample(t(3, dtype="int64", fill=(1, 5, 9)), t(dtype="int64", fill=5)),
        Sample(t(3, fill=(2.0, 0.0, 1.0)), t(4, fill=(0.0, 0.5, 1.5, 9.0)), these(1, 2, 0)),
        Sample(t(0), t(2)),
        Sample(t(3, fill=(0.0, 1.0, 2.0)), t(0)),
        Sample(t(3, fill=(0.0, 1.0, 2.0)), t(4, 6, layout="transposed")),
        Sample(t(2, dtype="float64", fill=(0.0, 1.0)), t(3, dtype="float64")),
    ),
    errors=(
        Bad(ShapeError, "equal axes", t(2, 3), t(3, 3)),
        Bad(ShapeError, "sorter has shape", t(3), t(2), these(0)),
        Bad(ArgumentError, "side='up'", t(2), t(2), side="up"),
        Bad(ArgumentError, "side='left'", t(2), t(2), side="left", right=True),
    ),
    torch="torch.searchsorted",
)


def _bucketize_rule(input: Aval, boundaries: Aval, **attrs: Any) -> Aval:
    if boundaries.ndim != 1:
        raise ShapeError(f"bucketize: boundaries has shape {boundaries.shape}, but a vector is needed.")
    return input


register(
    name="bucketize",
    doc="Between which of the ascending `boundaries` (a vector) each value lies: searchsorted with the arguments "
    "exchanged. As torch.bucketize.",
    signature="input, boundaries, *, out_int32=False, right=False",
    inputs=("input", "boundaries"),
    canon=_search_canon("bucketize"),
    rule=_bucketize_rule,
    compose=lambda F, input, boundaries, **options: F.searchsorted(boundaries, input, **options),
    samples=_without_gradient(
        Sample(t(3, 5, fill=(-2.0, -1.0, 0.0, 0.5, 9.0)), t(4, fill=(-1.0, 0.0, 0.0, 1.0))),
        Sample(t(3, 5, fill=(-2.0, -1.0, 0.0, 0.5, 9.0)), t(4, fill=(-1.0, 0.0, 0.0, 1.0)), right=True),
        Sample(t(), t(2, fill=(0.0, 1.0)), out_int32=True),
        Sample(t(0), t(1)),
        Sample(t(4, 6, layout="transposed"), t(3, fill=(0.0, 1.0, 2.0))),
        Sample(t(3, dtype="float64"), t(1, dtype="float64")),
    ),
    errors=(Bad(ShapeError, "vector", t(3), t(2, 2)),),
    torch="torch.bucketize",
)
