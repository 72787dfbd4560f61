"""The BLAS that NumPy multiplies matrices with."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

UNPACKED = 10**6  # M·N·K of the largest product that OpenBLAS does not pack its factors for, with AVX-512
_ALONE = ContextVar("gputape_blas_alone", default=False)
_WITH_AVX512 = ("SkylakeX", "Cooperlake", "SapphireRapids")


@functools.cache
def libraries() -> list[Any]:
    """What sets the threads of each BLAS library that is loaded."""
    from threadpoolctl import ThreadpoolController  # 20 ms, which only large products and compiled steps need

    return ThreadpoolController().select(user_api="blas").lib_controllers


def _openblas() -> list[Any]:
    """Those of OpenBLAS: others that are loaded serve other packages."""
    return [b for b in libraries() if b.internal_api == "openblas"]


@functools.cache
def leaves_small_unpacked() -> bool:
    """Whether a float32 product of at most UNPACKED is quicker than its share of a larger one."""
    found = _openblas()
    return bool(found) and all(b.architecture in _WITH_AVX512 for b in found)


@contextlib.contextmanager
def with_one_thread(known: bool) -> Iterator[None]:
    """Inside, if it is `known`: what asks will run on one of several threads of a replay, and BLAS has one in the
    meantime, whatever it has now."""
    token = _ALONE.set(known)
    try:
        yield
    finally:
        _ALONE.reset(token)


def at_a_time(elements: int) -> int:
    """How many elements a body should work on at a time, if alone it is fastest with `elements`, which stay in a
    second-level cache. Threads wait for each other between calls, as they take turns with Python's lock: fewer and
    longer calls are better then."""
    return 4 * elements if _ALONE.get() else elements


def better_in_parts(size: int) -> bool:
    """Whether a float32 product of `size` = M·N·K is quicker in parts of at most UNPACKED: not if it is large enough
    for BLAS to use several threads, and has them."""
    if size <= UNPACKED or not leaves_small_unpacked():
        return False
    return size <= 2 * UNPACKED or _ALONE.get() or all(b.num_threads == 1 for b in _openblas())
