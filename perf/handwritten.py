"""The training step of the MLP written out in NumPy: memory taken once, every result written in place, Adam over one
vector of all parameters. What a compiled step may cost at best on this machine's NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

BETA1, BETA2, RATE, EPS = 0.9, 0.999, 1e-3, 1e-8


def mlp(state: dict[str, Any], batch: int) -> Callable[[np.ndarray, np.ndarray], float]:
    """One step of training with Adam, from those weights: `(inputs, labels) -> loss`."""
    arrays = [np.asarray(a) for a in state.values()]  # weight and bias of each layer
    flat = np.concatenate([a.ravel() for a in arrays])
    grad, mean, square, work = (np.zeros_like(flat) for _ in range(4))
    starts = np.cumsum([0, *[a.size for a in arrays]])
    cut = lambda v: [v[s : s + a.size].reshape(a.shape) for s, a in zip(starts, arrays)]  # noqa: E731
    (w1, b1, w2, b2, w3, b3), (dw1, db1, dw2, db2, dw3, db3) = cut(flat), cut(grad)
    h1, h2, z = (np.empty((batch, len(b)), np.float32) for b in (b1, b2, b3))
    d1, d2, zero = np.empty_like(h1), np.empty_like(h2), np.zeros_like(h1)
    mask, column, ones = np.empty(h1.shape, bool), np.empty((batch, 1), np.float32), np.ones(batch, np.float32)
    rows, steps = np.arange(batch), 0
    number = np.float32

    def layer(x: np.ndarray, w: np.ndarray, b: np.ndarray, y: np.ndarray) -> None:
        np.matmul(x, w.T, out=y)
        np.add(y, b, out=y)

    def gradients(d: np.ndarray, x: np.ndarray, dw: np.ndarray, db: np.ndarray) -> None:
        np.matmul(d.T, x, out=dw)
        np.matmul(ones, d, out=db)

    def through_relu(d: np.ndarray, h: np.ndarray) -> None:
        np.greater(h, 0, out=mask)
        np.multiply(d, mask, out=d)

    def step(x: np.ndarray, labels: np.ndarray) -> float:
        nonlocal steps
        layer(x, w1, b1, h1)
        np.maximum(h1, zero, out=h1)
        layer(h1, w2, b2, h2)
        np.maximum(h2, zero, out=h2)
        layer(h2, w3, b3, z)
        np.maximum.reduce(z, axis=1, out=column, keepdims=True)
        np.subtract(z, column, out=z)
        picked = z[rows, labels]
        np.exp(z, out=z)
        np.add.reduce(z, axis=1, out=column, keepdims=True)
        loss = (np.log(column[:, 0]) - picked).mean()
        np.divide(z, column, out=z)
        z[rows, labels] -= 1
        np.multiply(z, number(1 / batch), out=z)
        gradients(z, h2, dw3, db3)
        np.matmul(z, w3, out=d2)
        through_relu(d2, h2)
        gradients(d2, h1, dw2, db2)
        np.matmul(d2, w2, out=d1)
        through_relu(d1, h1)
        gradients(d1, x, dw1, db1)
        steps += 1
        root = (1 - BETA2**steps) ** 0.5
        np.multiply(mean, number(BETA1), out=mean)
        np.multiply(grad, number(1 - BETA1), out=work)
        np.add(mean, work, out=mean)
        np.multiply(grad, grad, out=work)
        np.multiply(work, number(1 - BETA2), out=work)
        np.multiply(square, number(BETA2), out=square)
        np.add(square, work, out=square)
        np.sqrt(square, out=work)
        np.add(work, number(EPS * root), out=work)
        np.divide(mean, work, out=work)
        np.multiply(work, number(RATE * root / (1 - BETA1**steps)), out=work)
        np.subtract(flat, work, out=flat)
        return float(loss)

    return step
