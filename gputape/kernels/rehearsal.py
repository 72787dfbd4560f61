"""A dry run of a plan's steps: what they launch, how much memory they take beside their results, and whether a CUDA
graph can hold them.

A graph holds launches and nothing else. So host functions are called with shadows, which have a shape, a dtype and an
address but no elements: a host function that does more than launch is found out before anything has run.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import NP_DTYPE, Memory
from ..backend import _scratch
from ..errors import CompileError
from ..node import Node
from ..placement import aligned
from .machine import cubin
from .runtime import Runtime

FRESH = 1 << 20  # an address as well aligned as those of an allocator

Step = functools.partial  # of a host function: (runtime, *arrays), attributes and scratch by keyword


class Held(Exception):
    """Why a graph cannot hold a step."""


class Shadow:
    """An array without elements. `layout` is NumPy's view of memory that is not there: it is never read."""

    def __init__(self, address: int, layout: np.ndarray) -> None:
        self.ptr, self.layout = address, layout

    @classmethod
    def of(cls, array: Any, memory: Memory) -> Shadow:
        return cls(memory.address(array), _layout(array.shape, array.dtype, array.strides))

    def _view(self, layout: np.ndarray) -> Shadow:
        start, was = (a.__array_interface__["data"][0] for a in (layout, self.layout))
        return Shadow(self.ptr + start - was, layout)

    data = property(lambda self: self)
    shape = property(lambda self: self.layout.shape)
    strides = property(lambda self: self.layout.strides)
    dtype = property(lambda self: self.layout.dtype)
    ndim = property(lambda self: self.layout.ndim)
    size = property(lambda self: self.layout.size)
    itemsize = property(lambda self: self.layout.itemsize)
    nbytes = property(lambda self: self.layout.nbytes)
    flags = property(lambda self: self.layout.flags)
    T = property(lambda self: self._view(self.layout.T))

    def __len__(self) -> int:
        return len(self.layout)

    def view(self, dtype: Any) -> Shadow:
        return self._view(self.layout.view(dtype))

    def transpose(self, *axes: Any) -> Shadow:
        return self._view(self.layout.transpose(*axes))

    def reshape(self, *shape: Any) -> Shadow:
        if not self.flags.c_contiguous:
            raise Held("copies an array that is not contiguous, by reshape")
        return self._view(self.layout.reshape(*shape))

    def __getitem__(self, index: Any) -> Shadow:
        index = index if isinstance(index, tuple) else (index,)
        if not all(i is None or i is Ellipsis or isinstance(i, slice | int | np.integer) for i in index):
            raise Held("indexes an array by another")
        return self._view(self.layout[index if Ellipsis in index else (*index, ...)])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Held(f"uses .{name} of an array outside a launch")


def _refuse(name: str) -> Callable[..., Any]:
    def refused(self: Shadow, *args: Any, **options: Any) -> Any:
        raise Held(f"uses {name} of an array outside a launch")

    return refused


ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
for _name in (
    *(f"__{prefix}{name}__" for name in ARITHMETIC for prefix in ("", "r", "i")),
    *(f"__{name}__" for name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "abs", "invert", "contains")),
    *(f"__{name}__" for name in ("float", "int", "bool", "index", "iter", "setitem", "array")),
    *("__array_ufunc__", "__array_function__"),
):
    setattr(Shadow, _name, _refuse(_name))
Shadow.__hash__ = object.__hash__  # type: ignore[method-assign]


def _layout(shape: Sequence[int], dtype: Any, strides: Sequence[int] | None = None) -> np.ndarray:
    base = np.empty((), dtype)
    if strides is None:
        strides = [math.prod([n or 1 for n in shape[k + 1 :]]) * base.itemsize for k in range(len(shape))]
    return np.lib.stride_tricks.as_strided(base, tuple(shape), tuple(strides))


