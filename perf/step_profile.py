"""Where the time of a compiled step goes: by op, and what the BLAS reaches on its matrix products, beside PyTorch's."""

from __future__ import annotations

import importlib.util
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gpu.report import table
from models import MODELS, trainer

import gputape as gt
from gputape.arrays import QUIET

OP_HEAD = ("op", "times", "calls", "ms", "of the step", "matrix products, ms")
PRODUCT_HEAD = ("product", "times", "ms", "GFLOP/s", "torch.matmul, GFLOP/s")
LISTED = 0.01  # share of the step from which on an op has a row of its own


@dataclass(frozen=True)
class Timed:
    """One call of a compiled step.

    Attributes:
        step: number of the step of the plan that it belongs to.
        seconds: the least that it took.
    """

    step: int
    op: str
    call: Callable[[], Any]
    seconds: float

    @property
    def product(self) -> tuple[int, ...] | None:
        """(how many, M, K, N) of a product of matrices, one that is computed in parts as a whole; None for other calls,
        such as sums by products."""
        if getattr(self.call, "func", None) is not np.matmul:
            return None
        left, right, out = self.call.args
        if left.ndim < 2 or right.ndim < 2 or 1 in (*left.shape[-2:], right.shape[-1]):
            return None
        m, k, n = *left.shape[-2:], right.shape[-1]
        if left.ndim == 3 and right.ndim == 2:
            return 1, len(left) * m, k, n
        if left.ndim == 2 and right.ndim == 3 and out.strides[0] == n * out.itemsize:
            return 1, m, k, len(right) * n
        if left.ndim == 4 and left.shape[1] == 1 and right.ndim == 3:
            return 1, len(left) * m, k, len(right) * n
        return math.prod(out.shape[:-2]), m, k, n


def calls_of(name: str, rounds: int) -> list[Timed]:
    """Each call of a compiled step of that model, with the least that it took in so many steps."""
    step = gt.compile(trainer(MODELS[name].build()))
    batch = MODELS[name].batch(np.random.default_rng(0))
    step(*batch)
    plan = step.plan
    of = [i for i, size in enumerate(plan.sizes) for _ in range(size)]
    least = [math.inf] * len(of)

    def timed() -> None:
        for k, call in enumerate(plan.steps.calls):
            start = time.thread_time()
            call()
            least[k] = min(least[k], time.thread_time() - start)

    for _ in range(rounds):
        QUIET.run(timed)
    return [Timed(i, plan.ran[i].op, call, t) for i, call, t in zip(of, plan.steps.calls, least, strict=True)]


def by_op(calls: Sequence[Timed], whole: float) -> list[list[str]]:
    """Rows by op, the longest first; what takes less than a hundredth of the step is put together."""
    seconds: Counter[str] = Counter()
    for c in calls:
        seconds[c.op] += c.seconds
    small = {op for op, t in seconds.items() if t < LISTED * whole}
    rows = []
    for op in [*(op for op, _ in seconds.most_common() if op not in small), None]:
        mine = [c for c in calls if (c.op in small if op is None else c.op == op)]
        if not mine:
            continue
        took, products = sum(c.seconds for c in mine), sum(c.seconds for c in mine if c.product)
        steps = len({c.step for c in mine})
        cells = [f"{steps}", f"{len(mine)}", f"{took * 1e3:.3f}", f"{took / whole:.0%}"]
        rows.append([op or "the rest", *cells, f"{products * 1e3:.3f}" if products else ""])
    return rows


def in_torch(call: Any, shape: tuple[int, ...], rounds: int) -> Callable[[], Any]:
    """The same product by PyTorch, of arrays laid out alike; it returns the least seconds of `rounds`."""
    import torch

    def laid_out(a: np.ndarray, rows: int, columns: int) -> Any:
        if many == 1:
            return torch.rand(rows, columns) if a.strides[-1] == a.itemsize else torch.rand(columns, rows).T
        steps = [s // a.itemsize for s in a.strides]
        return torch.rand(1 + sum((n - 1) * s for n, s in zip(a.shape, steps))).as_strided(a.shape, steps)

    many, m, k, n = shape
    left, right = laid_out(call.args[0], m, k), laid_out(call.args[1], k, n)
    out = torch.empty((m, n) if many == 1 else call.args[2].shape)

    def least() -> float:
        found = math.inf
        for _ in range(rounds):
            start = time.thread_time()
            torch.matmul(left, right, out=out)
            found = min(found, time.thread_time() - start)
        return found

    return least


def products(calls: Sequence[Timed], rounds: int) -> tuple[list[list[str]], float, float | None]:
    """Rows by shape, and the seconds of all products: here, and by PyTorch where it is installed."""
    groups: dict[tuple[int, ...], list[Timed]] = {}
    for c in calls:
        if c.product:
            groups.setdefault(c.product, []).append(c)
    rows, ours, theirs = [], 0.0, 0.0
    torch = importlib.util.find_spec("torch") is not None
    for shape, group in sorted(groups.items(), key=lambda item: -sum(c.seconds for c in item[1])):
        took, flops = sum(c.seconds for c in group), 2 * math.prod(shape) * len(group)
        cells, ours = [f"{len(group)}", f"{took * 1e3:.3f}", f"{flops / took / 1e9:.0f}"], ours + took
        if torch:
            peer = sum(in_torch(c.call, shape, rounds)() for c in group)
            cells, theirs = [*cells, f"{flops / peer / 1e9:.0f}"], theirs + peer
        many, m, k, n = shape
        rows.append([f"{f'{many} of ' if many > 1 else ''}{m}×{k} by {k}×{n}", *cells, *([] if torch else ["–"])])
    return rows, ours, theirs if torch else None


def lines_of(name: str, rounds: int, eager: float | None) -> list[str]:
    """The part of the page about one model; `eager`: seconds of PyTorch's eager step, if known."""
    calls = calls_of(name, rounds)
    whole = sum(c.seconds for c in calls)
    rows, ours, theirs = products(calls, rounds)
    text = f"Its calls take {whole * 1e3:.3f} ms, matrix products {ours * 1e3:.3f} ms of them ({ours / whole:.0%})"
    if theirs is not None and eager is not None:
        text += (
            f", which is {ours / eager:.2f} of PyTorch's eager step ({eager * 1e3:.3f} ms). "
            f"PyTorch's BLAS takes {theirs * 1e3:.3f} ms for the same products"
        )
    return [f"## {name}", "", text + ".", "", *table(OP_HEAD, by_op(calls, whole)), "", *table(PRODUCT_HEAD, rows), ""]
