"""Generated kernels: from chains of formulas to launches. `run` is all that host functions need.

Each source becomes a module of its own, `gputape.kernels.triton.made_<digest>`, made when Triton first asks for it,
with an entry in `linecache` for tracebacks and for Triton, which reads sources.
"""

from __future__ import annotations

import hashlib
import linecache
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import BackendError
from . import layout
from .expression import Chain, divisible, function_text, name, text
from .launch import Function, Kernel, Variant, launch
from .layout import Layout


@dataclass(frozen=True)
class Generated(Kernel):
    """A kernel whose source is `text`: `source` names a module that exists while this process knows the text."""

    text: str = ""

    def __post_init__(self) -> None:
        if self.source not in sys.modules:
            sys.modules[self.source] = _Made(self.source, self.text)

    def __reduce__(self) -> Any:
        return Generated, tuple(getattr(self, f.name) for f in fields(self))


@dataclass(frozen=True)
class GeneratedFunction(Function):
    """A device function whose source is `text`, as `Generated` is a kernel."""

    text: str = ""

    def __post_init__(self) -> None:
        if self.source not in sys.modules:
            sys.modules[self.source] = _Made(self.source, self.text)

    def __reduce__(self) -> Any:
        return GeneratedFunction, (self.source, self.name, self.text)

    def __str__(self) -> str:
        return self.name


class _Made(ModuleType):
    """A module of generated code. It runs when a kernel is first taken from it: then Triton's mode is settled."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name)
        self.__dict__["_text"] = text

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _making:
            text = self.__dict__.pop("_text", "")
            if text:
                file = f"{self.__name__.replace('.', '/')}.py"
                linecache.cache[file] = (len(text), None, text.splitlines(True), file)
                exec(compile(text, file, "exec"), self.__dict__)
        return self.__dict__[name]


_making = threading.RLock()


@cache
def kernel(chain: Chain, way: Layout) -> Generated:
    """The kernel of `chain` for that way to walk (the sizes and strides in it do not matter)."""
    made = text(chain, way)
    source = _module(made)
    names = ("BLOCK",) if way.flat else ("BLOCK_ROWS", "BLOCK_COLS")
    constants = tuple(zip(names, way.block, strict=True))
    warps = 2 if "b" in chain.inputs else 4  # of bools a thread needs 16 for a 16-byte access
    return Generated("triton", source, name(chain, way), constants, tuple(divisible(chain, way)), warps, text=made)


@cache
def function(chain: Chain, write: Callable[[Chain], str] = function_text) -> GeneratedFunction:
    """The device function that `function_text`, or `map_text`, writes."""
    made = write(chain)
    return GeneratedFunction(_module(made), chain.name, made)


def _module(made: str) -> str:
    """The name of the module with that text."""
    return f"{__package__}.triton.made_{hashlib.sha256(made.encode()).hexdigest()[:16]}"


def variant(chain: Chain, way: Layout, dtypes: Sequence[str], wide: bool = True) -> Variant:
    """What a launch of `chain` runs whose outputs, then inputs, have these element types."""
    arrays = tuple(f"*{t}" for t in dtypes)
    numbers = tuple("float32" if k == "f" else "int64" for k in chain.numbers())
    if way.flat:
        integers: tuple[str, ...] = ("int64",)
    else:
        strides = sum(c == "n" for code in way.codes for c in code) + way.outer * len(way.codes)
        integers = ("int32",) * (2 + way.outer) + ("int64",) * strides
    return Variant(kernel(chain, way), (*arrays, *integers, *numbers), wide)


# --- launches ---------------------------------------------------------------------------------------------------------


def run(
    rt: Any,
    chain: Chain,
    outs: Sequence[Any],
    ins: Sequence[Any],
    numbers: Sequence[float] = (),
    places: Sequence[tuple[int, ...]] = (),
) -> None:
    """Run `chain` in one launch. Outputs have one shape, to which the inputs broadcast; they may share memory with
    inputs of that shape.

    Args:
        ins: the arrays, of all inputs but those of kind "o".
        numbers: the plain numbers of the steps, in order.
        places: the strides of the inputs of kind "o", one per axis of the outputs.
    """
    if outs[0].size == 0:
        return
    arrays = tuple([(a.shape, a.strides, a.itemsize) for a in (*outs, *ins)])
    found = _prepared(chain, arrays, tuple(places))
    if found is None:  # too many axes: copies in C order have one
        shape = outs[0].shape
        ins = [rt.packed(rt.expanded(x, shape)) for x in ins]
        arrays = tuple([(a.shape, a.strides, a.itemsize) for a in (*outs, *ins)])
        found = _prepared(chain, arrays, tuple(places))
        if found is None:
            raise BackendError(f"{chain.name}: outputs with more than {layout.MOST_AXES} axes must be in C order.")
    made, programs, integers, kinds = found
    values = [float(c) if kind == "f" else np.int64(c) for c, kind in zip(numbers, kinds, strict=True)]
    launch(made, (programs,), (*outs, *ins, *integers, *values), rt.stream)


@lru_cache(maxsize=16384)
def _prepared(chain: Chain, arrays: tuple[Any, ...], places: tuple[tuple[int, ...], ...]) -> Any:
    """(kernel, programs, integers, kinds of the numbers) for arrays of these (shape, strides, itemsize)."""
    shape = arrays[0][0]
    given = iter(layout.broadcast(s, tuple(b // size for b in strides), shape) for s, strides, size in arrays)
    offsets = iter(places)
    strides = [next(given) for _ in chain.outputs] + [next(offsets if k == "o" else given) for k in chain.inputs]
    way = layout.plan(shape, strides, tiled="o" in chain.inputs)
    if way is None:
        return None
    integers: list[Any] = [np.int64(way.sizes[0])] if way.flat else [*way.sizes]
    for code, steps in zip(way.codes, way.strides, strict=True):
        if not way.flat:
            integers += [np.int64(s) for s, c in zip(steps, code) if c == "n"] + [np.int64(s) for s in steps[2:]]
    shape_only = Layout(way.codes, way.outer, (), (), way.block)
    return kernel(chain, shape_only), way.programs, tuple(integers), chain.numbers()
