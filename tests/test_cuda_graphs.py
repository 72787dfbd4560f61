"""Compiled steps as CUDA graphs, without a GPU: what is captured, in which order streams run, and what is refused.

`fake_streams.py` raises on what a captured stream must not hold, and runs what streams hold in the least favourable
order that events allow.
"""

from __future__ import annotations

import gc
import os
import sys
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: no kernel is emulated")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "perf"))

from fake_cupy import fake_cuda, ndarray  # noqa: F401 - a fixture
from fake_streams import LOG, Stream, current, hold, load
from gpu import device

import gputape as gt
from gputape import nn, optim, registry
from gputape.backend import NP_DTYPE
from gputape.backend import _scratch as scratch_of
from gputape.backend import current as current_backend
from gputape.kernels import KernelBackend
from gputape.random import generator
from gputape.testing import apply, inputs_of
from gputape.variable import Cell

pytestmark = pytest.mark.usefixtures("fake_cuda")


@pytest.fixture(autouse=True)
def on_cuda(fake_cuda):  # noqa: F811
    with gt.device("cuda"):
        yield


def mlp():
    return nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Dropout(0.25), nn.Linear(12, 4))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 4)
    )


def batches(model, n, size=3):
    rng = np.random.default_rng(0)
    shape = (size, 16) if model is mlp else (size, 1, 4, 4)
    return [(rng.standard_normal(shape).astype("f"), rng.integers(0, 4, size)) for _ in range(n)]


class Training:
    """A model and its step."""

    def __init__(self, model, compiled, make=lambda p: optim.AdamW(p, lr=1e-2)):
        gt.manual_seed(0)
        self.net = model()
        self.opt = make(self.net.parameters())
        self.run = gt.compile(self.step) if compiled else self.step

    def step(self, x, y):
        with gt.record() as tape:
            loss = gt.cross_entropy(self.net(x), y)
        self.opt.step(tape.backward(loss))
        return loss

    def state(self):
        state = self.opt.state_dict()["state"]
        arrays = [*self.net.state_dict().values(), *(a for entry in state.values() for a in entry.values())]
        return [np.asarray(a).tobytes() for a in arrays]


def hostile():
    """All streams run at once; the graph's waits until somebody waits for it; so do all others."""
    return [lambda s: False, lambda s: s.non_blocking, lambda s: not s.non_blocking]


@pytest.mark.parametrize("held", hostile(), ids=["at once", "graph late", "caller late"])
@pytest.mark.parametrize("model", [mlp, cnn])
def test_a_graph_gives_what_eager_gives_bit_for_bit(model, held):
    eager, losses = Training(model, False), []
    for x, y in batches(model, 4):
        losses.append(float(eager.run(x, y)))
    counter = generator().state
    with hold(held):
        compiled = Training(model, True)
        found = [compiled.run(x, y) for x, y in batches(model, 4)]  # nothing is read in between
        assert list(map(float, found)) == losses
        assert compiled.state() == eager.state() and generator().state == counter


@pytest.mark.parametrize("model", [mlp, cnn])
def test_the_first_step_is_the_warm_up_and_the_rest_is_one_launch(model):
    training, ((x, y),) = Training(model, True), batches(model, 1)
    training.run(x, y)
    launches = training.run.plan.launches
    assert LOG.graphs == LOG.captured == 0 and launches > 10
    assert int(training.opt.state_dict()["state"][0]["step"]) == 1  # the warm-up is a step, and no more than that
    before = LOG.launches
    training.run(x, y)
    assert (LOG.launches, LOG.captured, LOG.graphs) == (before, launches, 1)
    training.run(x, y)
    assert (LOG.launches, LOG.captured, LOG.graphs) == (before, launches, 2)
    assert int(training.opt.state_dict()["state"][0]["step"]) == 3


def test_all_is_loaded_before_the_first_launch_of_a_plan(monkeypatch):
    training, ((x, y),) = Training(mlp, True), batches(mlp, 1)
    before = []  # of each load of something new: how many launches there had been

    def spied(key):
        if key not in LOG.loaded:
            before.append(LOG.launches)
        load(key)

    monkeypatch.setattr("fake_streams.load", spied)
    training.run(x, y)
    assert before[-1] == LOG.launches - training.run.plan.launches


def test_a_new_signature_is_a_new_graph():
    training = Training(mlp, True)
    for size in (3, 2, 3, 2, 3, 2):
        training.run(*batches(mlp, 1, size)[0])
    first, second = (plan.launches for plan, *_ in training.run.plans.values())
    assert LOG.captured == first + second and LOG.graphs == 4
    eager = Training(mlp, False)
    for size in (3, 2, 3, 2, 3, 2):
        eager.run(*batches(mlp, 1, size)[0])
    assert training.state() == eager.state()


