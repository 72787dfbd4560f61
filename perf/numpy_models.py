"""The three perf models written by hand in NumPy, as fast as plain calls go: what a compiled plan should reach.

The layouts are chosen for long runs: images are (C, H, W, N), features (features, N) with a row of ones that carries
the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from models import BATCH
from numpy.lib.stride_tricks import sliding_window_view
from numpy_base import Adam, Array, CrossEntropy, empty
from numpy_gpt import gpt

SMALL = 10**6  # M·N·K up to which OpenBLAS multiplies without packing its operands first


def with_bias(state: Mapping[str, Array], names: tuple[str, ...]) -> dict[str, Array]:
    """Weights as matrices (outputs, inputs + 1), whose last column is the bias."""
    return {
        n: np.column_stack([np.reshape(state[f"{n}.weight"], (len(state[f"{n}.bias"]), -1)), state[f"{n}.bias"]])
        for n in names
    }


def ones_below(features: int, samples: int) -> Array:
    """(features + 1, samples), whose last row is ones."""
    made = empty(features + 1, samples)
    made[-1] = 1
    return made


class Dense:
    """Linear layers with ReLUs between them, on (features + 1, N) in `inputs[0]`."""

    def __init__(self, adam: Adam, names: tuple[str, ...], samples: int):
        self.weights, self.grads = [adam.params[n] for n in names], [adam.grads[n] for n in names]
        self.inputs = [ones_below(w.shape[1] - 1, samples) for w in self.weights]
        self.logits = empty(len(self.weights[-1]), samples)
        hidden = [x[:-1] for x in self.inputs]
        self.outputs = [*hidden[1:], self.logits]
        self.cotangents = [np.empty_like(x) for x in hidden]
        self.alive = [np.empty(x.shape, bool) for x in hidden]
        self.zeros = [np.zeros_like(x) for x in hidden]

    def forward(self) -> Array:
        for k, (w, x, y) in enumerate(zip(self.weights, self.inputs, self.outputs), 1):
            np.matmul(w, x, out=y)
            if y is not self.logits:
                np.maximum(y, self.zeros[k], out=y)  # of two arrays: the call with a number is not vectorised
                np.greater(y, 0, out=self.alive[k])
        return self.logits

    def backward(self, dlogits: Array, whole: bool = False) -> Array:
        """Gradients of the weights and, if `whole`, that of the inputs."""
        dy = dlogits
        for k in reversed(range(len(self.weights))):
            np.matmul(dy, self.inputs[k].T, out=self.grads[k])
            if k or whole:
                dx = self.cotangents[k]
                np.matmul(self.weights[k][:, :-1].T, dy, out=dx)
                if k:
                    np.multiply(dx, self.alive[k], out=dx)
                dy = dx
        return dy


def mlp(state: Mapping[str, Array]) -> Callable[[Array, Array], float]:
    names = ("0", "2", "4")
    adam = Adam(with_bias(state, names))
    dense, cross_entropy = Dense(adam, names, BATCH), CrossEntropy(BATCH)

    def step(x: Array, labels: Array) -> float:
        np.copyto(dense.inputs[0][:-1], x.T)
        logits = dense.forward()
        loss = cross_entropy(logits, labels)
        dense.backward(logits)
        adam.step()
        return loss

    return step


class ConvPool:
    """3×3 convolution, ReLU and 2×2 max pooling of (C, H + 2, W + 2, N), with a border of zeros, `band` rows at a time.

    A maximum of ReLUs is the ReLU of the maximum, so ReLU runs over a quarter of the elements.
    """

    def __init__(self, weight: Array, grad: Array, source: Array, pooled: Array, band: int):
        (c, height, width, n), outs = source.shape, len(weight)
        height, width = height - 2, width - 2
        self.weight, self.grad = weight, grad
        self.total, self.partial = empty(*grad.T.shape), empty(*grad.T.shape)
        self.source, self.dsource = source, np.zeros_like(source)
        self.cols = [ones_below(9 * c, band * width * n) for _ in range(0, height, band)]
        self.dcols, self.y = empty(9 * c, band * width * n), empty(outs, band * width * n)
        most = SMALL // (outs * (9 * c + 1))
        self.count = next(k for k in range(1, width * n + 1) if width * n % k == 0 and band * width * n // k <= most)
        y = self.y.reshape(outs, band, width, n)
        self.corners = [y[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        small = self.corners[0].shape
        self.zeros, self.work, self.some = np.zeros(small, np.float32), empty(*small), np.empty(small, bool)
        windows = sliding_window_view(source, (3, 3), axis=(1, 2)).transpose((0, 4, 5, 1, 2, 3))
        shape = (c, 3, 3, band, width, n)
        taps = self.dcols.reshape(shape)
        self.bands = []
        for k, cols in enumerate(self.cols):
            rows, half = slice(k * band, (k + 1) * band), slice(k * band // 2, (k + 1) * band // 2)
            into = [
                (self.dsource[:, k * band + i : (k + 1) * band + i, j : j + width], taps[:, i, j])
                for i in range(3)
                for j in range(3)
            ]
            masks = [np.empty(small, bool) for _ in range(4)]  # where a corner is the first of the largest
            alive = np.empty(small, bool)
            filled = cols[:-1].reshape(shape)
            self.bands.append((windows[:, :, :, rows], filled, cols, pooled[:, half], half, masks, alive, into))

    def strips(self, x: Array) -> Array:
        """(rows, positions) as a stack of small matrices side by side."""
        return x.reshape(len(x), self.count, -1).transpose((1, 0, 2))

    def forward(self) -> None:
        (a, b, c, d), some = self.corners, self.some
        for windows, filled, cols, top, _, masks, alive, _ in self.bands:
            np.copyto(filled, windows)
            np.matmul(self.weight, self.strips(cols), out=self.strips(self.y))
            np.maximum(a, b, out=top)
            np.maximum(c, d, out=self.work)
            np.maximum(top, self.work, out=top)
            np.equal(a, top, out=masks[0])
            np.equal(b, top, out=masks[1])
            np.greater(masks[1], masks[0], out=masks[1])
            np.logical_or(masks[0], masks[1], out=some)
            np.equal(c, top, out=masks[2])
            np.greater(masks[2], some, out=masks[2])
            np.logical_or(some, masks[2], out=some)
            np.logical_not(some, out=masks[3])
            np.maximum(top, self.zeros, out=top)
            np.greater(top, 0, out=alive)

    def backward(self, dpooled: Array, whole: bool) -> None:
        """The gradient of the weight and, if `whole`, that of the source in `dsource`."""
        if whole:
            self.dsource.fill(0)
        dweight = self.total
        for _, _, cols, _, half, masks, alive, into in self.bands:
            np.multiply(dpooled[:, half], alive, out=self.work)
            for corner, mask in zip(self.corners, masks):
                np.multiply(self.work, mask, out=corner)
            np.matmul(cols, self.y.T, out=dweight)  # with many rows on the left, a third faster than its transpose
            if dweight is self.partial:
                np.add(self.total, self.partial, out=self.total)
            dweight = self.partial
            if whole:
                np.matmul(self.weight[:, :-1].T, self.strips(self.y), out=self.strips(self.dcols))
                for place, tap in into:
                    np.add(place, tap, out=place)
        np.copyto(self.grad, self.total.T)


def cnn(state: Mapping[str, Array]) -> Callable[[Array, Array], float]:
    adam = Adam(with_bias(state, ("0", "3", "7", "9")))
    dense, cross_entropy = Dense(adam, ("7", "9"), BATCH), CrossEntropy(BATCH)
    images, middle = np.zeros((1, 30, 30, BATCH), np.float32), np.zeros((16, 16, 16, BATCH), np.float32)
    features = dense.inputs[0][:-1].reshape(32, 7, 7, BATCH)
    first = ConvPool(adam.params["0"], adam.grads["0"], images, middle[:, 1:-1, 1:-1], 2)
    second = ConvPool(adam.params["3"], adam.grads["3"], middle, features, 2)

    def step(x: Array, labels: Array) -> float:
        np.copyto(images[0, 1:-1, 1:-1], x.reshape(BATCH, 28, 28).transpose((1, 2, 0)))
        first.forward()
        second.forward()
        logits = dense.forward()
        loss = cross_entropy(logits, labels)
        second.backward(dense.backward(logits, True).reshape(features.shape), True)
        first.backward(second.dsource[:, 1:-1, 1:-1], False)
        adam.step()
        return loss

    return step


MODELS = {"mlp": mlp, "cnn": cnn, "gpt": gpt}


def trainer(name: str, state: Mapping[str, Any]) -> Callable[[Array, Array], float]:
    """One step of training with Adam, from these weights: `(inputs, labels) -> loss`."""
    return MODELS[name]({key: np.array(a) for key, a in state.items()})
