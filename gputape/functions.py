"""`Functions`: every op as a method, over handles that an interpreter gives meaning to.

The same call `F.mul(a, b)` computes (`Execute`: handles are arrays), records (`Recording`: handles are `Var`s) or
extends a tape (`Append`: handles are node ids). Gradients are written once, against this class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import backend as _backend
from .aval import Aval
from .errors import ArgumentError
from .registry import At, Op, get, on_register


class Functions:
    """Base of the interpreters. Each registered op is a method with the card's signature."""

    def run(self, op: Op, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> Any:
        """Run one op on handles; its user-visible result: a handle, or a tuple where the card returns several."""
        if op.plain:
            return self.outputs(op, inputs, values)[0]
        if op.compose is not None:
            inputs = self.lift(op, inputs)
            at = op.at(tuple([None if h is None else self.aval(h) for h in inputs]), values)
            if at.casts is not None:
                return self.run(op, self.cast_inputs(at, inputs), values)
            return op.compose(self, *inputs, **at.attrs)
        return self.outputs(op, inputs, values)[: op.returns]

    def outputs(self, op: Op, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Run one op on handles; all its outputs."""
        raise NotImplementedError

    def lift(self, op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Turn what the caller passed (arrays, numbers) into handles."""
        return inputs

    def cast_inputs(self, at: At, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs with the casts that promotion asks for."""
        pairs = zip(inputs, at.casts or (), strict=True)
        return tuple([x if dtype is None else self.cast(x, dtype) for x, dtype in pairs])

    def aval(self, handle: Any) -> Aval:
        """Shape and dtype of a handle."""
        raise NotImplementedError

    def accumulate(self, a: Any, b: Any, aval: Aval) -> Any:
        """a + b, both of that aval."""
        return self.add(a, b)

    def const(self, value: Any, dtype: str) -> Any:
        """A handle of a constant array."""
        raise NotImplementedError

    def named(self, handle: Any, name: str) -> Any:
        """The handle, its node labelled `name` where there is a node."""
        return handle

    def read(self, handle: Any) -> Any:
        """The value of a handle on the host. A trace refuses, since its values are not known before it is replayed."""
        raise NotImplementedError

    def rng(self, count: int) -> tuple[Any, int]:
        """Reserve `count` random words: a handle of the generator state (seed, counter) and the offset into it."""
        from .random import generator

        return self.const(generator().take(count), "int64"), 0

    def op(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call any registered op by name, with the signature of `gt.<name>`."""
        return getattr(self, get(name).name)(*args, **kwargs)

    if TYPE_CHECKING:  # the methods of the ops

        def __getattr__(self, name: str) -> Callable[..., Any]: ...


class Execute(Functions):
    """Computes at once. Handles are arrays of one backend."""

    def __init__(self, backend: _backend.Backend) -> None:
        self.backend = backend
        self._sums: dict[Aval, _backend.Call] = {}

    def outputs(self, op: Op, inputs: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
        aval_of = _backend.aval_of
        at = op.at(tuple([None if x is None else aval_of(x) for x in inputs]), values)
        if at.casts is not None:
            return self.outputs(op, self.cast_inputs(at, inputs), values)
        if op.view is not None and needs_copy(at, inputs[0]):
            inputs = (self.copy(inputs[0]), *inputs[1:])
        return self.backend.call(at)(inputs)

    def accumulate(self, a: Any, b: Any, aval: Aval) -> Any:
        call = self._sums.get(aval)
        if call is None:
            call = self._sums[aval] = self.backend.call(get("add").at((aval, aval), ()))
        return call((a, b))[0]

    def lift(self, op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return lift_arrays(self.backend.memory, op, inputs)

    def aval(self, handle: Any) -> Aval:
        return _backend.aval_of(handle)

    def const(self, value: Any, dtype: str) -> Any:
        return self.backend.memory.array(value, dtype)

    def read(self, handle: Any) -> Any:
        return _backend.asnumpy(handle)


def needs_copy(at: At, x: Any) -> bool:
    """Whether no strides over `x` can express the view `at` (a reshape of a transposed array); it is copied first."""
    if x.flags.c_contiguous:
        return False
    item = x.itemsize
    return at.op.view(x.shape, tuple([s // item for s in x.strides]), **at.attrs) is None  # type: ignore[misc]


def lift_arrays(memory: _backend.Memory, op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arrays in `memory` of whatever was passed; Python numbers take the dtype of the arrays beside them, as in
    PyTorch."""
    kind = memory.kind
    if memory.sole and all(type(x) is kind for x in inputs):
        return inputs
    arrays = [x if x is None or type(x) in NUMBERS else memory.array(x) for x in inputs]
    if any(type(x) in NUMBERS for x in arrays):
        avals = [_backend.aval_of(x) for x in arrays if x is not None and type(x) not in NUMBERS]
        arrays = [memory.array(x, number_dtype(op, x, avals)) if type(x) in NUMBERS else x for x in arrays]
    return tuple(arrays)


NUMBERS = (bool, int, float)


def number_dtype(op: Op, number: Any, avals: list[Aval]) -> str:
    """The dtype a Python number takes beside arrays: theirs, unless its category (bool, integer, float) is higher."""
    from .aval import FLOATS, category, promote

    own = "bool" if type(number) is bool else "int64" if type(number) is int else "float32"
    if not avals:
        return own
    common = promote(*avals)
    if op.inexact and common not in FLOATS:
        return "float32"
    return common if category(common) >= category(own) else own


# --- generated callables ----------------------------------------------------------------------------------------------


def make_callable(op: Op, first: str, target: str, scope: dict[str, Any]) -> Callable[..., Any]:
    """A function with the card's signature that evaluates `target(op, inputs, values)`.

    `first` is "self" for a method of a tape and "" for a function. `axis`/`keepdims` are accepted for `dim`/`keepdim`.
    """
    names = [p.name for p in op.params]
    inputs = [f"*{n[1:]}" if n.startswith("*") else n for n in op.inputs]
    aliases = [(a, b) for a, b in (("dim", "axis"), ("keepdim", "keepdims")) if a in op.attrs and b not in names]
    aliases += [(a, b) for a, others in op.spellings.items() for b in others]
    if op.arrays is not None and not first:
        aliases += [(a, b) for a, b in zip(op.arrays[0], get(op.arrays[1]).inputs[len(inputs) :]) if a != b]
    params = [p.replace(annotation=inspect.Parameter.empty) for p in op.params]
    absent = object()
    missing = [p.name for p in params if p.default is p.empty and p.name in dict(aliases)]
    if aliases:  # so that a required `dim` may be given as `axis`
        params = [p.replace(default=Shown("_absent")) if p.name in missing else p for p in params]
        params = _open_defaults(params)
    keywords = [k for k, p in enumerate(params) if p.kind is p.KEYWORD_ONLY]
    parts = [str(p) for p in params]
    if (keywords or aliases) and not any(p.kind is p.VAR_POSITIONAL for p in params):
        parts.insert(keywords[0] if keywords else len(parts), "*")
    head = ", ".join(([first] if first else []) + parts + [f"{b}=_absent" for _, b in aliases])
    lines = [f"def {op.name}({head}):"]
    for a, b in aliases:
        lines.append(f"    if {b} is not _absent: {a} = {b}")
    for x in missing:
        lines.append(f"    if {x} is _absent: raise _ArgumentError('{op.name}: {x} is missing. Pass {x}=….')")
    for p in params:
        if p.kind is p.VAR_POSITIONAL:
            lines.append(
                f"    if len({p.name}) == 1 and isinstance({p.name}[0], (list, tuple)): {p.name} = {p.name}[0]"
            )
    tup = lambda items: f"({', '.join(items)}{',' if items else ''})"  # noqa: E731 - a tuple display
    if op.number is not None and not first:  # handles of a tape are integers, so only where arrays are meant
        x, twin = op.number
        rest = [n for n in inputs if n != x]
        call = f"{target}(_get('{twin}'), {tup(rest)}, {tup(list(get(twin).attrs))})"
        lines.append(f"    if type({x}) in (int, float): return {call}")
    if op.arrays is not None and not first:
        options, other = op.arrays
        call = f"{target}(_get('{other}'), {tup([*inputs, *options])}, {tup(list(get(other).attrs))})"
        lines.append(f"    if {' or '.join(f'_is_array({x})' for x in options)}: return {call}")
    if op.alone is not None:
        twin, fixed = op.alone
        call = f"{target}(_get('{twin}'), ({inputs[0]},), {get(twin).values(fixed)})"
        lines.append(f"    if {' and '.join(f'{x} is None' for x in inputs[1:])}: return {call}")
    usual = {f"_usual_{name}": p.default for p in op.params for name, _ in op.variants if name == p.name}
    for x, other in op.variants:
        named = tup(list(get(other).attrs))
        lines.append(f"    if {x} is not _usual_{x}: return {target}(_get('{other}'), {tup(inputs)}, {named})")
    lines.append(f"    return {target}(_op, {tup(inputs)}, {tup(list(op.attrs))})")
    scope = scope | usual | {"_op": op, "_absent": absent, "_ArgumentError": ArgumentError, "_get": get}
    scope["_is_array"] = _backend.is_array
    exec("\n".join(lines), scope)
    made = scope[op.name]
    made.__doc__ = op.doc
    made.__module__ = "gputape"
    return made


class Shown:
    """A default value that prints as a name in generated source."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __repr__(self) -> str:
        return self.source


def _open_defaults(params: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """Parameters after one with a default need one too."""
    seen, out = False, []
    for p in params:
        if p.kind is p.POSITIONAL_OR_KEYWORD:
            if seen and p.default is p.empty:
                p = p.replace(default=Shown("_absent"))
            seen = seen or p.default is not p.empty
        out.append(p)
    return out


class Lazy:
    """A class attribute that is made when first looked up. Importing stays quick, and unlike `__getattr__` on the class
    it slows no other attribute down."""

    def __init__(self, owner: type, name: str, make: Callable[[], Any]) -> None:
        self.owner, self.name, self.make = owner, name, make
        setattr(owner, name, self)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        setattr(self.owner, self.name, self.make())
        return getattr(owner if instance is None else instance, self.name)


@on_register
def _add_method(op: Op) -> None:
    if not hasattr(Functions, op.name):
        Lazy(Functions, op.name, lambda: make_callable(op, "self", "self.run", {}))
