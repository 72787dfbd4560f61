"""Loss modules against the cards of their functions."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest

import gputape as gt
from gputape import nn, registry
from gputape.dispatch import call
from gputape.nn.loss import _Loss
from gputape.testing import inputs_of

LOSSES = [pytest.param(c, id=c.__name__) for c in vars(nn).values() if isinstance(c, type) and issubclass(c, _Loss)]


def options(op):
    """The parameters of a loss that a module of it keeps: all but the arrays that each call brings."""
    return {p.name: p.default for p in op.params if p.default is not p.empty}


@pytest.mark.parametrize("cls", LOSSES)
def test_a_loss_module_has_the_options_and_defaults_of_its_function(cls):
    found = {p.name: p.default for p in inspect.signature(cls).parameters.values()}
    assert found == options(registry.get(cls.op))


@pytest.mark.parametrize("cls", LOSSES)
def test_a_loss_module_passes_its_options_on(cls):
    """On every sample of the card; arrays among the options are buffers, so that they are saved with the module."""
    op = registry.get(cls.op)
    kept = options(op)
    for sample in op.samples:
        named = dict(zip(op.inputs, inputs_of(op, sample), strict=True))
        given = {k: x for k, x in named.items() if k in kept and x is not None}
        arrays = [x for k, x in named.items() if k not in kept]
        loss = cls(**given, **sample.attrs)
        want = call(op.name, **{k: x for k, x in named.items() if x is not None}, **sample.attrs)
        np.testing.assert_array_equal(np.asarray(loss(*arrays)), np.asarray(want))
        assert loss.state_dict().keys() == given.keys()


def test_a_loss_module_prints_its_options_and_takes_arrays_by_name():
    assert repr(nn.TripletMarginLoss(swap=True)) == (
        "TripletMarginLoss(margin=1.0, p=2.0, eps=1e-06, swap=True, reduction='mean')"
    )
    assert repr(nn.NLLLoss([1.0, 2.0])) == "NLLLoss(ignore_index=-100, reduction='mean')"
    x = np.ones(3, np.float32)
    assert nn.MSELoss("sum")(input=x, target=2 * x) == 3
    with pytest.raises(gt.ShapeError, match="mse_loss: .*does not broadcast"):
        nn.MSELoss()(x, x[:, None])
    with pytest.raises(TypeError, match="margin"):
        nn.MSELoss(margin=1.0)


def test_similarity_modules():
    a, b = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(nn.CosineSimilarity(dim=0, eps=0.5)(a, b), gt.cosine_similarity(a, b, 0, 0.5))
    np.testing.assert_array_equal(
        nn.PairwiseDistance(p=1, eps=0.5, keepdim=True)(a, b), gt.pairwise_distance(a, b, 1, 0.5, True)
    )
    assert repr(nn.CosineSimilarity()) == "CosineSimilarity(dim=1, eps=1e-08)"
    assert repr(nn.PairwiseDistance()) == "PairwiseDistance(p=2.0, eps=1e-06, keepdim=False)"


def test_the_gradient_of_ctc_loss_is_that_of_the_logits():
    """Through log_softmax; by itself it takes log_probs for normalised."""
    rng = np.random.default_rng(0)
    targets, lengths, counts = [[1, 1, 2], [3, 2, 0]], [6, 5], [3, 1]
    loss = lambda x: gt.ctc_loss(gt.log_softmax(x, 2), targets, lengths, counts)  # noqa: E731
    gt.check_grads(loss, [rng.standard_normal((6, 2, 4))], order=1)
    with pytest.raises(gt.UnsupportedError, match="ctc_bwd: .*order 1"):
        gt.check_grads(loss, [rng.standard_normal((6, 2, 4))], order=2)


def test_ctc_loss_sums_over_all_alignments():
    """Against the sum over every path of labels and blanks that collapses to the target."""
    rng = np.random.default_rng(1)
    log_probs = np.log(rng.dirichlet(np.ones(3), (4, 1)))
    for target in ([1], [1, 1], [2, 1], []):
        total = 0.0
        for path in itertools.product(range(3), repeat=4):
            if [k for k, _ in itertools.groupby(path) if k] == target:
                total += np.exp(sum(log_probs[t, 0, k] for t, k in enumerate(path)))
        found = gt.ctc_loss(log_probs, np.array([target], np.int64), [4], [len(target)], reduction="sum")
        np.testing.assert_allclose(found, -np.log(total), rtol=1e-12)


@pytest.mark.parametrize("weight", [None, np.array([0.5, 1.0, 2.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_where_all_labels_are_ignored_gradients_of_any_order_are_zero(weight, smoothing):
    """The loss itself, a mean of nothing, is NaN. As in PyTorch."""
    x, target = np.linspace(-1, 1, 12).reshape(4, 3), np.full(4, -100)
    loss = lambda x: gt.cross_entropy(x, target, weight, label_smoothing=smoothing)  # noqa: E731
    assert np.isnan(loss(x))
    slope = lambda x: gt.sum(gt.grad(loss)(x) * x)  # noqa: E731
    for order in (loss, slope, lambda x: gt.sum(gt.grad(slope)(x) * x)):
        np.testing.assert_array_equal(gt.grad(order)(x), 0)
