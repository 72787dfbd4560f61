"""Whole training steps of the three perf models: eager and compiled, beside NumPy by hand and the peers installed.

    make perf

or, of this file alone, with two threads each on two cores:

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m pytest perf/test_steps.py --benchmark-enable --two-cores
"""

from __future__ import annotations

import functools
import resource
import time
from collections.abc import Callable

import numpy as np
import pytest
from chart import steps_chart
from gpu.report import table
from models import MODELS, trainer
from step_profile import lines_of
from steps import WAYS, contender, contenders, first_result, missing
from threadpoolctl import threadpool_limits
from timing import RESULTS, interleaved, machine, report

import gputape as gt

BASE = "PyTorch eager"
# × PyTorch eager, on one core and on two.
BARS = {
    1: {
        "gputape eager": {"mlp": 1.2, "cnn": 0.9, "gpt": 0.85},
        "gputape compiled": {"mlp": 0.32, "cnn": 0.65, "gpt": 0.62},
    },
    2: {"gputape compiled": {"mlp": 0.35, "cnn": 0.70, "gpt": 0.70}},
}
PLANNING = 100  # ms that recording and planning may take beyond an eager step
AT_HAND = 64 * 2**20  # bytes, more than an arena has
# Rounds, and steps in a row in each, as training takes them.
ROUNDS = {"mlp": (60, 10), "cnn": (30, 5), "gpt": (12, 3)}
CORES = {1: "one core", 2: "two cores"}
CALM = {1: 0.0, 2: 0.05}
# What PyTorch does while it compiles is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


@pytest.fixture(autouse=True)
def blas(threads):
    with threadpool_limits(threads, "blas"), gt.device("cpu"):
        yield


@functools.cache
def losses(name: str, way: str, threads: int) -> list[float]:
    step = contender(name, way, threads)
    return [float(step()) for _ in range(5)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_all_train_alike(name, way, threads):
    """What is timed must be the same computation: the losses of the first steps agree."""
    if package := missing(way):
        pytest.skip(f"{package} is not installed")
    ours = losses(name, "gputape eager", threads)
    assert ours[-1] < ours[0]
    assert losses(name, way, threads) == pytest.approx(ours, rel=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_training_step(benchmark, name, way, threads):
    if package := missing(way):
        pytest.skip(f"{package} is not installed")
    step = contender(name, way, threads)
    step()
    benchmark.group = f"training step of {name}, {CORES[threads]}"
    benchmark(step)


def verdict(value: float | None, bar: float | None) -> str:
    """A bar, and whether it is missed."""
    return "–" if bar is None else f"{bar:g}, missed" if value is not None and value > bar else f"{bar:g}"


def _system() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_stime


def planning(name: str, clock: Callable[[], float]) -> list[tuple[float, float]]:
    """Seconds of first compiled calls, and how many of them the system takes: some models, each recorded and planned
    anew after a step without. Memory is written and given back just before, as a virtual machine may have to ask its
    host for pages that were not in use for seconds, for 3 ms each MiB."""
    batch, taken = MODELS[name].batch(np.random.default_rng(0)), []
    for _ in range(9):
        train = trainer(MODELS[name].build())
        train(*batch)
        step = gt.compile(train)
        np.ones(AT_HAND, np.uint8)
        start, system = clock(), _system()
        step(*batch)
        taken.append((clock() - start, _system() - system))
    return taken


def test_ratios_in_one_interleaved_run(capsys, threads):
    # On one core processor time, to which others on the machine do not add; JAX and tinygrad have threads of their own.
    own = dict.fromkeys(("JAX jit", "tinygrad JIT"), time.process_time)
    clocks = own if threads == 1 else dict.fromkeys(WAYS, time.perf_counter)
    rows, plans, ratios = [], [], {}
    for name in MODELS:
        rounds, turn = ROUNDS[name]
        medians = interleaved(contenders(name, threads), rounds, clocks=clocks, calm=CALM[threads], turn=turn)
        base = medians.get(BASE)
        ratios[name] = {way: seconds / base for way, seconds in medians.items()} if base else {}
        for way, seconds in medians.items():
            ratio = ratios[name].get(way)
            bound = verdict(ratio, BARS[threads].get(way, {}).get(name))
            shown = [f"{seconds * 1e3:.3f}", f"{ratio:.2f}" if ratio else "–"]
            rows.append([name, way, *shown, bound, f"{first_result(name, way, threads):.2f}"])
        first = 1e3 * np.array(planning(name, clocks.get("gputape compiled", time.thread_time)))
        eager, least = 1e3 * medians["gputape eager"], first[:, 0].min()
        shown = [f"{t:.1f}" for t in (*np.median(first, axis=0), least, eager, least - eager)]
        plans.append([name, *shown, verdict(least - eager, PLANNING)])
    head = ["model", "step", "ms", f"× {BASE}", "bar", "first result, s"]
    kind = "processor time" if threads == 1 else "time"
    more = [
        "",
        f"Medians of interleaved rounds, {kind}: some steps in a row, after as many that do not count. A first result",
        "is the first step in a fresh process, with whatever is recorded or compiled for it, libraries imported and",
        "nothing cached on disk. `OPENBLAS_CORETYPE` and `OPENBLAS_L2_SIZE`, which slow NumPy's BLAS, are not set; the",
        "timings refuse to run where they are.",
        "",
        "Recording and planning cost, in ms: first calls of a compiled step, the least of nine less an eager step, of",
        "models that have taken one before. The system's part goes into pages for the arena, which is written for the",
        "first time; where a virtual machine must ask its host for them, that is most of the median.",
        "",
        *table(["model", "median", "in the system", "least", "eager step", "least less eager", "bar"], plans),
    ]
    name = "steps" if threads == 1 else "steps_two_cores"
    text = report(name, f"Training steps, {CORES[threads]}", rows, head, *more)
    if all(ratios.values()):
        steps_chart(
            RESULTS / f"{name}.png", ratios, BARS[threads]["gputape compiled"], f"A training step, {CORES[threads]}"
        )
    with capsys.disabled():
        print("\n" + text)


def test_where_the_time_goes(capsys, threads):
    if threads != 1:
        pytest.skip("the processor time of one thread is measured")
    lines = ["# Where the time of a compiled step goes, one core", "", machine() + ".", ""]
    lines += [
        "Processor time, the least of some steps; a product that is a sum of rows or columns is not counted as one.",
        "",
    ]
    for name in MODELS:
        rounds, turn = ROUNDS[name]
        base = None if missing(BASE) else interleaved({BASE: contender(name, BASE)}, rounds, turn=turn)[BASE]
        lines += lines_of(name, rounds, base)
    text = "\n".join(lines)
    (RESULTS / "profile.md").write_text(text)
    with capsys.disabled():
        print("\n" + text)
