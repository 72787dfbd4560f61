"""Bodies of the optimizer updates. Outputs may be the memory of inputs: each element is read before it is written."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval
from ..backend import scratch
from ..flat import as_one as _as_one
from ..ops.optim import PACK
from .pointwise import _blocks


def _skipped(xp: Any, skip: Any, *pairs: tuple[Any, Any]) -> bool:
    """Whether the update is left out; then each first array of the pairs gets the contents of the second."""
    if skip is None or not skip:
        return False
    for new, old in pairs:
        xp.copyto(new, old)
    return True


@scratch(lambda step, *rest, **attrs: [Aval((), "bool")])
def sgd_schedule(
    xp: Any,
    next_step: Any,
    rate: Any,
    fresh: Any,
    step: Any,
    lr: Any,
    skip: Any,
    *,
    dampening: float,
    dtype: str,
    scratch: Any,
) -> None:
    (begun,) = scratch
    xp.greater(step, 0, out=begun)
    xp.multiply(begun, -dampening, out=fresh)
    xp.add(fresh, 1, out=fresh)
    xp.copyto(rate, lr, casting="same_kind")
    if not _skipped(xp, skip, (next_step, step)):
        xp.add(step, 1, out=next_step)


def _decayed(xp: Any, grad: Any, param: Any, weight_decay: float, work: Any) -> Any:
    """grad + weight_decay · param, in `work`."""
    xp.multiply(param, weight_decay, out=work)
    return xp.add(work, grad, out=work)


@scratch(lambda param, *rest, **attrs: [param])
def sgd_update(
    xp: Any, new_param: Any, param: Any, grad: Any, rate: Any, skip: Any, *, weight_decay: float, scratch: Any
) -> None:
    if _skipped(xp, skip, (new_param, param)):
        return
    (work,) = scratch
    if weight_decay:
        grad = _decayed(xp, grad, param, weight_decay, work)
    xp.multiply(grad, rate, out=work)
    xp.subtract(param, work, out=new_param)


def _update_scratch(param: Aval, *rest: Aval, weight_decay: float, **attrs: Any) -> list[Aval]:
    return [param, param] if weight_decay else [param]


@scratch(_update_scratch)
def sgd_momentum_update(
    xp: Any,
    new_param: Any,
    new_buffer: Any,
    param: Any,
    grad: Any,
    buffer: Any,
    rate: Any,
    fresh: Any,
    skip: Any,
    *,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
    scratch: Any,
) -> None:
    if _skipped(xp, skip, (new_param, param), (new_buffer, buffer)):
        return
    work = scratch[0]
    if weight_decay:
        grad = _decayed(xp, grad, param, weight_decay, scratch[1])
    xp.multiply(grad, fresh, out=work)
    xp.multiply(buffer, momentum, out=new_buffer)
    xp.add(new_buffer, work, out=new_buffer)
    if nesterov:
        xp.multiply(new_buffer, momentum, out=work)
        xp.add(work, grad, out=work)
        xp.multiply(work, rate, out=work)
    else:
        xp.multiply(new_buffer, rate, out=work)
    xp.subtract(param, work, out=new_param)


@_as_one
def _adam_numbers(
    next_step: Any, step_size: Any, small: Any, keep: Any, step: Any, lr: Any, skip: Any, options: tuple[float, ...]
) -> None:
    """Numbers, not arrays, are what Python is fast with."""
    beta1, beta2, eps, weight_decay = options
    count, rate = int(step) + 1, float(lr)
    second = math.sqrt(1.0 - beta2**count)
    step_size[...] = second / (1.0 - beta1**count) * rate
    small[...] = second * eps
    keep[...] = 1.0 + rate * -weight_decay
    next_step[...] = step if skip is not None and skip else count


def adam_schedule(
    xp: Any,
    next_step: Any,
    step_size: Any,
    small: Any,
    keep: Any,
    step: Any,
    lr: Any,
    skip: Any,
    *,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    dtype: str,
) -> None:
    _adam_numbers(next_step, step_size, small, keep, step, lr, skip, (beta1, beta2, eps, weight_decay))


@scratch(_update_scratch)
def adam_update(
    xp: Any,
    new_param: Any,
    new_exp_avg: Any,
    new_exp_avg_sq: Any,
    param: Any,
    grad: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    *scalars: Any,
    **options: Any,
) -> None:
    """`scalars`: step_size, eps, keep, skip."""
    news, olds = (new_param, new_exp_avg, new_exp_avg_sq), (param, exp_avg, exp_avg_sq)
    _adam(xp, news, olds, grad, *scalars, **options)


@scratch(_update_scratch)
def amsgrad_update(
    xp: Any,
    new_param: Any,
    new_exp_avg: Any,
    new_exp_avg_sq: Any,
    new_max_exp_avg_sq: Any,
    param: Any,
    grad: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    max_exp_avg_sq: Any,
    *scalars: Any,
    **options: Any,
) -> None:
    """`scalars`: step_size, eps, keep, skip."""
    news = (new_param, new_exp_avg, new_exp_avg_sq, new_max_exp_avg_sq)
    _adam(xp, news, (param, exp_avg, exp_avg_sq, max_exp_avg_sq), grad, *scalars, **options)


def _adam(
    xp: Any,
    news: tuple[Any, ...],
    olds: tuple[Any, ...],
    grad: Any,
    step_size: Any,
    eps: Any,
    keep: Any,
    skip: Any,
    *,
    beta1: float,
    beta2: float,
    weight_decay: float,
    decoupled: bool,
    scratch: Any,
) -> None:
    """`news` and `olds`: parameter, exp_avg, exp_avg_sq and, of AMSGrad, the maximum of the latter."""
    if _skipped(xp, skip, *zip(news, olds, strict=True)):
        return
    states = len(news)
    for parts in _blocks((*news, *olds, grad), tuple(scratch)):
        param, exp_avg, exp_avg_sq, *largest = parts[:states]
        old_param, old_avg, old_sq, *old_largest = parts[states : 2 * states]
        g, work, *decayed = parts[2 * states :]
        if weight_decay:
            g = _decayed(xp, g, old_param, weight_decay, *decayed)
        xp.multiply(g, 1 - beta1, out=work)
        xp.multiply(old_avg, beta1, out=exp_avg)
        xp.add(exp_avg, work, out=exp_avg)
        xp.multiply(g, g, out=work)
        xp.multiply(work, 1 - beta2, out=work)
        xp.multiply(old_sq, beta2, out=exp_avg_sq)
        xp.add(exp_avg_sq, work, out=exp_avg_sq)
        for old, new in zip(old_largest, largest, strict=True):
            exp_avg_sq = xp.maximum(old, exp_avg_sq, out=new)
        xp.sqrt(exp_avg_sq, out=work)
        xp.add(work, eps, out=work)
        xp.divide(exp_avg, work, out=work)
        xp.multiply(work, step_size, out=work)
        if decoupled:
            old_param = xp.multiply(old_param, keep, out=param)
        xp.subtract(old_param, work, out=param)


def pack(xp: Any, y: Any, *arrays: Any) -> None:
    start = 0
    for x in arrays:
        stop = start + x.size
        y[start:stop].reshape(x.shape)[...] = x
        start = -(-stop // PACK) * PACK
        y[stop:start] = 0
