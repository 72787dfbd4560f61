"""Whether arrays are the same, as Python bools: read on the host, so that `gt.compile` refuses them."""

from __future__ import annotations

from typing import Any

from .arrays import asnumpy
from .dispatch import call
from .variable import Operators


def allclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether |input - other| ≤ atol + rtol · |other| for all elements; shapes broadcast. As torch.allclose."""
    return bool(asnumpy(call("all", call("isclose", input, other, rtol, atol, equal_nan))))


def equal(input: Any, other: Any) -> bool:
    """Whether the shapes are equal and all elements are. As torch.equal."""
    same = call("eq", input, other) if tuple(input.shape) == tuple(other.shape) else None
    return same is not None and bool(asnumpy(call("all", same)))


for _function in (allclose, equal):
    setattr(Operators, _function.__name__, _function)
