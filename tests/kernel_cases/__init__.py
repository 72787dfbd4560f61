"""Samples around the edges of the kernels' tiles, and what kernels refuse, by family: one module per file of
`gputape/kernels`, each with `EDGES` (op → samples) and, where needed, `EXEMPT` (op → function of sample and inputs
that gives the refusal, or None)."""

from __future__ import annotations

import importlib
import pkgutil

FLOATS = ("float32", "float16", "bfloat16")
EDGES: dict = {}
EXEMPT: dict = {}

for _found in pkgutil.iter_modules(__path__):
    _module = importlib.import_module(f"{__name__}.{_found.name}")
    EDGES |= getattr(_module, "EDGES", {})
    EXEMPT |= getattr(_module, "EXEMPT", {})


def exempt(op, sample, inputs):
    """Why the kernel refuses this sample, or None. Unless a family says otherwise, kernels take the 16- and 32-bit
    floats, and what an op computes in is the dtype of its first input."""
    if op.name in EXEMPT:
        return EXEMPT[op.name](sample, inputs)
    kind = str(inputs[0].dtype)
    return None if kind in FLOATS else f"no kernel for {kind}"
