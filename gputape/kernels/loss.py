"""Host side of the losses that compare two arrays element by element."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from ..aval import Aval
from ..backend import scratch as _scratch
from ..errors import ArgumentError
from ._steps import PAIRS, split, step
from ._sums import add_up
from .launch import Kernel, Variant, covering, launch, need_kernel, triton
from .tiles import POINTWISE, cdiv

KINDS = ("square", "size", "huber")  # of distance
BLOCK = 2048  # elements that a program adds up at a time


def _partial_sums(input: Aval, *rest: Any, reduction: str, **options: Any) -> list[Aval]:
    groups = split(1, input.size, BLOCK)[1]
    return [] if reduction == "none" or groups == 1 else [Aval((groups,), "float32")]


# --- distances --------------------------------------------------------------------------------------------------------


@_scratch(_partial_sums)
def mse_loss(rt: Any, y: Any, input: Any, target: Any, *, reduction: str, scratch: Sequence[Any] = ()) -> None:
    _distance(rt, "mse_loss", "square", y, input, target, reduction, scratch)


@_scratch(_partial_sums)
def l1_loss(rt: Any, y: Any, input: Any, target: Any, *, reduction: str, scratch: Sequence[Any] = ()) -> None:
    _distance(rt, "l1_loss", "size", y, input, target, reduction, scratch)


@_scratch(_partial_sums)
def smooth_l1_loss(
    rt: Any, y: Any, input: Any, target: Any, *, reduction: str, beta: float, scratch: Sequence[Any] = ()
) -> None:
    kind, factor = ("huber", 1 / beta) if beta else ("size", 1.0)
    _distance(rt, "smooth_l1_loss", kind, y, input, target, reduction, scratch, float(beta), factor)


@_scratch(_partial_sums)
def huber_loss(
    rt: Any, y: Any, input: Any, target: Any, *, reduction: str, delta: float, scratch: Sequence[Any] = ()
) -> None:
    _distance(rt, "huber_loss", "huber", y, input, target, reduction, scratch, float(delta))


def _distance(
    rt: Any,
    op: str,
    kind: str,
    y: Any,
    input: Any,
    target: Any,
    reduction: str,
    parts: Sequence[Any],
    width: float = 0.0,
    factor: float = 1.0,
) -> None:
    need_kernel(op, input)
    x, t = rt.packed(input), rt.packed(target)
    _run(rt, _kernel_of("distance"), reduction, y, (x, t), (width, factor, KINDS.index(kind)), parts)


# --- binary cross entropy ---------------------------------------------------------------------------------------------


@_scratch(_partial_sums)
def binary_cross_entropy_with_logits(
    rt: Any,
    y: Any,
    input: Any,
    target: Any,
    weight: Any,
    pos_weight: Any,
    *,
    reduction: str,
    scratch: Sequence[Any] = (),
) -> None:
    need_kernel("binary_cross_entropy_with_logits", input)
    _entropy(rt, True, y, input, target, weight, pos_weight, reduction, scratch)


@_scratch(_partial_sums)
def binary_cross_entropy(
    rt: Any, y: Any, input: Any, target: Any, weight: Any, *, reduction: str, scratch: Sequence[Any] = ()
) -> None:
    """On a GPU, a value outside [0, 1] gives NaN; emulated, it is named as on the CPU."""
    need_kernel("binary_cross_entropy", input)
    if rt.stream.machine == "emulated":
        _check_probabilities(input)
    _entropy(rt, False, y, input, target, weight, None, reduction, scratch)


def _check_probabilities(input: Any) -> None:
    flat = input.reshape(-1).astype(np.float32)
    wrong = ~((flat >= 0) & (flat <= 1))
    if wrong.any():
        at = int(wrong.argmax())
        raise ArgumentError(
            f"binary_cross_entropy: input[{at}] (in flat order) is {float(flat[at])}, which is not in [0, 1]. "
            "Pass probabilities, or logits to binary_cross_entropy_with_logits."
        )


def _entropy(
    rt: Any,
    logits: bool,
    y: Any,
    input: Any,
    target: Any,
    weight: Any,
    pos_weight: Any,
    reduction: str,
    parts: Sequence[Any],
) -> None:
    x, t = rt.packed(input), rt.packed(target)
    w, q = (x if a is None else rt.packed(rt.expanded(a, x.shape)) for a in (weight, pos_weight))
    given = (int(weight is not None), int(pos_weight is not None))
    _run(rt, _kernel_of("binary_cross_entropy", LOGITS=logits), reduction, y, (x, t, w, q), given, parts)


# --- launches ---------------------------------------------------------------------------------------------------------


def _run(
    rt: Any,
    kernel_of: Any,
    reduction: str,
    y: Any,
    inputs: tuple[Any, ...],
    options: tuple[Any, ...],
    parts: Sequence[Any],
) -> None:
    n = inputs[0].size
    if reduction == "none":
        arguments = (y, *inputs, np.int64(n), POINTWISE, 1.0, *options)
        launch(kernel_of(False), (cdiv(n, POINTWISE),), arguments, rt.stream)
        return
    group, groups = split(1, n, BLOCK)
    divisor = float(n) if reduction == "mean" else 1.0
    out = parts[0] if parts else y
    arguments = (out, *inputs, np.int64(n), group, 1.0 if parts else divisor, *options)
    launch(kernel_of(True), (groups,), arguments, rt.stream)
    if parts:
        add_up(rt, y, out, [step(1, groups, 1, whole=True)], (), divisor)


def _kernel_of(name: str, **constants: Any) -> Any:
    return lambda total: _kernel(name, total, **constants)


@cache
def _kernel(name: str, total: bool, **constants: Any) -> Kernel:
    block, warps = (BLOCK, 8) if total else (POINTWISE, 4)
    return triton("loss", name, divisible=("n", "group"), warps=warps, **constants, TOTAL=total, BLOCK=block)


def _variants() -> list[Variant]:
    found = []
    kinds: list[tuple[str, int, dict[str, Any], tuple[str, ...]]]
    kinds = [("distance", 2, {}, ("float32", "float32", "int32"))]
    kinds += [("binary_cross_entropy", 4, {"LOGITS": logits}, ("int32",) * 2) for logits in (False, True)]
    for name, inputs, constants, options in kinds:
        for x, y in PAIRS:
            if x == "float32" != y:
                continue
            types = (f"*{y}", *(f"*{x}",) * inputs, "int64", "int32", "float32", *options)
            for wide in (True, False):
                found += [Variant(_kernel(name, t, **constants), types, wide) for t in (True, False) if t or x == y]
    return found


VARIANTS = covering(_variants())
