"""Host side of constant padding."""

from __future__ import annotations

from typing import Any

from ._copy import window_into


def constant_pad_nd(rt: Any, y: Any, input: Any, *, pad: tuple[int, ...], value: float) -> None:
    start = (0,) * (input.ndim - len(pad) // 2) + tuple(reversed(pad[::2]))
    window_into("constant_pad_nd", rt, y, input, start, (1,) * input.ndim, value)
