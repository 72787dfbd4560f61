"""Transformers: against the formulas in NumPy, what masks hide, gradients, and PyTorch where it is installed."""

from __future__ import annotations

import copy
from importlib.util import find_spec

import numpy as np
import pytest

import gputape as gt
from gputape import nn

RNG = np.random.default_rng(0)
E, H, F, S, L, N = 6, 2, 7, 4, 3, 2
SRC, TGT = (RNG.standard_normal((n, N, E)).astype(np.float32) for n in (S, L))


def made(kind, **options):
    """A layer with weights that are all different."""
    layer = kind(E, H, F, 0.0, **options)
    for p in layer.parameters():
        p.assign(RNG.standard_normal(p.shape) * 0.5)
    return layer


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def norm(p, name, x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def attention(p, name, x, memory, mask=None):
    w, b = p[f"{name}.in_proj_weight"], p[f"{name}.in_proj_bias"]
    q, k, v = (
        (y @ w[i * E : (i + 1) * E].T + b[i * E : (i + 1) * E]).reshape(len(y), N, H, E // H)
        for i, y in enumerate((x, memory, memory))
    )
    scores = np.einsum("lnhd,snhd->nhls", q, k) / np.sqrt(E // H)
    scores = scores if mask is None else scores + mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return linear(p, f"{name}.out_proj", np.einsum("nhls,snhd->lnhd", weights, v).reshape(len(x), N, E))


def formula(layer, x, memory=None, mask=None):
    p = {k: v.astype(np.float64) for k, v in layer.state_dict().items()}
    branches = [lambda y: attention(p, "self_attn", y, y, mask)]
    if memory is not None:
        branches.append(lambda y: attention(p, "multihead_attn", y, memory))
    branches.append(lambda y: linear(p, "linear2", np.maximum(linear(p, "linear1", y), 0)))
    for k, branch in enumerate(branches, 1):
        x = x + branch(norm(p, f"norm{k}", x)) if layer.norm_first else norm(p, f"norm{k}", x + branch(x))
    return x


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_layers_are_their_formulas(norm_first, batch_first):
    turned = (lambda x: np.swapaxes(x, 0, 1)) if batch_first else lambda x: x
    options = {"norm_first": norm_first, "batch_first": batch_first}
    causal = nn.Transformer.generate_square_subsequent_mask(S)
    encoder, decoder = made(nn.TransformerEncoderLayer, **options), made(nn.TransformerDecoderLayer, **options)
    want = formula(encoder, SRC.astype(np.float64), mask=causal)
    for given in ({"src_mask": causal}, {"is_causal": True}, {"src_mask": causal < 0, "is_causal": True}):
        np.testing.assert_allclose(turned(encoder(turned(SRC), **given)), want, rtol=2e-5, atol=2e-5)
    want = formula(decoder, TGT.astype(np.float64), SRC.astype(np.float64))
    np.testing.assert_allclose(turned(decoder(turned(TGT), turned(SRC))), want, rtol=2e-5, atol=2e-5)


def test_stacks_are_copies_one_behind_the_other():
    layer = made(nn.TransformerEncoderLayer)
    stack = nn.TransformerEncoder(layer, 2, nn.LayerNorm(E))
    assert len({id(p) for p in stack.parameters()}) == 2 * len(list(layer.parameters())) + 2
    np.testing.assert_array_equal(stack(SRC), stack.norm(layer(layer(SRC))))
    layer = made(nn.TransformerDecoderLayer)
    np.testing.assert_array_equal(nn.TransformerDecoder(layer, 2)(TGT, SRC), layer(layer(TGT, SRC), SRC))
    assert nn.TransformerDecoder(layer, 0)(TGT, SRC) is TGT


def test_encoder_and_decoder_together():
    model = nn.Transformer(E, H, 1, 2, F, 0.0, "gelu")
    memory = model.encoder(SRC)
    np.testing.assert_array_equal(model(SRC, TGT), model.decoder(TGT, memory))
    mask = model.generate_square_subsequent_mask(L)
    first = np.asarray(model(SRC, TGT, tgt_mask=mask))
    later = TGT.copy()
    later[-1] += 1
    np.testing.assert_array_equal(np.asarray(model(SRC, later, tgt_mask=mask))[:-1], first[:-1])
    hidden = np.array([[False] * (S - 1) + [True]] * N)
    other = SRC.copy()
    other[-1] += 1
    padded = {"src_key_padding_mask": hidden, "memory_key_padding_mask": hidden}
    np.testing.assert_allclose(model(other, TGT, **padded), model(SRC, TGT, **padded), atol=1e-6)
    names = [n for n in model.state_dict() if n.startswith("decoder.layers.1")]
    assert len(names) == 18 and "decoder.layers.1.multihead_attn.out_proj.bias" in names


def test_dropout_is_for_training():
    model = nn.Transformer(E, H, 1, 1, F, 0.5)
    assert not np.array_equal(model(SRC, TGT), model(SRC, TGT))
    model.eval()
    np.testing.assert_array_equal(model(SRC, TGT), model(SRC, TGT))


@pytest.mark.parametrize("norm_first", [False, True])
def test_gradients_match_difference_quotients(norm_first):
    model = nn.Transformer(E, H, 1, 1, F, 0.0, lambda x: gt.tanh(x), norm_first=norm_first)
    wide = copy.deepcopy(model)
    for p in wide.parameters():
        p.array = p.array.astype(np.float64)
    gt.check_grads(lambda s, t: wide(s, t), [SRC.astype(np.float64), TGT.astype(np.float64)])


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_compiled_steps_train(device):
    if device == "emulated" and find_spec("triton") is None:
        pytest.skip("triton is not installed: no kernel is emulated")
    with gt.device(device):
        layer = made(nn.TransformerEncoderLayer)
        opt = gt.optim.SGD(layer.parameters(), lr=0.05)

        @gt.compile
        def step(x, y):
            with gt.record() as tape:
                loss = gt.mse_loss(layer(x, is_causal=True), y)
            opt.step(tape.backward(loss))
            return loss

        losses = [float(step(SRC, SRC[::-1].copy())) for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize(
    "make, error, match",
    [
        (lambda: nn.TransformerEncoderLayer(E, 4), gt.ArgumentError, "not divisible"),
        (lambda: nn.TransformerEncoderLayer(E, H, activation="tanh"), gt.ArgumentError, "activation='tanh'"),
        (lambda: nn.TransformerEncoder(nn.Identity(), -1), gt.ArgumentError, "num_layers=-1"),
        (lambda: nn.Transformer(E, H, 1, 1, F)(SRC, TGT[:, :1]), gt.ShapeError, "Give them one batch"),
        (lambda: nn.Transformer(E, H, 1, 1, F)(SRC, TGT[..., :3]), gt.ShapeError, "6 on the last axis"),
    ],
)
def test_what_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("kind", ["TransformerEncoderLayer", "TransformerDecoderLayer", "Transformer"])
def test_agrees_with_pytorch_with_its_weights(kind):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, kind)(E, H, dropout=0.0, activation="gelu")
    ours = getattr(nn, kind)(E, H, dropout=0.0, activation="gelu")
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    args = (SRC,) if kind == "TransformerEncoderLayer" else (SRC, TGT)
    want = theirs(*map(torch.from_numpy, args)).detach().numpy()
    np.testing.assert_allclose(ours(*args), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("more", [("add_bias_kv",), ("add_zero_attn",), ("add_bias_kv", "add_zero_attn")])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_keys_of_its_own(more, masked):
    layer = nn.MultiheadAttention(E, H, **dict.fromkeys(more, True))
    for p in layer.parameters():
        p.assign(RNG.standard_normal(p.shape) * 0.5)
    p = {k: v.astype(np.float64) for k, v in layer.state_dict().items()}
    w, b = p["in_proj_weight"], p["in_proj_bias"]
    q, k, v = (
        np.swapaxes(x @ w[i * E : (i + 1) * E].T + b[i * E : (i + 1) * E], 0, 1) for i, x in enumerate((TGT, SRC, SRC))
    )
    if "add_bias_kv" in more:
        k, v = (np.concatenate([x, np.tile(p[n], (N, 1, 1))], 1) for x, n in ((k, "bias_k"), (v, "bias_v")))
    if "add_zero_attn" in more:
        k, v = (np.concatenate([x, np.zeros((N, 1, E))], 1) for x in (k, v))
    q, k, v = (x.reshape(N, -1, H, E // H).swapaxes(1, 2) for x in (q, k, v))
    scores = q @ k.swapaxes(2, 3) / np.sqrt(E // H)
    mask, hidden = np.triu(np.ones((L, S), bool), 1), np.array([[False] * (S - 1) + [True]] * N)
    if masked:
        scores[..., :S] = np.where(mask | hidden[:, None, None], -np.inf, scores[..., :S])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    want = (weights @ v).transpose(2, 0, 1, 3).reshape(L, N, E) @ p["out_proj.weight"].T + p["out_proj.bias"]
    masks = {"attn_mask": mask, "key_padding_mask": hidden} if masked else {}
    for need in (False, True):
        y, found = layer(TGT, SRC, SRC, need_weights=need, average_attn_weights=False, **masks)
        np.testing.assert_allclose(y, want, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(found, weights, rtol=2e-5, atol=2e-5)
    with gt.record() as tape:
        loss = gt.sum(layer(TGT, SRC, SRC, **masks)[0])
    grads = tape.backward(loss)
    if "add_bias_kv" in more:
        assert np.abs(grads[layer.bias_k]).max() > 0 and np.abs(grads[layer.bias_v]).max() > 0
