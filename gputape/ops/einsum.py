"""Cards of einsum and tensordot, composed of permute, reshape, sums and batched matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..aval import Aval, axis, need_same_dtype
from ..errors import ArgumentError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t
from .slicing import need_axes

# --- the equation -----------------------------------------------------------------------------------------------------


def _wrong(equation: str, what: str) -> ArgumentError:
    return ArgumentError(f"einsum: {equation!r} {what}.")


def _labels(equation: str, term: str, ndim: int, which: str) -> list[Any]:
    """The label of each axis of an operand: a letter, or under "..." a negative number, -1 for the last of them."""
    head, dots, tail = term.partition("...")
    letters = head + tail
    if not all(c.isascii() and c.isalpha() for c in letters):
        raise _wrong(equation, f"holds {letters!r} for {which}. Use letters, commas, '...' and '->'")
    hidden = ndim - len(letters)
    if hidden < 0 or (hidden and not dots):
        raise ShapeError(f"einsum: {equation!r} names {len(letters)} axes of {which}, which has {ndim}. Name each.")
    return [*head, *range(-hidden, 0), *tail]


def _parse(equation: str, ndims: Sequence[int]) -> tuple[list[list[Any]], list[Any]]:
    """The labels of each operand's axes, and those of the result."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise _wrong(equation, f"is for {len(terms)} arrays, but {len(ndims)} are given")
    labels = [_labels(equation, term, n, f"operand {k}") for k, (term, n) in enumerate(zip(terms, ndims, strict=True))]
    every = [c for one in labels for c in one]
    hidden = sorted({c for c in every if isinstance(c, int)})
    if arrow:
        head, dots, tail = right.partition("...")
        out = [*head, *(hidden if dots else ()), *tail]
    else:
        out = [*hidden, *sorted(c for c in set(every) - set(hidden) if every.count(c) == 1)]
    if len(set(out)) != len(out):
        raise _wrong(equation, "names an axis of the result twice")
    for c in out:
        if c not in every:
            raise _wrong(equation, f"has {c!r} in the result, but in no operand")
    return labels, out


def _sizes(equation: str, labels: list[list[Any]], avals: Sequence[Aval]) -> dict[Any, int]:
    """The size of each label; 1 broadcasts."""
    sizes: dict[Any, int] = {}
    for k, (one, a) in enumerate(zip(labels, avals, strict=True)):
        for c, n in zip(one, a.shape, strict=True):
            if sizes.get(c, 1) == 1:
                sizes[c] = n
            elif n not in (1, sizes[c]):
                name = "..." if isinstance(c, int) else c
                raise ShapeError(
                    f"einsum: {equation!r}: axis {name!r} of operand {k} has size {n}, before it had {sizes[c]}. "
                    "Make them equal or 1."
                )
    return sizes


# --- lowering ---------------------------------------------------------------------------------------------------------


def _diagonals(F: Any, x: Any, labels: list[Any]) -> tuple[Any, list[Any]]:
    """Axes with one label become their diagonal, which comes last."""
    labels = list(labels)
    while len(set(labels)) < len(labels):
        c = next(c for c in labels if labels.count(c) > 1)
        first = labels.index(c)
        second = labels.index(c, first + 1)
        x = F.diagonal(x, 0, first, second)
        labels = [d for k, d in enumerate(labels) if k not in (first, second)] + [c]
    return x, labels


def _summed(F: Any, x: Any, labels: list[Any], keep: set[Any]) -> tuple[Any, list[Any]]:
    over = tuple(k for k, c in enumerate(labels) if c not in keep)
    return (F.sum(x, over, dtype=F.aval(x).dtype) if over else x), [c for c in labels if c in keep]


def _arranged(F: Any, x: Any, labels: list[Any], order: list[Any]) -> Any:
    """x with its axes in `order`, size 1 where it has none."""
    there = [c for c in order if c in labels]
    x = F.permute(x, tuple(labels.index(c) for c in there))
    shape, sizes = iter(F.aval(x).shape), []
    for c in order:
        sizes.append(next(shape) if c in there else 1)
    return F.reshape(x, tuple(sizes))


