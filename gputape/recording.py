"""Recordings: `with gt.record() as tape` turns ordinary code into a tape of `Var`s.

A recording keeps only what gradients will need (the card's `saves`); everything else lives as long as the user's `Var`.
A leaf of a parameter remembers (cell, version), and a tape whose cell has moved on refuses to be differentiated.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from . import backend as _backend
from . import remat
from .aval import Aval
from .backward import check_out, check_stale, own_arrays, seed_array, seed_error, sweep
from .errors import AnomalyError, TapeError
from .functions import NUMBERS, Execute, Functions, needs_copy, number_dtype
from .hooks import Hook, HookHandle, Hooks, register_hook
from .node import Node, held_bytes, leaf_at, output_at, source_of_caller
from .registry import Op
from .variable import ACTIVE, Cell, Operators, Var, check_place, unwrap


class Recording(Functions):
    """What `gt.record()` gives: the tape being recorded. Handles are `Var`s.

    Attributes:
        nodes: the nodes so far.
        grad_enabled: False inside `gt.no_grad()`.
        hooks: the gradient hooks, by node id.
        segments: what `gt.checkpoint` made, in order of their ends.
        tracing: True while `gt.compile` records a whole step, where every effect is a node.
    """

    tracing = False

    def __init__(self, retain: bool = False) -> None:
        self.backend = _backend.current()
        self._calls = self.backend.calls
        self.nodes: list[Node] = []
        self.grad_enabled = True
        self.hooks: dict[int, Hooks] = {}
        self.segments: list[remat.Segment] = []
        self.retain = retain
        self._consumed = False
        self._leaves: list[weakref.ref[Var]] = []
        self._cells: dict[Cell, tuple[int, int]] = {}  # cell → (version, id of its leaf)
        self._cell_nodes: list[int] = []

    # --- recording

    def outputs(self, op: Op, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
        avals: list[Any] = []
        arrays: list[Any] = []
        ids: list[Any] = []
        grad = False
        for x in inputs:  # one loop, as this is the hot path of eager training
            if x is None:
                avals.append(None)
                arrays.append(None)
                ids.append(None)
            elif type(x) is Var and x.rec is self:
                made_by = x.node
                avals.append(made_by.at.out)
                arrays.append(x._value)
                ids.append(x.id)
                if made_by.requires_grad:
                    grad = True
            else:
                return self.outputs(op, self.lift(op, inputs), values)
        at = op.at(tuple(avals), values)
        if at.casts is not None:
            return self.outputs(op, self.cast_inputs(at, inputs), values)
        if op.view is not None and needs_copy(at, arrays[0]):
            return self.outputs(op, (self.copy(inputs[0]), *inputs[1:]), values)
        call = self._calls.get(at) or self.backend.call(at)
        try:
            results = call(arrays)
        except AnomalyError as e:
            raise e.at_node(len(self.nodes), tuple(ids), self.nodes) from None
        grad = grad and at.differentiable and self.grad_enabled
        kept = None
        if grad:
            if op.saved_outputs:
                kept = results
            if op.saved_inputs:
                self._pin(op, inputs)
        nodes = self.nodes
        node = Node(at, tuple(ids), kept, grad, source_of_caller(4), 0)
        i = len(nodes)
        nodes.append(node)
        if op.view is not None and inputs[0].node.cell is not None:
            node.cell = inputs[0].node.cell
            self._cell_nodes.append(i)
        first = Var(self, node, i, results[0])
        if op.returns == 1:
            return (first,)
        return (first, *(self._output(first, k, results[k]) for k in range(1, op.returns)))

    def _pin(self, op: Op, inputs: tuple[Any, ...]) -> None:
        """Keep the input values that the vjp will ask for, on the nodes that made them."""
        wanted = range(len(inputs)) if op.saved_inputs == (-1,) else op.saved_inputs
        for k in wanted:
            x = inputs[k]
            if x is not None:
                held = x.node.values
                if held is None:
                    x.node.values = (x._value,)
                elif held[0] is None:
                    x.node.values = (x._value, *held[1:])

    def _output(self, of: Var, k: int, array: Any) -> Var | None:
        if of.node.at.outs[k] is None:  # a gradient that nobody needs
            return None
        at = output_at(of.node.at, k)
        grad = of.node.requires_grad and at.out.is_float
        return self._push(Node(at, (of.id,), None, grad, of.node.source, 0), array)

    def _push(self, node: Node, array: Any) -> Var:
        self.nodes.append(node)
        return Var(self, node, len(self.nodes) - 1, array)

    def leaf(self, value: Any, requires_grad: bool = True, name: str | None = None, copy: bool = True) -> Var:
        """A leaf of this recording; see `gt.leaf`."""
        array = self.backend.memory.array(unwrap(value), copy=copy and not isinstance(value, NUMBERS))
        aval = _backend.aval_of(array)
        node = Node(leaf_at(aval), (), None, requires_grad and aval.is_float, source_of_caller(2), 0)
        node.name = name
        var = self._push(node, array)
        if node.requires_grad:
            self._leaves.append(weakref.ref(var))
        return var

    def lift(self, op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        lifted = [x if x is None or type(x) in NUMBERS else self._lift(x) for x in inputs]
        if any(type(x) in NUMBERS for x in lifted):
            avals = [x.aval for x in lifted if type(x) is Var]
            lifted = [self.const(x, number_dtype(op, x, avals)) if type(x) in NUMBERS else x for x in lifted]
        return tuple(lifted)

    def _lift(self, x: Any) -> Var:
        if type(x) is Var and x.rec is self:
            return x
        if isinstance(x, Cell):
            return self._cell(x)
        return self.leaf(x, requires_grad=False)

    def _cell(self, cell: Cell) -> Var:
        """The leaf of a parameter or buffer; one per version of it."""
        known = self._cells.get(cell)
        if known is not None and known[0] == cell.version:
            return Var(self, self.nodes[known[1]], known[1], cell.array)
        check_place(cell, self.backend)
        node = Node(leaf_at(cell.aval), (), (cell.array,), cell.requires_grad, source_of_caller(2), 0)
        node.name, node.cell = cell.name, (cell, cell.version)
        var = self._push(node, cell.array)
        self._cells[cell] = (cell.version, var.id)
        self._cell_nodes.append(var.id)
        return var

    def assign(self, cell: Cell, value: Any) -> None:
        raise AssertionError("only a trace records assignments")

    def depends(self, read: Callable[[], list[Any]], holder: Any = None) -> None:
        raise AssertionError("only a trace depends on modes")

    def unmerged(self, var: Var) -> Var:
        """The value for a second computation, which a trace does not merge with the first: a node of its own, so that
        gradients are added up in the same order everywhere."""
        return self.alias(var)

    def window(self) -> contextlib.AbstractContextManager[None]:
        raise AssertionError("only a trace opens windows")

    def aval(self, handle: Any) -> Aval:
        return handle.node.at.out

    def read(self, handle: Any) -> Any:
        return _backend.asnumpy(handle)

    def const(self, value: Any, dtype: str) -> Any:
        return self.leaf(self.backend.memory.array(value, dtype), requires_grad=False, copy=False)

    # --- backward

    def backward(self, out: Var, wrt: Iterable[Any] | None = None, seed: Any = None) -> dict[Any, Any]:
        """Gradients of `out`.

        Inside the recording the computation is appended to it and the gradients are `Var`s, so that they can be used
        and differentiated further. After it (outside `with`) it is executed, and consumes the recording unless that was
        made with `retain=True`. If then another recording is active and the seed is a `Var` of that, it is recorded
        there, as a linear function of the seed.

        Args:
            out: a `Var` of this recording; of shape () unless `seed` is given.
            wrt: what to take gradients to: parameters and any `Var` of this recording. Default: every parameter and
                every `gt.leaf` that `out` depends on.
            seed: cotangent of `out`, of its shape; default 1.

        Returns:
            {parameter or Var: gradient}. With `wrt`, every entry of it, zeros where `out` does not depend on it.

        Raises:
            TapeError: `out` is not of this recording or (without `wrt`) requires no gradient, the recording is
                consumed, or a parameter was updated since.
            ShapeError: `out` is not a scalar and no seed is given, or the seed has another shape.
        """
        if type(out) is not Var or out.rec is not self:
            what = "a value of another recording" if type(out) is Var else f"a {type(out).__name__}"
            raise TapeError(f"backward: got {what}. Pass a value computed inside this `with gt.record()` block.")
        if self._consumed:
            raise TapeError(
                "backward: this recording was consumed by an earlier backward. Use `gt.record(retain=True)` to take "
                "several, or add the losses."
            )
        aval = check_out("backward", self.nodes, out.id, seed)
        check_stale("backward", self.nodes, out.id, self._cell_nodes)
        if wrt is None and not out.requires_grad:
            raise TapeError(
                f"backward: the output depends on nothing that requires a gradient ({out.node.op}, {out.node.line}). "
                "Compute it from parameters or gt.leaf(array), not inside gt.no_grad() or from detached values."
            )
        targets = self._targets(wrt)
        active = ACTIVE.get()
        F: Execute | Recording = Execute(self.backend)
        if active is self or (active is not None and type(seed) is Var and seed.rec is active):
            F = active
        if F is self:
            grads = self._backward_append(out, aval, seed)
        else:
            grads = self._backward_run(F, out, aval, seed, {i for _, i in targets})
        found = {key: grads[i] for key, i in targets if i in grads}
        if wrt is not None:
            for key, i in targets:
                if i not in grads:
                    a = self.nodes[i].aval
                    found[key] = F.const(np.zeros(a.shape, _backend.NP_DTYPE[a.dtype]), a.dtype)
        return found if F is active else own_arrays(found)

    def _targets(self, wrt: Iterable[Any] | None) -> list[tuple[Any, int]]:
        if wrt is None:
            cells: list[tuple[Any, int]] = [(cell, i) for cell, (_, i) in self._cells.items() if cell.requires_grad]
            leaves = [(var, var.id) for var in (ref() for ref in self._leaves) if var is not None]
            return cells + leaves
        out: list[tuple[Any, int]] = []
        for x in wrt if isinstance(wrt, Iterable) and not isinstance(wrt, Operators) else [wrt]:
            if isinstance(x, Cell) and x in self._cells:
                out.append((x, self._cells[x][1]))
            elif isinstance(x, Cell):
                out.append((x, self._cell(x).id))
            elif type(x) is Var and x.rec is self:
                out.append((x, x.id))
            else:
                raise TapeError(
                    f"backward: wrt holds {x!r:.80}, which is not of this recording. Make it a leaf: gt.leaf(array)."
                )
        return out

    def _seed(self, aval: Aval, seed: Any) -> Var:
        """A given cotangent of an output of that aval, as a `Var` of this recording."""
        dy = self._lift(seed)
        if dy.aval is not aval:
            raise seed_error("backward", dy.aval, aval)
        return dy

    def _backward_append(self, out: Var, aval: Aval, seed: Any) -> dict[int, Any]:
        dy = self.const(1, aval.dtype) if seed is None else self._seed(aval, seed)
        nodes = self.nodes
        again: dict[int, Var] = {}

        def handle(i: int | None, k: int) -> Any:
            if i is None:
                return None
            var = again[i] if i in again else Var(self, nodes[i], i, nodes[i].values[0])
            return self._output(var, k, var.node.values[k]) if k else var

        def saved(i: int, node: Node) -> tuple[Any, ...]:
            op = node.at.op
            if op.saved_inputs == (-1,):
                return tuple([handle(j, 0) for j in node.inputs])
            return tuple([handle(node.inputs[k], 0) if is_input else handle(i, k) for is_input, k in op.saved_at])

        return sweep(self, nodes, out.id, dy, remat.recording(self, saved, again), hooks=self._all_hooks())

    def _backward_run(self, F: Execute | Recording, out: Var, aval: Aval, seed: Any, keep: set[int]) -> dict[int, Any]:
        """Backward by `F`: executed, or on another recording, where the values of this one are constants."""
        nodes = self.nodes

        def saved(i: int, node: Node) -> tuple[Any, ...]:
            op = node.at.op
            inputs = node.inputs
            if op.saved_inputs == (-1,):
                return tuple([nodes[j].values[0] for j in inputs])
            return tuple(
                [
                    (None if inputs[k] is None else nodes[inputs[k]].values[0]) if is_input else node.values[k]
                    for is_input, k in op.saved_at
                ]
            )

        def lifted(i: int, node: Node) -> tuple[Any, ...]:
            return tuple([None if x is None else F.leaf(x, requires_grad=False, copy=False) for x in found(i, node)])

        dy = F._seed(aval, seed) if isinstance(F, Recording) else seed_array(F, "backward", aval, unwrap(seed))
        self._consumed = not self.retain
        with remat.executing(self, saved, self.retain) as found:
            of = lifted if isinstance(F, Recording) else found
            grads = sweep(F, nodes, out.id, dy, of, None if self.retain else keep, self._all_hooks())
        if not self.retain:
            for node in nodes:  # what leaves and unreached nodes still held
                node.values = None
        return grads

    def hook(self, var: Var | Cell, hook: Hook) -> HookHandle:
        """`var.register_hook(hook)`: see and replace a gradient when it is complete."""
        return register_hook(var, hook)

    def _all_hooks(self) -> dict[int, Hooks]:
        """The hooks of nodes, and of the parameters that were read."""
        of_cells = {i: cell.hooks for cell, (_, i) in self._cells.items() if cell.hooks is not None}
        return {**of_cells, **self.hooks} if of_cells else self.hooks

    @contextlib.contextmanager
    def set_grad(self, enabled: bool) -> Iterator[None]:
        """Inside: whether results of ops may require gradients."""
        before, self.grad_enabled = self.grad_enabled, enabled
        try:
            yield
        finally:
            self.grad_enabled = before

    # --- reading

    def reading(self, x: Var | Cell) -> None:
        """Called before a value is read on the host; a trace refuses."""

    def value(self, var: Any) -> np.ndarray:
        """The value of a `Var`, read-only."""
        if type(var) is not Var or var.rec is not self:
            raise TapeError(f"value: {var!r:.60} is not a value of this recording. Pass a Var made inside it.")
        return var.value

    def node(self, var: Var | int) -> Node:
        """The node of a `Var` or id."""
        i = var.id if type(var) is Var else var
        if not isinstance(i, int) or not 0 <= i < len(self.nodes):
            raise TapeError(
                f"node: {var!r:.60} is not on this recording ({len(self.nodes)} nodes). Pass one of its Vars."
            )
        return self.nodes[i]

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def nbytes(self) -> int:
        """Bytes that the recording itself holds for backward (parameters excluded)."""
        return held_bytes([n for n in self.nodes if n.cell is None])

    def __str__(self) -> str:
        return "\n".join(f"%{i} = {node!r}" for i, node in enumerate(self.nodes)) or "(empty recording)"

    def __repr__(self) -> str:
        return f"<Recording of {len(self.nodes)} nodes>"


@contextlib.contextmanager
def record(retain: bool = False) -> Iterator[Recording]:
    """Record ops: `with gt.record() as tape: …`, then `tape.backward(loss)`.

    Inside, `gt.*` functions give `Var`s; parameters and `gt.leaf(array)` are leaves, plain arrays are constants.

    Args:
        retain: keep the recording after `backward`, so that it can be taken again.
    """
    trace = ACTIVE.get()
    if trace is not None and trace.tracing:
        with trace.window():
            yield trace
        return
    rec = Recording(retain)
    token = ACTIVE.set(rec)
    try:
        yield rec
    finally:
        ACTIVE.reset(token)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Inside a recording: ops still give `Var`s, but none that requires a gradient. Elsewhere it changes nothing."""
    rec = ACTIVE.get()
    with contextlib.nullcontext() if rec is None else rec.set_grad(False):
        yield


def leaf(value: Any, requires_grad: bool = True, *, name: str | None = None, copy: bool = True) -> Var:
    """A leaf of the active recording: a value to take gradients to.

    Args:
        value: an array or numbers; Python floats become float32. Copied unless `copy=False`.
        requires_grad: False makes it a constant. Integers never require a gradient.
        name: a label for printing.

    Raises:
        TapeError: no recording is active.
        DTypeError: the value is not numeric.
    """
    rec = ACTIVE.get()
    if rec is None:
        raise TapeError("leaf: no recording is active. Call it inside `with gt.record() as tape:`.")
    return rec.leaf(value, requires_grad, name, copy)
