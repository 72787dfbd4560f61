"""The memory of one emulated launch: hostile copies of the arrays that the kernel gets.

Arguments that overlap share one copy. A copy lies between guard zones; bytes that belong to no element are NaN.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import BackendError

GUARD = 256  # bytes on each side
GUARD_BYTE, GAP_BYTE = 0xA5, 0xFF  # 0xFF… is NaN in every floating-point type

ONE_AT_A_TIME = threading.RLock()  # Triton's interpreter and the host builds keep their state in globals


class KernelFault(BackendError):
    """A kernel broke a rule that hardware does not enforce: bounds, one writer per element, barriers."""


@dataclass(eq=False)
class Region:
    """Bytes [start, stop) of real memory that one or several arguments cover, and their hostile copy."""

    start: int
    stop: int
    unit: int  # bytes of the smallest element: the granularity of access tracking
    store: np.ndarray = field(init=False)
    state: Any = None  # a runner's access records

    def __post_init__(self) -> None:
        self.start &= ~63
        size = -(-(self.stop - self.start) // self.unit) * self.unit
        raw = np.full(size + 2 * GUARD + 64, GUARD_BYTE, np.uint8)
        skip = -raw.ctypes.data % 64
        self.store = raw[skip : skip + size + 2 * GUARD]
        self.bytes[:] = GAP_BYTE

    @property
    def bytes(self) -> np.ndarray:
        return self.store[GUARD:-GUARD]

    @property
    def units(self) -> int:
        return len(self.bytes) // self.unit

    def guards_intact(self) -> bool:
        return bool((self.store[:GUARD] == GUARD_BYTE).all() and (self.store[-GUARD:] == GUARD_BYTE).all())


@dataclass(eq=False)
class Pointer:
    """One array argument: where its element 0 lies in its region, and the byte range of its elements around it."""

    name: str
    array: np.ndarray
    low: int = field(init=False)
    high: int = field(init=False)
    region: Any = None  # the `Region` of its hostile copy, where there is one
    offset: int = 0

    def __post_init__(self) -> None:
        x = self.array
        reach = [(n - 1) * s for n, s in zip(x.shape, x.strides, strict=True)] if x.size else []
        self.low = sum(r for r in reach if r < 0)
        self.high = sum(r for r in reach if r > 0) + (x.itemsize if x.size else 0)

    @property
    def address(self) -> int:
        return self.array.__array_interface__["data"][0]

    def copied(self) -> np.ndarray:
        """The elements of this argument in the hostile copy."""
        x = self.array
        return np.ndarray(x.shape, x.dtype, self.region.store, GUARD + self.offset, x.strides)

    def bounds(self) -> str:
        """Which element numbers are inside, for messages."""
        size = self.array.itemsize
        return f"elements {self.low // size} to {self.high // size - 1}" if self.array.size else "no elements"


class Memory:
    """The hostile copies for one launch, and the way back."""

    def __init__(self, kernel: str, names: Sequence[str], args: Sequence[Any]) -> None:
        self.kernel = kernel
        self.pointers = [Pointer(n, a) for n, a in zip(names, args, strict=True) if isinstance(a, np.ndarray)]
        self.regions: list[Region] = []
        spans = sorted(self.pointers, key=lambda p: p.address + p.low)
        groups: list[list[Pointer]] = []
        top = -1
        for p in spans:
            if groups and p.address + p.low < top:
                groups[-1].append(p)
            else:
                groups.append([p])
            top = max(top, p.address + p.high)
        for group in groups:
            start = min(p.address + p.low for p in group)
            stop = max(p.address + p.high for p in group)
            region = Region(start, stop, min(p.array.itemsize for p in group))
            self.regions.append(region)
            for p in group:
                p.region, p.offset = region, p.address - region.start
                p.copied()[...] = p.array
        self._before = [region.bytes.copy() for region in self.regions]

    def finish(self) -> None:
        """Check the guard zones and bring what the kernel stored back to the arrays."""
        for region, before in zip(self.regions, self._before, strict=True):
            mine = [p for p in self.pointers if p.region is region]
            if not region.guards_intact():
                listed = " and ".join(repr(p.name) for p in mine)
                raise KernelFault(f"{self.kernel}: wrote outside the buffer of {listed}. Check its offsets and masks.")
            if np.array_equal(region.bytes, before):
                continue
            for p in mine:
                if p.array.flags.writeable:
                    p.array[...] = p.copied()
                elif p.copied().tobytes() != p.array.tobytes():
                    raise KernelFault(
                        f"{self.kernel}: stored into {p.name!r}, which is read-only. Store into outputs only."
                    )
