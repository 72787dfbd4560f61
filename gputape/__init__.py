"""gputape: a tape-based autodiff engine for training small models on NVIDIA GPUs, with a NumPy fallback."""

from __future__ import annotations

__version__ = "0.1.0"

from . import errors as _errors
from . import ops as _cards  # registers the cards that everything below is generated from
from .backend import device
from .errors import *  # noqa: F403 - the error classes, listed in errors.py
from .plan import compile
from .random import Generator, bernoulli, manual_seed, rand, randn, randperm
from .registry import Op as _Op
from .registry import on_register as _on_register
from .tape import Node, Tape
from .tapem import Err, Ok, TapeM, do
from .transforms import check_grads, grad, hvp, jvp, value_and_grad, vjp
from .var import FUNCTIONS as _FUNCTIONS
from .var import Cell, Recording, Var, leaf, no_grad, record


@_on_register
def _export(op: _Op) -> None:
    """Every public op of the registry, those registered later too, is `gt.<name>`."""
    if op.public:
        globals()[op.name] = _FUNCTIONS[op.name]


from .stateful import batch_norm  # noqa: E402 - takes the place of the pure op of that name
