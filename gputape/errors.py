"""The errors gputape raises.

One form: `op: what is wrong, with the values. What to do.` Each class also derives from the builtin that a
Python user would catch.
"""


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
