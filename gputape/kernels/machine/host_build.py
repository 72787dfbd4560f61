"""CUDA C kernels on NumPy arrays: the unmodified source, built as C++ with `cuda/emulation.h` and called by ctypes.

Every access of a kernel goes through that header's pointer classes, which raise what `KernelFault` describes. They see
each conflict between two threads or blocks, whatever order the threads took; a thread sanitizer would add nothing here,
since the threads are fibres of one thread.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BackendError
from .. import launch
from . import cache as disk
from .memory import ONE_AT_A_TIME, KernelFault, Memory, Pointer

INCLUDE = launch.HERE / "cuda"
FLAGS = ("-O1", "-std=c++17", "-shared", "-fPIC", "-fno-gnu-unique", "-w", "-DGPUTAPE_EMULATED")
MESSAGE = 1024  # bytes
CELL = ("writer_block", "writer", "writer_epoch", "reader_block", "reader", "reader_epoch")  # int32 each
NOBODY = -1


class Argument(ctypes.Structure):
    """`gputape::Argument` of emulation.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("kind", ctypes.c_int64),
        ("size", ctypes.c_int64),
        ("base", ctypes.c_void_p),
        ("low", ctypes.c_int64),
        ("high", ctypes.c_int64),
        ("cells", ctypes.c_void_p),
        ("per_element", ctypes.c_int64),
        ("integer", ctypes.c_int64),
        ("real", ctypes.c_double),
    )


def run(kernel: launch.Kernel, grid: tuple[int, ...], args: Sequence[Any], stream: Any) -> None:
    """Run a CUDA C kernel on NumPy arrays, its blocks and threads in an order shuffled by `stream`'s generator."""
    memory = Memory(str(kernel), arguments(kernel, args), args)
    for region in memory.regions:
        region.state = np.full((region.units, len(CELL)), NOBODY, np.int32)
    _call(kernel, grid, args, memory.pointers, stream.next_seed())
    memory.finish()


def touched(kernel: launch.Kernel, grid: tuple[int, ...], args: Sequence[Any], block: int) -> tuple[Any, Any]:
    """Run one block on the arrays themselves, unchecked; the addresses that it loads and those that it stores."""
    names = arguments(kernel, args)
    pointers = [Pointer(n, a) for n, a in zip(names, args, strict=True) if isinstance(a, np.ndarray)]
    with ONE_AT_A_TIME:
        _call(kernel, grid, args, pointers, block, block)
        first = ctypes.POINTER(ctypes.c_int64)()
        n = _library(kernel).touched(ctypes.byref(first))
        found = np.ctypeslib.as_array(first, (n,)).copy() if n else np.empty(0, np.int64)
    return found[found % 2 == 0] // 2, found[found % 2 == 1] // 2


def arguments(kernel: launch.Kernel, args: Sequence[Any]) -> tuple[str, ...]:
    """The names that the kernel gives its arguments; `BackendError` if there are not as many."""
    names = parameters(kernel.source, kernel.name)
    if len(names) != len(args):
        raise BackendError(
            f"{kernel}: takes {len(names)} arguments ({', '.join(names)}), got {len(args)}. Fix the host side."
        )
    return names


def _call(
    kernel: launch.Kernel,
    grid: tuple[int, ...],
    args: Sequence[Any],
    pointers: Sequence[Pointer],
    seed: int,
    only: int = -1,
) -> None:
    """Run all blocks, or the block number `only`."""
    left = iter(pointers)
    packed = (Argument * len(args))(
        *(
            _pointer(next(left)) if isinstance(a, np.ndarray) else _scalar(n, a)
            for n, a in zip(arguments(kernel, args), args, strict=True)
        )
    )
    size = (ctypes.c_int * 3)(*(*grid, 1, 1)[:3])
    message = ctypes.create_string_buffer(MESSAGE)
    name, start = str(kernel).encode(), _library(kernel).start
    with ONE_AT_A_TIME:
        failed = start(name, size, only, kernel.threads, seed, len(args), packed, message, MESSAGE)
    if failed:
        raise KernelFault(message.value.decode())


