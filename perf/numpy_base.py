"""What the perf models by hand share: parameters in one vector with Adam over it, and the loss.

All memory is made beforehand and every call writes into it (`out=`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
PIECE = 1 << 15  # elements at a time where calls follow each other: what they use stays in the second-level cache


def empty(*shape: int) -> Array:
    return np.empty(shape, np.float32)


class Adam:
    """Named parameters in one vector, their gradients in another, and Adam over both.

    The moments are kept divided by 1 - β, which saves two passes.
    """

    def __init__(self, arrays: Mapping[str, Array], lr: float = 1e-3, betas: Any = (0.9, 0.999), eps: float = 1e-8):
        self.lr, self.betas, self.eps, self.steps = lr, betas, eps, 0
        size = sum(a.size for a in arrays.values())
        vectors = [np.zeros(size, np.float32) for _ in range(4)]
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        start = 0
        for name, a in arrays.items():
            for made, vector in ((self.params, vectors[0]), (self.grads, vectors[1])):
                made[name] = vector[start : start + a.size].reshape(a.shape)
            self.params[name][...] = a
            start += a.size
        work = empty(PIECE)
        self.pieces = [
            (*(v[i : i + PIECE] for v in vectors), work[: min(PIECE, size - i)]) for i in range(0, size, PIECE)
        ]

    def step(self) -> None:
        """Update the parameters; the gradients are used up."""
        self.steps += 1
        (b1, b2), t = self.betas, self.steps
        root = math.sqrt((1 - b2) / (1 - b2**t))
        rate, small = self.lr * (1 - b1) / (1 - b1**t) / root, self.eps / root
        for p, g, mean, square, work in self.pieces:
            np.multiply(mean, b1, out=mean)
            np.add(mean, g, out=mean)
            np.multiply(square, b2, out=square)
            np.multiply(g, g, out=g)
            np.add(square, g, out=square)
            np.sqrt(square, out=work)
            np.add(work, small, out=work)
            np.divide(mean, work, out=work)
            np.multiply(work, rate, out=work)
            np.subtract(p, work, out=p)


class CrossEntropy:
    """Mean loss of logits (classes, N), and its gradient in their place."""

    def __init__(self, samples: int):
        self.top, self.total, self.places = empty(samples), empty(samples), np.arange(samples)

    def __call__(self, z: Array, labels: Array) -> float:
        top, total, at = self.top, self.total, (labels, self.places)
        np.maximum.reduce(z, axis=0, out=top)
        np.subtract(z, top, out=z)
        chosen = z[at]
        np.exp(z, out=z)
        np.add.reduce(z, axis=0, out=total)
        loss = float((np.log(total) - chosen).mean())
        np.multiply(total, len(labels), out=total)
        np.divide(z, total, out=z)
        z[at] -= 1 / len(labels)
        return loss
