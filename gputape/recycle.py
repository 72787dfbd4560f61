"""Large NumPy arrays whose memory is used again.

The C library maps fresh memory for every large array and gives it back when the array dies, so that each op pays for
paging it in: in a training step as much as for a fifth of its arithmetic. Here memory that nobody but this module
refers to any more is handed out again for the next result of its size.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np

from .arrays import Padded

SMALLEST = 64 * 2**10  # bytes; below it the C library keeps freed memory itself
KEPT = 256 * 2**20  # bytes that a thread holds on to, used and unused


def _references_of_the_unused() -> int:
    """What `getrefcount` gives inside `_Recycled.empty` for memory that only its row refers to."""
    for memory in [Padded(0)]:
        return sys.getrefcount(memory)
    raise AssertionError


class _Recycled(threading.local):
    """The memory of one thread's arrays, by size."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Padded]] = {}
        self._held = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """As numpy.empty, from the begin of a cache line on."""
        size = math.prod(shape) * dtype.itemsize
        for memory in self._rows.get(size, ()):
            if sys.getrefcount(memory) == UNUSED:  # the array over it refers to it, and views of that to the array
                return memory.array(shape, dtype)
        memory = Padded(size)
        if self._held + size > KEPT:
            self._drop_unused()
        if self._held + size <= KEPT:
            self._rows.setdefault(size, []).append(memory)
            self._held += size
        return memory.array(shape, dtype)

    def _drop_unused(self) -> None:
        for size, row in list(self._rows.items()):
            used = [memory for memory in row if sys.getrefcount(memory) > UNUSED]
            self._held -= size * (len(row) - len(used))
            if used:
                self._rows[size] = used
            else:
                del self._rows[size]


UNUSED = _references_of_the_unused()
_recycled = _Recycled()


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """As numpy.empty, of memory that was used before where there is some."""
    return _recycled.empty(shape, dtype)
