"""Functions of functions: gradients, products with Jacobians, and the check that gradients are right.

Arguments may be arrays or nests of tuples, lists and dicts with arrays in them. All transforms nest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backend import as_array
from .dispatch import FUNCTIONS
from .errors import ArgumentError, GradientError, ShapeError
from .recording import Recording, record
from .tree import flatten, map_leaves
from .variable import ACTIVE, Cell, Var, unwrap


def _traced(rec: Recording, x: Any) -> Any:
    """A node of its own for an argument, so that its gradient is taken at this use only."""
    if not isinstance(x, Var | Cell):
        return rec.leaf(x)
    var = FUNCTIONS["alias"](x)
    var.node.requires_grad = var.aval.is_float  # also where the argument itself is a constant here
    return var


def _run(f: Callable[..., Any], args: tuple, kwargs: dict, argnums: tuple[int, ...], then: Callable[..., Any]) -> Any:
    """Call `f` on a recording (the active one, else a new one) and hand (recording, result, leaves) to `then`."""
    flat = {i: flatten(args[i]) for i in argnums}

    def forward(rec: Recording) -> tuple[Any, dict[int, list[Any]]]:
        leaves = {i: [_traced(rec, x) for x in xs] for i, (xs, _) in flat.items()}
        swapped = [flat[i][1](leaves[i]) if i in flat else a for i, a in enumerate(args)]
        return f(*swapped, **kwargs), leaves

    rec = ACTIVE.get()
    if rec is not None:
        with rec.set_grad(True):
            out, leaves = forward(rec)
    else:
        with record() as rec:
            out, leaves = forward(rec)
    order = [x for i in argnums for x in leaves[i]]

    def rebuild(grads: list[Any]) -> Any:
        parts, at = [], 0
        for i in argnums:
            n = len(leaves[i])
            parts.append(flat[i][1](grads[at : at + n]))
            at += n
        return parts

    return then(rec, out, order, rebuild)


def _gradients(rec: Recording, out: Any, leaves: list[Any], seed: Any = None) -> list[Any]:
    if type(out) is not Var:
        raise ArgumentError(
            f"grad: the function returned {type(out).__name__}, not a value computed with gt. Return one."
        )
    found = rec.backward(out, wrt=leaves, seed=seed)
    return [found[x] for x in leaves]


def _outside(x: Any) -> Any:
    """A result as the caller's kind of value: a `Var` inside an active recording, else its array."""
    return x if ACTIVE.get() is not None else map_leaves(unwrap, x)


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns `(f(...), gradient)`. As jax.value_and_grad.

    Args:
        f: returns a scalar of shape (), or `(scalar, aux)` with `has_aux`.
        argnums: which positional arguments to differentiate; an int gives that argument's gradient, a sequence a tuple.

    Raises:
        ShapeError: the result is not a scalar.
        ArgumentError: the result is not a value, or there is no such argument.
    """
    nums = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if any(not -len(args) <= i < len(args) for i in nums):
            raise ArgumentError(f"grad: argnums {nums} do not fit a call with {len(args)} positional arguments.")

        def then(rec: Recording, out: Any, leaves: list[Any], rebuild: Callable[..., Any]) -> Any:
            aux = None
            if has_aux:
                out, aux = out
            parts = rebuild(_gradients(rec, out, leaves))
            value = _outside(out)
            return ((value, _outside(aux)) if has_aux else value), parts[0] if isinstance(argnums, int) else tuple(
                parts
            )

        return _run(f, args, kwargs, tuple(i % len(args) for i in nums), then)

    return wrapped


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of the scalar function `f`, or `(gradient, aux)`. See `value_and_grad`."""
    both = value_and_grad(f, argnums, has_aux)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapped


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """`f(*primals)`, and the function from a cotangent of that result to the cotangents of the primals.

    The result must be one array. The returned function may be called several times.
    """
    out = f(*[map_leaves(unwrap, p) if ACTIVE.get() is None else p for p in primals])

    def pull(cotangent: Any) -> tuple[Any, ...]:
        def then(rec: Recording, y: Any, leaves: list[Any], rebuild: Callable[..., Any]) -> Any:
            return tuple(rebuild(_gradients(rec, y, leaves, seed=cotangent)))

        return _run(f, primals, {}, tuple(range(len(primals))), then)

    return out, pull


