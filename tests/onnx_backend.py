"""ONNX operators in gputape's functions: enough of a backend to run the node tests of `onnx.backend.test`.

`OPERATORS` maps an operator to a function of its inputs and, by keyword, its attributes with ONNX's defaults. What
gputape does not have as such (paddings that differ between the sides, `SAME_UPPER`) is written with what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import ml_dtypes
import numpy as np

import gputape as gt

OPERATORS: dict[str, Callable[..., Any]] = {}


def operator(function: Callable[..., Any]) -> Callable[..., Any]:
    """Enter a function under its name, which is the ONNX operator's."""
    OPERATORS[function.__name__] = function
    return function


def run_node(op_type: str, inputs: Sequence[Any], attributes: dict[str, Any], n_outputs: int = 1) -> tuple[Any, ...]:
    """All outputs of one operator. `inputs` holds None for an optional input left out."""
    attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
    if op_type in ("Split", "Attention", "MaxPool"):
        attributes["n_outputs"] = n_outputs
    out = OPERATORS[op_type](*inputs, **attributes)
    return tuple(map(np.asarray, out if isinstance(out, (tuple, list)) else (out,)))


def ints(array: Any) -> list[int]:
    return [int(n) for n in np.asarray(array).reshape(-1)]


# --- element by element -----------------------------------------------------------------------------------------------

OPERATORS |= {
    "Add": lambda a, b: gt.add(a, b),
    "Sub": lambda a, b: gt.sub(a, b),
    "Mul": lambda a, b: gt.mul(a, b),
    "Neg": lambda x: gt.neg(x),
    "Abs": lambda x: gt.abs(x),
    "Sqrt": lambda x: gt.sqrt(x),
    "Exp": lambda x: gt.exp(x),
    "Log": lambda x: gt.log(x),
    "Reciprocal": lambda x: gt.reciprocal(x),
    "Sign": lambda x: gt.sign(x),
    "Floor": lambda x: gt.floor(x),
    "Ceil": lambda x: gt.ceil(x),
    "Round": lambda x: gt.round(x),
    "Sin": lambda x: gt.sin(x),
    "Cos": lambda x: gt.cos(x),
    "Erf": lambda x: gt.erf(x),
    "IsNaN": lambda x: gt.isnan(x),
    "Not": lambda x: gt.logical_not(x),
    "And": lambda a, b: gt.logical_and(a, b),
    "Or": lambda a, b: gt.logical_or(a, b),
    "Sum": lambda *xs: reduce(gt.add, xs),
    "Mean": lambda *xs: gt.mean(gt.stack(list(xs)), dim=0),
    "Relu": lambda x: gt.relu(x),
    "Sigmoid": lambda x: gt.sigmoid(x),
    "Tanh": lambda x: gt.tanh(x),
    "Softplus": lambda x: gt.softplus(x),
    "Gelu": lambda x, *, approximate="none": gt.gelu(x, approximate=approximate),
    "LeakyRelu": lambda x, *, alpha=0.01: gt.leaky_relu(x, negative_slope=alpha),
    "Elu": lambda x, *, alpha=1.0: gt.elu(x, alpha=alpha),
    "Max": lambda *xs: reduce(gt.maximum, xs),
    "Min": lambda *xs: reduce(gt.minimum, xs),
    "Equal": lambda a, b: gt.eq(a, b),
    "Less": lambda a, b: gt.lt(a, b),
    "LessOrEqual": lambda a, b: gt.le(a, b),
    "Greater": lambda a, b: gt.gt(a, b),
    "GreaterOrEqual": lambda a, b: gt.ge(a, b),
    "Where": lambda condition, x, y: gt.where(condition, x, y),
    "Softmax": lambda x, *, axis=-1: gt.softmax(x, dim=axis),
    "LogSoftmax": lambda x, *, axis=-1: gt.log_softmax(x, dim=axis),
}


@operator
def Div(a, b):
    if a.dtype.kind == "f":
        return gt.div(a, b)
    exact = gt.div(gt.cast(a, "float64"), gt.cast(b, "float64"))  # integers divide toward zero here
    return gt.cast(exact, a.dtype.name)


@operator
def Pow(base, exponent):
    return gt.cast(gt.pow(base, exponent), base.dtype.name)  # the base's type, where torch takes the common one


@operator
def Clip(x, low=None, high=None):
    if low is None and high is None:
        return x
    return gt.clamp(x, *(None if v is None else v.item() for v in (low, high)))


@operator
def Cast(x, *, to, saturate=1, round_mode="up"):
    from onnx.helper import tensor_dtype_to_np_dtype

    return gt.cast(x, np.dtype(tensor_dtype_to_np_dtype(to)).name)


