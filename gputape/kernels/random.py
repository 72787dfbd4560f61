"""Host side of the random ops. `ops/random.py` says which word of the stream feeds which element."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..aval import Aval
from ..backend import scratch
from ..ops.random import BITS, keep_factor, threshold
from ._sort import argsort as _argsort
from .launch import FLOATS, Kernel, Variant, covering, launch, need_kernel, triton
from .tiles import cdiv

LANES = 256  # per program, four words each


def random_bits(rt: Any, y: Any, state: Any, *, shape: tuple[int, ...], offset: int) -> None:
    _launch(rt, BITS_KERNEL, y, state, offset)


def random_uniform(rt: Any, y: Any, state: Any, *, shape: tuple[int, ...], dtype: str, offset: int) -> None:
    bits = BITS[need_kernel("random_uniform", y)]
    _launch(rt, _uniform(bits), y, state, offset, 2.0**-bits)


def random_normal(rt: Any, y: Any, state: Any, *, shape: tuple[int, ...], dtype: str, offset: int) -> None:
    """Within 2⁻¹⁹ of the exact value, before the result is rounded to a 16-bit dtype."""
    need_kernel("random_normal", y)
    _launch(rt, NORMAL, y, state, offset)


def random_bernoulli(rt: Any, y: Any, state: Any, *, shape: tuple[int, ...], p: float, offset: int, dtype: str) -> None:
    need_kernel("random_bernoulli", y)
    _launch(rt, CHOICE, y, state, offset, threshold(p), 1.0, 0.0)


def dropout_mask(rt: Any, y: Any, state: Any, *, shape: tuple[int, ...], p: float, offset: int, dtype: str) -> None:
    need_kernel("dropout_mask", y)
    _launch(rt, CHOICE, y, state, offset, threshold(p), 0.0, keep_factor(p))


@scratch(lambda state, *, n, offset: [Aval((n,), "int64")])
def random_permutation(rt: Any, y: Any, state: Any, *, n: int, offset: int, scratch: list[Any]) -> None:
    (keys,) = scratch
    _launch(rt, KEYS, keys, state, offset, each=2)
    _argsort(rt, keys, y)


def _launch(rt: Any, kernel: Kernel, y: Any, state: Any, offset: int, *values: Any, each: int = 4) -> None:
    """`each`: elements per lane."""
    programs = cdiv(y.size, LANES * each)
    launch(kernel, (programs,), (y, rt.packed(state), np.int64(offset), np.int64(y.size), *values), rt.stream)


@cache
def _uniform(bits: int) -> Kernel:
    return triton("random", "random_uniform", divisible=("n",), BITS=bits, BLOCK=LANES)


BITS_KERNEL, CHOICE, NORMAL, KEYS = (
    triton("random", name, divisible=("n",), BLOCK=LANES)
    for name in ("random_bits", "random_choice", "random_normal", "random_keys")
)


def _variants() -> list[Variant]:
    found = []
    state, sizes = "*int64", ("int64", "int64")
    for wide in (True, False):
        found += [Variant(kernel, ("*int64", state, *sizes), wide) for kernel in (BITS_KERNEL, KEYS)]
        for dtype in FLOATS:
            y = f"*{dtype}"
            found.append(Variant(_uniform(BITS[dtype]), (y, state, *sizes, "float32"), wide))
            found.append(Variant(NORMAL, (y, state, *sizes), wide))
            found.append(Variant(CHOICE, (y, state, *sizes, "int32", "float32", "float32"), wide))
    return found


VARIANTS = covering(_variants())
