"""The compile gate: every variant of every kernel to machine code, for every supported architecture, without a GPU.

    python -m gputape.kernels.gate [--arch 80,90] [--kernel layer_norm] [--every 4]

Prints one row per variant: registers, accesses to spilled ones, shared memory, width of global accesses, matrix
instructions. The exit status is 1 if a kernel does not compile, spills in its wide variant, needs more shared memory
than the architecture has, or lacks the matrix instructions its variant asks for.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from ..errors import BackendError
from .launch import HERE, Variant

ARCHS = (80, 86, 89, 90, 100, 120)
SHARED_LIMIT = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}  # KiB per block; CUDA programming guide, table 30
MATRIX = re.compile(r"\b(HMMA|HGMMA|UTCHMMA|OMMA|QMMA|UTCQMMA|IMMA|DMMA)\b")
LOCAL = re.compile(r"\b(?:LDL|STL)\b")  # registers spilled to local memory
GLOBAL = re.compile(r"\b(?:LDG|STG|LDGSTS)\.E((?:\.\w+)*)")
WIDTHS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128}


@dataclass(frozen=True)
class Row:
    """What the machine code of one variant on one architecture looks like, or why there is none."""

    arch: int
    variant: Variant
    registers: int = 0
    spilled: int = 0
    shared: int = 0
    widths: str = ""
    matrix: str = ""
    error: str = ""

    def complaints(self) -> list[str]:
        if self.error:
            return [self.error]
        limit = SHARED_LIMIT[self.arch] * 1024
        return [
            text
            for wrong, text in (
                # Odd sizes and addresses pay for it; no shape that we time is one of them.
                (self.spilled > 0 and self.variant.wide, f"spills registers ({self.spilled} accesses)"),
                (self.shared > limit, f"needs {self.shared} bytes of shared memory of {limit}"),
                (self.variant.tensor_cores and not self.matrix, "has no matrix instructions"),
            )
            if wrong
        ]

    def __str__(self) -> str:
        variant = self.variant
        kinds = ",".join(dict.fromkeys(t[1:] for t in variant.types if t.startswith("*")))
        what = f"sm_{self.arch:<4}{variant.kernel} {kinds}{'' if variant.wide else ' narrow'}"
        facts = f"regs {self.registers} spill {self.spilled} shared {self.shared} widths {self.widths or '-'}"
        verdict = "; ".join(self.complaints())
        return f"{what}: {facts} matrix {self.matrix or '-'}" + (f"  FAIL {verdict}" if verdict else "")


def variants() -> Iterator[Variant]:
    """The variants that the host modules list."""
    for found in iter_modules([str(HERE)]):
        if not found.ispkg and found.name != "gate":
            yield from getattr(import_module(f"{__package__}.{found.name}"), "VARIANTS", ())


def inspect(variant: Variant, arch: int) -> Row:
    """Compile one variant and read its machine code."""
    from .machine import compile

    row = Row(arch, variant)
    try:
        cubin = compile.compiled(variant, arch)
    except Exception as e:  # a compiler may raise anything; the table must name the kernel
        return replace(
            row, error=f"does not compile: {type(e).__name__}: {str(e).splitlines()[0][:200] if str(e) else e!r}"
        )
    usage = _part(_tool("cuobjdump", "--dump-resource-usage", cubin.path), f" Function {cubin.name}:", " Function ")
    numbers = {k: int(v) for k, v in re.findall(r"\b(REG|SHARED):(\d+)", usage)}
    code = _part(_tool("nvdisasm", "-c", cubin.path), f"\n.text.{cubin.name}:", "\n.text.")
    widths = Counter(max([WIDTHS.get(m, 0) for m in found.split(".")]) or 32 for found in GLOBAL.findall(code))
    return replace(
        row,
        registers=numbers["REG"],
        spilled=len(LOCAL.findall(code)),
        shared=numbers["SHARED"] + cubin.shared,
        widths=" ".join(f"{w}x{n}" for w, n in sorted(widths.items())),
        matrix=" ".join(f"{k}x{n}" for k, n in sorted(Counter(MATRIX.findall(code)).items())),
    )


def _part(text: str, head: str, any_head: str) -> str:
    """What follows `head`, up to the next head: a CUDA C file may hold several kernels."""
    return text.partition(head)[2].partition(any_head)[0]


def _inspect(task: tuple[Variant, int]) -> Row:
    return inspect(*task)


def _tool(name: str, *args: str) -> str:
    return subprocess.run([str(_tools() / name), *args], capture_output=True, text=True, check=True).stdout


@cache
def _tools() -> Path:
    """The folder of the CUDA binary tools that Triton bundles."""
    import triton

    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gputape.kernels.gate", description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default=",".join(map(str, ARCHS)), help="compute capabilities, as 80,90")
    parser.add_argument("--kernel", default="", help="only kernels whose name contains this")
    parser.add_argument("--every", type=int, default=1, help="only each Nth variant, others on each architecture")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    archs = [int(a) for a in options.arch.split(",")]
    unknown = sorted(set(archs) - set(ARCHS))
    if unknown:
        parser.error(f"architectures {unknown} are not supported; choose from {ARCHS}")
    chosen = [v for v in variants() if options.kernel in v.kernel.name]
    tasks = [
        (v, arch)
        for arch in archs
        for v in chosen[ARCHS.index(arch) % options.every :: options.every]
        if not v.archs or arch in v.archs
    ]
    os.environ.pop("TRITON_INTERPRET", None)  # a parent that emulates may have set it
    try:
        from .machine import mode

        mode.triton(interpreted=False)
    except BackendError as e:
        print(e, file=sys.stderr)
        return 2
    with ProcessPoolExecutor(options.jobs) as pool:
        failed = 0
        for row in pool.map(_inspect, tasks, chunksize=4):
            print(row, flush=True)
            failed += bool(row.complaints())
    print(f"{len(tasks)} compiled, {failed} failed")
    return 1 if failed or not tasks else 0


if __name__ == "__main__":
    sys.exit(main())
