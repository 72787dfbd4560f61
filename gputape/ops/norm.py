"""Cards of the norms over the last axes."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, need_float, need_same_dtype
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t

RESOLUTION = {"float32": 2.0**-23, "float64": 2.0**-52}


def statistics_dtype(input: Aval) -> str:
    """The dtype of means and deviations of an array."""
    return "float64" if input.dtype == "float64" else "float32"


def _canon(name: str) -> Any:
    def canon(input: Aval, *avals: Any, normalized_shape: Any, **attrs: Any) -> dict[str, Any]:
        listed = tuple(normalized_shape) if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
        if not listed or any(isinstance(n, bool) or not isinstance(n, int) for n in listed):
            raise ArgumentError(
                f"{name}: normalized_shape={normalized_shape!r} must be an integer or a tuple of them. "
                "Give the sizes of the last axes to normalise over."
            )
        if attrs.get("eps", 0.0) is None:
            attrs["eps"] = RESOLUTION[statistics_dtype(input)]
        return {"normalized_shape": listed, **attrs}

    return canon


def _check(name: str, input: Aval, normalized_shape: tuple[int, ...], **affine: Aval | None) -> tuple[int, ...]:
    """The leading sizes; raises unless the input ends in `normalized_shape` and the affine parameters have it."""
    need_float(name, input=input, **affine)
    need_same_dtype(name, input=input, **affine)
    lead = input.ndim - len(normalized_shape)
    if lead < 0 or input.shape[lead:] != normalized_shape:
        raise ShapeError(
            f"{name}: the input's shape {input.shape} does not end in normalized_shape {normalized_shape}. "
            "Give the sizes of its last axes."
        )
    for key, a in affine.items():
        if a is not None and a.shape != normalized_shape:
            raise ShapeError(
                f"{name}: {key} has shape {a.shape}, but normalized_shape is {normalized_shape} "
                f"(input: {input}). Give {key} that shape."
            )
    return input.shape[:lead]


# --- gradients, shared by all norms -----------------------------------------------------------------------------------


class Axes:
    """How the parts of a norm broadcast: statistics as `stat`, weight and bias as `param`, over `count` elements."""

    def __init__(self, stat: tuple[int, ...], param: tuple[int, ...], count: int) -> None:
        self.stat, self.param, self.count = stat, param, count

    def mean(self, F: Any, x: Any) -> Any:
        """The mean of x over the normalised axes, of shape `stat`."""
        return F.scale(self.total(F, x), 1 / max(self.count, 1))

    def total(self, F: Any, x: Any) -> Any:
        return x if F.aval(x).shape == self.stat else F.sum_to(x, self.stat)


def as_shape(F: Any, x: Any, shape: tuple[int, ...]) -> Any:
    return x if F.aval(x).shape == shape else F.reshape(x, shape)


def as_aval(F: Any, x: Any, aval: Aval) -> Any:
    """x with the dtype and (by summing what was broadcast, then by reshaping) the shape of `aval`."""
    if F.aval(x).dtype != aval.dtype:
        x = F.cast(x, aval.dtype)
    return as_shape(F, x, aval.shape)


def add_up(F: Any, *terms: Any) -> Any:
    """The sum of the terms that are there, or None."""
    total = None
    for x in terms:
        if x is not None:
            total = x if total is None else F.add(total, x)
    return total


def through_statistics(F: Any, axes: Axes, x: Any, mean: Any, rstd: Any, dmean: Any, drstd: Any) -> Any:
    """What cotangents of mean and rstd add to that of the input: (dmean - drstd · rstd³ · (x - mean)) / count."""
    n = 1 / max(axes.count, 1)
    spread = lambda g: F.expand(as_shape(F, g, axes.stat), F.aval(x).shape)  # noqa: E731
    first = None if dmean is None else F.scale(spread(dmean), n)
    if drstd is None:
        return first
    r = as_shape(F, rstd, axes.stat)
    slope = F.mul(as_shape(F, drstd, axes.stat), F.mul(r, F.square(r)))
    centred = F.sub(x, as_shape(F, mean, axes.stat)) if mean is not None else x
    return add_up(F, first, F.scale(F.mul(centred, slope), -n))


def backward_of_backward(
    F: Any, needs: Any, axes: Axes, grads: Any, dy: Any, x: Any, weight: Any, mean: Any, rstd: Any, project: Any
) -> tuple[Any, ...]:
    """The vjp of a norm's gradient: cotangents of (dy, x, weight, mean, rstd) from those of (dx, dweight, dbias).

    With n = (x - mean)·rstd, g = dy·weight and M the mean over the normalised axes,
    dx = rstd·(g - M(g) - n·M(g·n)), dweight = Σ dy·n, dbias = Σ dy. `project(c)` is dx for g = c, a linear map that is
    its own transpose. mean is None for a norm that subtracts none (then M(g) is left out).
    """
    cx, cw, cb = grads
    r = as_shape(F, rstd, axes.stat)
    centred = x if mean is None else F.sub(x, as_shape(F, mean, axes.stat))
    n = F.mul(centred, r)
    w = None if weight is None else as_shape(F, weight, axes.param)
    cw, cb = (None if c is None else as_shape(F, c, axes.param) for c in (cw, cb))
    weighted = lambda z: z if w is None else F.mul(z, w)  # noqa: E731
    g = weighted(dy)
    need_dy, need_x, need_w, need_mean, need_r = needs
    dg = None if cx is None else project(cx)
    out: list[Any] = [None] * 5
    if need_dy:
        spread = None if cb is None else F.expand(cb, F.aval(dy).shape)
        out[0] = add_up(F, None if dg is None else weighted(dg), None if cw is None else F.mul(n, cw), spread)
    if need_w and dg is not None:
        out[2] = F.sum_to(F.mul(dy, dg), axes.param)
    if need_x or need_mean or need_r:
        dn = None if cw is None else F.mul(dy, cw)
        if cx is not None:
            s, gn = F.mul(cx, r), axes.mean(F, F.mul(g, n))
            sn = axes.mean(F, F.mul(s, n))
            dn = add_up(F, dn, F.neg(F.add(F.mul(s, gn), F.mul(g, sn))))
        if dn is not None:
            dcentred = F.mul(dn, r)
            out[1] = dcentred if need_x else None
            out[3] = F.neg(axes.total(F, dcentred)) if need_mean and mean is not None else None
            if need_r:
                dr = axes.total(F, F.mul(dn, centred))
                if cx is not None:
                    h = F.sub(g if mean is None else F.sub(g, axes.mean(F, g)), F.mul(n, gn))
                    dr = F.add(dr, axes.total(F, F.mul(cx, h)))
                out[4] = dr
    arrays = (dy, x, weight, mean, rstd)
    return tuple(None if z is None else as_aval(F, z, F.aval(a)) for z, a in zip(out, arrays, strict=True))


def gradient_avals(
    input: Aval, weight: Aval | None, shape: tuple[int, ...], needs: tuple[bool, ...]
) -> tuple[Any, ...]:
    """The avals of (dx, dweight, dbias), None where not needed."""
    made = (input, weight, input.with_shape(shape))
    return tuple(a if need else None for a, need in zip(made, needs, strict=True))


# --- layer_norm -------------------------------------------------------------------------------------------------------


def _layer_norm_rule(
    input: Aval, weight: Aval | None, bias: Aval | None, *, normalized_shape: tuple[int, ...], eps: float
) -> tuple[Aval, ...]:
    lead = _check("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    stat = Aval(lead, statistics_dtype(input))
    return input, stat, stat


def _last_axes(x: Aval, normalized_shape: tuple[int, ...]) -> Axes:
    lead = x.shape[: x.ndim - len(normalized_shape)]
    return Axes((*lead, *(1,) * len(normalized_shape)), normalized_shape, math.prod(normalized_shape))


def _layer_norm_vjp(F: Any, at: At, grads: Any, input: Any, weight: Any, mean: Any, rstd: Any) -> Any:
    dy, dmean, drstd = grads
    shape = at.attrs["normalized_shape"]
    dx = dweight = dbias = None
    if dy is not None:
        dx, dweight, dbias = F.layer_norm_bwd(dy, input, weight, mean, rstd, shape, at.needs)
    if at.needs[0] and (dmean is not None or drstd is not None):
        more = through_statistics(F, _last_axes(at.ins[0], shape), input, mean, rstd, dmean, drstd)
        dx = as_aval(F, add_up(F, dx, more), at.ins[0])
    return dx, dweight, dbias


_OFFSET = {"fill": "uniform", "low": 1e4, "high": 1e4 + 2}
_FAR_OFFSET = {"fill": "uniform", "low": 1e6, "high": 1e6 + 4}

_LAYERS = (("gpt", (16, 64), 128), ("", (8192,), 768), ("large", (4096,), 4096))  # name, rows, columns

register(
    name="layer_norm",
    doc="""(input - mean) / √(var + eps) · weight + bias over the last axes; var is the biased variance of those axes.

    normalized_shape: the sizes of these axes; weight and bias have that shape, or are None. One floating-point dtype.
    mean and rstd = 1/√(var + eps), of the leading axes' shape, are float32 (float64 for float64). The variance is taken
    from the centred values, so a large common offset costs no precision. Over a single element the result is the bias
    and the gradient 0. Ba, Kiros and Hinton 2016; as torch.nn.functional.layer_norm.
    """,
    signature="input, normalized_shape, weight=None, bias=None, eps=1e-05",
    precision="wide",
    inputs=("input", "weight", "bias"),
    outputs=("y", "mean", "rstd"),
    canon=_canon("layer_norm"),
    rule=_layer_norm_rule,
    vjp=_layer_norm_vjp,
    saves=("input", "weight", "mean", "rstd"),
    batch=(0, None, None, 0, 0, 0),
    samples=(
        Sample(t(5, 7), t(7), t(7), normalized_shape=7),
        Sample(t(3, 4, 5), t(4, 5), t(4, 5), normalized_shape=(4, 5), eps=1e-3),
        Sample(t(3, 5), normalized_shape=(5,), why_="no weight, no bias"),
        Sample(t(3, 5), t(5), normalized_shape=(5,), why_="no bias"),
        Sample(t(3, 5), None, t(5), normalized_shape=(5,), why_="no weight"),
        Sample(t(7), t(7), t(7), normalized_shape=7, why_="unbatched"),
        Sample(t(4, 1), t(1), t(1), normalized_shape=1, why_="one feature: dx = 0"),
        Sample(t(3, 4, fill="ones"), t(4), t(4), normalized_shape=4, eps=1.0, why_="a constant row: y = bias"),
        Sample(t(3, 61, **_OFFSET), t(61), t(61), normalized_shape=61, why_="offset: E[x²] - E[x]² would cancel"),
        Sample(t(3, 64, **_FAR_OFFSET), normalized_shape=64, why_="PyTorch itself is off by 0.1"),
        Sample(t(0, 5), t(5), t(5), normalized_shape=5, why_="no rows"),
        Sample(t(4, 6, layout="transposed"), t(6, layout="strided"), t(6, layout="flipped"), normalized_shape=6),
        Sample(t(2, 3, 6, layout="strided"), t(6), t(6), normalized_shape=6),
        Sample(t(5, 7, dtype="float64"), t(7, dtype="float64"), t(7, dtype="float64"), normalized_shape=7),
        Sample(t(5, 7, dtype="bfloat16"), t(7, dtype="bfloat16"), t(7, dtype="bfloat16"), normalized_shape=7),
        Sample(t(2, 4, fill=((1.0, float("nan"), 2.0, 0.0), (1.0, 2.0, 3.0, 5.0))), normalized_shape=4, grad_=False),
    ),
    errors=(
        Bad(ShapeError, r"does not end in normalized_shape \(6,\)", t(5, 7), t(6), t(6), normalized_shape=6),
        Bad(ShapeError, "does not end in", t(7), normalized_shape=(5, 7)),
        Bad(ShapeError, r"weight has shape \(5,\)", t(5, 7), t(5), t(7), normalized_shape=7),
        Bad(ShapeError, r"bias has shape \(1,\)", t(5, 7), t(7), t(1), normalized_shape=7),
        Bad(ArgumentError, "normalized_shape=\\(\\)", t(5, 7), normalized_shape=()),
        Bad(ArgumentError, "normalized_shape=7.0", t(5, 7), normalized_shape=7.0),
        Bad(DTypeError, "floating-point", t(5, 7, dtype="int64", fill="ones"), normalized_shape=7),
        Bad(DTypeError, "different dtypes", t(5, 7), t(7, dtype="float64"), normalized_shape=7),
    ),
    perf=(*(Perf(t(*lead, n), t(n), t(n), normalized_shape=n, name_=name) for name, lead, n in _LAYERS),),
    torch="torch.nn.functional.layer_norm",
)


def _layer_norm_bwd_rule(
    dy: Aval, input: Aval, weight: Any, *rest: Any, normalized_shape: Any, needs: tuple[bool, ...]
) -> tuple[Aval | None, ...]:
    return gradient_avals(input, weight, normalized_shape, needs)


def _layer_norm_bwd_vjp(F: Any, at: At, grads: Any, dy: Any, input: Any, weight: Any, mean: Any, rstd: Any) -> Any:
    shape = at.attrs["normalized_shape"]
    axes = _last_axes(at.ins[1], shape)
    project = lambda c: F.layer_norm_bwd(c, input, None, mean, rstd, shape, (True, False, False))[0]  # noqa: E731
    found = backward_of_backward(F, at.needs[:5], axes, grads, dy, input, weight, mean, rstd, project)
    return *found, grads[0] if at.needs[5] else None


register(
    name="layer_norm_bwd",
    doc="""Gradients of layer_norm: dx, dweight and dbias, None where `needs` is false.

    dx = rstd · (g - M(g) - n · M(g · n)), dweight = Σ dy · n, dbias = Σ dy, with g = dy · weight,
    n = (input - mean) · rstd, M the mean over the normalised axes and Σ over the leading ones. mean and rstd must be
    those of this input: n may be centred anew, since mean was rounded. Compiled programs add `residual`, of dx's
    shape, to dx: the gradient that reaches the input past the norm.
    """,
    signature="dy, input, weight, mean, rstd, normalized_shape, needs, residual=None",
    inputs=("dy", "input", "weight", "mean", "rstd", "residual"),
    outputs=("dx", "dweight", "dbias"),
    returns=3,
    rule=_layer_norm_bwd_rule,
    vjp=_layer_norm_bwd_vjp,
    saves=("dy", "input", "weight", "mean", "rstd"),
    batch=lambda dy, *_, normalized_shape, needs: (
        (0, 0, None, 0, 0, 0, 0, "sum", "sum") if dy.ndim > len(normalized_shape) else "none"
    ),
    perf=tuple(
        Perf(
            *(t(*lead, n), t(*lead, n), t(n), t(*lead, stat=True), t(*lead, stat=True)),
            normalized_shape=(n,),
            needs=(True, True, True),
            name_=name,
        )
        for name, lead, n in _LAYERS
    ),
    public=False,
)


# --- rms_norm ---------------------------------------------------------------------------------------------------------


def _rms_norm_rule(
    input: Aval, weight: Aval | None, *, normalized_shape: tuple[int, ...], eps: float
) -> tuple[Aval, ...]:
    lead = _check("rms_norm", input, normalized_shape, weight=weight)
    return input, Aval(lead, statistics_dtype(input))


def _rms_norm_vjp(F: Any, at: At, grads: Any, input: Any, weight: Any, rstd: Any) -> Any:
    dy, drstd = grads
    shape = at.attrs["normalized_shape"]
    dx = dweight = None
    if dy is not None:
        dx, dweight = F.rms_norm_bwd(dy, input, weight, rstd, shape, at.needs)
    if at.needs[0] and drstd is not None:
        more = through_statistics(F, _last_axes(at.ins[0], shape), input, None, rstd, None, drstd)
        dx = as_aval(F, add_up(F, dx, more), at.ins[0])
    return dx, dweight


register(
    name="rms_norm",
    doc="""input / √(mean of input² + eps) · weight over the last axes, whose sizes are normalized_shape.

    eps None is the resolution of float32, of float64 for float64. Zhang and Sennrich 2019; as
    torch.nn.functional.rms_norm.
    """,
    signature="input, normalized_shape, weight=None, eps=None",
    precision="wide",
    inputs=("input", "weight"),
    outputs=("y", "rstd"),
    canon=_canon("rms_norm"),
    rule=_rms_norm_rule,
    vjp=_rms_norm_vjp,
    saves=("input", "weight", "rstd"),
    batch=(0, None, 0, 0),
    samples=(
        Sample(t(5, 7), t(7), normalized_shape=7),
        Sample(t(3, 4, 5), t(4, 5), normalized_shape=(4, 5), eps=1e-3),
        Sample(t(3, 5), normalized_shape=(5,), why_="no weight"),
        Sample(t(7), t(7), normalized_shape=7, why_="unbatched"),
        Sample(t(4, 1), t(1), normalized_shape=1, eps=0.1, why_="one feature: a smoothed sign"),
        Sample(t(0, 5), t(5), normalized_shape=5, why_="no rows"),
        Sample(t(4, 6, layout="transposed"), t(6, layout="strided"), normalized_shape=6),
        Sample(t(5, 7, dtype="float64"), t(7, dtype="float64"), normalized_shape=7),
        Sample(t(5, 7, dtype="bfloat16"), t(7, dtype="bfloat16"), normalized_shape=7, eps=1e-6),
        Sample(t(2, 4, dtype="bfloat16", fill=1e-3), normalized_shape=4, grad_=False, why_="eps in 16 bit"),
    ),
    errors=(
        Bad(ShapeError, "does not end in", t(5, 7), t(6), normalized_shape=6),
        Bad(ShapeError, r"weight has shape \(5,\)", t(5, 7), t(5), normalized_shape=7),
        Bad(ArgumentError, "normalized_shape=\\(\\)", t(5, 7), normalized_shape=()),
        Bad(DTypeError, "floating-point", t(5, 7, dtype="int64", fill="ones"), normalized_shape=7),
    ),
    perf=(Perf(t(16, 64, 128), t(128), normalized_shape=128, name_="gpt"),),
    torch="torch.nn.functional.rms_norm",
)


def _rms_norm_bwd_vjp(F: Any, at: At, grads: Any, dy: Any, input: Any, weight: Any, rstd: Any) -> Any:
    shape = at.attrs["normalized_shape"]
    project = lambda c: F.rms_norm_bwd(c, input, None, rstd, shape, (True, False))[0]  # noqa: E731
    needs = (*at.needs[:3], False, at.needs[3])
    axes = _last_axes(at.ins[1], shape)
    found = backward_of_backward(F, needs, axes, (*grads, None), dy, input, weight, None, rstd, project)
    return *found[:3], found[4], grads[0] if at.needs[4] else None


register(
    name="rms_norm_bwd",
    doc="""Gradients of rms_norm: dx and dweight, None where `needs` is false.

    dx = rstd · (g - n · M(g · n)), dweight = Σ dy · n, with g = dy · weight, n = input · rstd, M the mean over the
    normalised axes and Σ over the leading ones. `residual` as of layer_norm_bwd.
    """,
    signature="dy, input, weight, rstd, normalized_shape, needs, residual=None",
    inputs=("dy", "input", "weight", "rstd", "residual"),
    outputs=("dx", "dweight"),
    returns=2,
    rule=lambda dy, input, weight, *rest, normalized_shape, needs: gradient_avals(
        input, weight, normalized_shape, (*needs, False)
    )[:2],
    vjp=_rms_norm_bwd_vjp,
    batch=lambda dy, *_, normalized_shape, needs: (
        (0, 0, None, 0, 0, 0, "sum") if dy.ndim > len(normalized_shape) else "none"
    ),
    saves=("dy", "input", "weight", "rstd"),
    public=False,
)
