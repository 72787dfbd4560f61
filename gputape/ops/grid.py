"""Cards of spatial transformers: affine_grid, grid_sample."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

from ..aval import Aval, need_float, need_same_dtype
from ..errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from ..registry import register
from ..samples import Bad, Sample, t
from .slicing import along

Ints = tuple[int, ...]

# --- affine_grid ------------------------------------------------------------------------------------------------------


def _affine_canon(theta: Aval, *, size: Any, align_corners: Any = None) -> dict[str, Any]:
    size = tuple(size) if isinstance(size, tuple | list) else size
    if not isinstance(size, tuple) or len(size) not in (4, 5) or any(type(n) is not int or n < 1 for n in size):
        raise ArgumentError(f"affine_grid: size={size!r} must be (N, C, H, W) or (N, C, D, H, W), all of at least 1.")
    return {"size": size, "align_corners": bool(align_corners)}


def _affine_rule(theta: Aval, *, size: Ints, align_corners: bool) -> Aval:
    need_float("affine_grid", theta=theta)
    n = len(size) - 2
    if theta.shape != (size[0], n, n + 1):
        raise ShapeError(f"affine_grid: theta has shape {theta.shape}. For size={size} give it {(size[0], n, n + 1)}.")
    return theta.with_shape((size[0], *size[2:], n))


def _centres(n: int, align_corners: bool) -> list[float]:
    """Where the elements of an axis lie in [-1, 1]: the outer ones on the borders, or half an element inside."""
    if align_corners:
        return [0.0] if n == 1 else [2 * k / (n - 1) - 1 for k in range(n)]
    return [(2 * k + 1) / n - 1 for k in range(n)]


def _affine_grid(F: Any, theta: Any, *, size: Ints, align_corners: bool) -> Any:
    spatial = size[2:]
    axes = [_centres(n, align_corners) for n in spatial]
    places = [[*reversed(at), 1.0] for at in product(*axes)]  # the last axis is called x and comes first
    n = len(spatial)
    base = F.reshape(F.const(places, F.aval(theta).dtype), (1, len(places), 1, n + 1))
    found = F.sum(F.mul(base, F.reshape(theta, (size[0], 1, n, n + 1))), 3)
    return F.reshape(found, (size[0], *spatial, n))


register(
    name="affine_grid",
    doc="""The places (x, y) that the affine maps theta (N, 2, 3) send the elements of (N, C, H, W) images to, for
`grid_sample`: (N, H, W, 2), or with theta (N, 3, 4) for volumes (N, D, H, W, 3).

