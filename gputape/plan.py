"""A recorded step as a program: cleaned (dead code, common subexpressions), its memory planned (one arena by liveness),
and replayed as a flat list of bound bodies: no allocation, no shape rules, no tape.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import backend as _backend
from . import flat
from .arrays import Quiet, aligned_empty, memory_of, overlap, owner_of
from .aval import Aval
from .blas import with_one_thread
from .errors import CompileError
from .graph import Graph
from .node import Node
from .parts import SUM, Part, cut, divided
from .placement import Placement, Program, aligned
from .predict import Prediction, bytes_of, flops_of, predict
from .premises import Premises
from .registry import At
from .rewrite import rewrite
from .threads import Task, Threads, get_num_threads
from .trace import Trace
from .variable import Cell

_QUIET = Quiet()  # one of its own: steps that widen enter the backend's, and it cannot be entered twice


class Plan:
    """One recorded program, ready to replay.

    Attributes:
        threads: how many threads of the CPU a replay takes.
        parts: id of a node that runs in parts, one for each thread → these.
        ran: the nodes that a replay runs, in order.
        sizes: how many calls each of them is.
        placement: where its values live.
    """

    def __init__(self, trace: Trace, results: Sequence[Any], name: str, rewrites: bool = True) -> None:
        self.name, self.backend, self.rewrites = name, trace.backend, rewrites
        self.words = trace.words
        self.premises = Premises(trace.premises, list(trace.cells_read.values()))
        self.owned: dict[int, list[Cell]] = {}  # id of an owner of memory → the cells in it
        for cell in (*trace.cells_read.values(), *trace.effects):
            self.owned.setdefault(id(owner_of(cell.array)), []).append(cell)
        graph = Graph(trace, results)
        graph.renumber()
        self.recorded, self._plain = len(trace.nodes), graph.copy()
        if rewrites:
            rewrite(graph, self.backend)
            graph.renumber()
        self.graph, self.record = graph, list(graph.nodes.values())
        self.cells, self.arguments = graph.cells, graph.arguments
        self.effects, self.results = graph.effects, graph.results
        self.threads = 1
        self.parts: dict[int, list[Part]] = {}
        if rewrites and self.backend.family == "cpu":
            runs = {i: node for i, node in graph.nodes.items() if _runs(node)}
            self.threads, self.parts = divided(runs, get_num_threads())
        with with_one_thread(self.threads > 1), self.backend.memory.device:
            self._bind()

    # --- memory

    def _bind(self) -> None:
        record = self.record
        program = self._program(self.graph, self.parts)
        scratch = program.scratch
        self.placement = Placement(program, self.backend.memory, self.rewrites)
        self._arena = _bytes(self.backend.xp, self.arena_bytes)
        values: dict[int, tuple[Any, ...]] = {}
        self._copied: list[tuple[Any, Any]] = []  # buffers of cells that live in another memory
        steps: list[tuple[Node, list[Callable[[], Any]]]] = []  # what runs, and its calls
        tasks: list[Task] = []
        for i, node in enumerate(record):
            inputs = [None if j is None else values[j][0] for j in node.inputs]
            if not node.inputs:
                values[i] = (self._leaf(i, node),)
            elif node.op == "output":
                values[i] = (values[node.inputs[0]][node.attrs["index"]],)
            elif node.at.op.view is not None:
                values[i] = self.backend.call(node.at)(inputs)
            else:
                values[i] = tuple([self._output(i, k, a) for k, a in enumerate(node.avals)])
                if i in self.placement.zeroed:
                    values[i][0][...] = 0
                if i in self.placement.joins:
                    continue  # its inputs are computed where they belong
                work, start = [], self.placement.scratch(i)
                for a in scratch[i]:
                    work.append(self._carve(start, a))
                    start += aligned(a.nbytes)
                made = self._tasks(i, node, list(values[i]), inputs, work)
                tasks += made
                steps.append((node, [call for task in made for call in task.calls]))
        self.ran, self.sizes = [node for node, _ in steps], [len(calls) for _, calls in steps]
        self.steps = self.backend.steps(steps) if self.threads == 1 else Threads(tasks)
        home = program.home
        self._arguments_in = [None if i is None else values[i][0] for i in self.arguments]
        self._effects_out = [
            (cell, values[i][0], home[i][0] in self.cells)
            for cell, i in self.effects.items()
            if self.placement.in_cell.get(home[i]) is not cell
        ]
        self._results_out = [None if i is None else values[i][0] for i in self.results]

    @property
    def launches(self) -> int:
        """Kernel launches of one replay; 0 on the CPU."""
        return sum(self.steps.launches or ())

    def _program(self, graph: Graph, parts: dict[int, list[Part]]) -> Program:
        nodes = graph.nodes
        kept = [i for i in graph.results if i is not None]
        scratch = {i: self._scratch(n.at, parts.get(i, ())) for i, n in nodes.items() if _runs(n)}
        return Program(list(nodes.values()), graph.inputs, graph.cells, graph.effects, kept, scratch)

    @property
    def arena_bytes(self) -> int:
        """Size of the one buffer that holds the intermediate values."""
        return self.placement.size

    def _scratch(self, at: At, parts: Sequence[Part]) -> Sequence[Aval]:
        """The work buffers of an op; in parts, those of each, and behind them the sums of each part but the first."""
        body = self.backend.body(at)
        if not parts:
            return _backend._scratch(body, at)
        sums = [a for a, where in zip(at.outs, parts[0].outs, strict=True) if a is not None and where == SUM]
        return [a for part in parts for a in _backend._scratch(body, part.at)] + sums * (len(parts) - 1)

    def _output(self, i: int, k: int, a: Aval | None) -> Any:
        if a is None:
            return None
        cell = self.placement.in_cell.get((i, k))
        if cell is not None:
            return cell.array
        start, whole, within = self.placement.output(i, k)
        array = self._carve(start, whole)
        return array if within is None else self.backend.memory.view(array, within[0], a.shape, within[1])

    def _leaf(self, i: int, node: Node) -> Any:
        """Where an input of the program lives: a buffer that replays fill, the cell's memory, or the constant."""
        cell = self.cells.get(i)
        if cell is not None and memory_of(cell.array) is self.backend.memory:
            return cell.array
        if cell is None and i not in self.arguments:
            return node.values[0]
        buffer = self.backend.xp.empty(node.aval.shape, _backend.NP_DTYPE[node.aval.dtype])
        if cell is not None:
            self._copied.append((buffer, cell))
        return buffer

    def _carve(self, offset: int, a: Aval) -> Any:
        """An array over the arena."""
        return self._arena[offset : offset + a.nbytes].view(_backend.NP_DTYPE[a.dtype]).reshape(a.shape)

    def _call(self, at: At, outs: list[Any], inputs: list[Any], scratch: list[Any]) -> list[Callable[[], Any]]:
        """One step: the body on its fixed arrays, where it can be as the NumPy calls that it makes. 16-bit arrays go
        through the runner that widens them."""
        if self.backend.widens and any(a is not None and a.dtype in _backend.NARROW for a in (*at.ins, *at.outs)):
            run = self.backend.call(at)

            def widened() -> None:
                for y, value in zip(outs, run(inputs), strict=True):
                    if y is not None:
                        y[...] = value

            return [widened]
        body, options = self.backend.body(at), {**at.attrs, **({"scratch": scratch} if scratch else {})}
        found = (
            flat.calls_of(body, [*outs, *inputs], **options) if self.backend.xp is np and self.backend.widens else None
        )
        return [functools.partial(body, self.backend.xp, *outs, *inputs, **options)] if found is None else found

    def _tasks(self, i: int, node: Node, outs: list[Any], inputs: list[Any], scratch: list[Any]) -> list[Task]:
        """What the threads do for a node: its calls, or those of its parts and the additions of their sums."""
        parts, in_cell = self.parts.get(i), any((i, k) in self.placement.in_cell for k in range(len(outs)))
        if parts is None:
            return [Task(0, self._call(node.at, outs, inputs, scratch), inputs, [*outs, *scratch], in_cell)]
        tasks, rest, adds = [], iter(scratch), []
        body = self.backend.body(node.at)
        work = [[next(rest) for _ in _backend._scratch(body, part.at)] for part in parts]
        for w, part in enumerate(parts):
            to = [cut(y, where) for y, where in zip(outs, part.outs, strict=True)]
            for k, (y, where) in enumerate(zip(outs, part.outs, strict=True)):
                if w and y is not None and where == SUM:
                    to[k] = next(rest)
                    adds.append((to[k], y))
            ins = [cut(x, where) for x, where in zip(inputs, part.ins, strict=True)]
            tasks.append(Task(w, self._call(part.at, to, ins, work[w]), ins, [*to, *work[w]], in_cell))
        if adds:
            calls = [functools.partial(np.add, y, x, y) for x, y in adds]
            # By the last thread, as the first has what is not split.
            tasks.append(Task(len(parts) - 1, calls, [x for x, _ in adds], [y for _, y in adds]))
        return tasks

    # --- replay

    def holds(self) -> bool:
        """Whether modules, optimizers and parameters are still in the modes that the program was recorded in."""
        return self.premises.hold()

    def refuse_aliases(self, arguments: Sequence[Any]) -> None:
        """Raise `CompileError` if an argument is the memory of a cell that the program reads or writes."""
        for k, a in enumerate(arguments):
            for cell in self.owned.get(id(owner_of(a)), ()):
                if overlap(a, cell.array):
                    raise CompileError(
                        f"{self.name}: array {k} of the arguments shares the memory of {cell.name or 'a cell'}, which "
                        "the step reads or writes. Pass a copy, or use the cell itself inside the step."
                    )

    def replay(self, arguments: Sequence[Any]) -> list[Any]:
        """Run the program on new arguments; fresh copies of its results. Then write the cells."""
        with self.backend.memory.device:
            write = self.backend.memory.write
            self.steps.begin()
            for buffer, value in zip(self._arguments_in, arguments, strict=True):
                if buffer is not None:
                    write(buffer, value)
            for buffer, cell in self._copied:
                write(buffer, cell.array)
            _QUIET.run(self.steps.run)
            out = [None if y is None else y.copy() for y in self._results_out]
            # A value that lives in a cell's own memory is taken before any cell is written: a, b = b, a must swap.
            writes = [(cell, value.copy() if in_cell else value) for cell, value, in_cell in self._effects_out]
            for cell, value in writes:
                cell.array[...] = value
            self.steps.end()
        for cell in self.effects:
            cell.written()
        if self.words:
            from .random import generator

            generator().take(self.words)
        return out

    # --- reading

    def totals(self, rewritten: bool = True) -> dict[str, int]:
        """Calls of a replay, kernel launches (0 on the CPU), bytes that the calls read and write, and bytes of the
        arena; what they would be if nothing was rewritten, too."""
        graph = self.graph if rewritten else self._plain
        placement = self.placement if rewritten else Placement(self._program(graph, {}), self.backend.memory, False)
        runs = [i for i, node in graph.nodes.items() if _runs(node) and i not in placement.joins]
        launches = self.launches if rewritten else self.backend.launches_of(graph, runs)
        moved = sum(bytes_of(graph.nodes[i]) for i in runs)
        return {"calls": len(runs), "launches": launches, "bytes": moved, "arena": placement.size}

    def explain(self) -> str:
        """The program as text: each step with its shapes, bytes, FLOPs and launches, and what rewrites put it in the
        place of; then the totals, with and without rewrites."""
        lines = [f"plan of {self.name} on {self.backend.name!r}"]
        launches = (f", {n} launch{'es' * (n != 1)}" for n in self.steps.launches or ())
        for i, node in enumerate(self.record):
            if not node.inputs:
                kind = "cell" if i in self.cells else "argument" if i in self.arguments else "constant"
                lines.append(f"  %{i} = {kind} {node.name or ''} {node.aval}")
                continue
            free = "view" if not _runs(node) else "in place" if i in self.placement.joins else None
            inside = ", ".join("None" if j is None else f"%{j}" for j in node.inputs)
            note = f"  ({self.graph.notes[i]})" if i in self.graph.notes else ""
            cost = free or f"{bytes_of(node)} bytes, {flops_of(node)} FLOPs{next(launches, '')}"
            lines.append(f"  %{i} = {node.op}({inside}): {', '.join(map(repr, node.avals))}  [{cost}]{note}")
        for cell, i in self.effects.items():
            lines.append(f"  {cell.name or 'cell'} ← %{i}")
        for what, totals in (("", self.totals()), ("without rewrites: ", self.totals(False))):
            calls, n, moved, arena = totals.values()
            made = f"{n} launches, " if self.backend.family == "kernels" else ""
            lines.append(f"{what}{calls} calls, {made}{moved} bytes moved, arena {arena} bytes")
        if isinstance(self.steps, Threads):
            waits = f"which wait for each other {self.steps.waits} times"
            lines.append(f"{self.threads} threads, {waits}; {len(self.parts)} ops run in parts")
        lines.append(f"{self.recorded} nodes were recorded, {len(self._plain.nodes)} of them needed and different")
        return "\n".join(lines)

    __str__ = explain

    def predict(self, gpu: str) -> Prediction:
        """An estimate of what one replay takes on that GPU ("A100", "H100", "RTX 4090", …), as one graph and launch by
        launch, from the bytes and FLOPs of each step and the figures of `predict.py`. Nothing is run.

        Raises:
            ArgumentError: there are no figures for that GPU.
        """
        return predict(self.name, self.ran, self.steps.launches, gpu)


def _runs(node: Node) -> bool:
    return bool(node.inputs) and node.op != "output" and node.at.op.view is None


def _bytes(xp: Any, size: int) -> Any:
    dtype = np.dtype(np.uint8)
    return aligned_empty((size,), dtype) if xp is np else xp.empty((size,), dtype)
