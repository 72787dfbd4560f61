"""`gt.compile`: record a step once as one flat program, then replay it.

The first call at a signature records everything: forward, backward, parameter updates. Arguments, parameters and
optimizer state are its inputs; writes to cells are effects at its end. Nothing is computed on the way. That call and
later ones replay the plan, as long as what it was recorded under still holds.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from . import backend as _backend
from .anomaly import unwatched
from .errors import CompileError
from .numerics import in_force
from .plan import Plan
from .recording import Recording
from .trace import Trace
from .tree import flatten
from .variable import ACTIVE, Cell, Var, unwrap


class Compiled:
    """What `gt.compile` returns: call it like the function.

    Attributes:
        plans: the recorded programs by signature, and by how many were recorded at that signature before (in another
            mode of a module, say).
    """

    limit = 16

    def __init__(self, f: Callable[..., Any], rewrite: bool = True) -> None:
        self.rewrite = rewrite
        self.f, self.name = f, getattr(f, "__name__", "step")
        self.plans: dict[Any, tuple[Plan, Callable[..., Any], list[Callable[[Any], Any]]]] = {}
        self._lock = threading.RLock()  # a plan has one arena
        self._last: tuple[Any, ...] | None = None  # (conditions, (shape, dtype) per argument, what `plans` holds)
        functools.update_wrapper(self, f)

    @property
    def plan(self) -> Plan:
        """The plan recorded last; `CompileError` before the first call."""
        if not self.plans:
            raise CompileError(f"{self.name}: nothing is recorded yet. Call it once first.")
        return list(self.plans.values())[-1][0]

    def explain(self) -> str:
        """The plan recorded last, as text."""
        return self.plan.explain()

    def predict(self, gpu: str) -> Any:
        """An estimate of what a replay of the plan recorded last takes on that GPU; see `Plan.predict`."""
        return self.plan.predict(gpu)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (rec := ACTIVE.get()) is not None:
            inside = "another compiled function" if rec.tracing else "gt.record()"
            raise CompileError(
                f"{self.name}: a compiled function was called inside {inside}. Call the plain function there."
            )
        watched = _backend.WATCH.get() is not None
        if not kwargs and not watched and (found := self._as_last(args)) is not None:
            with self._lock:
                if found[0].holds():
                    return self._replay(found, args)
        leaves, build = flatten((args, kwargs))
        for x in leaves:
            if isinstance(x, Cell):
                raise CompileError(
                    f"{self.name}: an argument is {x!r:.80}. A step reads and writes parameters and buffers from where "
                    "it is defined; pass a copy of the value (.numpy()) if it is data."
                )
        arrays = [_array(unwrap(x)) if _is_array(x) else None for x in leaves]
        try:
            key = (
                _conditions(),
                tuple([x if a is None else _backend.aval_of(a) for x, a in zip(leaves, arrays, strict=True)]),
                tuple(map(type, leaves)),  # True, 1 and 1.0 are equal
                repr(build(["·"] * len(leaves))),
            )
            hash(key)
        except TypeError as e:
            raise CompileError(
                f"{self.name}: an argument is neither an array nor hashable ({e}). Pass arrays."
            ) from None
        given = [a for a in arrays if a is not None]
        with self._lock:
            k = 0
            while (found := self.plans.get((*key, k))) is not None and not found[0].holds():
                k += 1
            if found is None or watched:  # recording runs the program node by node, where each can be looked at
                found = self._record((*key, k), leaves, arrays, build)
            if not kwargs and all(type(x) is np.ndarray for x in args):
                self._last = key[0], [(x.shape, x.dtype) for x in args], found
            with unwatched() if watched else contextlib.nullcontext():
                return self._replay(found, given)

    def _as_last(self, args: tuple[Any, ...]) -> Any:
        """The plan of the last call, if this one has its signature; only where all arguments are NumPy's arrays."""
        if self._last is None:
            return None
        conditions, kinds, found = self._last
        if len(args) != len(kinds) or conditions != _conditions():
            return None
        for x, (shape, dtype) in zip(args, kinds, strict=True):
            if type(x) is not np.ndarray or x.shape != shape or x.dtype is not dtype:
                return None
        return found

    def _replay(self, found: Any, arrays: Any) -> Any:
        plan, rebuild, wraps = found
        plan.refuse_aliases(arrays)
        return rebuild([wrap(value) for wrap, value in zip(wraps, plan.replay(arrays), strict=True)])

    def _record(self, key: Any, leaves: list[Any], arrays: list[Any], build: Callable[..., Any]) -> Any:
        self._warn_if_piling_up(key)
        for a in arrays:
            if a is not None and a.dtype == object:
                raise CompileError(f"{self.name}: an argument is an array of objects. Pass numeric arrays.")
        trace = Trace(self.name)
        token = ACTIVE.set(trace)
        try:
            inputs = [x if a is None else trace.argument(a) for x, a in zip(leaves, arrays, strict=True)]
            args, kwargs = build(inputs)
            out = self.f(*args, **kwargs)
        finally:
            ACTIVE.reset(token)
        results, rebuild = flatten(out)
        for r in results:
            if hasattr(r, "dtype") and not isinstance(r, Var):
                raise CompileError(
                    f"{self.name}: it returned an array ({type(r).__name__}), which every replay would repeat. Compute "
                    "it with gt, or leave it out."
                )
            if not (r is None or isinstance(r, Var | bool | int | float | str)):
                raise CompileError(
                    f"{self.name}: it returned a {type(r).__name__}. Return arrays, numbers or nests of them."
                )
        for r in results:
            if isinstance(r, Var) and r.rec is not trace:
                raise CompileError(f"{self.name}: it returned a value of another recording. Return what it computed.")
        wraps = [_wrap(r, trace) for r in results]
        plan = Plan(trace, results, self.name, self.rewrite)
        plan.refuse_aliases([a for a in arrays if a is not None])
        self.plans[key] = plan, rebuild, wraps
        if len(self.plans) > self.limit:
            del self.plans[next(iter(self.plans))]
        return self.plans[key]

    def _warn_if_piling_up(self, key: Any) -> None:
        if len(self.plans) < self.limit // 2:
            return
        old = next(reversed(self.plans))
        changed = [f"argument {i}: {a!r} → {b!r}" for i, (a, b) in enumerate(zip(old[1], key[1])) if a != b]
        warnings.warn(
            f"{self.name}: {len(self.plans) + 1} signatures are recorded; the last change was "
            f"{'; '.join(changed) or 'how arguments nest, or an option of a module or optimizer'}. "
            "Pad inputs to a few shapes, and pass changing numbers as arrays.",
            stacklevel=3,
        )


