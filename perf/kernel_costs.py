"""What the kernels move and compute at the perf shapes, counted from their grids and tiles, beside what they must.

    python perf/kernel_costs.py [op …]

Writes perf/results/kernel_costs.md, with the rows of the other ops as they are if some are named. No GPU is needed.

`gputape.kernels.machine.counting` says what is counted, and how. The bars: an op without matrix products moves at most
1.25 times the bytes of its inputs and outputs (or what its card states), in whole sectors; what is a matrix product or
a convolution computes at most 1.1 times its FLOPs if all its sizes are at least 64, else no more than with each size
raised to a multiple of 16. Attention, which is held by neither, is listed.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported

import numpy as np
from gpu import roof
from gpu.cards import DTYPES, label
from gpu.report import table

from gputape import registry
from gputape.backend import NP_DTYPE, Call
from gputape.errors import BackendError
from gputape.functions import Execute
from gputape.kernels import KernelBackend
from gputape.kernels.machine.counting import SECTOR, Cost, Counting, sectors
from gputape.registry import At, Op
from gputape.samples import Perf, T
from gputape.testing import apply, lay_out, make

RESULT = Path(__file__).parent / "results" / "kernel_costs.md"
HEAD = ("op", "case", "type", "launches", "bytes", "least", "ratio", "dot FLOPs", "true FLOPs", "ratio", "verdict")
BYTES, FLOPS = 1.25, 1.1
LISTED = 10**9  # FLOPs up to which an op without a bar is counted


@dataclass(frozen=True)
class Row:
    """One op at one perf shape in one element type.

    Attributes:
        least: the bytes that must move.
        flops: of all dots; None where there are none.
        true: the FLOPs of the products that the op is; None where no card states them.
        most: how many FLOPs of dots the bar allows; None where the bar is another.
    """

    op: str
    case: str
    dtype: str
    launches: int
    bytes: int
    least: int
    flops: int | None = None
    true: int | None = None
    most: float | None = None

    @property
    def holds(self) -> bool:
        if self.flops is None:
            return self.bytes <= BYTES * self.least
        return self.most is None or self.flops <= self.most

    @property
    def verdict(self) -> str:
        if not self.holds:
            return "MISS"
        return "no bar" if self.flops is not None and self.most is None else "ok"

    def cells(self) -> list[str]:
        numbers = [f"{self.bytes:,}", f"{self.least:,}", f"{self.bytes / max(self.least, 1):.2f}"]
        products = ["", "", ""]
        if self.flops is not None:
            products = [f"{self.flops:,}", f"{self.true or 0:,}", f"{self.flops / self.true:.2f}" if self.true else ""]
        return [self.op, self.case, self.dtype, str(self.launches), *numbers, *products, self.verdict]


def most(gemms: Sequence[tuple[int, int, int, int]]) -> float:
    """The FLOPs that matrix products, each (how many, M, N, K), may take."""
    return sum(
        2 * n * math.prod(sizes) * FLOPS if min(sizes) >= 64 else 2 * n * math.prod(-(-s // 16) * 16 for s in sizes)
        for n, *sizes in gemms
    )


@dataclass(frozen=True)
class Ran:
    """One op that ran: the bytes that it must move, and the costs of its launches."""

    op: str
    least: int
    costs: list[Cost]

    @property
    def flops(self) -> int:
        return sum(c.flops for c in self.costs)

    @property
    def bytes(self) -> int:
        return sum(c.bytes for c in self.costs)


class Counter(KernelBackend):
    """The kernels on the counting machine, and each op that launched some."""

    def __init__(self) -> None:
        super().__init__("counting", Counting())
        self.ran: list[Ran] = []

    def call(self, at: At) -> Call:
        inner = super().call(at)

        def counted(given: Sequence[Any]) -> tuple[Any, ...]:
            outs = inner(given)
            costs, self.xp.stream.costs = self.xp.stream.costs, []
            if costs:
                self.ran.append(Ran(at.op.name, sum(map(_least, (*given, *outs))), costs))
            return outs

        return counted


def _least(x: np.ndarray | None) -> int:
    """The bytes of an array in whole sectors; of one that repeats itself along an axis, those that exist."""
    return 0 if x is None else SECTOR * sectors(x.itemsize * math.prod(n for n, s in zip(x.shape, x.strides) if s))


def arrays(rt: Counting, op: Op, case: Perf, dtype: str) -> list[Any]:
    """The inputs of a case: integers as the card says, floats zero."""
    given = [_placed(rt, x, dtype) if isinstance(x, T) else x for x in case.inputs]
    return given if op.variadic else given + [None] * (len(op.inputs) - len(given))


def _placed(rt: Counting, spec: T, dtype: str) -> np.ndarray:
    """The array of a descriptor, in memory of the runtime."""
    if spec.dtype != "float32":
        x = make(spec, 0)
        y = rt.empty(x.shape, x.dtype)
        y[...] = x
        return y
    x = lay_out(np.zeros(spec.shape, NP_DTYPE[spec.typed(dtype)]), spec.layout)
    steps = [s // x.itemsize for s in x.strides]
    reach = [(n - 1) * s for n, s in zip(x.shape, steps)]
    first = -sum(r for r in reach if r < 0)
    memory = rt.empty((first + sum(r for r in reach if r > 0) + 1,), x.dtype)
    return rt.view(memory, first, x.shape, tuple(steps))


def rows_of(op: Op, case: Perf, dtype: str) -> Iterator[Row]:
    """The rows of one case: of a composed op, a row per primitive without products, and one of all its products."""
    counter = Counter()
    F = Execute(counter)
    inputs = arrays(counter.xp, op, case, dtype)
    apply(getattr(F, op.name), op, F.lift(op, tuple(inputs)), case.attrs)
    products = [r for r in counter.ran if r.flops]
    for r in counter.ran:
        if not r.flops:
            name = op.name if r.op == op.name else f"{op.name}: {r.op}"
            least = r.least if case.bytes is None else roof.cost(op, case, inputs).bytes
            yield Row(name, label(case), dtype, len(r.costs), r.bytes, least)
    if products:
        launches, moved, least, flops = (
            sum(numbers) for numbers in zip(*((len(r.costs), r.bytes, r.least, r.flops) for r in products))
        )
        bar = most(case.gemms) if case.gemms else None
        yield Row(op.name, label(case), dtype, launches, moved, least, flops, case.flops, bar)


def rows(op: Op) -> Iterator[Row]:
    """The rows of an op at all its perf shapes, in both element types where it has floats."""
    for case in op.perf:
        if case.flops is not None and not case.gemms and case.flops > LISTED:
            continue
        yield from rows_of(op, case, "float32")
        if any(getattr(x, "dtype", "") == "float32" for x in case.inputs):
            with contextlib.suppress(BackendError):  # no kernel takes all of them in 16 bit: a loss scale is float32
                yield from rows_of(op, case, DTYPES[1])


def lines_of(op: Op) -> list[str]:
    """The lines of an op in the table."""
    return table(HEAD, [row.cells() for row in rows(op)])[2:]


def written(op: Op) -> list[str]:
    """Those that the table has now."""
    old = RESULT.read_text().splitlines() if RESULT.exists() else []
    return [line for line in old if line.startswith((f"| {op.name} |", f"| {op.name}: "))]


def report(chosen: Sequence[str] = ()) -> str:
    """The table, counted anew for the ops of these names, or all."""
    found = []
    for op in registry.ops():
        found += lines_of(op) if not chosen or op.name in chosen else written(op)
    missed = sum("| MISS" in line for line in found)
    head = ["# What the kernels move and compute", "", *(__doc__ or "").strip().splitlines()[6:], ""]
    return "\n".join([*head, f"{len(found)} rows, {missed} misses.", "", *table(HEAD, ()), *found]) + "\n"


def main() -> None:
    text = report(sys.argv[1:])
    RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
