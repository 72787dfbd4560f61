"""`gt.compile`: record a step once as one flat program, then replay it.

The first call at a signature runs and records everything: forward, backward, parameter updates. Arguments, parameters
and optimizer state are its inputs; writes to cells are effects at its end. The record is cleaned (dead code, common
subexpressions), its memory planned (one arena by liveness), and later calls run a flat list of bound bodies: no
allocation, no shape rules, no tape.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import backend as _backend
from .aval import Aval
from .errors import CompileError
from .node import Node, leaf_at, source_line
from .recording import Recording
from .registry import At
from .tree import flatten
from .variable import ACTIVE, Cell, Var, unwrap

ALIGNMENT = 64  # bytes; a cache line, and more than any vector register


class Trace(Recording):
    """A recording of a whole step: updates and code outside `gt.record()` too. Values cannot be read from it."""

    tracing = True

    def __init__(self, name: str) -> None:
        super().__init__(retain=True)
        self.name = name
        self.grad_enabled = False
        self.arguments: list[int] = []
        self.cells_read: dict[int, Cell] = {}  # id of a leaf → the cell it reads
        self.effects: dict[Cell, Var] = {}
        self.words = 0  # random words taken so far
        self.in_window: set[int] = set()
        self.premises: dict[Callable[[], list[Any]], None] = {}  # what `depends` was told, in order

    def argument(self, value: Any) -> Var:
        """A leaf that each call fills anew."""
        var = self.leaf(value, requires_grad=False)
        self.arguments.append(var.id)
        return var

    @contextlib.contextmanager
    def window(self) -> Iterator[None]:
        """What `gt.record()` opens while tracing: from here on gradients are recorded."""
        first = len(self.nodes)
        with self.set_grad(True):
            yield
        self.in_window.update(range(first, len(self.nodes)))

    def depends(self, read: Callable[[], list[Any]]) -> None:
        """The program holds only while `read()` gives plain values and objects as it does when recording ends."""
        self.premises[read] = None

    def leaf(self, value: Any, requires_grad: bool = True, name: str | None = None, copy: bool = True) -> Var:
        if isinstance(value, Var | Cell):  # its value is not known yet: a node of its own, cut from what made it
            var = self.alias(self.detach(value))
            var.node.name, var.node.requires_grad = name, requires_grad and var.aval.is_float
            if var.node.requires_grad:
                self._leaves.append(weakref.ref(var))
            return var
        var = super().leaf(value, requires_grad, name, copy)
        var.node.values = (var._value,)  # a constant of the program
        return var

    def _cell(self, cell: Cell) -> Var:
        written = self.effects.get(cell)
        if written is not None:
            return written
        known = self._cells.get(cell)
        if known is not None:
            return Var(self, self.nodes[known[1]], known[1], self.nodes[known[1]].values[0])
        value = cell.array.copy()
        node = Node(leaf_at(cell.aval), (), (value,), cell.requires_grad, None, 0)
        node.name = cell.name
        var = self._push(node, value)
        self._cells[cell] = (cell.version, var.id)
        self.cells_read[var.id] = cell
        return var

    def assign(self, cell: Cell, value: Any) -> None:
        var = self._lift(value)
        if var.aval.shape != cell.aval.shape:
            raise CompileError(
                f"{self.name}: assigning {var.aval} to {cell.name or 'a cell'} of {cell.aval}. Shapes must match."
            )
        self.effects[cell] = var if var.aval is cell.aval else self.cast(var, cell.aval.dtype)

    def rng(self, count: int) -> tuple[Any, int]:
        from .random import generator

        offset, self.words = self.words, self.words + count
        return self._cell(generator().cell), offset

    def reading(self, x: Var | Cell) -> None:
        what, made = ("a value", f"; {x.node.line} made it") if isinstance(x, Var) else (x.name or "a cell", "")
        raise CompileError(
            f"{self.name}: {what} is read on the host while the step is being recorded (at {source_line()}{made}). "
            "Return the value and read it outside."
        )


class Plan:
    """One recorded program, ready to replay.

    Attributes:
        nodes: the nodes that run, with their ids in the record.
        arena_bytes: size of the one buffer that holds all intermediate values.
    """

    def __init__(self, trace: Trace, results: Sequence[Any], name: str) -> None:
        self.name, self.backend = name, trace.backend
        self.record = trace.nodes
        self.arguments, self.cells = trace.arguments, trace.cells_read
        self.words = trace.words
        self.in_window = trace.in_window
        trace.depends(lambda: [cell.requires_grad for cell in self.cells.values()])
        self.premises = [(read, read()) for read in trace.premises]
        self.owned = {id(c.array): c for c in (*self.cells.values(), *trace.effects)}
        same = _common_subexpressions(trace)
        self.effects = {cell: same[var.id] for cell, var in trace.effects.items()}
        self.results = [same[r.id] if isinstance(r, Var) else None for r in results]
        self.result_ids = [r.id if isinstance(r, Var) else None for r in results]
        self.inputs_of: dict[int, tuple[Any, ...]] = {
            i: tuple([None if j is None else same[j] for j in n.inputs]) for i, n in enumerate(self.record)
        }
        self.live = self._reachable()
        self._bind()

    def _reachable(self) -> list[int]:
        """Ids, ascending, that a result or an effect depends on."""
        wanted = {i for i in (*self.results, *self.effects.values()) if i is not None}
        for i in range(len(self.record) - 1, -1, -1):
            if i in wanted:
                wanted.update(j for j in self.inputs_of[i] if j is not None)
        return sorted(wanted)

    # --- memory

    def _owners(self) -> dict[int, int]:
        """Id → id of the node whose buffer it lives in: views and further outputs share their input's."""
        owner: dict[int, int] = {}
        for i in self.live:
            node = self.record[i]
            shares = node.op == "output" or node.at.op.view is not None
            owner[i] = owner[self.inputs_of[i][0]] if shares else i
        return owner

    def _bind(self) -> None:
        xp, owner = self.backend.xp, self._owners()
        last: dict[int, int] = {}
        for i in self.live:
            for j in self.inputs_of[i]:
                if j is not None:
                    last[owner[j]] = i
            last[owner[i]] = max(last.get(owner[i], i), i)
        for kept in (*self.results, *self.effects.values()):
            if kept is not None:
                last[owner[kept]] = len(self.record)
        computed = [i for i in self.live if self.record[i].inputs and owner[i] == i]
        self.scratch = {i: _backend._scratch(self.backend.body(self.record[i].at), self.record[i].at) for i in computed}
        blocks: list[tuple[Any, int, int, int]] = []
        for i in computed:
            outs = [a.nbytes for a in self.record[i].avals if a is not None]
            blocks.append((i, sum(map(_aligned, outs)), i, last[i]))
            blocks.append(((i, "scratch"), sum(_aligned(a.nbytes) for a in self.scratch[i]), i, i))
        offsets, self.arena_bytes = _pack(blocks)
        arena = xp.empty(self.arena_bytes + ALIGNMENT, np.uint8)
        start = -arena.__array_interface__["data"][0] % ALIGNMENT if isinstance(arena, np.ndarray) else 0
        self._arena = arena[start:]
        values: dict[int, tuple[Any, ...]] = {}
        self._steps: list[Callable[[], Any]] = []
        for i in self.live:
            node = self.record[i]
            if not node.inputs:
                values[i] = (self._leaf(i, node),)
                continue
            inputs = [None if j is None else values[j][0] for j in self.inputs_of[i]]
            if node.op == "output":
                values[i] = (values[self.inputs_of[i][0]][node.attrs["index"]],)
            elif node.at.op.view is not None:
                values[i] = self.backend.call(node.at)(inputs)
            else:
                outs = self._carve(offsets[i], node.avals)
                scratch = self._carve(offsets[(i, "scratch")], self.scratch[i])
                values[i] = tuple(outs)
                self._steps.append(self._call(node.at, outs, inputs, scratch))
        self._arguments_in = [values[i][0] if i in values else None for i in self.arguments]
        self._effects_out = [(cell, values[i][0], owner[i] in self.cells) for cell, i in self.effects.items()]
        self._results_out = [None if i is None else values[i][0] for i in self.results]

    def _leaf(self, i: int, node: Node) -> Any:
        """Where an input of the program lives: a buffer of its own (argument), the cell's memory, or the constant."""
        if i in self.cells:
            return self.cells[i].array
        if i in self.arguments:
            return self.backend.xp.empty(node.aval.shape, _backend.NP_DTYPE[node.aval.dtype])
        return node.values[0]

    def _carve(self, offset: int, avals: Sequence[Aval | None]) -> list[Any]:
        """Arrays over the arena from `offset` on, one per aval."""
        out: list[Any] = []
        for a in avals:
            if a is None:
                out.append(None)
                continue
            dtype = _backend.NP_DTYPE[a.dtype]
            out.append(self._arena[offset : offset + a.nbytes].view(dtype).reshape(a.shape))
            offset += _aligned(a.nbytes)
        return out

    def _call(self, at: At, outs: list[Any], inputs: list[Any], scratch: list[Any]) -> Callable[[], Any]:
        """One step: the body on its fixed arrays. 16-bit arrays go through the runner that widens them."""
        if self.backend.widens and any(a is not None and a.dtype in _backend.NARROW for a in (*at.ins, *at.outs)):
            run = self.backend.call(at)

            def widened() -> None:
                for y, value in zip(outs, run(inputs), strict=True):
                    if y is not None:
                        y[...] = value

            return widened
        extra = {"scratch": scratch} if scratch else {}
        return functools.partial(self.backend.body(at), self.backend.xp, *outs, *inputs, **at.attrs, **extra)

    # --- replay

    def holds(self) -> bool:
        """Whether modules, optimizers and parameters are still in the modes that the program was recorded in."""
        return all(_unchanged(was, read()) for read, was in self.premises)

    def refuse_aliases(self, arguments: Sequence[Any]) -> None:
        """Raise `CompileError` if an argument is the memory of a cell that the program reads or writes."""
        for k, a in enumerate(arguments):
            while isinstance(getattr(a, "base", None), np.ndarray):
                a = a.base
            if (cell := self.owned.get(id(a))) is not None:
                raise CompileError(
                    f"{self.name}: array {k} of the arguments shares the memory of {cell.name or 'a cell'}, which the "
                    "step reads or writes. Pass a copy, or use the cell itself inside the step."
                )

    def replay(self, arguments: Sequence[Any]) -> list[Any]:
        """Run the program on new arguments; fresh copies of its results. Then write the cells."""
        for buffer, value in zip(self._arguments_in, arguments, strict=True):
            if buffer is not None:
                buffer[...] = value
        with np.errstate(all="ignore"):  # not `_thread.run`: steps that widen enter it, and it cannot be entered twice
            self._run_steps()
        out = [None if y is None else y.copy() for y in self._results_out]
        # A value that lives in a cell's own memory is taken before any cell is written: a, b = b, a must swap.
        writes = [(cell, value.copy() if in_cell else value) for cell, value, in_cell in self._effects_out]
        for cell, value in writes:
            cell.array[...] = value
            cell.version += 1
        if self.words:
            from .random import generator

            generator().take(self.words)
        return out

    def _run_steps(self) -> None:
        for step in self._steps:
            step()

    # --- reading

    def explain(self) -> str:
        """The program as text: each step with its shapes and bytes, then the totals."""
        lines = [f"plan of {self.name} on {self.backend.name!r}"]
        total = 0
        for i in self.live:
            node = self.record[i]
            if not node.inputs:
                kind = "cell" if i in self.cells else "argument" if i in self.arguments else "constant"
                lines.append(f"  %{i} = {kind} {node.name or ''} {node.aval}")
                continue
            moved = sum(a.nbytes for a in (*node.at.ins, *node.at.outs) if a is not None)
            free = node.op == "output" or node.at.op.view is not None
            total += 0 if free else moved
            inside = ", ".join("None" if j is None else f"%{j}" for j in self.inputs_of[i])
            note = "view" if free else f"{moved} bytes"
            lines.append(f"  %{i} = {node.op}({inside}): {', '.join(map(repr, node.avals))}  [{note}]")
        for cell, i in self.effects.items():
            lines.append(f"  {cell.name or 'cell'} ← %{i}")
        dropped = len(self.record) - len(self.live)
        lines.append(
            f"{len(self._steps)} calls, {total} bytes moved, arena {self.arena_bytes} bytes, {dropped} of "
            f"{len(self.record)} recorded nodes dropped"
        )
        return "\n".join(lines)

    __str__ = explain


