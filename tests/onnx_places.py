"""ONNX operators: movement, indexing and sorting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product

import numpy as np
from onnx_backend import ints, operator

import gputape as gt

# --- movement ---------------------------------------------------------------------------------------------------------


@operator
def Reshape(x, shape, *, allowzero=0):
    return gt.reshape(x, [x.shape[i] if n == 0 and not allowzero else n for i, n in enumerate(ints(shape))])


@operator
def Flatten(x, *, axis=1):
    axis %= x.ndim + (axis == x.ndim)
    return gt.reshape(x, (int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:]))))


@operator
def Transpose(x, *, perm=None):
    return gt.permute(x, perm or tuple(range(x.ndim))[::-1])


@operator
def Squeeze(x, axes=None):
    return gt.squeeze(x, None if axes is None else tuple(ints(axes)))


@operator
def Unsqueeze(x, axes):
    n = x.ndim + np.size(axes)
    return reduce(gt.unsqueeze, sorted(a % n for a in ints(axes)), x)


@operator
def Expand(x, shape):
    return gt.expand(x, np.broadcast_shapes(x.shape, tuple(ints(shape))))


@operator
def Concat(*xs, axis):
    return gt.cat(list(xs), dim=axis)


@operator
def Split(x, split=None, *, axis=0, num_outputs=None, n_outputs):
    size = -(-x.shape[axis] // n_outputs) if split is None else ints(split)
    return gt.split(x, size, dim=axis)


@operator
def Slice(x, starts, ends, axes=None, steps=None):
    n = np.size(starts)
    axes = range(n) if axes is None else ints(axes)
    steps = [1] * n if steps is None else ints(steps)
    index = [slice(None)] * x.ndim
    flipped = []
    for a, start, end, step in zip(axes, ints(starts), ints(ends), steps):
        chosen = range(x.shape[a])[start:end:step]
        if step < 0:  # as in torch, steps are positive: reverse afterwards
            chosen = chosen[::-1]
            flipped.append(a % x.ndim)
        index[a] = slice(chosen.start, chosen.stop, chosen.step) if len(chosen) else slice(0, 0)
    y = _getitem(x, tuple(index))
    return gt.flip(y, tuple(flipped)) if flipped else y


def _getitem(x, index):
    with gt.record():
        return np.asarray(gt.leaf(x)[index].value)


@operator
def Pad(x, pads, value=None, axes=None, *, mode="constant"):
    dims = range(x.ndim) if axes is None else [a % x.ndim for a in ints(axes)]
    each = [(0, 0)] * x.ndim
    n = len(ints(pads)) // 2
    for a, before, after in zip(dims, ints(pads)[:n], ints(pads)[n:]):
        each[a] = (before, after)
    kind = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[mode]
    if kind == "constant":
        return _pad(x, each, 0 if value is None else value.item())
    while len(each) > 2 and each[0] == (0, 0):  # other modes pad the last axes only
        each = each[1:]
    return gt.pad(x, _last_first(each), mode=kind)


def _pad(x, each: Sequence[tuple[int, int]], value: float):
    return gt.pad(x, _last_first(each), value=value) if any(map(any, each)) else x


def _last_first(each: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    return tuple(n for pair in reversed(each) for n in pair)


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


@operator
def Tile(x, repeats):
    return gt.repeat(x, ints(repeats))


@operator
def Trilu(x, k=None, *, upper=1):
    return (gt.triu if upper else gt.tril)(x, diagonal=0 if k is None else int(k))


@operator
def EyeLike(x, *, dtype=None, k=0):
    from onnx.helper import tensor_dtype_to_np_dtype

    name = x.dtype.name if dtype is None else np.dtype(tensor_dtype_to_np_dtype(dtype)).name
    ones = gt.triu(gt.tril(gt.ones_like(x), k), k)
    return gt.cast(ones, name)


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


# --- indexing and sorting ---------------------------------------------------------------------------------------------


def _wrapped(indices, size):
    return np.where(indices < 0, indices + size, indices)


@operator
def Gather(x, indices, *, axis=0):
    axis %= x.ndim
    flat = np.where(indices < 0, indices + x.shape[axis], indices).reshape(-1)
    y = gt.index_select(x, axis, flat)
    return gt.reshape(y, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


@operator
def GatherElements(x, indices, *, axis=0):
    return gt.gather(x, axis, np.where(indices < 0, indices + x.shape[axis], indices))


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
def OneHot(indices, depth, values, *, axis=-1):
    n = int(np.asarray(depth).item())
    indices = gt.cast(indices, "int64")
    inside = np.logical_and(indices >= -n, indices < n)
    hot = gt.mul(gt.one_hot(np.where(inside, indices % n, 0), n), gt.cast(inside[..., None], "int64"))
    y = gt.where(gt.cast(hot, "bool"), values[1], values[0])
    order = list(range(indices.ndim))
    order.insert(axis % (indices.ndim + 1), indices.ndim)
    return gt.permute(y, order)


@operator
def ScatterElements(x, indices, updates, *, axis=0, reduction="none"):
    indices = _wrapped(indices, x.shape[axis])
    if reduction == "none":
        return gt.scatter(x, axis, indices, updates)
    if reduction == "add":
        return gt.scatter_add(x, axis, indices, updates)
    raise gt.UnsupportedError(f"ScatterElements: reduction={reduction!r} is not available. Use 'add'.")


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
