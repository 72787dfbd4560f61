"""Bodies of the circular and hyperbolic functions, their inverses, and the angle and length of a vector."""

from __future__ import annotations

from typing import Any


def _real(function: str) -> Any:
    def body(xp: Any, y: Any, *inputs: Any) -> None:
        getattr(xp, function)(*inputs, out=y, dtype=y.dtype)

    return body


tan, asin, acos, atan = map(_real, ("tan", "arcsin", "arccos", "arctan"))
sinh, cosh, asinh, acosh, atanh = map(_real, ("sinh", "cosh", "arcsinh", "arccosh", "arctanh"))
atan2, hypot = map(_real, ("arctan2", "hypot"))
