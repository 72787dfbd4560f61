"""A run as a folder: weights, options, metrics and figures; made by training, read by eval and resume."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, modelfile, viz
from ..data import Split, digits
from ..errors import ArgumentError, CheckpointError
from .loop import COLUMNS, Interrupted, Options, Progress, Trainer, evaluate
from .models import MODELS, recipe

MODEL, STATE, CONFIG, METRICS = "model.safetensors", "state.safetensors", "config.json", "metrics.csv"


def new_folder(model: str, out: str | None) -> Path:
    """The folder of a new run: `out`, or runs/<model>, with a number where that exists. Created.

    Raises:
        ArgumentError: it cannot be written, or holds a run already.
    """
    if out is None:
        base, k = Path("runs") / model, 1
        folder = base
        while folder.exists():
            k += 1
            folder = base.with_name(f"{base.name}-{k}")
    else:
        folder = Path(out)
        if (folder / CONFIG).exists() or (folder / MODEL).exists():
            raise ArgumentError(f"train: {folder} holds a run already. Choose another --out, or use --resume {folder}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as e:
        raise ArgumentError(f"train: cannot write to {folder} ({e.strerror}). Choose another folder with --out.") from e
    return folder


class _Saving:
    """Passes progress on, and saves the run after every epoch."""

    def __init__(self, run: Callable[[], Any], inner: Progress | None) -> None:
        self.save, self.inner = run, inner

    def step(self, done: int, total: int) -> None:
        if self.inner is not None:
            self.inner.step(done, total)

    def epoch(self, row: dict[str, float], epochs: int) -> None:
        self.save()
        if self.inner is not None:
            self.inner.epoch(row, epochs)


def train_run(
    options: Options,
    folder: Path,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
    resume: bool = False,
) -> dict[str, Any]:
    """Train and write the run's folder.

    Returns:
        what is in config.json: the options, and under "test" accuracy, correct and total.

    Raises:
        Interrupted: `stop` said so; the folder then holds a checkpoint for eval and resume.
    """
    data = digits()
    trainer = Trainer(options, data)
    if resume:
        _load_state(trainer, folder)
    try:
        trainer.fit(_Saving(lambda: _save(trainer, folder, None), progress), stop)
    except Interrupted:
        _save(trainer, folder, _test(trainer.model, data)[0])
        raise
    result, counts = _test(trainer.model, data)
    config = _save(trainer, folder, result)
    _draw(trainer, folder, result["accuracy"], counts)
    return config


def _draw(trainer: Trainer, folder: Path, accuracy: float, counts: np.ndarray) -> None:
    name = f"{trainer.options.model}, seed {trainer.options.seed}"
    column = {key: [row[key] for row in trainer.history] for key in trainer.history[0]}
    epochs = [int(e) for e in column["epoch"]]
    viz.loss_curve(folder / "loss.png", epochs, column["loss"], column["accuracy"], f"{name}: training")
    title = f"{name}: {100 * accuracy:.2f} % of {counts.sum()} test images"
    viz.confusion_matrix(folder / "confusion.png", counts, title)


def _test(model: Any, data: Split) -> tuple[dict[str, Any], np.ndarray]:
    """Accuracy on the test images, and the counts by (true, predicted) class."""
    predicted = evaluate(model, data.x_test)
    counts = np.zeros((10, 10), np.int64)
    np.add.at(counts, (data.y_test, predicted), 1)
    correct, total = int(np.trace(counts)), len(predicted)
    return {"accuracy": correct / total, "correct": correct, "total": total}, counts


def _save(trainer: Trainer, folder: Path, test: dict[str, Any] | None) -> dict[str, Any]:
    options = asdict(trainer.options)
    about = {"model": options["model"], "seed": options["seed"], "options": options, "step": trainer.step}
    modelfile.save(folder / MODEL, trainer.model.state_dict(), **about, test=test)
    arrays, state = trainer.state()
    modelfile.save(folder / STATE, arrays, **state)
    config = {
        "gputape": __version__,
        "format": modelfile.FORMAT,
        "options": options,
        "step": trainer.step,
        "steps": trainer.total,
        "test": test,
    }
    _write(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    if trainer.history:
        with open(folder / METRICS, "w", newline="") as file:
            rows = csv.DictWriter(file, COLUMNS)
            rows.writeheader()
            rows.writerows(trainer.history)
    return config


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


def read_options(folder: Path) -> tuple[Options, dict[str, np.ndarray], dict[str, Any]]:
    """The options, weights and description of a saved run.

    Raises:
        CheckpointError: it is not a run, or is damaged.
    """
    if not folder.is_dir():
        raise CheckpointError(f"run: {folder} is not a folder. Pass the folder that `gputape train` printed.")
    weights, about = modelfile.load(folder / MODEL)
    try:
        options = Options(**about["options"])
        if options.model not in MODELS:
            raise CheckpointError(f"run: {folder} holds the model {options.model!r}, which this version does not have.")
        options.checked()
        if (test := about.get("test")) is not None:
            about["test"] = {"accuracy": test["accuracy"], "correct": test["correct"], "total": test["total"]}
    except (KeyError, TypeError, ArgumentError) as e:
        raise CheckpointError(
            f"run: {folder / MODEL} is not a model of `gputape train`, or damaged ({e!r}). Use another copy."
        ) from e
    return options, weights, about


def _load_state(trainer: Trainer, folder: Path) -> None:
    _, weights, about = read_options(folder)
    arrays, state = modelfile.load(folder / STATE)
    if state.get("step") != about["step"]:
        raise CheckpointError(f"resume: {STATE} and {MODEL} in {folder} are of different steps. Start a new run.")
    trainer.load_state(weights, arrays, state)


def evaluate_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Test accuracy of a saved run, computed anew, and the one that was saved with it."""
    options, weights, about = read_options(folder)
    model = recipe(options.model).build()
    model.load_state_dict(weights)
    return _test(model, digits())[0], about.get("test")
