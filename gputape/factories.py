"""Arrays made from numbers alone, where ops run now: zeros, ones, full, arange, linspace, eye. As in torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import NP_DTYPE
from .aval import INTS, dtype_name, fits
from .dispatch import interpreter
from .errors import ArgumentError, DTypeError


def _dtype(op: str, dtype: Any) -> str:
    name = dtype_name(dtype)
    if name not in NP_DTYPE:
        raise DTypeError(f"{op}: dtype {dtype!r} is not supported. Use one of {', '.join(NP_DTYPE)}.")
    return name


def _shape(op: str, size: Sequence[Any]) -> tuple[int, ...]:
    listed = tuple(size[0]) if len(size) == 1 and isinstance(size[0], tuple | list) else tuple(size)
    if any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0 for n in listed):
        raise ArgumentError(f"{op}: {size!r:.60} is not a shape. Pass integers of 0 or more, as in {op}(2, 3).")
    return tuple(int(n) for n in listed)


def _plain(value: Any) -> Any:
    """The Python number of a NumPy one, or of an array without axes."""
    return value.item() if getattr(value, "shape", None) == () else value


def _numbers(op: str, **given: Any) -> None:
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise ArgumentError(f"{op}: {name}={value!r:.40} must be a number.")
        if not math.isfinite(value):
            raise ArgumentError(f"{op}: {name}={value} is not finite. Pass a finite number.")


def _made(op: str, array: np.ndarray, dtype: Any) -> Any:
    """The array in the memory of the device, and on the recording if there is one."""
    name = _dtype(op, dtype)
    return interpreter().const(array.astype(NP_DTYPE[name]), name)


def zeros(*size: Any, dtype: Any = "float32") -> Any:
    """An array of shape `size` full of 0. As torch.zeros."""
    return _made("zeros", np.zeros(_shape("zeros", size)), dtype)


def ones(*size: Any, dtype: Any = "float32") -> Any:
    """An array of shape `size` full of 1. As torch.ones."""
    return _made("ones", np.ones(_shape("ones", size)), dtype)


def full(size: Any, fill_value: Any, *, dtype: Any = None) -> Any:
    """An array of shape `size` full of a number; its dtype is that of the number: bool, int64 or float32. As
    torch.full."""
    if not isinstance(fill_value, bool | int | float):
        raise ArgumentError(f"full: fill_value={fill_value!r:.40} must be a number.")
    shape = _shape("full", (size,) if isinstance(size, int) else tuple(size))
    found = "bool" if isinstance(fill_value, bool) else "int64" if isinstance(fill_value, int) else "float32"
    name = _dtype("full", dtype or found)
    if not fits(fill_value, name):
        raise ArgumentError(f"full: fill_value={fill_value} does not fit {name}. Use another dtype.")
    return _made("full", np.full(shape, fill_value), name)


def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None) -> Any:
    """The numbers from start (0 if one number is given) up to end, without it, `step` apart; int64 of integers, else
    float32. As torch.arange."""
    start, end, step = map(_plain, (0, start, step) if end is None else (start, end, step))
    _numbers("arange", start=start, end=end, step=step)
    found = "int64" if all(isinstance(v, int) for v in (start, end, step)) else "float32"
    name = _dtype("arange", dtype or found)
    leads = (end - start) * step >= 0
    if name == "int64":
        start, end, step = int(start), int(end), int(step)
    if not step or not leads:
        raise ArgumentError(f"arange: step={step} does not lead from {start} to {end}. Change its sign, or the ends.")
    count = math.ceil((end - start) / step)
    if name in INTS:  # of the other integers PyTorch cuts the numbers off, too, but not before it counts
        start, step = int(start), int(step)
    values = start + np.arange(count, dtype=np.float64 if isinstance(start * step, float) else np.int64) * step
    return _made("arange", values, name)


def linspace(start: float, end: float, steps: int, *, dtype: Any = "float32") -> Any:
    """`steps` numbers from start to end, both included, evenly spaced. As torch.linspace."""
    start, end = _plain(start), _plain(end)
    _numbers("linspace", start=start, end=end)
    (steps,) = _shape("linspace", (_plain(steps),))
    if _dtype("linspace", dtype) not in INTS:
        return _made("linspace", np.linspace(start, end, steps), dtype)
    start, end, i = int(start), int(end), np.arange(steps)  # PyTorch cuts the ends off first, and counts from both
    step = (end - start) / max(steps - 1, 1)
    return _made("linspace", np.where(i < max(steps // 2, 1), start + step * i, end - step * (steps - 1 - i)), dtype)


def eye(n: int, m: int | None = None, *, dtype: Any = "float32") -> Any:
    """The (n, m) matrix, (n, n) without m, with 1 on the main diagonal and 0 elsewhere. As torch.eye."""
    rows, columns = _shape("eye", (n, n if m is None else m))
    return _made("eye", np.eye(rows, columns), dtype)
