"""`gt.detect_anomaly` names the first node that makes a NaN or an infinity, and no other."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import gputape as gt
from gputape import backend, nn, optim, registry
from gputape.dispatch import call
from gputape.testing import apply, inputs_of

X = np.float32([1.0, 0.0, 2.0])


def line(error, text):
    """That the error names a line of this file which holds `text`."""
    path, _, number = error.value.line.rpartition(":")
    assert path.endswith("test_transforms_anomaly.py")
    assert text in Path(path).read_text().splitlines()[int(number) - 1]


def test_a_forward_node_is_named_with_its_line_and_inputs():
    with gt.detect_anomaly(), gt.record() as tape, pytest.raises(gt.AnomalyError) as e:
        x = gt.leaf(X, name="x")
        y = gt.exp(x)
        gt.add(y, gt.log(x * 1))  # the culprit
    assert (e.value.op, e.value.node) == ("log", 4)
    line(e, "culprit")
    text = str(e.value)
    assert "made 1 inf in y (3,) float32 (node 4, " in text
    assert "input = %3: (3,) float32 from 0 to 2" in text and "clamp" in text
    assert len(tape) == 4


def test_the_node_whose_vjp_makes_it_is_named():
    with gt.detect_anomaly():
        with gt.record() as tape:
            x = gt.leaf(X)
            y = gt.sqrt(x)  # the culprit
            loss = gt.sum(y * 2)
        with pytest.raises(gt.AnomalyError, match=r"^sqrt: in backward, made 1 inf in the gradient of input") as e:
            tape.backward(loss)
    assert (e.value.op, e.value.node) == ("sqrt", 1)
    line(e, "culprit")
    assert "the gradient of y: (3,) float32 from 2 to 2; saved y: (3,) float32 from 0 to" in str(e.value)


def nan_in_backward():
    """where hides the infinity of the forward, and its gradient is 0 · inf."""
    x = gt.leaf(X)
    return gt.sum(gt.where(X > 0, gt.sqrt(x) * 0, 0.0))


def test_backward_outside_of_forwards_block_and_inside_the_recording():
    with gt.record() as tape:
        loss = nan_in_backward()
    with gt.detect_anomaly(), pytest.raises(gt.AnomalyError, match="sqrt: in backward, made 1 NaN"):
        tape.backward(loss)
    with gt.record() as tape, gt.detect_anomaly():
        loss = nan_in_backward()
        with pytest.raises(gt.AnomalyError, match="sqrt: in backward, made 1 NaN"):
            tape.backward(loss)
    with gt.detect_anomaly(), pytest.raises(gt.AnomalyError, match="sqrt: in backward"):
        gt.grad(lambda x: gt.sum(gt.sqrt(x)))(X)


def test_eager_ops_tapes_and_programs():
    with gt.detect_anomaly():
        with pytest.raises(gt.AnomalyError, match="log: made 1 NaN and 1 inf in y") as e:
            gt.log(np.float32([-1, 0, 1]))
        assert e.value.node is None
        tape, x = gt.Tape().leaf([1.0, -1.0], name="x")
        tape, y = tape.add(x, x)
        with pytest.raises(gt.AnomalyError, match=r"sqrt: made 1 NaN .*input = %1:") as e:
            tape.sqrt(y)
        assert e.value.node == 2
        with pytest.raises(gt.AnomalyError, match=r"input = %0 'x'"):
            (gt.TapeM.leaf([-1.0], name="x").bind(gt.TapeM.sqrt)).run()
        tape, x = gt.Tape().leaf([0.0])
        tape, y = tape.sqrt(x)
        tape, s = tape.sum(y)
        for backward in (tape.backward, tape.backward_nodes):
            with pytest.raises(gt.AnomalyError, match="sqrt: in backward"):
                backward(s)


def test_what_comes_in_is_not_blamed_on_who_takes_it():
    mask = np.float32([[0, -np.inf], [0, 0]])
    scores = np.float32([[1, 2], [3, 4]])
    with gt.detect_anomaly():
        with gt.record() as tape:
            x = gt.leaf(scores)
            a = gt.softmax(x + mask, -1)  # an infinite constant
            b = gt.softmax(gt.masked_fill(x, mask < 0, -np.inf), -1)  # an infinite option
            c = gt.where(mask < 0, -np.inf, x)
            loss = gt.sum(a * b) + gt.sum(gt.exp(c))
        tape.backward(loss)
        assert gt.isnan(np.float32([np.nan])).all()
        np.testing.assert_array_equal(gt.where(X > 0, X, np.float32(0)), X)
        with pytest.raises(gt.AnomalyError, match=r"add: made 1 NaN .* Look at where other comes from: it was not fin"):
            gt.add(X, np.float32([1, np.nan, 2]))
        with pytest.raises(gt.AnomalyError, match=r"sub: made 1 NaN .* 1 inf.* Look at where input comes from"):
            gt.sub(np.float32([np.inf]), np.float32([np.inf]))


def test_an_overflowing_sum_of_gradients():
    big = np.float32(3e38)
    with gt.detect_anomaly():
        with gt.record() as tape:
            x = gt.leaf(np.float32(1))
            loss = gt.sum(x * big) * 1e-9 + gt.sum(x * big) * 1e-9
        with pytest.raises(gt.AnomalyError, match="sum of two gradients, after the vjp of mul"):
            tape.backward(loss, seed=np.float32(1e9))


def test_off_it_looks_at_nothing():
    with gt.detect_anomaly():
        with gt.detect_anomaly(check_nan=False):
            gt.log(X)
        with pytest.raises(gt.AnomalyError):
            gt.log(X)
        with gt.device("cpu"), pytest.raises(gt.AnomalyError):
            gt.log(X)
    gt.log(X)
    assert backend.current() is backend.backend("cpu")
    with pytest.raises(KeyError), gt.detect_anomaly():
        raise KeyError
    gt.log(X)


def test_other_threads_are_left_alone():
    found = []
    with gt.detect_anomaly():
        thread = threading.Thread(target=lambda: found.append(gt.log(X)))
        thread.start()
        thread.join()
    assert len(found) == 1


def test_it_is_both_kinds_of_builtin_error():
    for kind in (gt.GputapeError, FloatingPointError, RuntimeError):
        with gt.detect_anomaly(), pytest.raises(kind):
            gt.log(X)


def compiled_step(model, opt):
    @gt.compile
    def step(x):
        with gt.record() as tape:
            loss = gt.mean(gt.sqrt(gt.sum(model(x) ** 2, -1)))  # the culprit
        opt.step(tape.backward(loss))
        return loss

    return step


def test_a_compiled_step_names_the_node_and_changes_nothing():
    results = []
    for watched in (False, True):
        gt.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Dropout(0.5))
        model[0].weight.assign(np.random.default_rng(0).standard_normal((4, 3)))
        step = compiled_step(model, optim.SGD(model.parameters(), lr=0.1))
        losses = []
        for k in range(4):
            with gt.detect_anomaly(watched and k > 0):
                losses.append(float(step(np.ones((2, 3), "f") * (k + 1))))
        results.append((losses, model[0].weight.numpy()))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    before = model[0].weight.numpy()
    with gt.detect_anomaly(), pytest.raises(gt.AnomalyError, match="sqrt: in backward, made 2 (inf|NaN)") as e:
        step(np.zeros((2, 3), "f"))
    line(e, "culprit")
    np.testing.assert_array_equal(model[0].weight.numpy(), before)
    step(np.zeros((2, 3), "f"))  # not looked at


def test_inside_a_compiled_function_it_is_refused():
    @gt.compile
    def f(x):
        with gt.detect_anomaly():
            return gt.exp(x)

    with pytest.raises(gt.CompileError, match=r"detect_anomaly: it is inside f.*Put it around the call"):
        f(X)


def finite(x):
    return x is None or not isinstance(x, np.ndarray) or x.dtype.kind not in "fV" or np.isfinite(x.astype("d")).all()


SAMPLES = [
    pytest.param(op, s, id=f"{op.name}-{k}") for op in registry.ops() if op.public for k, s in enumerate(op.samples)
]


@pytest.mark.parametrize("op, sample", SAMPLES)
def test_no_op_is_blamed_whose_results_and_gradients_are_finite(op, sample):
    """Nor for an infinity of its own that it masks: composed ops, and vjps, have those."""
    inputs = inputs_of(op, sample)

    def run():
        with gt.record() as tape:
            gt.manual_seed(0)
            leaves = [gt.leaf(x) if isinstance(x, np.ndarray) else x for x in inputs]
            out = apply(lambda *a, **k: call(op.name, *a, **k), op, leaves, sample.attrs)
            outs = [y for y in (out if isinstance(out, tuple | list) else (out,)) if y.requires_grad]
            loss = sum((gt.sum(y) for y in outs), start=gt.leaf(0.0)) if outs else None
        grads = tape.backward(loss) if loss is not None else {}
        return [np.asarray(y) for y in (out if isinstance(out, tuple | list) else (out,))], list(grads.values())

    results, grads = run()
    if all(map(finite, (*inputs, *results))):
        with gt.detect_anomaly():
            if all(map(finite, grads)):
                run()
            else:
                with pytest.raises(gt.AnomalyError, match="in backward"):
                    run()
    elif all(map(finite, (*inputs, *(np.array(v) for v in sample.attrs.values() if isinstance(v, float))))):
        with gt.detect_anomaly(), pytest.raises(gt.AnomalyError):
            run()
