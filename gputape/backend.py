"""Devices: which folder of bodies computes an op, and on which arrays.

A backend is a set of same-named functions. `call(at)` finds the body of one op at given avals once and returns a
function from input arrays to output arrays; everything after that is one dictionary lookup.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import pkgutil
import threading
from collections.abc import Callable, Collection, Sequence
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import numpy as np

from . import recycle
from .arrays import DTYPE_NAME as DTYPE_NAME  # what is asked of a backend's arrays is asked for here
from .arrays import HOST, NARROW, NP_DTYPE, QUIET, Memory, aligned_empty
from .arrays import as_array as as_array
from .arrays import asnumpy as asnumpy
from .arrays import aval_of as aval_of
from .arrays import is_array as is_array
from .aval import Aval
from .errors import ArgumentError, BackendError
from .registry import At, get

Arrays = Sequence[Any]
Call = Callable[[Arrays], tuple[Any, ...]]


class _Scratch(threading.local):
    """Work buffers of a thread, which keeps them: fresh memory would be paged in anew by every body that asks."""

    KEPT = 64 * 2**20  # bytes that a thread holds on to

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def get(self, specs: Sequence[tuple[tuple[int, ...], np.dtype]]) -> list[np.ndarray]:
        """Arrays of these (shape, dtype), valid until the next call."""
        sizes = [-(-math.prod(shape) * dtype.itemsize // 64) * 64 for shape, dtype in specs]
        memory, total = self._memory, sum(sizes)
        if total > memory.nbytes:
            memory = aligned_empty((total,), np.dtype(np.uint8))
            if total <= self.KEPT:
                self._memory = memory
        out, at = [], 0
        for (shape, dtype), size in zip(specs, sizes, strict=True):
            out.append(memory[at : at + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape))
            at += size
        return out


_scratch_memory = _Scratch()


class Steps:
    """The calls of a plan: bodies bound to their arrays.

    Attributes:
        calls: in the order in which they run.
        launches: of kernels, by each step in one run; None where there are none.
    """

    launches: Sequence[int] | None = None

    def __init__(self, calls: Sequence[Callable[[], Any]]) -> None:
        self.calls = calls

    def begin(self) -> None:
        """Before the inputs of a run are written."""

    def run(self) -> None:
        """All calls, one after the other."""
        for call in self.calls:
            call()

    def end(self) -> None:
        """After the results of a run are taken."""


class Backend:
    """Named bodies over one array library.

    Attributes:
        name: "cpu", "emulated" or "cuda".
        xp: the array library its bodies compute with.
        memory: where its arrays live.
        family: "cpu" or "kernels", whose bodies it runs.
        bodies: op name → `body(xp, *outputs, *inputs, **attrs)`, or where to import that from, as "module:function".
    """

    memory: Memory = HOST
    family = "cpu"

    def __init__(self, name: str, xp: Any, package: str, widens: bool) -> None:
        self.name, self.xp, self.widens = name, xp, widens
        self.family = "cpu" if package == ".cpu_fallback" else "kernels"
        self.bodies: dict[str, Any] = {}
        self.calls: dict[At, Call] = {}
        root = importlib.import_module(package, "gputape")
        for found in pkgutil.iter_modules(root.__path__):
            if not found.ispkg and not found.name.startswith("_"):  # _window.py and the like hold helpers
                self.add(importlib.import_module(f"{package}.{found.name}", "gputape"))
        self.bodies |= _registered[self.family]

    def add(self, module: ModuleType) -> None:
        """Take every public function defined in `module` as the body of the op of that name."""
        for name, value in vars(module).items():
            if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == module.__name__:
                self.bodies[name.rstrip("_")] = value  # `abs_` is the body of `abs`

    def call(self, at: At) -> Call:
        """The function that runs `at` on input arrays and returns its output arrays, newly allocated."""
        found = self.calls.get(at)
        if found is None:
            if len(self.calls) >= 16384:
                self.calls.clear()
            found = self.calls[at] = self._bind(at)
        return found

    def body(self, at: At) -> Callable[..., Any]:
        """The body of `at`'s op; `BackendError` naming what exists if there is none."""
        name = at.op.name
        try:
            found = self.bodies[name]
        except KeyError:
            folder = "cpu_fallback" if self.family == "cpu" else "kernels"
            raise BackendError(
                f"{name}: no body on {self.name!r} (has: {len(self.bodies)} ops). Add {name} to gputape/{folder}/, "
                f'register one with gt.register_body({self.family!r}, …), or use gt.device("cpu").'
            ) from None
        if isinstance(found, str):
            found = self.bodies[name] = _imported(name, found)
        return found

    def scratch(self, specs: Sequence[tuple[tuple[int, ...], np.dtype]]) -> list[Any]:
        """Work buffers of one call."""
        return _scratch_memory.get(specs) if self.xp is np else [self.xp.empty(*spec) for spec in specs]

    def launches_of(self, graph: Any, runs: Collection[int]) -> int:
        """Kernel launches of those nodes of a plan's graph; 0 where there are no kernels."""
        return 0

    def steps(self, steps: Sequence[tuple[Any, Sequence[Callable[[], Any]]]]) -> Steps:
        """What runs a plan's steps, each (its node, its calls), on memory that is theirs."""
        return Steps([call for _, calls in steps for call in calls])

    def _bind(self, at: At) -> Call:
        body, xp, attrs = self.body(at), self.xp, at.attrs
        if at.op.view is not None:
            return lambda arrays: (QUIET.run(body, xp, *arrays, **attrs),)
        if self.widens and any(a is not None and a.dtype in NARROW for a in (*at.ins, *at.outs)):
            return self._bind_widened(at, body)
        scratch = [(a.shape, NP_DTYPE[a.dtype]) for a in _scratch(body, at)]
        if len(at.outs) == 1 and at.outs[0] is not None and not scratch:
            return self._single(at, body)
        makers = [None if a is None else self._maker(a) for a in at.outs]

        def several(arrays: Arrays) -> tuple[Any, ...]:
            outs = [None if make is None else make() for make in makers]
            extra = {"scratch": self.scratch(scratch)} if scratch else {}
            QUIET.run(body, xp, *outs, *arrays, **attrs, **extra)
            return tuple(outs)

        return several

    def _empty(self, a: Aval) -> Callable[..., Any]:
        """What makes an array of that aval, given shape and dtype."""
        return recycle.empty if self.xp is np and a.nbytes >= recycle.SMALLEST else self.xp.empty

    def _maker(self, a: Aval) -> Callable[[], Any]:
        return functools.partial(self._empty(a), a.shape, NP_DTYPE[a.dtype])

    def run_into(self, at: At, outs: Arrays, arrays: Arrays) -> None:
        """Run `at` into arrays that exist. They may be its inputs if the body reads each element before writing it."""
        if self.widens and any(a is not None and a.dtype in NARROW for a in (*at.ins, *at.outs)):
            for y, made in zip(outs, self.call(at)(arrays), strict=True):
                if y is not None:
                    self.memory.write(y, made)
            return
        body = self.body(at)
        work = self.scratch([(a.shape, NP_DTYPE[a.dtype]) for a in _scratch(body, at)])
        QUIET.run(body, self.xp, *outs, *arrays, **at.attrs, **({"scratch": work} if work else {}))

    def _single(self, at: At, body: Callable[..., Any]) -> Call:
        """One output, no scratch. Spelled out for the number of inputs, as this is what every small op costs."""
        names = ", ".join(f"x{k}" for k in range(len(at.ins)))
        shape, dtype = at.out.shape, NP_DTYPE[at.out.dtype]
        scope = {"empty": self._empty(at.out), "shape": shape, "dtype": dtype, "quiet": QUIET}
        scope |= {"body": body, "xp": self.xp, "attrs": at.attrs}
        options = ", **attrs" if at.attrs else ""
        exec(
            "def single(arrays):\n"
            f"    [{names}] = arrays\n"
            "    y = empty(shape, dtype)\n"
            f"    quiet.run(body, xp, y, {names}{options})\n"
            "    return (y,)\n",
            scope,
        )
        return scope["single"]

    def _bind_widened(self, at: At, body: Callable[..., Any]) -> Call:
        """16-bit inputs are widened to float32, the body computes in float32, each output is rounded once."""
        xp, attrs, wide = self.xp, at.attrs, NP_DTYPE["float32"]
        outs_at = [None if a is None else (a.shape, NP_DTYPE[a.dtype], a.dtype in NARROW) for a in at.outs]
        scratch = [(a.shape, wide if a.dtype in NARROW else NP_DTYPE[a.dtype]) for a in _scratch(body, at)]
        narrow_in = [a is not None and a.dtype in NARROW for a in at.ins]

        def widened(arrays: Arrays) -> tuple[Any, ...]:
            ins = [x.astype(wide) if narrow else x for x, narrow in zip(arrays, narrow_in, strict=True)]
            outs: list[Any] = [None if o is None else xp.empty(o[0], wide if o[2] else o[1]) for o in outs_at]
            extra = {"scratch": self.scratch(scratch)} if scratch else {}
            QUIET.run(body, xp, *outs, *ins, **attrs, **extra)
            return tuple(
                QUIET.run(y.astype, o[1]) if o is not None and o[2] else y for y, o in zip(outs, outs_at, strict=True)
            )

        return widened


