"""Replays on several threads: parts of ops, who waits for whom, and what becomes of errors."""

from __future__ import annotations

import functools
import os
import random
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "perf"))

import models
from training import trainer

import gputape as gt
from gputape import nn, parts, registry, threads
from gputape.backend import NP_DTYPE, aval_of, backend
from gputape.functions import Execute
from gputape.parts import SUM
from gputape.samples import Sample, t
from gputape.testing import inputs_of
from gputape.threads import Task, Threads
from gputape.variable import Cell

CPU = backend("cpu")
SEPARABLE = [op for op in registry.ops() if op.batch != "none" and op.compose is None]
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
MORE = {
    "rms_norm_bwd": [
        Sample(*[t(6, 5, 7)] * 2, t(7), t(6, 5, stat=True), t(6, 5, 7), normalized_shape=(7,), needs=(True, True))
    ],
    "max_pool_nd_gather": [
        Sample(
            *(t(6, 2, 4, 4), t(6, 2, 2, 2, dtype="int32", fill="ints", low=0, high=16)),
            **registry.get("max_pool_nd_gather").samples[0].attrs,
        )
    ],
}


# --- parts of an op ---------------------------------------------------------------------------------------------------


def in_parts(at, arrays, count):
    """The outputs of an op, made of those of its parts; None if it has none."""
    found = parts.parts(at, count)
    if found is None:
        return None
    outs = [None if a is None else np.zeros(a.shape, NP_DTYPE[a.dtype]) for a in at.outs]
    for part in found:
        made = CPU.call(part.at)([parts.cut(x, where) for x, where in zip(arrays, part.ins, strict=True)])
        for y, piece, where in zip(outs, made, part.outs, strict=True):
            if y is not None and where == SUM:
                np.add(y, piece, out=y)
            elif y is not None:
                np.copyto(parts.cut(y, where), piece)
    return outs


def same(y, expected, exact):
    assert y.shape == expected.shape and y.dtype == expected.dtype
    if exact or y.dtype.kind in "biu":
        assert y.tobytes() == expected.tobytes() or np.array_equal(y, expected, equal_nan=True)
        return
    y, expected, eps = y.astype(np.float64), expected.astype(np.float64), EPS[y.dtype.name]
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    np.testing.assert_allclose(y, expected, rtol=0, atol=16 * eps * largest)


@pytest.mark.parametrize("op", SEPARABLE, ids=lambda op: op.name)
def test_the_parts_of_an_op_make_its_results(op):
    """To the bit, but where they are summed or BLAS multiplies: it takes other tiles for other sizes."""
    met = 0
    for sample in (*op.samples, *op.perf, *MORE.get(op.name, ())):
        if sum(np.prod(x.shape) for x in sample.inputs if x is not None) > 4e6:
            continue
        arrays = Execute(CPU).lift(op, tuple(inputs_of(op, sample)))
        at = op.at(tuple([None if x is None else aval_of(x) for x in arrays]), op.values(sample.attrs))
        if at.casts is not None:
            continue
        whole = CPU.call(at)(list(arrays))
        for count in (2, 3):
            outs = in_parts(at, arrays, count)
            for y, expected in zip(outs or (), whole):
                if y is not None:
                    same(y, expected, exact=op.batch == "pointwise")
            met += outs is not None
    assert met


@pytest.mark.parametrize(
    "name, arrays, attrs",
    [
        ("linear", ((4,), (4, 4), (4,)), {}),
        ("linear_bwd", ((4,), (4,), (4, 4)), {"needs": (True, True, True)}),
        ("layer_norm", ((4,), (4,), (4,)), {"normalized_shape": (4,)}),
        ("softmax", ((4, 4),), {"dim": 0}),
        ("relu", ((),), {}),
        ("add", ((1, 4), (1, 4)), {}),
        ("sum", ((4, 4),), {}),
    ],
)
def test_what_has_no_batch_is_not_split(name, arrays, attrs):
    op = registry.get(name)
    avals = tuple([aval_of(np.zeros(shape, np.float32)) for shape in arrays])
    avals += (None,) * (len(op.inputs) - len(avals))
    assert parts.parts(op.at(avals, op.values(attrs)), 2) is None


def test_what_is_the_same_for_the_whole_batch_is_not_cut():
    add, attention = registry.get("add"), registry.get("attention")
    aval = lambda *shape: aval_of(np.zeros(shape, np.float32))  # noqa: E731
    for other in (aval(1, 5), aval(5), aval()):
        assert [p.ins for p in parts.parts(add.at((aval(4, 5), other), ()), 2)] == [
            ((0, 0, 2), None),
            ((0, 2, 4), None),
        ]
    q = aval(2, 3, 4, 5)
    at = attention.at((q, q, q, aval(1, 1, 4, 4), None), attention.values({}))
    assert [p.ins[3] for p in parts.parts(at, 2)] == [None, None]


# --- who waits for whom -----------------------------------------------------------------------------------------------


