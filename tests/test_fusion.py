"""Rewrites of compiled programs: chains of element-wise ops, which are one launch on the kernels."""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest
from rewriting import EPS, B, X, both, normal, ops_of

import gputape as gt
from gputape.variable import Cell


def fused_on_emulated(f, *args):
    with gt.device("emulated"):
        return both(f, *args)


def test_a_chain_is_one_launch_on_the_kernels_and_stays_apart_on_the_cpu():
    f = lambda x, b: gt.tanh(gt.exp(x) * 0.5 + b) - gt.sigmoid(x)  # noqa: E731
    compiled, found, eager = fused_on_emulated(f, X, B[:5])
    assert ops_of(compiled) == ["fused"]
    np.testing.assert_allclose(found, eager, rtol=16 * EPS, atol=16 * EPS)
    assert "fused" not in ops_of(both(f, X, B[:5])[0])
    assert "(exp, mul, add, tanh, sigmoid, sub)" in compiled.explain()


def test_a_sum_of_a_chain_is_one_pass():
    def f(x, y):
        error = gt.square(gt.sub(x, y)) * 0.5
        rows = gt.mean(gt.exp(x) - y, -1, keepdim=True)
        return gt.sum(error) + rows * gt.sum(gt.square(x), 0) + gt.sum(x)

    compiled, found, eager = fused_on_emulated(f, X, normal(6, 5, seed=5))
    ran = ops_of(compiled)
    assert ran.count("fused_sum") == 3 and ran.count("sum") == 1 and "mean" not in ran and "exp" not in ran
    np.testing.assert_allclose(found, eager, rtol=32 * EPS, atol=32 * EPS * np.abs(eager).max())
    assert "(sub, square, mul, sum)" in compiled.explain()


def test_a_chain_that_is_read_elsewhere_or_repeats_a_row_is_summed_from_memory():
    def f(x, row):
        a = gt.tanh(gt.exp(x))
        return gt.sum(a, 0) + a + gt.sum(gt.square(x - row))

    compiled, found, eager = fused_on_emulated(f, X, X[0])
    assert "fused_sum" not in ops_of(compiled)
    np.testing.assert_allclose(found, eager, rtol=32 * EPS, atol=32 * EPS * np.abs(eager).max())


def test_a_group_never_waits_for_itself():
    """What a chain reads may depend on its own first part: then that part runs before."""

    def f(x):
        a = gt.exp(x)
        total = gt.sum(a, -1, keepdim=True)
        b = a / total
        c = gt.sum(b * a)
        return gt.tanh(a) + b * c + a

    compiled, found, eager = fused_on_emulated(f, X)
    np.testing.assert_allclose(found, eager, rtol=32 * EPS, atol=32 * EPS)
    assert 3 <= ops_of(compiled).count("fused") + ops_of(compiled).count("exp") <= 4


def test_values_read_outside_a_chain_are_outputs_of_it():
    def f(x):
        a = gt.exp(x)
        b = gt.relu(a - 1.0)
        return gt.sum(b) * gt.sum(a) + gt.sum(a * b, 0)

    compiled, found, eager = fused_on_emulated(f, X)
    np.testing.assert_allclose(found, eager, rtol=32 * EPS)
    (node,) = [n for n in compiled.plan.record if n.op == "fused" and n.aval.shape == X.shape]
    assert sum(a is not None for a in node.avals) == 3


def test_bools_and_options_are_part_of_a_chain():
    def f(x, y):
        m = (x > y) & ~gt.isnan(x)
        return gt.clamp(gt.where(m, gt.pow(gt.clamp(x, -0.5, None), 3), gt.leaky_relu(y, 0.3)), max=2.0)

    compiled, found, eager = fused_on_emulated(f, X, normal(6, 5, seed=4))
    assert ops_of(compiled) == ["fused"]
    np.testing.assert_allclose(found, eager, rtol=16 * EPS, atol=16 * EPS)


def test_16_bit_chains_keep_float32_between_their_steps():
    x = X.astype(np.float16)
    f = lambda x: gt.exp(gt.tanh(x * 3.0) * 2.0) - 1.0  # noqa: E731
    compiled, found, eager = fused_on_emulated(f, x)
    exact = np.exp(np.tanh(x.astype("d") * 3) * 2) - 1
    assert np.abs(found - exact).max() <= np.abs(eager - exact).max()
    assert "in float32 between them" in compiled.explain()


def test_an_update_that_reads_its_own_parameter_turned_round():
    """w + wᵀ may not be written into w element by element."""
    runs = []
    for transform in (lambda f: f, gt.compile):
        w = Cell(normal(4, 4))

        def f(w=w):
            w.assign(gt.exp(gt.permute(w, (1, 0))) * w)

        with gt.device("emulated"):
            step = transform(f)
            for _ in range(2):
                step()
        runs.append(w.array.copy())
    np.testing.assert_allclose(runs[1], runs[0], rtol=64 * EPS)


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_agree_with_eager(seed):
    """Element-wise ops, sums and permutations in any order, some values read many times."""
    rng = np.random.default_rng(seed)
    unary, binary = (gt.tanh, gt.sigmoid, gt.relu, gt.neg, gt.square, gt.cos), (gt.add, gt.mul, gt.sub, gt.maximum)
    script = [(int(rng.integers(0, 5)), *map(int, rng.integers(0, 10**6, 3))) for _ in range(18)]

    def f(x, y):
        values = [x, y]
        for kind, a, b, c in script:
            p, q = values[a % len(values)], values[b % len(values)]
            if kind < 2:
                values.append(unary[c % len(unary)](p))
            elif kind < 4:
                values.append(binary[c % len(binary)](p, q) * 0.7)
            elif c % 2:
                values.append(gt.tanh(gt.sum(p, c % 2, keepdim=True)) * q)
            else:
                values.append(gt.permute(p, (1, 0)))
        return gt.cat([gt.reshape(v, (-1,)) for v in values[-4:]])

    _, found, eager = fused_on_emulated(f, normal(4, 4), normal(4, 4, seed=1))
    np.testing.assert_allclose(found, eager, rtol=256 * EPS, atol=256 * EPS * max(1, np.abs(eager).max()))
