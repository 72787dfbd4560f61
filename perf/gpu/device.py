"""Arrays on a device, and ops run there: what tests and timings on a GPU share.

`put` and `get` carry arrays over with their strides; on a backend of NumPy arrays they do nothing, so that everything
built on them is tested without a GPU.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from gputape import backend as backends
from gputape.backend import Backend, aval_of
from gputape.backward import sweep
from gputape.functions import Execute
from gputape.node import Node, leaf_at, next_uid
from gputape.registry import Op
from gputape.tape import Append, Tape
from gputape.testing import apply


def absent() -> str:
    """Why nothing can run on a GPU here, or ""."""
    if not os.path.exists("/dev/nvidiactl") or os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return "no NVIDIA device"
    return ""


def put(x: Any, backend: Backend) -> Any:
    """A NumPy array on the backend's device, with the same strides; what is no array passes through."""
    if not isinstance(x, np.ndarray) or not backend.name.startswith("cuda"):
        return x
    import cupy

    if x.size == 0:
        return cupy.empty(x.shape, x.dtype)
    low, high = byte_bounds(x)
    raw = np.ctypeslib.as_array((ctypes.c_uint8 * (high - low)).from_address(low))
    memory = cupy.asarray(raw).data + (x.__array_interface__["data"][0] - low)
    return cupy.ndarray(x.shape, x.dtype, memory, x.strides)


def get(x: Any) -> Any:
    """The NumPy array of a device's array."""
    return x.get() if hasattr(x, "get") and not isinstance(x, np.ndarray) else x


class OnDevice(Execute):
    """Runs ops on a backend's arrays; constants are carried over."""

    def const(self, value: Any, dtype: str) -> Any:
        return put(backends.as_array(value, dtype), self.backend)

    def lift(self, op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return inputs


class Recorded(Append):
    """A tape whose arrays lie on a backend's device. Handles are node ids."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(Tape())
        self.backend = backend

    def leaf(self, array: np.ndarray, requires_grad: bool) -> Any:
        there = put(array, self.backend)
        aval = aval_of(there)
        return self.push(Node(leaf_at(aval), (), (there,), requires_grad and aval.is_float, None, next_uid()))

    def const(self, value: Any, dtype: str) -> Any:
        return self.leaf(backends.as_array(value, dtype), False)

    def backward(self, out: int, seed: int) -> dict[int, int]:
        """{node id: id of its gradient}."""
        nodes = self.store.nodes[: self.n]

        def saved(i: int, node: Node) -> tuple[Any, ...]:
            op = node.at.op
            if op.saved_inputs == (-1,):
                return node.inputs
            return tuple(
                [node.inputs[k] if is_input else (self.output(i, k) if k else i) for is_input, k in op.saved_at]
            )

        return sweep(self, nodes, int(out), seed, saved)


def _arrays(op: Op, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """NumPy arrays of a sample's inputs, plain numbers among them."""
    return Execute(backends.backend("cpu")).lift(op, tuple(inputs))


def outputs(backend: Backend, op: Op, inputs: Sequence[Any], attrs: dict[str, Any]) -> tuple[Any, ...]:
    """All outputs of an op (of a composed one: its results), fetched."""
    F = OnDevice(backend)
    made = F.outputs if op.compose is None else F.run
    found = made(op, tuple(put(x, backend) for x in _arrays(op, inputs)), op.values(attrs))
    return tuple(get(y) for y in (found if isinstance(found, tuple) else (found,)))


def settled(op: Op, inputs: Sequence[Any], attrs: dict[str, Any]) -> dict[str, Any]:
    """The attributes with those filled in that follow the inputs' dtype, such as the eps of rms_norm."""
    return op.at(tuple(None if x is None else aval_of(x) for x in _arrays(op, inputs)), op.values(attrs)).attrs


def gradients(backend: Backend, op: Op, inputs: Sequence[Any], attrs: dict[str, Any], seed: int = 7) -> list[Any]:
    """The gradient of the op's first result with respect to each input (None where there is none), fetched.

    The cotangent is drawn from `seed` and the same on every backend.
    """
    F = Recorded(backend)
    pairs = zip(_arrays(op, inputs), inputs, strict=True)
    leaves = [None if x is None else F.leaf(x, isinstance(given, np.ndarray)) for x, given in pairs]
    y = apply(getattr(F, op.name), op, leaves, attrs)
    first = y[0] if isinstance(y, tuple) else y
    aval = F.aval(first)
    cotangent = np.random.default_rng(seed).standard_normal(aval.shape).astype(np.float32)
    found = F.backward(first, F.const(cotangent, aval.dtype))
    return [None if i is None or i not in found else get(F.store.nodes[found[i]].values[0]) for i in leaves]


def widened(x: Any) -> Any:
    """A floating-point array in float64."""
    return x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype.kind in "fV" else x


def one_call(backend: Backend, op: Op, inputs: Sequence[Any], attrs: dict[str, Any]) -> Callable[[], Any]:
    """A function that runs a primitive op once on arrays that already lie on the device."""
    there = tuple(put(x, backend) for x in inputs)
    call = backend.call(op.at(tuple(None if x is None else aval_of(x) for x in there), op.values(attrs)))
    return lambda: call(there)


def one_backward(backend: Backend, op: Op, inputs: Sequence[Any], attrs: dict[str, Any]) -> Callable[[], Any]:
    """A function that runs the op's vjp once, for all of its floating-point inputs."""
    F = OnDevice(backend)
    there = tuple(put(x, backend) for x in inputs)
    at = op.at(tuple(None if x is None else aval_of(x) for x in there), op.values(attrs))
    outs = backend.call(at)(there)
    at = at.with_needs(tuple(a is not None and a.is_float for a in at.ins))
    dy = F.const(np.random.default_rng(7).standard_normal(at.out.shape).astype(np.float32), at.out.dtype)
    seeds = (dy, *[None] * (len(at.outs) - 1)) if op.several else dy
    all_inputs = op.saved_inputs == (-1,)
    saved = there if all_inputs else tuple(there[k] if is_input else outs[k] for is_input, k in op.saved_at)
    return lambda: op.vjp(F, at, seeds, *saved)
