"""Rewrites of compiled programs: values that are computed where a slice, a copy or a gather would bring them."""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest
from kernel_cases import exempt
from rewriting import EPS, both, normal, ops_of

import gputape as gt
from gputape import backend, registry
from gputape.backend import aval_of
from gputape.testing import inputs_of, lay_out
from gputape.variable import Cell

# --- slices and copies ------------------------------------------------------------------------------------------------


def heads(x, w):
    """Queries, keys and values from one product, and their sum of products."""
    n, length, _ = x.shape
    qkv = gt.linear(x, w).reshape((n, length, 3, 2, 4)).permute((2, 0, 3, 1, 4))
    y = gt.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
    return y.permute((0, 2, 1, 3)).reshape((n, length, 8))


def heads_gradient(x, w):
    with gt.record() as tape:
        leaves = gt.leaf(x), gt.leaf(w)
        loss = gt.sum(gt.square(heads(*leaves)))
    return gt.cat([g.reshape((-1,)) for g in tape.backward(loss, wrt=leaves).values()])


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_gradients_of_slices_are_computed_where_they_belong(device):
    x, w = normal(2, 5, 8), normal(24, 8, seed=1)
    with gt.device(device):
        compiled, found, eager = both(heads_gradient, x, w)
    ran = ops_of(compiled)
    assert not {"slice_bwd", "slices_bwd", "copy", "add"} & set(ran)  # attention writes where the product reads
    assert found.tobytes() == eager.tobytes()


def test_slices_that_overlap_or_leave_something_out_are_added():
    def parts(*bounds):
        def f(x):
            with gt.record() as tape:
                leaf = gt.leaf(x)
                loss = sum((gt.sum(gt.exp(leaf[a:b]) * (a + 1)) for a, b in bounds), start=0.0)
            return tape.backward(loss, wrt=[leaf])[leaf]

        return f

    x = normal(7)
    for bounds, joined in (
        (((0, 3), (3, 7)), True),
        (((3, 7), (0, 1), (1, 3)), True),
        (((0, 4), (3, 7)), False),
        (((0, 3), (4, 7)), False),
    ):
        compiled, found, eager = both(parts(*bounds), x)
        assert found.tobytes() == eager.tobytes()
        assert ("slice_bwd" not in ops_of(compiled)) == joined


def test_every_second_element_is_a_slice_too():
    def f(x):
        with gt.record() as tape:
            leaf = gt.leaf(x)
            loss = gt.sum(gt.exp(leaf[::2])) + gt.sum(gt.tanh(leaf[1::2]))
        return tape.backward(loss, wrt=[leaf])[leaf]

    compiled, found, eager = both(f, normal(8))
    assert "slice_bwd" not in ops_of(compiled) and found.tobytes() == eager.tobytes()


def test_what_is_read_by_two_copies_is_in_one_place_only():
    def f(q):
        y = gt.scaled_dot_product_attention(q, q, q)
        a = gt.reshape(gt.permute(y, (0, 2, 1, 3)), (2, 3, 8))
        b = gt.reshape(gt.permute(y, (0, 3, 1, 2)), (2, 4, 6))
        return gt.sum(a) * b + gt.sum(y)

    compiled, found, eager = both(f, normal(2, 2, 3, 4))
    np.testing.assert_allclose(found, eager, rtol=8 * EPS)  # what sums y reads it in another order
    assert ops_of(compiled).count("copy") == 1


def test_a_joined_value_that_is_a_result_or_written_to_a_cell():
    cell = Cell(np.zeros((2, 3, 8), "f"))

    def f(q):
        y = gt.scaled_dot_product_attention(q, q, q)
        side_by_side = gt.reshape(gt.permute(y, (0, 2, 1, 3)), (2, 3, 8))
        cell.assign(side_by_side)
        return y, side_by_side

    q = normal(2, 2, 3, 4)
    compiled = gt.compile(f)
    for k in range(3):
        y, rows = compiled(q + k)
        exact, eager_rows = f(q + k)
        assert y.tobytes() == exact.tobytes() and rows.tobytes() == eager_rows.tobytes()
        assert cell.array.tobytes() == rows.tobytes()


STRIDED = [pytest.param(op, s, id=f"{op.name}-{k}") for op in registry.ops() if op.strided
           for k, s in enumerate(op.samples)]  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("layout", ["reversed", "strided"])
@pytest.mark.parametrize("op, sample", STRIDED)
def test_bodies_that_claim_it_write_outputs_in_any_order(op, sample, layout, device):
    be, inputs = backend.backend(device), inputs_of(op, sample)
    at = op.at(tuple(None if x is None else aval_of(x) for x in inputs), op.values(sample.attrs))
    if device == "emulated" and (reason := exempt(op, sample, inputs)):
        pytest.skip(reason)
    exact = be.call(at)(tuple(inputs))
    outs = []
    for name, y in zip(op.outputs, exact, strict=True):
        fresh = None if y is None else np.full(y.shape, np.nan, y.dtype)
        if y is not None and y.ndim and name in op.strided:
            fresh = np.full(y.shape[::-1], np.nan, y.dtype).T if layout == "reversed" else lay_out(fresh, "strided")
        outs.append(fresh)
    be.run_into(at, outs, inputs)
    for y, e in zip(outs, exact, strict=True):
        if e is not None:
            np.testing.assert_allclose(y.astype("d"), e.astype("d"), rtol=16 * EPS, atol=16 * EPS)


# --- gathers ----------------------------------------------------------------------------------------------------------


def gathered(index):
    def f(w):
        with gt.record() as tape:
            leaf = gt.leaf(w)
            y = gt.embedding(index, leaf)
            loss = gt.sum(gt.square(y))
        return tape.backward(loss, wrt=[leaf])[leaf], y

    return f


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize(
    "index, becomes",
    [
        (np.arange(6), set()),
        (np.arange(1, 5), {"slice_bwd"}),
        (np.arange(6).reshape(2, 3)[:, ::2][:, :1], {"slice_bwd"}),
        (np.array([[0, 1], [2, 3]]), {"slice_bwd"}),
        (np.array([2, 1, 0]), {"embedding", "index_add"}),
        (np.array([1, 1, 1]), {"embedding", "index_add"}),
        (np.array([], np.int64), {"embedding", "index_add"}),
    ],
)
def test_gathers_at_consecutive_constant_indices_are_slices(index, becomes, device):
    w = normal(6, 3)
    with gt.device(device):
        compiled = gt.compile(gathered(index))
        for k in range(2):
            grad, y = compiled(w + k)
            exact, eager = gathered(index)(w + k)
            np.testing.assert_array_equal(grad, exact)
            np.testing.assert_array_equal(y.value, eager.value)
    left = {"embedding", "index_add", "slice_bwd"} & set(ops_of(compiled))
    assert left == becomes


def test_gathers_at_given_indices_stay_gathers():
    compiled = gt.compile(lambda i, w: gt.embedding(i, w))
    w = normal(6, 3)
    np.testing.assert_array_equal(compiled(np.arange(4), w), w[:4])
    np.testing.assert_array_equal(compiled(np.arange(4)[::-1], w), w[3::-1])
    assert "embedding" in ops_of(compiled)
