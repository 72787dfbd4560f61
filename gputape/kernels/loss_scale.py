"""Host side of dynamic loss scaling."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..aval import Aval
from ..backend import scratch as _scratch
from .launch import FLOATS, Variant, covering, launch, need_kernel, triton
from .tiles import cdiv

BLOCK = 4096  # elements per program; gradients up to that size take one launch
UNSCALE = {last: triton("loss_scale", "unscale", divisible=("n",), warps=8, LAST=last, BLOCK=BLOCK) for last in (0, 1)}
ANY_FOUND = triton("loss_scale", "any_found", BLOCK=1024)
UPDATE = triton("loss_scale", "update_scale", warps=1)


def _programs(grad: Any) -> int:
    return max(cdiv(grad.size, BLOCK), 1)


def _flags(grad: Aval, scale: Aval, found: Aval) -> list[Aval]:
    """What each program found, where there are several."""
    return [Aval((_programs(grad),), "int32")] if _programs(grad) > 1 else []


@_scratch(_flags)
def unscale(rt: Any, y: Any, now_found: Any, grad: Any, scale: Any, found: Any, *, scratch: Any = ()) -> None:
    need_kernel("unscale", grad)
    need_kernel("unscale", scale, ("float32",))
    programs, grad = _programs(grad), rt.packed(grad)
    flags = scratch[0] if scratch else now_found
    launch(UNSCALE[programs == 1], (programs,), (y, flags, grad, scale, found, np.int64(grad.size)), rt.stream)
    if scratch:
        launch(ANY_FOUND, (1,), (now_found, flags, found, programs), rt.stream)


def update_scale(
    rt: Any,
    new_scale: Any,
    new_tracker: Any,
    scale: Any,
    tracker: Any,
    found: Any,
    *,
    growth_factor: float,
    backoff_factor: float,
    growth_interval: int,
) -> None:
    need_kernel("update_scale", scale, ("float32",))
    factors = [np.float64(f).view(np.int64) for f in (growth_factor, backoff_factor)]
    launch(UPDATE, (1,), (new_scale, new_tracker, scale, tracker, found, *factors, growth_interval), rt.stream)


def _variants() -> list[Variant]:
    found = []
    for wide in (True, False):
        for x in FLOATS:
            for last, flags in ((0, "*int32"), (1, "*bool")):
                types = (f"*{x}", flags, f"*{x}", "*float32", "*bool", "int64")
                found.append(Variant(UNSCALE[last], types, wide))
        found.append(Variant(ANY_FOUND, ("*bool", "*int32", "*bool", "int32"), wide))
        cells = ("*float32", "*int32")
        found.append(Variant(UPDATE, (*cells, *cells, "*bool", "int64", "int64", "int32"), wide))
    return found


VARIANTS = covering(_variants())
