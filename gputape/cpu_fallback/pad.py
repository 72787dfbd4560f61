"""Body of constant padding."""

from __future__ import annotations

from typing import Any


def constant_pad_nd(xp: Any, y: Any, input: Any, *, pad: tuple[int, ...], value: float) -> None:
    inside, kept = [], []  # from the last axis on
    for n, a, b in zip(reversed(input.shape), pad[::2], pad[1::2], strict=False):
        inside.append(slice(max(a, 0), n + a + min(b, 0)))
        kept.append(slice(max(-a, 0), n + min(b, 0)))
    if max(pad, default=0) > 0:
        y.fill(value)
    y[(..., *reversed(inside))] = input[(..., *reversed(kept))]
