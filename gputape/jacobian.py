"""Whole Jacobians and Hessians."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .dispatch import FUNCTIONS, interpreter
from .transforms import Called, linear, outside
from .tree import flatten
from .variable import ACTIVE


def jacobian(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the derivative of every element of `f(...)` by every element of its arguments. As
    jax.jacobian and torch.func.jacrev.

    Each array is of shape (*result.shape, *argument.shape). They nest as the result, in that as `argnums` (an int
    gives one, a sequence a tuple), in that as the argument. `f` is called once; then there is one backward per element
    of the result, or per element of the arguments where these are fewer, all ops of `f` are of any order, and no
    recording is active.

    Args:
        f: returns an array or a nest of arrays, or `(result, aux)` with `has_aux`.
        argnums: which positional arguments to differentiate.
        has_aux: the function then returns `(jacobian, aux)`.

    Raises:
        DTypeError: an argument in `argnums` holds integers.
        ArgumentError: the result is not a value, or there is no such argument.
        TapeError: a result holds integers.
    """

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        called = Called("jacobian", f, args, kwargs, argnums, has_aux, retain=True)
        called.refuse_integers()
        results, build = flatten(called.out)
        out = build([called.nest(outside(_of(called, y))) for y in results])
        return (out, outside(called.aux)) if has_aux else out

    return wrapped


def hessian(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the second derivatives of `f(...)`: the Jacobian of its Jacobian. As jax.hessian and
    torch.func.hessian.

    Each array is of shape (*result.shape, *argument.shape, *argument.shape); for several arguments they nest as a tuple
    of tuples, row by row.

    Raises:
        UnsupportedError: `f` uses an op whose card says order 1.
    """
    return jacobian(jacobian(f, argnums, has_aux), argnums, has_aux)


def _of(called: Called, y: Any) -> list[Any]:
    """The Jacobian of one result by each leaf."""
    columns = sum(x.aval.size for x in called.leaves)
    orders = {node.at.op.order for node in called.rec.nodes if node.requires_grad}
    forward = ACTIVE.get() is None and hasattr(y, "aval") and columns < y.aval.size and orders <= {"any"}
    return _by_columns(called, y) if forward else _by_rows(called, y)


def _by_rows(called: Called, y: Any) -> list[Any]:
    units = _units(y) if hasattr(y, "aval") else [None]
    rows = [called.gradients(y, unit) for unit in units]
    return [_joined([row[k] for row in rows], 0, y, x) for k, x in enumerate(called.leaves)]


def _by_columns(called: Called, y: Any) -> list[Any]:
    """By differentiating the vjp, which is linear in its cotangent."""
    with linear(called, y, retain=True) as (rec, u, pulled):
        pass
    columns = [[rec.backward(g, wrt=[u], seed=unit)[u] for unit in _units(x)] for g, x in zip(pulled, called.leaves)]
    return [_joined(parts, -1, y, x) for parts, x in zip(columns, called.leaves, strict=True)]


def _units(x: Any) -> Any:
    """The arrays of the shape of `x` with a 1 at one place and else 0."""
    for k in range(x.aval.size):
        unit = np.zeros(x.aval.size, x.dtype)
        unit[k] = 1
        yield unit.reshape(x.shape)


def _joined(parts: list[Any], axis: int, y: Any, x: Any) -> Any:
    shape = (*y.shape, *x.shape)
    if not parts:
        return interpreter().const(np.zeros(shape, x.dtype), x.aval.dtype)
    return FUNCTIONS["reshape"](FUNCTIONS["stack"](parts, axis), shape)
