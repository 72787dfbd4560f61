"""`gputape warmup`: compile the shipped kernels before they are needed, on a machine with or without a GPU.

The work is done by a process of its own, as one process has Triton either compiled or interpreted:

    python -m gputape.warmup 90 100 [--jobs 4] [--kernel layer_norm]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from . import registry
from .backend import NP_DTYPE
from .errors import ArgumentError, BackendError, GputapeError
from .functions import Execute
from .samples import T
from .testing import apply, lay_out

if TYPE_CHECKING:
    from .kernels.launch import Variant

FLOATS = ("float32", "float16", "bfloat16")
TELL = 10.0  # seconds between lines of progress


# --- the command ------------------------------------------------------------------------------------------------------


def warm(archs: Sequence[str], jobs: int | None = None, kernel: str = "") -> int:
    """Compile for these architectures ("sm_90", …), by default the visible device's, else all; the exit code.

    Raises:
        ArgumentError: an architecture is not supported.
        BackendError: Triton or NVRTC is missing.
    """
    from .kernels.gate import ARCHS

    numbers = [_number(a, ARCHS) for a in archs] or ([found] if (found := visible()) else list(ARCHS))
    command = [sys.executable, "-m", "gputape.warmup", *map(str, numbers), "--kernel", kernel]
    command += ["--jobs", str(jobs or os.cpu_count() or 1)]
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run(command, env=env).returncode


def _number(arch: str, known: Sequence[int]) -> int:
    text = arch.removeprefix("sm_")
    if not text.isdecimal() or int(text) not in known:
        raise ArgumentError(f"warmup: {arch!r} is not supported. Use {', '.join(f'sm_{a}' for a in known)}.")
    return int(text)


def visible() -> int | None:
    """Compute capability of the NVIDIA device of this machine (90 is 9.0); None without one."""
    from .kernels.runtime import Cuda

    try:
        return Cuda.open("cuda").stream.arch
    except BackendError:
        return None


# --- what is compiled -------------------------------------------------------------------------------------------------


def needed(samples: bool = False) -> list[Variant]:
    """The variants that the host modules list and those that the cards' perf shapes launch in any type, each once.

    Args:
        samples: those of the cards' samples too.
    """
    from .kernels import gate

    dry = launched("perf", *(["samples"] if samples else []))
    return list(dict.fromkeys((*gate.variants(), *dry)))


def launched(*which: str, dtypes: Sequence[str] = FLOATS) -> Iterator[Variant]:
    """The variants that the cards' cases ("samples", "perf") launch in each floating-point type, by a dry run.

    What an op refuses, or has no kernel for, launches nothing.
    """
    from .kernels import KernelBackend
    from .kernels.machine.listing import Listing

    dry = Listing()
    F = Execute(KernelBackend("listing", dry))
    for op in registry.ops():
        for case in (case for cases in which for case in getattr(op, cases)):
            for dtype in dtypes:
                with contextlib.suppress(GputapeError):
                    _dry_run(F, op, case, dtype)
    yield from dry.stream.variants


def _dry_run(F: Execute, op: registry.Op, case: Any, dtype: str) -> None:
    inputs = [_unfilled(x, dtype) if isinstance(x, T) else x for x in case.inputs]
    if not op.variadic:
        inputs += [None] * (len(op.inputs) - len(inputs))
    apply(getattr(F, op.name), op, F.lift(op, tuple(inputs)), case.attrs)


def _unfilled(spec: T, dtype: str) -> np.ndarray:
    """Zeros of the descriptor's shape and layout, with `dtype` in the place of float32."""
    return lay_out(np.zeros(spec.shape, NP_DTYPE[spec.typed(dtype)]), spec.layout)


# --- the process that compiles ----------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gputape.warmup", description=__doc__.splitlines()[0])
    parser.add_argument("archs", type=int, nargs="+")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--kernel", default="", help="only kernels whose name contains this")
    parser.add_argument("--samples", action="store_true", help="also what only the cards' samples launch")
    options = parser.parse_args(argv)
    try:
        _need_toolchain()
        wanted = [v for v in needed(options.samples) if options.kernel in v.kernel.name]
        if not wanted:
            raise ArgumentError(f"warmup: no kernel's name contains {options.kernel!r}. Leave --kernel out.")
    except GputapeError as e:
        print(f"gputape: {e}", file=sys.stderr)
        return 1
    return _compile_all([(v, arch) for arch in options.archs for v in wanted], options.archs, options.jobs)


def _need_toolchain() -> None:
    """Raise `BackendError` unless both compilers can be loaded."""
    from .kernels.machine import compile, mode

    mode.triton(interpreted=False)
    compile._nvrtc()
    if not compile._cuda_headers():
        raise BackendError("warmup: cuda_fp16.h is not found. Install gputape[gpu], or set CUDA_PATH.")


def _compile_all(tasks: list[tuple[Variant, int]], archs: Iterable[int], jobs: int) -> int:
    from .kernels.machine import cache

    start, fresh, failed = time.monotonic(), 0, 0
    told = start
    print(f"{len(tasks)} kernels for {', '.join(f'sm_{a}' for a in archs)}, {jobs} at a time", flush=True)
    with ProcessPoolExecutor(jobs) as pool:
        for done, (new, error) in enumerate(pool.map(_compile, tasks, chunksize=4), 1):
            fresh += new
            if error:
                failed += 1
                print(f"failed: {error}", file=sys.stderr, flush=True)
            if time.monotonic() > told + TELL:
                told = time.monotonic()
                print(f"{done}/{len(tasks)}, {told - start:.0f} s", flush=True)
    print(f"{fresh} compiled, {len(tasks) - fresh - failed} were there, {failed} failed; cache: {cache.folder()}")
    return 1 if failed else 0


def _compile(task: tuple[Variant, int]) -> tuple[bool, str]:
    """(whether it was not there yet, why it failed)."""
    from .kernels.machine import compile

    variant, arch = task
    try:
        return compile.warmed(variant, arch), ""
    except Exception as e:  # a compiler may raise anything; the others go on
        return False, f"sm_{arch} {variant.kernel}: {type(e).__name__}: {str(e).partition(chr(10))[0][:300]}"


if __name__ == "__main__":
    sys.exit(main())
