"""Functions of functions: gradients, and products with Jacobians.

Arguments and results may be arrays or nests of tuples, lists and dicts with arrays in them. All transforms nest.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .dispatch import FUNCTIONS
from .errors import ArgumentError, DTypeError, ShapeError
from .recording import Recording, record
from .tree import flatten, map_leaves
from .variable import ACTIVE, Operators, Var, unwrap


class Called:
    """A function called once, on the active recording or on one of its own, with leaves for some of its arguments.

    Attributes:
        rec: the recording.
        out: what the function returned; with `has_aux` the first of the two.
        aux: with `has_aux` the second.
        leaves: the leaves, from left to right.
    """

    def __init__(
        self,
        op: str,
        f: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        argnums: int | Sequence[int] | None = None,
        has_aux: bool = False,
        retain: bool = False,
    ) -> None:
        nums = range(len(args)) if argnums is None else (argnums,) if isinstance(argnums, int) else tuple(argnums)
        if any(not -len(args) <= i < len(args) for i in nums):
            raise ArgumentError(f"{op}: argnums {nums} do not fit a call with {len(args)} positional arguments.")
        self.op, self._one = op, isinstance(argnums, int)
        self._nums = [i % len(args) for i in nums]
        self._flat = {i: flatten(args[i]) for i in self._nums}
        active = ACTIVE.get()
        cut = active is not None and not active.grad_enabled  # no_grad holds for what surrounds, not for `f`
        with record(retain) if active is None else contextlib.nullcontext(active) as self.rec, self.rec.set_grad(True):
            leaves = {i: [_leaf(self.rec, x, cut) for x in xs] for i, (xs, _) in self._flat.items()}
            out = f(*[self._flat[i][1](leaves[i]) if i in leaves else a for i, a in enumerate(args)], **kwargs)
        if has_aux and not (isinstance(out, tuple) and len(out) == 2):
            raise ArgumentError(f"{op}: has_aux is set, but the function returned {out!r:.60}. Return (result, aux).")
        self.out: Any = out[0] if has_aux else out
        self.aux: Any = out[1] if has_aux else None
        self._leaves = leaves
        self.leaves = [x for i in self._nums for x in leaves[i]]

    def refuse_integers(self) -> None:
        """Raise `DTypeError` if a gradient is asked for that does not exist."""
        for i in self._nums:
            for x in self._leaves[i]:
                if not x.aval.is_float:
                    raise DTypeError(
                        f"{self.op}: argument {i} is {x.aval}, which has no gradient. Pass floating-point numbers, or "
                        "leave it out of argnums."
                    )

    def gradients(self, out: Any, seed: Any = None) -> list[Any]:
        """The gradient of one result with respect to each leaf."""
        if type(out) is not Var:
            raise ArgumentError(
                f"{self.op}: the function returned {type(out).__name__}, not a value computed with gt. Return one."
            )
        found = self.rec.backward(out, wrt=self.leaves, seed=seed)
        return [found[x] for x in self.leaves]

    def nest(self, parts: Sequence[Any]) -> Any:
        """One value per leaf, in the nest of the arguments: of one argument, or a tuple of several."""
        made, at = [], 0
        for i in self._nums:
            n = len(self._leaves[i])
            made.append(self._flat[i][1](parts[at : at + n]))
            at += n
        return made[0] if self._one else tuple(made)


def _leaf(rec: Recording, x: Any, cut: bool) -> Var:
    """A node of its own for an argument, so that its gradient is taken at this use only."""
    if not isinstance(x, Operators):
        return rec.leaf(x)
    var = FUNCTIONS["alias"](FUNCTIONS["detach"](x) if cut else x)
    var.node.requires_grad = var.aval.is_float  # also where the argument itself is a constant here
    return var


def outside(x: Any) -> Any:
    """Results as the caller's kind of value: `Var`s inside an active recording (cut off under `no_grad`), else
    arrays."""
    rec = ACTIVE.get()
    if rec is None:
        return map_leaves(unwrap, x)
    return x if rec.grad_enabled else map_leaves(lambda y: FUNCTIONS["detach"](y) if type(y) is Var else y, x)


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns `(f(...), gradient)`. As jax.value_and_grad.

    Args:
        f: returns a scalar of shape (), or `(scalar, aux)` with `has_aux`.
        argnums: which positional arguments to differentiate; an int gives that argument's gradient, a sequence a tuple.

    Raises:
        ShapeError: the result is not a scalar.
        DTypeError: an argument in `argnums` holds integers.
        ArgumentError: the result is not a value, or there is no such argument.
    """

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        called = Called("grad", f, args, kwargs, argnums, has_aux)
        called.refuse_integers()
        gradient = called.nest(outside(called.gradients(called.out)))
        value = outside(called.out)
        return ((value, outside(called.aux)) if has_aux else value), gradient

    return wrapped


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of the scalar function `f`, or `(gradient, aux)`. See `value_and_grad`."""
    both = value_and_grad(f, argnums, has_aux)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapped


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """`f(*primals)`, and the function from a cotangent of that result to the tuple of cotangents of the primals. As
    torch.func.vjp.

    `f` is called once; what its gradient needs is held for as long as the returned function lives, which may be called
    several times.

    Args:
        has_aux: `f` returns `(result, aux)`; then this returns `(result, function, aux)`.

    Raises:
        ArgumentError: the result is not a value computed with gt (or a nest of those); in the returned function: the
            cotangent nests otherwise than the result.
    """
    called = Called("vjp", f, primals, {}, None, has_aux, retain=True)
    results = flatten(called.out)[0]

    def pull(cotangent: Any) -> tuple[Any, ...]:
        seeds = flatten(cotangent)[0]
        if len(seeds) != len(results):
            raise ArgumentError(
                f"vjp: the function returned {len(results)} arrays, the cotangent holds {len(seeds)}. Nest it as the "
                "result."
            )
        total: list[Any] | None = None
        for y, seed in zip(results, seeds, strict=True):
            found = called.gradients(y, seed)
            total = found if total is None else [FUNCTIONS["add"](a, b) for a, b in zip(total, found, strict=True)]
        return called.nest(outside(total or []))

    out = outside(called.out)
    return (out, pull, outside(called.aux)) if has_aux else (out, pull)


def _check_tangents(op: str, primals: Sequence[Any], tangents: Sequence[Any]) -> None:
    """Raise unless there is one tangent per primal, of its shape."""
    if len(primals) != len(tangents):
        raise ArgumentError(f"{op}: {len(primals)} primals but {len(tangents)} tangents. Give one tangent per primal.")
    shapes = [[np.shape(x) for x in flatten(xs)[0]] for xs in (tuple(primals), tuple(tangents))]
    if shapes[0] != shapes[1]:
        raise ShapeError(f"{op}: primals of shape {shapes[0]}, tangents of {shapes[1]}. Give tangents of their shapes.")


def dot(xs: Sequence[Any], vs: Sequence[Any]) -> Any:
    """Σ ⟨x, v⟩."""
    terms = [FUNCTIONS["sum"](FUNCTIONS["mul"](x, v)) for x, v in zip(xs, vs, strict=True)]
    return functools.reduce(FUNCTIONS["add"], terms) if terms else 0.0


def jvp(
    f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], *, has_aux: bool = False
) -> tuple[Any, ...]:
    """`f(*primals)` and its directional derivative along `tangents`, by differentiating the vjp in its cotangent. As
    torch.func.jvp.

    Args:
        has_aux: `f` returns `(result, aux)`; then this returns `(result, derivative, aux)`.

    Raises:
        UnsupportedError: `f` uses an op whose card says order 1.
        ShapeError: tangents that do not have the shapes of the primals.
    """
    _check_tangents("jvp", primals, tangents)
    called = Called("jvp", f, tuple(primals), {}, None, has_aux, retain=True)
    along = flatten(tuple(tangents))[0]
    results, build = flatten(called.out)
    derivatives = [_pushed(called, y, along) for y in results]
    out = outside(called.out), outside(build(derivatives))
    return (*out, outside(called.aux)) if has_aux else out


def _pushed(called: Called, y: Any, along: Sequence[Any]) -> Any:
    """u ↦ ⟨vjp(u), tangents⟩ is linear in u; its gradient is the derivative of `y` along the tangents."""
    with linear(called, y) as (rec, u, pulled):
        total = dot(pulled, along)
        if rec is called.rec:
            return rec.backward(total, wrt=[u])[u]
    return rec.backward(total, wrt=[u])[u]


@contextlib.contextmanager
def linear(called: Called, y: Any, retain: bool = False) -> Iterator[tuple[Recording, Var, list[Any]]]:
    """A recording with a cotangent `u` of `y` and the gradients that it gives: the active one, so that these can be
    differentiated in the primals too; without one, another than that of the function, whose values are constants to
    it."""
    if type(y) is not Var:
        called.gradients(y)  # refuses
    active = ACTIVE.get()
    with record(retain) if active is None else contextlib.nullcontext(active) as rec, rec.set_grad(True):
        u = rec.leaf(np.zeros(y.shape, y.dtype))
        yield rec, u, called.gradients(y, u)


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Product of the Hessian of the scalar function `f` with `tangents`, per primal: the gradient of ⟨∇f, tangents⟩."""
    nums = tuple(range(len(primals)))
    _check_tangents("hvp", primals, tangents)
    along = flatten(tuple(tangents))[0]
    return grad(lambda *xs: dot(flatten(grad(f, nums)(*xs))[0], along), nums)(*primals)
