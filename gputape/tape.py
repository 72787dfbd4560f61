"""The pure tape: an immutable list of nodes.

`Tape` is a handle (shared growing list, length). Appending at the end extends the list; appending to an older tape
copies the prefix. So a tape is a value: fork it, keep it, take two gradients of one prefix, from several threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import backend as _backend
from .aval import Aval
from .backward import check_out, seed_array, seed_error, sweep
from .errors import AnomalyError, TapeError
from .functions import NUMBERS, Execute, Functions, needs_copy
from .node import (
    Node,
    NodeId,
    Store,
    append,
    check_cell,
    freeze,
    held_bytes,
    leaf_at,
    next_uid,
    node_id,
    output_at,
    read_only,
    source_of_caller,
)
from .registry import Op, get


class Tape:
    """An immutable record of a computation. Every op returns a new tape and the id of its node.

    >>> tape = Tape()
    >>> tape, x = tape.leaf([1.0, 2.0])
    >>> tape, y = tape.mul(x, x)
    >>> tape, s = tape.sum(y)
    >>> tape.backward(s)[x]
    array([2., 4.], dtype=float32)

    Besides the methods below it has one for each name of the original API page (with that page's argument order, and
    shapes that must match exactly) and one for each further op in the registry (with the signature of `gt.<name>`).
    """

    __slots__ = ("_store", "_n")

    def __init__(self) -> None:
        self._store, self._n = Store([]), 0

    @staticmethod
    def _of(store: Store, n: int) -> Tape:
        tape = object.__new__(Tape)
        tape._store, tape._n = store, n
        return tape

    def leaf(
        self, value: Any, name: str | None = None, requires_grad: bool = True, *, copy: bool = True
    ) -> tuple[Tape, int]:
        """A value from outside.

        Args:
            value: an array or numbers; Python floats become float32. Copied unless `copy=False`.
            name: a label for printing.
            requires_grad: whether backward takes gradients to it; integers never get one.

        Raises:
            DTypeError: the value is not numeric.
        """
        array = _backend.current().memory.array(value, copy=copy and type(value) not in NUMBERS)
        aval = _backend.aval_of(array)
        node = Node(leaf_at(aval), (), (array,), requires_grad and aval.is_float, source_of_caller(2), next_uid())
        node.name = name
        return self._append(node)

    def _append(self, node: Node) -> tuple[Tape, NodeId]:
        store = append(self._store, self._n, node)
        return Tape._of(store, self._n + 1), node_id(self._n, node)

    def _node(self, op: str, i: Any) -> Node:
        """The node of an id; `TapeError` unless it is on this very tape."""
        if isinstance(i, bool) or not isinstance(i, int | np.integer):
            raise TapeError(f"{op}: {i!r:.60} is not a node id. Put values on the tape with tape.leaf(value) first.")
        if not 0 <= i < self._n:
            raise TapeError(
                f"{op}: node {i} is not on this tape ({self._n} nodes); it was recorded on a longer tape or on another "
                f"fork. Use the tape that was returned with node {i}."
            )
        node = self._store.nodes[i]
        if type(i) is NodeId and i.uid != node.uid:
            raise TapeError(
                f"{op}: node {i} was recorded on another tape; here that id names {node!r}. "
                f"Use the tape that was returned with node {i}."
            )
        return node

    def op(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Apply any registered op, with the signature and broadcasting of `gt.<name>`: `tape.op("add", a, b)`.

        Returns:
            (tape, id), or (tape, (id, …)) for an op that returns several arrays.
        """
        F = Append(self, name)
        out = getattr(F, get(name).name)(*args, **kwargs)
        return F.tape, out

    # --- reading

    def value(self, i: int) -> np.ndarray:
        """The value of node `i`, read-only."""
        node = self._node("value", i)
        check_cell("value", node)
        if node.values[0] is None:
            raise TapeError(
                f"value: the first output of node {i}, {node.op}, is a gradient that nobody needs, so that it was not "
                "computed. Read the nodes of its other outputs."
            )
        return read_only(node.values[0])

    def node(self, i: int) -> Node:
        """Node `i`: op, input ids, attributes, avals, name, source line."""
        return self._node("node", i)

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Node]:
        return iter(self._store.nodes[: self._n])

    @property
    def nbytes(self) -> int:
        """Bytes held by this tape's values; memory that several nodes share counts once."""
        return held_bytes(self._store.nodes[: self._n])

    def __str__(self) -> str:
        return "\n".join(f"%{i} = {node!r}" for i, node in enumerate(self)) or "(empty tape)"

    def __repr__(self) -> str:
        return f"<Tape of {self._n} nodes, {self.nbytes} bytes>"

    def __deepcopy__(self, memo: Any) -> Tape:
        return self  # a value; so its ids name the nodes of the copy too

    def __getstate__(self) -> list[Node]:
        return self._store.nodes[: self._n]

    def __setstate__(self, nodes: list[Node]) -> None:
        self._store, self._n = Store(nodes), len(nodes)

    def save(self, path: Any) -> None:
        """Write the tape to a safetensors file; `Tape.load` reads it back."""
        from . import tapefile

        tapefile.save(self, path)

    @staticmethod
    def load(path: Any) -> Tape:
        """The tape in a file that `save` wrote; `CheckpointError` if it is damaged or none."""
        from . import tapefile

        return tapefile.load(path)

    def replay(self, values: Any) -> Tape:
        """The same program on other leaf values, `{leaf id: value}`: a new tape with the same ids."""
        from . import tapefile

        return tapefile.replay(self, values)

    def dot(self) -> str:
        """The tape as a Graphviz graph."""
        from . import tapefile

        return tapefile.dot(self)

    # --- backward

    def backward(self, out: int, seed: Any = None) -> dict[int, np.ndarray]:
        """Gradients of node `out` with respect to every node it depends on through differentiable paths.

        Args:
            out: id of the output; of shape () unless `seed` is given.
            seed: cotangent of the output, of its shape; default 1.

        Returns:
            {node id: gradient}, the output and all reached intermediates included. The arrays are read-only, as one
            may stand for several nodes (both operands of an add). The tape is unchanged.

        Raises:
            ShapeError: `out` is not a scalar and no seed is given, or the seed has another shape.
            TapeError: the id is not on this tape.
        """
        nodes = self._store.nodes
        self._node("backward", out)
        F = Execute(_backend.current())
        g = self._seed(F, out, seed)

        def saved(i: int, node: Node) -> tuple[Any, ...]:
            op = node.at.op
            if op.saved_inputs == (-1,):
                return tuple([nodes[j].values[0] for j in node.inputs])
            return tuple([_saved_value(nodes, node, *where) for where in op.saved_at])

        grads = sweep(F, nodes, int(out), g, saved)
        return {i: freeze(dy) for i, dy in grads.items()}

    def backward_nodes(self, out: int, seed: int | None = None) -> tuple[Tape, dict[int, int]]:
        """As `backward`, but the gradient computation is appended to the tape, so it can be differentiated again.

        Args:
            seed: id of the node that holds the output's cotangent; default a new leaf of 1.

        Returns:
            (the longer tape, {node id: id of its gradient}).
        """
        self._node("backward_nodes", out)
        F = Append(self, "backward_nodes")
        if seed is None:
            aval = check_out("backward_nodes", self._store.nodes, out, None)
            seed = F.const(1, aval.dtype)
        elif F.aval(seed) is not self._store.nodes[out].aval:
            raise seed_error("backward_nodes", F.aval(seed), self._store.nodes[out].aval)
        n, nodes = self._n, self._store.nodes

        def saved(i: int, node: Node) -> tuple[Any, ...]:
            op = node.at.op
            if op.saved_inputs == (-1,):
                return node.inputs
            return tuple([node.inputs[k] if is_input else (F.output(i, k) if k else i) for is_input, k in op.saved_at])

        grads = sweep(F, nodes[:n], int(out), seed, saved)
        return F.tape, grads

    def _seed(self, F: Functions, out: int, seed: Any) -> Any:
        aval = check_out("backward", self._store.nodes, out, seed)
        return seed_array(F, "backward", aval, seed)


