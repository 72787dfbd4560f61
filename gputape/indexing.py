"""x[…] for `Var` and `Cell`: Python's indices become `slice`, `reshape` and `index` ops.

The rules are PyTorch's. They are NumPy's too, but for two: a slice with a negative step is refused, and an integer
beside index arrays takes its axis away first, so that `x[0, :, i]` is `x[0][:, i]`.
"""

from __future__ import annotations

from operator import index as to_int
from typing import Any

import numpy as np

from .aval import INTS
from .aval import axis as axis_of
from .backend import as_array, aval_of
from .dispatch import call
from .errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from .variable import Cell, Var


def getitem(x: Any, index: Any) -> Any:
    """`x[index]`.

    Args:
        x: an array, `Var` or `Cell`.
        index: integers, slices, None, `...`, integer arrays, boolean masks, or a tuple of them. A mask's number of
            elements is read on the host.

    Raises:
        IndexRangeError: an integer is out of range, or there are more indices than axes.
        ShapeError: a mask does not have the sizes of the axes it stands for, or index arrays do not broadcast.
        DTypeError: an index is of another type, or uint8.
        ArgumentError: a slice's step is below 1.
    """
    items = [_plain(item) for item in (index if isinstance(index, tuple) else (index,))]
    basic, shape, arrays = _resolve(x.shape, items)
    y = x
    if any(part != slice(None) for part in basic):
        y = call("slice", y, *[tuple(getattr(part, end) for part in basic) for end in ("start", "stop", "step")])
    if shape != y.shape:
        y = call("reshape", y, shape)
    scalars = [axis for axis, array in arrays if not array.shape]
    for axis, array in reversed(arrays):  # from the back, so that the axes before it keep their numbers
        if not array.shape:
            y = call("index", [y, array], (axis,))
    lasting = [(axis - sum(s < axis for s in scalars), array) for axis, array in arrays if array.shape]
    if lasting:
        return call("index", [y, *(array for _, array in lasting)], tuple(axis for axis, _ in lasting))
    return call("alias", y) if y is x else y


def windows(x: Any, dim: int, size: int, step: int) -> Any:
    """`x.unfold(dim, size, step)`.

    Raises:
        ShapeError: there is no such axis, or it is shorter than a window.
        ArgumentError: size is below 0, or step below 1.
    """
    dim, n = axis_of("unfold", dim, x.ndim), x.shape[dim] if x.ndim else 1
    if size < 0 or step < 1:
        raise ArgumentError(f"unfold: size={size} must be at least 0, and step={step} at least 1.")
    if size > n:
        raise ShapeError(f"unfold: windows of {size} do not fit axis {dim} of {x.shape}. Use {n} or less.")
    at = np.arange(0, n - size + 1, step)[:, None] + np.arange(size)
    y = call("index", [x, at], (dim,)) if x.ndim else call("expand", x, (size,))
    return call("movedim", y, dim + 1, -1) if x.ndim else y


def _plain(item: Any) -> Any:
    """An index as None, `...`, an int, a bool, a slice, or an array of integers or bools."""
    if item is None or item is Ellipsis or isinstance(item, slice | bool | int):
        return item
    if isinstance(item, np.bool_):
        return bool(item)
    found: Any = None
    if isinstance(item, Var | Cell):
        found = item.value if item.aval.dtype == "bool" else item
    elif isinstance(item, list | tuple) and not len(item):
        found = np.zeros(0, np.int64)
    elif isinstance(item, list | tuple | range) or hasattr(item, "shape") or hasattr(item, "__dlpack__"):
        found = as_array(item)
    dtype = None if found is None else found.aval.dtype if isinstance(found, Var | Cell) else aval_of(found).dtype
    if dtype != "bool" and dtype not in INTS:
        raise DTypeError(
            f"index: {item!r:.60} is no index. Use integers, slices, None, ..., integer arrays or boolean masks."
        )
    if dtype == "uint8":
        raise DTypeError(
            "index: an array of uint8 is a mask for PyTorch and of integers for NumPy. Cast it to bool or to int64."
        )
    if isinstance(found, Var | Cell) or found.shape:
        return found
    return bool(found) if dtype == "bool" else int(found)


def _resolve(shape: tuple[int, ...], items: list[Any]) -> tuple[list[slice], tuple[int, ...], list[tuple[int, Any]]]:
    """The slice of each axis of `shape`, the shape to give the result, and the index arrays with their axes in it."""
    used = [_axes_used(item) for item in items]
    dots = [k for k, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError("index: ... may stand once only. Write the other slices out as :.")
    spare = len(shape) - sum(used)
    if spare < 0:
        raise IndexRangeError(f"index: {sum(used)} indices for an array of shape {shape}. Use at most {len(shape)}.")
    at = dots[0] if dots else len(items)
    items = [*items[:at], *[slice(None)] * spare, *items[at + 1 :]]

    basic: list[slice] = []
    kept: list[int] = []
    arrays: list[tuple[int, Any]] = []
    for item in items:
        n = shape[len(basic)] if _axes_used(item) else 1
        if item is None:
            kept.append(1)
        elif isinstance(item, bool):  # a mask without axes: a new axis, of which the element is taken or not
            arrays.append((len(kept), np.zeros(int(item), np.int64)))
            kept.append(1)
        elif isinstance(item, int):
            basic.append(_one(item, n, len(basic)))
        elif isinstance(item, slice):
            basic.append(_normal(item))
            kept.append(len(range(*item.indices(n))))
        else:
            sizes = shape[len(basic) : len(basic) + _axes_used(item)]
            for array in _integers(item, sizes):
                arrays.append((len(kept), array))
                kept.append(shape[len(basic)])
                basic.append(slice(None))
    return basic, tuple(kept), arrays


def _axes_used(item: Any) -> int:
    """How many axes an index stands for."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    return item.ndim if _is_mask(item) else 1


def _is_mask(item: Any) -> bool:
    return not isinstance(item, int | slice) and item.dtype == np.bool_


def _one(i: int, n: int, axis: int) -> slice:
    if not -n <= i < n:
        raise IndexRangeError(
            f"index: {i} is out of range for axis {axis} with size {n}. "
            + (f"Use {-n} to {n - 1}." if n else "It has no elements.")
        )
    return slice(i % n, i % n + 1, None)


def _normal(s: slice) -> slice:
    try:
        ends = [None if v is None else to_int(v) for v in (s.start, s.stop, s.step)]
    except TypeError:
        raise DTypeError(f"index: {s} has an end that is not an integer. Use integers or None.") from None
    if ends[2] is not None and ends[2] < 1:
        raise ArgumentError(f"index: {s} has a step below 1. Use gt.flip to reverse an axis.")
    return slice(*ends)


def _integers(item: Any, sizes: tuple[int, ...]) -> list[Any]:
    """The index arrays that an integer array or a mask stands for."""
    if not _is_mask(item):
        return [item]
    if item.shape != sizes:
        raise ShapeError(f"index: a mask of shape {item.shape} for axes of shape {sizes}. Give a mask of their shape.")
    return list(item.nonzero())
