"""Generators of random numbers, and the functions that draw from them.

The state of a generator is two integers, (seed, counter): a random op reads the words of the seed's stream from the
counter on, and the counter moves on by the number of words read. The stream is defined in `ops/random.py`.
"""

from __future__ import annotations

import math
import operator
import threading
from typing import Any

import numpy as np

from .arrays import HOST
from .aval import FLOATS, need_float
from .backend import as_array, aval_of, backend
from .dispatch import call, interpreter
from .errors import ArgumentError, CompileError, DTypeError
from .functions import Execute
from .node import source_line
from .ops.random import words
from .variable import ACTIVE, Cell, Operators


class Generator:
    """A stream of random words and a place in it. Safe to share between threads.

    Args:
        seed: an integer from -2⁶³ to 2⁶⁴-1, as torch.Generator.manual_seed takes it.
    """

    def __init__(self, seed: int = 0) -> None:
        self.cell = Cell(np.zeros(2, np.int64), name="generator", memory=HOST)
        self._lock = threading.Lock()
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Go to the beginning of the stream of `seed`."""
        self.state = (seed, 0)
        return self

    @property
    def state(self) -> tuple[int, int]:
        """(seed, counter), as plain integers. Assigning it goes to that place."""
        seed, counter = self.cell.array.tolist()
        return seed, counter

    @state.setter
    def state(self, state: tuple[int, int]) -> None:
        try:
            seed, counter = map(operator.index, state)
        except (TypeError, ValueError):
            raise ArgumentError(
                f"Generator: the state {state!r:.60} is not a pair (seed, counter). Pass two integers."
            ) from None
        if not -(2**63) <= seed < 2**64:
            raise ArgumentError(f"Generator: the seed {seed} does not fit 64 bits. Use -2**63 to 2**64 - 1.")
        if not 0 <= counter < 2**63:
            raise ArgumentError(f"Generator: the counter {counter} is out of range. Use 0 to 2**63 - 1.")
        seed = (seed + 2**63) % 2**64 - 2**63  # two's complement
        with self._lock:
            self._write((seed, counter))

    def take(self, count: int) -> np.ndarray:
        """Reserve `count` words: the state (seed, counter) to read them from, as an int64 array. The counter moves
        on."""
        if count < 0:
            raise ArgumentError(f"Generator: cannot take {count} words. Take 0 or more.")
        with self._lock:
            state = self.cell.array.copy()
            seed, counter = state.tolist()
            self._write((seed, counter + count))
        return state

    def uniform(self, shape: Any, dtype: str = "float32") -> np.ndarray:
        """Uniform numbers in [0, 1) as a NumPy array, computed at once, also inside a recording."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        state = self.take(words(math.prod(shape), dtype))
        return Execute(backend("cpu")).random_uniform(state, shape, dtype)

    def normal(self, shape: Any, dtype: str = "float32") -> np.ndarray:
        """Normal numbers of mean 0 and variance 1 as a NumPy array, computed at once, also inside a recording."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        state = self.take(words(_even(math.prod(shape)), dtype))
        return Execute(backend("cpu")).random_normal(state, shape, dtype)

    def permutation(self, n: int) -> np.ndarray:
        """The integers 0 to n-1 in random order as a NumPy array, computed at once, also inside a recording."""
        return Execute(backend("cpu")).random_permutation(self.take(2 * n), n)

    def _write(self, state: tuple[int, int]) -> None:
        rec = ACTIVE.get()
        if rec is not None and rec.tracing:
            raise CompileError(
                f"Generator: its state is changed on the host while {rec.name} is recorded, at {source_line()}; a "
                "replay would not repeat that. Seed, shuffle and initialise outside the compiled function."
            )
        self.cell.array[:] = state
        self.cell.version += 1

    def __repr__(self) -> str:
        seed, counter = self.state
        return f"gt.Generator(seed={seed}, counter={counter})"


def _even(n: int) -> int:
    return n + n % 2


_default = Generator(0)


def generator() -> Generator:
    """The generator that ops draw from unless they are given another."""
    return _default


def manual_seed(seed: int) -> Generator:
    """Seed the default generator and return it. As torch.manual_seed."""
    return _default.manual_seed(seed)


# --- functions --------------------------------------------------------------------------------------------------------


def _reserve(op: str, count: int, source: Generator | None) -> tuple[Any, Any, int]:
    """Where ops go now, and (state, offset) of `count` fresh words."""
    F = interpreter()
    if source is None:
        return F, *F.rng(count)
    if getattr(F, "tracing", False):
        raise CompileError(
            f"{op}: a generator of your own would repeat its numbers in every call of a compiled function. "
            "Draw outside and pass the array, or use the default generator."
        )
    return F, F.const(source.take(count), "int64"), 0


def _sizes(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape


def _is_size(n: Any) -> bool:
    return isinstance(n, int | np.integer) and not isinstance(n, bool) and int(n) >= 0


def _draw(name: str, op: str, shape: tuple[Any, ...], dtype: Any, source: Generator | None, even: bool) -> Any:
    sizes = _sizes(shape)
    if not all(map(_is_size, sizes)):
        raise ArgumentError(f"{name}: {sizes} is not a shape. Pass integers of 0 or more, as in {name}(2, 3).")
    sizes = tuple(map(int, sizes))
    dtype = dtype if isinstance(dtype, str) else getattr(dtype, "name", getattr(dtype, "__name__", dtype))
    if dtype not in FLOATS:
        raise DTypeError(f"{name}: dtype {dtype!r} is not floating point. Use one of {', '.join(FLOATS)}.")
    size = math.prod(sizes)
    F, state, offset = _reserve(name, words(_even(size) if even else size, dtype), source)
    return F.op(op, state, sizes, dtype, offset)


def rand(*size: Any, dtype: Any = "float32", generator: Generator | None = None) -> Any:
    """Uniform numbers in [0, 1) of shape `size`. As torch.rand."""
    return _draw("rand", "random_uniform", size, dtype, generator, even=False)


def randn(*size: Any, dtype: Any = "float32", generator: Generator | None = None) -> Any:
    """Normal numbers of mean 0 and variance 1, of shape `size`. As torch.randn."""
    return _draw("randn", "random_normal", size, dtype, generator, even=True)


def randperm(n: int, *, generator: Generator | None = None) -> Any:
    """The integers 0 to n-1 in random order, int64. As torch.randperm."""
    if not _is_size(n):
        raise ArgumentError(f"randperm: n={n!r} must be an integer of 0 or more. Pass how many to permute.")
    F, state, offset = _reserve("randperm", 2 * int(n), generator)
    return F.random_permutation(state, int(n), offset)


def bernoulli(input: Any, *, generator: Generator | None = None) -> Any:
    """1 with the probability that `input` holds, else 0, element by element, in `input`'s dtype. As torch.bernoulli.

    Probabilities outside [0, 1] count as the nearest of 0 and 1.

    Raises:
        DTypeError: `input` is not floating point.
    """
    aval = input.aval if isinstance(input, Operators) else aval_of(as_array(input))
    need_float("bernoulli", input=aval)
    drawn = rand(*aval.shape, dtype="float64" if aval.dtype == "float64" else "float32", generator=generator)
    return call("cast", call("lt", drawn, input), aval.dtype)
