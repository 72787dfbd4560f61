"""Body of the affine map with an activation and a residual, in few passes over the product."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..backend import backend as _backend
from ..backend import scratch as _scratch
from ..ops.linear_act import saved_of as _saved_of
from . import linear as _linear
from .activation import _gelu_and_slope


def _bodies(activation: str) -> tuple[Any, Any]:
    """Those of an activation and its gradient."""
    bodies = _backend("cpu").bodies
    return bodies[activation], bodies[f"{activation}_bwd"]


def _own(body: Any, *avals: Aval, options: Any) -> list[Aval]:
    declared = getattr(body, "scratch", None)
    return [] if declared is None else list(declared(*avals, **dict(options)))


def _buffers(input: Aval, weight: Aval, *others: Any, activation: str, options: Any, keep: bool) -> list[Aval]:
    """What the product may need, and the scratch of the activation's bodies. Those that do not work in place have z
    before, and, for a slope, ones."""
    z, kind = input.with_shape((*input.shape[:-1], weight.shape[0])), _saved_of(activation)
    spare = _linear._spare(input, weight)
    if kind is None:
        return spare
    if activation == "gelu" and keep:
        return [*spare, *[z] * 4]
    body, backward = _bodies(activation)
    if kind == "slope" and not keep:
        return [*spare, z, *_own(body, z, options=options)]
    if kind == "y":
        return [*spare, *_own(body, z, options=options)]
    return [*spare, z, z, *_own(body, z, options=options), *_own(backward, z, z, options=options)]


@_scratch(_buffers)
def linear_act(
    xp: Any,
    y: Any,
    saved: Any,
    input: Any,
    weight: Any,
    bias: Any,
    residual: Any,
    *,
    activation: str,
    options: Any,
    keep: bool,
    scratch: Any = (),
) -> None:
    kind, given = _saved_of(activation), dict(options)
    count = len(_linear._spare(_aval(input), _aval(weight)))
    spare, scratch = scratch[:count], scratch[count:]
    if kind is None:
        _linear.linear(xp, y, input, weight, bias, scratch=spare)
        h = y
    elif kind == "y":  # such activations work in place
        h = y if saved is None else saved
        _linear.linear(xp, h, input, weight, bias, scratch=spare)
        _run(xp, _bodies(activation)[0], (h, h), given, scratch)
    elif not keep:
        h = y
        z, *rest = scratch
        _linear.linear(xp, z, input, weight, bias, scratch=spare)
        _run(xp, _bodies(activation)[0], (h, z), given, rest)
    elif activation == "gelu":
        h = y
        _linear.linear(xp, saved, input, weight, bias, scratch=spare)
        _gelu_and_slope(xp, y, saved, *scratch, **given)
    else:
        h = y
        z, ones, *rest = scratch
        body, backward = _bodies(activation)
        own = len(_own(body, _aval(z), options=options))
        _linear.linear(xp, z, input, weight, bias, scratch=spare)
        ones.fill(1)
        _run(xp, body, (y, z), given, rest[:own])
        _run(xp, backward, (saved, ones, z), given, rest[own:])
    if residual is not None:
        xp.add(h, residual, out=y)


def _run(xp: Any, body: Any, arrays: tuple[Any, ...], options: dict[str, Any], scratch: Any) -> None:
    body(xp, *arrays, **options, **({"scratch": list(scratch)} if scratch else {}))


def _aval(x: Any) -> Aval:
    return Aval(x.shape, x.dtype.name)
