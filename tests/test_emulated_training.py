"""Models train the same through the GPU kernels, emulated, as through the NumPy bodies."""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: no kernel is emulated")

import gputape as gt
from gputape import optim
from gputape.random import generator
from gputape.train.models import recipe


def trained(device, model_name, steps, compiled, **options):
    """Losses, parameters and random state after a few steps of AdamW on one fixed batch."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(4, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 4)
    with gt.device(device):
        gt.manual_seed(0)
        model = recipe(model_name).build()
        opt = optim.AdamW(model.parameters(), lr=1e-3, **options)

        def step(x, y):
            with gt.record() as tape:
                loss = gt.cross_entropy(model(x), y)
            opt.step(tape.backward(loss))
            return loss

        if compiled:
            step = gt.compile(step)
        losses = [float(step(x, y)) for _ in range(steps)]
        return losses, [np.array(p.array) for p in model.parameters()], generator().state


def assert_same_weights(weights, exact):
    for found, w in zip(weights, exact, strict=True):
        # Adam divides by √v: where a gradient is nearly 0, its rounding moves a weight by up to lr per step.
        np.testing.assert_allclose(found, w, rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("model_name, compiled", [("digits-cnn", False), ("digits-mlp", False), ("digits-mlp", True)])
def test_training_through_the_kernels_matches_the_cpu(model_name, compiled):
    losses, weights, state = trained("emulated", model_name, 3, compiled)
    expected, exact, cpu_state = trained("cpu", model_name, 3, False)
    assert state == cpu_state  # the same dropout masks, bit for bit
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert losses[-1] < losses[0]
    assert_same_weights(weights, exact)


def test_the_kernels_climb_as_the_cpu_does():
    losses, weights, _ = trained("emulated", "digits-mlp", 2, True, maximize=True)
    expected, exact, _ = trained("cpu", "digits-mlp", 2, False, maximize=True)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert_same_weights(weights, exact)
    with pytest.raises(AssertionError):  # a step the other way is not lost in the tolerance
        assert_same_weights(weights, trained("cpu", "digits-mlp", 2, False)[1])
