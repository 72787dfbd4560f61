"""ONNX operators, continued: element by element, norms of vectors, and pools of other kinds."""

from __future__ import annotations

from functools import reduce

import numpy as np
from onnx_backend import OPERATORS, _of_rank, _pad, _reduction, _window, ints, operator

import gputape as gt

OPERATORS |= {
    "Identity": lambda x: gt.positive(x) if x.dtype != bool else gt.logical_not(gt.logical_not(x)),
    "Acos": lambda x: gt.acos(x),
    "Acosh": lambda x: gt.acosh(x),
    "Asin": lambda x: gt.asin(x),
    "Asinh": lambda x: gt.asinh(x),
    "Atan": lambda x: gt.atan(x),
    "Atanh": lambda x: gt.atanh(x),
    "Tan": lambda x: gt.tan(x),
    "Sinh": lambda x: gt.sinh(x),
    "Cosh": lambda x: gt.cosh(x),
    "Celu": lambda x, *, alpha=1.0: gt.celu(x, alpha),
    "HardSwish": lambda x: gt.hardswish(x),
    "Mish": lambda x: gt.mish(x),
    "Softsign": lambda x: gt.softsign(x),
    "Swish": lambda x, *, alpha=1.0: gt.mul(x, gt.sigmoid(gt.mul(x, alpha))),
    "ThresholdedRelu": lambda x, *, alpha=1.0: gt.threshold(x, alpha, 0.0),
    "Xor": lambda a, b: gt.logical_xor(a, b),
    "BitwiseAnd": lambda a, b: gt.bitwise_and(a, b),
    "BitwiseOr": lambda a, b: gt.bitwise_or(a, b),
    "BitwiseXor": lambda a, b: gt.bitwise_xor(a, b),
    "BitwiseNot": lambda x: gt.bitwise_not(x),
    "Mod": lambda a, b, *, fmod=0: (gt.fmod if fmod else gt.remainder)(a, b),
    "ReduceProd": _reduction(lambda x, dim, keepdim: reduce(
        lambda y, d: gt.prod(y, d, True), dim or range(x.ndim), x) if keepdim else gt.reshape(reduce(
            lambda y, d: gt.prod(y, d, True), dim or range(x.ndim), x),
            [n for k, n in enumerate(x.shape) if k not in [d % x.ndim for d in dim or range(x.ndim)]])),
    "Einsum": lambda *xs, equation: gt.einsum(equation, *xs),
}  # fmt: skip


@operator
def IsInf(x, *, detect_negative=1, detect_positive=1):
    found = gt.isinf(x)
    if not detect_negative:
        found = gt.isposinf(x)
    elif not detect_positive:
        found = gt.isneginf(x)
    return found if detect_negative or detect_positive else gt.ne(x, x) & gt.eq(x, x)


@operator
def Selu(x, *, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875):
    return gt.mul(gt.elu(x, alpha), gamma)


@operator
def HardSigmoid(x, *, alpha=0.2, beta=0.5):
    return gt.clamp(gt.add(gt.mul(x, alpha), beta), 0.0, 1.0)


@operator
def PRelu(x, slope):
    return gt.where(gt.lt(x, 0), gt.mul(x, slope), x)


@operator
def Shrink(x, *, bias=0.0, lambd=0.5):
    nearer = gt.sub(x, gt.mul(gt.sign(x), bias))
    return gt.where(gt.gt(gt.abs(x), lambd), nearer, gt.zeros_like(x))


@operator
def BitShift(x, y, *, direction):
    bits = 8 * x.dtype.itemsize - (x.dtype.kind == "i" and direction == "RIGHT")  # beyond, the sign is left, or nothing
    far = gt.logical_or(gt.lt(y, 0), gt.ge(y, bits))
    powers = gt.cast(gt.exp2(gt.cast(gt.where(far, 0, y), "float64")), x.dtype.name)
    if direction == "LEFT":
        return gt.where(far, gt.zeros_like(x), gt.mul(x, powers))
    return gt.where(far, gt.cast(gt.where(gt.lt(x, 0), -1, 0), x.dtype.name), gt.floor_divide(x, powers))


@operator
def Hardmax(x, *, axis=-1):
    best = gt.one_hot(gt.argmax(x, axis), x.shape[axis])
    return gt.cast(gt.movedim(best, -1, axis), x.dtype.name)


# --- norms and pools --------------------------------------------------------------------------------------------------


@operator
def LpNormalization(x, *, axis=-1, p=2):
    return gt.normalize(x, float(p), axis, 1e-12)


@operator
def MeanVarianceNormalization(x, *, axes=(0, 2, 3)):
    centred = gt.sub(x, gt.mean(x, tuple(axes), True))
    return gt.div(centred, gt.add(gt.sqrt(gt.mean(gt.square(centred), tuple(axes), True)), 1e-9))


@operator
def LRN(x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    if size % 2:
        return gt.local_response_norm(x, size, alpha, beta, bias)
    squares = gt.pad(gt.square(gt.movedim(x, 1, -1)), ((size - 1) // 2, size // 2))  # ONNX's longer half comes after
    sums = sum(squares[..., k : k + x.shape[1]] for k in range(size))
    return gt.div(x, gt.pow(gt.add(gt.mul(gt.movedim(sums, -1, 1), alpha / size), bias), beta))


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
