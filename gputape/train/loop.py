"""The training loop: shuffle, augment, step, count; can be stopped and continued at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from .. import nn, optim
from ..arrays import asnumpy
from ..data import Split, batches, shift_images
from ..dispatch import call
from ..errors import ArgumentError, CheckpointError, DataError
from ..numerics import precision
from ..random import generator, manual_seed
from ..recording import record
from .models import recipe

COLUMNS = ("epoch", "loss", "accuracy", "images_per_second", "seconds")  # of the metrics of an epoch
WARMUP = 50  # steps over which the learning rate rises


def _one_blas_thread() -> AbstractContextManager[Any]:
    """Inside: matrix products run on one thread, so that results do not depend on how many there are.

    Those of these models are too small to gain from two, and where the second core is busy each would wait for it: a
    step was seen to take ten times as long.
    """
    return threadpool_limits(1, "blas")


class Interrupted(Exception):
    """Training was stopped on request; the trainer holds the state it was stopped in."""


class Progress(Protocol):
    """What a trainer reports to."""

    def step(self, done: int, total: int) -> None:
        """After every step."""

    def epoch(self, row: dict[str, float], epochs: int) -> None:
        """After every epoch, with its row of metrics."""


@dataclass(frozen=True)
class Options:
    """What a run is made of; saved with it.

    Attributes:
        steps: stop after so many steps; None for all the epochs.
        precision: "fp32", or what `gt.precision` takes; "fp16" scales the loss.
    """

    model: str
    seed: int
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    shift: float
    steps: int | None = None
    precision: str = "fp32"

    @classmethod
    def of(cls, model: str, seed: int = 0, steps: int | None = None, **overrides: Any) -> Options:
        """The model's recipe, with the given fields replaced (None keeps the recipe's).

        Raises:
            ArgumentError: no such model, or a number out of its range.
        """
        found = recipe(model)
        fields = {k: getattr(found, k) for k in ("epochs", "batch_size", "lr", "weight_decay", "shift")}
        fields |= {k: v for k, v in overrides.items() if v is not None}
        return cls(model, seed, steps=steps, **fields).checked()

    def checked(self) -> Options:
        """The same; `ArgumentError` if the model is unknown or a number is none or out of its range."""
        found = recipe(self.model)
        precision(self.precision)  # raises for an unknown name
        for name in ("epochs", "batch_size", "steps"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise ArgumentError(f"train: {name} must be at least 1, got {value!r}. Pass a larger number.")
        for name in ("weight_decay", "shift", "seed"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ArgumentError(f"train: {name} must be a finite number, got {value!r}. Pass one.")
        if not (isinstance(self.lr, int | float) and math.isfinite(self.lr) and self.lr > 0):
            raise ArgumentError(f"train: lr must be finite and above 0, got {self.lr!r}. Try {found.lr:g}.")
        return self


class Trainer:
    """A model, its optimizer, and where training stands.

    Attributes:
        history: one row of metrics per finished epoch.
        step: steps done.
    """

    def __init__(self, options: Options, data: Split) -> None:
        if not len(data.x_train):
            raise DataError("train: the training set is empty. Pass at least one image.")
        self.options, self.data = options, data
        manual_seed(options.seed)
        self.model = recipe(options.model).build()
        self.opt = optim.AdamW(self.model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
        self.precision = precision(options.precision)
        self.scaler = optim.GradScaler(enabled=self.precision.value == "float16")
        self.batch_size = min(options.batch_size, len(data.x_train))
        self.steps_per_epoch = len(data.x_train) // self.batch_size
        self.total = options.epochs * self.steps_per_epoch
        if options.steps is not None:
            self.total = min(self.total, options.steps)
        self.epochs = -(-self.total // self.steps_per_epoch)
        self.history: list[dict[str, float]] = []
        self.step = 0
        self._epoch_start = generator().state
        self._sums = [0.0, 0.0, 0.0, 0.0]  # of the running epoch: loss · images, correct, images, seconds

    def rate(self) -> float:
        """The learning rate of the next step: a linear rise, then half a cosine down to 0."""
        rise = min(1.0, (self.step + 1) / min(WARMUP, self.total))
        return self.options.lr * rise * 0.5 * (1 + math.cos(math.pi * self.step / self.total))

    def fit(self, progress: Progress | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        """Train to the end, from wherever training stands.

        Args:
            stop: asked after every step; True ends training.

        Raises:
            Interrupted: `stop` said so. `fit` can be called again.
            DataError: the loss is no longer finite.
        """
        self.model.train()
        with _one_blas_thread():
            self._fit(progress, stop)

    def _fit(self, progress: Progress | None, stop: Callable[[], bool]) -> None:
        last = time.perf_counter()
        while self.step < self.total:
            for x, y in self._rest_of_epoch():
                loss, correct = self._step(x, y)
                if not math.isfinite(loss):
                    raise DataError(
                        f"train: the loss is {loss} at step {self.step}. Use a smaller learning rate than "
                        f"{self.options.lr:g} (--lr)."
                    )
                now = time.perf_counter()
                added = (loss * len(x), correct, len(x), now - last)
                self._sums, last = [a + b for a, b in zip(self._sums, added, strict=True)], now
                self.step += 1
                if progress is not None:
                    progress.step(self.step, self.total)
                if self.step % self.steps_per_epoch == 0 or self.step == self.total:
                    self._finish_epoch(progress)
                if self.step == self.total:
                    break
                if stop():
                    raise Interrupted

    def _rest_of_epoch(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The batches of the running epoch that are still to come.

        They are drawn from the state the generator had when the epoch began, so that a continued epoch sees the same.
        """
        source, now, done = generator(), generator().state, self.step % self.steps_per_epoch
        if done:
            source.state = self._epoch_start
        self._epoch_start = source.state
        x, y = self.data.x_train, self.data.y_train
        if self.options.shift:
            x = shift_images(x, self.options.shift)
        parts = list(batches(x, y, self.batch_size, shuffle=True, drop_last=True))
        if done:
            source.state = now
        return parts[done:]

    def _step(self, x: np.ndarray, y: np.ndarray) -> tuple[float, int]:
        """One update; the loss before it, and how many images were classified right."""
        self.opt.lr = self.rate()
        with self.precision, record() as tape:
            logits = self.model(x)
            loss = call("cross_entropy", logits, y)
            scaled = self.scaler.scale(loss)
        value, right = float(loss), int((np.argmax(asnumpy(logits), 1) == y).sum())
        self.scaler.step(self.opt, tape.backward(scaled))
        self.scaler.update()
        return value, right

    def _finish_epoch(self, progress: Progress | None) -> None:
        loss, correct, images, seconds = self._sums
        row = {
            "epoch": len(self.history) + 1,
            "loss": loss / images,
            "accuracy": correct / images,
            "images_per_second": images / max(seconds, 1e-9),
            "seconds": seconds,
        }
        self.history.append(row)
        self._sums = [0.0, 0.0, 0.0, 0.0]
        if progress is not None:
            progress.epoch(row, self.epochs)

    # --- stopping and continuing

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that continuing needs beside the weights: arrays, and plain numbers."""
        saved = self.opt.state_dict()["state"]
        arrays = {f"{i}.{name}": a for i, entry in saved.items() for name, a in entry.items()}
        about = {
            "step": self.step,
            "generator": generator().state,
            "epoch_start": self._epoch_start,
            "sums": self._sums,
            "history": self.history,
            "scaler": self.scaler.state_dict(),
        }
        return arrays, about

    def load_state(self, weights: dict[str, np.ndarray], arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
        """Go to where `state` was taken, with the weights of that moment. Continuing then gives the same bits."""
        try:
            saved: dict[int, dict[str, np.ndarray]] = {}
            for key, a in arrays.items():
                i, _, name = key.partition(".")
                saved.setdefault(int(i), {})[name] = a
            groups = self.opt.state_dict()["param_groups"]
            self.model.load_state_dict(weights)
            self.opt.load_state_dict({"state": saved, "param_groups": groups})
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(about["scaler"])
            self.step, self._sums = int(about["step"]), [float(s) for s in about["sums"]]
            self.history = [{column: row[column] for column in COLUMNS} for row in about["history"]]
            self._epoch_start = tuple(about["epoch_start"])
            generator().state = tuple(about["generator"])
        except (KeyError, ValueError, TypeError) as e:
            if isinstance(e, CheckpointError):
                raise
            raise CheckpointError(f"resume: the saved state is damaged ({e!r}). Start a new run.") from e


def evaluate(model: nn.Module, x: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """The predicted class of every image, in inference mode."""
    model.eval()
    with _one_blas_thread():
        parts = [asnumpy(model(x[i : i + batch_size])) for i in range(0, len(x), batch_size)]
    return np.argmax(np.concatenate(parts), 1)