def test_threads_that_share_nothing_do_not_wait():
    x = np.zeros((8, 4))
    tasks = [Task(w, [lambda: None], [x[4 * w : 4 * w + 4]], [x[4 * w : 4 * w + 4]]) for _ in range(5) for w in (0, 1)]
    assert Threads(tasks).waits == 0


def test_a_thread_waits_once_for_what_it_reads():
    a, b, c = np.zeros(4), np.zeros(4), np.zeros(4)
    nothing = [lambda: None]
    made, read, again = Task(1, nothing, [], [a]), Task(0, nothing, [a], [b]), Task(0, nothing, [a], [c])
    assert Threads([made, read, again]).waits == 1
    assert Threads([read, made]).waits == 1  # what is read must be read before it is written
    assert Threads([made, Task(0, nothing, [], [a])]).waits == 1
    assert Threads([Task(1, nothing, [a], []), Task(0, nothing, [a], [])]).waits == 0
    assert Threads([Task(1, nothing, [], [a]), Task(0, nothing, [], [b], last=True)]).waits == 1


def test_what_another_thread_waited_for_needs_no_wait_of_its_own():
    a, b, c = np.zeros(4), np.zeros(4), np.zeros(4)
    nothing = [lambda: None]
    tasks = [Task(2, nothing, [], [a]), Task(1, nothing, [a], [b]), Task(0, nothing, [a, b], [c])]
    assert Threads(tasks).waits == 2


@pytest.mark.parametrize("seed", range(20))
def test_any_schedule_gives_what_one_thread_gives(seed):
    """Random tasks on random stretches of one memory, which dawdle so that threads overtake each other."""
    rng = random.Random(seed)
    count, memory, start = rng.choice([2, 3, 4]), np.zeros(64, np.int64), np.arange(64)

    def task():
        (a, m), (b, n) = sorted(rng.sample(range(65), 2)), sorted(rng.sample(range(65), 2))
        x, y, k, pause = memory[a:m], memory[b:n], rng.randrange(1, 9), rng.choice([0, 0, 1e-4])

        def call():
            time.sleep(pause)
            y[...] = (y * 3 + int(x.sum()) + k) % 1000003

        return Task(rng.randrange(count), [call], [x, y], [y], rng.random() < 0.05)

    steps = Threads([*(task() for _ in range(60)), *(Task(w, [], [], []) for w in range(count))])
    memory[:] = start
    for call in steps.calls:
        call()
    expected = memory.copy()
    for _ in range(3):
        memory[:] = start
        steps.run()
        np.testing.assert_array_equal(memory, expected)


def fails():
    raise ValueError("mine")


@pytest.mark.parametrize("where", [0, 1])
def test_an_error_stops_all_threads_and_the_next_run_is_whole(where):
    a, b, log, broken = np.zeros(1), np.zeros(1), [], True
    tasks = [
        Task(where, [lambda: fails() if broken else log.append("first")], [], [a]),
        Task(1 - where, [functools.partial(log.append, "other")], [a], [b]),
        Task(where, [functools.partial(log.append, "last")], [b], [a]),
    ]
    steps = Threads(tasks)
    for _ in range(2):
        with pytest.raises(ValueError, match="mine"):
            steps.run()
    assert log == []
    broken = False
    steps.run()
    assert log == ["first", "other", "last"]


def test_an_interrupted_replay_can_be_repeated():
    a, log, hit = np.zeros(1), [], [KeyboardInterrupt()]

    def interrupted():
        if hit:
            raise hit.pop()

    tasks = [
        Task(0, [interrupted, functools.partial(log.append, 0)], [], [a]),
        Task(1, [functools.partial(log.append, 1)], [a], []),
    ]
    steps = Threads(tasks)
    with pytest.raises(KeyboardInterrupt):
        steps.run()
    steps.run()
    assert log == [0, 1]


# --- steps ------------------------------------------------------------------------------------------------------------


def twin(name, samples, count, split):
    split(count)
    gt.manual_seed(0)
    model = models.MODELS[name].build()
    step, rng = gt.compile(trainer(model)), np.random.default_rng(0)
    batch = [x[:samples] for x in models.MODELS[name].batch(rng)]
    loss, grads = step(*batch)
    first = [float(loss), *(np.array(g) for g in grads)]
    losses = [float(step(*batch)[0]) for _ in range(10)]
    return step.plan, first, losses, [p.array.tobytes() for p in model.parameters()]


@pytest.mark.parametrize("name, samples", [("mlp", 64), ("cnn", 9), ("gpt", 4)])
def test_a_step_on_several_threads_is_that_on_one(name, samples, split):
    (_, one, *_), (plan, two, losses, bits), again = (twin(name, samples, n, split) for n in (1, 2, 2))
    assert plan.threads == 2 and len(plan.parts) > len(plan.ran) / 2
    assert two[0] == pytest.approx(one[0], rel=1e-6) and losses[-1] < losses[0]
    for a, b in zip(one[1:], two[1:], strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=256 * EPS["float32"] * np.abs(a).max())
    assert again[2:] == (losses, bits)
    three = twin(name, samples, 3, split)
    assert three[0].threads == 3 and three[1][0] == pytest.approx(one[0], rel=1e-6)


