"""Launches that are counted and loaded, not run: the dry run of a plan (`kernels/rehearsal.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def run(kernel: Any, grid: tuple[int, ...], args: Sequence[Any], stream: Any) -> None:
    """Count the launch, and load what will run it."""
    stream.launches += 1
    stream.load(kernel, args)
