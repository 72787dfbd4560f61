"""Random training steps: compiled, with and without rewrites, on one thread and on two, they do what they do in eager
mode."""

from __future__ import annotations

import random

import numpy as np
import pytest

import gputape as gt
from gputape import nn
from gputape.variable import Cell

ROWS, WIDTH = 6, 8


def image(x):
    return gt.reshape(x, (ROWS, 2, 2, 2))


def convolved(x, kernel):
    return gt.reshape(gt.conv2d(image(x), gt.reshape(kernel, (2, 2, 2, 1)), padding="same"), (ROWS, WIDTH))


def pooled(x):
    return gt.reshape(gt.interpolate(gt.max_pool2d(gt.relu(image(x)), 2), scale_factor=2), (ROWS, WIDTH))


# Of two values of shape (ROWS, WIDTH), a matrix and a vector a third value.
STEPS = (
    lambda x, y, w, b: gt.linear(x, w, b),
    lambda x, y, w, b: gt.gelu(gt.linear(x, w, b)) + y,
    lambda x, y, w, b: gt.relu(x @ w + b),
    lambda x, y, w, b: gt.tanh(convolved(x, w[0])),
    lambda x, y, w, b: pooled(x),
    lambda x, y, w, b: gt.layer_norm(x, (WIDTH,), b, b) + y,
    lambda x, y, w, b: gt.softmax(x, -1) * y,
    lambda x, y, w, b: gt.sigmoid(x) + y,
    lambda x, y, w, b: gt.maximum(x, y) - gt.mean(x, 0),
    lambda x, y, w, b: gt.where(x > y, x, y * b),
    lambda x, y, w, b: gt.cat([gt.tanh(y[:, 4:]), x[:, :4]], 1),
    lambda x, y, w, b: gt.stack(gt.unbind(gt.reshape(x, (ROWS, 4, 2)), 2), 1).reshape(x.shape),
    lambda x, y, w, b: gt.reshape(x, (WIDTH, ROWS)).T,
    lambda x, y, w, b: x[[1, 2, 3, 4, 5, 0]] + x[[0, 1, 2, 3, 4, 5]],
    lambda x, y, w, b: gt.dropout(x, 0.3, True),
    lambda x, y, w, b: gt.checkpoint(lambda u, v: gt.dropout(gt.sin(u), 0.2, True) * v, x, y),
    lambda x, y, w, b: gt.detach(x) * y,
    lambda x, y, w, b: gt.sum(x, 1, keepdim=True) * 0.1 + gt.exp(gt.tanh(y)),
)


def step_of(seed):
    """(a random step of an array, the cells that it reads and writes)."""
    rng, data = random.Random(seed), np.random.default_rng(seed)
    w, b, p = (nn.Parameter(data.standard_normal(shape)) for shape in ((WIDTH, WIDTH), (WIDTH,), (ROWS, WIDTH)))
    cells = [Cell(data.standard_normal((ROWS, WIDTH))) for _ in range(3)]
    n = rng.randint(2, 9)
    chosen = [(rng.choice(STEPS), rng.randrange(3 + k), rng.randrange(max(0, k - 1), 3 + k)) for k in range(n)]
    ends = rng.sample(range(3, 3 + n), rng.randint(1, 2))
    kept = rng.sample(range(3 + n), rng.randint(0, 2))
    effects = [(cell, rng.randrange(3, 3 + n)) for cell in cells if rng.random() < 0.5]

    def step(x):
        with gt.record() as tape:
            values = [gt.leaf(x), gt.copy(p), gt.copy(cells[0])]
            for f, i, j in chosen:
                values.append(f(values[i], values[j], w, b))
            loss = sum(gt.mean(values[k] * 0.5) for k in ends)
        grads = tape.backward(loss, wrt=[values[0], w, b, p])
        for parameter in (w, b, p):
            parameter.assign(parameter - 0.1 * grads[parameter])
        for cell, k in effects:
            cell.assign(values[k])
        return [*(values[k] for k in kept), grads[values[0]]]

    return step, [w, b, p, *cells]


def outcome(seed, compiled):
    """What three calls return and leave behind."""
    gt.manual_seed(seed)
    step, cells = step_of(seed)
    run, found = compiled(step), []
    for k in range(3):
        results = run(np.random.default_rng(k).standard_normal((ROWS, WIDTH)))
        found += [np.array(np.asarray(y)) for y in (*results, *cells)]
    return found


@pytest.mark.parametrize("seed", range(100))
def test_compiled_they_do_what_they_do_in_eager_mode(seed, split):
    eager = outcome(seed, lambda step: step)
    for found, want in zip(outcome(seed, lambda step: gt.compile(step, rewrite=False)), eager, strict=True):
        assert found.tobytes() == want.tobytes()
    for n in (1, 2):
        split(n)
        for found, want in zip(outcome(seed, gt.compile), eager, strict=True):
            np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-10 * max(1.0, np.abs(want).max()))
