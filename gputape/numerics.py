"""In which precision ops compute: `gt.precision` for everything, `gt.matmul_precision` for float32 products."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import Any, ClassVar

from .errors import ArgumentError

_Entered = ContextVar[tuple[Any, ...]]  # the blocks that run now, the innermost last


class _Choice(contextlib.ContextDecorator):
    """Something that holds inside a `with` block or a decorated function.

    Blocks nest, and each thread and task has its own. The object keeps nothing but the choice, so that it may be
    entered again, and by several threads at once.
    """

    names: ClassVar[dict[str, Any]]
    entered: ClassVar[_Entered]

    def __init__(self, name: str) -> None:
        kind = type(self).__name__
        if not isinstance(name, str) or name not in self.names:
            known = ", ".join(f'"{n}"' for n in self.names)
            raise ArgumentError(f"{kind}: {name!r:.60} is not known. Use one of {known}.")
        self.name, self.value = name, self.names[name]

    def __enter__(self) -> Any:
        self.entered.set((*self.entered.get(), self.value))
        return self

    def __exit__(self, *exc: object) -> None:
        self.entered.set(self.entered.get()[:-1])

    def __repr__(self) -> str:
        return f"gt.{type(self).__name__}({self.name!r})"


class precision(_Choice):
    """Mixed precision: `with gt.precision("bf16"): …`, also as a decorator.

    Inside, `gt.*` functions, methods and operators cast their float32 and 16-bit inputs by visible `cast` nodes, as the
    op's card says (`gputape.registry.Op.precision`): products (matmul, linear, convolutions, attention) run in 16 bit,
    with sums in float32; norms, softmax, losses and sums run in float32; everything else follows its inputs, which
    promote. Float64 and an explicit `dtype=` are left alone. The gradient of a cast casts back, so gradients have the
    dtypes of the parameters, wherever `backward` is called. As torch.autocast.

    `Tape` and `TapeM` never read it: what a pure program computes is written in it, as `cast`.

    Args:
        name: "bf16", "fp16" (small gradients vanish without an `optim.GradScaler`), or "fp32" to switch it off inside.

    Raises:
        ArgumentError: the name is not known.
    """

    names: ClassVar[dict[str, Any]] = {
        "bf16": "bfloat16",
        "fp16": "float16",
        "fp32": None,
        "bfloat16": "bfloat16",
        "float16": "float16",
        "float32": None,
    }
    entered: ClassVar[_Entered] = ContextVar("gputape_precision", default=(None,))


class matmul_precision(_Choice):
    """How float32 products are computed on a GPU: `with gt.matmul_precision("high"): …`, also as a decorator.

    "highest", the default, rounds as IEEE float32. "high" lets tensor cores round the factors to TF32's 10 bits: in
    matmul, linear, convolutions, attention and the gradients of these. Sums stay in float32.

    It holds for the ops that run inside, a `backward` among them; one that is called later follows the setting of then,
    as in PyTorch. A compiled step repeats what it was recorded with. On "cpu" it changes nothing.

    Args:
        name: "highest" or "ieee"; "high" or "tf32". "medium" is "high", as torch.set_float32_matmul_precision allows.

    Raises:
        ArgumentError: the name is not known.
    """

    names: ClassVar[dict[str, Any]] = {"highest": False, "high": True, "ieee": False, "tf32": True, "medium": True}
    entered: ClassVar[_Entered] = ContextVar("gputape_matmul_precision", default=(False,))


def narrow_dtype() -> str | None:
    """The 16-bit dtype of the innermost `gt.precision`, or None."""
    return precision.entered.get()[-1]


def tf32_allowed() -> bool:
    """Whether float32 products may run in TF32 now."""
    return matmul_precision.entered.get()[-1]


def in_force() -> tuple[Any, ...]:
    """What is chosen now: what a recorded program depends on."""
    return narrow_dtype(), tf32_allowed()
