"""Optimizers written with ops: by the formulas of their papers, compiled, on the kernels, and wrong options. That they
agree with PyTorch, skip and continue is in test_optim.py."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import nn, optim

KINDS = ("RMSprop", "Adagrad", "Adadelta", "Adamax", "Lion", "Muon")
SHAPE = (3, 5)


def gradients(steps, shape=SHAPE):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for _ in range(steps)]


def trained(make, start, grads):
    p = nn.Parameter(start, name="w")
    opt = make([p])
    for g in grads:
        opt.step({p: g.astype(p.dtype)})
    return p.numpy()


def test_lion_is_its_papers_algorithm():
    p, m = np.linspace(-1, 1, 15).reshape(SHAPE), np.zeros(SHAPE)
    got = trained(lambda ps: optim.Lion(ps, lr=0.01, betas=(0.8, 0.95), weight_decay=0.1), p, gradients(10))
    for g in gradients(10):
        p = p * (1 - 0.01 * 0.1) - 0.01 * np.sign(0.8 * m + 0.2 * g)
        m = 0.95 * m + 0.05 * g
    np.testing.assert_allclose(got, p, rtol=1e-12)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 7)])
@pytest.mark.parametrize("adjust, reach", [
    (None, lambda a, b: max(1, a / b) ** 0.5),
    ("match_rms_adamw", lambda a, b: 0.2 * max(a, b) ** 0.5),
])  # fmt: skip
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_pytorchs_algorithm(shape, adjust, reach, nesterov):
    p, buffer = np.linspace(-1, 1, shape[0] * shape[1]).reshape(shape), np.zeros(shape)
    options = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1, "nesterov": nesterov, "adjust_lr_fn": adjust}
    got = trained(lambda ps: optim.Muon(ps, **options), p, gradients(6, shape))
    a, b, c = 3.4445, -4.775, 2.0315
    for g in gradients(6, shape):
        buffer = 0.9 * buffer + 0.1 * g
        x = 0.9 * buffer + 0.1 * g if nesterov else buffer
        x = x / max(np.linalg.norm(x), 1e-7)
        for _ in range(5):
            x = a * x + b * (x @ x.T) @ x + c * (x @ x.T) @ (x @ x.T) @ x
        p = p * (1 - 0.02 * 0.1) - 0.02 * reach(*shape) * g_like(x)
    np.testing.assert_allclose(got, p, rtol=1e-9, atol=1e-12)


def g_like(x):
    """The singular values that Newton and Schulz leave are about 1."""
    assert 0.5 < np.linalg.svd(x, compute_uv=False).min() <= np.linalg.svd(x, compute_uv=False).max() < 1.5
    return x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rewrite", [False, True])
def test_a_compiled_step_is_the_same(kind, rewrite):
    def run(wrap):
        gt.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Tanh(), nn.Linear(8, 2, bias=False))
        opt = getattr(optim, kind)(model.parameters(), lr=0.05, weight_decay=0.01)

        def step(x, y):
            with gt.record() as tape:
                loss = gt.mse_loss(model(x), y)
            opt.step(tape.backward(loss))
            return loss

        step, rng = wrap(step), np.random.default_rng(1)
        x, y = rng.standard_normal((16, 4)).astype("f"), rng.standard_normal((16, 2)).astype("f")
        losses = [float(step(x, y)) for _ in range(12)]
        assert losses[-1] < losses[0]
        return np.concatenate([p.numpy().ravel() for p in model.parameters()])

    eager, compiled = run(lambda f: f), run(lambda f: gt.compile(f, rewrite=rewrite))
    if rewrite and kind != "Lion":  # where a sign turns, a step of another rounding goes the other way
        np.testing.assert_allclose(compiled, eager, rtol=1e-4, atol=1e-5)
    elif not rewrite:
        assert compiled.tobytes() == eager.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernels_take_the_same_step(kind):
    def run():
        return trained(getattr(optim, kind), np.linspace(-1, 1, 15, dtype="f").reshape(SHAPE), gradients(2))

    with gt.device("cpu"):
        expected = run()
    with gt.device("emulated"):
        np.testing.assert_allclose(run(), expected, rtol=1e-5, atol=1e-6)


def test_muon_beside_adamw_takes_the_same_gradients():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    hidden, *rest = model.parameters()
    opts = optim.Muon([hidden], lr=0.02), optim.AdamW(rest, lr=0.01)
    x, y = np.eye(4, dtype="f"), np.ones((4, 2), "f")
    losses = []
    for _ in range(10):
        with gt.record() as tape:
            loss = gt.mse_loss(model(x), y)
        grads = tape.backward(loss)
        for opt in opts:
            opt.step(grads)
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


def test_adagrads_sum_starts_at_its_option_in_every_group():
    a, b = (nn.Parameter(np.zeros(2, np.float32)) for _ in range(2))
    groups = [{"params": [a]}, {"params": [b], "initial_accumulator_value": 0.25}]
    opt = optim.Adagrad(groups, initial_accumulator_value=4.0)
    assert [opt.state[p]["sum"].value[0] for p in (a, b)] == [4.0, 0.25]


@pytest.mark.parametrize("kind, options, match", [
    ("RMSprop", {"alpha": -0.1}, "alpha=-0.1 is out of range"),
    ("RMSprop", {"momentum": float("nan")}, "momentum=nan is out of range"),
    ("Adagrad", {"lr_decay": -1}, "lr_decay=-1 is out of range"),
    ("Adadelta", {"rho": 1.5}, "rho=1.5 is out of range"),
    ("Adamax", {"betas": (0.9, 1.0)}, r"betas\[1\]=1.0 is out of range"),
    ("Adamax", {"eps": "small"}, "eps='small' is not a number"),
    ("Lion", {"betas": 0.9}, "betas=0.9 must be two numbers"),
    ("Muon", {"momentum": 1.0}, "momentum=1.0 is out of range"),
    ("Muon", {"ns_steps": 2.5}, "ns_steps=2.5 must be an integer from 0 to 99"),
    ("Muon", {"ns_coefficients": (1, 2)}, r"ns_coefficients=\(1, 2\) must be three numbers"),
    ("Muon", {"adjust_lr_fn": "rms"}, "adjust_lr_fn='rms' is none of original, match_rms_adamw"),
])  # fmt: skip
def test_wrong_options_are_refused(kind, options, match):
    with pytest.raises(gt.ArgumentError, match=f"{kind}: {match}"):
        getattr(optim, kind)([nn.Parameter(np.zeros(SHAPE, np.float32))], **options)


def test_muon_refuses_what_is_no_matrix():
    with pytest.raises(gt.ArgumentError, match=r"Muon: bias has shape \(3,\), but only matrices.*such as AdamW"):
        optim.Muon(nn.Linear(2, 3).parameters())
