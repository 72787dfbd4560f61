"""x[…]: values against NumPy, gradients against counting the elements that were taken."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt

X = np.random.default_rng(0).standard_normal((4, 5, 6))
I = np.array([2, -1, 2])  # noqa: E741 - as in the formulas
J = np.array([[0], [-3]])
MASK = np.random.default_rng(1).random((4, 5)) < 0.5
ROWS = np.array([True, False, False, True])

EXPRESSIONS = [
    "0", "-1", "2, 3", "2, -5, 5", "np.int64(1)", "np.array(3)",
    ":", "...", "()", "1:3", "-3:", ":-1, 2:99", "::2, 1::3, 4", "3:1", "99:", ":, :, -1",
    "None", "..., None", "1, None, 2:4", "None, :, None, 0", "..., 0", "0, ..., 1", "..., 1:3, :",
    "True", "False", "[True, False, False, True]", "1:3, True", "I, True",
    "I", "[0, 2]", "[]", "[[0, 1], [3, -4]]", "range(2)", "(0, 2),", "I.astype(np.int32)", "np.array([], int)",
    ":, I", ":, :, I", "..., I", "..., J", "1:3, J", "None, I", "I, None", ":, None, I",
    "I, I", "J, I", "I, :, I", "J, :, I", ":, I, I", ":, I, J", "I, I, I", "J, I, 0", "I, 1:3, J", "I, None, I",
    "1, I", "I, 1", "I, :, 2:4", "..., I, 0", "[0], [1], [2]", "I, ..., J",
    "MASK", "ROWS", "ROWS, 1", "MASK, I[:1]", "MASK, 0", "..., X[0, 0] > 0", "X > 0", "X > 99", "ROWS, None, 2:4",
    "1:3, X[0, :, 0] > 0", "ROWS, :, [1]", "MASK, None",
]  # fmt: skip


def take(x, expression):
    return eval(f"x[{expression}]", {"x": x, "np": np, "I": I, "J": J, "MASK": MASK, "ROWS": ROWS, "X": X})


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_values_are_numpys_and_gradients_go_where_they_came_from(expression):
    expected = take(X, expression)
    weight = np.random.default_rng(2).standard_normal(expected.shape)
    places = take(np.arange(X.size).reshape(X.shape), expression)
    with gt.record() as tape:
        x = gt.leaf(X)
        y = take(x, expression)
        np.testing.assert_array_equal(y.value, expected)
        total = gt.sum(gt.mul(y, weight))
    grad = np.bincount(np.ravel(places), np.ravel(weight), X.size).reshape(X.shape)
    np.testing.assert_allclose(tape.backward(total, wrt=[x])[x], grad, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("expression", ["1:3, ::2", "I, :, J", "J, I", "MASK", "..., 0", "None, I, 1:4"])
def test_gradients_of_every_order(expression):
    gt.check_grads(lambda x: take(gt.square(x), expression), [X], order=3)


def test_an_integer_beside_index_arrays_takes_its_axis_away_first_as_in_torch():
    with gt.record():
        y = gt.leaf(X)[0, :, I]
    np.testing.assert_array_equal(y.value, X[0][:, I])


def test_index_arrays_may_be_values_of_the_recording():
    with gt.record() as tape:
        x, i = gt.leaf(X), gt.leaf(I)
        np.testing.assert_array_equal(x[i].value, X[I])
        np.testing.assert_array_equal(x[:, i, i].value, X[:, I, I])
        one = gt.leaf(np.array(-1))
        np.testing.assert_array_equal(x[one].value, X[-1])
        np.testing.assert_array_equal(x[:, one, i].value, X[:, -1][:, I])
        np.testing.assert_array_equal(x[one, one, one].value, X[-1, -1, -1])
        np.testing.assert_array_equal(x[gt.leaf(MASK)].value, X[MASK])
        total = gt.sum(x[one, i])
    grad = np.zeros_like(X)
    np.add.at(grad, (-1, I), 1)
    np.testing.assert_array_equal(tape.backward(total, wrt=[x])[x], grad)


def test_a_parameter_is_indexed_within_and_without_a_recording():
    cell = gt.Cell(X, requires_grad=True)
    np.testing.assert_array_equal(cell[1, I], X[1, I])
    with gt.record() as tape:
        total = gt.sum(cell[1:3, 0])
    grad = np.zeros_like(X)
    grad[1:3, 0] = 1
    np.testing.assert_array_equal(tape.backward(total)[cell], grad)


def test_rows_are_iterated():
    with gt.record():
        rows = list(gt.leaf(X))
    assert len(rows) == 4
    for row, expected in zip(rows, X, strict=True):
        np.testing.assert_array_equal(row.value, expected)


def test_a_view_shares_memory_and_a_look_up_does_not():
    with gt.record():
        x = gt.leaf(X)
        assert np.shares_memory(x[1:, ::2, 3].value, x.value)
        assert not np.shares_memory(x[I].value, x.value)


def test_the_pure_tape_indexes_by_op():
    tape, x = gt.Tape().leaf(X)
    tape, i = tape.leaf(I)
    tape, y = tape.op("index", [x, i], dims=(1,))
    tape, z = tape.op("slice", y, (1, 0), (3, 2))
    np.testing.assert_array_equal(tape.value(z), X[:, I][1:3, :2])


@pytest.mark.parametrize(
    ("expression", "error", "match"),
    [
        ("4", gt.IndexRangeError, "4 is out of range for axis 0 with size 4"),
        (":, -6", gt.IndexRangeError, "-6 is out of range for axis 1 with size 5"),
        ("0, 0, 0, 0", gt.IndexRangeError, "4 indices"),
        ("MASK, 0, 0", gt.IndexRangeError, "4 indices"),
        ("[0, 4]", gt.IndexRangeError, r"4 at \(1,\) .* size 4"),
        (":, [-6]", gt.IndexRangeError, r"-6 at \(0,\) .* size 5"),
        ("::-1", gt.ArgumentError, "gt.flip"),
        ("0:2:0", gt.ArgumentError, "below 1"),
        ("..., ...", gt.ArgumentError, "once"),
        ("MASK[:3]", gt.ShapeError, r"mask of shape \(3, 5\)"),
        ("[0, 1], [0, 1, 2]", gt.ShapeError, "broadcast"),
        ("1.0", gt.DTypeError, "no index"),
        ("I * 1.0", gt.DTypeError, "no index"),
        ("'a'", gt.DTypeError, "no index"),
        ("0.5:", gt.DTypeError, "not an integer"),
    ],
)
def test_bad_indices_are_refused(expression, error, match):
    with gt.record(), pytest.raises(error, match=match) as caught:
        take(gt.leaf(X), expression)
    assert str(caught.value).startswith("index: ")


def test_methods_take_shapes_and_axes_spread_out():
    with gt.record():
        x = gt.leaf(X)
        assert x.reshape(20, -1).shape == x.reshape((20, -1)).shape == x.view(20, 6).shape == (20, 6)
        assert x.permute(2, 0, 1).shape == x.permute((2, 0, 1)).shape == x.permute(dims=(2, 0, 1)).shape == (6, 4, 5)
        assert x[None].expand(3, -1, -1, -1).shape == (3, 4, 5, 6)
        assert x.transpose(0, -1).shape == x.T.shape == (6, 5, 4)
        np.testing.assert_array_equal(x.flip(0, 2).value, X[::-1, :, ::-1])


# --- the gradients that add up ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows, columns, count", [(7, 3, 50), (2, 5, 200), (300, 4, 100), (1, 2, 64), (5, 1, 40)])
def test_index_add_adds_every_row_and_repeats_its_bits(rows, columns, count):
    rng = np.random.default_rng(rows)
    index, source = rng.integers(0, rows, count), rng.standard_normal((count, columns))
    expected = np.zeros((rows, columns))
    np.add.at(expected, index, source)
    zeros = np.zeros_like(expected)
    got = gt.index_add(zeros, 0, index, source)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert gt.index_add(zeros, 0, index, source).tobytes() == got.tobytes()


def test_a_nan_row_spoils_its_own_sum_only():
    got = gt.index_add(np.zeros((3, 2)), 0, np.array([0, 2, 2]), np.array([[np.nan, 1.0], [1.0, 2.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(got, [[np.nan, 1.0], [0.0, 0.0], [4.0, 6.0]])


def test_the_padding_row_of_an_embedding_gets_no_gradient():
    weight, ids = np.random.default_rng(0).standard_normal((5, 3)), np.array([[1, 4, 1], [0, 4, 2]])
    for padding, row in ((4, 4), (-4, 1), (None, None)):
        with gt.record() as tape:
            w = gt.leaf(weight)
            total = gt.sum(gt.embedding(ids, w, padding_idx=padding))
        counts = np.bincount(ids.ravel(), minlength=5).astype(float)
        if row is not None:
            counts[row] = 0
        np.testing.assert_array_equal(tape.backward(total)[w], np.broadcast_to(counts[:, None], (5, 3)))


@pytest.mark.parametrize("dim, size, step", [(0, 2, 1), (1, 5, 1), (1, 2, 2), (-1, 3, 4), (2, 0, 1), (2, 6, 9)])
def test_windows_along_an_axis(dim, size, step):
    want = np.lib.stride_tricks.sliding_window_view(X, size, dim) if size else np.zeros((4, 5, 7, 0))
    want = np.moveaxis(np.moveaxis(want, dim % 3, 0)[::step], 0, dim % 3)
    with gt.record() as tape:
        x = gt.leaf(X)
        y = x.unfold(dim, size, step)
        np.testing.assert_array_equal(y.value, want)
        total = gt.sum(gt.square(y))
    places = gt.Cell(np.arange(X.size).reshape(X.shape)).unfold(dim, size, step)
    counts = np.bincount(np.ravel(places), minlength=X.size).reshape(X.shape)
    np.testing.assert_allclose(tape.backward(total, wrt=[x])[x], 2 * X * counts)


@pytest.mark.parametrize(
    "args, error, match",
    [
        ((3, 1, 1), gt.ShapeError, "unfold: dim=3 is out of range"),
        ((0, 5, 1), gt.ShapeError, "unfold: windows of 5 do not fit axis 0"),
        ((0, -1, 1), gt.ArgumentError, "unfold: size=-1"),
        ((0, 1, 0), gt.ArgumentError, "step=0 at least 1"),
    ],
)
def test_windows_that_are_refused(args, error, match):
    with pytest.raises(error, match=match):
        gt.Cell(X).unfold(*args)


def test_a_uint8_index_is_ambiguous():
    with pytest.raises(gt.DTypeError, match="mask for PyTorch and of integers for NumPy"):
        gt.Cell(X)[np.array([0, 1], np.uint8)]
