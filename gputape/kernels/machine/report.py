"""The compile gate's table: what the machine code of each variant looks like, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..launch import Kernel, Variant
from .compile import REGISTERS
from .sass import Counts

ABOUT = """# The machine code of the kernels

{} variants, each compiled for {} architectures by `make kernels`; {} fail the gate. For each architecture: the most
registers of a thread / the fewest warps that a multiprocessor holds, over the variants. With spills: variants, all of
them for odd sizes and addresses, times architectures. Widest access: in bits, the narrowest of the variants that have
wide ones.

"""
NO_CODE = Counts()
WIDE = 128  # bits of the widest access that every architecture has
PRODUCTS = ("INPUT_PRECISION", "PRECISION")  # constants of kernels that multiply matrices, and how: see `tl.dot`
HEAD = (
    "kernel|types|accesses|architecture|registers|spills|shared bytes|warps|widths in bits|matrix instructions|verdict"
)


@dataclass(frozen=True)
class Limits:
    """What a multiprocessor holds at a time."""

    warps: int
    blocks: int
    shared: int  # KiB, of which each block takes 1 beside its own

    @property
    def block_shared(self) -> int:
        """Bytes of shared memory that one block may have."""
        return (self.shared - 1) * 1024


LIMITS = {  # CUDA programming guide, technical specifications per compute capability
    80: Limits(64, 32, 164),
    86: Limits(48, 16, 100),
    89: Limits(48, 24, 100),
    90: Limits(64, 32, 228),
    100: Limits(64, 32, 228),
    120: Limits(48, 24, 100),
}


@dataclass(frozen=True)
class Row:
    """What the machine code of one variant on one architecture looks like, or why there is none."""

    arch: int
    variant: Variant
    registers: int = 0
    shared: int = 0
    code: Counts = NO_CODE
    error: str = ""

    def lacks(self) -> str:
        """What the code should have and has not, unless the card of its op exempts it."""
        variant = self.variant
        precision = next((value for name, value in variant.kernel.constants if name in PRODUCTS), None)
        if precision is not None:  # float32 as IEEE has it is no work for tensor cores
            wanted = precision != "ieee" or variant.in_16_bit
            return "has no matrix instructions" if wanted and not self.code.matrix else ""
        narrow = max((bits for bits, _ in self.code.widths), default=0) < WIDE
        return "has no 16-byte accesses" if variant.wide and narrow else ""

    def complaints(self, exempt: Iterable[str] = ()) -> list[str]:
        """What is wrong. `exempt`: what cards say of kernels that may lack something, see `registry.Op`."""
        if self.error:
            return [self.error]
        limit, lacks = LIMITS[self.arch].block_shared, self.lacks()
        return [
            text
            for wrong, text in (
                # Odd sizes and addresses pay for it; no shape that we time is one of them.
                (self.code.spilled > 0 and self.variant.wide, f"spills registers ({self.code.spilled} accesses)"),
                (self.shared > limit, f"needs {self.shared} bytes of shared memory of {limit}"),
                (not self.fits(), f"has {self.variant.kernel.threads} threads of {self.registers} registers"),
                (lacks and not any(covers(key, self.variant.kernel) for key in exempt), lacks),
            )
            if wrong
        ]

    def fits(self) -> bool:
        """Whether a multiprocessor has the registers of one block."""
        return self._by_registers() > 0

    def _by_registers(self) -> int:
        """Blocks whose registers a multiprocessor has."""
        per_warp = _up(max(self.registers, 1) * 32, 256)
        return REGISTERS // per_warp // 4 * 4 // self.variant.kernel.warps

    def warps(self) -> int:
        """How many warps a multiprocessor holds at a time: its occupancy."""
        limits, each = LIMITS[self.arch], self.variant.kernel.warps
        by_shared = limits.shared * 1024 // (_up(self.shared, 128) + 1024)
        return min(limits.warps // each, limits.blocks, self._by_registers(), by_shared) * each

    def facts(self) -> list[str]:
        """The cells of the table, but for the verdict."""
        variant, code = self.variant, self.code
        kinds = ", ".join(dict.fromkeys(t[1:] for t in variant.types if t.startswith("*")))
        widths, matrix = (" ".join(f"{k}x{n}" for k, n in found) or "-" for found in (code.widths, code.matrix))
        numbers = (self.registers, code.spilled, self.shared, self.warps())
        accesses = "wide" if variant.wide else "narrow"
        return [str(variant.kernel), kinds, accesses, f"sm_{self.arch}", *map(str, numbers), widths, matrix]


def covers(key: str, kernel: Kernel) -> bool:
    """Whether an exemption `name` or `name[CONSTANT=value, …]` is one of this kernel."""
    name, _, constants = key.removesuffix("]").partition("[")
    return name == kernel.name and set(filter(None, constants.split(", "))) <= {f"{k}={v}" for k, v in kernel.constants}


def unneeded(exempt: Iterable[str], rows: Sequence[Row]) -> list[str]:
    """The exemptions that none of the rows needs."""
    needing = dict.fromkeys(row.variant.kernel for row in rows if not row.error and row.lacks())
    return [key for key in exempt if not any(covers(key, kernel) for kernel in needing)]


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


# --- tables -----------------------------------------------------------------------------------------------------------


def line(row: Row, exempt: Iterable[str]) -> str:
    """The row as text."""
    kernel, kinds, accesses, arch, registers, spills, shared, warps, widths, matrix = row.facts()
    facts = f"regs {registers} spill {spills} shared {shared} warps {warps} widths {widths} matrix {matrix}"
    verdict = "; ".join(row.complaints(exempt))
    return f"{arch:<6} {kernel} {kinds} {accesses}: {facts}" + (f"  FAIL {verdict}" if verdict else "")


def table(rows: Sequence[Row], exempt: Mapping[str, str]) -> str:
    """All rows, in Markdown."""
    cells = [[*row.facts(), "; ".join(row.complaints(exempt)) or "fine"] for row in rows]
    return _markdown(HEAD.split("|"), cells)


def summary(rows: Sequence[Row], exempt: Mapping[str, str]) -> str:
    """A page in Markdown, one row per kernel: over its variants the most registers and the fewest warps."""
    archs = list(dict.fromkeys(row.arch for row in rows))
    cells = []
    for name, group in groupby(sorted(rows, key=_family), key=_family):
        found = list(group)
        per_arch = []
        for arch in archs:
            here = [row for row in found if row.arch == arch]
            most, least = (max(r.registers for r in here), min(r.warps() for r in here)) if here else ("-", "-")
            per_arch.append(f"{most} / {least}")
        widest = min(max((bits for bits, _ in r.code.widths), default=0) for r in found if r.variant.wide)
        matrix = ", ".join(sorted({kind for r in found for kind, _ in r.code.matrix})) or "-"
        spills = sum(r.code.spilled > 0 for r in found)
        reasons = "; ".join(
            dict.fromkeys(v for k, v in exempt.items() if any(covers(k, r.variant.kernel) for r in found))
        )
        cells.append([name, str(len({r.variant for r in found})), *per_arch, str(spills), str(widest), matrix, reasons])
    head = ["kernel", "variants", *(f"sm_{a}" for a in archs), "with spills", "widest access", "matrix", "exempt"]
    failed = sum(bool(row.complaints(exempt)) for row in rows)
    return ABOUT.format(len({row.variant for row in rows}), len(archs), failed) + _markdown(head, cells)


def _family(row: Row) -> str:
    """The kernel's name; generated element-wise kernels count as one."""
    return "(element-wise)" if ".made_" in row.variant.kernel.source else row.variant.kernel.name


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
