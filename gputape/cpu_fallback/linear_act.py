"""Body of the affine map with an activation and a residual, in few passes over the product."""

from __future__ import annotations

from collections.abc import Callable
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


def _ending_buffers(z: Aval, *, activation: str, options: Any, keep: bool) -> list[Aval]:
    """The scratch of the activation's bodies. Those that do not work in place have z before, and, for a slope, ones."""
    kind = _saved_of(activation)
    if kind is None:
        return []
    if activation == "gelu" and keep:
        return [z] * 4
    body, backward = _bodies(activation)
    if kind == "slope" and not keep:
        return [z, *_own(body, z, options=options)]
    if kind == "y":
        return _own(body, z, options=options)
    return [z, z, *_own(body, z, options=options), *_own(backward, z, z, options=options)]


def _activated(
    xp: Any,
    affine: Callable[[Any], None],
    y: Any,
    saved: Any,
    scratch: Any,
    *,
    activation: str,
    options: Any,
    keep: bool,
) -> Any:
    """The array that holds the activation of what `affine(z)` writes to z: `y`, or `saved` if that is to hold it."""
    kind, given = _saved_of(activation), dict(options)
    if kind is None:
        affine(y)
    elif kind == "y":  # such activations work in place
        h = y if saved is None else saved
        affine(h)
        _run(xp, _bodies(activation)[0], (h, h), given, scratch)
        return h
    elif not keep:
        z, *rest = scratch
        affine(z)
        _run(xp, _bodies(activation)[0], (y, z), given, rest)
    elif activation == "gelu":
        affine(saved)
        _gelu_and_slope(xp, y, saved, *scratch, **given)
    else:
        z, ones, *rest = scratch
        body, backward = _bodies(activation)
        own = len(_own(body, _aval(z), options=options))
        affine(z)
        ones.fill(1)
        _run(xp, body, (y, z), given, rest[:own])
        _run(xp, backward, (saved, ones, z), given, rest[own:])
    return y


def _buffers(input: Aval, weight: Aval, *others: Any, **ending: Any) -> list[Aval]:
    """What the product may need, then the scratch of the activation."""
    z = input.with_shape((*input.shape[:-1], weight.shape[0]))
    return [*_linear._spare(input, weight), *_ending_buffers(z, **ending)]


@_scratch(_buffers)
def linear_act(
    xp: Any, y: Any, saved: Any, input: Any, weight: Any, bias: Any, residual: Any, *, scratch: Any = (), **ending: Any
) -> None:
    count = len(_linear._spare(_aval(input), _aval(weight)))
    affine = lambda z: _linear.linear(xp, z, input, weight, bias, scratch=scratch[:count])  # noqa: E731
    h = _activated(xp, affine, y, saved, scratch[count:], **ending)
    if residual is not None:
        xp.add(h, residual, out=y)


def _run(xp: Any, body: Any, arrays: tuple[Any, ...], options: dict[str, Any], scratch: Any) -> None:
    body(xp, *arrays, **options, **({"scratch": list(scratch)} if scratch else {}))


def _aval(x: Any) -> Aval:
    return Aval(x.shape, x.dtype.name)
