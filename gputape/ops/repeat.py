"""Cards of the ops that repeat elements, composed of `expand` and `reshape`: repeat, tile, repeat_interleave."""

from __future__ import annotations

from operator import index as to_int
from typing import Any

from ..aval import Aval, axis
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .index import ids, need_index, these
from .slicing import need_axes

Ints = tuple[int, ...]


def _counts(op: str, name: str, given: Any) -> Ints:
    try:
        counts = tuple(map(to_int, given)) if isinstance(given, (tuple, list)) else (to_int(given),)
    except TypeError:
        raise ArgumentError(
            f"{op}: {name}={given!r:.60} must hold integers, one per axis. Pass for example 2."
        ) from None
    if min(counts, default=0) < 0:
        raise ArgumentError(f"{op}: {name}={given!r:.60} holds a negative number. Use 0 or more.")
    return counts


def _repeat(F: Any, input: Any, counts: Ints) -> Any:
    """The whole array `counts` times along each axis; `counts` has at least as many entries as the array has axes."""
    shape = F.aval(input).shape
    shape = (1,) * (len(counts) - len(shape)) + shape
    beside = [v for n, k in zip(shape, counts, strict=True) for v in ((n,) if k == 1 else (1, n))]
    spread = [v for n, k in zip(shape, counts, strict=True) for v in ((n,) if k == 1 else (k, n))]
    y = F.expand(F.reshape(input, tuple(beside)), tuple(spread))
    return F.reshape(y, tuple(n * k for n, k in zip(shape, counts, strict=True)))


def _repeat_canon(input: Aval, *, repeats: Any) -> dict[str, Any]:
    counts = _counts("repeat", "repeats", repeats)
    if len(counts) < input.ndim:
        raise ShapeError(f"repeat: repeats={counts} for an array of shape {input.shape}. Give a number for each axis.")
    return {"repeats": counts}


register(
    name="repeat",
    doc="The whole array repeated along each axis; more numbers than axes make new axes in front. As Tensor.repeat.",
    signature="input, repeats",
    inputs=("input",),
    canon=_repeat_canon,
    rule=lambda input, *, repeats: input,
    compose=lambda F, input, *, repeats: _repeat(F, input, repeats),
    samples=(
        Sample(t(2, 3), repeats=(2, 2)),
        Sample(t(2, 3), repeats=(3, 1, 2), why_="a new axis"),
        Sample(t(3), repeats=1),
        Sample(t(2, 3), repeats=(0, 2)),
        Sample(t(), repeats=(2,)),
        Sample(t(), repeats=()),
        Sample(t(0, 3), repeats=(2, 2)),
        Sample(t(3, dtype="int64", fill="ints", high=9), repeats=(2,)),
        Sample(t(4, 6, layout="transposed"), repeats=(1, 2)),
        Sample(t(2, 3, dtype="float64"), repeats=(2, 1)),
    ),
    errors=(
        Bad(ShapeError, "for each axis", t(2, 3), repeats=(2,)),
        Bad(ArgumentError, "negative", t(3), repeats=(-1,)),
        Bad(ArgumentError, "integers", t(3), repeats=(1.5,)),
    ),
    torch="torch.Tensor.repeat",
)


def _tile(F: Any, input: Any, *, dims: Ints) -> Any:
    return _repeat(F, input, (1,) * (F.aval(input).ndim - len(dims)) + dims)


register(
    name="tile",
    doc="The whole array repeated along its last axes, or with more numbers than axes along new ones in front too. As "
    "torch.tile.",
    signature="input, dims",
    inputs=("input",),
    canon=lambda input, *, dims: {"dims": _counts("tile", "dims", dims)},
    rule=lambda input, *, dims: input,
    compose=_tile,
    samples=(
        Sample(t(2, 3), dims=(2,), why_="the last axis"),
        Sample(t(2, 3), dims=(2, 3)),
        Sample(t(3), dims=(2, 1)),
        Sample(t(2, 3), dims=()),
        Sample(t(), dims=(3,)),
        Sample(t(2, 0), dims=(2, 2)),
        Sample(t(4, 6, layout="strided"), dims=(2, 1)),
        Sample(t(3, dtype="float64"), dims=(2,)),
    ),
    errors=(
        Bad(ArgumentError, "negative", t(3), dims=(-1,)),
        Bad(ArgumentError, "integers", t(3), dims=("2",)),
    ),
    torch="torch.tile",
)


def _interleave_canon(input: Aval, *, repeats: Any, dim: int | None = None, output_size: Any = None) -> dict[str, Any]:
    if isinstance(repeats, (tuple, list)):
        raise ArgumentError(
            f"repeat_interleave: repeats={repeats!r:.60} must be an integer, or an array with a number per element. "
            "Pass an array."
        )
    (count,) = _counts("repeat_interleave", "repeats", repeats)
    if dim is not None:
        need_axes("repeat_interleave", input)
        dim = axis("repeat_interleave", dim, input.ndim)
    return {"repeats": count, "dim": dim, "output_size": output_size}


