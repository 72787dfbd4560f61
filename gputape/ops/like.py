"""Cards of the arrays that have the shape of another: zeros_like, ones_like, full_like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import DTYPES, Aval, category, fits
from ..errors import ArgumentError, DTypeError
from ..registry import register
from ..samples import Bad, Sample, t


def _like(F: Any, input: Any, value: Any, dtype: str | None) -> Any:
    a = F.aval(input)
    return F.expand(F.const(value, dtype or a.dtype), a.shape)


def _like_rule(name: str) -> Callable[..., Aval]:
    def rule(input: Aval, *, dtype: str | None = None, **fill: Any) -> Aval:
        if dtype is not None and dtype not in DTYPES:
            raise DTypeError(f"{name}: dtype {dtype!r} is not supported. Use one of {', '.join(DTYPES)}.")
        return input.with_dtype(dtype or input.dtype)

    return rule


def _full_canon(input: Aval, *, fill_value: Any, dtype: Any = None) -> dict[str, Any]:
    if not isinstance(fill_value, bool | int | float):
        raise ArgumentError(f"full_like: fill_value={fill_value!r:.40} must be a number. Use expand for an array.")
    name = dtype if dtype in DTYPES else input.dtype
    if not fits(fill_value, name):
        raise ArgumentError(f"full_like: fill_value={fill_value} does not fit {name}. Use another dtype.")
    if category(name) < 2:
        fill_value = bool(fill_value) if name == "bool" else int(fill_value)
    return {"fill_value": fill_value, "dtype": dtype}


_LIKE = (t(2, 3), t(), t(0, 3), t(4, 6, layout="transposed"), t(3, dtype="float64"), t(3, dtype="int32", fill="ones"))
for _name, _number in (("zeros_like", 0), ("ones_like", 1)):
    register(
        name=_name,
        doc=f"An array of input's shape, and its dtype unless `dtype` is given, full of {_number}; without gradient. "
        f"As torch.{_name}.",
        signature="input, *, dtype=None",
        inputs=("input",),
        rule=_like_rule(_name),
        compose=lambda F, input, *, dtype, value=_number: _like(F, input, value, dtype),
        samples=(*(Sample(x, grad_=False) for x in _LIKE), Sample(t(2), dtype="int64", grad_=False)),
        errors=(Bad(DTypeError, "complex64", t(3), dtype="complex64"),),
        torch=f"torch.{_name}",
    )
register(
    name="full_like",
    doc="An array of input's shape, and its dtype unless `dtype` is given, full of a number; without gradient. As "
    "torch.full_like.",
    signature="input, fill_value, *, dtype=None",
    inputs=("input",),
    canon=_full_canon,
    rule=_like_rule("full_like"),
    compose=lambda F, input, *, fill_value, dtype: _like(F, input, fill_value, dtype),
    samples=(
        *(Sample(x, fill_value=2.5, grad_=False) for x in _LIKE),
        Sample(t(2), fill_value=True, dtype="bool", grad_=False),
        Sample(t(2, dtype="bool", fill="zeros"), fill_value=0.5, why_="what is not 0 is true"),
    ),
    errors=(
        Bad(DTypeError, "complex64", t(3), fill_value=1, dtype="complex64"),
        Bad(ArgumentError, "must be a number", t(3), fill_value="1"),
        Bad(ArgumentError, "256 does not fit uint8", t(3, dtype="uint8", fill="ones"), fill_value=256),
        Bad(ArgumentError, "nan does not fit int64", t(3), fill_value=float("nan"), dtype="int64"),
    ),
    torch="torch.full_like",
)
