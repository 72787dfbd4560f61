"""Cards of the connectionist temporal classification loss (Graves et al. 2006).

The labels l of a sample, with the blank before, between and after them, are the S = 2·|l| + 1 states of an alignment.
From one time step to the next it stays in its state or goes to the next one, or to the one after that if this is
another label. alpha[t, s] is the log-probability of all its beginnings that are in state s at time t.
"""

from __future__ import annotations

from typing import Any

from ..aval import Aval, need_float
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..registry import At, no_second_order, register
from ..samples import Bad, Perf, Sample, t
from .index import ids, need_index
from .loss import check_reduction, reduce
from .norm import statistics_dtype

NAME = "ctc_loss"


def wrong_length(which: str, sample: int, value: int, most: int) -> IndexRangeError:
    """The error for a length that does not fit: "input" or "target"."""
    what = "time steps" if which == "input" else "labels"
    return IndexRangeError(
        f"{NAME}: {which}_lengths[{sample}] is {value}, but there are {most} {what}. Use lengths from 0 to {most}."
    )


def wrong_label(sample: int, label: int, classes: int) -> IndexRangeError:
    """The error for a label that is no class."""
    return IndexRangeError(
        f"{NAME}: label {label} of sample {sample} is out of range for {classes} classes. Use 0 to {classes - 1}."
    )


def _rule(log_probs: Aval, states: Aval, input_lengths: Aval, target_lengths: Aval) -> tuple[Aval, ...]:
    steps, n, _ = log_probs.shape
    return log_probs.with_shape((n,)), Aval((steps, *states.shape), statistics_dtype(log_probs))


def _vjp(
    F: Any, at: At, grads: Any, log_probs: Any, states: Any, input_lengths: Any, target_lengths: Any, y: Any, alpha: Any
) -> tuple[Any, ...]:
    """dlog_probs = dy · (exp(log_probs) - the probability of being in a state with that label), within the lengths."""
    dy = grads[0]
    if dy is None:
        return None, None, None, None
    steps, n, _ = at.ins[0].shape
    zero = F.const(0, at.ins[0].dtype)
    visits = F.ctc_bwd(dy, log_probs, states, input_lengths, target_lengths, alpha)
    factor = F.where(F.eq(dy, zero), zero, F.add(dy, F.sub(y, y)))  # NaN where y is inf, unless nobody asks
    inside = F.lt(F.const([[k] for k in range(steps)], "int64"), F.reshape(input_lengths, (1, n)))
    factor = F.reshape(F.where(inside, factor, zero), (steps, n, 1))
    index = F.expand(states, at.outs[1].shape)
    return F.scatter_add(F.mul(F.exp(log_probs), factor), 2, index, visits), None, None, None


_STATES = t(2, 5, dtype="int64", fill=((0, 2, 0, 1, 0), (0, 3, 0, 3, 0)))
_LENGTHS = t(2, dtype="int64", fill=(6, 4))
_COUNTS = t(2, dtype="int64", fill=(1, 2))
_TINY = {"fill": "uniform", "low": -42.0, "high": -40.0}  # exp() of these is nothing, which makes the gradient true

