"""The original page's names, their argument order, exact shapes, and the semantics each of them promises.

The numbers are those of the list of choices in the design notes: where the page names a PyTorch comparison PyTorch's
semantics hold, where it names none the original's.
"""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

import gputape as gt
from gputape import Tape, TapeM, do
from gputape.page import PAGE

NAMES = """leaf add sub mul scale abs sqrt clamp max min relu linear matmul concat_vectors conv2d conv_transpose
conv_transpose2d max_pool2d max_pool2d_pad smooth_max_pool2d avg_pool2d avg_pool2d_pad layer_norm
batchnorm_channel_first multi_head_attention mse_loss sigmoid tanh softmax softplus exp log inv safe_log sum
backward""".split()  # noqa: SIM905 - as the page lists them


def run(name, *values, grads=(), seed=None, **options):
    """The value of a page op at the given arrays, and the gradients to the inputs with a seed of ones."""

    @do
    def program():
        ids = []
        for v in values:
            ids.append((yield TapeM.leaf(np.asarray(v))) if not isinstance(v, Plain) else v.value)
        out = yield getattr(TapeM, name)(*ids, **options)
        tape = yield TapeM.get()
        value = tape.value(out)
        found = yield TapeM.backward(out, np.ones(value.shape, value.dtype) if seed is None else seed)
        return value, [found.get(i) for i, v in zip(ids, values, strict=True) if not isinstance(v, Plain)]

    return program().eval(Tape())


class Plain:
    """An argument that is a plain value, no node."""

    def __init__(self, value):
        self.value = value


def test_tape_and_tapem_carry_every_name():
    for name in NAMES:
        assert callable(getattr(TapeM, name)), name
        assert callable(getattr(Tape, name)), name
    for name in ("run", "eval", "exec", "get", "set"):
        assert callable(getattr(TapeM, name)), name
    assert set(NAMES) - set(PAGE) == {"leaf", "backward"}


@pytest.mark.parametrize(
    "name, order",
    [
        ("linear", ["w", "b", "x"]),
        ("conv2d", ["kernel", "bias", "input"]),
        ("conv_transpose", ["kernel", "bias", "input", "name"]),
        ("conv_transpose2d", ["kernel", "bias", "input"]),
        ("multi_head_attention", ["wq", "wk", "wv", "wo", "x", "mask"]),
        ("layer_norm", ["x", "gamma", "beta"]),
        ("batchnorm_channel_first", ["x", "gamma", "beta"]),
        ("smooth_max_pool2d", ["x", "beta"]),
        ("clamp", ["x", "min", "max"]),
        ("mse_loss", ["yhat", "target"]),
        ("concat_vectors", ["a", "b"]),
        ("leaf", ["value", "name", "requires_grad"]),
    ],
)
def test_arguments_keep_the_pages_order(name, order):
    for owner in (TapeM, Tape):
        params = [p for p in inspect.signature(getattr(owner, name)).parameters if p != "self"]
        assert params[: len(order)] == order


F64 = np.float64


def test_1_max_pool_gives_the_gradient_to_the_first_maximum():
    y, (dx,) = run("max_pool2d", F64([[[1, 2], [4, 3]]]), kernel_size=2)
    assert y == 4 and dx.tolist() == [[[0, 0], [1, 0]]]
    y, (dx,) = run("max_pool2d", F64([[[1, 5, 3]]]), kernel_size=(1, 3))
    assert y == 5 and dx.tolist() == [[[0, 1, 0]]]
    y, (dx,) = run("max_pool2d", F64([[[7, 7], [7, 7]]]), kernel_size=2)
    assert dx.tolist() == [[[1, 0], [0, 0]]]
    y, (dx,) = run("max_pool2d", F64([[[1, math.nan], [9, 8]]]), kernel_size=2)
    assert np.isnan(y).all() and dx.tolist() == [[[0, 1], [0, 0]]]
    y, _ = run("max_pool2d_pad", F64([[[-5, -6], [-7, -8]]]), kernel_size=2, stride=2, padding=1)
    assert y.tolist() == [[[-5, -6], [-7, -8]]]  # padding never wins


def test_2_clamp_includes_both_bounds():
    y, (dx,) = run("clamp", F64([-2, -1, 0, 1, 2, math.nan]), Plain(-1.0), Plain(1.0))
    assert y.tolist()[:5] == [-1, -1, 0, 1, 1] and math.isnan(y[5])
    assert dx.tolist()[:5] == [0, 1, 1, 1, 0]
    y, _ = run("clamp", F64([-2, 0, 2]), Plain(1.0), Plain(-1.0))
    assert y.tolist() == [-1, -1, -1]


def test_3_ties_of_max_and_min_share_the_gradient_and_nan_wins():
    for name, picked in (("max", [3, 2]), ("min", [1, 2])):
        y, (da, db) = run(name, F64([1, 2]), F64([3, 2]))
        assert y.tolist() == picked
        assert (da + db).tolist() == [1, 1] and da[1] == db[1] == 0.5
        y, _ = run(name, F64([math.nan, 1]), F64([1, math.nan]))
        assert np.isnan(y).all()


