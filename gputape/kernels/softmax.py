"""Host side of softmax, log-softmax and their gradients."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from ..errors import BackendError
from ._steps import STEP_TYPES, Tile, around, step_kernel, walk, walk_variants
from .launch import FLOATS, Kernel, covering, launch, need_kernel
from .tiles import cdiv


def softmax(rt: Any, y: Any, input: Any, *, dim: int, dtype: str) -> None:
    _forward(rt, "softmax", y, input, dim)


def log_softmax(rt: Any, y: Any, input: Any, *, dim: int, dtype: str) -> None:
    _forward(rt, "log_softmax", y, input, dim)


def softmax_bwd(rt: Any, dx: Any, dy: Any, y: Any, *, dim: int) -> None:
    _rowwise(rt, "softmax_bwd", dim, dx, dy, y)


def log_softmax_bwd(rt: Any, dx: Any, dy: Any, y: Any, *, dim: int) -> None:
    _rowwise(rt, "log_softmax_bwd", dim, dx, dy, y)


def _forward(rt: Any, op: str, y: Any, x: Any, dim: int) -> None:
    came, goes = need_kernel(op, x), need_kernel(op, y)
    if came != goes:
        raise BackendError(f"{op}: no kernel for {came} to {goes}. Cast the input to {goes} first.")
    _rowwise(rt, op, dim, y, x)


def _rowwise(rt: Any, op: str, dim: int, out: Any, *inputs: Any) -> None:
    need_kernel(op, out)
    outer, n, inner = around(out.shape, dim)
    whole, last, tile = walk(n, inner)
    kernel = _kernel(op.removeprefix("log_"), whole, last, tile)
    sizes = (outer * inner, np.int64(n), inner, n, int(op.startswith("log_")))
    arrays = (out, *(rt.packed(x) for x in inputs))
    launch(kernel, (cdiv(outer * inner, tile[0]),), (*arrays, *sizes), rt.stream)


@cache
def _kernel(name: str, whole: bool, last: bool, tile: Tile) -> Kernel:
    return step_kernel("softmax", name, last, tile, WHOLE=whole)


VARIANTS = covering(
    variant
    for dtype in FLOATS
    for name, pointers in (("softmax", 2), ("softmax_bwd", 3))
    for variant in walk_variants(partial(_kernel, name), (f"*{dtype}",) * pointers + (*STEP_TYPES, "int32"))
)
