"""Cards of the matrix products."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, broadcast_shapes, need_same_dtype
from ..errors import DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t


def transpose(F: Any, x: Any) -> Any:
    """A view of `x` with its last two axes exchanged."""
    n = F.aval(x).ndim
    return F.permute(x, (*range(n - 2), n - 1, n - 2))


def rows_of(F: Any, x: Any) -> Any:
    """`x` as a matrix: all axes but the last become one."""
    shape = F.aval(x).shape
    return x if len(shape) == 2 else F.reshape(x, (math.prod(shape[:-1]), shape[-1]))


def product_aval(op: str, a: Aval, b: Aval, names: tuple[str, str] = ("input", "other")) -> Aval:
    """The aval of a matrix product by torch.matmul's rank rules.

    Raises:
        ShapeError: a scalar operand, inner sizes that differ, batch axes that do not broadcast.
        DTypeError: different dtypes, or bool.
    """
    for name, x in zip(names, (a, b), strict=True):
        if not x.shape:
            raise ShapeError(f"{op}: {name} is a scalar, but at least one axis is needed. Use mul to scale.")
    need_same_dtype(op, **dict(zip(names, (a, b), strict=True)))
    if a.dtype == "bool":
        raise DTypeError(f"{op}: products of bool are not defined. Cast to an integer or floating-point dtype.")
    inner, other = a.shape[-1], b.shape[-2 if b.ndim > 1 else 0]
    if inner != other:
        which = "second-to-last axis" if b.ndim > 1 else "only axis"
        raise ShapeError(
            f"{op}: the inner sizes {inner} and {other} differ ({names[0]}: {a.shape}, {names[1]}: {b.shape}). "
            f"The last axis of {names[0]} must be as long as the {which} of {names[1]}."
        )
    batch = broadcast_shapes(op, a.shape[:-2], b.shape[:-2])
    return Aval((*batch, *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ())), a.dtype)


# --- the primitive ----------------------------------------------------------------------------------------------------


def _mm_nd_rule(input: Aval, other: Aval) -> Aval:
    if input.ndim < 2 or other.ndim < 2:
        raise ShapeError(f"mm_nd: {input.shape} and {other.shape} need at least two axes each. Use matmul for vectors.")
    return product_aval("mm_nd", input, other)


def _mm_nd_vjp(F: Any, at: At, dy: Any, input: Any, other: Any) -> Any:
    a, b = at.ins
    dinput = dother = None
    if at.needs[0]:
        dinput = _sum_to(F, F.mm_nd(dy, transpose(F, other)), a)
    if at.needs[1]:
        if b.ndim == 2:  # one product over all rows, instead of one per matrix and their sum
            input, dy = rows_of(F, input), rows_of(F, dy)
        dother = _sum_to(F, F.mm_nd(transpose(F, input), dy), b)
    return dinput, dother


def _sum_to(F: Any, x: Any, to: Aval) -> Any:
    return x if F.aval(x).shape == to.shape else F.sum_to(x, to.shape)


register(
    name="mm_nd",
    doc="""Matrix product over the last two axes: (…, m, k) · (…, k, n) → (…, m, n).

    Both inputs have at least two axes and one dtype; leading axes broadcast. k = 0 gives zeros. Vectors: see matmul.
    """,
    signature="input, other",
    precision="narrow",
    inputs=("input", "other"),
    rule=_mm_nd_rule,
    vjp=_mm_nd_vjp,
    saves=("input", "other"),
    batch=lambda input, other: (
        0 if input.ndim >= other.ndim else None,
        0 if other.ndim > 2 and other.ndim >= input.ndim else None,
        0,
    ),
    flops=lambda at: 2 * at.out.size * at.ins[0].shape[-1],
    samples=(
        Sample(t(5, 3), t(3, 7)),
        Sample(t(2, 5, 3), t(2, 3, 7)),
        Sample(t(2, 5, 3), t(3, 7), why_="one matrix for all rows"),
        Sample(t(5, 3), t(2, 3, 7), why_="the left side broadcasts"),
        Sample(t(2, 1, 5, 3), t(1, 3, 3, 2), why_="both sides broadcast"),
        Sample(t(5, 0), t(0, 7), why_="an empty sum is 0"),
        Sample(t(0, 3), t(3, 7)),
        Sample(t(2, 0, 3), t(3, 7)),
        Sample(t(0, 5, 3), t(0, 3, 7)),
        Sample(t(1, 1), t(1, 1)),
        Sample(t(4, 6, layout="transposed"), t(6, 3, layout="strided")),
        Sample(t(4, 6, layout="flipped"), t(6, 3, layout="expanded")),
        Sample(t(2, 3, 5, layout="transposed"), t(5, 4), why_="rows that do not merge"),
        Sample(t(5, 3, dtype="float64"), t(3, 7, dtype="float64")),
        Sample(t(3, 4, dtype="int32", fill="ints", low=-9, high=9), t(4, 2, dtype="int32", fill="ints", high=9)),
        Sample(t(17, 13, dtype="bfloat16"), t(13, 5, dtype="bfloat16"), grad_=False),
    ),
    errors=(
        Bad(ShapeError, "at least two axes", t(3), t(3, 2)),
        Bad(ShapeError, r"inner sizes 3 and 4 differ", t(5, 3), t(4, 7)),
    ),
    perf=(
        Perf(t(1024, 128), t(128, 512), gemms_=((1, 1024, 512, 128),), name_="gpt hidden"),
        Perf(t(1024, 512), t(512, 128), gemms_=((1, 1024, 128, 512),), name_="gpt projection"),
        Perf(t(64, 64, 32), t(64, 32, 64), gemms_=((64, 64, 64, 32),), name_="gpt scores"),
        Perf(t(4096, 4096), t(4096, 4096), gemms_=((1, 4096, 4096, 4096),), name_="large"),
    ),
    public=False,
)


# --- what users call --------------------------------------------------------------------------------------------------


def _matmul(F: Any, input: Any, other: Any) -> Any:
    a, b = F.aval(input), F.aval(other)
    if a.ndim > 1 and b.ndim > 1:
        return F.mm_nd(input, other)
    left = input if a.ndim > 1 else F.reshape(input, (1, a.size))
    right = other if b.ndim > 1 else F.reshape(other, (b.size, 1))
    return F.reshape(F.mm_nd(left, right), product_aval("matmul", a, b).shape)


register(
    name="matmul",
    doc="""Matrix product, as torch.matmul and the operator @; on the original API page.

    (…, m, k) · (…, k, n) → (…, m, n), leading axes broadcast; a vector on the left is a row, on the right a column, and
    its axis does not appear in the result. Dtypes must agree; integers multiply in their own dtype. k = 0 gives zeros.
    """,
    signature="input, other",
    precision="narrow",
    inputs=("input", "other"),
    rule=lambda input, other: product_aval("matmul", input, other),
    compose=_matmul,
    samples=(
        Sample(t(5, 3), t(3, 7)),
        Sample(t(3), t(3), why_="two vectors: a scalar"),
        Sample(t(3), t(3, 7), why_="a row"),
        Sample(t(5, 3), t(3), why_="a column"),
        Sample(t(3), t(2, 3, 7)),
        Sample(t(2, 5, 3), t(3)),
        Sample(t(2, 1, 5, 3), t(4, 3, 2)),
        Sample(t(0), t(0), why_="an empty sum is 0"),
        Sample(t(5, 0), t(0)),
        Sample(t(0, 3), t(3)),
        Sample(t(4, 6, layout="transposed"), t(6, layout="strided")),
        Sample(t(5, 3, dtype="float64"), t(3, dtype="float64")),
        Sample(t(3, 4, dtype="int64", fill="ints", low=-9, high=9), t(4, dtype="int64", fill="ints", high=9)),
    ),
    errors=(
        Bad(ShapeError, r"inner sizes 3 and 4 differ \(input: \(5, 3\), other: \(4, 7\)\)", t(5, 3), t(4, 7)),
        Bad(ShapeError, r"inner sizes 3 and 4 differ.*only axis", t(5, 3), t(4)),
        Bad(ShapeError, "do not broadcast", t(2, 5, 3), t(4, 3, 7)),
        Bad(ShapeError, "other is a scalar", t(5, 3), t()),
        Bad(DTypeError, "different dtypes", t(5, 3), t(3, 7, dtype="float64")),
        Bad(DTypeError, "bool", t(2, 2, dtype="bool", fill="bool"), t(2, 2, dtype="bool", fill="bool")),
    ),
    torch="torch.matmul",
)
