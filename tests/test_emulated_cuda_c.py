"""The emulator on CUDA C: planted bugs in our own kernels are caught and named."""

from __future__ import annotations

import os
from dataclasses import replace

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: nothing is emulated")

import gputape as gt
from gputape.kernels import _pools, batch_norm, pool
from gputape.kernels.launch import cuda, launch
from gputape.kernels.machine import host_build
from gputape.kernels.machine.memory import KernelFault

BF16 = np.dtype(ml_dtypes.bfloat16)

WINDOW = {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1)}


def run_pool(rt, path, monkeypatch):
    x = np.random.default_rng(0).standard_normal((2, 9, 9)).astype(np.float32)
    y, index = rt.empty((2, 5, 5), np.float32), rt.empty((2, 5, 5), np.int32)
    dx = rt.empty(x.shape, np.float32)
    monkeypatch.setattr(pool, "kernel", lambda stem, name, dtype: cuda(path, name, ELEMENT=_pools.ELEMENT[dtype]))
    pool.max_pool_nd(rt, y, index, x, ceil_mode=False, **WINDOW)
    pool.max_pool_nd_bwd(rt, dx, y, index, spatial=(9, 9), **WINDOW)
    return x, y, index, dx


def test_unchanged_pooling_passes(rt, mutant, monkeypatch):
    x, y, index, dx = run_pool(rt, mutant("cuda/pool.cu"), monkeypatch)
    assert np.array_equal(y, x.reshape(2, 81)[np.arange(2)[:, None, None], index])
    scattered = np.zeros((2, 81), np.float32)
    np.add.at(scattered, (np.arange(2)[:, None, None], index), y)
    np.testing.assert_allclose(dx, scattered.reshape(dx.shape), rtol=1e-6)


@pytest.mark.parametrize(
    "old, new, message",
    [
        (
            "if (at >= total) return;",
            "",
            r"max_pool.*block \d+, thread \d+ (loads|stores) element \d+ of '\w+', which has",
        ),
        ("w >= in_w", "w > in_w", r"elements 0 to 161"),
        ("y[at] = best;", "y[at / 2] = best;", r"of 'y', which was stored by block \d+, thread \d+ in the same launch"),
        ("index[at] = best_at;", "index[at] = index[(at + 1) % total];", r"of 'index', which was (stored|loaded) by"),
        ("x[plane + from", "x[plane - 81 + from", r"loads element -\d+ of 'x'"),
    ],
    ids=["no bound", "window edge", "written twice", "reads another thread's output", "before the start"],
)
def test_a_planted_bug_in_pooling_is_named(rt, mutant, monkeypatch, old, new, message):
    with pytest.raises(KernelFault, match=message):
        run_pool(rt, mutant("cuda/pool.cu", old, new), monkeypatch)


def run_batch_norm(rt, path, monkeypatch, shift=0):
    """Batch norm of 2 channels of 9000 elements that begin `shift` elements behind a multiple of 16 bytes."""
    x = rt.empty((18004,), np.float32)[shift : 18000 + shift].reshape(1, 2, 9000)
    x[...] = np.random.default_rng(0).uniform(1e3, 1e3 + 2, x.shape)
    y, *statistics = rt.empty(x.shape, np.float32), *(rt.empty((2,), np.float32) for _ in range(3))
    real = batch_norm._keeping(5, "float32")
    monkeypatch.setattr(batch_norm, "_keeping", lambda packs, dtype: replace(real, source=path))
    batch_norm.batch_norm_train(rt, y, *statistics, x, None, None, eps=1e-5)
    return x, y, *statistics


def test_unchanged_batch_norm_passes_with_the_same_bits_at_any_address(rt, mutant, monkeypatch):
    path = mutant("cuda/batch_norm.cu")
    x, *found = run_batch_norm(rt, path, monkeypatch)
    odd, *again = run_batch_norm(rt, path, monkeypatch, shift=1)
    assert [a.tobytes() for a in (x, *found)] == [a.tobytes() for a in (odd, *again)]
    exact, (y, mean, var, rstd) = x[0].astype(np.float64), found
    np.testing.assert_allclose(mean, exact.mean(1), rtol=1e-7)
    np.testing.assert_allclose(var, exact.var(1), rtol=1e-5)
    np.testing.assert_allclose(rstd, 1 / np.sqrt(exact.var(1) + 1e-5), rtol=1e-5)
    np.testing.assert_allclose(y[0], (exact - exact.mean(1, keepdims=True)) * rstd[:, None], atol=1e-5)


