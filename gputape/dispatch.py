"""`gt.*`: each call is recorded if a recording is active, else computed at once."""

from __future__ import annotations

import functools
from typing import Any

from . import backend as _backend
from .aval import FLOATS, Aval
from .errors import DTypeError
from .functions import NUMBERS, Execute, Functions, Lazy, lift_arrays, make_callable
from .numerics import narrow_dtype
from .registry import Op, get, on_register
from .synonyms import SYNONYMS
from .variable import ACTIVE, Cell, Operators, check_place


class _Eager(Execute):
    """Computes at once on whatever arrays, numbers, parameters or finished `Var`s it is given."""

    def __init__(self) -> None:
        pass

    def accumulate(self, a: Any, b: Any, aval: Aval) -> Any:
        return self.add(a, b)

    @property
    def backend(self) -> _backend.Backend:  # type: ignore[override]
        return _backend.current()

    def outputs(self, op: Op, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
        return super().outputs(op, self.lift(op, inputs), values)

    def lift(self, op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        # `value`, not the memory itself: views must not let the caller write a parameter
        backend = self.backend
        for x in inputs:
            if isinstance(x, Cell):
                check_place(x, backend)
        return lift_arrays(backend.memory, op, tuple([x.value if isinstance(x, Operators) else x for x in inputs]))


EAGER = _Eager()


def interpreter() -> Functions:
    """Where `gt.*` calls go now: the active recording, else straight computation."""
    rec = ACTIVE.get()
    return EAGER if rec is None else rec


def updates() -> Functions:
    """Where parameter updates go now: the trace while `gt.compile` records, else straight computation."""
    rec = ACTIVE.get()
    return rec if rec is not None and rec.tracing else EAGER


def dispatch(op: Op, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> Any:
    """Record the op if a recording is active, else compute it."""
    rec = ACTIVE.get()
    try:
        if op.heeds_precision:
            inputs = in_precision(op, inputs, values)
        if rec is None:
            return EAGER.run(op, inputs, values)
        return rec.outputs(op, inputs, values)[0] if op.plain else rec.run(op, inputs, values)
    except DTypeError as e:
        if not str(e).startswith("array: "):
            raise
        raise DTypeError(f"{op.name}: {str(e)[7:]}") from e.__cause__


def in_precision(op: Op, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs with the casts that the card asks for inside `gt.precision`."""
    narrow = narrow_dtype()
    if narrow is None or ("dtype" in op.attrs and values[op.attrs.index("dtype")] is not None):
        return inputs
    F = interpreter()
    handles = F.lift(op, tuple([x for x in inputs if x is not None and type(x) not in NUMBERS]))
    floats = {F.aval(h).dtype for h in handles}.intersection(FLOATS)
    if "float64" not in floats and (op.precision is not None or "float32" in floats):
        target = narrow if op.precision == "narrow" else "float32"
        handles = tuple([F.cast(h, target) if F.aval(h).dtype in floats - {target} else h for h in handles])
    given = iter(handles)  # numbers take the dtype of the arrays beside them
    return tuple([x if x is None or type(x) in NUMBERS else next(given) for x in inputs])


def call(name: str, *args: Any, **kwargs: Any) -> Any:
    """`gt.<name>(*args, **kwargs)`, by name."""
    return FUNCTIONS[name](*args, **kwargs)


_SPREAD = (("shape",), ("size",), ("dims",), ("repeats",))  # the options of reshape, expand, permute, repeat, …


def _spread(function: Any) -> Any:
    """The method of an op whose one option is a tuple, which may be spread out: x.reshape(2, 3), as in PyTorch."""

    @functools.wraps(function)
    def method(self: Any, *given: Any, **named: Any) -> Any:
        if given and not isinstance(given[0], tuple | list):
            given = (given,)
        return function(self, *given, **named)

    return method


def method(op: Op) -> Any:
    """`gt.<op>` as a method of its first parameter."""
    function = FUNCTIONS[op.name]
    return _spread(function) if op.attrs in _SPREAD else function


class _Generated(dict[str, Any]):
    """Op name → `gt.<name>`, made when first asked for; `ArgumentError` if there is no such op."""

    def __missing__(self, name: str) -> Any:
        made = self[name] = make_callable(get(name), "", "_dispatch", {"_dispatch": dispatch})
        return made


FUNCTIONS = _Generated()


@on_register
def _add_method(op: Op) -> None:
    """Ops whose first parameter is an array are methods of `Var` and `Cell`."""
    if op.public and op.names and op.names[0] in op.inputs and op.name not in vars(Operators):
        Lazy(Operators, op.name, lambda: method(op))


def _synonyms() -> None:
    for other, name in SYNONYMS.items():
        if get(name).names[0] in get(name).inputs:
            Lazy(Operators, other, functools.partial(getattr, Operators, name))


def _operators() -> None:
    """Python's operators, by the op that each one is."""
    reflected = {"add": "add", "sub": "sub", "mul": "mul", "div": "truediv", "pow": "pow", "matmul": "matmul"}
    reflected |= {"floor_divide": "floordiv", "remainder": "mod"}
    reflected |= {"bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor"}
    for name, operator in reflected.items():
        function = FUNCTIONS[name]
        setattr(Operators, f"__{operator}__", function)
        setattr(Operators, f"__r{operator}__", lambda self, other, function=function: function(other, self))
    plain = {name: name for name in ("neg", "abs", "eq", "ne", "lt", "le", "gt", "ge")} | {"bitwise_not": "invert"}
    for name, operator in plain.items():
        setattr(Operators, f"__{operator}__", FUNCTIONS[name])


_operators()
_synonyms()
