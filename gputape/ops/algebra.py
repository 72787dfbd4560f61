"""Cards of products of vectors and matrices that are composed: addmv, addr, addbmm, inner, vdot, kron, cross."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, axis, broadcast_shapes, need_same_dtype
from ..errors import DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .matmul import product_aval
from .pointwise import NAN
from .products import factors_canon, sum_with
from .slicing import along

_DOUBLE: dict[str, Any] = {"dtype": "float64"}
_INT: dict[str, Any] = {"dtype": "int64", "fill": "ints", "low": -9, "high": 9}


def _sum_rule(name: str, first: str, second: str, ndims: tuple[int, int]) -> Any:
    """The rule of an input plus a product of arrays with these numbers of axes."""

    def rule(input: Aval, a: Aval, b: Aval, *, beta: float, alpha: float) -> Aval:
        if (a.ndim, b.ndim) != ndims:
            raise ShapeError(
                f"{name}: {first} and {second} need {ndims[0]} and {ndims[1]} axes, got {a.shape} and {b.shape}."
            )
        need_same_dtype(name, **{"input": input, first: a, second: b})
        if ndims == (1, 1):
            y = a.with_shape((a.size, b.size))
        else:
            y = product_aval(name, a, b, (first, second))
            if ndims == (3, 3):
                if a.shape[0] != b.shape[0]:
                    raise ShapeError(f"{name}: {first} {a.shape} and {second} {b.shape} are not equally many matrices.")
                y = y.with_shape(y.shape[1:])
        if broadcast_shapes(name, input.shape, y.shape) != y.shape:
            raise ShapeError(f"{name}: input {input.shape} does not broadcast to the product's {y.shape}. Reshape it.")
        return y

    return rule


def _together(F: Any, batch1: Any, batch2: Any) -> Any:
    """The sum of the products of two batches of matrices, as one product."""
    (b, m, k), n = F.aval(batch1).shape, F.aval(batch2).shape[2]
    return F.mm_nd(F.reshape(F.permute(batch1, (1, 0, 2)), (m, b * k)), F.reshape(batch2, (b * k, n)))


_SUMS = (
    ("addmv", "mat", "vec", (2, 1), "mat · vec", lambda F, a, b: F.matmul(a, b), ((4,), (4, 3), (3,))),
    ("addr", "vec1", "vec2", (1, 1), "vec1 ⊗ vec2", lambda F, a, b: F.outer(a, b), ((3,), (4,), (3,))),
    ("addbmm", "batch1", "batch2", (3, 3), "Σ batch1[k] · batch2[k]", _together, ((4, 1), (2, 4, 3), (2, 3, 5))),
)
for _name, _first, _second, _ndims, _formula, _product, _shapes in _SUMS:

    def _compose(F: Any, input: Any, a: Any, b: Any, *, beta: float, alpha: float, product: Any = _product) -> Any:
        return sum_with(F, input, product(F, a, b), beta, alpha)

    register(
        name=_name,
        doc=f"beta · input + alpha · ({_formula}), input broadcast; beta = 0 ignores the input. As torch.{_name}.",
        signature=f"input, {_first}, {_second}, *, beta=1, alpha=1",
        precision=None if _name == "addr" else "narrow",
        inputs=("input", _first, _second),
        canon=factors_canon(_name),
        rule=_sum_rule(_name, _first, _second, _ndims),
        compose=_compose,
        samples=(
            Sample(*(t(*n) for n in _shapes)),
            Sample(t(1), *(t(*n) for n in _shapes[1:]), beta=0.5, alpha=-2.0),
            Sample(t(1, fill=NAN), *(t(*n) for n in _shapes[1:]), beta=0, grad_=False, why_="the input is ignored"),
            Sample(t(0), *(t(*(0 for _ in n)) for n in _shapes[1:]), why_="no elements"),
            Sample(*(t(*n, layout="strided") for n in _shapes)),
            Sample(*(t(*n, **_DOUBLE) for n in _shapes), alpha=0.1),
            Sample(*(t(*n, **_INT) for n in _shapes), beta=2, alpha=-3),
        ),
        errors=(
            Bad(ShapeError, "axes", t(), t(2, 2, 2, 2), t(2)),
            Bad(ShapeError, "broadcast", t(7), *(t(*n) for n in _shapes[1:])),
            Bad(DTypeError, "different dtypes", t(**_DOUBLE), *(t(*n) for n in _shapes[1:])),
            Bad(DTypeError, f"{_name}: alpha=0.5 is no integer", *(t(*n, **_INT) for n in _shapes), alpha=0.5),
        ),
        torch=f"torch.{_name}",
    )


# --- of the last axes -------------------------------------------------------------------------------------------------


def _inner_rule(input: Aval, other: Aval) -> Aval:
    need_same_dtype("inner", input=input, other=other)
    if not input.ndim or not other.ndim:
        return input.with_shape((*input.shape, *other.shape))
    if input.shape[-1] != other.shape[-1]:
        raise ShapeError(f"inner: the last axes of {input.shape} and {other.shape} differ. Make them equal.")
    return input.with_shape((*input.shape[:-1], *other.shape[:-1]))


def _inner(F: Any, input: Any, other: Any) -> Any:
    a, b = F.aval(input).ndim, F.aval(other).ndim
    return F.tensordot(input, other, ((a - 1,), (b - 1,))) if a and b else F.mul(input, other)


register(
    name="inner",
    doc="Sums of products over the last axes, for all pairs of the others; a scalar multiplies. As torch.inner.",
    signature="input, other",
    precision="narrow",
    inputs=("input", "other"),
    rule=_inner_rule,
    compose=_inner,
    samples=(
        Sample(t(5), t(5)),
        Sample(t(2, 3), t(4, 5, 3)),
        Sample(t(), t(3)),
        Sample(t(0), t(0)),
        Sample(t(4, 6, layout="transposed"), t(3, 6, layout="strided")),
        Sample(t(2, 3, **_DOUBLE), t(3, **_DOUBLE)),
        Sample(t(3, **_INT), t(3, **_INT)),
    ),
    errors=(
        Bad(ShapeError, "last axes", t(3), t(4)),
        Bad(DTypeError, "different dtypes", t(3), t(3, **_DOUBLE)),
    ),
    torch="torch.inner",
)
register(
    name="vdot",
    doc="Sum of the products of two vectors' elements: dot, as numbers are real here. As torch.vdot.",
    signature="input, other",
    precision="narrow",
    inputs=("input", "other"),
    rule=lambda input, other: product_aval("vdot", input, other, ("input", "other")),
    compose=lambda F, input, other: F.dot(input, other),
    samples=(
        Sample(t(5), t(5)),
        Sample(t(0), t(0)),
        Sample(t(6, layout="strided"), t(6, layout="flipped")),
        Sample(t(5, **_DOUBLE), t(5, **_DOUBLE)),
    ),
    errors=(Bad(ShapeError, "inner sizes 3 and 4", t(3), t(4)), Bad(ShapeError, "two vectors", t(2, 2), t(2))),
    torch="torch.vdot",
)


def _kron(F: Any, input: Any, other: Any) -> Any:
    a, b = F.aval(input).shape, F.aval(other).shape
    n = max(len(a), len(b))
    a, b = (1,) * (n - len(a)) + a, (1,) * (n - len(b)) + b
    left = F.reshape(input, tuple(v for k in a for v in (k, 1)))
    right = F.reshape(other, tuple(v for k in b for v in (1, k)))
    return F.reshape(F.mul(left, right), tuple(p * q for p, q in zip(a, b, strict=True)))


register(
    name="kron",
    doc="The Kronecker product: other, multiplied by each element of input, in its place; axes that one lacks are "
    "added in front, dtypes promote. As torch.kron.",
    signature="input, other",
    inputs=("input", "other"),
    promotes=("input", "other"),
    rule=lambda input, other: input,
    compose=_kron,
    samples=(
        Sample(t(2, 3), t(3, 2)),
        Sample(t(3), t(2, 2)),
        Sample(t(), t(2)),
        Sample(t(0, 2), t(2, 2)),
        Sample(t(4, 6, layout="transposed"), t(2, layout="flipped")),
        Sample(t(2, **_DOUBLE), t(2)),
    ),
    errors=(Bad(ValueError, "input is None", None, t(2)),),
    torch="torch.kron",
)


def _cross_canon(input: Aval, other: Aval, *, dim: Any = None) -> dict[str, Any]:
    shape = broadcast_shapes("cross", input.shape, other.shape)
    if dim is None:
        dim = next((k for k, n in enumerate(shape) if n == 3), None)
        if dim is None:
            raise ShapeError(f"cross: no axis of {shape} has size 3. Pass vectors of three numbers.")
    dim = axis("cross", dim, len(shape))
    if len(input.shape) != len(other.shape) or not shape or (input.shape[dim], other.shape[dim]) != (3, 3):
        raise ShapeError(f"cross: axis {dim} of {input.shape} and {other.shape} must have size 3, and as many axes.")
    return {"dim": dim}


def _cross(F: Any, input: Any, other: Any, *, dim: int) -> Any:
    part = lambda x, k: along(F, x, dim, k % 3, k % 3 + 1)  # noqa: E731 - used four times
    return F.cat(
        [
            F.sub(F.mul(part(input, k + 1), part(other, k + 2)), F.mul(part(input, k + 2), part(other, k + 1)))
            for k in range(3)
        ],
        dim,
    )


register(
    name="cross",
    doc="The cross products of vectors of three numbers along `dim` (None: the first axis of size 3); the other axes "
    "broadcast, dtypes promote. As torch.cross.",
    signature="input, other, dim=None",
    inputs=("input", "other"),
    promotes=("input", "other"),
    canon=_cross_canon,
    rule=lambda input, other, *, dim: input,
    compose=_cross,
    samples=(
        Sample(t(3), t(3)),
        Sample(t(5, 3), t(5, 3), dim=-1),
        Sample(t(3, 4), t(3, 1), dim=0),
        Sample(t(0, 3), t(0, 3)),
        Sample(t(3, 6, layout="transposed"), t(3, 6, layout="strided")),
        Sample(t(2, 3, **_DOUBLE), t(2, 3, **_DOUBLE), dim=1),
    ),
    errors=(
        Bad(ShapeError, "no axis", t(2), t(2)),
        Bad(ShapeError, "must have size 3", t(2, 4), t(2, 4), dim=0),
        Bad(ShapeError, "broadcast", t(3, 2), t(3, 4), dim=0),
    ),
    torch="torch.cross",
)
