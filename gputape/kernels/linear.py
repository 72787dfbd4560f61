"""Host side of the affine map and of its gradients."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval
from ..backend import scratch
from . import _steps
from ._products import NOTHING, Ending, multiply, partial_sums
from ._sums import add_up
from .launch import need_kernel

TIMES = Ending(factor=True)


def _matrix(rt: Any, x: Any) -> Any:
    """All leading axes as one."""
    return x if x.ndim == 2 else rt.packed(x).reshape((_rows(x), x.shape[-1]))


def _rows(x: Any) -> int:
    return math.prod(x.shape[:-1])


@scratch(lambda input, weight, bias: partial_sums(input.dtype, _rows(input), *weight.shape))
def linear(rt: Any, y: Any, input: Any, weight: Any, bias: Any, *, scratch: Any = ()) -> None:
    need_kernel("linear", y)
    y, x = _matrix(rt, y), _matrix(rt, input)
    multiply(rt, "linear", y, x, weight.T, None if bias is None else rt.packed(bias), scratch)


def _partial_sums(dy: Aval, input: Aval, weight: Aval, factor: Any, *, needs: tuple[bool, ...]) -> list[Aval]:
    """Those of the product for dinput, of that for dweight, then of the sums for dbias if they are taken alone."""
    rows, (m, n) = _rows(dy), weight.shape
    joined = all(needs[1:])
    return [
        *(partial_sums(dy.dtype, rows, n, m) if needs[0] else []),
        *(partial_sums(dy.dtype, m, n, rows, row_sums=joined) if needs[1] else []),
        *(_steps.between(_steps.steps((rows, m), (0,)), "float32") if needs[2] and not joined else []),
    ]


@scratch(_partial_sums)
def linear_bwd(
    rt: Any,
    dinput: Any,
    dweight: Any,
    dbias: Any,
    dy: Any,
    input: Any,
    weight: Any,
    factor: Any,
    *,
    needs: tuple[bool, ...],
    scratch: Any = (),
) -> None:
    dtype = need_kernel("linear_bwd", dy)
    dy, buffers = _matrix(rt, dy), list(scratch)
    rows, (m, n) = dy.shape[0], weight.shape
    if dinput is not None:
        own = buffers[: len(partial_sums(dtype, rows, n, m))]
        ending, other = (NOTHING, None) if factor is None else (TIMES, rt.packed(factor))
        multiply(rt, "linear_bwd", _matrix(rt, dinput), dy, weight, None, own, ending, other=other)
        buffers = buffers[len(own) :]
    if dweight is None and dbias is None:
        return
    dy = rt.packed(dy)
    if dweight is not None:
        multiply(rt, "linear_bwd", dweight, dy.T, _matrix(rt, input), scratch=buffers, row_sums=dbias)
    else:
        add_up(rt, dbias, dy, _steps.steps(dy.shape, (0,)), buffers)
