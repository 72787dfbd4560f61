"""Launches that run nothing and are only written down: which variants an op needs, without a GPU and in no time.

`Listing` is a runtime whose arrays are NumPy's, unfilled; the host functions do all they do on a GPU but the launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import launch
from .._ranges import Ranges
from ..runtime import Emulated, Runtime
from .cubin import specialised


@dataclass(eq=False)
class ListingStream:
    """Collects variants, in order of first use."""

    machine: str = "listing"
    variants: dict[launch.Variant, None] = field(default_factory=dict)


class Listing(Emulated):
    """The runtime of a dry run: memory that nobody fills, and a stream that collects variants."""

    def __init__(self) -> None:
        self.stream: Any = ListingStream()
        self.ranges, self.fault = Ranges(), np.zeros((), np.int64)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.zeros(shape, dtype)  # pages that are never touched cost nothing; zeros are valid indices

    check_range = Runtime.check_range


def run(kernel: launch.Kernel, grid: tuple[int, ...], args: Sequence[Any], stream: Any) -> None:
    """Note the variant that a GPU would load for this launch."""
    key, _ = specialised(kernel, args, _address)
    stream.variants.setdefault(launch.Variant(*key))


def _address(array: np.ndarray) -> tuple[Any, int]:
    return array, array.__array_interface__["data"][0]
