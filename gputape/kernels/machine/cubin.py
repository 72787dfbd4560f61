"""Kernels on a GPU: cubins loaded and launched by CuPy on its current stream.

Written from the documentation of CuPy and Triton; not run on a GPU so far. All up to loading is tested by the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ...errors import BackendError
from .. import launch
from .compile import Cubin, compiled

PLAIN_SHARED = 48 << 10  # a kernel that needs more must ask for it


def run(kernel: launch.Kernel, grid: tuple[int, ...], args: Sequence[Any], stream: Any) -> None:
    """Launch on the current stream of the device that `stream` is on."""
    size = (*grid, 1, 1)[:3]
    with stream.device:
        (function, cubin), values = load(kernel, args, stream)
        function(size, (cubin.threads, 1, 1), (*values, *[None] * cubin.scratch_pointers), shared_mem=cubin.shared)


def load(
    kernel: launch.Kernel, args: Sequence[Any], stream: Any
) -> tuple[tuple[Callable[..., None], Cubin], list[Any]]:
    """What runs the kernel on these arguments, loaded when it is first wanted; and the arguments as C takes them."""
    key, values = specialised(kernel, args, _pointer)
    loaded = stream.functions.get(key)
    if loaded is None:
        loaded = stream.functions[key] = _load(compiled(launch.Variant(*key), stream.arch))
    return loaded, values


def _pointer(array: Any) -> tuple[Any, int]:
    memory = array.data
    return memory, memory.ptr


def specialised(
    kernel: launch.Kernel, args: Sequence[Any], pointer: Callable[[Any], tuple[Any, int]]
) -> tuple[tuple[launch.Kernel, tuple[str, ...], bool], list[Any]]:
    """The fields of the `Variant` that fits these arguments, and the arguments as C takes them.

    The promises of the wide variant are checked here, at every launch. `pointer` gives what to pass for an array, and
    its address.
    """
    types, wide, values, promised = [], True, [], kernel.divisible or ()
    for name, arg in zip(_plan(kernel), args, strict=True):
        if isinstance(arg, float | int | np.int64):
            value, kind = _scalar(arg)
            wide = wide and (name not in promised or arg % 16 == 0)
        else:
            value, address = pointer(arg)
            kind = "*" + str(arg.dtype)
            wide = wide and address % 16 == 0
        types.append(kind)
        values.append(value)
    return (kernel, tuple(types), wide or kernel.divisible is None), values


def _scalar(arg: Any) -> tuple[Any, str]:
    """The value as C passes it, and its type; as `launch` documents."""
    if isinstance(arg, float):
        return np.float32(arg), "float32"
    if isinstance(arg, np.int64):
        return arg, "int64"
    if not -(2**31) <= arg < 2**31:
        raise BackendError(f"launch: {arg} does not fit in int32. Pass numpy.int64 and take it as a 64-bit argument.")
    return np.int32(arg), "int32"


@cache
def _plan(kernel: launch.Kernel) -> tuple[str, ...]:
    """Names of the run-time parameters."""
    if kernel.route == "cuda":
        from .host_build import parameters

        return parameters(kernel.source, kernel.name)
    from importlib import import_module

    from .mode import triton

    triton(interpreted=False)
    names = getattr(import_module(kernel.source), kernel.name).arg_names
    constants = dict(kernel.constants)
    return tuple(n for n in names if n not in constants)


def _load(cubin: Cubin) -> tuple[Callable[..., None], Cubin]:
    import cupy
    from cupy_backends.cuda.api import driver

    module = cupy.cuda.function.Module()
    try:
        with open(cubin.path, "rb") as file:
            module.load(file.read())
        function = module.get_function(cubin.name)
    except driver.CUDADriverError as e:
        raise BackendError(
            f"{cubin.name}: the driver refused the cubin ({e}). It may be older than CUDA 12: update the driver."
        ) from e
    if cubin.shared > PLAIN_SHARED:
        driver.funcSetAttribute(function.ptr, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, cubin.shared)
    return function, cubin
