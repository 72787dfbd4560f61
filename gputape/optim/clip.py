"""Gradient clipping. Gradients are values, so the clipped ones are returned; names as in torch.nn.utils."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any

from ..dispatch import call, interpreter
from ..errors import ArgumentError, GradientError
from .optimizer import check_number


def clip_grad_norm_(
    grads: Mapping[Any, Any], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> tuple[dict[Any, Any], Any]:
    """Scale all gradients down together so that their norm, as of one long vector, is at most `max_norm`.

    Args:
        grads: {parameter: gradient}, as `tape.backward` gives it; of a `GradScaler`, after `unscale_`.
        norm_type: p of the p-norm; `math.inf` for the largest absolute value.
        error_if_nonfinite: check the norm on the host, which waits for the device.

    Returns:
        ({parameter: gradient}, the norm before clipping as a float32 scalar).

    Raises:
        ArgumentError: a number out of its range.
        GradientError: the norm is not finite, and `error_if_nonfinite` was asked for.
    """
    limit = check_number("clip_grad_norm_", "max_norm", max_norm)
    p = math.inf if norm_type in (math.inf, "inf") else check_number("clip_grad_norm_", "norm_type", norm_type)
    if p == 0:
        raise ArgumentError("clip_grad_norm_: norm_type=0 is not a norm. Use a number above 0, or math.inf.")
    present = {key: g for key, g in grads.items() if g is not None}
    parts = [_power_sum(g, p) for g in present.values() if math.prod(g.shape)]
    total = reduce(
        lambda a, b: call("maximum" if p == math.inf else "add", a, b), parts, interpreter().const(0.0, "float32")
    )
    norm = total if p == math.inf else call("sqrt", total) if p == 2 else call("pow", total, 1 / p)
    if error_if_nonfinite and not math.isfinite(value := float(interpreter().read(norm))):
        raise GradientError(
            f"clip_grad_norm_: the norm of the gradients is {value}. Look for its source with gt.detect_anomaly(), or "
            "leave error_if_nonfinite out."
        )
    factor = call("clamp", call("div", limit, call("add", norm, 1e-6)), None, 1.0)
    return {key: call("mul", g, call("cast", factor, str(g.dtype))) for key, g in present.items()}, norm


def _power_sum(g: Any, p: float) -> Any:
    """Σ |g|ᵖ in float32, or the largest |g|."""
    g = call("cast", g, "float32")
    if p == math.inf:
        return call("amax", call("abs", g))
    return call("sum", call("square", g) if p == 2 else call("pow", call("abs", g), p))


def clip_grad_value_(grads: Mapping[Any, Any], clip_value: float) -> dict[Any, Any]:
    """The gradients with every element brought to [-clip_value, clip_value].

    Raises:
        ArgumentError: the value is negative or not finite.
    """
    limit = check_number("clip_grad_value_", "clip_value", clip_value)
    return {key: call("clamp", g, -limit, limit) for key, g in grads.items() if g is not None}
