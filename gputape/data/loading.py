"""Batches and augmentation, drawn on the host from the Philox generator: a seed gives the same batches everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arrays import as_array, asnumpy
from ..errors import DataError
from ..random import Generator
from ..random import generator as default_generator
from ..variable import unwrap


def batches(
    x: Any,
    y: Any,
    batch_size: int,
    *,
    shuffle: bool = False,
    generator: Generator | None = None,
    drop_last: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (x part, y part) of `batch_size` rows each, the last one shorter unless `drop_last`.

    Args:
        shuffle: draw a new order, from `generator` or the default generator.

    Raises:
        DataError: no data, x and y of different lengths, or a batch size below 1. At once, not at the first batch.
    """
    x, y = as_array(unwrap(x)), as_array(unwrap(y))
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise DataError(f"batches: x has shape {x.shape} and y {y.shape}. Give one row of y for each row of x.")
    if len(x) == 0:
        raise DataError(f"batches: the data is empty (x has shape {x.shape}). Pass at least one row.")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise DataError(f"batches: batch_size={batch_size!r} must be an integer of at least 1.")
    if drop_last and batch_size > len(x):
        raise DataError(
            f"batches: batch_size={batch_size} exceeds the {len(x)} rows, and drop_last leaves nothing. "
            "Use a smaller batch, or drop_last=False."
        )
    order = None
    if shuffle:
        order = (generator or default_generator()).permutation(len(x))
    return _parts(x, y, batch_size, order, len(x) // batch_size * batch_size if drop_last else len(x))


def _parts(x: np.ndarray, y: np.ndarray, size: int, order: Any, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for first in range(0, stop, size):
        rows = slice(first, min(first + size, stop))
        yield (x[rows], y[rows]) if order is None else (x[order[rows]], y[order[rows]])


def shift_images(x: Any, probability: float = 0.5, *, generator: Generator | None = None) -> np.ndarray:
    """Images (N, C, H, W), each moved along each spatial axis, with the given probability, by -1, 0 or 1 pixel (equally
    likely). What comes in from outside is 0."""
    x = asnumpy(x)
    n, _, height, width = x.shape
    drawn = (generator or default_generator()).uniform((2, n))
    step = np.where(drawn < probability, np.floor(drawn * (3 / max(probability, 1e-9))), 1).astype(np.int64)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    return np.ascontiguousarray(windows[np.arange(n), :, np.minimum(step[0], 2), np.minimum(step[1], 2)])
