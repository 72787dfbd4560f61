"""Host side of the pooling kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._pools import Ints, each, kernel, over_three_axes
from .launch import FLOATS, Variant, covering, need_kernel


def max_pool_nd(rt: Any, y: Any, index: Any, input: Any, *, ceil_mode: bool, **window: Ints) -> None:
    """`ceil_mode` has done its work in the shape of `y`."""
    found = kernel("pool", "max_pool", need_kernel("max_pool_nd", input))
    each(rt, found, (y, index, rt.packed(input)), *_sizes("max_pool_nd", input.shape, y.shape, **window))


def max_pool_nd_bwd(rt: Any, dx: Any, dy: Any, index: Any, *, spatial: Ints, **window: Ints) -> None:
    """`spatial` has done its work in the shape of `dx`."""
    found = kernel("pool", "max_pool_bwd", need_kernel("max_pool_nd_bwd", dy))
    each(rt, found, (dx, rt.packed(dy), rt.packed(index)), *_sizes("max_pool_nd_bwd", dx.shape, dy.shape, **window))


def _sizes(op: str, inner: Ints, outer: Ints, *, kernel_size: Ints, stride: Ints, **others: Ints) -> Ints:
    return over_three_axes(op, inner, outer, kernel_size, stride, **others)


def max_pool_nd_gather(rt: Any, y: Any, input: Any, index: Any, **window: Any) -> None:
    """The window does not matter: `index` counts within a plane."""
    found = kernel("pool", "pool_gather", need_kernel("max_pool_nd_gather", input))
    planes = (np.int64(math.prod(input.shape[2:])), np.int64(math.prod(y.shape[2:])))
    each(rt, found, (y, rt.packed(input), rt.packed(index)), *planes)


VARIANTS = covering(
    Variant(kernel("pool", name, dtype), (*pointers, "int64", *rest))
    for dtype in FLOATS
    for name, pointers, rest in (
        ("max_pool", (f"*{dtype}", "*int32", f"*{dtype}"), ("int32",) * 18),
        ("max_pool_bwd", (f"*{dtype}", f"*{dtype}", "*int32"), ("int32",) * 18),
        ("pool_gather", (f"*{dtype}", f"*{dtype}", "*int32"), ("int64",) * 2),
    )
)
