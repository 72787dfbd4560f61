"""The errors gputape raises.

One form: `op: what is wrong, with the values. What to do.` Each class also derives from the builtin that a
Python user would catch.
"""

from __future__ import annotations

from typing import Any as _Any


class GputapeError(Exception):
    """Base of every error that gputape raises on purpose."""


class ShapeError(GputapeError, ValueError):
    """Shapes, axes or window sizes that do not fit together."""


class DTypeError(GputapeError, TypeError):
    """An element type that the op does not take."""


class ArgumentError(GputapeError, ValueError):
    """An option with a value outside its domain (a negative dropout probability, an unknown reduction)."""


class IndexRangeError(GputapeError, IndexError):
    """An index or a class label outside its range."""


class DivisionError(GputapeError, ZeroDivisionError):
    """An integer divided by 0."""


class TapeError(GputapeError, RuntimeError):
    """A node id, tape or recording that is unknown, stale, foreign or already consumed."""


class UnsupportedError(GputapeError, NotImplementedError):
    """PyTorch has it, gputape does not yet."""


class BackendError(GputapeError, RuntimeError):
    """A device, driver, toolchain or body that is missing or does not fit."""


class CompileError(GputapeError, RuntimeError):
    """A function that cannot be recorded and replayed."""


class CheckpointError(GputapeError, ValueError):
    """A checkpoint that is damaged, foreign or does not fit the model."""


class DataError(GputapeError, ValueError):
    """Data that cannot be trained on."""


class GradientError(GputapeError, AssertionError):
    """`check_grads` found a gradient that differs from the difference quotient."""


class AnomalyError(GputapeError, FloatingPointError, RuntimeError):
    """`detect_anomaly` met a NaN or an infinity.

    Attributes:
        op: the op that made it; in backward, the op whose vjp did.
        node: id of that op's node, or None outside a tape.
        line: the user's line that made the node, as "file.py:12".
    """

    def __init__(self, op: str, made: str, inputs: list[tuple[str, str]], remedy: str, line: str) -> None:
        super().__init__(op, made, inputs, remedy, line)
        self.op, self.line = op, line
        self.node: int | None = None
        self._labels = [""] * len(inputs)

    def at_node(self, i: int, ids: tuple[_Any, ...] = (), nodes: _Any = ()) -> AnomalyError:
        """The error with the id of its node, and the ids and names of the nodes `ids` that went in."""
        self.node = i
        if ids:
            self._labels = [
                "" if j is None else f" = %{j} {nodes[j].name!r}" if nodes[j].name else f" = %{j}" for j in ids
            ]
        return self

    def __str__(self) -> str:
        op, made, inputs, remedy, line = self.args
        node = "" if self.node is None else f"node {self.node}, "
        taken = "; ".join(f"{name}{label}: {text}" for (name, text), label in zip(inputs, self._labels, strict=True))
        return f"{op}: {made} ({node}{line}). It took {taken or 'nothing'}. {remedy}"
