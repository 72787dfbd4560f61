"""What kernels move and compute, counted from their grids and tiles: the counting machine, the bars, and the table."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: no kernel is counted")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "perf"))

import kernel_costs
import models

import gputape as gt
from gputape import backend, registry
from gputape.aval import Aval
from gputape.functions import Execute
from gputape.kernels.machine import counting
from gputape.samples import T

OPS = [op for op in registry.ops() if op.perf]


# --- the models -------------------------------------------------------------------------------------------------------


def identity(at):
    return at.op.name, at.ins, tuple(sorted(at.attrs.items()))


def on_cards():
    """What the perf shapes of the primitive ops are."""
    for op in registry.ops():
        for case in op.perf if op.compose is None else ():
            ins = [Aval(x.shape, x.dtype) if isinstance(x, T) else x for x in case.inputs]
            ins += [None] * (0 if op.variadic else len(op.inputs) - len(ins))
            yield identity(op.at(tuple(ins), op.values(case.attrs)))


@pytest.mark.parametrize("name", models.MODELS)
def test_every_op_of_a_training_step_is_a_perf_shape_of_its_card(name):
    ran = models.primitives(name)
    assert len(ran) > 10
    known = set(on_cards())
    missing = [at for at in ran if identity(at) not in known]
    assert not missing, f"add to the cards' perf: {missing}"


# --- the bars, and the table ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_costs_are_within_the_bars_and_as_the_table_says(op):
    found = list(kernel_costs.rows(op))
    missed = [row for row in found if not row.holds]
    assert not missed, f"beyond the bars: {missed}"
    lines = kernel_costs.table(kernel_costs.HEAD, [row.cells() for row in found])[2:]
    assert lines == kernel_costs.written(op), f"counted anew by: python perf/kernel_costs.py {op.name}"


def test_the_flops_that_a_product_may_take():
    assert kernel_costs.most([(1, 64, 128, 784)]) == pytest.approx(1.1 * 2 * 64 * 128 * 784)
    assert kernel_costs.most([(2, 64, 128, 10)]) == 2 * 2 * 64 * 128 * 16
    assert kernel_costs.most([(1, 17, 100, 100), (1, 64, 64, 64)]) == 2 * 32 * 112 * 112 + 1.1 * 2 * 64**3


# --- the machine ------------------------------------------------------------------------------------------------------


def costs(name, *arrays, **attrs):
    """The launches of an op on zeros of these shapes, or on arrays of the counting runtime."""
    counter = kernel_costs.Counter()
    given = [counter.xp.empty(x, np.float32) if isinstance(x, tuple) else x for x in arrays]
    getattr(Execute(counter), name)(*given, **attrs)
    return [c for ran in counter.ran for c in ran.costs]


def test_an_elementwise_op_moves_what_it_reads_and_writes_to_the_sector():
    (cost,) = costs("add", (1000, 37), (1000, 37))
    assert cost.bytes == 3 * 1000 * 37 * 4 and cost.flops == 0 and cost.programs == 37
    (cost,) = costs("add", (3,), (3,))
    assert cost.bytes == 3 * 32
    (cost,) = costs("add", (512, 64), (64,))
    assert cost.bytes == 2 * 512 * 64 * 4 + 64 * 4  # the row is read by all programs, and counts once


def test_a_strided_read_costs_whole_sectors():
    rt = counting.Counting()
    wide = rt.empty((4096, 16), np.float32)
    (cost,) = costs("neg", wide[:, 0])
    assert cost.bytes == 4096 * 32 + 4096 * 4


def test_of_a_strided_array_only_its_own_sectors_count_however_many_programs_read_them():
    rt = counting.Counting()
    wide = rt.empty((64, 3, 64), np.float32)
    (packed,) = costs("mm_nd", (256, 64), (64, 64))
    (cost,) = costs("mm_nd", (256, 64), wide[:, 1])
    assert cost.programs > 1 and cost.bytes == packed.bytes


def test_products_count_the_lanes_beyond_the_edge():
    (cost,) = costs("mm_nd", (17, 20), (20, 33))
    assert cost.flops == 2 * 32 * 48 * 32
    (cost,) = costs("mm_nd", (64, 64), (64, 64))
    assert cost.flops == 2 * 64**3 and cost.bytes == 3 * 64 * 64 * 4


def test_arrays_beyond_the_cache_are_read_anew_by_each_program(monkeypatch):
    (small,) = costs("mm_nd", (256, 64), (64, 256))
    monkeypatch.setattr(counting, "L2", 0)
    (cost,) = costs("mm_nd", (256, 64), (64, 256))
    assert small.bytes == (2 * 256 * 64 + 256 * 256) * 4 < cost.bytes


def test_what_a_program_reads_twice_counts_twice_if_its_cache_is_too_small(monkeypatch):
    monkeypatch.setattr(counting, "L2", 0)
    (once,) = costs("cumsum", (64, 8192), dim=1)  # a loop that reads each element once
    (kept,) = costs("layer_norm", (64, 8192), 8192)
    monkeypatch.setattr(counting, "L1", 1 << 30)
    (wide,) = costs("layer_norm", (64, 8192), 8192)
    row = 64 * 8192 * 4
    assert once.bytes == 2 * row and wide.bytes == pytest.approx(2 * row, rel=0.01)
    assert kept.bytes == pytest.approx(3.5 * row, rel=0.01)  # half of it, the moments and the result read the row


POOL = dict(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1), ceil_mode=False)


@pytest.mark.parametrize(
    "name, shapes, attrs, off",
    [
        ("add", [(999, 64), (64,)], {}, 0),
        ("mm_nd", [(256, 64), (64, 256)], {}, 0),
        ("max_pool_nd", [(2, 8, 16, 16)], POOL, 0),
        ("sum", [(300, 300)], {"dim": 0}, 0.25),  # ten programs of four kinds
        ("max_pool_nd", [(3, 5, 17, 19)], POOL | dict(kernel_size=(3, 2), padding=(1, 1)), 0.1),
    ],
)
def test_a_sample_of_programs_tells_what_all_of_them_cost(monkeypatch, name, shapes, attrs, off):
    sampled = costs(name, *shapes, **attrs)
    monkeypatch.setattr(counting, "SAMPLE", 10**9)
    for found, exact in zip(sampled, costs(name, *shapes, **attrs), strict=True):
        assert found.programs > 5 and found.flops == exact.flops
        assert found.bytes == pytest.approx(exact.bytes, rel=off)


def test_copies_that_pack_an_array_are_counted():
    rt = counting.Counting()
    found = costs("conv_nd", rt.empty((4, 4, 5, 2), np.float32).swapaxes(2, 3), (4, 2, 3, 3), None, **WINDOW)
    assert found[0].kernel.startswith("copy[") and found[0].bytes == 2 * 4 * 4 * 5 * 2 * 4


WINDOW = dict(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=2)


# --- a whole step -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpt():
    """(plan of the compiled step of the perf model, costs of its launches)."""
    counter = backend._backends["counting"] = kernel_costs.Counter()
    try:
        with gt.device("counting"):
            example = models.MODELS["gpt"]
            step = gt.compile(models.trainer(example.build()))
            counter.xp.stream.costs = []
            step(*example.batch(np.random.default_rng(0)))
            return step.plan, counter.xp.stream.costs
    finally:
        del backend._backends["counting"]


def test_the_compiled_gpt_step_takes_at_most_120_launches(gpt):
    plan, costs = gpt
    assert len(costs) == plan.launches == plan.totals()["launches"] <= 120
    assert plan.totals()["bytes"] < 0.65 * plan.totals(rewritten=False)["bytes"]


def test_the_compiled_gpt_step_moves_at_most_1_3_times_what_its_ops_must(gpt):
    plan, costs = gpt
    assert sum(c.bytes for c in costs) <= 1.3 * plan.totals()["bytes"]
