"""What host functions compute with: memory and a stream, on a GPU (`Cuda`) or on NumPy arrays (`Emulated`)."""

from __future__ import annotations

import contextlib
import itertools
import threading
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..arrays import DTYPE_NAME, HOST, NP_DTYPE, add_memory, as_array, aval_of
from ..errors import BackendError, IndexRangeError
from ._copy import copy_into
from ._ranges import Look, Ranges
from .machine import assembler


@dataclass(eq=False)
class EmulatedStream:
    """Runs launches at once. Each draws a new seed for the order of its programs and threads."""

    seed: int = 0
    machine: str = "emulated"
    _count: itertools.count = field(default_factory=itertools.count)

    def next_seed(self) -> int:
        return (self.seed << 20) + next(self._count)


class Runtime:
    """What host functions ask of every runtime.

    Attributes:
        stream: where launches go, and who runs them.
        ranges: the places that look at indices.
        fault: () int64, the lowest number that they have noted; 0 for none.
        line: the user's line whose op runs, where that is not the line that runs now; else "".
    """

    stream: Any
    ranges: Ranges
    fault: Any
    line = ""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Fresh memory, for what a kernel writes."""
        raise NotImplementedError

    def address(self, array: Any) -> int:
        """Of the array's element 0."""
        return array.data.ptr

    def packed(self, x: Any, wide: bool = False) -> Any:
        """`x` itself if it is C-contiguous (if `wide`, at a multiple of 16 bytes, too), else a copy, which is."""
        if x.flags.c_contiguous and not (wide and self.address(x) % 16):
            return x
        y = self.empty(x.shape, x.dtype)
        copy_into(self, y, x)
        return y

    def check_range(
        self, op: str, index: Any, size: int, low: int = 0, ignore: int | None = None, look: Look | None = None
    ) -> None:
        """Have the device note an index outside [low, size) that is not `ignore`, by a kernel of its own or by that
        which `look(fault, number)` launches."""
        self.ranges.check(self, self.fault, op, index, size, low, ignore, look)


