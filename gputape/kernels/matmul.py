"""Host side of the matrix product."""

from __future__ import annotations

from typing import Any

from ._products import multiply as _multiply
from .launch import need_kernel


def mm_nd(rt: Any, y: Any, input: Any, other: Any) -> None:
    """y (…, M, N) = input (…, M, K) @ other (…, K, N); batch axes broadcast."""
    need_kernel("mm_nd", y)
    _multiply(rt, "mm_nd", y, input, other)
