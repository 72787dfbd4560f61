"""The compile gate: every variant of every kernel to machine code, for every supported architecture, without a GPU.

    python -m gputape.kernels.gate [--arch 80,90] [--kernel layer_norm] [--every 4]

Prints one row per variant: registers, accesses to spilled ones, shared memory, width of global accesses, matrix
instructions. The exit status is 1 if a kernel does not compile, spills in its wide variant, needs more shared memory
than the architecture has, or lacks the matrix instructions its variant asks for.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from pkgutil import iter_modules

from ..errors import BackendError
from .launch import HERE, Variant
from .machine.sass import Code, Counts, counts, read

NO_CODE = Counts()
ARCHS = (80, 86, 89, 90, 100, 120)
SHARED_LIMIT = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}  # KiB per block; CUDA programming guide, table 30
TOGETHER = 8  # variants that one process compiles for all architectures and disassembles at a time


@dataclass(frozen=True)
class Row:
    """What the machine code of one variant on one architecture looks like, or why there is none."""

    arch: int
    variant: Variant
    registers: int = 0
    shared: int = 0
    code: Counts = NO_CODE
    error: str = ""

    def complaints(self) -> list[str]:
        if self.error:
            return [self.error]
        limit, code = SHARED_LIMIT[self.arch] * 1024, self.code
        return [
            text
            for wrong, text in (
                # Odd sizes and addresses pay for it; no shape that we time is one of them.
                (code.spilled > 0 and self.variant.wide, f"spills registers ({code.spilled} accesses)"),
                (self.shared > limit, f"needs {self.shared} bytes of shared memory of {limit}"),
                (self.variant.tensor_cores and not code.matrix, "has no matrix instructions"),
            )
            if wrong
        ]

    def __str__(self) -> str:
        variant, code = self.variant, self.code
        kinds = ",".join(dict.fromkeys(t[1:] for t in variant.types if t.startswith("*")))
        what = f"sm_{self.arch:<4}{variant.kernel} {kinds}{'' if variant.wide else ' narrow'}"
        widths, matrix = (" ".join(f"{k}x{n}" for k, n in found) or "-" for found in (code.widths, code.matrix))
        facts = f"regs {self.registers} spill {code.spilled} shared {self.shared} widths {widths} matrix {matrix}"
        verdict = "; ".join(self.complaints())
        return f"{what}: {facts}" + (f"  FAIL {verdict}" if verdict else "")


def variants() -> Iterator[Variant]:
    """The variants that the host modules list."""
    for found in iter_modules([str(HERE)]):
        if not found.ispkg and found.name != "gate":
            yield from getattr(import_module(f"{__package__}.{found.name}"), "VARIANTS", ())


def inspect(tasks: Sequence[tuple[Variant, int]]) -> list[Row]:
    """Compile variants, each for an architecture, and read their machine code."""
    from .machine import compile

    found: list[tuple[Row, Code | None]] = []
    for variant, arch in tasks:
        row = Row(arch, variant)
        try:
            cubin = compile.compiled(variant, arch)
        except Exception as e:  # a compiler may raise anything; the table must name the kernel
            said = str(e).partition("\n")[0][:200] or repr(e)
            found.append((replace(row, error=f"does not compile: {type(e).__name__}: {said}"), None))
            continue
        code = read(cubin)
        found.append((replace(row, registers=code.registers, shared=code.shared + cubin.shared), code))
    counted = {}
    for arch in dict.fromkeys(row.arch for row, _ in found):
        codes = [code for row, code in found if code is not None and row.arch == arch]
        counted[arch] = iter(counts(codes, arch) if codes else ())
    return [row if code is None else replace(row, code=next(counted[row.arch])) for row, code in found]


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
    tasks = list(_tasks([v for v in variants() if options.kernel in v.kernel.name], archs, options.every))
    os.environ.pop("TRITON_INTERPRET", None)  # a parent that emulates may have set it
    try:
        from .machine import mode

        mode.triton(interpreted=False)
    except BackendError as e:
        print(e, file=sys.stderr)
        return 2
    compiled = failed = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for rows in pool.map(inspect, tasks):
            for row in rows:
                print(row, flush=True)
                compiled, failed = compiled + 1, failed + bool(row.complaints())
    print(f"{compiled} compiled, {failed} failed")
    return 1 if failed or not compiled else 0


def _tasks(chosen: Sequence[Variant], archs: Sequence[int], every: int) -> Iterator[list[tuple[Variant, int]]]:
    """Variants with the architectures to compile them for, a few at a time."""
    wanted = [
        [(v, arch) for arch in archs if (k - ARCHS.index(arch)) % every == 0 and arch in (v.archs or ARCHS)]
        for k, v in enumerate(chosen)
    ]
    for k in range(0, len(wanted), TOGETHER):
        yield [task for tasks in wanted[k : k + TOGETHER] for task in tasks]


if __name__ == "__main__":
    sys.exit(main())
