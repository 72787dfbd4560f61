"""Cards of resampling: `resample_nd`, linear in its input, its adjoint, and PyTorch's interpolate."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, need_float, need_float_yet
from ..errors import ArgumentError, ShapeError, UnsupportedError
from ..registry import register
from ..samples import Bad, Perf, Sample, t
from ._window import Ints
from .antialias import FILTERS, antialiased

Scales = tuple[float | None, ...]
NAN, INF = float("nan"), float("inf")

# --- the primitives ---------------------------------------------------------------------------------------------------


def _nd_rule(input: Aval, *, size: Ints, mode: str, align_corners: bool, scales: Scales) -> Aval:
    need_float("resample_nd", input=input)
    return input.with_shape((*input.shape[:2], *size))


OPTIONS = "mode, align_corners, scales"
_LINEAR: dict[str, Any] = dict(mode="linear", align_corners=False, scales=(None, None))
_AREA = _LINEAR | dict(mode="area")
_ONE_AXIS: dict[str, Any] = dict(align_corners=False, scales=(None,))

register(
    name="resample_nd",
    doc="""(N, C, *spatial) → (N, C, *size): along each axis, every place of the result is a weighted sum of elements.

Place j looks at position j·step of the input ("nearest"; with align_corners also "linear" and "cubic"), (j + ½)·step
("nearest-exact") or (j + ½)·step - ½. There step is 1/scale where `scales` has a number, else size/out, or with
align_corners (size-1)/(out-1). The nearest modes take the element at or before the position, "linear" the two around
it, "cubic" four (the cubic convolution of Keys, 1981, with a = -¾), elements beyond the ends being those at the ends.
"area" is the mean of the elements ⌊j·size/out⌋ to ⌈(j+1)·size/out⌉. An axis that keeps its size, without a scale, is
left as it is. Positions are computed in float32, of float64 arrays in float64, as in PyTorch.""",
    signature=f"input, size, {OPTIONS}",
    inputs=("input",),
    rule=_nd_rule,
    vjp=lambda F, at, dy: F.resample_nd_bwd(
        dy, at.ins[0].shape[2:], **{k: v for k, v in at.attrs.items() if k != "size"}
    ),
    batch=(0, 0),
    samples=(
        Sample(t(2, 3, 3, 5), size=(5, 4), **_LINEAR),
        Sample(t(2, 1, 3, 2), size=(4, 3), **_LINEAR | dict(mode="cubic", align_corners=True)),
        Sample(t(1, 2, 5), size=(7,), mode="nearest", align_corners=False, scales=(1.5,)),
        Sample(t(2, 2, 3, 2, 4), size=(2, 4, 4), mode="nearest-exact", align_corners=False, scales=(None,) * 3),
        Sample(t(2, 2, 7, 3), size=(3, 5), **_AREA),
        *(Sample(t(1, 2, 2), size=(35,), **_ONE_AXIS | dict(mode=m), why_="long runs") for m in ("linear", "area")),
        Sample(t(0, 2, 3, 2), size=(4, 3), **_LINEAR),
        Sample(t(2, 2, 3, 4, layout="transposed"), size=(4, 4), **_LINEAR),
        Sample(t(2, 2, 3, 4, layout="strided"), size=(4, 3), **_AREA),
        Sample(t(2, 2, 3, 2, dtype="float64"), size=(2, 5), **_LINEAR),
    ),
    public=False,
    exempt={"resample": "gathers elements"},
)


def _bwd_rule(dy: Aval, *, spatial: Ints, **options: Any) -> Aval:
    return dy.with_shape((*dy.shape[:2], *spatial))


register(
    name="resample_nd_bwd",
    doc="""The gradient of `resample_nd`: dy (N, C, *size), weighted, added up at the elements (N, C, *spatial).""",
    signature=f"dy, spatial, {OPTIONS}",
    inputs=("dy",),
    outputs=("dx",),
    rule=_bwd_rule,
    vjp=lambda F, at, g: F.resample_nd(g, at.ins[0].shape[2:], **{k: v for k, v in at.attrs.items() if k != "spatial"}),
    batch=(0, 0),
    samples=(
        Sample(t(2, 3, 5, 4), spatial=(3, 5), **_LINEAR),
        Sample(t(2, 1, 4, 3), spatial=(3, 2), **_LINEAR | dict(mode="cubic", align_corners=True)),
        Sample(t(1, 2, 7), spatial=(5,), mode="nearest", align_corners=False, scales=(1.5,)),
        Sample(t(2, 2, 2, 4, 4), spatial=(3, 2, 4), mode="nearest-exact", align_corners=False, scales=(None,) * 3),
        Sample(t(2, 2, 3, 5), spatial=(7, 3), **_AREA),
        *(Sample(t(1, 2, 35), spatial=(2,), **_ONE_AXIS | dict(mode=m), why_="long runs") for m in ("linear", "area")),
        Sample(t(0, 2, 4, 3), spatial=(3, 2), **_LINEAR),
        Sample(t(2, 2, 4, 4, layout="transposed"), spatial=(3, 4), **_LINEAR),
        Sample(t(2, 2, 4, 3, layout="strided"), spatial=(3, 4), **_AREA),
        Sample(t(2, 2, 2, 5, dtype="float64"), spatial=(3, 2), **_LINEAR),
    ),
    public=False,
    exempt={"resample_bwd": "gathers elements"},
)


# --- PyTorch's name ---------------------------------------------------------------------------------------------------

# mode → (the primitive's name for it, numbers of spatial axes)
_MODES = {
    "nearest": ("nearest", (1, 2, 3)),
    "nearest-exact": ("nearest-exact", (1, 2, 3)),
    "linear": ("linear", (1,)),
    "bilinear": ("linear", (2,)),
    "trilinear": ("linear", (3,)),
    "bicubic": ("cubic", (2,)),
    "lanczos": ("lanczos", (2,)),
    "area": ("area", (1, 2, 3)),
}


def _per_axis(name: str, value: Any, n: int, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    listed = tuple(value) if isinstance(value, (tuple, list)) else (value,) * n
    fine = all(type(v) in kinds and math.isfinite(v) for v in listed)
    if len(listed) != n or not fine:
        kind = "an integer" if kinds == (int,) else "a number"
        raise ArgumentError(f"interpolate: {name}={value!r:.60} must be {kind}, or {n} of them, one per spatial axis.")
    return listed


def _resolved(input: Aval, size: Any, factors: Any) -> Ints:
    """The size of the result."""
    if factors is None:
        return size
    return tuple(int(s * f) for s, f in zip(input.shape[2:], factors, strict=True))


def _scale(kind: str, size: int, out: int, factor: float | None) -> float | None:
    """What positions along an axis go by, if not by the sizes. As in PyTorch, a linear mode leaves an axis that keeps
    its size as it is even with a factor, and bicubic lets a NaN reach its neighbours even there."""
    if size == out and kind in ("linear", "cubic"):
        return None if kind == "linear" else factor or 1.0
    return None if factor == 1 else factor


def _canon(
    input: Aval,
    *,
    size: Any,
    scale_factor: Any,
    mode: str,
    align_corners: bool | None,
    recompute_scale_factor: bool | None,
    antialias: bool,
) -> dict[str, Any]:
    if mode not in _MODES:
        raise ArgumentError(f"interpolate: mode={mode!r} is unknown. Use one of {', '.join(_MODES)}.")
    if antialias and (_MODES[mode][0] not in FILTERS or 2 not in _MODES[mode][1]):
        raise ArgumentError(f"interpolate: antialias=True does not go with mode={mode!r}. Use bilinear or bicubic.")
    if mode == "lanczos" and (not antialias or align_corners):
        raise ArgumentError("interpolate: mode='lanczos' needs antialias=True, and has no align_corners. Set them so.")
    n = input.ndim - 2
    if n not in _MODES[mode][1]:
        wanted = " or ".join(str(k + 2) for k in _MODES[mode][1])
        raise ShapeError(
            f"interpolate: mode={mode!r} needs {wanted} axes (N, C, *spatial), got shape {input.shape}. "
            "Use the mode for that number, or add an axis."
        )
    if align_corners is not None and _MODES[mode][0] not in FILTERS:
        raise ArgumentError(f"interpolate: align_corners has no meaning with mode={mode!r}. Leave it out.")
    if (size is None) == (scale_factor is None):
        raise ArgumentError(
            f"interpolate: size={size!r} and scale_factor={scale_factor!r}, but one of them is needed. Pass one."
        )
    if recompute_scale_factor and scale_factor is None:
        raise ArgumentError("interpolate: recompute_scale_factor has no meaning with a size. Leave it out.")
    if scale_factor is None:
        size = _per_axis("size", size, n, (int,))
    else:
        scale_factor = _per_axis("scale_factor", scale_factor, n, (int, float))
    return {
        "size": size,
        "scale_factor": scale_factor,
        "mode": mode,
        "align_corners": align_corners,
        "recompute_scale_factor": recompute_scale_factor,
        "antialias": bool(antialias),
    }


def _rule(input: Aval, *, size: Any, scale_factor: Any, mode: str, **rest: Any) -> Aval:
    if input.dtype != "uint8" or not mode.startswith("nearest"):
        need_float_yet("interpolate", input=input)
    size = _resolved(input, size, scale_factor)
    if min(input.shape[2:]) < 1 or min(size) < (0 if mode == "area" else 1):
        raise ShapeError(f"interpolate: from {input.shape[2:]} to {size} is not possible. Sizes must be at least 1.")
    return input.with_shape((*input.shape[:2], *size))


def _interpolate(
    F: Any,
    input: Any,
    *,
    size: Any,
    scale_factor: Any,
    mode: str,
    align_corners: bool | None,
    recompute_scale_factor: bool | None,
    antialias: bool,
) -> Any:
    kind, corners = _MODES[mode][0], bool(align_corners)
    sizes = F.aval(input).shape[2:]
    size = _resolved(F.aval(input), size, scale_factor)
    if kind == "area":
        return F.op(f"adaptive_avg_pool{len(size)}d", input, size)
    given = scale_factor if scale_factor and not (recompute_scale_factor or corners) else (None,) * len(size)
    if antialias:
        return antialiased(F, input, size, kind, corners, given)
    scales = tuple(_scale(kind, *axis) for axis in zip(sizes, size, given, strict=True))
    if F.aval(input).is_float:
        return F.resample_nd(input, size, kind, corners, scales)
    return F.cast(F.resample_nd(F.cast(input, "float32"), size, kind, corners, scales), F.aval(input).dtype)


register(
    name="interpolate",
    doc="""Resampled to another size. As torch.nn.functional.interpolate.

