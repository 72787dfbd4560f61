"""Host side of the activation kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from .launch import FLOATS, Kernel, Variant, launch, need_kernel, triton
from .tiles import POINTWISE, cdiv

RELU = triton("activation", "relu", divisible=("n",), BLOCK=POINTWISE)
RELU_BWD = triton("activation", "relu_bwd", divisible=("n",), BLOCK=POINTWISE)


def relu(rt: Any, y: Any, input: Any) -> None:
    need_kernel("relu", y)
    _each(rt, RELU, y, input)


def relu_bwd(rt: Any, dx: Any, dy: Any, y: Any) -> None:
    need_kernel("relu_bwd", dx)
    _each(rt, RELU_BWD, dx, dy, y)


def _each(rt: Any, kernel: Kernel, out: Any, *inputs: Any) -> None:
    """Run an element-wise kernel over arrays of one shape."""
    packed = [rt.packed(x) for x in inputs]
    launch(kernel, (cdiv(out.size, POINTWISE),), (out, *packed, np.int64(out.size)), rt.stream)


VARIANTS = tuple(
    Variant(kernel, (f"*{dtype}",) * pointers + ("int64",), wide)
    for dtype in FLOATS
    for wide in (True, False)
    for kernel, pointers in ((RELU, 2), (RELU_BWD, 3))
)
