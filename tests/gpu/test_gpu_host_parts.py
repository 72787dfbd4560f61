"""What of the GPU tests and timings needs no GPU: arithmetic, the report, the timer's order, the tape on a device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from closeness import assert_close
from gpu import __main__ as gpu_check
from gpu import cards, device, facts, report, roof, timer
from on_gpu import cases, check_values

import gputape as gt
from gputape import registry
from gputape.backend import backend
from gputape.dispatch import call
from gputape.samples import Perf, t
from gputape.testing import apply, inputs_of

CPU = backend("cpu")
HERE = Path(__file__).resolve().parent


# --- statistics and the timer -----------------------------------------------------------------------------------------


def test_quantiles_are_numpys():
    values = np.random.default_rng(0).standard_normal(17).tolist()
    for q in (0.0, 0.2, 0.5, 0.8, 1.0):
        assert timer.quantile(values, q) == pytest.approx(np.quantile(values, q))
    assert timer.quantile([3.0], 0.8) == 3.0
    with pytest.raises(ValueError):
        timer.quantile([], 0.5)
    found = timer.summary(values, host=2.0)
    assert (found.low, found.median, found.high) == tuple(timer.quantile(values, q) for q in (0.2, 0.5, 0.8))
    assert found.rounds == 17 and found.host == 2.0


def test_long_calls_get_fewer_rounds_and_the_device_waits_for_the_host():
    assert timer.rounds(1e-5, 1e-5) == timer.ROUNDS
    assert timer.rounds(0.05, 0.05) == 10
    assert timer.rounds(1.0, 9.0) == 5
    assert timer.waiting(100e-6) == 220_000
    assert timer.waiting(1.0) == timer.LONGEST_WAIT


class FakeCupy:
    """A device whose clock moves by what is put on it, and a log of the order."""

    uint8, int64 = np.uint8, np.int64

    def __init__(self):
        self.now, self.log = 0.0, []
        fake = self

        class Event:
            def record(self):
                self.at = fake.now
                fake.log.append("event")

            def synchronize(self): ...

        class Device:
            id = 0

            def synchronize(self): ...

        class runtime:
            @staticmethod
            def getDeviceProperties(number):
                return {"l2CacheSize": 50 << 20}

        class cuda:
            pass

        cuda.Event, cuda.Device, cuda.runtime = Event, Device, runtime
        cuda.get_elapsed_time = staticmethod(lambda start, stop: (stop.at - start.at) * 1e3)
        self.cuda = cuda

    def empty(self, size, dtype):
        fake, self.size = self, size

        class Array:
            def fill(self, value):
                fake.log.append("clear")
                fake.now += 1e-4

        return Array()

    def RawKernel(self, source, name):
        def launch(grid, block, args):
            self.log.append(name)
            self.now += int(args[0]) * 1e-9

        return launch


def test_the_timer_clears_the_cache_waits_and_times_the_call_alone():
    cupy = FakeCupy()
    clock = timer.Timer(cupy)
    assert cupy.size == 100 << 20

    def work():
        cupy.log.append("call")
        cupy.now += 25e-6

    found = clock.measure(work)
    assert found.median == pytest.approx(25e-6) and found.low == pytest.approx(found.high)
    assert cupy.log[-5:] == ["clear", "wait", "event", "call", "event"]
    assert found.rounds == timer.ROUNDS and found.host > 0


# --- what an op must cost ---------------------------------------------------------------------------------------------

ROOF = roof.Roof(bandwidth=3e12, flops={"16-bit": 800e12, "float32": 50e12})


def test_costs_follow_the_element_type():
    op, case = registry.get("relu"), Perf(t(64, 32))
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        found = roof.cost(op, case, inputs_of(op, case, dtype))
        assert found == roof.Cost(bytes=2 * 64 * 32 * size, flops=64 * 32)
    stated = Perf(t(64, 32), bytes_=lambda size: 250 * size, flops_=5)
    assert roof.cost(op, stated, inputs_of(op, stated, "float32")) == roof.Cost(1000, 5)
    assert roof.cost(op, stated, inputs_of(op, stated, "bfloat16")) == roof.Cost(500, 5)


def test_the_slower_of_memory_and_arithmetic_is_the_floor():
    streaming, product = roof.Cost(3 * 10**9, 10**6), roof.Cost(10**6, 8 * 10**11)
    assert roof.floor(streaming, ROOF, "float32") == (pytest.approx(1e-3), "memory")
    assert roof.floor(product, ROOF, "bfloat16") == (pytest.approx(1e-3), "arithmetic")
    assert roof.floor(product, ROOF, "float32") == (pytest.approx(16e-3), "arithmetic")
    without = roof.Roof(3e12, {"16-bit": None})
    assert roof.floor(product, without, "bfloat16")[1] == "memory"
    assert roof.rate(streaming, 1e-3, "memory") == (pytest.approx(3000), "GB/s")
    assert roof.rate(product, 2e-3, "arithmetic") == (pytest.approx(400), "TFLOP/s")


def test_every_perf_shape_has_a_cost_and_a_label():
    found = list(cards.cases())
    assert len(found) > 50 and {dtype for *_, dtype in found} == set(cards.DTYPES)
    named = [bool(case.name) for _, case, _ in found]
    assert named == sorted(named, reverse=True)
    small = [(op, case, dtype) for op, case, dtype in found if all(np.prod(x.shape) < 1e6 for x in case.inputs if x)]
    for op, case, dtype in small:
        made = roof.cost(op, case, inputs_of(op, case, dtype))
        assert made.bytes > 0 and made.flops >= 0 and cards.label(case)


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_says_the_same_twice(tmp_path):
    times, peer = timer.Times(100e-6, 90e-6, 120e-6, 30, host=7e-6), timer.Times(150e-6, 1e-4, 2e-4, 30)
    rows = [
        report.Row("relu", "a|b", "float32", times, roof.Cost(150 * 10**6, 1), peer),
        report.Row("relu backward", "a", "float32", times),
    ]
    made = report.Report({"device": "X"}, ROOF, times, "5 passed", {"graph capture": "yes"}, rows, [("pad", "no body")])
    markdown, data = made.write(tmp_path)
    lines = markdown.read_text().splitlines()
    assert "| relu | a\\|b | float32 | 100.0 | 90.0–120.0 | 1.5e+03 GB/s | 50 % | 7.0 | 150.0 | 1.50 |" in lines
    assert "| relu backward | a | float32 | 100.0 | 90.0–120.0 |  |  | 7.0 |  |  |" in lines
    assert "- graph capture: yes" in lines and "| pad | no body |" in lines and "- tests: 5 passed" in lines
    read = json.loads(data.read_text())
    assert read["rows"][0]["times"]["median"] == 100e-6 and read["roof"]["bandwidth"] == 3e12
    assert read["left_out"] == [["pad", "no body"]]


def test_rows_are_measured_or_named_as_left_out():
    class Clock:
        def measure(self, call):
            call()
            return timer.summary([1e-5])

    made = report.Report({}, ROOF, timer.summary([0.0]), "")
    op = registry.get("layer_norm")
    case = Perf(t(8, 16), t(16), t(16), normalized_shape=16, name_="small")
    cards.time_card(made, Clock(), CPU, op, case, "float32")
    assert [row.op for row in made.rows] == ["layer_norm", "layer_norm backward"]
    assert made.rows[0].cost is not None and made.rows[0].cells(ROOF)[1] == "small: 8×16 16 16"

    class Bare:
        name = "cpu"

        def call(self, at):
            raise gt.BackendError("layer_norm: no body on 'bare' (has: 0 ops). Add it.")

    cards.time_card(made, Clock(), Bare(), op, case, "float32")
    assert made.left_out == [("layer_norm, small: 8×16 16 16, float32", "layer_norm: no body on 'bare' (has: 0 ops)")]
    cards.time_card(made, Clock(), None, op, case, "float32")
    assert made.left_out[1][1].startswith(f"{cards.FAILED}AttributeError: ") and len(made.rows) == 2


def test_pytorch_is_optional_and_its_refusals_are_kept(monkeypatch):
    op = registry.get("relu")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert cards.torch_calls(op, [np.ones(3, np.float32)], {}) == ([None, None], "PyTorch is not installed")
    nameless = next(op for op in registry.ops() if op.torch is None)
    assert cards.torch_calls(nameless, [], {}) == ([None, None], "the card names no function of PyTorch")

    def fails():
        raise RuntimeError("out of memory\nand more")

    class Clock:
        def measure(self, call):
            return call()

    assert cards.timed(Clock(), fails) == (None, "RuntimeError: out of memory")


def test_kernels_are_warmed_up_with_the_assembler_that_the_tests_use(monkeypatch):
    """Opening the device chooses it, by a variable that is part of what a kernel is found by."""
    monkeypatch.delenv("OF_THE_DEVICE", raising=False)
    seen = []

    def opened(name):
        monkeypatch.setenv("OF_THE_DEVICE", name)
        return SimpleNamespace(xp=SimpleNamespace(stream=SimpleNamespace(arch=90)))

    def process(command, env, **options):
        seen.append((command[2:4], env["OF_THE_DEVICE"], env["GPUTAPE_DEVICE"]))
        return SimpleNamespace(returncode=0, stdout=["= 5 passed =\n"], wait=lambda: 0)

    monkeypatch.setattr("gputape.backend.backend", opened)
    monkeypatch.setattr(subprocess, "run", process)
    monkeypatch.setattr(subprocess, "Popen", process)
    assert gpu_check.run_tests() == ("5 passed", 0)
    assert seen == [(["gputape.warmup", "90"], "cuda", "cuda"), (["pytest", "-q"], "cuda", "cuda")]


# --- ops on a device, with the cpu in its place -----------------------------------------------------------------------

DIFFERENTIABLE = [
    pytest.param(op, s, id=op.name)
    for op in registry.ops()
    for s in [next((s for s in op.samples if s.grad), None)]
    if s is not None and op.public and (op.vjp is not None or op.compose is not None)
    if any(isinstance(x, np.ndarray) and x.dtype.name == "float32" for x in inputs_of(op, s))
]


@pytest.mark.parametrize("op, sample", DIFFERENTIABLE)
def test_values_and_gradients_are_those_of_the_engine(op, sample):
    inputs = inputs_of(op, sample)
    moving = [k for k, x in enumerate(inputs) if isinstance(x, np.ndarray)]

    def f(*xs):
        full = list(inputs)
        for k, x in zip(moving, xs, strict=True):
            full[k] = x
        gt.manual_seed(0)
        y = apply(lambda *a, **k: call(op.name, *a, **k), op, full, sample.attrs)
        return y[0] if isinstance(y, tuple) else y

    with gt.device("cpu"):
        y, pull = gt.vjp(f, *[inputs[k] for k in moving])
        cotangent = np.random.default_rng(7).standard_normal(np.shape(y)).astype(np.float32)
        expected = pull(cotangent.astype(y.dtype))
        gt.manual_seed(0)
        assert device.outputs(CPU, op, inputs, sample.attrs)[0].tobytes() == np.asarray(y).tobytes()
        gt.manual_seed(0)
        found = device.gradients(CPU, op, inputs, sample.attrs)
    for k, want in zip(moving, expected, strict=True):
        if found[k] is None:
            assert not np.any(want)
        else:
            np.testing.assert_array_equal(found[k], want)


def test_a_backward_pass_can_be_timed_alone():
    op = registry.get("layer_norm")
    x, w = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32), np.ones(8, np.float32)
    made = device.one_backward(CPU, op, [x, w, w], {"normalized_shape": (8,)})()
    assert [g.shape for g in made] == [(4, 8), (8,), (8,)]
    assert device.one_call(CPU, op, [x, w, w], {"normalized_shape": (8,)})()[0].shape == (4, 8)


def test_arrays_keep_their_strides_on_the_way(monkeypatch):
    """With a stand-in for CuPy whose memory is NumPy's."""

    class Memory:
        def __init__(self, base, offset=0):
            self.base, self.offset = base, offset

        def __add__(self, n):
            return Memory(self.base, self.offset + n)

    class Owner:
        def __init__(self, raw):
            self.data = Memory(raw.copy())

    class Cupy:
        empty = staticmethod(np.empty)
        asarray = staticmethod(Owner)
        ndarray = staticmethod(lambda shape, dtype, m, strides: np.ndarray(shape, dtype, m.base, m.offset, strides))

    class Cuda:
        name = "cuda:1"

    monkeypatch.setitem(sys.modules, "cupy", Cupy)
    base = np.arange(60, dtype=np.float32).reshape(5, 12)
    for x in (base, base.T, base[::-1], base[:, ::2], base[1:, 3:-2:3], np.broadcast_to(base[:1], (5, 12)), base[2, 3]):
        x = np.asarray(x)
        there = device.put(x, Cuda())
        np.testing.assert_array_equal(there, x)
        assert there.strides == x.strides and not np.shares_memory(there, x)
    assert device.put(base[:0], Cuda()).shape == (0, 12)
    assert device.put(None, Cuda()) is None and device.put(base, CPU) is base


