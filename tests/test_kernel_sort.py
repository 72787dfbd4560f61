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


def test_longer_vectors_take_the_librarys_sort(monkeypatch):
    monkeypatch.setattr(_sort, "LONGEST", 8)
    keys = np.random.default_rng(0).integers(0, 3, 20)
    np.testing.assert_array_equal(_sort.argsort(Emulated(), keys), np.argsort(keys, kind="stable"))
