"""Every card's samples on `cuda` against float64 on `cpu`: values, gradients, and the same bits twice."""

from __future__ import annotations

import numpy as np
import pytest
from on_gpu import assert_close, need_device

need_device()

from gpu.device import gradients, outputs, widened

import gputape as gt
from gputape import registry
from gputape.backend import backend
from gputape.kernels import gate
from gputape.kernels.machine import compile, cubin
from gputape.testing import inputs_of

CUDA, CPU = backend("cuda"), backend("cpu")
FLOATS = ("float32", "float16", "bfloat16")
CARDS = [(op, k, sample) for op in registry.ops() for k, sample in enumerate(op.samples)]


def refused(error):
    """Skip what has no kernel, by the words of the refusal."""
    text = str(error).partition(": ")[2].partition(". ")[0]
    if "no kernel for" not in text and "no body on" not in text:
        raise error
    pytest.skip(text)


def inputs_in(op, sample, dtype):
    """The sample's arrays with float32 replaced by `dtype`; None if the sample is about another type."""
    declared = {getattr(x, "dtype", None) for x in sample.inputs}
    if dtype != "float32" and (declared & {"float64", "bfloat16", "float16"} or "float32" not in declared):
        return None
    with np.errstate(over="ignore"):  # float16 ends at 65504
        return inputs_of(op, sample, None if declared & {"float64", "bfloat16", "float16"} else dtype)


def seeded(function, *args):
    """A call whose random ops draw the same numbers each time."""
    gt.manual_seed(0)
    try:
        return function(*args)
    except gt.BackendError as e:
        return refused(e)


VALUES = [
    pytest.param(op, s, dtype, id=f"{op.name}-{k}-{dtype}")
    for op, k, s in CARDS
    for dtype in FLOATS
    if inputs_in(op, s, dtype) is not None
]


@pytest.mark.parametrize("op, sample, dtype", VALUES)
def test_values_agree_with_float64_and_repeat_bit_for_bit(op, sample, dtype):
    inputs = inputs_in(op, sample, dtype)
    before = [x.copy() if isinstance(x, np.ndarray) else x for x in inputs]
    found = seeded(outputs, CUDA, op, inputs, sample.attrs)
    again = seeded(outputs, CUDA, op, inputs, sample.attrs)
    exact = seeded(outputs, CPU, op, [widened(x) for x in inputs], sample.attrs)
    for y, twin, e in zip(found, again, exact, strict=True):
        if y is not None:
            assert y.tobytes() == twin.tobytes()
            assert_close(y, e, inputs)
    for x, b in zip(inputs, before, strict=True):
        assert not isinstance(x, np.ndarray) or x.tobytes() == b.tobytes()


GRADIENTS = [
    pytest.param(op, s, id=f"{op.name}-{k}")
    for op, k, s in CARDS
    if s.grad and op.public and (op.vjp is not None or op.compose is not None)
    if any(isinstance(x, np.ndarray) and x.dtype.name == "float32" for x in inputs_of(op, s))
]


@pytest.mark.parametrize("op, sample", GRADIENTS)
def test_gradients_agree_with_float64_and_repeat_bit_for_bit(op, sample):
    inputs = inputs_of(op, sample)
    found = seeded(gradients, CUDA, op, inputs, sample.attrs)
    again = seeded(gradients, CUDA, op, inputs, sample.attrs)
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
