"""Indices out of range, noted by the device: one integer, the lowest number of a place in the program that met one.

Reading indices on the host would wait for the device. So a kernel looks at them, that of the op or one of its own, and
the next read on the host raises; the ops themselves follow no index that is out of range and write NaN for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..aval import INTS
from ..errors import IndexRangeError
from ..node import source_line
from .launch import Variant, covering, launch, triton
from .tiles import cdiv

FIRST = -(2**62)  # the number of the first place; 0 stands for none
BLOCK = 1024
CHECK = triton("index", "check_range", divisible=("n",), warps=2, BLOCK=BLOCK)

Look = Callable[[Any, np.int64], None]  # launches a kernel that lowers the fault to the number if it meets one


class Ranges:
    """What the numbers stand for: an op, a range and a source line, numbered as the program first comes by."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, int, int, str], int] = {}

    def check(
        self,
        rt: Any,
        fault: Any,
        op: str,
        index: Any,
        size: int,
        low: int,
        ignore: int | None,
        look: Look | None,
    ) -> None:
        """Launch the check of `index` against [low, size), in which `ignore` is fine too."""
        number = FIRST + self._places.setdefault((op, size, low, rt.line or source_line()), len(self._places))
        if look is not None:
            look(fault, np.int64(number))
            return
        values = (index.size, low, size, low if ignore is None else ignore, number)
        arguments = (fault, rt.packed(index), *map(np.int64, values))
        launch(CHECK, (cdiv(index.size, BLOCK),), arguments, rt.stream)

    def error(self, number: int) -> IndexRangeError:
        """What to raise for a number that was noted."""
        op, size, low, line = list(self._places)[number - FIRST]
        return IndexRangeError(
            f"{op}: an index is out of range for size {size} ({line}). "
            + (f"Use {low} to {size - 1}." if size else "There is nothing to index.")
        )


VARIANTS = covering(
    Variant(CHECK, ("*int64", f"*{kind}", *("int64",) * 5), wide) for kind in INTS for wide in (True, False)
)
