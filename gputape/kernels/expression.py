"""Chains of formulas, and the Triton source of one kernel for each.

A single op is a chain of one step. Between steps values stay in registers, floating-point ones in float32; a step
"cast.bfloat16" rounds on the way where that is wanted. The text depends on the chain and on how its arrays lie
(`layout.py`), and on nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..aval import INTS
from ..errors import BackendError
from .formulas import FORMULAS
from .launch import FLOATS
from .layout import Layout

KINDS = dict.fromkeys(FLOATS, "f") | dict.fromkeys(INTS, "i") | {"bool": "b", "float64": "d"}
HEAD = """import triton
import triton.language as tl

from gputape.kernels.triton import pointwise as fn
from gputape.kernels.triton import trig


"""


@dataclass(frozen=True)
class Step:
    """One formula of a chain: its name and its operands, numbers of values: the chain's inputs, then earlier steps."""

    formula: str
    operands: tuple[int, ...]


@dataclass(frozen=True)
class Chain:
    """Formulas that run together, element by element.

    Attributes:
        name: what the kernel is called.
        inputs: the kind of each input: "f" floating point of up to 32 bits, "d" float64, "i" integer, "b" bool, or "o":
            no array but the element's position weighed by given strides.
        steps: in order; each takes its plain numbers, if any, from those passed to `run`, in order.
        outputs: (number of a value, kind to store) for each output.
    """

    name: str
    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    outputs: tuple[tuple[int, str], ...]

    def kinds(self) -> list[str]:
        """The kind of every value."""
        found = ["i" if k == "o" else k for k in self.inputs]
        for step in self.steps:
            formula = FORMULAS[step.formula]
            found.append(formula.kind(found[step.operands[formula.of]]))
        return found

    def numbers(self) -> str:
        """The kind, "f" or "i", of each plain number."""
        kinds = self.kinds()
        taken = [kinds[s.operands[FORMULAS[s.formula].of]] for s in self.steps]
        found = [(k if k == "f" else "i") * FORMULAS[s.formula].numbers(k) for s, k in zip(self.steps, taken)]
        return "".join(found)

    def lines(self) -> Iterator[str]:
        """The steps as assignments to v0, v1, …."""
        kinds, number = self.kinds(), 0
        for k, step in enumerate(self.steps, len(self.inputs)):
            formula = FORMULAS[step.formula]
            kind = kinds[step.operands[formula.of]]
            text = formula.text(kind)
            if not text:
                raise BackendError(f"{self.name}: {step.formula} has no formula for operands of kind {kind!r}.")
            here = [f"c{number + i}" for i in range(formula.numbers(kind))]
            number += len(here)
            yield f"v{k} = " + text.format(*(f"v{i}" for i in step.operands), c=here)


# --- source text ------------------------------------------------------------------------------------------------------

_STORED = {"fi": ".to(tl.float32)", "fb": ".to(tl.float32)", "di": ".to(tl.float64)", "db": ".to(tl.float64)"}


def text(chain: Chain, way: Layout) -> str:
    """The source of `chain` for arrays laid out as `way` says."""
    write = _Flat(chain, way) if way.flat else _Tiled(chain, way)
    pointers = [f"y{k}_ptr,  # out" for k in range(len(chain.outputs))]
    pointers += [f"x{k}_ptr,  # in" for k, kind in enumerate(chain.inputs) if kind != "o"]
    scalars = [f"{name}," for name in (*write.integers(), *(f"c{k}" for k in range(len(chain.numbers()))))]
    blocks = ["BLOCK: tl.constexpr,"] if way.flat else ["BLOCK_ROWS: tl.constexpr,", "BLOCK_COLS: tl.constexpr,"]
    kinds = chain.kinds()
    body = [*write.positions()]
    for k, kind in enumerate(chain.inputs):
        body.append(f"v{k} = {write.load(k, kind)}")
    body += chain.lines()
    for k, (value, kind) in enumerate(chain.outputs):
        stored = f"v{value}{_STORED.get(kind + kinds[value], '')}.to(y{k}_ptr.dtype.element_ty)"
        body.append(write.store(k, stored))
    head = "\n".join(f"    {line}" for line in (*pointers, *scalars, *blocks))
    return f"{HEAD}@triton.jit\ndef {name(chain, way)}(\n{head}\n):\n" + "".join(f"    {line}\n" for line in body)


def function_text(chain: Chain) -> str:
    """The source of a device function of a block x and two plain numbers: x is the last input of `chain`, all others
    are 1."""
    *ones, x = range(len(chain.inputs))
    body = [*(f"v{k} = tl.full(x.shape, 1.0, tl.float32)" for k in ones), f"v{x} = x", *chain.lines()]
    body.append(f"return v{chain.outputs[0][0]}")
    return f"{HEAD}@triton.jit\ndef {chain.name}(x, c0, c1):\n" + "".join(f"    {line}\n" for line in body)


