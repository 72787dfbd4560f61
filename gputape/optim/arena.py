"""Flat arenas: the parameters of a group, and each kind of their state, one after another in one piece of memory.

So one launch (on a CPU one row of NumPy calls) updates all of them. A parameter's array is then a view of its arena.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np

from ..arrays import memory_of
from ..ops.optim import packed_size
from ..variable import Cell


class Arena:
    """Parameters of one dtype and memory, with their state.

    Attributes:
        params: the parameters, in order.
        param: all of them as one vector.
        state: name → that state of all of them as one vector.
    """

    def __init__(self, params: list[Cell], states: Mapping[Cell, Mapping[str, Cell]]) -> None:
        self.params, self._states = params, [states[p] for p in params]
        self._move_in()

    def _move_in(self) -> None:
        self.param = _whole(self.params)
        self.state = {name: _whole([state[name] for state in self._states]) for name in self._states[0]}
        for p in self.params:
            p.pinned = True

    @property
    def holds(self) -> bool:
        """Whether the parameters still live here: another optimizer may have taken one over."""
        if self.param is None:  # a copy of an arena: the cells are copies of their own
            self._move_in()
        return all(p.whole is self.param for p in self.params)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "param": None, "state": {}}


def arenas(params: list[Cell], states: Mapping[Cell, Mapping[str, Cell]]) -> Iterator[Arena]:
    """One arena for the parameters of each dtype; none for a parameter that is alone."""
    kinds = sorted(params, key=lambda p: p.aval.dtype)  # stable
    for _, same in groupby(kinds, key=lambda p: p.aval.dtype):
        members = list(same)
        if len(members) > 1:
            yield Arena(members, states)


def _whole(parts: list[Cell]) -> Cell:
    """A cell that holds the contents of `parts`, laid out as the op `pack` does; their arrays become views of it."""
    memory, start = memory_of(parts[0].array), 0
    sizes = [packed_size(p.aval) for p in parts]
    whole = Cell(np.zeros(sum(sizes), parts[0].dtype), name=parts[0].name, memory=memory)
    for p, size in zip(parts, sizes, strict=True):
        view = whole.array[start : start + math.prod(p.shape)].reshape(p.shape)
        memory.write(view, p.array)
        p.array, p.whole, p.start = view, whole, start
        start += size
    whole.parts = tuple(parts)
    return whole
