"""ONNX operators in gputape's functions: enough of a backend to run the node tests of `onnx.backend.test`.

`OPERATORS` maps an operator to a function of its inputs and, by keyword, its attributes with ONNX's defaults. What
gputape does not have as such (paddings that differ between the sides, `SAME_UPPER`) is written with what it has. The
operators are in the `onnx_*` modules beside this one, which enter them when they are imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

OPERATORS: dict[str, Callable[..., Any]] = {}


def operator(function: Callable[..., Any]) -> Callable[..., Any]:
    """Enter a function under its name, which is the ONNX operator's."""
    OPERATORS[function.__name__] = function
    return function


def run_node(op_type: str, inputs: Sequence[Any], attributes: dict[str, Any], n_outputs: int = 1) -> tuple[Any, ...]:
    """All outputs of one operator. `inputs` holds None for an optional input left out."""
    attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
    if op_type in ("Split", "Attention", "MaxPool"):
        attributes["n_outputs"] = n_outputs
    out = OPERATORS[op_type](*inputs, **attributes)
    return tuple(map(np.asarray, out if isinstance(out, (tuple, list)) else (out,)))


def ints(array: Any) -> list[int]:
    return [int(n) for n in np.asarray(array).reshape(-1)]


# --- which types there are --------------------------------------------------------------------------------------------

TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bfloat16")


def unsupported_type(arrays: Sequence[Any]) -> str | None:
    """The first element type that gputape does not have."""
    for x in arrays:
        name = getattr(getattr(x, "dtype", None), "name", type(x).__name__)
        if name not in TYPES:
            return name
    return None


assert np.dtype(ml_dtypes.bfloat16).name in TYPES
