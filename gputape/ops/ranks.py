"""Cards of the ops that bring arrays to common shapes, or to more axes."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, broadcast_shapes
from ..errors import ArgumentError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .arrange import at_least

_EMPTY = Bad(ArgumentError, "no array")


def _rule(name: str) -> Any:
    def rule(*tensors: Aval) -> Aval:
        if not tensors:
            raise ArgumentError(f"{name}: no array is given. Pass at least one.")
        return tensors[0]

    return rule


# --- broadcast_tensors ------------------------------------------------------------------------------------------------


def _broadcast(F: Any, *tensors: Any) -> tuple[Any, ...]:
    shape = broadcast_shapes("broadcast_tensors", *(F.aval(x).shape for x in tensors))
    return tuple(F.expand(x, shape) for x in tensors)


register(
    name="broadcast_tensors",
    doc="A tuple of the arrays, each expanded to the shape that all broadcast to. Views. As torch.broadcast_tensors.",
    signature="*tensors",
    inputs=("*tensors",),
    rule=_rule("broadcast_tensors"),
    compose=_broadcast,
    samples=(
        Sample(t(5, 1), t(3)),
        Sample(t(2, 3), t(), t(4, 1, 1)),
        Sample(t(3, dtype="float64"), t(2, 3, dtype="int64", fill="ints", high=9), why_="dtypes stay"),
        Sample(t(1, 3), t(0, 1)),
        Sample(t(4, 6, layout="transposed"), t(6, layout="strided")),
        Sample(t(3)),
    ),
    errors=(_EMPTY, Bad(ShapeError, "do not broadcast", t(3), t(4))),
    torch="torch.broadcast_tensors",
)


# --- atleast_1d, atleast_2d, atleast_3d -------------------------------------------------------------------------------


def _atleast(least: int) -> None:
    name = f"atleast_{least}d"

    def compose(F: Any, *tensors: Any) -> Any:
        found = tuple(at_least(F, F.alias(x), least) for x in tensors)
        return found[0] if len(found) == 1 else found

    register(
        name=name,
        doc=f"The array with axes of size 1 until it has {least}; of several arrays a tuple of these. Views. As "
        f"torch.{name}.",
        signature="*tensors",
        inputs=("*tensors",),
        rule=_rule(name),
        compose=compose,
        samples=(
            Sample(t()),
            Sample(t(3)),
            Sample(t(2, 3)),
            Sample(t(2, 3, 4, layout="transposed")),
            Sample(t(2, 1, 3, 2)),
            Sample(t(0)),
            Sample(t(), t(3, dtype="float64"), t(2, 3), why_="several"),
        ),
        errors=(_EMPTY,),
        torch=f"torch.{name}",
    )


for _least in (1, 2, 3):
    _atleast(_least)


# --- column_stack -----------------------------------------------------------------------------------------------------


def _columns(F: Any, *tensors: Any) -> Any:
    flat = [F.reshape(x, (F.aval(x).size, 1)) if F.aval(x).ndim < 2 else x for x in tensors]
    return F.hstack(flat)


register(
    name="column_stack",
    doc="The arrays joined along their second axis, numbers and vectors as columns. As torch.column_stack.",
    signature="tensors",
    inputs=("*tensors",),
    rule=_rule("column_stack"),
    compose=_columns,
    samples=(
        Sample(t(3), t(3)),
        Sample(t(3), t(3, 2), t(3)),
        Sample(t(), t()),
        Sample(t(2, 3, 2), t(2, 1, 2)),
        Sample(t(0), t(0, 2)),
        Sample(t(6, 4, layout="transposed"), t(6, layout="strided")),
        Sample(t(3, dtype="float64"), t(3, dtype="float64")),
    ),
    errors=(_EMPTY, Bad(ShapeError, "must be equal", t(3), t(4))),
    torch="torch.column_stack",
)
