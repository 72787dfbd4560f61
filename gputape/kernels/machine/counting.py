"""Launches whose cost is counted: the DRAM traffic of their loads and stores, and the FLOPs of their dots.

Traffic is counted in sectors of 32 bytes, the least that DRAM gives. Per launch and array:

- A program counts each sector once, however often it touches it, as long as all its sectors fit in `L1`, its share of
  the cache of a multiprocessor; beyond that each load and store instruction counts its own.
- A sector that several programs touch counts once if the array fits in `L2`, else once for each of them. (The sum over
  the programs is bounded by the sectors of the array: no more than those can be distinct.)
- What one launch leaves in a cache is not there for the next.

FLOPs are 2·M·N·K of each `tl.dot`, lanes beyond the edge included: the hardware multiplies them too.

Of a large grid only some programs run: the first, the last and one in the middle, which stand for all if they cost the
same. Else up to `WHOLE` programs all run, and of more `SAMPLE` others, each as far from the one before, so that every
kind of a pattern that repeats itself through the grid is met in its share. What is not run leaves zeros. A launch of up
to `WHOLE` programs whose result is of int64 runs whole: that may be an order, which later launches go by.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import launch
from .._ranges import Ranges
from ..runtime import Emulated, Runtime
from . import host_build, interpreter
from .accesses import MIDDLE, SPACE
from .memory import Pointer

SHIFT = 5
SECTOR = 1 << SHIFT
L1 = 16 << 10  # bytes: 128 to 256 KB on a multiprocessor, shared by the 8 or more programs that run on it
L2 = 4 << 20  # bytes: no more on the smallest supported GPUs; 40 to 120 MB on the largest
SAMPLE, WHOLE = 12, 128  # programs
GOLDEN = (5**0.5 - 1) / 2  # steps of that share of a grid come nowhere near to where they began


def sectors(nbytes: int) -> int:
    """The sectors of an array that begins at one."""
    return -(-nbytes // SECTOR)


@dataclass(frozen=True)
class Cost:
    """What one launch moves, and what its dots compute."""

    kernel: str
    programs: int
    bytes: int
    flops: int = 0


@dataclass(eq=False)
class CountingStream:
    """Collects the costs of launches, in order."""

    machine: str = "counting"
    costs: list[Cost] = field(default_factory=list)


class Counting(Emulated):
    """The runtime of a count: fresh memory is zero, which costs nothing until it is touched."""

    def __init__(self) -> None:
        self.stream: Any = CountingStream()
        self.ranges, self.fault = Ranges(), self.empty((), np.int64)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        raw = np.zeros(size + 256, np.uint8)
        skip = -raw.ctypes.data % 256  # as CUDA's allocations begin
        return raw[skip : skip + size].view(dtype).reshape(shape)

    check_range = Runtime.check_range


def run(kernel: launch.Kernel, grid: tuple[int, ...], args: Sequence[Any], stream: Any) -> None:
    """Run a sample of the programs and note what the launch costs."""
    size = interpreter.size_of(grid)
    n, traffic = math.prod(size), Traffic(args)

    def costs(chosen: Iterable[int]) -> list[np.ndarray]:
        programs = [tuple(int(i) for i in np.unravel_index(k, size, "F")) for k in chosen]
        if kernel.route == "triton":
            interpreter.interpret(kernel, grid, interpreter.arguments(kernel, args), programs, traffic)
        else:
            for program in programs:
                traffic.enter(program, size)
                block = int(np.ravel_multi_index(program, size, order="F"))
                for store, addresses in enumerate(host_build.touched(kernel, grid, args, block)):
                    traffic.touch(traffic.owned(addresses), store)
        return traffic.taken()

    if n <= (WHOLE if args[0].dtype == np.int64 else SAMPLE):
        total = np.sum(costs(range(n)), axis=0)
    else:
        first, middle, last = costs((0, n // 2, n - 1))
        if (first == middle).all() and (middle == last).all():
            total = n * first
        elif n <= WHOLE:
            total = first + middle + last + np.sum(costs({*range(1, n - 1)} - {n // 2}), axis=0)
        else:
            step = next(s for s in range(int(n * GOLDEN), n) if math.gcd(s, n) == 1)
            inner = [k * step % n for k in range(1, SAMPLE + 2) if k * step % n != n - 1][:SAMPLE]
            total = first + last + (n - 2) * np.sum(costs(inner), axis=0) // SAMPLE
    *counts, flops = total.tolist()
    stream.costs.append(Cost(str(kernel), n, traffic.bytes(counts), flops))


@dataclass
class Program:
    """What one program computed and touched: arrays of sectors, one for each instruction that loads and that stores."""

    touched: tuple[list[np.ndarray], list[np.ndarray]] = field(default_factory=lambda: ([], []))
    flops: int = 0


class Traffic:
    """What the programs of one launch touch; stands where `Accesses` does, and checks nothing."""

    def __init__(self, args: Sequence[Any]) -> None:
        self.pointers = [Pointer("", a) for a in args if isinstance(a, np.ndarray)]
        self.memory = [_flat(p) for p in self.pointers]
        self.programs: list[Program] = []

    def taken(self) -> list[np.ndarray]:
        """Of each program since the last call: sectors loaded from each array, those stored to each, and FLOPs."""
        found, self.programs = [self._counts(p) for p in self.programs], []
        return found

    def _counts(self, program: Program) -> np.ndarray:
        requested = [np.concatenate([np.empty(0, np.uint64), *t]) for t in program.touched]
        distinct = [np.unique(t) for t in requested]
        within = sum(map(len, distinct)) * SECTOR <= L1
        owners = [(t >> np.uint64(SPACE - SHIFT)).astype(np.int64) for t in (distinct if within else requested)]
        return np.concatenate([*(np.bincount(t, minlength=len(self.pointers)) for t in owners), [program.flops]])

    def bytes(self, counts: Sequence[int]) -> int:
        """DRAM traffic of the launch, given the sectors loaded from each array and those stored to each."""
        moved = 0
        for p, n in zip(self.pointers * 2, counts, strict=True):
            moved += min(n, _own_sectors(p)) if sectors(p.high - p.low) * SECTOR <= L2 else n
        return moved * SECTOR

    # --- what the interpreter tells

    def enter(self, program: tuple[int, ...], grid: tuple[int, ...]) -> None:
        self.programs.append(Program())

    def barrier(self) -> None:
        pass

    def dot(self, flops: int) -> bool:
        self.programs[-1].flops += flops
        return False

    def virtual(self, array: np.ndarray) -> int:
        index = next(k for k, p in enumerate(self.pointers) if p.array is array)
        return (index << SPACE) + MIDDLE + self.pointers[index].address % SECTOR

    def load(self, addresses: np.ndarray, dtype: np.dtype) -> np.ndarray:
        out = np.empty(addresses.shape, dtype)
        for k, where in self.touch(addresses, 0):
            out[where] = self.memory[k].view(dtype)[self._elements(k, addresses[where], dtype.itemsize)]
        return out

    def store(self, addresses: np.ndarray, values: np.ndarray) -> None:
        for k, where in self.touch(addresses, 1):
            elements = self._elements(k, addresses[where], values.itemsize)
            self.memory[k].view(values.dtype)[elements] = values[where]

    def atomic(self, addresses: np.ndarray, values: np.ndarray, combine: Any) -> np.ndarray:
        old = self.load(addresses, values.dtype)
        self.store(addresses, combine(old, values))
        return old

    def touch(self, addresses: np.ndarray, store: int) -> list[tuple[int, Any]]:
        """Note the sectors of one instruction; (array, which of the addresses are its own)."""
        if not addresses.size:
            return []
        found = np.unique(addresses >> np.uint64(SHIFT))
        self.programs[-1].touched[store].append(found)
        owners = np.unique(found >> np.uint64(SPACE - SHIFT))
        if len(owners) == 1:
            return [(int(owners[0]), slice(None))]
        return [(int(k), addresses >> np.uint64(SPACE) == k) for k in owners]

    def owned(self, real: np.ndarray) -> np.ndarray:
        """Real addresses as those that `virtual` begins."""
        out = np.empty(real.shape, np.uint64)
        for p in self.pointers:
            offset = real - p.address
            mine = (offset >= p.low) & (offset < p.high)
            out[mine] = (offset[mine] + self.virtual(p.array)).astype(np.uint64)
        return out

    def _elements(self, k: int, addresses: np.ndarray, itemsize: int) -> np.ndarray:
        p = self.pointers[k]
        offset = (addresses - np.uint64(self.virtual(p.array))).view(np.int64) - p.low
        return offset // itemsize


def _own_sectors(p: Pointer) -> int:
    """How many sectors the elements of an array lie in: of a strided one, fewer than from its first to its last."""
    x = p.array
    if x.flags.c_contiguous:
        return sectors(p.high - p.low)
    at = np.zeros((), np.int64)
    for n, s in zip(x.shape, x.strides, strict=True):
        at = at[..., None] + (np.arange(n) * s if s else np.zeros(1, np.int64))
    return len(np.unique((at + p.address % SECTOR) >> SHIFT))


def _flat(p: Pointer) -> np.ndarray:
    """The memory between the first and the last element of an array."""
    item = p.array.itemsize
    size = (p.high - p.low) // item
    return Emulated.view(p.array, p.low // item, (size,), (1,))
