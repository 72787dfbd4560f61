"""Cards of the primitive views: other shapes and strides over the same elements."""

from __future__ import annotations

import math
from operator import index as to_int
from typing import Any

from ..aval import Aval, axis, contiguous_strides
from ..errors import ArgumentError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t

Strides = tuple[int, ...]


def _as_shape(op: str, shape: Any) -> tuple[int, ...]:
    try:
        return tuple(map(to_int, shape)) if isinstance(shape, (tuple, list)) else (to_int(shape),)
    except TypeError:
        raise ArgumentError(f"{op}: {shape!r} must hold integers only. Pass a tuple such as (2, -1).") from None


# --- reshape ----------------------------------------------------------------------------------------------------------


def _reshape_canon(input: Aval, *, shape: Any) -> dict[str, Any]:
    shape = _as_shape("reshape", shape)
    if shape.count(-1) > 1 or any(n < -1 for n in shape):
        raise ShapeError(f"reshape: {shape} is not a shape. Use sizes of 0 or more, and -1 at most once.")
    if -1 in shape:
        known = math.prod(n for n in shape if n != -1)
        if known == 0 or input.size % known:
            raise ShapeError(
                f"reshape: {input.size} elements of {input.shape} do not fill {shape}. Give another shape."
            )
        shape = tuple(input.size // known if n == -1 else n for n in shape)
    return {"shape": shape}


def _reshape_rule(input: Aval, *, shape: tuple[int, ...]) -> Aval:
    out = Aval(shape, input.dtype)
    if out.size != input.size:
        raise ShapeError(
            f"reshape: {input.shape} has {input.size} elements, {shape} has {out.size}. Give a shape of as many."
        )
    return out


def _reshape_view(old: tuple[int, ...], strides: Strides, *, shape: tuple[int, ...]) -> tuple[int, Strides] | None:
    """Strides of the new shape, or None if no strides express it: groups of old axes that are contiguous among
    themselves are split or merged one by one."""
    if math.prod(old) == 0:
        return 0, contiguous_strides(shape)
    dims = [(n, s) for n, s in zip(old, strides, strict=True) if n != 1]
    runs: list[list[int]] = []  # maximal runs of axes that merge into one: [elements, innermost stride]
    for n, s in dims:
        if runs and runs[-1][1] == n * s:
            runs[-1] = [runs[-1][0] * n, s]
        else:
            runs.append([n, s])
    out: list[int] = [0] * len(shape)
    left, step = runs.pop() if runs else (1, 1)
    for i in range(len(shape) - 1, -1, -1):
        n = shape[i]
        if n == 1:
            out[i] = step
            continue
        if left == 1 and runs:
            left, step = runs.pop()
        if left % n:
            return None
        out[i] = step
        left, step = left // n, step * n
    return 0, tuple(out)


register(
    name="reshape",
    doc="The same elements, in row-major order, under another shape; one size may be -1. As torch.reshape.",
    signature="input, shape",
    inputs=("input",),
    canon=_reshape_canon,
    rule=_reshape_rule,
    view=_reshape_view,
    unview=lambda strides, input, *, shape: (_reshape_view(shape, strides, shape=input.shape) or (0, None))[1],
    vjp=lambda F, at, dy: F.reshape(dy, at.ins[0].shape),
    samples=(
        Sample(t(6, 4), shape=(3, -1)),
        Sample(t(6, 4), shape=24),
        Sample(t(), shape=(1, 1)),
        Sample(t(1), shape=()),
        Sample(t(0, 3), shape=(3, 0)),
        Sample(t(4, 6, layout="transposed"), shape=(24,), why_="no view expresses it"),
        Sample(t(2, 3, 4, layout="transposed"), shape=(6, 4), why_="no view expresses it"),
        Sample(t(5, 4, layout="strided"), shape=(2, 10), why_="a view of a strided array"),
        Sample(t(6, 2, dtype="float64"), shape=(4, 3)),
    ),
    errors=(
        Bad(ShapeError, "24 elements", t(6, 4), shape=(5, 5)),
        Bad(ShapeError, "do not fill", t(6, 4), shape=(5, -1)),
        Bad(ShapeError, "not a shape", t(6, 4), shape=(-1, -1)),
        Bad(ArgumentError, "integers", t(6, 4), shape=("a",)),
        Bad(ArgumentError, "integers", t(6, 4), shape=(2.0, 12)),
    ),
    torch="torch.reshape",
)


# --- permute ----------------------------------------------------------------------------------------------------------


def _permute_canon(input: Aval, *, dims: Any) -> dict[str, Any]:
    dims = tuple(axis("permute", d, input.ndim, "dims") for d in _as_shape("permute", dims))
    if sorted(dims) != list(range(input.ndim)):
        raise ShapeError(f"permute: dims {dims} is not an order of the {input.ndim} axes. Name each axis once.")
    return {"dims": dims}


register(
    name="permute",
    doc="The axes in the order `dims`. A view. As torch.permute.",
    signature="input, dims",
    inputs=("input",),
    canon=_permute_canon,
    rule=lambda input, *, dims: input.with_shape([input.shape[d] for d in dims]),
    view=lambda shape, strides, *, dims: (0, tuple(strides[d] for d in dims)),
    unview=lambda strides, input, *, dims: tuple(strides[d] for d in _inverse(dims)),
    vjp=lambda F, at, dy: F.permute(dy, _inverse(at.attrs["dims"])),
    samples=(
        Sample(t(2, 3, 5), dims=(2, 0, 1)),
        Sample(t(2, 3), dims=(-1, 0)),
        Sample(t(), dims=()),
        Sample(t(0, 3), dims=(1, 0)),
        Sample(t(4, 6, layout="strided"), dims=(1, 0)),
        Sample(t(2, 3, dtype="float64"), dims=(1, 0)),
    ),
    errors=(
        Bad(ShapeError, "not an order", t(2, 3), dims=(0, 0)),
        Bad(ShapeError, "out of range", t(2, 3), dims=(0, 2)),
    ),
    torch="torch.permute",
)


def _inverse(dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(dims)), key=dims.__getitem__))


