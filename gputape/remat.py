"""`gt.checkpoint`: values dropped after forward and computed again in backward.

Nodes are data, so what is computed again is the nodes that the function left on the recording, not the function. The
same random numbers come from the same (state, offset), and effects, which are no nodes, happen once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .node import OUTPUT, Node
from .numerics import matmul_precision
from .variable import ACTIVE, Var

if TYPE_CHECKING:
    from .recording import Recording

Saved = Callable[[int, Node], tuple[Any, ...]]


class Segment:
    """Nodes `start` to `end` of a recording, which hold no values between forward and backward.

    Attributes:
        keep: ids of the nodes in it whose values its vjps ask for.
        run: ids of the nodes in it to compute for that, ascending.
        outside: ids of the values that this starts from: nodes before the segment, and leaves. They stay held.
    """

    __slots__ = ("start", "end", "keep", "run", "outside")

    outside: set[int]

    def __init__(self, nodes: list[Node], start: int, inner: list[Segment]) -> None:
        self.start, self.end = start, len(nodes)
        covered = {i for s in inner for i in range(s.start, s.end)}  # their vjps are served by themselves
        wanted = {j for s in inner for j in s.outside if j not in covered}
        for i in range(start, self.end):
            node, op = nodes[i], nodes[i].at.op
            if i in covered or not node.requires_grad or not node.inputs or op is OUTPUT:
                continue
            of = node.inputs if op.saved_inputs == (-1,) else [node.inputs[k] for k in op.saved_inputs]
            wanted.update(j for j in of if j is not None)
            if op.saved_outputs:
                wanted.add(i)
        made = lambda j: j >= start and nodes[j].inputs  # noqa: E731
        self.keep = {j for j in wanted if made(j)}
        self.outside = wanted - self.keep
        needed, self.run = set(self.keep), []
        for i in range(self.end - 1, start - 1, -1):
            if i in needed:
                self.run.append(i)
                for j in nodes[i].inputs:
                    if j is not None:
                        (needed if made(j) else self.outside).add(j)
        self.run.reverse()

    def missing(self, nodes: list[Node]) -> list[int]:
        """What of `run` is to be computed, as not all of it may have been dropped: later nodes hold what they took."""
        held = lambda j: len(nodes[j].values or ()) == len(nodes[j].at.outs)  # noqa: E731
        needed, run = {i for i in self.keep if not held(i)}, []
        for i in reversed(self.run):
            if i in needed:
                run.append(i)
                needed.update(j for j in nodes[i].inputs if j is not None and not held(j))
        return run[::-1]


def checkpoint(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`fn(*args, **kwargs)`, of which a recording keeps only what it starts from, and computes the rest again in
    backward: less memory, one more forward. As torch.utils.checkpoint.checkpoint.

    Kept are the arguments, the parameters and whatever else `fn` takes from outside. Gradients are the same to the bit;
    random numbers are drawn once and reused; running statistics move once, since it is the recorded ops that are
    computed again and not `fn` that is called again. Checkpoints nest. Where the backward is itself recorded, the
    second computation is recorded too. Outside a recording this only calls `fn`.

    Args:
        fn: any function, module or method.

    Returns:
        What `fn` returns.
    """
    rec = ACTIVE.get()
    if rec is None or not rec.grad_enabled:
        return fn(*args, **kwargs)
    start, record, seen = len(rec.nodes), rec.outputs, dict[int, Any]()

    def outputs(op: Any, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
        for x in inputs:
            if type(x) is Var and x.rec is rec and (x.id < start or not x.node.inputs):
                seen[x.id] = x._value
        return record(op, inputs, values)

    own = vars(rec)
    before = own.get("outputs")
    own["outputs"] = outputs
    try:
        result = fn(*args, **kwargs)
    finally:
        del own["outputs"]
        if before is not None:
            own["outputs"] = before
    _close(rec, start, seen)
    return result


def _close(rec: Recording, start: int, seen: dict[int, Any]) -> None:
    """Make a segment of the nodes from `start` on, if a gradient will ever need one."""
    nodes = rec.nodes
    if not any(n.requires_grad and n.inputs for n in nodes[start:]):
        return
    segment = Segment(nodes, start, [s for s in rec.segments if s.start >= start])
    for i in segment.outside:
        held = nodes[i].values
        if held is None or held[0] is None:
            nodes[i].values = (seen[i], *(held or ())[1:])
    for node in nodes[start:]:
        if node.inputs:
            node.values = None
    rec.segments.append(segment)


def _entering(segments: list[Segment], enter: Callable[[Segment], None], saved: Saved) -> Saved:
    """`saved`, which calls `enter` when a backward comes to a segment; to an outer one before those in it."""
    waiting = list(segments)  # in order of their ends, and outer after inner

    def found(i: int, node: Node) -> tuple[Any, ...]:
        while waiting and i < waiting[-1].end:
            segment = waiting.pop()
            if segment.start <= i:
                enter(segment)
        return saved(i, node)

    return found


@contextlib.contextmanager
def executing(rec: Recording, saved: Saved, retain: bool) -> Iterator[Saved]:
    """`saved` of a backward that is executed. A segment's values are there from where the sweep enters it to where it
    leaves it."""
    nodes = rec.nodes
    live: list[tuple[int, dict[int, Any]]] = []

    def enter(segment: Segment) -> None:
        live.append((segment.start, {i: nodes[i].values for i in segment.keep}))
        _compute(rec, segment)

    def leave() -> None:
        for i, before in live.pop()[1].items():
            nodes[i].values = before if retain else None

    entering = _entering(rec.segments, enter, saved)

    def found(i: int, node: Node) -> tuple[Any, ...]:
        while live and i < live[-1][0]:
            leave()
        return entering(i, node)

    try:
        yield found if rec.segments else saved
    finally:
        while live:
            leave()


def _compute(rec: Recording, segment: Segment) -> None:
    """Run the segment's nodes, and put the values that are kept on them."""
    nodes, made = rec.nodes, dict[int, tuple[Any, ...]]()
    run = segment.missing(nodes)
    last = {j: i for i in run for j in nodes[i].inputs}
    of = lambda j: made[j] if j in made else nodes[j].values  # noqa: E731
    for i in run:
        at, inputs = nodes[i].at, nodes[i].inputs
        if at.op is OUTPUT:
            made[i] = (of(inputs[0])[at.attrs["index"]],)
        else:
            made[i] = rec.backend.call(at)([None if j is None else of(j)[0] for j in inputs])
        for j in inputs:
            if last[j] == i and j not in segment.keep:
                made.pop(j, None)
    for i in segment.keep & made.keys():
        nodes[i].values = made[i]


def recording(rec: Recording, saved: Saved, again: dict[int, Var]) -> Saved:
    """`saved` of a backward that is recorded. A segment's nodes are recorded anew where the sweep enters it; `again` is
    told which `Var` stands for which node."""
    return _entering(rec.segments, lambda segment: _record(rec, segment, again), saved) if rec.segments else saved


def _record(rec: Recording, segment: Segment, again: dict[int, Var]) -> None:
    nodes, enabled = rec.nodes, rec.grad_enabled
    outs: dict[tuple[int, int], Var] = {}
    sources: dict[int, Var] = {}
    recorded: list[tuple[Node, Node]] = []

    def of(j: int) -> Var:
        if j in again:
            return again[j]
        if j not in sources:
            sources[j] = rec.unmerged(Var(rec, nodes[j], j, nodes[j].values[0]))
        return sources[j]

    def output(j: int, k: int) -> Any:
        if (j, k) in outs:
            return outs[j, k]
        var = again[j] if j in again else Var(rec, nodes[j], j, nodes[j].values[0])
        made: Any = rec._output(var, k, var.node.values[k])
        return made if j in again else rec.unmerged(made)

    with rec.set_grad(True):  # so that what the vjps ask for is kept
        for i in segment.missing(nodes):
            old = nodes[i]
            if old.at.op is OUTPUT:
                made: tuple[Any, ...] = (output(old.inputs[0], old.attrs["index"]),)
            else:
                inputs = tuple([None if j is None else of(j) for j in old.inputs])
                with matmul_precision("high" if old.at.tf32 else "highest"):
                    made = rec.outputs(old.at.op, inputs, old.at.values)
                outs.update({(i, k): y for k, y in enumerate(made) if y is not None})
            again[i] = made[0]
            recorded += [(y.node, old) for y in made if y is not None]
    for new, old in recorded:
        new.source = old.source
        new.requires_grad &= enabled and old.requires_grad
