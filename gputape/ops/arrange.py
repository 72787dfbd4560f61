"""Cards of the ops that lay arrays side by side, turn them or cut them; all are composed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import Aval, axis, broadcast_shapes
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .index import ids, need_index, these
from .slicing import along, need_axes

# --- side by side -----------------------------------------------------------------------------------------------------


def at_least(F: Any, x: Any, ndim: int) -> Any:
    """x with at least that many axes, as NumPy adds them: the third comes last."""
    shape = F.aval(x).shape
    if len(shape) >= ndim:
        return x
    return F.reshape(x, {0: (1,) * ndim, 1: (1, *shape, 1)[: ndim if ndim > 1 else 1], 2: (*shape, 1)}[len(shape)])


def _stacking(name: str, ndim: int, dim: Callable[[int], int], what: str) -> None:
    def compose(F: Any, *tensors: Any) -> Any:
        arrays = [at_least(F, x, ndim) for x in tensors]
        return F.cat(arrays, dim(F.aval(arrays[0]).ndim))

    def rule(*tensors: Aval) -> Aval:
        if not tensors:
            raise ArgumentError(f"{name}: the list of arrays is empty. Pass at least one array.")
        return tensors[0]

    register(
        name=name,
        doc=f"Arrays joined {what}. As torch.{name}.",
        signature="tensors",
        inputs=("*tensors",),
        rule=rule,
        compose=compose,
        samples=(
            Sample(t(3), t(3)),
            Sample(t(2, 3), t(2, 3), t(2, 3)),
            Sample(t(), t()),
            Sample(t(2, 2, 2), t(2, 2, 2)),
            Sample(t(0, 3), t(0, 3)),
            Sample(t(4, 6, layout="transposed"), t(4, 6, layout="flipped")),
            Sample(t(3, dtype="float64"), t(3)),
        ),
        errors=(
            Bad(ArgumentError, "empty"),
            Bad(ShapeError, "cat: array 1", t(2, 3, 4), t(3, 2, 3)),
            Bad(ArgumentError, "array 1 is None", t(3), None),
        ),
        torch=f"torch.{name}",
    )


_stacking("hstack", 1, lambda ndim: min(1, ndim - 1), "along the second axis, vectors along their only one")
_stacking("vstack", 2, lambda ndim: 0, "along the first axis, vectors as rows")
_stacking("dstack", 3, lambda ndim: 2, "along the third axis, vectors and matrices as slices of size 1 there")


def _meshgrid_rule(*tensors: Aval, indexing: str) -> Aval:
    if not tensors or any(a.ndim > 1 for a in tensors):
        raise ShapeError(f"meshgrid: vectors are needed, got {[a.shape for a in tensors]}.")
    if indexing not in ("ij", "xy"):
        raise ArgumentError(f"meshgrid: indexing={indexing!r} is unknown. Use 'ij' or 'xy'.")
    return tensors[0]


def _meshgrid(F: Any, *tensors: Any, indexing: str) -> Any:
    sizes = [F.aval(x).size for x in tensors]
    order = list(range(len(sizes)))
    if indexing == "xy" and len(sizes) > 1:
        order[:2] = [1, 0]
    shape = tuple(sizes[k] for k in order)
    place = [order.index(k) for k in range(len(sizes))]
    return tuple(
        F.expand(F.reshape(x, tuple(n if at == p else 1 for at in range(len(sizes)))), shape)
        for x, n, p in zip(tensors, sizes, place, strict=True)
    )


register(
    name="meshgrid",
    doc="One array per vector, all of the shape that has the vectors' lengths: the vector along its own axis, constant "
    'along the others. indexing "xy" exchanges the first two axes. As torch.meshgrid.',
    signature='*tensors, indexing="ij"',
    inputs=("*tensors",),
    rule=_meshgrid_rule,
    compose=_meshgrid,
    samples=(
        Sample(t(2), t(3), indexing="ij"),
        Sample(t(2), t(3), t(4), indexing="xy"),
        Sample(t(), t(3), indexing="ij"),
        Sample(t(0), t(3), indexing="ij"),
        Sample(t(4, layout="strided"), t(3, layout="flipped"), indexing="xy"),
        Sample(t(2, dtype="float64"), t(3, dtype="float64"), indexing="ij"),
    ),
    errors=(
        Bad(ShapeError, "vectors are needed", t(2, 2), t(2), indexing="ij"),
        Bad(ArgumentError, "indexing='yx'", t(2), t(2), indexing="yx"),
    ),
    torch="torch.meshgrid",
)


# --- other shapes and orders ------------------------------------------------------------------------------------------


def _transposed_rule(input: Aval) -> Aval:
    if input.ndim > 2:
        raise ShapeError(f"t: input has shape {input.shape}, but a matrix or a vector is needed. Use permute.")
    return input


register(
    name="t",
    doc="A matrix transposed; a vector or a scalar as it is. A view. As torch.t.",
    signature="input",
    inputs=("input",),
    rule=_transposed_rule,
    compose=lambda F, input: F.permute(input, (1, 0)) if F.aval(input).ndim == 2 else F.alias(input),
    samples=(
        Sample(t(2, 3)),
        Sample(t(3)),
        Sample(t()),
        Sample(t(0, 3)),
        Sample(t(4, 6, layout="transposed")),
        Sample(t(2, 3, dtype="float64")),
    ),
    errors=(Bad(ShapeError, "a matrix or a vector", t(2, 2, 2)),),
    torch="torch.t",
)
register(
    name="ravel",
    doc="All elements as one vector, in row-major order. As torch.ravel.",
    signature="input",
    inputs=("input",),
    rule=lambda input: input,
    compose=lambda F, input: F.reshape(input, (-1,)) if F.aval(input).size else F.reshape(input, (0,)),
    samples=(
        Sample(t(2, 3)),
        Sample(t()),
        Sample(t(0, 3)),
        Sample(t(4, 6, layout="transposed")),
        Sample(t(2, 3, dtype="float64")),
    ),
    errors=(Bad(ArgumentError, "input is None", None),),
    torch="torch.ravel",
)


def _broadcast_rule(input: Aval, *, size: Any) -> Aval:
    if broadcast_shapes("broadcast_to", input.shape, tuple(size)) != tuple(size):
        raise ShapeError(f"broadcast_to: {input.shape} does not broadcast to {tuple(size)}. Make the sizes equal or 1.")
    return input


register(
    name="broadcast_to",
    doc="The array repeated along axes of size 1, and along new ones in front, to the shape `size`; a view. As "
    "torch.broadcast_to.",
    signature="input, size",
    inputs=("input",),
    rule=_broadcast_rule,
    compose=lambda F, input, *, size: F.expand(input, tuple(size)),
    samples=(
        Sample(t(3), size=(2, 3)),
        Sample(t(2, 1), size=(2, 3)),
        Sample(t(), size=(2,)),
        Sample(t(1), size=(0,)),
        Sample(t(0, 1), size=(0, 3)),
        Sample(t(4, 6, layout="transposed"), size=(2, 4, 6)),
        Sample(t(3, dtype="float64"), size=(2, 3)),
    ),
    errors=(Bad(ShapeError, "does not broadcast", t(2, 3), size=(3,)), Bad(ShapeError, "shapes", t(3), size=(2,))),
    torch="torch.broadcast_to",
)


def _need_ndim(name: str, ndim: int) -> Callable[..., Aval]:
    def rule(input: Aval) -> Aval:
        if input.ndim < ndim:
            raise ShapeError(f"{name}: input has shape {input.shape}, but at least {ndim} axes are needed.")
        return input

    return rule


for _name, _ndim, _dim, _what in (("fliplr", 2, 1, "second"), ("flipud", 1, 0, "first")):
    register(
        name=_name,
        doc=f"The array turned round along its {_what} axis. As torch.{_name}.",
        signature="input",
        inputs=("input",),
        rule=_need_ndim(_name, _ndim),
        compose=lambda F, input, dim=_dim: F.flip(input, (dim,)),
        samples=(
            Sample(t(2, 3)),
            Sample(t(2, 3, 2)),
            Sample(t(0, 3)),
            Sample(t(4, 6, layout="transposed")),
            Sample(t(2, 3, dtype="float64")),
        ),
        errors=(Bad(ShapeError, "at least", t()),),
        torch=f"torch.{_name}",
    )


def _rot90_canon(input: Aval, *, k: Any = 1, dims: Any = (0, 1)) -> dict[str, Any]:
    if isinstance(k, bool) or not isinstance(k, int):
        raise ArgumentError(f"rot90: k={k!r} must be an integer.")
    if not isinstance(dims, tuple | list) or len(dims) != 2 or input.ndim < 2:
        raise ShapeError(f"rot90: dims={dims!r} of {input.shape} must be two axes.")
    pair = tuple(axis("rot90", d, input.ndim, "dims") for d in dims)
    if pair[0] == pair[1]:
        raise ShapeError(f"rot90: dims={dims!r} names one axis twice. Name two.")
    return {"k": k % 4, "dims": pair}


def _rot90(F: Any, input: Any, *, k: int, dims: tuple[int, int]) -> Any:
    if k == 2:
        return F.flip(input, dims)
    if not k:
        return F.alias(input)
    y = F.flip(input, (dims[1],)) if k == 1 else input
    y = F.transpose(y, *dims)
    return y if k == 1 else F.flip(y, (dims[1],))


register(
    name="rot90",
    doc="The array turned k times by 90° in the plane of two axes, from the first towards the second. As torch.rot90.",
    signature="input, k=1, dims=(0, 1)",
    inputs=("input",),
    canon=_rot90_canon,
    rule=lambda input, **attrs: input,
    compose=_rot90,
    samples=(
        *(Sample(t(2, 3), k=k) for k in (-1, 0, 1, 2, 3)),
        Sample(t(2, 3, 4), dims=(2, 0)),
        Sample(t(0, 3)),
        Sample(t(4, 6, layout="transposed"), k=3),
        Sample(t(2, 3, dtype="float64"), k=5),
    ),
    errors=(
        Bad(ArgumentError, "k=0.5", t(2, 2), k=0.5),
        Bad(ShapeError, "two axes", t(3)),
        Bad(ShapeError, "twice", t(2, 2), dims=(0, -2)),
    ),
    torch="torch.rot90",
)


# --- parts and differences --------------------------------------------------------------------------------------------


def _tensor_split_canon(input: Aval, *, indices_or_sections: Any, dim: int = 0) -> dict[str, Any]:
    need_axes("tensor_split", input)
    dim, cuts = axis("tensor_split", dim, input.ndim), indices_or_sections
    n = input.shape[dim]
    if isinstance(cuts, tuple | list):
        if any(isinstance(c, bool) or not isinstance(c, int) for c in cuts):
            raise ArgumentError(f"tensor_split: indices_or_sections={cuts!r:.60} must hold integers.")
        ends = [range(n)[:c].stop for c in cuts]
    elif isinstance(cuts, bool) or not isinstance(cuts, int) or cuts < 1:
        raise ArgumentError(f"tensor_split: indices_or_sections={cuts!r:.60} must be at least 1, or hold positions.")
    else:
        ends = [k * (n // cuts) + min(k, n % cuts) for k in range(1, cuts)]
    return {"indices_or_sections": tuple(ends), "dim": dim}


def _tensor_split(F: Any, input: Any, *, indices_or_sections: tuple[int, ...], dim: int) -> Any:
    n = F.aval(input).shape[dim]
    starts, ends = (0, *indices_or_sections), (*indices_or_sections, n)
    return tuple(along(F, input, dim, a, max(a, b)) for a, b in zip(starts, ends, strict=True))


register(
    name="tensor_split",
    doc="Views of parts along `dim`: of nearly equal length, the first ones longer, for an integer; cut at the "
    "positions given, for a sequence. As torch.tensor_split.",
    signature="input, indices_or_sections, dim=0",
    inputs=("input",),
    spellings={"indices_or_sections": ("indices", "sections")},
    canon=_tensor_split_canon,
    rule=lambda input, **attrs: input,
    compose=_tensor_split,
    samples=(
        Sample(t(7, 2), indices_or_sections=3),
        Sample(t(2, 7), indices_or_sections=(1, 5), dim=-1),
        Sample(t(7), indices_or_sections=(5, 2, -1, 99)),
        Sample(t(2), indices_or_sections=3),
        Sample(t(0, 2), indices_or_sections=2),
        Sample(t(4, 6, layout="transposed"), indices_or_sections=4, dim=1),
        Sample(t(5, dtype="float64"), indices_or_sections=1),
    ),
    errors=(
        Bad(ArgumentError, "at least 1", t(3), indices_or_sections=0),
        Bad(ArgumentError, "integers", t(3), indices_or_sections=(0.5,)),
        Bad(ShapeError, "scalar", t(), indices_or_sections=1),
    ),
    torch="torch.tensor_split",
)


def _diff_canon(input: Aval, prepend: Aval | None, append: Aval | None, *, n: Any = 1, dim: Any = -1) -> dict[str, Any]:
    need_axes("diff", input)
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ArgumentError(f"diff: n={n!r} must be an integer of at least 0.")
    return {"n": n, "dim": axis("diff", dim, input.ndim)}


def _diff(F: Any, input: Any, prepend: Any, append: Any, *, n: int, dim: int) -> Any:
    if not n:
        return F.alias(input)
    parts = [x for x in (prepend, input, append) if x is not None]
    y = F.cat(parts, dim) if len(parts) > 1 else input
    minus = F.logical_xor if F.aval(y).dtype == "bool" else F.sub
    for _ in range(min(n, F.aval(y).shape[dim])):
        size = F.aval(y).shape[dim]
        y = minus(along(F, y, dim, min(1, size), size), along(F, y, dim, 0, max(size - 1, 0)))
    return y


register(
    name="diff",
    doc="Differences of neighbours along `dim`, n times over; prepend and append are joined to the ends first. As "
    "torch.diff.",
    signature="input, n=1, dim=-1, prepend=None, append=None",
    inputs=("input", "prepend", "append"),
    canon=_diff_canon,
    rule=lambda input, *ends, **attrs: input,
    compose=_diff,
    samples=(
        Sample(t(3, 5)),
        Sample(t(5, 3), n=2, dim=0),
        Sample(t(3, 5), t(3, 1), t(3, 2), dim=1),
        Sample(t(3), t(2), n=0, why_="as it is"),
        Sample(t(3), n=9, why_="nothing is left"),
        Sample(t(0, 3), dim=0),
        Sample(t(5, dtype="bool", fill="bool")),
        Sample(t(5, dtype="int64", fill="ints", high=9)),
        Sample(t(4, 6, layout="transposed"), dim=0),
        Sample(t(5, dtype="float64")),
    ),
    errors=(
        Bad(ArgumentError, "n=-1", t(3), n=-1),
        Bad(ShapeError, "scalar", t()),
        Bad(ShapeError, "out of range", t(3), dim=1),
        Bad(ShapeError, "cat: array 1", t(2, 3), t(3, 1)),
    ),
    torch="torch.diff",
)


def _take_rule(input: Aval, index: Aval) -> Aval:
    need_index("take", index=index)
    return input


register(
    name="take",
    doc="The elements at the integers `index` (any shape) of the flattened input; negative ones count from the end. As "
    "torch.take.",
    signature="input, index",
    inputs=("input", "index"),
    rule=_take_rule,
    compose=lambda F, input, index: F.index([F.reshape(input, (F.aval(input).size,)), index]),
    samples=(
        Sample(t(5, 3), ids(2, 2, low=-15, high=15)),
        Sample(t(5), ids(7, high=5, dtype="int32"), torch_=False, why_="PyTorch takes int64 indices only"),
        Sample(t(), ids(3, high=1)),
        Sample(t(5, 3), ids(0, high=1)),
        Sample(t(4, 6, layout="transposed"), ids(5, high=24)),
        Sample(t(3, dtype="float64"), ids(high=3)),
    ),
    errors=(
        Bad(IndexRangeError, "index: index 5 at .* size 5", t(5), these(0, 5)),
        Bad(DTypeError, "integers", t(5), t(2)),
    ),
    torch="torch.take",
)
