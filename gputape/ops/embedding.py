"""Cards of table look-up: embedding, one_hot."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError, UnsupportedError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .index import ids, need_index, these, zeros


def _embedding_canon(
    input: Aval,
    weight: Aval,
    *,
    padding_idx: int | None = None,
    max_norm: Any = None,
    norm_type: Any = 2.0,
    scale_grad_by_freq: Any = False,
    sparse: Any = False,
) -> dict[str, Any]:
    refuse_renorm("embedding", max_norm, sparse)
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight has shape {weight.shape}, but (rows, columns) is needed.")
    n = weight.shape[0]
    if padding_idx is not None and not -n <= padding_idx < n:
        raise IndexRangeError(f"embedding: padding_idx={padding_idx} is out of range for {n} rows. Use 0 to {n - 1}.")
    return {
        "padding_idx": None if padding_idx is None else padding_idx % n,
        "scale_grad_by_freq": bool(scale_grad_by_freq),
    }


def refuse_renorm(op: str, max_norm: Any, sparse: Any) -> None:
    """Raise `UnsupportedError` for the options that overwrite the weight, or make sparse gradients."""
    if max_norm is not None:
        raise UnsupportedError(
            f"{op}: max_norm={max_norm!r} would write to the weight. Leave it out, and assign gt.renorm(weight, …) to "
            "the parameter where you want that."
        )
    if sparse:
        raise UnsupportedError(f"{op}: sparse=True is not available, gradients are dense. Leave it out.")


def _embedding_rule(input: Aval, weight: Aval, *, padding_idx: int | None, scale_grad_by_freq: bool) -> Aval:
    need_index("embedding", input=input)
    return weight.with_shape((*input.shape, weight.shape[1]))


def _embedding_vjp(F: Any, at: At, dy: Any, input: Any) -> Any:
    ids, weight = at.ins
    flat = F.reshape(dy, (ids.size, weight.shape[1]))
    rows = F.reshape(input, (ids.size,))
    if at.attrs["scale_grad_by_freq"]:
        ones = F.expand(F.const(1, weight.dtype), (ids.size,))
        counts = F.index_add(F.expand(F.const(0, weight.dtype), weight.shape[:1]), 0, rows, ones)
        flat = F.div(flat, F.reshape(F.index_select(counts, 0, rows), (ids.size, 1)))
    dweight = F.index_add(zeros(F, weight), 0, rows, flat)
    pad = at.attrs["padding_idx"]
    if pad is not None:
        dweight = F.masked_fill(dweight, F.const([[i == pad] for i in range(weight.shape[0])], "bool"), 0.0)
    return None, dweight


register(
    name="embedding",
    doc="Rows of `weight` (rows, columns) at the integers `input` (any shape). The row padding_idx gets no gradient; "
    "with scale_grad_by_freq a row gets the mean over where it occurs instead of the sum. As "
    "torch.nn.functional.embedding, without max_norm and sparse gradients.",
    signature="input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False",
    inputs=("input", "weight"),
    canon=_embedding_canon,
    rule=_embedding_rule,
    vjp=_embedding_vjp,
    saves=("input",),
    samples=(
        Sample(ids(2, 7, high=5), t(5, 3)),
        Sample(ids(7, high=5, dtype="int32"), t(5, 3), padding_idx=2, grad_=False),
        Sample(ids(11, high=3), t(3, 2), padding_idx=-1, grad_=False),
        Sample(ids(9, high=4), t(5, 3), padding_idx=0, scale_grad_by_freq=True, grad_=False),
        Sample(ids(high=5), t(5, 3)),
        Sample(ids(0, 2, high=1), t(5, 3)),
        Sample(ids(2, high=5), t(5, 0)),
        Sample(ids(3, high=5, dtype="uint8"), t(5, 1, dtype="float64")),
        Sample(ids(3, 4, high=4, layout="transposed"), t(4, 6, layout="transposed")),
        Sample(ids(3, high=5), t(5, 2, dtype="bfloat16"), grad_=False),
    ),
    errors=(
        Bad(IndexRangeError, r"5 at \(0, 1\).* size 5", t(1, 2, dtype="int64", fill=((0, 5),)), t(5, 3)),
        Bad(IndexRangeError, "-1 at", these(-1), t(5, 3)),
        Bad(DTypeError, "integers", t(2), t(5, 3)),
        Bad(ShapeError, "columns", ids(2, high=5), t(5)),
        Bad(IndexRangeError, "padding_idx=5", ids(2, high=5), t(5, 3), padding_idx=5),
        Bad(UnsupportedError, "max_norm=1.0 .*renorm", ids(2, high=5), t(5, 3), max_norm=1.0),
        Bad(UnsupportedError, "sparse", ids(2, high=5), t(5, 3), sparse=True),
    ),
    perf=(
        Perf(ids(16, 64, high=96), t(96, 128), name_="gpt tokens"),
        Perf(ids(64, high=64), t(64, 128), name_="gpt positions"),
    ),
    torch="torch.nn.functional.embedding",
)


def _one_hot(F: Any, input: Any, *, num_classes: int) -> Any:
    return F.one_hot_of(input, max(0, int(F.read(input).max()) + 1) if num_classes == -1 else num_classes)


def _one_hot_canon(input: Aval, *, num_classes: int = -1) -> dict[str, Any]:
    need_index("one_hot", input=input)
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < -1:
        raise ArgumentError(f"one_hot: num_classes={num_classes!r} must be 0 or more, or -1 to count.")
    if num_classes == -1 and not input.size:
        raise ArgumentError("one_hot: num_classes cannot be counted in an empty array. Pass num_classes.")
    return {"num_classes": num_classes}


register(
    name="one_hot",
    doc="int64 of shape (*input.shape, num_classes): 1 at the class, 0 elsewhere. -1 counts the classes (the largest "
    "plus 1), which reads the values. As torch.nn.functional.one_hot.",
    signature="input, num_classes=-1",
    inputs=("input",),
    canon=_one_hot_canon,
    rule=lambda input, *, num_classes: input,
    compose=_one_hot,
    samples=(
        Sample(ids(2, 7, high=5)),
        Sample(ids(7, high=5, dtype="int32"), num_classes=6),
        Sample(ids(4, 6, high=5, layout="transposed"), num_classes=5),
        Sample(ids(high=3)),
        Sample(ids(0, high=1), num_classes=3),
    ),
    errors=(
        Bad(IndexRangeError, "4 at .* size 4", these(0, 4), num_classes=4),
        Bad(IndexRangeError, "-1 at", these(0, -1)),
        Bad(IndexRangeError, "-3 at", these(-3, -2)),
        Bad(ArgumentError, "empty", ids(0, high=1)),
        Bad(ArgumentError, "0 or more", ids(2, high=2), num_classes=-2),
        Bad(DTypeError, "integers", t(3)),
    ),
    torch="torch.nn.functional.one_hot",
)


def _one_hot_of_rule(input: Aval, *, num_classes: int) -> Aval:
    need_index("one_hot_of", input=input)
    return Aval((*input.shape, num_classes), "int64")


register(
    name="one_hot_of",
    doc="one_hot with the number of classes known.",
    signature="input, num_classes",
    inputs=("input",),
    rule=_one_hot_of_rule,
    samples=(
        Sample(ids(2, 7, high=5), num_classes=5),
        Sample(ids(0, high=1), num_classes=2),
        Sample(ids(5, high=3, layout="strided"), num_classes=3),
    ),
    public=False,
)
