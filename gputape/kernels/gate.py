"""The compile gate: every variant of every kernel to machine code, for every supported architecture, without a GPU.

    python -m gputape.kernels.gate [--arch 80,90] [--kernel layer_norm] [--part 1/4] [--table FILE] [--summary FILE]

The variants are those that the host modules list and those that the cards' perf shapes launch in float32 and bfloat16.
Prints one row for each: registers, accesses to spilled ones, shared memory, warps that a multiprocessor holds, width
of global accesses, matrix instructions. The exit status is 1 if a kernel does not compile, takes other parameters or
blocks than a launch passes, spills in its wide variant, needs more shared memory than the architecture has, or lacks
the matrix instructions or the 16-byte accesses that it should have and its op's card does not exempt it; or if a card
exempts a kernel all of whose variants were compiled and lack nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from .. import registry
from ..errors import BackendError
from .launch import HERE, Variant
from .machine.report import LIMITS, Row, covers, line, summary, table, unneeded
from .machine.sass import Code, counts, read

ARCHS = tuple(LIMITS)
DTYPES = ("float32", "bfloat16")  # that perf shapes are timed in
TOGETHER = 32  # variants that one process compiles for all architectures and disassembles at a time


def variants() -> Iterator[Variant]:
    """The variants that the host modules list."""
    for found in iter_modules([str(HERE)]):
        if not found.ispkg and found.name != "gate":
            yield from getattr(import_module(f"{__package__}.{found.name}"), "VARIANTS", ())


def checked() -> list[Variant]:
    """All that the gate compiles, each once."""
    from ..warmup import launched

    return list(dict.fromkeys((*variants(), *launched("perf", dtypes=DTYPES))))


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
        takes, given = (code.parameters, code.threads or cubin.threads), (cubin.passed(variant.types), cubin.threads)
        if takes != given:
            error = f"takes (bytes of each parameter, threads) {takes}, a launch passes {given}"
            found.append((replace(row, error=error), None))
            continue
        found.append((replace(row, registers=code.registers, shared=code.shared + cubin.shared), code))
    counted = counts([(row.arch, code) for row, code in found if code is not None])
    return [row if code is None else replace(row, code=counted[row.arch, code]) for row, code in found]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gputape.kernels.gate", description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default=",".join(map(str, ARCHS)), help="compute capabilities, as 80,90")
    parser.add_argument("--kernel", default="", help="only kernels whose name contains this")
    parser.add_argument("--exempt", action="store_true", help="only kernels that cards exempt from something")
    parser.add_argument("--part", default="1/1", help="only the Kth of N variants, of each N, as K/N")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", type=Path, help="file for the table, in Markdown")
    parser.add_argument("--summary", type=Path, help="file for one row per kernel, in Markdown")
    options = parser.parse_args(argv)
    archs = [int(a) for a in options.arch.split(",")]
    unknown = sorted(set(archs) - set(ARCHS))
    if unknown:
        parser.error(f"architectures {unknown} are not supported; choose from {ARCHS}")
    os.environ.pop("TRITON_INTERPRET", None)  # a parent that emulates may have set it
    try:
        from .machine import mode

        mode.triton(interpreted=False)
    except BackendError as e:
        print(e, file=sys.stderr)
        return 2
    exempt = {kernel: reason for op in registry.ops() for kernel, reason in op.exempt.items()}
    chosen = [v for v in checked() if options.kernel in v.kernel.name]
    if options.exempt:
        chosen = [v for v in chosen if any(covers(key, v.kernel) for key in exempt)]
    part, parts = (int(n) for n in options.part.split("/"))
    chosen = chosen[part - 1 :: parts]
    tasks = [[(v, arch) for v in chosen[k : k + TOGETHER] for arch in archs] for k in range(0, len(chosen), TOGETHER)]
    rows: list[Row] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for found in pool.map(inspect, tasks):
            rows += found
            for row in found:
                print(line(row, exempt), flush=True)
    for path, text in ((options.table, table), (options.summary, summary)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text(rows, exempt))
            print(f"written to {path}")
    whole = archs == list(ARCHS) and parts == 1 and not options.kernel
    idle = unneeded(exempt, rows) if whole else []
    for kernel in idle:
        print(f"FAIL a card exempts {kernel}, which lacks nothing")
    failed = sum(bool(row.complaints(exempt)) for row in rows)
    print(f"{len(rows)} compiled, {failed} failed")
    return 1 if failed or idle or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