register(
    name="ctc",
    doc="""-log Σ exp(log-probability of an alignment) per sample, for log_probs (T, N, C).

    states (N, S): blank, label, blank, …, blank, int64 as the lengths (N); states after 2·target_length and time steps
    from input_length on play no part. alpha (T, N, S), -inf there, is float32 (float64 for float64). The gradient is
    PyTorch's: that of the loss of log_softmax(log_probs), where log_probs are what log_softmax gives.
    """,
    signature="log_probs, states, input_lengths, target_lengths",
    inputs=("log_probs", "states", "input_lengths", "target_lengths"),
    outputs=("y", "alpha"),
    rule=_rule,
    vjp=_vjp,
    saves=("log_probs", "states", "input_lengths", "target_lengths", "y", "alpha"),
    order=1,
    infinite=True,  # no alignment fits
    samples=(
        Sample(t(6, 2, 4, **_TINY), _STATES, _LENGTHS, _COUNTS),
        Sample(t(6, 2, 4, **_TINY, layout="transposed"), t(2, 5, dtype="int64", fill=1), _LENGTHS, _COUNTS),
        Sample(t(6, 2, 4), _STATES, _LENGTHS, t(2, dtype="int64", fill=(2, 0)), grad_=False, why_="no labels"),
        Sample(t(6, 2, 4), _STATES, t(2, dtype="int64", fill=(0, 1)), _COUNTS, grad_=False, why_="impossible: inf"),
        Sample(t(6, 2, 4), t(2, 1, dtype="int64", fill=0), _LENGTHS, t(2, dtype="int64", fill=0), grad_=False),
        Sample(t(6, 2, 4, fill=((0.0, float("-inf"), -1.0, -2.0),)), _STATES, _LENGTHS, _COUNTS, grad_=False),
        Sample(t(6, 2, 4, fill=((0.0, -1.0, float("nan"), -2.0),)), _STATES, _LENGTHS, _COUNTS, grad_=False),
        Sample(t(6, 2, 4, dtype="float64"), _STATES, _LENGTHS, _COUNTS, grad_=False),
        Sample(t(6, 2, 4, dtype="bfloat16"), _STATES, _LENGTHS, _COUNTS, grad_=False),
        Sample(t(0, 2, 4), _STATES, t(2, dtype="int64", fill=0), _COUNTS, grad_=False, why_="no time steps"),
    ),
    perf=(
        Perf(
            t(100, 16, 32, fill="uniform", low=-6.0, high=-2.0),
            ids(16, 61, low=1, high=32),
            t(16, dtype="int64", fill=100),
            t(16, dtype="int64", fill=30),
        ),
    ),
    public=False,
    exempt={"ctc": "one thread per state: classes are gathered"},
)

register(
    name="ctc_bwd",
    doc="""Gradient of ctc with respect to the log-probability of each state at each time, (T, N, S).

    -dy · exp(alpha + beta + y): minus the probability of being in that state, with beta[t, s] the log-probability of
    all endings that start in state s at time t, without that of time t itself. 0 where dy is 0.
    """,
    signature="dy, log_probs, states, input_lengths, target_lengths, alpha",
    inputs=("dy", "log_probs", "states", "input_lengths", "target_lengths", "alpha"),
    outputs=("dstates",),
    rule=lambda dy, log_probs, states, input_lengths, target_lengths, alpha: log_probs.with_shape(alpha.shape),
    vjp=no_second_order("ctc_bwd"),
    order=1,
    public=False,
    exempt={"ctc_bwd": "one thread per state: classes are gathered"},
)


# --- ctc_loss ---------------------------------------------------------------------------------------------------------


def _ctc_loss_rule(
    log_probs: Aval,
    targets: Aval,
    input_lengths: Aval,
    target_lengths: Aval,
    *,
    blank: int,
    reduction: str,
    zero_infinity: bool,
) -> Aval:
    check_reduction(NAME, reduction)
    need_float(NAME, log_probs=log_probs)
    need_index(NAME, targets=targets, input_lengths=input_lengths, target_lengths=target_lengths)
    if log_probs.ndim not in (2, 3) or 0 in log_probs.shape[1:]:
        raise ShapeError(f"{NAME}: log_probs has shape {log_probs.shape}, but (T, N, C) or (T, C) is needed.")
    n, classes = log_probs.shape[1] if log_probs.ndim == 3 else 1, log_probs.shape[-1]
    if isinstance(blank, bool) or not isinstance(blank, int) or not 0 <= blank < classes:
        raise ArgumentError(
            f"{NAME}: blank={blank!r} is no class of log_probs {log_probs.shape}. Use 0 to {classes - 1}."
        )
    for name, a in (("input_lengths", input_lengths), ("target_lengths", target_lengths)):
        if a.shape != (n,) and (log_probs.ndim == 3 or a.shape):
            raise ShapeError(f"{NAME}: {name} has shape {a.shape}, but one length per sample is needed: ({n},).")
    if targets.ndim not in (1, 2) or (targets.ndim == 2 and targets.shape[0] != n):
        raise ShapeError(
            f"{NAME}: targets has shape {targets.shape}, but ({n}, S) is needed, padded, or one axis with the labels "
            "of all samples one after another."
        )
    return log_probs


