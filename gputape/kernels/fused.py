"""Host side of several element-wise ops in one: their formulas as one chain, in one launch."""

from __future__ import annotations

from functools import cache
from typing import Any

from ..ops.fused import MOST_OUTPUTS as _MOST_OUTPUTS
from ..registry import At
from .expression import KINDS, Chain, Step
from .formulas import FORMULAS
from .generated import run
from .launch import FLOATS, need_kernel
from .pointwise import _lowered


def fused(rt: Any, *arrays: Any, steps: Any, keep: Any) -> None:
    outs, ins = arrays[: len(keep)], arrays[_MOST_OUTPUTS:]
    for x in ins:
        need_kernel("fused", x, (*FLOATS, "bool"))
    kinds = tuple([KINDS[str(x.dtype)] for x in ins])
    chain, numbers = _chain(kinds, steps, keep, tuple([KINDS[str(y.dtype)] for y in outs]))
    run(rt, chain, outs, ins, numbers)


def _takes(at: At) -> bool:
    """Whether an op at these avals can be a step."""
    avals = (*at.ins, *at.outs)
    if len(at.outs) != 1 or any(a is None or KINDS[a.dtype] not in "fb" for a in avals):
        return False
    found = _lowered(at.op.name, at.attrs)
    if found is None:
        return False
    first = FORMULAS[found[0][0]]
    return bool(first.text(KINDS[at.ins[first.of].dtype]))


fused.takes = _takes  # type: ignore[attr-defined]


@cache
def _chain(kinds: tuple[str, ...], steps: Any, keep: Any, stored: tuple[str, ...]) -> tuple[Chain, tuple[float, ...]]:
    """The chain of these steps on arrays of these kinds, and its plain numbers."""
    values = list(range(len(kinds)))  # number of a value → that in the chain
    made: list[Step] = []
    numbers: list[float] = []
    for name, attrs, operands in steps:
        found = _lowered(name, dict(attrs))
        assert found is not None, f"fused: {name} has no formula"
        (first, *more), plain = found
        made.append(Step(first, tuple([values[k] for k in operands])))
        for formula in more:
            made.append(Step(formula, (len(kinds) + len(made) - 1,)))
        values.append(len(kinds) + len(made) - 1)
        numbers += plain
    names = "_".join(name for name, _, _ in steps)
    outputs = tuple((values[k], kind) for k, kind in zip(keep, stored, strict=True))
    return Chain(f"fused_{names}"[:60], kinds, tuple(made), outputs), tuple(numbers)