def _saved_value(nodes: Sequence[Node], node: Node, is_input: bool, k: int) -> Any:
    if not is_input:
        return node.values[k]
    j = node.inputs[k]
    return None if j is None else nodes[j].values[0]


_new = object.__new__


class Append(Functions):
    """Extends a tape. Handles are node ids; `tape` is the tape so far."""

    def __init__(self, tape: Tape, name: str = "op") -> None:
        self.store, self.n, self.name = tape._store, tape._n, name
        self.backend = _backend.current()

    @property
    def tape(self) -> Tape:
        tape = _new(Tape)
        tape._store, tape._n = self.store, self.n
        return tape

    def node(self, op: str, i: Any) -> Node:
        """The node of an id; `TapeError` unless it is on this very tape."""
        if type(i) is NodeId and i < self.n:
            node = self.store.nodes[i]
            if node.uid == i.uid:
                return node
        return self.tape._node(op, i)

    def push(self, node: Node) -> NodeId:
        n = self.n
        self.store = append(self.store, n, node)
        self.n = n + 1
        made = NodeId(n)
        made.uid = node.uid
        return made

    def outputs(self, op: Op, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
        made = self.extend(op, inputs, values)
        if op.returns == 1:
            return (made,)
        return (made, *(self.output(made, k) for k in range(1, op.returns)))

    def extend(self, op: Op, inputs: tuple[Any, ...], values: tuple[Any, ...], depth: int = 5) -> NodeId:
        """Run an op and append its node. `depth` is that of `source_of_caller`."""
        nodes, n = self.store.nodes, self.n
        avals: list[Any] = []
        arrays: list[Any] = []
        grad = False
        for i in inputs:
            if i is None:
                avals.append(None)
                arrays.append(None)
            else:
                made_by = nodes[i] if type(i) is NodeId and i < n else self.node(op.name, i)
                if type(i) is NodeId and made_by.uid != i.uid:
                    self.node(op.name, i)
                avals.append(made_by.at.out)
                arrays.append(made_by.values[0])
                if made_by.requires_grad:
                    grad = True
        at = op.at(tuple(avals), values)
        if at.casts is not None:
            return self.extend(op, self.cast_inputs(at, inputs), values, depth)
        if op.view is not None and needs_copy(at, arrays[0]):
            return self.extend(op, (self.copy(inputs[0]), *inputs[1:]), values, depth)
        call = self.backend.calls.get(at) or self.backend.call(at)
        try:
            results = call(arrays)
        except AnomalyError as e:
            raise e.at_node(n, inputs, nodes) from None
        return self.push(Node(at, inputs, results, grad and at.differentiable, source_of_caller(depth), next_uid()))

    def output(self, i: int, k: int) -> int | None:
        """A node for output `k` of node `i`; None for an output that nobody needs."""
        of = self.store.nodes[i]
        if of.at.outs[k] is None:
            return None
        at = output_at(of.at, k)
        grad = of.requires_grad and at.out.is_float
        return self.push(Node(at, (i,), (of.values[k],), grad, of.source, next_uid()))

    def lift(self, op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        for i in inputs:
            if i is not None:
                self.node(op.name, i)
        return inputs

    def aval(self, handle: Any) -> Aval:
        if type(handle) is NodeId and handle < self.n:
            node = self.store.nodes[handle]
            if node.uid == handle.uid:
                return node.at.out
        return self.node(self.name, handle).at.out

    def named(self, handle: Any, name: str) -> Any:
        self.node("named", handle).name = name
        return handle

    def read(self, handle: Any) -> Any:
        return _backend.asnumpy(self.tape.value(handle))

    def const(self, value: Any, dtype: str) -> Any:
        array = self.backend.memory.array(value, dtype)
        return self.push(Node(leaf_at(_backend.aval_of(array)), (), (array,), False, source_of_caller(), next_uid()))
