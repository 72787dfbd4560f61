"""Dropout inside attention: what it drops, and that no array of all weights is made for it."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape.dispatch import call

RNG = np.random.default_rng(0)
SHAPES = [((2, 4, 5, 6), (2, 4, 7, 6)), ((1, 6, 9, 4), (1, 2, 8, 4)), ((1, 2, 70, 3), (1, 2, 131, 3))]
STATE = np.array([11, 2], np.int64)


def normal(*shape):
    return RNG.standard_normal(shape)


def composed(q, k, v, mask, p, offset, causal):
    """Attention from its ops, one array of weights after the other."""
    (b, h, n, e), (_, g, s, _) = q.shape, k.shape
    k, v = (gt.reshape(gt.expand(gt.unsqueeze(x, 2), (b, g, h // g, s, e)), (b, h, s, e)) for x in (k, v))
    scores = gt.matmul(q, gt.permute(k, (0, 1, 3, 2))) * e**-0.5
    if mask is not None:
        scores = scores + mask
    if causal:
        scores = gt.masked_fill(scores, np.triu(np.ones((n, s), bool), 1), -1e9)
    kept = call("dropout_mask", STATE, (b, h, n, -(-s // 4) * 4), p, offset, "float64")[..., :s]
    return gt.matmul(gt.mul(gt.softmax(scores, -1), kept), v)


@pytest.mark.parametrize("q_shape, k_shape", SHAPES)
@pytest.mark.parametrize("offset, masked, causal", [(0, False, False), (3, True, False), (2, False, True)])
def test_dropout_is_that_of_the_composed_form(q_shape, k_shape, offset, masked, causal):
    arrays = [normal(*q_shape), normal(*k_shape), normal(*k_shape)]
    if masked:
        arrays.append(normal(1, q_shape[1], q_shape[2], k_shape[2]))

    def fused(q, k, v, mask=None):
        return call("attention", q, k, v, mask, STATE, causal, None, 0.3, offset)

    def plain(q, k, v, mask=None):
        return composed(q, k, v, mask, 0.3, offset, causal)

    y, pull = gt.vjp(fused, *arrays)
    exact, pull_exact = gt.vjp(plain, *arrays)
    np.testing.assert_allclose(y, exact, rtol=1e-11, atol=1e-11)
    dy = normal(*y.shape)
    for found, expected in zip(pull(dy), pull_exact(dy), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_the_mean_over_masks_is_attention_without_dropout():
    q, k = normal(1, 1, 64, 8), normal(1, 1, 64, 8)
    v = np.eye(64)[None, None]  # the result is the weights
    gt.manual_seed(3)
    drawn = [gt.scaled_dot_product_attention(q, k, v, dropout_p=0.25) for _ in range(400)]
    p = gt.scaled_dot_product_attention(q, k, v)
    assert len({y.tobytes() for y in drawn}) == len(drawn)
    kept = np.mean([y != 0 for y in drawn])
    assert abs(kept - 0.75) < 5 * np.sqrt(0.25 * 0.75 / (400 * 64 * 64))
    assert {float(r) for r in np.unique(np.round(drawn[0] / p, 9))} == {0.0, round(1 / 0.75, 9)}
    spread = np.sqrt(np.mean(p**2) * (1 / 0.75 - 1) / 400)  # of the mean of 400 draws
    assert np.sqrt(np.mean((np.mean(drawn, axis=0) - p) ** 2)) < 1.2 * spread


def test_no_node_holds_all_weights():
    with gt.record(retain=True) as tape:
        q, k, v = (gt.leaf(normal(1, 2, 256, 16)) for _ in range(3))
        loss = gt.sum(gt.scaled_dot_product_attention(q, k, v, dropout_p=0.1))
    grads = tape.backward(loss)
    assert len(grads) == 3
    assert max(a.size for node in tape.nodes for a in node.at.outs) < 2 * 256 * 256


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_ends(p):
    q = normal(1, 2, 5, 4)
    y, pull = gt.vjp(lambda q: gt.scaled_dot_product_attention(q, q, q, dropout_p=p), q)
    assert (y == 0).all() == (p == 1) and np.isfinite(y).all()
    (dq,) = pull(np.ones_like(y))
    assert (dq == 0).all() == (p == 1) and np.isfinite(dq).all()
