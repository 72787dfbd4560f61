"""Cards of the ops with bool results. They have no derivative; gradients stop at them."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, reduced
from ..registry import register
from ..samples import Perf, Sample, t
from .pointwise import BINARY_SAMPLES, INF, NAN, binary
from .reduce import REDUCE_ERRORS, dims_canon
from .unary import NONE_GIVEN

_EDGES = Sample(t(4, 1, fill=((0.0,), (-0.0,), (NAN,), (INF,))), t(1, 3, fill=(0.0, NAN, INF)), why_="NaN, zeros")
_MIXED = Sample(t(5, dtype="int64", fill="ints", low=-2, high=2), t(5, dtype="bool", fill="bool"), why_="promotion")

for _name, _formula in (
    ("eq", "input = other"),
    ("ne", "input ≠ other"),
    ("lt", "input < other"),
    ("le", "input ≤ other"),
    ("gt", "input > other"),
    ("ge", "input ≥ other"),
    ("logical_and", "input ≠ 0 and other ≠ 0"),
    ("logical_or", "input ≠ 0 or other ≠ 0"),
    ("logical_xor", "one of input and other is ≠ 0, and one is 0"),
):
    binary(
        _name,
        f"Whether {_formula}",
        None,
        "bool",
        samples=(*BINARY_SAMPLES, _EDGES, _MIXED),
        perf=(Perf(t(1024, 512), t(1024, 512)),),
    )

_UNREAD = "integers are not read: all that a thread moves are the eight bools that it stores"

for _name, _formula, _exempt in (
    ("logical_not", "input is 0", {}),
    ("isnan", "input is NaN", {"isnan__vv": _UNREAD}),
    ("isinf", "input is infinite", {"isinf__vv": _UNREAD}),
    ("isfinite", "input is neither NaN nor infinite", {"isfinite__vv": _UNREAD}),
):
    register(
        name=_name,
        doc=f"Whether {_formula}, element by element. As torch.{_name}.",
        signature="input",
        inputs=("input",),
        rule=lambda input: input.with_dtype("bool"),
        batch="pointwise",
        samples=(
            Sample(t(4, 6, layout="transposed")),
            Sample(t(5, fill=(0.0, -0.0, NAN, INF, -INF))),
            Sample(t(5, dtype="int32", fill="ints", low=-1, high=2)),
            Sample(t(5, dtype="bool", fill="bool")),
            Sample(t(0, 3)),
            Sample(t()),
            Sample(t(4, dtype="float64", fill=(1e300, 0.0, NAN, -INF)), why_="beyond float32"),
        ),
        errors=(NONE_GIVEN,),
        perf=(Perf(t(1024, 512)),),
        torch=f"torch.{_name}",
        exempt=_exempt,
    )


def _bool_canon(name: str) -> Any:
    every = dims_canon(name)

    def canon(input: Aval, *, dim: Any = None, **attrs: Any) -> dict[str, Any]:
        if isinstance(dim, tuple) and not dim:
            return {"dim": (), **attrs}
        return every(input, dim=dim, **attrs)

    return canon


def _bool_reduce_rule(input: Aval, *, dim: tuple[int, ...], keepdim: bool) -> Aval:
    return Aval(reduced(input.shape, dim, keepdim), "uint8" if input.dtype == "uint8" else "bool")


for _name, _formula, _empty in (("any", "some element is", False), ("all", "all elements are", True)):
    register(
        name=_name,
        doc=f"Whether {_formula} different from 0, over the axes `dim` (default all, none for an empty tuple); no "
        f"elements give {_empty}. NaN counts as different. Of uint8 in uint8, as torch.{_name}.",
        signature="input, dim=None, keepdim=False",
        inputs=("input",),
        canon=_bool_canon(_name),
        rule=_bool_reduce_rule,
        samples=(
            Sample(t(3, 4, dtype="bool", fill="bool")),
            Sample(t(3, 4, dtype="bool", fill="bool"), dim=1),
            Sample(t(2, 3, 4, dtype="int64", fill="ints", low=0, high=2), dim=(0, -1), keepdim=True),
            Sample(t(2, 3, fill=((0.0, NAN, 1.0), (0.0, 0.0, -0.0))), dim=1),
            Sample(t(4, 3, dtype="uint8", fill="ints", low=0, high=3), dim=0),
            Sample(t(3, dtype="uint8", fill=(2, 0, 5))),
            Sample(t(0, 3, dtype="bool", fill="bool"), dim=0),
            Sample(t(dtype="bool", fill="bool")),
            Sample(t(3, 4, fill="ints", low=0, high=2), dim=(), why_="element by element"),
            Sample(t(4, 6, layout="transposed"), dim=0),
            Sample(t(3, fill=(0.0, 1e-300, 0.0), dtype="float64"), why_="below float32"),
        ),
        errors=REDUCE_ERRORS,
        perf=(Perf(t(1024, 512, dtype="bool", fill="bool"), dim=1),),
        torch=f"torch.{_name}",
    )
