"""Cards of the ops that take an array apart into a tuple of views, composed of `slice`: split, chunk, unbind."""

from __future__ import annotations

from operator import index as to_int
from typing import Any

from ..aval import Aval, axis
from ..errors import ArgumentError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .slicing import along, need_axes


def _parts(F: Any, x: Any, dim: int, sizes: tuple[int, ...]) -> tuple[Any, ...]:
    out, start = [], 0
    for n in sizes:
        out.append(along(F, x, dim, start, start + n))
        start += n
    return tuple(out)


def _even(total: int, size: int) -> tuple[int, ...]:
    """Sizes of pieces of `size`, the last one smaller; one empty piece for nothing."""
    return tuple(min(size, total - k) for k in range(0, total, size)) if total else (0,)


def _split_canon(tensor: Aval, *, split_size_or_sections: Any, dim: int = 0) -> dict[str, Any]:
    need_axes("split", tensor)
    dim = axis("split", dim, tensor.ndim)
    n, given = tensor.shape[dim], split_size_or_sections
    try:
        several = isinstance(given, tuple | list)
        sizes = tuple(map(to_int, given)) if several else (to_int(given),)
    except TypeError:
        raise ArgumentError(f"split: {given!r:.60} must be an integer or a list of integers.") from None
    if min(sizes, default=0) < 0 or (not several and sizes == (0,) and n):
        raise ArgumentError(f"split: pieces of {given} do not make up size {n}. Use sizes above 0.")
    if not several:
        sizes = _even(n, max(sizes[0], 1))
    if sum(sizes) != n:
        raise ShapeError(f"split: sections {sizes} sum to {sum(sizes)}, axis {dim} has size {n}. Make them sum to it.")
    return {"split_size_or_sections": sizes, "dim": dim}


register(
    name="split",
    doc="A tuple of views: pieces of size `split_size_or_sections` along `dim` (the last may be smaller), or pieces of "
    "the listed sizes. As torch.split.",
    signature="tensor, split_size_or_sections, dim=0",
    inputs=("tensor",),
    spellings={"split_size_or_sections": ("split_size",)},
    canon=_split_canon,
    rule=lambda tensor, **attrs: tensor,
    compose=lambda F, tensor, *, split_size_or_sections, dim: _parts(F, tensor, dim, split_size_or_sections),
    samples=(
        Sample(t(7, 3), split_size_or_sections=2),
        Sample(t(2, 7), split_size_or_sections=[4, 0, 3], dim=-1),
        Sample(t(0, 3), split_size_or_sections=0),
        Sample(t(5), split_size_or_sections=9),
        Sample(t(4, 6, layout="transposed"), split_size_or_sections=(1, 3)),
        Sample(t(5, dtype="float64"), split_size_or_sections=3),
    ),
    errors=(
        Bad(ShapeError, "sum to 4", t(5), split_size_or_sections=(2, 2)),
        Bad(ArgumentError, "above 0", t(5), split_size_or_sections=0),
        Bad(ArgumentError, "above 0", t(5), split_size_or_sections=(6, -1)),
        Bad(ArgumentError, "integer", t(5), split_size_or_sections=2.5),
        Bad(ShapeError, "scalar", t(), split_size_or_sections=1),
    ),
    torch="torch.split",
)


def _chunk_canon(input: Aval, *, chunks: int, dim: int = 0) -> dict[str, Any]:
    need_axes("chunk", input)
    if isinstance(chunks, bool) or not isinstance(chunks, int) or chunks < 1:
        raise ArgumentError(f"chunk: chunks={chunks!r} must be an integer of 1 or more.")
    return {"chunks": chunks, "dim": axis("chunk", dim, input.ndim)}


def _chunk(F: Any, input: Any, *, chunks: int, dim: int) -> tuple[Any, ...]:
    n = F.aval(input).shape[dim]
    return _parts(F, input, dim, _even(n, -(-n // chunks)) if n else (0,) * chunks)


register(
    name="chunk",
    doc="A tuple of at most `chunks` views of equal size along `dim`, the last one smaller. As torch.chunk.",
    signature="input, chunks, dim=0",
    inputs=("input",),
    canon=_chunk_canon,
    rule=lambda input, **attrs: input,
    compose=_chunk,
    samples=(
        Sample(t(7, 3), chunks=3),
        Sample(t(2, 6), chunks=3, dim=-1),
        Sample(t(5), chunks=4, why_="fewer pieces than asked for"),
        Sample(t(0, 2), chunks=2),
        Sample(t(4, 6, layout="transposed"), chunks=2, dim=1),
        Sample(t(5, dtype="float64"), chunks=2),
    ),
    errors=(Bad(ArgumentError, "1 or more", t(5), chunks=0), Bad(ShapeError, "scalar", t(), chunks=1)),
    torch="torch.chunk",
)


def _unbind_canon(input: Aval, *, dim: int = 0) -> dict[str, Any]:
    need_axes("unbind", input)
    return {"dim": axis("unbind", dim, input.ndim)}


register(
    name="unbind",
    doc="A tuple of views: the slices along `dim`, without that axis. As torch.unbind.",
    signature="input, dim=0",
    inputs=("input",),
    canon=_unbind_canon,
    rule=lambda input, **attrs: input,
    compose=lambda F, input, *, dim: tuple(F.select(input, dim, k) for k in range(F.aval(input).shape[dim])),
    samples=(
        Sample(t(3, 2)),
        Sample(t(2, 3), dim=-1),
        Sample(t(2, 0), why_="empty parts"),
        Sample(t(4, 3, layout="transposed"), dim=1),
        Sample(t(2, dtype="float64")),
    ),
    errors=(Bad(ShapeError, "scalar", t()),),
    torch="torch.unbind",
)
