"""Cards of spatial transformers: affine_grid, grid_sample."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

from ..aval import Aval, need_float, need_same_dtype
from ..errors import ArgumentError, DTypeError, ShapeError
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

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


def _sample_canon(
    input: Aval, grid: Aval, *, mode: Any = "bilinear", padding_mode: Any = "zeros", align_corners: Any = None
) -> dict[str, Any]:
    if mode not in _MODES:
        raise ArgumentError(f"grid_sample: mode={mode!r} is unknown. Use one of {_MODES}.")
    if padding_mode not in _PADDINGS:
        raise ArgumentError(f"grid_sample: padding_mode={padding_mode!r} is unknown. Use one of {_PADDINGS}.")
    return {"mode": mode, "padding_mode": padding_mode, "align_corners": bool(align_corners)}


def _sample_rule(input: Aval, grid: Aval, *, mode: str, **attrs: Any) -> Aval:
    need_float("grid_sample", input=input)
    need_same_dtype("grid_sample", input=input, grid=grid)
    n = input.ndim - 2
    if n not in (2, 3) or grid.ndim != input.ndim or grid.shape[0] != input.shape[0] or grid.shape[-1] != n:
        raise ShapeError(
            f"grid_sample: input has shape {input.shape}, grid {grid.shape}. Give (N, C, H, W) and (N, H', W', 2), or "
            "(N, C, D, H, W) and (N, D', H', W', 3)."
        )
    if mode == "bicubic" and n == 3:
        raise ShapeError(f"grid_sample: mode='bicubic' is for images, but input is {input}. Use 'bilinear'.")
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


def _padded(F: Any, at: Any, n: int, padding_mode: str, align_corners: bool) -> Any:
    """Positions brought to those among n elements, unless what is outside counts 0."""
    if padding_mode == "reflection":
        at = _reflected(F, at, 0.0, float(n - 1)) if align_corners else _reflected(F, at, -0.5, float(n))
    if padding_mode != "zeros":
        at = F.hardtanh(at, 0, n - 1)  # whose gradient is 0 on the borders, as PyTorch's
    return at


def _taps(F: Any, x: Any, n: int, mode: str, *padding: Any) -> list[tuple[Any, Any]]:
    """Along an axis of n elements, those that coordinates in [-1, 1] look at, as whole numbers, and their weights."""
    c = lambda v: F.const(v, F.aval(x).dtype)  # noqa: E731 - used often
    _, align_corners = padding
    one = F.add(x, c(1))
    at = F.scale(one, (n - 1) / 2) if align_corners else F.scale(F.sub(F.scale(one, n), c(1)), 0.5)
    if mode != "bicubic":  # which brings each element inside, not the position
        at = _padded(F, at, n, *padding)
    if mode == "nearest":
        return [(F.round(at), None)]
    low = F.floor(at)
    up = F.sub(at, low)
    down = F.sub(c(1), up)
    if mode == "bilinear":
        return [(low, down), (F.add(low, c(1)), up)]
    weights = (_outer(F, up), _inner(F, up), _inner(F, down), _outer(F, down))
    whole = F.detach(low)
    return [(_padded(F, F.add(whole, c(k)), n, *padding), w) for k, w in enumerate(weights, -1)]


_A = -0.75  # of the cubic convolution (Keys, 1981)


def _inner(F: Any, x: Any) -> Any:
    """The cubic convolution's weight of an element at a distance x of 0 to 1: (A+2)·x³ - (A+3)·x² + 1."""
    c = lambda v: F.const(v, F.aval(x).dtype)  # noqa: E731
    return F.add(F.mul(F.sub(F.scale(x, _A + 2), c(_A + 3)), F.square(x)), c(1))


def _outer(F: Any, x: Any) -> Any:
    """The same at a distance of 1 + x: A·x·(x - 1)²."""
    return F.mul(F.scale(x, _A), F.square(F.sub(x, F.const(1, F.aval(x).dtype))))


