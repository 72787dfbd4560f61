"""Values that look like arrays: `Var`, on a recording, and `Cell`, a place for an array that outlives tapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend as _backend
from .arrays import Memory, asnumpy, memory_of
from .aval import INTS, Aval, axis
from .errors import BackendError, CompileError, DTypeError, ShapeError, UnsupportedError
from .node import Node, check_cell, read_only, source_line

if TYPE_CHECKING:
    from .recording import Recording

ACTIVE: ContextVar[Recording | None] = ContextVar("gputape_recording", default=None)


def refuse_while_compiling(what: str, remedy: str) -> None:
    """Raise `CompileError` if `gt.compile` records: `what` happens on the host, and no replay would do it again."""
    rec = ACTIVE.get()
    if rec is not None and rec.tracing:
        raise CompileError(
            f"{what} while {rec.name} is recorded, at {source_line()}; a replay would not repeat that. {remedy}"
        )


class Size(int):
    """The number of elements, NumPy's `x.size`. Called, it is PyTorch's `x.size()`: the shape, or one size of it."""

    shape: tuple[int, ...]

    def __new__(cls, aval: Aval) -> Size:
        made = super().__new__(cls, aval.size)
        made.shape = aval.shape
        return made

    def __call__(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[axis("size", dim, len(self.shape))]


class Operators:
    """Python's operators, and every op as a method: what `Var` and `Cell` share. Both come from the cards."""

    __slots__ = ()
    __array_priority__ = 1000  # NumPy leaves `array + var` to us
    __array_ufunc__ = None

    if TYPE_CHECKING:

        @property
        def aval(self) -> Aval: ...
        @property
        def value(self) -> Any: ...
        def __getattr__(self, name: str) -> Any: ...

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype:
        return _backend.NP_DTYPE[self.aval.dtype]

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> Size:
        return Size(self.aval)

    @property
    def T(self) -> Any:
        """The array with its axes reversed."""
        return self.permute(tuple(range(self.ndim))[::-1])

    def view(self, *shape: Any) -> Any:
        """The same elements under another shape; as `reshape`, it copies where strides cannot express that."""
        return self.reshape(*shape)

    @property
    def mT(self) -> Any:
        """The matrices in the last two axes, transposed."""
        return self.transpose(-2, -1)

    def dim(self) -> int:
        """The number of axes."""
        return self.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self.size

    def clone(self) -> Any:
        """The same values in memory of their own."""
        return self.copy()

    def where(self, condition: Any, other: Any) -> Any:
        """Itself where condition holds, else other."""
        from .dispatch import call

        return call("where", condition, self, other)

    def unfold(self, dimension: int, size: int, step: int) -> Any:
        """The windows of `size` elements along `dimension`, `step` apart, their elements along a new last axis. (The
        columns of an image's windows are `gt.unfold`.)"""
        from .indexing import windows

        return windows(self, dimension, size, step)

    def __pos__(self) -> Any:
        return self

    def contiguous(self) -> Any:
        """Itself: how values lie in memory is not part of them here."""
        return self

    def to(self, dtype: Any) -> Any:
        """The same values in another dtype; itself if it has that. (Models move between devices, values do not.)"""
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
        return self if name == self.aval.dtype else self.cast(name)

    def type_as(self, other: Any) -> Any:
        return self.to(other.dtype)

    def expand_as(self, other: Any) -> Any:
        return self.expand(tuple(other.shape))

    def view_as(self, other: Any) -> Any:
        return self.reshape(tuple(other.shape))

    def reshape_as(self, other: Any) -> Any:
        return self.reshape(tuple(other.shape))

    def tolist(self) -> Any:
        """The values as a Python number, or as nested lists of them."""
        return asnumpy(self).tolist()

    def item(self) -> float | int | bool:
        """The value of a one-element array as a Python number."""
        return asnumpy(self).item()

    def numpy(self) -> np.ndarray:
        """The value as a NumPy array of its own."""
        return np.array(asnumpy(self))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(asnumpy(self), dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        value = self.value
        return memory_of(value).array(value, copy=True).__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.value.__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.value.__cuda_array_interface__  # of an array on the CPU: AttributeError, as the protocol wants it

    def __float__(self) -> float:
        return float(asnumpy(self))

    def __int__(self) -> int:
        return int(asnumpy(self))

    def __index__(self) -> int:
        if self.aval.size != 1 or self.aval.dtype not in INTS:
            raise DTypeError(f"index: {self.aval} is no index. Only one integer is.")
        return int(asnumpy(self).item())

    def __round__(self, ndigits: int = 0) -> Any:
        return self.round(decimals=ndigits)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and not self.aval.shape else object.__format__(self, spec)

    def __bool__(self) -> bool:
        return bool(asnumpy(self))

    def __len__(self) -> int:
        if not self.aval.shape:
            raise ShapeError("len: a scalar has no length. Use .item() for its value.")
        return self.aval.shape[0]

    def backward(self, *args: Any, **options: Any) -> None:
        raise UnsupportedError(
            "backward: gradients are not kept on values. Call tape.backward(loss), with the tape of the gt.record() "
            "that made it; it returns {parameter: gradient}."
        )

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    __hash__ = object.__hash__

    def __getitem__(self, index: Any) -> Any:
        from .indexing import getitem

        return getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise UnsupportedError(
            "x[…] = value: values on a tape never change. Make a new one, with gt.where, gt.masked_fill, gt.scatter or "
            "gt.index_copy; a parameter or buffer takes a whole array by assign."
        )


def _cast_to(dtype: str) -> Any:
    def method(self: Operators) -> Any:
        return self.to(dtype)

    method.__doc__ = f"The same values in {dtype}."
    return method


for _name, _dtype in (
    *(("float", "float32"), ("double", "float64"), ("half", "float16"), ("bfloat16", "bfloat16")),
    *(("long", "int64"), ("int", "int32"), ("bool", "bool")),
):
    setattr(Operators, _name, _cast_to(_dtype))


class Var(Operators):
    """A value on a recording. Behaves like an array; ops on it are recorded."""

    __slots__ = ("rec", "node", "id", "_value", "__weakref__")

    def __init__(self, rec: Recording, node: Node, id: int, value: Any) -> None:
        self.rec, self.node, self.id, self._value = rec, node, id, value

    @property
    def aval(self) -> Aval:
        return self.node.at.out

    @property
    def value(self) -> Any:
        """The array, read-only. `TapeError` if it is the memory of a parameter that has been updated since."""
        self.rec.reading(self)
        check_cell("value", self.node)
        return read_only(self._value)

    @property
    def requires_grad(self) -> bool:
        return self.node.requires_grad

    def __repr__(self) -> str:
        if self.rec.tracing:
            return f"Var(%{self.id} = {self.node.op}: {self.aval})"
        return f"Var(%{self.id} = {self.node.op}, {self.value!r})"


class Cell(Operators):
    """A place for an array that outlives tapes: a parameter, a buffer, an optimizer's state.

    Args:
        memory: where the array is to live; default: on the device that ops run on now.

    Attributes:
        array: its memory, at one address for life; write through `assign` only.
        version: counts the writes.
        requires_grad: whether recordings take gradients to it.
        name: its path in the model, for messages.
        pinned: whether an optimizer holds it, so that it stays where it is.
        hooks: what `register_hook` holds, or None.
        whole, start: the cell of whose vector this one's array is a part, and where it begins there; else None.
        parts: the cells that are parts of this one.
    """

    __slots__ = (
        *("array", "version", "requires_grad", "name", "pinned", "hooks"),
        *("whole", "start", "parts", "__weakref__"),
    )

    def __init__(
        self, value: Any, requires_grad: bool = False, name: str | None = None, memory: Memory | None = None
    ) -> None:
        self.array = (memory or _backend.current().memory).array(unwrap(value), copy=True)
        self.version, self.requires_grad, self.name = 0, requires_grad, name
        self.hooks: Any = None
        self._alone()

    def _alone(self) -> None:
        self.pinned, self.start = False, 0
        self.whole: Cell | None = None
        self.parts: tuple[Cell, ...] = ()

    @property
    def aval(self) -> Aval:
        return _backend.aval_of(self.array)

    @property
    def value(self) -> Any:
        """The array, read-only. `CompileError` while `gt.compile` records: a replay would not read it again."""
        rec = ACTIVE.get()
        if rec is not None and rec.tracing:
            rec.reading(self)
        return read_only(self.array)

    def assign(self, value: Any) -> None:
        """Overwrite the contents with a value of the same shape (cast to the cell's dtype).

        Raises:
            ShapeError: the shapes differ.
        """
        rec = ACTIVE.get()
        if rec is not None and rec.tracing:
            rec.assign(self, value)
            return
        array = _backend.as_array(unwrap(value))
        if array.shape != self.array.shape:
            raise ShapeError(
                f"assign: {self.name or 'the cell'} has shape {self.array.shape}, the value {array.shape}. "
                "Shapes must match."
            )
        memory_of(self.array).write(self.array, array)
        self.written()

    def written(self) -> None:
        """Count a write, here and in every cell that shares the memory."""
        self.version += 1
        for other in self.parts if self.whole is None else (self.whole,):
            other.version += 1

    def __getstate__(self) -> dict[str, Any]:
        """A copy is a cell of its own, whatever vector this one is a part of."""
        slots = [name for kind in type(self).__mro__ for name in getattr(kind, "__slots__", ())]
        shared = ("pinned", "whole", "start", "parts", "__weakref__")
        state = {name: getattr(self, name) for name in slots if name not in shared}
        return state | {"array": memory_of(self.array).array(self.array, copy=True)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._alone()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name or ''}{', ' if self.name else ''}{self.aval})"


def check_place(cell: Cell, backend: _backend.Backend) -> None:
    """Raise `BackendError` unless the cell lives where `backend` computes."""
    if memory_of(cell.array) is not backend.memory:
        raise BackendError(
            f"{cell.name or 'a parameter or buffer'} of {cell.aval} lives in the memory of another device than "
            f"{backend.name!r}, where it is used. Build the model under the same gt.device, or move it there with "
            "model.to(device)."
        )


def unwrap(value: Any) -> Any:
    """The array of a `Var` or `Cell`; anything else as it is."""
    if type(value) is Var:
        value.rec.reading(value)
        check_cell("value", value.node)
        return value._value
    return value.array if isinstance(value, Cell) else value
