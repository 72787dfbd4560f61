"""`cuda` without a GPU: arrays that refuse to be taken for NumPy's, kernels in the emulator (see `fake_cupy.py`)."""

from __future__ import annotations

import os
import re

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: no kernel is emulated")

from fake_cupy import fake_cuda, ndarray, put  # noqa: F401 - a fixture
from ml_dtypes import bfloat16

import gputape as gt
from gputape import nn, optim, registry
from gputape.backend import current
from gputape.testing import apply, inputs_of
from gputape.tree import flatten

pytestmark = pytest.mark.usefixtures("fake_cuda")


@pytest.fixture(autouse=True)
def on_cuda(fake_cuda):  # noqa: F811
    with gt.device("cuda"):
        yield


@pytest.fixture
def second(fake_cuda, monkeypatch):  # noqa: F811
    """There is a second device."""
    monkeypatch.setattr(fake_cuda.xp.cupy.cuda.runtime, "getDeviceCount", lambda: 2)
    monkeypatch.setattr(fake_cuda.xp, "sole", False)


def model():
    gt.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.25),
        nn.Linear(64, 10),
    )  # fmt: skip


def data():
    rng = np.random.default_rng(0)
    return rng.uniform(size=(3, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 3)


def trained(device, compiled, make=lambda p: optim.AdamW(p, lr=1e-2)):
    with gt.device(device):
        net, (x, y) = model(), data()
        opt = make(net.parameters())

        def step(x, y):
            with gt.record() as tape:
                loss = gt.cross_entropy(net(x), y)
            opt.step(tape.backward(loss))
            return loss

        run = gt.compile(step) if compiled else step
        losses = [float(run(x, y)) for _ in range(3)]
        return losses, net.state_dict(), opt.state_dict(), net


@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_trains_on_the_device_as_emulated_bit_for_bit(compiled):
    losses, weights, state, net = trained("cuda", compiled)
    expected, exact, exact_state, _ = trained("emulated", compiled)
    assert losses == expected and losses[-1] < losses[0]
    assert all(type(c.array) is ndarray for c in (*net.parameters(), *net.buffers()))
    for name, w in exact.items():
        assert type(weights[name]) is np.ndarray and weights[name].tobytes() == w.tobytes(), name
    for i, entry in exact_state["state"].items():
        for name, a in entry.items():
            assert type(state["state"][i][name]) is np.ndarray and state["state"][i][name].tobytes() == a.tobytes()


def results(device, op, case):
    """The results of `gt.<op>` outside a recording, then inside one with the gradients, as they come."""
    with gt.device(device):
        gt.manual_seed(0)
        given = inputs_of(op, case)
        function = getattr(gt, op.name)
        eager, _ = flatten(apply(function, op, given, case.attrs))
        gt.manual_seed(0)
        with gt.record() as tape:
            leaves = [gt.leaf(x) if isinstance(x, np.ndarray) and x.dtype.kind in "fV" else x for x in given]
            found, _ = flatten(apply(function, op, leaves, case.attrs))
        values = [y.value for y in found]
        grads = {}
        if found[0].requires_grad:
            grads = tape.backward(found[0], seed=np.ones(found[0].shape, found[0].dtype))
        return eager, values, list(grads.values())


@pytest.mark.parametrize("op", [op for op in registry.ops() if op.public], ids=lambda op: op.name)
def test_every_function_takes_numpy_arrays_and_gives_the_devices(op):
    case = next((s for s in op.samples if not any(getattr(x, "dtype", "") == "float64" for x in s.inputs)), None)
    if case is None:
        return  # the op is for float64 only, which has no kernels
    try:
        wanted = results("emulated", op, case)
    except gt.BackendError as e:  # what the kernels do not do
        with pytest.raises(gt.BackendError, match=re.escape(str(e))):
            results("cuda", op, case)
        return
    for found, expected in zip(results("cuda", op, case), wanted, strict=True):
        assert len(found) == len(expected)
        for y, e in zip(found, expected, strict=True):
            assert type(y) is ndarray and y.get().tobytes() == np.asarray(e).tobytes()


def test_arrays_of_the_device_are_taken_as_they_are():
    x = put(np.arange(6, dtype=np.float32).reshape(2, 3))
    y = gt.relu(x)
    assert type(y) is ndarray and gt.asnumpy(y).tolist() == x.get().tolist()
    assert gt.asnumpy(gt.transpose(x, 0, 1)).tolist() == x.get().T.tolist()
    assert gt.add(x, 1.5).get()[0, 1] == 2.5 and gt.mul(2, x).dtype == np.float32
    with gt.record() as tape:
        v = gt.leaf(x)
        picked = v[put(np.array([1, 0, 1])), 1:][gt.asnumpy(v)[:, 0].repeat(2)[:3] >= 0]
        loss = (picked * picked).sum()
    grads = tape.backward(loss)
    assert type(grads[v]) is ndarray and grads[v].get().tolist() == [[0, 2, 4], [0, 16, 20]]
    assert float(loss) == loss.item() == 87.0 and np.asarray(v).tolist() == x.get().tolist()
    assert v.__cuda_array_interface__["shape"] == (2, 3) and v.__dlpack_device__() == (2, 0)


def test_arrays_of_the_host_arrive_in_c_order():
    """CuPy keeps Fortran's order. What is written into a parameter, or read by a kernel's author, is in C order."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3).T
    w, (tape, i) = nn.Parameter(x), gt.Tape().leaf(x)
    assert w.array.strides == tape.node(i).values[0].strides == (8, 4)
    assert current().memory.array(x, "int32").strides == (8, 4) and gt.asnumpy(w).tolist() == x.tolist()


def test_a_tensor_of_another_library_comes_by_dlpack(fake_cuda, monkeypatch):  # noqa: F811
    """The other protocol has no bfloat16: what PyTorch calls one there is two bytes to CuPy."""

    class Tensor:
        def __dlpack_device__(self):
            return 2, 0

        @property
        def __cuda_array_interface__(self):
            raise AssertionError("asked for what it cannot tell")

    monkeypatch.setattr(fake_cuda.xp.cupy, "from_dlpack", lambda x: put(np.ones(3, bfloat16)), raising=False)
    assert gt.relu(Tensor()).dtype == bfloat16


@pytest.mark.parametrize("compiled", [False, True])
def test_all_that_a_second_device_does_is_on_it(second, compiled):
    """While another is CuPy's current one: the stand-in refuses what CuPy would do there instead."""
    losses, _, state, net = trained("cuda:1", compiled)
    expected, _, exact_state, _ = trained("cuda", compiled)
    assert losses == expected and state["state"].keys() == exact_state["state"].keys()
    assert {c.array.device.id for c in (*net.parameters(), *net.buffers())} == {1}
    with gt.device("cuda:1"):
        run = gt.compile(lambda x: (gt.tanh(x), gt.transpose(x, 0, 1)))
        for _ in range(3):
            assert {y.device.id for y in run(np.ones((2, 3), "f"))} == {1}
        with gt.record() as tape:
            x = gt.leaf(put(np.ones((2, 3), "f")))
            loss = gt.sum(gt.embedding(np.array([0, 7]), gt.transpose(x, 0, 1)))
        grads = tape.backward(loss)
        assert grads[x].device.id == x.value.device.id == loss.value.device.id == 1
        with pytest.raises(gt.IndexRangeError):
            gt.synchronize()


def test_arrays_of_a_device_that_nothing_has_run_on_are_known(fake_cuda, second):  # noqa: F811
    with fake_cuda.xp.cupy.cuda.Device(1):
        x = put(np.arange(3, dtype=np.float32))
    assert gt.asnumpy(x).tolist() == [0, 1, 2]
    y = gt.relu(x)
    assert y.device.id == 0 and gt.asnumpy(y).tolist() == [0, 1, 2]


def test_a_pure_tape_holds_device_arrays():
    tape, x = gt.Tape().leaf([1.0, 2.0])
    tape, y = tape.mul(x, x)
    tape, s = tape.sum(y)
    grads = tape.backward(s)
    assert type(tape.value(y)) is ndarray and type(grads[x]) is ndarray and grads[x].get().tolist() == [2.0, 4.0]
    assert tape.nbytes >= 2 * 8 + 4
    longer, ids = tape.backward_nodes(s)
    assert longer.value(ids[x]).get().tolist() == [2.0, 4.0]
    seeded = tape.backward(y, seed=[1.0, 10.0])
    assert seeded[x].get().tolist() == [2.0, 40.0]


def test_arrays_on_the_wrong_device_are_refused_by_name():
    x, layer = put(np.ones((2, 3), np.float32)), nn.Linear(3, 2)
    with gt.device("cpu"):
        with pytest.raises(gt.BackendError, match=r"shape \(2, 3\) is on a GPU.*gt.asnumpy"):
            gt.relu(x)
        with pytest.raises(gt.BackendError, match=r"lives in the memory of another device than 'cpu'.*model.to"):
            layer(np.ones((2, 3), np.float32))
        with gt.record(), pytest.raises(gt.BackendError, match="another device"):
            layer(np.ones((2, 3), np.float32))
        onto = nn.Linear(3, 2)
    expected = gt.asnumpy(onto.weight)
    assert onto.to("cuda") is onto and type(onto.weight.array) is ndarray
    assert gt.asnumpy(onto.weight).tobytes() == expected.tobytes() and onto(x).shape == (2, 2)


def test_a_model_that_an_optimizer_holds_is_not_moved():
    with gt.device("cpu"):
        layer = nn.Linear(3, 2)
        optim.SGD(layer.parameters(), lr=0.1)
    with pytest.raises(gt.ArgumentError, match=r"to: weight belongs to an optimizer.*Move the model first"):
        layer.to("cuda")


@pytest.mark.parametrize("call", [
    lambda i: gt.embedding(i, np.ones((5, 2), np.float32)),
    lambda i: gt.index_select(np.ones((5, 2), np.float32), 0, i),
    lambda i: gt.cross_entropy(np.ones((3, 5), np.float32), i),
])  # fmt: skip
def test_an_index_out_of_range_is_told_at_the_next_read(call):
    """Nothing waits for the device before; the result is NaN where the index was wrong."""
    y = call(np.array([0, 7, 1]))
    with pytest.raises(gt.IndexRangeError, match=r"out of range for size 5 \(.*test_cuda_arrays.py:\d+\)"):
        gt.asnumpy(y)
    assert np.isnan(gt.asnumpy(y)).any()  # told once
    call(np.array([0, 4, 1]))
    gt.synchronize()


def test_the_lowest_place_is_told():
    table = np.ones((5, 2), np.float32)
    for i in (1, 9):
        gt.embedding(np.array([i]), table)
        gt.index_select(table, 1, np.array([i]))
    with pytest.raises(gt.IndexRangeError, match="embedding: an index is out of range for size 5"):
        gt.synchronize()


def test_labels_that_are_ignored_are_in_range():
    gt.cross_entropy(np.ones((3, 5), np.float32), np.array([0, -100, 4]))
    gt.synchronize()


@pytest.mark.parametrize("compiled", [False, True])
def test_an_index_out_of_range_does_not_reach_parameters(compiled):
    gt.manual_seed(0)
    table = nn.Embedding(5, 3)
    opt = optim.AdamW(table.parameters(), lr=0.1)

    def step(i):
        with gt.record() as tape:
            loss = gt.sum(gt.square(table(i)))
        opt.step(tape.backward(loss))
        return loss

    run = gt.compile(step) if compiled else step
    run(np.array([0, 1]))
    before = gt.asnumpy(table.weight)
    wrong = run(np.array([0, 5]))
    run(np.array([0, 2]))  # nothing is updated until it has been raised
    with pytest.raises(gt.IndexRangeError, match="embedding"):
        float(wrong) if hasattr(wrong, "rec") else gt.asnumpy(wrong)
    assert gt.asnumpy(table.weight).tobytes() == before.tobytes()
    assert int(opt.state_dict()["state"][0]["step"]) == 1
    run(np.array([0, 2]))
    assert not np.array_equal(gt.asnumpy(table.weight), before)
    assert int(opt.state_dict()["state"][0]["step"]) == 2


def test_the_training_program_runs_on_the_device():
    """Train, test, save and resume, with the losses and weights of `emulated`."""
    pytest.importorskip("sklearn", reason="the example data needs gputape[train]")
    from gputape.data import Split, digits
    from gputape.train import loop

    whole = digits()
    small = Split(whole.x_train[:16], whole.y_train[:16], whole.x_test[:4], whole.y_test[:4])
    found = {}
    for device in ("cuda", "emulated"):
        with gt.device(device):
            trainer = loop.Trainer(loop.Options.of("digits-mlp", steps=2, batch_size=8), small)
            trainer.fit()
            weights = trainer.model.state_dict()
            arrays, about = trainer.state()
            again = loop.Trainer(trainer.options, small)
            again.load_state(weights, arrays, about)
            predicted = loop.evaluate(again.model, small.x_test)
            found[device] = [weights, trainer.history[0]["loss"], predicted.tolist()]
    (weights, *rest), (exact, *expected) = found["cuda"], found["emulated"]
    assert rest == expected
    for name, w in exact.items():
        assert weights[name].tobytes() == w.tobytes()
