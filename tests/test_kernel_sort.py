"""The kernel that sorts, emulated."""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: no kernel is emulated")

from gputape.kernels import _sort
from gputape.kernels.runtime import Emulated


@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 65, 128, 129, 300])
@pytest.mark.parametrize("high", [1, 3, 2**62])
def test_the_order_is_numpys_stable_one(n, high):
    keys = np.random.default_rng(n).integers(-high, high, n)
    found = _sort.argsort(Emulated(), keys)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, np.argsort(keys, kind="stable"))


@pytest.mark.parametrize("n", [33, 64, 65, 100, 129, 257, 300])
@pytest.mark.parametrize("high", [1, 3, 2**62])
def test_longer_vectors_are_merged_from_runs(monkeypatch, n, high):
    monkeypatch.setattr(_sort, "LONGEST", 8)
    monkeypatch.setattr(_sort, "RUN", 32)
    keys = np.random.default_rng(n).integers(-high, high, n)
    order = np.empty(n, np.int64)
    assert _sort.argsort(Emulated(), keys, order) is order
    np.testing.assert_array_equal(order, np.argsort(keys, kind="stable"))
