"""Descriptors of test inputs, bad inputs and perf shapes that a card carries. `testing.py` materialises them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class T:
    """One array: shape, dtype, fill and memory layout.

    fill: "normal", "uniform" (in [low, high)), "distinct" (a shuffled, evenly spaced range: no ties), "ints" (integers
    in [low, high)), "bool", "zeros", "ones", or the values themselves as (nested) tuples, broadcast to the shape.
    layout: "c" (C-contiguous), "transposed" (last two axes swapped in memory), "strided" (every second element of a
    larger array along the last axis), "flipped" (negative stride along the first axis), "expanded" (stride 0 along the
    first axis), "repeated" (stride 0 along all: one element), or the axes in the order in which they lie in memory,
    outermost first.
    stat: a statistic, which is float32 even where the arrays beside it have 16 bits.
    """

    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    fill: Any = "normal"
    low: float = -1.0
    high: float = 1.0
    layout: Any = "c"
    stat: bool = field(default=False, repr=False)  # seeds and recorded results go by the text of a sample

    def typed(self, dtype: str) -> str:
        """Its dtype in a case that is run with `dtype` in the place of float32."""
        return dtype if self.dtype == "float32" and not self.stat else self.dtype


def t(*shape: int, **options: Any) -> T:
    """`T` with the shape as positional integers: `t(3, 5, fill="distinct")`."""
    return T(shape, **options)


class _Case:
    def __init__(self, *inputs: Any, **attrs: Any) -> None:
        self.inputs, self.attrs = inputs, attrs

    def __repr__(self) -> str:
        parts = [repr(i) for i in self.inputs] + [f"{k}={v!r}" for k, v in self.attrs.items()]
        return f"{type(self).__name__}({', '.join(parts)})"


class Sample(_Case):
    """Inputs on which the op must be right: `Sample(t(3, 5), None, dim=1)`.

    `grad_=False` leaves the gradient checks out (at a kink, a tie or a NaN, where no derivative exists); `torch_=False`
    the comparison with PyTorch, from which the result differs on purpose (`why_` says how). Otherwise `why_` says what
    the sample is there for. Everything else is an attribute of the op.
    """

    def __init__(self, *inputs: Any, grad_: bool = True, torch_: bool = True, why_: str = "", **attrs: Any) -> None:
        super().__init__(*inputs, **attrs)
        self.grad, self.torch, self.why = grad_, torch_, why_


class Bad(_Case):
    """Inputs that must be refused: the error class and a regular expression its message must match."""

    def __init__(self, error: type[Exception], match: str, *inputs: Any, **attrs: Any) -> None:
        super().__init__(*inputs, **attrs)
        self.error, self.match = error, match


class Perf(_Case):
    """A shape to time. `bytes_`, a function of the bytes of a floating-point element, and `flops_` are what the op must
    cost; by default the bytes of inputs and outputs, and one FLOP per output element. `gemms_` are the matrix products
    that the op is, each (how many, M, N, K): their FLOPs are the default then. `name_` says where the shape comes from.
    """

    def __init__(
        self,
        *inputs: Any,
        bytes_: Callable[[int], int] | None = None,
        flops_: int | None = None,
        gemms_: Sequence[tuple[int, int, int, int]] = (),
        name_: str = "",
        **attrs: Any,
    ) -> None:
        super().__init__(*inputs, **attrs)
        self.bytes, self.flops, self.gemms, self.name = bytes_, flops_, tuple(gemms_), name_
        if self.gemms and flops_ is None:
            self.flops = sum(2 * math.prod(g) for g in self.gemms)
