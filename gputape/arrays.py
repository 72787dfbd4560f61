"""Arrays: what of the caller's is one, its shape and dtype, and the memory of each device.

NumPy's arrays are known by name here. A device brings its own class of arrays by `add_memory` when it is opened, so
that importing gputape imports no device's library.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from .aval import Aval
from .errors import BackendError, DTypeError

NP_DTYPE = {
    name: np.dtype(name)
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
} | {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
DTYPE_NAME = {dtype: name for name, dtype in NP_DTYPE.items()}
NARROW = ("float16", "bfloat16")
BUFFER = 1024  # elements that NumPy's ufuncs buffer; with fewer, short rows and casts take longer
ALIGNMENT = 64  # bytes; a cache line, and the widest vector register


class Padded(np.ndarray):
    """Bytes in which an array can begin with a cache line. The array, not these, is the owner to who asks, and the
    `base` of its views."""

    start: int

    def __new__(cls, size: int) -> Padded:
        made = super().__new__(cls, (size + ALIGNMENT,), np.uint8)
        made.start = -made.__array_interface__["data"][0] % ALIGNMENT
        return made

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.ndarray(shape, dtype, self, self.start)


def is_view(array: Any) -> bool:
    """Whether another array is the owner of this one's bytes."""
    return array.base is not None and type(array.base) is not Padded


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """As numpy.empty, from the begin of a cache line on.

    NumPy's own large arrays begin 16 bytes after one. Each AVX-512 load then takes two lines: on Intel's processors a
    matrix product needs half as much time again.
    """
    return Padded(math.prod(shape) * dtype.itemsize).array(shape, dtype)


class Quiet(threading.local):
    """Calls functions with NumPy's floating-point warnings off (ops follow IEEE 754: 1/0 is inf, 0/0 is NaN), and with
    small buffers.

    Where operands broadcast, a ufunc copies them into buffers first, unless its runs are as long as these. With NumPy's
    8192 elements it takes twice the time of the arithmetic to add a row to a matrix.

    Attributes:
        run: `run(f, *args)`, in a context that has these settings; entering it costs a tenth of `np.errstate`. It
            cannot be entered twice.
    """

    def __init__(self) -> None:
        context = Context()
        context.run(np.seterr, all="ignore")
        context.run(np.setbufsize, BUFFER)
        self.run = context.run


QUIET = Quiet()


