"""What the tests on a GPU share: the one reason to skip, and how close results must be."""

from __future__ import annotations

import os

import numpy as np
import pytest
from gpu.device import absent

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def need_device():
    """Skip the module without an NVIDIA device, and in a process that may emulate (one process, one Triton mode)."""
    why = absent()
    if not why and not os.environ.get("GPUTAPE_DEVICE", "").startswith("cuda"):
        why = "tests on the GPU need a process of their own: make gpu-check"
    if why:
        pytest.skip(why, allow_module_level=True)


def assert_close(found, exact, inputs, factor=4):
    """Rounding of the output's dtype times the longest sum behind an element, relative to the largest element."""
    assert found.shape == exact.shape
    if found.dtype.kind in "iub":
        np.testing.assert_array_equal(found, exact)
        return
    longest = max([x.size for x in inputs if isinstance(x, np.ndarray)] + [1])
    tol = factor * (EPS[found.dtype.name] + EPS["float32"] * np.sqrt(longest))
    exact = exact.astype(np.float64)
    scale = np.nanmax(np.abs(np.where(np.isfinite(exact), exact, 0.0)), initial=1.0)
    np.testing.assert_allclose(found.astype(np.float64), exact, rtol=tol, atol=tol * scale)
