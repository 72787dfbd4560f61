"""Body of several element-wise ops in one: one after the other. Compiled programs on the CPU keep them apart."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..backend import backend as _backend
from ..backend import scratch as _scratch
from ..ops.fused import MOST_OUTPUTS as _MOST_OUTPUTS
from ..ops.fused import members as _members


def _own(at: Any) -> list[Aval]:
    declared = getattr(_backend("cpu").bodies[at.op.name], "scratch", None)
    return [] if declared is None else list(declared(*at.ins, **at.attrs))


def _buffers(*arrays: Aval, steps: Any, keep: Any) -> list[Aval]:
    """For each step its result, unless that is an output, and the scratch of its body."""
    found = []
    for k, at in enumerate(_members(arrays, steps), len(arrays)):
        found += [*([] if k in keep else [at.out]), *_own(at)]
    return found


@_scratch(_buffers)
def fused(xp: Any, *arrays: Any, steps: Any, keep: Any, scratch: Any = ()) -> None:
    outs, values, rest = arrays[:_MOST_OUTPUTS], list(arrays[_MOST_OUTPUTS:]), list(scratch)
    avals = [Aval(x.shape, x.dtype.name) for x in values]
    for k, at in enumerate(_members(avals, steps), len(values)):
        y = outs[keep.index(k)] if k in keep else rest.pop(0)
        work = [rest.pop(0) for _ in _own(at)]
        operands = [values[j] for j in steps[k - len(avals)][2]]
        _backend("cpu").bodies[at.op.name](xp, y, *operands, **at.attrs, **({"scratch": work} if work else {}))
        values.append(y)
