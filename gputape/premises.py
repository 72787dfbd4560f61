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
        self._told = [(read, read(), holder is None) for read, holder in told.items()]
        self._cells, self._of_cells = cells, _of(cells)
        self._attributes = [vars(holder) for holder in told.values() if holder is not None]
        self._look()

    def _look(self) -> None:
        self._sizes = list(map(len, self._attributes))
        self._names = list(chain.from_iterable(self._attributes))
        self._values = list(chain.from_iterable(map(dict.values, self._attributes)))

    def hold(self) -> bool:
        """Whether it is still so. Every call asks, so what is the very same is told by the loops of C."""
        if not all(map(is_, self._of_cells, _of(self._cells))):
            return False
        same = (
            list(map(len, self._attributes)) == self._sizes
            and all(map(is_, self._names, chain.from_iterable(self._attributes)))
            and all(map(is_, self._values, chain.from_iterable(map(dict.values, self._attributes))))
        )
        for read, was, alone in self._told:
            if (alone or not same) and not _unchanged(was, read()):
                return False
        if not same:
            self._look()
        return True


def _of(cells: list[Cell]) -> list[Any]:
    return [*map(attrgetter("requires_grad"), cells), *map(attrgetter("array"), cells)]


def _unchanged(was: list[Any], now: list[Any]) -> bool:
    if len(was) != len(now):
        return False
    return all(map(is_, was, now)) or all(a is b or (_plain(a) and _plain(b) and a == b) for a, b in zip(was, now))


def _plain(x: Any) -> bool:
    return x is None or isinstance(x, bool | int | float | str) or (isinstance(x, tuple) and all(map(_plain, x)))
