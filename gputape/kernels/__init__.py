"""The fast path: host functions of the GPU kernels, one per op and under its name.

`pointwise.py`, `norm.py`, … hold the host side, `triton/` and `cuda/` device code and nothing else, `launch.py` is the
seam between them, `machine/` is what runs a launch. `load_backend` is the only way in.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Sequence
from types import ModuleType
from typing import Any

from ..arrays import HOST
from ..backend import Backend, Call, Steps
from ..node import Node
from ..registry import At
from . import runtime

# modules of this folder that hold no host functions
MACHINERY = (
    *("expression", "formulas", "gate", "generated", "launch", "layout", "rehearsal", "replay", "runtime"),
    "tiles",
)


class KernelBackend(Backend):
    """Runs ops by kernels. The bodies get a `runtime` (memory and stream) in the place of the array library."""

    def __init__(self, name: str, rt: Any) -> None:
        super().__init__(name, rt, ".kernels", widens=False)
        self.memory = rt if isinstance(rt, runtime.Cuda) else HOST

    def add(self, module: ModuleType) -> None:
        if module.__name__.rpartition(".")[2] not in MACHINERY:
            super().add(module)

    def body(self, at: At) -> Callable[..., Any]:
        """The host function; where the op was run under `gt.matmul_precision("high")`, one whose runtime says so."""
        body = super().body(at)
        if not at.tf32:
            return body

        @functools.wraps(body)
        def in_tf32(rt: Any, *arrays: Any, **attrs: Any) -> None:
            rt = copy.copy(rt)
            rt.matmul_precision = "tf32"  # read by `_products.kind_of`
            body(rt, *arrays, **attrs)

        return in_tf32

    def launches_of(self, graph: Any, runs: Collection[int]) -> int:
        from .rehearsal import count

        return count(self, graph, runs)

    def steps(self, steps: Sequence[tuple[Node, Sequence[Any]]]) -> Steps:
        from . import replay

        kind = replay.GraphSteps if isinstance(self.xp, runtime.Cuda) else replay.KernelSteps
        return kind(self, [(node, call) for node, calls in steps for call in calls])

    def _bind(self, at: At) -> Call:
        """Views need no kernel: the card tells offset and strides."""
        if at.op.view is None:
            return super()._bind(at)
        view, attrs, out, rt = at.op.view, at.attrs, at.outs[0], self.xp

        def reinterpret(arrays: Any) -> tuple[Any, ...]:
            x = arrays[0]
            offset, strides = view(x.shape, tuple(s // x.itemsize for s in x.strides), **attrs)
            return (rt.view(x, offset, out.shape, strides),)

        return reinterpret


def load_backend(name: str) -> KernelBackend:
    """The backend "emulated", "cuda" or "cuda:<n>".

    Raises:
        BackendError: there is no such device, or what it needs (CuPy, a driver, Triton) is missing.
    """
    if name == "emulated":
        return KernelBackend(name, runtime.Emulated())
    return KernelBackend(name, runtime.Cuda.open(name))
