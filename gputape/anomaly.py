"""`gt.detect_anomaly`: which node made the first NaN or infinity.

While it is on, ops run on a copy of the backend whose calls look at their results; backward looks at what each vjp as a
whole gives, as a vjp may well mask an infinity of its own. While it is off nothing is looked at.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import asnumpy
from .backend import WATCH, Backend, Call, _chosen, aval_of, current
from .errors import AnomalyError, CompileError
from .node import source_line
from .registry import At
from .variable import ACTIVE, Var

if TYPE_CHECKING:
    from .functions import Functions
    from .node import Node


class detect_anomaly(contextlib.AbstractContextManager["detect_anomaly"]):
    """Inside, the first node that makes a NaN or an infinity raises `AnomalyError`, which names its op, id and source
    line and says what it took. As torch.autograd.detect_anomaly, in forward too.

    Blamed is an op whose result holds NaN, or an infinity though all that it took is finite; in backward, the node
    whose vjp gave such a gradient. So an infinity that comes in (by a leaf or an option: a mask of -inf), or that the
    op's card allows, may go on, and a NaN may be an option. An op that took a NaN is named too, and the error then says
    that it came in.

    It looks at ops on arrays, recordings, tapes, and their backward where that runs inside. A compiled function is
    recorded anew by every call, as the record is what runs node by node. Every result is read: expect several times the
    run time.

    Args:
        check_nan: False looks at nothing, as if this block were not there. (Errors name the user's line always.)

    Raises:
        AnomalyError: inside the block, from the op or backward in question.
        CompileError: the block is inside a compiled function. Put it around the call.
    """

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan

    def __enter__(self) -> detect_anomaly:
        rec = ACTIVE.get()
        if rec is not None and rec.tracing:
            raise CompileError(
                f"detect_anomaly: it is inside {rec.name}, which is being recorded (at {source_line()}); its replays "
                "would not be looked at. Put it around the call of the compiled function."
            )
        self._undo = contextlib.ExitStack()
        watch = WATCH.set(_Watch() if self.check_nan else None)
        self._undo.callback(WATCH.reset, watch)
        chosen = _chosen.set(_watching(current()))
        self._undo.callback(_chosen.reset, chosen)
        if rec is not None:
            self._undo.callback(_put, rec, rec.backend)
            _put(rec, _watching(rec.backend))
        return self

    def __exit__(self, *exc: object) -> None:
        self._undo.close()


def _put(rec: Any, backend: Backend) -> None:
    rec.backend, rec._calls = backend, backend.calls


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Inside, nothing is looked at."""
    token = WATCH.set(None)
    try:
        yield
    finally:
        WATCH.reset(token)


class _Watch:
    """What `WATCH` holds while something is looked at."""

    def backend(self, of: Backend) -> Backend:
        """The copy of a backend that looks at what its calls give."""
        return _watching(of)

    def sweep(self, F: Functions) -> _Sweep:
        """What runs the vjps of one backward."""
        return _Sweep(F)


@functools.cache
def _watching(of: Backend) -> Backend:
    if "_bind" in vars(of):
        return of
    made = copy.copy(of)
    made.calls = {}
    made._bind = lambda at: _looking(at, of._bind(at))  # type: ignore[method-assign]
    return made


def _looking(at: At, call: Call) -> Call:
    op = at.op
    if op.view is not None or not any(a is not None and a.is_float for a in at.outs[: op.returns]):
        return call
    options = [x for value in at.attrs.values() for x in _numbers(value)]
    nan_given, inf_given = any(map(math.isnan, options)), at.op.infinite or any(map(math.isinf, options))
    names = [f"{op.inputs[0][1:]}[{k}]" for k in range(len(at.ins))] if op.variadic else op.inputs

    def run(arrays: Sequence[Any]) -> tuple[Any, ...]:
        outs = call(arrays)
        if WATCH.get() is not None:
            given = [(name, x) for name, x in zip(names, arrays, strict=True) if x is not None]
            results = list(zip(op.outputs[: op.returns], outs, strict=False))
            blamed = _blame(results, given, nan_given, inf_given)
            if blamed:
                texts = [(name, "None" if x is None else _text(x)) for name, x in zip(names, arrays, strict=True)]
                raise AnomalyError(op.name, f"made {blamed}", texts, _remedy(given), source_line())
        return outs

    return run


class _Sweep:
    """Runs the vjps of one backward and looks at the gradients that they give.

    Attributes:
        at: the node whose vjp ran last.
    """

    def __init__(self, F: Functions) -> None:
        self.F = F

    def vjp(self, i: int, node: Node, at: At, args: tuple[Any, ...]) -> Any:
        self.i, self.node = i, node
        with unwatched():
            given = at.op.vjp(self.F, at, *args)
        cotangents = args[0] if at.op.several else args[:1]
        names = [f"the gradient of {name}" for name in at.op.outputs[: len(cotangents)]]
        saved = args[1:] if at.op.saves else ()
        names += [f"saved {name}" for name in (at.op.saves if len(at.op.saves) == len(saved) else [""] * len(saved))]
        taken = [(n, self._array(x)) for n, x in zip(names, (*cotangents, *saved), strict=True) if x is not None]
        inputs = at.op.inputs * len(at.ins) if at.op.variadic else at.op.inputs
        grads = given if type(given) is tuple else (given,)
        made = [(f"the gradient of {n}", self._array(g)) for n, g in zip(inputs, grads, strict=True) if g is not None]
        self._raise(f"{node.op}", made, taken)
        return given

    def accumulate(self, a: Any, b: Any, aval: Any) -> Any:
        with unwatched():
            y = self.F.accumulate(a, b, aval)
        self._raise(
            f"the sum of two gradients, after the vjp of {self.node.op}",
            [("the sum", self._array(y))],
            [("one", self._array(a)), ("the other", self._array(b))],
        )
        return y

    def _array(self, handle: Any) -> Any:
        return handle._value if type(handle) is Var else self.F.read(handle)  # a trace refuses to be read

    def _raise(self, op: str, made: list[tuple[str, Any]], taken: list[tuple[str, Any]]) -> None:
        blamed = _blame(made, taken)
        if blamed:
            texts = [(name, _text(x)) for name, x in taken]
            error = AnomalyError(op, f"in backward, made {blamed}", texts, _remedy(taken), self.node.line)
            raise error.at_node(self.i)


Named = Sequence[tuple[str, Any]]


def _blame(made: Named, taken: Named, nan_given: bool = False, inf_given: bool = False) -> str:
    """What a computation that made and took these arrays is to blame for, as text; empty if for nothing."""
    for name, y in made:
        nan, inf = _counts(y)
        if (nan and not nan_given) or (inf and not inf_given and all(_counts(x) == (0, 0) for _, x in taken)):
            return f"{_amount(nan, inf)} in {name} {aval_of(y)}"
    return ""


def _remedy(taken: Named) -> str:
    already = [name for name, x in taken if _counts(x) != (0, 0)]
    if already:
        return f"Look at where {already[0]} comes from: it was not finite when it came in."
    return "Keep what goes in where the op is finite (clamp, eps), or mask it before the op."


def _counts(array: Any) -> tuple[int, int]:
    """How many NaN and how many infinities an array holds."""
    if array is None or not aval_of(array).is_float:
        return 0, 0
    x = asnumpy(array)
    if np.isfinite(x).all():
        return 0, 0
    nan = int(np.isnan(x).sum())
    return nan, int(x.size - np.isfinite(x).sum()) - nan


def _amount(nan: int, inf: int) -> str:
    return " and ".join(f"{n} {what}" for n, what in ((nan, "NaN"), (inf, "inf")) if n)


def _text(array: Any) -> str:
    """Shape, dtype, the range of the finite values, and how many are not."""
    x = asnumpy(array)
    text = repr(aval_of(array))
    finite = x[np.isfinite(x)] if aval_of(array).is_float else x
    if finite.size and x.dtype != bool:
        text += f" from {finite.min():.6g} to {finite.max():.6g}"
    amount = _amount(*_counts(array))
    return f"{text} and {amount}" if amount else text


def _numbers(value: Any) -> list[float]:
    """The floats in an option."""
    if isinstance(value, tuple | list):
        return [x for v in value for x in _numbers(v)]
    return [value] if isinstance(value, float) else []