@pytest.mark.parametrize("op", [op for op in registry.ops() if op.samples], ids=lambda op: op.name)
def test_the_check_of_values_holds_for_every_sample(op):
    """What it asks of a GPU, bodies that round as a GPU does can give."""
    for _, sample, dtype in cases(op):
        check_values(CPU, op, sample, dtype)


def test_closeness_is_told_from_distance():
    x = np.ones(4, np.float32)
    assert_close(x, x.astype(np.float64), [x])
    with pytest.raises(AssertionError):
        assert_close(x + np.float32(1e-4), x.astype(np.float64), [x])


# --- skipping ---------------------------------------------------------------------------------------------------------

SEEN = f"""
import sys, pytest
code = pytest.main(["-q", "-rs", "-p", "no:cacheprovider", {str(HERE)!r}, "-k", "test_gpu_cards or test_question"])
assert "triton" not in sys.modules and "cupy" not in sys.modules
"""


@pytest.mark.skipif(not device.absent(), reason="there is an NVIDIA device")
def test_without_a_device_there_is_one_reason_and_nothing_heavy_is_imported():
    made = subprocess.run([sys.executable, "-c", SEEN], capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    (skipped,) = [line for line in made.stdout.splitlines() if line.startswith("SKIPPED")]
    assert skipped.endswith(": no NVIDIA device")


@pytest.mark.skipif(not device.absent(), reason="there is an NVIDIA device")
def test_the_command_skips_visibly():
    made = subprocess.run([sys.executable, "-m", "gpu"], cwd=HERE.parents[1] / "perf", capture_output=True, text=True)
    assert made.returncode == 0 and made.stderr == "gpu-check: SKIPPED, nothing was run or timed: no NVIDIA device\n"


def test_a_hidden_device_is_absent(monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert device.absent() == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert device.absent() == "no NVIDIA device"


def test_a_question_that_fails_apart_says_why():
    assert facts.apart("nothing_of_that_name").startswith("refused: AttributeError")
