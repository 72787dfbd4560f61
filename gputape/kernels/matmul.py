"""Host side of the matrix product."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, broadcast_shapes
from ..backend import scratch as _scratch
from ._products import multiply as _multiply
from ._products import partial_sums as _partial_sums
from .launch import need_kernel


def _sums(input: Aval, other: Aval) -> list[Aval]:
    batch = math.prod(broadcast_shapes("mm_nd", input.shape[:-2], other.shape[:-2]))
    (m, k), n = input.shape[-2:], other.shape[-1]
    return _partial_sums(input.dtype, m, n, k, batch)


@_scratch(_sums)
def mm_nd(rt: Any, y: Any, input: Any, other: Any, *, scratch: Any = ()) -> None:
    """y (…, M, N) = input (…, M, K) @ other (…, K, N); batch axes broadcast."""
    need_kernel("mm_nd", y)
    _multiply(rt, "mm_nd", y, input, other, scratch=scratch)
