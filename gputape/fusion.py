"""Chains of element-wise ops as one op each, and sums of them, for backends whose `fused` takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .arrays import NARROW
from .graph import Graph
from .ops.fused import MOST_OUTPUTS

MOST_INPUTS = 10  # arrays that a group reads: what a kernel's registers and arguments allow without spills
MOST_STEPS = 32


def fuse(graph: Graph, backend: Any) -> None:
    """Put element-wise ops together that feed one another and have results of one shape. What only they read is never
    written to memory."""
    takes: Callable[[Any], bool] | None = getattr(backend.bodies.get("fused"), "takes", None)
    if takes is None:
        return
    order = graph.order()
    groups = _Groups(graph, order)
    for i in order:
        node = graph.nodes[i]
        if node.inputs and node.op != "output" and takes(node.at):
            groups.add(i)
    for members in groups.found():
        if len(members) > 1:
            _put_together(graph, members)


def fuse_sums(graph: Graph, backend: Any) -> None:
    """Sum what a chain makes where it is made, if nothing else reads it."""
    takes: Callable[[Any, Any], bool] | None = getattr(backend.bodies.get("fused_sum"), "takes", None)
    if takes is None:
        return
    for i in graph.named("sum", "mean"):
        x, total = graph.first(i), graph.nodes[i]
        assert x is not None
        chain = graph.nodes[x]
        steps = _steps_of(graph, x, backend)
        if steps is None or not graph.alone(x) or total.attrs["dtype"] is not None:
            continue
        arrays = [graph.nodes[j].aval for j in graph.inputs[x] if j is not None]
        if not takes(arrays, steps) or any(a.shape not in ((), chain.aval.shape) for a in arrays):
            continue
        attrs = {"dim": total.attrs["dim"], "keepdim": total.attrs["keepdim"], "mean": total.op == "mean"}
        new = graph.op(i, "fused_sum", graph.inputs[x], steps=steps, **attrs)
        narrow = ", in float32 between them" if chain.aval.dtype in NARROW else ""
        graph.notes[new] = f"{graph.notes.get(x, chain.op)}, {total.op}{narrow}"
        graph.replace(i, new)


def _steps_of(graph: Graph, i: int, backend: Any) -> Any:
    """The steps of a node that is one element-wise op, or several of which only the last is kept; else None."""
    node = graph.nodes[i]
    if node.op == "fused":
        last = len(node.at.ins) + len(node.attrs["steps"]) - 1
        return node.attrs["steps"] if node.attrs["keep"] == (last,) else None
    if not node.inputs or node.op == "output" or not backend.bodies["fused"].takes(node.at):
        return None
    return ((node.op, tuple(node.attrs.items()), tuple(range(len(node.inputs)))),)


class _Groups:
    """Which nodes go together. A group must not wait for itself: nothing it reads may depend on it."""

    def __init__(self, graph: Graph, order: list[int]) -> None:
        self.graph, self.position = graph, {i: k for k, i in enumerate(order)}
        self.of: dict[int, int] = {}  # node → its group
        self.members: dict[int, list[int]] = {}

    def found(self) -> list[list[int]]:
        return list(self.members.values())

    def add(self, i: int) -> None:
        """Node `i` joins the groups that it reads from, one after the other, as far as that is possible."""
        self.of[i], self.members[i] = i, [i]
        for j in self.graph.inputs[i]:
            group = self.of.get(j) if j is not None else None
            if group is not None and group != self.of[i]:
                self._join(group, self.of[i])

    def _join(self, a: int, b: int) -> None:
        together = sorted((*self.members[a], *self.members[b]), key=self.position.__getitem__)
        shape = self.graph.nodes[together[0]].aval.shape
        if any(self.graph.nodes[k].aval.shape != shape for k in together) or len(together) > MOST_STEPS:
            return
        reads, kept = ends(self.graph, together)
        if len(reads) > MOST_INPUTS or len(kept) > MOST_OUTPUTS or self._waits(reads, together):
            return
        for k in self.members.pop(b):
            self.of[k] = a
        self.members[a] = together

    def _waits(self, reads: list[int], together: list[int]) -> bool:
        """Whether something that these nodes read depends on one of them."""
        inside, seen, stack = set(together), set(), list(reads)
        while stack:
            k = stack.pop()
            if k in inside:
                return True
            if k not in seen:
                group = self.members.get(self.of.get(k, -1), [k])
                seen.update(group)
                stack += [j for m in group for j in self.graph.inputs[m] if j is not None and j not in seen]
        return False


def ends(graph: Graph, members: list[int]) -> tuple[list[int], list[int]]:
    """(what a group reads, which of its values are read or wanted outside)."""
    inside, wanted = set(members), graph.wanted()
    reads = [j for k in members for j in graph.inputs[k] if j is not None and j not in inside]
    kept = [k for k in members if k in wanted or any(u not in inside for u in graph.users[k])]
    return list(dict.fromkeys(reads)), kept


def _put_together(graph: Graph, members: list[int]) -> None:
    reads, kept = ends(graph, members)
    number = {k: n for n, k in enumerate((*reads, *members))}
    steps = tuple(
        (node.op, tuple(node.attrs.items()), tuple([number[j] for j in graph.inputs[k] if j is not None]))
        for k, node in ((k, graph.nodes[k]) for k in members)
    )
    new = graph.op(members[-1], "fused", reads, steps=steps, keep=tuple(number[k] for k in kept))
    narrow = any(graph.nodes[k].aval.dtype in NARROW for k in members if k not in kept)
    said = [graph.notes.get(k, graph.nodes[k].op) for k in members]
    graph.notes[new] = ", ".join(said) + (", in float32 between them" if narrow else "")
    for n, k in enumerate(kept):
        graph.replace(k, graph.output(new, n) if n else new)
