"""Bodies of products and of the linear recurrence."""

from __future__ import annotations

from typing import Any

from ..backend import scratch


def prod(xp: Any, y: Any, input: Any, *, dim: tuple[int, ...], keepdim: bool, dtype: str | None) -> None:
    if input.dtype.kind == "f" and y.dtype.kind != "f":
        input = input.astype(y.dtype)
    xp.multiply.reduce(input, axis=dim, out=y, keepdims=keepdim, dtype=y.dtype)


def cumprod(xp: Any, y: Any, input: Any, *, dim: int, dtype: str | None) -> None:
    if input.dtype.kind == "f" and y.dtype.kind != "f":
        input = input.astype(y.dtype)
    xp.multiply.accumulate(xp.atleast_1d(input), axis=dim, out=xp.atleast_1d(y), dtype=y.dtype)


@scratch(lambda x, a, *, dim, reverse: [x.with_shape((1, *x.shape[:dim], *x.shape[dim + 1 :]))])
def recurrence(xp: Any, y: Any, x: Any, a: Any, *, dim: int, reverse: bool, scratch: list[Any]) -> None:
    """One element after another along `dim`: each needs the one before it."""
    y, x, a = (xp.moveaxis(v, dim, 0)[:: -1 if reverse else 1] for v in (y, x, a))
    carry = scratch[0]
    xp.copyto(y[:1], x[:1])
    for k in range(1, len(y)):
        xp.multiply(a[k : k + 1], y[k - 1 : k], out=carry)
        xp.add(x[k : k + 1], carry, out=y[k : k + 1])
