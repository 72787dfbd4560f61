"""Integers and bools for kernels that know int64 only: a copy that is wider, and the result back."""

from __future__ import annotations

from typing import Any

from .launch import FLOATS
from .pointwise import cast


def exact(kind: str) -> str:
    """The dtype in which elements of this one are reduced: their own for floats, else int64."""
    return kind if kind in FLOATS else "int64"


def widened(rt: Any, x: Any, dtype: str) -> Any:
    """`x` itself if it has that dtype, else a contiguous copy that has."""
    return x if str(x.dtype) == dtype else narrowed(rt, rt.empty(x.shape, dtype), x)


def narrowed(rt: Any, y: Any, x: Any) -> Any:
    """y, after y = x in the dtype of y, unless that is done."""
    if x is not y:
        cast(rt, y, x, dtype=str(y.dtype))
    return y