class Emulated(Runtime):
    """The runtime of `emulated`: NumPy arrays whose fresh memory is NaN (integers: their maximum, bools: True)."""

    def __init__(self) -> None:
        self.stream, self.ranges = EmulatedStream(), Ranges()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return self.renewed(np.empty(shape, dtype))

    def renewed(self, y: np.ndarray) -> np.ndarray:
        """The array, filled like fresh memory."""
        kind = y.dtype.kind
        y[...] = np.iinfo(y.dtype).max if kind in "iu" else True if kind == "b" else np.nan
        return y

    address = staticmethod(HOST.address)

    def packed(self, x: np.ndarray, wide: bool = False) -> np.ndarray:
        return super().packed(x if x.flags.aligned else np.array(x, order="C"), wide)

    def expanded(self, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """`x` broadcast to `shape`, without a copy."""
        return np.broadcast_to(x, shape)

    view = staticmethod(HOST.view)

    def check_range(
        self, op: str, index: np.ndarray, size: int, low: int = 0, ignore: int | None = None, look: Look | None = None
    ) -> None:
        """Raise `IndexRangeError` naming the first index outside [low, size) that is not `ignore`."""
        fault = np.zeros((), np.int64)
        self.ranges.check(self, fault, op, index, size, low, ignore, look)
        outside = ((index < low) | (index >= size)) & (index != (low if ignore is None else ignore))
        assert outside.any() == (fault != 0), "check_range: the kernel sees it otherwise"
        if outside.any():
            where = tuple(int(k) for k in np.unravel_index(outside.argmax(), index.shape))
            raise IndexRangeError(
                f"{op}: index {index[where]} at {where} of the indices {index.shape} is out of range for size {size}. "
                + (f"Use {low} to {size - 1}." if size else "There is nothing to index.")
            )


DLPACK_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged


@dataclass(eq=False)
class CudaStream:
    """CuPy's current stream on one device, and the functions loaded there.

    Attributes:
        device: a context in which its device is CuPy's current one. It loads and launches on no other.
    """

    arch: int
    device: Any = field(default_factory=contextlib.nullcontext)
    machine: str = "cuda"
    functions: dict[Any, Any] = field(default_factory=dict)


class Cuda(Runtime):
    """The runtime of one NVIDIA device: CuPy's memory, and its current stream. One object per device.

    Attributes:
        own: the stream that runs graphs; `capturing` is held by whoever uses it.
    """

    _opened: ClassVar[dict[int, Cuda]] = {}

    def __init__(self, cupy: Any, number: int) -> None:
        self.cupy, self.device = cupy, cupy.cuda.Device(number)
        self.kind: type = cupy.ndarray
        self.sole = cupy.cuda.runtime.getDeviceCount() == 1
        here = contextlib.nullcontext() if self.sole else self.device  # where there is no choice, none at each launch
        self.stream = CudaStream(int(self.device.compute_capability), here)
        self.ranges = Ranges()
        with self.device:
            self.fault = cupy.full((), 0, np.int64)
            self.own, self.capturing = cupy.cuda.Stream(non_blocking=True), threading.RLock()

    @classmethod
    def open(cls, name: str) -> Cuda:
        """The device "cuda" or "cuda:<n>".

        Raises:
            BackendError: CuPy, the driver or the device is missing, or the device is older than 8.0.
        """
        number = name.partition(":")[2] or "0"
        if not number.isdecimal():
            raise BackendError(f'device: {name!r} is not a device. Use "cuda" or "cuda:1".')
        try:
            import cupy

            count = cupy.cuda.runtime.getDeviceCount()
        except Exception as e:  # CuPy raises its own classes, and the loader's, for a missing driver
            raise BackendError(
                f"device: {name!r} cannot be used ({type(e).__name__}: {e}). "
                "Install an NVIDIA driver and gputape[gpu] or, for CUDA 13, gputape[gpu-cuda13], not both; or use "
                'gt.device("cpu").'
            ) from e
        if int(number) >= count:
            raise BackendError(
                f'device: {name!r} is not there ({count} NVIDIA devices). Use "cuda:0" to "cuda:{count - 1}".'
            )
        if int(number) in cls._opened:
            return cls._opened[int(number)]
        made = cls(cupy, int(number))
        if made.stream.arch < 80:
            raise BackendError(
                f'device: {name!r} has compute capability {made.stream.arch / 10}; 8.0 is needed. Use gt.device("cpu").'
            )
        assembler.suit(cupy.cuda.runtime.driverGetVersion())
        add_memory(cupy.ndarray, cls._of)
        cls._opened[int(number)] = made
        return made

    @classmethod
    def _of(cls, array: Any) -> Cuda:
        """The device that an array is on; opened if it is not yet."""
        number = array.device.id
        return cls._opened.get(number) or cls.open(f"cuda:{number}")

    # --- memory

    def array(self, value: Any, dtype: str | None = None, copy: bool = False) -> Any:
        """An array on this device; see `Memory`. Arrays of other libraries that are on it already are not copied."""
        cupy = self.cupy
        with self.device:
            if isinstance(value, self.kind):
                array: Any = value
            elif hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] in DLPACK_CUDA:
                array = cupy.from_dlpack(value)  # first, as the other protocol has no bfloat16
            elif hasattr(value, "__cuda_array_interface__"):
                array = cupy.asarray(value)
            else:
                array = cupy.array(as_array(value, dtype), order="C")
                copy = False
            if array.device.id != self.device.id:
                array = cupy.asarray(array)  # copied from the other device
            if array.dtype not in DTYPE_NAME:
                aval_of(array)  # raises with the list of dtypes
            if dtype is not None and array.dtype != NP_DTYPE[dtype]:
                return array.astype(NP_DTYPE[dtype], order="C")
            return array.copy() if copy else array

    def write(self, target: Any, value: Any) -> None:
        with self.device:
            target[...] = self.array(value)

    def host(self, array: Any) -> np.ndarray:
        with self.device:
            found = array.get()
        self._raise_fault()
        return found

    def owner(self, array: Any) -> Any:
        return array.data.mem

    def synchronize(self) -> None:
        self.device.synchronize()
        self._raise_fault()

    def _raise_fault(self) -> None:
        """Raise what a kernel has noted since the last time."""
        with self.device:
            number = int(self.fault.get())
            if number:
                self.fault.fill(0)
                raise self.ranges.error(number)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        with self.device:
            return self.cupy.empty(shape, dtype)

    def expanded(self, x: Any, shape: tuple[int, ...]) -> Any:
        return self.cupy.broadcast_to(x, shape)

    def view(self, x: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        pointer = x.data + offset * x.itemsize
        return self.cupy.ndarray(shape, x.dtype, pointer, tuple(s * x.itemsize for s in strides))
