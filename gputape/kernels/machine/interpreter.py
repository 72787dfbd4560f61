"""Triton kernels on NumPy arrays: Triton's interpreter, with its memory, its program order and its bfloat16 replaced.

The plain interpreter reads stray memory, gives 0 for masked lanes, runs programs in order and mistakes bfloat16 for
integers. Here every load and store goes through `Accesses`, which raises `KernelFault` where hardware would race.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np

from ...aval import INTS
from ...backend import DTYPE_NAME
from ...errors import BackendError
from .memory import GUARD, ONE_AT_A_TIME, KernelFault, Memory, Pointer
from .mode import triton as load_triton

NOBODY, SEVERAL = -1, -2
SPACE = 44  # each argument has 2^44 bytes of addresses of its own, so that a wrong offset cannot reach another one
MIDDLE = 1 << (SPACE - 1)


def run(kernel: Any, grid: tuple[int, ...], args: Sequence[Any], stream: Any) -> None:
    """Run a Triton kernel on NumPy arrays, its programs in an order shuffled by `stream`'s generator."""
    with ONE_AT_A_TIME:
        _run(kernel, grid, args, stream)


def _run(kernel: Any, grid: tuple[int, ...], args: Sequence[Any], stream: Any) -> None:
    interpreter = _interpreter()
    function = getattr(import_module(kernel.source), kernel.name)
    constants = dict(kernel.constants)
    names = [n for n in function.arg_names if n not in constants]
    if len(names) != len(args):
        raise BackendError(
            f"{kernel}: takes {len(names)} arguments ({', '.join(names)}), got {len(args)}. Fix the host side."
        )
    memory = Memory(str(kernel), names, args)
    accesses = Accesses(memory)
    handles = {n: _handle(interpreter, a, accesses) for n, a in zip(names, args, strict=True)}
    builder, size = interpreter.interpreter_builder, (*grid, 1, 1)[:3]
    programs = list(product(*map(range, size)))
    random.Random(stream.next_seed()).shuffle(programs)
    outer, builder.accesses = builder.accesses, accesses
    scope = interpreter._patch_lang(function.fn)
    try:
        body = function.rewrite()
        builder.set_grid_dim(*size)
        for program in programs:
            builder.set_grid_idx(*program)
            accesses.enter(program, size)
            body(**handles, **constants)
    except Exception as e:
        fault = _fault(e)
        if fault is None:
            raise
        raise fault from None
    finally:
        scope.restore()
        builder.accesses = outer
    memory.finish()


def _fault(error: BaseException | None) -> KernelFault | None:
    """The fault behind the errors that the interpreter wraps around it."""
    while error is not None and not isinstance(error, KernelFault):
        error = error.__cause__
    return error


# --- arguments --------------------------------------------------------------------------------------------------------

POINTEE = {"bool": "int1", "float16": "float16", "bfloat16": "bfloat16", "float32": "float32", "float64": "float64"} | {
    name: name for name in INTS
}


def _handle(interpreter: Any, arg: Any, accesses: Accesses) -> Any:
    """The interpreter's value of a run-time argument, typed as `launch` documents."""
    tl = interpreter.tl
    if isinstance(arg, np.ndarray):
        kind = tl.pointer_type(getattr(tl, POINTEE[DTYPE_NAME[arg.dtype]]))
        data = np.array([accesses.virtual(arg)], np.uint64)
    elif isinstance(arg, float):
        kind, data = tl.float32, np.array([arg], np.float32)
    else:
        wide = isinstance(arg, np.int64)
        if not wide and not -(2**31) <= arg < 2**31:
            raise BackendError(
                f"launch: {arg} does not fit in int32. Pass numpy.int64 and take it as a 64-bit argument."
            )
        kind, data = (tl.int64, np.array([arg], np.int64)) if wide else (tl.int32, np.array([arg], np.int32))
    return tl.tensor(interpreter.TensorHandle(data, kind), kind)


# --- memory -----------------------------------------------------------------------------------------------------------