def _check_tangents(op: str, primals: Sequence[Any], tangents: Sequence[Any]) -> None:
    """Raise unless there is one tangent per primal, of its shape."""
    if len(primals) != len(tangents):
        raise ArgumentError(f"{op}: {len(primals)} primals but {len(tangents)} tangents. Give one tangent per primal.")
    shapes = [[np.shape(x) for x in flatten(xs)[0]] for xs in (tuple(primals), tuple(tangents))]
    if shapes[0] != shapes[1]:
        raise ShapeError(f"{op}: primals of shape {shapes[0]}, tangents of {shapes[1]}. Give tangents of their shapes.")


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """`f(*primals)` and its directional derivative along `tangents`, by differentiating the vjp in its cotangent.

    Raises:
        UnsupportedError: `f` uses an op whose card says order 1.
    """
    primals, tangents = tuple(primals), tuple(tangents)
    _check_tangents("jvp", primals, tangents)

    def pulled(u: Any) -> Any:  # u ↦ Σ ⟨vjp(u), tangent⟩ is linear in u; its gradient is the jvp
        _, pull = vjp(f, *primals)
        total: Any = 0.0
        for ct, tangent in zip(pull(u), tangents, strict=True):
            for g, v in zip(flatten(ct)[0], flatten(tangent)[0], strict=True):
                total = FUNCTIONS["sum"](FUNCTIONS["mul"](g, v)) + total
        return total

    out = f(*primals)
    zero = np.zeros(out.shape, out.dtype)
    return out, grad(pulled)(zero)


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Product of the Hessian of the scalar function `f` with `tangents`, per primal: the gradient of ⟨∇f, tangents⟩."""
    nums = tuple(range(len(primals)))
    _check_tangents("hvp", primals, tangents)

    def along(*xs: Any) -> Any:
        total: Any = 0.0
        for g, tangent in zip(grad(f, nums)(*xs), tangents, strict=True):
            for a, v in zip(flatten(g)[0], flatten(tangent)[0], strict=True):
                total = FUNCTIONS["sum"](FUNCTIONS["mul"](a, v)) + total
        return total

    return grad(along, nums)(*primals)


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 1,
    *,
    eps: float = 1e-3,
    rtol: float = 1e-6,
    seed: int = 0,
) -> None:
    """Compare the gradients of `f` with difference quotients, in float64, along random directions.

    ⟨w, ∂f·v⟩ from the vjp must equal the fourth-order central difference of ⟨w, f(x + hv)⟩ for random v and w; its
    truncation error is of order h⁴ and its rounding error of order 1e-16/h, hence the defaults. For `order` 2 the same
    is asked of the gradient function, and so on.

    Args:
        f: a function of arrays that returns an array or a tuple of arrays.
        args: where to check; floating-point arrays are cast to float64, others are held fixed.

    Raises:
        GradientError: a gradient is wrong; says which order and by how much.
    """
    rng = np.random.default_rng(seed)
    arrays = [as_array(unwrap(a)) for a in args]
    moving = [i for i, a in enumerate(arrays) if a.dtype.kind == "f" or a.dtype.name == "bfloat16"]
    if not moving:
        raise ArgumentError("check_grads: no argument is floating point. Pass at least one.")
    points = [a.astype(np.float64) if i in moving else a for i, a in enumerate(arrays)]

    def scalar(*xs: Any) -> Any:
        """A random, fixed linear function of the results."""
        full = list(points)
        for i, x in zip(moving, xs, strict=True):
            full[i] = x
        outs = f(*full)
        total: Any = None
        for k, y in enumerate(outs if isinstance(outs, tuple) else (outs,)):
            if np.dtype(y.dtype).kind != "f":
                continue
            w = np.random.default_rng(seed + 7919 * k).standard_normal(y.shape)
            term = FUNCTIONS["sum"](FUNCTIONS["mul"](y, w))
            total = term if total is None else FUNCTIONS["add"](total, term)
        if total is None:
            raise ArgumentError("check_grads: the function has no floating-point result. There is nothing to check.")
        return total

    function = scalar
    xs = [points[i] for i in moving]
    for k in range(1, order + 1):
        _check_direction(function, xs, rng, eps, rtol, k)
        if k < order:
            function = _directional(function, [rng.standard_normal(x.shape) for x in xs])


def _directional(f: Callable[..., Any], directions: list[np.ndarray]) -> Callable[..., Any]:
    """x ↦ ⟨∇f(x), directions⟩."""

    def along(*xs: Any) -> Any:
        total: Any = None
        for g, v in zip(grad(f, range(len(xs)))(*xs), directions, strict=True):
            term = FUNCTIONS["sum"](FUNCTIONS["mul"](g, v))
            total = term if total is None else FUNCTIONS["add"](total, term)
        return total

    return along


def _check_direction(
    f: Callable[..., Any], xs: list[np.ndarray], rng: np.random.Generator, eps: float, rtol: float, order: int
) -> None:
    directions = [rng.standard_normal(x.shape) for x in xs]
    at = lambda h: float(f(*[x + h * v for x, v in zip(xs, directions, strict=True)]))  # noqa: E731
    numeric = (8 * (at(eps) - at(-eps)) - (at(2 * eps) - at(-2 * eps))) / (12 * eps)
    grads = grad(f, range(len(xs)))(*xs)
    terms = [np.asarray(g, np.float64) * v for g, v in zip(grads, directions, strict=True)]
    analytic = float(sum(t.sum() for t in terms))
    scale = max(abs(numeric), float(sum(np.abs(t).sum() for t in terms)), abs(at(0.0)), 1.0)
    if not abs(numeric - analytic) <= rtol * scale:
        raise GradientError(
            f"check_grads: order {order}: the gradient gives {analytic:.12g} along a random direction, the difference "
            f"quotient {numeric:.12g} (tolerance {rtol * scale:.3g}). Correct the vjp, or move the point off a kink."
        )
