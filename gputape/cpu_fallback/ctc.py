"""Bodies of the connectionist temporal classification loss: a loop over time, over all samples and states at once."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..backend import scratch
from ..ops.ctc import wrong_label, wrong_length


def _buffers(log_probs: Aval, states: Aval, alpha: Aval | None = None) -> list[Aval]:
    n, size = states.shape
    table = states.with_dtype(log_probs.dtype)
    return [states, Aval((n, size + 2), log_probs.dtype), table, table, table, table]


@scratch(lambda log_probs, states, *lengths: _buffers(log_probs, states))
def ctc(
    xp: Any,
    y: Any,
    alpha: Any,
    log_probs: Any,
    states: Any,
    input_lengths: Any,
    target_lengths: Any,
    *,
    scratch: list[Any],
) -> None:
    _check(xp, log_probs, states, input_lengths, target_lengths)
    at, padded, jump, *work = scratch
    _places(xp, at, states, log_probs.shape[2])
    _jumps(xp, jump, states)
    padded[:, :2] = -xp.inf
    for k, row in enumerate(alpha):
        xp.take(log_probs[k].reshape(-1), at, out=row, mode="clip")
        if k == 0:
            row[:, 2:] = -xp.inf
            continue
        padded[:, 2:] = alpha[k - 1]
        xp.add(padded[:, :-2], jump, out=work[0])
        xp.add(row, _log_sum(xp, padded[:, 2:], padded[:, 1:-1], *work), out=row)
    xp.copyto(alpha, -xp.inf, where=~_inside(xp, alpha, input_lengths, target_lengths))
    xp.negative(_log_likelihood(xp, alpha, input_lengths, target_lengths), out=y)


@scratch(lambda dy, log_probs, states, *rest: _buffers(log_probs, states))
def ctc_bwd(
    xp: Any,
    dstates: Any,
    dy: Any,
    log_probs: Any,
    states: Any,
    input_lengths: Any,
    target_lengths: Any,
    alpha: Any,
    *,
    scratch: list[Any],
) -> None:
    """dstates holds beta until the end; `padded` the log-probabilities of all endings from the time step after on."""
    at, padded, jump, *work = scratch
    _places(xp, at, states, log_probs.shape[2])
    _jumps(xp, jump, states)
    left = 2 * target_lengths[:, None] - xp.arange(states.shape[1])  # how many states come after
    padded[...] = -xp.inf
    after = padded[:, :-2]
    for k in range(len(alpha) - 1, -1, -1):
        beta = dstates[k]
        xp.copyto(work[0], padded[:, 2:])
        xp.add(work[0][:, :-2], jump[:, 2:], out=work[0][:, :-2])
        xp.copyto(beta, _log_sum(xp, after, padded[:, 1:-1], *work))
        xp.copyto(beta, -xp.inf, where=(input_lengths <= k + 1)[:, None])
        xp.copyto(beta, 0, where=(input_lengths == k + 1)[:, None] & (left >= 0) & (left <= 1))
        xp.take(log_probs[k].reshape(-1), at, out=work[0], mode="clip")
        xp.add(work[0], beta, out=after)
        xp.copyto(after, -xp.inf, where=beta == -xp.inf)
    xp.add(dstates, alpha, out=dstates)
    xp.subtract(dstates, _log_likelihood(xp, alpha, input_lengths, target_lengths)[:, None], out=dstates)
    xp.exp(dstates, out=dstates)
    xp.multiply(dstates, -dy[:, None], out=dstates)
    inside = _inside(xp, alpha, input_lengths, target_lengths) & (dy != 0)[:, None]
    xp.copyto(dstates, 0, where=~inside)


def _places(xp: Any, at: Any, states: Any, classes: int) -> None:
    """Where each state's label is in the flat (samples, classes) of one time step."""
    xp.add(states, classes * xp.arange(len(states))[:, None], out=at)


def _jumps(xp: Any, jump: Any, states: Any) -> None:
    """0 where a state may follow the one before the last, else -inf."""
    jump[...] = -xp.inf
    xp.copyto(jump[:, 2:], 0, where=states[:, 2:] != states[:, :-2])


def _log_sum(xp: Any, a: Any, b: Any, c: Any, top: Any, term: Any) -> Any:
    """log(exp a + exp b + exp c), -inf of three of them, written over c."""
    xp.maximum(a, b, out=top)
    xp.maximum(top, c, out=top)
    xp.maximum(top, xp.finfo(c.dtype).min, out=top)
    xp.subtract(c, top, out=c)
    xp.exp(c, out=c)
    for x in (a, b):
        xp.subtract(x, top, out=term)
        xp.exp(term, out=term)
        xp.add(c, term, out=c)
    xp.log(c, out=c)
    return xp.add(c, top, out=c)


def _inside(xp: Any, alpha: Any, input_lengths: Any, target_lengths: Any) -> Any:
    steps, _, size = alpha.shape
    in_time = xp.arange(steps)[:, None, None] < input_lengths[:, None]
    return in_time & (xp.arange(size) <= 2 * target_lengths[:, None])


def _log_likelihood(xp: Any, alpha: Any, input_lengths: Any, target_lengths: Any) -> Any:
    """Of alignments that end in the last label or in the blank after it; of no time steps, 0 for no labels."""
    samples, end = xp.arange(len(target_lengths)), 2 * target_lengths
    nothing = xp.where(target_lengths == 0, xp.asarray(0, alpha.dtype), -xp.inf)
    if not len(alpha):
        return nothing
    last = alpha[input_lengths - 1, samples]
    label = xp.where(end > 0, last[samples, end - 1], xp.asarray(-xp.inf, alpha.dtype))
    return xp.where(input_lengths == 0, nothing, xp.logaddexp(last[samples, end], label))


def _check(xp: Any, log_probs: Any, states: Any, input_lengths: Any, target_lengths: Any) -> None:
    (steps, _, classes), size = log_probs.shape, states.shape[1]
    for name, lengths, most in (("input", input_lengths, steps), ("target", target_lengths, size // 2)):
        wrong = (lengths < 0) | (lengths > most)
        if wrong.any():
            k = int(xp.argmax(wrong))
            raise wrong_length(name, k, int(lengths[k]), most)
    wrong = ((states < 0) | (states >= classes)) & (xp.arange(size) <= 2 * target_lengths[:, None])
    if wrong.any():
        k, s = divmod(int(xp.argmax(wrong)), size)
        raise wrong_label(k, int(states[k, s]), classes)