def _check_size(output_size: int | None, size: int) -> None:
    if output_size not in (None, size):
        raise ShapeError(f"repeat_interleave: output_size={output_size}, but there are {size} elements. Leave it out.")


def _interleave(F: Any, input: Any, *, repeats: int, dim: int | None, output_size: int | None) -> Any:
    if dim is None:
        input, dim = F.flatten(input), 0
    shape = F.aval(input).shape
    _check_size(output_size, shape[dim] * repeats)
    before, n, after = shape[:dim], shape[dim], shape[dim + 1 :]
    y = F.expand(F.reshape(input, (*before, n, 1, *after)), (*before, n, repeats, *after))
    return F.reshape(y, (*before, n * repeats, *after))


register(
    name="repeat_interleave",
    doc="Each element `repeats` times, one after the other along `dim`; with dim=None the array is flattened first. "
    "repeats is an integer, or an array of one or one per element, which is read on the host. output_size is compared "
    "with the size of the result. As torch.repeat_interleave.",
    signature="input, repeats, dim=None, *, output_size=None",
    inputs=("input",),
    arrays=(("repeats",), "repeat_interleave_by"),
    canon=_interleave_canon,
    rule=lambda input, **attrs: input,
    compose=_interleave,
    samples=(
        Sample(t(2, 3), repeats=2),
        Sample(t(2, 3), repeats=3, dim=0),
        Sample(t(2, 3), repeats=2, dim=-1, output_size=6),
        Sample(t(3), repeats=0),
        Sample(t(), repeats=2),
        Sample(t(0, 3), repeats=2, dim=1),
        Sample(t(3, dtype="bool", fill="bool"), repeats=2),
        Sample(t(4, 6, layout="transposed"), repeats=2, dim=1),
        Sample(t(3, dtype="float64"), repeats=2),
    ),
    errors=(
        Bad(ArgumentError, "negative", t(3), repeats=-1),
        Bad(ArgumentError, "Pass an array", t(3), repeats=[1, 2, 3]),
        Bad(ShapeError, "output_size=5", t(3), repeats=2, output_size=5),
        Bad(ArgumentError, "integers", t(3), repeats=1.5),
        Bad(ShapeError, "out of range", t(3), repeats=2, dim=1),
    ),
    torch="torch.repeat_interleave",
)


def _by_canon(input: Aval, repeats: Aval, *, dim: int | None = None, output_size: Any = None) -> dict[str, Any]:
    need_index("repeat_interleave", repeats=repeats)
    if dim is not None:
        need_axes("repeat_interleave", input)
        dim = axis("repeat_interleave", dim, input.ndim)
    n = input.size if dim is None else input.shape[dim]
    if repeats.ndim > 1 or repeats.size not in (1, n):
        raise ShapeError(f"repeat_interleave: repeats has shape {repeats.shape}. Give one number, or {n}.")
    return {"dim": dim, "output_size": output_size}


def _by(F: Any, input: Any, repeats: Any, *, dim: int | None, output_size: int | None) -> Any:
    if dim is None:
        input, dim = F.flatten(input), 0
    n = F.aval(input).shape[dim]
    counts = F.read(F.expand(F.reshape(repeats, (-1,)), (n,))).tolist()
    if min(counts, default=0) < 0:
        raise ArgumentError("repeat_interleave: repeats holds a negative number. Use 0 or more.")
    places = [i for i, count in enumerate(counts) for _ in range(count)]
    _check_size(output_size, len(places))
    return F.index_select(input, dim, F.const(places, "int64"))


register(
    name="repeat_interleave_by",
    doc="repeat_interleave with repeats as an array.",
    signature="input, repeats, dim=None, *, output_size=None",
    inputs=("input", "repeats"),
    canon=_by_canon,
    rule=lambda input, repeats, **attrs: input,
    compose=_by,
    public=False,
    samples=(
        Sample(t(2, 3), ids(3, high=4), dim=1),
        Sample(t(2, 3), these(2, 0), dim=0, output_size=2),
        Sample(t(2, 3), these(2)),
        Sample(t(3), t(dtype="int64", fill=2), dim=0),
        Sample(t(), these(3)),
        Sample(t(0, 3), ids(0, high=1), dim=0),
        Sample(t(4, 6, layout="transposed"), ids(6, high=3, layout="strided"), dim=-1),
        Sample(t(3, dtype="float64"), ids(3, high=3, dtype="int32")),
    ),
    errors=(
        Bad(ShapeError, "repeat_interleave: repeats has shape", t(3), these(1, 2)),
        Bad(ArgumentError, "negative", t(3), these(-1)),
        Bad(ShapeError, "output_size=5", t(3), these(2), output_size=5),
        Bad(DTypeError, "integers", t(3), t(3)),
    ),
    torch="torch.repeat_interleave",
)
