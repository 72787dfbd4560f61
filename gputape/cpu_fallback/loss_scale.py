"""Bodies of dynamic loss scaling."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..backend import scratch


@scratch(lambda grad, scale, found: [scale, grad.with_dtype("bool")])
def unscale(xp: Any, y: Any, now_found: Any, grad: Any, scale: Any, found: Any, *, scratch: Any) -> None:
    factor, finite = scratch
    xp.isfinite(grad, out=finite)
    xp.all(finite, out=now_found)
    xp.logical_not(now_found, out=now_found)
    xp.logical_or(now_found, found, out=now_found)
    xp.reciprocal(scale, out=factor)
    xp.multiply(grad, factor, out=y)


@scratch(lambda scale, tracker, found, **attrs: [Aval((), "float64"), scale, *[Aval((), "bool")] * 2])
def update_scale(
    xp: Any,
    new_scale: Any,
    new_tracker: Any,
    scale: Any,
    tracker: Any,
    found: Any,
    *,
    growth_factor: float,
    backoff_factor: float,
    growth_interval: int,
    scratch: Any,
) -> None:
    product, grown, full, fits = scratch
    xp.add(tracker, 1, out=new_tracker)
    xp.equal(new_tracker, growth_interval, out=full)
    xp.multiply(scale, growth_factor, out=product, dtype="float64")
    xp.copyto(grown, product, casting="same_kind")
    xp.isfinite(grown, out=fits)
    xp.logical_and(fits, full, out=fits)
    xp.copyto(new_scale, scale)
    xp.copyto(new_scale, grown, where=fits)
    xp.multiply(scale, backoff_factor, out=product, dtype="float64")
    xp.copyto(new_scale, product, where=found, casting="same_kind")
    xp.logical_or(full, found, out=full)
    xp.copyto(new_tracker, 0, where=full)
