"""Materialises the samples on the cards; used by the tests, the reference recorder and perf."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .aval import FLOATS
from .backend import NP_DTYPE
from .registry import Op
from .samples import T


def make(spec: T, seed: int, float_dtype: str | None = None) -> np.ndarray:
    """The array of a descriptor. The same descriptor and seed give the same array everywhere.

    Args:
        float_dtype: replaces the dtype of floating-point descriptors, keeping their values as far as it can hold them.
    """
    rng = np.random.default_rng(seed)
    dtype = spec.dtype
    values = _fill(spec, rng)
    if dtype in FLOATS:
        # float64 samples must hold the very numbers that the float32 ones hold
        values = values.astype(NP_DTYPE[dtype])
        dtype = dtype if spec.stat else float_dtype or dtype
    return lay_out(np.asarray(values).astype(NP_DTYPE[dtype]), spec.layout)


def _fill(spec: T, rng: np.random.Generator) -> np.ndarray:
    n = int(np.prod(spec.shape, dtype=np.int64))
    match spec.fill:
        case "normal":
            return rng.standard_normal(spec.shape)
        case "uniform":
            return rng.uniform(spec.low, spec.high, spec.shape)
        case "distinct":
            return (rng.permutation(n).reshape(spec.shape) - n / 2) / max(n, 1) * (spec.high - spec.low)
        case "ints":
            return rng.integers(int(spec.low), int(spec.high), spec.shape)
        case "bool":
            return rng.integers(0, 2, spec.shape)
        case "zeros":
            return np.zeros(spec.shape)
        case "ones":
            return np.ones(spec.shape)
        case values:
            return np.broadcast_to(np.asarray(values, dtype=np.float64), spec.shape)


def lay_out(array: np.ndarray, layout: Any) -> np.ndarray:
    """The same values in one of the memory layouts of `T`."""
    match layout:
        case "c":
            return np.ascontiguousarray(array).reshape(array.shape)
        case "transposed":
            return np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
        case "strided":
            wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
            wide[..., ::2] = array
            return wide[..., ::2]
        case "flipped":
            return np.ascontiguousarray(array[::-1])[::-1]
        case "expanded":
            return np.broadcast_to(array[:1], array.shape)
        case "repeated":
            return np.broadcast_to(array.reshape(-1)[:1].reshape(()), array.shape)
        case tuple():
            return np.ascontiguousarray(array.transpose(layout)).transpose(np.argsort(layout))
    raise ValueError(f"unknown layout {layout!r}")


def inputs_of(op: Op, case: Any, float_dtype: str | None = None) -> list[Any]:
    """The arrays of a sample, in the order of the card's inputs; absent ones are None, plain values pass through."""
    seed = zlib.crc32(f"{op.name}{case!r}".encode())
    given = [make(x, seed + k, float_dtype) if isinstance(x, T) else x for k, x in enumerate(case.inputs)]
    if op.variadic:
        return given
    return given + [None] * (len(op.inputs) - len(given))


def apply(function: Callable[..., Any], op: Op, inputs: Sequence[Any], attrs: dict[str, Any]) -> Any:
    """Call a function that has the card's signature."""
    if any(p.kind is p.VAR_POSITIONAL for p in op.params):
        named = {p.name: attrs[p.name] for p in op.params if p.kind is p.KEYWORD_ONLY and p.name in attrs}
        return function(*(attrs[name] for name in op.attrs if name not in named), *inputs, **named)
    if op.variadic:
        return function(**{op.inputs[0].lstrip("*"): list(inputs)}, **attrs)
    required = {p.name for p in op.params if p.default is inspect.Parameter.empty}
    named = {n: x for n, x in zip(op.inputs, inputs, strict=True) if x is not None or n in required}
    return function(**named, **attrs)
