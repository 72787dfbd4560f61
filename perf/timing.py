"""Interleaved timing: all contenders in turn, many rounds, medians and their ratios from one run."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

RESULTS = Path(__file__).parent / "results"


def interleaved(contenders: dict[str, Callable[[], object]], rounds: int = 300, warm: int = 5) -> dict[str, float]:
    """Median seconds of one call of each contender, called in turn.

    Processor time of the calling thread, in which each of them does all of its work: what others on the machine take
    away does not count, and what they leave in the caches hurts all alike.
    """
    for f in contenders.values():
        for _ in range(warm):
            f()
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    gc.disable()
    try:
        for _ in range(rounds):
            for name, f in contenders.items():
                start = time.thread_time()
                f()
                taken[name].append(time.thread_time() - start)
    finally:
        gc.enable()
    return {name: float(np.median(t)) for name, t in taken.items()}


def machine() -> str:
    """CPU, cores, how busy they are, NumPy and the settings that change its BLAS."""
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
    slowed = [k for k in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if k in os.environ]
    note = f"; {', '.join(slowed)} set, which slows NumPy's BLAS" if slowed else ""
    numpy = f"NumPy {np.__version__} with {', '.join(blas)}"
    busy = f"load {os.getloadavg()[0]:.0f}" if hasattr(os, "getloadavg") else "load unknown"
    return f"{model}, {os.cpu_count()} cores ({busy}), Python {platform.python_version()}, {numpy}{note}"


def report(name: str, title: str, rows: list[list[str]], head: list[str]) -> str:
    """Write a Markdown table to perf/results/<name>.md and return it."""
    lines = [f"# {title}", "", machine() + ".", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    text = "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    return text
