"""Cards of the ops that put elements on diagonals: diag_embed, diag."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, axis
from ..errors import ArgumentError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t


def _offset(op: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentError(f"{op}: {name}={value!r} must be an integer. Use 0 for the main diagonal.")
    return value


def _embed_canon(input: Aval, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> dict[str, Any]:
    if not input.ndim:
        raise ShapeError("diag_embed: a scalar has no axis to lay along a diagonal. Pass a vector.")
    rows, cols = axis("diag_embed", dim1, input.ndim + 1, "dim1"), axis("diag_embed", dim2, input.ndim + 1, "dim2")
    if rows == cols:
        raise ShapeError(f"diag_embed: dim1={dim1} and dim2={dim2} are one axis of the result. Name two axes.")
    return {"offset": _offset("diag_embed", "offset", offset), "dim1": rows, "dim2": cols}


def _embed(F: Any, input: Any, *, offset: int, dim1: int, dim2: int) -> Any:
    """In row-major order the elements lie n + 1 apart, so that zeros behind each one put them there."""
    *batch, length = F.aval(input).shape
    n = length + abs(offset)
    first = offset if offset >= 0 else -offset * n
    spread = F.constant_pad_nd(F.reshape(input, (*batch, length, 1)), (0, n))
    flat = F.reshape(spread, (*batch, length * (n + 1)))
    square = F.reshape(F.constant_pad_nd(flat, (first, n * n - first - length * (n + 1))), (*batch, n, n))
    return F.movedim(square, (-2, -1), (dim1, dim2))


register(
    name="diag_embed",
    doc="Matrices in the axes dim1 and dim2 of the result, with the last axis of the input on the diagonal `offset` (0 "
    "the main one, positive above it) and zeros elsewhere. As torch.diag_embed.",
    signature="input, offset=0, dim1=-2, dim2=-1",
    inputs=("input",),
    canon=_embed_canon,
    rule=lambda input, **attrs: input,
    compose=_embed,
    samples=(
        Sample(t(3)),
        Sample(t(2, 3), offset=1),
        Sample(t(2, 3), offset=-2, dim1=0, dim2=2),
        Sample(t(2, 3), dim1=2, dim2=0, offset=1),
        Sample(t(0), offset=-2),
        Sample(t(0, 2)),
        Sample(t(3, dtype="bool", fill="ones"), offset=1),
        Sample(t(3, fill=(float("nan"), 1.0, float("inf"))), grad_=False),
        Sample(t(4, 6, layout="transposed"), offset=-1),
        Sample(t(3, dtype="float64")),
    ),
    errors=(
        Bad(ShapeError, "scalar", t()),
        Bad(ShapeError, "one axis", t(3), dim1=1, dim2=-1),
        Bad(ShapeError, "dim2=2 is out of range", t(3), dim2=2),
        Bad(ArgumentError, "offset=0.5", t(3), offset=0.5),
    ),
    torch="torch.diag_embed",
)


def _diag_canon(input: Aval, *, diagonal: int = 0) -> dict[str, Any]:
    if input.ndim not in (1, 2):
        raise ShapeError(
            f"diag: input has shape {input.shape}, but a vector or a matrix is needed. Use gt.diagonal or "
            "gt.diag_embed for more axes."
        )
    return {"diagonal": _offset("diag", "diagonal", diagonal)}


def _diag(F: Any, input: Any, *, diagonal: int) -> Any:
    return F.diag_embed(input, diagonal) if F.aval(input).ndim == 1 else F.diagonal(input, diagonal)


register(
    name="diag",
    doc="Of a vector the square matrix with it on the given diagonal, of a matrix that diagonal. As torch.diag.",
    signature="input, diagonal=0",
    inputs=("input",),
    canon=_diag_canon,
    rule=lambda input, *, diagonal: input,
    compose=_diag,
    samples=(
        Sample(t(3)),
        Sample(t(3), diagonal=-1),
        Sample(t(3, 5), diagonal=1),
        Sample(t(0)),
        Sample(t(0, 3)),
        Sample(t(4, 6, layout="transposed"), diagonal=-2),
        Sample(t(3, dtype="float64"), diagonal=2),
    ),
    errors=(
        Bad(ShapeError, "gt.diagonal", t(2, 3, 3)),
        Bad(ShapeError, "vector or a matrix", t()),
        Bad(ArgumentError, "diagonal='a'", t(3), diagonal="a"),
    ),
    torch="torch.diag",
)
