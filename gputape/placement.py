"""Where the values of a recorded program live: in one arena, planned by liveness; what an update writes, in the memory
of the cell that it is for; what is joined into one vector, in that vector from the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .arrays import NP_DTYPE, memory_of, overlap
from .aval import Aval
from .node import Node
from .variable import Cell

ALIGNMENT = 64  # bytes; a cache line, and more than any vector register

Key = tuple[int, int]  # (id of the node that computes it, which of its outputs)


@dataclass
class Program:
    """What is to be placed.

    Attributes:
        record: all nodes; `live` are the ids of those that run, `inputs` their inputs.
        cells: id of a leaf → the cell that it reads.
        effects: cell → id of the value that it is given at the end.
        kept: ids of further values that are read at the end.
        scratch: id → avals of the work buffers that the node's body wants.
    """

    record: Sequence[Node]
    live: Sequence[int]
    inputs: Mapping[int, tuple[int | None, ...]]
    cells: Mapping[int, Cell]
    effects: Mapping[Cell, int]
    kept: Sequence[int]
    scratch: Mapping[int, Sequence[Aval]]
    home: dict[int, Key] = field(init=False)  # id → whose memory its value is in

    def __post_init__(self) -> None:
        self.home = {}
        for i in self.live:
            node = self.record[i]
            parent = self.inputs[i][0] if node.inputs else None
            if node.op == "output":
                assert parent is not None
                self.home[i] = (parent, node.attrs["index"])
            else:
                self.home[i] = self.home[parent] if is_view(node) and parent is not None else (i, 0)

    def runs(self, i: int) -> bool:
        """Whether node `i` takes a call of its own."""
        node = self.record[i]
        return bool(node.inputs) and node.op != "output" and not is_view(node)

    def whole(self, i: int) -> bool:
        """Whether the value of node `i` is all of an output that a body computes."""
        return self.runs(self.home[i][0]) and not is_view(self.record[i])


def is_view(node: Node) -> bool:
    return node.at.op.view is not None


class Placement:
    """The places of a program's values.

    Attributes:
        size: bytes of the arena.
        in_cell: value → the cell in whose memory it is computed.
    """

    def __init__(self, program: Program, memory: Any) -> None:
        self.program = program
        self.last = self._last_uses()
        self.in_cell = self._updates_in_place(memory)
        joined = self._joined()
        blocks: list[tuple[Any, int, int, int]] = []
        for i in filter(program.runs, program.live):
            for k, a in enumerate(program.record[i].avals):
                if a is not None and (i, k) not in self.in_cell and (i, k) not in joined:
                    blocks.append(((i, k), aligned(a.nbytes), *self._lifetime(i, k, joined)))
            blocks.append((("scratch", i), sum(aligned(a.nbytes) for a in program.scratch[i]), i, i))
        self._offsets, self.size = pack(blocks)
        for key, (vector, start) in joined.items():
            self._offsets[key] = self._offsets[vector, 0] + start
        self.joins = {vector for vector, _ in joined.values()}

    def output(self, i: int, k: int) -> int:
        """Where output `k` of node `i` begins in the arena."""
        return self._offsets[i, k]

    def scratch(self, i: int) -> int:
        """Where the work buffers of node `i` begin in the arena."""
        return self._offsets["scratch", i]

    def _last_uses(self) -> dict[Key, int]:
        """Value → the last node that reads it."""
        program, last = self.program, {}
        for i in program.live:
            for j in program.inputs[i] if program.runs(i) else ():
                if j is not None:
                    last[program.home[j]] = i
        for i in (*program.kept, *program.effects.values()):
            last[program.home[i]] = len(program.record)
        return last

    def _lifetime(self, i: int, k: int, joined: Mapping[Key, tuple[int, int]]) -> tuple[int, int]:
        parts = [key for key, (vector, _) in joined.items() if vector == i]
        if parts:  # what lies between the parts is zero, once and for all
            return -1, len(self.program.record)
        return i, max(i, self.last.get((i, k), i))

    def _updates_in_place(self, memory: Any) -> dict[Key, Cell]:
        program, found = self.program, {}
        leaves = {i: program.cells[i] for i in program.live if i in program.cells}
        cells = list(program.effects)
        for cell, i in program.effects.items():
            key = program.home[i]
            at = program.record[key[0]].at
            alone = not any(other is not cell and overlap(other.array, cell.array) for other in cells)
            if not (program.whole(i) and alone and memory_of(cell.array) is memory) or key in found:
                continue
            if at.outs[key[1]] is cell.aval and all(
                self._read_before(key[0], leaf, other is cell and at.op.inplace)
                for leaf, other in leaves.items()
                if overlap(other.array, cell.array)
            ):
                found[key] = cell
        return found

    def _read_before(self, i: int, leaf: int, may_be_input: bool) -> bool:
        """Whether the value of a leaf is no longer needed when node `i` writes over it."""
        last = self.last.get((leaf, 0), -1)
        return last < i or (last == i and may_be_input)

    def _joined(self) -> dict[Key, tuple[int, int]]:
        """Value → (id of the vector that it is part of, offset in bytes), where it can be computed in its place."""
        program, found = self.program, {}
        for i in filter(program.runs, program.live):
            at = program.record[i].at
            if at.op.joins is None or (i, 0) in self.in_cell:
                continue
            sources = [program.home[j] for j in program.inputs[i] if j is not None and program.whole(j)]
            free = [s for s in sources if s not in self.in_cell and s not in found]
            if len(free) == len(at.ins) == len(set(free)) and not any(
                program.record[s].at.op.joins is not None for s, _ in free
            ):
                size = NP_DTYPE[at.out.dtype].itemsize
                for key, start in zip(free, at.op.joins(*at.ins, **at.attrs), strict=True):
                    found[key] = (i, start * size)
        return found


def aligned(n: int) -> int:
    """`n` bytes, rounded up."""
    return -(-n // ALIGNMENT) * ALIGNMENT


def pack(blocks: Sequence[tuple[Any, int, int, int]]) -> tuple[dict[Any, int], int]:
    """Offsets for blocks (key, bytes, first use, last use) such that no two in use at once overlap; the total size.

    Largest first, each at the lowest free offset: the greedy order of Pisarchyk and Lee, "Efficient Memory Management
    for Deep Neural Net Inference" (2020).
    """
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    offsets: dict[Any, int] = {}
    for key, size, first, last in sorted(blocks, key=lambda b: -b[1]):
        at = 0
        if size:
            for start, end, *_ in sorted(p for p in placed if p[2] <= last and first <= p[3]):
                if at + size <= start:
                    break
                at = max(at, end)
            placed.append((at, at + size, first, last))
        offsets[key] = at
    return offsets, max((end for _, end, _, _ in placed), default=0)