input (N, C, *spatial) with 1 to 3 spatial sizes. Either `size` or `scale_factor`, a number or one per axis, is given;
with a factor the size is ⌊factor · size⌋. The nearest modes take uint8, too. mode: "nearest", "nearest-exact", "linear"
(1 spatial axis), "bilinear", "bicubic" (2), "trilinear" (3) or "area" (means, as adaptive average pooling). Of the
linear modes and bicubic, `align_corners` maps the centres of the end elements, not their outer edges, onto one another.
Positions go by the given factor, unless `recompute_scale_factor` takes the ratio of the sizes. An axis that keeps its
size is left as it is.
With `antialias`, "bilinear", "bicubic" and "lanczos" take a wider part of an image that shrinks, by products with
matrices of weights: a NaN then reaches its whole row and column.""",
    signature="input, size=None, scale_factor=None, mode='nearest', align_corners=None, recompute_scale_factor=None, "
    "antialias=False",
    inputs=("input",),
    canon=_canon,
    rule=_rule,
    compose=_interpolate,
    samples=(
        Sample(t(2, 3, 5), size=7),
        Sample(t(2, 3, 3, 5), scale_factor=2),
        Sample(t(1, 2, 3, 2, 2), scale_factor=(1, 2.5, 0.5)),
        Sample(t(2, 1, 5, 3), size=(7, 2), mode="nearest-exact"),
        Sample(t(2, 1, 4, 3, dtype="uint8", fill="ints", low=0, high=255), size=(3, 7), why_="images of bytes"),
        Sample(t(2, 1, 7), scale_factor=1.3, mode="nearest-exact", why_="positions go by the factor"),
        Sample(t(2, 3, 5), size=8, mode="linear"),
        Sample(t(2, 3, 5), size=1, mode="linear", align_corners=True),
        Sample(t(2, 2, 3, 5), scale_factor=2, mode="bilinear"),
        Sample(t(2, 2, 3, 5), scale_factor=(1.7, 0.6), mode="bilinear"),
        Sample(t(2, 2, 3, 5), scale_factor=(1.7, 0.6), mode="bilinear", recompute_scale_factor=True),
        Sample(t(1, 2, 4, 3), size=(7, 5), mode="bilinear", align_corners=True),
        Sample(t(1, 1, 1, 1), size=(3, 2), mode="bilinear", why_="size 1"),
        Sample(t(1, 2, 2, 3, 2), size=(3, 2, 5), mode="trilinear"),
        Sample(t(1, 1, 3, 2, 3), size=(2, 3, 5), mode="trilinear", align_corners=True),
        Sample(t(1, 2, 4, 5), size=(7, 3), mode="bicubic"),
        Sample(t(1, 2, 3, 2), scale_factor=2.5, mode="bicubic", align_corners=True),
        Sample(t(1, 2, 3, 7), scale_factor=1.5, mode="bicubic", why_="positions go by the factor"),
        Sample(t(2, 2, 5, 4), size=(3, 2), mode="area"),
        *(Sample(t(2, 1, 5, 4), size=(2, 7), mode=mode, antialias=True) for mode in ("bilinear", "bicubic", "lanczos")),
        Sample(t(1, 2, 7, 5), scale_factor=(0.45, 1.3), mode="bicubic", antialias=True),
        Sample(t(1, 2, 7, 5), scale_factor=(0.45, 1.3), mode="bilinear", antialias=True, recompute_scale_factor=True),
        Sample(t(1, 2, 5, 4), size=(1, 7), mode="bilinear", antialias=True, align_corners=True),
        Sample(t(1, 2, 5, 1, layout="transposed"), size=(5, 3), mode="bicubic", antialias=True, align_corners=True),
        Sample(
            t(1, 1, 9, 9, dtype="bfloat16"),
            size=4,
            mode="bilinear",
            antialias=True,
            grad_=False,
            torch_=False,
            why_="PyTorch takes no bfloat16 on the CPU",
        ),
        Sample(t(1, 1, 5, fill=(1.0, NAN, 2.0, INF, 3.0)), size=9, mode="linear", grad_=False),
        Sample(t(0, 2, 3, 3), size=5, mode="bilinear", why_="no samples"),
        Sample(t(2, 2, 4, 3, layout="transposed"), size=5, mode="bilinear"),
        Sample(t(2, 2, 3, 4, dtype="float64"), size=5, mode="bilinear"),
    ),
    errors=(
        Bad(ArgumentError, "antialias=True does not go", t(1, 1, 3, 3), size=2, mode="area", antialias=True),
        Bad(ArgumentError, "antialias=True does not go", t(1, 1, 3), size=2, mode="linear", antialias=True),
        Bad(ArgumentError, "lanczos", t(1, 1, 3, 3), size=2, mode="lanczos"),
        Bad(ArgumentError, "lanczos", t(1, 1, 3, 3), size=2, mode="lanczos", antialias=True, align_corners=True),
        Bad(ArgumentError, "unknown", t(1, 1, 3), size=2, mode="cubic"),
        Bad(ShapeError, "needs 4 axes", t(1, 1, 3), size=2, mode="bilinear"),
        Bad(ShapeError, "needs 3 or 4 or 5 axes", t(3, 3), size=2),
        Bad(ArgumentError, "align_corners has no meaning", t(1, 1, 3), size=2, align_corners=False),
        Bad(ArgumentError, "one of them", t(1, 1, 3)),
        Bad(ArgumentError, "one of them", t(1, 1, 3), size=2, scale_factor=2),
        Bad(ArgumentError, "recompute_scale_factor", t(1, 1, 3), size=2, recompute_scale_factor=True),
        Bad(ArgumentError, "2 of them", t(1, 1, 3, 3), size=(2,)),
        Bad(ArgumentError, "an integer", t(1, 1, 3, 3), size=2.0),
        Bad(ArgumentError, "a number", t(1, 1, 3), scale_factor=float("inf")),
        Bad(ShapeError, "at least 1", t(1, 1, 3), size=0),
        Bad(ShapeError, "at least 1", t(1, 1, 3), scale_factor=0.3),
        Bad(ShapeError, "at least 1", t(1, 1, 0), size=3),
        Bad(UnsupportedError, "floating-point", t(1, 1, 3, dtype="int64", fill="ones"), size=2),
        Bad(UnsupportedError, "floating-point", t(1, 1, 3, dtype="uint8", fill="ones"), size=2, mode="linear"),
    ),
    perf=(
        Perf(t(16, 64, 28, 28), scale_factor=2, name_="nearest ×2"),
        Perf(t(16, 64, 28, 28), scale_factor=2, mode="bilinear", name_="bilinear ×2"),
        Perf(t(16, 3, 224, 224), size=160, mode="bilinear", name_="resized images"),
    ),
    torch="torch.nn.functional.interpolate",
)
