"""Cubins: Triton ahead of time and CUDA C through NVRTC, for any architecture, on a machine with or without a GPU."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from ...errors import BackendError
from .. import launch
from . import cache as disk
from .mode import triton as load_triton

INCLUDE = launch.HERE / "cuda"
TRITON_TYPE = {"bool": "i1", "float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"} | {
    name: name.replace("uint", "u").replace("int", "i") for name in ("uint8", "int8", "int16", "int32", "int64")
}

PTX_OF = {
    86: 80,
    89: 80,
}  # Triton knows no difference: one PTX text serves the generation, only the assembler runs again
MOST_REGISTERS = 255  # of a thread
REGISTERS = 65536  # of a multiprocessor, of which a block takes all that its threads have


@dataclass(frozen=True)
class Cubin:
    """Machine code of one variant for one architecture, and what a launch must know of it."""

    path: str
    name: str
    shared: int  # bytes of dynamic shared memory
    threads: int
    scratch_pointers: int  # null pointers that Triton's calling convention appends

    def passed(self, types: Sequence[str]) -> tuple[int, ...]:
        """Bytes of what a launch passes for run-time arguments of these types."""
        return tuple([8 if "*" in t or "64" in t else 4 for t in types]) + (8,) * self.scratch_pointers


def compiled(variant: launch.Variant, arch: int) -> Cubin:
    """The cubin of `variant` for compute capability `arch` (90 is 9.0), from the disk cache if it is there."""
    build = _build_triton if variant.kernel.route == "triton" else _build_cuda
    name = _name(variant, arch)

    def write(path: Path) -> None:
        code, facts = build(variant, arch)
        disk.stored(f"{name}.cubin", lambda p: p.write_bytes(code))
        path.write_text(json.dumps(facts))  # written last: a cubin without its description does not count

    described = disk.stored(f"{name}.json", write)
    return Cubin(path=str(described.with_suffix(".cubin")), **json.loads(described.read_text()))


def warmed(variant: launch.Variant, arch: int) -> bool:
    """Put the cubin of `variant` into the disk cache; whether it was not there yet."""
    known = (disk.folder() / f"{_name(variant, arch)}.json").exists()
    compiled(variant, arch)
    return not known


def _name(variant: launch.Variant, arch: int) -> str:
    """The name in the disk cache, without a suffix: a digest of all that the machine code depends on."""
    kernel = variant.kernel
    chosen = (
        _registers(kernel),
        kernel.name,
        kernel.constants,
        kernel.divisible,
        kernel.warps,
        kernel.stages,
        variant.types,
        variant.wide,
    )
    return f"cubin/{disk.digest(arch, *chosen, *_sources(kernel), *_toolchain(kernel.route))}"


@cache
def _sources(kernel: launch.Kernel) -> tuple[str, ...]:
    """All text that machine code depends on."""
    if kernel.route == "cuda":
        headers = sorted(INCLUDE.glob("*.h"))
        return tuple(p.read_text() for p in (Path(kernel.source), *headers))
    load_triton(interpreted=False)
    found = (getattr(import_module(kernel.source), kernel.name), *kernel.functions().values())
    return tuple(f.cache_key for f in found)  # each covers the functions that it calls


@cache
def _toolchain(route: str) -> tuple[str, ...]:
    if route == "triton":
        paths = tuple(os.environ.get(f"TRITON_PTXAS{suffix}_PATH", "") for suffix in ("", "_BLACKWELL"))
        return ("triton", importlib.metadata.version("triton"), *paths)
    return ("nvrtc", *map(str, _nvrtc().getVersion()))


# --- Triton -----------------------------------------------------------------------------------------------------------


def _build_triton(variant: launch.Variant, arch: int) -> tuple[bytes, dict[str, Any]]:
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import CUDABackend

    made = _made(variant, PTX_OF.get(arch, arch))
    code = made.asm["cubin"]
    if arch in PTX_OF:
        backend = CUDABackend(GPUTarget("cuda", arch, 32))
        code = backend.make_cubin(made.asm["ptx"], {}, backend.parse_options(_options(variant.kernel)), arch)
    facts = {
        "name": made.metadata.name,
        "shared": made.metadata.shared,
        "threads": variant.kernel.threads,
        "scratch_pointers": 2,
    }
    return code, facts


@lru_cache(maxsize=8)
def _made(variant: launch.Variant, arch: int) -> Any:
    """What Triton makes of `variant`: texts, cubin and metadata."""
    triton = load_triton(interpreted=False)
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = variant.kernel
    function = getattr(import_module(kernel.source), kernel.name)
    constants = dict(kernel.constants) | kernel.functions()
    runtime = iter(variant.types)
    signature = {n: "constexpr" if n in constants else _triton_type(next(runtime)) for n in function.arg_names}
    promises = {
        (k,): [["tt.divisibility", 16]]
        for k, (n, kind) in enumerate(signature.items())
        if variant.wide and kernel.divisible is not None and (kind.startswith("*") or n in kernel.divisible)
    }
    source = ASTSource(function, signature, constants, promises)
    made = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=_options(kernel))
    if made.metadata.global_scratch_size or made.metadata.profile_scratch_size:
        raise BackendError(f"{kernel}: needs scratch memory of its own, which launch does not give. Use another form.")
    return made


def _options(kernel: launch.Kernel) -> dict[str, Any]:
    return {
        "num_warps": kernel.warps,
        "num_stages": kernel.stages,
        "enable_fp_fusion": True,
        "maxnreg": _registers(kernel),
    }


def _registers(kernel: launch.Kernel) -> int:
    """How many a thread may have. Stated, or ptxas spills a register or two for the sake of occupancy."""
    return min(MOST_REGISTERS, REGISTERS // kernel.threads)


def _triton_type(name: str) -> str:
    return "*" + TRITON_TYPE[name[1:]] if name.startswith("*") else TRITON_TYPE[name]


# --- CUDA C -----------------------------------------------------------------------------------------------------------


@cache
def _nvrtc() -> Any:
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
        return nvrtc
    except (ImportError, RuntimeError, OSError) as e:
        raise BackendError(f"nvrtc: cannot be loaded through CuPy ({e}). Install gputape[gpu].") from e


def _build_cuda(variant: launch.Variant, arch: int) -> tuple[bytes, dict[str, Any]]:
    nvrtc, kernel = _nvrtc(), variant.kernel
    folders = [f"-I{p}" for p in (INCLUDE, Path(kernel.source).parent, *_cuda_headers())]
    macros = [f"-D{name}={value}" for name, value in kernel.constants]
    options = [f"--gpu-architecture=sm_{arch}", "--std=c++17", "-default-device", *folders, *macros]
    program = nvrtc.createProgram(Path(kernel.source).read_text(), f"{Path(kernel.source).name}", (), ())
    try:
        nvrtc.compileProgram(program, options)
        code = nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError as e:
        log = nvrtc.getProgramLog(program)
        raise BackendError(
            f"{kernel}: NVRTC refused it for sm_{arch} ({e}). Mend {kernel.source}:\n{log[:4000]}"
        ) from None
    finally:
        nvrtc.destroyProgram(program)
    code = code.ljust(-(-len(code) // 8) * 8, b"\0")  # CuPy's getCUBIN takes a final zero byte for a terminator
    return code, {"name": kernel.name, "shared": 0, "threads": kernel.threads, "scratch_pointers": 0}


@cache
def _cuda_headers() -> tuple[Path, ...]:
    """Folders with cuda_fp16.h: that of the CUDA runtime's wheel, or of a CUDA installation."""
    roots = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    found = [Path(r) / "include" for r in roots if r]
    try:
        import nvidia  # the namespace package of NVIDIA's wheels

        found = [Path(p) / sub / "include" for p in nvidia.__path__ for sub in ("cuda_runtime", "cu13", "cu12")] + found
    except ImportError:
        pass
    return tuple(p for p in found if (p / "cuda_fp16.h").exists())