def _pair(F: Any, a: Any, la: list[Any], b: Any, lb: list[Any], keep: set[Any]) -> tuple[Any, list[Any]]:
    """Two operands as one, by one batched product: axes are batch (in both and kept), summed (in both), or free."""
    long = {c for labels, x in ((la, a), (lb, b)) for c, n in zip(labels, F.aval(x).shape, strict=True) if n != 1}
    a, la = _summed(F, a, la, keep | {c for c in lb if c in la})
    b, lb = _summed(F, b, lb, keep | set(la))
    a, la = _summed(F, a, la, keep | set(lb))
    shared = [c for c in la if c in lb]
    size_a, size_b = dict(zip(la, F.aval(a).shape, strict=True)), dict(zip(lb, F.aval(b).shape, strict=True))
    one_sided = [c for c in shared if c not in keep and c in long and 1 in (size_a[c], size_b[c])]
    if one_sided:  # a size of 1 that broadcasts along an axis that is summed: sum the long side first
        a, la = _summed(F, a, la, {c for c in la if c not in one_sided or size_a[c] == 1})
        b, lb = _summed(F, b, lb, {c for c in lb if c not in one_sided or size_b[c] == 1})
        a = F.reshape(a, tuple(n for c, n in zip(la, F.aval(a).shape, strict=True) if c not in one_sided))
        b = F.reshape(b, tuple(n for c, n in zip(lb, F.aval(b).shape, strict=True) if c not in one_sided))
        la, lb = [c for c in la if c not in one_sided], [c for c in lb if c not in one_sided]
        shared = [c for c in la if c in lb]
    batch, inner = [c for c in shared if c in keep], [c for c in shared if c not in keep]
    rows, cols = [c for c in la if c not in lb], [c for c in lb if c not in la]
    if not inner:  # nothing is summed: a product element by element
        order = [*batch, *rows, *cols]
        return F.mul(_arranged(F, a, la, order), _arranged(F, b, lb, order)), order
    left, right = _arranged(F, a, la, [*batch, *rows, *inner]), _arranged(F, b, lb, [*batch, *inner, *cols])
    head_a, head_b = F.aval(left).shape[: len(batch)], F.aval(right).shape[: len(batch)]
    m, n = F.aval(left).shape[len(batch) : len(batch) + len(rows)], F.aval(right).shape[len(batch) + len(inner) :]
    k = math.prod(F.aval(right).shape[len(batch) : len(batch) + len(inner)])
    left, right = F.reshape(left, (*head_a, math.prod(m), k)), F.reshape(right, (*head_b, k, math.prod(n)))
    head = tuple(max(p, q) if 0 not in (p, q) else 0 for p, q in zip(head_a, head_b, strict=True))
    return F.reshape(F.mm_nd(left, right), (*head, *m, *n)), [*batch, *rows, *cols]


def _einsum(F: Any, *operands: Any, equation: str) -> Any:
    avals = [F.aval(x) for x in operands]
    labels, out = _parse(equation, [a.ndim for a in avals])
    sizes = _sizes(equation, labels, avals)
    found = [_diagonals(F, x, one) for x, one in zip(operands, labels, strict=True)]
    x, here = found[0]
    for k, (other, there) in enumerate(found[1:], 2):
        keep = set(out).union(*(one for _, one in found[k:]))
        x, here = _pair(F, x, here, other, there, keep)
    if len(operands) == 1 and len(here) > len(out) and not avals[0].is_float:
        x = F.cast(x, "int64")  # as PyTorch, which keeps the dtype of several operands
    x, here = _summed(F, x, here, set(out))
    x = F.permute(x, tuple(here.index(c) for c in out))
    shape = tuple(sizes[c] for c in out)
    return x if F.aval(x).shape == shape else F.expand(x, shape)


def _einsum_canon(*operands: Aval, equation: Any) -> dict[str, Any]:
    if not isinstance(equation, str):
        raise ArgumentError(
            f"einsum: the equation is a {type(equation).__name__}. Pass a string such as 'ij,jk->ik'; lists of axis "
            "numbers are not supported."
        )
    if not operands:
        raise ArgumentError(f"einsum: {equation!r} has no operands. Pass at least one array.")
    return {"equation": equation}


def _einsum_rule(*operands: Aval, equation: str) -> Aval:
    need_same_dtype("einsum", **{f"operand {k}": a for k, a in enumerate(operands)})
    labels, out = _parse(equation, [a.ndim for a in operands])
    for one, a in zip(labels, operands, strict=True):
        for c in set(one):
            if len({n for d, n in zip(one, a.shape, strict=True) if d == c}) > 1:
                raise ShapeError(f"einsum: {equation!r}: the axes {c!r} of {a.shape} differ. A diagonal needs equals.")
    sizes = _sizes(equation, labels, operands)
    return operands[0].with_shape(tuple(sizes[c] for c in out))


