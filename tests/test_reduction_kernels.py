"""What is particular to the kernels of reductions: their steps, labels out of range, extrema of a whole array."""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: no kernel is emulated")

import gputape as gt
from gputape import backend as backends
from gputape import registry
from gputape.backend import aval_of
from gputape.kernels import _steps, cross_entropy, loss
from gputape.kernels.launch import launch
from gputape.testing import apply, inputs_of

EMULATED = backends.backend("emulated")
LAYOUTS = [
    ((), ()),
    ((7,), (0,)),
    ((2, 3, 4, 5), (1, 2)),
    ((2, 3, 4, 5), (0, 2)),
    ((2, 1, 4, 1), (0, 1, 3)),
    ((4, 5), ()),
    ((20000,), (0,)),
    ((3, 2, 17000), (0, 2)),
    ((40000, 3), (0,)),
    ((0, 3), (0,)),
    ((3, 0, 2), (0, 2)),
]


@pytest.fixture(autouse=True)
def _quiet():
    """Launches without a backend around them: rows outside the arrays take logarithms of 0."""
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize("shape, dims", LAYOUTS)
@pytest.mark.parametrize("integers", [False, True])
def test_steps_reduce_the_axes_they_are_asked_to(shape, dims, integers):
    x = np.arange(int(np.prod(shape)), dtype=np.float64)
    expected = x.reshape(shape).sum(axis=dims).reshape(-1)
    for s in _steps.steps(shape, dims, integers):
        outer = s.outputs // s.inner if s.inner else 0
        table = x.reshape(outer, s.n, s.inner) if s.n else np.zeros((outer, 0, s.inner))
        groups = [table[:, k * s.group : (k + 1) * s.group].sum(axis=1) for k in range(s.groups)]
        x = np.stack(groups, axis=-1).reshape(-1)
        assert s.group * s.groups >= s.n > s.group * (s.groups - 1) or not s.n
    np.testing.assert_array_equal(x, expected)


