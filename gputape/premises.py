"""What a recorded program holds under: the modes of modules and optimizers, and which parameters there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from .variable import Cell


class Premises:
    """What a program was recorded under, and whether it is still so.

    Args:
        told: what decides → the object whose attributes it is read from, or None: see `Trace.depends`.
        cells: the parameters and buffers that the program reads.
    """

    def __init__(self, told: Mapping[Callable[[], list[Any]], Any], cells: list[Cell]) -> None:
        self._told = [(read, read()) for read, holder in told.items() if holder is not None]
        self._alone = [(read, read()) for read, holder in told.items() if holder is None]
        self._cells, self._of_cells = cells, list(map(_OF_CELL, cells))
        self._attributes = [vars(holder) for holder in told.values() if holder is not None]
        self._now = list(map(dict.values, self._attributes))  # views
        self._look()

    def _look(self) -> None:
        self._sizes = list(map(len, self._attributes))
        self._names = list(chain.from_iterable(self._attributes))
        self._values = list(chain.from_iterable(self._now))

    def hold(self) -> bool:
        """Whether it is still so. Every call asks, so what is the very same is told by the loops of C."""
        for (grad, array), cell in zip(self._of_cells, self._cells):
            if cell.array is not array or cell.requires_grad is not grad:
                return False
        for read, was in self._alone:
            if not _unchanged(was, read()):
                return False
        if (
            list(map(len, self._attributes)) == self._sizes
            and all(map(is_, self._names, chain.from_iterable(self._attributes)))
            and all(map(is_, self._values, chain.from_iterable(self._now)))
        ):
            return True
        if not all(_unchanged(was, read()) for read, was in self._told):
            return False
        self._look()
        return True


_OF_CELL = attrgetter("requires_grad", "array")


def _unchanged(was: list[Any], now: list[Any]) -> bool:
    if len(was) != len(now):
        return False
    return all(map(is_, was, now)) or all(a is b or (_plain(a) and _plain(b) and a == b) for a, b in zip(was, now))


def _plain(x: Any) -> bool:
    return x is None or isinstance(x, bool | int | float | str) or (isinstance(x, tuple) and all(map(_plain, x)))
