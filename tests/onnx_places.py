"""ONNX operators, continued: sorting, indexing and movement."""

from __future__ import annotations

from itertools import product

import numpy as np
from onnx_backend import ints, operator

import gputape as gt


@operator
def Tile(x, repeats):
    return gt.repeat(x, ints(repeats))


@operator
def TopK(x, k, *, axis=-1, largest=1, sorted=1):
    return tuple(gt.topk(x, int(np.asarray(k).item()), axis, bool(largest)))


@operator
def Unique(x, *, axis=None, sorted=1):
    if not sorted:
        raise gt.UnsupportedError("Unique: the order of first occurrence is not available. Sort the result.")
    y, inverse, counts = gt.unique(x, return_inverse=True, return_counts=True, dim=axis)
    inverse = gt.reshape(inverse, (-1,))
    first = np.array([np.asarray(inverse).tolist().index(k) for k in range(counts.size)], np.int64)
    return y, first, inverse, counts


@operator
def NonZero(x):
    return gt.permute(gt.argwhere(x), (1, 0))


@operator
def Compress(x, condition, *, axis=None):
    x, axis = (gt.reshape(x, (-1,)), 0) if axis is None else (x, axis)
    return gt.index_select(x, axis, gt.argwhere(condition)[:, 0])


def _wrapped(indices, size):
    return np.where(indices < 0, indices + size, indices)


@operator
def ScatterElements(x, indices, updates, *, axis=0, reduction="none"):
    indices = _wrapped(indices, x.shape[axis])
    if reduction == "none":
        return gt.scatter(x, axis, indices, updates)
    if reduction == "add":
        return gt.scatter_add(x, axis, indices, updates)
    raise gt.UnsupportedError(f"ScatterElements: reduction={reduction!r} is not available. Use 'add'.")


@operator
def GatherND(x, indices, *, batch_dims=0):
    lead = x.shape[:batch_dims]
    found = []
    for at in product(*map(range, lead)):
        columns = np.moveaxis(indices[at], -1, 0)
        found.append(gt.index([x[at], *columns]))
    y = gt.stack(found) if batch_dims else found[0]
    return gt.reshape(y, (*lead, *y.shape[1:])) if batch_dims else y


@operator
def ScatterND(x, indices, updates, *, reduction="none"):
    if reduction not in ("none", "add"):
        raise gt.UnsupportedError(f"ScatterND: reduction={reduction!r} is not available. Use 'add'.")
    k = indices.shape[-1]
    rows = [_wrapped(indices[..., i], x.shape[i]).reshape(-1) for i in range(k)]
    place = np.ravel_multi_index(rows, x.shape[:k])
    flat, source = gt.reshape(x, (-1, *x.shape[k:])), gt.reshape(updates, (place.size, *x.shape[k:]))
    y = (gt.index_add if reduction == "add" else gt.index_copy)(flat, 0, place, source)
    return gt.reshape(y, x.shape)


@operator
def DepthToSpace(x, *, blocksize, mode="DCR"):
    if mode == "CRD":
        return gt.pixel_shuffle(x, blocksize)
    n, c, h, w = x.shape
    split = gt.reshape(x, (n, blocksize, blocksize, c // blocksize**2, h, w))
    return gt.reshape(gt.permute(split, (0, 3, 4, 1, 5, 2)), (n, -1, h * blocksize, w * blocksize))


@operator
def SpaceToDepth(x, *, blocksize, mode="DCR"):
    n, c, h, w = x.shape
    split = gt.reshape(x, (n, c, h // blocksize, blocksize, w // blocksize, blocksize))
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return gt.reshape(gt.permute(split, order), (n, -1, h // blocksize, w // blocksize))


@operator
def EyeLike(x, *, dtype=None, k=0):
    from onnx.helper import tensor_dtype_to_np_dtype

    name = x.dtype.name if dtype is None else np.dtype(tensor_dtype_to_np_dtype(dtype)).name
    ones = gt.triu(gt.tril(gt.ones_like(x), k), k)
    return gt.cast(ones, name)


@operator
def CenterCropPad(x, shape, *, axes=None):
    axes = range(x.ndim) if axes is None else axes
    for axis, size in zip(axes, ints(shape)):
        axis, n = axis % x.ndim, x.shape[axis]
        if size < n:
            x = gt.narrow(x, axis, (n - size) // 2, size)
        else:
            pads = [0] * 2 * x.ndim
            pads[2 * (x.ndim - 1 - axis) :][:2] = [0, 0]
            pads[2 * (x.ndim - 1 - axis)], pads[2 * (x.ndim - 1 - axis) + 1] = (size - n) // 2, -(-(size - n) // 2)
            x = gt.pad(x, tuple(pads))
    return x
