"""Bodies of the losses that compare two arrays element by element."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..backend import scratch
from ..errors import ArgumentError


def _reduced(xp: Any, y: Any, loss: Any, reduction: str) -> None:
    """y = the sum or the mean of the losses; for "none" they are y already."""
    if reduction == "none":
        return
    xp.add.reduce(loss.reshape(-1), out=y)
    if reduction == "mean":
        xp.divide(y, loss.size, out=y)


def _one(input: Aval, *rest: Any, **attrs: Any) -> list[Aval]:
    return [input]


def _two(input: Aval, *rest: Any, **attrs: Any) -> list[Aval]:
    return [input, input]


@scratch(_one)
def mse_loss(xp: Any, y: Any, input: Any, target: Any, *, reduction: str, scratch: list[Any]) -> None:
    d = y if reduction == "none" else scratch[0]
    xp.subtract(input, target, out=d)
    if reduction == "none":
        xp.multiply(d, d, out=y)
        return
    flat = d.reshape(-1)
    xp.vecdot(flat, flat, out=y)
    if reduction == "mean":
        xp.divide(y, d.size, out=y)


@scratch(_one)
def l1_loss(xp: Any, y: Any, input: Any, target: Any, *, reduction: str, scratch: list[Any]) -> None:
    d = y if reduction == "none" else scratch[0]
    xp.subtract(input, target, out=d)
    xp.absolute(d, out=d)
    _reduced(xp, y, d, reduction)


@scratch(_two)
def smooth_l1_loss(
    xp: Any, y: Any, input: Any, target: Any, *, reduction: str, beta: float, scratch: list[Any]
) -> None:
    if not beta:
        l1_loss(xp, y, input, target, reduction=reduction, scratch=scratch[:1])
        return
    _huber(xp, y, input, target, reduction, beta, 1 / beta, scratch)


@scratch(_two)
def huber_loss(xp: Any, y: Any, input: Any, target: Any, *, reduction: str, delta: float, scratch: list[Any]) -> None:
    _huber(xp, y, input, target, reduction, delta, 1.0, scratch)


def _huber(
    xp: Any, y: Any, input: Any, target: Any, reduction: str, width: float, factor: float, buffers: list[Any]
) -> None:
    """factor · m · (|d| - m/2) with m = min(|d|, width)."""
    d = y if reduction == "none" else buffers[0]
    m = buffers[1]
    xp.subtract(input, target, out=d)
    xp.absolute(d, out=d)
    xp.clip(d, 0.0, width, out=m)  # with both bounds it takes the vector loop
    xp.multiply(m, 0.5, out=m)
    xp.subtract(d, m, out=d)
    xp.multiply(d, m, out=d)
    xp.multiply(d, 2 * factor, out=d)
    _reduced(xp, y, d, reduction)


@scratch(_two)
def binary_cross_entropy_with_logits(
    xp: Any, y: Any, input: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str, scratch: list[Any]
) -> None:
    """max(-x, 0) + log(1 + exp(-|x|)) is softplus(-x)."""
    loss = y if reduction == "none" else scratch[0]
    other = scratch[1]
    xp.absolute(input, out=other)
    xp.negative(other, out=other)
    xp.exp(other, out=other)
    xp.log1p(other, out=other)
    xp.minimum(input, 0, out=loss)
    xp.subtract(other, loss, out=other)
    if pos_weight is not None:
        xp.subtract(pos_weight, 1, out=loss)
        xp.multiply(loss, target, out=loss)
        xp.add(loss, 1, out=loss)
        xp.multiply(other, loss, out=other)
    xp.subtract(1, target, out=loss)
    xp.multiply(loss, input, out=loss)
    xp.add(loss, other, out=loss)
    if weight is not None:
        xp.multiply(loss, weight, out=loss)
    _reduced(xp, y, loss, reduction)


@scratch(_two)
def binary_cross_entropy(
    xp: Any, y: Any, input: Any, target: Any, weight: Any, *, reduction: str, scratch: list[Any]
) -> None:
    _check_probabilities(xp, input)
    loss = y if reduction == "none" else scratch[0]
    other = scratch[1]
    xp.subtract(1, input, out=other)
    xp.log(other, out=other)
    xp.maximum(other, -100, out=other)
    xp.subtract(target, 1, out=loss)
    xp.multiply(other, loss, out=other)
    xp.log(input, out=loss)
    xp.maximum(loss, -100, out=loss)
    xp.multiply(loss, target, out=loss)
    xp.subtract(other, loss, out=loss)
    if weight is not None:
        xp.multiply(loss, weight, out=loss)
    _reduced(xp, y, loss, reduction)


def _check_probabilities(xp: Any, input: Any) -> None:
    if input.size and not (input.min() >= 0 and input.max() <= 1):
        flat = input.reshape(-1)
        at = int(xp.argmin((flat >= 0) & (flat <= 1)))
        raise ArgumentError(
            f"binary_cross_entropy: input[{at}] (in flat order) is {float(flat[at])}, which is not in [0, 1]. "
            "Pass probabilities, or logits to binary_cross_entropy_with_logits."
        )
