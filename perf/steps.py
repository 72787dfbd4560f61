"""One step of training of each perf model by each library, all from the same weights and on the same data.

    python perf/steps.py gpt "JAX jit" 1

prints how many seconds the first step takes in a fresh process with that many threads: what is recorded or compiled,
and a step. The libraries are imported and the weights are in place before.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from models import MODELS, trainer
from threadpoolctl import threadpool_limits

import gputape as gt

Step = Callable[[], Any]


def eager(name: str, model: Any, x: Any, labels: Any, threads: int) -> Step:
    step = trainer(model)
    return lambda: step(x, labels)


def compiled(name: str, model: Any, x: Any, labels: Any, threads: int) -> Step:
    step = gt.compile(trainer(model))
    return lambda: step(x, labels)


def by_hand(name: str, model: Any, x: Any, labels: Any, threads: int) -> Step:
    import numpy_models

    step = numpy_models.trainer(name, model.state_dict())
    return lambda: step(x, labels)


def torch_step(name: str, model: Any, x: Any, labels: Any, threads: int, compiled: bool = False) -> Step:
    import torch
    import torch_models

    torch.set_num_threads(threads)
    twin = torch_models.MODELS[name]()
    torch_models.copy_weights(model, twin)
    step, inputs = torch_models.trainer(twin, compiled), (torch.from_numpy(x), torch.from_numpy(labels))
    return lambda: step(*inputs)


def torch_compiled(name: str, model: Any, x: Any, labels: Any, threads: int) -> Step:
    return torch_step(name, model, x, labels, threads, compiled=True)


def jax_step(name: str, model: Any, x: Any, labels: Any, threads: int) -> Step:
    import jax_models  # as many threads as the process has cores

    step = jax_models.trainer(name, model.state_dict())
    inputs = jax_models.arrays(x, labels)
    return lambda: step(*inputs)


def tinygrad_step(name: str, model: Any, x: Any, labels: Any, threads: int) -> Step:
    import tinygrad_models  # in one thread

    step = tinygrad_models.trainer(name, model.state_dict())
    inputs = tinygrad_models.arrays(x, labels)
    return lambda: step(*inputs)


# What takes the steps, and the package that it needs beside NumPy.
WAYS: dict[str, tuple[Callable[..., Step], str | None]] = {
    "gputape eager": (eager, None),
    "gputape compiled": (compiled, None),
    "NumPy by hand": (by_hand, None),
    "PyTorch eager": (torch_step, "torch"),
    "torch.compile": (torch_compiled, "torch"),
    "JAX jit": (jax_step, "jax"),
    "tinygrad JIT": (tinygrad_step, "tinygrad"),
}
ONE_THREAD = ("tinygrad JIT",)


def missing(way: str) -> str | None:
    """The package that a way needs and that is not installed."""
    package = WAYS[way][1]
    return package if package and importlib.util.find_spec(package) is None else None


def contender(name: str, way: str, threads: int = 1) -> Step:
    """A step of that model, from weights and data that are the same for all ways: `() -> loss`."""
    x, labels = MODELS[name].batch(np.random.default_rng(0))
    gt.manual_seed(0)
    return WAYS[way][0](name, MODELS[name].build(), x, labels, threads)


def contenders(name: str, threads: int = 1) -> dict[str, Step]:
    """A step of that model in each way that is installed."""
    ways = [way for way in WAYS if not missing(way) and (threads == 1 or way not in ONE_THREAD)]
    return {way: contender(name, way, threads) for way in ways}


def first_result(name: str, way: str, threads: int = 1) -> float:
    """Seconds of the first step in a fresh process, with nothing compiled before."""
    with tempfile.TemporaryDirectory() as empty:
        command = [sys.executable, str(Path(__file__)), name, way, str(threads)]
        env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": empty, "CACHEDB": f"{empty}/tinygrad.db"}
        return float(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout)


if __name__ == "__main__":
    model, chosen, count = sys.argv[1:]
    with threadpool_limits(int(count), "blas"), gt.device("cpu"):
        step = contender(model, chosen, int(count))
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start)