def test_4_sqrt_of_a_negative_is_nan_and_its_gradient_at_zero_infinite():
    y, (dx,) = run("sqrt", F64([-1, 0, 4]))
    assert math.isnan(y[0]) and y[1:].tolist() == [0, 2]
    assert math.isnan(dx[0]) and dx[1:].tolist() == [math.inf, 0.25]


def test_5_log_never_raises():
    y, (dx,) = run("log", F64([0, -1, math.e]))
    assert y[0] == -math.inf and math.isnan(y[1]) and y[2] == 1
    assert dx[0] == math.inf and dx[1] == -1


def test_6_safe_log_is_built_on_softplus():
    y, _ = run("safe_log", F64([1.0, -1000.0, 1000.0]))
    np.testing.assert_allclose(y, [math.log(math.log1p(math.e) + 1e-6), math.log(1e-6), math.log(1000 + 1e-6)])


def test_7_norms_use_pytorchs_eps():
    x = F64([[1, 2, 4]])
    y, _ = run("layer_norm", x, np.ones(3), np.zeros(3))
    np.testing.assert_allclose(y, (x - x.mean()) / np.sqrt(x.var() + 1e-5))
    y, _ = run("layer_norm", x, np.ones(3), np.zeros(3), eps=1.0)
    np.testing.assert_allclose(y, (x - x.mean()) / np.sqrt(x.var() + 1))


def test_8_batchnorm_channel_first_normalises_one_image_per_channel():
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    y, _ = run("batchnorm_channel_first", x, F64([1, 2, 3]), F64([0, 1, 0]))
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    expected = (x - mean) / np.sqrt(var + 1e-5) * F64([1, 2, 3])[:, None, None] + F64([0, 1, 0])[:, None, None]
    np.testing.assert_allclose(y, expected)


def test_9_the_pages_ops_take_one_sample():
    with pytest.raises(gt.ShapeError, match=r"linear: x has shape \(2, 3\), but \(3,\) is needed"):
        run("linear", np.ones((4, 3)), np.ones(4), np.ones((2, 3)))
    with pytest.raises(gt.ShapeError, match=r"\(C, H, W\) is needed"):
        run("conv2d", np.ones((1, 1, 2, 2)), np.ones(1), np.ones((1, 1, 5, 5)))
    tape, x = Tape().leaf(np.ones((2, 3), np.float32))
    tape, w = tape.leaf(np.ones((4, 3), np.float32))
    tape, y = tape.op("linear", x, w)  # the gt signature takes batches
    assert tape.value(y).shape == (2, 4)


def test_10_mask_true_may_attend_and_a_fully_masked_query_gives_zeros():
    rng = np.random.default_rng(1)
    w = [rng.standard_normal(s) for s in ((6, 4), (6, 4), (6, 4), (4, 6))]
    x = rng.standard_normal((3, 6))
    mask = np.array([[True, False, False], [True, True, False], [False, False, False]])
    y, grads = run("multi_head_attention", *w, x, Plain(mask), num_heads=2)
    assert (y[2] == 0).all()
    np.testing.assert_allclose(y[0], x[0] @ w[2] @ w[3])  # sees only itself
    q, k, v = (x @ m for m in w[:3])
    heads = []
    for h in range(2):
        cols = slice(2 * h, 2 * h + 2)
        s = q[:, cols] @ k[:, cols].T / math.sqrt(2)
        p = np.where(mask, np.exp(s), 0)
        heads.append(p / np.where(p.sum(1, keepdims=True) == 0, 1, p.sum(1, keepdims=True)) @ v[:, cols])
    np.testing.assert_allclose(y, np.concatenate(heads, 1) @ w[3])
    assert all(np.isfinite(g).all() for g in grads)
    alone = np.zeros((3, 3), bool)
    y, grads = run("multi_head_attention", *w, x, Plain(alone), num_heads=2)
    assert not y.any() and not any(g.any() for g in grads)


def test_11_mse_loss_gives_both_sides_a_gradient_and_refuses_other_shapes():
    loss, (dy, dt) = run("mse_loss", F64([1, 2]), F64([0, 4]))
    assert loss == 2.5 and dy.tolist() == [1, -2] and dt.tolist() == [-1, 2]
    with pytest.raises(gt.ShapeError):
        run("mse_loss", np.ones((2, 1)), np.ones(2))
    with pytest.raises(gt.ShapeError):
        gt.mse_loss(np.ones((2, 1)), np.ones(2))


def test_12_backward_needs_a_scalar_without_a_seed():
    with pytest.raises(gt.ShapeError, match="scalar"):
        TapeM.leaf([1.0]).bind(TapeM.backward).eval()


