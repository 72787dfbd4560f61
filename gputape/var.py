"""Recordings: `with gt.record() as tape` turns ordinary code into a tape; `Var` is a value on one.

A recording keeps only what gradients will need (the card's `saves`); everything else lives as long as the user's `Var`.
Parameters and buffers are `Cell`s outside the tape: a leaf remembers (cell, version), and a tape whose cell has moved
on refuses to be differentiated.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend as _backend
from .aval import Aval
from .errors import ShapeError, TapeError
from .functions import Execute, Functions, lift_arrays, make_callable, needs_copy, number_dtype
from .registry import Op, find, get, ops
from .tape import (
    Node,
    check_cell,
    check_out,
    check_stale,
    held_bytes,
    leaf_at,
    output_at,
    own_arrays,
    read_only,
    seed_array,
    seed_error,
    source_of_caller,
    sweep,
)

_active: ContextVar[Recording | None] = ContextVar("gputape_recording", default=None)
_NUMBERS = (bool, int, float)


class Operators:
    """Python's operators, and every op as a method: what `Var` and `Cell` share. Both come from the cards."""

    __slots__ = ()
    __array_priority__ = 1000  # NumPy leaves `array + var` to us
    __array_ufunc__ = None

    if TYPE_CHECKING:

        @property
        def aval(self) -> Aval: ...
        @property
        def value(self) -> Any: ...

    def __getattr__(self, name: str) -> Any:
        """The method of an op whose first parameter is an array, made when first asked for."""
        op = None if name.startswith("_") else find(name)
        if op is None or not op.public or op.names[0] not in op.inputs:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        function = FUNCTIONS[name]
        setattr(Operators, name, _spread(function) if op.attrs in _SPREAD else function)
        return getattr(self, name)

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *(op.name for op in ops() if op.public and op.names[0] in op.inputs)]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype:
        return _backend.NP_DTYPE[self.aval.dtype]

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return self.aval.size

    @property
    def T(self) -> Any:
        """The array with its axes reversed."""
        return call("permute", self, tuple(range(self.ndim))[::-1])

    def view(self, *shape: Any) -> Any:
        """The same elements under another shape; as `reshape`, it copies where strides cannot express that."""
        return self.reshape(*shape)

    def item(self) -> float | int | bool:
        """The value of a one-element array as a Python number."""
        return self.value.item()

    def numpy(self) -> np.ndarray:
        """The value as a NumPy array of its own."""
        return np.array(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.value, dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return np.array(self.value).__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.value.__dlpack_device__()

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __len__(self) -> int:
        if not self.aval.shape:
            raise ShapeError("len: a scalar has no length. Use .item() for its value.")
        return self.aval.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    __hash__ = object.__hash__

    def __getitem__(self, index: Any) -> Any:
        from .indexing import getitem

        return getitem(self, index)


class Var(Operators):
    """A value on a recording. Behaves like an array; ops on it are recorded."""

    __slots__ = ("rec", "node", "id", "_value", "__weakref__")

    def __init__(self, rec: Recording, node: Node, id: int, value: Any) -> None:
        self.rec, self.node, self.id, self._value = rec, node, id, value

    @property
    def aval(self) -> Aval:
        return self.node.at.out

    @property
    def value(self) -> Any:
        """The array, read-only. `TapeError` if it is the memory of a parameter that has been updated since."""
        self.rec.reading(self)
        check_cell("value", self.node)
        return read_only(self._value)

    @property
    def requires_grad(self) -> bool:
        return self.node.requires_grad

    def __repr__(self) -> str:
        if self.rec.tracing:
            return f"Var(%{self.id} = {self.node.op}: {self.aval})"
        return f"Var(%{self.id} = {self.node.op}, {self.value!r})"


class Cell(Operators):
    """A place for an array that outlives tapes: a parameter, a buffer, an optimizer's state.

    Attributes:
        array: its memory, at one address for life; write through `assign` only.
        version: counts the writes.
        requires_grad: whether recordings take gradients to it.
        name: its path in the model, for messages.
    """

    __slots__ = ("array", "version", "requires_grad", "name", "__weakref__")

    def __init__(self, value: Any, requires_grad: bool = False, name: str | None = None) -> None:
        self.array = np.array(_backend.as_array(unwrap(value)), order="C")
        self.version, self.requires_grad, self.name = 0, requires_grad, name

    @property
    def aval(self) -> Aval:
        return _backend.aval_of(self.array)

    @property
    def value(self) -> Any:
        """The array, read-only."""
        return read_only(self.array)

    def assign(self, value: Any) -> None:
        """Overwrite the contents with a value of the same shape (cast to the cell's dtype).

        Raises:
            ShapeError: the shapes differ.
        """
        rec = _active.get()
        if rec is not None and rec.tracing:
            rec.assign(self, value)
            return
        array = _backend.as_array(unwrap(value))
        if array.shape != self.array.shape:
            raise ShapeError(
                f"assign: {self.name or 'the cell'} has shape {self.array.shape}, the value {array.shape}. "
                "Shapes must match."
            )
        np.copyto(self.array, array, casting="unsafe")
        self.version += 1

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name or ''}{', ' if self.name else ''}{self.aval})"


