"""Tests, facts and timings on one GPU, and one report: perf/results/gpu.md and gpu.json.

cd perf && python -m gpu [--seconds 460] [--only conv] [--no-tests]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import cards
from .device import absent

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
RESULTS = HERE.parent / "results"
COPY, PRODUCT = 1 << 30, 8192  # bytes; rows and columns


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=460, help="stop timing after so long, tests included")
    parser.add_argument("--only", default="", help="time only ops whose name contains this")
    parser.add_argument("--no-tests", action="store_true")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    why = absent()
    if why:
        print(f"gpu-check: SKIPPED, nothing was run or timed: {why}", file=sys.stderr)
        return 0
    tests, failed = ("not run", 0) if options.no_tests else run_tests()
    report = time_everything(tests, options.only, end)
    for path in report.write(RESULTS):
        print(path)
    broken = [case for case, why in report.left_out if why.startswith(cards.FAILED)]
    for case in broken:
        print(f"gpu-check: FAILED: {case}", file=sys.stderr)
    return failed or bool(broken)


def run_tests() -> tuple[str, int]:
    """Compile in parallel what the tests launch, then run tests/gpu; (pytest's last line, exit code)."""
    from gputape.backend import backend

    # Opening the device settles which assembler suits its driver: the processes started here are told by their
    # environment, and what they compile is found by the tests.
    arch = str(backend("cuda").xp.stream.arch)
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"GPUTAPE_DEVICE": "cuda"}
    jobs = str(os.cpu_count() or 1)
    warm = [sys.executable, "-m", "gputape.warmup", arch, "--jobs", jobs, "--samples"]
    warmed = subprocess.run(warm, cwd=REPOSITORY, env=env).returncode
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "tests/gpu",
        "-o",
        "addopts=-ra",
        "-W",
        "default",
        "-p",
        "no:cacheprovider",
    ]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, text=True)
    last = ""
    for line in process.stdout or ():
        print(line, end="", flush=True)
        last = line.strip() or last
    return last.strip("= "), process.wait() or warmed


def time_everything(tests: str, only: str, end: float) -> Any:
    """The report of facts and timings; what does not fit before `end` is named in it."""
    import cupy

    from gputape.backend import backend

    from . import facts
    from .report import Report
    from .timer import Timer

    timer = Timer(cupy)
    report = Report(machine(cupy), measured_roof(cupy, timer), timer.measure(lambda: None), tests)
    for question, answer in facts.QUESTIONS.items():
        try:
            report.facts[question] = answer()
        except Exception as e:
            report.facts[question] = f"FAILED: {type(e).__name__}: {e}".splitlines()[0][:300]
        print(f"{question}: {report.facts[question]}", flush=True)
    device = backend("cuda")
    for op, case, dtype in cards.cases():
        if only not in op.name:
            continue
        if time.monotonic() > end:
            report.left_out.append((f"{op.name}, {cards.label(case)}, {dtype}", "out of time"))
            continue
        rows = len(report.rows)
        cards.time_card(report, timer, device, op, case, dtype)
        for row in report.rows[rows:]:
            print("  ".join(row.cells(report.roof)), flush=True)
        cupy.get_default_memory_pool().free_all_blocks()
    return report


def measured_roof(cupy: Any, timer: Any) -> Any:
    """What this device reaches on a plain copy, and on large matrix products by cuBLAS."""
    from .roof import Roof

    source, target = cupy.zeros(COPY, cupy.uint8), cupy.empty(COPY, cupy.uint8)
    bandwidth = 2 * COPY / timer.measure(lambda: target.data.copy_from_device_async(source.data, COPY)).median
    speeds: dict[str, float | None] = {}
    for name, dtype, n in (("16-bit", cupy.float16, PRODUCT), ("float32", cupy.float32, PRODUCT // 2)):
        try:
            x = cupy.asarray(np.random.default_rng(0).random((n, n), np.float32)).astype(dtype)
            out = cupy.empty((n, n), dtype)
            speeds[name] = 2 * n**3 / timer.measure(lambda x=x, out=out: cupy.dot(x, x, out=out)).median
        except Exception as e:  # without cuBLAS there is no such roof
            print(f"no {name} matrix product to compare with: {type(e).__name__}: {e}", file=sys.stderr)
            speeds[name] = None
    return Roof(bandwidth, speeds)


def machine(cupy: Any) -> dict[str, str]:
    """What the report was made on."""
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(cupy.cuda.Device().id)
    found = {
        "device": f"{properties['name'].decode()}, sm_{cupy.cuda.Device().compute_capability}",
        "CUDA of the driver": str(runtime.driverGetVersion()),
        "Python": platform.python_version(),
    }
    for name in ("triton", "cupy-cuda12x", "cupy-cuda13x", "numpy", "torch"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
