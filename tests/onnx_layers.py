"""ONNX operators: norms, losses and attention."""

from __future__ import annotations

import numpy as np
from onnx_backend import operator

import gputape as gt

# --- norms ------------------------------------------------------------------------------------------------------------


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
def LRN(x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    if size % 2:
        return gt.local_response_norm(x, size, alpha, beta, bias)
    squares = gt.pad(gt.square(gt.movedim(x, 1, -1)), ((size - 1) // 2, size // 2))  # ONNX's longer half comes after
    sums = sum(squares[..., k : k + x.shape[1]] for k in range(size))
    return gt.div(x, gt.pow(gt.add(gt.mul(gt.movedim(sums, -1, 1), alpha / size), bias), beta))


@operator
def LpNormalization(x, *, axis=-1, p=2):
    return gt.normalize(x, float(p), axis, 1e-12)


@operator
def MeanVarianceNormalization(x, *, axes=(0, 2, 3)):
    centred = gt.sub(x, gt.mean(x, tuple(axes), True))
    return gt.div(centred, gt.add(gt.sqrt(gt.mean(gt.square(centred), tuple(axes), True)), 1e-9))


# --- losses -----------------------------------------------------------------------------------------------------------


@operator
def SoftmaxCrossEntropyLoss(x, target, weight=None, *, reduction="mean", ignore_index=-100):
    loss = gt.cross_entropy(x, target, weight, reduction=reduction, ignore_index=ignore_index)
    return loss, gt.log_softmax(x, dim=1)


@operator
def NegativeLogLikelihoodLoss(x, target, weight=None, *, reduction="mean", ignore_index=-100):
    return gt.nll_loss(x, target, weight, reduction=reduction, ignore_index=ignore_index)


# --- attention --------------------------------------------------------------------------------------------------------


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
