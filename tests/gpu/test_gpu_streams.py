"""Order and memory on a GPU: streams, threads, graphs, a thousand steps without a leak, and a training run."""

from __future__ import annotations

import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from on_gpu import need_device

need_device()

import cupy
from gpu.device import OnDevice, put
from gpu.timer import WAIT

from gputape.backend import backend

CUDA = backend("cuda")
DELAY = cupy.RawKernel(WAIT, "wait")


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def chain(F, x, w, gain):
    """A few kernels of different kinds, in both directions."""
    h = F.relu(F.layer_norm(F.matmul(x, w), (w.shape[1],), gain))
    return F.softmax(F.matmul(h, F.transpose(w, 0, 1)), -1)


def operands(seed=0):
    return tuple(
        put(a, CUDA) for a in (array(48, 64, seed=seed), array(64, 96, seed=seed + 1), np.ones(96, np.float32))
    )


def test_launches_go_to_the_current_stream():
    """On a stream that waits first: a launch on any other stream would read what is not there yet."""
    stream, F = cupy.cuda.Stream(non_blocking=True), OnDevice(CUDA)
    x = cupy.zeros(1 << 20, np.float32)
    F.relu(x)  # compiled and loaded
    cupy.cuda.Device().synchronize()
    with stream:
        DELAY((1,), (1,), (np.int64(50_000_000),))
        x.fill(3)
        y = F.relu(x)
    stream.synchronize()
    assert (y.get() == 3).all()


def test_every_stream_gives_the_same_bits():
    F, inputs = OnDevice(CUDA), operands()
    expected = chain(F, *inputs).get()
    for _ in range(3):
        stream = cupy.cuda.Stream(non_blocking=True)
        cupy.cuda.Device().synchronize()
        with stream:
            found = chain(F, *inputs)
        stream.synchronize()
        assert found.get().tobytes() == expected.tobytes()


def test_threads_with_streams_of_their_own():
    F = OnDevice(CUDA)
    inputs = [operands(seed=10 * k) for k in range(4)]
    expected = [chain(F, *i).get() for i in inputs]
    wrong, started = [], threading.Barrier(4)

    def work(k):
        with cupy.cuda.Device(0), cupy.cuda.Stream(non_blocking=True) as stream:
            started.wait()
            for _ in range(50):
                y = chain(F, *inputs[k])
                stream.synchronize()
                if y.get().tobytes() != expected[k].tobytes():
                    wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_captured_chain_replays_on_new_contents():
    F, stream = OnDevice(CUDA), cupy.cuda.Stream(non_blocking=True)
    with stream:
        x, w, gain = operands()
        chain(F, x, w, gain)  # loads what a capture must not load
        stream.synchronize()
        stream.begin_capture()
        y = chain(F, x, w, gain)
        graph = stream.end_capture()
        for seed in (5, 6):
            x.set(array(48, 64, seed=seed))
            graph.launch(stream)
            stream.synchronize()
            replayed = y.get()
            direct = chain(F, put(array(48, 64, seed=seed), CUDA), w, gain)
            stream.synchronize()
            assert replayed.tobytes() == direct.get().tobytes()


def test_empty_arrays_are_never_launched():
    F = OnDevice(CUDA)
    for shape in ((0,), (3, 0), (0, 5)):
        assert F.relu(cupy.empty(shape, np.float32)).shape == shape
    assert F.matmul(cupy.empty((3, 0), np.float32), cupy.empty((0, 4), np.float32)).get().tolist() == [[0] * 4] * 3


def test_a_thousand_steps_do_not_leak():
    F, pool = OnDevice(CUDA), cupy.get_default_memory_pool()
    inputs = operands()

    def state():
        cupy.cuda.Device().synchronize()
        free, _ = cupy.cuda.runtime.memGetInfo()
        return pool.used_bytes(), pool.total_bytes(), free, len(CUDA.xp.stream.functions)

    for _ in range(20):
        chain(F, *inputs)
    used, total, free, functions = state()
    for _ in range(1000):
        chain(F, *inputs)
    after = state()
    assert after[0] == used and after[1] == total and after[3] == functions
    assert after[2] >= free - (8 << 20)  # other processes may use a little


def test_training_on_the_gpu_matches_the_cpu(tmp_path):
    """The example model, a few steps, through the command line: the losses agree with the cpu's."""
    pytest.importorskip("sklearn", reason="the example data needs gputape[train]")
    losses = {}
    for device in ("cpu", "cuda"):
        command = ["train", "digits-cnn", "--steps", "5", "--no-progress", "--device", device]
        made = subprocess.run(
            [sys.executable, "-m", "gputape", *command, "--out", str(tmp_path / device)], capture_output=True, text=True
        )
        assert made.returncode == 0, made.stderr
        losses[device] = float(re.search(r"loss (\S+)", made.stdout)[1])
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)
