"""Optimizers: PyTorch's numbers, what is refused, and state that survives."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from optim_recorded import RECORDED

import gputape as gt
from gputape import nn, optim
from gputape.optim.composed import Composed


def parameters(dtype="float32"):
    return nn.Parameter(np.array([0.5, -1.25, 2.0], dtype), name="a"), nn.Parameter(np.array(0.75, dtype), name="b")


def gradients(k, a, b):
    """b has no gradient at two of the steps, so its step count falls behind."""
    grads = {a: np.array([math.sin(k + i) for i in range(3)], a.dtype)}
    return grads if k in (3, 4) else grads | {b: np.array(math.cos(k), b.dtype)}


@pytest.mark.parametrize("name, options, expected", RECORDED)
def test_twenty_steps_agree_with_pytorch_to_rounding(name, options, expected):
    a, b = parameters()
    opt = getattr(optim, name)([a, b], **options)
    for k in range(20):
        opt.step(gradients(k, a, b))
    # each step rounds the parameter, the moments and a few intermediates once
    np.testing.assert_allclose([*a.value, b.value], expected, rtol=0, atol=20 * 4 * 2.0**-23)


@pytest.mark.parametrize("name, options, expected", RECORDED)
def test_float64_parameters_stay_float64(name, options, expected):
    a, b = parameters("float64")
    opt = getattr(optim, name)([a, b], **options)
    for k in range(20):
        opt.step(gradients(k, a, b))
    assert a.dtype == np.float64
    np.testing.assert_allclose([*a.value, b.value], expected, rtol=0, atol=20 * 4 * 2.0**-23)


@pytest.mark.parametrize("name, options, expected", RECORDED)
def test_saved_state_continues_with_the_same_bits(name, options, expected):
    def start():
        a, b = parameters()
        return a, b, getattr(optim, name)([a, b], **options)

    a, b, opt = start()
    for k in range(10):
        opt.step(gradients(k, a, b))
    saved, values = opt.state_dict(), (a.numpy(), b.numpy())
    for k in range(10, 20):
        opt.step(gradients(k, a, b))
    a2, b2, opt2 = start()
    a2.assign(values[0])
    b2.assign(values[1])
    opt2.load_state_dict(saved)
    for k in range(10, 20):
        opt2.step(gradients(k, a2, b2))
    assert a.numpy().tobytes() == a2.numpy().tobytes()
    assert b.numpy().tobytes() == b2.numpy().tobytes()


@pytest.mark.parametrize("name, options, expected", RECORDED)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_skipped_step_changes_no_bit(name, options, expected, compiled):
    a, b = parameters()
    opt = getattr(optim, name)([a, b], **options)
    step = (gt.compile if compiled else lambda f: f)(lambda x, y, skip: opt.step({a: x, b: y}, skip=skip))

    def state():
        return [x.tobytes() for p in opt.state_dict()["state"].values() for x in p.values()]

    lost = np.full(3, np.nan, "f"), np.array(np.inf, "f")
    step(*lost, np.array(True))  # the very first one too
    assert [*a.value, b.value] == [0.5, -1.25, 2.0, 0.75]
    for k in range(20):
        before = a.numpy().tobytes(), b.numpy().tobytes(), state()
        step(*lost, np.array(True))
        assert before == (a.numpy().tobytes(), b.numpy().tobytes(), state())
        if k in (3, 4):
            opt.step(gradients(k, a, b), skip=False)
        else:
            step(*gradients(k, a, b).values(), np.array(False))
    np.testing.assert_allclose([*a.value, b.value], expected, rtol=0, atol=20 * 4 * 2.0**-23)


def test_state_has_pytorchs_layout():
    a, b = parameters()
    opt = optim.AdamW([a, b])
    opt.step(gradients(0, a, b))
    state = opt.state_dict()
    assert set(state) == {"state", "param_groups"}
    assert {k: v.shape for k, v in state["state"][0].items()} == {"step": (), "exp_avg": (3,), "exp_avg_sq": (3,)}
    assert state["state"][1]["step"] == 1
    assert state["param_groups"][0]["params"] == [0, 1]


def test_a_step_takes_what_backward_gives_and_bumps_the_version():
    a, b = parameters()
    opt = optim.SGD([a, b], lr=0.5)
    with gt.record() as tape:
        loss = gt.sum(a * a)
    grads = tape.backward(loss)
    opt.step(grads)
    np.testing.assert_allclose(a.value, 0.0)
    assert a.version == 1 and b.version == 0 and b.value == 0.75


def test_groups_have_options_of_their_own():
    a, b = parameters()
    opt = optim.SGD([{"params": [a], "lr": 0.0}, {"params": b}], lr=1.0)
    opt.step({a: np.ones(3, np.float32), b: np.float32(1)})
    assert a.value[0] == 0.5 and b.value == -0.25
    opt.lr = 0.5
    assert [g["lr"] for g in opt.param_groups] == [0.5, 0.5] and opt.lr == 0.5
    opt.param_groups[1]["lr"] = 2.0
    opt.step({b: np.float32(1)})
    assert b.value == -2.25


BAD_OPTIONS = [
    (optim.SGD, {"lr": math.nan}, "lr=nan"),
    (optim.SGD, {"lr": math.inf}, "lr=inf"),
    (optim.Adam, {"lr": -1e-3}, "lr=-0.001"),
    (optim.Adam, {"lr": "fast"}, "not a number"),
    (optim.AdamW, {"betas": (0.9, 1.0)}, r"betas\[1\]=1.0"),
    (optim.AdamW, {"betas": 0.9}, "two numbers"),
    (optim.AdamW, {"eps": -1e-8}, "eps"),
    (optim.AdamW, {"weight_decay": math.nan}, "weight_decay"),
    (optim.SGD, {"momentum": -0.1}, "momentum"),
    (optim.SGD, {"nesterov": True}, "nesterov needs momentum"),
]


@pytest.mark.parametrize("kind, options, message", BAD_OPTIONS)
def test_options_out_of_range_are_refused(kind, options, message):
    with pytest.raises(gt.ArgumentError, match=message):
        kind(parameters(), **options)


def test_parameters_that_make_no_sense_are_refused():
    a, b = parameters()
    for params, message in [
        ([], "no parameters"),
        ([a, b, a], "twice"),
        (a, "single"),
        ([np.zeros(3)], "nn.Parameter"),
        ([{"params": [a], "rate": 1}], "unknown option"),
        ([{"params": [a]}, {"params": [a]}], "twice"),
        ([nn.Buffer(np.zeros(3, np.int64))], "nn.Parameter"),
    ]:
        with pytest.raises(gt.ArgumentError, match=message):
            optim.SGD(params)


@pytest.mark.parametrize(
    "kind, option, lacking",
    [(optim.Adam, {"amsgrad": True}, "max_exp_avg_sq"), (optim.SGD, {"momentum": 0.9}, "buffer")],
)
def test_an_option_that_needs_more_state_than_is_kept_is_refused(kind, option, lacking):
    opt, other = kind(parameters()), kind(parameters(), **option)
    (group,) = opt.param_groups
    before = dict(group)
    with pytest.raises(gt.ArgumentError, match=f"{lacking}.*Build the optimizer with"):
        group |= option
    assert dict(group) == before
    unstarted = other.state_dict() | {"state": {}}  # as PyTorch saves one before its first step
    with pytest.raises(gt.CheckpointError, match=lacking):
        opt.load_state_dict(unstarted)
    assert dict(group) == before
    other.load_state_dict(unstarted)


def test_a_refused_step_changes_nothing():
    a, b = parameters()
    opt = optim.Adam([a, b])
    ones = np.ones(3, np.float32)
    for grads, error, message in [
        ({a: ones, b: ones}, gt.ShapeError, r"gradient of b is \(3,\)"),
        ({a: ones.astype(np.float64)}, gt.DTypeError, "float64"),
        ({nn.Parameter(ones, name="c"): ones}, gt.ArgumentError, "not one of its parameters"),
        ({"a": ones}, gt.ArgumentError, "a str"),
        ([ones], gt.ArgumentError, "list"),
    ]:
        with pytest.raises(error, match=message):
            opt.step(grads)
    assert a.version == b.version == 0
    for rate in (math.nan, math.inf, -1.0):
        with pytest.raises(gt.ArgumentError, match="lr="):
            opt.lr = rate
    assert opt.lr == 1e-3


def test_foreign_state_is_refused_and_nothing_is_loaded():
    a, b = parameters()
    opt = optim.Adam([a, b])
    opt.step(gradients(0, a, b))
    before = opt.state_dict()
    for state, message in [
        ({}, "not an optimizer's state"),
        (optim.Adam([a]).state_dict(), "1"),
        (optim.SGD(parameters(), momentum=0.9).state_dict(), "momentum_buffer"),
        (optim.Adam(parameters()[::-1]).state_dict(), "parameter 0"),
    ]:
        with pytest.raises(gt.CheckpointError, match=message):
            opt.load_state_dict(state)
    after = opt.state_dict()
    assert after["state"][0]["exp_avg"].tobytes() == before["state"][0]["exp_avg"].tobytes()
    assert after["state"][0]["step"] == 1


def test_options_of_a_group_are_checked_however_they_are_set():
    p = gt.Cell(np.ones(2, "f"), requires_grad=True)
    opt = optim.SGD([p], lr=0.5, momentum=0.9, nesterov=True)
    group = opt.param_groups[0]
    for wrong in ({"lrr": 1.0}, {"weight_decay": "x"}, {"lr": float("inf")}, {"lr": 0.1, "momentum": -1}):
        with pytest.raises(gt.ArgumentError):
            group.update(wrong)
        with pytest.raises(gt.ArgumentError):
            group |= wrong
    assert group["lr"] == opt.lr == 0.5
    group |= {"lr": 0.25, "nesterov": False, "momentum": 0.0}
    opt.step({p: np.ones(2, "f")})
    np.testing.assert_array_equal(p.array, [0.75, 0.75])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_of_model_and_optimizer_trains_on_its_own(duplicate):
    model = nn.Linear(2, 1)
    opt = optim.Adam(model.parameters(), lr=0.1)
    twin, twin_opt = duplicate((model, opt))
    before = model.weight.numpy()
    twin_opt.step({twin.weight: np.ones((1, 2), "f")})
    twin_opt.param_groups[0]["lr"] = 0.5
    np.testing.assert_array_equal(model.weight.array, before)
    assert opt.lr == 0.1 and twin_opt.lr == 0.5 and not np.array_equal(twin.weight.array, before)


# --- arenas -----------------------------------------------------------------------------------------------------------


def mlp():
    gt.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


def loss_grads(model, k=0):
    x = np.random.default_rng(k).standard_normal((4, 5)).astype("f")
    with gt.record() as tape:
        loss = gt.mean(gt.square(model(x)))
    return tape.backward(loss)


def counted(opt, grads, monkeypatch):
    """Names of the update ops that a step runs."""
    from gputape.optim import adam, optimizer, sgd

    names, real = [], optimizer.write
    for module in (adam, sgd):
        monkeypatch.setattr(module, "write", lambda name, *rest: names.append(name) or real(name, *rest))
    opt.step(grads)
    monkeypatch.undo()
    return names


@pytest.mark.parametrize("name, options, _", RECORDED)
def test_one_op_updates_all_parameters_and_gives_the_bits_of_single_updates(name, options, _, monkeypatch):
    model, twin = mlp(), mlp()
    opt = getattr(optim, name)(model.parameters(), **options)
    singles = [getattr(optim, name)([p], **options) for p in twin.parameters()]
    for k in range(3):
        updates = counted(opt, loss_grads(model, k), monkeypatch)
        assert len(updates) == (0 if isinstance(opt, Composed) else 1)  # those write with ops of many kinds
        grads = loss_grads(twin, k)
        for single in singles:
            single.step(grads)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert p.numpy().tobytes() == q.numpy().tobytes()
    owners = {id(p.array.base) for p in model.parameters()}
    assert len(owners) == 1


def test_parameters_without_a_gradient_leave_the_others_to_single_updates(monkeypatch):
    model = mlp()
    opt = optim.AdamW(model.parameters(), lr=0.1)
    grads = loss_grads(model)
    first = next(iter(grads))
    before = first.numpy()
    assert len(counted(opt, {p: g for p, g in grads.items() if p is not first}, monkeypatch)) == 3
    assert first.numpy().tobytes() == before.tobytes()
    assert len(counted(opt, loss_grads(model), monkeypatch)) == 4  # two step counts now
    steps = [entry["step"] for entry in opt.state_dict()["state"].values()]
    assert sorted(map(int, steps)) == [1, 2, 2, 2]


def test_a_second_optimizer_may_take_parameters_over():
    model, twin = mlp(), mlp()
    first, second = optim.SGD(model.parameters(), lr=0.1), optim.SGD(list(model.parameters())[:2], lr=0.2)
    first.step(loss_grads(model))
    second.step(loss_grads(model, 1))
    first.step(loss_grads(model, 2))
    ones = [optim.SGD([p], lr=0.1) for p in twin.parameters()]
    twos = [optim.SGD([p], lr=0.2) for p in list(twin.parameters())[:2]]
    for k, group in enumerate((ones, twos, ones)):
        grads = loss_grads(twin, k)
        for opt in group:
            opt.step(grads)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert p.numpy().tobytes() == q.numpy().tobytes()


def test_a_step_makes_tapes_stale_that_read_a_parameter():
    model = mlp()
    opt = optim.SGD(model.parameters(), lr=0.1)
    with gt.record(retain=True) as tape:
        loss = gt.sum(model(np.ones((2, 5), "f")))
    opt.step(tape.backward(loss))
    with pytest.raises(gt.TapeError, match="was updated after"):
        tape.backward(loss)


def two_steps(model, opt, x):
    """Two updates, a write into one parameter between them, and the parameters read after each."""
    weight, bias = list(model.parameters())[:2]
    seen = []
    for _ in range(2):
        with gt.record() as tape:
            loss = gt.mean(gt.square(model(x)))
        opt.step(tape.backward(loss))
        seen += [gt.sum(weight), gt.sum(bias)]
        bias.assign(gt.mul(bias, 0.5))
        seen.append(gt.sum(bias))
    return seen


def test_a_compiled_function_may_read_and_write_parts_of_an_arena():
    x = np.random.default_rng(0).standard_normal((4, 5)).astype("f")
    eager, compiled = mlp(), mlp()
    eager_opt, opt = (optim.AdamW(m.parameters(), lr=0.1) for m in (eager, compiled))
    step = gt.compile(lambda x: two_steps(compiled, opt, x))
    for _ in range(3):
        expected, found = two_steps(eager, eager_opt, x), step(x)
        assert [float(a) for a in expected] == [float(a) for a in found]
    for p, q in zip(eager.parameters(), compiled.parameters(), strict=True):
        assert p.numpy().tobytes() == q.numpy().tobytes()


def test_a_plan_recorded_before_the_optimizer_sees_where_parameters_went():
    model, x = mlp(), np.ones((2, 5), "f")
    predict = gt.compile(lambda x: model(x))
    predict(x)
    opt = optim.SGD(model.parameters(), lr=0.5)
    opt.step(loss_grads(model))
    np.testing.assert_array_equal(predict(x), model(x))


def test_a_copy_of_a_trained_model_is_independent_of_the_arena():
    model = mlp()
    opt = optim.SGD(model.parameters(), lr=0.5)
    twin = copy.deepcopy(model)
    assert all(p.array.base is None and p.whole is None and not p.pinned for p in twin.parameters())
    opt.step(loss_grads(model))
    assert not np.array_equal(model[0].weight.numpy(), twin[0].weight.numpy())
