"""Cards of lengths, distances and angles of vectors, and of the losses made of them."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, axis, broadcast_shapes, need_float, need_float_yet
from ..errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from ..registry import register
from ..samples import Bad, Sample, t
from .loss import check_number, check_reduction, check_same_shape, reduce

NAN, INF = float("nan"), float("inf")
INTS = t(3, dtype="int64", fill="ones")


def _positive_power(F: Any, x: Any, exponent: float) -> Any:
    """x ** exponent of x >= 0; an exponent above 0 has a gradient of 0 at 0."""
    if exponent < 0:
        return F.pow_scalar(x, exponent)
    zero = F.eq(x, F.const(0, F.aval(x).dtype))
    return F.masked_fill(F.pow_scalar(F.masked_fill(x, zero, 1.0), exponent), zero, 0.0)


def length(F: Any, x: Any, p: float, dim: int) -> Any:
    """The p-norm over the axis `dim`, which stays with size 1; its gradient is 0 at the zero vector. Of 16-bit numbers
    it is computed in float32: their squares overflow."""
    dtype = F.aval(x).dtype
    if dtype in ("float16", "bfloat16"):
        return F.cast(length(F, F.cast(x, "float32"), p, dim), dtype)
    if p == 0:
        return F.sum(F.square(F.sign(F.where(F.ne(x, x), F.const(1, dtype), x))), dim, True)  # its gradient is 0
    if p == 2:
        return _positive_power(F, F.sum(F.square(x), dim, True), 0.5)
    size = F.abs(x)
    if p == 1:
        return F.sum(size, dim, True)
    if math.isinf(p):
        return (F.amax if p > 0 else F.amin)(size, dim, True)
    return _positive_power(F, F.sum(_positive_power(F, size, p), dim, True), 1 / p)


# --- normalize --------------------------------------------------------------------------------------------------------


def _normalize_canon(input: Aval, *, p: float, dim: int, eps: float) -> dict[str, Any]:
    check_number("normalize", "p", p)
    check_number("normalize", "eps", eps)
    return {"p": p, "dim": axis("normalize", dim, input.ndim), "eps": eps}


def _normalize_rule(input: Aval, *, p: float, dim: int, eps: float) -> Aval:
    need_float("normalize", input=input)
    return input


def _normalize(F: Any, input: Any, *, p: float, dim: int, eps: float) -> Any:
    if not F.aval(input).size:
        return input
    return F.div(input, F.clamp(length(F, input, p, dim), float(eps)))


register(
    name="normalize",
    doc="""input / max(‖input‖ₚ, eps) along the axis `dim`. As torch.nn.functional.normalize.

    A zero vector stays one, and its gradient is dy / eps.
    """,
    signature="input, p=2.0, dim=1, eps=1e-12",
    inputs=("input",),
    canon=_normalize_canon,
    rule=_normalize_rule,
    compose=_normalize,
    precision="wide",
    samples=(
        Sample(t(5, 3)),
        Sample(t(5, 3, fill="distinct"), p=1),
        Sample(t(5, 3), p=3.0, dim=0),
        Sample(t(5, 3, fill="distinct"), p=0.5),
        Sample(t(2, 5, 3, fill="uniform", low=0.2, high=2.0), p=INF, dim=-2),
        Sample(t(7), dim=0),
        Sample(t(2, 2, fill=((1.0, 2.0), (0.0, 0.0))), eps=0.5, grad_=False, why_="a zero vector"),
        Sample(t(2, 2, fill=((0.1, -0.2), (3.0, 4.0))), eps=0.5, why_="shorter than eps"),
        Sample(t(2, 3, fill=((1.0, NAN, 0.0), (INF, 1.0, 0.0))), grad_=False),
        Sample(t(0, 3)),
        Sample(t(3, 0), why_="vectors without elements"),
        Sample(t(4, 6, layout="transposed")),
        Sample(t(5, 3, dtype="float64")),
    ),
    errors=(
        Bad(ShapeError, "dim=1 is out of range", t(5)),
        Bad(DTypeError, "floating-point", INTS, dim=0),
        Bad(ArgumentError, "p='fro'", t(5, 3), p="fro"),
    ),
    torch="torch.nn.functional.normalize",
)


# --- pairwise_distance ------------------------------------------------------------------------------------------------


def _distance_rule(x1: Aval, x2: Aval, *, p: float, eps: float, keepdim: bool) -> Aval:
    name = "pairwise_distance"
    check_number(name, "p", p)
    check_number(name, "eps", eps)
    need_float_yet(name, x1=x1)
    broadcast_shapes(name, x1.shape, x2.shape)
    return x1


def _between(F: Any, x1: Any, x2: Any, p: float, eps: float, keepdim: bool = False) -> Any:
    """‖x1 - x2 + eps‖ₚ over the last axis; of scalars |x1 - x2 + eps|."""
    d = F.sub(x1, x2)
    d = F.add(d, F.const(eps, F.aval(d).dtype))
    if not F.aval(d).ndim:
        return F.reshape(length(F, F.reshape(d, (1,)), p, 0), ())
    y = length(F, d, p, F.aval(d).ndim - 1)
    return y if keepdim else F.squeeze(y, -1)


def _pairwise(F: Any, x1: Any, x2: Any, *, p: float, eps: float, keepdim: bool) -> Any:
    return _between(F, x1, x2, p, eps, keepdim)


register(
    name="pairwise_distance",
    doc="""‖x1 - x2 + eps‖ₚ over the last axis; the shapes broadcast. As torch.nn.functional.pairwise_distance.""",
    signature="x1, x2, p=2.0, eps=1e-06, keepdim=False",
    inputs=("x1", "x2"),
    promotes=("x1", "x2"),
    rule=_distance_rule,
    compose=_pairwise,
    precision="wide",
    samples=(
        Sample(t(5, 3), t(5, 3)),
        Sample(t(5, 3), t(5, 3), p=1, keepdim=True),
        Sample(t(5, 3), t(3), p=3.0, why_="one against all"),
        Sample(t(2, 5, 3), t(2, 1, 3), p=INF, eps=0.1),
        Sample(t(5, 3), t(5, 3), p=-INF),
        Sample(t(5, 3), t(5, 3), p=0, grad_=False),
        Sample(t(7), t(7)),
        Sample(t(fill=2.0), t(fill=-1.0), p=1, keepdim=True, why_="scalars"),
        Sample(t(2, 3, fill="ones"), t(2, 3, fill="ones"), grad_=False, why_="equal: √3 · eps"),
        Sample(t(2, 3, fill="ones"), t(2, 3, fill="ones"), eps=0, grad_=False, why_="equal: a gradient of 0"),
        Sample(t(0, 3), t(0, 3)),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided")),
        Sample(t(5, 3, dtype="float64"), t(5, 3), why_="promotion"),
    ),
    errors=(
        Bad(ShapeError, "do not broadcast", t(5, 3), t(5, 4)),
        Bad(UnsupportedError, "floating-point", INTS, INTS),
        Bad(ArgumentError, "p=None", t(3), t(3), p=None),
    ),
    torch="torch.nn.functional.pairwise_distance",
)


# --- cosine_similarity ------------------------------------------------------------------------------------------------


def _cosine_canon(x1: Aval, x2: Aval, *, dim: int, eps: float) -> dict[str, Any]:
    check_number("cosine_similarity", "eps", eps)
    shape = broadcast_shapes("cosine_similarity", x1.shape, x2.shape)
    return {"dim": axis("cosine_similarity", dim, len(shape)) - len(shape), "eps": eps}


def _cosine_rule(x1: Aval, x2: Aval, *, dim: int, eps: float) -> Aval:
    need_float("cosine_similarity", x1=x1)
    return x1


def _direction(F: Any, x: Any, shape: tuple[int, ...], dim: int, eps: float) -> Any:
    """x / max(‖x‖, eps); the bound is taken out of the derivative."""
    if F.aval(x).shape != shape:
        x = F.expand(x, shape)
    n = length(F, x, 2, dim)
    return F.div(x, F.add(n, F.detach(F.sub(F.clamp(n, float(eps)), n))))


def _cosine(F: Any, x1: Any, x2: Any, *, dim: int, eps: float) -> Any:
    shape = broadcast_shapes("cosine_similarity", F.aval(x1).shape, F.aval(x2).shape)
    if not shape:
        x1, x2, shape = F.reshape(x1, (1,)), F.reshape(x2, (1,)), (1,)
    a, b = (_direction(F, x, shape, dim, eps) for x in (x1, x2))
    return F.sum(F.mul(a, b), dim)


register(
    name="cosine_similarity",
    doc="""x1 · x2 / (max(‖x1‖, eps) · max(‖x2‖, eps)) over the axis `dim` of the shape that they broadcast to.

    The gradient is that of the lengths without the bound eps, as in PyTorch. As torch.nn.functional.cosine_similarity.
    """,
    signature="x1, x2, dim=1, eps=1e-08",
    inputs=("x1", "x2"),
    promotes=("x1", "x2"),
    canon=_cosine_canon,
    rule=_cosine_rule,
    compose=_cosine,
    precision="wide",
    samples=(
        Sample(t(5, 3), t(5, 3)),
        Sample(t(5, 3), t(5, 3), dim=0),
        Sample(t(2, 5, 3), t(5, 1), dim=-2, why_="both sides broadcast"),
        Sample(t(7), t(7), dim=0),
        Sample(t(fill=-2.0), t(fill=4.0), dim=0, why_="scalars: the product of the signs"),
        Sample(t(2, 2, fill=((1.0, 2.0), (0.0, 0.0))), t(2, 2), grad_=False, why_="a zero vector"),
        Sample(t(2, 2, fill=((0.1, -0.2), (3.0, 4.0))), t(2, 2), eps=0.5, grad_=False, why_="shorter than eps"),
        Sample(t(2, 2, fill=((1.0, NAN), (INF, 4.0))), t(2, 2), grad_=False),
        Sample(t(0, 3), t(0, 3)),
        Sample(t(3, 0), t(3, 0), why_="vectors without elements"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided")),
        Sample(t(5, 3, dtype="float64"), t(5, 3), why_="promotion"),
    ),
    errors=(
        Bad(ShapeError, "dim=1 is out of range", t(5), t(5)),
        Bad(ShapeError, "do not broadcast", t(5, 3), t(5, 4)),
        Bad(DTypeError, "floating-point", INTS, INTS, dim=0),
        Bad(ArgumentError, "eps=None", t(5, 3), t(5, 3), eps=None),
    ),
    torch="torch.nn.functional.cosine_similarity",
)


# --- losses -----------------------------------------------------------------------------------------------------------


def _cosine_loss_rule(input1: Aval, input2: Aval, target: Aval, *, margin: float, reduction: str) -> Aval:
    name = "cosine_embedding_loss"
    check_reduction(name, reduction)
    check_number(name, "margin", margin)
    need_float_yet(name, input1=input1)
    check_same_shape(name, input1=input1, input2=input2)
    if input1.ndim not in (1, 2) or target.shape != input1.shape[:-1]:
        raise ShapeError(
            f"{name}: the inputs have shape {input1.shape}, target {target.shape}. Give inputs (N, D) and a target "
            "(N,), or (D,) and ()."
        )
    return input1


def _cosine_loss(F: Any, input1: Any, input2: Any, target: Any, *, margin: float, reduction: str) -> Any:
    dtype = F.aval(input1).dtype
    one, tiny = F.const(1, dtype), F.const(1e-12, dtype)
    inner = F.sum(F.mul(input1, input2), -1)
    squares = F.mul(F.add(F.sum(F.square(input1), -1), tiny), F.add(F.sum(F.square(input2), -1), tiny))
    cosine = F.div(inner, F.sqrt(squares))
    near = F.masked_fill(F.sub(one, cosine), F.ne(target, one), 0.0)
    apart = F.clamp(F.sub(cosine, F.const(margin, dtype)), 0.0)
    apart = F.masked_fill(apart, F.ne(target, F.neg(one)), 0.0)
    return reduce(F, F.add(near, apart), reduction)


_SIGNS = t(5, dtype="int64", fill=(1, -1, 1, -1, -1))

register(
    name="cosine_embedding_loss",
    doc="""1 - cos where target is 1, max(0, cos - margin) where it is -1, 0 elsewhere; cos is the angle's cosine.

    Inputs (N, D) with a target (N,), or (D,) with (). cos = x·y / √((x·x + 1e-12)(y·y + 1e-12)). As
    torch.nn.functional.cosine_embedding_loss.
    """,
    signature='input1, input2, target, margin=0, reduction="mean"',
    inputs=("input1", "input2", "target"),
    promotes=("input1", "input2", "target"),
    rule=_cosine_loss_rule,
    compose=_cosine_loss,
    precision="wide",
    samples=(
        Sample(t(5, 3), t(5, 3), _SIGNS),
        Sample(t(5, 3), t(5, 3), _SIGNS, margin=0.3, reduction="sum"),
        Sample(t(5, 3), t(5, 3), t(5, dtype="int32", fill=(1, -1, 0, 2, -1)), margin=-0.5, reduction="none"),
        Sample(t(5, 3), t(5, 3), t(5, fill=(1.0, -1.0, 0.5, 1.0, -1.0)), grad_=False, why_="a target of floats"),
        Sample(t(7), t(7), t(dtype="int64", fill="ones"), why_="one pair"),
        Sample(t(2, 3, fill=((0.0,), (1.0,))), t(2, 3), t(2, fill="ones"), grad_=False, why_="a zero vector"),
        Sample(t(0, 3), t(0, 3), t(0), grad_=False, why_="the mean of nothing is NaN"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), t(4, dtype="int64", fill=-1, layout="flipped")),
        Sample(t(7, 2, dtype="float64"), t(7, 2), t(7, dtype="int64", fill="ones"), why_="promotion"),
    ),
    errors=(
        Bad(ShapeError, r"input1 has shape \(5, 3\), input2 \(1, 3\)", t(5, 3), t(1, 3), t(5)),
        Bad(ShapeError, r"target \(5, 1\).*\(N, D\)", t(5, 3), t(5, 3), t(5, 1)),
        Bad(ShapeError, r"target \(2, 5\).*\(N, D\)", t(2, 5, 3), t(2, 5, 3), t(2, 5)),
        Bad(ArgumentError, "reduction='avg'", t(5, 3), t(5, 3), t(5), reduction="avg"),
        Bad(UnsupportedError, "floating-point", INTS, INTS, t(dtype="int64", fill="ones")),
    ),
    torch="torch.nn.functional.cosine_embedding_loss",
)


def _triplet_rule(
    anchor: Aval, positive: Aval, negative: Aval, *, margin: float, p: float, eps: float, swap: bool, reduction: str
) -> Aval:
    name = "triplet_margin_loss"
    check_reduction(name, reduction)
    for option, value in (("margin", margin), ("p", p), ("eps", eps)):
        check_number(name, option, value)
    if margin <= 0:
        raise ArgumentError(f"{name}: margin={margin!r} must be above 0. Use for example 1.0.")
    need_float_yet(name, anchor=anchor)
    check_same_shape(name, anchor=anchor, positive=positive, negative=negative)
    return anchor


def _triplet(
    F: Any,
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    margin: float,
    p: float,
    eps: float,
    swap: bool,
    reduction: str,
) -> Any:
    near, far = _between(F, anchor, positive, p, eps), _between(F, anchor, negative, p, eps)
    if swap:
        far = F.minimum(far, _between(F, positive, negative, p, eps))
    return reduce(F, F.clamp(F.add(F.sub(near, far), F.const(margin, F.aval(near).dtype)), 0.0), reduction)


_THREE = (t(5, 3), t(5, 3), t(5, 3))

register(
    name="triplet_margin_loss",
    doc="""max(0, d(anchor, positive) - d(anchor, negative) + margin), d = ‖x - y + eps‖ₚ over the last axis.

    swap: the smaller of d(anchor, negative) and d(positive, negative). All three have one shape. As
    torch.nn.functional.triplet_margin_loss; Balntas et al. 2016.
    """,
    signature='anchor, positive, negative, margin=1.0, p=2, eps=1e-06, swap=False, reduction="mean"',
    inputs=("anchor", "positive", "negative"),
    promotes=("anchor", "positive", "negative"),
    rule=_triplet_rule,
    compose=_triplet,
    precision="wide",
    samples=(
        Sample(*_THREE),
        Sample(*_THREE, margin=0.3, p=1, reduction="sum"),
        Sample(*_THREE, swap=True, reduction="none"),
        Sample(*_THREE, p=INF, swap=True),
        Sample(t(2, 5, 3), t(2, 5, 3), t(2, 5, 3), p=3.0, reduction="none"),
        Sample(t(7), t(7), t(7), why_="one triplet"),
        Sample(t(fill=2.0), t(fill=-1.0), t(fill=0.5), why_="scalars"),
        Sample(*(t(2, 3, fill="ones"),) * 3, eps=0, grad_=False, why_="equal: the margin, and a gradient of 0"),
        Sample(t(0, 3), t(0, 3), t(0, 3), grad_=False, why_="the mean of nothing is NaN"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), t(4, 6, layout="flipped")),
        Sample(t(5, 3, dtype="float64"), t(5, 3), t(5, 3), why_="promotion"),
    ),
    errors=(
        Bad(ShapeError, r"anchor has shape \(5, 3\), negative \(3,\)", t(5, 3), t(5, 3), t(3)),
        Bad(ArgumentError, "margin=0", *_THREE, margin=0),
        Bad(ArgumentError, "p='2'", *_THREE, p="2"),
        Bad(ArgumentError, "reduction='avg'", *_THREE, reduction="avg"),
        Bad(UnsupportedError, "floating-point", INTS, INTS, INTS),
    ),
    torch="torch.nn.functional.triplet_margin_loss",
)