def test_what_changes_between_steps_needs_no_new_capture():
    """The learning rate, the seed and parameters written from outside."""

    def train(compiled):
        training, losses = Training(mlp, compiled), []
        for k, (x, y) in enumerate(batches(mlp, 6)):
            if k == 3:
                training.opt.lr = 0.3
                gt.manual_seed(7)
            if k == 4:
                training.net[0].weight.assign(gt.asnumpy(training.net[0].weight) * 0.5)
            losses.append(float(training.run(x, y)))
        return losses, training.state()

    assert train(True) == train(False)
    assert LOG.graphs == 5 and LOG.captured > 0
    captured = LOG.captured
    train(True)
    assert LOG.captured == 2 * captured  # once each


def test_a_loss_scale_moves_inside_the_graph():
    x = np.float32([[1, 2, 3]])

    def train(compiled):
        gt.manual_seed(0)
        layer = nn.Linear(3, 2)
        opt, scaler = optim.SGD(layer.parameters(), lr=0.1), optim.GradScaler(init_scale=4.0, growth_interval=2)

        def step(x):
            with gt.record() as tape:
                loss = scaler.scale(gt.sum(layer(x)))
            scaler.step(opt, tape.backward(loss))
            scaler.update()
            return loss

        run, seen = gt.compile(step) if compiled else step, []
        for k in range(8):
            if k == 4:
                scaler.update(2.0)
            run(x * (np.inf if k == 6 else 1))
            seen.append((scaler.get_scale(), gt.asnumpy(layer.weight).tobytes()))
        return seen, (len(run.plans) if compiled else 0)

    (found, plans), (expected, _) = train(True), train(False)
    assert found == expected and len({scale for scale, _ in found}) > 3
    assert LOG.graphs == 8 - plans


@pytest.mark.parametrize("held", hostile(), ids=["at once", "graph late", "caller late"])
def test_steps_of_several_streams_wait_for_each_other(held):
    total = Cell(np.zeros(3, np.float32), name="total")

    @gt.compile
    def step(x):
        total.assign(total + x)
        return gt.alias(total) * 1.0

    with hold(held):
        results = []
        for k in range(6):
            with Stream():
                results.append((current(), step(np.full(3, 10.0**k, "f"))))
        for k, (stream, y) in enumerate(results):
            with stream:
                assert y.get().tolist() == [float("1" * (k + 1))] * 3
    assert LOG.graphs == 5


def test_the_memory_of_a_graph_lives_as_long_as_its_plan():
    step = gt.compile(lambda x, i: gt.sum(gt.index_add(x.T, 0, i, x.T * 2.0)))  # takes work memory at run time
    x, i = np.ones((4, 3), "f"), np.array([0, 2, 1])
    for _ in range(3):
        gc.collect()
        assert float(step(x, i)) == 36.0
    assert LOG.graphs == 2


def test_an_index_out_of_range_is_noted_inside_the_graph():
    table = np.ones((5, 2), np.float32)

    @gt.compile
    def step(i):
        return gt.embedding(i, table)

    line = step.f.__code__.co_firstlineno + 2
    for index in (1, 2, 4):
        assert gt.asnumpy(step(np.array([index]))).tolist() == [[1, 1]]
    y = step(np.array([9]))
    with pytest.raises(gt.IndexRangeError, match=rf"out of range for size 5 \(.*test_cuda_graphs.py:{line}\)"):
        gt.asnumpy(y)
    assert np.isnan(gt.asnumpy(y)).all() and LOG.graphs == 3


# --- what a graph cannot hold -----------------------------------------------------------------------------------------

BODIES = {
    r"uses \.get of an array outside a launch": lambda rt, y, x: y.get(),
    r"uses \.astype of an array outside a launch": lambda rt, y, x: x.astype("int64"),
    "uses __float__ of an array outside a launch": lambda rt, y, x: float(x),
    "uses __bool__ of an array outside a launch": lambda rt, y, x: 1 if x else 2,
    "uses __add__ of an array outside a launch": lambda rt, y, x: x + x,
    "uses __lt__ of an array outside a launch": lambda rt, y, x: x < 0,
    "uses __array_ufunc__ of an array outside a launch": lambda rt, y, x: np.sin(x),
    "uses __array_function__ of an array outside a launch": lambda rt, y, x: np.sort(x),
    "uses __array__ of an array outside a launch": lambda rt, y, x: np.asarray(x),
    "asks the runtime for 'cupy'": lambda rt, y, x: rt.cupy.sin(x),
    "copies an array that is not contiguous, by reshape": lambda rt, y, x: x.T.reshape(-1),
    "indexes an array by another": lambda rt, y, x: x[x],
}


@pytest.mark.parametrize("reason", BODIES)
def test_what_is_no_launch_is_found_without_running_it(fake_cuda, reason):  # noqa: F811
    node, x = SimpleNamespace(op="tanh", line="train.py:7"), ndarray((2, 3), np.float32)
    with pytest.raises(
        gt.CompileError, match=rf"^tanh: its host function {reason}.* \(train\.py:7\)\. Launch a kernel"
    ):
        fake_cuda.steps([(node, [partial(BODIES[reason], fake_cuda.xp, x, x)])])
    assert LOG.launches == 0


