"""The element-wise ops as Triton text, one expression each. `expression.py` chains them.

In a text {0}, {1} are the operands and {c[0]}, {c[1]} plain numbers that a launch passes; `fn` is the module of device
functions, `trig` that of the circular and hyperbolic ones. Operands are float32, whatever floating-point type they are
stored in, or integers or bools as stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..aval import DTYPES, INTS


@dataclass(frozen=True)
class Formula:
    """One op.

    Attributes:
        floats, ints, bools: its text for operands of that kind; "" if there is none.
        gives: kind of the result: "f", "i", "b", or "" for that of the operands. Where it is "f", integer operands are
            converted first.
        of: the operand whose kind chooses the text.
        moves: whether values pass unchanged, so that float64 does as well.
    """

    floats: str = ""
    ints: str = ""
    bools: str = ""
    gives: str = ""
    of: int = 0
    moves: bool = False

    def text(self, kind: str) -> str:
        return {"f": self.floats, "d": self.floats if self.moves else "", "i": self.ints, "b": self.bools}[kind]

    def kind(self, kind: str) -> str:
        """The kind of the result."""
        return self.gives or kind

    def numbers(self, kind: str) -> int:
        """How many plain numbers the text takes."""
        return sum(f"{{c[{k}]}}" in self.text(kind) for k in range(3))


def _same(text: str, bools: str = "", **fields: Any) -> Formula:
    """One text for floats and integers."""
    return Formula(text, text, bools, **fields)


def _real(text: str) -> Formula:
    """A function of real numbers."""
    return Formula(text, gives="f")


def _compare(sign: str) -> Formula:
    # Triton orders bools as signed bits, True before False
    return _same(f"{{0}} {sign} {{1}}", f"{{0}}.to(tl.int32) {sign} {{1}}.to(tl.int32)", gives="b")


def _cast(dtype: str) -> Formula:
    if dtype == "float64":
        text = "{0}.to(tl.float64)"
        return Formula(text, text, text, gives="d", moves=True)
    if dtype == "bool":
        return Formula("{0} != 0", "{0} != 0", "{0}", gives="b", moves=True)
    if dtype in INTS:
        text = f"{{0}}.to(tl.{dtype})"
        return Formula(text, text, text, gives="i", moves=True)
    text = "{0}.to(tl.float32)" if dtype == "float32" else f"{{0}}.to(tl.{dtype}).to(tl.float32)"
    return Formula(text, text, text, gives="f", moves=True)


def _bound(sign: str, k: int) -> str:
    """{0} brought to a bound; a bound of NaN counts, as in PyTorch."""
    return f"tl.where(({{0}} {sign} {{c[{k}]}}) | ({{c[{k}]}} != {{c[{k}]}}), {{c[{k}]}}, {{0}})"


ARITHMETIC = {
    "add": _same("{0} + {1}", "{0} | {1}"),
    "sub": _same("{0} - {1}"),
    "mul": _same("{0} * {1}", "{0} & {1}"),
    "div": _real("tl.div_rn({0}, {1})"),
    "maximum": _same("tl.where(({0} > {1}) | ({0} != {0}), {0}, {1})", "{0} | {1}"),
    "minimum": _same("tl.where(({0} < {1}) | ({0} != {0}), {0}, {1})", "{0} & {1}"),
    "pow": Formula("fn.power({0}, {1})", "fn.int_power({0}, {1})"),
    "scale": Formula("{0} * {c[0]}"),
    "neg": Formula("{0} * -1.0", "-{0}"),  # Triton 3.6 makes -x of x = 0 a 0
    "abs": _same("tl.abs({0})", "{0}"),
    "square": _same("{0} * {0}"),
    "reciprocal": _real("tl.div_rn(1.0, {0})"),
    "sign": Formula(
        "tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, 0.0))",
        "tl.where({0} > 0, 1, tl.where({0} < 0, -1, 0))",
        "{0}",
    ),
    "floor": Formula("tl.floor({0})", "{0}"),
    "ceil": Formula("tl.ceil({0})", "{0}"),
    "round": Formula("fn.round_even({0})", "{0}"),
    "trunc": Formula("fn.trunc({0})", "{0}"),
    "frac": Formula("{0} - fn.trunc({0})"),
    "floor_divide": Formula("fn.floor_divide({0}, {1})", "fn.int_floor_divide({0}, {1})"),
    "trunc_divide": Formula("fn.trunc(tl.div_rn({0}, {1}))", "fn.int_divide({0}, {1})"),
    "remainder": Formula("fn.remainder_of({0}, {1})", "fn.int_remainder({0}, {1})"),
    "fmod": Formula("fn.fmod({0}, {1})", "fn.int_fmod({0}, {1})"),
    "bitwise_and": Formula("", "{0} & {1}", "{0} & {1}"),
    "bitwise_or": Formula("", "{0} | {1}", "{0} | {1}"),
    "bitwise_xor": Formula("", "{0} ^ {1}", "{0} ^ {1}"),
    "bitwise_not": Formula("", "~{0}", "{0}.to(tl.int32) == 0"),
    "lerp": Formula("tl.where(tl.abs({2}) < 0.5, {0} + {2} * ({1} - {0}), {1} - ({1} - {0}) * (1.0 - {2}))"),
}

POWERS = {  # of a plain number
    "power.0": Formula("tl.where({0} == {0}, 1.0, 1.0)", "tl.where({0} == {0}, 1, 1)"),
    "power.3": _same("{0} * {0} * {0}"),
    "power.4": _same("({0} * {0}) * ({0} * {0})"),
    "power.-2": Formula("tl.div_rn(1.0, {0} * {0})"),
    "power.c": Formula("fn.power({0}, {c[0]})", "fn.int_power({0}, {c[0]})"),
}

_WHERE = "tl.where({0}, {1}, {2})"
CHOOSING = {
    "copy": Formula("{0}", "{0}", "{0}", moves=True),
    "where": Formula(_WHERE, _WHERE, _WHERE, of=1, moves=True),
    "masked_fill": _same("tl.where({1}, {c[0]}, {0})", "tl.where({1}, {c[0]} != 0, {0})"),
    "clamp.low": _same(_bound("<", 0)),
    "clamp.high": _same(_bound(">", 0)),
    "clamp_bwd": _same("tl.where(({1} >= {c[0]}) & ({1} <= {c[1]}), {0}, 0)"),
    "tril": _same("tl.where({1} <= {c[0]}, {0}, 0)", "{0} & ({1} <= {c[0]})"),
    "triu": _same("tl.where({1} >= {c[0]}, {0}, 0)", "{0} & ({1} >= {c[0]})"),
} | {f"cast.{dtype}": _cast(dtype) for dtype in DTYPES}

LOGIC = {
    "eq": _compare("=="),
    "ne": _compare("!="),
    "lt": _compare("<"),
    "le": _compare("<="),
    "gt": _compare(">"),
    "ge": _compare(">="),
    "logical_and": _same("({0} != 0) & ({1} != 0)", "{0} & {1}", gives="b"),
    "logical_or": _same("({0} != 0) | ({1} != 0)", "{0} | {1}", gives="b"),
    "logical_xor": _same("({0} != 0) ^ ({1} != 0)", "{0} ^ {1}", gives="b"),
    "logical_not": _same("{0} == 0", "{0}.to(tl.int32) == 0", gives="b"),
    "isnan": _same("{0} != {0}", "{0} != {0}", gives="b"),
    "isinf": Formula('tl.abs({0}) == float("inf")', "{0} != {0}", "{0} != {0}", gives="b"),
    "isfinite": Formula('tl.abs({0}) < float("inf")', "{0} == {0}", "{0} == {0}", gives="b"),
}

FUNCTIONS = {
    "sqrt": _real("tl.sqrt_rn({0})"),
    "rsqrt": _real("tl.div_rn(1.0, tl.sqrt_rn({0}))"),
    "exp": _real("fn.exp({0})"),
    "expm1": _real("fn.expm1({0})"),
    "log": _real("tl.log({0})"),
    "log1p": _real("fn.log1p({0})"),
    "sin": _real("tl.sin({0})"),
    "cos": _real("tl.cos({0})"),
    "erf": _real("tl.erf({0})"),
    "erfc": _real("fn.erfc({0})"),
    "safe_log": Formula("tl.log(fn.softplus({0}) + {c[0]})"),
    "log2": _real("tl.log2({0})"),
    "log10": _real("tl.log({0}) * 0.4342944819032518"),
    "exp2": _real("tl.exp2({0})"),
    "xlogy": _real("tl.where(({0} == 0) & ({1} == {1}), 0.0, {0} * tl.log({1}))"),
    "logaddexp": Formula("fn.logaddexp({0}, {1})"),
    "tan": _real("tl.div_rn(tl.sin({0}), tl.cos({0}))"),
    "asin": _real("trig.asin({0})"),
    "acos": _real("trig.acos({0})"),
    "atan": _real("trig.atan({0})"),
    "sinh": _real("trig.sinh({0})"),
    "cosh": _real("trig.cosh({0})"),
    "asinh": _real("trig.asinh({0})"),
    "acosh": _real("trig.acosh({0})"),
    "atanh": _real("trig.atanh({0})"),
    "atan2": _real("trig.atan2({0}, {1})"),
    "hypot": Formula("fn.hypot({0}, {1})"),
    "nan_to_num": Formula("fn.nan_to_num({0}, {c[0]}, {c[1]}, {c[2]})", "{0}", "{0}"),
}

# Backward ops take dy first; all texts say 0 where the card does, also for a dy that is NaN.
ACTIVATIONS = {
    "relu": _same("tl.where({0} <= 0, 0, {0})"),  # in this direction NaN stays NaN
    "relu_bwd": _same("tl.where({1} == 0, 0, {0})"),
    "leaky_relu": Formula("tl.where({0} > 0, {0}, {0} * {c[0]})"),
    "leaky_relu_bwd": Formula("tl.where({1} > 0, {0}, {0} * {c[0]})"),
    "tanh": _real("fn.tanh({0})"),
    "tanh_bwd": Formula("{0} * (1.0 - {1} * {1})"),
    "sigmoid": _real("fn.sigmoid({0})"),
    "sigmoid_bwd": Formula("{0} * ({1} * (1.0 - {1}))"),
    "logsigmoid": Formula("tl.where({0} > 0, 0.0, {0}) - fn.log1p_exp({0})"),
    "logsigmoid_bwd": Formula("tl.div_rn({0}, fn.exp({1}) + 1.0)"),
    "softplus": Formula("tl.where({0} * {c[0]} > {c[1]}, {0}, tl.div_rn(fn.softplus({0} * {c[0]}), {c[0]}))"),
    "softplus_bwd": Formula("tl.where({1} * {c[0]} > {c[1]}, {0}, {0} * fn.sigmoid({1} * {c[0]}))"),
    "elu": Formula("tl.where({0} > 0, {0}, fn.expm1({0}) * {c[0]})"),
    "elu_bwd": Formula("tl.where({1} <= 0, {0} * (fn.exp({1}) * {c[0]}), {0})"),
    "silu": Formula("tl.div_rn({0}, fn.exp(-{0}) + 1.0)"),
    "silu_bwd": Formula("{0} * fn.silu_slope({1})"),
    "hardtanh": _same("tl.where({0} < {c[0]}, {c[0]}, tl.where({0} > {c[1]}, {c[1]}, {0}))"),
    "hardtanh_bwd": Formula("tl.where(({1} <= {c[0]}) | ({1} >= {c[1]}), 0.0, {0})"),
    "hardsigmoid": Formula("fn.hard_gate({0})"),
    "hardsigmoid_bwd": Formula("tl.where(({1} > -3.0) & ({1} < 3.0), {0} * 0.16666666666666666, 0.0)"),
    "hardswish": Formula("{0} * fn.hard_gate({0})"),
    "hardswish_bwd": Formula("tl.where({1} <= -3.0, 0.0, {0} * tl.where({1} < 3.0, {1} * (1.0 / 3.0) + 0.5, 1.0))"),
    "mish": Formula("{0} * fn.mish_gate({0})"),
    "mish_bwd": Formula("{0} * fn.mish_slope({1})"),
    "gelu.none": Formula("{0} * fn.normal_cdf({0})"),
    "gelu.tanh": Formula("{0} * fn.gelu_gate({0})"),
    "gelu_bwd.none": Formula("{0} * fn.gelu_slope({1})"),
    "gelu_bwd.tanh": Formula("{0} * fn.gelu_tanh_slope({1})"),
}

UPDATES = {  # what optimizer steps are chained from
    "axpy": Formula("{0} + {1} * {c[0]}"),
    "minus_product": Formula("{0} - {1} * {2}"),
    "mix": Formula("{0} * {c[0]} + {1} * {2}"),
    "blend": Formula("{0} * {c[0]} + {1} * {c[1]}"),
    "blend_squares": Formula("{0} * {c[0]} + {1} * {1} * {c[1]}"),
    "over_root": Formula("tl.div_rn({0}, tl.sqrt_rn({1}) + {2})"),
}

FORMULAS: dict[str, Formula] = ARITHMETIC | POWERS | CHOOSING | LOGIC | FUNCTIONS | ACTIVATIONS | UPDATES
