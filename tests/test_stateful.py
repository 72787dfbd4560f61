"""`gt.batch_norm` and `gt.instance_norm`: the result and the running statistics, as PyTorch has them."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import nn
from gputape.dispatch import FUNCTIONS

RNG = np.random.default_rng(0)
SHAPES = [(5, 3), (4, 3, 7), (2, 3, 4, 5), (2, 3, 2, 2, 2)]


def draw(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def statistics(x):
    over = (0, *range(2, x.ndim))
    x = x.astype(np.float64)
    return x.mean(over), x.var(over), x.var(over, ddof=1)


def expected(running, batch, momentum):
    return ((1 - momentum) * running.astype(np.float64) + momentum * batch).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0])
@pytest.mark.parametrize("wrap", [np.array, gt.Cell])
def test_training_moves_the_running_statistics_by_the_unbiased_variance(shape, momentum, wrap):
    x, w, b = draw(*shape), draw(3), draw(3)
    start_mean, start_var = draw(3), draw(3) ** 2
    mean, var = wrap(start_mean), wrap(start_var)
    y = gt.batch_norm(x, mean, var, w, b, training=True, momentum=momentum)
    m, biased, unbiased = statistics(x)
    per = (3, *(1,) * (x.ndim - 2))
    want = (x - m.reshape(per)) / np.sqrt(biased.reshape(per) + 1e-5) * w.reshape(per) + b.reshape(per)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.asarray(mean), expected(start_mean, m, momentum), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.asarray(var), expected(start_var, unbiased, momentum), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 3, 0)])
def test_an_empty_batch_moves_nothing(shape):
    mean, var = np.full(3, 2.0, np.float32), np.full(3, 5.0, np.float32)
    assert gt.batch_norm(np.zeros(shape, np.float32), mean, var, training=True).shape == shape
    assert (mean == 2).all() and (var == 5).all()


def test_evaluation_uses_the_running_statistics_and_changes_nothing():
    x, mean, var = draw(4, 3, 2), gt.Cell(draw(3)), gt.Cell(draw(3) ** 2)
    before = mean.numpy(), var.numpy()
    y = gt.batch_norm(x, mean, var)
    want = (x - before[0][:, None]) / np.sqrt(before[1][:, None] + 1e-5)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)
    assert mean.version == var.version == 0
    assert np.array_equal(mean.numpy(), before[0]) and np.array_equal(var.numpy(), before[1])


def test_the_gradient_is_that_of_the_pure_op_and_the_update_does_not_make_the_tape_stale():
    x, w, b, seed = draw(4, 3, 5), draw(3), draw(3), draw(4, 3, 5)
    mean, var = gt.Cell(np.zeros(3, np.float32)), gt.Cell(np.ones(3, np.float32))
    found = []
    for function, running in ((gt.batch_norm, (mean, var)), (FUNCTIONS["batch_norm"], (None, None))):
        with gt.record() as tape:
            leaves = [gt.leaf(v) for v in (x, w, b)]
            y = function(leaves[0], *running, *leaves[1:], training=True)
        grads = tape.backward(y, wrt=leaves, seed=seed)
        found.append([grads[leaf] for leaf in leaves])
    assert mean.version == var.version == 1
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a, b)


def test_the_method_of_a_value_updates_too():
    mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
    with gt.record():
        gt.leaf(draw(4, 3)).batch_norm(mean, var, training=True)
    assert mean.any() and (var != 1).all()


def test_a_tape_is_pure():
    x, mean, var = draw(4, 3), np.zeros(3, np.float32), np.ones(3, np.float32)
    tape, ids = gt.Tape(), []
    for value in (x, mean, var):
        tape, i = tape.leaf(value, copy=False)
        ids.append(i)
    tape, y = tape.op("batch_norm", *ids, training=True)
    assert np.array_equal(tape.value(y), gt.batch_norm(x, None, None, training=True))
    assert not mean.any() and (var == 1).all()


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_one_value_per_channel_is_refused_in_training_and_nothing_moves(shape):
    mean, var = gt.Cell(np.zeros(3, np.float32)), gt.Cell(np.ones(3, np.float32))
    with pytest.raises(gt.ShapeError, match="more than 1 value per channel"):
        gt.batch_norm(draw(*shape), mean, var, training=True)
    assert mean.version == var.version == 0
    assert gt.batch_norm(draw(*shape), mean, var).shape == shape


def test_statistics_that_cannot_be_written_are_refused_before_anything_moves():
    x, mean, frozen = draw(4, 3), np.zeros(3, np.float32), np.ones(3, np.float32)
    frozen.flags.writeable = False
    for bad in (frozen, [1.0, 1.0, 1.0]):
        with pytest.raises(gt.ArgumentError, match="cannot be updated"):
            gt.batch_norm(x, mean, bad, training=True)
    assert not mean.any()
    for bad in ((mean, None), (None, mean)):
        with pytest.raises(gt.ArgumentError, match="go together"):
            gt.batch_norm(x, *bad, training=True)
    with pytest.raises(gt.ShapeError, match="running_mean has shape"):
        gt.batch_norm(x, np.zeros(4, np.float32), frozen, training=True)


def test_a_compiled_function_updates_cells_as_eager_does():
    xs = [draw(4, 3, 2) for _ in range(3)]
    results = []
    for wrap in (lambda f: f, gt.compile):
        mean, var = gt.Cell(np.zeros(3, np.float32)), gt.Cell(np.ones(3, np.float32))
        step = wrap(lambda x, mean=mean, var=var: gt.batch_norm(x, mean, var, training=True))
        results.append(([np.array(step(x)) for x in xs], mean.numpy(), var.numpy()))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    for a, b in zip(results[0][1:], results[1][1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    arrays = np.zeros(3, np.float32), np.ones(3, np.float32)
    with pytest.raises(gt.CompileError, match="Pass a gt.Cell"):
        gt.compile(lambda x: gt.batch_norm(x, *arrays, training=True))(xs[0])


# --- instance_norm ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3, 7), (2, 3, 4, 5), (1, 3, 2, 2, 2)])
@pytest.mark.parametrize("wrap", [np.array, gt.Cell])
def test_running_statistics_of_instances_move_to_the_mean_of_the_samples(shape, wrap):
    x, w, b, start_mean, start_var = draw(*shape), draw(3), draw(3), draw(3), draw(3) ** 2
    mean, var = wrap(start_mean), wrap(start_var)
    y = gt.instance_norm(x, mean, var, w, b, momentum=0.3)
    assert np.array_equal(y, gt.instance_norm(x, None, None, w, b))
    over = tuple(range(2, x.ndim))
    x = x.astype(np.float64)
    want = expected(start_mean, x.mean(over).mean(0), 0.3), expected(start_var, x.var(over, ddof=1).mean(0), 0.3)
    for a, b in zip((mean, var), want, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-6, atol=1e-6)


def test_instances_are_normalised_by_running_statistics_without_their_own():
    x, mean, var = draw(2, 3, 5), gt.Cell(draw(3)), gt.Cell(draw(3) ** 2)
    y = gt.instance_norm(x, mean, var, use_input_stats=False)
    assert np.array_equal(y, gt.batch_norm(x, mean, var))
    assert mean.version == var.version == 0
    frozen = np.ones(3, np.float32)
    frozen.flags.writeable = False
    with pytest.raises(gt.ArgumentError, match="instance_norm: running_var is .*cannot be updated"):
        gt.instance_norm(x, mean, frozen)
    assert mean.version == 0


def test_a_compiled_step_updates_the_statistics_of_instances():
    xs, results = [draw(2, 3, 4) for _ in range(3)], []
    for wrap in (lambda f: f, gt.compile):
        layer = nn.InstanceNorm1d(3, track_running_stats=True)
        step = wrap(lambda x, layer=layer: layer(x))
        results.append([*(np.array(step(x)) for x in xs), layer.running_mean.numpy(), layer.running_var.numpy()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind, shape", [("1d", (2, 3, 4)), ("2d", (2, 3, 4, 5)), ("3d", (2, 3, 2, 3, 4))])
def test_instance_norm_layers(kind, shape):
    make, x = getattr(nn, f"InstanceNorm{kind}"), draw(*shape)
    plain = make(3)
    assert not plain.state_dict() and np.array_equal(plain(x), gt.instance_norm(x))
    np.testing.assert_allclose(plain(x[0]), gt.instance_norm(x)[0], rtol=1e-5, atol=1e-6)
    layer = make(3, affine=True, track_running_stats=True)
    layer(x)
    assert set(layer.state_dict()) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert layer.running_mean.numpy().any()
    layer.eval()
    np.testing.assert_allclose(layer(x), gt.batch_norm(x, layer.running_mean, layer.running_var), rtol=1e-6)
    with pytest.raises(gt.ShapeError, match=f"InstanceNorm{kind}: the input has shape"):
        layer(draw(*shape[:1], 4, *shape[2:]))
    assert set(make(3, affine=True, bias=False).state_dict()) == {"weight"}
