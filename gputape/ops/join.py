"""Cards of the ops that put arrays together, and elements into another order: cat, stack, flip, roll."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import Aval, axes, axis
from ..errors import ArgumentError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .slicing import along, need_axes

# --- together ---------------------------------------------------------------------------------------------------------


def _need_some(op: str, tensors: tuple[Aval, ...]) -> None:
    if not tensors:
        raise ArgumentError(f"{op}: the list of arrays is empty. Pass at least one array.")


def _is_blank(a: Aval) -> bool:
    return a.shape == (0,)  # cat skips these whatever the others' shapes, as torch does


def _cat_canon(*tensors: Aval, dim: int = 0) -> dict[str, Any]:
    _need_some("cat", tensors)
    model = next((a for a in tensors if not _is_blank(a)), None)
    if model is None:
        return {"dim": 0}
    if not all(a.ndim for a in tensors):
        raise ShapeError("cat: scalars have no axis to join. Use gt.stack for them.")
    return {"dim": axis("cat", dim, model.ndim)}


def _cat_rule(*tensors: Aval, dim: int) -> Aval:
    joined = [a for a in tensors if not _is_blank(a)]
    if not joined:
        return tensors[0]
    model = joined[0].shape
    for k, a in enumerate(tensors):
        if not _is_blank(a) and (a.shape[:dim], a.shape[dim + 1 :]) != (model[:dim], model[dim + 1 :]):
            raise ShapeError(
                f"cat: array {k} has shape {a.shape}, the first has {model}: all but axis {dim} must be equal. "
                "Reshape them, or join along another axis."
            )
    return Aval((*model[:dim], sum(a.shape[dim] for a in joined), *model[dim + 1 :]), tensors[0].dtype)


def _cat_vjp(F: Any, at: At, dy: Any) -> tuple[Any, ...]:
    dim, start, out = at.attrs["dim"], 0, []
    for a, need in zip(at.ins, at.needs, strict=True):
        stop = start if _is_blank(a) else start + a.shape[dim]
        part = along(F, dy, dim, start, stop) if need else None
        out.append(F.reshape(part, (0,)) if need and _is_blank(a) else part)
        start = stop
    return tuple(out)


register(
    name="cat",
    doc="The arrays one after the other along `dim`. Other axes must agree, dtypes promote; arrays of shape (0,) are "
    "skipped. As torch.cat.",
    signature="tensors, dim=0",
    inputs=("*tensors",),
    promotes=("tensors",),
    canon=_cat_canon,
    rule=_cat_rule,
    vjp=_cat_vjp,
    samples=(
        Sample(t(2, 3), t(5, 3)),
        Sample(t(2, 3), t(2, 1), t(2, 0), dim=-1),
        Sample(t(7)),
        Sample(t(0), t(2, 3), why_="a blank array is skipped"),
        Sample(t(0), t(0)),
        Sample(t(2, dtype="float64"), t(3), why_="promotion"),
        Sample(t(2, dtype="int64", fill="ints", high=9), t(3, dtype="bool", fill="bool")),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), dim=1),
    ),
    errors=(
        Bad(ShapeError, r"array 1 has shape \(2, 4\)", t(2, 3), t(2, 4)),
        Bad(ShapeError, "array 1", t(2, 3), t(2, 3, 1)),
        Bad(ShapeError, "dim=2 is out of range", t(2, 3), t(2, 3), dim=2),
        Bad(ShapeError, "gt.stack", t(), t()),
        Bad(ArgumentError, "empty"),
    ),
    perf=(Perf(t(64, 128), t(64, 128), dim=1), Perf(t(16, 4, 64, 32), t(16, 4, 64, 32), dim=-1)),
    torch="torch.cat",
)


def _stack_canon(*tensors: Aval, dim: int = 0) -> dict[str, Any]:
    _need_some("stack", tensors)
    for k, a in enumerate(tensors):
        if a.shape != tensors[0].shape:
            raise ShapeError(f"stack: array {k} is {a.shape}, the first {tensors[0].shape}. Give them one shape.")
    return {"dim": axis("stack", dim, tensors[0].ndim + 1)}


register(
    name="stack",
    doc="Arrays of one shape along a new axis at position `dim` of the result. Dtypes promote. As torch.stack.",
    signature="tensors, dim=0",
    inputs=("*tensors",),
    promotes=("tensors",),
    canon=_stack_canon,
    rule=lambda *tensors, dim: tensors[0],
    compose=lambda F, *tensors, dim: F.cat([F.unsqueeze(x, dim) for x in tensors], dim),
    samples=(
        Sample(t(2, 3), t(2, 3)),
        Sample(t(2, 3), t(2, 3), t(2, 3), dim=-1),
        Sample(t(), t(), t()),
        Sample(t(0, 3), t(0, 3), dim=1),
        Sample(t(0), t(0)),
        Sample(t(3, dtype="float64"), t(3)),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="flipped"), dim=-1),
    ),
    errors=(
        Bad(ShapeError, "array 1", t(2, 3), t(3)),
        Bad(ArgumentError, "array 1 is None", t(2, 3), None),
        Bad(ShapeError, "dim=3 is out of range", t(2, 3), t(2, 3), dim=3),
        Bad(ArgumentError, "empty"),
    ),
    torch="torch.stack",
)

# --- another order ----------------------------------------------------------------------------------------------------


def _dims_canon(op: str) -> Callable[..., dict[str, Any]]:
    return lambda input, *, dims: {"dims": axes(op, dims, input.ndim)}


register(
    name="flip",
    doc="The order of the elements reversed along each of the axes `dims`. A copy. As torch.flip.",
    signature="input, dims",
    inputs=("input",),
    canon=_dims_canon("flip"),
    rule=lambda input, *, dims: input,
    vjp=lambda F, at, dy: F.flip(dy, at.attrs["dims"]),
    samples=(
        Sample(t(2, 3), dims=(0,)),
        Sample(t(2, 3, 5), dims=(0, -1)),
        Sample(t(2, 3), dims=()),
        Sample(t(), dims=0),
        Sample(t(0, 3), dims=1),
        Sample(t(4, 6, layout="transposed"), dims=1),
        Sample(t(2, 3, dtype="float64"), dims=-1),
    ),
    errors=(
        Bad(ShapeError, "twice", t(2, 3), dims=(0, 0)),
        Bad(ShapeError, "out of range", t(2, 3), dims=(2,)),
    ),
    perf=(Perf(t(64, 16, 28, 28), dims=(3,), name_="mirrored images"),),
    torch="torch.flip",
)


def _roll_canon(input: Aval, *, shifts: Any, dims: Any = None) -> dict[str, Any]:
    listed = tuple(shifts) if isinstance(shifts, tuple | list) else (shifts,)
    if dims is None:
        over: tuple[int | None, ...] = (None,)
    else:
        need_axes("roll", input)
        over = tuple(axis("roll", d, input.ndim, "dims") for d in (dims if isinstance(dims, tuple | list) else (dims,)))
    if len(listed) != len(over) or not all(isinstance(k, int) for k in listed):
        raise ArgumentError(f"roll: shifts={shifts!r} and dims={dims!r} do not pair up. Pass one integer per axis.")
    return {"shifts": listed, "dims": None if dims is None else over}


def _roll(F: Any, input: Any, *, shifts: tuple[int, ...], dims: tuple[int, ...] | None) -> Any:
    shape = F.aval(input).shape
    y = F.flatten(input) if dims is None else F.alias(input)
    for shift, dim in zip(shifts, dims or (0,), strict=True):
        n = F.aval(y).shape[dim]
        cut = -shift % n if n else 0
        if cut:
            y = F.cat([along(F, y, dim, cut, n), along(F, y, dim, 0, cut)], dim)
    return F.reshape(y, shape) if dims is None else y


register(
    name="roll",
    doc="Elements moved by `shifts` along `dims`; those that leave at one end come in at the other. With dims=None the "
    "flattened array is rolled. As torch.roll.",
    signature="input, shifts, dims=None",
    inputs=("input",),
    canon=_roll_canon,
    rule=lambda input, **attrs: input,
    compose=_roll,
    samples=(
        Sample(t(5), shifts=2),
        Sample(t(2, 3), shifts=-1),
        Sample(t(5, 3), shifts=(1, -7), dims=(0, -1)),
        Sample(t(5), shifts=(1, 1), dims=(0, 0)),
        Sample(t(), shifts=1),
        Sample(t(0, 3), shifts=1, dims=0),
        Sample(t(4, 6, layout="transposed"), shifts=1),
        Sample(t(5, 2, dtype="float64"), shifts=-2, dims=0),
    ),
    errors=(
        Bad(ArgumentError, "pair up", t(2, 3), shifts=(1, 2), dims=0),
        Bad(ArgumentError, "pair up", t(2, 3), shifts=(1, 2)),
        Bad(ShapeError, "out of range", t(2, 3), shifts=1, dims=2),
        Bad(ShapeError, "scalar", t(), shifts=1, dims=0),
    ),
    torch="torch.roll",
)