class Accesses:
    """Every load and store of one launch: bounds, and who touched which element.

    Per element: the program that stored it, the barrier epoch it did so in, and the program that loaded it.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory, self.kernel = memory, memory.kernel
        for region in memory.regions:
            region.state = tuple(np.full(region.units, NOBODY, np.int32) for _ in range(3))
        self.program, self.epoch, self.grid = 0, 0, (1, 1, 1)

    def enter(self, program: tuple[int, ...], grid: tuple[int, ...]) -> None:
        self.grid, self.epoch = grid, 0
        self.program = int(np.ravel_multi_index(program, grid))

    def barrier(self) -> None:
        self.epoch += 1

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


# --- the interpreter, mended ------------------------------------------------------------------------------------------


@cache
def _interpreter() -> Any:
    """Triton's interpreter module with our memory, bfloat16 and tf32; the same on Triton 3.6 to 3.9."""
    load_triton(interpreted=True)
    interpreter = import_module("triton.runtime.interpreter")
    builder, tl, TensorHandle = interpreter.interpreter_builder, interpreter.tl, interpreter.TensorHandle
    np_dtype = _with_bfloat16(interpreter, tl)
    builder.accesses = None

    def masked_load(ptrs: Any, mask: Any, other: Any, *policy: Any) -> Any:
        kind = ptrs.get_element_ty()
        dtype = np_dtype(kind)
        active = np.broadcast_to(mask.data, ptrs.data.shape)
        out = np.full(ptrs.data.shape, _poison(dtype)) if other is None else np.array(other.data, dtype)
        out = np.array(np.broadcast_to(out, ptrs.data.shape))
        out[active] = builder.accesses.load(ptrs.data[active], dtype)
        return TensorHandle(out, kind)

    def masked_store(ptrs: Any, value: Any, mask: Any, *policy: Any) -> None:
        active = np.broadcast_to(mask.data, ptrs.data.shape)
        values = np.broadcast_to(value.data, ptrs.data.shape)[active].astype(np_dtype(ptrs.get_element_ty()))
        builder.accesses.store(ptrs.data[active], values)

    def atomic_rmw(op: Any, ptr: Any, val: Any, mask: Any, *policy: Any) -> Any:
        combine = _ATOMICS.get(str(op).rsplit(".", 1)[-1])
        if combine is None or val.data.dtype.kind not in "iu":
            raise BackendError(
                f"emulated: atomic {op} on {val.dtype} is not available. Use integer minimum, maximum or add."
            )
        active = np.broadcast_to(mask.data, ptr.data.shape)
        old = np.zeros_like(np.broadcast_to(val.data, ptr.data.shape))
        old[active] = builder.accesses.atomic(
            ptr.data[active], np.broadcast_to(val.data, ptr.data.shape)[active], combine
        )
        return TensorHandle(old, val.dtype.scalar)

    def convert(src: Any, kind: Any, *rounding: Any) -> Any:
        return TensorHandle(src.data.astype(np_dtype(kind)), kind.scalar)

    plain_fp_to_fp, plain_dot = builder.create_fp_to_fp, builder.create_dot

    def fp_to_fp(src: Any, kind: Any, rounding: Any) -> Any:
        easy = {tl.bfloat16, tl.float16, tl.float32, tl.float64}
        if src.dtype.scalar in easy and kind.scalar in easy:
            return convert(src, kind)
        return plain_fp_to_fp(src, kind, rounding)

    def dot(a: Any, b: Any, d: Any, precision: Any, *rest: Any) -> Any:
        def operand(x: Any) -> Any:
            if x.data.dtype == ml_dtypes.bfloat16:
                return TensorHandle(x.data.astype(np.float32), tl.float32)
            if x.data.dtype == np.float32 and str(precision).endswith("TF32"):
                return TensorHandle(_tf32(x.data), tl.float32)
            return x

        return plain_dot(operand(a), operand(b), d, precision, *rest)

    builder.create_masked_load, builder.create_masked_store = masked_load, masked_store
    builder.create_atomic_rmw, builder.create_atomic_cas = atomic_rmw, _no_cas
    builder.create_barrier = lambda: builder.accesses.barrier()
    builder.cast_impl, builder.create_fp_to_fp, builder.create_dot = convert, fp_to_fp, dot
    builder.get_bf16 = lambda value: TensorHandle(np.array([value], ml_dtypes.bfloat16), tl.bfloat16)
    _patch_index(interpreter)
    return interpreter


_ATOMICS = {"ADD": np.add, "MIN": np.minimum, "UMIN": np.minimum, "MAX": np.maximum, "UMAX": np.maximum}


def _no_cas(*args: Any) -> None:
    raise BackendError("emulated: atomic compare-and-swap is not available. Use integer minimum, maximum or add.")


def _with_bfloat16(interpreter: Any, tl: Any) -> Any:
    """Make bfloat16 blocks NumPy arrays of that type (Triton keeps their bits as integers)."""
    plain = interpreter._get_np_dtype

    def np_dtype(kind: Any) -> np.dtype:
        if isinstance(kind, tl.pointer_type) or kind.scalar != tl.bfloat16:
            return plain(kind)
        return np.dtype(ml_dtypes.bfloat16)

    interpreter._get_np_dtype = np_dtype
    return np_dtype


def _patch_index(interpreter: Any) -> None:
    """Triton 3.6 cannot make a loop bound of a run-time integer; later versions squeeze first."""
    plain = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        plain(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))

    interpreter._patch_lang_tensor = patched


def _poison(dtype: np.dtype) -> np.generic:
    """NaN, or the largest integer."""
    if dtype.kind in "iu":
        return dtype.type(np.iinfo(dtype).max)
    return dtype.type(True) if dtype.kind == "b" else dtype.type(np.nan)


def _tf32(x: np.ndarray) -> np.ndarray:
    """float32 rounded to nearest even at 10 bits, as tf32 matrix instructions see it."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    finite = (bits & 0x7F800000) != 0x7F800000
    rounded = (bits + ((bits >> 13) & 1) + np.uint32(0xFFF)) & np.uint32(0xFFFFE000)
    return np.where(finite, rounded, bits).view(np.float32)
