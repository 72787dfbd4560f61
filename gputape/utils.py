"""Helpers for short scripts, after the original's `Utils`: read results by id, build leaves, a plain SGD loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .errors import ArgumentError, DataError, ShapeError, TapeError
from .tape import Tape
from .tapem import TapeM, do

__all__ = ["const", "mean_loss", "param", "read_grad", "read_scalar", "read_value", "sgd"]


def read_scalar(tape: Tape, i: int, tag: str = "read_scalar") -> float:
    """The value of node `i`, which must have shape (), as a Python float; errors start with `tag`."""
    value = read_value(tape, i, tag)
    if value.shape != ():
        raise ShapeError(f"{tag}: node {i} has shape {value.shape}, not (). Reduce it with sum or mean first.")
    return float(value)


def read_value(tape: Tape, i: int, tag: str = "read_value") -> np.ndarray:
    """The array at node `i`; `TapeError` starting with `tag` if there is no such node."""
    try:
        return tape.value(i)
    except TapeError as e:
        raise TapeError(f"{tag}: missing value for node id {i} ({e})") from e


def read_grad(grads: dict[int, np.ndarray], i: int, tag: str = "read_grad") -> np.ndarray:
    """The gradient of node `i` from the result of `backward`; `TapeError` starting with `tag` if it has none."""
    try:
        return grads[i]
    except KeyError:
        raise TapeError(
            f"{tag}: missing gradient for node id {i}. The output does not depend on it, or it does not require one."
        ) from None


def param(value: Any, name: str | None = None) -> TapeM[int]:
    """A leaf that requires a gradient."""
    return TapeM.leaf(value, name, requires_grad=True)


def const(value: Any, name: str | None = None) -> TapeM[int]:
    """A leaf that requires none."""
    return TapeM.leaf(value, name, requires_grad=False)


@do
def mean_loss(xs: Iterable[Any], loss_of: Callable[[Any], TapeM[int]], tag: str = "mean_loss"):
    """The mean of the scalar losses `loss_of(x)`, added from left to right; `DataError` if there are none."""
    losses = []
    for x in xs:
        losses.append((yield loss_of(x)))
    if not losses:
        raise DataError(f"{tag}: empty data set. Give at least one sample.")
    total = losses[0]
    for loss in losses[1:]:
        total = yield TapeM.op("add", total, loss)
    return (yield TapeM.op("scale", total, 1.0 / len(losses)))


def sgd(
    params: Sequence[Any],
    loss_of: Callable[..., TapeM[int]],
    samples: Sequence[Any],
    lr: float,
    steps: int,
    report: Callable[[int, float], None] | None = None,
) -> list[np.ndarray]:
    """Plain stochastic gradient descent, one sample a step, cycling through `samples`.

    Args:
        params: start values.
        loss_of: `(parameter ids, sample) -> TapeM` of the id of a scalar loss.
        lr: step size, finite and not negative.
        report: called with (step, loss) before each update.

    Returns:
        The parameters after `steps` steps.

    Raises:
        ArgumentError: `lr` is negative or not finite.
        DataError: there are no samples.
    """
    if not (math.isfinite(lr) and lr >= 0):
        raise ArgumentError(f"sgd: lr is {lr}. Give a finite number of 0 or more.")
    if not len(samples):
        raise DataError("sgd: empty data set. Give at least one sample.")
    values = [
        np.array(p, dtype=np.result_type(p, np.float32) if isinstance(p, np.ndarray) else np.float32) for p in params
    ]

    @do
    def step(sample: Any):
        ids = []
        for p in values:
            ids.append((yield param(p)))
        loss = yield loss_of(ids, sample)
        tape = yield TapeM.get()
        grads = yield TapeM.backward(loss)
        return read_scalar(tape, loss, "sgd"), [grads.get(i) for i in ids]

    for k in range(steps):
        loss, grads = step(samples[k % len(samples)]).eval()
        if report is not None:
            report(k, loss)
        values = [p if g is None else p - np.asarray(lr, p.dtype) * g for p, g in zip(values, grads, strict=True)]
    return values