def test_threads_wait_for_each_other_about_once_for_each_op(split):
    """For sums over the batch, for what is not split, and where memory is used again; not for each call."""
    plan = twin("cnn", 8, 2, split)[0]
    assert 0 < plan.steps.waits < 1.5 * len(plan.ran) < len(plan.steps.calls) / 10


def test_no_more_threads_than_python_s_lock_lets_work(split, monkeypatch):
    monkeypatch.setattr(parts, "LOCKED", 2e-5)
    split(64)
    with gt.device("cpu"):
        found = []
        for rows, width in ((64, 64), (256, 512), (1024, 2048)):
            step = gt.compile(lambda x, w: gt.matmul(gt.tanh(gt.matmul(x, w)), w))
            step(np.ones((rows, width), np.float32), np.ones((width, width), np.float32))
            found.append(step.plan.threads)
    assert 1 == found[0] < found[1] < found[2] < 64


def test_small_steps_unsplit_programs_and_eager_ops_keep_to_one(monkeypatch):
    monkeypatch.setattr(threads, "_chosen", 2)
    with gt.device("cpu"):
        x = np.ones((64, 8), np.float32)
        small = gt.compile(lambda x: gt.relu(x))
        small(x)
        assert small.plan.threads == 1
        monkeypatch.setattr(parts, "LOCKED", 1e-12)
        whole, plain = gt.compile(lambda x: gt.relu(x)), gt.compile(lambda x: gt.relu(x), rewrite=False)
        flat = gt.compile(lambda x: gt.sum(x))
        for f in (whole, plain, flat):
            f(x)
        assert (whole.plan.threads, plain.plan.threads, flat.plan.threads) == (2, 1, 1)


def test_an_index_out_of_range_is_named_and_nothing_is_updated(split):
    split(2)
    gt.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    step, x, labels = gt.compile(trainer(model)), np.ones((6, 8), np.float32), np.array([0, 1, 2, 3, 0, 1])
    step(x, labels)
    before = [p.array.copy() for p in model.parameters()]
    with pytest.raises(gt.IndexRangeError, match=r"target\[5\] is 7"):
        step(x, np.array([0, 1, 2, 3, 0, 7]))
    assert all(p.array.tobytes() == b.tobytes() for p, b in zip(model.parameters(), before, strict=True))
    losses = [float(step(x, labels)[0]) for _ in range(5)]
    assert losses[-1] < losses[0]


def test_an_error_before_an_update_in_another_thread_prevents_it(split):
    """Updates wait for all that comes before them, whatever they read."""
    split(2)
    count = Cell(np.zeros((64, 4), np.float32))

    @gt.compile
    def step(x, index):
        y = gt.sum(gt.index_select(gt.tanh(x), 0, index))
        count.assign(gt.add(count, gt.ones((64, 4))))
        return y

    x = np.ones((64, 4), np.float32)
    step(x, np.array([1]))
    assert step.plan.threads == 2
    with pytest.raises(gt.IndexRangeError):
        step(x, np.array([99]))
    assert (count.array == 1).all()


def test_blas_and_the_caller_s_cores_are_as_before(split):
    def state():
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        return cores, [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]

    split(2)
    with threadpool_limits(2, "blas"):
        before, seen = state(), []
        step = gt.compile(lambda x: gt.tanh(x))
        step(np.ones((64, 64), np.float32))
        calls = step.plan.steps
        calls._lists[0].insert(0, lambda: seen.append(state()[1]))
        step(np.ones((64, 64), np.float32))
        assert state() == before
        assert set(seen[0]) == {1} and before[1][0] == 2


def test_steps_of_several_callers_take_turns(split):
    split(2)
    x = np.linspace(-1, 1, 64 * 32, dtype=np.float32).reshape(64, 32)
    fs = [gt.compile(lambda x, k=k: gt.sum(gt.tanh(gt.mul(x, k)), dim=1)) for k in range(1, 5)]
    expected = [f(x) for f in fs]
    wrong = []

    def work(f, y):
        for _ in range(50):
            if f(x).tobytes() != y.tobytes():
                wrong.append(f)

    callers = [threading.Thread(target=work, args=pair) for pair in zip(fs, expected)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(f.plan.threads == 2 for f in fs) and not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(split):
    split(2)
    x = np.ones((64, 64), np.float32)
    step = gt.compile(lambda x: gt.tanh(x))
    y = step(x)
    child = os.fork()
    if child == 0:
        os._exit(0 if step(x).tobytes() == y.tobytes() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- how many ---------------------------------------------------------------------------------------------------------


def test_the_number_of_threads_is_blas_s_unless_it_is_set(monkeypatch):
    monkeypatch.setattr(threads, "_chosen", None)
    for n in (1, 2):
        with threadpool_limits(n, "blas"):
            assert gt.get_num_threads() == n
    gt.set_num_threads(3)
    assert gt.get_num_threads() == 3


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "2", None])
def test_a_number_of_threads_must_be_a_positive_integer(n):
    with pytest.raises(gt.ArgumentError, match="is not a positive integer"):
        gt.set_num_threads(n)
