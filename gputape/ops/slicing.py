"""Cards of `slice` and of what is composed of it: parts of axes, as views."""

from __future__ import annotations

import math
from operator import index as to_int
from typing import Any

from ..aval import Aval, axis, need_same_dtype
from ..errors import ArgumentError, IndexRangeError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t

Ints = tuple[int, ...]


def _slice_canon(input: Aval, *, start: Any, stop: Any, step: Any = None) -> dict[str, Any]:
    columns = [_per_axis(name, given, input.ndim) for name, given in (("start", start), ("stop", stop), ("step", step))]
    if any(k is not None and k < 1 for k in columns[2]):
        raise ArgumentError(f"slice: step={step} must be at least 1. Use gt.flip to reverse an axis.")
    ranges = [range(*slice(*of).indices(n)) for n, *of in zip(input.shape, *columns, strict=True)]
    return {
        "start": tuple(r.start for r in ranges),
        "stop": tuple(max(r.start, r.stop) for r in ranges),
        "step": tuple(r.step for r in ranges),
    }


def _per_axis(name: str, given: Any, ndim: int) -> tuple[int | None, ...]:
    """One integer or None per axis; the axes not mentioned get None."""
    listed = tuple(given) if isinstance(given, (tuple, list)) else (given,) if given is not None else ()
    if len(listed) > ndim:
        raise ShapeError(f"slice: {name}={given!r} has more entries than the array has axes ({ndim}). Leave some out.")
    try:
        return (*(None if v is None else to_int(v) for v in listed), *[None] * (ndim - len(listed)))
    except TypeError:
        raise ArgumentError(f"slice: {name}={given!r} must hold integers or None. Pass one entry per axis.") from None


def _slice_rule(input: Aval, *, start: Ints, stop: Ints, step: Ints) -> Aval:
    return input.with_shape([len(range(*of)) for of in zip(start, stop, step, strict=True)])


def _slice_view(shape: Ints, strides: Ints, *, start: Ints, stop: Ints, step: Ints) -> Any:
    offset = sum(a * s for a, s in zip(start, strides, strict=True))
    return offset, tuple(k * s for k, s in zip(step, strides, strict=True))


register(
    name="slice",
    doc="input[start:stop:step] along each axis, as Python slices: negative positions count from the end, None is the "
    "end itself, positions beyond it are cut off, axes not mentioned stay whole. step >= 1. A view.",
    signature="input, start, stop, step=None",
    inputs=("input",),
    canon=_slice_canon,
    rule=_slice_rule,
    view=_slice_view,
    vjp=lambda F, at, dy: F.slice_bwd(dy, at.ins[0].shape, **at.attrs),
    samples=(
        Sample(t(7, 5), start=(1, 0), stop=(6, 5), step=(2, 1)),
        Sample(t(7, 5), start=-3, stop=None),
        Sample(t(2, 3, 5), start=(None, None, 1), stop=(None, -1, 99), step=(None, 2, 3)),
        Sample(t(7), start=5, stop=2, why_="nothing is left"),
        Sample(t(), start=(), stop=()),
        Sample(t(0, 3), start=(0, 1), stop=(0, 2)),
        Sample(t(4, 6, layout="transposed"), start=(1, 2), stop=(4, 5)),
        Sample(t(5, 4, layout="flipped"), start=(1, 1), stop=(5, 4), step=(3, 2)),
        Sample(t(5, 3, dtype="float64"), start=1, stop=None, step=2),
    ),
    errors=(
        Bad(ArgumentError, "gt.flip", t(5), start=None, stop=None, step=-1),
        Bad(ArgumentError, "at least 1", t(5), start=0, stop=2, step=0),
        Bad(ShapeError, "more entries", t(5), start=(0, 0), stop=(1, 1)),
        Bad(ArgumentError, "integers or None", t(5), start=0.5, stop=2),
    ),
    perf=(Perf(t(16, 64, 384), start=(0, 0, 128), stop=(16, 64, 256), name_="gpt keys of qkv"),),
)


