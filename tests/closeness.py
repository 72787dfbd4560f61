"""How close what was computed in few bits must be to what was computed in float64."""

from __future__ import annotations

import numpy as np
from ml_dtypes import finfo

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def assert_close(found, exact, inputs, factor=4):
    """Rounding of the output's dtype times the longest sum behind an element, relative to the largest element."""
    assert found.shape == exact.shape
    if found.dtype.kind in "iub":
        np.testing.assert_array_equal(found, exact)
        return
    lowest = exact == finfo(exact.dtype).min  # stands for "no key to attend to" in the logsumexp of attention
    if lowest.any():
        assert (found[lowest] == finfo(found.dtype).min).all()
        found, exact = found[~lowest], exact[~lowest]
    longest = max([x.size for x in inputs if isinstance(x, np.ndarray)] + [1])
    tol = factor * (EPS[found.dtype.name] + EPS["float32"] * np.sqrt(longest))
    exact = exact.astype(np.float64)
    scale = np.nanmax(np.abs(np.where(np.isfinite(exact), exact, 0.0)), initial=1.0)
    np.testing.assert_allclose(found.astype(np.float64), exact, rtol=tol, atol=tol * scale)