def map_text(chain: Chain) -> str:
    """The source of a device function of blocks v0, v1, v2, the first of them the inputs of `chain`, and four plain
    numbers."""
    body = [*chain.lines(), f"return v{chain.outputs[0][0]}"]
    head = f"{HEAD}@triton.jit\ndef {chain.name}(v0, v1, v2, c0, c1, c2, c3):\n"
    return head + "".join(f"    {line}\n" for line in body)


def name(chain: Chain, way: Layout) -> str:
    codes = "".join(way.codes) if way.flat else "_".join((*way.codes, *([f"o{way.outer}"] if way.outer else [])))
    return re.sub(r"\W", "_", f"{chain.name}__{codes}")


class _Flat:
    """The text of a kernel over one run of elements."""

    def __init__(self, chain: Chain, way: Layout) -> None:
        self.codes, self.first = way.codes, len(chain.outputs)

    def integers(self) -> list[str]:
        return ["n"]

    def positions(self) -> list[str]:
        return [
            "at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)",
            "inside = at < n",
        ]

    def load(self, k: int, kind: str) -> str:
        widen = ".to(tl.float32)" if kind == "f" else ""
        if self.codes[self.first + k] == "s":
            return f"tl.load(x{k}_ptr){widen}"
        return f"tl.load(x{k}_ptr + at, mask=inside, other=0){widen}"

    def store(self, k: int, value: str) -> str:
        return f"tl.store(y{k}_ptr + at, {value}, mask=inside)"


class _Tiled:
    """The text of a kernel over tiles of two axes, and further axes around them."""

    def __init__(self, chain: Chain, way: Layout) -> None:
        self.codes, self.outer, self.first = way.codes, way.outer, len(chain.outputs)
        self.names = [f"y{k}" for k in range(len(chain.outputs))] + [f"x{k}" for k in range(len(chain.inputs))]
        self.places = {n for n, kind in zip(self.names[self.first :], chain.inputs) if kind == "o"}

    def integers(self) -> list[str]:
        found = ["rows", "cols", *(f"size{k}" for k in range(self.outer))]
        for name, code in zip(self.names, self.codes, strict=True):
            found += [f"{name}_{axis}" for axis, c in zip(("row", "col"), code, strict=True) if c == "n"]
            found += [f"{name}_{k}" for k in range(self.outer)]
        return found

    def positions(self) -> list[str]:
        found = [
            "tile = tl.program_id(0)",
            "across = tl.cdiv(cols, BLOCK_COLS)",
            "col = tile % across * BLOCK_COLS + tl.arange(0, BLOCK_COLS)[None, :]",
            "tile = tile // across",
        ]
        if self.outer:
            found.append("down = tl.cdiv(rows, BLOCK_ROWS)")
            found.append("row = tile % down * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]")
            found.append("tile = tile // down")
        else:
            found.append("row = tile * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]")
        for k in range(self.outer):
            inner = k + 1 < self.outer
            found.append(f"i{k} = (tile{f' % size{k}' if inner else ''}).to(tl.int64)")
            found += [f"tile = tile // size{k}"] * inner
        found += ["row_inside = row < rows", "col_inside = col < cols", "inside = row_inside & col_inside"]
        return [*found, "row = row.to(tl.int64)"]

    def _offset(self, name: str) -> tuple[str, str]:
        """(offset, mask) of the elements of an array; the mask is "" where a tile has one element of it."""
        code = self.codes[self.names.index(name)]
        terms = [f"i{k} * {name}_{k}" for k in range(self.outer)]
        for axis, c in zip(("row", "col"), code, strict=True):
            if c != "0":
                terms.append(axis if c == "1" else f"{axis} * {name}_{axis}")
        masks = {"00": "", "10": "row_inside", "01": "col_inside", "11": "inside"}
        return " + ".join(terms), masks["".join("0" if c == "0" else "1" for c in code)]

    def load(self, k: int, kind: str) -> str:
        offset, mask = self._offset(f"x{k}")
        if kind == "o":
            return offset
        widen = ".to(tl.float32)" if kind == "f" else ""
        pointer = f"x{k}_ptr + {offset}" if offset else f"x{k}_ptr"
        return f"tl.load({pointer}, mask={mask}, other=0){widen}" if mask else f"tl.load({pointer}){widen}"

    def store(self, k: int, value: str) -> str:
        offset, mask = self._offset(f"y{k}")
        return f"tl.store(y{k}_ptr + {offset}, {value}, mask={mask})"

    def divisible(self) -> list[str]:
        """Integers that must be multiples of 16 for 16-byte accesses: sizes of contiguous axes, strides of others."""
        found = {f"{axis}s" for name, code in zip(self.names, self.codes) for axis, c in zip(("row", "col"), code)
                 if c == "1" and name not in self.places}  # fmt: skip
        for name, code in zip(self.names, self.codes, strict=True):
            if "1" in code and name not in self.places:
                found |= {f"{name}_{axis}" for axis, c in zip(("row", "col"), code, strict=True) if c == "n"}
                found |= {f"{name}_{k}" for k in range(self.outer)}
        return sorted(found)


def divisible(chain: Chain, way: Layout) -> list[str]:
    """The integers that must be multiples of 16 for 16-byte accesses."""
    return ["n"] if way.flat else _Tiled(chain, way).divisible()
