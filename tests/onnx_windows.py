"""ONNX operators: products of matrices, convolutions and pools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx_backend import OPERATORS, ints, operator
from onnx_places import _getitem, _last_first, _pad

import gputape as gt

# --- products ---------------------------------------------------------------------------------------------------------


@operator
def MatMul(a, b):
    return gt.matmul(a, b)


@operator
def Gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    a = gt.permute(a, (1, 0)) if transA else a
    b = gt.permute(b, (1, 0)) if transB else b
    y = gt.mul(gt.matmul(a, b), alpha)
    return y if c is None else gt.add(y, gt.mul(c, beta))


OPERATORS["Einsum"] = lambda *xs, equation: gt.einsum(equation, *xs)


# --- convolutions and pools -------------------------------------------------------------------------------------------


def _sides(sizes, kernel, strides, dilations, pads, auto_pad) -> list[tuple[int, int]]:
    """Padding before and after on each spatial axis."""
    n = len(sizes)
    if auto_pad in ("NOTSET", "VALID"):
        pads = pads or [0] * 2 * n
        return list(zip(pads[:n], pads[n:]))
    out = []
    for size, k, s, d in zip(sizes, kernel, strides, dilations):
        total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        low, high = total // 2, total - total // 2
        out.append((low, high) if auto_pad == "SAME_UPPER" else (high, low))
    return out


def _window(x, kernel, strides, dilations, pads, auto_pad):
    n = x.ndim - 2
    strides, dilations = tuple(strides or [1] * n), tuple(dilations or [1] * n)
    return strides, dilations, _sides(x.shape[2:], kernel, strides, dilations, pads, auto_pad)


def _of_rank(name: str, x) -> Callable[..., Any]:
    return getattr(gt, f"{name}{x.ndim - 2}d")


@operator
def Conv(x, w, b=None, *, kernel_shape=None, strides=None, pads=None, dilations=None, group=1, auto_pad="NOTSET"):
    strides, dilations, sides = _window(x, w.shape[2:], strides, dilations, pads, auto_pad)
    padding = tuple(low for low, _ in sides)
    if any(low != high for low, high in sides):
        x, padding = _pad(x, sides, 0.0), (0,) * len(sides)
    return _of_rank("conv", x)(x, w, b, strides, padding, dilations, group)


@operator
def ConvTranspose(
    x,
    w,
    b=None,
    *,
    kernel_shape=None,
    strides=None,
    pads=None,
    dilations=None,
    group=1,
    auto_pad="NOTSET",
    output_padding=None,
    output_shape=None,
):
    n = x.ndim - 2
    strides, dilations = tuple(strides or [1] * n), tuple(dilations or [1] * n)
    extra = list(output_padding or [0] * n)
    if auto_pad.startswith("SAME"):
        output_shape = [size * s for size, s in zip(x.shape[2:], strides)]
    if output_shape is not None:
        full = [(size - 1) * s + d * (k - 1) + 1 for size, s, d, k in zip(x.shape[2:], strides, dilations, w.shape[2:])]
        total = [m - size for m, size in zip(full, output_shape)]
        extra = [max(-t, 0) for t in total]  # larger than the full result: the rest is filled on the right
        halves = [(max(t, 0) // 2, max(t, 0) - max(t, 0) // 2) for t in total]
        sides = [h if auto_pad == "SAME_UPPER" else h[::-1] for h in halves]
    else:
        sides = _sides(x.shape[2:], w.shape[2:], strides, dilations, pads, auto_pad)
    same = all(low == high for low, high in sides)
    padding = tuple(low for low, _ in sides) if same else (0,) * n
    y = _of_rank("conv_transpose", x)(x, w, b, strides, padding, tuple(extra), group, dilations)
    if same:
        return y
    cut = [slice(low, size - high) for (low, high), size in zip(sides, y.shape[2:])]
    return _getitem(y, (slice(None), slice(None), *cut))


@operator
def MaxPool(
    x,
    *,
    kernel_shape,
    strides=None,
    pads=None,
    dilations=None,
    ceil_mode=0,
    auto_pad="NOTSET",
    storage_order=0,
    n_outputs,
):
    strides, dilations, sides = _window(x, kernel_shape, strides, dilations, pads, auto_pad)
    padding = tuple(low for low, _ in sides)
    pool, options = _of_rank("max_pool", x), (tuple(kernel_shape), strides)
    if n_outputs == 2:  # torch counts positions in each plane, ONNX in the whole array
        y, index = pool(x, *options, padding, dilations, bool(ceil_mode), return_indices=True)
        plane, shape = int(np.prod(x.shape[2:])), (*x.shape[:2], *(1,) * len(sides))
        if storage_order:
            index = np.ravel_multi_index(np.unravel_index(index, x.shape[2:]), x.shape[2:], order="F")
        return y, gt.add(index, plane * np.arange(x.shape[0] * x.shape[1]).reshape(shape))
    if any(low != high or 2 * low > k for (low, high), k in zip(sides, kernel_shape)):
        x, padding = _pad(x, sides, -np.inf), (0,) * len(sides)
    return pool(x, *options, padding, dilations, bool(ceil_mode))


@operator
def AveragePool(
    x, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET", count_include_pad=0
):
    strides, dilations, sides = _window(x, kernel_shape, strides, dilations, pads, auto_pad)
    if set(dilations) != {1}:
        return _dilated_average(x, kernel_shape, strides, dilations, sides, ceil_mode, count_include_pad)
    options = (tuple(kernel_shape), strides)
    padding = tuple(low for low, _ in sides)
    pool = _of_rank("avg_pool", x)
    if all(low == high and 2 * low <= k for (low, high), k in zip(sides, kernel_shape)):
        return pool(x, *options, padding, bool(ceil_mode), bool(count_include_pad))
    total = pool(_pad(x, sides, 0.0), *options, 0, bool(ceil_mode))
    if count_include_pad:
        return total
    return gt.div(total, pool(_pad(np.ones_like(x), sides, 0.0), *options, 0, bool(ceil_mode)))


def _dilated_average(x, kernel, strides, dilations, sides, ceil_mode, count_include_pad):
    """Average pooling has no dilation in torch: a convolution with equal weights, over one that counts."""
    counted = _pad(np.ones_like(x), sides, float(count_include_pad))
    x = _pad(x, sides, 0.0)
    if ceil_mode:  # room for the last, partial window
        rest = [(n - d * (k - 1) - 1) % s for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations)]
        beyond = [(0, 0), (0, 0), *((0, -r % s) for r, s in zip(rest, strides))]
        x, counted = (gt.pad(a, _last_first(beyond)) for a in (x, counted))
    ones = np.ones((1, 1, *kernel), x.dtype)
    one_channel = (gt.reshape(a, (-1, 1, *a.shape[2:])) for a in (x, counted))
    total, count = (_of_rank("conv", x)(a, ones, None, strides, 0, dilations) for a in one_channel)
    return gt.reshape(gt.div(total, count), (*x.shape[:2], *total.shape[2:]))


@operator
def GlobalAveragePool(x):
    return gt.mean(x, dim=tuple(range(2, x.ndim)), keepdim=True)


@operator
def GlobalMaxPool(x):
    return gt.amax(x, dim=tuple(range(2, x.ndim)), keepdim=True)


@operator
def LpPool(x, *, kernel_shape, p=2, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET"):
    strides, dilations, sides = _window(x, kernel_shape, strides, dilations, pads, auto_pad)
    powers = _pad(gt.pow(gt.abs(x), p), sides, 0.0)
    if set(dilations) != {1}:
        one = gt.reshape(powers, (-1, 1, *powers.shape[2:]))
        total = _of_rank("conv", x)(one, np.ones((1, 1, *kernel_shape), x.dtype), None, strides, 0, dilations)
        total = gt.reshape(total, (*x.shape[:2], *total.shape[2:]))
    else:
        mean = _of_rank("avg_pool", x)(powers, tuple(kernel_shape), strides, 0, bool(ceil_mode))
        total = gt.mul(mean, float(np.prod(kernel_shape)))
    return gt.pow(total, 1.0 / p)


@operator
def MaxUnpool(x, indices, output_shape=None, *, kernel_shape, strides=None, pads=None):
    n = x.ndim - 2
    strides, pads = strides or [1] * n, pads or [0] * 2 * n
    small = [(i - 1) * s + k - a - b for i, s, k, a, b in zip(x.shape[2:], strides, kernel_shape, pads, pads[n:])]
    shape = small if output_shape is None else ints(output_shape)[2:]
    plane = int(np.prod(small))  # ONNX counts positions in the whole array of the smallest size
    places = np.unravel_index(indices % plane, small)
    flat = np.ravel_multi_index(places, shape)
    return _of_rank("max_unpool", x)(x, flat, tuple(kernel_shape), tuple(strides), 0, tuple(shape))
