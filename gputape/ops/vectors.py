"""Cards of products with vectors, of batches added up, of the bilinear map, and of the trace: all composed."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, broadcast_shapes, need_float_yet, need_same_dtype
from ..errors import DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t
from .matmul import product_aval, rows_of
from .pointwise import NAN
from .products import addmm_compose, factors_canon

_DOUBLE: dict[str, Any] = {"dtype": "float64"}
_INT: dict[str, Any] = {"dtype": "int64", "fill": "ints", "low": -9, "high": 9}


def _ranked(name: str, ranks: tuple[int, int], names: tuple[str, str], what: str) -> Any:
    """The rule of a product of arrays with these numbers of axes."""

    def rule(a: Aval, b: Aval) -> Aval:
        if (a.ndim, b.ndim) != ranks:
            raise ShapeError(f"{name}: {what} are needed, got {a.shape} and {b.shape}. Use matmul for others.")
        return product_aval(name, a, b, names)

    return rule


register(
    name="mv",
    doc="Product of a matrix and a vector: (m, k) · (k,) → (m,). As torch.mv.",
    signature="input, vec",
    precision="narrow",
    inputs=("input", "vec"),
    rule=_ranked("mv", (2, 1), ("input", "vec"), "a matrix and a vector"),
    compose=lambda F, input, vec: F.matmul(input, vec),
    samples=(
        Sample(t(5, 3), t(3)),
        Sample(t(5, 0), t(0)),
        Sample(t(4, 6, layout="transposed"), t(6, layout="strided")),
        Sample(t(5, 3, **_DOUBLE), t(3, **_DOUBLE)),
        Sample(t(2, 3, **_INT), t(3, **_INT)),
    ),
    errors=(
        Bad(ShapeError, "a matrix and a vector", t(5, 3), t(3, 2)),
        Bad(ShapeError, "inner sizes 3 and 4", t(5, 3), t(4)),
    ),
    torch="torch.mv",
)
register(
    name="dot",
    doc="Sum of the products of two vectors' elements. As torch.dot.",
    signature="input, tensor",
    precision="narrow",
    inputs=("input", "tensor"),
    rule=_ranked("dot", (1, 1), ("input", "tensor"), "two vectors"),
    compose=lambda F, input, tensor: F.matmul(input, tensor),
    samples=(
        Sample(t(5), t(5)),
        Sample(t(0), t(0), why_="an empty sum is 0"),
        Sample(t(6, layout="strided"), t(6, layout="flipped")),
        Sample(t(5, **_DOUBLE), t(5, **_DOUBLE)),
        Sample(t(5, **_INT), t(5, **_INT)),
    ),
    errors=(
        Bad(ShapeError, "two vectors", t(5, 3), t(3)),
        Bad(ShapeError, "inner sizes 3 and 4", t(3), t(4)),
        Bad(DTypeError, "different dtypes", t(3), t(3, **_DOUBLE)),
    ),
    torch="torch.dot",
)


def _trace_rule(input: Aval) -> Aval:
    if input.ndim != 2:
        raise ShapeError(f"trace: a matrix is needed, got {input.shape}. Use diagonal and sum for others.")
    return input.with_shape(())


register(
    name="trace",
    doc="Sum of the elements on the main diagonal of a matrix; of integers as int64. As torch.trace.",
    signature="input",
    precision="wide",
    inputs=("input",),
    rule=_trace_rule,
    compose=lambda F, input: F.sum(F.diagonal(input)),
    samples=(
        Sample(t(3, 5)),
        Sample(t(0, 3)),
        Sample(t(4, 6, layout="transposed")),
        Sample(t(3, 3, **_DOUBLE)),
        Sample(t(3, 3, dtype="int32", fill="ints", high=9)),
    ),
    errors=(Bad(ShapeError, "a matrix", t(2, 3, 3)),),
    torch="torch.trace",
)


def _baddbmm_rule(input: Aval, batch1: Aval, batch2: Aval, *, beta: float, alpha: float) -> Aval:
    if batch1.ndim != 3 or batch2.ndim != 3 or batch1.shape[0] != batch2.shape[0]:
        raise ShapeError(
            f"baddbmm: batch1 {batch1.shape} and batch2 {batch2.shape} must be equally many matrices. Use matmul and "
            "add for others."
        )
    need_same_dtype("baddbmm", input=input, batch1=batch1, batch2=batch2)
    y = product_aval("baddbmm", batch1, batch2, ("batch1", "batch2"))
    if broadcast_shapes("baddbmm", input.shape, y.shape) != y.shape:
        raise ShapeError(f"baddbmm: input {input.shape} does not broadcast to the products' {y.shape}. Reshape it.")
    return y


register(
    name="baddbmm",
    doc="beta · input + alpha · (batch1 · batch2), input broadcast; beta = 0 ignores the input. As torch.baddbmm.",
    signature="input, batch1, batch2, *, beta=1, alpha=1",
    precision="narrow",
    inputs=("input", "batch1", "batch2"),
    canon=factors_canon("baddbmm"),
    rule=_baddbmm_rule,
    compose=addmm_compose,
    samples=(
        Sample(t(7), t(2, 5, 3), t(2, 3, 7)),
        Sample(t(2, 5, 7), t(2, 5, 3), t(2, 3, 7), beta=0.5, alpha=-2.0),
        Sample(t(1, 5, 1), t(2, 5, 0), t(2, 0, 7), beta=2),
        Sample(t(2, fill=NAN), t(1, 1, 3), t(1, 3, 2), beta=0, grad_=False, why_="the input is ignored"),
        Sample(t(4, 6, layout="transposed"), t(2, 4, 3, layout="strided"), t(2, 3, 6, layout="transposed")),
        Sample(t(2, **_DOUBLE), t(2, 5, 3, **_DOUBLE), t(2, 3, 2, **_DOUBLE), alpha=0.1),
        Sample(*(t(*n, dtype="int64", fill="ints", high=9) for n in ((2,), (2, 5, 3), (2, 3, 2))), beta=2, alpha=3),
    ),
    errors=(
        Bad(ShapeError, "equally many", t(7), t(2, 5, 3), t(3, 3, 7)),
        Bad(ShapeError, "inner sizes 3 and 4", t(7), t(2, 5, 3), t(2, 4, 7)),
        Bad(ShapeError, "does not broadcast to", t(2, 2, 5, 7), t(2, 5, 3), t(2, 3, 7)),
    ),
    torch="torch.baddbmm",
)


# --- bilinear ---------------------------------------------------------------------------------------------------------


def _bilinear_rule(input1: Aval, input2: Aval, weight: Aval, bias: Aval | None) -> Aval:
    need_float_yet("bilinear", input1=input1)
    need_same_dtype("bilinear", input1=input1, input2=input2, weight=weight, bias=bias)
    if weight.ndim != 3 or not input1.ndim or not input2.ndim or input1.shape[:-1] != input2.shape[:-1]:
        raise ShapeError(
            f"bilinear: input1 {input1.shape}, input2 {input2.shape} and weight {weight.shape} do not fit. Give inputs "
            "(…, in1) and (…, in2) with equal leading axes, and weight (out, in1, in2)."
        )
    n, first, second = weight.shape
    if (input1.shape[-1], input2.shape[-1]) != (first, second):
        raise ShapeError(
            f"bilinear: weight {weight.shape} takes {first} and {second} features, the inputs have {input1.shape[-1]} "
            f"and {input2.shape[-1]}. Make them equal."
        )
    if bias is not None and bias.shape != (n,):
        raise ShapeError(f"bilinear: bias has shape {bias.shape}, but weight {weight.shape} gives {n} features.")
    return input1.with_shape((*input1.shape[:-1], n))


def _bilinear(F: Any, input1: Any, input2: Any, weight: Any, bias: Any) -> Any:
    """Σ over in2 of (input1 · weight) · input2: one product of all rows, then one small one per row."""
    lead = F.aval(input1).shape[:-1]
    n, first, second = F.aval(weight).shape
    x, z = rows_of(F, input1), rows_of(F, input2)
    rows = F.aval(x).shape[0]
    wide = F.mm_nd(x, F.reshape(F.permute(weight, (1, 0, 2)), (first, n * second)))
    y = F.mm_nd(F.reshape(wide, (rows, n, second)), F.reshape(z, (rows, second, 1)))
    y = F.reshape(y, (*lead, n))
    return y if bias is None else F.add(y, bias)


register(
    name="bilinear",
    doc="y[…, k] = Σ input1[…, i] · weight[k, i, j] · input2[…, j] + bias[k]: inputs (…, in1) and (…, in2), weight "
    "(out, in1, in2), bias (out,) or None. As torch.nn.functional.bilinear.",
    signature="input1, input2, weight, bias=None",
    precision="narrow",
    inputs=("input1", "input2", "weight", "bias"),
    rule=_bilinear_rule,
    compose=_bilinear,
    samples=(
        Sample(t(5, 3), t(5, 2), t(4, 3, 2), t(4)),
        Sample(t(5, 3), t(5, 2), t(4, 3, 2), why_="no bias"),
        Sample(t(2, 3, 3), t(2, 3, 2), t(1, 3, 2), t(1)),
        Sample(t(3), t(2), t(4, 3, 2), t(4), why_="one sample"),
        Sample(t(0, 3), t(0, 2), t(4, 3, 2), t(4), why_="no rows"),
        Sample(t(4, 6, layout="transposed"), t(4, 2, layout="strided"), t(3, 6, 2, layout="transposed"), t(3)),
        Sample(*(t(*s, **_DOUBLE) for s in ((5, 3), (5, 2), (4, 3, 2), (4,)))),
    ),
    errors=(
        Bad(ShapeError, "do not fit", t(5, 3), t(4, 2), t(4, 3, 2)),
        Bad(ShapeError, "takes 3 and 2 features", t(5, 3), t(5, 4), t(4, 3, 2)),
        Bad(ShapeError, "bias has shape", t(5, 3), t(5, 2), t(4, 3, 2), t(3)),
    ),
    perf=(Perf(t(64, 32), t(64, 32), t(16, 32, 32), t(16), flops_=2 * 64 * 32 * 32 * 16),),
    torch="torch.nn.functional.bilinear",
)
