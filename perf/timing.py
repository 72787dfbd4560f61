"""Interleaved timing: all contenders in turn, many rounds, medians and their ratios from one run."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import os
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from gpu.report import table
from threadpoolctl import threadpool_info

RESULTS = Path(__file__).parent / "results"


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int = 300,
    warm: int = 5,
    clocks: Mapping[str, Callable[[], float]] | None = None,
    calm: float = 0.0,
    turn: int = 1,
) -> dict[str, float]:
    """Median seconds of one call of each contender, called in turn, in an order that is drawn for each round: what one
    leaves in the caches is not always there for the same one.

    Processor time of the calling thread, in which a contender does all of its work unless `clocks` has another clock
    for it: what others on the machine take away does not count, and what they leave in the caches hurts all alike.

    Args:
        turn: how many calls of a contender, one after the other, are timed together. If there are several, as many go
            before that do not count: a core that has slept is slow to wake, and training finds its own data in the
            caches.
        calm: seconds to wait before each turn: threads of BLAS and of OpenMP spin for a while after they were needed,
            on the core that the next contender wants.
    """
    clock_of = {name: time.thread_time for name in contenders} | dict(clocks or {})
    for f in contenders.values():
        for _ in range(warm):
            f()
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    order, draw = list(contenders), random.Random(0)
    gc.disable()
    try:
        for _ in range(rounds):
            draw.shuffle(order)
            for name in order:
                f, clock = contenders[name], clock_of[name]
                if calm:
                    time.sleep(calm)
                for _ in range(turn if turn > 1 else 0):
                    f()
                start = clock()
                for _ in range(turn):
                    f()
                taken[name].append((clock() - start) / turn)
    finally:
        gc.enable()
    return {name: float(np.median(t)) for name, t in taken.items()}


def machine() -> str:
    """CPU, cores, NumPy and its BLAS, what of the peers is installed, and how busy the machine is."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    blas = [
        f"{b['internal_api']} {b['version']} ({b.get('architecture', '?')})"
        for b in threadpool_info()
        if b["user_api"] == "blas"
    ]
    parts = [f"{model}, {os.cpu_count()} cores", f"Python {platform.python_version()}"]
    parts += [f"NumPy {np.__version__} with {', '.join(blas)}"]
    for package, name in (("torch", "PyTorch"), ("jax", "JAX")):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f"{name} {importlib.metadata.version(package)}")
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return f"{', '.join(parts)}; load average {load} with this run"


def report(name: str, title: str, rows: Sequence[Sequence[str]], head: Sequence[str], *more: str) -> str:
    """Write a Markdown table, and lines below it, to perf/results/<name>.md; the text."""
    text = "\n".join([f"# {title}", "", machine() + ".", "", *table(head, rows), *more]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    return text