# --- expand -----------------------------------------------------------------------------------------------------------


def _expand_canon(input: Aval, *, size: Any) -> dict[str, Any]:
    size = _as_shape("expand", size)
    lead = len(size) - input.ndim
    if lead < 0:
        raise ShapeError(f"expand: {size} has fewer axes than {input.shape}. Give at least {input.ndim} sizes.")
    return {"size": tuple(input.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(size))}


def _expand_rule(input: Aval, *, size: tuple[int, ...]) -> Aval:
    lead = len(size) - input.ndim
    if any(n < 0 for n in size) or any(a not in (1, n) for a, n in zip(input.shape, size[lead:], strict=True)):
        raise ShapeError(f"expand: {input.shape} does not expand to {size}. Only axes of size 1 can grow.")
    return input.with_shape(size)


def _expand_view(shape: tuple[int, ...], strides: Strides, *, size: tuple[int, ...]) -> tuple[int, Strides]:
    lead = len(size) - len(shape)
    kept = (0 if a == 1 and n != 1 else s for a, s, n in zip(shape, strides, size[lead:], strict=True))
    return 0, ((0,) * lead + tuple(kept))


register(
    name="expand",
    doc="Axes of size 1 repeated to `size`, new axes in front; -1 keeps a size. A view. As Tensor.expand.",
    signature="input, size",
    inputs=("input",),
    canon=_expand_canon,
    rule=_expand_rule,
    view=_expand_view,
    vjp=lambda F, at, dy: F.sum_to(dy, at.ins[0].shape) if at.out.shape != at.ins[0].shape else dy,
    samples=(
        Sample(t(3, 1), size=(2, 3, 4)),
        Sample(t(3, 1), size=(-1, 4)),
        Sample(t(), size=(2, 2)),
        Sample(t(1, 3), size=(0, 3)),
        Sample(t(3, 1, layout="strided"), size=(3, 5)),
        Sample(t(3, 1, dtype="float64"), size=(3, 5)),
    ),
    errors=(
        Bad(ShapeError, "does not expand", t(3, 2), size=(3, 4)),
        Bad(ShapeError, "fewer axes", t(3, 2), size=(2,)),
    ),
    torch="torch.Tensor.expand",
)


# --- the same elements in the same places -----------------------------------------------------------------------------

_SAME_SAMPLES = (
    Sample(t(5, 3)),
    Sample(t()),
    Sample(t(0, 3)),
    Sample(t(4, 6, layout="transposed")),
    Sample(t(7, dtype="float64")),
)
_SAME_ERRORS = (Bad(ArgumentError, "input is None", None),)

register(
    name="alias",
    doc="The same value as a node of its own, so that a gradient can be asked for at just this use. A view.",
    signature="input",
    inputs=("input",),
    rule=lambda input: input,
    view=lambda shape, strides: (0, strides),
    unview=lambda strides, input: strides,
    vjp=lambda F, at, dy: dy,
    samples=_SAME_SAMPLES,
    errors=_SAME_ERRORS,
)

register(
    name="detach",
    doc="The same value, to which no gradient flows. A view. As Tensor.detach.",
    signature="input",
    inputs=("input",),
    rule=lambda input: input,
    view=lambda shape, strides: (0, strides),
    unview=lambda strides, input: strides,
    samples=_SAME_SAMPLES,
    errors=_SAME_ERRORS,
    torch="torch.Tensor.detach",
)
