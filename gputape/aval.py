"""Abstract values: what is known of an array before it exists. Integers and names only, no arrays.

Shape and dtype rules of the ops are written with these: broadcasting, type promotion and window arithmetic,
all with PyTorch's results.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

from .errors import ArgumentError, DTypeError, ShapeError, UnsupportedError

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTS = ("uint8", "int8", "int16", "int32", "int64")
DTYPES = ("bool", *INTS, *FLOATS)
ITEMSIZE = dict(zip(DTYPES, (1, 1, 1, 2, 4, 8, 2, 2, 4, 8), strict=True))
_LARGEST = {"float16": 65519.99, "bfloat16": 3.3961775e38, "float32": 3.4028235677973366e38, "float64": math.inf}


class Aval:
    """Shape and dtype of one array. Interned: equal avals are the same object, so hashing and comparing are free."""

    __slots__ = ("shape", "dtype", "size", "nbytes", "__weakref__")

    shape: tuple[int, ...]
    dtype: str
    size: int
    nbytes: int

    def __new__(cls, shape: Sequence[int], dtype: str) -> Aval:
        shape = tuple(shape)
        found = _interned.get((shape, dtype))
        if found is not None:
            return found
        if dtype not in ITEMSIZE:
            raise DTypeError(f"dtype {dtype!r} is not supported. Use one of {', '.join(DTYPES)}.")
        made = super().__new__(cls)
        made.shape, made.dtype = tuple(int(n) for n in shape), dtype
        made.size = math.prod(made.shape)
        made.nbytes = made.size * ITEMSIZE[dtype]
        return _interned.setdefault((made.shape, dtype), made)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    def with_shape(self, shape: Sequence[int]) -> Aval:
        return Aval(shape, self.dtype)

    def with_dtype(self, dtype: str) -> Aval:
        return Aval(self.shape, dtype)

    def __reduce__(self):
        return Aval, (self.shape, self.dtype)

    def __repr__(self) -> str:
        return f"{self.shape} {self.dtype}"


_interned: WeakValueDictionary[tuple[tuple[int, ...], str], Aval] = WeakValueDictionary()


# --- dtypes -----------------------------------------------------------------------------------------------------------


def dtype_name(dtype: Any) -> Any:
    """The name of a dtype given by name, as NumPy's dtype or scalar class, or as Python's; anything else as it is."""
    return dtype if isinstance(dtype, str) else getattr(dtype, "name", getattr(dtype, "__name__", dtype))


def category(dtype: str) -> int:
    """0 for bool, 1 for integers, 2 for floats."""
    return 2 if dtype in FLOATS else 1 if dtype in INTS else 0


def _promote_pair(a: str, b: str) -> str:
    if a == b:
        return a
    ca, cb = category(a), category(b)
    if ca != cb:
        return a if ca > cb else b
    if ca == 2:
        return "float32" if {a, b} == {"float16", "bfloat16"} else max(a, b, key=FLOATS.index)
    if {a, b} == {"uint8", "int8"}:
        return "int16"
    return max(a, b, key=INTS.index)


def promote(*avals: Aval) -> str:
    """The common dtype, as `torch.result_type`: an array without axes does not widen one that has axes within a
    category (bool, integer, float)."""
    best = max(category(a.dtype) for a in avals)
    ranked = [a for a in avals if category(a.dtype) == best]
    with_axes = [a for a in ranked if a.shape] or ranked
    dtype = with_axes[0].dtype
    for a in with_axes[1:]:
        dtype = _promote_pair(dtype, a.dtype)
    return dtype


def fits(value: float, dtype: str) -> bool:
    """Whether the number can be held: any float that does not overflow, any integer in range (fractions are cut)."""
    if category(dtype) == 2:
        return not math.isfinite(value) or abs(value) < _LARGEST[dtype]
    if category(dtype) == 0:
        return True
    bits = 8 * ITEMSIZE[dtype]
    low, high = (0, 2**bits) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return math.isfinite(value) and low <= int(value) < high


def need_float(op: str, **avals: Aval | None) -> None:
    """Raise `DTypeError` unless every given aval is floating point."""
    for name, a in avals.items():
        if a is not None and not a.is_float:
            raise DTypeError(
                f"{op}: {name} is {a.dtype} of shape {a.shape}, but a floating-point array is needed. "
                f'Cast it, for example with gt.cast({name}, "float32").'
            )


def need_float_yet(op: str, **avals: Aval | None) -> None:
    """`need_float` of an op that PyTorch has for integers, too: `UnsupportedError` for those."""
    for name, a in avals.items():
        if a is not None and a.dtype in INTS:
            raise UnsupportedError(
                f"{op}: {name} is {a.dtype} of shape {a.shape}, but only floating-point arrays are taken so far. Cast "
                f'it, for example with gt.cast({name}, "float32").'
            )
    need_float(op, **avals)


def need_same_dtype(op: str, **avals: Aval | None) -> None:
    """Raise `DTypeError` unless the given avals share one dtype."""
    given = {name: a for name, a in avals.items() if a is not None}
    if len({a.dtype for a in given.values()}) > 1:
        kinds = ", ".join(f"{name} {a.dtype}" for name, a in given.items())
        raise DTypeError(f"{op}: the inputs have different dtypes ({kinds}). Cast them to one dtype with gt.cast.")


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a C-ordered array, in elements."""
    out, step = [], 1
    for n in reversed(shape):
        out.append(step)
        step *= max(n, 1)
    return tuple(reversed(out))


