"""One step of a computation as data, its id, and the growing list that tapes share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from .arrays import memory_of, owner_of
from .aval import Aval
from .errors import TapeError
from .registry import STRUCTURAL, At

next_uid = count().__next__

LEAF, OUTPUT = STRUCTURAL["leaf"], STRUCTURAL["output"]
_leaf_ats: dict[Aval, At] = {}


def leaf_at(aval: Aval) -> At:
    """The `At` of a leaf of that aval."""
    found = _leaf_ats.get(aval)
    if found is None:
        found = _leaf_ats[aval] = At(LEAF, (), (aval,), {}, ())
    return found


def output_at(at: At, index: int) -> At:
    """The `At` of the node for output `index` of a node of `at`."""
    return At(OUTPUT, (at.out,), (at.outs[index],), {"index": index}, ())


class Node:
    """One step of a computation, as data.

    Attributes:
        at: the op with its input avals, attributes and output avals.
        inputs: ids of the input nodes (None for an absent optional input). An input means the node's first output.
        values: the output arrays, or None once released.
        name: what the user called a leaf.
        requires_grad: whether some leaf that requires a gradient reaches this node.
        source: where the user's code made the node, as (code object or file name, instruction offset or line).
        cell: (cell, version) of the parameter whose memory the value shares, or None.
        uid: tells this node from every other, also one with the same id on another tape.
    """

    __slots__ = ("at", "inputs", "values", "requires_grad", "source", "uid", "name", "cell")

    def __init__(
        self, at: At, inputs: tuple[Any, ...], values: Any, requires_grad: bool, source: Any, uid: int
    ) -> None:
        self.at, self.inputs, self.values, self.requires_grad = at, inputs, values, requires_grad
        self.source, self.uid = source, uid
        self.name: str | None = None
        self.cell: Any = None  # (Cell, version), see variable.py

    @property
    def op(self) -> str:
        return self.at.op.name

    @property
    def attrs(self) -> dict[str, Any]:
        return self.at.attrs

    @property
    def avals(self) -> tuple[Aval | None, ...]:
        return self.at.outs

    @property
    def aval(self) -> Aval:
        return self.at.out

    @property
    def line(self) -> str:
        """The user's source line, as "file.py:12"."""
        where, at = self.source or (None, 0)
        if where is None:
            return "?"
        if isinstance(where, str):
            return f"{where}:{at}"
        return f"{where.co_filename}:{line_of(where, at)}"

    def __getstate__(self) -> dict[str, Any]:
        state = {slot: getattr(self, slot) for slot in self.__slots__}
        where, _, line = self.line.rpartition(":")
        state |= {"source": (where, int(line)) if where else None, "cell": None}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for slot, value in state.items():
            setattr(self, slot, value)
        self.uid = next_uid()

    def __repr__(self) -> str:
        inside = [f"%{i}" if i is not None else "None" for i in self.inputs]
        inside += [f"{k}={v!r}" for k, v in self.attrs.items()]
        label = f" {self.name!r}" if self.name else ""
        return f"{self.op}{label}({', '.join(inside)}): {', '.join(map(repr, self.avals))}"


def line_of(code: Any, instruction: int) -> int:
    """The line of an instruction of a code object."""
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno


_OWN = __file__.rpartition("node.py")[0]
_own_file: dict[str, bool] = {}


def source_of_caller(depth: int = 2) -> tuple[Any, int]:
    """The innermost frame outside gputape, as (code object, instruction offset); the line is found when asked for.

    `depth` frames are known to be gputape's own and are skipped unseen.
    """
    frame = sys._getframe(depth)
    while True:
        code = frame.f_code
        own = _own_file.get(code.co_filename)
        if own is None:
            own = _own_file[code.co_filename] = code.co_filename.startswith((_OWN, "<string>"))
        if not own or frame.f_back is None:
            return code, frame.f_lasti
        frame = frame.f_back


def source_line() -> str:
    """The line of the user's code that runs now, as "file.py:12"."""
    code, instruction = source_of_caller(1)
    return f"{code.co_filename}:{line_of(code, instruction)}"


class NodeId(int):
    """The id of a node: its index on the tape. It also remembers which node it named, so that an id from another tape
    or fork is refused instead of naming a stranger. A plain int works too, without that check."""

    uid: int

    def __repr__(self) -> str:
        return int.__repr__(self)


class Store:
    """The growing list that tapes share."""

    __slots__ = ("nodes",)

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes


def append(store: Store, n: int, node: Node) -> Store:
    """The store that holds the first `n` nodes of `store` and then `node`: the same if it ends there, else a copy.

    Without a lock: of two threads that append to one end, the second finds its node one place too far, and copies. The
    stray node is on no tape.
    """
    nodes = store.nodes
    if len(nodes) == n:
        nodes.append(node)
        if nodes[n] is node:
            return store
    return Store([*nodes[:n], node])


def node_id(i: int, node: Node) -> NodeId:
    """The id of `node` at place `i`."""
    made = NodeId(i)
    made.uid = node.uid
    return made


def check_cell(op: str, node: Node) -> None:
    """Raise `TapeError` if the node's memory belongs to a parameter that has been updated since."""
    if node.cell is not None and node.cell[0].version != node.cell[1]:
        cell, version = node.cell
        raise TapeError(
            f"{op}: {cell.name or 'a parameter'} was updated after this node read it (version {version}, now "
            f"{cell.version}; {node.line}). Read the value before the update, or record again."
        )


def held_bytes(nodes: Sequence[Node]) -> int:
    """Bytes of the arrays that the nodes hold; memory shared by views counts once."""
    owners: dict[int, int] = {}
    for node in nodes:
        for array in node.values or ():
            if array is not None:
                owner = owner_of(array)
                owners[id(owner)] = owner.nbytes if isinstance(owner, np.ndarray) else owner.size
    return sum(owners.values())


def freeze(array: Any) -> Any:
    """The array, which cannot be written through from now on (one on a device has no such flag)."""
    if isinstance(array, np.ndarray):
        array.flags.writeable = False
    return array


def read_only(array: Any) -> Any:
    """A view of a stored value that cannot be written through."""
    return freeze(array.view() if isinstance(array, np.ndarray) else memory_of(array).array(array, copy=True))
