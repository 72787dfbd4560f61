"""The GPT of the perf models by hand in NumPy. Scores of attention have the keys outermost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from models import BLOCKS, HEADS, TEXTS, TOKENS, VOCABULARY, WIDTH
from numpy_base import PIECE, Adam, Array, CrossEntropy, empty

ROWS, HEAD = TEXTS * TOKENS, WIDTH // HEADS
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
# 7.1.26; |error| ≤ 1.5e-7. Its exponential, of z = |x|/√2, is the one that GELU's slope needs. Halves of a₅ to a₁:
TAIL = (0.5307027145, -0.7265760135, 0.7107068705, -0.142248368, 0.127414796)
TAIL_P = 0.3275911 / math.sqrt(2)
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
    buffers = tuple(empty(PIECE // (4 * WIDTH), 4 * WIDTH) for _ in range(3))

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