def _slice_bwd_rule(dy: Aval, *, shape: Ints, start: Ints, stop: Ints, step: Ints) -> Aval:
    if _slice_rule(dy.with_shape(shape), start=start, stop=stop, step=step).shape != dy.shape:
        raise ShapeError(f"slice_bwd: dy has shape {dy.shape}, which is not that slice of {shape}. Pass the slice.")
    return dy.with_shape(shape)


_HEADS = (16, 4, 64, 32)

register(
    name="slice_bwd",
    doc="Zeros of `shape`, with `dy` at start:stop:step (as `slice` resolved them). The gradient of `slice`.",
    signature="dy, shape, start, stop, step",
    inputs=("dy",),
    rule=_slice_bwd_rule,
    vjp=lambda F, at, dy: F.slice(dy, *(at.attrs[k] for k in ("start", "stop", "step"))),
    samples=(
        Sample(t(3, 5), shape=(7, 5), start=(1, 0), stop=(6, 5), step=(2, 1)),
        Sample(t(0), shape=(3,), start=(3,), stop=(3,), step=(1,)),
        Sample(t(2, 3, layout="transposed"), shape=(5, 3), start=(0, 0), stop=(5, 3), step=(3, 1)),
        Sample(t(2, dtype="float64"), shape=(5,), start=(1,), stop=(4,), step=(2,)),
        Sample(t(), shape=(), start=(), stop=(), step=()),
    ),
    errors=(Bad(ShapeError, "not that slice", t(3), shape=(5,), start=(0,), stop=(2,), step=(1,)),),
    perf=tuple(
        Perf(
            t(1, *_HEADS),
            shape=(3, *_HEADS),
            start=(k, 0, 0, 0, 0),
            stop=(k + 1, *_HEADS),
            step=(1, 1, 1, 1, 1),
            name_=f"gpt gradient of {name}",
        )
        for k, name in enumerate(("queries", "keys", "values"))
    ),
    public=False,
)


def _slices_bwd_rule(*dys: Aval, shape: Ints, slices: Any) -> Aval:
    if len(dys) != len(slices):
        raise ArgumentError(f"slices_bwd: {len(dys)} arrays for {len(slices)} slices. Pass one for each.")
    for dy, (start, stop, step) in zip(dys, slices, strict=True):
        _slice_bwd_rule(dy, shape=shape, start=start, stop=stop, step=step)
    need_same_dtype("slices_bwd", **{f"dys[{k}]": dy for k, dy in enumerate(dys)})
    if sum(dy.size for dy in dys) != math.prod(shape):
        raise ShapeError(
            f"slices_bwd: {sum(dy.size for dy in dys)} elements do not fill {shape}. Pass all slices of it."
        )
    return dys[0].with_shape(shape)


def _slices_places(strides: Ints, *dys: Aval, shape: Ints, slices: Any) -> Any:
    return tuple(_slice_view(shape, strides, start=a, stop=b, step=c) for a, b, c in slices)


