"""Cards of dynamic loss scaling: gradients scaled back and checked, and the scale moved. See `optim.GradScaler`."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, need_float
from ..errors import DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, T, t

NAN, INF = float("nan"), float("inf")
YES, NO = t(dtype="bool", fill="ones"), t(dtype="bool", fill="zeros")


def _need_scalars(op: str, scale: Aval, found: Aval) -> None:
    need_float(op, scale=scale)
    for name, a in (("scale", scale), ("found", found)):
        if a.shape:
            raise ShapeError(f"{op}: {name} has shape {a.shape}, but must be a scalar of shape (). Reduce it.")
    if found.dtype != "bool":
        raise DTypeError(f"{op}: found is {found.dtype}, but bool is needed. Compare, for example gt.ne(found, 0).")


def _unscale_rule(grad: Aval, scale: Aval, found: Aval) -> tuple[Aval, Aval]:
    need_float("unscale", grad=grad)
    _need_scalars("unscale", scale, found)
    return grad, Aval((), "bool")


register(
    name="unscale",
    doc="""grad · (1 / scale), and whether an element of grad is NaN or infinite, or `found` was True before.

    As torch._amp_foreach_non_finite_check_and_unscale_ on one tensor, out of place.""",
    signature="grad, scale, found",
    inputs=("grad", "scale", "found"),
    outputs=("y", "now_found"),
    returns=2,
    rule=_unscale_rule,
    samples=(
        Sample(t(5, 3), t(fill=(4.0)), NO, grad_=False),
        Sample(t(5, 3), t(fill=(3.0)), YES, grad_=False, why_="found in another gradient"),
        Sample(t(3, fill=(1.0, NAN, 2.0)), t(fill=(4.0)), NO, grad_=False),
        Sample(t(3, fill=(1.0, -2.0, -INF)), t(fill=(4.0)), NO, grad_=False),
        Sample(t(), t(fill=(1.0)), NO, grad_=False, why_="a scalar"),
        Sample(t(0, 3), t(fill=(4.0)), NO, grad_=False, why_="no elements: none is infinite"),
        Sample(t(0), t(fill=(4.0)), YES, grad_=False),
        Sample(t(4, 6, layout="transposed"), t(fill=(4.0)), NO, grad_=False),
        Sample(t(7, dtype="float64"), t(fill=(4.0)), NO, grad_=False),
        Sample(t(7, dtype="bfloat16"), t(fill=(3.0)), NO, grad_=False),
    ),
    errors=(
        Bad(ShapeError, r"scale has shape \(3,\)", t(3), t(3), NO),
        Bad(DTypeError, "found is float32", t(3), t(), t()),
        Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"), t(), NO),
    ),
    perf=(Perf(t(784, 128), t(), NO, name_="mlp"), Perf(t(4096, 4096), t(), NO, name_="large")),
    public=False,
    exempt={"any_found": "one program, which reads a few flags"},
)


def _update_scale_rule(scale: Aval, tracker: Aval, found: Aval, **attrs: Any) -> tuple[Aval, Aval]:
    _need_scalars("update_scale", scale, found)
    if tracker.shape or tracker.dtype != "int32":
        raise DTypeError(f"update_scale: tracker is {tracker}, but int32 of shape () is needed. Cast it with gt.cast.")
    return scale, tracker


def _scale_sample(scale: float, count: int, found: T, **options: Any) -> Sample:
    return Sample(t(fill=(scale)), t(dtype="int32", fill=(count)), found, grad_=False, **options)


register(
    name="update_scale",
    doc="""The loss scale of the next step, and the number of steps in a row without a gradient that is not finite.

    found: scale · backoff_factor, 0. Otherwise the count goes up by one; when it reaches growth_interval, the scale is
    multiplied by growth_factor (unless that overflows) and the count starts at 0. As torch._amp_update_scale_, whose
    product is in float64.""",
    signature="scale, tracker, found, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000",
    inputs=("scale", "tracker", "found"),
    outputs=("new_scale", "new_tracker"),
    returns=2,
    rule=_update_scale_rule,
    samples=(
        _scale_sample(1024.0, 0, NO),
        _scale_sample(1024.0, 1998, NO),
        _scale_sample(1024.0, 1999, NO),
        _scale_sample(1024.0, 1999, YES),
        _scale_sample(3.0, 4, NO, growth_factor=1.1, growth_interval=5),
        _scale_sample(3.0, 0, YES, backoff_factor=0.3),
        _scale_sample(1.0, 0, NO, growth_interval=1),
        _scale_sample(INF, 5, YES),
        Sample(t(dtype="float64", fill=(3.0)), t(dtype="int32", fill="zeros"), YES, grad_=False),
    ),
    errors=(
        Bad(ShapeError, r"scale has shape \(2,\)", t(2), t(dtype="int32", fill="zeros"), NO),
        Bad(DTypeError, r"tracker is \(\) int64", t(), t(dtype="int64", fill="zeros"), NO),
        Bad(DTypeError, "found is int64", t(), t(dtype="int32", fill="zeros"), t(dtype="int64", fill="zeros")),
    ),
    public=False,
    exempt={"update_scale": "one number"},
)
