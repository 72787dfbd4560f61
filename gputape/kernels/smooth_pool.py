"""Host side of the kernels of smooth max pooling, and of copying windows out and adding them back."""

from __future__ import annotations

from typing import Any

from ._pools import Ints, each, kernel, over_three_axes
from .launch import FLOATS, Variant, covering, need_kernel


def smooth_max_pool_nd(rt: Any, y: Any, input: Any, *, kernel_size: Ints, stride: Ints, beta: float) -> None:
    op = "smooth_max_pool_nd"
    found = kernel("smooth_pool", "smooth_pool", need_kernel(op, input))
    sizes = over_three_axes(op, input.shape, y.shape, kernel_size, stride)
    each(rt, found, (y, rt.packed(input)), float(beta), *sizes)


def smooth_max_pool_nd_bwd(
    rt: Any, dx: Any, dy: Any, input: Any, y: Any, *, kernel_size: Ints, stride: Ints, beta: float
) -> None:
    op = "smooth_max_pool_nd_bwd"
    found = kernel("smooth_pool", "smooth_pool_bwd", need_kernel(op, dy))
    sizes = over_three_axes(op, dx.shape, dy.shape, kernel_size, stride)
    each(rt, found, (dx, rt.packed(dy), rt.packed(input), rt.packed(y)), float(beta), *sizes)


def unfold_nd(rt: Any, y: Any, input: Any, **window: Ints) -> None:
    _copy(rt, "unfold_nd", "unfold", y, input, (input.shape, y.shape), **window)


def fold_nd(rt: Any, y: Any, input: Any, *, spatial: Ints, **window: Ints) -> None:
    """`spatial` has done its work in the shape of `y`."""
    _copy(rt, "fold_nd", "fold", y, input, (y.shape, input.shape), **window)


def _copy(
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
    dilation: Ints,
) -> None:
    found = kernel("smooth_pool", name, need_kernel(op, given))
    sizes = over_three_axes(op, *shapes, kernel_size, stride, padding=padding, dilation=dilation)
    each(rt, found, (result, rt.packed(given)), *sizes)


VARIANTS = covering(
    Variant(kernel("smooth_pool", name, dtype), (*(f"*{dtype}",) * arrays, "int64", *rest))
    for dtype in FLOATS
    for name, arrays, rest in (
        ("smooth_pool", 2, ("float32", *("int32",) * 12)),
        ("smooth_pool_bwd", 4, ("float32", *("int32",) * 12)),
        ("unfold", 2, ("int32",) * 18),
        ("fold", 2, ("int32",) * 18),
    )
)