def _common_subexpressions(trace: Trace) -> dict[int, int]:
    """Id → the first id that computes the same from the same inputs."""
    same: dict[int, int] = {}
    seen: dict[Any, int] = {}
    for i, node in enumerate(trace.nodes):
        if not node.inputs:
            same[i] = i
            continue
        what = ("output", node.attrs["index"]) if node.op == "output" else node.at
        key = (what, *(None if j is None else same[j] for j in node.inputs))
        same[i] = seen.setdefault(key, i)
    return same


def _unchanged(was: list[Any], now: list[Any]) -> bool:
    return len(was) == len(now) and all(a is b or (_plain(a) and _plain(b) and a == b) for a, b in zip(was, now))


def _plain(x: Any) -> bool:
    return x is None or isinstance(x, bool | int | float | str) or (isinstance(x, tuple) and all(map(_plain, x)))


def _aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def _pack(blocks: list[tuple[Any, int, int, int]]) -> tuple[dict[Any, int], int]:
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


class Compiled:
    """What `gt.compile` returns: call it like the function.

    Attributes:
        plans: the recorded programs by signature, and by how many were recorded at that signature before (in another
            mode of a module, say).
    """

    limit = 16

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f, self.name = f, getattr(f, "__name__", "step")
        self.plans: dict[Any, tuple[Plan, Callable[..., Any], list[Any]]] = {}
        self._lock = threading.RLock()  # a plan has one arena
        functools.update_wrapper(self, f)

    @property
    def plan(self) -> Plan:
        """The plan recorded last; `CompileError` before the first call."""
        if not self.plans:
            raise CompileError(f"{self.name}: nothing is recorded yet. Call it once first.")
        return list(self.plans.values())[-1][0]

    def explain(self) -> str:
        """The plan recorded last, as text."""
        return self.plan.explain()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (rec := ACTIVE.get()) is not None:
            inside = "another compiled function" if rec.tracing else "gt.record()"
            raise CompileError(
                f"{self.name}: a compiled function was called inside {inside}. Call the plain function there."
            )
        leaves, build = flatten((args, kwargs))
        for x in leaves:
            if isinstance(x, Cell):
                raise CompileError(
                    f"{self.name}: an argument is {x!r:.80}. A step reads and writes parameters and buffers from where "
                    "it is defined; pass a copy of the value (.numpy()) if it is data."
                )
        arrays = [_backend.as_array(unwrap(x)) if _is_array(x) else None for x in leaves]
        try:
            key = (
                _backend.current(),
                tuple([x if a is None else _backend.aval_of(a) for x, a in zip(leaves, arrays, strict=True)]),
                tuple(map(type, leaves)),  # True, 1 and 1.0 are equal
                repr(build(["·"] * len(leaves))),
            )
            hash(key)
        except TypeError as e:
            raise CompileError(
                f"{self.name}: an argument is neither an array nor hashable ({e}). Pass arrays."
            ) from None
        given = [a for a in arrays if a is not None]
        with self._lock:
            k = 0
            while (found := self.plans.get((*key, k))) is not None and not found[0].holds():
                k += 1
            if found is None:
                found = self._record((*key, k), leaves, arrays, build)
            plan, rebuild, statics = found
            plan.refuse_aliases(given)
            values = plan.replay(given)
        return rebuild([self._wrap(plan, k, v, s) for k, (v, s) in enumerate(zip(values, statics, strict=True))])

    def _record(self, key: Any, leaves: list[Any], arrays: list[Any], build: Callable[..., Any]) -> Any:
        self._warn_if_piling_up(key)
        for a in arrays:
            if a is not None and a.dtype == object:
                raise CompileError(f"{self.name}: an argument is an array of objects. Pass numeric arrays.")
        trace = Trace(self.name)
        token = ACTIVE.set(trace)
        try:
            inputs = [x if a is None else trace.argument(a) for x, a in zip(leaves, arrays, strict=True)]
            args, kwargs = build(inputs)
            out = self.f(*args, **kwargs)
        finally:
            ACTIVE.reset(token)
        results, rebuild = flatten(out)
        for r in results:
            if isinstance(r, np.ndarray | np.generic):
                raise CompileError(
                    f"{self.name}: it returned a NumPy array, which every replay would repeat. Compute it with gt, or "
                    "leave it out."
                )
            if not (r is None or isinstance(r, Var | bool | int | float | str)):
                raise CompileError(
                    f"{self.name}: it returned a {type(r).__name__}. Return arrays, numbers or nests of them."
                )
        for r in results:
            if isinstance(r, Var) and r.rec is not trace:
                raise CompileError(f"{self.name}: it returned a value of another recording. Return what it computed.")
        statics = [None if isinstance(r, Var) else r for r in results]
        plan = Plan(trace, results, self.name)
        plan.refuse_aliases([a for a in arrays if a is not None])
        self.plans[key] = plan, rebuild, statics
        if len(self.plans) > self.limit:
            del self.plans[next(iter(self.plans))]
        return self.plans[key]

    def _wrap(self, plan: Plan, k: int, value: Any, static: Any) -> Any:
        """A result as eager gives it: a `Var` for what was computed inside `gt.record()`, else an array."""
        if value is None:
            return static
        if plan.result_ids[k] not in plan.in_window:
            return value
        rec = Recording()
        return rec.leaf(value, requires_grad=False, copy=False)

    def _warn_if_piling_up(self, key: Any) -> None:
        if len(self.plans) < self.limit // 2:
            return
        old = next(reversed(self.plans))
        changed = [f"argument {i}: {a!r} → {b!r}" for i, (a, b) in enumerate(zip(old[1], key[1])) if a != b]
        warnings.warn(
            f"{self.name}: {len(self.plans) + 1} signatures are recorded; the last change was "
            f"{'; '.join(changed) or 'how arguments nest, or an option of a module or optimizer'}. "
            "Pad inputs to a few shapes, and pass changing numbers as arrays.",
            stacklevel=3,
        )


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray | np.generic | Var | Cell) or hasattr(x, "__dlpack__")


def compile(f: Callable[..., Any]) -> Compiled:
    """Record `f` at its first call with each signature, then replay: the same numbers, less overhead.

    Arrays among the arguments (also in tuples, lists and dicts) are inputs; everything else is part of the signature.
    Parameters, buffers, optimizer state and the random state are read and written as in eager mode. What `f` returns
    are fresh copies.

    Args:
        f: a function of arrays, such as a whole training step.

    Raises:
        CompileError: `f` reads a value on the host while it is recorded, is nested in another recording, or returns
        what
            is no array.
    """
    return Compiled(f)
