"""Cards of medians, quantiles and the k-th smallest, composed of a sort and a choice."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, axis, need_float, need_same_dtype, reduced
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .extremum import ValuesIndices, need_elements
from .pointwise import INF, NAN, not_bool
from .slicing import along


def _distinct(*shape: int, **options: Any) -> Any:
    return t(*shape, fill="distinct", low=-2.0, high=2.0, **options)


def _picked(F: Any, input: Any, dim: int, index: Any, keepdim: bool) -> ValuesIndices:
    """(values, indices) along `dim` at the index, which has size 1 there (or is a scalar's)."""
    shape = F.aval(input).shape
    found = ValuesIndices(F.gather(input, dim, index), index)
    if keepdim or not shape:
        return found
    return ValuesIndices(*(F.reshape(x, reduced(shape, (dim,), False)) for x in found))


# --- medians ----------------------------------------------------------------------------------------------------------


def _numbers(F: Any, input: Any, dim: int) -> Any:
    """How many elements along `dim` are not NaN, int64, with size 1 there."""
    a = F.aval(input)
    return F.sum(F.eq(input, input), dim, True) if a.ndim else F.cast(F.eq(input, input), "int64")


def _middle(F: Any, input: Any, dim: int, skip_nan: bool) -> Any:
    """Where the median along `dim` is; with `skip_nan` that of the numbers, else the first NaN if there is one."""
    a = F.aval(input)
    n = a.shape[dim] if a.ndim else 1
    order = F.sorted_order(input, dim, False)  # NaN comes last
    count = _numbers(F, input, dim)
    if skip_nan:
        place = F.floor_divide(F.maximum(F.sub(count, F.const(1, "int64")), F.const(0, "int64")), F.const(2, "int64"))
    else:
        place = F.where(F.lt(count, F.const(n, "int64")), count, F.const((n - 1) // 2, "int64"))
    return F.gather(order, dim, place)


def _median_compose(skip_nan: bool) -> Any:
    def compose(F: Any, input: Any, *, dim: int | None, keepdim: bool) -> Any:
        if dim is not None:
            return _picked(F, input, dim, _middle(F, input, dim, skip_nan), keepdim)
        flat = F.flatten(input)
        a = F.aval(flat)
        if not a.size:
            return F.mean(flat)  # NaN
        value = F.gather(flat, 0, _middle(F, flat, 0, skip_nan))
        if a.is_float:  # the largest of what equals it: all of these share the gradient, as in PyTorch
            same = F.logical_or(F.eq(flat, value), F.logical_and(F.ne(flat, flat), F.ne(value, value)))
            return F.max_total(F.where(same, flat, F.const(-INF, a.dtype)))
        return F.reshape(value, ())

    return compose


def _median_canon(name: str) -> Any:
    def canon(input: Aval, *, dim: Any = None, keepdim: Any = False) -> dict[str, Any]:
        return {"dim": None if dim is None else axis(name, dim, input.ndim), "keepdim": bool(keepdim)}

    return canon


def _median_rule(name: str) -> Any:
    def rule(input: Aval, *, dim: int | None, keepdim: bool) -> Aval:
        not_bool(name, input)
        if dim is not None or not input.is_float:
            need_elements(name, input, tuple(range(input.ndim)) if dim is None else (dim,))
        return input

    return rule


_GAPS = t(3, 5, fill=((1.0, NAN, 3.0, 2.0, NAN), (4.0, 4.5, 5.0, 1.0, INF), (NAN, 3.0, NAN, NAN, 7.0)))
for _name, _what in (("median", "NaN if one is NaN"), ("nanmedian", "NaN left out")):
    register(
        name=_name,
        doc=f"""The median, of two middle elements the lower; {_what}. As torch.{_name}.

        Without `dim` of all elements: those that equal it share the gradient evenly; of none it is NaN. With an axis
        `dim`: (values, indices) along it, and the gradient goes to the element at the index.""",
        signature="input, dim=None, keepdim=False",
        inputs=("input",),
        canon=_median_canon(_name),
        rule=_median_rule(_name),
        compose=_median_compose(_name == "nanmedian"),
        samples=(
            Sample(_distinct(5, 3)),
            Sample(_distinct(5, 3), dim=0),
            Sample(_distinct(2, 3, 5), dim=-2, keepdim=True),
            Sample(_distinct(4, 6, layout="transposed"), dim=1),
            Sample(_distinct(4, 6, layout="strided")),
            Sample(t()),
            Sample(t(), dim=0),
            Sample(t(0, 3), dim=1),
            Sample(t(0), grad_=False, why_="of nothing: NaN"),
            Sample(_GAPS, dim=1, grad_=False),
            Sample(_GAPS, grad_=False),
            Sample(t(3, fill=NAN), grad_=False, why_="no number at all"),
            Sample(t(5, fill=(1.0, 2.0, 2.0, 2.0, 3.0)), grad_=False, why_="ties share the gradient"),
            Sample(_distinct(4, 3, dtype="float64"), dim=0),
            Sample(t(5, 3, dtype="int64", fill="ints", low=0, high=30)),
            Sample(t(7, dtype="int32", fill=(5.0, -3.0, 2.0, 9.0, 0.0, 1.0, -7.0)), dim=0),
        ),
        errors=(
            Bad(ShapeError, "out of range", t(5, 3), dim=2),
            Bad(ShapeError, "no elements", t(0, 3), dim=0),
            Bad(DTypeError, "bool", t(3, dtype="bool", fill="bool")),
        ),
        torch=f"torch.{_name}",
    )


# --- the k-th smallest ------------------------------------------------------------------------------------------------


def _kth_canon(input: Aval, *, k: Any, dim: Any = -1, keepdim: Any = False) -> dict[str, Any]:
    dim = axis("kthvalue", dim, input.ndim)
    n = input.shape[dim] if input.ndim else 1
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= n:
        raise ArgumentError(f"kthvalue: k={k!r} must be an integer from 1 to {n}, the size of axis {dim}.")
    return {"k": k, "dim": dim, "keepdim": bool(keepdim)}


def _kth_rule(input: Aval, **attrs: Any) -> Aval:
    not_bool("kthvalue", input)
    return input


def _kth(F: Any, input: Any, *, k: int, dim: int, keepdim: bool) -> ValuesIndices:
    order = F.sorted_order(input, dim, False)
    return _picked(F, input, dim, along(F, order, dim, k - 1, k) if F.aval(input).ndim else order, keepdim)


register(
    name="kthvalue",
    doc="(values, indices) of the k-th smallest elements along `dim`, counted from 1; NaN counts as the largest. The "
    "gradient goes to where the values were. As torch.kthvalue.",
    signature="input, k, dim=-1, keepdim=False",
    inputs=("input",),
    canon=_kth_canon,
    rule=_kth_rule,
    compose=_kth,
    samples=(
        Sample(_distinct(5, 7), k=3),
        Sample(_distinct(5, 3), k=5, dim=0, keepdim=True),
        Sample(_distinct(4, 6, layout="transposed"), k=1, dim=0),
        Sample(t(), k=1),
        Sample(t(0, 3), k=2),
        Sample(t(4, fill=(1.0, NAN, 5.0, -INF)), k=4, grad_=False, why_="NaN is the largest"),
        Sample(_distinct(7, dtype="float64"), k=7),
        Sample(t(7, dtype="int64", fill=(5.0, -3.0, 2.0, 9.0, 0.0, 1.0, -7.0)), k=2),
    ),
    errors=(
        Bad(ArgumentError, "k=4 .* 1 to 3", t(5, 3), k=4),
        Bad(ArgumentError, "k=0", t(5, 3), k=0),
        Bad(ShapeError, "out of range", t(5, 3), k=1, dim=2),
        Bad(DTypeError, "bool", t(3, dtype="bool", fill="bool"), k=1),
    ),
    torch="torch.kthvalue",
)


# --- quantiles --------------------------------------------------------------------------------------------------------

_BETWEEN = ("linear", "lower", "higher", "nearest", "midpoint")


def _quantile_canon(name: str) -> Any:
    def canon(
        input: Aval, *, q: Any, dim: Any = None, keepdim: Any = False, interpolation: Any = "linear"
    ) -> dict[str, Any]:
        listed = q if isinstance(q, tuple | list) else (q,)
        if any(isinstance(v, bool) or not isinstance(v, int | float) or not 0 <= v <= 1 for v in listed):
            raise ArgumentError(f"{name}: q={q!r:.60} must hold numbers from 0 to 1. The median is 0.5.")
        if interpolation not in _BETWEEN:
            raise ArgumentError(f"{name}: interpolation={interpolation!r} is unknown. Use one of {_BETWEEN}.")
        return {
            "q": tuple(map(float, listed)) if isinstance(q, tuple | list) else float(q),
            "dim": None if dim is None else axis(name, dim, input.ndim),
            "keepdim": bool(keepdim),
            "interpolation": interpolation,
        }

    return canon


def _quantile_rule(name: str) -> Any:
    def rule(input: Aval, *, dim: int | None, **attrs: Any) -> Aval:
        if input.dtype not in ("float32", "float64"):
            need_float(name, input=input)
            raise DTypeError(f"{name}: input is {input.dtype}, as PyTorch float32 or float64 is taken. Use gt.cast.")
        if not input.size:
            raise ShapeError(f"{name}: input of shape {input.shape} has no elements. Pass at least one.")
        return input

    return rule


def _quantiles(F: Any, input: Any, q: Any, dim: int | None, keepdim: bool, interpolation: str, skip_nan: bool) -> Any:
    """Of all values of the vector q; they are the first axis of the result."""
    shape, dtype = F.aval(input).shape, F.aval(input).dtype
    x = F.reshape(input, (-1,)) if dim is None or not shape else F.movedim(input, dim, -1)
    n, last = F.aval(x).shape[-1], F.aval(x).ndim - 1
    ordered = F.gather(x, last, F.sorted_order(x, last, False))
    count = F.cast(_numbers(F, x, last), dtype)
    if skip_nan:
        greatest = F.maximum(F.sub(count, F.const(1, dtype)), F.const(0, dtype))
    else:  # a NaN, which sorting puts last, is the result of its row
        ordered = F.where(F.lt(count, F.const(n, dtype)), along(F, ordered, last, n - 1, n), ordered)
        greatest = F.expand(F.const(n - 1, dtype), F.aval(count).shape)
    rank = F.mul(greatest, q)
    rounding = {"lower": F.floor, "higher": F.ceil, "nearest": F.round}.get(interpolation)
    rank = rank if rounding is None else rounding(rank)
    low, high = F.floor(rank), F.ceil(rank)
    weight = F.const(0.5, dtype) if interpolation == "midpoint" else F.sub(rank, low)
    at = lambda place: F.gather(ordered, last, F.cast(place, "int64"))  # noqa: E731 - used twice
    found = F.movedim(F.lerp(at(low), at(high), weight), -1, 0)
    over = tuple(range(len(shape))) if dim is None else (dim,)
    return F.reshape(found, (F.aval(q).size, *reduced(shape, over, keepdim)))


def _register_quantile(name: str, what: str, skip_nan: bool) -> None:
    canon, rule = _quantile_canon(name), _quantile_rule(name)

    def compose(F: Any, input: Any, *, q: Any, **options: Any) -> Any:
        found = _quantiles(F, input, F.reshape(F.const(q, F.aval(input).dtype), (-1,)), skip_nan=skip_nan, **options)
        return found if isinstance(q, tuple) else F.reshape(found, F.aval(found).shape[1:])

    def canon_at(input: Aval, q: Aval, **attrs: Any) -> dict[str, Any]:
        options = canon(input, q=0.5, **attrs)
        return {option: options[option] for option in attrs}

    def rule_at(input: Aval, q: Aval, **attrs: Any) -> Aval:
        if q.ndim > 1:
            raise ShapeError(f"{name}: q has shape {q.shape}, but a number or a vector is needed. Flatten it.")
        need_same_dtype(name, input=input, q=q)
        return rule(input, **attrs)

    def compose_at(F: Any, input: Any, q: Any, **options: Any) -> Any:
        found = _quantiles(F, input, F.reshape(q, (-1,)), skip_nan=skip_nan, **options)
        return found if F.aval(q).ndim else F.reshape(found, F.aval(found).shape[1:])

    register(
        name=name,
        doc=f"""The quantiles q of the elements, or of those along the axis `dim`; {what}. As torch.{name}.

        q: a number from 0 to 1, or a sequence of them, whose results are stacked in front; as an array it gets a
        gradient, and its values are not looked at. Where the rank q · (n - 1) falls between two elements, interpolation
        is "linear", "lower", "higher", "nearest" or "midpoint". float32 or float64.""",
        signature='input, q, dim=None, keepdim=False, *, interpolation="linear"',
        inputs=("input",),
        precision="wide",
        arrays=(("q",), f"{name}_at"),
        canon=canon,
        rule=rule,
        compose=compose,
        samples=(
            Sample(_distinct(5, 3), q=0.4),
            Sample(_distinct(5, 3), q=0.5, dim=0),
            Sample(_distinct(2, 3, 5), q=0.3, dim=-2, keepdim=True),
            *(Sample(_distinct(7), q=0.35, interpolation=how) for how in _BETWEEN),
            Sample(_distinct(4, 6, layout="transposed"), q=1.0, dim=1),
            Sample(t(), q=0.5),
            Sample(_GAPS, q=0.6, dim=1, grad_=False),
            Sample(_distinct(4, 3, dtype="float64"), q=0.0, dim=0),
        ),
        errors=(
            Bad(ArgumentError, "q=1.5", t(3), q=1.5),
            Bad(ArgumentError, "interpolation='cubic'", t(3), q=0.5, interpolation="cubic"),
            Bad(ShapeError, "no elements", t(0, 3), q=0.5, dim=1),
            Bad(ShapeError, "out of range", t(5, 3), q=0.5, dim=2),
            Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"), q=0.5),
            Bad(DTypeError, "float32 or float64", t(3, dtype="bfloat16"), q=0.5),
        ),
        torch=f"torch.{name}",
    )
    register(
        name=f"{name}_at",
        doc=f"{name} with q as an array.",
        signature='input, q, dim=None, keepdim=False, *, interpolation="linear"',
        inputs=("input", "q"),
        canon=canon_at,
        rule=rule_at,
        compose=compose_at,
        precision="wide",
        public=False,
        samples=(
            Sample(_distinct(5, 3), t(2, fill=(0.3, 0.7)), dim=0),
            Sample(_distinct(5, 3), t(fill=0.45)),
            Sample(_distinct(5, 3), t(0), why_="no quantiles"),
            Sample(_distinct(4, 6, layout="transposed"), t(3, fill=(0.1, 0.3, 0.9)), dim=1, keepdim=True),
            Sample(_distinct(4, 3, dtype="float64"), t(1, fill=0.4, dtype="float64"), dim=1),
        ),
        errors=(
            Bad(ShapeError, "q has shape", t(3), t(1, 1)),
            Bad(DTypeError, "different dtypes", t(3), t(1, dtype="float64")),
            Bad(ShapeError, "no elements", t(0), t(1)),
        ),
        torch=f"torch.{name}",
    )


_register_quantile("quantile", "NaN if one is NaN", False)
_register_quantile("nanquantile", "NaN left out", True)
