"""Host side of the optimizer updates: chains of formulas, one launch per update, and a program for each schedule.

An update does not care what its arrays are: a parameter, or a flat arena that holds all parameters of a group. Each
element is read before it is written, so that outputs may be the memory of inputs.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np

from ..ops.optim import PACK
from . import layout
from ._copy import BITS, bits
from .expression import Chain, Step
from .generated import run, variant
from .launch import Kernel, Variant, covering, launch, need_kernel, triton
from .tiles import POINTWISE, cdiv


class _Steps:
    """Collects the steps of a chain whose inputs are all floating point, but for the flag that comes last."""

    def __init__(self, inputs: int, skips: bool) -> None:
        self.kinds = ("f",) * inputs + ("b",) * skips
        self.flag = inputs if skips else None
        self.steps: list[Any] = []

    def add(self, formula: str, *operands: int) -> int:
        """The number of the step's value."""
        self.steps.append(Step(formula, operands))
        return len(self.kinds) + len(self.steps) - 1

    def chain(self, name: str, *news: tuple[int, int]) -> Chain:
        """The chain that stores each (new, old): the old value where the update is skipped."""
        kept = [new if self.flag is None else self.add("where", self.flag, old, new) for new, old in news]
        return Chain(name, self.kinds, tuple(self.steps), tuple((k, "f") for k in kept))


@cache
def _sgd(decays: bool, skips: bool) -> Chain:
    steps, (param, grad, rate) = _Steps(3, skips), range(3)
    if decays:
        grad = steps.add("axpy", grad, param)
    return steps.chain("sgd_update", (steps.add("minus_product", param, grad, rate), param))


@cache
def _sgd_momentum(decays: bool, nesterov: bool, skips: bool) -> Chain:
    steps, (param, grad, buffer, rate, fresh) = _Steps(5, skips), range(5)
    if decays:
        grad = steps.add("axpy", grad, param)
    new = direction = steps.add("mix", buffer, grad, fresh)
    if nesterov:
        direction = steps.add("axpy", grad, new)
    moved = steps.add("minus_product", param, direction, rate)
    return steps.chain("sgd_momentum_update", (moved, param), (new, buffer))


@cache
def _adam(decays: bool, decoupled: bool, skips: bool, amsgrad: bool = False) -> Chain:
    steps = _Steps(7 + amsgrad, skips)
    param, grad, avg, avg_sq, *largest, step_size, eps, keep = range(7 + amsgrad)
    if decays:
        grad = steps.add("axpy", grad, param)
    new_avg = steps.add("blend", avg, grad)
    new_avg_sq = steps.add("blend_squares", avg_sq, grad)
    squares = [(new_avg_sq, avg_sq), *((steps.add("maximum", old, new_avg_sq), old) for old in largest)]
    ratio = steps.add("over_root", new_avg, squares[-1][0], eps)
    start = steps.add("mul", param, keep) if decoupled else param
    moved = steps.add("minus_product", start, ratio, step_size)
    return steps.chain("amsgrad_update" if amsgrad else "adam_update", (moved, param), (new_avg, avg), *squares)


def _given(weight_decay: float) -> tuple[float, ...]:
    return (weight_decay,) if weight_decay else ()


def _update(rt: Any, chain: Chain, outs: tuple[Any, ...], inputs: tuple[Any, ...], numbers: tuple[float, ...]) -> None:
    """`inputs` end in the flag or None."""
    need_kernel(chain.name, inputs[0])
    run(rt, chain, outs, inputs if inputs[-1] is not None else inputs[:-1], numbers)


def sgd_update(rt: Any, new_param: Any, *inputs: Any, weight_decay: float) -> None:
    """`inputs`: param, grad, rate, skip."""
    chain = _sgd(bool(weight_decay), inputs[-1] is not None)
    _update(rt, chain, (new_param,), inputs, _given(weight_decay))


