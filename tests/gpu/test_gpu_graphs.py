"""Compiled steps as CUDA graphs on a GPU: the bits of eager mode, on any stream, and nothing left to capture."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from closeness import assert_close
from on_gpu import need_device

need_device()

import cupy

import gputape as gt
from gputape import nn, optim


def mlp():
    return nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.LayerNorm(96), nn.Dropout(0.25), nn.Linear(96, 10))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    )


def batches(model, n):
    rng = np.random.default_rng(0)
    shape = (32, 64) if model is mlp else (32, 1, 8, 8)
    return [(rng.standard_normal(shape).astype("f"), rng.integers(0, 10, 32)) for _ in range(n)]


def trained(model, compiled, around=nullcontext, rewrite=False):
    """Losses and final state, and the compiled step. `around` makes what each step is called in."""
    gt.manual_seed(0)
    net = model()
    opt = optim.AdamW(net.parameters(), lr=1e-2)

    def step(x, y):
        with gt.record() as tape:
            loss = gt.cross_entropy(net(x), y)
        opt.step(tape.backward(loss))
        return loss

    run, losses = gt.compile(step, rewrite=rewrite) if compiled else step, []
    for k, (x, y) in enumerate(batches(model, 8)):
        if k == 4:
            opt.lr = 1e-3
        if k in (0, 4):
            gt.synchronize()  # streams of their own do not wait for what was written on this one
        with around():
            losses.append(run(x, y))
    gt.synchronize()
    state = [a for entry in opt.state_dict()["state"].values() for a in entry.values()]
    arrays = [*net.state_dict().values(), *state]
    return [float(y) for y in losses], [np.asarray(a).tobytes() for a in arrays], run


@pytest.mark.parametrize("model", [mlp, cnn])
def test_a_graph_gives_what_eager_gives_bit_for_bit(model):
    losses, state, _ = trained(model, False)
    found, compiled_state, run = trained(model, True)
    assert found == losses and compiled_state == state
    assert run.plan.steps.graph is not None and len(run.plans) == 1


@pytest.mark.parametrize("model", [mlp, cnn])
def test_a_rewritten_graph_stays_close_and_repeats_bit_for_bit(model):
    """Where ops are put together the compiler may join a product and a sum that eager rounds apart."""
    (first, *_), _, _ = trained(model, False)
    losses, state, run = trained(model, True, rewrite=True)
    assert run.plan.steps.graph is not None and len(run.plans) == 1
    assert_close(np.float32(losses[0]), np.float64(first), batches(model, 1)[0])
    assert trained(model, True, rewrite=True)[:2] == (losses, state)


def test_each_step_may_come_from_a_stream_of_its_own():
    losses, state, _ = trained(mlp, True)
    found, other, _ = trained(mlp, True, lambda: cupy.cuda.Stream(non_blocking=True))
    assert found == losses and other == state


def test_a_thousand_replays_take_no_memory():
    _, _, run = trained(mlp, True)
    pool, (x, y) = cupy.get_default_memory_pool(), batches(mlp, 1)[0]

    def used():
        gt.synchronize()
        return pool.used_bytes()

    run(x, y)
    before = used()
    for _ in range(1000):
        run(x, y)
    assert used() == before


def test_an_index_out_of_range_is_noted_inside_the_graph():
    table = np.ones((5, 2), np.float32)
    step = gt.compile(lambda i: gt.embedding(i, table))
    for index in (1, 2, 4):
        assert gt.asnumpy(step(np.array([index]))).tolist() == [[1, 1]]
    assert step.plan.steps.graph is not None
    y = step(np.array([9]))
    with pytest.raises(gt.IndexRangeError, match="out of range for size 5"):
        gt.asnumpy(y)
    assert np.isnan(gt.asnumpy(y)).all()


def test_long_orders_are_sorted_inside_the_graph():
    x = np.ones((70000, 4), np.float32)
    i = np.random.default_rng(0).integers(0, 100, 70000)
    step = gt.compile(lambda x, i: gt.index_add(np.zeros((100, 4), np.float32), 0, i, x))
    for _ in range(3):
        assert gt.asnumpy(step(x, i))[:, 0].tolist() == np.bincount(i, minlength=100).tolist()
    assert step.plan.steps.graph is not None
