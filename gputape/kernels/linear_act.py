"""Host side of the affine map with an activation and a residual: the matrix product's kernel, its end generated."""

from __future__ import annotations

from functools import cache
from typing import Any

from ..backend import scratch as _scratch
from ..errors import BackendError
from ..ops.linear_act import saved_of as _saved_of
from . import _products, tiles
from .expression import Chain, Step
from .formulas import FORMULAS
from .generated import function
from .launch import Function, Variant, covering, need_kernel
from .linear import _matrix, _rows


def _sums(input: Any, weight: Any, *others: Any, **attrs: Any) -> Any:
    return _products.partial_sums(input.dtype, _rows(input), *weight.shape)


@_scratch(_sums)
def linear_act(
    rt: Any,
    y: Any,
    saved: Any,
    input: Any,
    weight: Any,
    bias: Any,
    residual: Any,
    *,
    activation: str,
    options: Any,
    keep: bool,
    scratch: Any = (),
) -> None:
    need_kernel("linear_act", y)
    ending, numbers = _ending_of("linear_act", activation, options, residual is not None, keep)
    _products.multiply(
        rt,
        "linear_act",
        _matrix(rt, y),
        _matrix(rt, input),
        weight.T,
        None if bias is None else rt.packed(bias),
        scratch,
        ending,
        numbers,
        None if residual is None else rt.packed(residual),
        saved,
    )


def _takes(activation: str, options: dict[str, Any]) -> bool:
    """Whether there is a kernel with that activation: for the rewrites of compiled programs."""
    suffix, _ = _formula(activation, dict(options))
    return activation == "none" or {f"{activation}{suffix}", f"{activation}_bwd{suffix}"} <= FORMULAS.keys()


linear_act.takes = _takes  # type: ignore[attr-defined]


def _formula(activation: str, options: dict[str, Any]) -> tuple[str, tuple[float, float]]:
    """The suffix that an option adds to an activation's formulas, and their plain numbers."""
    suffix = f".{options.pop('approximate')}" if activation == "gelu" else ""
    first, second, *_ = *map(float, options.values()), 0.0, 0.0
    return suffix, (first, second)


def _ending_of(
    op: str, activation: str, options: Any, residual: bool, keep: bool
) -> tuple[_products.Ending, tuple[float, float]]:
    """The ending of a kernel, and the plain numbers of its activation.

    Raises:
        BackendError: there is no kernel with that activation.
    """
    if not _takes(activation, options):
        plain = op.removesuffix("_act")
        raise BackendError(f"{op}: no kernel for {activation!r}. Call {plain} and the activation one after the other.")
    suffix, numbers = _formula(activation, dict(options))
    return _ending(activation, suffix, residual, keep), numbers


@cache
def _ending(activation: str, suffix: str, residual: bool, keep: bool = True) -> _products.Ending:
    kind = _saved_of(activation)
    if kind is None:
        return _products.Ending(residual=residual)
    apply = _function(f"{activation}{suffix}", "f")
    if not keep:
        return _products.Ending(apply, residual=residual)
    kept = apply if residual else None
    return _products.Ending(apply, _function(f"{activation}_bwd{suffix}", "ff") if kind == "slope" else kept, residual)


def _function(formula: str, kinds: str) -> Function:
    """A formula as a device function of its last operand; a gradient's other operand, dy, is 1."""
    name = formula.replace(".", "_")
    return function(Chain(name, tuple(kinds), (Step(formula, tuple(range(len(kinds)))),), ((len(kinds), "f"),)))


def _variants() -> list[Variant]:
    """The commonest endings, at the tiles of large products; others are compiled when they are met."""
    endings = [_ending("none", "", True), _ending("relu", "", False), _ending("gelu", ".none", False)]
    return [
        _products.affine_variant(dtype, kind, tile, ending)
        for dtype, kind in _products.KINDS
        for tile in tiles.MATMUL[kind][:2]
        for ending in endings
    ]


VARIANTS = covering(_variants())
