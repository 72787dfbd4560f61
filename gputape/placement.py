"""Where the values of a recorded program live: in one arena, planned by liveness; what an update writes, in the memory
of the cell that it is for; what is joined into one vector, in that vector from the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .arrays import ALIGNMENT, memory_of, overlap
from .aval import Aval, contiguous_strides
from .node import Node
from .variable import Cell

Key = tuple[int, int]  # (id of the node that computes it, which of its outputs)
Ints = tuple[int, ...]


@dataclass
class Program:
    """What is to be placed.

    Attributes:
        record: the nodes, in the order in which they run.
        inputs: id → ids of what the node reads.
        cells: id of a leaf → the cell that it reads.
        effects: cell → id of the value that it is given at the end.
        kept: ids of further values that are read at the end.
        scratch: id → avals of the work buffers that the node's body wants.
    """

    record: Sequence[Node]
    inputs: Mapping[int, tuple[int | None, ...]]
    cells: Mapping[int, Cell]
    effects: Mapping[Cell, int]
    kept: Sequence[int]
    scratch: Mapping[int, Sequence[Aval]]
    home: dict[int, Key] = field(init=False)  # id → whose memory its value is in

    def __post_init__(self) -> None:
        self.home = {}
        for i, node in enumerate(self.record):
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
        joins: ids of the nodes that have nothing to do: their inputs are computed where they belong.
        zeroed: those of them with room between the inputs, which is to be filled with zeros once.

    Args:
        strided: whether values may be computed in another than C order where that saves a copy. (What reads them may
            then sum in another order.)
    """

    def __init__(self, program: Program, memory: Any, strided: bool) -> None:
        self.program, self._strided = program, strided
        self.last = self._last_uses()
        self.in_cell = self._updates_in_place(memory)
        self.joins: set[int] = set()
        self.zeroed: set[int] = set()
        self._within = self._joined()
        spans = self._spans()
        blocks: list[tuple[Any, int, int, int]] = []
        for i in filter(program.runs, range(len(program.record))):
            for k, a in enumerate(program.record[i].avals):
                if a is not None and (i, k) not in self.in_cell and (i, k) not in self._within:
                    blocks.append(((i, k), aligned(a.nbytes), *spans[i, k]))
            blocks.append((("scratch", i), sum(aligned(a.nbytes) for a in program.scratch[i]), i, i))
        self._offsets, self.size = pack(blocks)

    def output(self, i: int, k: int) -> tuple[int, Aval, tuple[int, Ints] | None]:
        """Where output `k` of node `i` lies: a place in the arena, what lies there, and (offset, strides) in that, in
        elements; None if it is that itself."""
        within = self._within.get((i, k))
        j, m = (i, k) if within is None else within[0]
        whole = self.program.record[j].avals[m]
        assert whole is not None
        return self._offsets[j, m], whole, None if within is None else within[1:]

    def scratch(self, i: int) -> int:
        """Where the work buffers of node `i` begin in the arena."""
        return self._offsets["scratch", i]

    def _last_uses(self) -> dict[Key, int]:
        """Value → the last node that reads it."""
        program, last = self.program, {}
        for i in range(len(program.record)):
            for j in program.inputs[i] if program.runs(i) else ():
                if j is not None:
                    last[program.home[j]] = i
        for i in (*program.kept, *program.effects.values()):
            last[program.home[i]] = len(program.record)
        return last

    def _spans(self) -> dict[Key, tuple[int, int]]:
        """Value → the first and the last node that needs its memory."""
        program = self.program
        spans: dict[Key, tuple[int, int]] = {}
        for i in filter(program.runs, range(len(program.record))):
            for k in range(len(program.record[i].avals)):
                key = self._within[i, k][0] if (i, k) in self._within else (i, k)
                first, last = spans.get(key, (i, i))
                spans[key] = min(first, i), max(last, self.last.get((i, k), i))
        whole = -1, len(program.record)  # what lies between the parts is zero, once and for all
        return spans | {(i, 0): whole for i in self.zeroed}

    def _updates_in_place(self, memory: Any) -> dict[Key, Cell]:
        program, found = self.program, {}
        leaves = {i: program.cells[i] for i in range(len(program.record)) if i in program.cells}
        cells = list(program.effects)
        for cell, i in program.effects.items():
            key = program.home[i]
            at = program.record[key[0]].at
            alone = not any(other is not cell and overlap(other.array, cell.array) for other in cells)
            if not (program.whole(i) and alone and memory_of(cell.array) is memory) or key in found:
                continue
            if at.outs[key[1]] is cell.aval and all(
                self._read_before(
                    key[0], leaf, other is cell and at.op.inplace and self._reads_as_it_lies(key[0], leaf)
                )
                for leaf, other in leaves.items()
                if overlap(other.array, cell.array)
            ):
                found[key] = cell
        return found

    def _reads_as_it_lies(self, i: int, leaf: int) -> bool:
        """Whether node `i` reads a leaf itself, and no views of it."""
        return all(j == leaf or self.program.home[j] != (leaf, 0) for j in self.program.inputs[i] if j is not None)

    def _read_before(self, i: int, leaf: int, may_be_input: bool) -> bool:
        """Whether the value of a leaf is no longer needed when node `i` writes over it."""
        last = self.last.get((leaf, 0), -1)
        return last < i or (last == i and may_be_input)

    def _joined(self) -> dict[Key, tuple[Key, int, Ints]]:
        """Value → (value in whose memory it is computed, offset, strides in elements), where that saves a copy."""
        program = self.program
        found: dict[Key, tuple[Key, int, Ints]] = {}
        for i in filter(program.runs, reversed(range(len(program.record)))):  # what is outermost comes first
            at, key = program.record[i].at, (i, 0)
            whole = at.out is not None and sum(a.size for a in at.ins if a is not None) == at.out.size
            if at.op.places is None or key in self.in_cell or (key in found and not whole):
                continue
            base, start, strides = found.get(key, (key, 0, contiguous_strides(at.out.shape)))
            spots = at.op.places(strides, *at.ins, **at.attrs)
            if spots is None:
                continue
            parts = [self._seen(j, spot, base) for j, spot in zip(program.inputs[i], spots, strict=True)]
            keys = [part[0] for part in parts if part is not None]
            if len(set(keys)) == len(at.ins) and not any(k in found or k == base for k in keys):
                found |= {k: (base, start + offset, steps) for k, offset, steps in filter(None, parts)}
                self.joins.add(i)
                self.zeroed |= set() if whole else {i}
        return found

    def _seen(self, j: int | None, spot: tuple[int, Ints], base: Key) -> tuple[Key, int, Ints] | None:
        """(what a body computes that is seen as node `j`, where it would be computed for `j` to be at `spot`), if that
        body can write there."""
        program, (offset, strides) = self.program, spot
        assert j is not None
        key = program.home[j]
        while j != key[0] and program.record[j].op != "output":
            at = program.record[j].at
            found = None if at.op.unview is None else at.op.unview(strides, *at.ins, **at.attrs)
            if found is None:
                return None
            j, strides = program.inputs[j][0], found
            assert j is not None
        if not program.runs(key[0]) or key in self.in_cell:
            return None
        at = program.record[key[0]].at
        made, target = at.outs[key[1]], program.record[base[0]].at.outs[base[1]]
        plain = zip(made.shape, strides, contiguous_strides(made.shape), strict=True)
        fits = all(s == c or n == 1 for n, s, c in plain) or (
            self._strided and at.op.outputs[key[1]] in at.op.strided and self._viewable(key, strides)
        )
        return (key, offset, strides) if fits and made.dtype == target.dtype else None

    def _viewable(self, key: Key, strides: Ints) -> bool:
        """Whether all views of a value are views of it with these strides, too."""
        program, seen = self.program, {key[0]: strides}
        for i, home in program.home.items():
            if home != key or i == key[0]:
                continue
            at, j = program.record[i].at, program.inputs[i][0]
            if program.record[i].op == "output":
                seen[i] = strides
            elif at.op.view is not None and j in seen:
                found = at.op.view(at.ins[0].shape, seen[j], **at.attrs)
                if found is None:
                    return False
                seen[i] = found[1]
        return True


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
