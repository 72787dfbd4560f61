"""What values can do beside the ops: PyTorch's methods, second names and other keywords."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape.synonyms import SYNONYMS

X = np.arange(6.0).reshape(2, 3)


def test_size_is_numpys_number_and_pytorchs_method():
    x = gt.Cell(X)
    assert x.size == 6 and x.size() == (2, 3) and x.size(0) == 2 and x.size(-1) == x.size(dim=1) == 3
    with pytest.raises(gt.ShapeError, match="size: dim=2 is out of range"):
        x.size(2)


def test_where_chooses_between_the_value_and_another():
    x = gt.Cell(X)
    np.testing.assert_array_equal(x.where(x > 2, -1.0), np.where(X > 2, X, -1))
    assert +x is x


def test_second_names_are_the_ops():
    for other, name in SYNONYMS.items():
        assert getattr(gt, other) is getattr(gt, name) and other in dir(gt)
    x = gt.Cell(X)
    np.testing.assert_array_equal(x.clip(1, 2), np.clip(X, 1, 2))
    assert x.swapaxes(0, 1).shape == x.moveaxis(0, 1).shape == (3, 2)
    np.testing.assert_array_equal(gt.concatenate([X, X], axis=1), np.concatenate([X, X], 1))


def test_other_keywords_of_pytorch():
    x, index = gt.Cell(X), np.zeros((1, 3), np.int64)
    want = np.array([[9.0, 9, 9], [3, 4, 5]])
    np.testing.assert_array_equal(gt.scatter(x, 0, index, value=9), want)
    np.testing.assert_array_equal(x.scatter(dim=0, index=index, value=9), want)
    np.testing.assert_array_equal(x.scatter(0, index, src=np.full((1, 3), 9.0)), want)
    assert [y.shape for y in x.split(split_size=2, dim=1)] == [(2, 2), (2, 1)]
    assert [y.shape for y in gt.tensor_split(x, indices=(1,), dim=1)] == [(2, 1), (2, 2)]
    assert len(gt.tensor_split(x, sections=2)) == 2
    with pytest.raises(gt.ArgumentError, match="scatter: src is missing. Pass src="):
        gt.scatter(x, 0, index)
    with pytest.raises(gt.ArgumentError, match="split: split_size_or_sections is missing"):
        x.split()


def test_packages_are_attributes():
    assert gt.nn.Linear(2, 3)(np.zeros((1, 2), np.float32)).shape == (1, 3)
    assert gt.optim.SGD and gt.data.batches


def test_an_integer_is_an_index():
    x, i = gt.Cell(X), gt.Cell(np.array(2))
    assert list(range(i)) == [0, 1] and x[:, :i].shape == (2, 2) and x[0, i] == 2 and [5, 6, 7][i] == 7
    for no in (x, gt.Cell(np.array([1, 2])), gt.Cell(np.array(1.0)), gt.Cell(np.array(True))):
        with pytest.raises(gt.DTypeError, match="is no index"):
            range(no)


def test_python_rounds():
    x = gt.Cell(np.array([0.5, 1.26, -2.5]))
    np.testing.assert_array_equal(round(x), [0, 1, -2])
    np.testing.assert_allclose(round(x, 1), [0.5, 1.3, -2.5])


def test_values_never_change():
    with gt.record():
        for x in (gt.leaf(X), gt.Cell(X)):
            with pytest.raises(gt.UnsupportedError, match=r"values on a tape never change.* gt\.where"):
                x[0] = 1.0
            y = x
            y += 1  # a new value under the old name
            np.testing.assert_array_equal(x, X)


def test_arrays_that_are_close_or_equal():
    x = gt.Cell(X)
    assert gt.allclose(X, X + 1e-9) and x.allclose(X) and not gt.allclose(X, X + 1e-3) and gt.allclose(X, X[:1] * 0 + X)
    nan = np.array([np.nan])
    assert not gt.allclose(nan, nan) and gt.allclose(nan, nan, equal_nan=True) and gt.allclose(X, X + 0.1, atol=0.2)
    assert gt.equal(X, X.astype(int)) and x.equal(X) and not gt.equal(X, X + 1e-9) and not gt.equal(nan, nan)
    assert not gt.equal(np.ones(3), np.ones((1, 3))) and gt.equal(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(gt.CompileError, match="read on the host"):
        gt.compile(lambda a: a if gt.allclose(a, a) else -a)(X)


def test_backward_is_the_tapes():
    with gt.record() as tape:
        x = gt.leaf(X)
        loss = gt.sum(x)
        with pytest.raises(gt.UnsupportedError, match=r"Call tape.backward\(loss\)"):
            loss.backward()
    np.testing.assert_array_equal(tape.backward(loss)[x], np.ones((2, 3)))
