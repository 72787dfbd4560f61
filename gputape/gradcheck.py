"""The check that gradients are right: against difference quotients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import as_array, asnumpy
from .errors import ArgumentError, DTypeError, GradientError
from .transforms import dot, grad, jvp
from .tree import flatten
from .variable import unwrap

MODES = ("rev", "fwd")
LOOKED_AT = 256  # elements of an argument that are tried one by one to say where its gradient is wrong


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 1,
    modes: Sequence[str] = ("rev",),
    *,
    eps: float = 1e-3,
    rtol: float = 1e-6,
    seed: int = 0,
) -> None:
    """Compare the gradients of `f` with difference quotients, in float64, along random directions. As
    jax.test_util.check_grads.

    ⟨w, ∂f·v⟩ from the vjp must equal the fourth-order central difference of ⟨w, f(x + hv)⟩ for random v and w; its
    truncation error is of order h⁴ and its rounding error of order 1e-16/h, hence the defaults. For `order` 2 the same
    is asked of the gradient function, and so on.

    Args:
        f: a function of arrays that returns an array or a nest of arrays.
        args: where to check; floating-point arrays (also in tuples, lists and dicts) are cast to float64, others are
            held fixed.
        order: up to which order.
        modes: "rev" checks gradients, "fwd" directional derivatives by `jvp`.
        eps: the step h.
        rtol: the difference allowed, relative to the largest of the terms and 1.
        seed: of the random directions.

    Raises:
        GradientError: a gradient is wrong; says of which argument, at which order, where and by how much.
        DTypeError: no argument, or no result, is floating point.
    """
    if isinstance(modes, str):
        modes = (modes,)
    unknown = [m for m in modes if m not in MODES]
    if unknown or not modes or isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ArgumentError(
            f"check_grads: order={order!r}, modes={tuple(modes)!r}. Give an order of 1 or more and some of {MODES}."
        )
    leaves, build = flatten(tuple(args))
    arrays = [asnumpy(as_array(unwrap(a))) for a in leaves]
    moving = [i for i, a in enumerate(arrays) if a.dtype.kind == "f" or a.dtype.name == "bfloat16"]
    if not moving:
        raise DTypeError(
            f"check_grads: the arguments are {', '.join(str(a.dtype) for a in arrays) or 'none'}, and integers have no "
            "gradients. Pass at least one floating-point array."
        )
    points = [a.astype(np.float64) if i in moving else a for i, a in enumerate(arrays)]

    def scalar(*xs: Any) -> Any:
        """A random, fixed linear function of the results."""
        full = list(points)
        for i, x in zip(moving, xs, strict=True):
            full[i] = x
        results = flatten(f(*build(full)))[0]
        weights = [np.random.default_rng(seed + 7919 * k).standard_normal(np.shape(y)) for k, y in enumerate(results)]
        pairs = [(y, w) for y, w in zip(results, weights, strict=True) if np.dtype(y.dtype).kind == "f"]
        if not pairs:
            raise DTypeError(
                f"check_grads: the results are {', '.join(str(y.dtype) for y in results) or 'none'}, and integers have "
                "no gradients. There is nothing to check."
            )
        return dot(*zip(*pairs, strict=True))

    names = [_name(args, i) for i in moving]
    rng = np.random.default_rng(seed)
    function, xs = scalar, [points[i] for i in moving]
    for k in range(1, order + 1):
        check = _Check(function, xs, [rng.standard_normal(x.shape) for x in xs], eps, rtol)
        for mode in modes:
            check.run(mode, f"order {k}" if mode == "rev" else f"order {k}, forward mode", names, seed)
        if k < order:
            function = _directional(function, [rng.standard_normal(x.shape) for x in xs])


def _name(args: Sequence[Any], leaf: int) -> str:
    """What a leaf of the arguments is called in messages."""
    for i, a in enumerate(args):
        n = len(flatten(a)[0])
        if leaf < n:
            return f"argument {i}" if n == 1 else f"argument {i} (array {leaf} in it)"
        leaf -= n
    raise AssertionError("no such leaf")


def _directional(f: Callable[..., Any], directions: list[np.ndarray]) -> Callable[..., Any]:
    """x ↦ ⟨∇f(x), directions⟩."""
    return lambda *xs: dot(grad(f, range(len(xs)))(*xs), directions)


class _Check:
    """The comparison of one scalar function with its difference quotients at one point."""

    def __init__(
        self, f: Callable[..., Any], xs: list[np.ndarray], directions: list[np.ndarray], eps: float, rtol: float
    ) -> None:
        self.f, self.xs, self.directions, self.eps, self.rtol = f, xs, directions, eps, rtol

    def run(self, mode: str, what: str, names: list[str], seed: int) -> None:
        if mode == "rev":
            gradients = [np.asarray(asnumpy(g), np.float64) for g in grad(self.f, range(len(self.xs)))(*self.xs)]
            terms = [float((g * v).sum()) for g, v in zip(gradients, self.directions, strict=True)]
            size = sum(float(np.abs(g * v).sum()) for g, v in zip(gradients, self.directions, strict=True))
            analytic = sum(terms)
        else:
            analytic = self.forward(self.directions)
            size = abs(analytic)
        numeric = self.numeric(self.directions)
        scale = max(abs(numeric), size, abs(self.at(self.directions, 0.0)), 1.0)
        if abs(numeric - analytic) <= self.rtol * scale:
            return
        where = ""
        for k, name in enumerate(names):
            alone = self.only(k, self.directions[k])
            got = terms[k] if mode == "rev" else self.forward(alone)
            if not abs(self.numeric(alone) - got) <= self.rtol * scale:
                where = f" of {name} {self.xs[k].shape}"
                if mode == "rev":
                    where += self.place(k, gradients[k], scale)
                break
        raise GradientError(
            f"check_grads: {what}: the gradient{where} is wrong: along a random direction (seed={seed}, all arguments) "
            f"it gives {analytic:.12g}, the difference quotient {numeric:.12g} (tolerance {self.rtol * scale:.3g}). "
            "Correct the vjp, or move the point off a kink."
        )

    def at(self, directions: list[np.ndarray], h: float) -> float:
        return float(asnumpy(self.f(*[x + h * v for x, v in zip(self.xs, directions, strict=True)])))

    def numeric(self, directions: list[np.ndarray]) -> float:
        at, h = lambda h: self.at(directions, h), self.eps
        return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)

    def forward(self, directions: list[np.ndarray]) -> float:
        return float(asnumpy(jvp(self.f, self.xs, directions)[1]))

    def only(self, k: int, direction: np.ndarray) -> list[np.ndarray]:
        """That direction for argument `k`, the others held."""
        return [direction if i == k else np.zeros_like(x) for i, x in enumerate(self.xs)]

    def place(self, k: int, gradient: np.ndarray, scale: float) -> str:
        """Where in argument `k` the gradient is furthest off, as text; of a large one only its first elements are
        tried."""
        worst, text = 0.0, ""
        for i in range(min(gradient.size, LOOKED_AT)):
            where = np.unravel_index(i, gradient.shape)
            unit = np.zeros(gradient.shape)
            unit[where] = 1
            numeric, got = self.numeric(self.only(k, unit)), float(gradient[where])
            off = abs(numeric - got)
            if off > worst or off != off:
                worst = off
                text = f", most at {tuple(map(int, where))} ({got:.6g}, the difference quotient {numeric:.6g}),"
        return text
