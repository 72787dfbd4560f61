"""Host side of the element-wise ops. Their kernels are generated, see `generated.py`.

`VARIANTS`, the specialisations that the compile gate compiles, are a sample, as generated kernels differ in two ways
that do not meet: every formula once, flat and in bfloat16 (or on integers or bools); and the ways to walk arrays, flat
and in tiles, with `add`, `cast`, `where` and `tril`.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from ..aval import INTS
from . import layout
from .expression import KINDS, Chain, Step
from .formulas import ACTIVATIONS, ARITHMETIC, FORMULAS, FUNCTIONS, LOGIC, Formula
from .generated import run, variant
from .launch import FLOATS, Variant, need_kernel

_TAKES = {"f": FLOATS, "i": INTS, "b": ("bool",)}


def _dtypes(formula: Formula) -> tuple[str, ...]:
    """The element types that an op with this formula takes."""
    kinds = [k for k in "fib" if formula.text(k) or formula.gives == "f"]
    return sum((_TAKES[k] for k in kinds), ()) + (("float64",) if formula.moves else ())


@cache
def _single(name: str, inputs: tuple[str, ...], output: str) -> Chain:
    """The chain of one op on arrays of these kinds; operands come to the kind of the output first where they must."""
    formula, steps = FORMULAS[name], []
    operands = list(range(len(inputs)))
    wanted = "f" if formula.gives == "f" else output
    if formula.gives in ("", "f") and inputs[formula.of] != wanted:
        for k in operands:
            steps.append(Step("cast.float32" if wanted == "f" else "cast.int64", (k,)))
            operands[k] = len(inputs) + k
    steps.append(Step(name, tuple(operands)))
    return Chain(name, inputs, tuple(steps), ((len(inputs) + len(steps) - 1, output),))


def _kind(array: Any) -> str:
    return KINDS[str(array.dtype)]


def _apply(rt: Any, op: str, formula: str, y: Any, ins: Sequence[Any], numbers: Sequence[float] = ()) -> None:
    need_kernel(op, ins[FORMULAS[formula].of], _dtypes(FORMULAS[formula]))
    run(rt, _single(formula, tuple([_kind(x) for x in ins]), _kind(y)), (y,), ins, numbers)


# --- ops that are one formula of their name, their options its numbers ------------------------------------------------

_PLAIN = [n for n in ARITHMETIC | LOGIC | FUNCTIONS | ACTIVATIONS if "." not in n] + ["copy", "where", "masked_fill"]


def _host(name: str) -> Callable[..., None]:
    def body(rt: Any, y: Any, *inputs: Any, **numbers: Any) -> None:
        _apply(rt, name, name, y, inputs, tuple(numbers.values()))

    return body


globals().update({f"{name}_" if hasattr(builtins, name) else name: _host(name) for name in _PLAIN})


# --- ops that choose among formulas -----------------------------------------------------------------------------------


def cast(rt: Any, y: Any, input: Any, *, dtype: str) -> None:
    _apply(rt, "cast", f"cast.{dtype}", y, (input,))


def gelu(rt: Any, y: Any, input: Any, *, approximate: str) -> None:
    _apply(rt, "gelu", f"gelu.{approximate}", y, (input,))


def gelu_bwd(rt: Any, dx: Any, dy: Any, input: Any, *, approximate: str) -> None:
    _apply(rt, "gelu_bwd", f"gelu_bwd.{approximate}", dx, (dy, input))


def nan_to_num(rt: Any, y: Any, input: Any, **numbers: float) -> None:
    _apply(rt, "nan_to_num", "nan_to_num", y, (input,), tuple(numbers.values()) if _kind(input) == "f" else ())


_POWERS: dict[float, str] = {0: "power.0", 1: "copy", 2: "square", 3: "power.3", 4: "power.4"}
_REAL_POWERS: dict[float, str] = {0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal", -2: "power.-2"}


def pow_scalar(rt: Any, y: Any, input: Any, *, exponent: int | float) -> None:
    table: dict[float, str] = _POWERS | _REAL_POWERS if _kind(y) == "f" else _POWERS
    formula = table.get(exponent, "power.c")
    need_kernel("pow_scalar", input, (*FLOATS, *INTS, "bool"))
    numbers = (exponent,) if formula == "power.c" else ()
    run(rt, _single(formula, (_kind(input),), _kind(y)), (y,), (input,), numbers)


def clamp(rt: Any, y: Any, input: Any, *, min: int | float | None, max: int | float | None) -> None:
    need_kernel("clamp", input, (*FLOATS, *INTS, "bool"))
    bounds = [b for b in (min, max) if b is not None]
    if _kind(y) == "i":
        info = np.iinfo(str(y.dtype))
        bounds = [sorted((int(info.min), int(b), int(info.max)))[1] for b in bounds]
    run(rt, _clamping(_kind(input), _kind(y), min is not None, max is not None), (y,), (input,), bounds)


@cache
def _clamping(source: str, target: str, low: bool, high: bool) -> Chain:
    steps = [] if source == target else [Step("cast.float32" if target == "f" else "cast.int64", (0,))]
    for formula in ("clamp.low",) * low + ("clamp.high",) * high:
        steps.append(Step(formula, (len(steps),)))
    return Chain("clamp", (source,), tuple(steps), ((len(steps), target),))


def clamp_bwd(rt: Any, dx: Any, dy: Any, input: Any, *, min: float | None, max: float | None) -> None:
    _apply(rt, "clamp_bwd", "clamp_bwd", dx, (dy, input), _bounds(min, max))


def _bounds(min: float | None, max: float | None) -> tuple[float, float]:
    return -math.inf if min is None else min, math.inf if max is None else max


def _lowered(op: str, attrs: dict[str, Any]) -> tuple[tuple[str, ...], tuple[float, ...]] | None:
    """The formulas that compute an op on floating-point (or bool) operands, each but the first of the one before, and
    their plain numbers; None if none do."""
    if op in _PLAIN:
        return (op,), tuple(attrs.values())
    if op == "cast":
        return (f"cast.{attrs['dtype']}",), ()
    if op in ("gelu", "gelu_bwd"):
        return (f"{op}.{attrs['approximate']}",), ()
    if op == "nan_to_num":
        return (op,), tuple(attrs.values())
    if op == "pow_scalar":
        formula = (_POWERS | _REAL_POWERS).get(attrs["exponent"], "power.c")
        return (formula,), (attrs["exponent"],) if formula == "power.c" else ()
    if op == "clamp":
        bounds = {f"clamp.{side}": b for side, b in (("low", attrs["min"]), ("high", attrs["max"])) if b is not None}
        return (tuple(bounds), tuple(bounds.values())) if bounds else None
    if op == "clamp_bwd":
        return (op,), _bounds(**attrs)
    return None


def tril(rt: Any, y: Any, input: Any, *, diagonal: int) -> None:
    _cut(rt, "tril", y, input, diagonal)


def triu(rt: Any, y: Any, input: Any, *, diagonal: int) -> None:
    _cut(rt, "triu", y, input, diagonal)


def _cut(rt: Any, op: str, y: Any, input: Any, diagonal: int) -> None:
    need_kernel(op, input, _dtypes(FORMULAS[op]))
    across = (0,) * (y.ndim - 2) + (-1, 1)  # column - row
    run(rt, _triangle(op, _kind(input)), (y,), (input,), (diagonal,), (across,))


@cache
def _triangle(op: str, kind: str) -> Chain:
    return Chain(op, (kind, "o"), (Step(op, (0, 1)),), ((2, kind),))


# --- what the gate compiles -------------------------------------------------------------------------------------------

_NARROWEST = {"f": "bfloat16", "d": "float64", "i": "int64", "b": "bool"}


def _flat(*codes: str) -> layout.Layout:
    return layout.Layout(codes, 0, (), (), (layout.POINTWISE,))


def _tiled(block: tuple[int, int], *codes: str, outer: int = 0) -> layout.Layout:
    return layout.Layout(codes, outer, (), (), block)


def _operands(formula: Formula) -> int:
    return 1 + max(k for k in range(3) if f"{{{k}}}" in formula.floats + formula.ints)


def _each_formula() -> Iterator[Variant]:
    for name, formula in FORMULAS.items():
        if name in ("where", "masked_fill", "tril", "triu"):
            continue  # operands of several kinds: they stand among the ways to walk
        n = _operands(formula)
        for kind in "fib":
            if formula.text(kind):
                out = formula.kind(kind)
                chain = Chain(name, (kind,) * n, (Step(name, tuple(range(n))),), ((n, out),))
                target = name.partition("cast.")[2] or _NARROWEST[out]
                yield variant(chain, _flat(*"v" * (n + 1)), (target, *[_NARROWEST[kind]] * n))


def _each_way() -> Iterator[Variant]:
    for wide, dtype in product((True, False), FLOATS):
        yield variant(_ADD, _flat(*"vvv"), [dtype] * 3, wide)
    for dtype in ("float32", "bfloat16"):
        yield variant(_ADD, _flat(*"vvs"), [dtype] * 3)
        yield variant(_WHERE, _flat(*"vvvv"), [dtype, "bool", dtype, dtype])
        for way in _TILED:
            yield variant(_ADD, way, [dtype] * 3)
    for way in _TILED[1], _TILED[-2], _TILED[-1]:
        yield variant(_ADD, way, ["bfloat16"] * 3, False)
    for source, target in (("float32", "bfloat16"), ("bfloat16", "float32"), ("float64", "float32"), ("int64", "bool")):
        yield variant(_single(f"cast.{target}", (KINDS[source],), KINDS[target]), _flat("v", "v"), [target, source])
    yield variant(_FILL, _tiled(layout.TILES[2], "n1", "n1", "01"), ["float32", "float32", "bool"])
    yield variant(_triangle("tril", "f"), _tiled(layout.TILES[2], "n1", "n1", "n1"), ["bfloat16"] * 2)


_ADD, _WHERE = _single("add", ("f", "f"), "f"), _single("where", ("b", "f", "f"), "f")
_FILL = _single("masked_fill", ("f", "b"), "f")
_TILED = (
    *(_tiled(block, "n1", "n1", "01") for block in layout.TILES),
    _tiled(layout.TILES[2], "n1", "n1", "10"),
    _tiled(layout.TILES[1], "n1", "nn", "01", outer=1),
    _tiled(layout.TILES[1], "n1", "n1", "n1", outer=4),
    _tiled(layout.TURNED, "n1", "1n", "n1"),
)
VARIANTS = tuple(dict.fromkeys((*_each_formula(), *_each_way())))
