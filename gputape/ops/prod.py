"""Cards of products: of all elements, running, and the linear recurrence that their gradients are made of."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, axis, reduced
from ..errors import DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .pointwise import NAN
from .reduce import REDUCE_ERRORS, REDUCE_SAMPLES, dims_canon, restore, sum_dtype, to_dtype
from .slicing import along

_NEAR_1: dict[str, Any] = {"fill": "uniform", "low": 0.5, "high": 1.5}
_ZEROS = t(3, 4, fill=((1.0, 2.0, 3.0, 4.0), (0.0, 2.0, -3.0, 4.0), (0.0, 5.0, 0.0, 2.0)))


def _shifted(F: Any, x: Any, dim: int, reverse: bool, first: float) -> Any:
    """x moved by one along `dim`, `first` coming in at the start (at the end if `reverse`)."""
    shape = F.aval(x).shape
    n, dtype = shape[dim], F.aval(x).dtype
    edge = F.expand(F.const(first, dtype), (*shape[:dim], min(n, 1), *shape[dim + 1 :]))
    rest = along(F, x, dim, min(n, 1), n) if reverse else along(F, x, dim, 0, max(n - 1, 0))
    return F.cat([rest, edge] if reverse else [edge, rest], dim)


# --- y[k] = x[k] + a[k] · y[k - 1] ------------------------------------------------------------------------------------


def _recurrence_vjp(F: Any, at: At, dy: Any, a: Any, y: Any) -> Any:
    """dx solves the same recurrence from the other end, da = dx · the element of y before."""
    dim, reverse = at.attrs["dim"], at.attrs["reverse"]
    dx = F.recurrence(dy, _shifted(F, a, dim, not reverse, 0.0), dim, not reverse)
    return dx, F.mul(dx, _shifted(F, y, dim, reverse, 0.0)) if at.needs[1] else None


register(
    name="recurrence",
    doc="y[k] = x[k] + a[k] · y[k - 1] along `dim`, from the end if `reverse`; the first a has no effect.",
    signature="x, a, dim, reverse=False",
    inputs=("x", "a"),
    rule=lambda x, a, *, dim, reverse: x,
    vjp=_recurrence_vjp,
    saves=("a", "y"),
    public=False,
    samples=(
        Sample(t(5, 3), t(5, 3), dim=0),
        Sample(t(2, 5, 3, layout="transposed"), t(2, 5, 3), dim=1, reverse=True),
        Sample(t(3, 7, layout="strided"), t(3, 7), dim=1),
        Sample(t(0, 3), t(0, 3), dim=0),
        Sample(t(3, 0), t(3, 0), dim=0, reverse=True),
        Sample(t(7, dtype="float64"), t(7, dtype="float64"), dim=0, reverse=True),
    ),
)


# --- running products -------------------------------------------------------------------------------------------------


def _cumprod_canon(input: Aval, *, dim: Any, dtype: Any = None) -> dict[str, Any]:
    return {"dim": axis("cumprod", dim, input.ndim), "dtype": dtype}


def _cumprod_rule(input: Aval, *, dim: int, dtype: str | None) -> Aval:
    return input.with_dtype(sum_dtype("cumprod", input, dtype))


def _cumprod_vjp(F: Any, at: At, dy: Any, input: Any, y: Any) -> Any:
    """dx[k] = (product before k) · Σ dy[i] · (product from k + 1 to i): no division, so that zeros do no harm."""
    dim, x = at.attrs["dim"], at.ins[0]
    if not x.shape:
        return to_dtype(F, dy, x)
    wide = to_dtype(F, input, at.out)
    after = F.recurrence(dy, _shifted(F, wide, dim, True, 0.0), dim, True)
    return to_dtype(F, F.mul(_shifted(F, y, dim, False, 1.0), after), x)


register(
    name="cumprod",
    doc="Running products along the axis `dim`, of the input cast to `dtype`; integers and bools multiply in int64. "
    "The gradient is right where elements are 0. As torch.cumprod.",
    signature="input, dim, *, dtype=None",
    inputs=("input",),
    canon=_cumprod_canon,
    rule=_cumprod_rule,
    vjp=_cumprod_vjp,
    saves=("input", "y"),
    precision="wide",
    samples=(
        Sample(t(5, 3), dim=0),
        Sample(t(5, 3), dim=-1),
        Sample(t(2, 3, 4, layout="transposed"), dim=1),
        Sample(t(0, 3), dim=0),
        Sample(t(), dim=0),
        Sample(t(7, dtype="float64", layout="strided"), dim=0),
        Sample(_ZEROS, dim=1, why_="no, one and two zeros"),
        Sample(t(17, 131, **_NEAR_1), dim=1, why_="long rows"),
        Sample(t(7, dtype="bool", fill="bool"), dim=0),
        Sample(t(7, dtype="int8", fill="ints", low=-9, high=9), dim=0, why_="would overflow in int8"),
        Sample(t(7), dim=0, dtype="float64"),
    ),
    errors=(
        Bad(ShapeError, "out of range", t(5, 3), dim=2),
        Bad(DTypeError, "complex64", t(3), dim=0, dtype="complex64"),
    ),
    perf=(Perf(t(1024, 512, **_NEAR_1), dim=1),),
    torch="torch.cumprod",
    exempt={"recurrence": "one thread per row, element after element"},
)


# --- products ---------------------------------------------------------------------------------------------------------


def _prod_canon(input: Aval, *, dim: Any = None, keepdim: Any = False, dtype: Any = None) -> dict[str, Any]:
    return dims_canon("prod")(input, dim=dim, keepdim=keepdim, dtype=dtype)


def _prod_rule(input: Aval, *, dim: tuple[int, ...], keepdim: bool, dtype: str | None) -> Aval:
    return Aval(reduced(input.shape, dim, keepdim), sum_dtype("prod", input, dtype))


def _prod_vjp(F: Any, at: At, dy: Any, input: Any) -> Any:
    """dy · (product of the elements before) · (product of those after)."""
    x, dims = at.ins[0], at.attrs["dim"]
    if not dims:
        return to_dtype(F, F.reshape(dy, x.shape), x)
    kept = tuple(d for d in range(x.ndim) if d not in dims)
    order = (*kept, *dims)
    rows = tuple(x.shape[d] for d in kept)
    n = 1
    for d in dims:
        n *= x.shape[d]
    last = len(kept)
    flat = to_dtype(F, F.reshape(F.permute(input, order), (*rows, n)), at.out)
    before = F.cumprod(_shifted(F, flat, last, False, 1.0), last)
    after = F.flip(F.cumprod(F.flip(_shifted(F, flat, last, True, 1.0), (last,)), last), (last,))
    others = F.reshape(F.mul(before, after), tuple(x.shape[d] for d in order))
    back = tuple(sorted(range(x.ndim), key=order.__getitem__))
    return to_dtype(F, F.mul(restore(F, at, dy), F.permute(others, back)), x)


register(
    name="prod",
    doc="Product over the axes `dim` (default all), of the input cast to `dtype`; by default integers and bools "
    "multiply in int64. No elements give 1. The gradient is right where elements are 0. As torch.prod.",
    signature="input, dim=None, keepdim=False, *, dtype=None",
    inputs=("input",),
    canon=_prod_canon,
    rule=_prod_rule,
    vjp=_prod_vjp,
    saves=("input",),
    precision="wide",
    samples=(
        *(s for s in REDUCE_SAMPLES if "float64" not in repr(s) and not isinstance(s.attrs.get("dim"), tuple)),
        Sample(t(2, 3, 5), dim=(0, 2), torch_=False, why_="PyTorch takes one axis"),
        Sample(t(7, 5, dtype="float64"), dim=0),
        Sample(t(37, 41, **_NEAR_1), dim=1, grad_=False, why_="long"),
        Sample(_ZEROS, dim=1, why_="no, one and two zeros"),
        Sample(_ZEROS),
        Sample(t(3, fill=(0.0, NAN, 2.0)), grad_=False),
        Sample(t(0, 3), dim=0),
        Sample(t(0)),
        Sample(t(4, dtype="bool", fill="bool")),
        Sample(t(4, 3, dtype="int8", fill="ints", low=100, high=127), dim=0, why_="would overflow in int8"),
        Sample(t(5, 3), dim=1, dtype="float64"),
    ),
    errors=(*REDUCE_ERRORS, Bad(DTypeError, "complex64", t(3), dtype="complex64")),
    perf=(Perf(t(1024, 512, **_NEAR_1), dim=1),),
    torch="torch.prod",
)
