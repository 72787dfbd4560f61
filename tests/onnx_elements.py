"""ONNX operators: element by element, and reductions."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from onnx_backend import OPERATORS, ints, operator

import gputape as gt

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
OPERATORS["ReduceProd"] = _reduction(lambda x, dim, keepdim: reduce(
        lambda y, d: gt.prod(y, d, True), dim or range(x.ndim), x) if keepdim else gt.reshape(reduce(
            lambda y, d: gt.prod(y, d, True), dim or range(x.ndim), x),
            [n for k, n in enumerate(x.shape) if k not in [d % x.ndim for d in dim or range(x.ndim)]]))  # fmt: skip


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
