"""The three perf models written by hand in NumPy, as fast as plain calls go: what a compiled plan should reach.

All memory is made beforehand and every call writes into it (`out=`). Parameters, gradients and moments are one vector
each, so that Adam is ten calls. The layouts are chosen for long runs: images are (C, H, W, N), features of the MLP and
the CNN (features, N) with a row of ones that carries the bias, scores of attention have the keys outermost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from models import BATCH, BLOCKS, HEADS, TEXTS, TOKENS, VOCABULARY, WIDTH
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray[Any, Any]
ROWS, HEAD = TEXTS * TOKENS, WIDTH // HEADS
PIECE = 1 << 15  # elements at a time where several calls follow each other: what they use stays in the second-level cache


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
    """3×3 convolution, ReLU and 2×2 max pooling of (C, H + 2, W + 2, N) with a border of zeros, in bands of rows.

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

    def forward(self) -> None:
        (a, b, c, d), some = self.corners, self.some
        for windows, filled, cols, top, _, masks, alive, _ in self.bands:
            np.copyto(filled, windows)
            np.matmul(self.weight, cols, out=self.y)
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
                np.matmul(self.weight[:, :-1].T, self.y, out=self.dcols)
                for place, tap in into:
                    np.add(place, tap, out=place)
        np.copyto(self.grad, self.total.T)


def cnn(state: Mapping[str, Array]) -> Callable[[Array, Array], float]:
    adam = Adam(with_bias(state, ("0", "3", "7", "9")))
    dense, cross_entropy = Dense(adam, ("7", "9"), BATCH), CrossEntropy(BATCH)
    images, middle = np.zeros((1, 30, 30, BATCH), np.float32), np.zeros((16, 16, 16, BATCH), np.float32)
    features = dense.inputs[0][:-1].reshape(32, 7, 7, BATCH)
    first = ConvPool(adam.params["0"], adam.grads["0"], images, middle[:, 1:-1, 1:-1], 4)
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


MEAN = np.full((WIDTH, 1), 1 / WIDTH, np.float32)  # sums by products: several times as fast as np.add.reduce
ONES = np.ones(ROWS, np.float32)


class Norm:
    """Layer norm of (ROWS, WIDTH)."""

    work, mean = empty(ROWS, WIDTH), empty(ROWS, 1)

    def __init__(self, adam: Adam, name: str):
        self.gain, self.bias = adam.params[f"{name}.weight"], adam.params[f"{name}.bias"]
        self.dgain, self.dbias = adam.grads[f"{name}.weight"], adam.grads[f"{name}.bias"]
        self.hat, self.out, self.rstd = empty(ROWS, WIDTH), empty(ROWS, WIDTH), empty(ROWS, 1)

    def forward(self, x: Array) -> Array:
        hat, rstd, out = self.hat, self.rstd, self.out
        np.matmul(x, MEAN, out=self.mean)
        np.subtract(x, self.mean, out=hat)
        np.vecdot(hat, hat, out=rstd[:, 0])
        np.multiply(rstd, 1 / WIDTH, out=rstd)
        np.add(rstd, 1e-5, out=rstd)
        np.sqrt(rstd, out=rstd)
        np.reciprocal(rstd, out=rstd)
        np.multiply(hat, rstd, out=hat)
        np.multiply(hat, self.gain, out=out)
        return np.add(out, self.bias, out=out)

    def backward(self, dy: Array, dx: Array) -> None:
        """Add the gradient of x to `dx`; `dy` is used up."""
        work, mean = self.work, self.mean
        np.matmul(ONES, dy, out=self.dbias)
        np.multiply(dy, self.hat, out=work)
        np.matmul(ONES, work, out=self.dgain)
        np.multiply(dy, self.gain, out=dy)
        np.matmul(dy, MEAN, out=mean)
        np.subtract(dy, mean, out=dy)
        np.vecdot(dy, self.hat, out=mean[:, 0])
        np.multiply(mean, 1 / WIDTH, out=mean)
        np.multiply(self.hat, mean, out=work)
        np.subtract(dy, work, out=dy)
        np.multiply(dy, self.rstd, out=dy)
        np.add(dx, dy, out=dx)