def _labels(F: Any, targets: Any, target_lengths: Any, n: int) -> Any:
    """Padded labels (n, S), of labels that are padded already or follow one another."""
    a = F.aval(targets)
    targets = F.cast(targets, "int64")
    if a.ndim == 2 or n == 1:
        return F.reshape(targets, (n, a.size // n))
    counts = [int(k) for k in F.read(target_lengths).reshape(-1)]
    if sum(counts) != a.size or min(counts) < 0:
        raise ShapeError(
            f"{NAME}: target_lengths {counts} add up to {sum(counts)}, but there are {a.size} targets. Make them fit."
        )
    longest, start, places = max(counts), 0, []
    for count in counts:
        places += [min(start + k, a.size - 1) for k in range(longest)]
        start += count
    return F.reshape(F.index_select(targets, 0, F.const(places, "int64")), (n, longest))


def _states(F: Any, labels: Any, target_lengths: Any, blank: int) -> Any:
    """(N, 2·S + 1): the labels with the blank before, between and after them, and in place of the padding."""
    n, size = F.aval(labels).shape
    listed = F.lt(F.const([list(range(size))], "int64"), F.reshape(target_lengths, (n, 1)))
    labels = F.where(listed, labels, F.const(blank, "int64"))
    blanks = F.expand(F.const(blank, "int64"), (n, size))
    pairs = F.reshape(F.stack([blanks, labels], 2), (n, 2 * size))
    return F.cat([pairs, F.expand(F.const(blank, "int64"), (n, 1))], 1)


def _ctc_loss(
    F: Any,
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    *,
    blank: int,
    reduction: str,
    zero_infinity: bool,
) -> Any:
    x = F.aval(log_probs)
    if x.ndim == 2:
        log_probs = F.reshape(log_probs, (x.shape[0], 1, x.shape[1]))
    n = F.aval(log_probs).shape[1]
    input_lengths, target_lengths = (F.reshape(F.cast(a, "int64"), (n,)) for a in (input_lengths, target_lengths))
    states = _states(F, _labels(F, targets, target_lengths, n), target_lengths, blank)
    y = F.ctc(log_probs, states, input_lengths, target_lengths)
    if zero_infinity:
        y = F.masked_fill(y, F.eq(y, F.const(float("inf"), x.dtype)), 0.0)
    if reduction == "mean":
        y = F.div(y, F.cast(F.clamp(target_lengths, 1), x.dtype))
    y = reduce(F, y, reduction)
    return F.reshape(y, ()) if x.ndim == 2 else y


_LOGP = {"fill": "uniform", "low": -42.0, "high": -40.0}
_LABELS = t(2, 3, dtype="int64", fill=((1, 1, 2), (3, 2, 0)))
_FOUR = t(2, dtype="int64", fill=(3, 1))
_TIMES = t(2, dtype="int64", fill=(7, 5))
_CASE = (t(7, 2, 4, **_LOGP), _LABELS, _TIMES, _FOUR)
_RANDOM = (t(7, 2, 4), _LABELS, _TIMES, _FOUR)
_ONE = t(1, dtype="int64", fill="ones")

register(
    name=NAME,
    doc="""-log of the total probability of the alignments of each target with log_probs (T, N, C), or (T, C).

    targets: (N, S), padded with anything, or (Σ target_lengths,), one after another, which reads the lengths; integers
    other than `blank`. input_lengths and target_lengths: integers (N,), or () for one sample. reduction "mean" divides
    each loss by its target length (at least 1) first. A target that does not fit its input gives inf; zero_infinity
    makes that 0, without gradient. The gradient takes log_probs for what log_softmax gives: it is exp(log_probs) minus
    the probability of each label at each time, whatever log_probs are, as PyTorch's. Of order 1. As
    torch.nn.functional.ctc_loss; Graves et al. 2006.
    """,
    signature='log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False',
    inputs=("log_probs", "targets", "input_lengths", "target_lengths"),
    rule=_ctc_loss_rule,
    compose=_ctc_loss,
    order=1,
    precision="wide",
    samples=(
        Sample(*_CASE),
        Sample(*_CASE, reduction="sum"),
        Sample(*_RANDOM, reduction="none", grad_=False, why_="not normalised"),
        Sample(
            *_RANDOM, blank=2, grad_=False, torch_=False, why_="a label that is the blank: PyTorch loses it at the end"
        ),
        Sample(t(7, 2, 4, **_LOGP), t(4, dtype="int64", fill=(1, 1, 2, 3)), _TIMES, _FOUR, why_="one after another"),
        Sample(
            t(7, 3, 4),
            t(3, dtype="int32", fill=(1, 1, 2)),
            t(3, dtype="int32", fill=7),
            t(3, dtype="int32", fill=(2, 0, 1)),
            grad_=False,
            reduction="none",
            why_="a sample without labels",
        ),
        Sample(t(7, 4, **_LOGP), t(3, dtype="int64", fill=(3, 1, 3)), ids(high=7, low=6), ids(high=4, low=3)),
        Sample(
            t(7, 4),
            t(1, dtype="int64", fill=3),
            t(1, dtype="int64", fill=7),
            _ONE,
            reduction="none",
            grad_=False,
        ),
        Sample(
            t(7, 2, 4), _LABELS, t(2, dtype="int64", fill=(3, 5)), _FOUR, grad_=False, why_="does not fit: inf, NaN"
        ),
        Sample(t(7, 2, 4), _LABELS, t(2, dtype="int64", fill=(3, 5)), _FOUR, zero_infinity=True, grad_=False),
        Sample(
            t(7, 2, 4),
            _LABELS,
            t(2, dtype="int64", fill=(0, 7)),
            _FOUR,
            reduction="none",
            zero_infinity=True,
            grad_=False,
        ),
        Sample(
            t(7, 2, 4),
            t(2, 0, dtype="int64", fill="zeros"),
            _TIMES,
            t(2, dtype="int64", fill=0),
            grad_=False,
            why_="no labels",
        ),
        Sample(
            t(7, 2, 4, layout="transposed"),
            t(2, 3, dtype="int64", fill=2, layout="strided"),
            _TIMES,
            _FOUR,
            grad_=False,
        ),
        Sample(t(7, 2, 4, dtype="float64"), _LABELS, _TIMES, _FOUR, grad_=False),
    ),
    errors=(
        Bad(
            IndexRangeError,
            r"input_lengths\[0\] is 8.*7 time steps",
            t(7, 2, 4),
            _LABELS,
            t(2, dtype="int64", fill=8),
            _FOUR,
        ),
        Bad(
            IndexRangeError,
            r"target_lengths\[1\] is 4.*3 labels",
            t(7, 2, 4),
            _LABELS,
            _TIMES,
            t(2, dtype="int64", fill=(1, 4)),
        ),
        Bad(IndexRangeError, r"target_lengths\[0\] is -1", t(7, 2, 4), _LABELS, _TIMES, t(2, dtype="int64", fill=-1)),
        Bad(
            IndexRangeError, r"label 4.*sample 0.*4 classes", t(7, 2, 4), t(2, 3, dtype="int64", fill=4), _TIMES, _FOUR
        ),
        Bad(ShapeError, "add up to 4, but there are 3", t(7, 2, 4), t(3, dtype="int64", fill=1), _TIMES, _FOUR),
        Bad(ShapeError, r"input_lengths has shape \(1,\)", t(7, 2, 4), _LABELS, _ONE, _FOUR),
        Bad(ShapeError, r"targets has shape \(3, 3\)", t(7, 2, 4), t(3, 3, dtype="int64", fill=1), _TIMES, _FOUR),
        Bad(ShapeError, r"\(T, N, C\)", t(7), _LABELS, _TIMES, _FOUR),
        Bad(ArgumentError, "blank=4", *_RANDOM, blank=4),
        Bad(ArgumentError, "reduction='avg'", *_RANDOM, reduction="avg"),
        Bad(DTypeError, "input_lengths is float32", t(7, 2, 4), _LABELS, t(2, fill="ones"), _FOUR),
    ),
    torch="torch.nn.functional.ctc_loss",
)
