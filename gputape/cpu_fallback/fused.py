"""Bodies of several element-wise ops in one, and of their sum: one after the other. Compiled programs on the CPU keep
them apart."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..backend import backend as _backend
from ..backend import scratch as _scratch
from ..ops.fused import MOST_OUTPUTS as _MOST_OUTPUTS
from ..ops.fused import members as _members


def _own(name: str, *avals: Aval, **attrs: Any) -> list[Aval]:
    declared = getattr(_backend("cpu").bodies[name], "scratch", None)
    return [] if declared is None else list(declared(*avals, **attrs))


def _run(xp: Any, name: str, arrays: tuple[Any, ...], attrs: dict[str, Any], work: list[Any]) -> None:
    _backend("cpu").bodies[name](xp, *arrays, **attrs, **({"scratch": work} if work else {}))


def _buffers(*arrays: Aval, steps: Any, keep: Any = (), **attrs: Any) -> list[Aval]:
    """For each step its result, unless that is an output, and the scratch of its body."""
    found = []
    for k, at in enumerate(_members(arrays, steps), len(arrays)):
        found += [*([] if k in keep else [at.out]), *_own(at.op.name, *at.ins, **at.attrs)]
    return found


@_scratch(_buffers)
def fused(xp: Any, *arrays: Any, steps: Any, keep: Any, scratch: Any = ()) -> None:
    outs, ins = arrays[:_MOST_OUTPUTS], arrays[_MOST_OUTPUTS:]
    _values(xp, ins, steps, dict(zip(keep, outs, strict=False)), list(scratch))


def _values(xp: Any, arrays: Any, steps: Any, outs: dict[int, Any], scratch: list[Any]) -> list[Any]:
    """The arrays, and what each step makes, some of it in given places. Uses up what it takes of `scratch`."""
    values = list(arrays)
    ats = _members([Aval(x.shape, x.dtype.name) for x in arrays], steps)
    for k, (at, (_, _, operands)) in enumerate(zip(ats, steps, strict=True), len(arrays)):
        y = outs[k] if k in outs else scratch.pop(0)
        work = [scratch.pop(0) for _ in _own(at.op.name, *at.ins, **at.attrs)]
        _run(xp, at.op.name, (y, *(values[j] for j in operands)), at.attrs, work)
        values.append(y)
    return values


def _sum_attrs(dim: Any, keepdim: bool) -> dict[str, Any]:
    return {"dim": dim, "keepdim": keepdim, "dtype": None}


def _sum_buffers(*arrays: Aval, steps: Any, dim: Any, keepdim: bool, mean: bool) -> list[Aval]:
    summed = _members(arrays, steps)[-1].out
    return [*_buffers(*arrays, steps=steps), *_own("mean" if mean else "sum", summed, **_sum_attrs(dim, keepdim))]


@_scratch(_sum_buffers)
def fused_sum(
    xp: Any, y: Any, *arrays: Any, steps: Any, dim: Any, keepdim: bool, mean: bool, scratch: list[Any]
) -> None:
    rest = list(scratch)
    summed = _values(xp, arrays, steps, {}, rest)[-1]
    _run(xp, "mean" if mean else "sum", (y, summed), _sum_attrs(dim, keepdim), rest)
