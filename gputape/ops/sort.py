"""Cards of sorting along an axis: argsort, sort, topk."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, axis
from ..errors import ArgumentError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t
from .extremum import ValuesIndices
from .pointwise import INF, NAN
from .slicing import along

_TIES = t(3, 5, fill=((1.0, 3.0, 3.0, 1.0, 2.0), (NAN, 2.0, NAN, INF, -INF), (0.0, -0.0, 0.0, 0.0, -0.0)))
_LONG_TIES = t(3, 36, fill=((0.0, -0.0, 2.0, 1.0, 2.0, INF, -INF, 2.0, 1.0) * 4, (1.0,) * 36, (2.0, NAN) * 18))
_MANY_NAN = t(2, 36, fill=((NAN,) * 34 + (0.0, 1.0), (NAN, 0.0, 1.0) * 12))


def _distinct(*shape: int, **options: Any) -> Any:
    return t(*shape, fill="distinct", low=-2.0, high=2.0, **options)


# --- the order --------------------------------------------------------------------------------------------------------


def _order_rule(input: Aval, *, dim: int = 0, first: int | None = None, **attrs: Any) -> Aval:
    shape = input.shape
    if first is not None and shape:
        shape = (*shape[:dim], first, *shape[dim + 1 :])
    return input.with_shape(shape).with_dtype("int64")


register(
    name="sorted_order",
    doc="Indices (int64) that sort the input along the axis `dim`, ascending or descending: all, or the `first` of "
    "them. Equal elements keep their order; NaN counts as the largest.",
    signature="input, dim, descending, first=None",
    inputs=("input",),
    rule=_order_rule,
    public=False,
    samples=(
        Sample(t(5, 3), dim=1, descending=False),
        Sample(t(2, 5, 3, layout="transposed"), dim=1, descending=True),
        Sample(_TIES, dim=1, descending=False),
        Sample(_TIES, dim=1, descending=True),
        Sample(t(0, 3), dim=0, descending=True),
        Sample(t(3, 0), dim=0, descending=False),
        Sample(t(), dim=0, descending=True),
        Sample(_distinct(7, dtype="float64"), dim=0, descending=True),
        Sample(t(9, dtype="int64", fill="ints", low=-3, high=3), dim=0, descending=True),
        Sample(t(9, dtype="uint8", fill="ints", low=0, high=255), dim=0, descending=False),
        Sample(t(7, dtype="bool", fill="bool"), dim=0, descending=True),
        Sample(_distinct(2, 5, 3, layout="transposed"), dim=1, descending=True, first=2),
        Sample(t(3, 5), dim=1, descending=False, first=0),
        *(Sample(x, dim=1, descending=d, first=3) for x in (_TIES, _LONG_TIES, _MANY_NAN) for d in (False, True)),
        Sample(t(3, 65, dtype="int64", fill="ints", low=-9, high=9), dim=1, descending=True, first=7),
        Sample(t(65, 3, dtype="bool", fill="bool"), dim=0, descending=False, first=7),
    ),
    exempt={"sorted_order": "compares every pair of a short row"},
)


def _sort_canon(name: str) -> Any:
    def canon(input: Aval, *, dim: Any = -1, descending: Any = False, stable: Any = False) -> dict[str, Any]:
        return {"dim": axis(name, dim, input.ndim), "descending": bool(descending), "stable": bool(stable)}

    return canon


def _sort(F: Any, input: Any, *, dim: int, descending: bool, stable: bool) -> ValuesIndices:
    order = F.sorted_order(input, dim, descending)
    return ValuesIndices(F.gather(input, dim, order), order)


_SAMPLES = (
    Sample(_distinct(5, 3)),
    Sample(_distinct(5, 3), dim=0, descending=True),
    Sample(_distinct(2, 3, 5), dim=-2, stable=True),
    Sample(_distinct(4, 6, layout="transposed"), dim=0),
    Sample(_distinct(4, 6, layout="strided"), descending=True),
    Sample(t(), why_="a scalar"),
    Sample(t(0, 3), dim=0),
    Sample(t(3, 0), dim=1, descending=True),
    Sample(_distinct(7, dtype="float64")),
    Sample(_TIES, stable=True, grad_=False, why_="ties, NaN"),
    Sample(_TIES, stable=True, descending=True, grad_=False, why_="ties, NaN"),
    Sample(t(9, dtype="int64", fill="ints", low=-3, high=3), stable=True),
    Sample(t(9, dtype="bool", fill="bool"), stable=True, descending=True),
)
_ERRORS = (Bad(ShapeError, "out of range", t(5, 3), dim=2),)

register(
    name="argsort",
    doc="Indices (int64) that sort the input along `dim`. Equal elements keep their order, with `stable` or without; "
    "NaN counts as the largest. As torch.argsort.",
    signature="input, dim=-1, descending=False, stable=False",
    inputs=("input",),
    canon=_sort_canon("argsort"),
    rule=_order_rule,
    compose=lambda F, input, *, dim, descending, stable: F.sorted_order(input, dim, descending),
    samples=tuple(Sample(*s.inputs, **s.attrs, grad_=False, why_=s.why) for s in _SAMPLES),
    errors=_ERRORS,
    torch="torch.argsort",
)
register(
    name="sort",
    doc="(values, indices): the input sorted along `dim`, and where each value was. Equal elements keep their order, "
    "with `stable` or without; NaN counts as the largest. The gradient goes to where the values were. As torch.sort.",
    signature="input, dim=-1, descending=False, stable=False",
    inputs=("input",),
    canon=_sort_canon("sort"),
    rule=lambda input, **attrs: input,
    compose=_sort,
    samples=_SAMPLES,
    errors=_ERRORS,
    perf=(Perf(t(64, 1000)),),
    torch="torch.sort",
)


# --- the first of them ------------------------------------------------------------------------------------------------


def _topk_canon(input: Aval, *, k: Any, dim: Any = -1, largest: Any = True, sorted: Any = True) -> dict[str, Any]:
    dim = axis("topk", dim, input.ndim)
    n = input.shape[dim] if input.shape else 1
    if isinstance(k, bool) or not isinstance(k, int):
        raise ArgumentError(f"topk: k={k!r} must be an integer.")
    if not 0 <= k <= n:
        raise ArgumentError(f"topk: k={k} is out of range, axis {dim} of {input.shape} has {n}. Use 0 to {n}.")
    return {"k": k, "dim": dim, "largest": bool(largest), "sorted": bool(sorted)}


def _topk(F: Any, input: Any, *, k: int, dim: int, largest: bool, sorted: bool) -> ValuesIndices:
    order = F.sorted_order(input, dim, largest, k)
    if not F.aval(input).shape and not k:
        order = F.reshape(order, (1,))
        return ValuesIndices(F.gather(F.reshape(input, (1,)), 0, along(F, order, 0, 0, 0)), along(F, order, 0, 0, 0))
    return ValuesIndices(F.gather(input, dim, order), order)


register(
    name="topk",
    doc="(values, indices) of the k largest elements along `dim` (the smallest with largest=False), in order; of equal "
    "ones the first. NaN counts as the largest. The gradient goes to where the values were. As torch.topk.",
    signature="input, k, dim=-1, largest=True, sorted=True",
    inputs=("input",),
    canon=_topk_canon,
    rule=lambda input, **attrs: input,
    compose=_topk,
    samples=(
        Sample(_distinct(5, 7), k=3),
        Sample(_distinct(5, 3), k=2, dim=0, largest=False),
        Sample(_distinct(2, 3, 5), k=3, dim=-2),
        Sample(_distinct(4, 6, layout="transposed"), k=1, dim=0),
        Sample(_distinct(5, 7), k=0),
        Sample(t(), k=1, why_="a scalar"),
        Sample(t(0, 3), k=2, dim=1),
        Sample(_distinct(7, dtype="float64"), k=7),
        Sample(t(7, dtype="int64", fill=(5.0, -3.0, 2.0, 9.0, 0.0, 1.0, -7.0)), k=4, largest=False),
        Sample(t(4, fill=(1.0, NAN, 5.0, -INF)), k=2, grad_=False, why_="NaN is the largest"),
    ),
    errors=(
        Bad(ArgumentError, "k=4 is out of range", t(5, 3), k=4),
        Bad(ArgumentError, "must be an integer", t(5, 3), k=1.5),
        Bad(ShapeError, "out of range", t(5, 3), k=1, dim=2),
    ),
    perf=(Perf(t(64, 1000), k=5, name_="top-5 classes"),),
    torch="torch.topk",
)
