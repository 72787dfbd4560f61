"""Gradient hooks of nodes and parameters."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import nn

X = np.float32([1.0, -2.0, 3.0])


def test_a_hook_sees_the_complete_gradient_once():
    seen = []
    with gt.record() as tape:
        x = gt.leaf(X)
        y = x * 2
        tape.hook(y, lambda dy: seen.append(np.array(dy)))
        loss = gt.sum(y * y) + gt.sum(y) * 3  # two contributions
    tape.backward(loss)
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], 2 * 2 * X + 3)


def test_a_replacement_flows_on_and_is_in_the_result():
    with gt.record() as tape:
        x = gt.leaf(X)
        y = x * 2
        y.register_hook(lambda dy: gt.clamp(dy, -1.0, 1.0))
        y.register_hook(lambda dy: dy * 10)  # after the first
        x.register_hook(lambda dy: -dy)
        loss = gt.sum(y * y)
    grads = tape.backward(loss, wrt=[x, y])
    np.testing.assert_array_equal(grads[y], 10 * np.clip(4 * X, -1, 1))
    np.testing.assert_array_equal(grads[x], -20 * np.clip(4 * X, -1, 1))


def test_handles_remove_their_own_hook():
    calls = []
    count = lambda dy: calls.append(1)  # noqa: E731
    with gt.record(retain=True) as tape:
        x = gt.leaf(X)
        loss = gt.sum(x * x)
        first, second = x.register_hook(count), x.register_hook(count)
        loss.register_hook(count)
    tape.backward(loss)
    assert len(calls) == 3
    second.remove()
    second.remove()
    tape.backward(loss)
    assert len(calls) == 5
    with first:
        pass
    tape.backward(loss)
    assert len(calls) == 6


def test_hooks_of_further_outputs():
    seen = []
    with gt.record() as tape:
        x = gt.leaf(np.float32([[1, 2, 3], [6, 5, 4]]))
        parts = gt.var_mean(x, 1) if hasattr(gt, "var_mean") else (gt.var(x, 1), gt.mean(x, 1))
        parts[1].register_hook(lambda dy: seen.append(np.array(dy)))
        loss = gt.sum(parts[1] * 2) + gt.sum(parts[0])
    tape.backward(loss)
    np.testing.assert_array_equal(seen, [[2, 2]])


def test_a_parameters_hook_acts_in_every_recording():
    model = nn.Linear(3, 2)
    handle = model.weight.register_hook(lambda dy: dy * 0)
    for expected in (True, True, False):
        if not expected:
            handle.remove()
        with gt.record() as tape:
            loss = gt.sum(model(X))
        assert (tape.backward(loss)[model.weight] == 0).all() == expected


def test_in_a_recorded_backward_the_gradient_is_differentiable():
    with gt.record() as tape:
        x = gt.leaf(X)
        y = x * x
        y.register_hook(lambda dy: dy * x)
        g = tape.backward(gt.sum(y))[x]  # 2x · x
        loss = gt.sum(g)
    np.testing.assert_allclose(tape.backward(loss)[x], 4 * X)


def test_what_does_not_fit_is_refused():
    with gt.record() as tape:
        x = gt.leaf(X)
        loss = gt.sum(gt.exp(x))
        with pytest.raises(gt.TapeError, match="requires no gradient"):
            gt.detach(x).register_hook(print)
        with pytest.raises(gt.ArgumentError, match="cannot be called"):
            x.register_hook(3)
    with pytest.raises(gt.TapeError, match="buffer requires no gradient"):
        gt.Cell(X, name="buffer").register_hook(print)
    x.register_hook(lambda dy: dy[:2])
    with pytest.raises(gt.TapeError, match=r"returned \(2,\) float32 for a gradient of \(3,\) float32"):
        tape.backward(loss)


def test_an_error_in_a_hook_names_the_node():
    with gt.record() as tape:
        x = gt.leaf(X, name="input")
        loss = gt.sum(x * x)

    def bad(dy):
        raise KeyError("mine")

    x.register_hook(bad)
    with pytest.raises(KeyError, match="mine") as e:
        tape.backward(loss)
    assert "node 0, leaf 'input'" in e.value.__notes__[0] and "test_transforms_hooks.py" in e.value.__notes__[0]


def test_gradients_cannot_be_written_through():
    with gt.record() as tape:
        x = gt.leaf(X)
        loss = gt.sum(x * x)

    def write(dy):
        dy[0] = 7

    x.register_hook(write)
    with pytest.raises(ValueError, match="read-only"):
        tape.backward(loss)


def test_compiled_hooks_are_part_of_the_program():
    model = nn.Linear(3, 2)
    handle = model.weight.register_hook(lambda dy: dy * 2)

    @gt.compile
    def step(x):
        with gt.record() as tape:
            y = model(x)
            y.register_hook(lambda dy: gt.clamp(dy, -0.5, 0.5))
            loss = gt.sum(y)
        return tape.backward(loss)[model.weight]

    np.testing.assert_array_equal(step(X), np.tile(X, (2, 1)))
    np.testing.assert_array_equal(step(2 * X), np.tile(2 * X, (2, 1)))
    handle.remove()
    np.testing.assert_array_equal(step(X), np.tile(0.5 * X, (2, 1)))
    assert len(step.plans) == 2

    @gt.compile
    def reads(x):
        with gt.record() as tape:
            y = model(x)
            y.register_hook(lambda dy: print(float(dy[0])))
            loss = gt.sum(y)
        return tape.backward(loss)[model.weight]

    with pytest.raises(gt.CompileError, match="read on the host"):
        reads(X)