register(
    name="einsum",
    doc="""Sum of products over named axes: "bij,bjk->bik" is a batched matrix product.

    A letter in several operands names one axis (sizes equal, or 1); a letter twice in one operand takes its diagonal;
    letters that the result lacks are summed. Without "->" the result has the letters that appear once, sorted. "..."
    stands for further axes, which broadcast and come first in a result without "->". Operands are joined from left to
    right, by one batched matrix product each. One dtype. As torch.einsum.
    """,
    signature="equation, *operands",
    precision="narrow",
    inputs=("*operands",),
    canon=_einsum_canon,
    rule=_einsum_rule,
    compose=_einsum,
    samples=(
        Sample(t(5, 3), t(3, 7), equation="ij,jk->ik"),
        Sample(t(2, 5, 3), t(2, 3, 4), equation="bij,bjk->bik"),
        Sample(t(2, 4, 5, 3), t(2, 4, 6, 3), equation="bhqd, bhkd -> bhqk", why_="attention scores"),
        Sample(t(5, 3), equation="ij->ji"),
        Sample(t(5, 3), equation="ij->j"),
        Sample(t(5, 3), equation="ij->"),
        Sample(t(5, 3), equation="ba", why_="an implicit result is sorted"),
        Sample(t(4, 4), equation="ii", why_="a trace"),
        Sample(t(4, 4), equation="ii->i", why_="a diagonal"),
        Sample(t(3, 2, 3, 3), equation="iaii->ai"),
        Sample(t(5), t(3), equation="i,j->ij"),
        Sample(t(5), t(5), equation="i,i"),
        Sample(t(5, 3), t(5, 3), equation="ij,ij->ij"),
        Sample(t(2, 5, 3), t(3, 4), equation="...i,ij->...j"),
        Sample(t(2, 1, 5, 3), t(4, 3, 2), equation="...ij,...jk", why_="axes under dots broadcast"),
        Sample(t(2, 3, 4), equation="...->..."),
        Sample(t(2, 3, 4), equation="i...->..."),
        Sample(t(2, 3), t(3, 4), t(4, 5), equation="ab,bc,cd->ad"),
        Sample(t(2, 3), t(2, 5), t(7, 3, 5), equation="bn,bm,anm->ba", why_="bilinear"),
        Sample(t(2, 3), t(4, 5), equation="ij,kl->", why_="nothing shared"),
        Sample(t(2, 3), t(1, 4), equation="ij,ik->jk", why_="size 1 broadcasts along a summed axis"),
        Sample(t(2, 3), t(2, 1), equation="ij,kj->ik", why_="size 1 broadcasts along a summed axis"),
        Sample(t(2, 1), t(2, 3), equation="ij,ij->ij"),
        Sample(t(), t(3), equation=",i->i", why_="a scalar"),
        Sample(t(0, 3), t(3, 2), equation="ij,jk->ik"),
        Sample(t(2, 0), t(0, 3), equation="ij,jk->ik", why_="an empty sum is 0"),
        Sample(t(4, 6, layout="transposed"), t(6, 3, layout="strided"), equation="ab,bC->Ca"),
        Sample(t(5, 3, dtype="float64"), t(3, dtype="float64"), equation="ij,j"),
        Sample(t(2, 3, dtype="int32", fill="ints", high=9), equation="ij->j", why_="a sum of integers"),
        Sample(t(2, 3, dtype="int64", fill="ints", low=-9, high=9), t(3, dtype="int64", fill="ints", high=9),
               equation="ij,j->i"),
    ),
    errors=(
        Bad(ArgumentError, "for 2 arrays, but 1", t(3), equation="i,j"),
        Bad(ShapeError, "names 1 axes of operand 0, which has 2", t(3, 2), equation="i"),
        Bad(ShapeError, "'j' of operand 1 has size 4, before it had 3", t(2, 3), t(4, 2), equation="ij,jk"),
        Bad(ShapeError, "differ", t(2, 3), equation="ii"),
        Bad(ArgumentError, "in the result, but in no operand", t(3), equation="i->j"),
        Bad(ArgumentError, "twice", t(3, 2), equation="ij->ii"),
        Bad(ArgumentError, "Use letters", t(3), equation="1->"),
        Bad(ArgumentError, "the equation is a int", t(3), equation=3),
    ),
    perf=(Perf(t(16, 4, 64, 32), t(16, 4, 64, 32), equation="bhqd,bhkd->bhqk", flops_=2 * 64 * 64 * 64 * 32),),
    torch="torch.einsum",
)  # fmt: skip


# --- tensordot --------------------------------------------------------------------------------------------------------