@pytest.mark.parametrize("device", ["cuda", "emulated"])
def test_a_step_that_a_graph_cannot_hold_is_refused_with_the_users_line(monkeypatch, device):
    def writes(rt, y, x):
        y[...] = x

    with gt.device(device):
        monkeypatch.setitem(current_backend().bodies, "tanh", writes)
        monkeypatch.setattr(current_backend(), "calls", {})
        w = Cell(np.zeros((2, 2), "f"), name="w")

        @gt.compile(rewrite=False)
        def step(x):
            w.assign(gt.tanh(w + x))

        line = step.f.__code__.co_firstlineno + 2
        for _ in range(2):
            with pytest.raises(gt.CompileError, match=rf"^tanh: .* uses __setitem__ .*test_cuda_graphs\.py:{line}\)"):
                step(np.ones((2, 2), "f"))
        assert gt.asnumpy(w).tolist() == [[0, 0], [0, 0]] and w.version == 0 and not step.plans


def test_a_capture_that_fails_leaves_the_stream_usable(monkeypatch):
    step = gt.compile(lambda x: gt.tanh(x) * 2.0)
    x = np.ones(3, "f")
    step(x)
    loaded = set(LOG.loaded)
    LOG.loaded.clear()
    with pytest.raises(RuntimeError, match="is loaded while a stream is captured"):
        step(x)
    LOG.loaded |= loaded
    np.testing.assert_array_equal(gt.asnumpy(step(x)), gt.asnumpy(gt.tanh(x)) * 2)
    assert LOG.graphs == 1


def test_what_breaks_a_capture_is_told_and_not_that_it_is_broken(fake_cuda, monkeypatch):  # noqa: F811
    """As CUDA does, which ends a capture that met a call it must not hold with an error of its own."""
    step = gt.compile(lambda x: gt.tanh(x) * 2.0)
    x, own = np.ones(3, "f"), fake_cuda.xp.own
    step(x)

    def invalidated():
        own.held = None
        raise RuntimeError("cudaErrorStreamCaptureInvalidated")

    with monkeypatch.context() as patched:
        patched.setattr(own, "end_capture", invalidated)
        patched.setattr(LOG, "loaded", set())
        with pytest.raises(RuntimeError, match="is loaded while a stream is captured"):
            step(x)
    np.testing.assert_array_equal(gt.asnumpy(step(x)), gt.asnumpy(gt.tanh(x)) * 2)


def test_the_stand_in_refuses_what_a_capture_must_not_hold():
    x = ndarray((3,), np.float32)
    x.fill(1)
    stream = Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        for call in (x.get, x.copy, lambda: float(x[0]), lambda: x.fill(2), lambda: ndarray(3), gt.synchronize):
            with pytest.raises(RuntimeError, match="while a stream is captured"):
                call()
        stream.end_capture()
    with pytest.raises(RuntimeError, match="cannot capture"):
        current().begin_capture()


# --- every op ---------------------------------------------------------------------------------------------------------

REFUSED: dict[str, str] = {}  # op → why a graph cannot hold it


class Captures(KernelBackend):
    """Captures each op it is asked for, and runs none."""

    def __init__(self, of):
        self.__dict__ |= vars(of)
        self.asked = 0

    def call(self, at):
        self.asked += 1
        if at.op.view is not None:
            return super().call(at)

        def capture(arrays):
            outs, work = ([None if a is None else self._empty(a)(a.shape, NP_DTYPE[a.dtype]) for a in avals]
                          for avals in (at.outs, scratch_of(self.body(at), at)))  # fmt: skip
            extra = {"scratch": work} if work else {}
            step = partial(self.body(at), self.xp, *outs, *arrays, **at.attrs, **extra)
            steps = self.steps([(SimpleNamespace(op=at.op.name, line="here.py:1"), [step])])
            assert len(steps._captured().launches) == sum(steps.launches)
            return tuple(outs)

        return capture


@pytest.mark.parametrize("op", list(registry.ops()), ids=lambda op: op.name)
def test_every_op_with_kernels_can_be_captured(fake_cuda, op):  # noqa: F811
    """Each sample, in two element types: what is loaded and allocated ahead is what the capture takes."""
    backend = Captures(fake_cuda)
    F = device.OnDevice(backend)
    cases = op.samples or [case for case in op.perf if all(np.prod(x.shape) < 1e6 for x in case.inputs if x)]
    for case, dtype in product(cases, (None, "bfloat16")):
        with np.errstate(over="ignore"):
            given = [device.put(x, backend) for x in inputs_of(op, case, dtype)]
        try:
            apply(getattr(F, op.name), op, F.lift(op, tuple(given)), case.attrs)
        except gt.CompileError as e:
            assert op.name in REFUSED, e
        except (gt.BackendError, gt.DTypeError):
            continue  # there is no kernel for these arrays
        except gt.ShapeError:
            assert op.name == "ctc_loss"  # it reads lengths, which nothing has computed here
    assert LOG.launches == 0 and (backend.asked or not op.samples)
