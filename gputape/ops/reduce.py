"""Cards of the reductions."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, axes, category, need_float, reduced
from ..errors import DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t


def restore(F: Any, at: At, dy: Any) -> Any:
    """`dy` of a reduction with its axes put back as size 1, so that it broadcasts against the input."""
    x, dims = at.ins[0], at.attrs["dim"]
    kept = reduced(x.shape, dims, True)
    return dy if F.aval(dy).shape == kept else F.reshape(dy, kept)


def dims_canon(name: str) -> Any:
    """`dim` as a sorted tuple of axes counted from the front."""

    def canon(input: Aval, *, dim: Any = None, **attrs: Any) -> dict[str, Any]:
        if dim == () and input.ndim:
            dim = None  # torch reduces over everything for an empty tuple
        return {"dim": axes(name, dim, input.ndim), **attrs}

    return canon


def _sum_rule(input: Aval, *, dim: tuple[int, ...], keepdim: bool) -> Aval:
    return Aval(reduced(input.shape, dim, keepdim), input.dtype if category(input.dtype) == 2 else "int64")


REDUCE_SAMPLES = (
    Sample(t(5, 3)),
    Sample(t(5, 3), dim=0),
    Sample(t(5, 3), dim=-1, keepdim=True),
    Sample(t(2, 3, 5), dim=(0, 2)),
    Sample(t(), why_="a scalar"),
    Sample(t(4, 6, layout="transposed"), dim=1),
    Sample(t(3, 7, layout="strided"), dim=(0, 1)),
)
REDUCE_ERRORS = (
    Bad(ShapeError, "dim=2 is out of range", t(5, 3), dim=2),
    Bad(ShapeError, "twice", t(5, 3), dim=(0, -2)),
)

register(
    name="sum",
    doc="Sum over the axes `dim` (default all); integers and bools sum in int64. No elements give 0.",
    signature="input, dim=None, keepdim=False",
    inputs=("input",),
    canon=dims_canon("sum"),
    rule=_sum_rule,
    vjp=lambda F, at, dy: F.expand(restore(F, at, dy), at.ins[0].shape),
    samples=(
        *REDUCE_SAMPLES,
        Sample(t(0, 3), dim=0),
        Sample(t(0)),
        Sample(t(4, dtype="bool", fill="bool"), grad_=False),
    ),
    errors=REDUCE_ERRORS,
    perf=(Perf(t(1024, 128), dim=0, name_="gpt bias gradient"), Perf(t(1024, 128), dim=1)),
    torch="torch.sum",
)


def _sum_to_rule(input: Aval, *, shape: tuple[int, ...]) -> Aval:
    lead = input.ndim - len(shape)
    fits = lead >= 0 and all(n in (1, m) for n, m in zip(shape, input.shape[lead:], strict=True))
    if not fits:
        raise ShapeError(f"sum_to: {input.shape} does not reduce to {shape}. Give a shape that broadcasts to it.")
    return Aval(shape, input.dtype)


register(
    name="sum_to",
    doc="Sum over the axes that broadcasting from `shape` to the input's shape had expanded.",
    signature="input, shape",
    inputs=("input",),
    rule=_sum_to_rule,
    vjp=lambda F, at, dy: F.expand(dy, at.ins[0].shape),
    samples=(
        Sample(t(5, 3), shape=(3,)),
        Sample(t(2, 5, 3), shape=(5, 1)),
        Sample(t(5, 3), shape=()),
        Sample(t(5, 0), shape=(5, 1)),
        Sample(t(4, 6, layout="transposed"), shape=(1, 6)),
    ),
    errors=(Bad(ShapeError, "does not reduce", t(5, 3), shape=(5,)),),
)