# --- shapes -----------------------------------------------------------------------------------------------------------


def broadcast_shapes(op: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape all `shapes` broadcast to, aligned at the right; `ShapeError` if there is none."""
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    ndim = max(map(len, shapes))
    out = [1] * ndim
    for s in shapes:
        for i, n in enumerate(s, ndim - len(s)):
            if n == 1 or n == out[i]:
                continue
            if out[i] != 1:
                listed = " and ".join(map(str, shapes))
                raise ShapeError(
                    f"{op}: shapes {listed} do not broadcast (axis {i - ndim}: {out[i]} against {n}). "
                    "Make the sizes equal or 1, counting from the last axis."
                )
            out[i] = n
    return tuple(out)


def axis(op: str, dim: int, ndim: int, name: str = "dim") -> int:
    """`dim` counted from the front; `ShapeError` outside [-ndim, ndim) (a scalar has the one axis 0, as in torch)."""
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise ArgumentError(f"{op}: {name} must be an integer, got {dim!r}. Pass an axis number.")
    bound = max(ndim, 1)
    if not -bound <= dim < bound:
        raise ShapeError(
            f"{op}: {name}={dim} is out of range for an array with {ndim} axes. Use {-bound} to {bound - 1}."
        )
    return dim % bound


def axes(op: str, dim: int | Sequence[int] | None, ndim: int, name: str = "dim") -> tuple[int, ...]:
    """Axes counted from the front in ascending order; None means all; `ShapeError` if one is named twice."""
    if dim is None:
        return tuple(range(ndim))
    listed = [axis(op, d, ndim, name) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    if len(set(listed)) != len(listed):
        raise ShapeError(f"{op}: {name}={dim} names an axis twice. Name each axis once.")
    return tuple(sorted(listed)) if ndim else ()


def reduced(shape: tuple[int, ...], over: tuple[int, ...], keepdim: bool) -> tuple[int, ...]:
    """`shape` without the axes `over` (or with size 1 there)."""
    if keepdim:
        return tuple(1 if i in over else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in over)


def per_axis(op: str, name: str, value: int | Sequence[int], n: int, low: int) -> tuple[int, ...]:
    """A window option as one integer per spatial axis; `ArgumentError` below `low` or at another length."""
    listed: tuple[Any, ...] = tuple(value) if isinstance(value, (tuple, list)) else (value,) * n
    if len(listed) == 1 and n > 1:
        listed *= n
    if len(listed) != n or any(isinstance(v, bool) or not isinstance(v, int) for v in listed):
        raise ArgumentError(f"{op}: {name}={value!r} must be an integer or {n} integers, one per spatial axis.")
    if min(listed, default=low) < low:
        raise ArgumentError(f"{op}: {name}={value!r} must be at least {low} on every axis.")
    return listed


def window(size: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False) -> int:
    """Number of window positions along one axis, possibly 0 or negative when the window does not fit.

    floor((size + 2·padding - dilation·(kernel-1) - 1) / stride) + 1; with `ceil_mode` the division rounds up, but a
    window may not start in the right padding (as in PyTorch).
    """
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    n = -(-room // stride) + 1
    return n - 1 if (n - 1) * stride >= size + padding else n
