"""What an op must cost at least, and what share of the machine's measured speed it reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gputape.backend import aval_of
from gputape.registry import Op


@dataclass(frozen=True)
class Roof:
    """Measured speeds: bytes per second of a device copy (read plus written), and FLOP per second of a large matrix
    product per kind of arithmetic ("16-bit", "float32"); None where it could not be measured."""

    bandwidth: float
    flops: dict[str, float | None]


@dataclass(frozen=True)
class Cost:
    """Bytes that must move and operations that must be done."""

    bytes: int
    flops: int


def cost(op: Op, case: Any, inputs: list[Any]) -> Cost:
    """The cost that the card states for this case, in the element type of `inputs`."""
    at = op.at(tuple(None if x is None else aval_of(x) for x in inputs), op.values(case.attrs))
    avals = [a for a in (*at.ins, *at.outs) if a is not None]
    moved = sum(a.nbytes for a in avals)
    if case.bytes is not None:
        moved = case.bytes(max(x.itemsize for x in inputs if x is not None and x.dtype.kind in "fV"))
    return Cost(moved, case.flops if case.flops is not None else sum(a.size for a in at.outs if a is not None))


def kind(dtype: str) -> str:
    """Which matrix speed an element type is measured against."""
    return "16-bit" if dtype in ("float16", "bfloat16") else "float32"


def floor(cost: Cost, roof: Roof, dtype: str) -> tuple[float, str]:
    """(the least seconds the machine needs for that cost, "memory" or "arithmetic": what holds it up)."""
    memory = cost.bytes / roof.bandwidth
    speed = roof.flops.get(kind(dtype))
    arithmetic = cost.flops / speed if speed else 0.0
    return (memory, "memory") if memory >= arithmetic else (arithmetic, "arithmetic")


def rate(cost: Cost, seconds: float, bound: str) -> tuple[float, str]:
    """(speed, unit): GB/s of what memory holds up, TFLOP/s of what arithmetic does."""
    return (cost.bytes / seconds / 1e9, "GB/s") if bound == "memory" else (cost.flops / seconds / 1e12, "TFLOP/s")
