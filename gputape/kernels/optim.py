"""Host side of the optimizer updates: chains of formulas, one launch per update, and a program for each schedule.

An update does not care what its arrays are: a parameter, or a flat arena that holds all parameters of a group. Each
element is read before it is written, so that outputs may be the memory of inputs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from . import layout
from .expression import Chain, Step
from .generated import run, variant
from .launch import Variant, launch, need_kernel, triton


class _Steps:
    """Collects the steps of a chain whose inputs are all floating point."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.steps: list[Any] = []

    def add(self, formula: str, *operands: int) -> int:
        """The number of the step's value."""
        self.steps.append(Step(formula, operands))
        return self.inputs + len(self.steps) - 1

    def chain(self, name: str, *outputs: int) -> Chain:
        return Chain(name, ("f",) * self.inputs, tuple(self.steps), tuple((k, "f") for k in outputs))


@cache
def _sgd(decays: bool) -> Chain:
    steps, (param, grad, rate) = _Steps(3), range(3)
    if decays:
        grad = steps.add("axpy", grad, param)
    return steps.chain("sgd_update", steps.add("minus_product", param, grad, rate))


@cache
def _sgd_momentum(decays: bool, nesterov: bool) -> Chain:
    steps, (param, grad, buffer, rate, fresh) = _Steps(5), range(5)
    if decays:
        grad = steps.add("axpy", grad, param)
    new = direction = steps.add("mix", buffer, grad, fresh)
    if nesterov:
        direction = steps.add("axpy", grad, new)
    return steps.chain("sgd_momentum_update", steps.add("minus_product", param, direction, rate), new)


@cache
def _adam(decays: bool, decoupled: bool) -> Chain:
    steps, (param, grad, avg, avg_sq, step_size, eps, keep) = _Steps(7), range(7)
    if decays:
        grad = steps.add("axpy", grad, param)
    avg = steps.add("blend", avg, grad)
    avg_sq = steps.add("blend_squares", avg_sq, grad)
    ratio = steps.add("over_root", avg, avg_sq, eps)
    if decoupled:
        param = steps.add("mul", param, keep)
    return steps.chain("adam_update", steps.add("minus_product", param, ratio, step_size), avg, avg_sq)


def sgd_update(rt: Any, new_param: Any, param: Any, grad: Any, rate: Any, *, weight_decay: float) -> None:
    need_kernel("sgd_update", param)
    run(rt, _sgd(bool(weight_decay)), (new_param,), (param, grad, rate), _given(weight_decay))


def _given(weight_decay: float) -> tuple[float, ...]:
    return (weight_decay,) if weight_decay else ()


def sgd_momentum_update(
    rt: Any,
    new_param: Any,
    new_buffer: Any,
    param: Any,
    grad: Any,
    buffer: Any,
    rate: Any,
    fresh: Any,
    *,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    need_kernel("sgd_momentum_update", param)
    chain = _sgd_momentum(bool(weight_decay), nesterov)
    numbers = (*_given(weight_decay), *(momentum,) * (1 + nesterov))
    run(rt, chain, (new_param, new_buffer), (param, grad, buffer, rate, fresh), numbers)


def adam_update(
    rt: Any,
    new_param: Any,
    new_exp_avg: Any,
    new_exp_avg_sq: Any,
    *inputs: Any,
    beta1: float,
    beta2: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """`inputs`: param, grad, exp_avg, exp_avg_sq, step_size, eps, keep."""
    need_kernel("adam_update", inputs[0])
    chain = _adam(bool(weight_decay), decoupled)
    numbers = (*_given(weight_decay), beta1, 1 - beta1, beta2, 1 - beta2)
    run(rt, chain, (new_param, new_exp_avg, new_exp_avg_sq), inputs, numbers)


# --- schedules --------------------------------------------------------------------------------------------------------

SGD_SCHEDULE = triton("pointwise_optim", "sgd_schedule", warps=1)
ADAM_SCHEDULE = triton("pointwise_optim", "adam_schedule", warps=1)


def _bits(value: float) -> np.int64:
    """The float64 as an integer of the same bits."""
    return np.float64(value).view(np.int64)


def sgd_schedule(
    rt: Any, next_step: Any, rate: Any, fresh: Any, step: Any, lr: Any, *, dampening: float, dtype: str
) -> None:
    launch(SGD_SCHEDULE, (1,), (next_step, rate, fresh, step, lr, _bits(dampening)), rt.stream)


def adam_schedule(
    rt: Any,
    next_step: Any,
    step_size: Any,
    small: Any,
    keep: Any,
    step: Any,
    lr: Any,
    *,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    dtype: str,
) -> None:
    options = [_bits(v) for v in (beta1, beta2, eps, weight_decay)]
    launch(ADAM_SCHEDULE, (1,), (next_step, step_size, small, keep, step, lr, *options), rt.stream)


# --- what the gate compiles -------------------------------------------------------------------------------------------


def _variants() -> list[Variant]:
    updates = [_sgd(d) for d in (False, True)]
    updates += [_sgd_momentum(d, n) for d in (False, True) for n in (False, True)]
    updates += [_adam(*options) for options in ((False, False), (False, True), (True, False))]
    found = []
    for chain in updates:
        arrays = len(chain.outputs) + len(chain.inputs)
        scalars = {"sgd_update": 1, "sgd_momentum_update": 2, "adam_update": 3}[chain.name]
        way = layout.Layout(("v",) * (arrays - scalars) + ("s",) * scalars, 0, (), (), (layout.POINTWISE,))
        found.append(variant(chain, way, ["float32"] * arrays))
    for dtype in ("float32", "float64"):
        ends, clock = f"*{dtype}", ("*int64", "*float64")
        for wide in (True, False):
            found.append(Variant(SGD_SCHEDULE, ("*int64", ends, ends, *clock, "int64"), wide))
            found.append(Variant(ADAM_SCHEDULE, ("*int64", ends, ends, ends, *clock, *("int64",) * 4), wide))
    return found


VARIANTS = tuple(_variants())
