"""One process, one Triton mode: `@triton.jit` decides at import whether kernels are interpreted or compiled."""

from __future__ import annotations

import os
import sys
from typing import Any

from ...errors import BackendError


def triton(interpreted: bool) -> Any:
    """Import Triton in the given mode.

    Raises:
        BackendError: Triton is missing, or this process already uses the other mode.
    """
    if "triton" not in sys.modules and interpreted:
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        import triton
        import triton.language as tl
    except ImportError as e:
        raise BackendError(f'triton: cannot be imported ({e}). Install gputape[gpu], or use gt.device("cpu").') from e
    if (type(tl.cdiv).__name__ == "InterpretedFunction") != interpreted:
        has, wanted = ("compiled", "emulated") if interpreted else ("interpreted", "cuda")
        raise BackendError(
            f"device: this process has Triton in {has} mode, and {wanted!r} needs the other one. "
            f"Start a process of its own with GPUTAPE_DEVICE={wanted}, or import gputape before Triton."
        )
    return triton
