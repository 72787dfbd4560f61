"""`plan.predict`: FLOPs of the cards, the roof of each step, the totals; `plan.launches` against what is launched."""

from __future__ import annotations

import os
import re

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import math

import numpy as np
import pytest

import gputape as gt
from gputape import nn, optim, registry
from gputape.aval import Aval
from gputape.node import Node
from gputape.predict import GPU, GRAPH, LAUNCH, NODE, Step, predict
from gputape.samples import T


def ats(op):
    """The op at each of its perf shapes, with the case."""
    for case in op.perf:
        ins = [Aval(x.shape, x.dtype) if isinstance(x, T) else x for x in case.inputs]
        ins += [None] * (len(op.inputs) - len(ins))
        yield op.at(tuple(ins), op.values(case.attrs)), case


PRODUCTS = [op for op in registry.ops() if op.flops is not None]


@pytest.mark.parametrize("op", PRODUCTS, ids=lambda op: op.name)
def test_a_card_computes_the_flops_that_its_perf_shapes_state(op):
    assert op.perf
    for at, case in ats(op):
        stated = case.flops if case.flops is not None else sum(2 * n * math.prod(sizes) for n, *sizes in case.gemms)
        whole = at.attrs.get("is_causal") and at.ins[0].shape[2] <= 64  # one tile, which is computed whole
        assert op.flops(at) * (2 if whole else 1) == stated


def test_every_op_whose_perf_shapes_are_products_has_flops():
    stated = {op.name for op in registry.ops() if op.compose is None and any(c.gemms or c.flops for c in op.perf)}
    assert stated <= {op.name for op in PRODUCTS}


FLAT = GPU("flat", bandwidth=1e12 / 0.9, half=100e12 / 0.8, tf32=50e12 / 0.8, single=10e12 / 0.8)


def node(name, *ins, tf32=False, **attrs):
    op = registry.get(name)
    at = op.at(ins, op.values(attrs))
    return Node(at.in_tf32() if tf32 else at, (0,), None, False, None, 0)


@pytest.mark.parametrize(
    "step, seconds, bound",
    [
        (node("relu", Aval((1000, 1000), "float32")), 8e6 / 1e12, "memory"),
        (node("mm_nd", *(Aval((1000, 1000), "float32"),) * 2), 2e9 / 10e12, "arithmetic"),
        (node("mm_nd", *(Aval((1000, 1000), "float32"),) * 2, tf32=True), 2e9 / 50e12, "arithmetic"),
        (node("mm_nd", *(Aval((1000, 1000), "bfloat16"),) * 2), 2e9 / 100e12, "arithmetic"),
        (node("mm_nd", Aval((1, 1000), "float32"), Aval((1000, 1000), "float32")), 4.008e6 / 1e12, "memory"),
    ],
)
def test_the_slower_of_memory_and_arithmetic_is_the_roof_of_a_step(step, seconds, bound):
    found = Step.of(step, 1, FLAT)
    assert found.seconds == pytest.approx(seconds) and found.bound == bound


def test_totals_count_each_launch_and_the_graph():
    small, large = node("relu", Aval((8,), "float32")), node("relu", Aval((10**8,), "float32"))
    found = predict("step", [small, large, small], [1, 2, 3], "A100")
    roof = 8e8 / (2.04e12 * 0.9)
    assert found.roof == pytest.approx(roof, rel=1e-3)
    assert found.graph == pytest.approx(GRAPH + 4 * NODE + roof) and found.launched == pytest.approx(4 * LAUNCH + roof)
    assert "3 ops, 6 launches, 800,000,128 bytes, 100,000,016 FLOPs" in str(found)
    assert "an estimate" in str(found).splitlines()[0] and "one per op" not in str(found)
    assert "6 launches" not in str(predict("step", [small], None, "A100"))


def trained(rows=4):
    gt.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    opt = optim.Adam(model.parameters())

    @gt.compile
    def step(x, y):
        with gt.record() as tape:
            loss = gt.cross_entropy(model(x), y)
        opt.step(tape.backward(loss))
        return loss

    step(np.ones((rows, 6), "f"), np.arange(rows) % 3)
    return step


def test_a_plan_lists_its_steps_and_refuses_unknown_names():
    with gt.device("cpu"):
        step = trained()
        text = str(step.predict("RTX 4090"))
    assert [line.split()[0] for line in text.splitlines()[2:-4]] == [n.op for n in step.plan.ran]
    assert "launches (one per op" in text and re.search(r"as one CUDA graph: \d+\.\d µs", text)
    with pytest.raises(gt.ArgumentError, match=r"no figures for 'GTX 480'.*Use one of A100, H100, H200"):
        step.predict("GTX 480")
    assert step.plan.launches == 0 and "launches" not in step.explain()


def test_launches_are_those_that_a_replay_makes(monkeypatch):
    pytest.importorskip("triton", reason="triton is not installed: no kernel is emulated")
    from gputape.kernels import launch

    with gt.device("emulated"):
        step = trained(300)
        made, runner = [], launch._runner
        monkeypatch.setattr(launch, "_runner", lambda *which: made.append(which) or runner(*which))
        step(np.ones((300, 6), "f"), np.arange(300) % 3)
        assert len(made) == step.plan.launches > len(step.plan.ran)
        assert f"{step.plan.launches} launches, " in step.explain()
        assert f"ops, {step.plan.launches} launches, " in str(step.predict("H100"))


def test_launches_without_rewrites_are_those_of_a_plan_without_them():
    pytest.importorskip("triton", reason="triton is not installed: no kernel is emulated")
    x, w = np.ones((4, 6), "f"), np.ones((5, 6), "f")

    def step(x, w):
        y = gt.gelu(gt.linear(x, w)) + 1.0
        left, right = gt.split(y.T, 2, 0)[:2]
        return gt.sum(gt.layer_norm(gt.cat((left, right)), (4,))), y[:, ::2].reshape(-1)

    with gt.device("emulated"):
        plans = [gt.compile(step, rewrite=rewrite) for rewrite in (True, False)]
        for plan in plans:
            plan(x, w)
        (now, before), plain = [plans[0].plan.totals(rewritten) for rewritten in (True, False)], plans[1].plan
        assert before["launches"] == plain.launches > now["launches"] == plans[0].plan.launches
        assert f"without rewrites: {before['calls']} calls, {before['launches']} launches, " in plans[0].explain()
        assert re.search(r"linear_act\(.*\[\d+ bytes, 240 FLOPs, 1 launch\]", plans[0].explain())