register(
    name="slices_bwd",
    doc="An array of `shape` with each of `dys` at its (start, stop, step) of `slices`, which do not meet and together "
    "are all of it. What the gradients of several slices add up to.",
    signature="dys, shape, slices",
    inputs=("*dys",),
    rule=_slices_bwd_rule,
    places=_slices_places,
    strided=("y",),
    vjp=lambda F, at, dy: tuple(F.slice(dy, *of) for of in at.attrs["slices"]),
    samples=(
        Sample(t(1, 3), t(2, 3), shape=(3, 3), slices=(((2, 0), (3, 3), (1, 1)), ((0, 0), (2, 3), (1, 1)))),
        Sample(t(3), t(3), shape=(6,), slices=(((1,), (6,), (2,)), ((0,), (6,), (2,)))),
        Sample(t(0, 2), t(1, 2), shape=(1, 2), slices=(((0, 0), (0, 2), (1, 1)), ((0, 0), (1, 2), (1, 1)))),
        Sample(
            t(3, 2, layout="transposed"),
            t(3, 2, layout="flipped"),
            shape=(3, 4),
            slices=(((0, 2), (3, 4), (1, 1)), ((0, 0), (3, 2), (1, 1))),
        ),
        Sample(t(2, dtype="float64"), shape=(2,), slices=(((0,), (2,), (1,)),)),
    ),
    errors=(
        Bad(ArgumentError, "2 arrays for 1 slices", t(3), t(3), shape=(6,), slices=(((0,), (3,), (1,)),)),
        Bad(ShapeError, "not that slice", t(3), shape=(5,), slices=(((0,), (2,), (1,)),)),
        Bad(ShapeError, r"3 elements do not fill \(5,\)", t(3), shape=(5,), slices=(((0,), (3,), (1,)),)),
    ),
    perf=(
        Perf(
            *[t(1, *_HEADS)] * 3,
            shape=(3, *_HEADS),
            slices=tuple(((k, 0, 0, 0, 0), (k + 1, *_HEADS), (1, 1, 1, 1, 1)) for k in range(3)),
            name_="gpt gradient of qkv",
        ),
    ),
    public=False,
)


# --- parts of one axis ------------------------------------------------------------------------------------------------


def along(F: Any, x: Any, dim: int, start: int, stop: int, step: int = 1) -> Any:
    """x[start:stop:step] along one axis."""
    before = (None,) * dim
    return F.slice(x, (*before, start), (*before, stop), (*before, step))


def _same(*avals: Aval, **attrs: Any) -> Aval:
    return avals[0]


def _integer(op: str, name: str, value: Any) -> int:
    try:
        return to_int(value)
    except TypeError:
        raise ArgumentError(f"{op}: {name}={value!r:.40} must be an integer.") from None


def need_axes(op: str, aval: Aval) -> None:
    """Raise `ShapeError` for a scalar."""
    if not aval.ndim:
        raise ShapeError(f"{op}: a scalar has no axis to take a part of. Pass an array with at least one axis.")


def _narrow_canon(input: Aval, *, dim: int, start: int, length: int) -> dict[str, Any]:
    need_axes("narrow", input)
    dim = axis("narrow", dim, input.ndim)
    n = input.shape[dim]
    start, length = _integer("narrow", "start", start), _integer("narrow", "length", length)
    if length < 0:
        raise ArgumentError(f"narrow: length={length} is negative. Use 0 or more.")
    if not -n <= start <= n:
        raise IndexRangeError(f"narrow: start={start} is out of range for size {n}. Use {-n} to {n}.")
    start = start + n if start < 0 else start
    if start + length > n:
        raise ShapeError(f"narrow: start {start} + length {length} exceeds the size {n} of axis {dim}. Ask for less.")
    return {"dim": dim, "start": start, "length": length}


register(
    name="narrow",
    doc="input[start : start + length] along `dim`. A view. As torch.narrow.",
    signature="input, dim, start, length",
    inputs=("input",),
    canon=_narrow_canon,
    rule=_same,
    compose=lambda F, input, *, dim, start, length: along(F, input, dim, start, start + length),
    samples=(
        Sample(t(5, 3), dim=0, start=1, length=3),
        Sample(t(5, 3), dim=-1, start=-2, length=2),
        Sample(t(5, 3), dim=0, start=5, length=0),
        Sample(t(0, 3), dim=1, start=1, length=2),
        Sample(t(4, 6, layout="transposed"), dim=1, start=2, length=3),
        Sample(t(5, dtype="float64"), dim=0, start=1, length=2),
    ),
    errors=(
        Bad(ShapeError, "exceeds", t(5), dim=0, start=3, length=3),
        Bad(IndexRangeError, "out of range", t(5), dim=0, start=6, length=0),
        Bad(ArgumentError, "0 or more", t(5), dim=0, start=0, length=-1),
        Bad(ShapeError, "scalar", t(), dim=0, start=0, length=1),
    ),
    torch="torch.narrow",
)


