"""A recorded step as a graph: its nodes, what they read, what is wanted of them; what rewrites change before a plan is
made of it."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Sequence
from typing import Any

from .node import Node, output_at
from .numerics import matmul_precision
from .registry import At, get
from .trace import Trace
from .variable import Var


class Graph:
    """The nodes of a record by id, without dead code, equal computations merged.

    An input of a node means that node's first output; further outputs are nodes of the op "output". A node that loses
    its last reader and is not wanted is dropped.

    Attributes:
        nodes: id → node, whose `inputs` are superseded by those here.
        inputs: id → ids of what the node reads.
        users: id → ids of the nodes that read it, once for each place where they do.
        cells: id of a leaf → the cell that it reads.
        arguments: ids of the leaves that each call fills anew; None where nothing reads the argument.
        effects: cell → id of the value that it is given at the end.
        results: ids of what is returned; None where that is a plain value.
        notes: id → what rewrites put it in the place of.
    """

    def __init__(self, trace: Trace, results: Sequence[Any]) -> None:
        same = _common_subexpressions(trace)
        self.cells = dict(trace.cells_read)
        self.arguments: list[int | None] = list(trace.arguments)
        self.effects = {cell: same[var.id] for cell, var in trace.effects.items()}
        self.results = [same[r.id] if isinstance(r, Var) else None for r in results]
        self.notes: dict[int, str] = {}
        self.nodes: dict[int, Node] = {}
        self.inputs: dict[int, tuple[int | None, ...]] = {}
        self.users: dict[int, list[int]] = {}
        self._rank: dict[int, tuple[int, ...]] = {}  # where a node would stand in the record
        self._count = len(trace.nodes)
        reached = self.wanted()
        for i in range(len(trace.nodes) - 1, -1, -1):
            if i in reached:
                reads = tuple([None if j is None else same[j] for j in trace.nodes[i].inputs])
                self._place(i, trace.nodes[i], reads, (i,))
                reached.update(j for j in reads if j is not None)

    def _place(self, i: int, node: Node, reads: tuple[int | None, ...], rank: tuple[int, ...]) -> None:
        self.nodes[i], self.inputs[i], self._rank[i] = node, reads, rank
        self.users.setdefault(i, [])
        for j in reads:
            if j is not None:
                self.users.setdefault(j, []).append(i)

    # --- reading

    def wanted(self) -> set[int]:
        """Ids of the results and of what cells are given."""
        return {i for i in (*self.results, *self.effects.values()) if i is not None}

    def named(self, *ops: str) -> list[int]:
        """Ids of the nodes of these ops, in the order of the record."""
        return sorted((i for i, node in self.nodes.items() if node.op in ops), key=self._rank.__getitem__)

    def alone(self, i: int) -> bool:
        """Whether node `i` is read in one place, and is itself not wanted."""
        return len(self.users[i]) == 1 and i not in self.wanted()

    def first(self, i: int) -> int | None:
        """Id of what node `i` reads first."""
        return self.inputs[i][0]

    def depends(self, i: int, on: int) -> bool:
        """Whether node `i` reads node `on`, through other nodes perhaps."""
        seen, stack = set(), [i]
        while stack:
            k = stack.pop()
            if k == on:
                return True
            if k not in seen:
                seen.add(k)
                stack += [j for j in self.inputs[k] if j is not None]
        return False

    # --- changing

    def op(self, like: int, name: str, inputs: Sequence[int | None], tf32: bool = False, **attrs: Any) -> int:
        """A new node of that op, which stands where `like` does; its id."""
        card = get(name)
        avals = tuple([None if j is None else self.nodes[j].aval for j in inputs])
        with matmul_precision("high" if tf32 else "highest"):
            at = card.at(avals, card.values(attrs))
        return self._add(like, at, tuple(inputs))

    def output(self, i: int, k: int) -> int:
        """A new node for output `k` of node `i`; its id."""
        return self._add(i, output_at(self.nodes[i].at, k), (i,))

    def _add(self, like: int, at: At, inputs: tuple[int | None, ...]) -> int:
        i, self._count = self._count, self._count + 1
        self._place(i, Node(at, inputs, None, False, self.nodes[like].source, 0), inputs, (*self._rank[like], i))
        return i

    def replace(self, old: int, new: int) -> None:
        """Have all that reads or wants node `old`, but not `new` itself, take `new`."""
        for i in dict.fromkeys(self.users[old]):
            if i != new:
                self.inputs[i] = tuple([new if j == old else j for j in self.inputs[i]])
        stays = [i for i in self.users[old] if i == new]
        self.users[new] += [i for i in self.users[old] if i != new]
        self.users[old] = stays
        self.effects = {cell: new if i == old else i for cell, i in self.effects.items()}
        self.results = [new if i == old else i for i in self.results]
        self._drop_unread(old)

    def replace_all(self, old: int, last: int, new: int) -> None:
        """Have all that reads the outputs of node `old`, of which only node `last` reads the first, take those of
        `new`, and what reads `last` its first."""
        for part in [k for k in self.users[old] if self.nodes[k].op == "output"]:
            self.replace(part, self.output(new, self.nodes[part].attrs["index"]))
        self.replace(last, new)

    def _drop_unread(self, i: int) -> None:
        if self.users[i] or i in self.wanted():
            return
        reads = self.inputs.pop(i)
        del self.nodes[i], self.users[i], self._rank[i]
        for j in reads:
            if j is not None:
                self.users[j].remove(i)
        for j in dict.fromkeys(reads):
            if j is not None and j in self.nodes:
                self._drop_unread(j)

    # --- the outcome

    def copy(self) -> Graph:
        """The same graph, which changes on its own."""
        made = copy.copy(self)
        made.users = {i: list(users) for i, users in self.users.items()}
        for name in ("nodes", "inputs", "cells", "arguments", "effects", "results", "notes", "_rank"):
            setattr(made, name, copy.copy(getattr(self, name)))
        return made

    def order(self) -> list[int]:
        """Ids in an order in which the nodes can run: that of the record as far as rewrites allow."""
        waits = {i: sum(j is not None for j in reads) for i, reads in self.inputs.items()}
        ready = [(self._rank[i], i) for i, n in waits.items() if n == 0]
        heapq.heapify(ready)
        found = []
        while ready:
            _, i = heapq.heappop(ready)
            found.append(i)
            for k in self.users[i]:
                waits[k] -= 1
                if waits[k] == 0:
                    heapq.heappush(ready, (self._rank[k], k))
        assert len(found) == len(self.nodes), "a rewrite made a cycle"
        return found

    def renumber(self) -> None:
        """Give the nodes ids in the order in which they run. Of the values of the record only constants are kept."""
        order = self.order()
        to = {old: new for new, old in enumerate(order)}
        inputs = {to[i]: tuple([None if j is None else to[j] for j in self.inputs[i]]) for i in order}
        filled = {*self.cells, *self.arguments}
        self.nodes = {
            to[i]: _node(self.nodes[i], inputs[to[i]], constant=not self.inputs[i] and i not in filled) for i in order
        }
        self.inputs = inputs
        self.users = {to[i]: [to[k] for k in self.users[i]] for i in order}
        self.cells = {to[i]: cell for i, cell in self.cells.items() if i in to}
        self.arguments = [None if i is None else to.get(i) for i in self.arguments]
        self.effects = {cell: to[i] for cell, i in self.effects.items()}
        self.results = [None if i is None else to[i] for i in self.results]
        self.notes = {to[i]: note for i, note in self.notes.items() if i in to}
        self._rank, self._count = {i: (i,) for i in self.nodes}, len(order)


def _node(node: Node, inputs: tuple[int | None, ...], constant: bool) -> Node:
    made = Node(node.at, inputs, node.values if constant else None, False, node.source, 0)
    made.name = node.name
    return made


def _common_subexpressions(trace: Trace) -> dict[int, int]:
    """Id → the first id that computes the same from the same inputs."""
    same: dict[int, int] = {}
    seen: dict[Any, int] = {}
    for i, node in enumerate(trace.nodes):
        if not node.inputs or i in trace.fresh:
            same[i] = i
            continue
        what = ("output", node.attrs["index"]) if node.op == "output" else node.at
        key = (what, *(None if j is None else same[j] for j in node.inputs))
        same[i] = seen.setdefault(key, i)
    return same
