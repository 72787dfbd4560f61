"""Every card's samples on `cuda` against float64 on `cpu`: values, gradients, and the same bits twice."""

from __future__ import annotations

import numpy as np
import pytest
from closeness import assert_close
from on_gpu import CPU, cases, check_values, need_device, seeded

need_device()

from gpu.device import gradients, outputs, widened

import gputape as gt
from gputape import registry
from gputape.backend import backend
from gputape.kernels import gate
from gputape.kernels.machine import compile, cubin
from gputape.testing import inputs_of

CUDA = backend("cuda")


def unless_refused(function, *args):
    """A call, or a skip where there is no kernel, by the words of the refusal."""
    try:
        return function(*args)
    except gt.BackendError as e:
        text = str(e).partition(": ")[2].partition(". ")[0]
        if "no kernel for" not in text and "no body on" not in text:
            raise
        return pytest.skip(text)


VALUES = [pytest.param(op, s, dtype, id=f"{op.name}-{k}-{dtype}") for op in registry.ops() for k, s, dtype in cases(op)]


@pytest.mark.parametrize("op, sample, dtype", VALUES)
def test_values_agree_with_float64_and_repeat_bit_for_bit(op, sample, dtype):
    unless_refused(check_values, CUDA, op, sample, dtype)


GRADIENTS = [
    pytest.param(op, s, id=f"{op.name}-{k}")
    for op in registry.ops()
    for k, s in enumerate(op.samples)
    if s.grad and op.public and (op.vjp is not None or op.compose is not None)
    if any(isinstance(x, np.ndarray) and x.dtype.name == "float32" for x in inputs_of(op, s))
]


@pytest.mark.parametrize("op, sample", GRADIENTS)
def test_gradients_agree_with_float64_and_repeat_bit_for_bit(op, sample):
    inputs = inputs_of(op, sample)
    found, again = (unless_refused(seeded, gradients, CUDA, op, inputs, sample.attrs) for _ in range(2))
    exact = seeded(gradients, CPU, op, [widened(x) for x in inputs], sample.attrs)
    for dx, twin, e in zip(found, again, exact, strict=True):
        assert (dx is None) == (e is None)
        if dx is not None:
            assert dx.tobytes() == twin.tobytes()
            assert_close(dx, e, inputs, factor=16)


def test_every_listed_kernel_loads_on_this_device():
    """Also those with more than 48 KB of shared memory, which ask for it."""
    large = 0
    for variant in gate.variants():
        made = compile.compiled(variant, CUDA.xp.stream.arch)
        cubin._load(made)
        large += made.shared > cubin.PLAIN_SHARED
    assert large > 0


def test_random_words_are_those_of_the_cpu():
    for name, attrs in (
        ("random_bits", {"shape": (4099,)}),
        ("random_uniform", {"shape": (4099,), "dtype": "float32"}),
    ):
        op, state = registry.get(name), np.array([11, 5], np.int64)
        attrs = attrs | {"offset": 3}
        (a,), (b,) = (outputs(x, op, [state], attrs) for x in (CUDA, CPU))
        assert a.tobytes() == b.tobytes()
