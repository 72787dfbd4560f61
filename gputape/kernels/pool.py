"""Host side of the pooling kernels."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ..errors import BackendError
from ._pools import ELEMENT, THREADS, each
from .launch import FLOATS, Kernel, Variant, cuda, need_kernel


def max_pool_nd(rt: Any, y: Any, index: Any, input: Any, *, ceil_mode: bool, **window: Any) -> None:
    """`ceil_mode` has done its work in the shape of `y`."""
    sizes = _sizes("max_pool_nd", input.shape, y.shape, **window)
    kernel = _kernel("max_pool2d", need_kernel("max_pool_nd", input))
    each(rt, kernel, (y, index, rt.packed(input)), *sizes)


def max_pool_nd_bwd(rt: Any, dx: Any, dy: Any, index: Any, *, spatial: tuple[int, ...], **window: Any) -> None:
    """`spatial` has done its work in the shape of `dx`."""
    sizes = _sizes("max_pool_nd_bwd", dx.shape, dy.shape, **window)
    kernel = _kernel("max_pool2d_bwd", need_kernel("max_pool_nd_bwd", dy))
    each(rt, kernel, (dx, rt.packed(dy), rt.packed(index)), *sizes)


def max_pool_nd_gather(rt: Any, y: Any, input: Any, index: Any, **window: Any) -> None:
    """The window does not matter: `index` counts within a plane."""
    kernel = _kernel("pool_gather", need_kernel("max_pool_nd_gather", input))
    planes = (np.int64(math.prod(input.shape[2:])), np.int64(math.prod(y.shape[2:])))
    each(rt, kernel, (y, rt.packed(input), rt.packed(index)), *planes)


def _sizes(
    op: str,
    inner: tuple[int, ...],
    outer: tuple[int, ...],
    *,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """The integers that both kernels take after the element count; one spatial axis is a row of height 1."""
    n = len(kernel_size)
    if n > 2:
        raise BackendError(f'{op}: no kernel for {n} spatial axes (has: 1 and 2). Use gt.device("cpu").')
    one = (1,) * (2 - n)
    pairs = (
        one + inner[-n:],
        one + outer[-n:],
        one + kernel_size,
        one + stride,
        (0,) * (2 - n) + padding,
        one + dilation,
    )
    return tuple(int(v) for pair in pairs for v in pair)


@cache
def _kernel(name: str, dtype: str) -> Kernel:
    return cuda("pool", name, warps=THREADS // 32, ELEMENT=ELEMENT[dtype])


VARIANTS = tuple(
    Variant(_kernel(name, dtype), (*pointers, "int64", *rest))
    for dtype in FLOATS
    for name, pointers, rest in (
        ("max_pool2d", (f"*{dtype}", "*int32", f"*{dtype}"), ("int32",) * 12),
        ("max_pool2d_bwd", (f"*{dtype}", f"*{dtype}", "*int32"), ("int32",) * 12),
        ("pool_gather", (f"*{dtype}", f"*{dtype}", "*int32"), ("int64",) * 2),
    )
)
