"""Cards of the pools to a given size, composed: adaptive_avg_pool, adaptive_max_pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import Aval, need_float
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t
from ._window import Ints, batched, spatial, unbatched
from .pool import INF, NAN, flag

# --- what both share --------------------------------------------------------------------------------------------------


def parts(size: int, out: int) -> list[tuple[int, int]]:
    """Start and end of each of the `out` parts of an axis: ⌊i·size/out⌋ and ⌈(i+1)·size/out⌉."""
    return [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]


def _canon(op: str, n: int) -> Callable[..., dict[str, Any]]:
    def canon(input: Aval, *, output_size: Any, **rest: Any) -> dict[str, Any]:
        sizes = spatial(op, input, n)
        given = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * n
        filled = tuple(s if g is None else g for g, s in zip(given, sizes, strict=False))
        if len(given) != n or any(isinstance(v, bool) or not isinstance(v, int) or v < 0 for v in filled):
            raise ArgumentError(
                f"{op}: output_size={output_size!r} must be an integer of at least 0, or {n} of them (None keeps a "
                "size). Pass for example 1."
            )
        return {"output_size": filled} | {name: flag(op, name, value) for name, value in rest.items()}

    return canon


def _rule(op: str, n: int) -> Callable[..., Aval]:
    def rule(input: Aval, *, output_size: Ints, **rest: Any) -> Aval:
        need_float(op, input=input)
        if min(input.shape[-n:]) < 1:
            raise ShapeError(f"{op}: input {input.shape} has an empty spatial axis. Give sizes of at least 1.")
        return input.with_shape((*input.shape[:-n], *output_size))

    return rule


def _errors(n: int) -> tuple[Bad, ...]:
    x = t(2, 3, *(4,) * n)
    return (
        Bad(ArgumentError, "output_size=-1", x, output_size=-1),
        Bad(ArgumentError, "at least 0", x, output_size=(1,) * (n + 1)),
        Bad(ShapeError, "axes", t(4), output_size=1),
        Bad(ShapeError, "empty spatial axis", t(2, 3, *(0,) * n), output_size=1),
        Bad(DTypeError, "floating-point", t(2, 3, *(4,) * n, dtype="int64", fill="ones"), output_size=1),
    )


# --- means ------------------------------------------------------------------------------------------------------------


def _avg(F: Any, input: Any, *, output_size: Ints) -> Any:
    n = len(output_size)
    shape = F.aval(input).shape
    lead, sizes = shape[:-n], shape[-n:]
    if all(o and s % o == 0 for s, o in zip(sizes, output_size, strict=True)):
        split = [v for s, o in zip(sizes, output_size, strict=True) for v in (o, s // o)]
        return F.mean(F.reshape(input, (*lead, *split)), tuple(range(len(lead) + 1, len(lead) + 2 * n, 2)))
    x, lone = batched(F, input, n)
    return unbatched(F, F.resample_nd(x, output_size, "area", False, (None,) * n), lone)


def _register_avg(n: int) -> None:
    name = f"adaptive_avg_pool{n}d"
    register(
        name=name,
        doc=f"""Means over the `output_size` parts of each spatial axis. As torch.nn.functional.{name}.

Part i covers the elements ⌊i·size/out⌋ to ⌈(i+1)·size/out⌉. input (N, C, *spatial) or (C, *spatial) with {n} spatial
sizes; output_size: an integer, or one per axis, None for the input's size.""",
        signature="input, output_size",
        inputs=("input",),
        canon=_canon(name, n),
        rule=_rule(name, n),
        compose=_avg,
        samples=(
            Sample(t(2, 3, *(4,) * n), output_size=1),
            Sample(t(2, 3, *(4, 6, 2)[:n]), output_size=2),
            Sample(t(3, *(5, 7, 3)[:n]), output_size=(3, None, 4)[:n], why_="unbatched, parts overlap"),
            Sample(t(1, 1, *(3,) * (n - 1), 7, fill=(NAN, 1, 2, 3, 4, 5, INF)), output_size=4, grad_=False),
            Sample(t(0, 3, *(4, 6, 2)[:n]), output_size=2, why_="no samples"),
            Sample(t(2, 3, *(4,) * n), output_size=0, torch_=False, why_="torch's gradient fails on an empty result"),
            Sample(t(2, 3, *(5, 4, 4)[:n], layout="transposed"), output_size=2),
            Sample(t(2, 3, *(5, 4, 4)[:n], dtype="float64"), output_size=2),
        ),
        errors=_errors(n),
        torch=f"torch.nn.functional.{name}",
    )


