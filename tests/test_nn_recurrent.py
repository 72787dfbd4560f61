"""Recurrent layers and cells: against the formulas in NumPy, gradients, compiled, and what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import gputape as gt
from gputape import nn

RNG = np.random.default_rng(0)
LAYERS = [nn.RNN, nn.LSTM, nn.GRU]


def draw(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def formulas(kind, weights, x, state):
    """One step in float64: the new state."""
    w, u, b, v = (p.astype(np.float64) for p in weights)
    a, h = x @ w.T + b, state[0] @ u.T + v
    if kind == "RNN":
        return (np.tanh(a + h),)
    if kind == "LSTM":
        i, f, g, o = np.split(a + h, 4, -1)
        c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    (ra, za, na), (rh, zh, nh) = np.split(a, 3, -1), np.split(h, 3, -1)
    n, z = np.tanh(na + sigmoid(ra + rh) * nh), sigmoid(za + zh)
    return ((1 - z) * n + z * state[0],)


def unrolled(layer, x, state):
    """All layers and directions, step by step: the output and the last states."""
    kind, p, last = type(layer).__name__, layer.state_dict(), []
    for k in range(layer.num_layers):
        outs = []
        for d in layer.directions:
            names = (f"{n}_l{k}{d}" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            weights, now = [p[n] for n in names], tuple(s[len(last)] for s in state)
            found = []
            for step in x[::-1] if d else x:
                now = formulas(kind, weights, step, now)
                if f"weight_hr_l{k}{d}" in p:
                    now = (now[0] @ p[f"weight_hr_l{k}{d}"].T, now[1])
                found.append(now[0])
            outs.append(np.stack(found[::-1] if d else found))
            last.append(now)
        x = np.concatenate(outs, -1)
    return x, tuple(np.stack([s[i] for s in last]) for i in range(len(state)))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("make", LAYERS)
def test_layers_follow_the_formulas(make, given, bidirectional):
    layer = make(3, 5, num_layers=2, bidirectional=bidirectional)
    x, states = draw(7, 2, 3), 2 if make is nn.LSTM else 1
    start = tuple(draw(4 if bidirectional else 2, 2, 5) * given for _ in range(states))
    hx = (start if states == 2 else start[0]) if given else None
    y, last = layer(x, hx)
    want, want_last = unrolled(layer, x.astype(np.float64), start)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
    for a, b in zip(last if states == 2 else (last,), want_last, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_lstm_may_project_its_hidden_state(bidirectional):
    layer = nn.LSTM(3, 5, num_layers=2, bidirectional=bidirectional, proj_size=2)
    n = 4 if bidirectional else 2
    x, start = draw(7, 2, 3), (draw(n, 2, 2), draw(n, 2, 5))
    y, last = layer(x, start)
    want, want_last = unrolled(layer, x.astype(np.float64), start)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
    for a, b in zip(last, want_last, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert list(layer.state_dict())[4] == "weight_hr_l0" and layer(x[:, 0])[1][0].shape == (n, 2)
    with pytest.raises(gt.ShapeError, match=r"Give \[\(\d, 2, 2\), \(\d, 2, 5\)\]"):
        layer(x, (start[1], start[1]))


@pytest.mark.parametrize("make", LAYERS)
def test_the_batch_may_come_first_or_be_left_out(make):
    layer = make(3, 4)
    turned = copy.copy(layer)
    turned.batch_first = True
    x = draw(5, 2, 3)
    y, _ = layer(x)
    np.testing.assert_array_equal(turned(np.ascontiguousarray(x.swapaxes(0, 1)))[0], np.asarray(y).swapaxes(0, 1))
    lone, state = layer(x[:, 0])
    np.testing.assert_allclose(lone, np.asarray(y)[:, 0], rtol=1e-5, atol=1e-6)
    assert (state[0] if make is nn.LSTM else state).shape == (1, 4)


@pytest.mark.parametrize("cell, layer", [(nn.RNNCell, nn.RNN), (nn.LSTMCell, nn.LSTM), (nn.GRUCell, nn.GRU)])
def test_a_cell_is_a_step_of_the_layer(cell, layer):
    one, whole = cell(3, 4), layer(3, 4)
    one.load_state_dict({k.removesuffix("_l0"): v for k, v in whole.state_dict().items()})
    x, state = draw(3, 2, 3), None
    for k, want in enumerate(np.asarray(whole(x)[0])):
        state = one(x[k], state)
        np.testing.assert_allclose(state[0] if cell is nn.LSTMCell else state, want, rtol=1e-5, atol=1e-6)
    assert (one(x[0, 0])[0] if cell is nn.LSTMCell else one(x[0, 0])).shape == (4,)


@pytest.mark.parametrize("make", LAYERS)
def test_gradients_of_all_weights(make):
    layer = make(2, 3, bidirectional=True)
    names = list(layer.state_dict())
    x = RNG.standard_normal((3, 2, 2))

    def loss(x, *values):
        held = copy.copy(layer)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(held, name, value)
        return gt.sum(gt.square(held(x)[0]))

    gt.check_grads(loss, [x, *(layer.state_dict()[n] for n in names)], order=2)


@pytest.mark.parametrize("make", LAYERS)
def test_a_compiled_step_is_as_in_eager(make):
    layer, x = make(3, 4, num_layers=2), draw(4, 2, 3)

    def step(x):
        with gt.record() as tape:
            loss = gt.sum(gt.square(layer(x)[0]))
        grads = tape.backward(loss)
        return loss, [grads[p] for p in layer.parameters()]

    (a, ga), (b, gb) = step(x), gt.compile(step)(x)
    np.testing.assert_allclose(a, b, rtol=1e-6)
    for one, other in zip(ga, gb, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_dropout_lies_between_layers_in_training_only():
    layer, x = nn.GRU(3, 64, num_layers=2, dropout=0.5), draw(4, 2, 3)
    first, second = (np.asarray(layer(x)[0]) for _ in range(2))
    assert not np.array_equal(first, second)
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0], layer(x)[0])


def test_relu_instead_of_tanh():
    layer, x = nn.RNN(3, 4, nonlinearity="relu"), draw(2, 1, 3)
    p = layer.state_dict()
    want = np.maximum(x[0] @ p["weight_ih_l0"].T + p["bias_ih_l0"] + p["bias_hh_l0"], 0)
    np.testing.assert_allclose(np.asarray(layer(x)[0])[0], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make, error, match",
    [
        (lambda: nn.RNN(3, 4, nonlinearity="sine"), gt.ArgumentError, "RNN: nonlinearity='sine'"),
        (lambda: nn.LSTM(3, 4, proj_size=4), gt.ArgumentError, "LSTM: proj_size=4 .* below hidden_size=4"),
        (lambda: nn.GRU(3, 4, proj_size=2), gt.ArgumentError, "GRU: proj_size=2 is for an LSTM"),
        (lambda: nn.GRU(3, 4, dropout=1.5), gt.ArgumentError, "GRU: dropout=1.5"),
        (lambda: nn.GRU(3, 4)(draw(2, 2, 5)), gt.ShapeError, r"GRU: the input has shape \(2, 2, 5\)"),
        (lambda: nn.GRU(3, 4)(draw(0, 2, 3)), gt.ShapeError, "GRU: .*has no steps"),
        (lambda: nn.GRU(3, 4)(draw(2, 2, 3), draw(1, 3, 4)), gt.ShapeError, r"GRU: the state has shapes .*\(1, 2, 4\)"),
        (lambda: nn.LSTM(3, 4)(draw(2, 2, 3), [draw(1, 2, 4)]), gt.ShapeError, "LSTM: the state .*Give \\["),
        (lambda: nn.GRUCell(3, 4)(draw(2, 5)), gt.ShapeError, "GRUCell: the input"),
    ],
)
def test_what_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_state_dict_has_pytorchs_names():
    assert set(nn.LSTM(3, 4, bidirectional=True, bias=False).state_dict()) == {
        *("weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse")
    }
    assert set(nn.GRUCell(3, 4).state_dict()) == {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}
