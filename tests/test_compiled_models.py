"""Whole models, compiled: their training, what `explain` tells of it, and the memory that they need."""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc
from pathlib import Path

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "perf"))

import models
from rewriting import EPS, normal
from training import trainer

import gputape as gt
from gputape import nn, optim

# --- training ---------------------------------------------------------------------------------------------------------


def close_gradients(found, exact):
    """Rounding, times the square root of the longest sum of products behind an element (4096 rows, say), relative to
    the largest gradient of the same parameter."""
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=256 * EPS * np.abs(b).max())


@pytest.mark.parametrize("name, samples", [("mlp", 64), ("cnn", 8), ("gpt", 2)])
def test_training_without_rewrites_is_eager_and_with_them_within_rounding(name, samples):
    """Three twins on the same batches: eager and `rewrite=False` must stay equal bit for bit. The third, rewritten, is
    set to their weights before each tenth step, so that its gradients can be compared with theirs."""
    example, rng = models.MODELS[name], np.random.default_rng(0)
    batches = [[x[:samples] for x in example.batch(rng)] for _ in range(4)]
    twins = []
    for _ in range(3):
        gt.manual_seed(0)
        twins.append(example.build())
    eager, plain, rewritten = (trainer(model) for model in twins)
    plain, rewritten = gt.compile(plain, rewrite=False), gt.compile(rewritten)
    first = []
    for k in range(200):
        if k % 10 == 0:
            for p, q in zip(twins[0].parameters(), twins[2].parameters(), strict=True):
                q.assign(p.array)
            near, close = rewritten(*batches[k % 4])
        (loss, grads), (same, twin) = (f(*batches[k % 4]) for f in (eager, plain))
        first.append(float(loss))
        assert loss.value.tobytes() == same.value.tobytes()
        assert all(a.tobytes() == b.tobytes() for a, b in zip(grads, twin, strict=True))
        if k % 10 == 0:
            np.testing.assert_allclose(float(near), float(loss), rtol=32 * EPS)
            close_gradients(close, grads)
    assert all(p.array.tobytes() == q.array.tobytes()
               for p, q in zip(twins[0].parameters(), twins[1].parameters(), strict=True))  # fmt: skip
    assert first[-1] < first[0] / 2
    assert rewritten.plan.totals()["calls"] < plain.plan.totals()["calls"]


def test_two_rewritten_runs_are_bit_identical():
    example, runs = models.MODELS["mlp"], []
    for _ in range(2):
        gt.manual_seed(0)
        model = example.build()
        step, rng = gt.compile(trainer(model)), np.random.default_rng(0)
        runs.append([float(step(*example.batch(rng))[0]) for _ in range(20)])
        runs[-1] += [p.array.tobytes() for p in model.parameters()]
    assert runs[0] == runs[1]


class TinyBlock(nn.Module):
    """A block of the perf model, small enough for the emulator."""

    def __init__(self, width=16, n_heads=2):
        self.norm1, self.norm2, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), n_heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))

    def forward(self, x):
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = gt.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        x = x + self.out(y.permute(0, 2, 1, 3).reshape(n, length, width))
        return x + self.mlp(self.norm2(x))


def test_a_block_trains_the_same_through_emulated_kernels():
    x, t = normal(2, 5, 16), normal(2, 5, 16, seed=1)
    runs = {}
    for rewrite in (False, True):
        with gt.device("emulated"):
            gt.manual_seed(0)
            model = TinyBlock()
            opt = optim.SGD(model.parameters(), lr=0.1)

            def step(x, t, model=model, opt=opt):
                with gt.record() as tape:
                    loss = gt.mse_loss(model(x), t)
                grads = tape.backward(loss)
                opt.step(grads)
                return loss, [grads[p] for p in model.parameters()]

            compiled = gt.compile(step, rewrite=rewrite)
            runs[rewrite] = [compiled(x, t) for _ in range(3)]
    for (a, grads), (b, exact) in zip(runs[True], runs[False], strict=True):
        np.testing.assert_allclose(float(a), float(b), rtol=64 * EPS)
        close_gradients(grads, exact)


def test_explain_tells_what_was_rewritten_and_what_it_saved():
    example = models.MODELS["gpt"]
    step = gt.compile(trainer(example.build()))
    step(*example.batch(np.random.default_rng(0)))
    text = step.explain()
    assert "(linear, gelu and its slope)" in text and "(3 slice_bwd, 2 add)" in text
    assert "gelu_bwd, with the slope of the forward pass (rounds otherwise)" in text
    now, before = step.plan.totals(), step.plan.totals(rewritten=False)
    assert now["calls"] < 0.75 * before["calls"] and now["bytes"] < 0.75 * before["bytes"]
    assert now["arena"] <= before["arena"]
    assert f"{now['calls']} calls, {now['bytes']} bytes moved" in text


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.MODELS)
def test_the_arena_is_close_to_what_is_alive_at_once(name):
    step, batch = models.trainer(models.MODELS[name].build()), models.MODELS[name].batch(np.random.default_rng(0))
    compiled = gt.compile(step)
    compiled(*batch)
    placement = compiled.plan.placement
    alive = np.zeros(len(compiled.plan.record) + 1, np.int64)
    for (i, k), (first, last) in placement._spans().items():
        a = compiled.plan.record[i].avals[k]
        if a is not None and (i, k) not in placement.in_cell:
            alive[max(first, 0) : last + 1] += a.nbytes
    for i, avals in placement.program.scratch.items():
        alive[i] += sum(a.nbytes for a in avals) if i not in placement.joins else 0
    assert 0 < placement.size <= 1.15 * alive.max()


@pytest.mark.parametrize("name", ["cnn", "gpt"])
def test_a_compiled_step_needs_no_more_memory_than_an_eager_one(name, forget):
    """At its peak, with the arena; counted by tracemalloc, to which NumPy tells its allocations."""

    def peak(transform):
        forget()
        gt.manual_seed(0)
        step = transform(models.trainer(models.MODELS[name].build()))
        batch = models.MODELS[name].batch(np.random.default_rng(0))
        tracemalloc.start()
        try:
            step(*batch)
            gc.collect()
            tracemalloc.reset_peak()
            step(*batch)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(gt.compile) <= peak(lambda f: f)