# --- maxima -----------------------------------------------------------------------------------------------------------


def _even_parts(size: int, out: int) -> tuple[int, list[int]]:
    """The longest part, and the elements of all parts one after the other, each part made as long by repeating its last
    element. That one neither wins a tie against itself nor comes before what it stands behind."""
    found = parts(size, out)
    longest = max((end - start for start, end in found), default=1)
    return longest, [min(start + k, end - 1) for start, end in found for k in range(longest)]


def _max(F: Any, input: Any, *, output_size: Ints, return_indices: bool) -> Any:
    n = len(output_size)
    x, lone = batched(F, input, n)
    shape = F.aval(x).shape
    if 0 in output_size:
        y = F.reshape(F.slice(x, (), (None, None, *(0,) * n)), (*shape[:2], *output_size))
        y, index = unbatched(F, y, lone), F.const(0, "int64")
        return (y, F.expand(index, F.aval(y).shape)) if return_indices else y
    evened = [_even_parts(size, out) for size, out in zip(shape[2:], output_size, strict=True)]
    kernel = tuple(longest for longest, _ in evened)
    moved = False
    for dim, (size, (_, source)) in enumerate(zip(shape[2:], evened, strict=True), 2):
        if source != list(range(size)):
            x, moved = F.index_select(x, dim, F.const(source, "int64")), True
    y, index = F.max_pool_nd(x, kernel, kernel, (0,) * n, (1,) * n, False)
    if not return_indices:
        return unbatched(F, y, lone)
    index = F.cast(index, "int64")
    if moved:
        origin = F.const(_places(shape[2:], [source for _, source in evened]), "int64")
        index = F.reshape(F.index_select(origin, 0, F.flatten(index)), F.aval(y).shape)
    return unbatched(F, y, lone), unbatched(F, index, lone)


def _places(sizes: Ints, sources: list[list[int]]) -> list[int]:
    """Flat positions in a plane of `sizes` of the elements that `sources` picks along each axis."""
    found = [0]
    for size, source in zip(sizes, sources, strict=True):
        found = [at * size + k for at in found for k in source]
    return found


def _register_max(n: int) -> None:
    name = f"adaptive_max_pool{n}d"
    register(
        name=name,
        doc=f"""Maxima of the `output_size` parts of each spatial axis. As torch.nn.functional.{name}.

Part i covers the elements ⌊i·size/out⌋ to ⌈(i+1)·size/out⌉. input (N, C, *spatial) or (C, *spatial) with {n} spatial
sizes; output_size: an integer, or one per axis, None for the input's size. With `return_indices` the result is (y,
index): int64 flat indices in the spatial plane. The first position in row-major order wins a tie, the last NaN wins
over all.""",
        signature="input, output_size, return_indices=False",
        inputs=("input",),
        canon=_canon(name, n),
        rule=_rule(name, n),
        compose=_max,
        samples=(
            Sample(t(2, 3, *(4,) * n, fill="distinct"), output_size=1),
            Sample(t(2, 3, *(4, 6, 2)[:n], fill="distinct"), output_size=2, return_indices=True),
            Sample(
                t(3, *(5, 7, 3)[:n], fill="distinct"), output_size=(3, None, 4)[:n], why_="unbatched, parts overlap"
            ),
            Sample(
                t(2, 1, *(3, 5, 2)[:n], fill="distinct"), output_size=4, return_indices=True, why_="more than given"
            ),
            Sample(
                t(1, 2, *(1,) * (n - 1), 5, fill=(NAN, 2, 2, NAN, 1)), output_size=3, return_indices=True, grad_=False
            ),
            Sample(t(1, 2, *(3,) * n, fill=-INF), output_size=2, return_indices=True, grad_=False),
            Sample(t(0, 3, *(4, 6, 2)[:n]), output_size=3, why_="no samples"),
            Sample(
                t(2, 3, *(4,) * n),
                output_size=0,
                return_indices=True,
                torch_=False,
                why_="torch's gradient fails on an empty result",
            ),
            Sample(t(1, 2, *(5, 4, 3)[:n], fill="distinct", layout="transposed"), output_size=2),
            Sample(t(1, 2, *(5, 4, 3)[:n], fill="distinct", dtype="float64"), output_size=2),
        ),
        errors=_errors(n),
        perf=(Perf(t(64, 128, 7, 7), output_size=1, name_="global pool"),) if n == 2 else (),
        torch=f"torch.nn.functional.{name}",
    )


for _n in (1, 2, 3):
    _register_avg(_n)
    _register_max(_n)
