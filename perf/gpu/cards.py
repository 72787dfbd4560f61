"""Every card's perf shapes on the device, beside PyTorch's function where the card names one and PyTorch is there."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gputape import registry
from gputape.backend import Backend
from gputape.errors import BackendError
from gputape.registry import Op
from gputape.testing import apply, inputs_of

from . import roof
from .device import one_backward, one_call
from .report import Report, Row
from .timer import Timer, Times

DTYPES = ("float32", "bfloat16")


def cases() -> Iterator[tuple[Op, Any, str]]:
    """(card, perf shape, element type), the shapes of the example models first."""
    found = [(op, case) for op in registry.ops() if op.compose is None for case in op.perf]
    for op, case in sorted(found, key=lambda pair: not pair[1].name):
        for dtype in DTYPES:
            declared = {getattr(x, "dtype", None) for x in case.inputs}
            if dtype == "float32" or "float32" in declared:
                yield op, case, dtype


def label(case: Any) -> str:
    """The case's name and the shapes of its arrays."""
    shapes = " ".join("×".join(map(str, x.shape)) or "scalar" for x in case.inputs if hasattr(x, "shape"))
    return f"{case.name}: {shapes}" if case.name else shapes


FAILED = "FAILED: "


def time_card(report: Report, timer: Timer, backend: Backend, op: Op, case: Any, dtype: str) -> None:
    """Add the rows of one case, the op's and its vjp's, or why there are none."""
    inputs = inputs_of(op, case, dtype)
    peers, why = torch_calls(op, inputs, case.attrs)

    def add(name: str, make: Callable[..., Callable[[], Any]], cost: roof.Cost | None, peer: Any) -> bool:
        try:
            times = timer.measure(make(backend, op, inputs, case.attrs))
        except Exception as e:  # the other rows are still worth having
            reason = "" if isinstance(e, BackendError) else f"{FAILED}{type(e).__name__}: "
            report.left_out.append((f"{name}, {label(case)}, {dtype}", reason + str(e).split(". ")[0]))
            return False
        against = timed(timer, peer) if peer else (None, why)
        report.rows.append(Row(name, label(case), dtype, times, cost, *against))
        return True

    done = add(op.name, one_call, roof.cost(op, case, inputs), peers[0])
    floats = any(x is not None and x.dtype.kind in "fV" for x in inputs)
    if done and op.vjp is not None and op.public and floats:
        add(f"{op.name} backward", one_backward, None, peers[1])


def timed(timer: Timer, call: Callable[[], Any]) -> tuple[Times | None, str]:
    """(times, "") or (None, why PyTorch refused)."""
    try:
        return timer.measure(call), ""
    except Exception as e:  # whatever PyTorch raises, our rows stand
        return None, f"{type(e).__name__}: {e}".splitlines()[0][:200]


def torch_calls(
    op: Op, inputs: list[Any], attrs: dict[str, Any], device: str = "cuda", function: Any = None
) -> tuple[list[Callable[[], Any] | None], str]:
    """([PyTorch's forward, its backward], why one is missing), by the card's function or another with its signature."""
    if not (op.torch or function):
        return [None, None], "the card names no function of PyTorch"
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return [None, None], "PyTorch is not installed"
    try:
        function = function or functools.reduce(getattr, (op.torch or "").split(".")[1:], torch)
        tensors = [to_torch(torch, x, device) for x in inputs]
        options = {k: getattr(torch, v) if k == "dtype" and v is not None else v for k, v in attrs.items()}
        floats = [x for x in tensors if x is not None and x.is_floating_point()]
        apply(function, op, tensors, options)  # refuses here what it cannot do
        moving = [x.requires_grad_() for x in floats]
        y = apply(function, op, tensors, options)
        y = y[0] if isinstance(y, tuple) else y
    except Exception as e:
        return [None, None], f"{type(e).__name__}: {e}".splitlines()[0][:200]

    def forward() -> Any:
        with torch.no_grad():
            return apply(function, op, tensors, options)

    if not moving or not y.requires_grad:
        return [forward, None], "no gradient"
    dy = torch.randn_like(y)
    return [forward, lambda: torch.autograd.grad(y, moving, dy, retain_graph=True, allow_unused=True)], ""


def to_torch(torch: Any, x: np.ndarray | None, device: str) -> Any:
    """The array as a tensor on the device."""
    if x is None:
        return None
    packed = np.array(x, order="K" if min(x.strides, default=0) >= 0 else "C")  # PyTorch knows no negative strides
    if x.dtype.kind == "V" or x.dtype.name == "bfloat16":
        return torch.from_numpy(packed.view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(packed).to(device)