class Linear:
    """x·Wᵀ + b for (ROWS, features)."""

    def __init__(self, adam: Adam, name: str):
        self.weight, self.bias = adam.params[f"{name}.weight"], adam.params[f"{name}.bias"]
        self.dweight, self.dbias = adam.grads[f"{name}.weight"], adam.grads[f"{name}.bias"]

    def forward(self, x: Array, out: Array) -> None:
        np.matmul(x, self.weight.T, out=out)
        np.add(out, self.bias, out=out)

    def backward(self, dy: Array, x: Array, dx: Array) -> None:
        np.matmul(dy.T, x, out=self.dweight)
        np.matmul(ONES, dy, out=self.dbias)
        np.matmul(dy, self.weight, out=dx)


# 1 - erf(z) = (a₁t + … + a₅t⁵)·exp(-z²), t = 1/(1 + pz): Abramowitz & Stegun, Handbook of Mathematical Functions,
# 7.1.26; |error| ≤ 1.5e-7. Its exponential, of z = |x|/√2, is the one that GELU's slope needs.
TAIL_P, TAIL = 0.3275911 / math.sqrt(2), [a / 2 for a in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)]
SIGN = np.int32(-(2**31))


def gelu(x: Array, slope: Array, a: Array, t: Array, q: Array) -> None:
    """GELU of x in its place, and its slope; the others are buffers of the same size."""
    np.absolute(x, out=a)
    np.multiply(a, TAIL_P, out=t)
    np.add(t, 1, out=t)
    np.divide(1, t, out=t)
    np.multiply(t, TAIL[0], out=q)
    for c in TAIL[1:]:
        np.add(q, c, out=q)
        np.multiply(q, t, out=q)
    np.multiply(a, -0.5, out=t)
    np.multiply(t, a, out=t)
    np.exp(t, out=t)
    np.multiply(q, t, out=q)
    np.subtract(0.5, q, out=q)
    sign = a.view(np.int32)
    np.bitwise_and(x.view(np.int32), SIGN, out=sign)
    np.bitwise_or(q.view(np.int32), sign, out=q.view(np.int32))
    np.add(q, 0.5, out=q)  # Φ(x)
    np.multiply(t, 1 / math.sqrt(2 * math.pi), out=t)
    np.multiply(t, x, out=t)
    np.add(t, q, out=slope)
    np.multiply(x, q, out=x)


def heads_of(x: Array) -> Array:
    """(ROWS, WIDTH) as (TEXTS, HEADS, TOKENS, HEAD)."""
    return x.reshape(TEXTS, TOKENS, HEADS, HEAD).transpose((0, 2, 1, 3))


class Attention:
    """Causal attention of the queries, keys and values side by side in `qkv`, (ROWS, 3·WIDTH)."""

    # 0 or -inf, by key and query
    bound = np.where(np.arange(TOKENS)[:, None] > np.arange(TOKENS), -np.inf, 0).astype(np.float32)[:, None, None]
    across, scores = empty(TEXTS, HEADS, HEAD, TOKENS), empty(TOKENS, TEXTS, HEADS, TOKENS)
    row = empty(TEXTS, HEADS, TOKENS)
    dqkv = empty(ROWS, 3 * WIDTH)

    def __init__(self) -> None:
        self.qkv, self.y = empty(ROWS, 3 * WIDTH), empty(ROWS, WIDTH)
        self.p = empty(TOKENS, TEXTS, HEADS, TOKENS)  # weights by key, text, head and query
        self.by_key, self.by_query = self.p.transpose((1, 2, 0, 3)), self.p.transpose((1, 2, 3, 0))
        self.q, self.k, self.v = (heads_of(part) for part in np.split(self.qkv, 3, axis=1))

    def forward(self) -> Array:
        p = self.p
        np.multiply(self.q.transpose((0, 1, 3, 2)), 1 / math.sqrt(HEAD), out=self.across)
        np.matmul(self.k, self.across, out=self.by_key)
        np.add(p, self.bound, out=p)
        np.maximum.reduce(p, axis=0, out=self.row)
        np.subtract(p, self.row, out=p)
        np.exp(p, out=p)
        np.add.reduce(p, axis=0, out=self.row)
        np.reciprocal(self.row, out=self.row)
        np.multiply(p, self.row, out=p)
        np.matmul(self.by_query, self.v, out=heads_of(self.y))
        return self.y

    def backward(self, dy: Array) -> Array:
        dq, dk, dv = (heads_of(part) for part in np.split(self.dqkv, 3, axis=1))
        ds, g = self.scores, heads_of(dy)
        np.matmul(self.by_key, g, out=dv)
        np.multiply(g.transpose((0, 1, 3, 2)), 1 / math.sqrt(HEAD), out=self.across)
        np.matmul(self.v, self.across, out=ds.transpose((1, 2, 0, 3)))
        np.vecdot(g, heads_of(self.y), out=self.row)
        np.multiply(self.row, 1 / math.sqrt(HEAD), out=self.row)
        np.subtract(ds, self.row, out=ds)
        np.multiply(ds, self.p, out=ds)
        np.matmul(ds.transpose((1, 2, 3, 0)), self.k, out=dq)
        np.matmul(ds.transpose((1, 2, 0, 3)), self.q, out=dk)
        return self.dqkv


