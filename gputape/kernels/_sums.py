"""Launches of the sums and the moments, which several families use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from ..aval import Aval
from ._steps import Step, Tile, between, step_kernel, steps
from .launch import Kernel, launch


@cache
def sum_kernel(last: bool, tile: Tile) -> Kernel:
    return step_kernel("reduce", "sums", last, tile)


def add_up(rt: Any, y: Any, x: Any, found: Sequence[Step], partial: Sequence[Any], divisor: float = 1.0) -> None:
    """Σ x / divisor by these steps; x is contiguous, `partial` holds the arrays of `between`."""
    for s, out in zip(found, (*partial, y), strict=True):
        arrays = (out, x, *s.sizes, divisor if out is y else 1.0)
        launch(sum_kernel(s.last, s.tile), s.grid, arrays, rt.stream)
        x = out


@cache
def moments_kernel(plain: bool, last: bool, tile: Tile) -> Kernel:
    return step_kernel("reduce", "moments", last, tile, PLAIN=plain)


def moment_buffers(shape: tuple[int, ...], dim: tuple[int, ...]) -> list[Aval]:
    """Squares, means and rests between the steps of `moments`."""
    return [a for a in between(steps(shape, dim), "float32") for _ in range(3)]


def moments(
    rt: Any,
    y: Any,
    mean: Any,
    rest: Any,
    x: Any,
    dim: tuple[int, ...],
    divisor: float,
    partial: Sequence[Any],
    root: bool = False,
) -> None:
    """y = Σ (x - mean)² / divisor (its root if asked for), the mean, and what the rounded mean lacks.

    Over the axes `dim` of a contiguous x. Each step but the first merges the results of groups of equal size (the last
    one may be smaller).
    """
    found = steps(x.shape, dim)
    outs = [tuple(partial[k : k + 3]) for k in range(0, len(partial), 3)] + [(y, mean, rest)]
    full, last, inputs = 1, 1, (x, x, x)
    for k, (s, made) in enumerate(zip(found, outs, strict=True)):
        final = s is found[-1]
        scalars = (float(full), float(last), divisor if final else 1.0, int(root and final))
        launch(moments_kernel(k == 0, s.last, s.tile), s.grid, (*made, *inputs, *s.sizes, *scalars), rt.stream)
        last = (s.n - (s.groups - 1) * s.group - 1) * full + last
        full = s.group * full if s.groups > 1 else last
        square, means, rests = made
        inputs = (means, rests, square)