def test_long_reductions_with_few_results_are_split_and_others_are_not():
    assert _steps.split(1, 4 * 4096, 4096) == (4 * 4096, 1)
    assert _steps.split(1, 1 << 30, 4096) == (1 << 20, 1024)
    assert _steps.split(1000, 1 << 20, 4096) == (1 << 20, 1)
    for n in (16385, 10**5, 10**7):
        group, groups = _steps.split(1, n, 4096)
        assert group % 4096 == 0 and groups <= 1024 and group * (groups - 1) < n <= group * groups


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 5000)])
def test_kernels_give_nan_for_a_label_out_of_range_and_read_nothing_there(shape):
    """As on a GPU, where the host does not look at the labels; the emulator checks the addresses."""
    rt, rows = EMULATED.xp, shape[0] * int(np.prod(shape[2:]))
    n, inner = shape[1], int(np.prod(shape[2:]))
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    labels = np.arange(rows) % n
    labels[0], labels[-1] = -1, n
    nan = np.isin(np.arange(rows), (0, rows - 1))
    sizes = (rows, np.int64(n), inner)
    y, *made = [rt.empty((rows,), "float32") for _ in range(5)]
    whole, last, tile = _steps.walk(n, inner)
    kernel = cross_entropy._forward(whole, last, tile)
    fault, number = np.zeros((), np.int64), np.int64(-7)
    arguments = (y, *made, x, labels, fault, *sizes, n, np.int64(-100), 0, 0.0, number)
    launch(kernel, (-(-rows // tile[0]),), arguments, rt.stream)
    np.testing.assert_array_equal(np.isnan(made[0]), nan)
    assert np.array_equal(made[1], np.ones(rows)) and fault == number
    if inner == 1 and n <= cross_entropy.FEW_CLASSES:
        fault[()] = 0
        y, count, *stats = (rt.empty(size, "float32") for size in ((), (), (rows,), (rows,)))
        arguments = (y, count, *stats, x, labels, fault, rows, n, np.int64(-100), 1, 0.0, number)
        launch(cross_entropy.FEW, (1,), arguments, rt.stream)
        assert np.isnan(y) and count == rows and fault == number
        np.testing.assert_array_equal(stats, made[2:4])

    dx, dy, count = rt.empty(shape, "float32"), np.float32(1), np.float32(rows)
    tile = _steps.choose_tile(n, inner)
    tiled, grid = cross_entropy._tiled(rows, n, inner, tile)
    arrays = (dx, np.asarray(dy), x, labels, made[2], made[3], np.asarray(count))
    launch(cross_entropy._backward(last, tile), grid, (*arrays, *tiled, np.int64(-100), 0, 1, 0.0), rt.stream)
    np.testing.assert_array_equal(np.isnan(dx.swapaxes(0, 1).reshape(n, rows)), np.tile(nan, (n, 1)))

    picked, put = rt.empty((rows,), "float32"), rt.empty(shape, "float32")
    launch(cross_entropy.PICK, (1,), (picked, x, labels, *sizes, np.int64(-100)), rt.stream)
    np.testing.assert_array_equal(np.isnan(picked), nan)
    launch(cross_entropy._put(last, tile), grid, (put, made[1], labels, *tiled, np.int64(-100)), rt.stream)
    np.testing.assert_array_equal(np.isnan(put.swapaxes(0, 1).reshape(n, rows)), np.tile(nan, (n, 1)))


@pytest.mark.parametrize("name", ["pick_class", "nll_loss", "cross_entropy", "binary_cross_entropy"])
def test_values_out_of_range_are_named_as_the_card_says(name):
    op = registry.get(name)
    for bad in (b for b in op.errors if issubclass(b.error, gt.IndexRangeError) or "not in" in b.match):
        with gt.device("emulated"), pytest.raises(bad.error, match=bad.match):
            apply(getattr(gt, name) if op.public else _call(op), op, inputs_of(op, bad), bad.attrs)


def _call(op):
    def run(*inputs, **attrs):
        given = inputs or [attrs.pop(n, None) for n in op.inputs]
        at = op.at(tuple(aval_of(x) for x in given), op.values(attrs))
        return EMULATED.call(at)(given)[0]

    return run


def test_the_loss_of_a_probability_outside_its_range_is_nan_on_the_device():
    p = np.float32([0.5, 1.5, -0.5, np.nan, 0.0, 1.0])
    y, t = EMULATED.xp.empty(p.shape, "float32"), np.float32([1, 1, 0, 0, 1, 0])
    loss._entropy(EMULATED.xp, False, y, p, t, None, None, "none", ())
    np.testing.assert_allclose(y, [np.log(2), np.nan, np.nan, np.nan, 100, 100], rtol=1e-6)


@pytest.mark.parametrize("name, best", [("max_total", np.max), ("min_total", np.min)])
@pytest.mark.parametrize("dtype", ["float32", "int8", "int64"])
def test_extremum_of_a_whole_array(name, best, dtype):
    op = registry.get(name)
    for n in (1, 63, 65, 4097, 16385) if dtype == "float32" else (1, 257, 2100):
        x = np.random.default_rng(n).integers(-100, 100, n).astype(dtype)
        assert _call(op)(x) == best(x)
    if dtype == "float32":
        assert np.isnan(_call(op)(np.float32([1, np.nan, np.inf])))


def test_batch_norm_computes_only_the_gradients_it_is_asked_for():
    op = registry.get("batch_norm_bwd")
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((2, 4, 3, 10)).astype(np.float32)
    w, mean, rstd = np.float32([1, 2, 3]), np.float32([0, 0.5, 1]), np.float32([1, 2, 1])

    def run(*needs):
        at = op.at(tuple(map(aval_of, (dy, x, w, mean, rstd))), (needs,))
        return EMULATED.call(at)((dy, x, w, mean, rstd))

    full = run(True, True, True)
    for k in range(3):
        part = run(*(i == k for i in range(3)))
        assert [p is not None for p in part] == [i == k for i in range(3)]
        assert part[k].tobytes() == full[k].tobytes()
