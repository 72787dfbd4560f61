"""Dynamic loss scaling and gradient clipping: PyTorch's numbers, and steps that are left out."""

from __future__ import annotations

import copy
import math
import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

import gputape as gt
from gputape import nn, optim
from gputape.dispatch import EAGER
from gputape.trace import Trace

# torch.amp.GradScaler 2.13 with SGD(lr=0.25, momentum=0.5): scale and steps since it moved after each step, and the
# parameter after the last. The gradients are `gradient(k)`, with an infinite element at the steps in LOST.
LOST = (2, 7, 8)
FAR = 2.0**127
RECORDED = [
    (
        {"init_scale": 1024.0, "growth_interval": 3},
        [1024, 1024, 512, 512, 512, 1024, 1024, 512, 256, 256, 256, 512],
        [1, 2, 0, 1, 2, 0, 1, 0, 0, 1, 2, 0],
        [-23.1279296875, -9.001953125],
    ),
    (
        {"init_scale": 3.0, "growth_factor": 1.1, "backoff_factor": 0.3, "growth_interval": 2},
        [
            *(3.0, 3.299999952316284, 0.9900000095367432, 0.9900000095367432, 1.0889999866485596, 1.0889999866485596),
            *(1.1978999376296997, 0.35936999320983887, 0.10781099647283554, 0.10781099647283554, 0.11859209835529327),
            0.11859209835529327,
        ],
        [1, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1],
        [-23.1279296875, -9.001953125],
    ),
    (
        {"init_scale": FAR, "growth_interval": 1},  # the scaled gradients overflow by themselves
        [FAR * f for f in (1 / 2, 1, 1 / 2, 1 / 4, 1 / 2, 1 / 4, 1 / 2, 1 / 4, 1 / 8, 1 / 4, 1 / 8, 1 / 4)],
        [0] * 12,
        [-12.625, -5.03125],
    ),
]


def gradient(k):
    return np.array([1.0 + k, 2.0], np.float32)


def trained(options, compiled, explicit, device="cpu"):
    """(scales, counts, parameter) of the recorded run."""
    with gt.device(device):
        p, scaler = nn.Parameter(np.array([0.5, -1.0], "f")), optim.GradScaler(**options)
        opt = optim.SGD([p], lr=0.25, momentum=0.5)

        def step(g, lost):
            grads = {p: gt.where(lost, np.float32(np.inf), scaler.scale(g))}
            if explicit:
                grads = scaler.unscale_(opt, grads)
            scaler.step(opt, grads)
            scaler.update()

        step = gt.compile(step) if compiled else step
        rows = []
        for k in range(12):
            step(gradient(k), np.array([k in LOST, False]))
            state = scaler.state_dict()
            rows.append((state["scale"], state["_growth_tracker"]))
        return *zip(*rows, strict=True), p.numpy()


