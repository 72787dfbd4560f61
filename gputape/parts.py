"""Ops in parts along the batch, where their cards name its axis: what each of several threads does."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .aval import Aval
from .errors import GputapeError
from .node import Node
from .predict import bytes_of, flops_of
from .registry import At

Cut = tuple[int, int, int]  # axis, start, stop

SUM = "sum"  # in the place of an output's axis: the parts add up to it
LOCKED = 2e-5  # seconds for which a part of an op holds Python's lock, about ten calls long
SMALL = 5e-6  # seconds of work below which an op is not split


@dataclass(frozen=True)
class Part:
    """A stretch of the batch of one op.

    Attributes:
        at: the op on it.
        ins, outs: what of each array is the part's: a cut, None for all of it, or `SUM`.
    """

    at: At
    ins: tuple[Cut | None, ...]
    outs: tuple[Cut | str | None, ...]


def divided(nodes: Mapping[int, Node], most: int) -> tuple[int, dict[int, list[Part]]]:
    """How many threads, of `most`, a program of these nodes is for; id → the parts of those that run in parts."""
    if not nodes:  # a program that only hands arrays on
        return 1, {}
    seconds = {i: _seconds(node) for i, node in nodes.items()}
    sizes: collections.Counter[int] = collections.Counter()  # of the batch → seconds of what has it
    for i, node in nodes.items():
        sizes[_batch(node.at)[0]] += seconds[i]  # type: ignore[assignment]
    sizes[0] = 0
    ((size, total),) = sizes.most_common(1)
    # The parts of all threads take turns with the lock and share the rest: neither should take longer than the other.
    count = min(most, size, int(math.sqrt(total / (LOCKED * len(nodes)))))
    if count < 2 or total < sum(seconds.values()) / 2:  # what cannot be split is better left to BLAS's threads
        return 1, {}
    found = {i: parts(node.at, count) for i, node in nodes.items() if seconds[i] > SMALL}
    return count, {i: made for i, made in found.items() if made is not None}


def _seconds(node: Node) -> float:
    """About what a node takes on a core."""
    return flops_of(node) / 1e11 + bytes_of(node) / 2e10


def parts(at: At, count: int) -> list[Part] | None:
    """The op in so many parts of nearly equal size, or None where its card does not allow it."""
    n, axes = _batch(at)
    if n < count:
        return None
    found = []
    for start, stop in itertools.pairwise(n * k // count for k in range(count + 1)):
        cuts: list[Any] = [(k, start, stop) if isinstance(k, int) else k for k in axes]
        ins, outs = tuple(cuts[: len(at.ins)]), tuple(cuts[len(at.ins) :])
        try:
            made = at.op.at(tuple(map(_cut_aval, at.ins, ins)), at.values)
        except GputapeError:  # along this axis the op cannot be cut, whatever the card says of most shapes
            return None
        if made.attrs != at.attrs or made.outs != tuple(map(_cut_aval, at.outs, outs)):
            return None
        found.append(Part(made, ins, outs))
    return found


def _batch(at: At) -> tuple[int, tuple[int | str | None, ...]]:
    """The size of the batch, and its axis in each input, then output; 0 where the op is not separable."""
    batch, arrays = at.op.batch, (*at.ins, *at.outs)
    if callable(batch):
        batch = batch(*at.ins, **at.attrs)
    if batch == "pointwise":
        shape = at.out.shape
        same = shape != () and all(a is None or a.shape == shape for a in at.outs)
        batch = [0 if a is not None and a.shape[:1] == shape[:1] and a.ndim == len(shape) else None for a in arrays]
        batch = batch if same else "none"
    if batch == "none":
        return 0, ()
    axes = [None if a is None else k for a, k in zip(arrays, batch, strict=True)]
    if any(isinstance(k, int) and k >= a.ndim for a, k in zip(arrays, axes, strict=True)):
        return 0, ()
    sizes = [a.shape[k] if isinstance(k, int) else 0 for a, k in zip(arrays, axes, strict=True)]
    n = max(sizes)
    for k in range(len(at.ins)):
        if sizes[k] == 1:  # the same for the whole batch
            axes[k], sizes[k] = None, 0
    return (n, tuple(axes)) if set(sizes) <= {0, n} else (0, ())


def _cut_aval(a: Aval | None, cut: Any) -> Aval | None:
    if a is None or not isinstance(cut, tuple):
        return a
    axis, start, stop = cut
    return a.with_shape((*a.shape[:axis], stop - start, *a.shape[axis + 1 :]))


def cut(array: Any, where: Any) -> Any:
    """The part of an array, as a view."""
    if array is None or not isinstance(where, tuple):
        return array
    axis, start, stop = where
    return array[(*(slice(None),) * axis, slice(start, stop))]