def _conditions() -> tuple[Any, ...]:
    """What every program is recorded under: the device, and the precisions."""
    return (_backend.current(), *in_force())


def _wrap(result: Any, trace: Trace) -> Callable[[Any], Any]:
    """What makes of a value that a replay gives a result as eager has it: a `Var` of what was computed inside
    `gt.record()`, else an array; of None what was returned beside arrays."""
    if not isinstance(result, Var):
        return lambda value: result
    if result.id not in trace.in_window:
        return lambda value: value
    rec = Recording()  # a finished one, whose leaf holds no value, serves all calls
    node = rec.leaf(result._value, requires_grad=False, copy=False).node
    return lambda value: Var(rec, node, 0, value)


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray | np.generic | Var | Cell) or hasattr(x, "__dlpack__")


def _array(x: Any) -> Any:
    """An argument as an array; one of NumPy's stays where it is, since a replay copies it anyway."""
    return _backend.as_array(x) if isinstance(x, np.ndarray | np.generic) else _backend.current().memory.array(x)


def compile(f: Callable[..., Any] | None = None, *, rewrite: bool = True) -> Any:
    """Record `f` at its first call with each signature, then replay: the same numbers, less overhead.

    Arrays among the arguments (also in tuples, lists and dicts) are inputs; everything else is part of the signature.
    Parameters, buffers, optimizer state and the random state are read and written as in eager mode. What `f` returns
    are fresh copies.

    Args:
        f: a function of arrays, such as a whole training step. Left out, `compile(rewrite=…)` is a decorator.
        rewrite: whether ops may be put together (`plan.explain()` tells which), which can round results otherwise.
            False repeats what was recorded, bit for bit.

    Returns:
        A `Compiled` function, called like `f`.

    Raises:
        CompileError: `f` reads a value on the host while it is recorded, is nested in another recording, or returns
            what is no array.
    """
    if f is None:
        return lambda f: Compiled(f, rewrite)
    return Compiled(f, rewrite)
