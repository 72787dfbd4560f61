"""Every load and store of an emulated Triton launch: bounds, and one writer per element."""

from __future__ import annotations

from typing import Any

import numpy as np

from .memory import GUARD, KernelFault, Memory, Pointer

NOBODY, SEVERAL = -1, -2
SPACE = 44  # each argument has 2^44 bytes of addresses of its own, so that a wrong offset cannot reach another one
MIDDLE = 1 << (SPACE - 1)


class Accesses:
    """Loads and stores of one launch, and who touched which element.

    Per element: the program that stored it, the barrier epoch it did so in, and the program that loaded it.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory, self.kernel = memory, memory.kernel
        for region in memory.regions:
            region.state = tuple(np.full(region.units, NOBODY, np.int32) for _ in range(3))
        self.program, self.epoch = 0, 0
        self.grid: tuple[int, ...] = (1, 1, 1)

    def enter(self, program: tuple[int, ...], grid: tuple[int, ...]) -> None:
        self.grid, self.epoch = grid, 0
        self.program = int(np.ravel_multi_index(program, grid))

    def barrier(self) -> None:
        self.epoch += 1

    def dot(self, flops: int) -> bool:
        """Whether a matrix product is to be computed."""
        return True

    def virtual(self, array: np.ndarray) -> int:
        index = next(k for k, p in enumerate(self.memory.pointers) if p.array is array)
        return (index << SPACE) + MIDDLE + (self.memory.pointers[index].address & 63)

    def load(self, addresses: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The elements at these addresses; the addresses may belong to several arguments."""
        out = np.empty(addresses.shape, dtype)
        for pointer, where, first in self._resolve(addresses, dtype.itemsize, "loads"):
            flat, units = self._units(pointer, first, dtype.itemsize)
            writer, stored_in, reader = pointer.region.state
            foreign = (writer[units] != NOBODY) & ((writer[units] != self.program) | (stored_in[units] == self.epoch))
            if foreign.any():
                k = foreign.argmax()
                self._clash(pointer, units[k], "loads", "stored", writer[units[k]])
            seen = reader[units]
            reader[units] = np.where((seen == NOBODY) | (seen == self.program), self.program, SEVERAL)
            out[where] = flat.view(dtype)[first // dtype.itemsize]
        return out

    def store(self, addresses: np.ndarray, values: np.ndarray) -> None:
        for pointer, where, first in self._resolve(addresses, values.itemsize, "stores"):
            flat, units = self._units(pointer, first, values.itemsize)
            writer, stored_in, reader = pointer.region.state
            taken = (writer[units] != NOBODY) & ((writer[units] != self.program) | (stored_in[units] == self.epoch))
            if taken.any():
                k = taken.argmax()
                self._clash(pointer, units[k], "stores", "stored", writer[units[k]])
            taken = (reader[units] != NOBODY) & (reader[units] != self.program)
            if taken.any():
                k = taken.argmax()
                self._clash(pointer, units[k], "stores", "loaded", reader[units[k]])
            order = np.arange(len(units), dtype=np.int32)
            writer[units] = order
            if (writer[units] != order).any():
                k = (writer[units] != order).argmax()
                self._clash(pointer, units[k], "stores", "stored", self.program)
            writer[units], stored_in[units] = self.program, self.epoch
            flat.view(values.dtype)[first // values.itemsize] = values[where]

    def atomic(self, addresses: np.ndarray, values: np.ndarray, combine: Any) -> np.ndarray:
        """Read, combine and write back one element after the other; exempt from the one-writer rule."""
        old = np.empty_like(values)
        for pointer, where, first in self._resolve(addresses, values.itemsize, "updates"):
            flat = self._units(pointer, first, values.itemsize)[0].view(values.dtype)
            index, mine = first // values.itemsize, np.arange(len(values))[where]
            for k, i in zip(mine, index, strict=True):
                old[k] = flat[i]
                flat[i] = combine(flat[i], values[k])
        return old

    def _resolve(self, addresses: np.ndarray, itemsize: int, verb: str) -> list[tuple[Pointer, Any, np.ndarray]]:
        """(argument, which of the addresses, byte offsets from the start of its region), all checked to lie inside."""
        found = []
        owners = addresses >> np.uint64(SPACE)
        for owner in np.unique(owners):
            where = owners == owner
            if owner >= len(self.memory.pointers):
                raise KernelFault(f"{self.kernel}: program {self.program} {verb} through a pointer to no argument.")
            p = self.memory.pointers[int(owner)]
            base = (int(owner) << SPACE) + MIDDLE + (p.address & 63)
            offset = (addresses[where] - np.uint64(base)).view(np.int64)
            outside = (offset < p.low) | (offset + itemsize > p.high)
            if outside.any():
                element = int(offset[outside.argmax()]) // p.array.itemsize
                raise KernelFault(
                    f"{self.kernel}: program {self._name(self.program)} {verb} element {element} of {p.name!r}, "
                    f"which has {p.bounds()}. Mask the access."
                )
            found.append((p, where, offset + p.offset))
        return found

    @staticmethod
    def _units(pointer: Pointer, first: np.ndarray, itemsize: int) -> tuple[np.ndarray, np.ndarray]:
        """The region's bytes, and the tracking cells of elements of `itemsize` bytes at byte offsets `first`."""
        region = pointer.region
        units = first // region.unit
        per_element = itemsize // region.unit
        if per_element > 1:
            units = (units[:, None] + np.arange(per_element)).reshape(-1)
        size = len(region.bytes) // itemsize * itemsize
        return region.store[GUARD : GUARD + size], units

    def _name(self, program: int) -> str:
        return str(tuple(int(i) for i in np.unravel_index(program, self.grid))) if program >= 0 else "several"

    def _clash(self, pointer: Pointer, unit: int, verb: str, before: str, other: int) -> None:
        element = (int(unit) * pointer.region.unit - pointer.offset) // pointer.array.itemsize
        who = "itself, with no barrier between" if other == self.program else f"program {self._name(int(other))}"
        raise KernelFault(
            f"{self.kernel}: program {self._name(self.program)} {verb} element {element} of {pointer.name!r}, "
            f"which was {before} by {who} in the same launch. Give each element one program, or split the launch."
        )