def _tensordot_canon(a: Aval, b: Aval, *, dims: Any = 2) -> dict[str, Any]:
    if isinstance(dims, int) and not isinstance(dims, bool):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise ShapeError(
                f"tensordot: dims={dims} axes are to be summed, but the arrays have {a.ndim} and {b.ndim}. Use fewer."
            )
        dims = (tuple(range(a.ndim - dims, a.ndim)), tuple(range(dims)))
    if not isinstance(dims, tuple | list) or len(dims) != 2:
        raise ArgumentError(f"tensordot: dims={dims!r:.60} must be an integer or two lists of axes.")
    listed = [(d,) if isinstance(d, int) else tuple(d) for d in dims]
    for which, x, over in (("a", a, listed[0]), ("b", b, listed[1])):
        if over:
            need_axes("tensordot", x)
        if len({axis("tensordot", d, x.ndim) for d in over}) != len(over):
            raise ShapeError(f"tensordot: dims={dims} names an axis of {which} twice. Name each axis once.")
    return {"dims": tuple(tuple(d % x.ndim for d in over) for over, x in zip(listed, (a, b), strict=True))}


def _tensordot_rule(a: Aval, b: Aval, *, dims: Any) -> Aval:
    need_same_dtype("tensordot", a=a, b=b)
    over_a, over_b = dims
    sizes = [{a.shape[i], b.shape[j]} for i, j in zip(over_a, over_b)]
    if len(over_a) != len(over_b) or any(len(pair - {1}) > 1 for pair in sizes):
        raise ShapeError(
            f"tensordot: the axes {over_a} of a {a.shape} and {over_b} of b {b.shape} do not pair up. Make their sizes "
            "equal, or one of them 1, in order."
        )
    rest = [n for k, n in enumerate(a.shape) if k not in over_a] + [n for k, n in enumerate(b.shape) if k not in over_b]
    return a.with_shape(tuple(rest))


def _tensordot(F: Any, a: Any, b: Any, *, dims: Any) -> Any:
    over_a, over_b = dims
    for i, j in zip(over_a, over_b, strict=True):  # one that broadcasts is paired with the sum of the other
        n, m = F.aval(a).shape[i], F.aval(b).shape[j]
        if n != m:
            a, b = (
                (F.sum(a, i, True, dtype=F.aval(a).dtype), b)
                if m == 1
                else (a, F.sum(b, j, True, dtype=F.aval(b).dtype))
            )
    x, y = F.aval(a).shape, F.aval(b).shape
    free_a = tuple(k for k in range(len(x)) if k not in over_a)
    free_b = tuple(k for k in range(len(y)) if k not in over_b)
    m, n = tuple(x[k] for k in free_a), tuple(y[k] for k in free_b)
    inner = math.prod(x[k] for k in over_a)
    left = F.reshape(F.permute(a, (*free_a, *over_a)), (math.prod(m), inner))
    right = F.reshape(F.permute(b, (*over_b, *free_b)), (inner, math.prod(n)))
    return F.reshape(F.mm_nd(left, right), (*m, *n))


register(
    name="tensordot",
    doc="Sum of products over pairs of axes: the last `dims` axes of a with the first of b, or the axes listed as "
    "dims=((of a), (of b)). The other axes of a come first in the result. As torch.tensordot.",
    signature="a, b, dims=2",
    precision="narrow",
    inputs=("a", "b"),
    canon=_tensordot_canon,
    rule=_tensordot_rule,
    compose=_tensordot,
    samples=(
        Sample(t(2, 3, 4), t(3, 4, 5)),
        Sample(t(2, 3), t(3, 4), dims=1),
        Sample(t(2, 3), t(4, 5), dims=0, why_="all products"),
        Sample(t(3, 4, 5), t(4, 3, 2), dims=([1, 0], [0, 1])),
        Sample(t(3, 4), t(5, 4), dims=((-1,), (-1,))),
        Sample(t(2, 3), t(2, 3), why_="all axes: a scalar"),
        Sample(t(1, 3, 2), t(4, 1, 5), dims=((0, 1), (0, 1)), why_="axes of size 1 broadcast"),
        Sample(t(0, 3), t(3, 2), dims=1),
        Sample(t(4, 6, layout="transposed"), t(6, 3, layout="strided"), dims=1),
        Sample(t(2, 3, dtype="float64"), t(3, dtype="float64"), dims=1),
    ),
    errors=(
        Bad(ShapeError, "do not pair up", t(2, 3), t(4, 5), dims=1),
        Bad(ShapeError, "dims=3 axes", t(2, 3), t(3, 4), dims=3),
        Bad(ShapeError, "twice", t(2, 2), t(2, 2), dims=((0, 0), (0, 1))),
        Bad(ArgumentError, "two lists", t(2, 3), t(3, 4), dims=((1,),)),
    ),
    torch="torch.tensordot",
)
