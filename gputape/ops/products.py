"""Cards of the products that are matmul or mul under another name."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, broadcast_shapes, need_same_dtype
from ..errors import DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .matmul import product_aval
from .mixing import scaled, whole_for_integers


def _exact(name: str, ndim: int, what: str) -> Any:
    """The rule of mm and bmm: matmul's with `ndim` axes on both sides and without broadcasting."""

    def rule(input: Aval, mat2: Aval) -> Aval:
        if input.ndim != ndim or mat2.ndim != ndim or input.shape[:-2] != mat2.shape[:-2]:
            raise ShapeError(f"{name}: {what} are needed, got {input.shape} and {mat2.shape}. Use matmul for others.")
        return product_aval(name, input, mat2, ("input", "mat2"))

    return rule


register(
    name="mm",
    doc="Product of two matrices: (m, k) · (k, n) → (m, n). As torch.mm.",
    signature="input, mat2",
    precision="narrow",
    inputs=("input", "mat2"),
    rule=_exact("mm", 2, "two matrices"),
    compose=lambda F, input, mat2: F.mm_nd(input, mat2),
    samples=(
        Sample(t(5, 3), t(3, 7)),
        Sample(t(0, 3), t(3, 2)),
        Sample(t(4, 6, layout="transposed"), t(6, 3, layout="strided")),
        Sample(t(5, 3, dtype="float64"), t(3, 2, dtype="float64")),
    ),
    errors=(
        Bad(ShapeError, "two matrices", t(2, 5, 3), t(3, 7)),
        Bad(ShapeError, "inner sizes 3 and 4", t(5, 3), t(4, 7)),
    ),
    torch="torch.mm",
)

register(
    name="bmm",
    doc="Product of two equally long batches of matrices: (b, m, k) · (b, k, n) → (b, m, n). As torch.bmm.",
    signature="input, mat2",
    precision="narrow",
    inputs=("input", "mat2"),
    rule=_exact("bmm", 3, "two batches of equally many matrices"),
    compose=lambda F, input, mat2: F.mm_nd(input, mat2),
    samples=(
        Sample(t(2, 5, 3), t(2, 3, 7)),
        Sample(t(0, 5, 3), t(0, 3, 7)),
        Sample(t(2, 4, 3, layout="transposed"), t(2, 3, 5, layout="flipped")),
        Sample(t(2, 5, 3, dtype="float64"), t(2, 3, 2, dtype="float64")),
    ),
    errors=(
        Bad(ShapeError, "equally many", t(2, 5, 3), t(3, 3, 7)),
        Bad(ShapeError, "inner sizes 3 and 4", t(2, 5, 3), t(2, 4, 7)),
    ),
    torch="torch.bmm",
)


def _outer_rule(input: Aval, vec2: Aval) -> Aval:
    if input.ndim != 1 or vec2.ndim != 1:
        raise ShapeError(
            f"outer: two vectors are needed, got {input.shape} and {vec2.shape}. Reshape them to one axis."
        )
    return Aval((*input.shape, *vec2.shape), input.dtype)


def _outer(F: Any, input: Any, vec2: Any) -> Any:
    n, m = F.aval(input).size, F.aval(vec2).size
    return F.mul(F.reshape(input, (n, 1)), F.reshape(vec2, (1, m)))


register(
    name="outer",
    doc="All products of the elements of two vectors: y[i, j] = input[i] · vec2[j]; dtypes promote. As torch.outer.",
    signature="input, vec2",
    inputs=("input", "vec2"),
    promotes=("input", "vec2"),
    rule=_outer_rule,
    compose=_outer,
    samples=(
        Sample(t(5), t(3)),
        Sample(t(0), t(3)),
        Sample(t(4, layout="strided"), t(3, layout="flipped")),
        Sample(t(4, dtype="float64"), t(2)),
    ),
    errors=(Bad(ShapeError, "two vectors", t(5, 1), t(3)),),
    torch="torch.outer",
)


def _addmm_rule(input: Aval, mat1: Aval, mat2: Aval, *, beta: float, alpha: float) -> Aval:
    if mat1.ndim != 2 or mat2.ndim != 2:
        raise ShapeError(
            f"addmm: mat1 and mat2 must be matrices, got {mat1.shape} and {mat2.shape}. Use matmul and add."
        )
    need_same_dtype("addmm", input=input, mat1=mat1, mat2=mat2)
    y = product_aval("addmm", mat1, mat2, ("mat1", "mat2"))
    if broadcast_shapes("addmm", input.shape, y.shape) != y.shape:
        raise ShapeError(f"addmm: input {input.shape} does not broadcast to the product's {y.shape}. Reshape it.")
    return y


def factors_canon(op: str) -> Any:
    """beta and alpha as numbers, whole ones for integers."""

    def canon(input: Aval, *factors: Aval, beta: Any = 1, alpha: Any = 1) -> dict[str, Any]:
        return {name: whole_for_integers(op, name, c, input) for name, c in (("beta", beta), ("alpha", alpha))}

    return canon


def sum_with(F: Any, input: Any, product: Any, beta: float, alpha: float) -> Any:
    """beta · input + alpha · product; the input is ignored where beta is 0, NaN included, as in PyTorch."""
    product = scaled(F, product, alpha)
    return product if beta == 0 else F.add(scaled(F, input, beta), product)


def addmm_compose(F: Any, input: Any, mat1: Any, mat2: Any, *, beta: float, alpha: float) -> Any:
    return sum_with(F, input, F.mm_nd(mat1, mat2), beta, alpha)


register(
    name="addmm",
    doc="beta · input + alpha · (mat1 · mat2), input broadcast; beta = 0 ignores the input. As torch.addmm.",
    signature="input, mat1, mat2, *, beta=1, alpha=1",
    precision="narrow",
    inputs=("input", "mat1", "mat2"),
    canon=factors_canon("addmm"),
    rule=_addmm_rule,
    compose=addmm_compose,
    samples=(
        Sample(t(7), t(5, 3), t(3, 7)),
        Sample(t(5, 7), t(5, 3), t(3, 7), beta=0.5, alpha=-2.0),
        Sample(t(5, 1), t(5, 0), t(0, 7), beta=2),
        Sample(t(2, fill=(float("nan"),)), t(1, 3), t(3, 2), beta=0, grad_=False, why_="the input is ignored"),
        Sample(t(4, 6, layout="transposed"), t(4, 3, layout="strided"), t(3, 6, layout="transposed")),
        Sample(t(2, dtype="float64"), t(5, 3, dtype="float64"), t(3, 2, dtype="float64"), alpha=0.1),
        Sample(*(t(*n, dtype="int64", fill="ints", low=-9, high=9) for n in ((2,), (5, 3), (3, 2))), beta=2, alpha=-1),
    ),
    errors=(
        Bad(ShapeError, "inner sizes 3 and 4", t(7), t(5, 3), t(4, 7)),
        Bad(ShapeError, "does not broadcast to", t(2, 5, 7), t(5, 3), t(3, 7)),
        Bad(ShapeError, "must be matrices", t(7), t(2, 5, 3), t(3, 7)),
        Bad(DTypeError, "different dtypes", t(7), t(5, 3), t(3, 7, dtype="float64")),
        Bad(DTypeError, "addmm: beta=0.5 is no integer", *[t(2, 2, dtype="int64", fill="ones")] * 3, beta=0.5),
    ),
    torch="torch.addmm",
)
