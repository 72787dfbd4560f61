"""Large arrays that are used again: only when nobody refers to them any more."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import gputape as gt
from gputape import recycle
from gputape.arrays import ALIGNMENT
from gputape.variable import Cell

LARGE = (recycle.SMALLEST // 4,)
F32 = np.dtype("f")


pytestmark = pytest.mark.usefixtures("forget")


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_once_nobody_refers_to_it():
    first = recycle.empty(LARGE, F32)
    at = address(first)
    assert address(recycle.empty(LARGE, F32)) != at
    del first
    assert address(recycle.empty(LARGE, F32)) == at


@pytest.mark.parametrize("hold", [lambda a: a[1:], lambda a: a.reshape(2, -1), memoryview, lambda a: {"x": [a]}])
def test_whatever_refers_to_it_keeps_it(hold):
    first = recycle.empty(LARGE, F32)
    at, held = address(first), hold(first)
    del first
    assert address(recycle.empty(LARGE, F32)) != at
    del held
    assert address(recycle.empty(LARGE, F32)) == at


def test_what_is_done_to_an_array_does_not_reach_the_next():
    first = recycle.empty(LARGE, F32)
    first.flags.writeable = False
    del first
    for _ in range(2):
        assert recycle.empty(LARGE, F32).flags.writeable


def test_memory_serves_any_shape_and_dtype_of_its_size():
    first = recycle.empty(LARGE, F32)
    at = address(first)
    del first
    assert address(recycle.empty((2, LARGE[0] // 4), np.dtype("d"))) == at


def test_arrays_begin_with_a_cache_line():
    x = np.zeros(LARGE, F32)
    with gt.device("cpu"):
        gradient = gt.grad(lambda x: gt.sum(gt.square(x)))(x)  # handed out as it was computed
        for array in (gt.add(x, 1.0), gradient, Cell(x).array, recycle.empty((LARGE[0] + 1,), F32)):
            assert address(array) % ALIGNMENT == 0


def test_what_is_held_counts_what_is_used_again(monkeypatch):
    monkeypatch.setattr(recycle, "KEPT", 2 * recycle.SMALLEST)
    for size in (1, 2, 1, 2):
        array = recycle.empty((size * LARGE[0],), F32)
        assert recycle._recycled._held == array.nbytes  # the other size has made room
        assert [len(row) for row in recycle._recycled._rows.values()] == [1]
        del array


def test_what_is_held_is_bounded(monkeypatch):
    monkeypatch.setattr(recycle, "KEPT", 3 * recycle.SMALLEST)
    mine = [recycle.empty(LARGE, F32) for _ in range(9)]
    assert recycle._recycled._held == 3 * recycle.SMALLEST
    del mine
    other = recycle.empty((2 * LARGE[0],), F32)  # takes the place of what is unused
    assert recycle._recycled._held == other.nbytes


def test_threads_have_their_own():
    first = recycle.empty(LARGE, F32)
    at, found = address(first), []
    del first
    worker = threading.Thread(target=lambda: found.append(address(recycle.empty(LARGE, F32))))
    worker.start()
    worker.join()
    assert found[0] != at


def test_results_never_change_under_their_holders():
    x = np.random.default_rng(0).standard_normal((256, 256)).astype("f")
    kept = [gt.add(x, float(k)) for k in range(5)]
    for _ in range(5):
        gt.mul(x, 2.0)
    for k, y in enumerate(kept):
        np.testing.assert_array_equal(y, x + np.float32(k))