def sgd_momentum_update(
    rt: Any, new_param: Any, new_buffer: Any, *inputs: Any, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    """`inputs`: param, grad, buffer, rate, fresh, skip."""
    chain = _sgd_momentum(bool(weight_decay), nesterov, inputs[-1] is not None)
    numbers = (*_given(weight_decay), *(momentum,) * (1 + nesterov))
    _update(rt, chain, (new_param, new_buffer), inputs, numbers)


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
    """`inputs`: param, grad, exp_avg, exp_avg_sq, step_size, eps, keep, skip."""
    chain = _adam(bool(weight_decay), decoupled, inputs[-1] is not None)
    numbers = (*_given(weight_decay), beta1, 1 - beta1, beta2, 1 - beta2)
    _update(rt, chain, (new_param, new_exp_avg, new_exp_avg_sq), inputs, numbers)


def amsgrad_update(
    rt: Any,
    new_param: Any,
    new_exp_avg: Any,
    new_exp_avg_sq: Any,
    new_max_exp_avg_sq: Any,
    *inputs: Any,
    beta1: float,
    beta2: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """`inputs`: param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, step_size, eps, keep, skip."""
    chain = _adam(bool(weight_decay), decoupled, inputs[-1] is not None, amsgrad=True)
    numbers = (*_given(weight_decay), beta1, 1 - beta1, beta2, 1 - beta2)
    _update(rt, chain, (new_param, new_exp_avg, new_exp_avg_sq, new_max_exp_avg_sq), inputs, numbers)


# --- schedules --------------------------------------------------------------------------------------------------------

SGD_SCHEDULE, ADAM_SCHEDULE = (
    {skips: triton("pointwise_optim", name, warps=1, SKIPS=skips) for skips in (False, True)}
    for name in ("sgd_schedule", "adam_schedule")
)


def _bits(value: float) -> np.int64:
    """The float64 as an integer of the same bits."""
    return np.float64(value).view(np.int64)


def _schedule(rt: Any, kernels: dict[bool, Kernel], arrays: tuple[Any, ...], skip: Any, options: list[Any]) -> None:
    flag = arrays[0] if skip is None else skip  # a kernel that does not skip leaves it alone
    launch(kernels[skip is not None], (1,), (*arrays, flag, *options), rt.stream)


def sgd_schedule(
    rt: Any, next_step: Any, rate: Any, fresh: Any, step: Any, lr: Any, skip: Any, *, dampening: float, dtype: str
) -> None:
    _schedule(rt, SGD_SCHEDULE, (next_step, rate, fresh, step, lr), skip, [_bits(dampening)])


def adam_schedule(
    rt: Any,
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
    options = [_bits(v) for v in (beta1, beta2, eps, weight_decay)]
    _schedule(rt, ADAM_SCHEDULE, (next_step, step_size, small, keep, step, lr), skip, options)


# --- vectors of all parameters ----------------------------------------------------------------------------------------

SEVERAL = 8  # arrays that one launch packs
PACKED = triton(
    "pointwise_optim", "pack", divisible=tuple(f"n{k}" for k in range(SEVERAL)), warps=2, BLOCK=POINTWISE, PACK=PACK
)


def pack(rt: Any, y: Any, *arrays: Any) -> None:
    start, filled = 0, [x for x in arrays if x.size]
    for k in range(0, len(filled), SEVERAL):
        some = filled[k : k + SEVERAL]
        spare = SEVERAL - len(some)
        sources = [bits(rt.packed(x)) for x in some] + [bits(y)] * spare
        sizes = [x.size for x in some] + [0] * spare
        programs = sum(cdiv(n, POINTWISE) for n in sizes)
        launch(PACKED, (programs,), (bits(y), *sources, np.int64(start), *sizes), rt.stream)
        start += sum(cdiv(n, PACK) * PACK for n in sizes)


# --- what the gate compiles -------------------------------------------------------------------------------------------


def _variants() -> list[Variant]:
    found = []
    for skips in (False, True):
        updates = [_sgd(d, skips) for d in (False, True)]
        updates += [_sgd_momentum(d, n, skips) for d in (False, True) for n in (False, True)]
        kinds = ((False, False), (False, True), (True, False))
        updates += [_adam(*options, skips, amsgrad) for amsgrad in (False, True) for options in kinds]
        for chain in updates:
            scalars = {"sgd_update": 1, "sgd_momentum_update": 2}.get(chain.name, 3) + skips
            dtypes = ["float32"] * (len(chain.outputs) + len(chain.inputs) - skips) + ["bool"] * skips
            codes = ("v",) * (len(dtypes) - scalars) + ("s",) * scalars
            found.append(variant(chain, layout.Layout(codes, 0, (), (), (layout.POINTWISE,)), dtypes))
        clock = ("*int64", "*float64", "*bool" if skips else "*int64")
        for dtype, wide in product(("float32", "float64"), (True, False)):
            ends = f"*{dtype}"
            found.append(Variant(SGD_SCHEDULE[skips], ("*int64", ends, ends, *clock, "int64"), wide))
            found.append(Variant(ADAM_SCHEDULE[skips], ("*int64", ends, ends, ends, *clock, *("int64",) * 4), wide))
    for kind in BITS.values():
        types = (*(f"*{kind}",) * (1 + SEVERAL), "int64", *("int32",) * SEVERAL)
        found += [Variant(PACKED, types, wide) for wide in (True, False)]
    return found


VARIANTS = covering(_variants())
