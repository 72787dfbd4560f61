"""Options that may be numbers or arrays: which op runs, in whatever way it is called, and what becomes of gradients."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt

X = np.array([[-2.0, -0.5, 0.25], [1.5, 3.0, -1.0]], np.float32)
LOW = np.array([-1.0, 0.0, -0.5], np.float32)


def ops_of(f):
    with gt.record() as tape:
        f()
    return [node.op for node in tape.nodes]


@pytest.mark.parametrize("low", [LOW, np.float32(0.5), np.array(0.5, np.float32), 0.5])
def test_clamp_by_numbers_and_by_arrays(low):
    want = np.maximum(X, low)
    for got in (
        gt.clamp(X, low),
        gt.clamp(X, min=low),
        gt.clamp_min(X, low),
        gt.max(gt.clamp(X, low), gt.clamp(X, low)),
    ):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == np.float32
    with gt.record():
        np.testing.assert_array_equal(gt.leaf(X).clamp(low).value, want)


def test_numbers_keep_the_op_of_numbers():
    assert "clamp" in ops_of(lambda: gt.clamp(gt.leaf(X), 0.0, 1.0))
    assert "clamp" not in ops_of(lambda: gt.clamp(gt.leaf(X), LOW, 1.0))


def test_max_of_two_arrays_and_along_an_axis():
    other = -X
    np.testing.assert_array_equal(gt.max(X, other), np.abs(X))
    np.testing.assert_array_equal(gt.min(X, other=other), -np.abs(X))
    np.testing.assert_array_equal(gt.max(X, 1).values, X.max(1))
    np.testing.assert_array_equal(gt.max(X, axis=0, keepdims=True).values, X.max(0, keepdims=True))


@pytest.mark.parametrize("condition", [X, X > 0, np.float32(2.0), np.zeros(3)])
def test_where_of_a_condition_alone_finds_its_places(condition):
    want = gt.nonzero(condition, as_tuple=True)
    with gt.record():
        on_a_recording = gt.where(gt.leaf(condition, requires_grad=False))
    for got in (gt.where(condition), on_a_recording):
        assert type(got) is tuple
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(np.asarray(a), b)


def test_a_value_on_a_recording_gets_its_gradient_or_is_refused():
    mask = X > 0
    with gt.record() as tape:
        x, value, low = gt.leaf(X), gt.leaf(np.float32(2.0)), gt.leaf(LOW)
        loss = gt.sum(gt.masked_fill(x, mask, value)) + gt.sum(gt.clamp(x, low))
    grads = tape.backward(loss)
    assert grads[value] == mask.sum()
    np.testing.assert_array_equal(grads[low], (X < LOW).sum(0))
    with gt.record():
        with pytest.raises(gt.ArgumentError, match="narrow: start is an array"):  # it would be a constant
            gt.narrow(gt.leaf(X), 0, gt.leaf(np.float32(1.0)), 1)
        assert gt.narrow(gt.leaf(X), 0, np.array(1), 1).shape == (1, 3)


def test_every_array_option_of_a_card_reaches_an_op_with_it_as_input():
    for op in gt.registry.ops():
        if op.arrays is not None:
            options, other = op.arrays
            twin = gt.registry.get(other)
            assert twin.inputs[: len(op.inputs)] == op.inputs
            assert len(twin.inputs) == len(op.inputs) + len(options) and set(twin.attrs) <= set(op.attrs)


def test_scatter_of_a_number_keeps_its_other_options():
    index = np.array([0, 0, 2])
    x = np.ones(3, np.float32)
    np.testing.assert_array_equal(gt.scatter(x, 0, index, 5.0), [5, 1, 5])
    np.testing.assert_array_equal(gt.scatter(x, 0, index, 5.0, reduce="add"), [11, 1, 6])
    np.testing.assert_array_equal(gt.scatter(x, 0, index, np.full(3, 5, np.float32), reduce="add"), [11, 1, 6])
    np.testing.assert_array_equal(gt.scatter(x, 0, index, 5.0, reduce="multiply"), [25, 1, 5])


# --- methods under PyTorch's names ------------------------------------------------------------------------------------


def test_methods_of_values_that_are_no_ops():
    with gt.record() as tape:
        x = gt.leaf(X)
        assert (x.dim(), x.numel()) == (2, 6) and x.tolist() == X.tolist()
        casts = {"float": "f4", "double": "f8", "half": "f2", "long": "i8", "int": "i4", "bool": "?"}
        for name, dtype in casts.items():
            assert getattr(x, name)().dtype == np.dtype(dtype)
        assert x.bfloat16().dtype.name == "bfloat16" and x.float() is x and x.contiguous() is x
        assert x.to(np.float64).dtype == x.to("float64").dtype == x.type_as(x.double()).dtype == np.float64
        np.testing.assert_array_equal(x.mT.value, X.T)
        flat = gt.leaf(np.zeros(6))
        assert x.view_as(flat).shape == x.reshape_as(flat).shape == (6,)
        assert x.sum().expand_as(x).shape == X.shape
        loss = gt.sum(x.clone().double().to("float32"))
    np.testing.assert_array_equal(tape.backward(loss)[x], np.ones_like(X))