@pytest.mark.parametrize("compiled, explicit", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("options, scales, counts, parameter", RECORDED)
def test_steps_agree_with_pytorch(options, scales, counts, parameter, compiled, explicit):
    found = trained(options, compiled, explicit)
    assert found[0] == tuple(scales) and found[1] == tuple(counts)
    np.testing.assert_allclose(found[2], parameter, rtol=12 * 2.0**-23)  # a rounding of the factor per step


def test_the_kernels_do_the_same():
    pytest.importorskip("triton")
    for options, scales, counts, parameter in RECORDED:
        found = trained(options, False, False, "emulated")
        assert found[0] == tuple(scales) and found[1] == tuple(counts)
        np.testing.assert_allclose(found[2], parameter, rtol=12 * 2.0**-23)


def test_the_scale_does_not_grow_beyond_float32():
    for scale, expected in ((3e38, 3e38), (1.5e38, 3e38)):
        new, count = EAGER.op("update_scale", np.float32(scale), np.int32(0), np.bool_(False), growth_interval=1)
        assert new == np.float32(expected) and count == 0


def model_and_optimizer():
    gt.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    return model, optim.AdamW(model.parameters(), lr=0.01)


def test_several_gradients_are_scaled_back_together_and_the_others_left():
    model, opt = model_and_optimizer()
    other, scaler = nn.Parameter(np.ones(3, "f")), optim.GradScaler(4.0)
    rng = np.random.default_rng(0)
    grads = {p: rng.standard_normal(p.shape).astype("f") for p in (*model.parameters(), other)}
    found = scaler.unscale_(opt, grads | {nn.Parameter(np.ones(1, "f")): None})
    for p in model.parameters():
        np.testing.assert_array_equal(found[p], grads[p] / 4)
    assert found[other] is grads[other]


def test_one_infinite_gradient_stops_them_all():
    model, opt = model_and_optimizer()
    scaler, before = optim.GradScaler(), [p.numpy() for p in model.parameters()]
    grads = {p: np.ones(p.shape, "f") for p in model.parameters()}
    grads[list(grads)[2]][1, 2] = -np.inf
    scaler.step(opt, grads)
    assert all(np.array_equal(p.value, b) for p, b in zip(model.parameters(), before, strict=True))
    assert {int(s["step"]) for s in opt.state_dict()["state"].values()} == {0}
    assert scaler.get_scale() == 2.0**16
    scaler.update()
    assert scaler.get_scale() == 2.0**15


def test_each_optimizer_skips_for_itself_and_all_have_a_say_in_the_scale():
    a, b = (nn.Parameter(np.ones(2, "f")) for _ in range(2))
    first, second, scaler = optim.SGD([a], lr=1.0), optim.SGD([b], lr=1.0), optim.GradScaler(2.0)
    scaler.step(first, {a: np.array([np.nan, 1], "f"), b: np.ones(2, "f")})
    scaler.step(second, {b: np.ones(2, "f")})
    scaler.update()
    assert np.array_equal(a.value, [1, 1]) and np.array_equal(b.value, [0.5, 0.5]) and scaler.get_scale() == 1
    scaler.step(second, {b: np.ones(2, "f")})  # the first one, which does not step, is not asked again
    scaler.update()
    assert scaler.get_scale() == 1


def test_calls_out_of_order_are_refused():
    p = nn.Parameter(np.ones(2, "f"))
    opt, scaler, grads = optim.SGD([p]), optim.GradScaler(), {p: np.ones(2, "f")}
    scaler.unscale_(opt, grads)
    with pytest.raises(gt.TapeError, match=r"unscale_: the gradients of this SGD were unscaled already .*update\(\)"):
        scaler.unscale_(opt, grads)
    scaler.step(opt, grads)
    for method in (scaler.step, scaler.unscale_):
        with pytest.raises(gt.TapeError, match="were stepped already since the last update"):
            method(opt, grads)
    scaler.update()
    scaler.step(opt, grads)


def test_a_scaler_that_is_not_enabled_passes_everything_on():
    p, scaler = nn.Parameter(np.ones(2, "f")), optim.GradScaler(enabled=False)
    opt, grads = optim.SGD([p], lr=0.5), {p: np.ones(2, "f")}
    assert scaler.scale(3.0) == 3.0 and scaler.get_scale() == 1 and scaler.state_dict() == {}
    assert scaler.unscale_(opt, grads) == grads and not scaler.is_enabled()
    scaler.step(opt, grads)
    scaler.update()
    assert np.array_equal(p.value, [0.5, 0.5])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"init_scale": math.inf}, "init_scale"),
        ({"init_scale": "cuda"}, "init_scale"),
        ({"growth_factor": 1.0}, "growth_factor=1.0 is out of range. Use more than 1"),
        ({"backoff_factor": 1.0}, "backoff_factor"),
        ({"growth_interval": 0}, "growth_interval=0"),
        ({"growth_interval": 2.5}, "growth_interval=2.5"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(gt.ArgumentError, match=f"GradScaler: {message}"):
        optim.GradScaler(**options)


def test_state_is_saved_and_restored():
    scaler = optim.GradScaler(8.0, growth_interval=7)
    scaler.update()
    state = scaler.state_dict()
    assert state == {
        **{"scale": 8.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 7},
        "_growth_tracker": 1,
    }
    other = optim.GradScaler()
    other.load_state_dict(state)
    assert other.state_dict() == state == copy.deepcopy(scaler).state_dict()
    for wrong in ({}, {**state, "growth_factor": 0.5}, {**state, "scale": None}, None):
        with pytest.raises(gt.CheckpointError, match="not the state of an enabled scaler"):
            other.load_state_dict(wrong)
    assert other.state_dict() == state
    other.update(new_scale=32.0)
    assert other.get_scale() == 32
    assert scaler.scale([np.float32(1), np.float32(2)]) == [8, 16]


def test_a_compiled_step_may_leave_the_update_to_its_caller():
    def run(compiled):
        p = nn.Parameter(np.array([0.5, -1.0], "f"))
        opt, scaler = optim.SGD([p], lr=0.25), optim.GradScaler(4.0, growth_interval=2)
        step = (gt.compile if compiled else lambda f: f)(lambda g: scaler.step(opt, {p: g}))
        rows = []
        for k in range(6):
            step(gradient(k) * (np.inf if k == 3 else 1))
            scaler.update()
            rows.append((scaler.get_scale(), *p.numpy()))
        return rows, step

    (eager, _), (replayed, step) = run(False), run(True)
    assert eager == replayed and len(step.plans) == 1


def test_gradients_scaled_back_by_a_compiled_step_are_not_scaled_back_again():
    p = nn.Parameter(np.zeros(2, "f"))
    opt, scaler = optim.SGD([p], lr=1.0), optim.GradScaler(4.0)
    unscaled = gt.compile(lambda g: scaler.unscale_(opt, {p: g})[p])
    for k in range(3):
        scaler.step(opt, {p: unscaled(np.full(2, 4, "f"))})
        scaler.update()
        assert np.array_equal(p.value, [-1 - k] * 2)


def test_no_step_reads_the_host():
    """A trace refuses to be read, so what runs in one never waits for the device."""
    model, opt = model_and_optimizer()
    scaler, trace = optim.GradScaler(), Trace("step")
    grads = {p: np.ones(p.shape, "f") for p in model.parameters()}
    token = gt.variable.ACTIVE.set(trace)
    try:
        clipped, _ = optim.clip_grad_norm_(scaler.unscale_(opt, grads), 1.0)
        scaler.step(opt, optim.clip_grad_value_(clipped, 0.1))
        scaler.update()
    finally:
        gt.variable.ACTIVE.reset(token)
    kinds = [n.op for n in trace.nodes]
    assert kinds.count("unscale") == kinds.count("update_scale") == kinds.count("adam_update") == 1


# --- clipping ---------------------------------------------------------------------------------------------------------

# torch.nn.utils.clip_grad_norm_ 2.13 with max_norm 2.5 of [[3, -4], [0.5, 1]] and [2, -6]: norm, clipped.
CLIPPED = [
    (2.0, 8.139410018920898, [0.92144263, -1.22859013, 0.15357377, 0.30714753, 0.61429507, -1.84288526]),
    (1.0, 16.5, [0.45454544, -0.60606056, 0.07575757, 0.15151511, 0.30303023, -0.90909088]),
    (3.0, 6.812183380126953, [1.10096848, -1.46795797, 0.18349475, 0.36698949, 0.73397899, -2.20193696]),
    (math.inf, 6.0, [1.24999976, -1.66666639, 0.2083333, 0.41666660, 0.83333319, -2.4999995]),
]


@pytest.mark.parametrize("norm_type, norm, expected", CLIPPED)
@pytest.mark.parametrize("inside", [False, True])
def test_clipping_agrees_with_pytorch(norm_type, norm, expected, inside):
    grads = {"a": np.array([[3, -4], [0.5, 1]], "f"), "b": np.array([2, -6], "f"), "none": None, "no": np.ones(0, "f")}
    with gt.record() if inside else gt.device("cpu"):
        clipped, found = optim.clip_grad_norm_(grads, 2.5, norm_type)
    np.testing.assert_allclose(np.asarray(found), norm, rtol=8 * 2.0**-23)
    both = np.concatenate([np.asarray(clipped[k]).ravel() for k in ("a", "b")])
    np.testing.assert_allclose(both, expected, rtol=16 * 2.0**-23)
    assert "none" not in clipped and found.dtype == np.float32


def test_gradients_within_the_norm_keep_their_bits_and_their_dtype():
    grads = {k: np.array([0.3, -0.4]).astype(k) for k in ("float16", "float32", "float64")}
    clipped, norm = optim.clip_grad_norm_(grads, 100.0, error_if_nonfinite=True)
    assert all(clipped[k].tobytes() == g.tobytes() and clipped[k].dtype == g.dtype for k, g in grads.items())
    np.testing.assert_allclose(norm, np.sqrt(3) * 0.5, rtol=2.0**-11)
    assert float(optim.clip_grad_norm_({}, 1.0)[1]) == 0


def test_a_norm_that_is_not_finite_is_told_when_asked():
    grads = {"a": np.array([1, np.inf], "f")}
    with pytest.raises(gt.GradientError, match="norm of the gradients is inf"):
        optim.clip_grad_norm_(grads, 1.0, error_if_nonfinite=True)
    assert np.isnan(optim.clip_grad_norm_(grads, 1.0)[0]["a"][1])
    for options in ({"max_norm": -1.0}, {"max_norm": 1.0, "norm_type": 0}, {"max_norm": 1.0, "norm_type": "x"}):
        with pytest.raises(gt.ArgumentError, match="clip_grad_norm_: "):
            optim.clip_grad_norm_(grads, **options)


def test_values_are_clipped():
    grads = {"a": np.array([-3, 0.25, np.nan], "f"), "none": None}
    np.testing.assert_array_equal(optim.clip_grad_value_(grads, 0.5)["a"], np.array([-0.5, 0.25, np.nan], "f"))
    with pytest.raises(gt.ArgumentError, match="clip_value"):
        optim.clip_grad_value_(grads, -1)


def test_clipping_after_scaling_back_sees_the_true_norm():
    p = nn.Parameter(np.zeros(2, "f"))
    opt, scaler = optim.SGD([p], lr=1.0), optim.GradScaler(1024.0)
    grads = scaler.unscale_(opt, {p: np.array([3, 4], "f") * 1024})
    grads, norm = optim.clip_grad_norm_(grads, 1.0)
    assert norm == 5
    scaler.step(opt, grads)
    np.testing.assert_allclose(p.value, [-0.6, -0.8], rtol=1e-6)
