"""What the cards give the tests to check: the rows of `gputape ops`.

A check that cannot apply to an op is told from its card: its rule refuses such inputs, it is a view, it is composed of
ops that are checked themselves, or it is called by gradients only and checked through them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import backend
from .aval import FLOATS, Aval
from .errors import GputapeError
from .functions import number_dtype
from .registry import At, Op
from .samples import Sample, T

GAP, NOT_ASKED = "-", "n/a"
REFERENCES = Path(__file__).parent.parent / "tests" / "reference" / "data"

Change = Callable[[T], T]


def checks(op: Op) -> dict[str, str]:
    """Check → what is there for it: a number or "yes"; `GAP` where something is missing, `NOT_ASKED` where nothing can
    be or need be."""
    primitive = op.compose is None
    arrays = [x for s in op.samples for x in _arrays(s)]
    with_axes = [x for x in arrays if x.shape] or _takes(op, _with_an_axis)
    return {
        "body": "composed" if not primitive else "numpy" if op.name in backend.backend("cpu").bodies else GAP,
        "order": str(op.order) if op.vjp is not None or not primitive else "none",
        "samples": _mark(len(op.samples), op.public),
        "errors": _mark(len(op.errors), op.public),
        "size 0": _mark(_has_empty(op), bool(with_axes) and _takes(op, *_emptied(op))),
        "strided": _mark(any(x.layout != "c" for x in arrays), bool(with_axes)),
        "float64": _mark(_has_float64(op), _takes(op, *_WIDER) or any(y.is_float for y in _results(op))),
        "perf": _mark(len(op.perf), primitive and op.public and op.view is None and bool(with_axes)),
        "torch": _mark((REFERENCES / f"{op.name}.npz").exists(), op.torch is not None and REFERENCES.exists()),
    }


def _mark(found: Any, asked: bool) -> str:
    if found:
        return "yes" if found is True else str(found)
    return GAP if asked else NOT_ASKED


# --- what the samples hold --------------------------------------------------------------------------------------------


def _arrays(sample: Sample) -> list[T]:
    return [x for x in sample.inputs if isinstance(x, T)]


def _results(op: Op) -> Iterator[Aval]:
    """The output avals of all samples."""
    for sample in op.samples:
        at = _at(op, sample)
        if at is not None:
            yield from (y for y in at.outs if isinstance(y, Aval))


def _has_empty(op: Op) -> bool:
    return any(0 in x.shape for s in op.samples for x in _arrays(s)) or any(y.size == 0 for y in _results(op))


def _has_float64(op: Op) -> bool:
    """Whether a sample has a float64 input; of an op that takes no floats, a float64 result."""
    if any(x.dtype == "float64" for s in op.samples for x in _arrays(s)):
        return True
    return not _takes(op, *_WIDER) and any(y.dtype == "float64" for y in _results(op))


# --- what the rule takes ----------------------------------------------------------------------------------------------


def _with_an_axis(x: T) -> T:
    return replace(x, shape=(2, *x.shape))


_WIDER: tuple[Change, ...] = (
    lambda x: replace(x, dtype="float64") if x.dtype in FLOATS else x,
    lambda x: replace(x, dtype="float64"),
)


def _emptied(op: Op) -> Iterator[Change]:
    """For each size in the samples, the change of that size to 0."""
    for n in sorted({n for s in op.samples for x in _arrays(s) for n in x.shape}):
        yield lambda x, n=n: replace(x, shape=tuple(0 if m == n else m for m in x.shape))  # type: ignore[misc]


def _takes(op: Op, *changes: Change) -> bool:
    """Whether the op's rule takes one of the samples after a change that alters it."""
    for sample in op.samples:
        for change in changes:
            changed = Sample(*(change(x) if isinstance(x, T) else x for x in sample.inputs), **sample.attrs)
            if changed.inputs != sample.inputs and _at(op, changed) is not None:
                return True
    return False


def _at(op: Op, sample: Sample) -> At | None:
    """The op at the sample's avals; None if it refuses them. Inputs of several dtypes are cast first, as in a call."""
    known = [Aval(x.shape, x.dtype) for x in _arrays(sample)]
    avals = [
        Aval(x.shape, x.dtype) if isinstance(x, T) else None if x is None else Aval((), number_dtype(op, x, known))
        for x in sample.inputs
    ]
    if not op.variadic:
        avals += [None] * (len(op.inputs) - len(avals))
    try:
        at = op.at(tuple(avals), op.values(sample.attrs))
        if at.casts is not None:
            cast = [a if a is None or c is None else a.with_dtype(c) for a, c in zip(avals, at.casts, strict=True)]
            at = op.at(tuple(cast), op.values(sample.attrs))
    except GputapeError:
        return None
    return at