def _grid_sample(F: Any, input: Any, grid: Any, *, mode: str, padding_mode: str, align_corners: bool) -> Any:
    a, g = F.aval(input), F.aval(grid)
    sizes = a.shape[2:]
    n, batch, channels, count = len(sizes), a.shape[0], a.shape[1], prod(g.shape[1:-1])
    flat = F.reshape(input, (batch, channels, prod(sizes)))
    axes = []
    for k, size in enumerate(sizes):  # the grid names the last axis first
        x = F.reshape(along(F, grid, n + 1, n - 1 - k, n - k), (batch, count))
        axes.append(_taps(F, x, size, mode, padding_mode, align_corners))
    y = None
    for corner in product(*axes):
        weight = None
        for _, part in corner:
            weight = part if weight is None else F.mul(weight, part)
        part = _corner(F, flat, [at for at, _ in corner], weight, sizes)
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

mode "bilinear" weighs the elements around a place, "bicubic" (images only) those in four rows and columns, by the cubic
convolution of Keys (1981) with a = -¾; "nearest" takes the nearest, at a tie the even one. Outside the image
padding_mode "zeros" counts 0, "border" the nearest border, "reflection" mirrors. As
torch.nn.functional.grid_sample.""",
    signature='input, grid, mode="bilinear", padding_mode="zeros", align_corners=None',
    inputs=("input", "grid"),
    canon=_sample_canon,
    rule=_sample_rule,
    compose=_grid_sample,
    precision="wide",
    samples=(
        *(
            Sample(t(2, 3, 5, 4), grid, mode=mode, padding_mode=padding, align_corners=align, grad_=False)
            for mode in _MODES
            for padding in _PADDINGS
            for align in (False, True)
            for grid in (_BEYOND,)
        ),
        Sample(t(2, 1, 5, 4), _WITHIN, align_corners=False),
        *(
            Sample(t(2, 1, 5, 4), _WITHIN, mode="bicubic", padding_mode=padding, align_corners=False)
            for padding in _PADDINGS
        ),
        Sample(t(1, 2, 3, 4, 5), t(1, 2, 2, 2, 3, fill="uniform", low=-1.2, high=1.2), align_corners=True, grad_=False),
        *(
            Sample(t(1, 1, 1, 3), t(1, 1, 2, 2), mode=mode, padding_mode="reflection", align_corners=True, grad_=False)
            for mode in ("bilinear", "bicubic")
        ),
        Sample(t(0, 3, 5, 4), t(0, 3, 4, 2), align_corners=False, why_="no images"),
        Sample(t(2, 3, 5, 4, layout="transposed"), _BEYOND, mode="nearest", align_corners=False, grad_=False),
        Sample(t(1, 2, 3, 3, dtype="float64"), t(1, 2, 2, 2, dtype="float64", fill=((0.1,), (-0.3,)))),
    ),
    errors=(
        Bad(ShapeError, "bicubic", t(1, 1, 2, 2, 2), t(1, 1, 1, 1, 3), mode="bicubic"),
        Bad(ArgumentError, "mode='cubic'", t(1, 1, 2, 2), t(1, 1, 1, 2), mode="cubic"),
        Bad(ArgumentError, "padding_mode='wrap'", t(1, 1, 2, 2), t(1, 1, 1, 2), padding_mode="wrap"),
        Bad(ShapeError, "grid", t(1, 1, 2, 2), t(1, 1, 1, 3)),
        Bad(ShapeError, "batch axis", t(1, 0, 2, 2), t(1, 1, 1, 2)),
        Bad(DTypeError, "floating-point", t(1, 1, 2, 2, dtype="int64", fill="ones"), t(1, 1, 1, 2)),
        Bad(DTypeError, "different dtypes", t(1, 1, 2, 2), t(1, 1, 1, 2, dtype="float64")),
    ),
    torch="torch.nn.functional.grid_sample",
)
