"""Products of matrices, in parts where OpenBLAS is quicker with small ones: it need not pack their factors first."""

from __future__ import annotations

from typing import Any

from ..aval import FLOATS, Aval
from ..blas import UNPACKED, better_in_parts, leaves_small_unpacked
from .pointwise import copy

_TILE = 1024  # results of the largest product A·Bᵀ that is not packed
_LEAST = 8  # rows or columns of a part


def spare_for(m: int, k: int, n: int, dtype: str) -> list[Aval]:
    """The aval of `product`'s spare for a transposed b, if there may be use for one."""
    if dtype == "float64" or dtype not in FLOATS:
        return []
    pays = m > _TILE // _LEAST and m * k * n > UNPACKED and leaves_small_unpacked()
    return [Aval((k, n), "float32")] if pays else []


def product(xp: Any, y: Any, a: Any, b: Any, spare: Any = None) -> None:
    """y = a · b for matrices, each contiguous or the transpose of what is. `spare`, of b's shape, is where a transposed
    b may be copied to."""
    (m, k), n = a.shape, b.shape[1]
    size = m * k * n
    if a.dtype.itemsize == 4 and b.flags.c_contiguous and better_in_parts(size):
        if a.flags.c_contiguous:
            y, a, b = _by_rows(y, a, b)
        elif size <= 2 * UNPACKED and not m % 2:  # in larger ones a row of Aᵀ lies on too many pages
            y, a = y.reshape(2, m // 2, n), a.T.reshape(k, 2, m // 2).transpose((1, 2, 0))
    elif a.dtype.itemsize == 4 and m > 1 and k > 0 and a.flags.c_contiguous and b.T.flags.c_contiguous:
        columns = _divisor(n, min(_TILE // m, UNPACKED // (m * k))) if leaves_small_unpacked() else 0
        if _LEAST <= columns < n and (size <= UNPACKED or better_in_parts(size)):
            y, b = y.reshape(m, n // columns, columns).transpose((1, 0, 2)), b.T
            b = b.reshape(n // columns, columns, k).transpose((0, 2, 1))
        elif spare is not None and better_in_parts(size):
            copy(xp, spare, b)
            y, a, b = _by_rows(y, a, spare)
    xp.matmul(a, b, out=y)


def _by_rows(y: Any, a: Any, b: Any) -> tuple[Any, Any, Any]:
    (m, k), n = a.shape, b.shape[1]
    rows = _divisor(m, UNPACKED // (k * n))
    if rows < _LEAST:
        return y, a, b
    return y.reshape(m // rows, rows, n), a.reshape(m // rows, rows, k), b


def _divisor(n: int, most: int) -> int:
    """The largest divisor of n up to `most`, 0 if there is none."""
    return next((d for d in range(min(n, most), 0, -1) if not n % d), 0)