_registered: dict[str, dict[str, Any]] = {"cpu": {}, "kernels": {}}  # bodies that come from outside the package


def register_body(family: str, body: Any = None, name: str | None = None) -> Any:
    """Give an op from outside the package its body: `gt.register_body("cpu", function)`, or as a decorator,
    `@gt.register_body("cpu")`.

    Args:
        family: "cpu" for a NumPy body `(xp, *outputs, *inputs, **attrs)`; "kernels" for the host function
            `(rt, *outputs, *inputs, **attrs)` of kernels, which serves `cuda` and `emulated` alike.
        body: the function, or "module:function", which is imported when the op first runs there.
        name: the op; default the function's name.

    Returns:
        The body.

    Raises:
        ArgumentError: there is no such family or op, or the op has a body there.
    """
    if body is None:
        return lambda function: register_body(family, function, name)
    if family not in _registered:
        raise ArgumentError(f'register_body: {family!r} is not a family of bodies. Use "cpu" or "kernels".')
    text = isinstance(body, str)
    if not (callable(body) or (text and body.count(":") == 1)):
        raise ArgumentError(f'register_body: {body!r:.60} is no function. Pass one, or "module:function".')
    name = get(name or (body.rpartition(":")[2] if text else body.__name__)).name
    with _lock:
        loaded = [b for b in _backends.values() if b.family == family]
        if name in _registered[family] or any(name in b.bodies for b in loaded):
            raise ArgumentError(f"register_body: {name} has a body on {family!r} already. Register an op of your own.")
        for bodies in (_registered[family], *(b.bodies for b in loaded)):
            bodies[name] = body
    return body


