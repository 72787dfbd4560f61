"""Layers against their functions, and against what they should compute where there is no such function."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import nn

# --- what they compute ------------------------------------------------------------------------------------------------


def ramp(*shape):
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def same(a, b):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_layers_call_their_functions():
    x = ramp(2, 4, 7, 6)
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=1, groups=2)
    same(conv(x), gt.conv2d(x, conv.weight, conv.bias, 2, 1, 1, 2))
    up = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
    same(up(x), gt.conv_transpose2d(x, up.weight, up.bias, 2, 1, 1, 2))
    same(nn.MaxPool2d(3, 2, 1)(x), gt.max_pool2d(x, 3, 2, 1))
    same(nn.AvgPool2d(2)(x), gt.avg_pool2d(x, 2))
    same(nn.Flatten()(x), x.reshape(2, -1))
    same(nn.Unflatten(1, (2, -1))(x), x.reshape(2, 2, 2, 7, 6))
    same(nn.LayerNorm(6)(x), gt.layer_norm(x, (6,), np.ones(6, np.float32), np.zeros(6, np.float32)))
    same(nn.GELU("tanh")(x), gt.gelu(x, approximate="tanh"))
    same(nn.Softmax(1)(x), gt.softmax(x, 1))
    labels = np.array([1, 3])
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    same(loss(x[:, :, 0, 0], labels), gt.cross_entropy(x[:, :, 0, 0], labels, label_smoothing=0.1))
    same(nn.MSELoss("sum")(x, x[::-1]), gt.mse_loss(x, x[::-1], reduction="sum"))


def test_embedding_scales_by_frequency_and_refuses_what_overwrites():
    layer = nn.Embedding(4, 2, scale_grad_by_freq=True)
    with gt.record() as tape:
        loss = gt.sum(layer(np.array([1, 1, 1, 2])))
    grads = tape.backward(loss)
    np.testing.assert_array_equal(grads[layer.weight], [[0, 0], [1, 1], [1, 1], [0, 0]])
    for wrong in ({"max_norm": 1.0}, {"sparse": True}):
        with pytest.raises(gt.UnsupportedError, match="Embedding: "):
            nn.Embedding(4, 2, **wrong)


def test_bags_windows_and_columns():
    bag = nn.EmbeddingBag(5, 2, mode="sum", padding_idx=0)
    assert not bag.weight.numpy()[0].any()
    np.testing.assert_array_equal(bag(np.array([1, 0, 2, 3]), np.array([0, 2])), [
        bag.weight.numpy()[1], bag.weight.numpy()[2] + bag.weight.numpy()[3]
    ])  # fmt: skip
    with pytest.raises(gt.UnsupportedError, match="EmbeddingBag: max_norm"):
        nn.EmbeddingBag(5, 2, max_norm=1.0)
    x = np.arange(48.0, dtype=np.float32).reshape(1, 3, 4, 4)
    columns = nn.Unfold(2, stride=2)(x)
    assert columns.shape == (1, 12, 4)
    np.testing.assert_array_equal(nn.Fold((4, 4), 2, stride=2)(columns), x)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_max_unpool_undoes_max_pool(n):
    x = np.arange(2.0 * 4**n, dtype=np.float32).reshape(1, 2, *(4,) * n)
    pool, unpool = getattr(nn, f"MaxPool{n}d")(2, return_indices=True), getattr(nn, f"MaxUnpool{n}d")(2)
    y, index = pool(x)
    back = unpool(y, index)
    assert back.shape == x.shape and np.array_equal(np.sort(back[back != 0]), np.sort(y.ravel()))
    assert np.array_equal(pool(back)[0], y)
    assert unpool(y, index, output_size=x.shape).shape == x.shape


# --- dropout ----------------------------------------------------------------------------------------------------------


def test_dropout_only_drops_in_training():
    gt.manual_seed(0)
    x = np.ones((100, 100), np.float32)
    layer = nn.Dropout(0.25)
    y = np.asarray(layer(x))
    assert abs((y == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / y.size)
    np.testing.assert_allclose(y[y != 0], 1 / 0.75)
    same(layer.eval()(x), x)


@pytest.mark.parametrize(
    "kind, shape, lead",
    [
        ("Dropout1d", (50, 20, 3), 2),
        ("Dropout1d", (400, 3), 1),
        ("Dropout2d", (50, 20, 2, 3), 2),
        ("Dropout2d", (50, 20, 3), 2),
        ("Dropout3d", (50, 20, 2, 1, 3), 2),
        ("Dropout3d", (400, 2, 2, 3), 1),
    ],
)
def test_channel_dropout_drops_whole_channels(kind, shape, lead):
    gt.manual_seed(0)
    layer = getattr(nn, kind)(0.25)
    x = np.ones(shape, np.float32)
    y = np.asarray(layer(x)).reshape(int(np.prod(shape[:lead])), -1)
    assert (y == y[:, :1]).all()
    np.testing.assert_allclose(y[y != 0], 1 / 0.75)
    assert abs((y[:, 0] == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / len(y))
    same(layer.eval()(x), x)
    with pytest.raises(gt.ArgumentError, match=f"{kind}: p=2"):
        getattr(nn, kind)(2)


def test_alpha_dropout_keeps_mean_and_variance():
    gt.manual_seed(0)
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    y = np.asarray(nn.AlphaDropout(0.3)(x))
    assert abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.03
    dropped = np.unique(y, return_counts=True)[1].max() / y.size  # all have one value
    assert abs(dropped - 0.3) < 5 * np.sqrt(0.3 * 0.7 / y.size)
    same(nn.AlphaDropout(0.3).eval()(x), x)


# --- norms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_tracks_statistics(momentum):
    layer = nn.BatchNorm2d(3, momentum=momentum)
    rng = np.random.default_rng(0)
    mean, var = np.zeros(3), np.ones(3)
    for k in range(1, 4):
        x = rng.standard_normal((4, 3, 5, 2)).astype(np.float32) * 2 + 1
        with gt.record() as tape:
            y = layer(x)
            loss = gt.sum(y * y)
        tape.backward(loss)
        factor = momentum or 1 / k
        mean += factor * (x.mean((0, 2, 3)) - mean)
        var += factor * (x.var((0, 2, 3), ddof=1) - var)
        np.testing.assert_allclose(y.numpy().mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(layer.running_mean.value, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.running_var.value, var, rtol=1e-5)
    assert layer.num_batches_tracked.value == 3
    y = np.asarray(layer.eval()(x))
    expected = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert layer.num_batches_tracked.value == 3
    with pytest.raises(gt.ShapeError, match="BatchNorm2d"):
        layer(x[0])


def test_batch_norm_takes_a_list():
    assert nn.BatchNorm1d(2)([[1.0, 2.0], [3.0, 5.0]]).shape == (2, 2)


def test_an_empty_batch_counts_and_moves_nothing():
    layer = nn.BatchNorm1d(3)
    layer(np.zeros((0, 3), np.float32))
    assert layer.num_batches_tracked.item() == 1 and not layer.running_mean.numpy().any()


def test_norms_of_groups_and_neighbours():
    x = np.random.default_rng(0).standard_normal((2, 6, 5)).astype(np.float32)
    same(nn.GroupNorm(3, 6, eps=0.1)(x), gt.group_norm(x, 3, np.ones(6, "f"), np.zeros(6, "f"), 0.1))
    same(nn.RMSNorm((6, 5))(x), gt.rms_norm(x, (6, 5), np.ones((6, 5), "f")))
    same(nn.LocalResponseNorm(3, 0.5, 0.6, 2.0)(x), gt.local_response_norm(x, 3, 0.5, 0.6, 2.0))
    with pytest.raises(gt.ArgumentError, match="GroupNorm: 6 channels do not split into num_groups=4"):
        nn.GroupNorm(4, 6)


def test_norms_without_bias():
    for layer in (nn.BatchNorm1d(4, bias=False), nn.GroupNorm(2, 4, bias=False), nn.LayerNorm(4, bias=False)):
        assert "weight" in layer.state_dict() and "bias" not in layer.state_dict()
        assert layer(np.arange(12.0, dtype=np.float32).reshape(3, 4)).shape == (3, 4)


# --- attention --------------------------------------------------------------------------------------------------------


def naive_attention(layer, q, k, v, barred):
    """(N, L, E) attention by the textbook, in float64; `barred` broadcasts to (N, heads, L, S)."""
    e, h = layer.embed_dim, layer.num_heads
    w, b = np.asarray(layer.in_proj_weight.value, np.float64), np.asarray(layer.in_proj_bias.value, np.float64)
    heads = []
    for i, x in enumerate((q, k, v)):
        y = x @ w[i * e : (i + 1) * e].T + b[i * e : (i + 1) * e]
        heads.append(y.reshape(*y.shape[:2], h, e // h).swapaxes(1, 2))
    scores = heads[0] @ heads[1].swapaxes(-1, -2) / np.sqrt(e // h)
    p = np.where(barred, 0, np.exp(scores - scores.max(-1, keepdims=True)))
    p = p / np.maximum(p.sum(-1, keepdims=True), 1e-300)
    y = (p @ heads[2]).swapaxes(1, 2).reshape(q.shape[0], q.shape[1], e)
    return y @ layer.out_proj.weight.value.T + layer.out_proj.bias.value, p


@pytest.mark.parametrize("batch_first", [False, True])
def test_multihead_attention(batch_first):
    gt.manual_seed(1)
    layer = nn.MultiheadAttention(8, 2, batch_first=batch_first)
    nn.init.normal_(layer.in_proj_bias)
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((3, n, 8)).astype(np.float32) for n in (4, 5))
    turn = (lambda x: x) if batch_first else (lambda x: np.asarray(x).swapaxes(0, 1))
    barred, padding = rng.random((4, 5)) < 0.3, rng.random((3, 5)) < 0.3
    barred[1] = True  # a query that may attend to nothing
    both = barred | padding[:, None, None, :]
    expected, p = naive_attention(layer, q, k, k, both)
    for weights in (True, False):
        y, w = layer(turn(q), turn(k), turn(k), key_padding_mask=padding, need_weights=weights, attn_mask=barred)
        np.testing.assert_allclose(turn(y), expected, rtol=1e-4, atol=1e-5)
        assert (w is None) is not weights
        if weights:
            np.testing.assert_allclose(w, p.mean(1), rtol=1e-4, atol=1e-6)
    y, w = layer(turn(q), turn(k), turn(k), attn_mask=barred.astype(np.float32), average_attn_weights=False)
    assert w.shape == (3, 2, 4, 5)
    alone, _ = layer(q[0], k[0], k[0])
    batch, _ = layer(turn(q), turn(k), turn(k))
    np.testing.assert_allclose(alone, turn(batch)[0], rtol=1e-5, atol=1e-6)
    causal, _ = layer(turn(q), turn(q), turn(q), is_causal=True)
    expected, _ = naive_attention(layer, q, q, q, np.triu(np.ones((4, 4), bool), 1))
    np.testing.assert_allclose(turn(causal), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(gt.ShapeError, match="attn_mask"):
        layer(turn(q), turn(k), turn(k), attn_mask=barred.T)
    with pytest.raises(gt.ShapeError, match="key_padding_mask"):
        layer(turn(q), turn(k), turn(k), key_padding_mask=padding.T)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("kind", [bool, "floats beside bools"])
def test_masks_of_multihead_attention_take_the_dtype_of_the_inputs(dtype, kind):
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    for p in layer.parameters():
        p.array = p.array.astype(dtype)
    x = np.linspace(-1, 1, 24).reshape(2, 3, 4).astype(dtype)
    barred = np.triu(np.ones((3, 3), bool), 1)
    barred[1] = True
    mask = barred if kind is bool else np.where(barred, -np.inf, 0).astype(dtype)
    padding = np.array([[False, False, True], [False, False, False]])
    with_weights, weights = layer(x, x, x, key_padding_mask=padding, attn_mask=mask)
    without, _ = layer(x, x, x, key_padding_mask=padding, attn_mask=mask, need_weights=False)
    assert with_weights.dtype == weights.dtype == without.dtype == np.dtype(dtype)
    rows = [0, 2]  # what nothing may attend to is zero where masks are bools
    np.testing.assert_allclose(with_weights[:, rows], without[:, rows], rtol=2e-2 if dtype == "float16" else 1e-9)