@operator
def Dropout(x, ratio=None, training=None, *, seed=None, **old):
    p = 0.5 if ratio is None else float(ratio)
    on = training is not None and bool(training)
    return gt.dropout(x, p, training=on), np.ones(x.shape, bool)


# --- reductions -------------------------------------------------------------------------------------------------------


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
        dims = () if axes is None else tuple(ints(axes))
        if not dims and noop_with_empty_axes:
            return x
        return function(x, dim=dims or None, keepdim=bool(keepdims))

    return run


OPERATORS |= {
    "ReduceSum": _reduction(lambda x, **k: gt.sum(x, **k)),
    "ReduceMean": _reduction(lambda x, **k: gt.mean(x, **k)),
    "ReduceMax": _reduction(lambda x, **k: gt.amax(x, **k)),
    "ReduceMin": _reduction(lambda x, **k: gt.amin(x, **k)),
    "ReduceL1": _reduction(lambda x, **k: gt.sum(gt.abs(x), **k)),
    "ReduceL2": _reduction(lambda x, **k: gt.sqrt(gt.sum(gt.square(x), **k))),
    "ReduceSumSquare": _reduction(lambda x, **k: gt.sum(gt.square(x), **k)),
    "ReduceLogSum": _reduction(lambda x, **k: gt.log(gt.sum(x, **k))),
    "ReduceLogSumExp": _reduction(lambda x, dim, keepdim: gt.logsumexp(x, dim or tuple(range(x.ndim)), keepdim)),
}


