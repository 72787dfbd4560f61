"""What the machine code of a kernel holds: registers, shared memory and instructions, read from cubins without a GPU.

The disassembler's start takes longer than its work, so that many kernels of one generation go to it together.
"""

from __future__ import annotations

import math
import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .assembler import bundled
from .compile import Cubin

MATRIX = re.compile(r"\b(HMMA|HGMMA|UTCHMMA|OMMA|QMMA|UTCQMMA|IMMA|DMMA)\b")
LOCAL = re.compile(r"\b(?:LDL|STL)\b")  # registers spilled to local memory
GLOBAL = re.compile(r"\b(LDG|STG|LDGSTS|UBLKCP|UTMALDG|UTMASTG)\b((?:\.\w+)*)")
WIDTHS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128, "256": 256}
BULK = ("UBLKCP", "UTMALDG", "UTMASTG")  # copies in units of 16 bytes
# Entries of the sections .nv.info (of all kernels) and .nv.info.<kernel>
REGISTERS = 0x2F  # EIATTR_REGCOUNT
PARAMETER = 0x17  # EIATTR_KPARAM_INFO
THREADS = 0x10  # EIATTR_REQNTID
STEP = 16  # bytes of an instruction


@dataclass(frozen=True)
class Code:
    """The machine code of one kernel.

    Attributes:
        registers: of each thread.
        shared: bytes of static shared memory.
        text: its instructions.
        parameters: the bytes of each.
        threads: of a block, if it must have so many; else 0.
    """

    registers: int
    shared: int
    text: bytes
    parameters: tuple[int, ...] = ()
    threads: int = 0


@dataclass(frozen=True)
class Counts:
    """Instructions by kind.

    Attributes:
        spilled: accesses to registers in local memory.
        widths: (bits, number) of the accesses to global memory.
        matrix: (name, number) of the matrix instructions.
    """

    spilled: int = 0
    widths: tuple[tuple[int, int], ...] = ()
    matrix: tuple[tuple[str, int], ...] = ()


def read(cubin: Cubin) -> Code:
    """The code of the kernel `cubin.name`; a file of CUDA C may hold others beside it."""
    with open(cubin.path, "rb") as file:
        elf = _Elf(file.read())
    registers = next(count for name, count in elf.register_counts() if name == cubin.name)
    parameters, threads = elf.called_with(cubin.name)
    return Code(
        registers, elf.size(f".nv.shared.{cubin.name}"), elf.content(f".text.{cubin.name}"), parameters, threads
    )


def counts(codes: Sequence[tuple[int, Code]]) -> dict[tuple[int, Code], Counts]:
    """What each of these kernels, (architecture, code), consists of.

    Instructions are encoded alike in a generation, the same code often serves several of its members.
    """
    found: dict[tuple[int, Code], Counts] = {}
    for generation in sorted({arch // 10 for arch, _ in codes}):
        here = [(arch, code) for arch, code in codes if arch // 10 == generation]
        texts = list(dict.fromkeys(code.text for _, code in here))
        lines, counted = iter(_disassembled(b"".join(texts), max(arch for arch, _ in here))), {}
        for text in texts:
            counted[text] = _count([next(lines) for _ in range(len(text) // STEP)])
        assert next(lines, None) is None, "the disassembler split instructions"
        found |= {(arch, code): counted[code.text] for arch, code in here}
    return found


def _disassembled(text: bytes, arch: int) -> list[str]:
    """One line per instruction."""
    tools = bundled()
    assert tools is not None, "what was compiled was compiled by Triton"
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(text)
        file.flush()
        command = [str(tools / "nvdisasm"), "--no-dataflow", "--binary", f"SM{arch}", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if line.lstrip().startswith("/*")]


def _count(lines: Sequence[str]) -> Counts:
    text = "\n".join(lines)
    widths = Counter(
        128 if name in BULK else max((WIDTHS.get(word, 0) for word in options.split(".")), default=0) or 32
        for name, options in GLOBAL.findall(text)
    )
    matrix = Counter(MATRIX.findall(text))
    return Counts(len(LOCAL.findall(text)), tuple(sorted(widths.items())), tuple(sorted(matrix.items())))


class _Elf:
    """The sections of a cubin, a little-endian 64-bit ELF file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        (start,) = struct.unpack_from("<Q", data, 40)
        size, number, names = struct.unpack_from("<HHH", data, 58)
        # name, type, flags, address, offset, size
        heads = [struct.unpack_from("<IIQQQQ", data, start + k * size) for k in range(number)]
        self.sections = {self._text(heads[names][4] + head[0]): head for head in heads}

    def _text(self, start: int) -> str:
        return self.data[start : self.data.index(b"\0", start)].decode()

    def size(self, section: str) -> int:
        """Bytes that a section stands for, 0 if there is none of that name."""
        return self.sections[section][5] if section in self.sections else 0

    def content(self, section: str) -> bytes:
        _, _, _, _, start, size = self.sections[section]
        return self.data[start : start + size]

    def register_counts(self) -> Iterator[tuple[str, int]]:
        """(function, registers) of each kernel in the file."""
        symbols = self.content(".symtab")
        for kind, value in self._entries(".nv.info"):
            if kind == REGISTERS:
                symbol, count = struct.unpack("<II", value)
                (name,) = struct.unpack_from("<I", symbols, 24 * symbol)
                yield self._text(self.sections[".strtab"][4] + name), count

    def called_with(self, name: str) -> tuple[tuple[int, ...], int]:
        """(bytes of each parameter, threads that a block must have or 0) of a kernel."""
        sizes, threads = {}, 0
        for kind, value in self._entries(f".nv.info.{name}"):
            if kind == PARAMETER:
                _, ordinal, _, packed = struct.unpack("<IHHI", value)
                sizes[ordinal] = packed >> 18
            elif kind == THREADS:
                threads = math.prod(struct.unpack("<III", value))
        return tuple(sizes[k] for k in range(len(sizes))), threads

    def _entries(self, section: str) -> Iterator[tuple[int, bytes]]:
        """(kind, value) of the entries that have values of more than two bytes."""
        info, at = self.content(section), 0
        while at < len(info):
            sized, kind, size = struct.unpack_from("<BBH", info, at)
            at += 4
            if sized == 4:  # `size` bytes follow; else the value is in its place
                yield kind, info[at : at + size]
                at += size
