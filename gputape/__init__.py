"""gputape: a tape-based autodiff engine for training small models on NVIDIA GPUs, with a NumPy fallback."""

from __future__ import annotations

__version__ = "0.1.0"

import importlib as _importlib

from . import errors as _errors
from . import ops as _cards  # registers the cards that everything below is generated from
from .anomaly import detect_anomaly
from .arrays import asnumpy
from .backend import device, register_body, synchronize
from .closeness import allclose, equal
from .compiled import compile
from .dispatch import FUNCTIONS as _FUNCTIONS
from .errors import *  # noqa: F403 - the error classes, listed in errors.py
from .factories import arange, eye, full, linspace, ones, zeros
from .gradcheck import check_grads
from .jacobian import hessian, jacobian
from .node import Node
from .numerics import matmul_precision, precision
from .random import (
    Generator,
    bernoulli,
    manual_seed,
    multinomial,
    normal,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
)
from .recording import Recording, leaf, no_grad, record
from .registry import find as _find
from .registry import ops as _ops
from .registry import register
from .remat import checkpoint
from .synonyms import SYNONYMS as _SYNONYMS
from .tape import Tape
from .tapem import Err, Ok, TapeM, do
from .threads import get_num_threads, set_num_threads
from .transforms import grad, hvp, jvp, value_and_grad, vjp
from .variable import Cell, Var


def __getattr__(name: str):
    """`gt.<op>` for every public op, those registered later too, and the packages beside them."""
    if name in _PACKAGES:
        return _importlib.import_module(f"gputape.{name}")
    op = None if name.startswith("_") else _find(_SYNONYMS.get(name, name))
    if op is None or not op.public:
        raise AttributeError(f"module 'gputape' has no attribute {name!r}, and there is no op of that name")
    globals()[name] = _FUNCTIONS[op.name]
    return globals()[name]


def __dir__() -> list[str]:
    return [*globals(), *_PACKAGES, *_SYNONYMS, *(op.name for op in _ops() if op.public)]


_PACKAGES = ("data", "nn", "optim")


var = _FUNCTIONS["var"]  # the variance, not the module that recordings live in
trace = _FUNCTIONS["trace"]  # the sum of a diagonal, not the module of compiled steps
from .stateful import batch_norm, instance_norm  # noqa: E402 - in the place of the pure ops of these names
