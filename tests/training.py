"""A training step of a classifier that returns its gradients, too."""

from __future__ import annotations

import gputape as gt
from gputape import optim


def trainer(model, **options):
    """`step(x, labels) -> (loss, gradients)` with Adam, like that of the perf models."""
    opt = optim.Adam(model.parameters(), **options)

    def step(x, labels):
        with gt.record() as tape:
            logits = model(x)
            loss = gt.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
        grads = tape.backward(loss)
        opt.step(grads)
        return loss, [grads[p] for p in model.parameters()]

    return step
