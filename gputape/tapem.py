"""`TapeM`: programs over a tape, as values. The tape is threaded for you.

A `TapeM` describes a computation that takes a tape and gives a value and a longer tape, or fails. Nothing runs until
`run`, `eval` or `exec`, and each run starts afresh. With `@do` it reads like ordinary code:

>>> @do
... def program(x_value):
...     x = yield TapeM.leaf(x_value)
...     y = yield TapeM.sum((yield TapeM.mul(x, x)))
...     return (yield TapeM.backward(y))[x]
>>> program([1.0, 2.0]).eval(Tape())
array([2., 4.], dtype=float32)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any, Generic, TypeVar

from .errors import GputapeError, TapeError
from .functions import Lazy, Shown
from .page import PAGE
from .registry import Op, get, on_register
from .tape import Append, Tape

T = TypeVar("T")


@dataclass(frozen=True)
class Ok(Generic[T]):
    """A result that came out right."""

    value: T


@dataclass(frozen=True)
class Err:
    """An error as a value."""

    error: GputapeError


class TapeM(Generic[T]):
    """A computation from a tape to a value and a tape.

    Besides the methods below it has, as static methods, one for each name of the original API page and one for each
    further op of the registry: `TapeM.relu(x)` is the program that appends a relu and gives its id.
    """

    __slots__ = ("_step",)

    def __init__(self, step: Callable[[Tape], tuple[T, Tape]]) -> None:
        self._step = step

    # --- running

    def run(self, tape: Tape | None = None) -> tuple[T, Tape]:
        """The value and the final tape. The given tape is untouched, also when an op fails.

        Raises:
            GputapeError: what the failing op raised.
        """
        if tape is not None and not isinstance(tape, Tape):
            raise TapeError(f"run: a {type(tape).__name__} is not a Tape. Pass a Tape, or nothing for an empty one.")
        return _run(self, Tape() if tape is None else tape)

    def eval(self, tape: Tape | None = None) -> T:
        """The value; the final tape is dropped."""
        return self.run(tape)[0]

    def exec(self, tape: Tape | None = None) -> Tape:
        """The final tape; the value is dropped."""
        return self.run(tape)[1]

    # --- composing

    @staticmethod
    def pure(value: Any) -> TapeM[Any]:
        """The program that gives `value` and leaves the tape alone."""
        return TapeM(lambda tape: (value, tape))

    def bind(self, f: Callable[[T], TapeM[Any]]) -> TapeM[Any]:
        """This program, then the one that `f` makes of its value. Any number may be chained."""
        return _Bind(self, f)

    def map(self, f: Callable[[T], Any]) -> TapeM[Any]:
        """This program with `f` applied to its value."""
        return _Bind(self, lambda value: TapeM.pure(f(value)))

    def attempt(self) -> TapeM[Ok[T] | Err]:
        """This program with errors as values: `Ok(value)`, or `Err(error)` and the tape as it was before."""
        return _Attempt(self)

    # --- state

    @staticmethod
    def get() -> TapeM[Tape]:
        """The tape so far."""
        return TapeM(lambda tape: (tape, tape))

    @staticmethod
    def set(tape: Tape) -> TapeM[None]:
        """Go on with another tape. Ids from the replaced one are refused where they name other nodes."""
        if not isinstance(tape, Tape):
            raise TapeError(f"set: {type(tape).__name__} is not a Tape. Pass a Tape, such as the value of TapeM.get().")
        return TapeM(lambda _: (None, tape))

    # --- the tape's own methods

    @staticmethod
    def leaf(value: Any, name: str | None = None, requires_grad: bool = True, *, copy: bool = True) -> TapeM[int]:
        """Put a value on the tape; see `Tape.leaf`."""
        return TapeM(lambda tape: _swap(tape.leaf(value, name, requires_grad, copy=copy)))

    @staticmethod
    def op(name: str, *args: Any, **kwargs: Any) -> TapeM[Any]:
        """Any registered op, with the signature and broadcasting of `gt.<name>`; see `Tape.op`."""
        get(name)
        return TapeM(lambda tape: _swap(tape.op(name, *args, **kwargs)))

    @staticmethod
    def value(i: int) -> TapeM[Any]:
        """The array at node `i`."""
        return TapeM(lambda tape: (tape.value(i), tape))

    @staticmethod
    def backward(out: int, seed: Any = None) -> TapeM[dict[int, Any]]:
        """{node id: gradient} of every node that `out` depends on; see `Tape.backward`. The tape is unchanged."""
        return TapeM(lambda tape: (tape.backward(out, seed), tape))

    @staticmethod
    def backward_nodes(out: int, seed: int | None = None) -> TapeM[dict[int, int]]:
        """{node id: id of its gradient}, computed on the tape; see `Tape.backward_nodes`."""
        return TapeM(lambda tape: _swap(tape.backward_nodes(out, seed)))

    def __repr__(self) -> str:
        return "<TapeM program>"


def _swap(pair: tuple[Tape, Any]) -> tuple[Any, Tape]:
    return pair[1], pair[0]


class _Bind(TapeM[Any]):
    __slots__ = ("first", "then")

    def __init__(self, first: TapeM[Any], then: Callable[[Any], TapeM[Any]]) -> None:
        self.first, self.then = first, then


class _Do(TapeM[Any]):
    __slots__ = ("args", "function", "kwargs")

    def __init__(self, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs


class _Attempt(TapeM[Any]):
    __slots__ = ("program",)

    def __init__(self, program: TapeM[Any]) -> None:
        self.program = program


def do(function: Callable[..., Generator[Any, Any, Any]]) -> Callable[..., TapeM[Any]]:
    """Make a generator function a program: `yield` runs a `TapeM` and gives its value, `return` ends with one.

    A generator can be resumed once only, so the program holds the function and its arguments and starts a fresh
    generator on every run. An op that fails raises at its `yield`; a `try` there goes on with the tape before that op.
    """

    @functools.wraps(function)
    def program(*args: Any, **kwargs: Any) -> TapeM[Any]:
        inspect.signature(function).bind(*args, **kwargs)  # a wrong call fails here, not at run
        return _Do(function, args, kwargs)

    return program


def _run(program: TapeM[Any], tape: Tape) -> tuple[Any, Tape]:
    """Run with an explicit stack, so that neither deep nor long programs exhaust Python's.

    The stack holds what waits for a value: functions (of `bind`), generators (of `do`), tapes (of `attempt`: where to
    go back to on an error).
    """
    waiting: list[Any] = []
    value: Any = None
    error: Exception | None = None
    while True:
        try:
            if type(program) is _Bind:
                waiting.append(program.then)
                program = program.first
                continue
            if type(program) is _Attempt:
                waiting.append(tape)
                program = program.program
                continue
            if type(program) is _Do:
                value = program.function(*program.args, **program.kwargs)
                if type(value) is GeneratorType:
                    waiting.append(value)
                    value = None
            else:
                value, tape = program._step(tape)
        except Exception as e:
            error = e
        while waiting:
            top = waiting[-1]
            try:
                if type(top) is GeneratorType:
                    thrown, error = error, None
                    try:
                        found = top.send(value) if thrown is None else top.throw(thrown)
                    except StopIteration as stop:
                        waiting.pop()
                        value = stop.value
                        continue
                    try:
                        program = _program(found, "yield")
                    except TapeError as e:  # for the program to handle at its yield
                        error = e
                        continue
                    break
                waiting.pop()
                if type(top) is Tape:
                    if error is None:
                        value = Ok(value)
                    elif isinstance(error, GputapeError):
                        value, tape, error = Err(error), top, None
                elif error is None:
                    program = _program(top(value), "bind")
                    break
            except Exception as e:
                if waiting and waiting[-1] is top:
                    waiting.pop()
                error = e
        else:
            if error is not None:
                raise error
            return value, tape


def _program(found: Any, where: str) -> TapeM[Any]:
    if not isinstance(found, TapeM):
        raise TapeError(f"{where}: got {found!r:.60}, which is not a TapeM. Wrap plain values in TapeM.pure(value).")
    return found


# --- generated methods ------------------------------------------------------------------------------------------------


def _methods(name: str, function: Callable[..., Any]) -> tuple[Any, Any]:
    """The methods `name` of `Tape` and of `TapeM`, which evaluate `function(F, …)` on an extension of the tape."""
    params = list(inspect.signature(function).parameters.values())[1:]
    heads = [p if p.default is p.empty else p.replace(default=Shown(f"_{p.name}")) for p in params]
    passed = [f"{p.name}={p.name}" if p.kind is p.KEYWORD_ONLY else p.name for p in params]
    scope: dict[str, Any] = {f"_{p.name}": p.default for p in params} | {"_f": function, "_Append": Append}
    exec(
        f"def {name}({', '.join(['self', *(str(p.replace(annotation=p.empty)) for p in heads)])}):\n"
        f"    F = _Append(self, {name!r})\n"
        f"    out = _f({', '.join(['F', *passed])})\n"
        f"    return F.tape, out\n",
        scope,
    )
    on_tape: Any = scope[name]

    def program(*args: Any, **kwargs: Any) -> TapeM[Any]:
        return TapeM(lambda tape: _swap(on_tape(tape, *args, **kwargs)))

    made: Any
    for made, lead in ((on_tape, [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]), (program, [])):
        made.__name__ = name
        made.__doc__ = function.__doc__
        made.__signature__ = inspect.Signature(lead + params)
    return on_tape, staticmethod(program)


def _add(name: str, function: Callable[[], Callable[..., Any]]) -> None:
    Lazy(Tape, name, lambda: _methods(name, function())[0])
    Lazy(TapeM, name, lambda: _methods(name, function())[1])


for _name, _entry in PAGE.items():
    _add(_name, lambda entry=_entry: entry.function)  # type: ignore[misc]


@on_register
def _add_op(op: Op) -> None:
    """Ops that the page does not name are methods with the signature of `gt.<name>`."""
    if op.public and op.name not in PAGE and op.name not in vars(Tape) and op.name not in vars(TapeM):
        _add(op.name, lambda: getattr(Append, op.name))
