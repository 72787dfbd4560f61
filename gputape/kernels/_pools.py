"""What the host sides of the CUDA C kernels over windows share: one thread per element, sizes as integers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..errors import BackendError
from .launch import Kernel, cuda, launch
from .tiles import cdiv

Ints = tuple[int, ...]
THREADS = 128
ELEMENT = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}


def over_three_axes(op: str, inner: Ints, outer: Ints, *window: Ints, padding: Ints = (), dilation: Ints = ()) -> Ints:
    """The sizes of input and result, the window and, where given, its padding and dilation: three integers of each.

    `inner` and `outer` may have axes in front; `window` is kernel size and stride. Up to three spatial axes.
    """
    n = len(window[0])
    if n > 3:
        raise BackendError(f'{op}: no kernel for {n} spatial axes (has: 1 to 3). Use gt.device("cpu").')
    rows = [inner[-n:], outer[-n:], *window, padding, dilation]
    neutral = [1, 1, *(1 for _ in window), 0, 1]
    return tuple(int(v) for row, fill in zip(rows, neutral, strict=True) if row for v in (*(fill,) * (3 - n), *row))


def each(rt: Any, kernel: Kernel, arrays: tuple[Any, ...], *rest: Any) -> None:
    """Run `kernel(*arrays, total, *rest)`, one thread per element of the first of the arrays, the result."""
    total = arrays[0].size
    launch(kernel, (cdiv(total, kernel.threads),), (*arrays, np.int64(total), *rest), rt.stream)


@cache
def kernel(stem: str, name: str, dtype: str) -> Kernel:
    return cuda(stem, name, warps=THREADS // 32, ELEMENT=ELEMENT[dtype])
