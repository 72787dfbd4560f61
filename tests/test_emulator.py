"""The emulator is hostile: planted bugs in our own kernels, and what the plain interpreter hides, are all caught."""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: nothing is emulated")

import gputape as gt
from gputape import kernels
from gputape.kernels import _pools, _products, batch_norm, generated, layout, norm, pool, runtime
from gputape.kernels.expression import Chain, Step
from gputape.kernels.launch import Kernel, cuda, launch
from gputape.kernels.machine import host_build
from gputape.kernels.machine.memory import GUARD, KernelFault, Memory

SOURCES = Path(kernels.__file__).parent
BF16 = np.dtype(ml_dtypes.bfloat16)
_numbers = itertools.count()


@pytest.fixture
def rt():
    return runtime.Emulated()


@pytest.fixture
def mutant(tmp_path, monkeypatch):
    """`mutant(path or text, old, new, …)`: device code with each `old` replaced, as a module name or a .cu path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(path, *changes):
        text = path if "\n" in path else (SOURCES / path).read_text()
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert old in text, f"{old!r} is not in {path}"
            text = text.replace(old, new)
        suffix = ".cu" if "__global__" in text else ".py"
        file = tmp_path / f"mutant_{next(_numbers)}{suffix}"
        file.write_text(text)
        importlib.invalidate_caches()
        return str(file) if suffix == ".cu" else file.stem

    return make


RELU = generated.kernel(Chain("relu", ("f",), (Step("relu", (0,)),), ((1, "f"),)), layout.plan((8,), [(1,), (1,)]))
HEAD = "import triton\nimport triton.language as tl\n\n@triton.jit\n"


def one(module, name, **constants):
    """A Triton kernel of a module on sys.path."""
    return Kernel("triton", module, name, tuple(constants.items()))


# --- mutants of our Triton kernels ------------------------------------------------------------------------------------


def run_relu(rt, module, n=1500):
    x = np.linspace(-1, 1, n, dtype=np.float32)
    y = rt.empty(x.shape, x.dtype)
    launch(one(module, RELU.name, BLOCK=1024), (2,), (y, x, np.int64(n)), rt.stream)
    return y, np.maximum(x, 0)


def test_the_unchanged_kernel_passes(rt, mutant):
    y, expected = run_relu(rt, mutant(RELU.text))
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    "old, new, message",
    [
        (
            "inside = at < n",
            "inside = at < n + 1",
            r"relu.*program \(1, 0, 0\) loads element 1500 of 'x0_ptr', which has elem",
        ),
        ("inside = at < n", "inside = at >= 0", r"loads element \d+ of 'x0_ptr'"),
        ("x0_ptr + at, mask=inside", "x0_ptr + at - 1, mask=inside", r"loads element -1 of 'x0_ptr'"),
        (
            "* BLOCK + tl",
            "* (BLOCK - 1) + tl",
            r"stores element 1023 of 'y0_ptr', which was stored by program \(.*\) in the",
        ),
        ("tl.store(y0_ptr + at,", "tl.store(y0_ptr + at * 0,", r"stores element 0 of 'y0_ptr', which was stored by"),
        ("tl.load(x0_ptr + at,", "tl.load(y0_ptr + (n - 1 - at),", r"'y0_ptr', which was (loaded|stored) by"),
        ("tl.store(y0_ptr + at,", "tl.store(x0_ptr + (n - 1 - at),", r"'x0_ptr', which was (loaded|stored) by"),
    ],
    ids=["edge", "no mask", "before the start", "tile edge", "one cell", "reads the output", "writes the input"],
)
def test_a_planted_bug_in_relu_is_named(rt, mutant, old, new, message):
    with pytest.raises(KernelFault, match=message):
        run_relu(rt, mutant(RELU.text, old, new))


def test_a_tile_that_is_skipped_leaves_nan(rt, mutant):
    y, _ = run_relu(rt, mutant(RELU.text, "* BLOCK + tl", "* (BLOCK + 8) + tl"))
    assert np.isnan(y[1024:1032]).all() and not np.isnan(y[:1024]).any()


def test_a_masked_load_without_other_gives_nan(rt, mutant, monkeypatch):
    module = mutant("triton/norm.py", "mask=inside, other=0.0", "mask=inside")
    real = norm._kernel("layer_norm", 16, 64, 4, WHOLE=True)
    monkeypatch.setattr(norm, "_kernel", lambda *a, **k: replace(real, source=module))
    x, w = np.ones((3, 5), np.float32), np.ones(5, np.float32)
    y, mean, rstd = rt.empty((3, 5), np.float32), rt.empty((3,), np.float32), rt.empty((3,), np.float32)
    norm.layer_norm(rt, y, mean, rstd, x, w, w, normalized_shape=(5,), eps=1e-5)
    assert np.isnan(mean).all()


def test_a_mask_one_too_wide_in_matmul_is_named(rt, mutant):
    module = mutant("triton/matmul.py", "k_inside = k < left - start", "k_inside = k < left - start + 1")
    a, b = np.ones((2, 4, 5), np.float32), np.ones((2, 5, 3), np.float32)
    y = rt.empty((2, 4, 3), np.float32)
    real = _products._kernel("ieee", False, False, (32, 32, 16, 4, 2))
    args = (y, y, a, b, y, y, y, 4, 3, 5, 16, 5, 3, np.int64(20), np.int64(15), np.int64(0), 0, 0.0, 0.0)
    with pytest.raises(KernelFault, match=r"loads element \d+ of '[ab]_ptr'"):
        launch(replace(real, source=module), (2,), args, rt.stream)


def test_read_back_within_a_program_needs_a_barrier(rt, mutant):
    text = HEAD + (
        "def swap(y_ptr, z_ptr, N: tl.constexpr):\n"
        "    at = tl.arange(0, N)\n"
        "    tl.store(y_ptr + at, at)\n"
        "    tl.debug_barrier()\n"
        "    tl.store(z_ptr + at, tl.load(y_ptr + (N - 1 - at)))\n"
    )
    y, z = rt.empty((8,), np.int32), rt.empty((8,), np.int32)
    launch(one(mutant(text), "swap", N=8), (1,), (y, z), rt.stream)
    assert list(z) == list(range(7, -1, -1))
    with pytest.raises(KernelFault, match="stored by itself, with no barrier between"):
        launch(one(mutant(text, "    tl.debug_barrier()\n", ""), "swap", N=8), (1,), (y, z), rt.stream)


def test_programs_run_in_shuffled_order_and_integer_atomics_are_exempt(rt, mutant):
    text = HEAD + (
        "def lowest(flag_ptr, order_ptr):\n"
        "    n = tl.program_id(0)\n"
        "    tl.store(order_ptr + n, tl.atomic_add(flag_ptr, 1))\n"
        "    tl.atomic_min(flag_ptr + 1, n)\n"
    )
    seen = []
    for _ in range(2):
        flag, order = np.array([0, 99], np.int32), rt.empty((16,), np.int32)
        launch(one(mutant(text), "lowest"), (16,), (flag, order), rt.stream)
        assert list(flag) == [16, 0]
        seen.append(list(order))
    assert sorted(seen[0]) == list(range(16)) and seen[0] != seen[1] != list(range(16))


def test_bfloat16_arithmetic_without_a_cast_is_right(rt, mutant):
    text = HEAD + (
        "def f(y_ptr, x_ptr, N: tl.constexpr):\n"
        "    at = tl.arange(0, N)\n"
        "    x = tl.load(x_ptr + at)\n"
        "    y = tl.where(x > 1.0, x + x, x * 0.5)\n"
        "    tl.store(y_ptr + at, y - 0.25)\n"
    )
    x = np.array([0.5, 1.0, 1.5, 3.14, -7.0, 100.0, 1e-3, 300.0], BF16)
    y = rt.empty((8,), BF16)
    launch(one(mutant(text), "f", N=8), (1,), (y, x), rt.stream)
    half = np.array(0.5, BF16)
    expected = np.where(x > 1, x + x, x * half) - np.array(0.25, BF16)
    np.testing.assert_array_equal(y.astype(np.float32), expected.astype(np.float32))


def test_tf32_is_seen(rt, mutant):
    text = HEAD + (
        "def f(y_ptr, a_ptr, PRECISION: tl.constexpr):\n"
        "    at = tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :]\n"
        "    a = tl.load(a_ptr + at)\n"
        "    tl.store(y_ptr + at, tl.dot(a, a, input_precision=PRECISION))\n"
    )
    a = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    error = {}
    for precision in ("ieee", "tf32"):
        y = rt.empty((16, 16), np.float32)
        launch(one(mutant(text), "f", PRECISION=precision), (1,), (y, a), rt.stream)
        error[precision] = np.abs(y - a.astype(np.float64) @ a).max()
    assert error["ieee"] < 1e-5 < 1e-4 < error["tf32"] < 1e-1


def test_runtime_loop_bounds_work_on_every_triton(rt, mutant):
    text = HEAD + (
        "def f(y_ptr, n):\n"
        "    total = 0\n"
        "    for k in range(0, n, 2):\n"
        "        total += k\n"
        "    tl.store(y_ptr, total)\n"
    )
    y = rt.empty((1,), np.int32)
    launch(one(mutant(text), "f"), (1,), (y, 7), rt.stream)
    assert y[0] == 12


# --- mutants of our CUDA C --------------------------------------------------------------------------------------------

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


# --- memory -----------------------------------------------------------------------------------------------------------


def test_guard_zones_see_a_stray_write():
    x = np.zeros(5, np.float32)
    memory = Memory("k", ["x"], [x])
    memory.regions[0].store[GUARD - 1] = 0
    with pytest.raises(KernelFault, match="wrote outside the buffer of 'x'"):
        memory.finish()


def test_strided_and_overlapping_arguments_keep_their_layout():
    base = np.arange(24, dtype=np.float32)
    even, late, backward = base[::2], base[10:], base[::-1]
    memory = Memory("k", ["even", "late", "backward"], [even, late, backward])
    assert len(memory.regions) == 1
    for p in memory.pointers:
        np.testing.assert_array_equal(p.copied(), p.array)
    memory.pointers[1].copied()[0] = -1
    memory.finish()
    assert base[10] == -1 and base[9] == 9
    frozen = np.broadcast_to(np.float32(1), (3,))
    memory = Memory("k", ["frozen"], [frozen])
    memory.pointers[0].copied()[...] = 2
    with pytest.raises(KernelFault, match="'frozen', which is read-only"):
        memory.finish()


def test_fresh_memory_is_poisoned(rt):
    assert np.isnan(rt.empty((3,), np.float32)).all() and np.isnan(rt.empty((3,), BF16).astype(np.float32)).all()
    assert (rt.empty((3,), np.int32) == 2**31 - 1).all() and rt.empty((), np.bool_)


def test_an_empty_grid_runs_nothing_and_a_huge_one_is_refused(rt):
    launch(RELU, (0,), (), rt.stream)
    with pytest.raises(gt.BackendError, match="an axis beyond 65535"):
        launch(RELU, (1, 65536), (), rt.stream)


def test_launches_of_several_threads_do_not_mix():
    def work(n):
        x = np.full((3, n), n, np.float32)
        with gt.device("emulated"):
            return [np.asarray(gt.relu(x)), np.asarray(gt.max_pool2d(x[None, None], (3, 1)))]

    with ThreadPoolExecutor(4) as threads:
        for n, (y, pooled) in enumerate(threads.map(work, range(1, 21)), 1):
            assert (y == n).all() and (pooled == n).all() and pooled.shape == (1, 1, 1, n)


# --- one process, one mode --------------------------------------------------------------------------------------------


def run_python(code, **environment):
    env = {
        k: v for k, v in os.environ.items() if not k.startswith(("TRITON_INTERPRET", "GPUTAPE_DEVICE"))
    } | environment
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


def test_triton_in_the_other_mode_is_refused():
    code = (
        "import triton.language, numpy as np, gputape as gt\n"
        "with gt.device('emulated'):\n"
        "    try: gt.relu(np.float32([1]))\n"
        "    except gt.BackendError as e: print(e)\n"
    )
    assert "GPUTAPE_DEVICE=emulated" in run_python(code).stdout
    made = run_python(
        "import numpy as np, gputape as gt\nprint(gt.relu(np.float32([-1, 2])))", GPUTAPE_DEVICE="emulated"
    )
    assert made.stdout.strip() == "[0. 2.]", made.stderr


def test_loading_emulated_imports_no_triton():
    code = "import sys, gputape as gt\ngt.device('emulated')\nprint('triton' in sys.modules, 'cupy' in sys.modules)"
    assert run_python(code).stdout.strip() == "False False"


def test_cuda_without_a_device_says_what_to_do():
    code = "import gputape as gt\ntry: gt.device('cuda:7')\nexcept gt.BackendError as e: print(e)"
    assert 'use gt.device("cpu")' in run_python(code).stdout or 'Use "cuda:0"' in run_python(code).stdout
