"""Large NumPy arrays whose memory is used again.

The C library maps fresh memory for every large array and gives it back when the array dies, so that each op pays for
paging it in: in a training step as much as for a fifth of its arithmetic. Here an array that nobody but this module
refers to any more is handed out again for the next result of its shape.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np

SMALLEST = 64 * 2**10  # bytes; below it the C library keeps freed memory itself
KEPT = 256 * 2**20  # bytes that a thread holds on to, used and unused


def _references_of_the_unused() -> int:
    """What `getrefcount` gives inside `_Recycled.empty` for an array that only its row refers to."""
    for array in [np.empty(0)]:
        return sys.getrefcount(array)
    raise AssertionError


class _Recycled(threading.local):
    """The arrays of one thread, by shape and dtype."""

    def __init__(self) -> None:
        self._rows: dict[tuple[tuple[int, ...], np.dtype], list[np.ndarray]] = {}
        self._held = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """As numpy.empty."""
        row = self._rows.setdefault((shape, dtype), [])
        for array in row:
            # Whoever got it may have frozen it or given it another shape.
            if sys.getrefcount(array) == UNUSED and array.flags.writeable and array.shape == shape:
                return array
        made = np.empty(shape, dtype)
        if self._held + made.nbytes > KEPT:
            self._drop_unused()
        if self._held + made.nbytes <= KEPT:
            row.append(made)
            self._held += made.nbytes
        return made

    def _drop_unused(self) -> None:
        for key, row in list(self._rows.items()):
            for k in reversed(range(len(row))):
                if sys.getrefcount(row[k]) < UNUSED:  # the loop above has a name for it, and here there is none
                    self._held -= row[k].nbytes
                    del row[k]
            if not row:
                del self._rows[key]


UNUSED = _references_of_the_unused()
_recycled = _Recycled()


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """As numpy.empty, of memory that was used before where there is some."""
    return _recycled.empty(shape, dtype)
