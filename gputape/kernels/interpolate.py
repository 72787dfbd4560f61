"""Host side of the resampling kernels."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..errors import BackendError
from ._pools import ELEMENT, THREADS, Ints, each
from .launch import FLOATS, Kernel, Variant, covering, cuda, need_kernel

ROWS = 512  # threads of a program: neighbouring rows of the result are made of the same rows
MODES = ("nearest", "nearest-exact", "linear", "cubic", "area")  # as numbered in the device code


def resample_nd(rt: Any, y: Any, input: Any, **options: Any) -> None:
    _run(rt, "resample_nd", "resample", y, input, (input.shape, y.shape), **options)


def resample_nd_bwd(rt: Any, dx: Any, dy: Any, **options: Any) -> None:
    _run(rt, "resample_nd_bwd", "resample_bwd", dx, dy, (dx.shape, dy.shape), **options)


def _run(
    rt: Any,
    op: str,
    name: str,
    result: Any,
    given: Any,
    shapes: tuple[Ints, Ints],
    *,
    mode: str,
    align_corners: bool,
    scales: tuple[float | None, ...],
    **sizes: Ints,
) -> None:
    """`sizes` have done their work in the shape of the result."""
    kernel, n = _kernel(name, need_kernel(op, given), mode), len(scales)
    if n > 3:
        raise BackendError(f'{op}: no kernel for {n} spatial axes (has: 1 to 3). Use gt.device("cpu").')
    inner, outer = ((1,) * (3 - n) + tuple(shape[-n:]) for shape in shapes)
    given_scales = (None,) * (3 - n) + scales
    steps = [_step(*axis, align_corners) for axis in zip(inner, outer, given_scales, strict=True)]
    each(rt, kernel, (result, rt.packed(given)), int(align_corners), *steps, *inner, *outer)


def _step(size: int, out: int, scale: float | None, align_corners: bool) -> float:
    """Elements from one place of the result to the next, in float32; -1 for an axis that stays as it is."""
    if size == out and scale is None:
        return -1.0
    if align_corners:
        return float(np.float32(size - 1) / np.float32(out - 1)) if out > 1 else 0.0
    return float(np.float32(size) / np.float32(max(out, 1)) if scale is None else np.float32(1 / scale))


@cache
def _kernel(name: str, dtype: str, mode: str) -> Kernel:
    threads = THREADS if name == "resample_bwd" else ROWS
    return cuda("interpolate", name, warps=threads // 32, ELEMENT=ELEMENT[dtype], MODE=MODES.index(mode))


VARIANTS = covering(
    Variant(
        _kernel(name, dtype, mode),
        (f"*{dtype}", f"*{dtype}", "int64", "int32", *("float32",) * 3, *("int32",) * 6),
    )
    for dtype in FLOATS
    for mode in MODES
    for name in ("resample", "resample_bwd")
)
