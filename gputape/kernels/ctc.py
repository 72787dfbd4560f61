"""Host side of the connectionist temporal classification loss: one block per sample."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..aval import Aval
from ..backend import scratch as _scratch
from ..ops.ctc import wrong_label, wrong_length
from ._pools import ELEMENT, THREADS
from .launch import FLOATS, Kernel, Variant, covering, cuda, launch, need_kernel


def ctc(rt: Any, y: Any, alpha: Any, log_probs: Any, states: Any, input_lengths: Any, target_lengths: Any) -> None:
    """On a GPU, lengths and labels out of range give NaN; emulated, they are named as on the CPU."""
    found = _kernel("ctc", need_kernel("ctc", log_probs))
    if rt.stream.machine == "emulated":
        _check(log_probs.shape, states, input_lengths, target_lengths)
    arrays = (rt.packed(x) for x in (log_probs, states, input_lengths, target_lengths))
    launch(found, (len(states),), (y, alpha, *arrays, *_sizes(log_probs, states)), rt.stream)


@_scratch(lambda dy, log_probs, states, *rest: [Aval((2, *states.shape), "float32")])
def ctc_bwd(
    rt: Any,
    dstates: Any,
    dy: Any,
    log_probs: Any,
    states: Any,
    input_lengths: Any,
    target_lengths: Any,
    alpha: Any,
    *,
    scratch: list[Any],
) -> None:
    found = _kernel("ctc_bwd", need_kernel("ctc_bwd", log_probs))
    arrays = (rt.packed(x) for x in (dy, log_probs, states, input_lengths, target_lengths, alpha))
    launch(found, (len(states),), (dstates, scratch[0], *arrays, *_sizes(log_probs, states)), rt.stream)


def _sizes(log_probs: Any, states: Any) -> tuple[int, int, int, int]:
    return (*log_probs.shape, states.shape[1])


def _check(shape: tuple[int, ...], states: Any, input_lengths: Any, target_lengths: Any) -> None:
    steps, _, classes = shape
    n, size = states.shape
    for k in range(n):
        for name, lengths, most in (("input", input_lengths, steps), ("target", target_lengths, size // 2)):
            if not 0 <= lengths[k] <= most:
                raise wrong_length(name, k, int(lengths[k]), most)
        used = states[k, : 2 * int(target_lengths[k]) + 1]
        wrong = np.flatnonzero((used < 0) | (used >= classes))
        if wrong.size:
            raise wrong_label(k, int(used[wrong[0]]), classes)


@cache
def _kernel(name: str, dtype: str) -> Kernel:
    return cuda("ctc", name, warps=THREADS // 32, ELEMENT=ELEMENT[dtype])


def _variants() -> list[Variant]:
    found, ints = [], ("*int64",) * 3
    for dtype in FLOATS:
        x, sizes = f"*{dtype}", ("int32",) * 4
        found.append(Variant(_kernel("ctc", dtype), (x, "*float32", x, *ints, *sizes)))
        found.append(Variant(_kernel("ctc_bwd", dtype), (x, "*float32", x, x, *ints, "*float32", *sizes)))
    return found


VARIANTS = covering(_variants())
