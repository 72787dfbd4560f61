"""The emulator is hostile: planted bugs in our own kernels, and what the plain interpreter hides, are all caught."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: nothing is emulated")

import gputape as gt
from gputape.kernels import _products, generated, layout, norm
from gputape.kernels.expression import Chain, Step
from gputape.kernels.launch import Kernel, launch
from gputape.kernels.machine.memory import GUARD, KernelFault, Memory

BF16 = np.dtype(ml_dtypes.bfloat16)

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
