"""The recording that `gt.compile` makes: a whole step, its arguments and effects included."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from . import backend as _backend
from .arrays import NP_DTYPE
from .errors import CompileError
from .hooks import Hooks
from .node import Node, leaf_at, source_line
from .recording import Recording
from .registry import At
from .variable import Cell, Var, check_place


class _Unrun:
    """Calls that compute nothing: outputs of the right kind, with nothing in them. A trace's values are read by nobody,
    and the replay that follows computes them."""

    def __init__(self, backend: _backend.Backend) -> None:
        self._backend = backend

    def get(self, at: At) -> _backend.Call:
        if at.op.view is not None:
            return self._backend.call(at)
        self._backend.body(at)  # raises where there is none
        made = tuple([None if a is None else self._backend.xp.empty(a.shape, NP_DTYPE[a.dtype]) for a in at.outs])
        return lambda arrays: made


class Trace(Recording):
    """A recording of a whole step: updates and code outside `gt.record()` too. Values cannot be read from it."""

    tracing = True

    def __init__(self, name: str) -> None:
        super().__init__(retain=True)
        self.name = name
        if _backend.WATCH.get() is None:
            self._calls = _Unrun(self.backend)  # type: ignore[assignment]
        self.grad_enabled = False
        self.arguments: list[int] = []
        self.cells_read: dict[int, Cell] = {}  # id of a leaf → the cell it reads
        self.effects: dict[Cell, Var] = {}  # in the order of the writes
        self._parts: dict[tuple[Cell, int], Var] = {}  # (part, id of what was written into its vector) → its value
        self._read_again: dict[Cell, tuple[Var, int]] = {}  # updated parameter → its leaf, id of what that was cut from
        self.words = 0  # random words taken so far
        self.in_window: set[int] = set()
        self.fresh: set[int] = set()  # ids that are never merged with another that computes the same
        self.premises: dict[Callable[[], list[Any]], Any] = {}  # what `depends` was told, in order

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

    def depends(self, read: Callable[[], list[Any]], holder: Any = None) -> None:
        """The program holds only while `read()` gives plain values and objects as it does when recording ends; which it
        does while the attributes of `holder` are the same objects."""
        self.premises[read] = holder

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
        from .random import generator

        written = self._written(cell)
        if written is not None:
            return self._reread(cell, written) if cell.requires_grad and self.grad_enabled else written
        if cell is not generator().cell:  # which lives on the host everywhere
            check_place(cell, self.backend)
        known = self._cells.get(cell)
        if known is not None:
            return Var(self, self.nodes[known[1]], known[1], self.nodes[known[1]].values[0])
        value = self.backend.memory.array(cell.array, copy=True)
        node = Node(leaf_at(cell.aval), (), (value,), cell.requires_grad, None, 0)
        node.name = cell.name
        var = self._push(node, value)
        self._cells[cell] = (cell.version, var.id)
        self.cells_read[var.id] = cell
        return var

    def _reread(self, cell: Cell, written: Var) -> Var:
        """The leaf of a parameter that the step has updated: what it holds now, cut from what made it."""
        known = self._read_again.get(cell)
        if known is None or known[1] != written.id:
            var = self.alias(self.detach(written))
            var.node.name, var.node.requires_grad = cell.name, True
            self._cells[cell] = (cell.version, var.id)
            known = self._read_again[cell] = var, written.id
        return known[0]

    def _written(self, cell: Cell) -> Var | None:
        """What the step has written into the cell so far: itself, as a part of a vector, or part by part."""
        if any(part in self.effects for part in cell.parts):
            return self.pack([self._cell(part) for part in cell.parts])
        own = self.effects.get(cell)
        whole = None if cell.whole is None else self.effects.get(cell.whole)
        if own is not None or whole is None:
            return own
        key = (cell, whole.id)
        if key not in self._parts:
            self._parts[key] = self.reshape(self.narrow(whole, 0, cell.start, cell.aval.size), cell.shape)
        return self._parts[key]

    def assign(self, cell: Cell, value: Any) -> None:
        var = self._lift(value)
        if var.aval.shape != cell.aval.shape:
            raise CompileError(
                f"{self.name}: assigning {var.aval} to {cell.name or 'a cell'} of {cell.aval}. Shapes must match."
            )
        for other in (cell, *cell.parts):  # a write takes the place of those before it
            self.effects.pop(other, None)
        self.effects[cell] = var if var.aval is cell.aval else self.cast(var, cell.aval.dtype)

    def rng(self, count: int) -> tuple[Any, int]:
        from .random import generator

        offset, self.words = self.words, self.words + count
        return self._cell(generator().cell), offset

    def unmerged(self, var: Var) -> Var:
        made = super().unmerged(var)
        self.fresh.add(made.id)
        return made

    def _all_hooks(self) -> dict[int, Hooks]:
        cells = list(self._cells)
        self.depends(lambda: [f for cell in cells if cell.hooks is not None for f in (cell, *cell.hooks.functions)])
        return super()._all_hooks()

    def reading(self, x: Var | Cell) -> None:
        what, made = ("a value", f"; {x.node.line} made it") if isinstance(x, Var) else (x.name or "a cell", "")
        raise CompileError(
            f"{self.name}: {what} is read on the host while the step is being recorded (at {source_line()}{made}). "
            "Return the value and read it outside."
        )