-1 and 1 are the centres of the outer elements with align_corners, else the borders of the image. As
torch.nn.functional.affine_grid.""",
    signature="theta, size, align_corners=None",
    inputs=("theta",),
    canon=_affine_canon,
    rule=_affine_rule,
    compose=_affine_grid,
    precision="wide",
    samples=(
        Sample(t(2, 2, 3), size=(2, 3, 4, 5), align_corners=False),
        Sample(t(1, 2, 3), size=(1, 1, 3, 1), align_corners=True),
        Sample(t(1, 3, 4), size=(1, 2, 2, 3, 4), align_corners=False),
        Sample(t(1, 2, 3, layout="transposed"), size=(1, 1, 2, 2), align_corners=True),
        Sample(t(1, 2, 3, dtype="float64"), size=(1, 1, 2, 2), align_corners=False),
    ),
    errors=(
        Bad(ShapeError, "theta has shape", t(1, 2, 3), size=(2, 1, 3, 3)),
        Bad(ArgumentError, "size=", t(1, 2, 3), size=(1, 3, 3)),
        Bad(DTypeError, "floating-point", t(1, 2, 3, dtype="int64", fill="ones"), size=(1, 1, 2, 2)),
    ),
    torch="torch.nn.functional.affine_grid",
)


# --- grid_sample ------------------------------------------------------------------------------------------------------

_PADDINGS = ("zeros", "border", "reflection")


def _sample_canon(
    input: Aval, grid: Aval, *, mode: Any = "bilinear", padding_mode: Any = "zeros", align_corners: Any = None
) -> dict[str, Any]:
    if mode == "bicubic":
        raise UnsupportedError("grid_sample: mode='bicubic' is not available. Use 'bilinear'.")
    if mode not in ("bilinear", "nearest"):
        raise ArgumentError(f"grid_sample: mode={mode!r} is unknown. Use 'bilinear' or 'nearest'.")
    if padding_mode not in _PADDINGS:
        raise ArgumentError(f"grid_sample: padding_mode={padding_mode!r} is unknown. Use one of {_PADDINGS}.")
    return {"mode": mode, "padding_mode": padding_mode, "align_corners": bool(align_corners)}


def _sample_rule(input: Aval, grid: Aval, **attrs: Any) -> Aval:
    need_float("grid_sample", input=input)
    need_same_dtype("grid_sample", input=input, grid=grid)
    n = input.ndim - 2
    if n not in (2, 3) or grid.ndim != input.ndim or grid.shape[0] != input.shape[0] or grid.shape[-1] != n:
        raise ShapeError(
            f"grid_sample: input has shape {input.shape}, grid {grid.shape}. Give (N, C, H, W) and (N, H', W', 2), or "
            "(N, C, D, H, W) and (N, D', H', W', 3)."
        )
    if 0 in input.shape[1:]:
        raise ShapeError(f"grid_sample: input {input.shape} has an empty axis. Only the batch axis may be empty.")
    return input.with_shape((*input.shape[:2], *grid.shape[1:-1]))


def _reflected(F: Any, x: Any, low: float, span: float) -> Any:
    """x mirrored into [low, low + span], again and again."""
    c = lambda v: F.const(v, F.aval(x).dtype)  # noqa: E731 - used often
    if span == 0:
        return F.expand(c(0), F.aval(x).shape)
    away = F.abs(F.sub(x, c(low)))
    turns = F.floor(F.div(away, c(span)))
    rest = F.sub(away, F.mul(F.detach(turns), c(span)))
    even = F.eq(F.remainder(turns, c(2)), c(0))
    return F.add(F.where(even, rest, F.sub(c(span), rest)), c(low))


def _place(F: Any, x: Any, n: int, padding_mode: str, align_corners: bool) -> Any:
    """The position among n elements of a coordinate in [-1, 1]."""
    c = lambda v: F.const(v, F.aval(x).dtype)  # noqa: E731 - used often
    one = F.add(x, c(1))
    at = F.scale(one, (n - 1) / 2) if align_corners else F.scale(F.sub(F.scale(one, n), c(1)), 0.5)
    if padding_mode == "reflection":
        at = _reflected(F, at, 0.0, float(n - 1)) if align_corners else _reflected(F, at, -0.5, float(n))
    if padding_mode != "zeros":
        at = F.hardtanh(at, 0, n - 1)  # whose gradient is 0 on the borders, as PyTorch's
    return at


def _grid_sample(F: Any, input: Any, grid: Any, *, mode: str, padding_mode: str, align_corners: bool) -> Any:
    a, g = F.aval(input), F.aval(grid)
    sizes, dtype = a.shape[2:], a.dtype
    n, batch, channels, count = len(sizes), a.shape[0], a.shape[1], prod(g.shape[1:-1])
    flat = F.reshape(input, (batch, channels, prod(sizes)))
    at = []
    for k, size in enumerate(sizes):  # the grid names the last axis first
        x = F.reshape(along(F, grid, n + 1, n - 1 - k, n - k), (batch, count))
        at.append(_place(F, x, size, padding_mode, align_corners))
    if mode == "nearest":
        return F.reshape(_corner(F, flat, [F.round(x) for x in at], None, sizes), (*a.shape[:2], *g.shape[1:-1]))
    low = [F.floor(x) for x in at]
    beyond = [F.sub(x, x0) for x, x0 in zip(at, low, strict=True)]
    one, y = F.const(1, dtype), None
    for corner in product((0, 1), repeat=n):
        places = [F.add(x0, one) if up else x0 for x0, up in zip(low, corner, strict=True)]
        weight = None
        for up, w in zip(corner, beyond, strict=True):
            part = w if up else F.sub(one, w)
            weight = part if weight is None else F.mul(weight, part)
        part = _corner(F, flat, places, weight, sizes)
        y = part if y is None else F.add(y, part)
    return F.reshape(y, (*a.shape[:2], *g.shape[1:-1]))


def _corner(F: Any, flat: Any, places: list[Any], weight: Any, sizes: Ints) -> Any:
    """weight · the elements at the places (N, count), whole numbers; 0 where one is outside."""
    batch, channels, _ = F.aval(flat).shape
    dtype, count = F.aval(flat).dtype, F.aval(places[0]).shape[1]
    zero, inside, index = F.const(0, dtype), None, None
    for x, size in zip(places, sizes, strict=True):
        here = F.logical_and(F.ge(x, zero), F.le(x, F.const(size - 1, dtype)))
        inside = here if inside is None else F.logical_and(inside, here)
    for x, size in zip(places, sizes, strict=True):
        step = F.cast(F.where(inside, x, zero), "int64")
        index = step if index is None else F.add(F.mul(index, F.const(size, "int64")), step)
    found = F.gather(flat, 2, F.expand(F.reshape(index, (batch, 1, count)), (batch, channels, count)))
    factor = F.cast(inside, dtype) if weight is None else F.where(inside, weight, zero)
    return F.mul(found, F.reshape(factor, (batch, 1, count)))


_WITHIN = t(2, 3, 4, 2, fill=((0.1, 0.33), (-0.42, 0.2), (0.55, -0.6), (-0.15, 0.71)))  # not between elements
_BEYOND = t(2, 3, 4, 2, fill="uniform", low=-2.6, high=2.6)
register(
    name="grid_sample",
    doc="""Images (N, C, H, W) at the places (x, y) of the grid (N, H', W', 2): (N, C, H', W'); volumes (N, C, D, H, W)