@dataclass(eq=False)
class RehearsalStream:
    """Counts launches.

    Attributes:
        load: `(kernel, arguments)`, called for each in the place of a launch.
    """

    load: Callable[[Any, Sequence[Any]], Any]
    machine: str = "rehearsal"
    launches: int = 0
    taken: int = 0  # bytes that the current step has asked for


class Rehearsal(Runtime):
    """The runtime of shadows."""

    matmul_precision = "ieee"

    def __init__(self, rt: Any, stream: RehearsalStream) -> None:
        self.stream, self.ranges = stream, rt.ranges
        self.fault = Shadow(FRESH, _layout((), np.int64))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        made = Shadow(FRESH, _layout(shape, dtype))
        self.stream.taken += aligned(made.nbytes)
        return made

    def expanded(self, x: Any, shape: tuple[int, ...]) -> Any:
        return Shadow(x.ptr, np.broadcast_to(x.layout, shape))

    def view(self, x: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
        return Shadow(x.ptr + offset * x.itemsize, _layout(shape, x.dtype, [s * x.itemsize for s in strides]))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Held(f"asks the runtime for {name!r}, which a plan's has not")


def rehearse(backend: Any, steps: Iterable[tuple[Node, Step]]) -> tuple[list[int], int]:
    """(launches of each step, most bytes that one asks for beside its results and scratch). On a GPU every kernel is
    compiled and loaded by then, as nothing can be while a graph is captured.

    Raises:
        CompileError: a host function does more than launch, which neither graph nor replay would repeat.
        BackendError: an op has no kernel for its arrays.
    """
    rt = backend.xp
    load = (lambda kernel, args: cubin.load(kernel, args, rt.stream)) if rt.stream.machine == "cuda" else _nothing
    stream, most, launches = RehearsalStream(load), 0, []
    place = Rehearsal(rt, stream)
    shadow = functools.partial(_shadow, memory=backend.memory)
    for node, step in steps:
        place.line, stream.taken, stream.launches = node.line, 0, 0
        attrs = {k: [shadow(x) for x in v] if k == "scratch" else v for k, v in step.keywords.items()}
        try:
            step.func(place, *map(shadow, step.args[1:]), **attrs)
        except Held as e:
            raise CompileError(
                f"{node.op}: its host function {e}, which a CUDA graph cannot hold ({node.line}). Launch a kernel for "
                "it, or leave the op out of the compiled function."
            ) from None
        most = max(most, stream.taken)
        launches.append(stream.launches)
    return launches, most


def count(backend: Any, graph: Any, runs: Collection[int]) -> int:
    """The launches of the nodes `runs` of a graph, if each value had memory of its own, in C order."""
    stream = RehearsalStream(_nothing)
    place, total = Rehearsal(backend.xp, stream), 0
    values: dict[int, list[Any]] = {}
    for i, node in graph.nodes.items():
        inputs: list[Any] = [None if j is None else values[j][0] for j in graph.inputs[i]]
        if not inputs and node.values and node.values[0] is not None:
            values[i] = [Shadow.of(node.values[0], backend.memory)]
        elif node.op == "output":
            values[i] = [values[graph.inputs[i][0]][node.attrs["index"]]]
        elif inputs and node.at.op.view is not None:
            x = inputs[0]
            offset, strides = node.at.op.view(x.shape, tuple(s // x.itemsize for s in x.strides), **node.attrs)
            values[i] = [place.view(x, offset, node.aval.shape, strides)]
        else:
            values[i] = [None if a is None else place.empty(a.shape, NP_DTYPE[a.dtype]) for a in node.avals]
        if i in runs:
            body = backend.body(node.at)
            work = [place.empty(a.shape, NP_DTYPE[a.dtype]) for a in _scratch(body, node.at)]
            stream.launches = 0
            body(place, *values[i], *inputs, **node.attrs, **({"scratch": work} if work else {}))
            total += stream.launches
    return total


def _shadow(array: Any, memory: Memory) -> Any:
    return None if array is None else Shadow.of(array, memory)


def _nothing(kernel: Any, args: Sequence[Any]) -> None:
    """Kernels that are emulated need no loading."""
