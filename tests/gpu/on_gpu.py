"""What the tests on a GPU share: the one reason to skip, and the check of a sample's values."""

from __future__ import annotations

import os

import numpy as np
import pytest
from closeness import assert_close
from gpu.device import absent, outputs, settled, widened

import gputape as gt
from gputape.backend import backend
from gputape.testing import inputs_of

CPU = backend("cpu")
FLOATS = ("float32", "float16", "bfloat16")
OWN = {"float64", "float16", "bfloat16"}  # what a sample is about where it has such inputs


def need_device():
    """Skip the module without an NVIDIA device, and in a process that may emulate (one process, one Triton mode)."""
    why = absent()
    if not why and not os.environ.get("GPUTAPE_DEVICE", "").startswith("cuda"):
        why = "tests on the GPU need a process of their own: make gpu-check"
    if why:
        pytest.skip(why, allow_module_level=True)


def cases(op):
    """(number, sample, element type) of a card. What composed ops compute is rounded between their parts, which are
    cards of their own: of these only float32."""
    for k, sample in enumerate(op.samples):
        declared = {getattr(x, "dtype", None) for x in sample.inputs}
        several = op.compose is None and "float32" in declared and not declared & OWN
        for dtype in FLOATS if several else FLOATS[:1]:
            yield k, sample, dtype


def seeded(function, *args):
    """A call whose random ops draw the same numbers each time."""
    gt.manual_seed(0)
    return function(*args)


def check_values(backend, op, sample, dtype):
    """The values of a sample on a backend are those of float64 on the CPU, and the same bits twice. Inputs stay."""
    own = {getattr(x, "dtype", None) for x in sample.inputs} & OWN
    with np.errstate(over="ignore"):  # float16 ends at 65504
        inputs = inputs_of(op, sample, None if own else dtype)
    before = [x.copy() if isinstance(x, np.ndarray) else x for x in inputs]
    found, again = (seeded(outputs, backend, op, inputs, sample.attrs) for _ in range(2))
    attrs = sample.attrs if op.compose is not None else settled(op, inputs, sample.attrs)
    exact = seeded(outputs, CPU, op, [widened(x) for x in inputs], attrs)
    for y, twin, e in zip(found, again, exact, strict=True):
        assert (y is None) == (e is None)
        if y is not None:
            assert y.tobytes() == twin.tobytes()
            assert_close(y, e, inputs)
    for x, b in zip(inputs, before, strict=True):
        assert not isinstance(x, np.ndarray) or x.tobytes() == b.tobytes()
