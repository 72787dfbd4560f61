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

from .arrays import HOST, asnumpy
from .aval import FLOATS, broadcast_shapes, need_float, promote
from .backend import as_array, aval_of, backend
from .dispatch import call, interpreter
from .errors import ArgumentError, CompileError, DTypeError, ShapeError
from .functions import Execute
from .ops.random import words
from .variable import ACTIVE, Cell, Operators, refuse_while_compiling


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
        refuse_while_compiling(
            "Generator: its state is changed on the host", "Seed, shuffle and initialise outside the compiled function."
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


def _dtype_name(dtype: Any) -> Any:
    return dtype if isinstance(dtype, str) else getattr(dtype, "name", getattr(dtype, "__name__", dtype))


def _draw(name: str, op: str, shape: tuple[Any, ...], dtype: Any, source: Generator | None, even: bool) -> Any:
    sizes = _sizes(shape)
    if not all(map(_is_size, sizes)):
        raise ArgumentError(f"{name}: {sizes} is not a shape. Pass integers of 0 or more, as in {name}(2, 3).")
    sizes = tuple(map(int, sizes))
    dtype = _dtype_name(dtype)
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


def _aval(x: Any) -> Any:
    return x.aval if isinstance(x, Operators) else aval_of(as_array(x))


def rand_like(input: Any, *, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Uniform numbers in [0, 1) of the shape and dtype of `input`. As torch.rand_like."""
    a = _aval(input)
    return _draw("rand_like", "random_uniform", (a.shape,), dtype or a.dtype, generator, even=False)


def randn_like(input: Any, *, dtype: Any = None, generator: Generator | None = None) -> Any:
    """Normal numbers of mean 0 and variance 1, of the shape and dtype of `input`. As torch.randn_like."""
    a = _aval(input)
    return _draw("randn_like", "random_normal", (a.shape,), dtype or a.dtype, generator, even=True)


def randint(
    low: int, high: Any = None, size: Any = None, *, dtype: Any = "int64", generator: Generator | None = None
) -> Any:
    """Integers from `low` (0 if left out) to `high` - 1, of shape `size`: word modulo (high - low), plus low.

    `randint(high, size)` or `randint(low, high, size)`, as torch.randint. high - low may be up to 2³².

    Raises:
        ArgumentError: an empty or too wide range, or a size that is no shape.
    """
    if size is None:  # randint(high, size)
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in (low, high)):
        raise ArgumentError(f"randint: low={low!r} and high={high!r} must be integers. Use randint(low, high, size).")
    low, high = int(low), int(high)
    if not 0 < high - low <= 2**32:
        raise ArgumentError(f"randint: from {low} to {high} - 1 there must be 1 to 2**32 integers. Change low or high.")
    shape = tuple(size) if isinstance(size, tuple | list) else (size,)
    if not all(map(_is_size, shape)):
        raise ArgumentError(f"randint: size={size!r} is not a shape. Pass integers of 0 or more, as in (2, 3).")
    shape = tuple(map(int, shape))
    F, state, offset = _reserve("randint", math.prod(shape), generator)
    found = F.remainder(F.random_bits(state, shape, offset), F.const(high - low, "int64"))
    found = F.add(found, F.const(low, "int64")) if low else found
    return found if _dtype_name(dtype) == "int64" else F.cast(found, _dtype_name(dtype))


def randint_like(
    input: Any, low: int, high: int | None = None, *, dtype: Any = None, generator: Generator | None = None
) -> Any:
    """Integers as of `randint`, of the shape and dtype of `input`. As torch.randint_like."""
    a = _aval(input)
    return randint(low, high, a.shape, dtype=dtype or a.dtype, generator=generator)


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None) -> Any:
    """Normal numbers of that mean and standard deviation. As torch.normal.

    mean and std are arrays that broadcast to the shape of the result (float32 unless one is float64), or numbers, with
    `size`.
    """
    if size is None:
        arrays = [_aval(x) for x in (mean, std) if not isinstance(x, int | float)]
        if not arrays:
            raise ArgumentError("normal: size is missing. Pass a shape, or arrays as mean or std.")
        need_float("normal", **{f"argument {k}": a for k, a in enumerate(arrays)})
        size, dtype = broadcast_shapes("normal", *(a.shape for a in arrays)), promote(*arrays)
    else:
        dtype = "float32"
    drawn = _draw("normal", "random_normal", (size,), dtype, generator, even=True)
    return call("add", call("mul", drawn, std), mean)


def bernoulli(input: Any, *, generator: Generator | None = None) -> Any:
    """1 with the probability that `input` holds, else 0, element by element, in `input`'s dtype. As torch.bernoulli.

    Probabilities outside [0, 1] count as the nearest of 0 and 1.

    Raises:
        DTypeError: `input` is not floating point.
    """
    aval = _aval(input)
    need_float("bernoulli", input=aval)
    drawn = rand(*aval.shape, dtype="float64" if aval.dtype == "float64" else "float32", generator=generator)
    return call("cast", call("lt", drawn, input), aval.dtype)


def multinomial(input: Any, num_samples: int, replacement: bool = False, *, generator: Generator | None = None) -> Any:
    """Classes drawn with the probabilities that the rows of `input` are proportional to. As torch.multinomial.

    Args:
        input: (C,) or (N, C), 0 or more; its sums need not be 1.
        num_samples: how many classes to draw from each row.
        replacement: whether a class may be drawn again.

    Returns:
        int64 (num_samples,) or (N, num_samples), in the order in which they were drawn.

    Raises:
        DTypeError: `input` is not floating point.
        ShapeError: it has not one or two axes, or no classes.
        ArgumentError: an element is negative or no finite number, or a row has nothing to draw from, or without
            replacement fewer than num_samples classes. (A compiled function cannot tell what `input` holds.)
    """
    aval = _aval(input)
    need_float("multinomial", input=aval)
    if aval.ndim not in (1, 2) or not aval.shape[-1]:
        raise ShapeError(f"multinomial: input has shape {aval.shape}. Give it (C,) or (N, C), with classes to draw.")
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
        raise ArgumentError(f"multinomial: num_samples={num_samples!r} must be an integer of at least 1.")
    if not replacement and num_samples > aval.shape[-1]:
        raise ArgumentError(
            f"multinomial: num_samples={num_samples} of {aval.shape[-1]} classes. Draw fewer, or with replacement."
        )
    rec = ACTIVE.get()
    if rec is None or not rec.tracing:
        _check_weights(asnumpy(input), 1 if replacement else num_samples)
    dtype = "float64" if aval.dtype == "float64" else "float32"
    weights = call("detach", call("cast", input, dtype))
    if replacement:
        upto = call("cumsum", weights, -1)
        upto = call("div", upto, call("narrow", upto, -1, aval.shape[-1] - 1, 1))
        drawn = rand(*aval.shape[:-1], num_samples, dtype=dtype, generator=generator)
        return call("searchsorted", upto, drawn, right=True)
    # Waiting times at the rates `weights`: the classes that come first are the sample
    drawn = rand(*aval.shape, dtype=dtype, generator=generator)
    waited = call("clamp", call("neg", call("log1p", call("neg", drawn))), 2.0**-25)
    return call("topk", call("div", weights, waited), num_samples)[1]


def _check_weights(weights: np.ndarray, least: int) -> None:
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ArgumentError("multinomial: input holds what is negative or no finite number. Pass 0 or more.")
    found = np.count_nonzero(weights, -1).min(initial=least)
    if found < least:
        raise ArgumentError(f"multinomial: a row has {found} classes above 0, but {least} are needed. Draw fewer.")
