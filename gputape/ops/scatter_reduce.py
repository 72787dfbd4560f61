"""The card of scatter_reduce, composed of scatter, scatter_add and a sort."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .gather import fits_but
from .index import dim_canon, ids, need_index, these
from .pointwise import INF, NAN, not_bool
from .slicing import along

_REDUCES = ("sum", "prod", "mean", "amax", "amin")


def _canon(input: Aval, *others: Aval, dim: Any, reduce: Any, include_self: Any = True) -> dict[str, Any]:
    if reduce not in _REDUCES:
        raise ArgumentError(f"scatter_reduce: reduce={reduce!r} is unknown. Use one of {', '.join(_REDUCES)}.")
    place = dim_canon("scatter_reduce")(input, dim=dim)
    return place | {"reduce": reduce, "include_self": bool(include_self)}


def _rule(input: Aval, index: Aval, src: Aval, *, dim: int, reduce: str, include_self: bool) -> Aval:
    need_index("scatter_reduce", index=index)
    if reduce == "mean":
        not_bool("scatter_reduce", input)
    if input.dtype != src.dtype:
        raise DTypeError(f"scatter_reduce: input is {input.dtype}, src {src.dtype}. Cast one to the other.")
    if index.size and not (fits_but(dim, index, input) and fits_but(-1, index, src)):
        raise ShapeError(
            f"scatter_reduce: index has shape {index.shape}, src {src.shape}, input {input.shape}. Make index no "
            f"larger than src, nor than input but on axis {dim}."
        )
    return input


def _compose(F: Any, input: Any, index: Any, src: Any, *, dim: int, reduce: str, include_self: bool) -> Any:
    a, at = F.aval(input), F.aval(index)
    if not at.size:
        return F.alias(input)
    if not a.ndim:
        flat = [F.reshape(x, (-1,)) for x in (input, index, src)]
        return F.reshape(_compose(F, *flat, dim=0, reduce=reduce, include_self=include_self), ())
    for k, n in enumerate(at.shape):
        src = along(F, src, k, 0, n) if F.aval(src).shape[k] > n else src
    if a.dtype == "bool":
        reduce = {"sum": "amax", "prod": "amin"}.get(reduce, reduce)
    touched = F.scatter_value(F.expand(F.const(False, "bool"), a.shape), dim, index, True)
    if reduce in ("amax", "amin"):
        return _extreme(F, input, index, src, touched, dim, reduce == "amin", include_self)
    neutral = F.const(int(reduce == "prod"), a.dtype)
    own = input if include_self else F.where(touched, neutral, input)
    if reduce == "prod":
        return F.where(touched, F.mul(own, _products(F, a, index, src, dim)), own)
    total = F.scatter_add(own, dim, index, src)
    if reduce == "sum":
        return total
    ones = F.expand(F.const(1, "int64"), at.shape)
    count = F.scatter_add(F.cast(F.logical_not(touched), "int64"), dim, index, ones)
    count = F.add(count, F.cast(touched, "int64")) if include_self else count
    return F.div(total, F.cast(count, a.dtype)) if a.is_float else F.floor_divide(total, F.cast(count, a.dtype))


def _products(F: Any, a: Aval, index: Any, src: Any, dim: int) -> Any:
    """The product of the elements of src at each position of an array like `a`: each position meets all of them."""
    shape = F.aval(index).shape
    place = F.reshape(F.const(list(range(a.shape[dim])), "int64"), (-1, *(1,) * (a.ndim - dim)))
    here = F.eq(F.unsqueeze(F.cast(index, "int64"), dim), place)
    factors = F.where(here, F.unsqueeze(src, dim), F.const(1, a.dtype))
    found = F.prod(factors, dim + 1, dtype=a.dtype)
    gaps = [0 if k == dim else n - shape[k] for k, n in enumerate(a.shape)]
    return F.pad(found, [end for gap in reversed(gaps) for end in (0, gap)], value=1) if any(gaps) else found


def _extreme(
    F: Any, input: Any, index: Any, src: Any, touched: Any, dim: int, smallest: bool, include_self: bool
) -> Any:
    """The largest of each position is what scatter writes last there, if src is sorted. The smallest is the largest
    with signs turned. Elements that tie share the gradient evenly."""
    a = F.aval(input)
    turn = (F.neg if a.is_float else F.bitwise_not) if smallest else F.alias
    input, src = turn(input), turn(src)
    order = F.sorted_order(F.detach(src), dim, False)  # NaN comes last, and wins
    y = F.scatter(F.detach(input), dim, F.gather(index, dim, order), F.gather(F.detach(src), dim, order))
    y = F.maximum(F.detach(input), y) if include_self else y
    if not a.is_float:
        return turn(y)
    own, theirs = F.eq(input, y), F.eq(src, F.gather(y, dim, index))
    own = own if include_self else F.logical_and(own, F.logical_not(touched))
    ties = F.scatter_add(F.cast(own, a.dtype), dim, index, F.cast(theirs, a.dtype))
    ties = F.maximum(ties, F.const(1, a.dtype))
    none = F.const(0, a.dtype)
    shares = F.where(theirs, F.div(src, F.gather(ties, dim, index)), none)
    z = F.scatter_add(F.where(own, F.div(input, ties), none), dim, index, shares)
    # z is y up to the rounding of three shares and more, and has its gradient
    same = F.eq(z, y)
    off = F.where(same, none, z)  # without what is infinite
    return turn(F.where(same, z, F.add(y, F.sub(off, F.detach(off)))))


_TIES = (t(3, fill=(1.0, 2.0, 0.5)), these(0, 0, 1, 1, 0), t(5, fill=(1.0, 1.0, 3.0, 3.0, -1.0)))
_ODD = (t(3, fill=(NAN, 2.0, 0.5)), these(0, 1, 1, 2, 2), t(5, fill=(1.0, NAN, 3.0, INF, -INF)))
register(
    name="scatter_reduce",
    doc="""input, each element reduced with those elements of src whose index is its position along `dim`, as in
    scatter_add: by "sum", "prod", "mean", "amax" or "amin".

    Without include_self the elements of input that meet any of src do not count. Elements that tie for the largest or
    smallest share the gradient evenly. "prod" compares all positions along `dim` with all indices there. As
    torch.scatter_reduce.""",
    signature="input, dim, index, src, reduce, *, include_self=True",
    inputs=("input", "index", "src"),
    canon=_canon,
    rule=_rule,
    compose=_compose,
    samples=(
        *(
            sample
            for r in _REDUCES
            for sample in (
                Sample(t(5, 3), ids(7, 3, high=5), t(7, 3), dim=0, reduce=r),
                Sample(t(5, 4), ids(3, 2, high=4), t(3, 2), dim=-1, reduce=r, include_self=False),
                Sample(t(4, dtype="int64", fill="ints", low=1, high=9), these(3, 0, 3), t(3, dtype="int64", fill="ints",
                       low=-9, high=9), dim=0, reduce=r),
                Sample(*_TIES, dim=0, reduce=r, grad_=r[0] != "a", why_="ties"),
                Sample(*_ODD, dim=0, reduce=r, grad_=False, torch_=r in ("sum", "mean"), why_="NaN"),
            )
        ),
        Sample(t(2, 5, 3, layout="transposed"), ids(2, 2, 3, high=5), t(2, 2, 3, layout="flipped"), dim=1,
               reduce="amax"),
        Sample(t(4, 3, fill="zeros"), ids(3, 3, high=4), t(3, 3, fill="ints", high=2), dim=0, reduce="prod",
               why_="zeros"),
        Sample(t(6, dtype="float64"), ids(9, high=6), t(9, dtype="float64"), dim=0, reduce="mean", include_self=False),
        Sample(t(), ids(3, high=1), t(3), dim=0, reduce="mean"),
        *(
            Sample(t(4, dtype="bool", fill="bool"), these(3, 0, 3), t(3, dtype="bool", fill="bool"), dim=0, reduce=r,
                   include_self=own)
            for r in ("sum", "prod", "amax", "amin") for own in (True, False)
        ),
        Sample(t(3), ids(1, high=3), t(3), dim=0, reduce="amin", torch_=False, why_="src larger than index"),
        Sample(t(3, 2), ids(0, high=1), t(4), dim=0, reduce="prod", torch_=False, why_="PyTorch's gradient fails"),
    ),
    errors=(
        Bad(IndexRangeError, "5 at .* size 5", t(5), these(0, 5), t(2), dim=0, reduce="prod"),
        Bad(IndexRangeError, "-1 at", t(5), these(-1), t(1), dim=0, reduce="amax"),
        Bad(ArgumentError, "reduce='add' is unknown", t(5), these(1), t(1), dim=0, reduce="add"),
        Bad(ShapeError, "larger", t(5), ids(3, high=5), t(2), dim=0, reduce="sum"),
        Bad(DTypeError, "src float64", t(5), ids(2, high=5), t(2, dtype="float64"), dim=0, reduce="sum"),
        Bad(DTypeError, "bool", t(5, dtype="bool", fill="bool"), ids(2, high=5), t(2, dtype="bool", fill="bool"),
            dim=0, reduce="mean"),
    ),
    torch="torch.scatter_reduce",
)  # fmt: skip