class Memory(Protocol):
    """Where the arrays of a backend live.

    Attributes:
        kind: the class of its arrays.
        sole: whether all arrays of that class are in it.
        fault: an array of shape () that is not 0 once a kernel met an index out of range; None where that raises at
            once.
        device: a context in which what is asked of an array itself (a copy, a write) is done where the array is.
    """

    kind: type
    sole: bool
    fault: Any
    device: AbstractContextManager[Any]

    def array(self, value: Any, dtype: str | None = None, copy: bool = False) -> Any:
        """`value` (an array of any kind, or numbers) as an array in this memory; itself if it is one, unless `copy`
        asks for one of its own, in C order."""

    def write(self, target: Any, value: Any) -> None:
        """Overwrite `target`, cast to its dtype."""

    def host(self, array: Any) -> np.ndarray:
        """The contents as a NumPy array: the array itself where that is one, else a copy.

        Raises:
            IndexRangeError: a kernel met an index out of range since the last time.
        """

    def owner(self, array: Any) -> Any:
        """What holds the array's bytes: one object for all arrays that share memory; it has `nbytes` or `size`."""

    def address(self, array: Any) -> int:
        """Of the array's element 0."""

    def view(self, array: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        """An array over the memory of `array`; `offset` and `strides` count elements from its element 0."""

    def synchronize(self) -> None:
        """Wait for all launches; raises as `host` does."""


class Host:
    """The memory of the CPU: NumPy's arrays."""

    kind: type = np.ndarray
    sole = True
    fault = None
    device: AbstractContextManager[Any] = nullcontext()

    def array(self, value: Any, dtype: str | None = None, copy: bool = False) -> np.ndarray:
        array = as_array(value, dtype)
        if not isinstance(array, np.ndarray):
            raise BackendError(
                f"array: a {type(array).__module__}.{type(array).__name__} of shape {array.shape} is on a GPU, and "
                'this is computed on the CPU. Use gt.device("cuda"), or pass gt.asnumpy(array).'
            )
        if not copy:
            return array
        made = aligned_empty(array.shape, array.dtype)
        made[...] = array
        return made

    def write(self, target: np.ndarray, value: Any) -> None:
        if type(value) is np.ndarray and value.dtype is target.dtype:  # nothing to convert or to warn of
            target[...] = value
        else:
            QUIET.run(np.copyto, target, self.array(value), "unsafe")

    def host(self, array: np.ndarray) -> np.ndarray:
        return array

    def owner(self, array: np.ndarray) -> np.ndarray:
        while is_view(array) and isinstance(array.base, np.ndarray):
            array = array.base
        return array

    def address(self, array: np.ndarray) -> int:
        return array.__array_interface__["data"][0]

    def view(self, array: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
        window = _Window(array, offset, shape, strides)
        return np.empty(shape, array.dtype) if 0 in shape else np.asarray(window).view(array.dtype)

    def synchronize(self) -> None:
        """Nothing: NumPy has finished when it returns."""


class _Window:
    """Memory of `owner` seen with other strides; `numpy.asarray` of it keeps the owner alive."""

    def __init__(self, owner: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.owner, item = owner, owner.itemsize
        address, read_only = owner.__array_interface__["data"]
        self.__array_interface__ = {
            "version": 3,
            "typestr": f"<u{item}",
            "data": (address + offset * item, read_only),
            "shape": tuple(shape),
            "strides": tuple(s * item for s in strides),
        }


HOST = Host()
_memories: dict[type, Callable[[Any], Memory]] = {np.ndarray: lambda array: HOST}


def add_memory(kind: type, of: Callable[[Any], Memory]) -> None:
    """Make arrays of class `kind` known: `of(array)` is the memory that one of them is in."""
    _memories[kind] = of


def memory_of(array: Any) -> Memory:
    """The memory that an array is in."""
    return _memories[type(array)](array)


def owner_of(array: Any) -> Any:
    """What holds the array's bytes; see `Memory.owner`."""
    return _memories[type(array)](array).owner(array)


def overlap(a: Any, b: Any) -> bool:
    """Whether two arrays of one owner reach over common bytes."""
    (a_low, a_high), (b_low, b_high) = _reach(a), _reach(b)
    return a_low < b_high and b_low < a_high


def _reach(array: Any) -> tuple[int, int]:
    """The addresses of the first byte of an array and of that after its last."""
    at = memory_of(array).address(array)
    ends = [(n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)] if array.size else []
    return at + sum(e for e in ends if e < 0), at + sum(e for e in ends if e > 0) + (
        array.itemsize if array.size else 0
    )


def asnumpy(value: Any) -> np.ndarray:
    """A NumPy array of any value: of an array or `Var` on a GPU a copy, which waits for the device. As cupy.asnumpy.

    Raises:
        IndexRangeError: a kernel met an index out of range; its result, and all that came of it, is NaN.
        DTypeError: the value is not numeric.
    """
    array = as_array(value.value if hasattr(value, "aval") else value)
    return memory_of(array).host(array)


_avals: dict[tuple[tuple[int, ...], Any], Aval] = {}


def aval_of(array: Any) -> Aval:
    """Shape and dtype of an array; `DTypeError` for an element type gputape does not have."""
    key = (array.shape, array.dtype)
    found = _avals.get(key)
    if found is None:
        name = DTYPE_NAME.get(array.dtype)
        if name is None:
            remedy = f"Convert to one of {', '.join(NP_DTYPE)}"
            if array.dtype.newbyteorder("=") in DTYPE_NAME:
                remedy = "Convert to this machine's byte order: array.astype(array.dtype.newbyteorder('='))"
            raise DTypeError(f"array: elements of type {array.dtype} are not supported. {remedy}.")
        if len(_avals) >= 16384:
            _avals.clear()
        found = _avals[key] = Aval(array.shape, name)
    return found


def is_array(x: Any) -> bool:
    """Whether it is an array or a `Var`, and no plain number (NumPy's scalars are numbers)."""
    return hasattr(x, "shape") and not isinstance(x, np.generic)


def as_array(value: Any, dtype: str | None = None) -> Any:
    """An array of `value`: arrays (NumPy's, a device's, DLPack) as they are, Python floats as float32, integers as
    int64.

    Raises:
        DTypeError: the value is not numeric.
    """
    if type(value) in _memories:
        array = value
    elif isinstance(value, np.ndarray | np.generic):
        if isinstance(value, np.ma.MaskedArray) and value.mask is not np.ma.nomask:
            raise DTypeError(
                f"array: a masked array of shape {value.shape}; its mask would be lost. Fill it, with value.filled(0)."
            )
        array = np.asarray(value)
    elif isinstance(value, bool | int | float):
        if isinstance(value, float) and dtype == "float64":
            return np.array(value)  # not rounded to float32 on the way
        array = _from_number(value)
    elif hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        array = np.from_dlpack(value)
    else:
        array = _from_sequence(value, dtype == "float64")
    if array.dtype not in DTYPE_NAME:
        aval_of(array)  # raises with the list of dtypes
    if dtype is not None and array.dtype != NP_DTYPE[dtype]:
        array = QUIET.run(array.astype, NP_DTYPE[dtype])
    return array


def _from_number(value: bool | int | float) -> np.ndarray:
    kind = "bool" if isinstance(value, bool) else "float32" if isinstance(value, float) else "int64"
    try:
        return QUIET.run(np.array, value, NP_DTYPE[kind])
    except OverflowError:
        raise DTypeError(
            f"array: the integer {value} does not fit int64. Pass a float, or a smaller integer."
        ) from None


def _from_sequence(value: Any, exact: bool = False) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as e:
        if isinstance(value, list | tuple):
            raise DTypeError(f"array: {value!r:.80} is not rectangular ({e}). Pass rows of equal length.") from e
        raise DTypeError(f"array: a {type(value).__name__} cannot be read ({e}). Pass a NumPy array.") from e
    if array.dtype == object or array.dtype.kind not in "biufV":
        raise DTypeError(f"array: {type(value).__name__} {value!r:.80} is not numeric. Pass an array or numbers.")
    if not exact and array.dtype == np.float64 and isinstance(value, list | tuple) and not _holds_float64(value):
        array = array.astype(np.float32)  # Python floats, as torch.tensor does
    return array


def _holds_float64(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_float64, value))
    return isinstance(value, np.ndarray | np.generic) and value.dtype == np.float64