with grids (N, D', H', W', 3). -1 and 1 are the borders of the image, or the centres of its outer elements with
align_corners.

mode "bilinear" weighs the elements around a place, "nearest" takes the nearest, at a tie the even one. Outside the
image padding_mode "zeros" counts 0, "border" the nearest border, "reflection" mirrors. As
torch.nn.functional.grid_sample, without "bicubic".""",
    signature='input, grid, mode="bilinear", padding_mode="zeros", align_corners=None',
    inputs=("input", "grid"),
    canon=_sample_canon,
    rule=_sample_rule,
    compose=_grid_sample,
    precision="wide",
    samples=(
        *(
            Sample(t(2, 3, 5, 4), grid, mode=mode, padding_mode=padding, align_corners=align, grad_=False)
            for mode in ("bilinear", "nearest")
            for padding in _PADDINGS
            for align in (False, True)
            for grid in (_BEYOND,)
        ),
        Sample(t(2, 1, 5, 4), _WITHIN, align_corners=False),
        Sample(t(1, 2, 3, 4, 5), t(1, 2, 2, 2, 3, fill="uniform", low=-1.2, high=1.2), align_corners=True, grad_=False),
        Sample(t(1, 1, 1, 3), t(1, 1, 2, 2), padding_mode="reflection", align_corners=True, grad_=False),
        Sample(t(0, 3, 5, 4), t(0, 3, 4, 2), align_corners=False, why_="no images"),
        Sample(t(2, 3, 5, 4, layout="transposed"), _BEYOND, mode="nearest", align_corners=False, grad_=False),
        Sample(t(1, 2, 3, 3, dtype="float64"), t(1, 2, 2, 2, dtype="float64", fill=((0.1,), (-0.3,)))),
    ),
    errors=(
        Bad(UnsupportedError, "bicubic", t(1, 1, 2, 2), t(1, 1, 1, 2), mode="bicubic"),
        Bad(ArgumentError, "mode='cubic'", t(1, 1, 2, 2), t(1, 1, 1, 2), mode="cubic"),
        Bad(ArgumentError, "padding_mode='wrap'", t(1, 1, 2, 2), t(1, 1, 1, 2), padding_mode="wrap"),
        Bad(ShapeError, "grid", t(1, 1, 2, 2), t(1, 1, 1, 3)),
        Bad(ShapeError, "batch axis", t(1, 0, 2, 2), t(1, 1, 1, 2)),
        Bad(DTypeError, "floating-point", t(1, 1, 2, 2, dtype="int64", fill="ones"), t(1, 1, 1, 2)),
        Bad(DTypeError, "different dtypes", t(1, 1, 2, 2), t(1, 1, 1, 2, dtype="float64")),
    ),
    torch="torch.nn.functional.grid_sample",
)
