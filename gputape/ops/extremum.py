"""Cards of maxima and minima along axes, and of where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..aval import Aval, axis, reduced
from ..errors import DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .pointwise import NAN, masked, not_bool
from .reduce import REDUCE_ERRORS, dims_canon, restore


def need_elements(name: str, input: Aval, dim: tuple[int, ...]) -> None:
    if any(input.shape[d] == 0 for d in dim if input.ndim):
        raise ShapeError(
            f"{name}: dim={dim} of {input.shape} has no elements, so there is no result. Pass at least one."
        )


def _distinct(*shape: int, **options: Any) -> Any:
    return t(*shape, fill="distinct", low=-2.0, high=2.0, **options)


_TIES = t(3, 4, fill=((1.0, 3.0, 3.0, 1.0), (NAN, 2.0, NAN, 5.0), (0.0, 0.0, 0.0, 0.0)))
_EMPTY = Bad(ShapeError, "no elements", t(0, 3), dim=0)
_EXTREMA = (("max", "amax", "largest"), ("min", "amin", "smallest"))


# --- over several axes ------------------------------------------------------------------------------------------------


def _amax_rule(name: str) -> Callable[..., Aval]:
    def rule(input: Aval, *, dim: tuple[int, ...], keepdim: bool) -> Aval:
        need_elements(name, input, dim)
        return Aval(reduced(input.shape, dim, keepdim), input.dtype)

    return rule


def _amax_vjp(F: Any, at: At, dy: Any, input: Any, y: Any) -> Any:
    """Even shares for all elements that equal the result; NaN to all if that is NaN (as PyTorch)."""
    ties = F.cast(F.eq(input, restore(F, at, y)), at.out.dtype)
    return F.mul(ties, F.div(restore(F, at, dy), F.sum(ties, at.attrs["dim"], True)))


def _total_vjp(F: Any, at: At, dy: Any, input: Any, y: Any) -> Any:
    """Even shares for all elements that equal the result, or are NaN as it is."""
    ties = F.logical_or(F.eq(input, y), F.logical_and(F.isnan(input), F.isnan(y)))
    return masked(F, F.expand(F.div(dy, F.sum(F.cast(ties, at.out.dtype))), at.ins[0].shape), ties)


for _, _name, _which in _EXTREMA:
    register(
        name=_name,
        doc=f"The {_which} element over the axes `dim` (default all); NaN wins over numbers. Elements that tie share "
        f"the gradient evenly. As torch.{_name}.",
        signature="input, dim=None, keepdim=False",
        inputs=("input",),
        canon=dims_canon(_name),
        rule=_amax_rule(_name),
        vjp=_amax_vjp,
        saves=("input", "y"),
        samples=(
            Sample(_distinct(5, 3)),
            Sample(_distinct(5, 3), dim=0),
            Sample(_distinct(2, 3, 5), dim=(0, -1), keepdim=True),
            Sample(_distinct(4, 6, layout="transposed"), dim=1),
            Sample(_distinct(3, 7, layout="strided"), dim=1),
            Sample(t()),
            Sample(t(0, 3), dim=1),
            Sample(_distinct(7, dtype="float64"), dim=0),
            Sample(_TIES, dim=1, grad_=False, why_="ties, NaN"),
            Sample(_distinct(5, 12), dim=1, why_="rows of some length"),
            Sample(t(2, 9, fill=((*[1.0] * 5, NAN, *[2.0] * 3), [3.0] * 9)), dim=-1, grad_=False, why_="ties, NaN"),
            Sample(t(5, 3, dtype="int32", fill="ints", low=-9, high=9), dim=0),
            Sample(t(5, dtype="bool", fill="bool"), dim=0),
        ),
        errors=(*REDUCE_ERRORS, _EMPTY),
        perf=(Perf(t(1024, 128), dim=1),),
        torch=f"torch.{_name}",
    )


# --- where ------------------------------------------------------------------------------------------------------------


def _arg_canon(name: str) -> Callable[..., dict[str, Any]]:
    def canon(input: Aval, *, dim: Any = None, keepdim: Any = False) -> dict[str, Any]:
        return {"dim": None if dim is None else axis(name, dim, input.ndim), "keepdim": bool(keepdim)}

    return canon


def _arg_rule(name: str) -> Callable[..., Aval]:
    def rule(input: Aval, *, dim: int | None, keepdim: bool) -> Aval:
        not_bool(name, input)
        over = tuple(range(input.ndim)) if dim is None else (dim,)
        need_elements(name, input, over)
        return Aval(reduced(input.shape, over, keepdim), "int64")

    return rule


for _name, _which in (("argmax", "largest"), ("argmin", "smallest")):
    register(
        name=_name,
        doc=f"Index of the {_which} element along the axis `dim`, or in row-major order without `dim`; the first at a "
        f"tie; NaN wins over numbers. int64, without gradient. As torch.{_name}.",
        signature="input, dim=None, keepdim=False",
        inputs=("input",),
        canon=_arg_canon(_name),
        rule=_arg_rule(_name),
        samples=(
            Sample(t(5, 3)),
            Sample(t(5, 3), dim=0),
            Sample(t(2, 3, 5), dim=-2, keepdim=True),
            Sample(t(2, 3), keepdim=True),
            Sample(t(4, 6, layout="transposed")),
            Sample(_TIES, dim=1),
            Sample(_TIES, dim=0),
            Sample(_distinct(4, 3, dtype="float64"), dim=0),
            Sample(t(), dim=0),
            Sample(t(0, 3), dim=1),
            Sample(t(5, 3, dtype="int64", fill="ints", low=0, high=3), dim=1),
        ),
        errors=(
            Bad(ShapeError, "out of range", t(5, 3), dim=2),
            Bad(DTypeError, "bool", t(3, dtype="bool", fill="bool")),
            _EMPTY,
        ),
        perf=(Perf(t(64, 10), dim=1, name_="predicted class"),),
        torch=f"torch.{_name}",
    )


# --- torch.max and torch.min ------------------------------------------------------------------------------------------


class ValuesIndices(NamedTuple):
    """What `gt.max(x, dim)` and `gt.min(x, dim)` return."""

    values: Any
    indices: Any


def _max_compose(name: str) -> Callable[..., Any]:
    def compose(F: Any, input: Any, *, dim: int | None, keepdim: bool) -> Any:
        if dim is None:
            return F.op(f"{name}_total", input)
        shape = F.aval(input).shape
        if not shape:
            return ValuesIndices(F.op(f"{name}_total", input), F.const(0, "int64"))
        ranked = F.cast(input, "uint8") if F.aval(input).dtype == "bool" else input
        indices = F.op(f"arg{name}", ranked, dim=dim, keepdim=True)
        values = F.gather(input, dim, indices)
        if keepdim:
            return ValuesIndices(values, indices)
        short = reduced(shape, (dim,), False)
        return ValuesIndices(F.reshape(values, short), F.reshape(indices, short))

    return compose


def _max_rule(name: str) -> Callable[..., Aval]:
    def rule(input: Aval, *, dim: int | None, keepdim: bool) -> Aval:
        need_elements(name, input, tuple(range(input.ndim)) if dim is None else (dim,))
        return input

    return rule


for _name, _plain, _which in _EXTREMA:
    register(
        name=f"{_name}_total",
        doc=f"The {_which} element; NaN wins, and elements that tie, NaN among them, share the gradient evenly.",
        signature="input",
        inputs=("input",),
        rule=lambda input: input.with_shape(()),
        vjp=_total_vjp,
        saves=("input", "y"),
        public=False,
    )
    register(
        name=_name,
        doc=f"""The {_which} element; NaN wins over numbers. As torch.{_name}.

        Without `dim`: one value; elements that tie share its gradient evenly. With an axis `dim`: (values, indices)
        along it, the first index at a tie, and the gradient goes to that element. With another array in the place of
        `dim`: `{_name}imum` of the two. `{_plain}` reduces several axes.""",
        signature="input, dim=None, keepdim=False",
        inputs=("input",),
        arrays=(("dim",), f"{_name}imum"),
        canon=_arg_canon(_name),
        rule=_max_rule(_name),
        compose=_max_compose(_name),
        samples=(
            Sample(_distinct(5, 3)),
            Sample(_distinct(5, 3), dim=0),
            Sample(_distinct(2, 3, 5), dim=-2, keepdim=True),
            Sample(_distinct(4, 6, layout="transposed"), dim=1),
            Sample(_distinct(4, 6, layout="strided")),
            Sample(t()),
            Sample(t(), dim=0),
            Sample(t(0, 3), dim=1),
            Sample(_TIES, dim=1, grad_=False),
            Sample(_TIES, grad_=False),
            Sample(_distinct(4, 3, dtype="float64"), dim=0),
            Sample(t(5, 3, dtype="int64", fill="ints", low=0, high=3), dim=1),
            Sample(t(5, 3, dtype="bool", fill="bool"), dim=1),
        ),
        errors=(Bad(ShapeError, "out of range", t(5, 3), dim=2), _EMPTY),
        torch=f"torch.{_name}",
    )
