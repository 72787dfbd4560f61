"""The one seam between host code and whatever runs a kernel.

A `Kernel` names one specialisation of a device function: its source, its compile-time constants, its threads. `launch`
hands it to a cubin loaded by CuPy, to Triton's interpreter or to the host build of a CUDA C source. Which one is
decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import BackendError

HERE = Path(__file__).parent
MOST_BLOCKS = 65535  # along the second and third axis of a grid
FLOATS = ("float32", "float16", "bfloat16")
DRY = ("listing", "counting", "rehearsal")  # machines that do not run kernels for their results


def need_kernel(op: str, array: Any, dtypes: Sequence[str] = FLOATS) -> str:
    """The dtype of `array`; `BackendError` if `op` has no kernel for it."""
    name = str(array.dtype)
    if name not in dtypes:
        raise BackendError(
            f'{op}: no kernel for {name} (has: {", ".join(dtypes)}). Cast the inputs, or use gt.device("cpu").'
        )
    return name


@dataclass(frozen=True)
class Function:
    """A device function that a kernel is compiled with: `name` of the Triton module `source`."""

    source: str
    name: str

    def loaded(self) -> Any:
        return getattr(import_module(self.source), self.name)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Kernel:
    """One specialisation of a device function.

    Attributes:
        route: "triton" or "cuda", the language of the source.
        source: dotted name of the Triton module, or path of the .cu file.
        name: the device function.
        constants: compile-time parameters: constexprs in Triton (`Function`s among them), macros in CUDA C.
        divisible: names of integer arguments that are multiples of 16 (and all pointers 16-byte aligned) in the variant
            with wide memory accesses. Whether that variant fits is checked at each launch. None if no promise would
            make accesses wider: there is one variant.
        warps: a block has 32 · warps threads.
        stages: how many loop iterations Triton's loads run ahead.
    """

    route: str
    source: str
    name: str
    constants: tuple[tuple[str, Any], ...] = ()
    divisible: tuple[str, ...] | None = ()
    warps: int = 4
    stages: int = 2

    @property
    def threads(self) -> int:
        return 32 * self.warps

    def functions(self) -> dict[str, Any]:
        """Those of the constants that are device functions, loaded."""
        return {k: v.loaded() for k, v in self.constants if isinstance(v, Function)}

    def __str__(self) -> str:
        inside = ", ".join(f"{k}={v}" for k, v in self.constants)
        return f"{self.name}[{inside}]" if inside else self.name


def triton(
    stem: str, name: str, *, divisible: Sequence[str] | None = (), warps: int = 4, stages: int = 2, **constants: Any
) -> Kernel:
    """The function `name` of kernels/triton/<stem>.py (or of the module with that dotted name) at these constants."""
    source = stem if "." in stem else f"{__package__}.triton.{stem}"
    promised = None if divisible is None else tuple(divisible)
    return Kernel("triton", source, name, tuple(constants.items()), promised, warps, stages)


def cuda(stem: str, name: str, *, warps: int = 4, **constants: Any) -> Kernel:
    """The function `name` of kernels/cuda/<stem>.cu (or of the .cu file at that path), `constants` being macros."""
    source = stem if stem.endswith(".cu") else str(HERE / "cuda" / f"{stem}.cu")
    return Kernel("cuda", source, name, tuple(constants.items()), None, warps)


@dataclass(frozen=True)
class Variant:
    """A kernel with the argument types of one launch: what is compiled. Each host module lists its own in `VARIANTS`.

    Attributes:
        types: one per run-time argument: "*float32" for a pointer, "int32", "int64" or "float32" for a scalar.
        wide: whether the promises of `kernel.divisible` hold.
    """

    kernel: Kernel
    types: tuple[str, ...]
    wide: bool = True

    @property
    def in_16_bit(self) -> bool:
        """Whether it reads or writes elements of 16 bits."""
        return any(t in SIXTEEN for t in self.types)


SIXTEEN = ("*float16", "*bfloat16", "*int16")


def covering(variants: Iterable[Variant]) -> tuple[Variant, ...]:
    """Of all combinations, enough to have each kernel with wide and with narrow accesses, with elements of 16 bits and
    without, and each function with each of its argument types.

    bfloat16 stands for float16 where either would do, as they differ in single instructions. What is left out is
    compiled when it is met.
    """
    seen: set[Any] = set()
    found = []
    for v in sorted(variants, key=lambda v: "*float16" in v.types):
        kernel = v.kernel
        facts = {(kernel, v.wide, v.in_16_bit), (kernel.source, kernel.name, v.types)}
        if not facts <= seen:
            seen |= facts
            found.append(v)
    return tuple(found)


def launch(kernel: Kernel, grid: tuple[int, ...], args: Sequence[Any], stream: Any) -> None:
    """Run `kernel` on a grid of programs (blocks), in order on `stream`. A grid without programs does nothing.

    Args:
        args: the run-time arguments in the order of the device function: arrays, integers (int32; `numpy.int64` for
            64-bit ones) and floats (float32).

    Raises:
        BackendError: the kernel cannot be compiled or loaded here, or (emulated) it breaks a rule of `KernelFault`.
    """
    if any(n > MOST_BLOCKS for n in grid[1:]):
        raise BackendError(f"{kernel}: the grid {grid} has an axis beyond {MOST_BLOCKS}. Fold it into the first axis.")
    if 0 not in grid:
        _runner(stream.machine, kernel.route)(kernel, grid, args, stream)


@cache
def _runner(machine: str, route: str) -> Callable[..., None]:
    emulator = {"triton": "interpreter", "cuda": "host_build"}[route]
    module = {"cuda": "cubin", **{name: name for name in DRY}}.get(machine, emulator)
    return import_module(f"{__package__}.machine.{module}").run