class Block:
    """x + attention(norm(x)), then x + MLP(norm(x)), in the place of x."""

    wide, narrow = empty(ROWS, 4 * WIDTH), empty(ROWS, WIDTH)
    buffers = [empty(PIECE // (4 * WIDTH), 4 * WIDTH) for _ in range(3)]

    def __init__(self, adam: Adam, name: str):
        self.norm1, self.norm2 = Norm(adam, f"{name}.norm1"), Norm(adam, f"{name}.norm2")
        self.into, self.out = Linear(adam, f"{name}.qkv"), Linear(adam, f"{name}.out")
        self.up, self.down = Linear(adam, f"{name}.mlp.0"), Linear(adam, f"{name}.mlp.2")
        self.attention = Attention()
        self.hidden, self.slope = empty(ROWS, 4 * WIDTH), empty(ROWS, 4 * WIDTH)
        rows = len(self.buffers[0])
        self.pieces = [(self.hidden[i : i + rows], self.slope[i : i + rows]) for i in range(0, ROWS, rows)]

    def forward(self, x: Array) -> None:
        self.into.forward(self.norm1.forward(x), self.attention.qkv)
        self.out.forward(self.attention.forward(), self.narrow)
        np.add(x, self.narrow, out=x)
        np.matmul(self.norm2.forward(x), self.up.weight.T, out=self.hidden)
        for hidden, slope in self.pieces:
            np.add(hidden, self.up.bias, out=hidden)
            gelu(hidden, slope, *self.buffers)
        self.down.forward(self.hidden, self.narrow)
        np.add(x, self.narrow, out=x)

    def backward(self, g: Array) -> None:
        wide, narrow = self.wide, self.narrow
        self.down.backward(g, self.hidden, wide)
        np.multiply(wide, self.slope, out=wide)
        self.up.backward(wide, self.norm2.out, narrow)
        self.norm2.backward(narrow, g)
        self.out.backward(g, self.attention.y, narrow)
        self.into.backward(self.attention.backward(narrow), self.norm1.out, narrow)
        self.norm1.backward(narrow, g)


def gpt(state: Mapping[str, Array]) -> Callable[[Array, Array], float]:
    adam = Adam(state)
    blocks = [Block(adam, f"blocks.{k}") for k in range(BLOCKS)]
    norm, cross_entropy = Norm(adam, "norm"), CrossEntropy(ROWS)
    params, grads = adam.params, adam.grads
    x, g, narrow, logits = empty(ROWS, WIDTH), empty(ROWS, WIDTH), empty(ROWS, WIDTH), empty(VOCABULARY, ROWS)
    by_text, one_hot, rows = x.reshape(TEXTS, TOKENS, WIDTH), empty(VOCABULARY, ROWS), np.arange(ROWS)

    def step(tokens: Array, labels: Array) -> float:
        flat = tokens.reshape(-1)
        np.take(params["tokens.weight"], flat, axis=0, out=x, mode="clip")  # the other modes copy once more
        np.add(by_text, params["positions.weight"], out=by_text)
        for block in blocks:
            block.forward(x)
        out = norm.forward(x)
        np.matmul(params["head.weight"], out.T, out=logits)
        loss = cross_entropy(logits, labels.reshape(-1))
        np.matmul(logits, out, out=grads["head.weight"])
        np.matmul(logits.T, params["head.weight"], out=narrow)
        g.fill(0)
        norm.backward(narrow, g)
        for block in reversed(blocks):
            block.backward(g)
        np.add.reduce(g.reshape(TEXTS, TOKENS, WIDTH), axis=0, out=grads["positions.weight"])
        one_hot.fill(0)
        one_hot[flat, rows] = 1
        np.matmul(one_hot, g, out=grads["tokens.weight"])
        adam.step()
        return loss

    return step


MODELS = {"mlp": mlp, "cnn": cnn, "gpt": gpt}


def trainer(name: str, state: Mapping[str, Any]) -> Callable[[Array, Array], float]:
    """One step of training with Adam, from these weights: `(inputs, labels) -> loss`."""
    return MODELS[name]({key: np.array(a) for key, a in state.items()})
