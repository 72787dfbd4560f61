"""Functions with a side effect beside their result: `gt.batch_norm` and `gt.instance_norm` update their running
statistics."""

from __future__ import annotations

from typing import Any

from .arrays import as_array, aval_of, memory_of
from .backend import current
from .dispatch import FUNCTIONS, in_precision, interpreter, updates
from .errors import ArgumentError, CompileError
from .ops.batch_norm import per_channel
from .registry import get
from .variable import Cell, Operators


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-05,
) -> Any:
    """Batch normalisation that keeps running statistics. As torch.nn.functional.batch_norm.

    training: normalises by the statistics of the batch, and moves the running ones to
    (1 - momentum) · running + momentum · batch, with the unbiased variance. They are `Cell`s (assigned) or writable
    NumPy arrays (changed in place), or both None. Otherwise normalises by the running ones and changes nothing.

    Raises:
        ShapeError: fewer than two axes, parameters that are not (C,), or one value per channel in training.
        ArgumentError: running statistics that cannot be written in training.
        CompileError: NumPy arrays as running statistics of a compiled function.
    """
    if not training or running_mean is None or running_var is None:
        pure = FUNCTIONS["batch_norm"]
        return pure(input, running_mean, running_var, weight, bias, training, momentum, eps)
    input, weight, bias = in_precision(get("batch_norm_train"), (input, weight, bias), (eps,))
    given = (input, running_mean, running_var, weight, bias)
    avals = tuple(None if x is None else _aval(x) for x in given)
    get("batch_norm").at(avals, (training, momentum, eps))  # raises what the pure op raises
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        _check_writable("batch_norm", name, running)
    y, mean, var = interpreter().batch_norm_train(input, weight, bias, eps)
    n = per_channel(_aval(input))
    if not n:  # no values, no statistics
        return y
    _move(running_mean, mean, momentum, 1.0)
    _move(running_var, var, momentum, n / (n - 1))
    return y


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-05,
) -> Any:
    """Instance normalisation that keeps running statistics. As torch.nn.functional.instance_norm.

    use_input_stats: each channel of each sample is normalised by its own statistics, and the running ones, if given,
    move to (1 - momentum) · running + momentum · the mean over the samples of these, with unbiased variances. They are
    `Cell`s (assigned) or writable NumPy arrays (changed in place). Otherwise normalises by the running ones.

    Raises:
        ShapeError: fewer than two axes, parameters that are not (C,), or one value per channel and sample.
        ArgumentError: running statistics that cannot be written, one without the other, or none where they are needed.
        CompileError: NumPy arrays as running statistics of a compiled function.
    """
    if not use_input_stats or (running_mean is None and running_var is None):
        pure = FUNCTIONS["instance_norm"]
        return pure(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        _check_writable("instance_norm", name, running)
    y = FUNCTIONS["instance_norm"](input, running_mean, running_var, weight, bias, True, momentum, eps)
    F, over = updates(), tuple(range(2, len(_aval(input).shape)))
    samples = F.cast(F.detach(input), _aval(running_mean).dtype)
    if _aval(input).size:
        _move(running_mean, F.mean(samples, (0, *over)), momentum, 1.0)
        _move(running_var, F.mean(F.var(samples, over), 0), momentum, 1.0)
    return y


def _aval(x: Any) -> Any:
    return x.aval if isinstance(x, Operators) else aval_of(as_array(x))


def _check_writable(op: str, name: str, running: Any) -> None:
    if isinstance(running, Cell):
        return
    fits = isinstance(running, current().memory.kind)
    if not fits or not getattr(running.flags, "writeable", True):  # a device's arrays have no such flag
        kind = "a read-only array" if fits else f"a {type(running).__name__}"
        raise ArgumentError(
            f"{op}: {name} is {kind}, which cannot be updated in training. "
            "Pass a gt.Cell or a writable NumPy array, or None for both."
        )
    if getattr(interpreter(), "tracing", False):
        raise CompileError(f"{op}: {name} is a NumPy array, which a compiled function cannot update. Pass a gt.Cell.")


def _move(running: Any, batch: Any, momentum: float, factor: float) -> None:
    """running = (1 - momentum) · running + momentum · factor · batch."""
    F = updates()
    moved = F.add(F.scale(running, 1 - momentum), F.scale(F.detach(batch), momentum * factor))
    if isinstance(running, Cell):
        running.assign(moved)
    else:
        memory_of(running).write(running, moved)


Operators.batch_norm = batch_norm  # type: ignore[attr-defined]
Operators.instance_norm = instance_norm  # type: ignore[attr-defined]