def _imported(name: str, where: str) -> Callable[..., Any]:
    module, _, function = where.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as e:
        raise BackendError(f"{name}: its body {where!r} cannot be imported ({e}). Mend the path or the module.") from e


def scratch(avals: Callable[..., Sequence[Aval]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a body's work buffers: `avals(*input_avals, **attrs)` gives one aval per buffer, and the body gets the
    arrays as the keyword `scratch`."""

    def mark(body: Callable[..., Any]) -> Callable[..., Any]:
        body.scratch = avals  # type: ignore[attr-defined]
        return body

    return mark


def _scratch(body: Callable[..., Any], at: At) -> Sequence[Aval]:
    declared = getattr(body, "scratch", None)
    return declared(*at.ins, **at.attrs) if declared is not None else ()


# --- which device -----------------------------------------------------------------------------------------------------

_backends: dict[str, Backend] = {}
_lock = threading.Lock()
_chosen: ContextVar[Backend | None] = ContextVar("gputape_device", default=None)
WATCH: ContextVar[Any] = ContextVar("gputape_watch", default=None)  # what `detect_anomaly` looks on with
_default: Backend | None = None


def backend(name: str) -> Backend:
    """The backend of that device name, loaded on first use."""
    found = _backends.get(name)
    if found is not None:
        return found
    with _lock:
        if name not in _backends:
            _backends[name] = _load(name)
        return _backends[name]


def _load(name: str) -> Backend:
    if name == "cpu":
        return Backend("cpu", np, ".cpu_fallback", widens=True)
    if name == "emulated" or name.partition(":")[0] == "cuda":
        from . import kernels  # the only door to CuPy and Triton

        return kernels.load_backend(name)
    raise BackendError(f'device: {name!r} is not a device. Use "cpu", "emulated", "cuda" or "cuda:1".')


def current() -> Backend:
    """The backend of the innermost `gt.device`, else the default device."""
    found = _chosen.get()
    if found is not None:
        return found
    global _default
    if _default is None:
        name = os.environ.get("GPUTAPE_DEVICE")
        _default = backend(name) if name else _detected()
    return _default


def _detected() -> Backend:
    """cuda if an NVIDIA device is visible, else cpu. One that is visible but unusable is an error."""
    if not nvidia_visible():
        return backend("cpu")
    try:
        return backend("cuda")
    except BackendError as e:
        raise BackendError(
            f"device: an NVIDIA device is visible but cannot be used ({e}) "
            "Run `gputape doctor`, or set GPUTAPE_DEVICE=cpu."
        ) from e


def nvidia_visible() -> bool:
    """Whether the NVIDIA driver shows a device to this process."""
    return os.path.exists("/dev/nvidiactl") and os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1")


class device(contextlib.AbstractContextManager["device"]):
    """Choose where ops compute: `with gt.device("cpu"): …`.

    Args:
        name: "cuda", "cuda:1", "cpu" or "emulated" (the GPU kernels themselves, run on the CPU).

    Raises:
        BackendError: there is no such device, or it cannot be used.
    """

    def __init__(self, name: str) -> None:
        self.backend = backend(name)
        self.name = self.backend.name

    def __enter__(self) -> device:
        watch = WATCH.get()
        self._token = _chosen.set(self.backend if watch is None else watch.backend(self.backend))
        return self

    def __exit__(self, *exc: object) -> None:
        _chosen.reset(self._token)

    def __repr__(self) -> str:
        return f"gt.device({self.name!r})"


def synchronize() -> None:
    """Wait until the current device has finished. As torch.cuda.synchronize.

    Raises:
        IndexRangeError: a kernel met an index out of range since the last read on the host.
    """
    current().memory.synchronize()