NEVER = "(no thread of the block has stored|was stored by|was loaded by)"


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("value;\n    __syncthreads();", "value;", f"of 'values', which {NEVER}"),
        ("    __syncthreads();\n    float total", "    float total", f"of '(values|sums)', which {NEVER}"),
        ("first(p) < count", "first(p) <= count", r"loads element 1\d{4} of 'x', which has elements 0 to 17999"),
        ("far[number(p - registers)]", "far[0]", r"element 0 of 'far', which was (stored|loaded) by"),
        ("x + place(p)", "x + place(p) + 1", r"loads a pack at element \d+ of 'x', which is not at a multiple of 16"),
        ("y + place(p)", "y + place(p) + 2", r"stores a pack at element \d+ of 'y', which is not at a multiple of 16"),
    ],
    ids=["first barrier", "second barrier", "mask too wide", "one place for all", "odd load", "odd store"],
)
def test_a_planted_bug_in_batch_norm_is_named(rt, mutant, monkeypatch, old, new, message):
    with pytest.raises(KernelFault, match=message):
        run_batch_norm(rt, mutant("cuda/batch_norm.cu", old, new), monkeypatch)


REVERSE = """#include "device.h"
extern "C" __global__ void reverse(Out<float> y, In<float> x, int n) {
    SHARED(float, tile, 64);
    int t = threadIdx.x;
    if (t < n) tile[t] = x[blockIdx.x * n + t];
    __syncthreads();
    if (t < n) y[blockIdx.x * n + t] = tile[n - 1 - t];
}
"""


def run_reverse(rt, path):
    x = np.arange(3 * 50, dtype=np.float32).reshape(3, 50)
    y = rt.empty(x.shape, x.dtype)
    launch(cuda(path, "reverse", warps=2), (3,), (y, x, 50), rt.stream)
    return x, y


def test_shared_memory_and_barriers(rt, mutant):
    x, y = run_reverse(rt, mutant(REVERSE))
    np.testing.assert_array_equal(y, x[:, ::-1])


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("    __syncthreads();\n", "", r"of 'tile', which (no thread of the block has stored|was stored|was loaded)"),
        ("tile[n - 1 - t]", "tile[n - t]", r"loads element 50 of 'tile', which no thread of the block has stored"),
        ("SHARED(float, tile, 64)", "SHARED(float, tile, 49)", r"element 49 of 'tile', which has elements 0 to 48"),
        (
            "    __syncthreads();\n",
            "    if (t < n) __syncthreads();\n",
            r"14 of 64 threads returned while the others wait",
        ),
        ("tile[t] = x", "tile[t / 2] = x", r"of 'tile', which was stored by block \d, thread \d+"),
        ("Out<float> y", "Out<double> y", r"argument 'y' is no array of elements of this size"),
        ("int n", "long long n", r"argument 'n' has another type"),
        ("int n", "int n, int m", r"takes 4 arguments"),
    ],
)
def test_a_planted_bug_in_shared_memory_is_named(rt, mutant, old, new, message):
    with pytest.raises(gt.BackendError, match=message):
        run_reverse(rt, mutant(REVERSE, old, new))


def test_sixteen_bit_floats_of_the_host_build(rt, mutant):
    """Every float16 and bfloat16 to float32 and back, and rounding to nearest even, as NumPy has it."""
    text = """#include "device.h"
extern "C" __global__ void convert(Out<ELEMENT> y, Out<float> wide, In<ELEMENT> x, In<float> f, int n) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < n) { wide[at] = to_float(x[at]); y[at] = from_float<ELEMENT>(f[at]); }
}
"""
    path = mutant(text)
    rng = np.random.default_rng(0)
    for dtype, element in ((np.dtype(np.float16), "__half"), (BF16, "__nv_bfloat16")):
        x = np.arange(65536, dtype=np.uint16).view(dtype)
        with np.errstate(all="ignore"):
            exact = x.astype(np.float32)
            between = exact + rng.choice([0.5, 0.25, 0.75], x.size) * (np.nextafter(x, dtype.type(np.inf)) - x).astype(
                "f"
            )
            between = np.where(np.isfinite(between), between, exact).astype(np.float32)
            y, wide = rt.empty(x.shape, dtype), rt.empty(x.shape, np.float32)
            launch(cuda(path, "convert", ELEMENT=element), (512,), (y, wide, x, between, 65536), rt.stream)
            np.testing.assert_array_equal(wide, exact)
            np.testing.assert_array_equal(y.astype(np.float32), between.astype(dtype).astype(np.float32))


def test_a_kernel_that_does_not_compile_is_shown(rt, mutant):
    with pytest.raises(gt.BackendError, match=r"reverse: the host build failed[^\0]*tile_"):
        run_reverse(rt, mutant(REVERSE, "tile[t] =", "tile_[t] ="))


def test_no_compiler_is_told_with_a_remedy(monkeypatch):
    monkeypatch.setattr(host_build.shutil, "which", lambda name: None)
    host_build._compiler.cache_clear()
    with pytest.raises(gt.BackendError, match=r"g\+\+.*apt install"):
        host_build._compiler()
    host_build._compiler.cache_clear()