def test_13_gradients_of_intermediates_are_returned():
    tape, x = Tape().leaf([1.0, 2.0])
    tape, c = tape.leaf([1.0, 1.0], requires_grad=False)
    tape, y = tape.mul(x, c)
    tape, s = tape.sum(y)
    assert set(tape.backward(s)) == {x, y, s}


def test_14_smooth_max_pool_is_a_sum_not_a_mean():
    c, beta = 3.0, 2.0
    y, (dx,) = run("smooth_max_pool2d", np.full((1, 2, 2), c), Plain(beta), kernel_size=2)
    np.testing.assert_allclose(y, c + math.log(4) / beta)
    np.testing.assert_allclose(dx, 0.25)


def test_15_average_pooling_counts_padding():
    y, _ = run("avg_pool2d_pad", np.ones((1, 2, 2)), kernel_size=2, stride=2, padding=1)
    assert y.tolist() == [[[0.25, 0.25], [0.25, 0.25]]]


def test_16_an_index_out_of_range_is_an_error():
    table = np.ones((4, 2), np.float32)
    for bad in (4, -1):
        with pytest.raises(gt.IndexRangeError):
            gt.embedding(np.array([bad]), table)
    with pytest.raises(IndexError):
        gt.gather(table, 0, np.array([[9, 0]]))


def test_17_softplus_and_the_smooth_pool_are_stable():
    y, (dx,) = run("softplus", F64([-1000, -40, 0, 1000]))
    np.testing.assert_allclose(y, [0, math.exp(-40), math.log(2), 1000], rtol=1e-12)
    np.testing.assert_allclose(dx, [0, math.exp(-40), 0.5, 1], rtol=1e-12)
    y, (dx,) = run("smooth_max_pool2d", np.array([[[1000.0, 0], [0, 0]]]), Plain(10.0), kernel_size=2)
    assert y == 1000 and dx.tolist() == [[[1, 0], [0, 0]]]


def test_conv_transpose_takes_any_number_of_spatial_axes():
    rng = np.random.default_rng(2)
    for axes in (1, 2, 3, 4):
        kernel, bias = rng.standard_normal((2, 3, *(2,) * axes)), rng.standard_normal(3)
        x = rng.standard_normal((2, *(3,) * axes))
        y, grads = run("conv_transpose", kernel, bias, x, stride=(2,) * axes, padding=0)
        assert y.shape == (3, *(6,) * axes)
        expected = np.zeros(y.shape) + bias.reshape(-1, *(1,) * axes)
        for at in np.ndindex(*(3,) * axes):  # stride = kernel: windows do not overlap
            window = np.einsum("c,co...->o...", x[(slice(None), *at)], kernel)
            expected[(slice(None), *(slice(2 * i, 2 * i + 2) for i in at))] += window
        np.testing.assert_allclose(y, expected)
        assert all(g is not None for g in grads)
    tape, k = Tape().leaf(np.ones((1, 1, 2)))
    tape, b = tape.leaf(np.ones(1))
    tape, x = tape.leaf(np.ones((1, 3)))
    tape, y = tape.conv_transpose(k, b, x, name="up")
    assert tape.node(y).name == "up"


def test_exact_shapes_name_the_op_and_the_remedy():
    with pytest.raises(gt.ShapeError, match=r'add: the shapes \(2, 3\) and \(3,\) differ.*tape\.op\("add", a, b\)'):
        run("add", np.ones((2, 3)), np.ones(3))
    with pytest.raises(gt.ShapeError, match=r"matmul: b has shape \(2, 4\), but \(3, p\) is needed"):
        run("matmul", np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(gt.ShapeError, match="concat_vectors"):
        run("concat_vectors", np.ones((2, 1)), np.ones(2))
    with pytest.raises(gt.DTypeError, match="dtypes float64 and float32 differ"):
        run("mul", np.ones(2), np.ones(2, np.float32))


def test_ops_beyond_the_page_are_methods_with_the_gt_signature():
    tape, x = Tape().leaf(np.ones((2, 3), np.float32))
    tape, y = tape.permute(x, (1, 0))
    assert tape.value(y).shape == (3, 2)
    tape, _ = tape.mean(x, dim=0)
    assert TapeM.gelu(x).run(tape)[1].node(len(tape)).op.startswith("gelu")
    tape, both = tape.op("max", x, dim=1)
    assert len(both) == 2  # gt.max is torch's


@pytest.mark.parametrize("mask", [np.where(np.tri(3) > 0, 0.0, -np.inf), np.tri(3, dtype=int), [[1, 0, 0]] * 3])
def test_attention_takes_a_mask_of_bools_only(mask):
    w, x = np.ones((2, 2)), np.ones((3, 2))
    with pytest.raises(gt.DTypeError, match="multi_head_attention: mask is .*True = may attend"):
        run("multi_head_attention", w, w, w, w, x, Plain(mask))
    y, _ = run("multi_head_attention", w, w, w, w, x, Plain([[True, False, False]] * 3))
    assert y.shape == (3, 2)
