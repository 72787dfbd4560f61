"""Whole training steps of the three perf models: eager and compiled, beside PyTorch where it is installed.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m pytest perf/test_steps.py --benchmark-enable

Without those two variables NumPy's BLAS is at its best. One core: each library gets one thread.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import handwritten
import numpy as np
import pytest
from models import MODELS, trainer
from threadpoolctl import threadpool_limits
from timing import interleaved, report

import gputape as gt

BARS = {"mlp": (1.2, 0.32), "cnn": (0.9, 0.65), "gpt": (0.85, 0.62)}  # × PyTorch eager: eager, compiled
ROUNDS = {"mlp": 300, "cnn": 40, "gpt": 12}


def contenders(name: str) -> dict[str, Callable[[], Any]]:
    """A training step of that model by each library, all from the same weights."""
    example = MODELS[name]
    x, labels = example.batch(np.random.default_rng(0))
    made: dict[str, Callable[[], Any]] = {}
    models = []
    for way in ("eager", "compiled"):
        gt.manual_seed(0)
        models.append(example.build())
        step = trainer(models[-1])
        run = gt.compile(step) if way == "compiled" else step
        made[f"gputape {way}"] = lambda run=run: run(x, labels)
    if name == "mlp":
        by_hand = handwritten.mlp(models[0].state_dict(), len(x))
        made["NumPy by hand"] = lambda: by_hand(x, labels)
    if importlib.util.find_spec("torch"):
        import torch
        import torch_models

        torch.set_num_threads(1)
        twin = torch_models.MODELS[name]()
        torch_models.copy_weights(models[0], twin)
        step = torch_models.trainer(twin)
        inputs = torch.from_numpy(x), torch.from_numpy(labels)
        made["PyTorch eager"] = lambda: step(*inputs)
    return made


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1, "blas"):
        yield


@pytest.mark.parametrize("name", MODELS)
def test_all_train_alike(name):
    """What is timed must be the same computation: the losses of the first steps agree."""
    losses = {way: [float(step()) for _ in range(3)] for way, step in contenders(name).items()}
    first = losses["gputape eager"]
    assert first[-1] < first[0]
    for way, found in losses.items():
        assert found == pytest.approx(first, rel=1e-4), way


@pytest.mark.parametrize("way", ["gputape eager", "gputape compiled", "NumPy by hand", "PyTorch eager"])
@pytest.mark.parametrize("name", MODELS)
def test_training_step(benchmark, name, way):
    step = contenders(name).get(way)
    if step is None:
        pytest.skip(f"no {way} here")
    step()
    benchmark.group = f"training step of {name}, one core"
    benchmark(step)


def products(name: str) -> Callable[[], None]:
    """The matrix products of a compiled step alone: what no planning can take away."""
    step = gt.compile(trainer(MODELS[name].build()))
    step(*MODELS[name].batch(np.random.default_rng(0)))
    calls = [call for call in step.plan.steps.calls if getattr(call, "func", None) is np.matmul]

    def run() -> None:
        for call in calls:
            call()

    return run


def test_ratios_in_one_interleaved_run(capsys):
    rows = []
    for name in MODELS:
        medians = interleaved(contenders(name) | {"its matrix products": products(name)}, ROUNDS[name])
        base = medians.get("PyTorch eager")
        for way, seconds in medians.items():
            bar = dict(zip(("gputape eager", "gputape compiled"), BARS[name])).get(way)
            ratio = f"{seconds / base:.2f}" if base else "–"
            rows.append([name, way, f"{seconds * 1e3:.3f}", ratio, f"{bar}" if bar else "–"])
    head = ["model", "step", "ms", "× PyTorch eager", "bar"]
    with capsys.disabled():
        print("\n" + report("steps", "Training steps, one core", rows, head))
