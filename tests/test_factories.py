"""Arrays made from numbers: as NumPy has them, in PyTorch's dtypes, on recordings and in compiled functions."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt

CASES = [
    (lambda: gt.zeros(2, 3), np.zeros((2, 3), np.float32)),
    (lambda: gt.zeros((2, 3), dtype="int64"), np.zeros((2, 3), np.int64)),
    (lambda: gt.zeros(), np.zeros((), np.float32)),
    (lambda: gt.ones([0, 2], dtype=np.float64), np.ones((0, 2))),
    (lambda: gt.full((2,), 7), np.full(2, 7)),
    (lambda: gt.full(3, 0.5), np.full(3, 0.5, np.float32)),
    (lambda: gt.full((), True), np.array(True)),
    (lambda: gt.full((2,), 1, dtype=bool), np.ones(2, bool)),
    (lambda: gt.arange(4), np.arange(4)),
    (lambda: gt.arange(1, 8, 3), np.array([1, 4, 7])),
    (lambda: gt.arange(5, 0, -2), np.array([5, 3, 1])),
    (lambda: gt.arange(0.0, 1.0, 0.25), np.array([0, 0.25, 0.5, 0.75], np.float32)),
    (lambda: gt.arange(3, dtype="float64"), np.arange(3.0)),
    (lambda: gt.arange(3, 3), np.zeros(0, np.int64)),
    (lambda: gt.arange(np.int32(1), np.array(4)), np.array([1, 2, 3])),
    (lambda: gt.arange(0.0, -8.1, -4.0, dtype="int64"), np.array([0, -4])),
    (lambda: gt.arange(-0.9, 2.1, 2.0, dtype="int32"), np.array([0, 2], np.int32)),
    (lambda: gt.linspace(4.3, -3, 3, dtype="int64"), np.array([4, 0, -3])),
    (lambda: gt.linspace(-1, 1, 5), np.linspace(-1, 1, 5, dtype=np.float32)),
    (lambda: gt.linspace(0, 1, 1, dtype="float64"), np.zeros(1)),
    (lambda: gt.eye(2), np.eye(2, dtype=np.float32)),
    (lambda: gt.eye(2, 3, dtype="int32"), np.eye(2, 3, dtype=np.int32)),
]


@pytest.mark.parametrize("make, want", CASES)
def test_values_and_dtypes(make, want):
    found = make()
    assert found.dtype == want.dtype and found.shape == want.shape
    np.testing.assert_array_equal(found, want)
    with gt.record():
        var = make()
        assert type(var) is gt.Var and not var.requires_grad
        np.testing.assert_array_equal(var.value, want)


def test_in_a_compiled_function():
    f = gt.compile(lambda x: gt.add(gt.mul(x, gt.arange(3, dtype="float32")), gt.ones(3)))
    x = np.array([1.0, 2.0, 3.0], np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(f(x), x * np.arange(3) + 1)


@pytest.mark.parametrize(
    "make, error, match",
    [
        (lambda: gt.zeros(-1), gt.ArgumentError, "zeros: .* is not a shape"),
        (lambda: gt.ones(1.5), gt.ArgumentError, "ones: .* is not a shape"),
        (lambda: gt.zeros(2, dtype="complex64"), gt.DTypeError, "zeros: dtype 'complex64'"),
        (lambda: gt.full(2, "1"), gt.ArgumentError, "full: fill_value='1'"),
        (lambda: gt.full(2, 300, dtype="uint8"), gt.ArgumentError, "full: fill_value=300 does not fit uint8"),
        (lambda: gt.full(2, np.nan, dtype="int64"), gt.ArgumentError, "full: fill_value=nan does not fit int64"),
        (lambda: gt.arange(3, 0), gt.ArgumentError, "arange: step=1 does not lead from 3 to 0"),
        (lambda: gt.arange(1, 0.5), gt.ArgumentError, "arange: step=1 does not lead from 1 to 0.5"),
        (lambda: gt.arange(3, step=0), gt.ArgumentError, "arange: step=0"),
        (lambda: gt.arange(float("inf")), gt.ArgumentError, "arange: end=inf is not finite"),
        (lambda: gt.arange("3"), gt.ArgumentError, "arange: end='3' must be a number"),
        (lambda: gt.linspace(0, 1, -1), gt.ArgumentError, "linspace: .* is not a shape"),
    ],
)
def test_what_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()
