"""Triton kernels on NumPy arrays: Triton's interpreter, with its memory, its program order and its bfloat16 replaced.

The plain interpreter reads stray memory, gives 0 for masked lanes, runs programs in order and mistakes bfloat16 for
integers. Here every load and store goes through `Accesses`, which raises `KernelFault` where hardware would race.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np

from ...aval import INTS
from ...backend import DTYPE_NAME
from ...errors import BackendError
from .accesses import Accesses
from .memory import ONE_AT_A_TIME, KernelFault, Memory
from .mode import triton as load_triton


def run(kernel: Any, grid: tuple[int, ...], args: Sequence[Any], stream: Any) -> None:
    """Run a Triton kernel on NumPy arrays, its programs in an order shuffled by `stream`'s generator."""
    named = arguments(kernel, args)
    memory = Memory(str(kernel), list(named), args)
    programs = list(product(*map(range, size_of(grid))))
    random.Random(stream.next_seed()).shuffle(programs)
    interpret(kernel, grid, named, programs, Accesses(memory))
    memory.finish()


def arguments(kernel: Any, args: Sequence[Any]) -> dict[str, Any]:
    """The run-time arguments by the names that the device function gives them."""
    _interpreter()
    constants = dict(kernel.constants) | kernel.functions()
    names = [n for n in getattr(import_module(kernel.source), kernel.name).arg_names if n not in constants]
    if len(names) != len(args):
        raise BackendError(
            f"{kernel}: takes {len(names)} arguments ({', '.join(names)}), got {len(args)}. Fix the host side."
        )
    return dict(zip(names, args, strict=True))


def size_of(grid: tuple[int, ...]) -> tuple[int, ...]:
    """The grid with all three axes."""
    return (*grid, 1, 1)[:3]


def interpret(
    kernel: Any, grid: tuple[int, ...], args: dict[str, Any], programs: Iterable[tuple[int, ...]], accesses: Any
) -> None:
    """Run some programs of a grid, in that order. `accesses` does their loads and stores."""
    interpreter = _interpreter()
    function = getattr(import_module(kernel.source), kernel.name)
    handles = {n: _handle(interpreter, a, accesses) for n, a in args.items()}
    builder, size = interpreter.interpreter_builder, size_of(grid)
    constants = dict(kernel.constants) | kernel.functions()
    with ONE_AT_A_TIME:
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
        return tl.tensor(interpreter.TensorHandle(np.array([accesses.virtual(arg)], np.uint64), kind), kind)
    if isinstance(arg, float):
        name = "float32"
    elif isinstance(arg, np.int64):
        name = "int64"
    elif -(2**31) <= arg < 2**31:
        name = "int32"
    else:
        raise BackendError(f"launch: {arg} does not fit in int32. Pass numpy.int64 and take it as a 64-bit argument.")
    kind = getattr(tl, name)
    return tl.tensor(interpreter.TensorHandle(np.array([arg], name), kind), kind)


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
        active = _active(mask, ptrs)
        out = np.full(ptrs.data.shape, _poison(dtype)) if other is None else np.array(other.data, dtype)
        out = np.array(np.broadcast_to(out, ptrs.data.shape))
        out[active] = builder.accesses.load(ptrs.data[active], dtype)
        return TensorHandle(out, kind)

    def masked_store(ptrs: Any, value: Any, mask: Any, *policy: Any) -> None:
        active = _active(mask, ptrs)
        values = np.broadcast_to(value.data, ptrs.data.shape)[active].astype(np_dtype(ptrs.get_element_ty()))
        builder.accesses.store(ptrs.data[active], values)

    def atomic_rmw(op: Any, ptr: Any, val: Any, mask: Any, *policy: Any) -> Any:
        combine = _ATOMICS.get(str(op).rsplit(".", 1)[-1])
        if combine is None or val.data.dtype.kind not in "iu":
            raise BackendError(
                f"emulated: atomic {op} on {val.dtype} is not available. Use integer minimum, maximum or add."
            )
        active = _active(mask, ptr)
        old = np.zeros_like(np.broadcast_to(val.data, ptr.data.shape))
        old[active] = builder.accesses.atomic(
            ptr.data[active], np.broadcast_to(val.data, ptr.data.shape)[active], combine
        )
        return TensorHandle(old, val.dtype.scalar)

    def convert(src: Any, kind: Any, *rounding: Any) -> Any:
        return TensorHandle(src.data.astype(np_dtype(kind)), kind.scalar)

    def splat(kind: Any, arg: Any) -> Any:
        """Triton's own takes the type of a scalar comparison for that of what was compared."""
        return TensorHandle(np.full(kind.shape, arg.data.reshape(-1)[0], np_dtype(kind)), kind.scalar)

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

        if not builder.accesses.dot(2 * a.data.size * b.data.shape[-1]):
            return d
        return plain_dot(operand(a), operand(b), d, precision, *rest)

    builder.create_masked_load, builder.create_masked_store = masked_load, masked_store
    builder.create_atomic_rmw, builder.create_atomic_cas = atomic_rmw, _no_cas
    builder.create_barrier = lambda: builder.accesses.barrier()
    builder.create_splat = splat
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


def _active(mask: Any, ptrs: Any) -> np.ndarray:
    """The lanes of a mask. A scalar comparison in it leaves Triton's interpreter as an integer."""
    return np.broadcast_to(mask.data, ptrs.data.shape).astype(bool)


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
