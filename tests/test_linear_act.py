"""linear_act and conv_act against the ops they stand for, one after the other."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import gputape as gt
from gputape import registry
from gputape.dispatch import call
from gputape.errors import ArgumentError
from gputape.ops.linear_act import saved_of

OPTIONS = {"gelu": {"approximate": "tanh"}, "leaky_relu": {"negative_slope": -0.5}, "clamp": {"min": -0.5, "max": 0.5}}


def has_slope(op):
    try:
        return op.compose is None and saved_of(op.name) is not None
    except ArgumentError:
        return False


ACTIVATIONS = [op.name for op in registry.ops() if has_slope(op)]


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("name, options", [*((n, {}) for n in ACTIVATIONS if n != "clamp"), *OPTIONS.items()])
def test_it_is_linear_then_the_activation_then_the_sum(name, options, residual):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((5, 3), (7, 3), (7,), *[(5, 7)] * residual)]

    def fused(x, w, b, r=None):
        return call("linear_act", x, w, b, r, name, tuple(options.items()))

    def plain(x, w, b, r=None):
        y = call(name, gt.linear(x, w, b), **options)
        return y if r is None else y + r

    y, pull = gt.vjp(fused, *arrays)
    exact, pull_exact = gt.vjp(plain, *arrays)
    np.testing.assert_allclose(y, exact, rtol=1e-13, atol=1e-13)
    dy = rng.standard_normal(y.shape)
    for found, expected in zip(pull(dy), pull_exact(dy), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name, options", [*((n, {}) for n in ACTIVATIONS if n != "clamp"), *OPTIONS.items()])
def test_it_is_a_convolution_then_the_activation(name, options):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape) for shape in ((2, 4, 5, 3), (6, 2, 3, 2), (6,)))
    window = dict(stride=(2, 1), padding=((1, 1), (0, 1)), dilation=(1, 1), groups=2)

    def fused(x, w, b):
        return call("conv_act", x, w, b, **window, activation=name, options=tuple(options.items()))

    y, pull = gt.vjp(fused, x, w, b)
    exact, pull_exact = gt.vjp(lambda x, w, b: call(name, call("conv_nd", x, w, b, **window), **options), x, w, b)
    np.testing.assert_allclose(y, exact, rtol=1e-13, atol=1e-13)
    dy = rng.standard_normal(y.shape)
    for found, expected in zip(pull(dy), pull_exact(dy), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_the_common_activations_are_among_them():
    assert {"relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "elu", "softplus"} <= set(ACTIVATIONS)


def test_a_generated_ending_survives_pickling():
    pytest.importorskip("triton", reason="triton is not installed: there are no kernels")
    from gputape.kernels.linear_act import VARIANTS

    again = pickle.loads(pickle.dumps(VARIANTS))
    assert again == VARIANTS and any("ACTIVATION=gelu_none" in str(v.kernel) for v in again)
