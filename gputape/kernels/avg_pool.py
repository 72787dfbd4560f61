"""Host side of the average pooling kernels."""

from __future__ import annotations

from typing import Any

from ._pools import Ints, each, kernel, over_three_axes
from .launch import FLOATS, Variant, covering, need_kernel


def avg_pool_nd(rt: Any, y: Any, input: Any, **options: Any) -> None:
    _run(rt, "avg_pool_nd", "avg_pool", y, input, (input.shape, y.shape), **options)


def avg_pool_nd_bwd(rt: Any, dx: Any, dy: Any, *, spatial: Ints, **options: Any) -> None:
    """`spatial` has done its work in the shape of `dx`."""
    _run(rt, "avg_pool_nd_bwd", "avg_pool_bwd", dx, dy, (dx.shape, dy.shape), **options)


def _run(
    rt: Any,
    op: str,
    name: str,
    result: Any,
    given: Any,
    shapes: tuple[Ints, Ints],
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> None:
    """`ceil_mode` has done its work in the shape of the pool's result; the kernel takes a divisor of 0 for none."""
    found = kernel("avg_pool", name, need_kernel(op, given))
    sizes = over_three_axes(op, *shapes, kernel_size, stride, padding=padding)
    each(rt, found, (result, rt.packed(given)), float(divisor_override or 0), int(count_include_pad), *sizes)


VARIANTS = covering(
    Variant(kernel("avg_pool", name, dtype), (f"*{dtype}", f"*{dtype}", "int64", "float32", *("int32",) * 16))
    for dtype in FLOATS
    for name in ("avg_pool", "avg_pool_bwd")
)