def unwrap(value: Any) -> Any:
    """The array of a `Var` or `Cell`; anything else as it is."""
    if type(value) is Var:
        value.rec.reading(value)
        check_cell("value", value.node)
        return value._value
    return value.array if isinstance(value, Cell) else value


class Recording(Functions):
    """What `gt.record()` gives: the tape being recorded. Handles are `Var`s.

    Attributes:
        nodes: the nodes so far.
        grad_enabled: False inside `gt.no_grad()`.
        tracing: True while `gt.compile` records a whole step, where every effect is a node.
    """

    tracing = False

    def __init__(self, retain: bool = False) -> None:
        self.backend = _backend.current()
        self._calls = self.backend.calls
        self.nodes: list[Node] = []
        self.grad_enabled = True
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
        results = call(arrays)
        grad = grad and at.differentiable and self.grad_enabled
        kept = None
        if grad:
            if op.saved_outputs:
                kept = results
            if op.saved_inputs:
                self._pin(op, inputs)
        nodes = self.nodes
        node = Node(at, tuple(ids), kept, grad, source_of_caller(3), 0)
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
        array = _backend.as_array(unwrap(value))
        if copy and array is not None and not isinstance(value, _NUMBERS):
            array = np.array(array, order="C")
        aval = _backend.aval_of(array)
        node = Node(leaf_at(aval), (), None, requires_grad and aval.is_float, source_of_caller(2), 0)
        node.name = name
        var = self._push(node, array)
        if node.requires_grad:
            self._leaves.append(weakref.ref(var))
        return var

    def lift(self, op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        lifted = [x if x is None or type(x) in _NUMBERS else self._lift(x) for x in inputs]
        if any(type(x) in _NUMBERS for x in lifted):
            avals = [x.aval for x in lifted if type(x) is Var]
            lifted = [self.const(x, number_dtype(x, avals)) if type(x) in _NUMBERS else x for x in lifted]
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
        node = Node(leaf_at(cell.aval), (), (cell.array,), cell.requires_grad, source_of_caller(2), 0)
        node.name, node.cell = cell.name, (cell, cell.version)
        var = self._push(node, cell.array)
        self._cells[cell] = (cell.version, var.id)
        self._cell_nodes.append(var.id)
        return var

    def assign(self, cell: Cell, value: Any) -> None:
        raise AssertionError("only a trace records assignments")

    def window(self) -> contextlib.AbstractContextManager[None]:
        raise AssertionError("only a trace opens windows")

    def aval(self, handle: Any) -> Aval:
        return handle.node.at.out

    def read(self, handle: Any) -> Any:
        return handle.value

    def const(self, value: Any, dtype: str) -> Any:
        return self.leaf(_backend.as_array(value, dtype), requires_grad=False, copy=False)

    # --- backward

    def backward(self, out: Var, wrt: Iterable[Any] | None = None, seed: Any = None) -> dict[Any, Any]:
        """Gradients of `out`.

        Inside the recording the computation is appended to it and the gradients are `Var`s, so that they can be used
        and differentiated further. After it (outside `with`) it is executed, and consumes the recording unless that was
        made with `retain=True`.

        Args:
            out: a `Var` of this recording; of shape () unless `seed` is given.
            wrt: what to take gradients to: parameters and any `Var` of this recording. Default: every parameter and
                every `gt.leaf` that `out` depends on.
            seed: cotangent of `out`, of its shape; default 1.

        Returns:
            {parameter or Var: gradient}. With `wrt`, every entry of it, zeros where `out` does not depend on it.

        Raises:
            TapeError: `out` is not of this recording, the recording is consumed, or a parameter was updated since.
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
        targets = self._targets(wrt)
        if _active.get() is self:
            grads = self._backward_append(out, aval, seed)
        else:
            grads = self._backward_execute(out, aval, seed, {i for _, i in targets})
        F: Functions = self if _active.get() is self else Execute(self.backend)
        found = {key: grads[i] for key, i in targets if i in grads}
        if wrt is not None:
            for key, i in targets:
                if i not in grads:
                    a = self.nodes[i].aval
                    found[key] = F.const(np.zeros(a.shape), a.dtype)
        return found if F is self else own_arrays(found)

    def _targets(self, wrt: Iterable[Any] | None) -> list[tuple[Any, int]]:
        if wrt is None:
            cells: list[tuple[Any, int]] = [(cell, i) for cell, (_, i) in self._cells.items() if cell.requires_grad]
            leaves = [(var, var.id) for var in (ref() for ref in self._leaves) if var is not None]
            return cells + leaves
        out: list[tuple[Any, int]] = []
        for x in [wrt] if isinstance(wrt, Operators) else wrt:
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

    def _backward_append(self, out: Var, aval: Aval, seed: Any) -> dict[int, Any]:
        if seed is None:
            dy = self.const(1, aval.dtype)
        else:
            dy = self._lift(seed)
            if dy.aval is not aval:
                raise seed_error("backward", dy.aval, aval)
        nodes = self.nodes

        def handle(i: int | None, k: int) -> Any:
            if i is None:
                return None
            node = nodes[i]
            var = Var(self, node, i, node.values[0])
            return self._output(var, k, node.values[k]) if k else var

        def saved(i: int, node: Node) -> tuple[Any, ...]:
            op = node.at.op
            if op.saved_inputs == (-1,):
                return tuple([handle(j, 0) for j in node.inputs])
            return tuple([handle(node.inputs[k], 0) if is_input else handle(i, k) for is_input, k in op.saved_at])

        return sweep(self, nodes, out.id, dy, saved)

    def _backward_execute(self, out: Var, aval: Aval, seed: Any, keep: set[int]) -> dict[int, Any]:
        F, nodes = Execute(self.backend), self.nodes

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

        self._consumed = not self.retain
        dy = seed_array(F, "backward", aval, unwrap(seed))
        grads = sweep(F, nodes, out.id, dy, saved, None if self.retain else keep)
        if not self.retain:
            for node in nodes:  # what leaves and unreached nodes still held
                node.values = None
        return grads

    @contextlib.contextmanager
    def set_grad(self, enabled: bool) -> Iterator[None]:
        """Inside: whether results of ops may require gradients."""
        before, self.grad_enabled = self.grad_enabled, enabled
        try:
            yield
        finally:
            self.grad_enabled = before

    # --- reading

    def reading(self, var: Var) -> None:
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
    trace = _active.get()
    if trace is not None and trace.tracing:
        with trace.window():
            yield trace
        return
    rec = Recording(retain)
    token = _active.set(rec)
    try:
        yield rec
    finally:
        _active.reset(token)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Inside a recording: ops still give `Var`s, but none that requires a gradient. Elsewhere it changes nothing."""
    rec = _active.get()
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
    rec = _active.get()
    if rec is None:
        raise TapeError("leaf: no recording is active. Call it inside `with gt.record() as tape:`.")
    return rec.leaf(value, requires_grad, name, copy)


# --- gt.* -------------------------------------------------------------------------------------------------------------


class _Eager(Execute):
    """Computes at once on whatever arrays, numbers, parameters or finished `Var`s it is given."""

    def __init__(self) -> None:
        pass

    def accumulate(self, a: Any, b: Any, aval: Aval) -> Any:
        return self.add(a, b)

    @property
    def backend(self) -> _backend.Backend:  # type: ignore[override]
        return _backend.current()

    def outputs(self, op: Op, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
        return super().outputs(op, self.lift(op, inputs), values)

    def lift(self, op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return lift_arrays(tuple([unwrap(x) for x in inputs]))


EAGER = _Eager()


def interpreter() -> Functions:
    """Where `gt.*` calls go now: the active recording, else straight computation."""
    rec = _active.get()
    return EAGER if rec is None else rec


def updates() -> Functions:
    """Where parameter updates go now: the trace while `gt.compile` records, else straight computation."""
    rec = _active.get()
    return rec if rec is not None and rec.tracing else EAGER


def dispatch(op: Op, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> Any:
    """Record the op if a recording is active, else compute it."""
    rec = _active.get()
    if rec is None:
        return EAGER.run(op, inputs, values)
    return rec.outputs(op, inputs, values)[0] if op.plain else rec.run(op, inputs, values)


def call(name: str, *args: Any, **kwargs: Any) -> Any:
    """`gt.<name>(*args, **kwargs)`, by name."""
    return FUNCTIONS[name](*args, **kwargs)


_SPREAD = (("shape",), ("size",), ("dims",))  # the options of reshape, expand, permute, flip, …


def _spread(function: Any) -> Any:
    """The method of an op whose one option is a tuple, which may be spread out: x.reshape(2, 3), as in PyTorch."""

    @functools.wraps(function)
    def method(self: Any, *given: Any, **named: Any) -> Any:
        if given and not isinstance(given[0], tuple | list):
            given = (given,)
        return function(self, *given, **named)

    return method


class _Generated(dict[str, Any]):
    """Op name → `gt.<name>`, made when first asked for; `GputapeError` if there is no such op."""

    def __missing__(self, name: str) -> Any:
        made = self[name] = make_callable(get(name), "", "_dispatch", {"_dispatch": dispatch})
        return made


FUNCTIONS = _Generated()


def _operators() -> None:
    """Python's operators, by the op that each one is."""
    reflected = {"add": "add", "sub": "sub", "mul": "mul", "div": "truediv", "pow": "pow", "matmul": "matmul"}
    for name, operator in reflected.items():
        function = FUNCTIONS[name]
        setattr(Operators, f"__{operator}__", function)
        setattr(Operators, f"__r{operator}__", lambda self, other, function=function: function(other, self))
    for name in ("neg", "abs", "eq", "ne", "lt", "le", "gt", "ge"):
        setattr(Operators, f"__{name}__", FUNCTIONS[name])


_operators()
