"""The tape: an immutable list of nodes, and the one loop that runs it backward.

`Tape` is a handle (shared growing list, length). Appending at the end extends the list; appending to an older tape
copies the prefix. So a tape is a value: fork it, keep it, take two gradients of one prefix, from several threads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np

from . import backend as _backend
from .aval import Aval
from .errors import ShapeError, TapeError
from .functions import Execute, Functions, needs_copy
from .registry import STRUCTURAL, At, Op, get, ops

_uid = count().__next__

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
        self.cell: Any = None  # (Cell, version), see var.py

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
        self.uid = _uid()

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


_OWN = __file__.rpartition("tape.py")[0]
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


# --- backward ---------------------------------------------------------------------------------------------------------


def sweep(
    F: Functions,
    nodes: Sequence[Node],
    out: int,
    seed: Any,
    saved: Callable[[int, Node], tuple[Any, ...]],
    keep: Collection[int] | None = None,
) -> dict[int, Any]:
    """Reverse accumulation from node `out` with cotangent `seed`: {id of each reached node: gradient handle}.

    `F` executes or records; `saved` gives the handles a vjp asked for. With `keep`, each node that is done gives up its
    values, and its gradient unless it is listed. Contributions are only ever added out of place: a vjp may hand out one
    array twice.
    """
    grads: list[Any] = [None] * (out + 1)
    grads[out] = seed
    further: dict[int, dict[int, Any]] = {}  # id → {output index: gradient}, for outputs after the first
    aval, accumulate = F.aval, F.accumulate
    for i in range(out, -1, -1):
        dy = grads[i]
        if dy is None and i not in further:
            continue
        node = nodes[i]
        inputs = node.inputs
        if not inputs or not node.requires_grad:
            continue
        at = node.at
        op = at.op
        if op is OUTPUT:
            slot, index = further.setdefault(inputs[0], {}), at.attrs["index"]
            slot[index] = accumulate(slot[index], dy, at.out) if index in slot else dy
            continue
        needs = []
        for j in inputs:
            needs.append(j is not None and nodes[j].requires_grad)
        wanted = tuple(needs)
        at_needs = at.by_needs.get(wanted) or at.with_needs(wanted)
        if op.several:
            rest = further.pop(i, {})
            cotangents = (dy, *[rest.get(k) for k in range(1, len(op.outputs))])
            given = op.vjp(F, at_needs, cotangents, *saved(i, node))
        elif op.saves:
            given = op.vjp(F, at_needs, dy, *saved(i, node))
        else:
            given = op.vjp(F, at_needs, dy)
        if type(given) is not tuple:
            given = (given,)
        for j, need, g in zip(inputs, needs, given, strict=True):
            if g is None or not need:
                continue
            want = nodes[j].at.out
            if (g is not dy or want is not at.out) and aval(g) is not want:
                raise TapeError(
                    f"backward: the vjp of {op.name} gave {aval(g)} for an input of {want} (node {i}, {node.line}). "
                    "Correct the op's vjp."
                )
            before = grads[j]
            grads[j] = g if before is None else accumulate(before, g, want)
        if keep is not None:
            node.values = None  # all that need them come later on the tape and are done
            if i not in keep:
                grads[i] = None
    return {i: g for i, g in enumerate(grads) if g is not None}


def check_out(op: str, nodes: Sequence[Node], out: int, seed: Any) -> Aval:
    """The aval of node `out`; without a seed it must be a floating-point scalar."""
    aval = nodes[out].aval
    if not aval.is_float:
        raise TapeError(f"{op}: node {out} is {aval}, which has no gradient. Start from a floating-point node.")
    if seed is None and aval.shape != ():
        raise ShapeError(
            f"{op}: the output has shape {aval.shape}, but without a seed it must be a scalar of shape (). "
            "Reduce it with sum or mean, or pass seed=… of its shape."
        )
    return aval


def check_stale(op: str, nodes: Sequence[Node], out: int, cells: Sequence[int]) -> None:
    """Raise `TapeError` if `out` depends on a parameter that was updated after it was read."""
    stale = [
        i for i in cells if i <= out and nodes[i].cell is not None and nodes[i].cell[0].version != nodes[i].cell[1]
    ]
    if not stale:
        return
    reaches = {out}
    for i in range(out, -1, -1):
        if i in reaches:
            reaches.update(j for j in nodes[i].inputs if j is not None)
    for i in stale:
        if i in reaches:
            cell, version = nodes[i].cell
            raise TapeError(
                f"{op}: {cell.name or 'a parameter'} was updated after this tape read it (version {version} was read, "
                f"it is at {cell.version} now; {nodes[i].line}). Take the gradient before the update, or record again."
            )


def own_arrays(grads: dict[Any, Any]) -> dict[Any, Any]:
    """The same gradients, none sharing memory with another or with a node, so that the caller may write into them."""
    seen: set[int] = set()
    out = {}
    for key, g in grads.items():
        if g.base is not None or id(g) in seen or not g.flags.c_contiguous:
            g = g.copy()
        seen.add(id(g))
        out[key] = g
    return out


def read_only(array: Any) -> Any:
    """A view of a stored value that cannot be written through."""
    if not isinstance(array, np.ndarray):
        return array.copy()  # device arrays have no read-only flag
    view = array.view()
    view.flags.writeable = False
    return view


# --- the pure tape ----------------------------------------------------------------------------------------------------


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
        array = _backend.as_array(value)
        if copy and isinstance(value, np.ndarray):
            array = np.array(array, order="C")
        aval = _backend.aval_of(array)
        node = Node(leaf_at(aval), (), (array,), requires_grad and aval.is_float, source_of_caller(2), _uid())
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

    def __getattr__(self, name: str) -> Any:
        """The method of an op, made when first asked for."""
        from . import tapem

        if name.startswith("_") or not tapem._op_method(name):
            raise AttributeError(f"Tape has no attribute {name!r}, and there is no op of that name")
        return getattr(self, name)

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *(op.name for op in ops() if op.public)]

    # --- reading

    def value(self, i: int) -> np.ndarray:
        """The value of node `i`, read-only."""
        node = self._node("value", i)
        check_cell("value", node)
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
        for dy in grads.values():
            dy.flags.writeable = False
        return grads

    def backward_nodes(self, out: int, seed: int | None = None) -> tuple[Tape, dict[int, int]]:
        """As `backward`, but the gradient computation is appended to the tape, so it can be differentiated again.

        Args:
            seed: id of the node that holds the output's cotangent; default a new leaf of 1.

        Returns:
            (the longer tape, {node id: id of its gradient}).
        """
        self._node("backward_nodes", out)
        F = Append(self)
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


def seed_array(F: Functions, op: str, aval: Aval, seed: Any) -> Any:
    """The cotangent to start from: ones for a scalar, else the checked seed."""
    if seed is None:
        return F.const(1, aval.dtype)
    array = np.array(_backend.as_array(seed, aval.dtype))
    if array.shape != aval.shape:
        raise seed_error(op, _backend.aval_of(array), aval)
    return array


def seed_error(op: str, seed: Aval, out: Aval) -> ShapeError:
    return ShapeError(f"{op}: the seed is {seed}, the output {out}. Give a seed of the output's shape and dtype.")


def _saved_value(nodes: Sequence[Node], node: Node, is_input: bool, k: int) -> Any:
    if not is_input:
        return node.values[k]
    j = node.inputs[k]
    return None if j is None else nodes[j].values[0]


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
                base = array if getattr(array, "base", None) is None else array.base
                owners[id(base)] = getattr(base, "nbytes", array.nbytes)
    return sum(owners.values())


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

    def extend(self, op: Op, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> NodeId:
        """Run an op and append its node."""
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
            return self.extend(op, self.cast_inputs(at, inputs), values)
        if op.view is not None and needs_copy(at, arrays[0]):
            return self.extend(op, (self.copy(inputs[0]), *inputs[1:]), values)
        call = self.backend.calls.get(at) or self.backend.call(at)
        results = call(arrays)
        return self.push(Node(at, inputs, results, grad and at.differentiable, source_of_caller(5), _uid()))

    def output(self, i: int, k: int) -> int | None:
        """A node for output `k` of node `i`; None for an output that nobody needs."""
        of = self.store.nodes[i]
        if of.at.outs[k] is None:
            return None
        at = output_at(of.at, k)
        grad = of.requires_grad and at.out.is_float
        return self.push(Node(at, (i,), (of.values[k],), grad, of.source, _uid()))

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
        return self.tape.value(handle)

    def const(self, value: Any, dtype: str) -> Any:
        array = _backend.as_array(value, dtype)
        return self.push(Node(leaf_at(_backend.aval_of(array)), (), (array,), False, source_of_caller(), _uid()))