def _position(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(x, *, axis=0, keepdims=1, select_last_index=0):
        found = function(gt.flip(x, (axis,)) if select_last_index else x, dim=axis, keepdim=bool(keepdims))
        return gt.sub(x.shape[axis] - 1, found) if select_last_index else found

    return run


OPERATORS["ArgMax"] = _position(lambda x, **k: gt.argmax(x, **k))
OPERATORS["ArgMin"] = _position(lambda x, **k: gt.argmin(x, **k))


@operator
def CumSum(x, axis, *, exclusive=0, reverse=0):
    dim = int(axis)
    y = gt.flip(x, (dim,)) if reverse else x
    y = gt.cumsum(y, dim=dim)
    if exclusive:
        y = gt.sub(y, gt.flip(x, (dim,)) if reverse else x)
    return gt.cast(gt.flip(y, (dim,)) if reverse else y, x.dtype.name)


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
def Trilu(x, k=None, *, upper=1):
    return (gt.triu if upper else gt.tril)(x, diagonal=0 if k is None else int(k))


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
def OneHot(indices, depth, values, *, axis=-1):
    n = int(np.asarray(depth).item())
    indices = gt.cast(indices, "int64")
    inside = np.logical_and(indices >= -n, indices < n)
    hot = gt.mul(gt.one_hot(np.where(inside, indices % n, 0), n), gt.cast(inside[..., None], "int64"))
    y = gt.where(gt.cast(hot, "bool"), values[1], values[0])
    order = list(range(indices.ndim))
    order.insert(axis % (indices.ndim + 1), indices.ndim)
    return gt.permute(y, order)


# --- matmul, convolution, pooling -------------------------------------------------------------------------------------


@operator
def MatMul(a, b):
    return gt.matmul(a, b)


@operator
def Gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    a = gt.permute(a, (1, 0)) if transA else a
    b = gt.permute(b, (1, 0)) if transB else b
    y = gt.mul(gt.matmul(a, b), alpha)
    return y if c is None else gt.add(y, gt.mul(c, beta))


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


# --- norms, losses, attention -----------------------------------------------------------------------------------------


@operator
def LayerNormalization(x, scale, bias=None, *, axis=-1, epsilon=1e-5, stash_type=1):
    dims = tuple(range(axis % x.ndim, x.ndim))
    y = gt.layer_norm(x, tuple(x.shape[d] for d in dims), scale, bias, epsilon)
    mean = gt.mean(x, dim=dims, keepdim=True)
    variance = gt.var(x, dim=dims, correction=0, keepdim=True)
    return y, mean, gt.rsqrt(gt.add(variance, epsilon))


@operator
def RMSNormalization(x, scale, *, axis=-1, epsilon=1e-5, stash_type=1):
    return gt.rms_norm(x, x.shape[axis % x.ndim :], scale, epsilon)


@operator
def GroupNormalization(x, scale, bias, *, num_groups, epsilon=1e-5, stash_type=1):
    return gt.group_norm(x, num_groups, scale, bias, epsilon)


@operator
def InstanceNormalization(x, scale, bias, *, epsilon=1e-5):
    return gt.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


@operator
def BatchNormalization(x, scale, bias, mean, variance, *, epsilon=1e-5, momentum=0.9, training_mode=0):
    if not training_mode:
        return gt.batch_norm(x, mean, variance, scale, bias, eps=epsilon)
    y = gt.batch_norm(x, None, None, scale, bias, training=True, eps=epsilon)
    dims = (0, *range(2, x.ndim))  # the running variance is torch's without its correction
    now = gt.mean(x, dim=dims), gt.var(x, dim=dims, correction=0)
    return (y, *(gt.add(gt.mul(old, momentum), gt.mul(new, 1 - momentum)) for old, new in zip((mean, variance), now)))


@operator
def SoftmaxCrossEntropyLoss(x, target, weight=None, *, reduction="mean", ignore_index=-100):
    loss = gt.cross_entropy(x, target, weight, reduction=reduction, ignore_index=ignore_index)
    return loss, gt.log_softmax(x, dim=1)


@operator
def NegativeLogLikelihoodLoss(x, target, weight=None, *, reduction="mean", ignore_index=-100):
    return gt.nll_loss(x, target, weight, reduction=reduction, ignore_index=ignore_index)


@operator
def Attention(
    q,
    k,
    v,
    mask=None,
    past_key=None,
    past_value=None,
    lengths=None,
    *,
    is_causal=0,
    scale=None,
    q_num_heads=None,
    kv_num_heads=None,
    left_window_size=-1,
    right_window_size=-1,
    softcap=0.0,
    softmax_precision=None,
    qk_matmul_output_mode=0,
    n_outputs,
):
    rank = q.ndim
    if rank == 3:
        q, k, v = (_heads(x, n) for x, n in ((q, q_num_heads), (k, kv_num_heads), (v, kv_num_heads)))
    if past_key is not None:
        k, v = gt.cat([past_key, k], dim=2), gt.cat([past_value, v], dim=2)
    past = 0 if past_key is None else past_key.shape[2]
    allowed = _allowed(q.shape[2], k.shape[2], past, lengths, is_causal, left_window_size, right_window_size)
    mask, present, scores = _mask(mask, allowed), (k, v), None
    if q.shape[1] != k.shape[1]:
        k, v = (np.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    if softcap or n_outputs == 4:
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        y, *scores = _spelled_out(q, k, v, mask, scale, softcap, qk_matmul_output_mode)
    else:
        y = gt.scaled_dot_product_attention(q, k, v, mask, scale=scale)
    if rank == 3:
        y = gt.reshape(gt.permute(y, (0, 2, 1, 3)), (y.shape[0], y.shape[2], -1))
    return (y, *present, *(scores or ()))


def _spelled_out(q, k, v, mask, scale, softcap, mode):
    """Attention step by step, for what the fused op has no option for: capped scores, and the scores as a result."""
    scores = gt.mul(gt.matmul(q, gt.permute(k, (0, 1, 3, 2))), scale)
    if softcap:
        scores = gt.mul(gt.tanh(gt.div(scores, softcap)), softcap)
    bias = np.zeros(1, q.dtype) if mask is None else mask
    if bias.dtype == bool:
        bias = np.where(bias, 0, -np.inf).astype(q.dtype)
    biased = gt.add(scores, bias)
    weights = gt.where(np.isneginf(bias).all(-1, keepdims=True), np.zeros((), q.dtype), gt.softmax(biased, dim=-1))
    return gt.matmul(weights, v), (scores, scores, biased, weights)[mode]


def _heads(x, n):
    return gt.permute(gt.reshape(x, (x.shape[0], x.shape[1], n, -1)), (0, 2, 1, 3))


def _allowed(n_q, n_k, past, lengths, causal, left, right):
    """Which keys a query may see, by position: (n_q, n_k), or (batch, 1, n_q, n_k) where the lengths differ."""
    shift = past if lengths is None else np.reshape(lengths, (-1, 1, 1, 1)) - n_q
    distance = np.arange(n_q)[:, None] + shift - np.arange(n_k)
    allowed = np.ones(distance.shape, bool)
    if causal:
        allowed &= distance >= 0
    if left >= 0:
        allowed &= distance <= left
    if right >= 0:
        allowed &= -distance <= right
    if lengths is not None:
        allowed &= np.arange(n_k) < np.reshape(lengths, (-1, 1, 1, 1))
    return allowed


def _mask(mask, allowed):
    if mask is None:
        return None if allowed.all() else allowed
    missing = allowed.shape[-1] - mask.shape[-1]
    if mask.dtype == bool:
        return np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, missing)]) & allowed
    mask = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, missing)], constant_values=-np.inf)
    return np.where(allowed, mask, np.array(-np.inf, mask.dtype))


# --- which types there are --------------------------------------------------------------------------------------------

TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bfloat16")


def unsupported_type(arrays: Sequence[Any]) -> str | None:
    """The first element type that gputape does not have."""
    for x in arrays:
        name = getattr(getattr(x, "dtype", None), "name", type(x).__name__)
        if name not in TYPES:
            return name
    return None


assert np.dtype(ml_dtypes.bfloat16).name in TYPES
