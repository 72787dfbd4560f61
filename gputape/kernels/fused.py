"""Host side of several element-wise ops in one: their formulas as one chain, in one launch; and of their sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from ..aval import Aval
from ..backend import scratch as _scratch
from ..ops.fused import MOST_NUMBERS as _MOST_NUMBERS
from ..ops.fused import MOST_OUTPUTS as _MOST_OUTPUTS
from ..ops.fused import MOST_SUMMED as _MOST_SUMMED
from ..ops.fused import members as _members
from ..registry import At
from ._steps import STEP_TYPES, TILES, Tile, between, step_kernel, steps, variants
from ._sums import add_up
from .expression import KINDS, Chain, map_text
from .expression import Step as ChainStep
from .formulas import FORMULAS
from .generated import function, run
from .launch import FLOATS, Function, Kernel, Variant, launch, need_kernel
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
    made: list[ChainStep] = []
    numbers: list[float] = []
    for name, attrs, operands in steps:
        found = _lowered(name, dict(attrs))
        assert found is not None, f"fused: {name} has no formula"
        (first, *more), plain = found
        made.append(ChainStep(first, tuple([values[k] for k in operands])))
        for formula in more:
            made.append(ChainStep(formula, (len(kinds) + len(made) - 1,)))
        values.append(len(kinds) + len(made) - 1)
        numbers += plain
    names = "_".join(name for name, _, _ in steps)
    outputs = tuple((values[k], kind) for k, kind in zip(keep, stored, strict=True))
    return Chain(f"fused_{names}"[:60], kinds, tuple(made), outputs), tuple(numbers)


# --- sums of them -----------------------------------------------------------------------------------------------------


def _sum_buffers(*arrays: Aval, steps: Any, dim: Any, keepdim: bool, mean: bool) -> list[Aval]:
    return between(_plan(_members(arrays, steps)[-1].out.shape, dim), "float32")


@_scratch(_sum_buffers)
def fused_sum(
    rt: Any,
    y: Any,
    *arrays: Any,
    steps: Any,
    dim: Any,
    keepdim: bool,
    mean: bool,
    scratch: Sequence[Any] = (),
) -> None:
    for x in arrays:
        need_kernel("fused_sum", x)
    shape = max((x.shape for x in arrays), key=len)
    (first, *others), parts = _plan(shape, dim), [*scratch, y]
    chain, numbers = _chain(("f",) * len(arrays), steps, (len(arrays) + len(steps) - 1,), ("f",))
    full = sum(2**k for k, x in enumerate(arrays) if x.shape == shape and x.size != 1)
    kernel = _mapped(function(chain, map_text), len(arrays), full, first.last, first.tile)
    divisor = float(math.prod(shape[d] for d in dim)) if mean else 1.0
    ins = [rt.packed(x) for x in arrays]
    ins += ins[:1] * (_MOST_SUMMED - len(ins))
    given = (*numbers, *(0.0,) * (_MOST_NUMBERS - len(numbers)))
    args = (parts[0], *ins, *first.sizes, 1.0 if others else divisor, *given)
    launch(kernel, first.grid, args, rt.stream)
    if others:
        add_up(rt, y, parts[0], others, parts[1:-1], divisor)


def _plan(shape: tuple[int, ...], dim: tuple[int, ...]) -> Any:
    return steps(shape, dim)


@cache
def _mapped(apply: Function, count: int, full: int, last: bool, tile: Tile) -> Kernel:
    return step_kernel("reduce", "mapped_sums", last, tile, MAP=apply, COUNT=count, FULL=full)


def _sum_takes(arrays: Sequence[Aval], given: Any) -> bool:
    """Whether these steps on these arrays can be summed."""
    if len(arrays) > _MOST_SUMMED or any(a.dtype not in FLOATS for a in arrays):
        return False
    lowered = [_lowered(name, dict(attrs)) for name, attrs, _ in given]
    return all(lowered) and sum(len(found[1]) for found in lowered if found) <= _MOST_NUMBERS


fused_sum.takes = _sum_takes  # type: ignore[attr-defined]


def _variants() -> list[Variant]:
    """One chain; others are compiled when they are met."""
    chain, _ = _chain(("f", "f"), (("sub", (), (0, 1)), ("square", (), (2,))), (3,), ("f",))
    found = []
    for x, y in (("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16")):
        types = (f"*{y}", *(f"*{x}",) * 3, *STEP_TYPES, *("float32",) * 5)
        made = lambda last, tile: _mapped(function(chain, map_text), 2, 3, last, tile)  # noqa: E731
        found += variants(made, types, TILES)
    return found


VARIANTS = tuple(_variants())
