"""Cards of max unpooling: values put back where max pooling had found them."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from ..aval import Aval, need_float
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from ._window import Ints, one_per_axis, spatial
from .index import ids, need_index
from .index import zeros as _zeros


def _canon(op: str, n: int) -> Callable[..., dict[str, Any]]:
    def canon(
        input: Aval, indices: Aval, *, kernel_size: Any, stride: Any, padding: Any, output_size: Any
    ) -> dict[str, Any]:
        sizes = spatial(op, input, n)
        kernel = one_per_axis(op, "kernel_size", kernel_size, n, 1)
        stride = kernel if stride is None else one_per_axis(op, "stride", stride, n, 1)
        padding = one_per_axis(op, "padding", padding, n, 0)
        made = tuple((i - 1) * s - 2 * p + k for i, s, p, k in zip(sizes, stride, padding, kernel, strict=True))
        if output_size is not None:
            given = tuple(output_size)
            if len(given) == n + 2:
                given = given[2:]
            if len(given) != n or any(not a - s < b < a + s for a, b, s in zip(made, given, stride, strict=False)):
                raise ArgumentError(
                    f"{op}: output_size={output_size!r} does not fit: the sizes must be less than the stride {stride} "
                    f"away from {made}."
                )
            made = given
        return {"kernel_size": kernel, "stride": stride, "padding": padding, "output_size": made}

    return canon


def _compose(F: Any, input: Any, indices: Any, *, output_size: Ints, **window: Ints) -> Any:
    a, n = F.aval(input), len(output_size)
    lead = a.shape[: a.ndim - n]
    rows, size = prod(lead), prod(output_size)
    flat = lambda x: F.reshape(x, (rows, prod(a.shape[a.ndim - n :])))  # noqa: E731 - used twice
    y = F.scatter(_zeros(F, Aval((rows, size), a.dtype)), 1, flat(indices), flat(input))
    return F.reshape(y, (*lead, *output_size))


def _rule(op: str) -> Callable[..., Aval]:
    def rule(input: Aval, indices: Aval, *, output_size: Ints, **window: Ints) -> Aval:
        need_float(op, input=input)
        need_index(op, indices=indices)
        if input.shape != indices.shape:
            raise ShapeError(f"{op}: input has shape {input.shape}, indices {indices.shape}. Give both of one pool.")
        if 0 in input.shape[input.ndim - len(output_size) - 1 :]:
            raise ShapeError(f"{op}: input {input.shape} has an empty axis. Only the batch axis may be empty.")
        return input.with_shape((*input.shape[: input.ndim - len(output_size)], *output_size))

    return rule


def _register(n: int, samples: tuple[Sample, ...]) -> None:
    op, two = f"max_unpool{n}d", (2,) * n
    register(
        name=op,
        doc=f"""Each value at the place in its plane that the index of a max pooling names, zeros elsewhere. As
torch.nn.functional.{op}.

input and indices (N, C, *positions) or (C, *positions), as `gt.max_pool{n}d` gives them with return_indices. The
planes have (position - 1) · stride - 2 · padding + kernel_size elements along each axis, or output_size. Where windows
overlap, the last of equal indices is taken, and all get its gradient.""",
        signature="input, indices, kernel_size, stride=None, padding=0, output_size=None",
        inputs=("input", "indices"),
        canon=_canon(op, n),
        rule=_rule(op),
        compose=_compose,
        samples=samples,
        errors=(
            Bad(ShapeError, "indices", t(1, 1, *two), ids(1, 1, *(3,) * n, high=2), kernel_size=2),
            Bad(ShapeError, "axes", t(2), ids(2, high=2), kernel_size=2),
            Bad(ShapeError, "batch axis", t(1, 0, *two), ids(1, 0, *two, high=1), kernel_size=2),
            Bad(IndexRangeError, "scatter: .* size", t(1, *two), t(1, *two, dtype="int64", fill=4**n), kernel_size=2),
            Bad(DTypeError, "integers", t(1, *two), t(1, *two), kernel_size=2),
            Bad(DTypeError, "floating-point", *[t(1, *two, dtype="int64", fill="zeros")] * 2, kernel_size=2),
            Bad(ArgumentError, "output_size", t(1, *two), ids(1, *two, high=2), kernel_size=2, output_size=(9,) * n),
            Bad(ArgumentError, "stride=0", t(1, *two), ids(1, *two, high=2), kernel_size=2, stride=0),
        ),
        torch=f"torch.nn.functional.{op}",
    )


def _places(*values: int) -> Any:
    return {"dtype": "int64", "fill": values}


_register(
    1,
    (
        Sample(t(2, 3, 3), t(2, 3, 3, **_places(0, 3, 5)), kernel_size=2),
        Sample(t(2, 3), t(2, 3, **_places(1, 2, 6)), kernel_size=2, output_size=(7,), why_="no batch axis"),
        Sample(t(1, 1, 3), t(1, 1, 3, **_places(0, 2, 4)), kernel_size=3, stride=2, padding=1, output_size=(1, 1, 6)),
        Sample(t(0, 3, 3), t(0, 3, 3, **_places(0, 3, 5)), kernel_size=2, why_="no samples"),
        Sample(t(2, 3, 3, layout="transposed"), t(2, 3, 3, layout="flipped", **_places(0, 3, 5)), kernel_size=2),
        Sample(t(2, 3, 3, dtype="float64"), t(2, 3, 3, **_places(0, 3, 5)), kernel_size=(2,)),
    ),
)
_FOUR = t(2, 2, 2, 2, dtype="int64", fill=((0, 3), (9, 14)))
_register(
    2,
    (
        Sample(t(2, 2, 2, 2), _FOUR, kernel_size=2),
        Sample(t(2, 2, 2, 2), _FOUR, kernel_size=2, output_size=(5, 5)),
        Sample(t(2, 2, 2), t(2, 2, 2, dtype="int64", fill=((0, 2), (6, 8))), kernel_size=3, stride=2, padding=1),
        Sample(t(0, 2, 2, 2), t(0, 2, 2, 2, dtype="int64"), kernel_size=2, why_="no samples"),
        Sample(t(2, 2, 2, 2, layout="transposed"), _FOUR, kernel_size=(2, 2), stride=2),
        Sample(t(2, 2, 2, 2, dtype="float64"), _FOUR, kernel_size=2),
    ),
)
_EIGHT = t(1, 2, 1, 2, 2, dtype="int64", fill=((0, 3), (9, 30)))
_register(
    3,
    (
        Sample(t(1, 2, 1, 2, 2), _EIGHT, kernel_size=2),
        Sample(
            t(1, 1, 2, 2), t(1, 1, 2, 2, dtype="int64", fill=((0, 3), (9, 30))), kernel_size=2, output_size=(3, 5, 4)
        ),
        Sample(t(0, 2, 1, 2, 2), t(0, 2, 1, 2, 2, dtype="int64"), kernel_size=2, why_="no samples"),
        Sample(t(1, 2, 1, 2, 2, layout="transposed"), _EIGHT, kernel_size=2),
        Sample(t(1, 2, 1, 2, 2, dtype="float64"), _EIGHT, kernel_size=2),
    ),
)