def _pointer(p: Pointer) -> Argument:
    """A pointer into the hostile copy, with its access records; into the array itself where there is no copy."""
    size, name = p.array.itemsize, p.name.encode()
    reach = {"low": p.low // size, "high": p.high // size}
    if p.region is None:
        return Argument(name=name, kind=0, size=size, base=p.address, cells=None, per_element=0, **reach)
    cells = p.region.state
    first = p.offset // p.region.unit
    return Argument(
        name=name,
        kind=0,
        size=size,
        base=p.copied().__array_interface__["data"][0],
        cells=cells.ctypes.data + first * 4 * len(CELL),
        per_element=size // p.region.unit,
        **reach,
    )


def _scalar(name: str, value: Any) -> Argument:
    if isinstance(value, float):
        return Argument(name=name.encode(), kind=3, real=value)
    wide = isinstance(value, np.int64)
    if not wide and not -(2**31) <= value < 2**31:
        raise BackendError(f"launch: {value} does not fit in int32. Pass numpy.int64 and take it as a 64-bit argument.")
    return Argument(name=name.encode(), kind=2 if wide else 1, integer=int(value))


@cache
def parameters(source: str, name: str) -> tuple[str, ...]:
    """The names of a kernel's parameters, for messages."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", Path(source).read_text(), flags=re.S)
    found = re.search(rf"__global__\s+void\s+{name}\s*\(([^)]*)\)", text)
    if found is None:
        raise BackendError(
            f'{name}: there is no such kernel in {source}. Write `extern "C" __global__ void {name}(…)`.'
        )
    return tuple(re.findall(r"(\w+)\s*(?:,|$)", re.sub(r"<[^>]*>", "", found[1])))


# --- building ---------------------------------------------------------------------------------------------------------


@cache
def _library(kernel: launch.Kernel) -> Any:
    """The library with `int start(name, grid, only, threads, seed, count, arguments, message, capacity)` around a
    kernel, and `long touched(&addresses)` of its last run."""
    compiler, version = _compiler()
    text = "\n".join(
        [
            *(f"#define {name} {value}" for name, value in kernel.constants),
            Path(kernel.source).read_text(),
            'extern "C" int start(const char* n, const int* g, int o, int t, uint64_t s, int c,',
            "                     const gputape::Argument* a, char* m, int k) {",
            f"    return gputape::start(&{kernel.name}, n, g, o, t, s, c, a, m, k);",
            "}",
            'extern "C" int64_t touched(const int64_t** at) {',
            "    *at = gputape::touched.data();",
            "    return (int64_t)gputape::touched.size();",
            "}",
        ]
    )
    headers = [h.read_text() for h in sorted(INCLUDE.glob("*.h"))]

    def build(path: Path) -> None:
        command = [
            compiler,
            *FLAGS,
            f"-I{INCLUDE}",
            f"-I{Path(kernel.source).parent}",
            "-x",
            "c++",
            "-",
            "-o",
            str(path),
        ]
        made = subprocess.run(command, input=text, capture_output=True, text=True)
        if made.returncode:
            raise BackendError(f"{kernel}: the host build failed. Mend {kernel.source}:\n{made.stderr[:4000]}")

    path = disk.stored(f"host/{disk.digest(text, *headers, FLAGS, version)}.so", build)
    library = ctypes.CDLL(str(path))
    library.touched.restype = ctypes.c_int64
    library.start.argtypes = [
        ctypes.c_char_p,
        ctypes.POINTER(ctypes.c_int),
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_uint64,
        ctypes.c_int,
        ctypes.POINTER(Argument),
        ctypes.c_char_p,
        ctypes.c_int,
    ]
    return library


@cache
def _compiler() -> tuple[str, str]:
    """Path and version of the system's C++ compiler."""
    path = shutil.which("g++")
    if path is None:
        raise BackendError(
            "emulated: CUDA C kernels need the C++ compiler g++, and it is not on PATH. "
            'Install it (Debian: apt install g++), or use gt.device("cpu").'
        )
    return path, subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