def _select_canon(input: Aval, *, dim: int, index: int) -> dict[str, Any]:
    need_axes("select", input)
    dim = axis("select", dim, input.ndim)
    n, index = input.shape[dim], _integer("select", "index", index)
    if not -n <= index < n:
        raise IndexRangeError(f"select: index {index} is out of range for size {n}. Use {-n} to {n - 1}.")
    return {"dim": dim, "index": index % n}


def _select(F: Any, input: Any, *, dim: int, index: int) -> Any:
    shape = F.aval(input).shape
    return F.reshape(along(F, input, dim, index, index + 1), (*shape[:dim], *shape[dim + 1 :]))


register(
    name="select",
    doc="input[index] along `dim`, without that axis. A view. As torch.select.",
    signature="input, dim, index",
    inputs=("input",),
    canon=_select_canon,
    rule=_same,
    compose=_select,
    samples=(
        Sample(t(5, 3), dim=0, index=2),
        Sample(t(2, 5, 3), dim=-2, index=-1),
        Sample(t(2, 0), dim=0, index=0),
        Sample(t(4, 6, layout="transposed"), dim=1, index=3),
        Sample(t(5, dtype="float64"), dim=0, index=1),
    ),
    errors=(
        Bad(IndexRangeError, "index 5 is out of range", t(5, 3), dim=0, index=5),
        Bad(ArgumentError, "integer", t(5, 3), dim=0, index=1.5),
        Bad(ShapeError, "scalar", t(), dim=0, index=0),
    ),
    torch="torch.select",
)


def _diagonal_canon(input: Aval, *, offset: int = 0, dim1: int = 0, dim2: int = 1) -> dict[str, Any]:
    rows, cols = axis("diagonal", dim1, input.ndim, "dim1"), axis("diagonal", dim2, input.ndim, "dim2")
    if rows == cols:
        raise ShapeError(f"diagonal: dim1={dim1} and dim2={dim2} are one axis of {input.shape}. Name two axes.")
    return {"offset": _integer("diagonal", "offset", offset), "dim1": rows, "dim2": cols}


def _diagonal(F: Any, input: Any, *, offset: int, dim1: int, dim2: int) -> Any:
    shape = F.aval(input).shape
    n, m = shape[dim1], shape[dim2]
    others = tuple(i for i in range(len(shape)) if i not in (dim1, dim2))
    batch = tuple(shape[i] for i in others)
    flat = F.reshape(F.permute(input, (*others, dim1, dim2)), (*batch, n * m))
    length = max(0, min(n, m - offset) if offset >= 0 else min(n + offset, m))
    start = (offset if offset >= 0 else -offset * m) if length else 0
    return along(F, flat, len(batch), start, start + length * (m + 1), m + 1)


register(
    name="diagonal",
    doc="The elements at (i, i + offset) of the axes dim1 and dim2, as the last axis. A view where strides allow. "
    "As torch.diagonal.",
    signature="input, offset=0, dim1=0, dim2=1",
    inputs=("input",),
    canon=_diagonal_canon,
    rule=_same,
    compose=_diagonal,
    samples=(
        Sample(t(5, 3)),
        Sample(t(3, 5), offset=1),
        Sample(t(5, 3), offset=-2),
        Sample(t(2, 3, 5), offset=2, dim1=-2, dim2=-1),
        Sample(t(2, 3, 5), dim1=2, dim2=0),
        Sample(t(3, 3), offset=7),
        Sample(t(4, 6, layout="transposed"), offset=1),
        Sample(t(3, 3, dtype="float64")),
        Sample(t(0, 3)),
    ),
    errors=(
        Bad(ShapeError, "one axis", t(3, 3), dim1=1, dim2=-1),
        Bad(ShapeError, "out of range", t(3), dim1=0, dim2=1),
    ),
    torch="torch.diagonal",
)
