"""Programs compiled with rewrites and without, compared; and what they run on."""

from __future__ import annotations

import numpy as np

import gputape as gt

EPS = np.finfo(np.float32).eps


def ops_of(compiled):
    return [node.op for i, node in enumerate(compiled.plan.record) if node.inputs and node.at.op.view is None
            and node.op != "output" and i not in compiled.plan.placement.joins]  # fmt: skip


def both(f, *args):
    """(what rewrites make of `f`, its result, the result without them), which is that of eager, bit for bit."""
    plain, compiled = gt.compile(f, rewrite=False), gt.compile(f)
    for _ in range(2):  # the second is a replay
        eager, same, found = (np.asarray(run(*args)) for run in (f, plain, compiled))
        assert same.tobytes() == eager.tobytes()
        assert found.shape == eager.shape and found.dtype == eager.dtype
    return compiled, found, eager


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("f")


# Input, weight and bias of an affine map, and a residual.
X, W, B, R = normal(6, 5), normal(7, 5, seed=1), normal(7, seed=2), normal(6, 7, seed=3)
